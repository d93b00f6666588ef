"""Sources whose images come as one array in memory: scikit-learn's digits and .npz files."""

import dataclasses
import importlib.util
import pathlib

import numpy as np
from PIL import Image

from genmodels.data.base import Settings, Source, no_test
from genmodels.data.npz import open_npz
from genmodels.data.resize import CHANNELS
from genmodels.data.table import tabulate
from genmodels.errors import ConfigError, DataError

MAX_CLASSES = 10**6  # a larger label is a mistake, such as an id in place of a class


def from_arrays(where: str, split: str, images: np.ndarray, labels: np.ndarray | None, settings: Settings) -> Source:
    """A source of arrays.

    Args:
      where: the name of the source, also in error messages.
      images: uint8 [N, height, width(, channel)] with 1, 3 or 4 channels.
      labels: integers >= 0, [N] or [N, 1].
    Raises:
      DataError: images or labels are not of that kind, or no rule says how images become square.
    """
    if images.ndim == 3:
        images = images[..., None]
    if images.dtype != np.uint8 or images.ndim != 4 or not images.size:
        raise DataError(
            f"{where}: images must be uint8 (0-255) [N, height, width(, channel)], got {images.dtype} {images.shape}"
        )
    if images.shape[-1] not in (1, 3, 4):
        raise DataError(f"{where}: images must have 1 (grey), 3 (RGB) or 4 (RGBA) channels, got {images.shape[-1]}")
    known = None
    notes: tuple[str, ...] = ()
    height, width, _ = found = images.shape[1:]
    rule = settings.rule
    if rule.size and height != width and not rule.crop:
        raise DataError(
            f"{where}: images are {height}x{width}, not square: set config.data.crop=center (middle square) or none "
            f"(squash)"
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
            f"{where}: {len(images)} images need {len(images)} labels, integers of shape [N]; got {labels.dtype} "
            f"{labels.shape}"
        )
    labels = labels.reshape(-1)
    if labels.min() < 0 or labels.max() >= MAX_CLASSES:
        worst = labels.min() if labels.min() < 0 else labels.max()
        raise DataError(f"{where}: label {worst}: labels must be at least 0 and less than {MAX_CLASSES:,}")
    return Source(where, split, images, labels.astype(np.int32), int(labels.max()) + 1, known=known, notes=notes)


def load_digits(path: str, split: str) -> tuple[np.ndarray, np.ndarray]:
    """scikit-learn's 1,797 handwritten digits, 8x8 with values 0-16, scaled to 0-255.

    The split is fixed: the first 1,500 of `RandomState(0).permutation(1797)` are for training, the other 297 for test.
    The file of scikit-learn is read directly, because importing the library takes a second; a row of it holds the 64
    pixels of an image and its digit. Returns images [N, 8, 8] and labels [N].
    """
    if path:
        raise ConfigError(f"the data source 'digits' takes no path, got 'digits:{path}'")
    spec = importlib.util.find_spec("sklearn")
    if spec is None or spec.origin is None:
        raise DataError("digits: scikit-learn, whose file holds them, is not installed: pip install scikit-learn")
    rows = np.loadtxt(pathlib.Path(spec.origin).parent / "datasets" / "data" / "digits.csv.gz", delimiter=",")
    order = np.random.RandomState(0).permutation(1797)
    order = order[:1500] if split == "train" else order[1500:]
    rows = rows[order]
    return np.round(rows[:, :-1].reshape(-1, 8, 8) * (255 / 16)).astype(np.uint8), rows[:, -1].astype(int)


NPZ_LAYOUTS = {
    "train": (("images", "labels"), ("x_train", "y_train"), ("arr_0", "arr_1")),
    "test": (("test_images", "test_labels"), ("x_test", "y_test")),
}


def load_npz(path: str, split: str) -> tuple[np.ndarray, np.ndarray | None]:
    """The images of a split, and their labels if there are any.

    They are `images`(, `labels`) and `test_images`(, `test_labels`); Keras' `x_train`, `y_train`, `x_test`, `y_test`;
    or `arr_0`(, `arr_1`), as the code of Dhariwal & Nichol (2021) writes samples.
    """
    with open_npz(path, f"npz:{path}") as file:
        for images, labels in NPZ_LAYOUTS[split]:
            if images in file:
                return file[images], file.get(labels)
        found = ", ".join(file)
    wanted = " or ".join(images for images, _ in NPZ_LAYOUTS[split])
    raise DataError(
        f"npz:{path}: has no {split} images: it should hold {wanted}, it holds {found or 'nothing'}"
        + (no_test(f"npz:{path}") if split == "test" else "")
    )


CLASS_NAMES = "class_names"  # of an .npz: the names of the labels 0, 1, ..., as genmodels.sample writes them


def with_npz_names(source: Source, path: str) -> Source:
    """The source of an .npz with the names of its classes, where the file has them.

    Raises:
      DataError: there are fewer names than labels, or a name occurs twice.
    """
    with open_npz(path, source.name) as file:
        names = file.get(CLASS_NAMES)
        if names is None or source.labels is None:
            return source
        named = tuple(str(name) for name in names.reshape(-1)) if names.dtype.kind == "U" else ()
    if len(named) < source.num_classes or len(set(named)) < len(named):
        raise DataError(
            f"{source.name}: {CLASS_NAMES} must be text, a different name for each of {source.num_classes} classes; "
            f"got {names.dtype} {names.shape}"
        )
    return dataclasses.replace(source, num_classes=len(named), class_names=named)
