"""PNG's transparent colours at every depth, and chunks that have nothing to do with the pixels."""

import io
import struct
import zlib

import numpy as np
import pytest
from PIL import Image

from genmodels.data.images import decode, read_header
from genmodels.data.resize import Rule
from tests.data.files import noise
from tests.data.test_images import chunk, encoded

GREY, RGB, PALETTE, GREY_ALPHA, RGBA = 0, 2, 3, 4, 6
CHANNELS = {GREY: 1, RGB: 3, PALETTE: 1, GREY_ALPHA: 2, RGBA: 4}
PASSES = ((0, 0, 8, 8), (0, 4, 8, 8), (4, 0, 8, 4), (0, 2, 4, 4), (2, 0, 4, 2), (0, 1, 2, 2), (1, 0, 2, 1))  # Adam7


def rows(samples, depth):
    """The bytes of the rows of an image [height, width, channel], each behind the filter type 0."""
    samples = samples.reshape(len(samples), -1)
    if depth == 16:
        return b"".join(b"\0" + row.astype(">u2").tobytes() for row in samples)
    bits = np.unpackbits(samples.astype(np.uint8)[..., None], axis=-1)[..., -depth:]
    return b"".join(b"\0" + np.packbits(row).tobytes() for row in bits.reshape(len(samples), -1))


def png(samples, depth, colour, *before, after=(), interlaced=False):
    """A PNG of these samples, [height, width, channel], with further chunks before and after its pixels."""
    height, width, _ = samples.shape
    header = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, interlaced)
    passes = [samples[y::dy, x::dx] for y, x, dy, dx in PASSES] if interlaced else [samples]
    pixels = b"".join(rows(part, depth) for part in passes if part.size)
    parts = [chunk(b"IHDR", header), *before, chunk(b"IDAT", zlib.compress(pixels)), *after, chunk(b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


def transparent(*colour):
    return chunk(b"tRNS", struct.pack(f">{len(colour)}H", *colour))


def read(file, convert):
    return decode(io.BytesIO(file), Rule(convert=convert))


@pytest.mark.parametrize("interlaced", [False, True])
@pytest.mark.parametrize(
    ("depth", "colour"), [(1, GREY), (2, GREY), (4, GREY), (8, GREY), (16, GREY), (8, RGB), (16, RGB)]
)
def test_a_transparent_colour_is_transparent_at_every_depth(depth, colour, interlaced):
    levels, channels = 2**depth, CHANNELS[colour]
    samples = np.random.RandomState(depth).randint(0, levels, (9, 11, channels))
    key = samples[4, 5].copy()
    samples[2, 3] = samples[8, 10] = key
    if depth == 16:  # another colour with the same upper byte stays
        samples[0, 0] = key
        samples[0, 0, -1] ^= 1
    hidden = (samples == key).all(axis=-1)
    assert 0 < hidden.sum() < hidden.size
    assert not hidden[0, 0] or depth < 16
    unused = 0 if depth == 16 else 0x5A00  # bits above the depth do not count
    file = png(samples, depth, colour, transparent(*(int(value) | unused for value in key)), interlaced=interlaced)
    assert read_header(io.BytesIO(file)).kind == ("16-bit" if depth == 16 else "alpha")

    if depth < 16:
        eight = samples * 255 // (levels - 1)
    else:  # as without transparency: grey is divided by 257, colours keep their upper byte
        eight = np.round(samples / 257).astype(int) if colour == GREY else samples >> 8
    eight = np.broadcast_to(eight, (9, 11, 3)).astype(np.uint8)
    rgba = read(file, "rgba")
    np.testing.assert_array_equal(rgba[..., 3], np.where(hidden, 0, 255))
    np.testing.assert_array_equal(rgba[..., :3][~hidden], eight[~hidden])
    plain = encoded(np.dstack([eight, np.where(hidden, 0, 255)]).astype(np.uint8)).getvalue()
    for convert in ("rgb", "grey"):  # as the same picture with an alpha channel of 8 bits
        np.testing.assert_array_equal(read(file, convert), read(plain, convert))
    assert (read(file, "rgb")[hidden] == 255).all()
    assert (read(file, "grey")[hidden] == 255).all()


def test_a_colour_that_no_pixel_has_changes_nothing():
    samples = np.random.RandomState(0).randint(0, 3, (6, 6, 1))
    for convert in ("rgb", "rgba", "grey"):
        np.testing.assert_array_equal(
            read(png(samples, 2, GREY, transparent(3)), convert), read(png(samples, 2, GREY), convert)
        )


def test_transparent_colours_of_a_palette():
    colours = noise(4, 3)
    samples = np.random.RandomState(0).randint(0, 4, (6, 6, 1))
    alphas = np.array([255, 0, 128, 255], np.uint8)  # the chunk may leave out the last
    file = png(samples, 2, PALETTE, chunk(b"PLTE", colours.tobytes()), chunk(b"tRNS", alphas[:3].tobytes()))
    wanted = np.concatenate([colours, alphas[:, None]], axis=1)[samples[..., 0]]
    np.testing.assert_array_equal(read(file, "rgba"), wanted)
    for convert in ("rgb", "grey"):
        np.testing.assert_array_equal(read(file, convert), read(encoded(wanted).getvalue(), convert))


@pytest.mark.parametrize(("colour", "channels"), [(GREY_ALPHA, 2), (RGBA, 4)])
@pytest.mark.parametrize("depth", [8, 16])
def test_alpha_channels_are_laid_over_white(colour, channels, depth):
    samples = np.random.RandomState(1).randint(0, 2**depth, (7, 5, channels))
    samples[0, :2, -1] = 0, 2**depth - 1
    file = png(samples, depth, colour)
    paint, alpha = samples[..., :-1] / (2**depth - 1), samples[..., -1:] / (2**depth - 1)
    over_white = 255 * np.broadcast_to(paint * alpha + 1 - alpha, (7, 5, 3))
    np.testing.assert_allclose(read(file, "rgb"), over_white, atol=1.51)
    np.testing.assert_allclose(read(file, "grey")[..., 0], over_white @ [0.299, 0.587, 0.114], atol=2.01)
    np.testing.assert_allclose(read(file, "rgba")[..., 3:], 255 * alpha, atol=1)
    np.testing.assert_allclose(read(file, "rgba")[..., :3], np.broadcast_to(255 * paint, (7, 5, 3)), atol=1)


def test_webp_and_png_agree_about_transparency():
    pixels = noise(6, 6, 4)
    webp = encoded(pixels, "WEBP", lossless=True, exact=True).getvalue()
    for convert in ("rgb", "rgba", "grey"):
        np.testing.assert_array_equal(read(webp, convert), read(encoded(pixels).getvalue(), convert))


PIXELS = noise(16, 16, 3)
PROFILE = chunk(b"iCCP", b"big\0\0" + zlib.compress(np.random.RandomState(0).bytes(3_000_000)))
BOMB = chunk(b"zTXt", b"Comment\0\0" + zlib.compress(bytes(100_000_000)))
TEXT = chunk(b"tEXt", b"Comment\0hello")
INTACT = {
    "large profile": PROFILE,
    "wrong checksum of a text": TEXT[:-1] + b"?",
    "wrong checksum of a compressed text": chunk(b"zTXt", b"Comment\0\0" + zlib.compress(b"hello"))[:-1] + b"?",
    "wrong checksum of the time": chunk(b"tIME", bytes(7))[:-1] + b"?",
    "damaged profile": chunk(b"iCCP", b"x\0\0hello"),
    "a text that unpacks to 100 MB": BOMB,
    "large metadata": chunk(b"iTXt", b"XML:com.adobe.xmp\0\1\0\0\0" + zlib.compress(b"<x>" + bytes(3_000_000))),
}


@pytest.mark.parametrize("what", INTACT)
@pytest.mark.parametrize("place", ["before", "after"])
@pytest.mark.parametrize("convert", ["", "rgba", "grey"])
def test_pixels_are_read_whatever_chunks_stand_beside_them(what, place, convert):
    extra = INTACT[what]
    file = png(PIXELS, 8, RGB, *([extra] if place == "before" else []), after=[extra] if place == "after" else [])
    assert read_header(io.BytesIO(file)).size == (16, 16)
    np.testing.assert_array_equal(read(file, convert), read(png(PIXELS, 8, RGB), convert))


def damaged(part):
    return part[:-1] + bytes([part[-1] ^ 1])


@pytest.mark.parametrize("number", range(3))
def test_a_wrong_checksum_of_a_chunk_that_decides_the_pixels_is_damage(number):
    parts = [chunk(b"PLTE", noise(4, 3).tobytes()), chunk(b"tRNS", b"\0"), chunk(b"eXIf", b"MM\0*\0\0\0\x08\0\0")]
    parts[number] = damaged(parts[number])
    file = png(noise(6, 6, 1) % 4, 2, PALETTE, *parts)
    with pytest.raises(ValueError, match="checksum"):
        read(file, "rgba")


def test_one_wrong_bit_anywhere_is_refused_or_changes_nothing():
    exif = Image.Exif()
    exif[0x0112] = 6
    orientation = chunk(b"eXIf", exif.tobytes().removeprefix(b"Exif\0\0"))
    palette = [chunk(b"PLTE", noise(4, 3).tobytes()), chunk(b"tRNS", b"\0\x80")]
    samples = noise(4, 6, 1) % 4
    files = (
        png(samples, 2, PALETTE, TEXT, *palette, TEXT, orientation),
        png(samples, 2, PALETTE, *palette, after=[TEXT, orientation]),
        png(samples, 2, GREY, TEXT, transparent(1), TEXT),
    )
    refused = same = 0
    for file in files:
        wanted = read(file, "rgba")
        for place in range(8, len(file)):
            for bit in range(8):
                wrong = bytearray(file)
                wrong[place] ^= 1 << bit
                try:
                    found = read(bytes(wrong), "rgba")
                except ValueError:
                    refused += 1
                    continue
                np.testing.assert_array_equal(found, wanted, err_msg=f"byte {place}, bit {bit}")
                same += 1
    assert refused > same > 100


@pytest.mark.parametrize("name", ["grey16_transparent_key", "large_icc_profile"])
def test_the_cases_of_pngs(name, shared):
    file = shared / "cases" / "png" / f"{name}.png"
    if not file.is_file():
        pytest.skip(f"{file} is not there")
    rgba = read(file.read_bytes(), "rgba")
    assert (rgba[0, 5, 3] == 0) == (name == "grey16_transparent_key")
    if rgba[0, 5, 3] == 0:
        np.testing.assert_array_equal(read(file.read_bytes(), "rgb")[0, 5], 255)
