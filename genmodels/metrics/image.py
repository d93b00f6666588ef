"""PSNR, SSIM and MS-SSIM of image pairs, per image, jitted; uint8 in, so the data range is 255 and never guessed.

    PSNR     -10 log10 mean((a - b)^2 / 255^2)                  infinite for identical images
    SSIM     mean of l cs, with l = (2 m_a m_b + C_1) / (m_a^2 + m_b^2 + C_1)
                           and cs = (2 s_ab + C_2) / (s_a^2 + s_b^2 + C_2)           (Wang et al. 2004)
    MS-SSIM  mean of l at the coarsest of five scales, times cs at each, to the powers of WEIGHTS (Wang et al. 2003)

Moments m, s are under 11 Gaussian taps of sigma 1.5, valid windows only, C_i = (K_i)^2 with K_1 = 0.01, K_2 = 0.03 and
images in [0, 1]; channels are averaged. Variances are taken about the mean level of the pair, where float32 does not
cancel.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, UInt8

Pair = UInt8[np.ndarray, "_ _ _ _"]  # [N, height, width, channel]
Images = Float[Array, "_ _ _ _"]  # [batch, height, width, channel]

SSIM_WINDOW = 11
SIGMA = 1.5
K1, K2 = 0.01, 0.03
WEIGHTS = (0.0448, 0.2856, 0.3001, 0.2363, 0.1333)  # of the scales, finest first
LEAST = SSIM_WINDOW * 2 ** (len(WEIGHTS) - 1)  # pixels a side for MS-SSIM
BATCH = 256


def ssim_window(height: int, width: int) -> int:
    """Taps of the Gaussian: 11, or on smaller images the largest odd number that fits."""
    fits = min(SSIM_WINDOW, height, width)
    return fits - (fits + 1) % 2


def _filtered(images: Images, taps: int) -> Images:
    offsets = np.arange(taps) - (taps - 1) / 2
    weights = np.exp(-0.5 * (offsets / SIGMA) ** 2)
    kernel = jnp.asarray(weights / weights.sum(), jnp.float32)
    batch, height, width, channels = images.shape
    x = images.transpose(0, 3, 1, 2).reshape(batch * channels, 1, height, width)
    for shape in ((taps, 1), (1, taps)):
        x = jax.lax.conv(x, kernel.reshape(1, 1, *shape), (1, 1), "VALID", precision=jax.lax.Precision.HIGHEST)
    return x.reshape(batch, channels, *x.shape[2:]).transpose(0, 2, 3, 1)


def _ssim_maps(a: Images, b: Images, taps: int) -> tuple[Images, Images]:
    """l and cs at every window."""
    level = 0.5 * (a + b).mean((1, 2), keepdims=True)
    a, b = a - level, b - level
    stacked = _filtered(jnp.concatenate([a, b, a * a, b * b, a * b], axis=-1), taps)
    mean_a, mean_b, square_a, square_b, product = jnp.split(stacked, 5, axis=-1)
    variance_a, variance_b = jnp.maximum(square_a - mean_a**2, 0), jnp.maximum(square_b - mean_b**2, 0)
    covariance = product - mean_a * mean_b
    mean_a, mean_b = mean_a + level, mean_b + level
    luminance = (2 * mean_a * mean_b + K1**2) / (mean_a**2 + mean_b**2 + K1**2)
    return luminance, (2 * covariance + K2**2) / (variance_a + variance_b + K2**2)


def _unit(images: UInt8[Array, "batch height width channel"]) -> Images:
    return images.astype(jnp.float32) / 255


@jax.jit
def _psnr(a, b):
    difference = a.astype(jnp.int32) - b.astype(jnp.int32)
    per_row = jnp.sum(difference**2, axis=(2, 3)).astype(jnp.float32)  # exact up to 33,000 pixels a row
    return -10 * jnp.log10(jnp.sum(per_row, axis=1) / (255.0**2 * a[0].size))


@functools.partial(jax.jit, static_argnums=2)
def _ssim(a, b, taps):
    luminance, structure = _ssim_maps(_unit(a), _unit(b), taps)
    return jnp.mean(luminance * structure, axis=(1, 2, 3))


@jax.jit
def _ms_ssim(a, b):
    a, b = _unit(a), _unit(b)
    value = 1.0
    for scale, weight in enumerate(WEIGHTS):
        luminance, structure = _ssim_maps(a, b, SSIM_WINDOW)
        last = scale == len(WEIGHTS) - 1
        term = jnp.mean(luminance * structure if last else structure, axis=(1, 2))
        value = value * jnp.maximum(term, 0.0) ** weight
        a, b = (x[:, : x.shape[1] // 2 * 2, : x.shape[2] // 2 * 2] for x in (a, b))
        a, b = (x.reshape(len(x), x.shape[1] // 2, 2, x.shape[2] // 2, 2, -1).mean((2, 4)) for x in (a, b))
    return jnp.mean(value, axis=-1)


def _each(function, a: Pair, b: Pair, *options) -> Float[np.ndarray, " N"]:
    if a.shape != b.shape:
        raise ValueError(f"paired metrics need equal shapes, got {a.shape} and {b.shape}")
    if not len(a):
        raise ValueError("paired metrics need at least one image")
    starts = range(0, len(a), BATCH)
    return np.concatenate([np.asarray(function(a[i : i + BATCH], b[i : i + BATCH], *options)) for i in starts])


def psnr(a: Pair, b: Pair) -> Float[np.ndarray, " N"]:
    """Peak signal-to-noise ratio in dB.

    Raises:
      ValueError: shapes differ.
    """
    return _each(_psnr, a, b)


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
