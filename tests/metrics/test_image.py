import numpy as np
import pytest
from scipy.ndimage import correlate1d
from skimage.metrics import peak_signal_noise_ratio, structural_similarity

from genmodels.metrics import image

WANG = {"gaussian_weights": True, "sigma": 1.5, "use_sample_covariance": False, "data_range": 1, "channel_axis": -1}


def noise(seed, shape):
    return np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)


def nearby(a, deviation, seed=9):
    moved = a + np.random.default_rng(seed).normal(0, deviation, a.shape)
    return np.clip(np.rint(moved), 0, 255).astype(np.uint8)


def smooth(shape):
    """Waves, as the large areas of photographs are smooth."""
    _, height, width, channels = shape
    y, x, c = np.meshgrid(np.arange(height), np.arange(width), np.arange(channels), indexing="ij")
    return np.rint(127 + 120 * np.sin(y / 9 + c) * np.cos(x / 13)).astype(np.uint8)[None].repeat(shape[0], 0)


def pairs(shape):
    a, s = noise(0, shape), smooth(shape)
    one_pixel = s.copy()
    one_pixel[:, 3, 5] ^= 1
    flat = np.full(shape, 100, np.uint8)
    edge = np.where(np.arange(shape[2])[:, None] < shape[2] // 2, 0, 255).astype(np.uint8) + np.zeros(shape, np.uint8)
    return {
        "unrelated": (a, noise(1, shape)),
        "noisy": (a, nearby(a, 20)),
        "noisy waves": (s, nearby(s, 8)),
        "one grey level": (s, s + 1),
        "one pixel": (s, one_pixel),
        "edge": (edge, np.where(edge, edge, 1).astype(np.uint8)),
        "negative": (s, 255 - s),
        "flat": (flat, flat + 51),
        "flat by one level": (flat, flat + 1),
        "flat and noise": (flat, a),
        "black and white": (np.zeros(shape, np.uint8), np.full(shape, 255, np.uint8)),
        "white by one level": (np.full(shape, 255, np.uint8), np.full(shape, 254, np.uint8)),
    }


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("size", [(28, 28), (64, 64), (256, 256), (32, 45)])
def test_psnr_and_ssim_equal_scikit_image(size, channels):
    for name, (a, b) in pairs((1, *size, channels)).items():
        x, y = a[0] / 255, b[0] / 255
        psnr = peak_signal_noise_ratio(x, y, data_range=1)
        np.testing.assert_allclose(image.psnr(a, b), [psnr], rtol=0, atol=1e-5, err_msg=name)
        ssim = structural_similarity(x, y, **WANG)
        np.testing.assert_allclose(image.ssim(a, b), [ssim], rtol=0, atol=1e-5, err_msg=name)


def test_flat_images_equal_a_calculation_by_hand():
    a = np.full((1, 16, 16, 1), 100, np.uint8)
    np.testing.assert_allclose(image.psnr(a, a + 51), -10 * np.log10(0.2**2), atol=1e-5)
    x, y = 100 / 255, 151 / 255  # only the luminance term of SSIM is not 1
    np.testing.assert_allclose(image.ssim(a, a + 51), (2 * x * y + 1e-4) / (x * x + y * y + 1e-4), atol=1e-5)


@pytest.mark.parametrize("shape", [(2, 28, 28, 3), (1, 176, 176, 1)])
def test_identical_images_have_infinite_psnr_and_ssim_one(shape):
    for a in (noise(0, shape), smooth(shape), np.full(shape, 200, np.uint8), np.zeros(shape, np.uint8)):
        assert (image.psnr(a, a) == np.inf).all()
        np.testing.assert_allclose(image.ssim(a, a), 1, atol=1e-6)
        if min(shape[1:3]) >= 176:
            np.testing.assert_allclose(image.ms_ssim(a, a), 1, atol=1e-6)


def test_the_metrics_are_symmetric():
    a = noise(0, (1, 176, 176, 1))
    b = nearby(a, 40)
    for metric in (image.psnr, image.ssim, image.ms_ssim):
        np.testing.assert_allclose(metric(a, b), metric(b, a), rtol=1e-6)


def test_every_image_has_its_own_value_in_batches(monkeypatch):
    a, b = noise(0, (7, 12, 12, 1)), noise(1, (7, 12, 12, 1))
    single = [(image.psnr(a[i : i + 1], b[i : i + 1])[0], image.ssim(a[i : i + 1], b[i : i + 1])[0]) for i in range(7)]
    assert len(set(single)) == 7
    monkeypatch.setattr(image, "BATCH_VALUES", 3 * 144)
    np.testing.assert_allclose(np.stack([image.psnr(a, b), image.ssim(a, b)], axis=1), single, rtol=1e-6)


def plain_maps(x, y, taps):
    """Wang et al. 2004 in float64 for one channel in [0, 1]: luminance, and contrast times structure."""
    reach = taps // 2
    weights = np.exp(-(np.arange(-reach, reach + 1) ** 2) / (2 * 1.5**2))

    def blurred(z):
        z = correlate1d(correlate1d(z, weights / weights.sum(), axis=0), weights / weights.sum(), axis=1)
        return z[reach:-reach, reach:-reach]

    mx, my = blurred(x), blurred(y)
    vx, vy, vxy = blurred(x * x) - mx**2, blurred(y * y) - my**2, blurred(x * y) - mx * my
    return (2 * mx * my + 0.01**2) / (mx**2 + my**2 + 0.01**2), (2 * vxy + 0.03**2) / (vx + vy + 0.03**2)


def plain_ms_ssim(x, y):
    """Wang et al. 2003; a side that is odd repeats its last pixel before it is halved, as theirs does."""
    value = 1.0
    for scale, exponent in enumerate([0.0448, 0.2856, 0.3001, 0.2363, 0.1333]):
        if scale:
            x, y = (np.pad(z, [(0, n % 2) for n in z.shape], "edge") for z in (x, y))
            x, y = ((z[::2, ::2] + z[1::2, ::2] + z[::2, 1::2] + z[1::2, 1::2]) / 4 for z in (x, y))
        luminance, structure = plain_maps(x, y, 11)
        term = luminance * structure if scale == 4 else structure
        value *= max(term.mean(), 0) ** exponent
    return value


def mean_of_channels(metric, a, b, *args):
    return np.mean([metric(a[0, ..., c] / 255, b[0, ..., c] / 255, *args) for c in range(a.shape[-1])])


@pytest.mark.parametrize(("side", "window"), [(8, 7), (9, 9), (10, 9), (11, 11), (40, 11)])
def test_ssim_of_small_images_uses_the_largest_odd_window(side, window):
    assert image.ssim_window(side, 40) == image.ssim_window(40, side) == window
    a = noise(0, (1, side, 40, 2))
    b = nearby(a, 30)
    expected = mean_of_channels(lambda *pair: np.prod(plain_maps(*pair), axis=0).mean(), a, b, window)
    np.testing.assert_allclose(image.ssim(a, b), [expected], rtol=0, atol=1e-5)


@pytest.mark.parametrize("shape", [(1, 176, 176, 1), (1, 181, 202, 2)])
def test_ms_ssim_equals_a_plain_implementation(shape):
    for name, (a, b) in pairs(shape).items():
        expected = mean_of_channels(plain_ms_ssim, a, b)
        np.testing.assert_allclose(image.ms_ssim(a, b), [expected], rtol=0, atol=1e-4, err_msg=name)


@pytest.mark.parametrize("size", [(175, 256), (256, 175)])
def test_ms_ssim_refuses_images_whose_coarsest_scale_is_under_the_window(size):
    with pytest.raises(ValueError, match="176"):
        image.ms_ssim(noise(0, (1, *size, 1)), noise(1, (1, *size, 1)))


@pytest.mark.parametrize("metric", [image.psnr, image.ssim, image.ms_ssim])
def test_images_that_do_not_form_pairs_are_refused(metric):
    a = noise(0, (3, 176, 176, 1))
    for b in (a[:2], a[:, :-1], a.repeat(3, -1)):
        with pytest.raises(ValueError, match="shapes"):
            metric(a, b)
    with pytest.raises(ValueError, match="at least one"):
        metric(a[:0], a[:0])
    with pytest.raises(TypeError, match="UInt8"):
        metric(a, a.astype(np.float32) / 255)  # a range of values would have to be guessed
