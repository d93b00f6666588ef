import itertools
import re

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from genmodels import config as config_lib
from genmodels.core import optim
from genmodels.core.parallel import whole_view
from genmodels.core.state import PerRow
from genmodels.errors import ConfigError, choose
from genmodels.tasks import DataSpec, make_task
from tests.helpers import EXPERIMENTS, ROOT, experiment


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_experiments_survive_json_and_refuse_unknown_variants(name):
    config = experiment(name, "")
    again = config_lib.from_json(config_lib.to_json(config))
    assert config_lib.flatten(again) == config_lib.flatten(config)
    assert config_lib.conflicts(config, again) == []
    with pytest.raises(ConfigError, match="did you mean 'tiny'"):
        experiment(name, "tyni")


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"learning_rate": "fast"}, r"config\.optim\.generator\.learning_rate='fast': must be float"),
        ({"learning_rate": -1.0}, r"config\.optim\.generator\.learning_rate must be from 0 to 100"),
        ({"no_decay": ("(",)}, r"config\.optim\.generator\.no_decay: '\(' is not a regular expression"),
        ({"b1": 1.0}, r"config\.optim\.generator\.b1 must be within"),
    ],
)
def test_the_settings_of_one_network_are_checked_as_all_are(values, words):
    config = experiment("gan_digits")
    config.optim.generator = values
    with pytest.raises(ConfigError, match=words):
        config_lib.validate(config, 1)


def test_a_key_of_one_network_that_is_not_set_follows_the_shared_one():
    """Adam divides a gradient of 1 by itself, so that the first update is the rate of the network."""
    config = experiment("gan_digits", **{"optim.learning_rate": 0.25, "optim.warmup": 0, "optim.clip_norm": 0.0})
    config.optim.generator = dict.fromkeys(("learning_rate", "b1", "name"))
    config.optim.discriminator = {"learning_rate": 0.5, "b1": None}
    params = {"w": jnp.zeros(())}
    for network, rate in (("generator", 0.25), ("discriminator", 0.5)):
        tx = optim.make_optimizers(config, {"generator": 1, "discriminator": 1}, 10)[network]
        updates, _ = tx.update({"w": jnp.ones(())}, tx.init(params), params)
        np.testing.assert_allclose(updates["w"], -rate, rtol=1e-4)


@pytest.mark.parametrize("name", ["vae_digits", "vit_digits", "ddpm_digits"])
def test_a_section_of_a_network_that_the_task_has_not_is_refused(name):
    config = experiment(name)
    config.optim.generator = {"learning_rate": 5.0}
    with pytest.raises(ConfigError, match=r"unknown section config\.optim\.generator"):
        make_task(config, DataSpec((8, 8, 1), 10), 10)


def test_conflicts_name_what_differs_but_not_how_long_a_run_lasts():
    old = experiment("ddpm_digits")
    new = experiment("ddpm_digits", **{"train.steps": 99, "log.every": 7, "parallel": "sharded", "model.heads": 2})
    assert config_lib.conflicts(old, new) == ["config.model.heads was 1, is 2"]


@pytest.mark.parametrize(
    ("key", "value", "steps"), [("steps", 70, 70), ("epochs", 2.0, 30), ("examples", 1000, 10), ("examples", 1, 1)]
)
def test_durations(key, value, steps):
    config = experiment("ddpm_digits", **{"train.steps": 0, "train.batch_size": 100})
    config.train[key] = value
    assert config_lib.total_steps(config, 1500) == steps


@pytest.mark.parametrize(
    "values",
    [
        {"train.steps": 0},
        {"train.steps": 5, "train.epochs": 1.0},
        {"train.steps": -1},
        {"train.steps": 0, "train.epochs": float("inf")},
    ],
)
def test_durations_must_be_unambiguous(values):
    with pytest.raises(ConfigError, match="exactly one"):
        config_lib.total_steps(experiment("ddpm_digits", **values), 1500)


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"parallel": "shraded"}, "did you mean 'sharded'"),
        ({"shard_parameters": True}, "needs config.parallel=sharded"),
        ({"train.batch_size": 12}, "does not divide into 8 devices"),
        ({"train.accumulate": 0}, "at least 1"),
        ({"log.every": -1}, "negative"),
        ({"ema.decay": 1.0}, "ema"),
        ({"seed": -1}, r"config\.seed=-1"),
        ({"eval.seed": 2**32}, r"config\.eval\.seed"),
        ({"optim.clip_norm": -1.0}, r"optim\.clip_norm must be 0 or from"),
        ({"optim.learning_rate": float("nan")}, r"optim\.learning_rate"),
        ({"optim.eps": 0.0}, r"optim\.eps must be from 1e-15 to 1000, got 0.0"),
        ({"optim.b1": 1 - 1e-8}, r"optim\.b1 must be within \[0, 1\)"),  # it is 1 in float32
        ({"optim.clip_norm": 1e-46}, r"optim\.clip_norm must be 0 or from 1e-30 to 1e\+30"),
        ({"optim.weight_decay": 1e39}, r"optim\.weight_decay must be from 0 to 10"),
        ({"optim.b2": 1.0}, r"optim\.b2 must be within"),
        ({"eval.split": "tset"}, "did you mean 'test'"),
        ({"eval.timesteps": ("a",)}, r"eval\.timesteps"),
        ({"expect": ({"metric": "psnr", "value": "a", "tolerance": 1},)}, "finite numbers"),
        ({"expect": ({"metric": "psnr"},)}, r"config\.expect"),
    ],
)
def test_wrong_values_are_named(values, words):
    with pytest.raises(ConfigError, match=words):
        config_lib.validate(experiment("ddpm_digits", **values), 8)


def test_task_sections_are_checked_with_suggestions():
    from genmodels.runs.inference import abstract_state
    from genmodels.tasks import DataSpec, make_task

    for values, words in [
        ({"model.dtype": "float31"}, "float31"),
        ({"diffusion.schedule": "cosin"}, "cosin"),
        ({"diffusion.parameterization": "epsilom"}, "did you mean 'epsilon'"),
        ({"sampler.steps": 99}, "sampling steps"),
        ({"model.multipliers": ("abc",)}, r"config\.model\.multipliers=\('abc',\): must be tuple\[int"),
        ({"model.multipliers": ()}, "at least 1"),
        ({"model.multipliers": (1, 0)}, "at least 1"),
        ({"model.heads": 0}, "at least 1"),
        ({"sampler.clip": -1.0}, "clip must be"),
        ({"model.dropout": 1.0}, "dropout"),
        ({"model.attention_resolutions": (4.0,)}, "attention_resolutions"),
        ({"eval.timesteps": (20,)}, r"eval\.timesteps: 20 must be within \[0, 20\)"),
        ({"task": "diffusoin"}, "did you mean 'diffusion'"),
    ]:
        with pytest.raises(ConfigError, match=words):
            make_task(experiment("ddpm_digits", **values), DataSpec((8, 8, 1), 10), 10)
    spec = DataSpec((8, 8, 1), 10)
    fused = make_task(experiment("ddpm_digits", **{"model.attention": "cudnn"}), spec, 10)
    with pytest.raises(ConfigError, match=r"config\.model: .*cuDNN"):
        abstract_state(fused, spec)
    config = experiment("ddpm_digits")
    with config.unlocked():
        config.model.chanels = 3
    with pytest.raises(ConfigError, match=r"config\.model\.chanels.*did you mean .*channels"):
        make_task(config, DataSpec((8, 8, 1), 10), 10)


def optim_config(**values):
    return experiment("ddpm_digits", **{f"optim.{key}": value for key, value in values.items()}).optim


@pytest.mark.parametrize(
    ("decay", "middle", "end"), [("constant", 1.0, 1.0), ("linear", 0.5, 0.0), ("cosine", 0.5, 0.0)]
)
def test_learning_rates(decay, middle, end):
    rate = optim.learning_rate(optim_config(learning_rate=1.0, warmup=10, decay=decay), 110)
    np.testing.assert_allclose([rate(0), rate(5), rate(10), rate(60), rate(110)], [0, 0.5, 1, middle, end], atol=1e-6)


@pytest.mark.parametrize(
    ("name", "reference"),
    [
        ("adam", optax.adam(0.1)),
        ("adamw", optax.adamw(0.1, weight_decay=0.01)),
        ("lion", optax.lion(0.1, b1=0.9, b2=0.999, weight_decay=0.01)),
        ("sgd", optax.sgd(0.1, momentum=0.9)),
    ],
)
def test_optimizers_are_optaxs(name, reference):
    settings = {"learning_rate": 0.1, "warmup": 0, "decay": "constant", "clip_norm": 0.0, "weight_decay": 0.01}
    mine = optim.make_optimizer(optim_config(name=name, **settings), 10)
    params = {"w": jnp.array([1.0, -2.0, 3.0])}
    results = []
    for tx in (mine, reference):
        p, state = params, tx.init(params)
        for t in range(5):
            updates, state = tx.update({"w": p["w"] * (t + 1)}, state, p)
            p = optax.apply_updates(p, updates)
        results.append(p["w"])
    np.testing.assert_allclose(*results, rtol=1e-5)


def test_clipping_bounds_the_global_norm():
    settings = {
        "name": "sgd",
        "momentum": 0.0,
        "learning_rate": 1.0,
        "warmup": 0,
        "decay": "constant",
        "clip_norm": 2.0,
    }
    tx = optim.make_optimizer(optim_config(**settings), 10)
    grads = {"a": jnp.array([30.0]), "b": jnp.array([40.0])}
    updates, _ = tx.update(grads, tx.init(grads), grads)
    np.testing.assert_allclose([updates["a"][0], updates["b"][0]], [-1.2, -1.6], rtol=1e-6)


@pytest.mark.parametrize("limit", [0.5, 1e6])
def test_norms_and_clipping_are_optaxs(limit):
    sizes = {"vector": (3,), "scalar": (), "large": (2, optim.SMALL_SIZE // 2), "larger": (optim.SMALL_SIZE + 1,)}
    grads = {name: jax.random.normal(jax.random.key(i), size) for i, (name, size) in enumerate(sizes.items())}
    np.testing.assert_allclose(optim.global_norm(grads), optax.tree.norm(grads), rtol=1e-6)
    assert optim.global_norm({"frozen": None}) == 0
    mine, reference = optim.clip_by_global_norm(limit), optax.clip_by_global_norm(limit)
    assert mine.init(grads) == reference.init(grads)  # so that checkpoints keep their structure
    clipped, expected = (tx.update(grads, tx.init(grads))[0] for tx in (mine, reference))
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-6), clipped, expected)


BELOW_1 = float(np.nextafter(np.float32(1), np.float32(0)))


@pytest.mark.parametrize("clip_norm", [0.0, 1e-30, 1e30])
@pytest.mark.parametrize("decay", [0.0, BELOW_1])
@pytest.mark.parametrize("name", optim.PRECONDITIONERS)
def test_finite_gradients_give_finite_parameters_at_the_limits_of_what_is_allowed(name, decay, clip_norm):
    decays = {"b1": BELOW_1 - decay, "b2": decay, "momentum": BELOW_1}
    # With more weight decay at this rate, weights would grow without end whatever the gradient.
    extremes = {"name": name, "eps": 1e-15, "learning_rate": 100.0, "weight_decay": 0.02, "clip_norm": clip_norm}
    config = experiment("ddpm_digits", **{"optim.name": name})
    chosen = {f"optim.{key}": value for key, value in (extremes | decays).items()}
    idle = config_lib.without_effect(config)
    config.update_from_flattened_dict({key: value for key, value in chosen.items() if key not in idle})
    config_lib.validate(config, 8)
    tx = optim.make_optimizer(config.optim, 10)
    for gradients in itertools.permutations([0.0, 1e-30, 1e-10, 1e19]):
        params = jnp.ones(2)
        state = tx.init(params)
        for gradient in gradients:
            updates, state = tx.update(jnp.array([gradient, 0.0]), state, params)
            params = optax.apply_updates(params, updates)
            assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves((params, state)))


def test_ema_decay_warms_up_and_its_horizon_follows_the_run():
    def decay_of(steps, **values):
        return optim.ema_decay(experiment("ddpm_digits", **{f"ema.{k}": v for k, v in values.items()}).ema, steps)

    decay = decay_of(3000, horizon=0.1)
    np.testing.assert_allclose([decay(0), decay(90), decay(10**6)], [0.1, 0.91, 1 - 1 / 300], rtol=1e-6)
    np.testing.assert_allclose(decay_of(1000, horizon=0.1)(10**6), 0.99, rtol=1e-6)
    np.testing.assert_allclose(decay_of(10, horizon=0.0, decay=0.9, warmup=False)(0), 0.9, rtol=1e-6)
    assert decay_of(10, horizon=0.0) is None


def test_variables_are_the_averaged_weights():
    from genmodels.core.state import TrainState

    params = {"net": jnp.zeros(2)}
    state = TrainState.create(params, {"net": optax.sgd(1.0)}, ema=True)
    tx = optim.make_optimizer(optim_config(name="sgd", momentum=0.0, learning_rate=1.0, warmup=0, clip_norm=0.0), 10)
    state = state.replace(opt_state={"net": tx.init(params["net"])})
    state, seen = optim.apply_gradients(state, "net", tx, jnp.array([-3.0, -4.0]), lambda step: 0.75)
    np.testing.assert_allclose(state.params["net"], [3, 4])
    np.testing.assert_allclose(state.variables()["params"]["net"], [0.75, 1.0])
    np.testing.assert_allclose(state.variables(ema=False)["params"]["net"], [3, 4])
    np.testing.assert_allclose([seen["update_norm"], seen["learning_rate"]], [5, 1])
    assert jax.tree.leaves(state.opt_state)


def test_every_recipe_promises_something_it_measures():
    names = re.search(r"^RECIPES := (.*)$", (ROOT / "Makefile").read_text(), re.MULTILINE)[1]
    recipes = re.findall(r"(\w+_\w+)(?::(\w+))?", names)
    assert len(recipes) >= 4
    for name, variant in recipes:
        config = experiment(name, variant)
        assert config.expect
        assert {promise["metric"] for promise in config.expect} <= set(config.eval.metrics)


def test_runs_begun_before_there_was_a_key_go_on_with_its_default():
    new = experiment("ddpm_digits")
    absent = config_lib.flatten(config_lib.defaults("diffusion"))
    old = new.copy_and_resolve_references()
    with old.unlocked():
        del old["likelihood"]
        for key in ("process", "variance", "loss", "vlb_weight", "weighting", "time_sampling"):
            del old.diffusion[key]
    assert "config.diffusion.loss was absent, is simple" in config_lib.conflicts(old, new)
    assert config_lib.conflicts(old, new, absent) == []
    new.diffusion.weighting = "min_snr"
    assert config_lib.conflicts(old, new, absent) == ["config.diffusion.weighting was uniform, is min_snr"]


@pytest.mark.parametrize("accumulate", [1, 4])
def test_values_of_rows_come_back_in_their_order(accumulate):
    def loss_fn(params, rows):
        losses = params * rows["x"]
        return jnp.mean(losses), {"each": PerRow(losses), "mean": jnp.mean(rows["x"])}

    batch = {"x": jnp.arange(12.0)}
    grads, metrics = optim.gradients(loss_fn, jnp.float32(2.0), batch, whole_view(batch), accumulate)
    np.testing.assert_array_equal(metrics["each"].values, 2 * np.arange(12))
    np.testing.assert_allclose([grads, metrics["grad_norm"], metrics["mean"], metrics["loss"]], [5.5, 5.5, 5.5, 11])


def test_networks_have_optimizers_of_their_own():
    config = config_lib.defaults()
    config.optim.update({"name": "sgd", "momentum": 0.0, "learning_rate": 0.5, "clip_norm": 0.0})
    config.optim.slow = {"learning_rate": 0.1}
    found = optim.make_optimizers(config, {"slow": 1, "fast": 1}, 10)
    moves = {name: tx.update(jnp.ones(()), tx.init(jnp.ones(())))[0] for name, tx in found.items()}
    assert moves == {"slow": pytest.approx(-0.1), "fast": pytest.approx(-0.5)}


def test_a_rate_decays_by_steps_however_many_updates_they_have():
    config = config_lib.defaults().optim
    config.update({"name": "sgd", "momentum": 0.0, "learning_rate": 1.0, "clip_norm": 0.0, "decay": "linear"})
    tx = optim.make_optimizer(config, num_steps=4, updates=3)
    state, rates = tx.init(jnp.ones(())), []
    for _ in range(12):
        update, state = tx.update(jnp.ones(()), state)
        rates.append(-float(update))
    np.testing.assert_allclose(rates, np.repeat([1, 0.75, 0.5, 0.25], 3), rtol=1e-6)


def test_where_there_is_no_choice_it_says_so():
    with pytest.raises(ConfigError, match="unknown option of sample 'steps': there are none"):
        choose("option of sample", "steps", ())
