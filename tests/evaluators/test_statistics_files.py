"""Statistics files that are none are refused in one line; those that other tools write are read as they are."""

import json
import zipfile

import numpy as np
import pytest

from genmodels import scoring
from genmodels.data.sources import make_source
from genmodels.errors import DataError
from genmodels.evaluators import statistics

D = 64  # features of the extractor of digits


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    monkeypatch.setenv("GENMODELS_CACHE", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)


def spoiled(least):
    """A covariance but for one eigenvalue."""
    values = np.linspace(0.1, 1, D)
    values[0] = least
    return np.diag(values)


GOOD = {"mu": np.zeros(D), "sigma": np.eye(D)}
BAD = {
    "negative": ({"sigma": -np.eye(D)}, "negative eigenvalues down to -1,"),
    "indefinite": ({"sigma": spoiled(-0.01)}, "negative eigenvalues down to -0.01, with the largest at 1;"),
    "complex": ({"sigma": np.eye(D) + 0j}, "covariance must be real numbers, got complex128"),
    "complex mean": ({"mu": np.zeros(D, np.complex64)}, "mean must be real numbers, got complex64"),
    "not a number": ({"sigma": np.full((D, D), np.nan)}, "not finite"),
    "infinite": ({"mu": np.full(D, np.inf)}, "not finite"),
    "words": ({"mu": np.array(["a"] * D)}, "real numbers, got <U1"),
    "truth": ({"sigma": np.eye(D, dtype=bool)}, "real numbers, got bool"),
    "two means": ({"mu": np.zeros((2, D))}, r"\[d, d\] are needed, got \(2, 64\)"),
    "a scalar": ({"mu": np.array(0.0)}, r"\[d, d\] are needed"),
    "one row": ({"sigma": np.eye(D)[:1]}, r"got \(64,\) and \(1, 64\)"),
    "variances": ({"sigma": np.ones(D)}, r"got \(64,\) and \(64,\)"),
    "no dimensions": ({"mu": np.zeros(0), "sigma": np.zeros((0, 0))}, "are needed"),
    "lopsided": ({"sigma": np.triu(np.ones((D, D)))}, "not symmetric"),
    "a count that is a word": ({"count": np.array("many")}, "count must be .* it is 'many'"),
    "a broken count": ({"count": np.array(2.5)}, "count must be a whole number of images, at least 2; it is 2.5"),
    "a count of nothing": ({"count": np.array(np.nan)}, "count must be"),
    "a negative count": ({"count": np.array(-5)}, "count must be .* it is -5"),
    "one image": ({"count": np.array(1)}, "count must be .* it is 1;"),
    "three counts": ({"count": np.array([1, 2, 3])}, r"count must be .* it is int64 \(3,\)"),
    "a yes": ({"count": np.array(True)}, "count must be .* it is True"),
    "an extractor that is a number": ({"extractor": np.array(5)}, "extractor must be .* it is 5"),
    "an extractor that is no JSON": ({"extractor": np.array("inception")}, "extractor must be .* it is 'inception'"),
    "an extractor that is a list": ({"extractor": np.array('["a"]')}, "extractor must be the JSON object"),
    "an extractor that is null": ({"extractor": np.array("null")}, "extractor must be"),
    "a deep extractor": ({"extractor": np.array("[" * 100_000)}, "extractor must be"),
    "several extractors": ({"extractor": np.array(["{}", "{}"])}, "extractor must be"),
    "an empty extractor": ({"extractor": np.array("{}")}, "made with id None, not 'digits'"),
    "another extractor": ({"extractor": np.array('{"id": ["x"]}')}, "made with id"),
    "a fingerprint that is a number": ({"fingerprint": np.array(5)}, "fingerprint must be text; it is 5"),
    "objects": ({"count": np.array([None])}, "objects, which are never read"),
}


@pytest.fixture
def images():
    np.savez("images.npz", images=make_source("digits", "test").images[:60])
    return "images.npz"


@pytest.mark.parametrize("case", BAD)
@pytest.mark.parametrize("role", ["generated", "reference"])
def test_what_is_no_statistics_file_is_refused_in_one_line(case, role, images):
    changed, words = BAD[case]
    np.savez("bad.npz", **(GOOD | changed))
    paths = {"generated": images, "reference": images} | {role: "bad.npz"}
    with pytest.raises(DataError, match=words) as error:
        scoring.of_paths(paths["generated"], paths["reference"], ("fd_digits",))
    assert f"--{role}=bad.npz" in str(error.value)
    assert "\n" not in str(error.value)
    assert len(str(error.value)) < 500


def test_a_matrix_that_is_promised_and_absent_is_refused(images):
    np.savez("bad.npz", **GOOD)
    with zipfile.ZipFile("bad.npz", "a") as archive:
        header = b"{'descr': '<f8', 'fortran_order': False, 'shape': (4611686018427387904, 4), }\n"
        archive.filelist = [info for info in archive.filelist if info.filename != "sigma.npy"]
        archive.NameToInfo.pop("sigma.npy")
        archive.writestr("sigma.npy", b"\x93NUMPY\1\0" + len(header).to_bytes(2, "little") + header)
    with pytest.raises(DataError, match=r"--reference=bad\.npz.*sigma: its header promises"):
        scoring.of_paths(images, "bad.npz", ("fd_digits",))


FORMS = {
    "as pytorch-fid writes them": {},
    "in float32": {"mu": np.zeros(D, np.float32), "sigma": np.eye(D, dtype=np.float32)},
    "in whole numbers": {"mu": np.zeros(D, int), "sigma": np.eye(D, dtype=int)},
    "in Fortran's order": {"sigma": np.asfortranarray(np.eye(D))},
    "with a count": {"count": np.array(50_000)},
    "with a count in a list": {"count": np.array([50_000], np.uint32)},
    "with other entries": {"comment": np.array("hello"), "act": np.zeros(3)},
    "singular": {"sigma": np.diag([0.0] * 10 + [1.0] * (D - 10))},
    "of equal images": {"sigma": np.zeros((D, D))},
    "with a rounding error": {"sigma": spoiled(-1e-13)},
}


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_ordinary_statistics_files_are_read(form, save):
    wanted = GOOD | FORMS[form]
    save("good.npz", **wanted)
    found = statistics.read("--reference", "good.npz")
    np.testing.assert_array_equal(found.gaussian.mean, wanted["mu"])
    np.testing.assert_array_equal(found.gaussian.full(), wanted["sigma"])
    assert found.gaussian.count == (50_000 if "count" in wanted else None)


def test_the_case_of_negative_statistics(shared, images):
    file = shared / "cases" / "statistics" / "s_neg.npz"
    if not file.is_file():
        pytest.skip(f"{file} is not there")
    with pytest.raises(DataError, match="negative eigenvalues down to -186"):
        scoring.of_paths(str(file.with_name("a.npz")), str(file), ("fd_digits",))


def test_what_the_project_writes_it_reads(images):
    arrays = scoring.statistics_of(images, "digits", "none", "")
    np.savez("own.npz", **arrays)
    assert json.loads(str(arrays["extractor"]))["id"] == "digits"
    (result,) = scoring.of_paths(images, "own.npz", ("fd_digits",))
    assert result.value == pytest.approx(0, abs=1e-6)
