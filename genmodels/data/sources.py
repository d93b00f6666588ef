"""Where images come from, named by one string: "digits", "npz:FILE", "idx:DIR".

A source is random access to uint8 images and integer labels. Adding a scheme is a function and a row in SCHEMES.
"""

import contextlib
import dataclasses
import functools
import gzip
import hashlib
import pathlib
import zipfile
import zlib
from collections.abc import Callable, Iterator

import numpy as np
from jaxtyping import Int, Int32, UInt8

from genmodels.errors import ConfigError, DataError, choose

SPLITS = ("train", "test")


@dataclasses.dataclass(frozen=True, eq=False)
class Source:
    """One split of a data set, in memory.

    Attributes:
      name: the string that names it, e.g. "idx:DIR".
      split: "train" or "test".
      images: [N, height, width, channel], 0-255.
      labels: [N] in 0 .. num_classes - 1; None for unlabelled images.
      num_classes: 0 for unlabelled images.
    """

    name: str
    split: str
    images: UInt8[np.ndarray, "N height width channel"]
    labels: Int32[np.ndarray, " N"] | None
    num_classes: int

    def __len__(self) -> int:
        return len(self.images)

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """(height, width, channel)."""
        return self.images.shape[1:]

    def take(self, indices: np.ndarray) -> dict[str, np.ndarray]:
        """The batch of these rows: `image`, and `label` where there are labels."""
        batch = {"image": self.images[indices]}
        return batch if self.labels is None else batch | {"label": self.labels[indices]}

    @functools.cached_property
    def fingerprint(self) -> str:
        """See `fingerprint`."""
        return fingerprint(self.images, self.labels)


def fingerprint(images: UInt8[np.ndarray, "N height width channel"], labels: Int[np.ndarray, " N"] | None) -> str:
    """sha256 over shapes and contents, in order."""
    num_classes = 0 if labels is None else int(labels.max()) + 1
    digest = hashlib.sha256(repr((images.shape, num_classes)).encode())
    digest.update(np.ascontiguousarray(images))
    if labels is not None:
        digest.update(np.ascontiguousarray(labels, np.int32))
    return digest.hexdigest()


# What numpy and zipfile raise for one changed byte or another.
DAMAGED = (ValueError, OSError, EOFError, RuntimeError, MemoryError, zipfile.BadZipFile, zlib.error)


@contextlib.contextmanager
def open_npz(path: str | pathlib.Path, where: str) -> Iterator[np.lib.npyio.NpzFile]:
    """An .npz of plain arrays, open for reading inside the block.

    Args:
      where: how to call it in messages.
    Raises:
      DataError: it is missing or cannot be read, when opened or inside the block.
    """
    if not pathlib.Path(path).is_file():
        raise DataError(f"{where}: no such file")
    try:
        file = np.load(path, allow_pickle=False)
        if not isinstance(file, np.lib.npyio.NpzFile):
            raise ValueError("it holds one array, as .npy files do")
        with file:
            yield file
    except DAMAGED as error:
        raise DataError(f"{where}: not a readable .npz of plain arrays ({error})") from error


def make_source(spec: str, split: str = "train") -> Source:
    """Opens the source called `spec`.

    Raises:
      ConfigError: an unknown scheme or split.
      DataError: the file or folder is missing or is not what the scheme expects.
    """
    scheme, _, path = spec.partition(":")
    choose("data source", scheme, SCHEMES)
    choose("split", split, SPLITS)
    images, labels = SCHEMES[scheme](path, split)
    if images.ndim == 3:
        images = images[..., None]
    if images.dtype != np.uint8 or images.ndim != 4 or not images.size:
        raise DataError(
            f"{spec}: images must be uint8 [N, height, width(, channel)], got {images.dtype} {images.shape}"
        )
    if images.shape[-1] not in (1, 3, 4):
        raise DataError(f"{spec}: images must have 1 (grey), 3 (RGB) or 4 (RGBA) channels, got {images.shape[-1]}")
    if labels is None:
        return Source(spec, split, images, None, 0)
    if labels.shape != (len(images),) or not np.issubdtype(labels.dtype, np.integer) or labels.min() < 0:
        raise DataError(f"{spec}: {len(images)} images need as many labels >= 0, got {labels.dtype} {labels.shape}")
    return Source(spec, split, images, labels.astype(np.int32), int(labels.max()) + 1)


def load_digits(path: str, split: str) -> tuple[np.ndarray, np.ndarray]:
    """scikit-learn's 1,797 handwritten digits, 8x8 with values 0-16, scaled to 0-255.

    The split is fixed: of `RandomState(0).permutation(1797)` the first 1,500 train, the other 297 test.
    """
    from sklearn.datasets import load_digits as sklearn_digits

    if path:
        raise ConfigError(f"the data source 'digits' takes no path, got 'digits:{path}'")
    digits = sklearn_digits()
    order = np.random.RandomState(0).permutation(1797)
    order = order[:1500] if split == "train" else order[1500:]
    return np.round(digits.images[order] * (255 / 16)).astype(np.uint8), digits.target[order]


NPZ_LAYOUTS = {
    "train": (("images", "labels"), ("x_train", "y_train")),
    "test": (("test_images", "test_labels"), ("x_test", "y_test")),
}


def load_npz(path: str, split: str) -> tuple[np.ndarray, np.ndarray | None]:
    """`images`(, `labels`) and `test_images`(, `test_labels`), or Keras' `x_train`, `y_train`, `x_test`, `y_test`."""
    with open_npz(path, f"npz:{path}") as file:
        for images, labels in NPZ_LAYOUTS[split]:
            if images in file:
                return file[images], file[labels].reshape(-1) if labels in file else None
        found = ", ".join(file.files)
    wanted = " or ".join(images for images, _ in NPZ_LAYOUTS[split])
    remedy = "; evaluate with --split=train to compare with the training images" if split == "test" else ""
    raise DataError(f"npz:{path}: no {split} images: looked for {wanted}, found {found or 'nothing'}{remedy}")


IDX_STEMS = {"train": "train", "test": "t10k"}


def load_idx(path: str, split: str) -> tuple[np.ndarray, np.ndarray]:
    """MNIST's format: {train,t10k}-{images-idx3,labels-idx1}-ubyte, plain or .gz, in one folder."""
    stem = IDX_STEMS[split]
    return tuple(_read_idx(pathlib.Path(path), f"{stem}-{kind}-ubyte") for kind in ("images-idx3", "labels-idx1"))


def _read_idx(folder: pathlib.Path, name: str) -> np.ndarray:
    file = next((file for file in (folder / name, folder / f"{name}.gz") if file.is_file()), None)
    if file is None:
        raise DataError(f"idx:{folder}: neither {name} nor {name}.gz is there")
    try:
        data = file.read_bytes()
        data = gzip.decompress(data) if file.suffix == ".gz" else data
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(f"{file}: cannot be read ({error})") from error
    # Header: 0, 0, type (8 is uint8), rank, then big-endian uint32 sizes (LeCun's MNIST page).
    if len(data) < 4 or data[:3] != b"\x00\x00\x08":
        raise DataError(f"{file}: not an idx file of unsigned bytes")
    start = 4 + 4 * data[3]
    shape = tuple(int.from_bytes(data[i : i + 4], "big") for i in range(4, start, 4))
    if len(data) != start + int(np.prod(shape)):
        raise DataError(f"{file}: truncated: {shape} needs {int(np.prod(shape))} bytes, got {len(data) - start}")
    return np.frombuffer(data, np.uint8, offset=start).reshape(shape)


SCHEMES: dict[str, Callable[[str, str], tuple[np.ndarray, np.ndarray | None]]] = {
    "digits": load_digits,
    "npz": load_npz,
    "idx": load_idx,
}
