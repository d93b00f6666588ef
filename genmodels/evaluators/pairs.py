"""Metrics that compare image i of one set with image i of another: PSNR, SSIM, MS-SSIM and LPIPS."""

import functools
from collections.abc import Iterator
from typing import Any

import numpy as np

from genmodels.errors import DataError
from genmodels.evaluators.base import Context, Options, Result
from genmodels.extractors import perceptual
from genmodels.metrics import image

WINDOW = {"sigma": image.SIGMA, "k1": image.K1, "k2": image.K2, "crop": "valid"}


def pair_results(
    name: str, a: np.ndarray, b: np.ndarray, protocol: dict[str, Any], options: Options
) -> Iterator[Result]:
    """Yields the mean over images of a paired metric.

    Args:
      name: psnr, ssim, ms_ssim or lpips.
      a, b: uint8 [N, height, width, channel].
      protocol: entries to which those of the metric are added.
      options: LPIPS' weights files.
    Raises:
      DataError: shapes differ, images are too small, or the weights of LPIPS are missing.
    """
    details: dict[str, Any] = {"average": "mean of per-image values", "n_reference": len(b)}
    try:
        if name == "lpips":
            model = perceptual.load(options.lpips_trunk, options.lpips_linear)
            values, details = model(a, b), {**details, **model.protocol}
        else:
            values = {"psnr": image.psnr, "ssim": image.ssim, "ms_ssim": image.ms_ssim}[name](a, b)
            details |= {"data_range": "255 (uint8)"}
        if name in ("ssim", "ms_ssim"):
            details |= {"window": image.ssim_window(*a.shape[1:3]), **WINDOW}
        if name == "ms_ssim":
            details |= {"scales": list(image.SCALE_WEIGHTS)}
    except (ValueError, DataError) as error:
        raise DataError(f"metric {name}: {error}") from error
    yield Result(name, float(np.mean(values)), protocol | details)


def _between(name: str, context: Context) -> Iterator[Result]:
    generated, reference = map(context.require_images, ("generated", "reference"))
    protocol = {**context.protocol, **generated.origin, **reference.origin}
    yield from pair_results(name, generated.gathered(), reference.gathered(), protocol, context.options)


# Each measures the metric of its name between generated image i and reference image i.
psnr, ssim, ms_ssim, lpips = (functools.partial(_between, name) for name in ("psnr", "ssim", "ms_ssim", "lpips"))
