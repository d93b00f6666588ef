"""PSNR, SSIM and MS-SSIM of pairs of uint8 images, one value per image; the data range is always 255.

    PSNR     -10 log10 mean((a - b)^2 / 255^2)                  infinite for identical images
    SSIM     mean of l cs, with l = (2 m_a m_b + C_1) / (m_a^2 + m_b^2 + C_1)
                           and cs = (2 s_ab + C_2) / (s_a^2 + s_b^2 + C_2)           (Wang et al. 2004)
    MS-SSIM  product over five scales of mean cs (at the coarsest: of mean l cs), each to the power of its entry in
             SCALE_WEIGHTS                                                              (Wang et al. 2003)

Means m and (co)variances s are taken under a Gaussian window of 11 taps with sigma 1.5, for windows that lie within the
image. C_i = (K_i)^2 with K_1 = 0.01, K_2 = 0.03, for images scaled to [0, 1]; channels are averaged. Everything is
computed in float64, because variances are differences of nearly equal numbers: in flat, light regions their float32
errors exceed C_2.
"""

import functools
import math

import einops
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, UInt8

Pair = UInt8[np.ndarray, "_ _ _ _"]  # [N, height, width, channel]
Planes = Float[Array, "_ _ _"]  # [image and channel, height, width]

SSIM_WINDOW = 11
SIGMA = 1.5
K1, K2 = 0.01, 0.03
SCALE_WEIGHTS = (0.0448, 0.2856, 0.3001, 0.2363, 0.1333)  # finest scale first
MS_SSIM_MIN_SIDE = SSIM_WINDOW * 2 ** (len(SCALE_WEIGHTS) - 1)  # pixels
BATCH_VALUES = 2**22  # pixel values, over all channels, that are compared at once


def ssim_window(height: int, width: int) -> int:
    """Taps of the Gaussian window: 11, or for smaller images the largest odd number that fits."""
    fits = min(SSIM_WINDOW, height, width)
    return fits - (fits + 1) % 2


def _filtered(planes: Planes, taps: int) -> Planes:
    """The planes filtered by the Gaussian window, as products with a banded matrix on either side."""
    weights = np.exp(-0.5 * ((np.arange(taps) - (taps - 1) / 2) / SIGMA) ** 2)

    def bands(size):
        rows = [np.pad(weights / weights.sum(), (row, size - taps - row)) for row in range(size - taps + 1)]
        return jnp.asarray(np.stack(rows))

    rows, columns = (bands(size) for size in planes.shape[1:])
    return jnp.einsum("ih,nhw,jw->nij", rows, planes, columns)


def _ssim_maps(a: Planes, b: Planes, taps: int) -> tuple[Planes, Planes]:
    """l and cs (see the head of the module) at every window."""
    mean_a, mean_b = _filtered(a, taps), _filtered(b, taps)
    variances = _filtered(a * a + b * b, taps) - mean_a**2 - mean_b**2
    covariance = _filtered(a * b, taps) - mean_a * mean_b
    luminance = (2 * mean_a * mean_b + K1**2) / (mean_a**2 + mean_b**2 + K1**2)
    return luminance, (2 * covariance + K2**2) / (variances + K2**2)


def _planes(images: UInt8[Array, "_ _ _ _"]) -> Planes:
    """The channels of all images as separate planes in [0, 1]."""
    return einops.rearrange(images.astype(jnp.float64) / 255, "n h w c -> (n c) h w")


def _halved(planes: Planes) -> Planes:
    """The means of two by two pixels; an odd side is first extended by repeating its last pixel, as in tf.image."""
    _, height, width = planes.shape
    planes = jnp.pad(planes, ((0, 0), (0, height % 2), (0, width % 2)), mode="edge")
    return einops.reduce(planes, "n (h 2) (w 2) -> n h w", "mean")


@jax.jit
def _squares(a, b):
    """Sums of squared differences over each row of pixels, exact in int32 up to 33,000 values per row."""
    return jnp.sum((a.astype(jnp.int32) - b.astype(jnp.int32)) ** 2, axis=(2, 3))


@functools.partial(jax.jit, static_argnums=2)
def _ssim(a, b, taps):
    luminance, structure = _ssim_maps(_planes(a), _planes(b), taps)
    return jnp.mean((luminance * structure).reshape(len(a), -1), axis=1)


@jax.jit
def _ms_ssim(a, b):
    count, value = len(a), jnp.ones(())
    a, b = _planes(a), _planes(b)
    for scale, weight in enumerate(SCALE_WEIGHTS):
        luminance, structure = _ssim_maps(a, b, SSIM_WINDOW)
        last = scale == len(SCALE_WEIGHTS) - 1
        term = jnp.mean(luminance * structure if last else structure, axis=(1, 2))
        value = value * jnp.maximum(term, 0.0) ** weight
        a, b = _halved(a), _halved(b)
    return jnp.mean(value.reshape(count, -1), axis=1)


def _per_image(function, a: Pair, b: Pair, *options) -> np.ndarray:
    if a.shape != b.shape:
        raise ValueError(f"paired metrics need equal shapes, got {a.shape} and {b.shape}")
    if not len(a):
        raise ValueError("paired metrics need at least one image")
    rows = max(1, BATCH_VALUES // a[0].size)
    parts = ((a[i : i + rows], b[i : i + rows]) for i in range(0, len(a), rows))
    with jax.enable_x64(True):
        return np.concatenate([np.asarray(function(*part, *options)) for part in parts])


def psnr(a: Pair, b: Pair) -> Float[np.ndarray, " N"]:
    """Peak signal-to-noise ratio of each pair of images in dB, infinite for identical images.

    Raises:
      ValueError: shapes differ, or there are no images.
    """
    squares = _per_image(_squares, a, b).sum(axis=1, dtype=np.float64)
    with np.errstate(divide="ignore"):
        return -10 * np.log10(squares / (255.0**2 * a[0].size))


def mean_psnr(values: Float[np.ndarray, " N"]) -> tuple[float, int]:
    """The mean over the pairs whose images differ, in dB, and the number of pairs whose images are equal.

    The PSNR of equal images is infinite, and so would be the mean of any set that has one such pair. The mean is
    infinite if all pairs are equal.
    """
    differ = np.isfinite(values)
    return float(np.mean(values[differ])) if differ.any() else math.inf, int(np.sum(~differ))


def ssim(a: Pair, b: Pair) -> Float[np.ndarray, " N"]:
    """Structural similarity of each pair of images, in [-1, 1] and 1 for identical images.

    Images with a side below 11 pixels have a smaller window (`ssim_window`); their values are comparable only with
    values for the same window.

    Raises:
      ValueError: shapes differ, or there are no images.
    """
    return _per_image(_ssim, a, b, ssim_window(*a.shape[1:3]))


def ms_ssim(a: Pair, b: Pair) -> Float[np.ndarray, " N"]:
    """Multi-scale structural similarity of each pair of images, in [0, 1] and 1 for identical images.

    Raises:
      ValueError: shapes differ, there are no images, or a side is below 176 pixels.
    """
    if min(a.shape[1:3]) < MS_SSIM_MIN_SIDE:
        height, width = a.shape[1:3]
        raise ValueError(
            f"MS-SSIM halves images four times and needs sides of at least {MS_SSIM_MIN_SIDE} pixels, "
            f"got images of {height}x{width}"
        )
    return _per_image(_ms_ssim, a, b)
