"""Reads data sets that TensorFlow Datasets has prepared as array_record, without TensorFlow and without the network.

Nothing is downloaded or prepared here: a data set that is not on the disk is an error that names the command to prepare
it.
"""

import dataclasses
import functools
import hashlib
import importlib.util
import io
import json
import os
import pathlib
import re
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from genmodels.data.base import no_test
from genmodels.data.listing import Listing
from genmodels.data.media import ImageStore
from genmodels.errors import ConfigError, DataError, choose

VERSION = re.compile(r"\d+\.\d+\.\d+")
MAX_JSON_BYTES = 2**28
BLOCK_RECORDS = 1024  # records read at once
HELD_OUT = ("test", "validation")


class NotPreparedError(DataError):
    """TFDS knows the data set, but it is not prepared on this disk."""


def data_dir(given: str = "") -> pathlib.Path:
    """The folder of prepared data sets: the given one, else $TFDS_DATA_DIR, else ~/tensorflow_datasets."""
    return pathlib.Path(os.path.expanduser(given or os.environ.get("TFDS_DATA_DIR") or "~/tensorflow_datasets"))


def prepare_command(name: str, folder: pathlib.Path) -> str:
    """The command that prepares a data set."""
    return f"python -m genmodels.data.prepare --dataset=tfds:{name} --data_dir={folder}"


def known_names() -> set[str]:
    """The names of the data sets that the installed TFDS can build.

    They are read from the files of its package, because its registry needs TensorFlow.
    """
    spec = importlib.util.find_spec("tensorflow_datasets")
    if spec is None or spec.origin is None:
        return set()
    package = pathlib.Path(spec.origin).parent
    checksums = {path.stem for path in (package / "url_checksums").glob("*.txt")}
    return checksums | {path.name for path in (package / "datasets").glob("[a-z]*") if path.is_dir()}


def find(name: str, folder: pathlib.Path) -> pathlib.Path:
    """The folder of the newest prepared version of NAME or NAME/CONFIG.

    Raises:
      ConfigError: there is no data set of this name.
      NotPreparedError: it is not prepared in this folder; the message has the command that prepares it.
      DataError: it was prepared as tfrecord, which cannot be read without TensorFlow; or NAME needs a configuration.
    """
    infos = folder.glob("*/**/dataset_info.json") if os.path.isdir(folder) else ()
    complete = [info.parent for info in infos if VERSION.fullmatch(info.parent.name)]
    prepared = {str(path.parent.relative_to(folder)) for path in complete}
    versions = [path for path in complete if path.parent == folder / name]
    if not versions:
        known = prepared | known_names()
        inside = sorted(other for other in prepared if other.startswith(f"{name}/"))
        if inside:
            raise DataError(f"tfds:{name}: name its configuration: {', '.join(f'tfds:{other}' for other in inside)}")
        if name.split("/")[0] not in known:
            _unknown(name, prepared, known)
        raise NotPreparedError(
            f"tfds:{name}: not prepared in {folder}; prepare it once, with a network: {prepare_command(name, folder)}"
        )
    newest = max(versions, key=lambda path: [int(number) for number in path.name.split(".")])
    form = _read_json(newest / "dataset_info.json").get("fileFormat")
    if form != "array_record":
        raise DataError(
            f"tfds:{name}: {newest} was prepared as {form}, which cannot be read without TensorFlow; prepare it "
            f"as array_record: {prepare_command(name, folder / 'array_record')}, and set TFDS_DATA_DIR to that folder"
        )
    return newest


def _unknown(name: str, prepared: set[str], known: set[str]) -> None:
    try:
        choose("data set", name, known)
    except ConfigError as error:
        hint = str(error).partition("there are")[0].strip()
        listed = f"prepared are {', '.join(sorted(prepared))}" if prepared else "none is prepared"
        raise ConfigError(f"tfds: {hint} {listed} (TFDS_DATA_DIR), {len(known)} can be prepared") from None


def _read_json(path: pathlib.Path) -> dict[str, Any]:
    try:
        if path.stat().st_size > MAX_JSON_BYTES:
            raise ValueError(f"it has more than {MAX_JSON_BYTES:,} bytes")
        contents = json.loads(path.read_text(encoding="utf-8"))
        if not isinstance(contents, dict):
            raise ValueError("it is no JSON object")
        return contents
    except (OSError, ValueError, RecursionError) as error:
        raise DataError(f"{path}: cannot be read ({error}); prepare the data set again") from error


def _place(name: str) -> int:
    return int(name[name.rindex("[") + 1 : -1])


@dataclasses.dataclass(frozen=True, eq=False)
class Records(ImageStore):
    """The encoded images of one split of a prepared data set.

    Attributes:
      split: in the syntax of TFDS, e.g. "train[:90%]".
    """

    split: str

    @functools.cached_property
    def _source(self):
        import tensorflow_datasets as tfds

        builder = tfds.builder_from_directory(str(self.path))
        image, _ = self.fields
        decoders = {image: tfds.decode.SkipDecoding()}
        try:
            return builder.as_data_source(split=self.split, decoders=decoders)
        except (ValueError, AssertionError) as error:
            reason = " ".join(str(error).split())
            raise ConfigError(
                f"{self.where}: the split {self.split!r} is empty or not understood ({reason})"
            ) from error

    def _read(self, places: Sequence[int]) -> list[dict[str, Any]]:
        """The records at these places of the split.

        Raises:
          DataError: the prepared files are damaged.
        """
        try:
            records = self._source.__getitems__(places)
        except (RuntimeError, ValueError, OSError) as error:
            reason = " ".join(str(error).split())
            raise DataError(
                f"{self.where}: {self.path} is damaged ({reason}); delete it and prepare it again"
            ) from error
        if any(value is None for record in records for value in record.values()):
            raise DataError(f"{self.where}: {self.path} is damaged (empty records); delete it and prepare it again")
        return records

    @functools.cached_property
    def fields(self) -> tuple[str, str | None]:
        """The names of the image field and of the label field, which may be None."""
        features = _read_json(self.path / "features.json").get("featuresDict", {}).get("features", {})
        images = [name for name, feature in features.items() if "image" in feature]
        labels = [name for name, feature in features.items() if "classLabel" in feature]
        if not images:
            raise DataError(f"{self.where}: has no field of images; its fields are {', '.join(features) or 'none'}")
        image = "image" if "image" in images else images[0]
        return image, "label" if "label" in labels else labels[0] if len(labels) == 1 else None

    @property
    def stamp(self) -> str:
        """A hash of the split and of the names, sizes and times of the prepared files, in hexadecimal."""
        found = [(file.name, file.stat().st_size, file.stat().st_mtime_ns) for file in sorted(self.path.iterdir())]
        return hashlib.sha256(repr((self.split, found)).encode()).hexdigest()

    @functools.cached_property
    def names(self) -> list[str]:
        """SPLIT[i] for each record, because TFDS keeps no file names."""
        return [f"{self.split}[{index}]" for index in range(len(self._source))]

    def open(self, name: str) -> io.IOBase:
        """Opens the encoded image of one record."""
        return self.openers([name])[0]()

    def openers(self, names: Sequence[str]) -> list[Callable[[], io.IOBase]]:
        """A function for each record that opens its image; the records are read together, which is ten times faster."""
        records = self._read([_place(name) for name in names])
        return [functools.partial(io.BytesIO, record[self.fields[0]]) for record in records]

    def list_images(self) -> Listing:
        """All records with their labels, where the data set has labels in this split."""
        key = self.fields[1]
        if key is None:
            return Listing(tuple(self.names), None)
        import tensorflow_datasets as tfds

        names = tfds.builder_from_directory(str(self.path)).info.features[key].names
        count = len(self.names)
        blocks = (range(first, min(first + BLOCK_RECORDS, count)) for first in range(0, count, BLOCK_RECORDS))
        labels = np.array([record[key] for block in blocks for record in self._read(block)], np.int32)
        if labels.size and labels.min() < 0:  # TFDS writes -1 for an unknown label, in test splits of competitions
            return Listing(tuple(self.names), None)
        return Listing(tuple(self.names), labels, tuple(names), num_classes=len(names))


def open_records(text: str, split: str, folder: str = "") -> Records:
    """The records of NAME[/CONFIG][:SPLIT] for "train" or "test".

    A named SPLIT (such as train[:90%]) replaces the training split. The held-out images are those of the split "test",
    or "validation" where there is no test split.

    Raises:
      ConfigError, DataError: see `find`; or the data set has no such split.
    """
    name, _, chosen = text.partition(":")
    where = f"tfds:{text}"
    if not re.fullmatch(r"[\w/.-]+", name):
        raise ConfigError(f"{where}: must be tfds:NAME[/CONFIG][:SPLIT], e.g. tfds:mnist")
    path = find(name.rstrip("/"), data_dir(folder))
    splits = [record["name"] for record in _read_json(path / "dataset_info.json").get("splits", ())]
    training = chosen or "train"
    parts = re.findall(r"[A-Za-z_]\w*", training)  # ["train", "validation"] of "train[:50%]+validation"
    for part in parts or [training]:
        if part not in splits:
            raise ConfigError(
                f"{where}: has no split {part!r}; it has {', '.join(splits)}: write tfds:{name}:{splits[0]}"
            )
    if split != "train":
        held_out = [other for other in HELD_OUT if other in splits and other not in parts]
        if not held_out:
            raise DataError(f"{where}: no test images: its splits are {', '.join(splits)}{no_test(where)}")
        training = held_out[0]
    return Records(where, path, training)
