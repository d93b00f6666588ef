"""What the preflight says of data with a known fault, and the picture it leaves."""

import re

import numpy as np
import pytest

from genmodels.core.grids import read_captions
from genmodels.data import preflight
from genmodels.data.base import Pair, Source
from genmodels.data.sources import make_source
from tests.data.files import noise


def source(images, labels=None, names=()):
    labels = None if labels is None else np.asarray(labels, np.int32)
    classes = 0 if labels is None else max(len(names), labels.max() + 1)
    return Source("test", "train", images, labels, int(classes), tuple(names))


def warnings(**kwargs):
    return [line for line in preflight.describe(source(**kwargs)) if line.startswith("warning:")]


def test_digits_are_described_and_nothing_is_wrong_with_them():
    text = "\n".join(preflight.describe(make_source("digits")))
    assert "digits (train): 1,500 images 8x8 grey, 0.1 MB, in memory" in text
    assert "10 classes, 142 to 157 images each: 0 151, 1 157" in text
    assert "values 0 to 255" in text
    assert "warning" not in text


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"images": noise(9, 4, 4, 1) // 128}, "no value is above 1"),
        ({"images": noise(9, 4, 4, 1) // 8 + 100}, "values span only 100 to 131"),
        ({"images": noise(9, 4, 4, 1)[[0, 1, 2, 0, 0, 2]]}, r"3 images are copies of others \(image 0 x3, image 2 x2"),
        ({"images": np.full((5, 4, 4, 1), 9, np.uint8)}, "all images are of one value"),
        ({"images": noise(9, 4, 4, 3), "labels": [0] * 9, "names": ("a", "b")}, r"1 class has no images \(b\)"),
        ({"images": noise(30, 4, 4, 3), "labels": [0] * 28 + [1] * 2}, "unbalanced: 1 has 2 images, the largest 28"),
    ],
)
def test_faults_are_named(values, words):
    lines = warnings(**values)
    assert any(re.search(words, line) for line in lines), lines


def test_a_leak_between_the_splits_is_counted():
    train, test = (
        source(noise(20, 4, 4, 1)),
        source(np.concatenate([noise(20, 4, 4, 1)[3:5], noise(9, 4, 4, 1, seed=1)])),
    )
    (line,) = preflight.overlap(train, test)
    assert line.startswith("warning: 2 images (image 0, image 1 ...) of the test split are in")
    other = source(noise(9, 4, 4, 1, seed=1))
    assert preflight.overlap(train, other) == ["no test image is in the training split"]
    leaking, clean = preflight.overlap(Pair("pair", train, train), Pair("pair", other, test))
    assert (leaking, clean) == ("a: no test image is in the training split", f"b: {line}")


def test_the_sheet_shows_classes_in_columns_or_a_spread(tmp_path):
    labels = np.arange(40) % 4
    images = np.broadcast_to(labels[:, None, None, None], (40, 3, 3, 1)).astype(np.uint8)
    shown, columns, caption = preflight.sheet(source(images, labels, ("a", "b", "c", "d")))
    assert (columns, caption) == (4, "one class a column: a, b, c, d")
    np.testing.assert_array_equal(shown[:, 0, 0, 0], np.tile(np.arange(4), 8))
    ramp = np.broadcast_to(np.arange(200)[:, None, None, None], (200, 3, 3, 1)).astype(np.uint8)
    shown, columns, _ = preflight.sheet(source(ramp))
    assert (shown[0, 0, 0, 0], shown[-1, 0, 0, 0], len(shown), columns) == (0, 199, 80, 10)
    assert len(preflight.sheet(source(ramp[:3]))[0]) == 3
    pair = make_source("pair('digits', subset('digits', count=9))")
    preflight.save_sheet(tmp_path / "sheet.png", pair)
    assert "first rows: digits" in read_captions(tmp_path / "sheet.png")[1]
    assert preflight.describe(pair)[0].endswith("an epoch is 1,500 rows of a and b")
