"""The promises every task keeps, one test each over the registry. A new task adds a row to RUNS."""

import functools
import re
import shutil
from collections import deque

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from genmodels import loop, scoring
from genmodels.core import parameters
from genmodels.core.checkpoint import Checkpoints
from genmodels.core.parallel import AXIS, Parallel, whole_view
from genmodels.core.state import Average
from genmodels.data import pipeline
from genmodels.data.sources import make_source
from genmodels.runs.inference import Run, abstract_state
from genmodels.runs.prerequisites import Prerequisites
from genmodels.tasks import TASKS, DataSpec, make_task
from genmodels.tasks.base import Task
from tests.helpers import digest, experiment, final_state, lower_step

# The task, and after a slash what is special about the row. Diffusion rows with a slash use a small network.
RUNS = {
    "diffusion": ("ddpm_digits", {"model.dropout": 0.1}),
    "diffusion/learned": (
        "ddpm_digits",
        {
            "diffusion.variance": "learned_range",
            "diffusion.loss": "hybrid",
            "diffusion.time_sampling": "importance",
        },
    ),
    "classifier": ("classifier_digits", {"model.features": 32}),
    "vae": ("vae_digits", {"vae.kl_warmup": 4, "optim.clip_norm": 0.1}),  # of losses summed over pixels
    "vae/vq": (
        "vae_digits",
        {
            "model.grid": True,
            "model.blocks": 0,
            "vae.latent": "vq",
            "vae.noise": 0.1,
            "vae.revive_below": 0.5,
            "vae.codebook_decay": 0.5,  # so fast that codes die, and are revived, within the compared steps
            "ema.horizon": 0.0,
            "optim.clip_norm": 0.1,
        },
    ),
    "gan": (
        "gan_digits",
        {
            "model.channels": (4,),
            "model.discriminator_channels": (4,),
            "model.discriminator_norm": "spectral",
            "gan.penalty": "r1",
            "gan.penalty_interval": 3,
            "gan.augment": ("translation",),
            "gan.conditional": True,
        },
    ),
    "classifier/vit": (
        "vit_digits",
        {"model.depth": 1, "model.pooling": "class", "model.stochastic_depth": 0.5, "distill.teacher": "TEACHER"},
    ),
}

MORE = {  # further rows: methods that couple the rows of a batch in other ways, or draw more random numbers
    "vae/free_bits": ("vae_digits", {"model.blocks": 0, "vae.free_bits": 0.1, "optim.clip_norm": 0.1}),
    "gan/batch": (
        "gan_digits",
        {
            "model.channels": (4,),
            "model.discriminator_channels": (4, 4),
            "model.discriminator_norm": "batch",
            "gan.discriminator_steps": 2,
        },
    ),
    "gan/resnet": (
        "gan_digits",
        {
            "model.architecture": "resnet",
            "model.channels": (4,),
            "model.discriminator_channels": (4,),
            "model.norm_rows": 1,
            "gan.generator_multiple": 2,
            "gan.conditional": True,
            "gan.loss": "wasserstein",
            "gan.penalty": "wgan_gp",
            "optim.clip_norm": 0.1,  # of scores that are summed over space
        },
    ),
}

# With this scope pytest runs all tests of a row one after the other, mostly on one worker, which keeps what they share.
of_row = functools.partial(pytest.mark.parametrize, "name", scope="module")

# A real U-Net takes minutes to compile in all these ways; `make test` lowers it, and trains diffusion/learned.
BRIEF = [pytest.param(name, marks=pytest.mark.slow) if name == "diffusion" else name for name in RUNS]

SLOW_MORE = [pytest.param(name, marks=pytest.mark.slow) for name in MORE]

SGD = {"optim.name": "sgd", "optim.learning_rate": 0.01, "optim.warmup": 0}  # see the test that compares devices
STEPS = 6  # of a comparison: two lazy penalties, and a wrong mean shows in the first


@pytest.fixture
def config_of(request):
    """The config of a row: a function of its name and overrides."""

    def made(name, **overrides):
        file, settings = (RUNS | MORE)[name]
        if settings.get("distill.teacher"):
            settings = settings | {"distill.teacher": str(request.getfixturevalue("teacher"))}
        way = request.getfixturevalue("small") if name.startswith("diffusion/") else experiment
        return way(file, **(settings | {"data.source": "digits"} | overrides))

    return made


@pytest.fixture(scope="session")
def teacher(tmp_path_factory):
    """A work directory to learn from."""
    workdir = tmp_path_factory.mktemp("teacher") / "run"
    assert loop.train(experiment("classifier_digits"), workdir) == 0
    return workdir


def built(config):
    source = make_source(config.data.source)
    return source, make_task(config, spec_of(source), 20)


def spec_of(source):
    return DataSpec(source.image_shape, source.num_classes, source.fields)


def frozen_of(config, task, parallel=None):
    """The networks that the task wants beside its own."""
    spec = spec_of(make_source(config.data.source))
    prerequisites = Prerequisites.find(config, task, spec, abstract_state(task, spec).params, fresh=False)
    return prerequisites.networks(parallel or Parallel("sharded", jax.devices()[:1]))


def test_every_task_has_a_row():
    assert {name.split("/")[0] for name in RUNS} == TASKS.keys()


@pytest.fixture(scope="session")
def kept():
    """What several tests of a row look at, by its name and what it is."""
    return {}


@pytest.fixture
def whole(config_of, kept, tmp_path_factory):
    """The final state of a row's run of 6 steps that nothing interrupted: a function of its name."""

    def made(name):
        if (name, "whole") not in kept:
            workdir = tmp_path_factory.mktemp("whole") / "run"
            assert loop.train(config_of(name, **{"train.steps": 6}), workdir) == 0
            kept[name, "whole"] = final_state(workdir)
        return kept[name, "whole"]

    return made


@of_row([*BRIEF, *SLOW_MORE])
def test_resume_is_exact(config_of, whole, name, tmp_path):
    config = config_of(name, **{"train.steps": 6})
    stops = iter([None, None, None, 85])
    assert loop.train(config, tmp_path / "parts", lambda step: next(stops)) == 85
    assert int(final_state(tmp_path / "parts").step) == 3
    assert loop.train(config, tmp_path / "parts") == 0
    assert digest(final_state(tmp_path / "parts")) == digest(whole(name))


@of_row(["classifier", "diffusion/learned"])
def test_a_resume_that_forgot_the_optimizer_would_show(config_of, whole, name, tmp_path):
    config = config_of(name, **{"train.steps": 6})
    assert loop.train(config, tmp_path / "forgetful", lambda step: 85 if step == 3 else None) == 85
    half = final_state(tmp_path / "forgetful")
    shutil.rmtree(tmp_path / "forgetful" / "checkpoints")
    checkpoints = Checkpoints(tmp_path / "forgetful" / "checkpoints")
    checkpoints.save(half.replace(opt_state=jax.tree.map(np.zeros_like, half.opt_state)), 3)
    checkpoints.close()
    assert loop.train(config, tmp_path / "forgetful") == 0
    assert digest(final_state(tmp_path / "forgetful").params) != digest(whole(name).params)


def train_on(config, devices, mode, steps=STEPS, shard=False):
    """What every one of `steps` leaves, (state, metrics), by the loop's own composition but without its files."""
    source, task = built(config)
    parallel = Parallel(mode, jax.devices()[:devices], shard)
    state = parallel.place(loop.initial_state(task, source, 0))
    step = parallel.compile_step(loop.compose_step(task), state)
    rng = parallel.place(jax.random.key(1))
    frozen = frozen_of(config, task, parallel)
    for t in range(steps):
        batch = pipeline.make_batch(source, 0, t, config.train.batch_size)
        state, metrics = step(state, frozen, batch, rng)
        yield jax.block_until_ready((state, metrics))


def final(steps):
    """The state after the last of the steps, on the host."""
    state, _ = deque(steps, maxlen=1).pop()
    return jax.device_get(state)


@pytest.fixture
def one_device(config_of, kept):
    """The states of a row's SGD on one device, a list of STEPS: a function of its name."""

    def made(name):
        if (name, "one") not in kept:
            steps = [jax.device_get(step) for step in train_on(config_of(name, **SGD), 1, "pmap")]
            if name == "vae/vq":
                assert sum(float(metrics["revived"]) for _, metrics in steps) > 0
            kept[name, "one"] = [state for state, _ in steps]
        return kept[name, "one"]

    return made


def assert_replicas_agree(tree):
    """Every device of a pmap kept the same, as `out_axes=None` assumes, which returns the first value alone."""
    for path, leaf in jax.tree_util.tree_leaves_with_path(tree):
        first, *others = (np.asarray(shard.data) for shard in leaf.addressable_shards)
        assert len(others) == 7
        for other in others:
            np.testing.assert_array_equal(other, first, err_msg=jax.tree_util.keystr(path))


def assert_close(a, b, tolerance=1e-5):
    """Compares leaf by leaf; the tolerance grows with a leaf's largest value, as rounding does. Momenta reach 16."""
    for (path, x), (_, y) in zip(*(jax.tree_util.tree_leaves_with_path(t) for t in (a, b)), strict=True):
        largest = max(1.0, float(np.max(np.abs(x), initial=0.0)))
        np.testing.assert_allclose(x, y, atol=tolerance * largest, rtol=0, err_msg=jax.tree_util.keystr(path))


@of_row([*BRIEF, *MORE])
def test_eight_devices_equal_one_and_replicas_agree(config_of, one_device, name):
    # Plain SGD: Adam divides by sqrt(v), which turns rounding in tiny gradients into differences of a whole step.
    *_, before, one = one_device(name)
    assert digest(one.params) != digest(before.params)
    for left in train_on(config_of(name, **SGD), 8, "pmap"):
        assert_replicas_agree(left)
        state = jax.device_get(left[0])
    assert_close(one, state)


@of_row([*BRIEF, *SLOW_MORE])
def test_shards_on_eight_devices_equal_one_device(config_of, one_device, name):
    assert_close(one_device(name)[-1], final(train_on(config_of(name, **SGD), 8, "sharded", shard=True)))


SLOW_BUT_ONE = [name if name == "classifier" else pytest.param(name, marks=pytest.mark.slow) for name in RUNS | MORE]


@of_row(SLOW_BUT_ONE)
def test_batches_in_shards_and_whole_parameters_equal_one_device(config_of, one_device, name):
    assert_close(one_device(name)[-1], final(train_on(config_of(name, **SGD), 8, "sharded")))


def test_replicas_that_differ_would_show():
    """Of a step that forgets the mean over devices."""
    step = Parallel().compile_step(
        lambda state, frozen, batch, rng, dist: (state + jnp.mean(batch["image"]), {}), jnp.zeros(())
    )
    state, _ = step(jnp.zeros(()), {}, {"image": np.arange(16.0, dtype=np.float32)}, jax.random.key(0))
    with pytest.raises(AssertionError):
        assert_replicas_agree(state)
    assert state == 0.5


def test_a_sharded_run_resumes_on_its_shards_and_is_evaluated(config_of, tmp_path):
    sharded = config_of("classifier", **{"parallel": "sharded", "shard_parameters": True})
    source, task = built(sharded)
    shardings = Parallel("sharded", shard_parameters=True).state_shardings(abstract_state(task, spec_of(source)))
    assert any(AXIS in sharding.spec for sharding in jax.tree.leaves(shardings))
    assert loop.train(sharded, tmp_path / "whole") == 0
    assert loop.train(sharded, tmp_path / "parts", lambda step: 85 if step == 3 else None) == 85
    assert loop.train(sharded, tmp_path / "parts") == 0
    assert digest(final_state(tmp_path / "parts")) == digest(final_state(tmp_path / "whole"))
    (result,) = scoring.of_run(str(tmp_path / "parts"), None, None, "latest")
    test = make_source("digits", "test")
    logits = Run.load(tmp_path / "parts").predict("classify", len(test), {"image": test.images})["logits"]
    assert result.value == np.mean(np.argmax(logits, -1) == test.labels)


PLATFORMS = ["cuda", "tpu"]
ACCUMULATING = [name for name in BRIEF if name != "gan"]  # its batch norms see the batch: it refuses, see its own tests


@of_row(ACCUMULATING)
def test_accumulation_gives_the_gradient_of_the_whole_batch(config_of, one_device, name):
    parts = final(train_on(config_of(name, **SGD, **{"train.accumulate": 4}), 1, "pmap", steps=3))
    assert_close(one_device(name)[2], parts)


@of_row(RUNS)
def test_steps_and_predict_functions_lower(config_of, name):
    config = config_of(name)
    source, task = built(config)
    spec = spec_of(source)
    state = abstract_state(task, spec)
    frozen = frozen_of(config, task)
    lower_step(task, state, spec, PLATFORMS, frozen)
    for predict in task.predict.values():
        every = {
            "key": jax.random.split(jax.random.key(0), 8),
            "label": jnp.zeros(8, jnp.int32),
            "guidance_scale": jnp.ones(8),
            **{field: jnp.zeros((8, *source.image_shape)) for field in predict.images},
        }
        for fields in {predict.inputs, predict.inputs + predict.optional}:
            inputs = {field: every[field] for field in fields}
            jax.export.export(
                jax.jit(lambda v, f, i, p=predict: p.fn(v, f, i, whole_view(i), **p.options)), platforms=PLATFORMS
            )(state.variables(), frozen, inputs)


AVERAGED = {row.split("/")[0]: row for row in RUNS if row != "vae/vq"}.values()  # a row a task that keeps averages
HALF_FROZEN = {"optim.name": "adamw", "optim.weight_decay": 0.1, "ema.decay": 0.9}  # all that must leave them alone


def parameter_names(config):
    source, task = built(config)
    return sorted(parameters.named(abstract_state(task, spec_of(source)).params))


@pytest.fixture
def poisoned(config_of, kept):
    """A row's four states of three steps, the second on a batch of NaN, and the last metrics: a function of its name.

    In rows of AVERAGED every second parameter is also frozen, so that two tests share one compiled program.
    """

    def made(name):
        if (name, "poisoned") in kept:
            return kept[name, "poisoned"]
        config = config_of(name)
        if name in AVERAGED:
            config = config_of(name, **HALF_FROZEN, frozen=tuple(map(re.escape, parameter_names(config)[::2])))
        source, task = built(config)
        state = loop.initial_state(task, source, 0)

        def step(state, frozen, batch, rng, dist):
            bad = jnp.where(state.step == 1, jnp.nan, 1.0)
            return task.train_step(state, frozen, batch | {f: batch[f] * bad for f in source.fields}, rng, dist)

        parallel = Parallel("pmap", jax.devices()[:1])
        compiled = parallel.compile_step(loop.compose_step(Task(task.init, step, {}, {})), state)
        frozen = frozen_of(config, task, parallel)
        states = [jax.device_get(state)]
        state = parallel.place(state)
        for t in range(3):
            state, metrics = compiled(state, frozen, pipeline.make_batch(source, 0, t, 16), jax.random.key(0))
            states.append(jax.device_get(state))
        kept[name, "poisoned"] = states, metrics
        return kept[name, "poisoned"]

    return made


@of_row([*BRIEF, *SLOW_MORE])
def test_a_bad_batch_changes_nothing_but_the_counters(poisoned, name):
    states, metrics = poisoned(name)
    if name.startswith("diffusion"):
        assert isinstance(metrics["loss_quartile_0"], Average)
    first, second, third = (s.replace(step=0, skipped={}) for s in states[1:])
    assert digest(first) == digest(second)
    assert digest(second) != digest(third)
    assert [int(s.step) for s in states] == [0, 1, 2, 3]
    assert [int(s.skipped["in_row"]) for s in states] == [0, 0, 1, 0]
    assert int(states[-1].skipped["total"]) == 1


@of_row(AVERAGED)
def test_frozen_parameters_stay_and_nothing_is_kept_for_them(poisoned, config_of, name):
    """Half of each network's parameters, by name; weight decay and averages are on and must leave them alone, too."""
    names = parameter_names(config_of(name))
    (first, _, _, last), _ = poisoned(name)
    for averaged in ("params", "ema_params"):
        before, after = (parameters.named(getattr(state, averaged)) for state in (first, last))
        still = {name for name in before if np.array_equal(before[name], after[name])}
        assert still >= set(names[::2]) & before.keys()
        assert still < before.keys()
    sizes = sum(leaf.ndim > 0 for leaf in jax.tree.leaves(last.opt_state))
    assert sizes == 2 * len(names[1::2])  # Adam's two moments of each of the others
