"""Files of torch.save are read bit by bit; a file that holds anything but tensors is refused in one line."""

import pickle
import re
import zipfile

import numpy as np
import pytest

from genmodels.extractors.torch_file import read_tensors
from tests.extractors import torch_writer as tw

STATE = {
    "conv": {"weight": np.arange(12, dtype="f4").reshape(3, 2, 2, 1) / 7, "bias": np.array([np.nan, -np.inf, -0.0])},
    "half": np.array([0.1, 65504], "f2"),
    "counts": np.array([-(2**62), 2**62]),
    "small": {"int": np.arange(3, dtype="i4"), "short": np.arange(3, dtype="i2"), "char": np.array([-1], "i1")},
    "byte": np.array([[255]], "u1"),
    "mask": np.array([True, False]),
    "empty": np.zeros((0, 3), "f8"),
    "scalar": np.array(3.5, "f4"),
}
layouts = pytest.mark.parametrize("layout", tw.LAYOUTS)


def flat(state, prefix=""):
    found = {}
    for name, value in state.items():
        found |= flat(value, f"{prefix}{name}.") if isinstance(value, dict) else {prefix + name: value}
    return found


def assert_equal(found, expected):
    assert list(found) == list(expected)
    for name, value in expected.items():
        assert (found[name].dtype, found[name].shape) == (value.dtype, value.shape), name
        assert found[name].tobytes() == value.tobytes(), name


def assert_refused(path, *words):
    with pytest.raises(ValueError, match=f"^{re.escape(str(path))}: ") as caught:
        read_tensors(path)
    assert "\n" not in str(caught.value)
    assert all(word in str(caught.value) for word in words)


@layouts
def test_every_kind_of_number_is_read_bit_by_bit(tmp_path, layout):
    assert_equal(read_tensors(tw.save(tmp_path / "w.pth", layout, STATE)), flat(STATE))


@layouts
def test_tensors_are_views_of_shared_storages(tmp_path, layout):
    data = np.arange(12, dtype="f4")
    stored = tw.storage(layout, "7", "float32", 12)
    pieces = {
        "transposed": tw.tensor(stored, (4, 3), (1, 4)),
        "second_row": tw.parameter(tw.tensor(stored, (4,), offset=4)),
        "every_other": tw.tensor(stored, (6,), (2,)),
        "last": tw.tensor(stored, (), offset=11),
        "nothing": tw.tensor(stored, (0, 5), offset=12),
    }
    state = tw.ordered(pieces) + tw.dictionary({"_metadata": tw.ordered({})}) + b"b"  # as a module's state_dict has it
    tw.LAYOUTS[layout](tmp_path / "w.pth", tw.program(state), {"7": data})
    rows = data.reshape(3, 4)
    expected = (rows.T, rows[1], data[::2], data[11], np.zeros((0, 5), "f4"))
    found = read_tensors(tmp_path / "w.pth")
    assert_equal(found, dict(zip(pieces, map(np.asarray, expected), strict=True)))


def test_a_file_of_python_2_is_read(tmp_path):
    # the linear layers of LPIPS are such: short strings, and ordered dictionaries made of a list of pairs
    arrays = {"lin0.model.1.weight": np.arange(3, dtype="f4"), "lin1.model.1.weight": np.arange(2, dtype="f8")}
    pairs = []
    for key, (name, array) in enumerate(arrays.items()):
        kind = tw.word("torch", tw.KINDS[array.dtype.name])
        where = (tw.short_text("storage"), kind, tw.short_text(str(key)), tw.short_text("cuda:0"))
        tensor = tw.tensor(tw.row(*where, tw.integer(array.size), tw.NONE) + b"Q", array.shape)
        pairs.append(tw.series(tw.short_text(name), tensor))
    path = tmp_path / "w.pth"
    state = tw.call("collections", "OrderedDict", tw.series(*pairs))
    tw.write_legacy(path, tw.program(state), {str(key): array for key, array in enumerate(arrays.values())})
    assert_equal(read_tensors(path), arrays)


def stored(numel=4, key="0", kind=("torch", "FloatStorage"), view=tw.NONE):
    return tw.row(tw.text("storage"), tw.word(*kind), tw.text(key), tw.text("cpu"), tw.integer(numel), view) + b"Q"


def rebuilt(*pieces):
    return tw.call("torch._utils", "_rebuild_tensor_v2", *pieces)


ZERO, ONE = tw.integer(0), tw.row(tw.integer(1))
NO_TENSORS = {
    "offset beyond": tw.tensor(stored(), (1,), offset=4),
    "shape beyond": tw.tensor(stored(), (5,)),
    "strides beyond": tw.tensor(stored(), (2, 2), (3, 1)),
    "huge": tw.tensor(stored(), (2**62, 2**62)),
    "negative size": tw.tensor(stored(), (-1,)),
    "negative sizes": tw.tensor(stored(), (-2, -2)),
    "negative stride": tw.tensor(stored(), (2,), (-1,), offset=3),
    "negative offset": tw.tensor(stored(), (1,), offset=-1),
    "negative storage": tw.tensor(stored(-4), (1,)),
    "a stride too few": tw.tensor(stored(), (2, 2), (1,)),
    "storage too short": tw.tensor(stored(5), (1,)),
    "storage too long": tw.tensor(stored(3), (1,)),
    "other kind": tw.tensor(stored(kind=("torch", "DoubleStorage")), (1,)),
    "no kind": tw.tensor(stored(kind=("collections", "OrderedDict")), (1,)),
    "no such storage": tw.tensor(stored(key="1"), (1,)),
    "storage outside": tw.tensor(stored(key="../version"), (1,)),
    "view of a storage": tw.tensor(stored(view=ONE), (1,)),
    "size in words": rebuilt(stored(), ZERO, tw.row(tw.text("1")), ONE),
    "size of truth": rebuilt(stored(), ZERO, tw.row(tw.TRUE), ONE),
    "no storage": rebuilt(tw.text("storage"), ZERO, ONE, ONE),
    "no arguments": rebuilt(),
    "reference to nothing": tw.row(tw.text("module")) + b"Q",
    "parameter of nothing": tw.parameter(ZERO),
    "a number": ZERO,
    "a storage": stored(),
    "a word": tw.word("torch", "FloatStorage"),
    "call of a number": ZERO + tw.row() + b"R",
    "call of a storage": tw.word("torch", "FloatStorage") + tw.row() + b"R",
    "dictionary of a number": tw.call("collections", "OrderedDict", ZERO),
    "empty stack": b"R",
}


@layouts
@pytest.mark.parametrize("name", NO_TENSORS)
def test_objects_that_are_not_valid_tensors_are_refused(tmp_path, layout, name):
    path = tmp_path / "w.pth"
    tw.LAYOUTS[layout](path, tw.program(tw.dictionary({"a\nb": NO_TENSORS[name]})), {"0": np.zeros(4, "f4")})
    assert_refused(path)


@layouts
def test_two_tensors_of_one_name_are_refused(tmp_path, layout):
    assert_refused(tw.save(tmp_path / "w.pth", layout, {"a": {"b": np.zeros(1)}, "a.b": np.ones(1)}), "a.b")


@pytest.mark.parametrize(
    "data", [b"", b"P", b"PK", b"torch weights\n", b"\0" * 100, pickle.dumps([1, 2]), pickle.dumps({"a": 1}, 2) * 9]
)
def test_other_files_are_refused(tmp_path, data):
    path = tmp_path / "w.pth"
    path.write_bytes(data)
    assert_refused(path)


@pytest.mark.parametrize("names", [[], ["a.txt"], ["a/data.pkl", "b/data.pkl"], ["a/data.pkl/b"], ["data.pkl"]])
def test_other_zip_archives_are_refused(tmp_path, names):
    path = tmp_path / "w.pth"
    with zipfile.ZipFile(path, "w") as archive:
        for name in names:
            archive.writestr(name, tw.program(tw.ordered({})))
    assert_refused(path)


def test_big_endian_files_are_refused(tmp_path):
    path = tmp_path / "w.pth"
    tw.write_zip(path, tw.program(tw.ordered({})), {}, byteorder=b"big")
    assert_refused(path, "big-endian")
    tw.write_legacy(path, tw.program(tw.ordered({})), {}, little_endian=tw.FALSE)
    assert_refused(path, "big-endian")


def test_a_missing_file_is_an_os_error(tmp_path):
    with pytest.raises(FileNotFoundError):
        read_tensors(tmp_path / "w.pth")
