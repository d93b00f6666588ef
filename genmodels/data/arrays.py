"""Sources that are arrays already: scikit-learn's digits, .npz and MNIST's idx files. They live in memory, whole."""

import contextlib
import dataclasses
import gzip
import importlib.util
import pathlib
import zipfile
import zlib
from collections.abc import Iterator

import numpy as np
from PIL import Image

from genmodels.data.base import Settings, Source, no_test, tabulate
from genmodels.data.images import CHANNELS
from genmodels.errors import ConfigError, DataError

MOST_CLASSES = 10**6

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


def from_arrays(where: str, split: str, images: np.ndarray, labels: np.ndarray | None, settings: Settings) -> Source:
    """A source of images [N, height, width(, channel)] and labels [N].

    Raises:
      DataError: images are not uint8 of 1, 3 or 4 channels; labels are not as many integers >= 0.
    """
    if images.ndim == 3:
        images = images[..., None]
    if images.dtype != np.uint8 or images.ndim != 4 or not images.size:
        raise DataError(
            f"{where}: images must be uint8 (0-255) [N, height, width(, channel)], got {images.dtype} {images.shape}"
        )
    if images.shape[-1] not in (1, 3, 4):
        raise DataError(f"{where}: images must have 1 (grey), 3 (RGB) or 4 (RGBA) channels, got {images.shape[-1]}")
    notes, known = (), None
    height, width, _ = found = images.shape[1:]
    rule = settings.rule
    if rule.size and height != width and not rule.crop:
        raise DataError(
            f"{where}: images are {height}x{width}: say how they become square, config.data.crop=center or none"
        )
    wanted = (*((rule.size, rule.size) if rule.size else found[:2]), CHANNELS.get(rule.convert, found[2]))
    if wanted != found:
        origins = tabulate(images).digests
        squeeze = images[..., 0] if images.shape[-1] == 1 else images
        images = np.empty((len(images), *wanted), np.uint8)
        for row, image in enumerate(squeeze):
            images[row] = rule.apply(Image.fromarray(image))
        known = dataclasses.replace(tabulate(images), origins=origins)
        notes = (f"found {'x'.join(map(str, found))}; {rule.describe()}",)
    if labels is None:
        return Source(where, split, images, None, 0, known=known, notes=notes)
    if labels.shape not in ((len(images),), (len(images), 1)) or not np.issubdtype(labels.dtype, np.integer):
        raise DataError(
            f"{where}: {len(images)} images need as many labels, whole numbers in one row; got {labels.dtype} "
            f"{labels.shape}"
        )
    labels = labels.reshape(-1)
    if labels.min() < 0 or labels.max() >= MOST_CLASSES:
        worst = labels.min() if labels.min() < 0 else labels.max()
        raise DataError(f"{where}: label {worst}: labels must count from 0 and be less than {MOST_CLASSES:,}")
    return Source(where, split, images, labels.astype(np.int32), int(labels.max()) + 1, known=known, notes=notes)


def load_digits(path: str, split: str) -> tuple[np.ndarray, np.ndarray]:
    """scikit-learn's 1,797 handwritten digits, 8x8 with values 0-16, scaled to 0-255.

    The split is fixed: of `RandomState(0).permutation(1797)` the first 1,500 train, the other 297 test. scikit-learn is
    not imported, which takes a second; its file has a row an image, 64 pixels and the digit.
    """
    if path:
        raise ConfigError(f"the data source 'digits' takes no path, got 'digits:{path}'")
    package = pathlib.Path(importlib.util.find_spec("sklearn").origin).parent
    rows = np.loadtxt(package / "datasets" / "data" / "digits.csv.gz", delimiter=",")
    order = np.random.RandomState(0).permutation(1797)
    order = order[:1500] if split == "train" else order[1500:]
    rows = rows[order]
    return np.round(rows[:, :-1].reshape(-1, 8, 8) * (255 / 16)).astype(np.uint8), rows[:, -1].astype(int)


NPZ_LAYOUTS = {
    "train": (("images", "labels"), ("x_train", "y_train")),
    "test": (("test_images", "test_labels"), ("x_test", "y_test")),
}


def load_npz(path: str, split: str) -> tuple[np.ndarray, np.ndarray | None]:
    """`images`(, `labels`) and `test_images`(, `test_labels`), or Keras' `x_train`, `y_train`, `x_test`, `y_test`."""
    with open_npz(path, f"npz:{path}") as file:
        for images, labels in NPZ_LAYOUTS[split]:
            if images in file:
                return file[images], file.get(labels)
        found = ", ".join(file.files)
    wanted = " or ".join(images for images, _ in NPZ_LAYOUTS[split])
    raise DataError(
        f"npz:{path}: no {split} images: looked for {wanted}, found {found or 'nothing'}"
        + (no_test(f"npz:{path}") if split == "test" else "")
    )


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
