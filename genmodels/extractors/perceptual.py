"""LPIPS v0.1 from weights that the user has: a trunk of torchvision (AlexNet or VGG16) and its linear layers.

    trunk    alexnet-owt-7be5be79.pth or vgg16-397923af.pth, from https://download.pytorch.org/models/
    linear   lpips/weights/v0.1/{alex,vgg}.pth of github.com/richzhang/PerceptualSimilarity

They are known by their hashes (of the trunks torchvision publishes the first eight digits, in their names). Other
weights give other numbers, which nobody should call LPIPS, and are refused.
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

# kind: (first digits of the trunk's sha256, sha256 of the linear layers)
KNOWN = {
    "alex": ("7be5be79", "df73285e35b22355a2df87cdb6b70b343713b667eddbda73e1977e0c860835c0"),
    "vgg": ("397923af", "a78928a0af1e5f0fcb1f3b9e8f8c3a2a5a3de244d830ad5c1feddc79b8432868"),
}
BATCH = 32
LEAST = 32  # pixels a side: below, a trunk's last map is empty or nearly so
NEEDED = (
    "needs --lpips_trunk (alexnet-owt-7be5be79.pth or vgg16-397923af.pth from https://download.pytorch.org/models/) "
    "and --lpips_linear (lpips/weights/v0.1/alex.pth or vgg.pth of github.com/richzhang/PerceptualSimilarity)"
)


@dataclasses.dataclass(frozen=True, eq=False)
class Perceptual:
    """The distance of image pairs; uint8 in.

    Attributes:
      kind: "alex" or "vgg".
      variables: of the trunk.
      linear: weights of the channels, one array a tap.
      protocol: what the weights are.
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
        """One distance a pair, 0 for identical images; grey images are repeated for three channels.

        Raises:
          ValueError: shapes differ, or images are below 32 pixels or have transparency.
        """
        if a.shape != b.shape:
            raise ValueError(f"paired metrics need equal shapes, got {a.shape} and {b.shape}")
        if min(a.shape[1:3]) < LEAST or a.shape[3] not in (1, 3):
            raise ValueError(f"takes grey or RGB images of {LEAST} pixels a side and more, got {a.shape[1:]}")
        parts = []
        for start in range(0, len(a), BATCH):
            x, y = (np.broadcast_to(z[start : start + BATCH], (*z[start : start + BATCH].shape[:3], 3)) for z in (a, b))
            parts.append(np.asarray(self._run(self.variables, self.linear, x, y)))
        return np.concatenate(parts)


def _kind_of(path: pathlib.Path, place: int, found: str) -> str:
    for kind, hashes in KNOWN.items():
        if found.startswith(hashes[place]):
            return kind
    what = ("trunk", "linear layers")[place]
    raise DataError(f"{path}: sha256 is {found}, which is none of the known {what} of LPIPS; {NEEDED}")


@functools.cache
def load(trunk: str, linear: str) -> Perceptual:
    """LPIPS with the weights at these paths.

    Raises:
      DataError: a path is missing, or its file is not what it should be; says what is needed.
    """
    if not (trunk and linear):
        raise DataError(NEEDED)
    paths = pathlib.Path(trunk), pathlib.Path(linear)
    hashes = tuple(digest(path) for path in paths)
    kinds = [_kind_of(path, place, found) for place, (path, found) in enumerate(zip(paths, hashes, strict=True))]
    if kinds[0] != kinds[1]:
        raise DataError(f"{trunk} is of {kinds[0]} and {linear} of {kinds[1]}; they must be of one network")
    try:
        return assembled(kinds[0], *(read_tensors(path) for path in paths), hashes)
    except ValueError as error:
        raise DataError(str(error)) from error


def assembled(
    kind: str, trunk: Mapping[str, np.ndarray], linear: Mapping[str, np.ndarray], hashes: tuple[str, str]
) -> Perceptual:
    """From state dicts of torchvision's network and of the linear layers.

    Raises:
      ValueError: an entry is missing.
    """
    try:
        params = {
            f"features_{place}": {
                "kernel": trunk[f"features.{place}.weight"].transpose(2, 3, 1, 0),
                "bias": trunk[f"features.{place}.bias"],
            }
            for place, *_ in TRUNKS[kind]
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
