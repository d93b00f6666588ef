import numpy as np
import pytest
import scipy.linalg
from skimage.metrics import peak_signal_noise_ratio, structural_similarity

from genmodels.metrics import frechet, image
from genmodels.metrics.nearest import nearest_neighbours


def features(seed, n, d):
    rng = np.random.default_rng(seed)
    return rng.normal(size=(n, d)) @ rng.normal(size=(d, d)) + rng.normal(size=d)


def reference_distance(a, b):
    """The definition, by scipy's matrix square root."""
    s1, s2 = np.cov(a, rowvar=False), np.cov(b, rowvar=False)
    root = scipy.linalg.sqrtm(s1 @ s2)
    return np.sum((a.mean(0) - b.mean(0)) ** 2) + np.trace(s1 + s2) - 2 * np.trace(root).real


def test_frechet_equals_its_definition_at_full_rank():
    a, b = features(0, 400, 12), features(1, 300, 12)
    np.testing.assert_allclose(frechet.frechet_distance(a, b), reference_distance(a, b), rtol=1e-8)


def test_frechet_between_gaussians_in_one_dimension():
    a, b = np.array([[0.0], [2.0]]), np.array([[1.0], [7.0]])  # means 1, 4; variances 2, 18
    np.testing.assert_allclose(frechet.frechet_distance(a, b), 9 + (np.sqrt(18) - np.sqrt(2)) ** 2, rtol=1e-12)


def test_frechet_with_fewer_rows_than_dimensions_is_the_nuclear_norm():
    a, b = features(0, 9, 40), features(1, 12, 40)
    ca, cb = (a - a.mean(0)) / np.sqrt(8), (b - b.mean(0)) / np.sqrt(11)
    nuclear = np.linalg.norm(ca @ cb.T, "nuc")
    expected = np.sum((a.mean(0) - b.mean(0)) ** 2) + (ca**2).sum() + (cb**2).sum() - 2 * nuclear
    np.testing.assert_allclose(frechet.frechet_distance(a, b), expected, rtol=1e-6)
    assert abs(frechet.frechet_distance(a, a)) < 1e-8


@pytest.mark.parametrize("bad", [np.zeros((1, 3)), np.zeros((4, 2)), np.full((4, 3), np.nan)])
def test_frechet_refuses_what_has_no_covariance(bad):
    with pytest.raises(ValueError, match=r"rows|features"):
        frechet.frechet_distance(np.zeros((5, 3)), bad)


def test_psnr_and_ssim_by_hand():
    a = np.full((2, 16, 16, 1), 100, np.uint8)
    b = a.copy()
    b[1] += 51  # mean squared error 0.2^2
    values = image.psnr(a, b)
    assert np.isinf(values[0])
    np.testing.assert_allclose(values[1], -10 * np.log10(0.04), atol=1e-4)
    x, y = 100 / 255, 151 / 255  # flat images: only the luminance term of SSIM is not 1
    np.testing.assert_allclose(image.ssim(a, b), [1, (2 * x * y + 1e-4) / (x * x + y * y + 1e-4)], atol=5e-4)


def test_ssim_of_small_images_says_its_window():
    assert [image.ssim_window(n, 40) for n in (8, 9, 11, 40)] == [7, 9, 11, 11]
    noise = np.random.default_rng(0).integers(0, 256, (3, 8, 8, 1), dtype=np.uint8)
    np.testing.assert_allclose(image.ssim(noise, noise), 1, atol=1e-5)
    with pytest.raises(ValueError, match="shapes"):
        image.ssim(noise, noise[:2])


@pytest.mark.parametrize("channels", [1, 3])
def test_ssim_and_psnr_equal_scikit_image(channels):
    rng = np.random.default_rng(0)
    a = rng.integers(0, 256, (2, 32, 28, channels), dtype=np.uint8)
    b = np.clip(a + rng.normal(0, 20, a.shape), 0, 255).astype(np.uint8)
    settings = {
        "gaussian_weights": True,
        "sigma": 1.5,
        "use_sample_covariance": False,
        "data_range": 1,
        "channel_axis": -1,
    }
    for i in range(2):
        x, y = a[i] / 255, b[i] / 255
        np.testing.assert_allclose(image.ssim(a, b)[i], structural_similarity(x, y, **settings), atol=1e-5)
        np.testing.assert_allclose(image.psnr(a, b)[i], peak_signal_noise_ratio(x, y, data_range=1), atol=1e-4)


def test_nearest_neighbours_equal_brute_force_and_copies_are_at_zero():
    rng = np.random.default_rng(0)
    q, r = (rng.integers(0, 256, (n, 4, 4, 1), dtype=np.uint8) for n in (30, 50))
    q[3] = r[17]
    distance, index = nearest_neighbours(q, r, memory=8 * 16 * 7)
    every = np.linalg.norm((q[:, None].astype(float) - r[None]).reshape(30, 50, -1) / 255, axis=-1)
    np.testing.assert_allclose(distance, every.min(1), atol=1e-12)
    np.testing.assert_array_equal(index, every.argmin(1))
    assert (distance[3], index[3]) == (0, 17)
