"""LPIPS v0.1 from weights files that the user provides: a trunk of torchvision (AlexNet or VGG16) and linear layers.

    trunk    alexnet-owt-7be5be79.pth or vgg16-397923af.pth, from https://download.pytorch.org/models/
    linear   lpips/weights/v0.1/{alex,vgg}.pth of github.com/richzhang/PerceptualSimilarity

The files are recognised by their hashes. (torchvision publishes the first eight digits of a trunk's hash, in the name
of its file.) Other weights are refused, because the numbers they give are not LPIPS.
"""

import dataclasses
import functools
import pathlib
from collections.abc import Mapping
from typing import Any

import jax
import numpy as np
from jaxtyping import Float, UInt8

from genmodels.errors import DataError
from genmodels.extractors.torch_file import read_tensors
from genmodels.extractors.weights import digest
from genmodels.metrics import lpips
from genmodels.models.lpips_trunks import TRUNKS, Trunk

# For each kind of trunk: (first digits of the trunk's sha256, sha256 of the linear layers).
KNOWN = {
    "alex": ("7be5be79", "df73285e35b22355a2df87cdb6b70b343713b667eddbda73e1977e0c860835c0"),
    "vgg": ("397923af", "a78928a0af1e5f0fcb1f3b9e8f8c3a2a5a3de244d830ad5c1feddc79b8432868"),
}
BATCH_SIZE = 32
MIN_SIDE = 32  # pixels; for smaller images the last feature map of a trunk is empty or nearly so
HOW_TO_GET_WEIGHTS = (
    "needs --lpips_trunk (alexnet-owt-7be5be79.pth or vgg16-397923af.pth from https://download.pytorch.org/models/) "
    "and --lpips_linear (lpips/weights/v0.1/alex.pth or vgg.pth of github.com/richzhang/PerceptualSimilarity)"
)


@dataclasses.dataclass(frozen=True, eq=False)
class Perceptual:
    """A callable that returns the LPIPS distance of pairs of uint8 images.

    Attributes:
      kind: "alex" or "vgg".
      variables: of the trunk.
      linear: channel weights, one array per tap.
      protocol: entries that identify the weights.
    """

    kind: str
    variables: Any
    linear: tuple[Float[np.ndarray, " _"], ...]
    protocol: Mapping[str, Any]

    @functools.cached_property
    def _run(self):
        trunk = Trunk(self.kind)

        def taps(variables, images):
            return trunk.apply(variables, lpips.scaled(images.astype(np.float32) / 127.5 - 1))

        return jax.jit(lambda v, linear, a, b: lpips.distance(taps(v, a), taps(v, b), linear))

    def __call__(
        self, a: UInt8[np.ndarray, "N height width _"], b: UInt8[np.ndarray, "_ _ _ _"]
    ) -> Float[np.ndarray, " N"]:
        """The distance of each pair, which is 0 for identical images; grey images are repeated for three channels.

        Raises:
          ValueError: shapes differ, a side is below 32 pixels, or images are neither grey nor RGB.
        """
        if a.shape != b.shape:
            raise ValueError(f"paired metrics need equal shapes, got {a.shape} and {b.shape}")
        if min(a.shape[1:3]) < MIN_SIDE or a.shape[3] not in (1, 3):
            found = "x".join(map(str, a.shape[1:]))
            raise ValueError(f"needs grey or RGB images of at least {MIN_SIDE} pixels a side, got images of {found}")
        parts = []
        for start in range(0, len(a), BATCH_SIZE):
            batches = (images[start : start + BATCH_SIZE] for images in (a, b))
            x, y = (np.broadcast_to(batch, (*batch.shape[:3], 3)) for batch in batches)
            parts.append(np.asarray(self._run(self.variables, self.linear, x, y)))
        return np.concatenate(parts)


def _kind_of(path: pathlib.Path, position: int, found: str) -> str:
    """The kind of trunk to which a file with the hash `found` belongs; position 0 is the trunk, 1 the linear layers."""
    for kind, hashes in KNOWN.items():
        if found.startswith(hashes[position]):
            return kind
    role = ("trunk", "linear layers")[position]
    raise DataError(f"{path}: sha256 is {found}, which is none of the known {role} of LPIPS; {HOW_TO_GET_WEIGHTS}")


@functools.cache
def load(trunk: str, linear: str) -> Perceptual:
    """Loads LPIPS from the paths of its two weights files; equal paths are loaded once.

    Raises:
      DataError: a path is empty, a file has an unknown hash, or the files belong to different trunks. The message says
        which files are needed and where they can be had.
    """
    if not (trunk and linear):
        raise DataError(HOW_TO_GET_WEIGHTS)
    paths = pathlib.Path(trunk), pathlib.Path(linear)
    hashes = digest(paths[0]), digest(paths[1])
    kinds = [_kind_of(path, position, found) for position, (path, found) in enumerate(zip(paths, hashes, strict=True))]
    if kinds[0] != kinds[1]:
        raise DataError(
            f"--lpips_trunk={trunk} is for {kinds[0]}, --lpips_linear={linear} is for {kinds[1]}; "
            "both must be for the same network"
        )
    try:
        return assembled(kinds[0], read_tensors(paths[0]), read_tensors(paths[1]), hashes)
    except ValueError as error:
        raise DataError(str(error)) from error


def assembled(
    kind: str, trunk: Mapping[str, np.ndarray], linear: Mapping[str, np.ndarray], hashes: tuple[str, str]
) -> Perceptual:
    """LPIPS from state dicts of torchvision's network and of the linear layers.

    Args:
      kind: "alex" or "vgg".
      trunk, linear: tensors by name.
      hashes: sha256 of the two files, for the protocol.
    Raises:
      ValueError: an entry is missing.
    """
    try:
        params = {
            f"features_{index}": {
                "kernel": trunk[f"features.{index}.weight"].transpose(2, 3, 1, 0),
                "bias": trunk[f"features.{index}.bias"],
            }
            for index, *_ in TRUNKS[kind]
        }
        taps = sum(tapped for *_, tapped in TRUNKS[kind])
        weights = tuple(linear[f"lin{tap}.model.1.weight"].reshape(-1) for tap in range(taps))
    except KeyError as error:
        raise ValueError(f"the weights of LPIPS lack {error}") from error
    protocol = {
        "lpips": f"v0.1, {kind}",
        "value_range": "[-1, 1]",
        "lpips_trunk_sha256": hashes[0],
        "lpips_linear_sha256": hashes[1],
    }
    return Perceptual(kind, {"params": params}, weights, protocol)
