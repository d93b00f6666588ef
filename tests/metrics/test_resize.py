import jax.numpy as jnp
import numpy as np
import PIL.Image
import pytest

from genmodels.metrics.resize import RESIZES, resize, resize_on_host

SIZES = [
    ((32, 32), 299),
    ((28, 28), 64),
    ((64, 48), 299),
    ((301, 77), 40),
    ((33, 300), 299),
    ((37, 37), 36),
    ((5, 7), 6),
]


def noise(shape, seed=0):
    return np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)


def bars(shape):
    """Black and white in bars of three pixels: bicubic overshoots at every edge."""
    return np.broadcast_to(np.where(np.arange(shape[1]) // 3 % 2, 255, 0)[:, None], shape).astype(np.uint8)


def pillow(image, size):
    """clean-fid's: each channel as an image of floats."""
    channels = [PIL.Image.fromarray(c.astype(np.float32)) for c in np.moveaxis(image, -1, 0)]
    assert channels[0].mode == "F"
    return np.clip(np.stack([c.resize((size, size), PIL.Image.Resampling.BICUBIC) for c in channels], -1), 0, 255)


def gather_and_lerp(image, size):
    """TensorFlow 1's kernel: of each target pixel the four around its source, top left first; positions in float32."""
    x = image.astype(np.float64)

    def around(n):
        source = np.float32([np.float32(i) * np.float32(n / size) for i in range(size)])
        low = source.astype(int)
        return low, np.minimum(low + 1, n - 1), (source - low).astype(np.float64)

    (top, bottom, dy), (left, right, dx) = (around(n) for n in image.shape[:2])
    dy, dx = dy[:, None, None], dx[None, :, None]
    upper = x[top][:, left] + (x[top][:, right] - x[top][:, left]) * dx
    lower = x[bottom][:, left] + (x[bottom][:, right] - x[bottom][:, left]) * dx
    return upper + (lower - upper) * dy


def both(kind, image, size):
    """By the device and by the host."""
    yield np.asarray(resize(kind, jnp.asarray(image)[None], size))[0]
    yield resize_on_host(kind, image, size)


@pytest.mark.parametrize("content", [noise, bars])
@pytest.mark.parametrize(("shape", "size"), SIZES)
def test_clean_equals_pillows_bicubic_on_float_channels_clipped(shape, size, content):
    image = content((*shape, 3))
    for found in both("clean", image, size):
        np.testing.assert_allclose(found, pillow(image, size), rtol=0, atol=1e-3)


@pytest.mark.parametrize(("shape", "size"), SIZES)
def test_tf1_is_two_taps_per_axis_without_half_pixel_offset(shape, size):
    image = noise((*shape, 3))
    for found in both("tf1", image, size):
        np.testing.assert_allclose(found, gather_and_lerp(image, size), rtol=0, atol=1e-3)


def test_tf1_equals_a_calculation_by_hand():
    row = np.array([10, 20, 40, 80], np.uint8)[None, :, None].repeat(4, 0)
    np.testing.assert_allclose(resize_on_host("tf1", row, 8)[0, :, 0], [10, 15, 20, 30, 40, 60, 80, 80])
    np.testing.assert_allclose(resize_on_host("tf1", row, 2)[1, :, 0], [10, 40])  # no antialiasing: pixels are dropped


def test_the_two_resizes_differ_by_several_grey_levels_at_32_pixels():
    x = jnp.asarray(noise((1, 32, 32, 3)))
    assert float(jnp.abs(resize("tf1", x, 299) - resize("clean", x, 299)).mean()) > 5


@pytest.mark.parametrize("kind", RESIZES)
@pytest.mark.parametrize("dtype", [np.uint8, np.float32])
def test_device_and_host_agree_on_every_image_of_a_batch(kind, dtype):
    images = np.stack([noise((29, 41, 3), seed) for seed in range(3)]).astype(dtype)
    batch = resize(kind, jnp.asarray(images), 50)
    assert batch.dtype == jnp.float32
    for image, found in zip(images, batch, strict=True):
        np.testing.assert_allclose(found, resize_on_host(kind, image, 50), rtol=0, atol=1e-3)


@pytest.mark.parametrize("kind", RESIZES)
def test_resizing_to_the_same_size_is_the_identity_and_flat_images_stay_flat(kind):
    image = noise((31, 31, 3))
    for found in both(kind, image, 31):
        np.testing.assert_allclose(found, image, atol=1e-4)
    for size in (17, 60):
        for found in both(kind, np.full((31, 20, 1), 200, np.uint8), size):
            np.testing.assert_allclose(found, np.full((size, size, 1), 200), atol=1e-3)


def test_unknown_resizes_are_refused():
    image = noise((8, 8, 3))
    with pytest.raises(ValueError, match="unknown resize 'bilinear'; there are tf1, clean"):
        resize("bilinear", jnp.asarray(image)[None], 16)
    with pytest.raises(ValueError, match="unknown resize"):
        resize_on_host("bilinear", image, 16)
