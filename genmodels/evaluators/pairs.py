"""Metrics that compare image i of one set with image i of another: PSNR, SSIM, MS-SSIM and LPIPS.

Images of two folders are paired by their places in natural order. Where names show another pairing, it is refused.
"""

import functools
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from genmodels.core.names import without_leading_zeros
from genmodels.errors import DataError
from genmodels.evaluators.base import Context, ImageSet, Options, Result
from genmodels.extractors import perceptual
from genmodels.metrics import image

WINDOW = {"sigma": image.SIGMA, "k1": image.K1, "k2": image.K2, "crop": "valid"}


def _plain(files: Sequence[str], *, with_folders: bool) -> list[str]:
    """The names of files without suffix and without leading zeros in their numbers."""
    names = [file if with_folders else file.rpartition("/")[2] for file in files]
    return [without_leading_zeros(name.rpartition(".")[0] or name) for name in names]


def check_names(generated: ImageSet, reference: ImageSet) -> str:
    """A warning where the names of images that are paired by their places differ; "" where they agree or are unknown.

    img_1.png agrees with img_01.jpg.

    Raises:
      DataError: an image has its namesake at another place of the other set, so that the pairing is wrong.
    """
    a, b = generated.files, reference.files
    if not a or not b or len(a) != len(b):
        return ""
    deep = all("/" in name for name in (*a, *b))
    ours, theirs = _plain(a, with_folders=deep), _plain(b, with_folders=deep)
    row = next((row for row in range(len(a)) if ours[row] != theirs[row]), None)
    if row is None:
        return ""
    pair = f"image {row} is {a[row]} of --generated and {b[row]} of --reference"
    first_ours, first_theirs = ({name: row for row, name in reversed([*enumerate(names)])} for names in (ours, theirs))
    moved = [name for name, row in first_ours.items() if first_theirs.get(name, row) != row]
    if moved:
        raise DataError(
            f"images are paired by their places, but {pair}, and {moved[-1]} is image {first_ours[moved[-1]]} of the "
            f"one and {first_theirs[moved[-1]]} of the other: give both sets the same names"
        )
    return f"images are paired by their places, and their names differ: {pair}"


def pair_results(
    name: str, a: np.ndarray, b: np.ndarray, protocol: dict[str, Any], options: Options
) -> Iterator[Result]:
    """Yields the mean over images of a paired metric; that of PSNR leaves out equal pairs, see `image.mean_psnr`.

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
    mean = float(np.mean(values))
    if name == "psnr":
        mean, details["exact_pairs"] = image.mean_psnr(values)
    yield Result(name, mean, protocol | details)


def _between(name: str, context: Context) -> Iterator[Result]:
    generated, reference = map(context.require_images, ("generated", "reference"))
    protocol = {**context.protocol, **generated.origin, **reference.origin}
    if warning := check_names(generated, reference):
        protocol["warning"] = warning
    yield from pair_results(name, generated.gathered(), reference.gathered(), protocol, context.options)


# Each measures the metric of its name between generated image i and reference image i.
psnr, ssim, ms_ssim, lpips = (functools.partial(_between, name) for name in ("psnr", "ssim", "ms_ssim", "lpips"))
