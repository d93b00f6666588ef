"""Decodes one image file to uint8 pixels, by rules that the config states.

Images are turned as their EXIF orientation says. A palette without transparency is read as RGB, and one bit a pixel as
grey; neither changes a pixel. Everything that does change pixels must be asked for: `convert` for channels and depth,
`size` and `crop` for the shape.
"""

import dataclasses
import io
import math
import struct
import typing
import warnings
import zlib
from collections.abc import Callable

import numpy as np
import pyspng
from jaxtyping import UInt8
from PIL import Image

from genmodels.data import png
from genmodels.data.resize import CHANNELS, Rule, has_alpha

EXTENSIONS = (".png", ".jpg", ".jpeg", ".webp", ".bmp")
FORMATS = ("PNG", "JPEG", "WEBP", "BMP")
ORIENTATION = 0x0112  # the EXIF tag; values 5 to 8 exchange width and height
UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
EXIF = ("exif", "xmp", "XML:com.adobe.xmp", "Raw profile type exif")  # keys of PIL's `info` under which EXIF data lies

# Above 2^28 / 3 pixels, where a file of a few kilobytes can unpack to gigabytes, PIL warns; here that is an error.
warnings.simplefilter("error", Image.DecompressionBombWarning)

# The errors that PIL raises for damaged files.
DAMAGED = (OSError, SyntaxError, ValueError, EOFError, IndexError, MemoryError, OverflowError, struct.error, zlib.error)
BOMB = (Image.DecompressionBombWarning, Image.DecompressionBombError)


@dataclasses.dataclass(frozen=True)
class Header:
    """What a file's header says about its image, which is not decoded for it.

    Attributes:
      size: (height, width) in pixels after the turn that EXIF asks for.
      kind: "grey", "rgb", "alpha", "16-bit" or "CMYK".
      turned: whether EXIF asks to turn or mirror the image.
    """

    size: tuple[int, int]
    kind: str
    turned: bool = False


def _orientation(image: Image.Image) -> int:
    """The EXIF orientation, 1 to 8, of an image that is not loaded yet."""
    # A PNG's own getexif decodes all pixels in search of a chunk behind them; `png.essential` has put it before them.
    exif = Image.Image.getexif(image) if any(key in image.info for key in EXIF) else {}
    return exif.get(ORIENTATION, 1)


def _kind(image: Image.Image) -> str:
    tile = getattr(image, "tile", ())  # an image that Pillow opened from a file has one
    args = tile[0].args if tile else ""
    raw = str(args if isinstance(args, str) else args[0])  # the layout of a pixel in the file
    if image.mode.startswith("I") or ";16B" in raw:
        return "16-bit"
    if has_alpha(image):
        return "alpha"
    return "CMYK" if image.mode == "CMYK" else "grey" if image.mode in ("1", "L") else "rgb"


def _open(file: io.IOBase) -> Image.Image:
    try:
        image = Image.open(typing.cast(typing.IO[bytes], file), formats=FORMATS)  # Pillow takes any readable file
    except BOMB as error:
        raise ValueError(f"it has too many pixels ({error}); scale it down first") from error
    frames = getattr(image, "n_frames", 1)
    if frames > 1 and image.format != "MPO":  # MPO: the first frame is the photograph, others are previews
        raise ValueError(f"it is an animation of {frames} frames; save one frame as an image")
    return image


def _guard(function: Callable) -> Callable:
    def guarded(*args):
        try:
            return function(*args)
        except Image.UnidentifiedImageError:
            raise ValueError("it is not an image in PNG, JPEG, WebP or BMP format") from None
        except DAMAGED as error:
            raise ValueError(str(error) or type(error).__name__) from error

    return guarded


@_guard
def read_header(file: io.IOBase) -> Header:
    """The header of the image in a file.

    Raises:
      ValueError: it is not an image, it is an animation, or it has so many pixels that it could fill the memory.
    """
    start = file.read(len(png.SIGNATURE))
    file.seek(0)
    with _open(io.BytesIO(png.essential(file, pixels=False)) if start == png.SIGNATURE else file) as image:
        width, height = image.size
        kind = _kind(image)
        orientation = _orientation(image)
        return Header((width, height) if orientation in (5, 6, 7, 8) else (height, width), kind, orientation in UPRIGHT)


PLAIN = {b"\x08\x00": 1, b"\x08\x02": 3}  # bit depth and colour type of 8-bit grey and RGB, with their channels
PLAIN_CHUNKS = {b"IHDR", b"IDAT", b"IEND"}


def _is_plain_png(data: bytes, rule: Rule) -> bool:
    """Whether a file is a PNG of 8-bit grey or RGB that the rule does not change; then all decoders agree."""
    width, height = int.from_bytes(data[16:20], "big"), int.from_bytes(data[20:24], "big")
    return (
        data.startswith(png.SIGNATURE)
        and data[24:26] in PLAIN
        and (not rule.convert or PLAIN[data[24:26]] == CHANNELS[rule.convert])
        and (not rule.size or width == height == rule.size)
        and width * height <= (Image.MAX_IMAGE_PIXELS or math.inf)
        and _is_sound(data)
    )


def _is_sound(data: bytes) -> bool:
    """Whether a PNG has only PLAIN_CHUNKS and right checksums, which libspng does not check, and ends with its end."""
    name = b""
    for name, start, end in png.chunks(io.BytesIO(data)):
        if name not in PLAIN_CHUNKS or zlib.crc32(data[start + 4 : end - 4]).to_bytes(4, "big") != data[end - 4 : end]:
            return False
    return name == b"IEND"


def _plain_png(data: bytes) -> UInt8[np.ndarray, "height width channel"]:
    """Decodes with libspng, which takes a quarter of PIL's time for small images (BENCHMARKS.md)."""
    try:
        pixels = pyspng.load(data)
    except RuntimeError as error:
        raise ValueError(str(error)) from error
    return pixels if pixels.ndim == 3 else pixels[..., None]


@_guard
def decode(file: io.IOBase, rule: Rule) -> UInt8[np.ndarray, "height width channel"]:
    """The pixels of the image in `file`, by `rule`.

    Raises:
      ValueError: it is not an image, or it is truncated or otherwise damaged.
    """
    data = file.read()
    if _is_plain_png(data, rule):
        return _plain_png(data)
    is_png = data.startswith(png.SIGNATURE)
    if is_png:
        data, whole = png.essential(io.BytesIO(data), pixels=True), len(data)
        if len(data) < whole and _is_plain_png(data, rule):
            return _plain_png(data)
    with _open(io.BytesIO(data)) as image:
        orientation = _orientation(image)
        image.load()
        if is_png:
            image = png.with_alpha(image, data)
        return rule.apply(image.transpose(UPRIGHT[orientation]) if orientation in UPRIGHT else image)
