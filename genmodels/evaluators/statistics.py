"""Means and covariances of features on disk: statistics files as other tools have them, and a cache of our own.

A statistics file is an .npz with `mu` [d] and `sigma` [d, d] (divisor N - 1), the layout of pytorch-fid, clean-fid and
the original FID code. Ours also say how many images they are of, and with which extractor and resize they were made.
"""

import hashlib
import json
import pathlib
import zipfile
from typing import Any

import jax
import numpy as np

from genmodels.data import cache
from genmodels.data.arrays import open_npz
from genmodels.errors import DataError
from genmodels.evaluators.base import Statistics
from genmodels.extractors import NAMES, Extractor
from genmodels.metrics.moments import Gaussian, Moments

FORMAT = 1  # of the cache; another one makes what is kept there useless


def identity(extractor: Extractor) -> dict[str, Any]:
    """What makes two sets of features comparable."""
    return {key: getattr(extractor, key) for key in ("id", "sha256", "layer", "dimension", "resize")}


def is_statistics(path: str) -> bool:
    """Whether a path is a statistics file, by the names of its arrays."""
    try:
        with zipfile.ZipFile(path) as archive:
            return {"mu.npy", "sigma.npy"} <= set(archive.namelist())
    except (OSError, zipfile.BadZipFile):
        return False


def read(flag: str, path: str) -> Statistics:
    """What a statistics file holds.

    Args:
      flag: for messages and the protocol, e.g. "--reference".
    Raises:
      DataError: names the file and what is wrong with it.
    """
    role = flag.lstrip("-")
    with open_npz(path, f"{flag}={path}") as file:
        mu, sigma = file["mu"], file["sigma"]
        count = int(file["count"]) if "count" in file else None
        made_with = json.loads(str(file["extractor"])) if "extractor" in file else None
        images = str(file["fingerprint"]) if "fingerprint" in file else None
    try:
        gaussian = Gaussian.given(mu, sigma, count)
    except (ValueError, TypeError) as error:
        raise DataError(f"{flag}={path}: {error}") from error
    sha256 = hashlib.sha256(pathlib.Path(path).read_bytes()).hexdigest()
    origin = {role: path, f"{role}_statistics_sha256": sha256}
    return Statistics(gaussian, made_with, origin | ({f"{role}_sha256": images} if images else {}))


def arrays(gaussian: Gaussian, extractor: Extractor, fingerprint: str) -> dict[str, np.ndarray]:
    """The arrays of a statistics file."""
    return {
        "mu": gaussian.mean,
        "sigma": gaussian.full(),
        "count": np.array(gaussian.count),
        "extractor": np.array(json.dumps(identity(extractor))),
        "fingerprint": np.array(fingerprint),
    }


def check(statistics: Statistics, flag: str, extractor: Extractor) -> None:
    """Raises DataError unless the file can stand beside features of this extractor."""
    where, mine = f"{flag}={statistics.origin[flag.lstrip('-')]}", identity(extractor)
    if len(statistics.gaussian.mean) != extractor.dimension:
        raise DataError(
            f"{where}: statistics of {len(statistics.gaussian.mean)} dimensions; the extractor {extractor.id} has "
            f"{extractor.dimension}: name the extractor and layer that made them"
        )
    made_with = statistics.extractor
    if made_with is not None and made_with != mine:
        other = next(key for key in mine if made_with.get(key) != mine[key])
        raise DataError(f"{where}: made with {other} {made_with.get(other)!r}, not {mine[other]!r}: make it anew")


def _entry(extractor: Extractor, fingerprint: str) -> str | None:
    """The name of the moments of a set of images in the cache; None where they are not kept."""
    if not fingerprint or extractor.id not in NAMES:  # a user's own network may change under the same name
        return None
    return cache.key("moments", FORMAT, jax.default_backend(), sorted(identity(extractor).items()), fingerprint)


def load_moments(extractor: Extractor, fingerprint: str) -> Moments | None:
    """The moments of images of this fingerprint, if they are in the cache and whole."""
    name = _entry(extractor, fingerprint)
    entry = name and cache.read(name, lambda shape: False)
    if not entry:
        return None
    info, found, _ = entry
    rows, scatter = found.get("rows"), found.get("scatter")
    kept = rows if scatter is None else scatter
    if kept is None or cache.checksum(kept) != info.get("kept") or found["mean"].shape != (extractor.dimension,):
        return None
    return Moments(info["count"], found["mean"], rows, scatter)


def keep_moments(extractor: Extractor, fingerprint: str, moments: Moments) -> None:
    """Puts them there."""
    name = _entry(extractor, fingerprint)
    if name is None:
        return
    kept = {"rows": moments.rows} if moments.scatter is None else {"scatter": moments.scatter}
    info = {"count": moments.count, "shape": [], "kept": cache.checksum(next(iter(kept.values())))}
    cache.write(name, info, {"mean": moments.mean, **kept}, None)
