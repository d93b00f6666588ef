import numpy as np
import pytest

from genmodels.diffusion import schedules


def test_linear_betas_are_those_of_ddpm():
    betas = schedules.linear_betas(1000)
    assert betas[0] == 1e-4
    assert betas[-1] == 0.02
    np.testing.assert_allclose(np.diff(betas), (0.02 - 1e-4) / 999, rtol=1e-9)


@pytest.mark.parametrize("steps", [1, 7, 100, 1000, 4000])
def test_cosine_gives_its_alphas_cumprod_wherever_betas_are_not_clipped(steps):
    schedule = schedules.Schedule.named("cosine", steps)
    u = np.arange(1, steps + 1) / steps
    f = np.cos((u + 0.008) / 1.008 * np.pi / 2) ** 2 / np.cos(0.008 / 1.008 * np.pi / 2) ** 2
    free = schedule.betas < 0.999
    np.testing.assert_allclose(schedule.alphas_cumprod[free], f[free], rtol=1e-9)
    assert schedule.betas.max() <= 0.999


@pytest.mark.parametrize("name", schedules.BETAS)
def test_signal_falls_and_noise_rises(name):
    schedule = schedules.Schedule.named(name, 50)
    assert (np.diff(schedule.alpha) < 0).all()
    np.testing.assert_allclose(schedule.alpha**2 + schedule.sigma**2, 1, rtol=1e-12)


def test_the_data_is_at_step_minus_one():
    schedule = schedules.Schedule.named("linear", 10)
    np.testing.assert_array_equal(
        schedule.alphas_cumprod_at(np.array([9, 0, -1])), [*schedule.alphas_cumprod[[9, 0]], 1.0]
    )


@pytest.mark.parametrize(("name", "steps"), [("linera", 10), ("linear", 0)])
def test_bad_schedules_are_refused(name, steps):
    with pytest.raises(ValueError, match="schedule"):
        schedules.Schedule.named(name, steps)


def test_betas_outside_0_to_1_are_refused():
    with pytest.raises(ValueError, match="betas"):
        schedules.Schedule(np.array([0.1, 1.0]))


@pytest.mark.parametrize(
    ("spacing", "expected"), [("linspace", [9, 6, 3, 0]), ("leading", [6, 4, 2, 0]), ("trailing", [9, 7, 4, 1])]
)
def test_spacings_by_hand(spacing, expected):
    # trailing: round(10, 7.5, 5, 2.5) - 1, halves to even
    assert schedules.sampling_timesteps(10, 4, spacing).tolist() == expected


@pytest.mark.parametrize("spacing", schedules.SPACINGS)
@pytest.mark.parametrize(("train", "sample"), [(1000, 1000), (1000, 50), (1000, 7), (20, 4), (5, 1)])
def test_spacings_decrease_strictly_within_range(spacing, train, sample):
    t = schedules.sampling_timesteps(train, sample, spacing)
    assert len(t) == sample
    assert (np.diff(t) < 0).all()
    assert t.min() >= 0
    assert t.max() < train


@pytest.mark.parametrize(("sample", "spacing"), [(0, "linspace"), (11, "linspace"), (5, "even")])
def test_bad_spacings_are_refused(sample, spacing):
    with pytest.raises(ValueError, match=r"steps|spacing"):
        schedules.sampling_timesteps(10, sample, spacing)
