"""Grids of images as PNG files, with their title and caption stored in the file."""

import pathlib

import numpy as np
from jaxtyping import UInt8
from PIL import Image, PngImagePlugin

from genmodels.core.files import atomic_path
from genmodels.errors import DataError

GAP = 2  # pixels of background between images
BACKGROUND = 96  # grey level
ENLARGED_SIDE = 640  # pixels; a smaller grid is enlarged by the greatest whole factor that keeps its sides within this


def grid(images: UInt8[np.ndarray, "N height width channel"], columns: int) -> UInt8[np.ndarray, "H W channel"]:
    """One picture with `columns` images in each row, filled left to right and top to bottom, on grey."""
    count, height, width, channels = images.shape
    rows = -(-count // columns)
    canvas = np.full((rows * (height + GAP) + GAP, columns * (width + GAP) + GAP, channels), BACKGROUND, np.uint8)
    for index, image in enumerate(images):
        top = GAP + (index // columns) * (height + GAP)
        left = GAP + (index % columns) * (width + GAP)
        canvas[top : top + height, left : left + width] = image
    return canvas


def to_pil(image: UInt8[np.ndarray, "height width channel"]) -> Image.Image:
    """An array of 1 (grey), 3 (RGB) or 4 (RGBA) channels as a PIL image.

    Raises:
      DataError: any other number of channels.
    """
    channels = image.shape[-1]
    if channels not in (1, 3, 4):
        raise DataError(f"an image of {channels} channels cannot be saved as PNG, which has 1, 3 or 4")
    return Image.fromarray(image[..., 0] if channels == 1 else image)


def save_grid(
    path: pathlib.Path, images: UInt8[np.ndarray, "N height width channel"], columns: int, title: str, caption: str
) -> None:
    """Writes a grid as PNG, with title and caption as its text; a small grid is enlarged by a whole factor."""
    picture = to_pil(grid(images, columns))
    factor = max(1, ENLARGED_SIDE // max(picture.size))
    picture = picture.resize((picture.width * factor, picture.height * factor), Image.Resampling.NEAREST)
    text = PngImagePlugin.PngInfo()
    text.add_text("Title", title)
    text.add_text("Description", caption)
    with atomic_path(path) as temporary:
        picture.save(temporary, format="PNG", pnginfo=text)


def read_captions(path: pathlib.Path) -> tuple[str, str]:
    """The title and caption stored in a picture; by default its file name and an empty caption."""
    with Image.open(path) as picture:
        return picture.info.get("Title", path.stem), picture.info.get("Description", "")
