"""Differentiable augmentation of everything that a discriminator sees, real and fake images alike (Zhao et al. 2020).

Images are float in [-1, 1]. Each example draws its own changes from its own random key. Strengths are the paper's.
"""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Key

Image = Float[Array, "height width channel"]
Images = Float[Array, "batch height width channel"]

MAX_SHIFT = 1 / 8  # of a side, by `translation`
CUTOUT_SIDE = 1 / 2  # of a side, by `cutout`


def colour(key: Key[Array, ""], image: Image) -> Image:
    """Changes brightness, saturation and contrast.

    Adds U(-1/2, 1/2), scales by U(0, 2) around the mean of each pixel, then by U(1/2, 3/2) around the image's mean.
    """
    brightness, saturation, contrast = jax.random.uniform(key, (3,))
    image = image + brightness - 0.5
    grey = jnp.mean(image, axis=-1, keepdims=True)
    image = grey + (image - grey) * 2 * saturation
    centre = jnp.mean(image)
    return centre + (image - centre) * (contrast + 0.5)


def _moved(size: int, by: Array) -> Float[Array, "{size} {size}"]:
    """The matrix that shifts a line of pixels by `by` places and fills the gap with zeros."""
    return jax.nn.one_hot(jnp.arange(size) - by, size)


def translation(key: Key[Array, ""], image: Image) -> Image:
    """Shifts the image by up to an eighth of each side and fills the gap with zeros."""
    height, width, _ = image.shape
    limit = jnp.array([int(height * MAX_SHIFT + 0.5), int(width * MAX_SHIFT + 0.5)])
    down, right = jax.random.randint(key, (2,), -limit, limit + 1)
    moved = jnp.einsum("ih,jw,hwc->ijc", _moved(height, down), _moved(width, right), image, precision="highest")
    return moved.astype(image.dtype)


def cutout(key: Key[Array, ""], image: Image) -> Image:
    """Sets a rectangle, half as high and half as wide as the image, to zero; its centre may be anywhere."""
    height, width, _ = image.shape

    def covered(key, size):
        side = int(size * CUTOUT_SIDE + 0.5)
        first = jax.random.randint(key, (), 0, size + 1 - side % 2) - side // 2
        return (jnp.arange(size) >= first) & (jnp.arange(size) < first + side)

    rows, columns = (covered(k, size) for k, size in zip(jax.random.split(key), (height, width), strict=True))
    return jnp.where((rows[:, None] & columns)[..., None], 0, image)


AUGMENTATIONS = {"colour": colour, "translation": translation, "cutout": cutout}


def augment(names: Sequence[str], images: Images, keys: Key[Array, " batch"]) -> Images:
    """Applies the named augmentations, always in the order colour, translation, cutout.

    Args:
      names: keys of AUGMENTATIONS.
      images: float, in [-1, 1].
      keys: one random key per example.
    """
    for index, (name, change) in enumerate(AUGMENTATIONS.items()):
        if name in names:
            images = jax.vmap(change)(jax.vmap(jax.random.fold_in, (0, None))(keys, index), images)
    return images
