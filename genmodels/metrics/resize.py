"""Resizing images to an extractor's input size, by the two methods with which published numbers were made.

    tf1     TensorFlow 1's resize_bilinear, used by the original FID code: source = target * (in / out), two taps per
            axis, no half-pixel offset and no antialiasing, so that shrinking drops pixels
    clean   the method of clean-fid (Parmar et al. 2022): Pillow's bicubic filter, a = -0.5, whose support is stretched
            when shrinking, on each channel in float, then clipped to 0-255

The resized images differ by several grey levels, and the distances measured on them differ as well. Both methods are a
product with a small matrix along each axis.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Float32, Num

RESIZES = ("tf1", "clean")


def _tf1(size_in: int, size_out: int) -> Float32[np.ndarray, "out in"]:
    source = np.arange(size_out, dtype=np.float32) * (np.float32(size_in) / np.float32(size_out))
    low = np.floor(source).astype(int)
    high = np.minimum(low + 1, size_in - 1)
    weight = source - low.astype(np.float32)
    matrix = np.zeros((size_out, size_in), np.float32)
    np.add.at(matrix, (np.arange(size_out), low), 1 - weight)
    np.add.at(matrix, (np.arange(size_out), high), weight)
    return matrix


def _cubic(x: Float[np.ndarray, "..."], a: float = -0.5) -> Float[np.ndarray, "..."]:
    x = np.abs(x)
    near = ((a + 2) * x - (a + 3)) * x**2 + 1
    far = (((x - 5) * x + 8) * x - 4) * a
    return np.where(x < 1, near, np.where(x < 2, far, 0.0))


def _clean(size_in: int, size_out: int) -> Float32[np.ndarray, "out in"]:
    scale = size_in / size_out
    stretch = max(scale, 1.0)
    centre = (np.arange(size_out) + 0.5) * scale
    support = 2 * stretch
    low = np.maximum((centre - support + 0.5).astype(int), 0)
    high = np.minimum((centre + support + 0.5).astype(int), size_in)
    index = np.arange(size_in)
    inside = (index >= low[:, None]) & (index < high[:, None])
    weights = np.where(inside, _cubic((index + 0.5 - centre[:, None]) / stretch), 0.0)
    return (weights / weights.sum(axis=1, keepdims=True)).astype(np.float32)


@functools.lru_cache(maxsize=256)
def matrix(kind: str, size_in: int, size_out: int) -> Float32[np.ndarray, "out in"]:
    """The matrix that resizes a line of `size_in` pixels to `size_out` pixels.

    Raises:
      ValueError: the kind is neither "tf1" nor "clean".
    """
    if kind not in RESIZES:
        raise ValueError(f"unknown resize {kind!r}; there are {', '.join(RESIZES)}")
    return {"tf1": _tf1, "clean": _clean}[kind](size_in, size_out)


def resize(
    kind: str, images: Num[Array, "batch height width channel"], size: int
) -> Float[Array, "batch size size channel"]:
    """Images in 0-255 resized to size x size, float32 in the same range. Runs on the device."""
    rows, columns = (jnp.asarray(matrix(kind, n, size)) for n in images.shape[1:3])
    contract = functools.partial(jnp.einsum, precision=jax.lax.Precision.HIGHEST)
    x = images.astype(jnp.float32)
    x = contract("bHwc,hH->bhwc", contract("bHWc,wW->bHwc", x, columns), rows)
    return jnp.clip(x, 0.0, 255.0) if kind == "clean" else x


def resize_on_host(
    kind: str, image: Num[np.ndarray, "height width channel"], size: int
) -> Float32[np.ndarray, "size size channel"]:
    """As `resize`, for one image and with numpy, because on the device each image size would compile a program."""
    rows, columns = (matrix(kind, n, size) for n in image.shape[:2])
    x = np.einsum("wW,HWc->Hwc", columns, image.astype(np.float32), optimize=True)
    x = np.einsum("hH,Hwc->hwc", rows, x, optimize=True)
    return np.clip(x, 0.0, 255.0) if kind == "clean" else x
