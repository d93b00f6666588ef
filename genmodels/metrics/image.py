"""PSNR and SSIM of image pairs through dm_pix, per image; data range 1.

PSNR = -10 log10 mean((a - b)^2)
SSIM (Wang et al. 2004): 11 Gaussian taps, sigma 1.5, K1 = 0.01, K2 = 0.03, valid windows only, mean over channels
"""

import dm_pix
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float, UInt8

Pair = UInt8[np.ndarray, "_ _ _ _"]  # [N, height, width, channel]
SSIM_WINDOW = 11


def _unit(images: Pair) -> jnp.ndarray:
    return jnp.asarray(images, jnp.float32) / 255


def _check(a: Pair, b: Pair) -> None:
    if a.shape != b.shape:
        raise ValueError(f"paired metrics need equal shapes, got {a.shape} and {b.shape}")


def psnr(a: Pair, b: Pair) -> Float[np.ndarray, " N"]:
    """Peak signal-to-noise ratio in dB, infinite for identical images.

    Raises:
      ValueError: shapes differ.
    """
    _check(a, b)
    return np.asarray(dm_pix.psnr(_unit(a), _unit(b)))


def ssim_window(height: int, width: int) -> int:
    """Taps of the Gaussian: 11, or on smaller images the largest odd number that fits."""
    fits = min(SSIM_WINDOW, height, width)
    return fits - (fits + 1) % 2


def ssim(a: Pair, b: Pair) -> Float[np.ndarray, " N"]:
    """Structural similarity, 1 for identical images.

    Below 11 pixels the window shrinks (`ssim_window`), and the value compares only with others of that window.

    Raises:
      ValueError: shapes differ.
    """
    _check(a, b)
    size = ssim_window(*a.shape[1:3])
    return np.asarray(dm_pix.ssim(_unit(a), _unit(b), filter_size=size))
