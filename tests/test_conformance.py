"""The promises every task keeps, one test each over the registry. A new task adds a row to RUNS."""

import re
import shutil

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from genmodels import loop, scoring
from genmodels.core import parameters
from genmodels.core.checkpoint import Checkpoints
from genmodels.core.parallel import AXIS, Parallel, device_view, whole_view
from genmodels.core.state import Average
from genmodels.data import pipeline, transforms
from genmodels.data.sources import make_source
from genmodels.runs.inference import Run, abstract_state
from genmodels.runs.prerequisites import Prerequisites
from genmodels.tasks import TASKS, DataSpec, make_task
from genmodels.tasks.base import Task
from tests.helpers import EXPERIMENTS, digest, experiment, final_state

RUNS = {  # task, and after a slash what is special about the row; of diffusion it has a stand-in for its network
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
    "vae": ("vae_digits", {"vae.kl_warmup": 10, "optim.clip_norm": 0.1}),  # of losses summed over pixels
    "vae/vq": (
        "vae_digits",
        {
            "model.grid": True,
            "model.blocks": 0,
            "vae.latent": "vq",
            "vae.noise": 0.1,
            "vae.revive_below": 0.5,
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
            "gan.discriminator_steps": 2,
            "gan.penalty": "r1",
            "gan.penalty_interval": 3,
            "gan.augment": ("translation",),
            "gan.conditional": True,
        },
    ),
    "classifier/vit": (
        "vit_digits",
        {"model.pooling": "class", "model.stochastic_depth": 0.5, "distill.teacher": "TEACHER"},
    ),
}

MORE = {  # what couples the rows of a batch besides, or draws more
    "vae/free_bits": ("vae_digits", {"vae.free_bits": 0.1, "optim.clip_norm": 0.1}),
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
            "model.channels": (4, 4),
            "model.discriminator_channels": (4, 4),
            "model.norm_rows": 1,
            "gan.generator_multiple": 2,
            "gan.conditional": True,
            "gan.loss": "wasserstein",
            "gan.penalty": "wgan_gp",
            "optim.clip_norm": 0.1,  # of scores that are summed over space
        },
    ),
}

# On eight devices a real U-Net takes minutes to compile; in `make test` diffusion/learned stands for it.
BRIEF = [pytest.param(name, marks=pytest.mark.slow) if name == "diffusion" else name for name in RUNS]

SHAPES = {"mnist": (28, 28, 1), "cifar10": (32, 32, 3), "folder": (64, 64, 3)}  # by a word in the experiment's name


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
    spec = DataSpec((8, 8, 1), 10)
    prerequisites = Prerequisites.find(config, task, spec, abstract_state(task, spec).params, fresh=False)
    return prerequisites.networks(parallel or Parallel("sharded", jax.devices()[:1]))


def test_every_task_has_a_row():
    assert {name.split("/")[0] for name in RUNS} == TASKS.keys()


@pytest.mark.parametrize("name", RUNS)
def test_resume_is_exact(config_of, name, tmp_path):
    whole = config_of(name, **{"train.steps": 6})
    assert loop.train(whole, tmp_path / "whole") == 0
    wanted = digest(final_state(tmp_path / "whole"))

    stops = iter([None, None, None, 85])
    assert loop.train(whole, tmp_path / "parts", lambda step: next(stops)) == 85
    assert int(final_state(tmp_path / "parts").step) == 3
    assert loop.train(whole, tmp_path / "parts") == 0
    assert digest(final_state(tmp_path / "parts")) == wanted


@pytest.mark.parametrize("name", ["classifier", "diffusion/learned"])
def test_a_resume_that_forgot_the_optimizer_would_show(config_of, name, tmp_path):
    config = config_of(name, **{"train.steps": 6})
    assert loop.train(config, tmp_path / "whole") == 0
    assert loop.train(config, tmp_path / "forgetful", lambda step: 85 if step == 3 else None) == 85
    half = final_state(tmp_path / "forgetful")
    shutil.rmtree(tmp_path / "forgetful" / "checkpoints")
    checkpoints = Checkpoints(tmp_path / "forgetful" / "checkpoints")
    checkpoints.save(half.replace(opt_state=jax.tree.map(np.zeros_like, half.opt_state)), 3)
    checkpoints.close()
    assert loop.train(config, tmp_path / "forgetful") == 0
    assert digest(final_state(tmp_path / "forgetful").params) != digest(final_state(tmp_path / "whole").params)


def train_on(config, devices, mode, steps=20, shard=False):
    """The states of the last two of `steps`, by the loop's own composition but without its files."""
    source, task = built(config)
    parallel = Parallel(mode, jax.devices()[:devices], shard)
    state = parallel.place(loop.initial_state(task, source, 0))
    step = parallel.compile_step(loop.compose_step(task), state)
    rng = parallel.place(jax.random.key(1))
    frozen = frozen_of(config, task, parallel)
    states = []
    for t in range(steps):
        batch = pipeline.make_batch(source, 0, t, config.train.batch_size)
        state, _ = step(state, frozen, batch, rng)
        if t >= steps - 2:
            states.append(jax.device_get(state))
        jax.block_until_ready(state)
    return states


def assert_close(a, b, tolerance=1e-5):
    for (path, x), (_, y) in zip(*(jax.tree_util.tree_leaves_with_path(t) for t in (a, b)), strict=True):
        np.testing.assert_allclose(x, y, atol=tolerance, rtol=0, err_msg=jax.tree_util.keystr(path))


@pytest.mark.parametrize("name", [*BRIEF, *MORE])
def test_pmap_and_sharded_on_eight_devices_equal_one_device(config_of, name):
    # Plain SGD: Adam divides by sqrt(v), which turns rounding in tiny gradients into differences of a whole step.
    config = config_of(name, **{"optim.name": "sgd", "optim.learning_rate": 0.01, "optim.warmup": 0})
    before, one = train_on(config, 1, "pmap")
    assert digest(one.params) != digest(before.params)
    assert_close(one, train_on(config, 8, "pmap")[-1])
    assert_close(one, train_on(config, 8, "sharded")[-1])
    assert_close(one, train_on(config, 8, "sharded", shard=True)[-1])


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


ACCUMULATING = [name for name in BRIEF if name != "gan"]  # its batch norms see the batch: it refuses, see its own tests


@pytest.mark.parametrize("name", ACCUMULATING)
def test_accumulation_gives_the_gradient_of_the_whole_batch(config_of, name):
    settings = {"optim.name": "sgd", "optim.learning_rate": 0.01, "optim.warmup": 0}
    one = train_on(config_of(name, **settings), 1, "pmap", steps=3)
    assert_close(one, train_on(config_of(name, **settings, **{"train.accumulate": 4}), 1, "pmap", steps=3))


@pytest.mark.parametrize("name", BRIEF)
def test_replicas_agree(config_of, name):
    """The state of every pmapped device is the same, which `out_axes=None` takes for granted."""
    config = config_of(name)
    source, task = built(config)
    state = loop.initial_state(task, source, 0)

    def step(state, frozen, batch, rng):
        new, metrics = task.train_step(state, frozen, transforms.normalize(batch), rng, device_view(batch))
        return new.params, new.ema_params, new.extra, metrics

    every = jax.pmap(step, axis_name=AXIS, in_axes=(None, None, 0, None), out_axes=0)
    batch = pipeline.make_batch(source, 0, 0, config.train.batch_size)
    split = jax.tree.map(lambda x: x.reshape(8, -1, *x.shape[1:]), batch)
    frozen = frozen_of(config, task, Parallel())
    for leaf in jax.tree.leaves(jax.device_get(every(state, frozen, split, jax.random.key(1)))):
        np.testing.assert_array_equal(leaf, np.broadcast_to(leaf[:1], leaf.shape))


@pytest.mark.parametrize("name", RUNS)
@pytest.mark.parametrize("platform", ["cuda", "tpu"])
def test_steps_and_predict_functions_lower(config_of, name, platform):
    config = config_of(name)
    source, task = built(config)
    spec = spec_of(source)
    state = abstract_state(task, spec)
    frozen = frozen_of(config, task)
    lower_step(task, state, spec, platform, frozen)
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
                jax.jit(lambda v, f, i, p=predict: p.fn(v, f, i, whole_view(i), **p.options)), platforms=[platform]
            )(state.variables(), frozen, inputs)


def lower_step(task, state, spec, platform, frozen):
    step = loop.compose_step(task)
    rows = 8 * task.row_multiple
    batch = {field: jnp.zeros((rows, *spec.image_shape), jnp.uint8) for field in spec.fields}
    batch |= {"label": jnp.zeros(rows, jnp.int32)} if spec.num_classes else {}
    return jax.export.export(jax.jit(lambda s, f, b, r: step(s, f, b, r, whole_view(b))), platforms=[platform])(
        state, frozen, batch, jax.random.key(0)
    )


LARGE = ("cifar10", "folder")  # half a minute each to trace and lower


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=pytest.mark.slow) if any(word in name for word in LARGE) else name
        for name in [*EXPERIMENTS, "sngan_cifar10:conditional", "vit_cifar10:at224"]
    ],
)
def test_experiments_at_full_size_are_shaped_and_lower(name):
    image_shape = next((shape for word, shape in SHAPES.items() if word in name), (8, 8, 1))
    file, _, variant = name.partition(":")
    config = experiment(file, variant)
    if config.data.size:
        image_shape = (config.data.size, config.data.size, image_shape[-1])
    spec = DataSpec(image_shape, 10)
    task = make_task(config, spec, 100)
    state = abstract_state(task, spec)
    exported = lower_step(task, state, spec, "cuda", {})
    shapes = [leaf.shape for leaf in jax.tree.leaves(state)]
    assert [leaf.shape for leaf in exported.out_avals[: len(shapes)]] == shapes


@pytest.mark.parametrize("name", BRIEF)
def test_a_bad_batch_changes_nothing_but_the_counters(config_of, name):
    config = config_of(name)
    source, task = built(config)
    state = loop.initial_state(task, source, 0)

    def poisoned(state, frozen, batch, rng, dist):
        bad = jnp.where(state.step == 1, jnp.nan, 1.0)
        return task.train_step(state, frozen, batch | {f: batch[f] * bad for f in source.fields}, rng, dist)

    parallel = Parallel("pmap", jax.devices()[:1])
    step = parallel.compile_step(loop.compose_step(Task(task.init, poisoned, {}, {})), state)
    frozen = frozen_of(config, task, parallel)
    states = [jax.device_get(state)]
    state = parallel.place(state)
    for t in range(3):
        state, metrics = step(state, frozen, pipeline.make_batch(source, 0, t, 16), jax.random.key(0))
        states.append(jax.device_get(state))
        if name.startswith("diffusion"):
            assert isinstance(metrics["loss_quartile_0"], Average)
    first, second, third = (s.replace(step=0, skipped=0) for s in states[1:])
    assert digest(first) == digest(second)
    assert digest(second) != digest(third)
    assert [int(s.step) for s in states] == [0, 1, 2, 3]
    assert [int(s.skipped["in_row"]) for s in states] == [0, 0, 1, 0]
    assert int(states[-1].skipped["total"]) == 1


AVERAGED = {row.split("/")[0]: row for row in RUNS if row != "vae/vq"}.values()  # a row a task that keeps averages


@pytest.mark.parametrize("name", AVERAGED)
def test_frozen_parameters_stay_and_nothing_is_kept_for_them(config_of, name):
    """Half of each network's parameters, by name; weight decay and averages are on and must leave them alone, too."""
    settings = {"optim.name": "adamw", "optim.weight_decay": 0.1, "ema.decay": 0.9}
    source, task = built(config_of(name, **settings))
    names = sorted(parameters.named(abstract_state(task, spec_of(source)).params))
    chosen = tuple(map(re.escape, names[::2]))
    first, last = train_on(config_of(name, **settings, frozen=chosen), 1, "pmap", steps=2)
    for kept in ("params", "ema_params"):
        before, after = (parameters.named(getattr(state, kept)) for state in (first, last))
        still = {name for name in before if np.array_equal(before[name], after[name])}
        assert still >= set(names[::2]) & before.keys()
        assert still < before.keys()
    sizes = sum(leaf.ndim > 0 for leaf in jax.tree.leaves(last.opt_state))
    assert sizes == 2 * len(names[1::2])  # Adam's two moments of each of the others
