"""A method outside the package, config.task="module:function": it trains, is opened only when allowed, may be wrong."""

import json
import os
import shutil
import subprocess
import sys

import numpy as np
import pytest

import genmodels
from genmodels import loop, scoring
from genmodels.config import defaults
from genmodels.data.sources import make_source
from genmodels.errors import ConfigError, GenmodelsError
from genmodels.reporting import html
from genmodels.runs.inference import Run, suggested_commands
from tests import QUICK_COMPILE
from tests.helpers import ROOT

METHOD = '''
"""The mean image of the data, and samples that are it and noise of the strength config.mean.noise."""

import dataclasses

import jax
import jax.numpy as jnp

from genmodels.core import optim
from genmodels.core.guard import Update
from genmodels.core.state import TrainState
from genmodels.tasks import Curve, Predict, Task


def make(config, data, num_steps):
    tx = optim.make_optimizer(config.optim, num_steps)

    def init(rng, batch):
        return TrainState.create({"mean": {"image": jnp.zeros(data.image_shape)}}, {"mean": tx}, ema=False)

    def loss_fn(params, rows):
        return jnp.mean(jnp.square(rows["image"] - params["image"])), {}

    def train_step(state, frozen, batch, rng, dist):
        grads, metrics = optim.gradients(loss_fn, state.params["mean"], {"image": batch["image"]}, dist)
        state, norms = optim.apply_gradients(state, "mean", tx, grads, None)
        return state, metrics | norms | {"brightness": dist.mean(jnp.mean(batch["image"]))}

    def sample(variables, frozen, inputs, dist):
        noise = jax.vmap(lambda key: jax.random.normal(key, data.image_shape))(inputs["key"])
        return {"image": variables["params"]["mean"]["image"] + config.mean.noise * noise}

    predict = {"sample": Predict(sample, ("key",), "image")}
    curves = (Curve("Brightness of a batch", ("brightness",), "value in [-1, 1]"),)
    return Task(init, train_step, {"mean": tx}, predict, curves=curves)


def another(*args):
    return make(*args)


def with_step(change):
    """The method with another output of its step."""
    def changed(*args):
        task = make(*args)
        step = lambda *step_args: change(*task.train_step(*step_args))
        return dataclasses.replace(task, train_step=step)
    return changed


WAITS = Update(jnp.float32(1), lambda state: (state, {"size": jnp.float32(1)}), ("length",))
no_loss = with_step(lambda state, metrics: (state, {"error": metrics["loss"]}))
loss_by_row = with_step(lambda state, metrics: (state, metrics | {"loss": jnp.ones(16)}))
histogram = with_step(lambda state, metrics: (state, metrics | {"histogram": jnp.ones((2, 3))}))
python_number = with_step(lambda state, metrics: (state, metrics | {"width": 0.5}))
state_only = with_step(lambda state, metrics: state)
metrics_first = with_step(lambda state, metrics: (metrics, state))
no_update = with_step(lambda state, metrics: (state, metrics, None))
two_updates = with_step(lambda state, metrics: (state, metrics, WAITS, WAITS))
other_names = with_step(lambda state, metrics: (state, metrics, WAITS))
metric_list = with_step(lambda state, metrics: (state, [metrics["loss"]]))


def misspelt_input(*args):
    task = make(*args)
    return dataclasses.replace(task, predict={"restore": Predict(task.predict["sample"].fn, ("key", "imgae"), "image")})


def raising(config, data, num_steps):
    return config.mean.nois


def no_task(config, data, num_steps):
    return {"init": None}
'''


@pytest.fixture
def method(tmp_path, monkeypatch):
    """The folder in which a user has a method of their own."""
    (tmp_path / "own_method.py").write_text(METHOD)
    (tmp_path / "own_broken.py").write_text("import no_such_module_at_all\n")
    (tmp_path / "own_wrong.py").write_text("def f(:\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    yield tmp_path
    for name in ("own_method", "own_broken", "own_wrong"):
        sys.modules.pop(name, None)


def config_of(function="make", **overrides):
    config = defaults()
    config.task = f"own_method:{function}"
    config.mean = {"noise": 0.05}
    settings = {"train.batch_size": 16, "train.steps": 40, "log.every": 20, "optim.name": "sgd", "optim.momentum": 0.0}
    config.update_from_flattened_dict(settings | {"optim.learning_rate": 20.0, "optim.clip_norm": 0.0} | overrides)
    return config


@pytest.fixture
def own_run(method):
    """A finished run of the method, whose module is not imported any more."""
    assert loop.train(config_of(), method / "run") == 0
    del sys.modules["own_method"]
    return method / "run"


def test_it_trains_and_is_opened_only_when_that_is_allowed(own_run):
    for opening in (
        lambda: genmodels.load(str(own_run)),
        lambda: Run.load(own_run, allow_code={"own_method:another"}),
        lambda: scoring.of_run(str(own_run), ("fd_digits",), 20, "latest"),
    ):
        with pytest.raises(ConfigError, match=r"its config\.task=own_method:make is code outside.* --allow_code"):
            opening()
    assert "own_method" not in sys.modules
    assert suggested_commands(own_run, {"own_method:make"})[0].endswith("--allow_code")
    run = genmodels.load(str(own_run), allow_code=True)
    images = run.sample(200).astype(float)
    error = np.abs(images.mean(0) - make_source("digits").images.mean(0))
    assert error.max() < 60  # the mean image of the data, to the noise of the last batches
    assert error.mean() < 20
    assert np.abs(images[0] - images[1]).max() > 5


def test_the_report_has_its_curves_and_needs_no_code(own_run):
    page = html.render([html.run_section(own_run)])
    assert "own_method" not in sys.modules
    assert "Brightness of a batch" in page
    assert "value in [-1, 1]" in page


def test_a_run_that_begins_with_one_of_another_method_must_be_allowed_to(own_run):
    same = config_of(**{"init_from": str(own_run), "train.steps": 2})
    assert loop.train(same, own_run.parent / "same", lambda step: 85) == 85  # the same name is in the config
    other = config_of("another", init_from=str(own_run))
    with pytest.raises(ConfigError, match=r"config\.init_from=.*own_method:make is code outside"):
        loop.train(other, own_run.parent / "other")
    with pytest.raises(ConfigError, match=r"is a run of config\.task=own_method:make, this one is of own_method:anoth"):
        loop.train(other, own_run.parent / "other", allow_code=True)
    assert not (own_run.parent / "other").exists()


def with_extractor(trained, run, extractor):
    """A copy of a work directory whose config.eval.extractor is another."""
    shutil.copytree(trained, run)
    config = json.loads((run / "config.json").read_text())
    config["eval"]["extractor"] = extractor
    (run / "config.json").write_text(json.dumps(config))


def test_a_path_of_weights_is_no_code(trained, tmp_path):
    with_extractor(trained, tmp_path / "run", "inception:gone.pth")
    with pytest.raises(GenmodelsError, match=r"gone\.pth|takes images|channel") as error:
        scoring.of_run(str(tmp_path / "run"), ("fd[clean]",), 20, "latest")
    assert "code outside" not in str(error.value)


def test_an_extractor_that_a_work_directory_names_is_not_imported_either(trained, tmp_path):
    with_extractor(trained, tmp_path / "run", "own_extractor:make")
    with pytest.raises(ConfigError, match=r"its config\.eval\.extractor=own_extractor:make is code outside"):
        scoring.of_run(str(tmp_path / "run"), ("fd",), 20, "latest")
    with pytest.raises(ConfigError, match="No module named 'own_extractor'"):
        scoring.of_run(str(tmp_path / "run"), ("fd",), 20, "latest", allow_code=True)


@pytest.mark.parametrize(
    ("task", "words"),
    [
        ("no_such_module:make", "No module named 'no_such_module'"),
        ("own_broken:make", "No module named 'no_such_module_at_all' .*own_broken.py, line 1"),
        ("own_wrong:make", "SyntaxError"),
        ("own_method:mkae", "has no attribute 'mkae'"),
        (":make", "module:function"),
        ("own_method:METHOD", "has no attribute"),
        ("own_method:raising", r"AttributeError: .*nois.*own_method\.py, line \d+"),
        ("own_method:no_task", r"must return a genmodels\.tasks\.Task, not dict"),
        ("own_method:misspelt_input", r"predict function 'restore' has the input 'imgae': did you mean 'image'"),
    ],
)
def test_mistakes_in_it_give_one_line_before_anything_is_written(method, task, words):
    config = config_of()
    config.task = task
    with pytest.raises(ConfigError, match=words) as caught:
        loop.train(config, method / "run")
    assert f"config.task={task}" in str(caught.value)
    assert "\n" not in str(caught.value)
    assert not (method / "run").exists()


@pytest.mark.parametrize(
    ("function", "words"),
    [
        ("no_loss", "must return the metric 'loss'; it returns error"),
        ("loss_by_row", r"metric 'loss' as an array of shape \(16,\); a metric must be a scalar"),
        ("histogram", r"metric 'histogram' as an array of shape \(2, 3\)"),
        ("python_number", "metric 'width' as a value of type float"),
        ("state_only", r"or \(TrainState, metrics, Update\); it returns a value of type TrainState"),
        ("metrics_first", r"must return \(TrainState, metrics\) or .*; it returns \(dict, TrainState\)"),
        ("no_update", r"must return .*; it returns \(TrainState, dict, NoneType\)"),
        ("two_updates", r"must return .*; it returns \(TrainState, dict, Update, Update\)"),
        ("metric_list", "its metrics as a dictionary; it returns a value of type list"),
    ],
)
def test_a_step_that_returns_something_else_is_refused_before_it_is_compiled(method, function, words):
    with pytest.raises(ConfigError, match=words) as caught:
        loop.train(config_of(function), method / "run")
    assert str(caught.value).startswith(f"config.task=own_method:{function}: train_step ")
    assert "\n" not in str(caught.value)


def test_an_update_that_gives_other_metrics_than_it_names_is_refused_before_it_is_compiled(method):
    words = "train_step: Update.metrics names length, but Update.apply gives size"
    with pytest.raises(ConfigError, match=words):
        loop.train(config_of("other_names"), method / "run")


EXPERIMENT = """
from genmodels.config import defaults

def get_config():
    config = defaults()
    config.task = "own_method:make"
    config.mean = {"noise": 0.05}
    config.train.batch_size = 16
    config.train.steps = 2
    return config
"""


def test_the_command_finds_it_in_the_current_directory(method):
    (method / "own_experiment.py").write_text(EXPERIMENT)
    env = os.environ | {"PYTHONPATH": str(ROOT), "XLA_FLAGS": QUICK_COMPILE}
    result = subprocess.run(
        [sys.executable, "-m", "genmodels.train", "--config=own_experiment.py", "--workdir=run"],
        env=env,
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 0, result.stderr
    assert "sample --workdir=run --num=100 --out=run/samples.png --allow_code" in result.stdout
