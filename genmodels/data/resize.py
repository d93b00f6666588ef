"""The rule by which a decoded image becomes the pixels of a batch: channels, crop, size.

Nothing changes a pixel unless the config asks for it.
"""

import dataclasses

import numpy as np
from jaxtyping import UInt8
from PIL import Image, ImageOps

from genmodels.errors import choose

FILTERS = {
    "box": Image.Resampling.BOX,
    "bilinear": Image.Resampling.BILINEAR,
    "bicubic": Image.Resampling.BICUBIC,
    "lanczos": Image.Resampling.LANCZOS,
}
CHANNELS = {"grey": 1, "rgb": 3, "rgba": 4}
MODES = {"grey": "L", "rgb": "RGB", "rgba": "RGBA"}
MAX_SIDE = 2**13  # pixels


@dataclasses.dataclass(frozen=True)
class Rule:
    """How every image of a source becomes pixels.

    Attributes:
      size: height and width of the result in pixels; 0 keeps those of the image.
      crop: "center" scales the shorter side to `size` and cuts out the middle square, "none" squashes the whole image
        into the square, "" allows only images that are square already.
      filter: the resampling filter, always antialiased: box, bilinear, bicubic or lanczos.
      convert: "grey", "rgb" or "rgba"; "" keeps grey and RGB as they are. Transparent images are laid over white where
        the result has no transparency; 16 bits become 8 (grey: x / 257, rounded).
    Raises:
      ConfigError: an unknown name.
      ValueError: a size that is negative or larger than MAX_SIDE.
    """

    size: int = 0
    crop: str = ""
    filter: str = "lanczos"
    convert: str = ""

    def __post_init__(self):
        choose("config.data.filter", self.filter, FILTERS)
        if self.crop:
            choose("config.data.crop", self.crop, ("center", "none"))
        if self.convert:
            choose("config.data.convert", self.convert, CHANNELS)
        if not 0 <= self.size <= MAX_SIDE:
            raise ValueError(f"size must be within [0, {MAX_SIDE}], got {self.size}")

    def describe(self) -> str:
        """The rule in words, e.g. "shorter side to 64, centre square, lanczos; convert=rgb"; "" for no change."""
        how = {"center": f"shorter side to {self.size}, centre square", "none": f"squashed to {self.size}x{self.size}"}
        words = [f"{how.get(self.crop, f'to {self.size}x{self.size}')}, {self.filter}"] if self.size else []
        return "; ".join(words + ([f"convert={self.convert}"] if self.convert else []))

    def apply(self, image: Image.Image) -> UInt8[np.ndarray, "height width channel"]:
        """The pixels of a decoded image after conversion, crop and resize."""
        if self.convert:
            image = _converted(image, MODES[self.convert])
        elif image.mode not in ("L", "RGB", "RGBA"):
            image = image.convert("L" if image.mode == "1" else "RGB")
        if self.size and image.size != (self.size, self.size):
            fit = ImageOps.fit if self.crop == "center" else Image.Image.resize
            image = fit(image, (self.size, self.size), FILTERS[self.filter])
        pixels = np.asarray(image)
        return pixels if pixels.ndim == 3 else pixels[..., None]


def _converted(image: Image.Image, mode: str) -> Image.Image:
    image = eight_bits(image)
    if has_alpha(image):
        image = image.convert("RGBA")
        if mode != "RGBA":
            image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image).convert("RGB")
    return image if image.mode == mode else image.convert(mode)


def eight_bits(image: Image.Image) -> Image.Image:
    """The image with 16-bit grey values divided by 257; PIL's own conversion clips them at 255."""
    if not image.mode.startswith("I"):
        return image
    return Image.fromarray(np.round(np.asarray(image, np.float64) / 257).clip(0, 255).astype(np.uint8))


def has_alpha(image: Image.Image) -> bool:
    """Whether an image may have transparent pixels."""
    return "A" in image.getbands() or "transparency" in image.info
