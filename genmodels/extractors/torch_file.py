"""Reads a PyTorch file of tensors without PyTorch, and admits nothing but tensors.

The one place where anything is unpickled, because published weights of the FID Inception and of LPIPS exist in no other
form. A pickle is a program; this reader runs it with a vocabulary of five harmless words (an ordered dictionary, two
ways to say "tensor", the names of storages), each of them ours. Any other word ends the reading with its name.

Both layouts of torch.save are read: the zip archive, and the older run of pickles followed by raw storages.
"""

import collections
import io
import os
import pathlib
import pickle
import zipfile
from typing import Any, BinaryIO, NamedTuple

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


class _RefusedError(ValueError):
    """What is wrong, to be said after the file's name."""


class _Storage(NamedTuple):
    key: str
    dtype: np.dtype
    numel: int


class _Tensor(NamedTuple):
    storage: _Storage
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]


def _rebuild(storage, offset, shape, strides, *unused) -> _Tensor:
    numbers = (offset, *shape, *strides)
    if not isinstance(storage, _Storage) or not all(type(n) is int and n >= 0 for n in numbers):
        raise _RefusedError("describes a tensor that cannot be")
    return _Tensor(storage, offset, tuple(shape), tuple(strides))


def _parameter(tensor, *unused) -> _Tensor:
    if not isinstance(tensor, _Tensor):
        raise _RefusedError("describes a parameter that is no tensor")
    return tensor


_WORDS = {
    ("collections", "OrderedDict"): collections.OrderedDict,
    ("torch._utils", "_rebuild_tensor"): _rebuild,
    ("torch._utils", "_rebuild_tensor_v2"): _rebuild,
    ("torch._utils", "_rebuild_parameter"): _parameter,
} | {("torch", name): np.dtype(kind) for name, kind in STORAGES.items()}


class _Reader(pickle._Unpickler):
    """Knows _WORDS only; storages are noted, their bytes read by the caller.

    Python's own implementation: the one in C takes as much memory as a damaged file asks for.
    """

    def find_class(self, module: str, name: str) -> Any:
        try:
            return _WORDS[module, name]
        except KeyError:
            raise _RefusedError(
                f"asks for {module}.{name}, which is no tensor; refused, nothing of it was run"
            ) from None

    def persistent_load(self, pid: Any) -> _Storage:
        if not isinstance(pid, tuple) or len(pid) < 5 or pid[0] != "storage":
            raise _RefusedError("refers to something that is no storage")
        _, dtype, key, _, numel = pid[:5]
        if not isinstance(dtype, np.dtype) or not isinstance(key, str) or type(numel) is not int or numel < 0:
            raise _RefusedError("describes a storage that cannot be")
        if len(pid) > 5 and pid[5] is not None:
            raise _RefusedError("has views of storages, which are not supported")
        return _Storage(key, dtype, numel)


def _plain(file: BinaryIO) -> Any:
    return _Reader(file).load()


def _tensors(tree: Any, prefix: str = "") -> dict[str, _Tensor]:
    """The tensors of nested dictionaries, by dotted name."""
    if isinstance(tree, _Tensor):
        return {prefix: tree}
    if not isinstance(tree, dict):
        raise _RefusedError(
            f"holds {prefix or 'at its top'} something that is neither a tensor nor a dictionary of them"
        )
    found = {}
    for key, value in tree.items():
        found |= _tensors(value, f"{prefix}.{key}" if prefix else str(key))
    return found


def _view(tensor: _Tensor, data: bytes) -> np.ndarray:
    if len(data) != tensor.storage.numel * tensor.storage.dtype.itemsize:
        raise _RefusedError("is truncated")
    storage = np.frombuffer(data, tensor.storage.dtype)
    last = tensor.offset + sum((n - 1) * stride for n, stride in zip(tensor.shape, tensor.strides, strict=True))
    if 0 in tensor.shape:
        return np.zeros(tensor.shape, storage.dtype)
    if last >= len(storage):
        raise _RefusedError("has a tensor that reaches beyond its storage")
    strides = [stride * storage.itemsize for stride in tensor.strides]
    return np.lib.stride_tricks.as_strided(storage[tensor.offset :], tensor.shape, strides, writeable=False).copy()


def _read_zip(file: BinaryIO) -> dict[str, np.ndarray]:
    with zipfile.ZipFile(file) as archive:
        names = archive.namelist()
        pickles = [name for name in names if name.endswith("/data.pkl")]
        if len(pickles) != 1:
            raise _RefusedError("is a zip archive but not of torch.save")
        root = pickles[0].removesuffix("data.pkl")
        if f"{root}byteorder" in names and archive.read(f"{root}byteorder") != b"little":
            raise _RefusedError("was written on a big-endian machine")
        tensors = _tensors(_plain(io.BytesIO(archive.read(pickles[0]))))
        return {
            name: _view(tensor, archive.read(f"{root}data/{tensor.storage.key}")) for name, tensor in tensors.items()
        }


def _read_legacy(file: BinaryIO) -> dict[str, np.ndarray]:
    size = os.fstat(file.fileno()).st_size
    if _plain(file) != LEGACY_MAGIC or _plain(file) != LEGACY_PROTOCOL:
        raise _RefusedError("is not a file of torch.save")
    if _plain(file).get("little_endian") is not True:
        raise _RefusedError("was written on a big-endian machine")
    tensors = _tensors(_plain(file))
    storages = {tensor.storage.key: tensor.storage for tensor in tensors.values()}
    data = {}
    for key in _plain(file):
        storage = storages.get(key)
        numel = int.from_bytes(file.read(8), "little")
        if storage is None or numel != storage.numel:
            raise _RefusedError("has storages that its tensors do not tell of")
        if numel * storage.dtype.itemsize > size - file.tell():
            raise _RefusedError("is truncated")
        data[key] = file.read(numel * storage.dtype.itemsize)
    return {name: _view(tensor, data[tensor.storage.key]) for name, tensor in tensors.items()}


def read_tensors(path: pathlib.Path) -> dict[str, np.ndarray]:
    """The tensors of a state dict saved by torch.save, by name.

    Raises:
      ValueError: names the file; it is damaged, or holds anything but tensors.
      OSError: it cannot be read.
    """
    with path.open("rb") as file:
        try:
            zipped = file.read(2) == b"PK"
            file.seek(0)
            return _read_zip(file) if zipped else _read_legacy(file)
        except _RefusedError as error:
            raise ValueError(f"{path}: {error}") from error
        except OSError:
            raise
        except Exception as error:  # whatever a program of random bytes may run into
            raise ValueError(f"{path}: is truncated or damaged ({type(error).__name__})") from error
