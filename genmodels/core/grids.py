"""Grids of images as PNG files, with their title and caption stored in the file."""

import math
import pathlib
from collections.abc import Sequence

import numpy as np
from jaxtyping import Int, UInt8
from PIL import Image, PngImagePlugin

from genmodels.core.files import atomic_path
from genmodels.errors import DataError

GAP = 2  # pixels of background between images
BACKGROUND = 96  # grey level
MAX_OBLONG = 5.0  # longer side over shorter side of a grid that has a column for each class
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


def columns_of(count: int, height: int, width: int, turn: int = 1) -> int:
    """How many images a row has in the grid that is nearest to a square, with few places empty.

    Args:
      height, width: of an image in pixels.
      turn: the number of columns is a multiple of it.
    """
    side = math.sqrt(count * (height + GAP) / (width + GAP))
    found = [(math.inf, 1)]
    for columns in range(turn, max(turn, min(count, math.ceil(2 * side))) + 1, turn):
        rows = -(-count // columns)
        oblong = _oblong(rows * (height + GAP), columns * (width + GAP))
        found.append((oblong + (rows * columns - count) / count, -columns))
    return abs(min(found)[1])


def _oblong(height: float, width: float) -> float:
    return max(height / width, width / height)


def layout(
    images: UInt8[np.ndarray, "N height width channel"], labels: Int[np.ndarray, " N"] | None
) -> tuple[int, str]:
    """The number of columns of a grid of images in this order, and what a column shows.

    Where the classes take turns, a column shows one class, unless the grid would be too oblong to look at.
    """
    count, height, width, _ = images.shape
    turn = _turn(labels)
    if 1 < turn <= count // 2:
        columns = columns_of(count, height, width, turn)
        if _oblong(-(-count // columns) * (height + GAP), columns * (width + GAP)) <= MAX_OBLONG:
            return columns, "one class a column"
    return columns_of(count, height, width), ""


def _turn(labels: Int[np.ndarray, " N"] | None) -> int:
    """The number of labels that are repeated in turn; 1 where they are not."""
    if labels is None:
        return 1
    again = np.flatnonzero(labels[1:] == labels[0])
    turn = int(again[0]) + 1 if len(again) else 1
    return turn if np.array_equal(labels, np.resize(labels[:turn], len(labels))) else 1


def banded(
    stacks: Sequence[UInt8[np.ndarray, "N height width channel"]], columns: int
) -> UInt8[np.ndarray, "cells height width channel"]:
    """The images of a grid in which image i of each stack stands below image i of the stack before."""
    empty = np.full((-len(stacks[0]) % columns, *stacks[0].shape[1:]), BACKGROUND, np.uint8)
    rows = [np.concatenate([stack, empty]).reshape(-1, columns, *stack.shape[1:]) for stack in stacks]
    return np.stack(rows, axis=1).reshape(-1, *stacks[0].shape[1:])


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
