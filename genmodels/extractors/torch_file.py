"""Reads a PyTorch file of tensors without PyTorch, and admits nothing but tensors.

The one place where anything is unpickled, because published weights of the FID Inception and of LPIPS exist in no other
form. A pickle is a program; this reader runs it with the few opcodes that torch.save writes and a vocabulary of
harmless words (an ordered dictionary, three ways to say "tensor", the names of storages), each of them ours and without
attributes that a file could change. Any other word ends the reading with its name. Tensors are views of the file's
bytes, no larger than their storage, so that a small file cannot take much memory.

Both layouts of torch.save are read: the zip archive, and the older run of pickles followed by raw storages.
"""

import collections
import io
import math
import pathlib
import pickle
import zipfile
from collections.abc import Callable
from typing import Any, ClassVar, NamedTuple

import numpy as np

LEGACY_MAGIC = 0x1950A86A20F9469CFC6C
LEGACY_PROTOCOL = 1001
STORAGES = {
    "FloatStorage": "<f4",
    "DoubleStorage": "<f8",
    "HalfStorage": "<f2",
    "LongStorage": "<i8",
    "IntStorage": "<i4",
    "ShortStorage": "<i2",
    "CharStorage": "<i1",
    "ByteStorage": "<u1",
    "BoolStorage": "?",
}
MOST = 10_000  # tensors in a file
LONGEST = 1_000  # letters in the name of one
_WRITTEN = (
    "PROTO STOP MARK GLOBAL REDUCE BINPERSID NONE NEWTRUE NEWFALSE BININT BININT1 BININT2 LONG1 BINFLOAT "
    "BINUNICODE BINSTRING SHORT_BINSTRING "  # strings of Python 3 and 2: the linear layers of LPIPS are from there
    "EMPTY_TUPLE TUPLE TUPLE1 TUPLE2 TUPLE3 EMPTY_LIST APPEND APPENDS EMPTY_DICT "
    "BINGET LONG_BINGET BINPUT LONG_BINPUT"
)
OPCODES = _WRITTEN.split()


class _RefusedError(ValueError):
    """What is wrong, to be said after the file's name."""


class _Kind(NamedTuple):
    """A word: the kind of a storage."""

    dtype: str


class _Storage(NamedTuple):
    key: str
    dtype: np.dtype
    numel: int


class _Tensor(NamedTuple):
    storage: _Storage
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]


class _Rebuild:
    """A word: (storage, offset, shape, strides, ...) to a tensor."""

    __slots__ = ()

    def __call__(self, storage, offset, shape, strides, *unused) -> _Tensor:
        numbers = (offset, *shape, *strides)
        if not isinstance(storage, _Storage) or not all(type(n) is int and n >= 0 for n in numbers):
            raise _RefusedError("describes a tensor that cannot be")
        return _Tensor(storage, offset, tuple(shape), tuple(strides))


class _Parameter:
    """A word: (tensor, ...) to that tensor."""

    __slots__ = ()

    def __call__(self, tensor, *unused) -> _Tensor:
        if not isinstance(tensor, _Tensor):
            raise _RefusedError("describes a parameter that is no tensor")
        return tensor


def _key(key: Any) -> str | int:
    """Of a dictionary; nested tuples would be walked through without end to be hashed."""
    if not isinstance(key, str | int):
        raise _RefusedError("has keys that are no names")
    return key


class _Ordered:
    """A word: an ordered dictionary."""

    __slots__ = ()

    def __call__(self, pairs=(), /) -> collections.OrderedDict:
        return collections.OrderedDict((_key(key), value) for key, value in pairs)


_WORDS = {
    ("collections", "OrderedDict"): _Ordered(),
    ("torch._utils", "_rebuild_tensor"): _Rebuild(),
    ("torch._utils", "_rebuild_tensor_v2"): _Rebuild(),
    ("torch._utils", "_rebuild_parameter"): _Parameter(),
} | {("torch", name): _Kind(kind) for name, kind in STORAGES.items()}


class _Reader(pickle._Unpickler):
    """Knows _WORDS and OPCODES only; storages are noted, their bytes read by the caller.

    Python's own implementation: the one in C takes as much memory as a damaged file asks for.
    """

    def _leave_out_attributes(self) -> None:
        """In BUILD's place: attributes of a dictionary, such as a state dict's versions, which nothing here reads."""
        self.stack.pop()
        if type(self.stack[-1]) is not collections.OrderedDict:
            raise _RefusedError("sets attributes of something that has none")

    def _set_item(self) -> None:
        value, key = self.stack.pop(), self.stack.pop()
        self.stack[-1][_key(key)] = value

    def _set_items(self) -> None:
        items = self.pop_mark()
        self.stack[-1].update(zip(map(_key, items[::2]), items[1::2], strict=True))

    def _refuse_opcode(self) -> None:
        raise _RefusedError("is a pickle of a kind that torch.save does not write")

    dispatch: ClassVar = (
        dict.fromkeys(range(256), _refuse_opcode)
        | {getattr(pickle, name)[0]: pickle._Unpickler.dispatch[getattr(pickle, name)[0]] for name in OPCODES}
        | {pickle.BUILD[0]: _leave_out_attributes, pickle.SETITEM[0]: _set_item, pickle.SETITEMS[0]: _set_items}
    )

    def find_class(self, module: str, name: str) -> Any:
        try:
            return _WORDS[module, name]
        except KeyError:
            asked = f"{module}.{name}"
            raise _RefusedError(f"asks for {asked!r}, which is no tensor; refused, nothing of it was run") from None

    def persistent_load(self, pid: Any) -> _Storage:
        if not isinstance(pid, tuple) or len(pid) < 5 or pid[0] != "storage":
            raise _RefusedError("refers to something that is no storage")
        _, kind, key, _, numel = pid[:5]
        if not isinstance(kind, _Kind) or not isinstance(key, str) or type(numel) is not int or numel < 0:
            raise _RefusedError("describes a storage that cannot be")
        if len(pid) > 5 and pid[5] is not None:
            raise _RefusedError("has views of storages, which are not supported")
        return _Storage(key, np.dtype(kind.dtype), numel)


def _plain(file: io.BytesIO) -> Any:
    return _Reader(file).load()


def _tensors(tree: Any) -> dict[str, _Tensor]:
    """The tensors of nested dictionaries, by dotted name."""
    found: dict[str, _Tensor] = {}
    seen = set()

    def walk(branch, name):
        if len(name) > LONGEST or len(found) > MOST:
            raise _RefusedError(f"has more than {MOST:,} tensors, or names of more than {LONGEST:,} letters")
        if isinstance(branch, dict):
            if id(branch) in seen:  # a few of them, nested, would be walked through without end
                raise _RefusedError("has one dictionary in two places")
            seen.add(id(branch))
            for key, value in branch.items():
                walk(value, f"{name}.{key}" if name else str(key))
        elif not isinstance(branch, _Tensor):
            where = f"as {name!r}" if name else "at its top"
            raise _RefusedError(f"holds {where} something that is neither a tensor nor a dictionary of them")
        elif name in found:
            raise _RefusedError(f"has two tensors called {name!r}")
        else:
            found[name] = branch

    walk(tree, "")
    return found


def _views(tensors: dict[str, _Tensor], read: Callable[[str], bytes | memoryview]) -> dict[str, np.ndarray]:
    """Every tensor as a view of its storage, each of which is read once."""
    storages: dict[str, np.ndarray] = {}
    views = {}
    for name, (storage, offset, shape, strides) in tensors.items():
        if storage.key not in storages:
            data = read(storage.key)
            if len(data) != storage.numel * storage.dtype.itemsize:
                raise _RefusedError("is truncated")
            storages[storage.key] = np.frombuffer(data, storage.dtype)
        flat = storages[storage.key]
        if flat.dtype != storage.dtype or len(flat) != storage.numel:
            raise _RefusedError(f"describes the storage {storage.key!r} in two ways")
        last = offset + sum((n - 1) * stride for n, stride in zip(shape, strides, strict=True))
        if 0 in shape:
            views[name] = np.zeros(shape, flat.dtype)
            continue
        if last >= len(flat) or math.prod(shape) > len(flat):
            raise _RefusedError(f"has a tensor, {name!r}, that reaches beyond its storage")
        steps = [stride * flat.itemsize for stride in strides]
        views[name] = np.lib.stride_tricks.as_strided(flat[offset:], shape, steps, writeable=False)
    return views


def _read_zip(data: bytes) -> dict[str, np.ndarray]:
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        if any(info.compress_type != zipfile.ZIP_STORED for info in archive.infolist()):
            raise _RefusedError("is a compressed archive, which torch.save does not write")
        if sum(info.file_size for info in archive.infolist()) > len(data):
            raise _RefusedError("has members that overlap")
        names = archive.namelist()
        pickles = [name for name in names if name.endswith("/data.pkl")]
        if len(pickles) != 1:
            raise _RefusedError("is a zip archive but not of torch.save")
        root = pickles[0].removesuffix("data.pkl")
        if f"{root}byteorder" in names and archive.read(f"{root}byteorder") != b"little":
            raise _RefusedError("was written on a big-endian machine")
        tensors = _tensors(_plain(io.BytesIO(archive.read(pickles[0]))))
        return _views(tensors, lambda key: archive.read(f"{root}data/{key}"))


def _read_legacy(data: bytes) -> dict[str, np.ndarray]:
    file = io.BytesIO(data)
    if _plain(file) != LEGACY_MAGIC or _plain(file) != LEGACY_PROTOCOL:
        raise _RefusedError("is not a file of torch.save")
    if _plain(file).get("little_endian") is not True:
        raise _RefusedError("was written on a big-endian machine")
    tensors = _tensors(_plain(file))
    storages = {tensor.storage.key: tensor.storage for tensor in tensors.values()}
    parts = {}
    for key in _plain(file):
        storage = storages.get(_key(key))
        start = file.tell() + 8
        numel = int.from_bytes(data[start - 8 : start], "little")
        if storage is None or numel != storage.numel:
            raise _RefusedError("has storages that its tensors do not tell of")
        file.seek(start + numel * storage.dtype.itemsize)
        parts[key] = memoryview(data)[start : file.tell()]
    return _views(tensors, parts.__getitem__)


def read_tensors(path: pathlib.Path) -> dict[str, np.ndarray]:
    """The tensors of a state dict saved by torch.save, by name; they cannot be written to.

    Raises:
      ValueError: names the file; it is damaged, or holds anything but tensors.
      OSError: it cannot be read.
    """
    data = path.read_bytes()
    try:
        return _read_zip(data) if data.startswith(b"PK") else _read_legacy(data)
    except _RefusedError as error:
        raise ValueError(f"{path}: {error}") from error
    except Exception as error:  # whatever a program of random bytes may run into
        raise ValueError(f"{path}: is truncated or damaged ({type(error).__name__})") from error
