import numpy as np
import pytest

from genmodels.diffusion import spacing
from genmodels.diffusion.edm import EDM
from tests.diffusion.gaussian import PROCESSES, ddpm


@pytest.mark.parametrize(
    ("name", "expected"), [("linspace", [9, 6, 3, 0]), ("leading", [6, 4, 2, 0]), ("trailing", [9, 7, 4, 1])]
)
def test_spacings_by_hand(name, expected):
    # trailing: round(10, 7.5, 5, 2.5) - 1, halves to even
    assert spacing.sampling_timesteps(10, 4, name).tolist() == expected


@pytest.mark.parametrize("name", spacing.TIMESTEPS)
@pytest.mark.parametrize(("train", "sample"), [(1000, 1000), (1000, 50), (1000, 7), (20, 4), (5, 1)])
def test_spacings_decrease_strictly_within_range(name, train, sample):
    t = spacing.sampling_timesteps(train, sample, name)
    assert len(t) == sample
    assert (np.diff(t) < 0).all()
    assert t.min() >= 0
    assert t.max() < train


@pytest.mark.parametrize("name", PROCESSES)
@pytest.mark.parametrize("count", [1, 2, 17, 1000])
def test_every_grid_loses_noise_at_every_step_and_ends_at_the_data(name, count):
    process = PROCESSES[name]
    for spacing_name in process.spacings:
        grid = process.grid(count, spacing_name)
        assert grid.steps == count
        with np.errstate(divide="ignore"):
            assert (np.diff(grid.sigma / grid.alpha) < 0).all()
        assert (grid.alpha[-1], grid.sigma[-1]) == (1, 0)


def test_the_sigmas_of_edm_by_the_papers_formula():
    i = np.arange(18)
    wanted = (80 ** (1 / 7) + i / 17 * (0.002 ** (1 / 7) - 80 ** (1 / 7))) ** 7
    np.testing.assert_allclose(EDM().grid(18).sigma, [*wanted, 0], rtol=1e-12)


def test_the_spacing_logsnr_is_even_in_log_snr():
    grid = ddpm("linear").grid(12, "logsnr")
    steps = np.diff(np.log(grid.alpha[:-1] / grid.sigma[:-1]))
    np.testing.assert_allclose(steps, steps[0], rtol=1e-9)
    np.testing.assert_allclose(grid.time[[0, -2]], [999, 0], atol=1e-9)


@pytest.mark.parametrize("name", PROCESSES)
@pytest.mark.parametrize(("count", "spacing_name"), [(0, ""), (1001, ""), (5, "even")])
def test_bad_spacings_are_refused(name, count, spacing_name):
    process = PROCESSES[name]
    with pytest.raises(ValueError, match=r"steps|spacing"):
        process.grid(count, spacing_name or process.spacings[0])


@pytest.mark.parametrize("timesteps", [[], [3, 3], [1, 2], [20], [2, -1]])
def test_bad_timesteps_are_refused(timesteps):
    with pytest.raises(ValueError, match="timesteps"):
        ddpm("cosine", 20).grid_at(np.array(timesteps, np.int64))
