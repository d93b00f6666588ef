"""Pictures that explain themselves: PNG grids whose title and caption travel inside the file."""

import pathlib

import numpy as np
from jaxtyping import UInt8
from PIL import Image, PngImagePlugin

from genmodels.core.files import atomic_path
from genmodels.errors import DataError

GAP = 2  # pixels of background between images
BACKGROUND = 96


def grid(images: UInt8[np.ndarray, "N height width channel"], columns: int) -> UInt8[np.ndarray, "H W channel"]:
    """Images in rows of `columns`, left to right and top to bottom, on a grey ground."""
    count, height, width, channels = images.shape
    rows = -(-count // columns)
    canvas = np.full((rows * (height + GAP) + GAP, columns * (width + GAP) + GAP, channels), BACKGROUND, np.uint8)
    for index, image in enumerate(images):
        top = GAP + (index // columns) * (height + GAP)
        left = GAP + (index % columns) * (width + GAP)
        canvas[top : top + height, left : left + width] = image
    return canvas


def to_pil(image: UInt8[np.ndarray, "height width channel"]) -> Image.Image:
    """A PIL image of 1 (grey), 3 (RGB) or 4 (RGBA) channels.

    Raises:
      DataError: any other number of channels.
    """
    channels = image.shape[-1]
    if channels not in (1, 3, 4):
        raise DataError(f"an image of {channels} channels cannot be shown as PNG; there are 1, 3 and 4")
    return Image.fromarray(image[..., 0] if channels == 1 else image)


def save_grid(
    path: pathlib.Path, images: UInt8[np.ndarray, "N height width channel"], columns: int, title: str, caption: str
) -> None:
    """Writes a grid, small images enlarged by a whole factor, with its title and caption as PNG text."""
    picture = to_pil(grid(images, columns))
    factor = max(1, 640 // max(picture.size))
    picture = picture.resize((picture.width * factor, picture.height * factor), Image.Resampling.NEAREST)
    text = PngImagePlugin.PngInfo()
    text.add_text("Title", title)
    text.add_text("Description", caption)
    with atomic_path(path) as temporary:
        picture.save(temporary, format="PNG", pnginfo=text)


def read_captions(path: pathlib.Path) -> tuple[str, str]:
    """(title, caption) of a picture; its file name and nothing where it has none."""
    with Image.open(path) as picture:
        return picture.info.get("Title", path.stem), picture.info.get("Description", "")
