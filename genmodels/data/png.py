"""The chunks of PNG files: those that decide the pixels, and colours that stand for transparency.

A chunk is its length, its name, its contents and a checksum (Portable Network Graphics, W3C 2003, section 5.3).
"""

import io
import zlib
from collections.abc import Iterator

import numpy as np
import pyspng
from jaxtyping import Bool
from PIL import Image, PngImagePlugin

from genmodels.data.resize import eight_bits

SIGNATURE = b"\x89PNG\r\n\x1a\n"
# Chunks that change no pixel as it is read here. They are left out before decoding, whatever they hold and whether
# their checksums are right, except for texts that tell the orientation.
HARMLESS = frozenset(
    b"gAMA cHRM sRGB iCCP cICP mDCV mDCv cLLI cLLi sBIT bKGD hIST pHYs sPLT tIME tEXt zTXt iTXt "
    b"oFFs pCAL sCAL sTER gIFg gIFx gIFt dSIG caBX vpAg".split()
)
TEXTS = (b"tEXt", b"zTXt", b"iTXt")
ORIENTATION_TEXTS = (b"XML:com.adobe.xmp\0", b"Raw profile type exif\0")
GREY, RGB = 0, 2  # colour types

PngImagePlugin.MAX_TEXT_CHUNK = PngImagePlugin.MAX_TEXT_MEMORY  # 2^26 bytes; photographs have XMP above PIL's 2^20


def chunks(file: io.IOBase) -> Iterator[tuple[bytes, int, int]]:
    """Yields (name, start, end) of each chunk up to IEND; the end of the last may lie beyond the end of the file."""
    size = file.seek(0, io.SEEK_END)
    start, name = len(SIGNATURE), b""
    while name != b"IEND" and start < size:
        head = _at(file, start, 8)
        name, end = head[4:], start + 12 + int.from_bytes(head[:4], "big")
        yield name, start, end
        start = end


def _at(file: io.IOBase, start: int, size: int) -> bytes:
    file.seek(start)
    return file.read(size)


def _decides(file: io.IOBase, name: bytes, start: int) -> bool:
    """Whether a chunk can change what is decoded."""
    texts = ORIENTATION_TEXTS
    return name not in HARMLESS or (name in TEXTS and _at(file, start + 8, max(map(len, texts))).startswith(texts))


def essential(file: io.IOBase, *, pixels: bool) -> bytes:
    """The PNG without its harmless chunks, and with an EXIF chunk that lies behind the pixels put before them.

    The checksums of the pixels are left to the decoder, for which those of the compressed stream count.

    Args:
      file: begins with SIGNATURE.
      pixels: False leaves out the pixels and what follows them; the rest is enough for a decoder to read the header.
    Raises:
      ValueError: the file ends inside a chunk that is wanted, or a chunk that counts has a wrong checksum.
    """
    before, after = [SIGNATURE], list[bytes]()
    size = file.seek(0, io.SEEK_END)
    for name, start, end in chunks(file):
        if end > size and (pixels or name != b"IDAT"):
            raise ValueError("it is truncated, or the length of a part of it is damaged")
        if not _decides(file, name, start) or (name == b"IDAT" and after and not pixels):
            continue
        part = _at(file, start, 8 if name == b"IDAT" and not pixels else end - start)
        if name != b"IDAT" and zlib.crc32(part[4:-4]).to_bytes(4, "big") != part[-4:]:
            raise ValueError(f"it is damaged: the checksum of its part {name.decode('latin-1')!r} is wrong")
        (after if name == b"IDAT" or (after and name != b"eXIf") else before).append(part)
    return b"".join(before + after)


def _transparent_colour(data: bytes) -> tuple[int, ...]:
    """The samples of the colour that a grey or RGB image has in place of transparency; () where there is none."""
    for name, start, end in chunks(io.BytesIO(data)):
        if name == b"tRNS" and data[25] in (GREY, RGB):
            contents = data[start + 8 : end - 4]
            depth_mask = 2 ** data[24] - 1  # the other bits do not count (section 11.3.2.1)
            count = 1 if data[25] == GREY else 3
            if len(contents) != 2 * count:
                raise ValueError(f"its transparent colour has {len(contents)} bytes, not {2 * count}")
            return tuple(int.from_bytes(contents[i : i + 2], "big") & depth_mask for i in range(0, 2 * count, 2))
        if name == b"IDAT":
            break
    return ()


def with_alpha(image: Image.Image, data: bytes) -> Image.Image:
    """The decoded image with an alpha channel where its file names a colour that is transparent.

    The colour is compared with samples of the file's own depth. PIL compares it with 8-bit values, which is right for
    8-bit images only.

    Args:
      image: decoded by PIL from `data`.
      data: a PNG file.
    Raises:
      ValueError: the colour has another number of samples than the image.
    """
    colour = _transparent_colour(data)
    if not colour:
        return image
    depth = data[24]
    plain = eight_bits(image.convert("L") if image.mode == "1" else image)
    samples = _samples(data) if depth == 16 else np.asarray(plain).reshape(image.height, image.width, -1)
    wanted = colour if depth == 16 else [value * 255 // (2**depth - 1) for value in colour]
    opaque: Bool[np.ndarray, "height width"] = (samples != np.array(wanted)).any(axis=-1)
    plain.info.pop("transparency", None)  # its colour is of the other depth
    plain.putalpha(Image.fromarray(opaque.astype(np.uint8) * np.uint8(255)))
    return plain


def _samples(data: bytes) -> np.ndarray:
    """The 16-bit samples of a grey or RGB image, [height, width, channel]; libspng adds an opaque alpha channel."""
    try:
        return pyspng.load(data)[..., :-1]
    except RuntimeError as error:
        raise ValueError(str(error)) from error
