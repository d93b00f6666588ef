"""A weights file is a program by a stranger: it runs no code, takes little memory, and damage is reported in a line."""

import ast
import contextlib
import pathlib
import pickle
import struct
import time
import tracemalloc
import zipfile

import numpy as np
import pytest

from genmodels.extractors import torch_file
from genmodels.extractors.torch_file import read_tensors
from tests.extractors import torch_writer as tw
from tests.extractors.test_torch_file import STATE, assert_equal, assert_refused, flat, layouts, stored

PACKAGE = pathlib.Path(__file__).resolve().parent.parent.parent / "genmodels"
UNPICKLERS = {"pickle", "_pickle", "cPickle", "dill", "cloudpickle", "joblib", "shelve", "marshal", "torch", "pandas"}


@pytest.fixture
def path(tmp_path):
    return tmp_path / "weights.pth"


# The ways in which a pickle has a function called: from module, name and a piece that is the argument.
CALLS = {
    "reduce": tw.call,
    "stack": lambda module, name, piece: tw.text(module) + tw.text(name) + b"\x93" + tw.row(piece) + b"R",
    "instance": lambda module, name, piece: b"(" + piece + f"i{module}\n{name}\n".encode(),
    "object": lambda module, name, piece: b"(" + tw.word(module, name) + piece + b"o",
}


@layouts
@pytest.mark.parametrize("how", CALLS)
@pytest.mark.parametrize("function", ["os.system", "builtins.eval", "__builtin__.eval"])
def test_no_function_is_called(path, layout, how, function):
    trace = path.with_name("trace")
    command = f"touch '{trace}'" if function == "os.system" else f"open({str(trace)!r}, 'w').close()"
    hostile = tw.program(tw.dictionary({"weight": CALLS[how](*function.split("."), tw.text(command))}))
    tw.LAYOUTS[layout](path, hostile, {})
    assert_refused(path, *([function] if how == "reduce" else []))
    assert not trace.exists()
    pickle.loads(hostile)  # any other reader is deceived
    assert trace.exists()


@pytest.mark.parametrize("function", ["posix.system", "torch.load", "torch.nn.Linear", "numpy.frombuffer", "no.such"])
def test_any_other_name_is_refused_and_reported(path, function):
    tw.write_zip(path, tw.program(tw.ordered({"weight": tw.word(*function.rsplit(".", 1))})), {})
    assert_refused(path, function)


def test_the_first_pickle_of_a_legacy_file_is_not_trusted_either(path):
    trace = path.with_name("trace")
    path.write_bytes(tw.program(tw.call("os", "system", tw.text(f"touch '{trace}'"))))
    assert_refused(path, "os.system")
    assert not trace.exists()


def test_one_file_cannot_change_how_the_next_is_read(path):
    parameter = ("torch._utils", "_rebuild_parameter")
    tensor = tw.tensor(stored(), (4,))
    default = tw.row(tw.NONE, tw.dictionary({"__defaults__": tw.row(tensor)}))  # state and attributes, as BUILD has it
    for piece in (tw.word(*parameter) + default + b"b", tw.call(*parameter)):
        tw.write_zip(path, tw.program(tw.dictionary({"weight": piece})), {"0": np.zeros(4, "f4")})
        assert_refused(path)


@contextlib.contextmanager
def little_memory():
    tracemalloc.start()
    try:
        yield
        assert tracemalloc.get_traced_memory()[1] < 16 * 2**20
    finally:
        tracemalloc.stop()


def doubled(depth, piece):
    """A dictionary of twice the same dictionary of twice the same ...: 2^depth times the piece."""
    for level in range(depth):
        piece = tw.dictionary({"a": piece + b"q" + bytes([level]), "b": b"h" + bytes([level])})
    return piece


GREEDY = {  # each in a file of less than 200 kB
    "a stride of zero": tw.tensor(stored(2**14), (2**28,), (0,)),
    "overlapping strides": tw.tensor(stored(2**14), (2**13, 2**13), (1, 1)),
    "a buffer": b"\x96" + struct.pack("<Q", 2**30),
    "many names": doubled(16, tw.tensor(stored(2**14), (1,))),
    "long names": tw.dictionary({"x" * 50_000: tw.ordered({str(n): tw.tensor(stored(2**14), ()) for n in range(400)})}),
    "many views": tw.ordered({str(n): tw.tensor(stored(2**14), (2**14,)) for n in range(2**9)}),
}


@layouts
@pytest.mark.parametrize("name", GREEDY)
def test_a_small_file_cannot_take_much_memory(path, layout, name):
    tw.LAYOUTS[layout](path, tw.program(tw.dictionary({"a": GREEDY[name]})), {"0": np.zeros(2**14, "f4")})
    size = path.stat().st_size
    assert size < 200_000
    with little_memory(), contextlib.suppress(ValueError):
        assert max(array.nbytes for array in read_tensors(path).values()) <= size  # what a copy would take


def tuples(depth):
    """A pair of twice the same pair of twice the same ...: to be hashed, it is walked through 2^depth times."""
    piece = b")"
    for level in range(depth):
        piece += b"q" + bytes([level]) + b"h" + bytes([level]) + b"\x86"
    return piece


SLOW = {
    "empty dictionaries": doubled(22, b"}"),
    "a key of tuples": b"}" + tuples(24) + tw.tensor(stored(), (1,)) + b"s",
    "keys of tuples": b"}(" + tuples(24) + tw.tensor(stored(), (1,)) + b"u",
    "pairs with tuples": tw.call("collections", "OrderedDict", tw.series(tw.series(tuples(24), b"}"))),
}


@contextlib.contextmanager
def little_time():
    start = time.perf_counter()
    yield
    assert time.perf_counter() - start < 1


@pytest.mark.parametrize("name", SLOW)
def test_a_small_file_cannot_take_much_time(path, name):
    tw.write_zip(path, tw.program(SLOW[name]), {"0": np.zeros(4, "f4")})
    with little_time(), contextlib.suppress(ValueError):
        read_tensors(path)


def test_a_list_of_storages_cannot_take_much_time(path):
    tw.write_legacy(path, tw.program(tw.ordered({})), {})
    data = path.read_bytes()
    assert data.count(tw.program(tw.series())) == 1
    path.write_bytes(data.replace(tw.program(tw.series()), tw.program(tw.series(tuples(27)))))
    with little_time():
        assert_refused(path)


def test_a_compressed_archive_cannot_take_much_memory(path):
    piece = tw.ordered({"weight": tw.tensor(stored(2**23), (2**23,))})
    tw.write_zip(path, tw.program(piece), {"0": np.zeros(2**23, "f4")}, compression=zipfile.ZIP_DEFLATED)
    assert path.stat().st_size < 200_000
    with little_memory():
        assert_refused(path)


def test_a_file_that_is_larger_than_any_weights_is_not_read(path):
    with path.open("wb") as file:
        file.truncate(torch_file.MAX_FILE_BYTES + 1)  # takes no space on the disk
    with little_memory():
        assert_refused(path, "2,147,483,648 bytes")


def test_members_of_an_archive_that_share_their_bytes_are_refused(path):
    tw.save(path, "zip", {"weight": np.zeros(1000, "f4")})
    with zipfile.ZipFile(path, "a") as archive:
        archive.filelist.extend(3 * [archive.getinfo("archive/data/0")])
        archive.comment = b"so that the directory is written again"
    assert_refused(path, "overlap")


@layouts
def test_a_file_cut_anywhere_is_refused(path, layout):
    data = tw.save(path, layout, STATE).read_bytes()
    for length in range(0, len(data), 7):
        path.write_bytes(data[:length])
        assert_refused(path)


@layouts
def test_damage_anywhere_is_refused_or_harmless(path, layout):
    data = tw.save(path, layout, STATE).read_bytes()
    rng = np.random.default_rng(0)
    places = [*rng.integers(len(data), size=300), *range(len(data) - 22, len(data))]  # the end record of a zip archive
    refused = 0
    for place in places:
        damaged = bytearray(data)
        damaged[place] ^= rng.integers(1, 256)
        path.write_bytes(damaged)
        with little_memory():
            try:
                found = read_tensors(path)
            except ValueError:
                refused += 1
                assert_refused(path)
                continue
        if layout == "zip":  # its checksums leave only bytes that say nothing
            assert_equal(found, flat(STATE))
    assert refused > len(places) / 2


def test_one_file_of_the_package_unpickles():
    importers, readers = set(), 0
    for file in PACKAGE.rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_text())):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            if UNPICKLERS & {name.split(".")[0] for name in names}:
                importers.add(str(file.relative_to(PACKAGE)))
            if isinstance(node, ast.Call) and ast.unparse(node.func) in ("np.load", "numpy.load"):
                readers += 1
                assert len(node.args) < 3, f"{file}: np.load takes allow_pickle third"
            if isinstance(node, ast.keyword) and node.arg == "allow_pickle":
                assert ast.unparse(node.value) == "False", file
    assert importers == {"extractors/torch_file.py"}
    assert readers
