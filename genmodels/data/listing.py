"""The images of a folder or archive that belong to a split, with the classes and captions that their paths give.

DIR/a.png ...                      unlabelled images
DIR/cat/a.png, DIR/dog/b.png ...   sub-folders are classes, numbered in the order of their names
DIR/train/..., DIR/test/...        a folder of either kind for each split (val, valid or validation serve as test)
DIR/captions.jsonl                 optional; one {"file": "cat/a.png", "caption": "..."} a line
"""

import collections
import dataclasses
import json
from typing import Any

import numpy as np
from jaxtyping import Int32

from genmodels.data.base import no_test
from genmodels.data.images import EXTENSIONS
from genmodels.data.media import ImageStore
from genmodels.errors import DataError

CAPTIONS = "captions.jsonl"
OTHER_PICTURES = {".gif", ".tif", ".tiff", ".avif", ".heic", ".heif", ".jp2", ".jxl", ".jfif", ".ppm", ".pgm"}
SPLIT_FOLDERS = {"train": ("train", "training"), "test": ("test", "testing", "val", "valid", "validation")}


@dataclasses.dataclass(frozen=True, eq=False)
class Listing:
    """The images of one split, in the order of their names.

    Attributes:
      names: the names of the files in the store.
      labels: the class of each image, [N]; None where there are no class folders.
      class_names: those of the training split; other splits have no further classes.
      captions: one an image ("" for an image without caption); None where there is no file of captions.
      notes: sentences about files that look like images but are not read.
    """

    names: tuple[str, ...]
    labels: Int32[np.ndarray, " N"] | None
    class_names: tuple[str, ...] = ()
    captions: tuple[str, ...] | None = None
    notes: tuple[str, ...] = ()

    def keep(self, chosen: np.ndarray) -> "Listing":
        """The listing of the images at these places, in that order."""
        pick = lambda values: values and tuple(values[i] for i in chosen)  # noqa: E731
        labels = None if self.labels is None else self.labels[chosen]
        return Listing(pick(self.names), labels, self.class_names, pick(self.captions), self.notes)


def list_images(store: ImageStore, split: str) -> Listing:
    """The images of a split.

    Raises:
      DataError: there are none; there are images both in class folders and beside them; or the split has a class that
        the training split does not have.
    """
    images = [name for name in store.names if name.lower().endswith(EXTENSIONS)]
    others = collections.Counter(_suffix(name) for name in store.names) - collections.Counter(map(_suffix, images))
    if not images:
        common = sorted(others.items(), key=lambda item: (-item[1], item[0]))[:5]
        seen = ", ".join(f"{count} {suffix}" for suffix, count in common) or "nothing"
        raise DataError(
            f"{store.where}: no images: looked for {', '.join(EXTENSIONS)}, also in sub-folders; found "
            f"{len(store.names)} other files ({seen})"
        )
    unread = ", ".join(f"{others[suffix]} {suffix}" for suffix in sorted(others) if suffix.lower() in OTHER_PICTURES)
    root = _root(images)
    images = [name.removeprefix(root) for name in images]
    prefix, training = _folders_of(store.where, images, split)
    listing = _below(store, root, images, prefix, training)
    return dataclasses.replace(listing, notes=(f"not read, because of their suffix: {unread}",)) if unread else listing


def others(store: ImageStore) -> list[str]:
    """The names of the files that are neither images nor captions."""
    return [n for n in store.names if not n.lower().endswith(EXTENSIONS) and n.rpartition("/")[2] != CAPTIONS]


def _folders_of(where: str, images: list[str], split: str) -> tuple[str, str]:
    """The folders, "" or with a slash at the end, that hold the images of the split and of the training split."""
    folders = {name.split("/")[0] for name in images if "/" in name}
    found = {
        role: next((f"{folder}/" for name in names for folder in sorted(folders) if folder.lower() == name), None)
        for role, names in SPLIT_FOLDERS.items()
    }
    training, chosen = found["train"], found[split]
    if training is None:
        if found["test"] and len(folders) == 1 and all("/" in name for name in images):
            raise DataError(
                f"{where}: has a folder {found['test']} but no train/ beside it; name the folder {found['test']} itself"
            )
        if split != "train":
            raise DataError(f"{where}: no {split} images: it has no folders train and test{no_test(where)}")
        return "", ""
    known = {name for names in SPLIT_FOLDERS.values() for name in names}
    strangers = sorted(name for name in {name.split("/")[0] for name in images} if name.lower() not in known)
    if strangers:
        raise DataError(
            f"{where}: {', '.join(strangers[:3])} {'lies' if len(strangers) == 1 else 'lie'} beside the folder "
            f"{training}: move it out; or rename the folder, if train is the name of a class"
        )
    if chosen is None:
        raise DataError(f"{where}: no {split} images: it has no folder test, val or validation{no_test(where)}")
    return chosen, training


def _suffix(name: str) -> str:
    file = name.split("/")[-1]
    return f".{file.rpartition('.')[2]}" if "." in file else "without suffix"


def _root(images: list[str]) -> str:
    """What every name begins with and what tells nothing: "./", or the one folder around class or split folders."""
    root = "./" if all(name.startswith("./") for name in images) else ""
    inside = [name.removeprefix(root) for name in images]
    top = inside[0].partition("/")[0]
    around = all(name.startswith(f"{top}/") and name.count("/") > 1 for name in inside)
    return f"{root}{top}/" if around and top.lower() not in SPLIT_FOLDERS["train"] else root


def _below(store: ImageStore, root: str, images: list[str], prefix: str, training: str) -> Listing:
    """The images in the folder `prefix`, with the classes of the folder `training`."""
    chosen = [name.removeprefix(prefix) for name in images if name.startswith(prefix)]
    deep = [name for name in chosen if "/" in name]
    if deep and len(deep) < len(chosen):
        flat = next(name for name in chosen if "/" not in name)
        raise DataError(
            f"{store.where}: {len(chosen) - len(deep)} images ({flat} ...) lie beside class folders "
            f"({deep[0].split('/')[0]} ...): move them into a class folder, or name the folder that you mean"
        )
    labels, class_names = None, tuple[str, ...]()
    if deep:
        named = {name.removeprefix(training).split("/")[0] for name in images if name.startswith(training)}
        class_names = tuple(sorted(named))
        number = {name: index for index, name in enumerate(class_names)}
        for name in chosen:
            if name.split("/")[0] not in number:
                raise DataError(f"{store.where}: the class of {prefix}{name} has no images in train")
        labels = np.array([number[name.split("/")[0]] for name in chosen], np.int32)
    captions = _captions(store, root, prefix, chosen, images)
    return Listing(tuple(root + prefix + name for name in chosen), labels, class_names, captions)


def _captions(
    store: ImageStore, root: str, prefix: str, chosen: list[str], images: list[str]
) -> tuple[str, ...] | None:
    """One caption an image, from captions.jsonl in the split's folder or in the folder above it; None without one."""
    there = [name for name in store.names if name.rpartition("/")[2] == CAPTIONS]
    for base in dict.fromkeys((prefix, "")):
        file = root + base + CAPTIONS
        if file in there:
            try:
                text = store.open(file).read()
            except (OSError, ValueError) as error:
                raise DataError(f"{store.where}: {file} cannot be read: {error}") from error
            above = prefix.removeprefix(base)
            found = _read_captions(f"{store.where}: {file}", text)
            for name in sorted(found.keys() - {image.removeprefix(base) for image in images}):
                raise DataError(f"{store.where}: {file} names {name!r}, but there is no such image")
            return tuple(found.get(above + name, "") for name in chosen)
    if there and not prefix:
        raise DataError(
            f"{store.where}: {there[0]} is in the wrong folder; move it up, beside {root + images[0].partition('/')[0]}"
        )
    return None


def _read_captions(where: str, text: bytes) -> dict[str, str]:
    found: dict[str, Any] = {}
    for number, line in enumerate(text.splitlines(), start=1):
        try:
            record = json.loads(line) if line.strip() else {"file": "", "caption": ""}
            if not isinstance(record["caption"], str):
                raise TypeError(f"caption is {record['caption']!r}")
            found[str(record["file"])] = record["caption"]
        except (ValueError, KeyError, TypeError) as error:
            raise DataError(
                f'{where}, line {number}: must be {{"file": "a.png", "caption": "..."}} '
                f"({type(error).__name__}: {error})"
            ) from error
    found.pop("", None)
    return found
