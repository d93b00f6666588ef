"""The loss of a denoiser without any training: that of a perfect one, and that of one with a known error."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from genmodels.core.optim import Frozen, make_optimizer
from genmodels.diffusion import parameterization
from genmodels.diffusion.parameterization import Output
from genmodels.diffusion.time_sampling import ImportanceSampler
from genmodels.tasks.diffusion import LOSS_HISTORY, Diffusion
from genmodels.tasks.diffusion_predict import Denoiser
from genmodels.tasks.diffusion_settings import DDPMConfig, EDMConfig, FlowConfig
from genmodels.tasks.network_optimizer import NetworkOptimizer
from tests.diffusion.gaussian import keys_for
from tests.helpers import experiment

LEVEL, ROWS = 0.3, 64
SETTINGS = {
    "epsilon": DDPMConfig(parameterization="epsilon"),
    "x0": DDPMConfig(parameterization="x0"),
    "velocity": DDPMConfig(parameterization="velocity"),
    "edm": EDMConfig(),
    "flow": FlowConfig(),
}


@dataclasses.dataclass(frozen=True, eq=False)
class PerfectDenoiser(Denoiser):
    """The denoiser of images of one grey level: x_t determines epsilon. Its predictions are off by `error`."""

    settings: object
    error: float

    def __call__(self, params, xt, time, labels, keys):
        alpha, sigma = self.process.alpha_sigma(time)
        x0 = jnp.full_like(xt, LEVEL)
        epsilon = (xt - alpha * x0) / sigma
        target = parameterization.target(self.settings.parameterization, x0, epsilon, alpha, sigma)
        fraction = jnp.zeros_like(xt) if self.settings.learns_variance else None
        return Output(target + self.error, fraction)


def diffusion(settings, error=0.0):
    optimizer = NetworkOptimizer("denoiser", make_optimizer(experiment("ddpm_digits").optim, 10), Frozen())
    denoiser = PerfectDenoiser(None, settings.make(), settings.learns_variance, 0, settings, error)
    importance = ImportanceSampler(settings.timesteps) if settings.time_sampling == "importance" else None
    return Diffusion(settings, denoiser, optimizer, importance, settings.bound() if settings.loss != "simple" else None)


@pytest.mark.parametrize("variance", ["fixed_small", "learned_range"])
def test_under_rescaled_timesteps_the_network_sees_times_up_to_1000(variance):
    """Improved DDPM's 4,000 steps: the network sees step t as t / 4, in training and in sampling alike."""
    loss = "hybrid" if variance == "learned_range" else "simple"
    settings = DDPMConfig(timesteps=4000, rescale_timesteps=True, variance=variance, loss=loss)
    seen = []

    class Network:
        def apply(self, variables, x, time, labels, keys):
            seen.append(np.asarray(time))
            return jnp.tile(x, 2) if settings.learns_variance else x

    denoiser = Denoiser(Network(), settings.make(), settings.learns_variance, 0)
    output = denoiser({"denoiser": {}}, jnp.ones((3, 4, 4, 1)), jnp.array([0.0, 2.0, 3999.0]))
    np.testing.assert_array_equal(seen[0], [0.0, 0.5, 999.75])
    assert output.prediction.shape == (3, 4, 4, 1)
    assert (output.fraction is not None) == settings.learns_variance
    with pytest.raises(ValueError, match="rescale_timesteps changes nothing at timesteps=1000"):
        DDPMConfig(rescale_timesteps=True)


def rows_of(method, weight=1.0):
    time, _ = method.draw_times({}, keys_for(ROWS, seed=1)) if method.importance is None else (jnp.arange(64.0), None)
    return {
        "image": jnp.full((ROWS, 4, 4, 1), LEVEL),
        "key": keys_for(ROWS),
        "time": time,
        "weight": jnp.full(ROWS, weight),
    }


@pytest.mark.parametrize("name", SETTINGS)
def test_the_loss_of_a_perfect_denoiser_is_zero(name):
    method = diffusion(SETTINGS[name])
    loss, metrics = jax.jit(method.loss)({}, rows_of(method))
    assert loss < 1e-6
    assert sum(metrics[f"loss_quartile_{q}"].total for q in range(4)) < 1e-6


@pytest.mark.parametrize("name", ["epsilon", "x0", "velocity", "flow"])
def test_a_constant_error_has_its_square_as_loss(name):
    """Under the uniform weighting, times the weight that the time sampling gives."""
    method = diffusion(SETTINGS[name], error=0.2)
    loss, _ = jax.jit(method.loss)({}, rows_of(method, weight=3.0))
    np.testing.assert_allclose(loss, 3 * 0.2**2, rtol=1e-3)


def test_in_edm_the_error_has_the_weight_of_its_noise_level():
    method = diffusion(SETTINGS["edm"], error=0.2)
    rows = rows_of(method)
    sigma, data = np.asarray(rows["time"], np.float64), 0.5
    wanted = np.mean(0.2**2 * (sigma**2 + data**2) / (sigma * data) ** 2)
    np.testing.assert_allclose(jax.jit(method.loss)({}, rows)[0], wanted, rtol=1e-3)


def test_the_hybrid_loss_is_the_simple_loss_plus_the_weighted_bound():
    options = {"variance": "learned_range", "vlb_weight": 0.25, "parameterization": "velocity", "timesteps": 100}
    hybrid, vlb = (diffusion(DDPMConfig(loss=loss, **options), error=0.2) for loss in ("hybrid", "vlb"))
    total, metrics = jax.jit(hybrid.loss)({}, rows_of(hybrid))
    bits, _ = jax.jit(vlb.loss)({}, rows_of(vlb))
    np.testing.assert_allclose(metrics["bits_per_dim"], bits, rtol=1e-6)
    np.testing.assert_allclose(total, 0.2**2 + 0.25 * bits, rtol=1e-3)


def test_importance_sampling_draws_whole_steps_with_weights_that_are_one_at_first():
    method = diffusion(DDPMConfig(loss="vlb", time_sampling="importance", timesteps=64))
    time, weights = jax.jit(method.draw_times)({LOSS_HISTORY: method.importance.init()}, keys_for(200))
    np.testing.assert_array_equal(time, np.floor(time))
    assert len(np.unique(time)) > 40
    np.testing.assert_allclose(weights, 1, rtol=1e-6)
    _, metrics = jax.jit(method.loss)({}, rows_of(method))
    assert metrics[LOSS_HISTORY].values.shape == (ROWS,)


def test_quartiles_count_each_example_once():
    method = diffusion(SETTINGS["flow"])
    time = jnp.array([0.0, 0.2, 0.3, 0.6, 0.99])
    quartiles = jax.jit(method.loss_quartiles)(jnp.arange(1.0, 6.0), time)
    totals = [5 * float(quartiles[f"loss_quartile_{q}"].total) for q in range(4)]
    np.testing.assert_allclose(totals, [1 + 2, 3, 4, 5], rtol=1e-6)
    np.testing.assert_allclose([5 * float(q.count) for q in quartiles.values()], [2, 1, 1, 1], rtol=1e-6)
