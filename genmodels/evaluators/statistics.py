"""Means and covariances of features on disk: statistics files, which other tools use too, and our cache.

A statistics file is an .npz with `mu` [d] and `sigma` [d, d] (divisor N - 1), the layout of pytorch-fid, clean-fid and
the original FID code. Files that genmodels writes also state the number of images, the extractor and the resize.
"""

import hashlib
import json
import reprlib
import zipfile
from typing import Any

import jax
import numpy as np

from genmodels.data import cache
from genmodels.data.npz import open_npz
from genmodels.errors import DataError
from genmodels.evaluators.base import Statistics
from genmodels.extractors import NAMES, Extractor
from genmodels.metrics.moments import Gaussian, Moments

FORMAT = 1  # of the cached entries; entries of another format are ignored


def identity(extractor: Extractor) -> dict[str, Any]:
    """The attributes of an extractor that must be equal for two sets of features to be comparable."""
    return {key: getattr(extractor, key) for key in ("id", "sha256", "layer", "dimension", "resize")}


def is_statistics(path: str) -> bool:
    """Whether a path is a statistics file, which is recognised by the names of its arrays."""
    try:
        with zipfile.ZipFile(path) as archive:
            return {"mu.npy", "sigma.npy"} <= set(archive.namelist())
    except (OSError, ValueError, zipfile.BadZipFile):
        return False


def read(flag: str, path: str) -> Statistics:
    """Reads a statistics file.

    Args:
      flag: with which the file was given, e.g. "--reference", for messages and the protocol.
      path: of the file.
    Raises:
      DataError: the file cannot be read or is invalid; the message names it and says why.
    """
    role = flag.lstrip("-")
    with open_npz(path, f"{flag}={path}") as file:
        mu, sigma = file["mu"], file["sigma"]
        found = {name: file.get(name) for name in ("count", "extractor", "fingerprint")}
    try:
        made_with = _made_with(found["extractor"])
        images = _text("fingerprint", found["fingerprint"])
        gaussian = Gaussian.given(mu, sigma, _count(found["count"]))
    except ValueError as error:
        raise DataError(f"{flag}={path}: {error}; make it again with genmodels.statistics") from error
    with open(path, "rb") as file:
        sha256 = hashlib.file_digest(file, "sha256").hexdigest()
    origin = {role: path, f"{role}_statistics_sha256": sha256}
    return Statistics(gaussian, made_with, origin | ({f"{role}_sha256": images} if images else {}))


def _count(array: np.ndarray | None) -> int | None:
    """The number of images; None where the file does not state it. Raises ValueError if it is no such number."""
    if array is None:
        return None
    if array.size != 1 or not np.issubdtype(array.dtype, np.integer) or array.item() < 2:
        raise ValueError(f"count must be a whole number of images, at least 2; it is {_shown(array)}")
    return int(array.item())


def _text(name: str, array: np.ndarray | None) -> str | None:
    """The text in an array; None where there is no array. Raises ValueError if it is no text."""
    if array is not None and (array.shape or array.dtype.kind != "U"):
        raise ValueError(f"{name} must be text; it is {_shown(array)}")
    return None if array is None else str(array)


def _made_with(array: np.ndarray | None) -> dict[str, Any] | None:
    """The `identity` of the extractor; None where the file does not state it. Raises ValueError if it is none."""
    if array is None:
        return None
    try:
        found = json.loads(_text("extractor", array) or "")
    except (ValueError, RecursionError):
        found = None
    if not isinstance(found, dict):
        raise ValueError(f"extractor must be the JSON object that genmodels.statistics writes; it is {_shown(array)}")
    return found


def _shown(array: np.ndarray) -> str:
    """The one value of an array, or its type and shape, for messages."""
    return reprlib.repr(array.item()) if array.size == 1 else f"{array.dtype} {array.shape}"


def arrays(gaussian: Gaussian, extractor: Extractor, fingerprint: str) -> dict[str, np.ndarray]:
    """The arrays of a statistics file, by name.

    Args:
      gaussian: fitted to the features.
      extractor: that gave the features.
      fingerprint: of the images.
    """
    return {
        "mu": gaussian.mean,
        "sigma": gaussian.full(),
        "count": np.array(gaussian.count),
        "extractor": np.array(json.dumps(identity(extractor))),
        "fingerprint": np.array(fingerprint),
    }


def check(statistics: Statistics, flag: str, extractor: Extractor) -> None:
    """Raises DataError unless the statistics can be compared with features of this extractor."""
    where, expected = f"{flag}={statistics.origin[flag.lstrip('-')]}", identity(extractor)
    if len(statistics.gaussian.mean) != extractor.dimension:
        raise DataError(
            f"{where}: statistics of {len(statistics.gaussian.mean)} dimensions; the extractor {extractor.id} has "
            f"{extractor.dimension}: name the extractor and layer that made them"
        )
    made_with = statistics.extractor
    if made_with is not None and made_with != expected:
        key = next(key for key in expected if made_with.get(key) != expected[key])
        raise DataError(
            f"{where}: made with {key} {made_with.get(key)!r}, not {expected[key]!r}; make it again with "
            "genmodels.statistics"
        )


def _entry(extractor: Extractor, fingerprint: str) -> str | None:
    """The name of the cached moments of a set of images; None if they are not cached."""
    if not fingerprint or extractor.id not in NAMES:  # a user's own extractor may change without changing its name
        return None
    return cache.key("moments", FORMAT, jax.default_backend(), sorted(identity(extractor).items()), fingerprint)


def load_moments(extractor: Extractor, fingerprint: str) -> Moments | None:
    """The cached moments of the images with this fingerprint; None if they are not in the cache or damaged."""
    name = _entry(extractor, fingerprint)
    entry = name and cache.read(name, lambda shape: False)
    if not entry:
        return None
    info, found, _ = entry
    kept = found.get("scatter", found.get("rows"))
    if kept is None or cache.checksum(kept) != info.get("kept") or found["mean"].shape != (extractor.dimension,):
        return None
    return Moments(info["count"], found["mean"], kept)


def keep_moments(extractor: Extractor, fingerprint: str, moments: Moments) -> None:
    """Writes the moments of the images with this fingerprint to the cache, if they are cached at all."""
    name = _entry(extractor, fingerprint)
    if name is None:
        return
    info = {"count": moments.count, "shape": [], "kept": cache.checksum(moments.kept)}
    kind = "rows" if moments.keeps_rows else "scatter"
    cache.write(name, info, {"mean": moments.mean, kind: moments.kept}, None)
