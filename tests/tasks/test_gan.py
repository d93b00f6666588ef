"""The GAN task beyond what every task promises: the updates of both networks, settings, warnings and samples."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from genmodels import loop
from genmodels.core.guard import finish
from genmodels.core.parallel import Dist, whole_view
from genmodels.errors import ConfigError
from genmodels.models.gan import Networks
from genmodels.nn import spectral_norm
from genmodels.reporting.writers import Meter
from genmodels.tasks import DataSpec, make_task
from genmodels.tasks.gan import GAN, GANConfig
from genmodels.tasks.gan_diagnostics import batch_variance, sample_diversity, watch
from genmodels.tasks.gan_predict import GANNetworks
from tests.helpers import experiment

SPEC = DataSpec((8, 8, 1), 10)
SMALL = {
    "model.channels": (4,),
    "model.discriminator_channels": (4,),
    "model.discriminator_norm": "spectral",
    "gan.penalty": "none",
}


def built(name="gan_digits", **overrides):
    task = make_task(experiment(name, **(SMALL | overrides)), SPEC, 100)
    return task, jax.jit(task.init)(
        jax.random.key(0), {"image": jnp.zeros((1, 8, 8, 1)), "label": jnp.zeros(1, jnp.int32)}
    )


def batch_of(rows=24, seed=1):
    images = jnp.sign(jax.random.normal(jax.random.key(seed), (rows, 8, 8, 1)))
    return {"image": images, "label": jnp.arange(rows, dtype=jnp.int32) % 10}


def stepper(task):
    return jax.jit(lambda s, b, r: finish(*task.train_step(s, {}, b, r, whole_view(b))))


def after(task, state, steps, batch=None):
    """The state after some steps, and their metrics."""
    step, metrics = stepper(task), []
    for t in range(steps):
        state, step_metrics = step(state, batch or batch_of(), jax.random.key(t))
        state = state.replace(step=state.step + 1)
        metrics.append(jax.device_get(step_metrics))
    return state, metrics


def test_the_discriminator_is_updated_n_times_a_step_with_its_own_rate_and_statistics():
    rates = {"optim.generator.learning_rate": 0.25, "optim.discriminator.learning_rate": 0.5}
    norms = {"model.channels": (4, 4), "model.discriminator_channels": (4, 4), "model.discriminator_norm": "batch"}
    task, first = built(
        **{"gan.discriminator_steps": 3, "model.norm_rows": 4, "optim.decay": "linear"}, **rates, **norms
    )
    assert task.row_multiple == 12
    state, metrics = after(task, first, 2)
    counts = {name: int(adam[0].count) for name, adam in state.opt_state.items()}
    assert counts == {"generator": 2, "discriminator": 6}
    for rate, name in ((0.25, "generator"), (0.5, "discriminator")):  # of 100 steps, whatever the updates
        np.testing.assert_allclose([m[f"learning_rate_{name}"] for m in metrics], [rate, 0.99 * rate], rtol=1e-5)
        before, now = (s.extra[name]["batch_stats"]["norm_1"]["mean"] for s in (first, state))
        assert (before != now).all()
    assert set(state.ema_params) == {"generator"}
    assert set(state.variables()["params"]) == {"generator", "discriminator"}


def test_every_row_of_the_batch_reaches_the_discriminator():
    task, state = built(**{"gan.discriminator_steps": 2, "optim.generator.learning_rate": 0.0})
    step, batch = stepper(task), batch_of()

    def after_step(batch):
        return step(state, batch, jax.random.key(0))[0].params["discriminator"]["head"]["score"]["kernel"]

    moved = [after_step(batch | {"image": batch["image"].at[row].multiply(-1)}) for row in (0, 1)]
    assert all((one != after_step(batch)).any() for one in moved)


def test_the_singular_vectors_follow_the_kernels():
    task, first = built(**{"optim.discriminator.learning_rate": 0.003})
    state, _ = after(task, first, 120)
    kernel = state.params["discriminator"]["down_0"]["kernel"]
    largest = np.linalg.svd(np.asarray(kernel, np.float64).reshape(-1, 4), compute_uv=False)[0]
    now, then = (
        spectral_norm.sigma(kernel, s.extra["discriminator"]["spectral"]["down_0/kernel"]) for s in (state, first)
    )
    assert 0.96 < now / largest < 1.00001
    assert then < 0.9 * largest


def test_a_penalty_of_every_third_update_has_three_times_the_weight():
    settings = {"optim.name": "sgd", "optim.momentum": 0.0, "optim.discriminator.learning_rate": 0.01}
    settings |= {"gan.penalty": "r1", "model.discriminator_norm": "none"}
    moves = {}
    for interval in (1, 3):
        task, state = built(**settings, **{"gan.penalty_interval": interval})
        steep = jax.tree.map(lambda x: 10 * x, state.params["discriminator"])
        state, step = state.replace(params=state.params | {"discriminator": steep}), stepper(task)
        for t in (0, 1, 3):
            new, metrics = step(state.replace(step=jnp.int32(t)), batch_of(), jax.random.key(0))
            assert metrics["penalty"].count == (t % interval == 0)
            before, now = (s.params["discriminator"]["head"]["score"]["kernel"] for s in (state, new))
            moves[interval, t] = np.asarray(now - before)
    penalty_move = moves[1, 0] - moves[3, 1]  # moves[3, 1] is that of the adversarial loss alone
    assert np.abs(penalty_move).max() > 1e-5
    for t in (0, 3):
        np.testing.assert_allclose(moves[3, t] - moves[3, 1], 3 * penalty_move, rtol=1e-3, atol=1e-7)


def test_batch_variance_is_half_the_mean_squared_distance_of_pairs_on_any_number_of_devices():
    images = jax.random.normal(jax.random.key(0), (16, 4, 4, 1))
    flat = np.asarray(images, np.float64).reshape(16, -1)
    wanted = np.square(flat[:, None] - flat[None]).sum(-1).mean() / 2
    np.testing.assert_allclose(batch_variance(images, whole_view(images)), wanted, rtol=1e-5)
    split = images.reshape(8, 2, 4, 4, 1)
    per_device = jax.pmap(lambda x: batch_variance(x, Dist(jnp.arange(2), "d")), axis_name="d")(split)
    np.testing.assert_allclose(per_device, np.full(8, wanted), rtol=1e-5)


@pytest.mark.parametrize("updates", [1, 2])
def test_an_update_of_one_row_is_no_collapse_and_says_nothing_of_diversity(updates):
    task, state = built(**{"gan.discriminator_steps": updates})
    _, metrics = after(task, state, 2, batch_of(rows=updates))
    values = values_of(metrics, step=1000)
    assert "sample_diversity" not in values
    assert not [line for line in task.watch(values) if line.startswith("collapse")]


def test_equal_real_images_say_nothing_of_diversity_and_different_ones_do():
    """0.1 is no number of base 2, so that equal images have a mean that is not equal to them."""
    fakes = jax.random.normal(jax.random.key(0), (6, 8, 8, 3))
    equal, view = jnp.full_like(fakes, 0.1), whole_view(fakes)
    total, count = sample_diversity(fakes, equal, view)
    assert (total, count) == (0, 0)
    total, count = sample_diversity(0.5 * fakes, fakes, view)
    np.testing.assert_allclose([total, count], [0.25, 1])
    assert sample_diversity(fakes, equal.at[0].add(1 / 127.5), view).count == 1  # by one grey level


def values_of(metrics, step):
    """The metrics of the last step in the form in which the loop hands them to `watch`."""
    meter = Meter(24)
    meter.add(metrics[-1])
    return {"step": step} | meter.summary()


def test_a_generator_of_one_image_causes_both_warnings_and_a_new_one_none():
    task, state = built(**{"optim.generator.learning_rate": 0.0, "optim.discriminator.learning_rate": 0.02})
    _, metrics = after(task, state, 1)
    assert not list(task.watch(values_of(metrics, step=1)))
    constant = jax.tree.map(jnp.zeros_like, state.params["generator"])
    collapsed = state.replace(params=state.params | {"generator": constant})
    _, metrics = after(task, collapsed, 40)
    assert values_of(metrics, 1)["sample_diversity"] < 1e-5
    subjects = [line.partition(":")[0] for line in task.watch(values_of(metrics, step=1000))]
    assert subjects == ["collapse", "discriminator"]


def test_a_discriminator_that_calls_everything_real_causes_a_warning():
    task, state = built(**{"optim.generator.learning_rate": 0.0, "optim.discriminator.learning_rate": 0.0})
    state.params["discriminator"]["head"]["score"]["bias"] += 100
    _, metrics = after(task, state, 1)
    assert (metrics[0]["discriminator_accuracy_real"], metrics[0]["discriminator_accuracy_fake"]) == (1, 0)
    lines = list(
        task.watch(
            {"step": 1000, "sample_diversity": 1.0}
            | {k: v for k, v in values_of(metrics, 1).items() if "accuracy" in k}
        )
    )
    assert len(lines) == 1
    assert lines[0].startswith(
        "discriminator: right on 100% of real and 0% of fake images, so it cannot tell them apart"
    )


def test_a_critic_may_be_right_on_all_images():
    values = {"step": 1000, "sample_diversity": 0.9}
    values |= {f"discriminator_accuracy_{label}": 1.0 for label in ("real", "fake")}
    assert len(list(watch(values, boundary=0.0))) == 1
    assert not list(watch(values, boundary=None))


def drawn(task, state, name, keys, **inputs):
    predict = task.predict[name]
    return jax.jit(lambda v, i: predict.fn(v, {}, i, whole_view(i), **predict.options))(
        state.variables(), {"key": keys, **inputs}
    )


def test_a_sample_depends_on_its_key_and_label_alone():
    task, state = built(**{"gan.conditional": True, "optim.generator.learning_rate": 0.05})
    state, _ = after(task, state, 3)  # the norms of all classes begin with the same values
    keys, labels = jax.random.split(jax.random.key(5), 6), jnp.arange(6, dtype=jnp.int32)
    images = drawn(task, state, "sample", keys, label=labels)["image"]
    some = drawn(task, state, "sample", keys[2:4], label=labels[2:4])["image"]
    np.testing.assert_allclose(some, images[2:4], atol=1e-6)
    other = drawn(task, state, "sample", keys, label=labels[::-1])["image"]
    assert np.abs(other - images).max() > 1e-3
    frames = drawn(task, state, "interpolate", keys, label=labels)["frames"]
    assert frames.shape == (6, 8, 8, 8, 1)
    np.testing.assert_allclose(frames[:, 0], images, atol=1e-5)
    assert np.abs(frames[:, -1] - frames[:, 0]).max() > 1e-3
    scores = task.predict["discriminate"].fn(state.variables(), {}, {"image": images, "label": labels}, None)["score"]
    assert scores.shape == (6,)


def test_samples_use_the_average_of_batch_statistics():
    task, state = built(**{"ema.horizon": 0.0, "optim.generator.learning_rate": 0.0})
    state, _ = after(task, state, 60)
    statistics = state.extra["generator"]["batch_stats"]["norm_0"]
    # The first norm sees a linear map of standard normal latents.
    kernel = np.asarray(state.params["generator"]["project"]["kernel"], np.float64)
    variance = np.square(kernel).sum(0).reshape(-1, 4).mean(0)
    np.testing.assert_allclose(statistics["variance"], variance, rtol=0.3)
    np.testing.assert_allclose(statistics["mean"], 0, atol=0.3 * np.sqrt(variance.max()))


@pytest.mark.parametrize("statistics_decay", [0.9, 0.25])
def test_the_decay_of_batch_statistics_may_be_set(statistics_decay):
    values = {"gan.statistics_decay": statistics_decay, "ema.horizon": 0.5, "optim.generator.learning_rate": 0.0}
    task, first = built(**values)
    state, _ = after(task, first, 1)
    zero_decay, _ = built(**(values | {"gan.statistics_decay": 1e-9}))
    batch, _ = after(zero_decay, first, 1)  # holds the statistics of the batch alone
    for name in ("mean", "variance"):
        old, new, of_batch = (s.extra["generator"]["batch_stats"]["norm_0"][name] for s in (first, state, batch))
        wanted = statistics_decay * old + (1 - statistics_decay) * of_batch
        np.testing.assert_allclose(new, wanted, rtol=1e-4, atol=1e-7)


def test_uniform_labels_of_fakes_do_not_depend_on_those_of_the_data():
    def generator_after_a_step(fake_labels, labels):
        rates = {"optim.discriminator.learning_rate": 0.0, "optim.generator.learning_rate": 0.1}
        task, state = built(**{"gan.conditional": True, "gan.fake_labels": fake_labels, "train.steps": 1}, **rates)
        state, _ = after(task, state, 1, batch_of() | {"label": labels})
        return np.asarray(state.params["generator"]["norm_0"]["scale"])

    threes, sevens = (jnp.full(24, label, jnp.int32) for label in (3, 7))
    moved = generator_after_a_step("uniform", threes)
    np.testing.assert_array_equal(moved, generator_after_a_step("uniform", sevens))
    assert ((moved != 1).any(axis=1)).sum() > 5  # of ten classes, drawn 24 times
    moved = generator_after_a_step("data", threes)
    assert np.argwhere((moved != 1).any(axis=1)).ravel().tolist() == [3]


def test_uniform_labels_are_uniform():
    settings = GANConfig(conditional=True, fake_labels="uniform")
    method = GAN(settings, GANNetworks(Networks((8, 8, 1), 10, channels=(4,))), {})
    keys = jax.random.split(jax.random.key(0), 5000)
    counts = np.bincount(method.fake_labels({"key": keys, "label": jnp.zeros(5000, jnp.int32)}), minlength=10)
    assert stats.chisquare(counts).pvalue > 1e-3


def test_a_residual_network_trains_in_bfloat16_with_float32_parameters():
    task, state = built(
        "sngan_cifar10",
        **{
            "model.channels": (4,),
            "model.discriminator_channels": (4,),
            "model.discriminator_halvings": 1,
            "model.dtype": "bfloat16",
            "gan.discriminator_steps": 2,
            "gan.generator_multiple": 2,
        },
    )
    state, metrics = after(task, state, 3)
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves((state, metrics)))
    assert {leaf.dtype for leaf in jax.tree.leaves(state.params)} == {jnp.dtype(jnp.float32)}
    assert task.row_multiple == 2


@pytest.mark.parametrize(
    ("overrides", "words"),
    [
        ({"gan.fake_labels": "unifrom"}, "config.gan.fake_labels 'unifrom': did you mean 'uniform'"),
        ({"gan.fake_labels": "uniform"}, "fake_labels=uniform needs conditional=True"),
        (
            {"gan.fake_labels": "uniform", "gan.conditional": True, "gan.penalty": "wgan_gp"},
            "a penalty other than wgan_gp",
        ),
        ({"gan.statistics_decay": 1.0}, "statistics_decay=1.0"),
        ({"gan.loss": "hinges"}, "config.gan.loss 'hinges': did you mean 'hinge'"),
        ({"gan.penalty": "r2"}, "config.gan.penalty 'r2': did you mean 'r1'"),
        ({"gan.augment": ("color",)}, "config.gan.augment 'color': did you mean 'colour'"),
        ({"gan.penalty_weight": -1.0}, "config.gan: penalty_weight=-1.0 must be finite and not negative"),
        ({"gan.discriminator_steps": 0}, "discriminator_steps=0 must be at least 1"),
        ({"gan.penalty_interval": 0}, "penalty_interval=0 must be at least 1"),
        ({"train.accumulate": 2}, "config.train.accumulate=2: a GAN does not accumulate gradients"),
        ({"gan.penalty": "r1", "model.discriminator_norm": "batch"}, "config.model.discriminator_norm=batch mixes"),
        ({"model.channels": (8,) * 4}, "config.model: images of side 8 do not halve 4 times.* sizes that do: 16, 32"),
        ({"optim.generatr": {}}, "config.optim.generatr 'generatr': did you mean 'generator'"),
        ({"optim.generator": {"rate": 1.0}}, r"config\.optim\.generator\.rate"),
    ],
)
def test_bad_settings_are_named(overrides, words):
    config = experiment("gan_digits")
    for key, value in overrides.items():
        section, _, leaf = key.rpartition(".")
        config[section][leaf] = value
    with pytest.raises(ConfigError, match=words):
        make_task(config, SPEC, 10)


def test_a_conditional_model_needs_labelled_data():
    with pytest.raises(ConfigError, match=r"has no labels, which config\.gan\.conditional=True needs"):
        make_task(experiment("gan_digits", **{"gan.conditional": True}), DataSpec((8, 8, 1), 0), 10)


def test_settings_that_only_the_loop_can_check_are_refused_before_anything_is_written(tmp_path):
    for overrides, words in (
        ({"gan.discriminator_steps": 3}, "batch_size=16 must be a multiple of 8 devices x 3"),
        ({"model.norm_rows": 4}, "batch_size=16 must be a multiple of 8 devices x 4"),
        ({"optim.discriminator.learning_rate": -1.0}, r"config\.optim\.discriminator\.learning_rate must be from 0"),
    ):
        with pytest.raises(ConfigError, match=words):
            loop.train(experiment("gan_digits", **overrides), tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_the_work_directory_of_another_task_is_refused(trained):
    with pytest.raises(ConfigError, match=r"config\.task was diffusion, is gan"):
        loop.train(experiment("gan_digits"), trained)
