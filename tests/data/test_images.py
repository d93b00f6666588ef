"""Decoding by stated rules: every expectation is a closed form or PIL's plain decoding of the same file."""

import io
import struct
import zlib

import numpy as np
import pytest
from PIL import Image

from genmodels.data import images, resize
from genmodels.data.images import Header, decode, read_header
from genmodels.data.resize import Rule
from genmodels.errors import ConfigError


def noise(*shape, seed=0):
    return np.random.RandomState(seed).randint(0, 256, shape, dtype=np.uint8)


def encoded(image, form="PNG", **options):
    buffer = io.BytesIO()
    (Image.fromarray(image) if isinstance(image, np.ndarray) else image).save(buffer, form, **options)
    return io.BytesIO(buffer.getvalue())


@pytest.mark.parametrize("shape", [(5, 7), (9, 9), (5, 7, 3), (64, 64, 3)])
@pytest.mark.parametrize("form", ["PNG", "BMP"])
def test_lossless_files_come_back_as_they_were(shape, form):
    pixels = noise(*shape)
    np.testing.assert_array_equal(decode(encoded(pixels, form), Rule()), pixels.reshape(*shape[:2], -1))
    kind = "grey" if len(shape) == 2 else "rgb"
    assert read_header(encoded(pixels, form)) == Header(shape[:2], kind)


def test_both_ways_to_read_a_png_agree(monkeypatch):
    files = [encoded(noise(*shape, seed=i)).getvalue() for i, shape in enumerate([(3, 3), (8, 5, 3), (33, 65, 3)] * 3)]
    plain = [decode(io.BytesIO(file), Rule()) for file in files]
    monkeypatch.setattr(images, "_is_plain_png", lambda data, rule: False)
    for one, file in zip(plain, files, strict=True):
        np.testing.assert_array_equal(one, decode(io.BytesIO(file), Rule()))


# What a viewer does to the stored pixels for each value of the EXIF tag (EXIF 2.3, table 6).
UPRIGHT = {
    1: lambda x: x,
    2: lambda x: x[:, ::-1],
    3: lambda x: x[::-1, ::-1],
    4: lambda x: x[::-1],
    5: lambda x: x.transpose(1, 0, 2),
    6: lambda x: np.rot90(x, -1),
    7: lambda x: x[::-1, ::-1].transpose(1, 0, 2),
    8: lambda x: np.rot90(x, 1),
}


@pytest.mark.parametrize("orientation", UPRIGHT)
@pytest.mark.parametrize("form", ["PNG", "WEBP"])
def test_exif_orientation_is_applied(orientation, form):
    pixels = noise(4, 6, 3)
    exif = Image.Exif()
    exif[0x0112] = orientation
    file = encoded(pixels, form, exif=exif, **({"lossless": True} if form == "WEBP" else {}))
    wanted = UPRIGHT[orientation](pixels)
    header = read_header(file)
    assert (header.size, header.turned) == (wanted.shape[:2], orientation > 1)
    file.seek(0)
    np.testing.assert_array_equal(decode(file, Rule()), wanted)


def test_transparency_is_laid_over_white_when_asked():
    pixels = noise(6, 6, 4)
    file = encoded(pixels)
    assert read_header(file).kind == "alpha"
    colour, alpha = pixels[..., :3].astype(float), pixels[..., 3:] / 255
    file.seek(0)
    np.testing.assert_allclose(decode(file, Rule(convert="rgb")), colour * alpha + 255 * (1 - alpha), atol=1)
    file.seek(0)
    np.testing.assert_array_equal(decode(file, Rule(convert="rgba")), pixels)
    assert decode(encoded(noise(3, 3)), Rule(convert="rgba")).shape == (3, 3, 4)
    assert read_header(encoded(noise(3, 3, 3), transparency=(1, 2, 3))).kind == "alpha"


def test_sixteen_bits_become_eight_by_dividing_by_257():
    values = np.random.RandomState(0).randint(0, 65536, (7, 7)).astype(np.uint16)
    values[0, :2] = 0, 65535
    file = encoded(Image.fromarray(values))
    assert read_header(file).kind == "16-bit"
    file.seek(0)
    grey = decode(file, Rule(convert="grey"))
    np.testing.assert_array_equal(grey[..., 0], np.round(values / 257))
    assert grey.min() == 0
    assert grey.max() == 255


def test_palettes_and_bits_change_no_pixel():
    bits = np.random.RandomState(0).rand(5, 5) > 0.5
    np.testing.assert_array_equal(decode(encoded(Image.fromarray(bits)), Rule())[..., 0], bits * 255)
    few = noise(4, 3)[noise(6, 6) % 4]
    palette = Image.fromarray(few).convert("P", palette=Image.Palette.ADAPTIVE, colors=4)
    np.testing.assert_array_equal(decode(encoded(palette), Rule()), np.asarray(palette.convert("RGB")))


def test_cmyk_is_recognised_and_translated():
    file = encoded(Image.new("CMYK", (4, 4), (0, 255, 255, 0)), "JPEG", quality=100)
    assert read_header(file).kind == "CMYK"
    file.seek(0)
    np.testing.assert_allclose(decode(file, Rule(convert="rgb")), np.broadcast_to([255, 0, 0], (4, 4, 3)), atol=3)


def test_grey_is_the_luma_of_rgb():
    pixels = noise(5, 5, 3)
    luma = pixels @ [0.299, 0.587, 0.114]  # ITU-R 601-2, as PIL documents for mode L
    np.testing.assert_allclose(decode(encoded(pixels), Rule(convert="grey"))[..., 0], luma, atol=1)
    grey = noise(5, 5)
    np.testing.assert_array_equal(decode(encoded(grey), Rule(convert="rgb")), np.repeat(grey[..., None], 3, axis=2))


def test_crop_takes_the_middle_square_and_squash_takes_all():
    wide = noise(8, 16, 3)
    np.testing.assert_array_equal(decode(encoded(wide), Rule(8, "center")), wide[:, 4:12])
    np.testing.assert_array_equal(
        decode(encoded(wide.transpose(1, 0, 2)), Rule(8, "center")), wide.transpose(1, 0, 2)[4:12]
    )
    halves = np.repeat(np.array([0, 255], np.uint8), [8, 8])[None].repeat(8, axis=0)
    squashed = decode(encoded(halves), Rule(8, "none", "box"))[..., 0]
    np.testing.assert_array_equal(squashed, np.repeat([[0, 255]], 8, axis=0).repeat(4, axis=1))
    np.testing.assert_array_equal(decode(encoded(wide[:, :8]), Rule(8)), wide[:, :8])
    for name in resize.FILTERS:
        flat = decode(encoded(np.full((16, 16), 77, np.uint8)), Rule(5, "none", name))
        np.testing.assert_array_equal(flat, 77)


def chunk(kind, data):
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def bomb():
    """A PNG of 70 bytes that says it holds 60,000 x 60,000 pixels."""
    header = struct.pack(">IIBBBBB", 60_000, 60_000, 8, 2, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"\0" * 99)) + chunk(b"IEND", b"")
    )


def truncated(form, keep=0.6):
    whole = encoded(noise(64, 64, 3), form).getvalue()
    return whole[: int(len(whole) * keep)]


def animation():
    frames = [Image.fromarray(noise(4, 4, seed=i)) for i in range(3)]
    return encoded(frames[0], "PNG", save_all=True, append_images=frames[1:]).getvalue()


@pytest.mark.parametrize("read", [read_header, lambda file: decode(file, Rule())], ids=["header", "pixels"])
@pytest.mark.parametrize(
    ("data", "words"),
    [(bomb(), "too many pixels"), (animation(), "animation of 3"), (b"hello", "not an image"), (b"", "not")],
)
def test_what_is_no_safe_single_image_is_refused(read, data, words):
    with pytest.raises(ValueError, match=words):
        read(io.BytesIO(data))


def test_a_png_with_a_wrong_checksum_is_never_taken_for_whole():
    whole = encoded(noise(40, 40, 3)).getvalue()
    refused = 0
    for place in range(60, len(whole) - 20, 97):
        data = bytearray(whole)
        data[place] ^= 1
        with pytest.raises(ValueError, match=r"\w"):
            decode(io.BytesIO(bytes(data)), Rule())
        refused += 1
    assert refused > 20


def test_exif_behind_the_pixels_of_a_png_counts_too():
    pixels = noise(4, 6, 3)
    exif = Image.Exif()
    exif[0x0112] = 6
    plain = encoded(pixels).getvalue()
    end = plain.index(b"IEND") - 4
    late = plain[:end] + chunk(b"eXIf", exif.tobytes().removeprefix(b"Exif\0\0")) + plain[end:]
    assert read_header(io.BytesIO(late)) == Header((6, 4), "rgb", True)
    np.testing.assert_array_equal(decode(io.BytesIO(late), Rule()), np.rot90(pixels, -1))


def test_sixteen_bit_rgb_keeps_its_upper_bytes():
    values = np.random.RandomState(0).randint(0, 65536, (5, 7, 3)).astype(">u2")
    rows = b"".join(b"\0" + row.tobytes() for row in values)
    header = struct.pack(">IIBBBBB", 7, 5, 16, 2, 0, 0, 0)
    parts = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
    file = b"\x89PNG\r\n\x1a\n" + parts
    assert read_header(io.BytesIO(file)).kind == "16-bit"
    np.testing.assert_array_equal(decode(io.BytesIO(file), Rule(convert="rgb")), values >> 8)


@pytest.mark.parametrize(("shape", "kind"), [((16, 16), "grey"), ((5, 5, 3), "rgb"), ((54, 54, 3), "rgb")])
def test_bitmaps_whose_rows_are_16_bytes_long_are_not_16_bits_deep(shape, kind):
    assert read_header(encoded(noise(*shape), "BMP")).kind == kind


def test_a_photograph_with_its_previews_is_the_photograph():
    photo = Image.fromarray(np.full((8, 8, 3), 90, np.uint8))
    file = encoded(photo, "MPO", save_all=True, append_images=[photo.resize((4, 4))])
    assert read_header(file).size == (8, 8)
    file.seek(0)
    np.testing.assert_allclose(decode(file, Rule()), 90, atol=2)


@pytest.mark.parametrize("form", ["PNG", "JPEG", "WEBP", "BMP"])
@pytest.mark.parametrize("rule", [Rule(), Rule(convert="grey")], ids=["plain", "converted"])
def test_truncated_files_are_refused(form, rule):
    with pytest.raises(ValueError, match=r"\w"):
        decode(io.BytesIO(truncated(form)), rule)


@pytest.mark.parametrize("values", [{"crop": "centre"}, {"filter": "lancsoz"}, {"convert": "gray"}])
def test_unknown_names_get_a_suggestion(values):
    with pytest.raises(ConfigError, match="did you mean"):
        Rule(**values)
