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


@pytest.mark.parametrize("zero", [False, True])
@pytest.mark.parametrize("name", schedules.BETAS)
def test_signal_falls_and_noise_rises(name, zero):
    schedule = schedules.Schedule.named(name, 50, zero)
    assert (np.diff(schedule.alpha) < 0).all()
    np.testing.assert_allclose(schedule.alpha**2 + schedule.sigma**2, 1, rtol=1e-12)


@pytest.mark.parametrize("name", schedules.BETAS)
def test_zero_terminal_snr_leaves_the_first_step_and_takes_all_signal_from_the_last(name):
    plain, rescaled = (schedules.Schedule.named(name, 100, zero) for zero in (False, True))
    assert rescaled.alpha[-1] == 0
    assert rescaled.betas[-1] == 1
    np.testing.assert_allclose(rescaled.alpha[0], plain.alpha[0], rtol=1e-12)
    # shifted and scaled: differences keep their proportions
    np.testing.assert_allclose(
        np.diff(rescaled.alpha) / np.diff(plain.alpha), plain.alpha[0] / (plain.alpha[0] - plain.alpha[-1]), rtol=1e-6
    )


def test_the_data_is_at_step_minus_one():
    schedule = schedules.Schedule.named("linear", 10)
    np.testing.assert_array_equal(
        schedule.alphas_cumprod_at(np.array([9, 0, -1])), [*schedule.alphas_cumprod[[9, 0]], 1.0]
    )


@pytest.mark.parametrize(("name", "steps", "zero"), [("linera", 10, False), ("linear", 0, False), ("linear", 1, True)])
def test_bad_schedules_are_refused(name, steps, zero):
    with pytest.raises(ValueError, match="schedule"):
        schedules.Schedule.named(name, steps, zero)


@pytest.mark.parametrize("betas", [[0.1, 1.1], [1.0, 0.1], [0.0, 0.5], []])
def test_betas_outside_0_to_1_are_refused(betas):
    with pytest.raises(ValueError, match="betas"):
        schedules.Schedule(np.array(betas))
