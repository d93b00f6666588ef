"""PSNR and SSIM of image i against image i, with everything about how they were computed."""

from collections.abc import Iterator
from typing import Any

import numpy as np

from genmodels.errors import DataError
from genmodels.evaluators.base import Context, Result
from genmodels.metrics import image


def pair_results(name: str, a: np.ndarray, b: np.ndarray, protocol: dict[str, Any]) -> Iterator[Result]:
    """The mean over images of the paired metric `name` ("psnr" or "ssim").

    Raises:
      DataError: counts or sizes differ.
    """
    details = {"data_range": 1.0, "average": "mean of per-image values", "n_reference": len(b)}
    if name == "ssim":
        details |= {"window": image.ssim_window(*a.shape[1:3]), "sigma": 1.5, "k1": 0.01, "k2": 0.03, "crop": "valid"}
    try:
        values = {"psnr": image.psnr, "ssim": image.ssim}[name](a, b)
    except ValueError as error:
        raise DataError(f"{name}: {error}") from error
    yield Result(name, float(np.mean(values)), protocol | details)


def _between(name: str, context: Context) -> Iterator[Result]:
    protocol = {**context.protocol, **context.generated.origin, **context.reference.origin}
    yield from pair_results(name, context.generated.images, context.reference.images, protocol)


def psnr(context: Context) -> Iterator[Result]:
    """PSNR of generated image i against reference image i."""
    yield from _between("psnr", context)


def ssim(context: Context) -> Iterator[Result]:
    """SSIM of generated image i against reference image i."""
    yield from _between("ssim", context)
