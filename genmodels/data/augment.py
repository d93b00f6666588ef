"""Augmentation on the device. Each example has a random key of its own, so the devices may share a batch in any way."""

import dataclasses

import dm_pix as pix
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Key

Image = Float[Array, "height width channel"]

ASPECTS = 3 / 4, 4 / 3  # width over height of random crops, the smallest and the largest


@dataclasses.dataclass(frozen=True)
class Augment:
    """The section `config.data.augment`; images are float in [-1, 1] before and after.

    Attributes:
      flip: mirrors left and right, with probability 1/2.
      flip_vertical: mirrors up and down, with probability 1/2.
      pad_crop: pad by so many pixels, reflecting, and cut the old size out of it anywhere.
      crop_area: least share of the image that a random crop keeps, at the aspects 3/4 to 4/3; it is resized to the old
        size, bilinearly (Szegedy et al. 2015). 0 does not crop.
      brightness: largest shift of values in [0, 1].
      contrast: largest change of the contrast, within [0, 1]: factors 1 +- contrast.
      saturation: largest change of the saturation, within [0, 1]: factors 1 +- saturation; for RGB.
      hue: largest turn of the colour circle, within [0, 1]: by +- hue / 2; for RGB.
      cutout: side of a square, centred on any pixel, that is set to mid-grey (DeVries & Taylor 2017).
      dequantize: fills the gaps between the 256 grey levels with uniform noise u: (level + u) / 128 - 1.
    Raises:
      ValueError: a value out of range.
    """

    flip: bool = False
    flip_vertical: bool = False
    pad_crop: int = 0
    crop_area: float = 0.0
    brightness: float = 0.0
    contrast: float = 0.0
    saturation: float = 0.0
    hue: float = 0.0
    cutout: int = 0
    dequantize: bool = False

    def __post_init__(self):
        for name in ("brightness", "contrast", "saturation", "hue", "crop_area"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"{name} must be within [0, 1], got {getattr(self, name)}")
        for name in ("pad_crop", "cutout"):
            if getattr(self, name) < 0:
                raise ValueError(f"{name} must not be negative, got {getattr(self, name)}")

    def check(self, image_shape: tuple[int, ...]) -> None:
        """Raises ValueError when these settings do not suit images of this shape."""
        height, width, channels = image_shape
        if (self.saturation or self.hue) and channels != 3:
            raise ValueError(f"saturation and hue are for RGB, these images have {channels} channel(s)")
        if max(self.pad_crop + 1, self.cutout) > min(height, width):
            raise ValueError(f"pad_crop must be less than, and cutout at most, the side of {height}x{width} images")

    def __call__(self, batch: dict[str, Array], keys: Key[Array, " rows"]) -> dict[str, Array]:
        """The batch with its image fields augmented, each by random numbers of its own; others are unchanged."""
        fields = sorted(name for name, value in batch.items() if value.ndim == 4)
        changed = {
            name: jax.vmap(lambda key, image, field=field: self._one(jax.random.fold_in(key, field), image))(
                keys, batch[name]
            )
            for field, name in enumerate(fields)
        }
        return batch | changed

    def _one(self, key: Key[Array, ""], image: Image) -> Image:
        flip, flip_vertical, crop, colour, cutout, area, noise = jax.random.split(key, 7)
        if self.dequantize:
            levels = jnp.round((image + 1) * 127.5)
            image = (levels + jax.random.uniform(noise, image.shape)) / 128 - 1
        if self.flip:
            image = jnp.where(jax.random.bernoulli(flip), image[:, ::-1], image)
        if self.flip_vertical:
            image = jnp.where(jax.random.bernoulli(flip_vertical), image[::-1], image)
        if self.pad_crop:
            image = _pad_crop(crop, image, self.pad_crop)
        if self.crop_area:
            image = _random_crop(area, image, self.crop_area)
        if self.brightness or self.contrast or self.saturation or self.hue:
            image = self._colour(colour, image)
        return _cutout(cutout, image, self.cutout) if self.cutout else image

    def _colour(self, key: Key[Array, ""], image: Image) -> Image:
        brightness, contrast, saturation, hue = jax.random.uniform(key, (4,), minval=-1, maxval=1)
        unit = (image + 1) / 2
        unit = pix.adjust_brightness(unit, self.brightness * brightness)
        unit = pix.adjust_contrast(unit, 1 + self.contrast * contrast)
        if self.saturation:
            unit = pix.adjust_saturation(unit, 1 + self.saturation * saturation)
        if self.hue:
            unit = pix.adjust_hue(unit, self.hue * hue / 2)
        return jnp.clip(unit, 0, 1) * 2 - 1


def _pad_crop(key: Key[Array, ""], image: Image, pad: int) -> Image:
    padded = jnp.pad(image, ((pad, pad), (pad, pad), (0, 0)), mode="reflect")
    top, left = jax.random.randint(key, (2,), 0, 2 * pad + 1)
    return jax.lax.dynamic_slice(padded, (top, left, 0), image.shape)


def crop_box(key: Key[Array, ""], height: int, width: int, least_area: float) -> Float[Array, "4"]:
    """A random crop (top, left, height, width), in pixels, which need not be whole.

    Its distribution is that of TensorFlow's `sample_distorted_bounding_box`, which rounds to whole pixels: the aspect
    width / height is uniform in [3/4, 4/3], as far as a crop of `least_area` can have it; given the aspect, the height
    is uniform between that of the least area and the largest that fits; the place is uniform. If no aspect fits, the
    crop is the whole image.
    """
    aspect_key, height_key, place_key = jax.random.split(key, 3)
    square = width / height
    low, high = max(ASPECTS[0], least_area * square), min(ASPECTS[1], square / least_area)
    if low > high:
        return jnp.array([0.0, 0.0, height, width])
    aspect = jax.random.uniform(aspect_key, minval=low, maxval=high)
    largest = jnp.minimum(height, width / aspect)
    smallest = jnp.minimum(jnp.sqrt(least_area * height * width / aspect), largest)
    rows = smallest + jax.random.uniform(height_key) * (largest - smallest)
    columns = aspect * rows
    top, left = jax.random.uniform(place_key, (2,)) * jnp.array([height - rows, width - columns])
    return jnp.stack([top, left, rows, columns])


def _random_crop(key: Key[Array, ""], image: Image, least_area: float) -> Image:
    height, width, _ = image.shape
    top, left, rows, columns = crop_box(key, height, width, least_area)
    weights = _bilinear(height, top, rows), _bilinear(width, left, columns)
    return jnp.einsum("rR,cC,RCk->rck", *weights, image, precision="highest")


def _bilinear(size: int, start: Float[Array, ""], length: Float[Array, ""]) -> Float[Array, "{size} {size}"]:
    """The matrix that resamples pixels [start, start + length) to `size` pixels; nothing outside of them is read."""
    within = (jnp.arange(size) + 0.5) * length / size - 0.5
    source = jnp.clip(start + jnp.clip(within, 0, jnp.maximum(length - 1, 0)), 0, size - 1)
    return jnp.maximum(0, 1 - jnp.abs(source[:, None] - jnp.arange(size)))


def _cutout(key: Key[Array, ""], image: Image, side: int) -> Image:
    height, width, _ = image.shape
    centre = jax.random.randint(key, (2,), 0, jnp.array([height, width]))
    top, left = centre - side // 2
    rows, columns = jnp.arange(height)[:, None], jnp.arange(width)[None, :]
    inside = (rows >= top) & (rows < top + side) & (columns >= left) & (columns < left + side)
    return jnp.where(inside[..., None], 0.0, image)
