"""Augmentation on the device: closed forms of each change, and keys that belong to examples."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from genmodels.core.parallel import Parallel, whole_view
from genmodels.data.augment import Augment, _bilinear, crop_box

KEYS = jax.random.split(jax.random.key(0), 64)


def images(count=64, channels=3, size=8):
    return jax.random.uniform(jax.random.key(1), (count, size, size, channels), minval=-1, maxval=1)


def run(x, **values):
    return np.asarray(jax.jit(Augment(**values))({"image": x}, KEYS[: len(x)])["image"])


@pytest.mark.parametrize(("name", "axis"), [("flip", 2), ("flip_vertical", 1)])
def test_flips_mirror_about_half_of_the_images(name, axis):
    x = np.asarray(images())
    out = run(x, **{name: True})
    flipped = (out == np.flip(x, axis)).all(axis=(1, 2, 3))
    assert ((out == x).all(axis=(1, 2, 3)) ^ flipped).all()
    assert 16 < flipped.sum() < 48  # four standard deviations of 64 fair coins


def test_pad_and_crop_cuts_every_window_of_the_padded_image():
    x = np.asarray(images(channels=1, size=4))
    x = np.broadcast_to(x[:1], x.shape)
    padded = np.pad(x[0], ((1, 1), (1, 1), (0, 0)), mode="reflect")
    windows = [padded[i : i + 4, j : j + 4] for i, j in itertools.product(range(3), repeat=2)]
    which = [next(k for k, window in enumerate(windows) if (window == out).all()) for out in run(x, pad_crop=1)]
    assert set(which) == set(range(9))


BOXES = jax.jit(jax.vmap(crop_box, (0, None, None, None)), static_argnums=(1, 2, 3))


@pytest.mark.parametrize(("height", "width", "least"), [(32, 32, 0.05), (24, 40, 0.3), (40, 30, 0.08)])
def test_random_crops_have_the_areas_and_aspects_of_inceptions_preprocessing(height, width, least):
    top, left, rows, columns = np.asarray(BOXES(jax.random.split(jax.random.key(0), 4000), height, width, least)).T
    assert min(top.min(), left.min()) >= 0
    assert (top + rows).max() <= height + 1e-4
    assert (left + columns).max() <= width + 1e-4
    area, aspect = rows * columns / (height * width), columns / rows
    assert area.min() >= least - 1e-5
    square = width / height
    lowest, highest = max(3 / 4, least * square), min(4 / 3, square / least)
    largest = np.minimum(height, width / aspect)
    smallest = np.sqrt(least * height * width / aspect)
    for share in (
        (aspect - lowest) / (highest - lowest),  # each uniform in [0, 1], given those above it
        (rows - smallest) / (largest - smallest),
        top / (height - rows),
        left / (width - columns),
    ):
        assert stats.kstest(share, "uniform").pvalue > 1e-3
    # E[height^2] over aspects a uniform in [3/4, 4/3], by quadrature of (s^2 + s l + l^2) / 3.
    a = lowest + (highest - lowest) * (np.arange(10_000) + 0.5) / 10_000
    s, m = np.sqrt(least * height * width / a), np.minimum(height, width / a)
    wanted = (a * (s * s + s * m + m * m) / 3).mean() / (height * width)
    np.testing.assert_allclose(area.mean(), wanted, atol=4 * area.std() / np.sqrt(len(area)))


@pytest.mark.parametrize("size", [(8, 8), (9, 8), (8, 20)])
def test_a_crop_of_the_whole_area_is_the_image(size):
    x = jax.random.uniform(jax.random.key(1), (16, *size, 3), minval=-1, maxval=1)
    np.testing.assert_allclose(run(x, crop_area=1.0), x, atol=1e-6)


@pytest.mark.parametrize(("start", "length"), [(0, 8), (2, 5), (7, 1), (3, 2)])
def test_a_crop_of_whole_pixels_is_resized_as_jax_resizes_it(start, length):
    x = np.asarray(images(1)[0])
    weights = _bilinear(8, jnp.float32(start), jnp.float32(length))
    found = np.einsum("rR,RCk->rCk", weights, x)
    cropped = jax.image.resize(x[start : start + length], x.shape, "linear", antialias=False)
    np.testing.assert_allclose(found, cropped, atol=1e-6)


def test_random_crops_enlarge_a_part_of_the_image():
    """Of a ramp they make a ramp that is never steeper, and they keep what does not change within the image."""
    ramp = jnp.broadcast_to(jnp.linspace(-1, 1, 16)[:, None, None], (16, 16, 3))
    out = run(jnp.broadcast_to(ramp, (64, 16, 16, 3)), crop_area=0.05)
    np.testing.assert_allclose(out, np.broadcast_to(out[:, :, :1, :1], out.shape), atol=1e-5)
    steps = np.diff(out[:, :, 0, 0], axis=1)
    assert steps.min() > -1e-6
    assert steps.max() < 2 / 15 + 1e-5
    assert np.ptp(out[:, 0, 0, 0]) > 0.5  # the crops begin at different rows


def test_dequantisation_spreads_each_level_over_its_own_interval():
    levels = jnp.arange(256).reshape(1, 16, 16, 1)
    x = jnp.broadcast_to(levels / 127.5 - 1, (64, 16, 16, 1))
    u = (run(x, dequantize=True) + 1) * 128 - np.asarray(levels)
    assert u.min() > -1e-4
    assert u.max() < 1 + 1e-4
    assert stats.kstest(u.ravel(), "uniform").pvalue > 1e-3


def test_a_new_augmentation_leaves_the_random_numbers_of_the_others():
    """Runs that began before there was a crop_area resume bit for bit."""
    streams = [jax.random.key_data(jax.random.split(jax.random.key(3), count)) for count in (5, 7)]
    np.testing.assert_array_equal(streams[0], streams[1][:5])


def test_cutout_sets_a_square_to_mid_grey_and_leaves_the_rest():
    x = np.asarray(images()) + 5
    out = run(x, cutout=3)
    cut = (out == 0).all(axis=-1)
    np.testing.assert_array_equal(out[~cut], x[~cut])
    areas = cut.sum(axis=(1, 2))
    assert areas.max() == 9
    assert areas.min() >= 4  # a corner
    for mask in cut[areas == 9]:
        rows, columns = np.nonzero(mask)
        assert np.ptp(rows) == np.ptp(columns) == 2


def test_brightness_shifts_every_pixel_of_an_image_by_one_amount():
    x = images() * 0.4
    shift = run(x, brightness=0.2) - np.asarray(x)
    np.testing.assert_allclose(shift, np.broadcast_to(shift[:, :1, :1, :1], shift.shape), atol=1e-6)
    assert 0.3 < np.abs(shift).max() <= 0.4 + 1e-6  # 0.2 of [0, 1] is 0.4 of [-1, 1]
    assert shift.std() > 0.1


def test_contrast_saturation_and_hue_keep_what_they_must():
    x = images() * 0.5
    contrast = run(x, contrast=0.5)
    centred = lambda y: y - y.mean(axis=(1, 2), keepdims=True)  # noqa: E731
    ratio = centred(contrast) / centred(np.asarray(x))
    np.testing.assert_allclose(ratio, np.broadcast_to(ratio[:, :1, :1, :1], ratio.shape), rtol=1e-3)
    assert ratio.min() >= 0.5 - 1e-3
    assert ratio.max() <= 1.5 + 1e-3
    grey = jnp.repeat(images(channels=1), 3, axis=-1) * 0.9
    for name in ("saturation", "hue"):
        np.testing.assert_allclose(run(grey, **{name: 1.0}), grey, atol=1e-5)
        assert np.abs(run(x, **{name: 1.0}) - np.asarray(x)).max() > 0.1
    value = lambda y: (y.max(axis=-1), y.min(axis=-1))  # noqa: E731  (turning the hue keeps HSV's value and chroma)
    np.testing.assert_allclose(value(run(x, hue=1.0)), value(np.asarray(x)), atol=1e-5)


def test_an_example_keeps_its_changes_wherever_it_runs():
    colours = {"brightness": 0.1, "contrast": 0.1, "saturation": 0.1, "hue": 0.1}
    augment = Augment(flip=True, pad_crop=2, crop_area=0.2, dequantize=True, cutout=2, **colours)

    def fn(variables, frozen, inputs, dist):
        return augment({"image": inputs["image"]}, dist.example_keys(jax.random.key(3)))

    alone = jax.jit(lambda x: fn({}, {}, {"image": x}, whole_view(x))["image"])
    x = images(16)
    whole = alone(x)
    for mode, devices in (("pmap", 8), ("sharded", 8), ("pmap", 1)):
        predict = Parallel(mode, jax.devices()[:devices]).compile_predict(fn)
        np.testing.assert_allclose(predict({}, {}, {"image": np.asarray(x)})["image"], whole, atol=5e-6)
    np.testing.assert_allclose(alone(x[:4]), whole[:4], atol=5e-6)


def test_both_sides_of_a_pair_change_differently_and_labels_do_not():
    x = images()
    out = Augment(flip=True)({"a": x, "b": x, "label": jnp.arange(64)}, KEYS)
    assert (np.asarray(out["a"]) != np.asarray(out["b"])).any()
    np.testing.assert_array_equal(out["label"], np.arange(64))


@pytest.mark.parametrize(
    ("values", "shape", "words"),
    [
        ({"hue": 0.1}, (8, 8, 1), "for RGB"),
        ({"pad_crop": 8}, (8, 9, 3), "pad_crop must be less than"),
        ({"cutout": 9}, (8, 9, 3), "cutout at most"),
        ({"crop_area": 1.5}, None, r"crop_area must be within \[0, 1\]"),
        ({"crop_area": -0.1}, None, r"crop_area must be within \[0, 1\]"),
        ({"brightness": 1.5}, None, r"within \[0, 1\]"),
        ({"cutout": -1}, None, "not be negative"),
    ],
)
def test_impossible_augmentations_are_refused(values, shape, words):
    with pytest.raises(ValueError, match=words):
        Augment(**values).check(shape)
