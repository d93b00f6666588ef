"""PSNR, SSIM and MS-SSIM of image pairs, per image, jitted; uint8 in, so the data range is 255 and never guessed.

    PSNR     -10 log10 mean((a - b)^2 / 255^2)                  infinite for identical images
    SSIM     mean of l cs, with l = (2 m_a m_b + C_1) / (m_a^2 + m_b^2 + C_1)
                           and cs = (2 s_ab + C_2) / (s_a^2 + s_b^2 + C_2)           (Wang et al. 2004)
    MS-SSIM  mean of l at the coarsest of five scales, times cs at each, to the powers of WEIGHTS (Wang et al. 2003)

Moments m, s are under 11 Gaussian taps of sigma 1.5, valid windows only, C_i = (K_i)^2 with K_1 = 0.01, K_2 = 0.03 and
images in [0, 1]; channels are averaged. In float64: variances are differences of nearly equal numbers, which in float32
are wrong by more than C_2 allows where an image is flat and light.
"""

import functools

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
WEIGHTS = (0.0448, 0.2856, 0.3001, 0.2363, 0.1333)  # of the scales, finest first
LEAST = SSIM_WINDOW * 2 ** (len(WEIGHTS) - 1)  # pixels a side for MS-SSIM
VALUES = 2**22  # of pixels and channels that are compared at once


def ssim_window(height: int, width: int) -> int:
    """Taps of the Gaussian: 11, or on smaller images the largest odd number that fits."""
    fits = min(SSIM_WINDOW, height, width)
    return fits - (fits + 1) % 2


def _filtered(planes: Planes, taps: int) -> Planes:
    """Under the Gaussian: a product with a banded matrix from either side."""
    weights = np.exp(-0.5 * ((np.arange(taps) - (taps - 1) / 2) / SIGMA) ** 2)

    def bands(size):
        rows = [np.pad(weights / weights.sum(), (row, size - taps - row)) for row in range(size - taps + 1)]
        return jnp.asarray(np.stack(rows))

    rows, columns = (bands(size) for size in planes.shape[1:])
    return jnp.einsum("ih,nhw,jw->nij", rows, planes, columns)


def _ssim_maps(a: Planes, b: Planes, taps: int) -> tuple[Planes, Planes]:
    """l and cs at every window."""
    mean_a, mean_b = _filtered(a, taps), _filtered(b, taps)
    variances = _filtered(a * a + b * b, taps) - mean_a**2 - mean_b**2
    covariance = _filtered(a * b, taps) - mean_a * mean_b
    luminance = (2 * mean_a * mean_b + K1**2) / (mean_a**2 + mean_b**2 + K1**2)
    return luminance, (2 * covariance + K2**2) / (variances + K2**2)


def _planes(images: UInt8[Array, "_ _ _ _"]) -> Planes:
    """Every channel of every image in [0, 1]."""
    return einops.rearrange(images.astype(jnp.float64) / 255, "n h w c -> (n c) h w")


def _halved(planes: Planes) -> Planes:
    """Means of two by two pixels; an odd side repeats its last, as tf.image does."""
    _, height, width = planes.shape
    planes = jnp.pad(planes, ((0, 0), (0, height % 2), (0, width % 2)), mode="edge")
    return einops.reduce(planes, "n (h 2) (w 2) -> n h w", "mean")


@jax.jit
def _squares(a, b):
    """Sums of squared differences by row of pixels, exact up to 33,000 values a row."""
    return jnp.sum((a.astype(jnp.int32) - b.astype(jnp.int32)) ** 2, axis=(2, 3))


@functools.partial(jax.jit, static_argnums=2)
def _ssim(a, b, taps):
    luminance, structure = _ssim_maps(_planes(a), _planes(b), taps)
    return jnp.mean((luminance * structure).reshape(len(a), -1), axis=1)


@jax.jit
def _ms_ssim(a, b):
    count, value = len(a), 1.0
    a, b = _planes(a), _planes(b)
    for scale, weight in enumerate(WEIGHTS):
        luminance, structure = _ssim_maps(a, b, SSIM_WINDOW)
        last = scale == len(WEIGHTS) - 1
        term = jnp.mean(luminance * structure if last else structure, axis=(1, 2))
        value = value * jnp.maximum(term, 0.0) ** weight
        a, b = _halved(a), _halved(b)
    return jnp.mean(value.reshape(count, -1), axis=1)


def _each(function, a: Pair, b: Pair, *options) -> np.ndarray:
    if a.shape != b.shape:
        raise ValueError(f"paired metrics need equal shapes, got {a.shape} and {b.shape}")
    if not len(a):
        raise ValueError("paired metrics need at least one image")
    rows = max(1, VALUES // a[0].size)
    parts = ((a[i : i + rows], b[i : i + rows]) for i in range(0, len(a), rows))
    with jax.enable_x64(True):
        return np.concatenate([np.asarray(function(*part, *options)) for part in parts])


def psnr(a: Pair, b: Pair) -> Float[np.ndarray, " N"]:
    """Peak signal-to-noise ratio in dB.

    Raises:
      ValueError: shapes differ.
    """
    squares = _each(_squares, a, b).sum(axis=1, dtype=np.float64)
    with np.errstate(divide="ignore"):
        return -10 * np.log10(squares / (255.0**2 * a[0].size))


def ssim(a: Pair, b: Pair) -> Float[np.ndarray, " N"]:
    """Structural similarity, 1 for identical images.

    Below 11 pixels the window shrinks (`ssim_window`), and the value compares only with others of that window.

    Raises:
      ValueError: shapes differ.
    """
    return _each(_ssim, a, b, ssim_window(*a.shape[1:3]))


def ms_ssim(a: Pair, b: Pair) -> Float[np.ndarray, " N"]:
    """Multi-scale structural similarity, 1 for identical images.

    Raises:
      ValueError: shapes differ, or a side below 176 pixels.
    """
    if min(a.shape[1:3]) < LEAST:
        raise ValueError(f"MS-SSIM halves images four times and needs {LEAST} pixels a side, these have {a.shape[1:3]}")
    return _each(_ms_ssim, a, b)
