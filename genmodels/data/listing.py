"""The images of a folder or archive that belong to a split, with the classes and captions that come with them.

DIR/a.png ...                      unlabelled images
DIR/cat/a.png, DIR/dog/b.png ...   sub-folders are classes, numbered in the natural order of their names (2 before 10)
DIR/train/..., DIR/test/...        a folder of either kind for each split (val, valid or validation serve as test)
DIR/captions.jsonl                 optional; one {"file": "cat/a.png", "caption": "..."} a line
DIR/dataset.json, DIR/a.cls        labels, see data.sidecars; folders are then no classes

An empty sub-folder is a class without images, so that the labels of the others do not depend on whether it is filled.
"""

import collections
import dataclasses
import json
import re
from collections.abc import Sequence
from typing import Any

import numpy as np
from jaxtyping import Int32

from genmodels.core.names import natural
from genmodels.data import sidecars
from genmodels.data.base import LISTING, TEXT_LISTING, no_test
from genmodels.data.images import EXTENSIONS
from genmodels.data.media import ImageStore
from genmodels.data.sidecars import CAPTIONS
from genmodels.errors import DataError

TABLES = {".parquet", ".arrow", ".tfrecord", ".tfrecords", ".lmdb", ".mdb", ".h5", ".hdf5", ".npy", ".npz", ".pkl"}
ARCHIVES = {".tar", ".zip", ".gz", ".tgz"}
SPLIT_FOLDERS = {"train": ("train", "training"), "test": ("test", "testing", "val", "valid", "validation")}
SHARD = re.compile(r"[0-9]{5,}")  # the name of a storage folder
RUNNING_NUMBER = re.compile(r"[0-9]{5,18}$")  # at the end of the stem of a file in it


@dataclasses.dataclass(frozen=True, eq=False)
class Listing:
    """The images of one split, in the natural order of their names.

    Attributes:
      names: the names of the files in the store.
      labels: the class of each image, [N]; None where nothing says the classes.
      class_names: those of the training split; other splits have no further classes. () if they have none.
      captions: one an image ("" for an image without caption); None where there is no file of captions.
      notes: sentences about where labels come from and which files are not read.
      num_classes: the number of classes; 0 without labels.
    """

    names: tuple[str, ...]
    labels: Int32[np.ndarray, " N"] | None
    class_names: tuple[str, ...] = ()
    captions: tuple[str, ...] | None = None
    notes: tuple[str, ...] = ()
    num_classes: int = 0

    def keep(self, chosen: np.ndarray) -> "Listing":
        """The listing of the images at these places, in that order."""
        pick = lambda values: values and tuple(values[i] for i in chosen)  # noqa: E731
        labels = None if self.labels is None else self.labels[chosen]
        return dataclasses.replace(self, names=pick(self.names), labels=labels, captions=pick(self.captions))


def list_images(store: ImageStore, split: str, listing: int = LISTING) -> Listing:
    """The images of a split.

    Args:
      listing: the rules of order and classes, see `base.Settings`.
    Raises:
      DataError: there are none; there are images both in class folders and beside them; the split has a class that the
        training split does not have; or a file of labels or captions is damaged or does not fit the images.
    """
    images = [name for name in store.names if name.lower().endswith(EXTENSIONS)]
    if not images:
        raise DataError(_nothing_found(store))
    if listing != TEXT_LISTING:
        images.sort(key=natural)
    root = _root(images)
    inside = [name.removeprefix(root) for name in images]
    prefix, training = _folders_of(store.where, inside, split)
    chosen = [name.removeprefix(prefix) for name in inside if name.startswith(prefix)]
    names = tuple(root + prefix + name for name in chosen)
    read = {CAPTIONS}
    found, class_names = None, tuple[str, ...]()
    if listing != TEXT_LISTING:
        found = sidecars.find_labels(store, (root + prefix, root, ""), names) or _storage(chosen)
    if found:
        read |= found.read
        labels, num_classes, notes = found.labels, found.num_classes, [found.note]
    else:
        class_names = _class_names(store, inside, root, training, listing)
        labels = _labels(store.where, prefix, chosen, class_names)
        class_names = () if labels is None else class_names
        num_classes, notes = len(class_names), []
    captions = _captions(store, root, prefix, chosen, inside)
    notes += sidecars.unread(store.names, images, read)
    return Listing(names, labels, class_names, captions, tuple(notes), num_classes)


def _nothing_found(store: ImageStore) -> str:
    """The message for a store without images: what there is, and how that is read if it is."""
    found = collections.Counter(map(sidecars.suffix, store.names))
    common = sorted(found.items(), key=lambda item: (-item[1], item[0]))[:5]
    seen = ", ".join(f"{count} {suffix}" for suffix, count in common) or "nothing"
    hint = ""
    if found.keys() & TABLES:
        hint = "; tables of images are not read: write the images to files, or to one .npz"
    elif found.keys() & ARCHIVES:
        hint = "; an archive is named itself, e.g. tar:FILE, and several are joined by concat"
    return (
        f"{store.where}: no images: looked for {', '.join(EXTENSIONS)}, also in sub-folders; found {len(store.names)} "
        f"other files ({seen}){hint}"
    )


def others(store: ImageStore) -> list[str]:
    """The names of the files that are neither images nor known to belong to them."""
    known = (CAPTIONS, sidecars.DATASET)
    suffixes = (*EXTENSIONS, sidecars.CLASS_SUFFIX)
    return [n for n in store.names if not n.lower().endswith(suffixes) and n.rpartition("/")[2] not in known]


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


def _root(images: list[str]) -> str:
    """What every name begins with and what tells nothing: "./", or the one folder around class or split folders."""
    root = "./" if all(name.startswith("./") for name in images) else ""
    inside = [name.removeprefix(root) for name in images]
    top = inside[0].partition("/")[0]
    around = all(name.startswith(f"{top}/") and name.count("/") > 1 for name in inside)
    return f"{root}{top}/" if around and top.lower() not in SPLIT_FOLDERS["train"] else root


def _class_names(store: ImageStore, images: list[str], root: str, training: str, listing: int) -> tuple[str, ...]:
    """The sub-folders of the training folder in the order of their names; () where its images lie in no sub-folders."""
    inside = [name.removeprefix(training) for name in images if name.startswith(training)]
    named = {name.split("/")[0] for name in inside if "/" in name}
    if listing == TEXT_LISTING or not named:
        return tuple(sorted(named))
    return tuple(sorted(named | _empty_folders(store, root + training), key=natural))


def _empty_folders(store: ImageStore, base: str) -> set[str]:
    """The sub-folders of `base` without images; those that hold other files than pictures are no classes."""
    below = [name.removeprefix(base) for name in (*store.folders, *store.names) if name.startswith(base)]
    tops = {name.partition("/")[0] for name in below if "/" in name}
    filled = {
        name.partition("/")[0]
        for name in below
        if not name.endswith("/") and sidecars.suffix(name).lower() not in sidecars.OTHER_PICTURES
    }
    return tops - filled


def _labels(where: str, prefix: str, chosen: list[str], class_names: Sequence[str]) -> np.ndarray | None:
    """The class of each image by the folder that it lies in; None where images lie in no folders."""
    deep = [name for name in chosen if "/" in name]
    if not deep:
        return None
    if len(deep) < len(chosen):
        flat = next(name for name in chosen if "/" not in name)
        raise DataError(
            f"{where}: {len(chosen) - len(deep)} images ({flat} ...) lie beside class folders "
            f"({deep[0].split('/')[0]} ...): move them into a class folder, or name the folder that you mean"
        )
    number = {name: index for index, name in enumerate(class_names)}
    for name in chosen:
        if name.split("/")[0] not in number:
            raise DataError(f"{where}: the class of {prefix}{name} has no images in train")
    return np.array([number[name.split("/")[0]] for name in chosen], np.int32)


def _storage(images: list[str]) -> sidecars.Labels | None:
    """Says that folders are storage, as those of StyleGAN's and FFHQ's archives are, where names show it; else None.

    Such folders have padded numbers, 00000/ 00001/ ..., and one running number goes through the files of all of them.
    """
    last = -1
    for name in images:  # in natural order, so that folders come one after the other
        folder, _, file = name.rpartition("/")
        number = RUNNING_NUMBER.search(file.rpartition(".")[0])
        if not SHARD.fullmatch(folder) or number is None or int(number[0]) <= last:
            return None
        last = int(number[0])
    first, final = (images[row].partition("/")[0] for row in (0, -1))
    if not first.startswith("0"):
        return None
    note = (
        f"the folders {first} to {final} are taken for storage, not for classes, because one "
        f"running number goes through their files"
    )
    return sidecars.Labels(None, 0, note, frozenset())


def _captions(
    store: ImageStore, root: str, prefix: str, chosen: list[str], images: list[str]
) -> tuple[str, ...] | None:
    """One caption an image, from captions.jsonl in the split's folder or in the folder above it; None without one."""
    there = [name for name in store.names if name.rpartition("/")[2] == CAPTIONS]
    for base in dict.fromkeys((prefix, "")):
        file = root + base + CAPTIONS
        if file in there:
            text = sidecars.read_file(store, file)
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
        except (ValueError, KeyError, TypeError, RecursionError) as error:
            raise DataError(
                f'{where}, line {number}: must be {{"file": "a.png", "caption": "..."}} '
                f"({type(error).__name__}: {error})"
            ) from error
    found.pop("", None)
    return found
