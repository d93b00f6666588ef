"""The diffusion task beyond what every task promises: guidance, label dropout, the loss by timestep."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from genmodels.core.guard import finish
from genmodels.core.parallel import whole_view
from genmodels.errors import ConfigError
from genmodels.tasks import DataSpec, make_task
from genmodels.tasks.diffusion_settings import DDPMConfig
from tests.helpers import experiment, random_state

SPEC = DataSpec((8, 8, 1), 10)
LABELS = jnp.arange(6, dtype=jnp.int32)


def built(config):
    """The task, and a state in which no layer is zero."""
    task = make_task(config, SPEC, 10)
    return task, random_state(task, {"image": jnp.zeros((1, 8, 8, 1)), "label": jnp.zeros(1, jnp.int32)})


def test_guidance_extrapolates_from_the_null_label_with_a_scale_for_every_sample(small):
    task, state = built(small("ddpm_digits"))
    images = jax.random.uniform(jax.random.key(2), (6, 8, 8, 1), minval=-1)
    inputs = {"key": jax.random.split(jax.random.key(3), 6), "image": images}
    denoise = jax.jit(
        lambda more: task.predict["denoise"].fn(state.variables(), {}, inputs | more, whole_view(inputs), timestep=10)[
            "image"
        ]
    )

    def guided(scale, labels=LABELS):
        return denoise({"label": labels, "guidance_scale": jnp.asarray(scale) * jnp.ones(6)})

    none, full = guided(0.0), guided(1.0)
    np.testing.assert_allclose(full, denoise({"label": LABELS}), atol=1e-5)
    np.testing.assert_array_equal(none, guided(0.0, LABELS[::-1]))
    for label in range(10):  # the null label is none of the classes
        assert np.abs(none - denoise({"label": jnp.full(6, label)})).max() > 1e-3
    scales = jnp.linspace(-1, 3, 6)
    expected = none + scales[:, None, None, None] * (full - none)
    np.testing.assert_allclose(guided(scales), expected, atol=1e-4)


def stepped(task, state, labels):
    images = jax.random.uniform(jax.random.key(2), (64, 8, 8, 1), minval=-1)
    batch = {"image": images, "label": labels}
    return jax.jit(lambda s, b: finish(*task.train_step(s, {}, b, jax.random.key(4), whole_view(b))))(state, batch)


def test_dropped_labels_do_not_reach_the_loss_and_others_do(small):
    labels = [jnp.arange(64, dtype=jnp.int32) % 10, jnp.full(64, 3, jnp.int32)]
    losses = {}
    for rate in (0.0, 0.5, 1.0):
        task, state = built(small("ddpm_digits", **{"diffusion.label_dropout": rate}))
        losses[rate] = [float(stepped(task, state, each)[1]["loss"]) for each in labels]
    assert losses[1.0][0] == losses[1.0][1]
    assert losses[0.0][0] != losses[0.0][1]
    assert len({losses[rate][0] for rate in losses}) == 3


def test_the_quartiles_of_the_loss_make_up_the_loss(small):
    task, state = built(small("ddpm_digits"))
    _, metrics = stepped(task, state, jnp.zeros(64, jnp.int32))
    quartiles = [metrics[f"loss_quartile_{q}"] for q in range(4)]
    np.testing.assert_allclose(sum(q.total for q in quartiles), metrics["loss"], rtol=1e-5)
    np.testing.assert_allclose(sum(q.count for q in quartiles), 1, rtol=1e-6)
    assert all(4 <= 64 * q.count <= 32 for q in quartiles)  # 16 expected of uniform timesteps


LEARNED = {"diffusion.variance": "learned_range", "diffusion.loss": "hybrid"}
SGD = {
    "optim.name": "sgd",
    "optim.learning_rate": 1.0,
    "optim.warmup": 0,
    "optim.clip_norm": 0.0,
    "optim.momentum": 0.0,
}


def last_layer_moves(small, **overrides):
    """The change of the last convolution in one gradient step: (that of the prediction, that of the variance)."""
    task, state = built(small("ddpm_digits", **(LEARNED | SGD | overrides)))
    new, _ = stepped(task, state, LABELS[jnp.arange(64) % 6])
    moved = jax.tree.map(lambda a, b: a - b, new.params, state.params)["denoiser"]["conv_out"]["kernel"]
    return np.asarray(moved[..., :1]), np.asarray(moved[..., 1:])


def test_the_bound_in_the_hybrid_loss_trains_the_variance_alone(small):
    mean, variance = last_layer_moves(small)
    other_mean, other_variance = last_layer_moves(small, **{"diffusion.vlb_weight": 0.002})  # twice the default
    np.testing.assert_allclose(other_mean, mean, rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(other_variance, 2 * variance, rtol=1e-3, atol=1e-6)
    assert np.abs(variance).max() > 1e-5
    vlb_mean, _ = last_layer_moves(small, **{"diffusion.loss": "vlb"})
    assert np.abs(vlb_mean - mean).max() > 0.1 * np.abs(mean).max()


def test_the_logged_bound_is_that_of_the_loss(small):
    task, state = built(small("ddpm_digits", **(LEARNED | {"diffusion.loss": "vlb"})))
    _, metrics = stepped(task, state, LABELS[jnp.arange(64) % 6])
    np.testing.assert_allclose(metrics["bits_per_dim"], metrics["loss"], rtol=1e-6)


def test_importance_sampling_remembers_every_loss_and_its_timestep(small):
    task, state = built(small("ddpm_digits", **(LEARNED | {"diffusion.time_sampling": "importance"})))
    new, metrics = stepped(task, state, LABELS[jnp.arange(64) % 6])
    history = new.extra["time_sampling"]
    assert int(history["counts"].sum()) == 64
    kept = np.asarray(history["losses"])
    assert (kept > 0).sum() == np.minimum(history["counts"], 10).sum()
    assert (np.asarray(history["counts"]) <= 10).all()  # of 64 draws among 20 steps
    np.testing.assert_allclose(kept.sum() / 64, metrics["loss"], rtol=1e-5)


def test_importance_sampling_weights_each_loss_by_how_likely_its_timestep_was(small):
    task, state = built(small("ddpm_digits", **(LEARNED | {"diffusion.time_sampling": "importance"})))
    seen = jnp.tile(jnp.linspace(1.0, 3.0, 20)[:, None], (1, 10))
    known = {"losses": seen, "counts": jnp.full(20, 10)}
    new, metrics = stepped(task, state.replace(extra={"time_sampling": known}), LABELS[jnp.arange(64) % 6])
    history = new.extra["time_sampling"]
    drawn = np.asarray(history["counts"]) - 10
    assert drawn.sum() == 64
    assert drawn.max() <= 10  # no step has more losses than its history holds
    new_losses = np.where(history["losses"] != seen, history["losses"], 0).sum(axis=1)
    p = 0.999 * seen[:, 0] / seen[:, 0].sum() + 0.001 / 20
    np.testing.assert_allclose(np.sum(new_losses / (20 * p)) / 64, metrics["loss"], rtol=1e-5)
    assert abs(new_losses.sum() / 64 / metrics["loss"] - 1) > 1e-3  # the weights have changed the loss


def velocity_square(x2):
    """E alpha^2 + sigma^2 x_0^2 over the steps of the tiny experiment."""
    bars = DDPMConfig(schedule="cosine", timesteps=20).make().schedule.alphas_cumprod
    return float(np.mean(bars + (1 - bars) * x2))


@pytest.mark.parametrize(
    ("name", "wanted"),
    [
        ("ddpm_digits", velocity_square),
        ("flow_matching_mnist", lambda x2: 1 + x2),  # of epsilon - x_0
        ("edm_cifar10", lambda x2: 1.0),  # of F's target, which has unit variance where the data has sigma_data
    ],
)
def test_the_first_loss_is_the_mean_square_of_the_target(small, name, wanted):
    """The last layer of a new network is zero, and with it its prediction."""
    std = 0.5
    images = std * jax.random.normal(jax.random.key(2), (1024, 8, 8, 1))
    batch = {"image": images, "label": jnp.zeros(1024, jnp.int32)}
    task = make_task(small(name), SPEC, 10)
    state = jax.jit(task.init)(jax.random.key(0), jax.tree.map(lambda x: x[:1], batch))
    _, metrics = jax.jit(lambda s, b: finish(*task.train_step(s, {}, b, jax.random.key(4), whole_view(b))))(
        state, batch
    )
    np.testing.assert_allclose(metrics["loss"], wanted(std**2), rtol=0.04)


def test_the_weighting_reaches_the_loss(small):
    losses = {}
    for name in ("uniform", "snr", "min_snr"):
        settings = {"diffusion.parameterization": "epsilon", "diffusion.weighting": name}
        task, state = built(small("ddpm_digits", **settings))
        losses[name] = float(stepped(task, state, LABELS[jnp.arange(64) % 6])[1]["loss"])
    np.testing.assert_allclose(losses["snr"], losses["uniform"], rtol=1e-6)  # of epsilon that is the plain loss
    assert losses["min_snr"] < 0.99 * losses["uniform"]


@pytest.mark.parametrize(
    ("name", "overrides", "words"),
    [
        ("ddpm_digits", {"diffusion.process": "ddmp"}, "did you mean 'ddpm'"),
        (
            "ddpm_digits",
            {"diffusion.process": "edm"},
            r"unknown key config.diffusion.* \(with config.diffusion.process=edm\)",
        ),
        ("ddpm_digits", {"diffusion.variance": "learned"}, "did you mean 'learned_range'"),
        ("ddpm_digits", {"diffusion.variance": "learned_range"}, "not by loss=simple"),
        ("ddpm_digits", {"diffusion.loss": "hybrid"}, "set variance=learned_range"),
        ("ddpm_digits", {"diffusion.weighting": "snr_min"}, "did you mean 'snr'"),
        ("ddpm_digits", {"diffusion.time_sampling": "logitnormal"}, "did you mean 'logit_normal'"),
        (
            "ddpm_digits",
            {"diffusion.zero_terminal_snr": True, "diffusion.parameterization": "epsilon"},
            "needs parameterization=velocity",
        ),
        (
            "ddpm_digits",
            LEARNED | {"diffusion.time_sampling": "logit_normal"},
            "gives no estimate of the bound",
        ),
        (
            "ddpm_digits",
            {"diffusion.weighting": "truncated_snr", "diffusion.parameterization": "epsilon"},
            "unbounded for epsilon",
        ),
        ("ddpm_digits", {"diffusion.loss": "vlb", "diffusion.weighting": "snr"}, "with loss=vlb set weighting=uniform"),
        ("ddpm_digits", {"diffusion.loss": "vlb", "diffusion.timesteps": 1}, "two or more timesteps"),
        ("ddpm_digits", {"diffusion.parameterization": "flow"}, "unknown config.diffusion.parameterization"),
        ("ddpm_digits", {"sampler.sampler": "dpmpp"}, "did you mean 'dpmpp_2m'"),
        ("ddpm_digits", {"sampler.spacing": "uniform"}, "config.sampler: unknown spacing 'uniform' for this process"),
        (
            "ddpm_digits",
            {"sampler.sampler": "heun", "sampler.eta": 0.5},
            "eta=0.5 applies to sampler=ddim only; with sampler=heun set eta=0",
        ),
        ("ddpm_digits", {"diffusion.snr_gamma": float("nan")}, "snr_gamma=nan must be positive"),
        ("ddpm_digits", {"diffusion.vlb_weight": float("inf")}, "vlb_weight=inf must be positive and finite"),
        (
            "ddpm_digits",
            {"sampler.variance": "learned_range", "sampler.sampler": "ancestral"},
            "config.sampler.variance",
        ),
        ("ddpm_digits", {"likelihood.strata": 20}, "config.likelihood.strata"),
        ("ddpm_digits", {"likelihood.trace": "exakt"}, "did you mean 'exact'"),
        ("ddpm_digits", {"likelihood.rtol": 0.0}, "rtol"),
        ("edm_cifar10", {"diffusion.sigma_min": 100.0}, "below sigma_max"),
        ("edm_cifar10", {"sampler.spacing": "trailing"}, "unknown spacing"),
        ("flow_matching_mnist", {"diffusion.time_sampling": "importance"}, "unknown config.diffusion.time_sampling"),
        ("flow_matching_mnist", {"diffusion.logit_std": 0.0}, "logit_std"),
    ],
)
def test_bad_settings_are_named(name, overrides, words):
    with pytest.raises(ConfigError, match=words):
        make_task(experiment(name, **overrides), SPEC, 10)
