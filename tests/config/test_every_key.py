"""Every key of every experiment: when its value changes, the step, a predict function, the data or an error changes.

The programs are compared as jax traces them, with all their constants. Keys of the loop and of evaluations change files
and what is measured. The few keys that are left have tests of their own, see ELSEWHERE.
"""

import dataclasses
import functools
import re
import types

import jax
import numpy as np
import pytest

from genmodels import config as config_lib
from genmodels import loop, scoring
from genmodels.core.parallel import Parallel, whole_view
from genmodels.data import transforms
from genmodels.data.augment import Augment
from genmodels.data.sources import from_config
from genmodels.errors import ConfigError, GenmodelsError
from genmodels.reporting.records import read_metrics
from genmodels.runs.inference import Run
from genmodels.runs.predictor import Predictor
from genmodels.tasks import DataSpec, classifier, make_task
from tests.helpers import EXPERIMENTS, ROOT, experiment

TESTS = ROOT / "tests"
ELSEWHERE = {  # key: the tests that show what it changes
    "seed": "test_commands.py",
    "parallel": "test_conformance.py",
    "shard_parameters": "test_conformance.py",
    "init_from": "runs/test_prerequisites.py",
    "init_fresh": "runs/test_prerequisites.py",
    "expect": "test_loop.py",
    "distill.teacher": "runs/test_prerequisites.py",
    "model.resize_positions": "nn/test_positions.py",
    "data.workers": "data/test_pipeline.py",
    "data.memory_gb": "data/test_files.py",
    "data.skip_damaged": "data/test_files.py",
    "data.crop": "data/test_files.py",
    "train.max_bad_steps": "test_loop.py",
}
OF_EVALUATION = "eval."
OF_THE_LOOP = ("log.", "checkpoint.")
RESIZED = {"data.size": 16}  # data.filter has an effect only where images are resized


def alternatives(value, hint):
    """Other values of a key's type, of which some may be refused."""
    if isinstance(value, bool):
        return [not value]
    if isinstance(value, int):
        return [value + 1, 2 * value, 8, 4, 2, 16, 1]
    if isinstance(value, float):
        return [value / 2, value + 0.1, 0.05, 0.5, 1.5, 2.0]
    if isinstance(value, str) or (value is None and hint is str):
        return ["no_such"]
    if value is None:
        return [False, True, 0.5, 0.25, 2, "no_such"]
    if isinstance(value, tuple):
        more = {int: [(*value, *value[-1:]), value[:-1], (2,), (1, 2)], str: [("no_such",), (".*/bias",), ()]}
        return more[str if hint == tuple[str, ...] else int]
    raise AssertionError(value)


def programs(config):
    """What a run of this config computes, as text; in parts, each made when it is asked for."""
    augment = config_lib.build(Augment, config.data.augment, "data.augment")
    source = from_config(config.data)
    augment.check(source.image_shape)
    spec = DataSpec(source.image_shape, source.num_classes, source.fields)
    steps = config_lib.total_steps(config, len(source))
    task = make_task(config, spec, steps)
    yield f"{source.fingerprint} {source.image_shape} {steps} {config.train.batch_size}"
    yield str([(name, one.inputs, one.optional, dict(one.options), one.protocol) for name, one in task.predict.items()])
    rows = 2 * max(1, task.row_multiple) * config.train.accumulate
    batch = {field: jax.ShapeDtypeStruct((rows, *spec.image_shape), np.uint8) for field in spec.fields}
    batch |= {"label": jax.ShapeDtypeStruct((rows,), np.int32)} if spec.num_classes else {}
    key = jax.eval_shape(lambda: jax.random.key(0))
    normal = jax.eval_shape(transforms.normalize, batch)
    init, state = jax.make_jaxpr(task.init, return_shape=True)(key, normal)
    yield str(init)
    step = loop.compose_step(task, augment)
    yield str(jax.make_jaxpr(lambda s, b, r: step(s, {}, b, r, whole_view(b)))(state, batch, key))
    for name, one in task.predict.items():
        fields = normal | {"key": jax.eval_shape(lambda: jax.random.split(jax.random.key(0), rows))}
        inputs = {field: fields.get(field, normal[spec.fields[0]]) for field in one.inputs}
        call = functools.partial(one.fn, **one.options)
        traced = jax.make_jaxpr(lambda v, i: call(v, {}, i, types.SimpleNamespace()))  # noqa: B023
        yield name + str(traced(state.variables(), inputs))


class Base:
    """The programs of an experiment, each traced at most once."""

    def __init__(self, config):
        self.config, self._made, self._source = config, [], programs(config)

    def part(self, index):
        while len(self._made) <= index:
            self._made.append(cleaned(next(self._source)))
        return self._made[index]

    def outcome(self, key, value):
        """Whether the config with another value computes something else; None and the error if it is refused."""
        config = self.config.copy_and_resolve_references()
        try:
            with config.unlocked():
                config.update_from_flattened_dict({key: value})
            config_lib.validate(config, 1)
            return any(cleaned(part) != self.part(index) for index, part in enumerate(programs(config))), None
        except (GenmodelsError, RuntimeError, TypeError, ValueError) as error:
            return None, error


def cleaned(text):
    """Without the addresses of objects."""
    return re.sub(r" at 0x[0-9a-f]+", "", text)


def choices(error):
    """The names that a message lists as those there are."""
    listed = re.search(r"there (?:is|are) ([\w, ]+)$", str(error))
    return listed[1].split(", ") if listed else []


def silent(base, key, value, hint):
    """Whether other values are accepted and none of them changes anything."""
    accepted, tried = False, alternatives(value, hint)
    while tried:
        other = tried.pop(0)
        if other == value:
            continue
        changed, error = base.outcome(key, other)
        if changed:
            return False
        accepted |= error is None
        if error is not None and "no_such" in str(other):  # the names that the message lists
            tried += [(name,) if isinstance(value, tuple) else name for name in choices(error)]
    return accepted


def traced(key):
    """Whether a key changes what is computed in training."""
    return key not in ELSEWHERE and not key.startswith((OF_EVALUATION, *OF_THE_LOOP))


def tiny_of(name):
    """The tiny variant, which a tracer is quick with; without the teacher, which is a run of its own."""
    config = experiment(name)
    if config.get("distill", {}).get("teacher"):
        config.distill.update(teacher="", temperature=1.0)
    return config


QUICK = ("vae_digits", "classifier_digits", "gan_digits")


@pytest.mark.parametrize(
    "name", [name if name in QUICK else pytest.param(name, marks=pytest.mark.slow) for name in EXPERIMENTS]
)
def test_no_key_is_without_effect_in_silence(name):
    config = tiny_of(name)
    base, known = Base(config), config_lib.settings(config)
    flat = config_lib.flatten(config)
    assert flat.keys() == known.keys()
    keys = [key for key in known if traced(key) and key != "data.filter"]
    assert [key for key in keys if silent(base, key, flat[key], known[key].hint)] == []


def test_the_filter_changes_images_that_are_resized():
    config = tiny_of("classifier_digits")
    config.update_from_flattened_dict(RESIZED)
    assert not silent(Base(config), "data.filter", config.data.filter, str)


def test_a_key_that_does_nothing_is_found(monkeypatch):
    monkeypatch.setattr(classifier.Classifier, "targets", lambda self, labels: jax.nn.one_hot(labels, 10))
    base = Base(tiny_of("classifier_digits"))
    assert silent(base, "loss.label_smoothing", 0.0, float)
    assert not silent(base, "loss.mixup", 0.0, float)


MEASURED = ("nll", "psnr", "fd", "kd", "cs", "precision")  # between them they read every key of config.eval


def evaluation(run, values):
    """What an evaluation of the run would do with these values of its config, as text."""
    config = run.config.copy_and_resolve_references()
    config.eval.metrics = MEASURED
    config.eval.extractor = "digits"
    config.update_from_flattened_dict(values)
    run = dataclasses.replace(run, config=config)
    asked = scoring._asked_of(run, None, None, None, {}, None, {}, "latest")
    context = scoring._context(run, asked, None, None, from_config(config.data))
    rows = Predictor(run.predictor.task, Parallel(), config.eval.batch_size)._batch_size
    return cleaned(str([asked, context.seed, context.timesteps, context.likelihoods, context.protocol, rows]))


CHANGES_OF_EVALUATION = {
    "metrics": ("fd",),
    "num_samples": 7,
    "batch_size": 8,
    "seed": 3,
    "split": "train",
    "timesteps": (1, 2),
    "likelihoods": ("vlb",),
    "likelihood_images": 9,
    "extractor": "mnist",
    "resize": "clean",
    "layer": "logits",
    "subsets": 4,
    "subset_size": 11,
    "neighbours": 2,
    "splits": 5,
    "lpips_trunk": "t.pth",
    "lpips_linear": "l.pth",
}


def test_every_key_of_an_evaluation_changes_it_or_is_refused(trained):
    run = Run.load(trained)
    before = evaluation(run, {})
    keys = [key.removeprefix("eval.") for key in config_lib.settings(run.config) if key.startswith(OF_EVALUATION)]
    assert keys == list(CHANGES_OF_EVALUATION)
    for key, value in CHANGES_OF_EVALUATION.items():
        if key == "layer":  # of the FID Inception, which measures none of these metrics
            with pytest.raises(ConfigError, match="layer=logits has no effect"):
                evaluation(run, {"eval.layer": value})
        else:
            assert evaluation(run, {f"eval.{key}": value}) != before, key


CHANGES_OF_THE_LOOP = {
    "log.every": 3,
    "log.samples_every": 2,
    "log.tensorboard": True,
    "checkpoint.every": 1,
    "checkpoint.keep": 1,
    "checkpoint.best": "grad_norm",
}


def left(workdir):
    """The names of the files that a run left, the steps it logged, and the step it calls best."""
    files = {str(path.relative_to(workdir)) for path in workdir.rglob("*") if "tfevents" not in path.name}
    events = any("tfevents" in path.name for path in workdir.rglob("*"))
    steps = [record["step"] for record in read_metrics(workdir / "metrics.jsonl")]
    kept = {name.split("/")[1] for name in files if name.startswith("checkpoints/")}
    pictures = {name for name in files if name.endswith(".png")}
    return sorted(kept), sorted(pictures), steps, events


def test_every_key_of_the_loop_changes_what_a_run_leaves(small, tmp_path):
    settings = {
        "log.every": 1,
        "checkpoint.every": 2,
        "checkpoint.keep": 2,
        "train.steps": 8,
        "checkpoint.best": "loss",
    }
    config = small("ddpm_digits", **settings)
    keys = [key for key in config_lib.settings(config) if key.startswith(OF_THE_LOOP)]
    assert keys == list(CHANGES_OF_THE_LOOP)
    assert loop.train(config, tmp_path / "base") == 0
    for key, value in CHANGES_OF_THE_LOOP.items():
        changed = small("ddpm_digits", **settings | {key: value})
        assert loop.train(changed, tmp_path / key) == 0
        assert left(tmp_path / key) != left(tmp_path / "base"), key


@pytest.mark.parametrize("key", ELSEWHERE)
def test_the_tests_of_the_other_keys_set_them(key):
    text = (TESTS / ELSEWHERE[key]).read_text(encoding="utf-8")
    assert re.search(rf"\b{key.rpartition('.')[2]}\b", text)
