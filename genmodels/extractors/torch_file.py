"""A reader for PyTorch files that needs no PyTorch and accepts nothing but tensors.

This is the only place where pickles are read, because the published weights of the FID Inception and of LPIPS exist in
no other form. A pickle is a program. This reader runs it with only the opcodes that torch.save writes. Of all the
names that a pickle may refer to, it knows only an ordered dictionary, three functions that build tensors, and the types
of storages. Each name stands for an object of this module that has no attributes which a file could change. The reader
stops at any other name and reports it. Tensors are views of the file's bytes and no larger than their storage, so that
a small file cannot occupy much memory.

Both layouts of torch.save are read: the zip archive, and the older sequence of pickles followed by raw storages.
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
MAX_FILE_BYTES = 2**31
MAX_TENSORS = 10_000  # in a file
MAX_NAME_LENGTH = 1_000  # characters in the name of a tensor
_WRITTEN_BY_TORCH = (
    "PROTO STOP MARK GLOBAL REDUCE BINPERSID NONE NEWTRUE NEWFALSE BININT BININT1 BININT2 LONG1 BINFLOAT "
    "BINUNICODE BINSTRING SHORT_BINSTRING "  # strings of Python 3 and of Python 2, which wrote LPIPS' linear layers
    "EMPTY_TUPLE TUPLE TUPLE1 TUPLE2 TUPLE3 EMPTY_LIST APPEND APPENDS EMPTY_DICT "
    "BINGET LONG_BINGET BINPUT LONG_BINPUT"
)
OPCODES = _WRITTEN_BY_TORCH.split()


class _RefusedError(ValueError):
    """The file is refused; the message continues a sentence that begins with the file's name."""


class _StorageType(NamedTuple):
    """Stands for torch.FloatStorage and its like."""

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
    """Stands for torch._utils._rebuild_tensor: (storage, offset, shape, strides, ...) to a tensor."""

    __slots__ = ()

    def __call__(self, storage, offset, shape, strides, *unused) -> _Tensor:
        numbers = (offset, *shape, *strides)
        if not isinstance(storage, _Storage) or not all(type(n) is int and n >= 0 for n in numbers):
            raise _RefusedError("describes an impossible tensor")
        return _Tensor(storage, offset, tuple(shape), tuple(strides))


class _Parameter:
    """Stands for torch._utils._rebuild_parameter: (tensor, ...) to that tensor."""

    __slots__ = ()

    def __call__(self, tensor, *unused) -> _Tensor:
        if not isinstance(tensor, _Tensor):
            raise _RefusedError("describes a parameter that is not a tensor")
        return tensor


def _key(key: Any) -> str | int:
    """Checks the key of a dictionary: to hash deeply nested tuples would take practically for ever."""
    if not isinstance(key, str | int):
        raise _RefusedError("has a dictionary key that is neither a string nor a number")
    return key


class _Ordered:
    """Stands for collections.OrderedDict."""

    __slots__ = ()

    def __call__(self, pairs=(), /) -> collections.OrderedDict:
        return collections.OrderedDict((_key(key), value) for key, value in pairs)


_KNOWN_NAMES = {
    ("collections", "OrderedDict"): _Ordered(),
    ("torch._utils", "_rebuild_tensor"): _Rebuild(),
    ("torch._utils", "_rebuild_tensor_v2"): _Rebuild(),
    ("torch._utils", "_rebuild_parameter"): _Parameter(),
} | {("torch", name): _StorageType(dtype) for name, dtype in STORAGES.items()}


class _Reader(pickle._Unpickler):
    """An unpickler that knows only _KNOWN_NAMES and OPCODES. It records storages; the caller reads their bytes.

    It extends Python's own implementation, because the one in C allocates as much memory as a damaged file states.

    Attributes:
      stack, pop_mark: of the base class, where they are undocumented: the objects built so far, and a function that
        removes and returns those since the last mark.
      dispatch: the method that carries out each opcode.
    """

    stack: list[Any]
    pop_mark: Callable[[], list[Any]]

    def _leave_out_attributes(self) -> None:
        """Replaces the opcode BUILD: discards attributes of a dictionary, such as the versions of a state dict."""
        self.stack.pop()
        if type(self.stack[-1]) is not collections.OrderedDict:
            raise _RefusedError("sets attributes of an object that has none")

    def _set_item(self) -> None:
        value, key = self.stack.pop(), self.stack.pop()
        self.stack[-1][_key(key)] = value

    def _set_items(self) -> None:
        items = self.pop_mark()
        self.stack[-1].update(zip(map(_key, items[::2]), items[1::2], strict=True))

    def _refuse_opcode(self) -> None:
        raise _RefusedError("is a pickle of a kind that torch.save does not write")

    dispatch: ClassVar[dict[int, Callable[[Any], None]]] = (
        dict.fromkeys(range(256), _refuse_opcode)
        | {getattr(pickle, name)[0]: pickle._Unpickler.dispatch[getattr(pickle, name)[0]] for name in OPCODES}
        | {pickle.BUILD[0]: _leave_out_attributes, pickle.SETITEM[0]: _set_item, pickle.SETITEMS[0]: _set_items}
    )

    def find_class(self, module: str, name: str) -> Any:
        try:
            return _KNOWN_NAMES[module, name]
        except KeyError:
            full_name = f"{module}.{name}"
            raise _RefusedError(
                f"refers to {full_name!r}, which is not part of a tensor; the file was refused and did not run any code"
            ) from None

    def persistent_load(self, pid: Any) -> _Storage:
        if not isinstance(pid, tuple) or len(pid) < 5 or pid[0] != "storage":
            raise _RefusedError("refers to an object that is not a storage")
        _, kind, key, _, numel = pid[:5]
        if not isinstance(kind, _StorageType) or not isinstance(key, str) or type(numel) is not int or numel < 0:
            raise _RefusedError("describes an impossible storage")
        if len(pid) > 5 and pid[5] is not None:
            raise _RefusedError("has views of storages, which are not supported")
        return _Storage(key, np.dtype(kind.dtype), numel)


def _unpickled(file: io.BytesIO) -> Any:
    return _Reader(file).load()


def _tensors(tree: Any) -> dict[str, _Tensor]:
    """The tensors of nested dictionaries as one dictionary by dotted name."""
    found: dict[str, _Tensor] = {}
    seen = set()

    def walk(branch, name):
        if len(name) > MAX_NAME_LENGTH or len(found) > MAX_TENSORS:
            raise _RefusedError(
                f"has more than {MAX_TENSORS:,} tensors, or names of more than {MAX_NAME_LENGTH:,} characters"
            )
        if isinstance(branch, dict):
            if id(branch) in seen:  # a walk through a few nested ones would take practically for ever
                raise _RefusedError("has one dictionary in two places")
            seen.add(id(branch))
            for key, value in branch.items():
                walk(value, f"{name}.{key}" if name else str(key))
        elif not isinstance(branch, _Tensor):
            where = f"as {name!r}" if name else "at its top level"
            raise _RefusedError(f"holds {where} an object that is neither a tensor nor a dictionary of tensors")
        elif name in found:
            raise _RefusedError(f"has two tensors called {name!r}")
        else:
            found[name] = branch

    walk(tree, "")
    return found


def _views(tensors: dict[str, _Tensor], read: Callable[[str], bytes | memoryview]) -> dict[str, np.ndarray]:
    """The tensors as read-only views of their storages, each of which is read once."""
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
            raise _RefusedError(f"describes the storage {storage.key!r} in two different ways")
        last = offset + sum((n - 1) * stride for n, stride in zip(shape, strides, strict=True))
        if 0 in shape:
            views[name] = np.zeros(shape, flat.dtype)
            continue
        if last >= len(flat) or math.prod(shape) > len(flat):
            raise _RefusedError(f"has a tensor {name!r} that reaches beyond its storage")
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
            raise _RefusedError("is a zip archive that torch.save did not write")
        root = pickles[0].removesuffix("data.pkl")
        if f"{root}byteorder" in names and archive.read(f"{root}byteorder") != b"little":
            raise _RefusedError("was written on a big-endian machine")
        tensors = _tensors(_unpickled(io.BytesIO(archive.read(pickles[0]))))
        return _views(tensors, lambda key: archive.read(f"{root}data/{key}"))


def _read_legacy(data: bytes) -> dict[str, np.ndarray]:
    file = io.BytesIO(data)
    if _unpickled(file) != LEGACY_MAGIC or _unpickled(file) != LEGACY_PROTOCOL:
        raise _RefusedError("is not a file written by torch.save")
    if _unpickled(file).get("little_endian") is not True:
        raise _RefusedError("was written on a big-endian machine")
    tensors = _tensors(_unpickled(file))
    storages: dict[str | int, _Storage] = {tensor.storage.key: tensor.storage for tensor in tensors.values()}
    parts = {}
    for key in _unpickled(file):
        storage = storages.get(_key(key))
        start = file.tell() + 8
        numel = int.from_bytes(data[start - 8 : start], "little")
        if storage is None or numel != storage.numel:
            raise _RefusedError("has storages that do not match its tensors")
        file.seek(start + numel * storage.dtype.itemsize)
        parts[key] = memoryview(data)[start : file.tell()]
    return _views(tensors, parts.__getitem__)


def read_tensors(path: pathlib.Path) -> dict[str, np.ndarray]:
    """The tensors of a state dict saved by torch.save, by name, as read-only arrays.

    Raises:
      ValueError: the file is damaged or holds anything other than tensors; the message names the file.
      OSError: the file cannot be read.
    """
    if path.stat().st_size > MAX_FILE_BYTES:
        raise ValueError(f"{path}: has more than {MAX_FILE_BYTES:,} bytes, which none of the known weights have")
    data = path.read_bytes()
    try:
        return _read_zip(data) if data.startswith(b"PK") else _read_legacy(data)
    except _RefusedError as error:
        raise ValueError(f"{path}: {error}") from error
    except Exception as error:  # random bytes, run as a pickle, may raise any error
        raise ValueError(f"{path}: is truncated or damaged ({type(error).__name__})") from error
