"""A pair of equal images has an infinite PSNR; it must not hide the values of all others."""

import json

import numpy as np
import pytest

from genmodels.data.sources import make_source
from genmodels.evaluators import pairs, protocol
from genmodels.evaluators.base import Options
from genmodels.metrics import image
from genmodels.reporting.files import read_results, write_results

REFERENCE = np.random.default_rng(0).integers(0, 200, (1000, 4, 4, 1), dtype=np.uint8)


def psnr(equal):
    """The result for images one grey level away from the reference, but for the first few, which are equal to it."""
    moved = REFERENCE + 1
    moved[:equal] = REFERENCE[:equal]
    (result,) = pairs.pair_results("psnr", moved, REFERENCE, {}, Options())
    return result


ONE_LEVEL = 20 * np.log10(255)  # of images that differ by one grey level everywhere


@pytest.mark.parametrize("equal", [0, 1, 999])
def test_the_mean_is_over_the_pairs_that_differ(equal):
    result = psnr(equal)
    assert result.value == pytest.approx(ONE_LEVEL)
    assert result.protocol["exact_pairs"] == equal
    assert result.protocol["n_reference"] == 1000


def test_sets_that_are_equal_have_an_infinite_mean():
    result = psnr(1000)
    assert result.value == np.inf
    assert result.protocol["exact_pairs"] == 1000
    assert image.mean_psnr(np.array([np.inf])) == (np.inf, 1)
    assert image.mean_psnr(np.array([30.0, np.inf, 40.0])) == (35.0, 1)


def test_results_with_equal_pairs_are_strict_json_and_compare_with_others(tmp_path):
    results = [psnr(equal) for equal in (0, 1, 1000)]
    write_results(tmp_path / "r.json", results)
    json.loads((tmp_path / "r.json").read_text(), parse_constant=pytest.fail)
    read = read_results(tmp_path / "r.json")
    assert [row["value"] for row in read] == [result.value for result in results]
    measured = [protocol.measured(row["protocol"]) for row in read]
    assert measured[0] == measured[1] == measured[2]  # how many are equal is found, not chosen


def test_other_metrics_average_all_pairs(tmp_path):
    digits = make_source("digits", "test").images[:10]
    moved = digits.copy()
    moved[5:] ^= 8
    (result,) = pairs.pair_results("ssim", moved, digits, {}, Options())
    assert result.value == pytest.approx(image.ssim(moved, digits).mean())
    assert result.value > 0.5
    assert "exact_pairs" not in result.protocol
