"""Differentiable augmentation in front of a discriminator, of real and of fake images alike (Zhao et al. 2020).

Images are float in [-1, 1]; each example draws its own changes from its own key. Strengths are the paper's.
"""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Key

Image = Float[Array, "height width channel"]
Images = Float[Array, "batch height width channel"]

SHIFT = 1 / 8  # of a side
HOLE = 1 / 2


def colour(key: Key[Array, ""], image: Image) -> Image:
    """Adds U(-1/2, 1/2), then scales by U(0, 2) about each pixel's mean, by U(1/2, 3/2) about the image's mean."""
    brightness, saturation, contrast = jax.random.uniform(key, (3,))
    image = image + brightness - 0.5
    grey = jnp.mean(image, axis=-1, keepdims=True)
    image = grey + (image - grey) * 2 * saturation
    centre = jnp.mean(image)
    return centre + (image - centre) * (contrast + 0.5)


def _moved(size: int, by: Array) -> Float[Array, "{size} {size}"]:
    """The matrix that moves a line of pixels and fills with zeros: a product, whose gradient is one too."""
    return jax.nn.one_hot(jnp.arange(size) - by, size)


def translation(key: Key[Array, ""], image: Image) -> Image:
    """Moved by up to an eighth of each side, zeros coming in."""
    height, width, _ = image.shape
    most = jnp.array([int(height * SHIFT + 0.5), int(width * SHIFT + 0.5)])
    down, right = jax.random.randint(key, (2,), -most, most + 1)
    moved = jnp.einsum("ih,jw,hwc->ijc", _moved(height, down), _moved(width, right), image, precision="highest")
    return moved.astype(image.dtype)


def cutout(key: Key[Array, ""], image: Image) -> Image:
    """A rectangle of half of each side set to zero, its centre anywhere."""
    height, width, _ = image.shape

    def covered(key, size):
        side = int(size * HOLE + 0.5)
        first = jax.random.randint(key, (), 0, size + 1 - side % 2) - side // 2
        return (jnp.arange(size) >= first) & (jnp.arange(size) < first + side)

    rows, columns = (covered(k, size) for k, size in zip(jax.random.split(key), (height, width), strict=True))
    return jnp.where((rows[:, None] & columns)[..., None], 0, image)


AUGMENTATIONS = {"colour": colour, "translation": translation, "cutout": cutout}


def augment(names: Sequence[str], images: Images, keys: Key[Array, " batch"]) -> Images:
    """The named changes, in the order colour, translation, cutout."""
    for place, (name, change) in enumerate(AUGMENTATIONS.items()):
        if name in names:
            images = jax.vmap(change)(jax.vmap(jax.random.fold_in, (0, None))(keys, place), images)
    return images
