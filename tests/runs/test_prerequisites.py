"""Runs that build on trained ones: parameters to begin with, frozen parts, teachers, prerequisites."""

import dataclasses
import json
import re
import shutil

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from genmodels import loop, scoring, tasks
from genmodels.core import optim, parameters
from genmodels.core.guard import finish
from genmodels.core.parallel import whole_view
from genmodels.errors import ConfigError, GenmodelsError, StorageError
from genmodels.nn.positions import resize_positions
from genmodels.runs.experiment import load as load_experiment
from genmodels.runs.inference import Run
from genmodels.runs.workdir import read_json
from genmodels.tasks import DataSpec, classifier, make_task
from tests.helpers import ROOT, digest, experiment, final_state

TRUNK = ("classifier/trunk/.*",)


def vit(**values):
    return experiment("vit_digits", **{"ema.horizon": 0.5, "model.depth": 1} | values)


@pytest.fixture(scope="module")
def source_run(tmp_path_factory):
    workdir = tmp_path_factory.mktemp("source") / "run"
    assert loop.train(vit(), workdir) == 0
    return workdir


def test_a_run_begins_with_the_averaged_weights_and_frozen_ones_stay(source_run, tmp_path):
    moved = tmp_path / "moved"
    shutil.copytree(source_run, moved)
    config = vit(**{"init_from": str(moved), "frozen": TRUNK, "optim.weight_decay": 0.5, "train.steps": 4})
    assert loop.train(config, tmp_path / "run", lambda step: 85 if step == 2 else None) == 85
    origin = read_json(tmp_path / "run" / "config.json")["origins"]["init_from"]
    assert (origin["workdir"], origin["step"], origin["weights"]) == (str(moved), 6, "ema")
    assert origin["sha256"] == Run.load(source_run).identity()["sha256"]
    shutil.rmtree(moved)  # a resume needs it no more
    assert loop.train(config, tmp_path / "run") == 0
    assert read_json(tmp_path / "run" / "config.json")["origins"]["init_from"] == origin
    before, after = final_state(source_run), final_state(tmp_path / "run")
    for kept in (after.params, after.ema_params):
        assert digest(kept["classifier"]["trunk"]) == digest(before.ema_params["classifier"]["trunk"])
        assert digest(kept["classifier"]["logits"]) != digest(before.ema_params["classifier"]["logits"])
    assert digest(before.ema_params) != digest(before.params)


def test_no_gradient_is_computed_for_a_frozen_prefix():
    """With the trunk frozen a step costs little more than the forward pass; else about three times as much."""

    def flops(frozen):
        config = vit(frozen=frozen, **{"model.depth": 2, "model.width": 64, "model.hidden": 256, "loss.mixup": 0.0})
        task = make_task(config, DataSpec((8, 8, 1), 10), 10)
        batch = {"image": jnp.zeros((64, 8, 8, 1)), "label": jnp.zeros(64, jnp.int32)}
        state = jax.eval_shape(task.init, jax.random.key(0), batch)
        forward = jax.jit(lambda s, b: task.predict["classify"].fn(s.variables(), {}, b, whole_view(b))["logits"])
        step = jax.jit(lambda s, b: finish(*task.train_step(s, {}, b, jax.random.key(0), whole_view(b))))
        return [f.lower(state, batch).cost_analysis()["flops"] for f in (step, forward)]

    whole, forward = flops(())
    assert whole > 2.5 * forward
    assert flops(TRUNK)[0] < 1.3 * forward
    above = flops(("classifier/trunk/(patches|position_embedding|block_0)(/.*)?",))[0]
    assert flops(TRUNK)[0] < above < 0.9 * whole


@pytest.mark.parametrize("method", ["cubic", "linear"])
def test_positions_move_to_another_grid_and_the_head_to_other_classes(source_run, tmp_path, capsys, method):
    values = {"model.resize_positions": method} | {
        "data.size": 16,
        "data.source": 'subset("digits", classes=(3, 5, 8))',
        "init_from": str(source_run),
    }
    assert loop.train(vit(**values, **{"model.positions": "learned"}), tmp_path / "run", lambda step: 85) == 85
    said = capsys.readouterr().out
    assert re.search(r"initialised afresh: classifier/logits/bias, classifier/logits/kernel\n", said)
    assert re.search(r"resized: classifier/trunk/position_embedding\n", said)
    old, new = (final_state(w).ema_params["classifier"]["trunk"] for w in (source_run, tmp_path / "run"))
    wanted = resize_positions(old.pop("position_embedding"), 4, 4, method)
    np.testing.assert_allclose(new.pop("position_embedding"), wanted, atol=1e-6)
    assert digest(old) == digest(new)


def test_a_run_of_any_task_can_be_begun_with(small, trained, tmp_path):
    """A diffusion model, its last layer initialised afresh and the rest frozen."""
    fresh = ("denoiser/conv_out/.*",)
    config = small("ddpm_digits", init_from=str(trained), init_fresh=fresh, frozen=(r"denoiser/(?!conv_out).*",))
    assert loop.train(config, tmp_path / "run") == 0
    old, new = (final_state(w).params["denoiser"] for w in (trained, tmp_path / "run"))
    averaged = final_state(trained).variables()["params"]["denoiser"]
    assert digest(new.pop("conv_out")) != digest(old.pop("conv_out"))
    averaged.pop("conv_out")
    assert digest(new) == digest(averaged)


def test_what_a_run_carries_besides_parameters_comes_along_where_it_fits(tmp_path):
    """The codebook of a vector-quantised autoencoder, without which its decoder would mean nothing."""
    vq = {"vae.latent": "vq", "model.grid": True, "model.blocks": 0, "vae.codebook_size": 8, "ema.horizon": 0.0}
    assert loop.train(experiment("vae_digits", **vq), tmp_path / "source") == 0

    def begun(name, **values):
        config = experiment("vae_digits", init_from=str(tmp_path / "source"), **(vq | values))
        assert loop.train(config, tmp_path / name, lambda step: 85) == 85
        return final_state(tmp_path / name)

    source, same = final_state(tmp_path / "source"), begun("same")
    assert int(same.step) == 0
    assert digest((same.params, same.extra)) == digest((source.variables()["params"], source.extra))
    assert begun("other", **{"vae.codebook_size": 9}).extra["codebook"].share.shape == (9,)


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"init_from": "nowhere"}, r"config\.init_from=nowhere: .*no such file; is nowhere a work directory"),
        ({"init_from": "experiments/nothing.py:tiny"}, r"config\.init_from=experiments/nothing\.py:tiny: no such file"),
        ({"init_from": "experiments/ddpm_digits.py:tiny"}, r"ddpm_digits\.py:tiny: is a run of config\.task=diffusion"),
        ({"distill.teacher": "experiments/vae_digits.py:tiny"}, r"has no predict function 'classify'"),
        ({"init_from": "DIFFUSION"}, r"is a run of config\.task=diffusion, this one is of classifier"),
        ({"init_from": "SOURCE", "model.hidden": 24}, r"block_0/mlp/in/bias is \(16,\) there and \(24,\) here"),
        ({"init_from": "SOURCE", "model.depth": 2}, r"has no classifier/trunk/block_1/.*config\.init_fresh"),
        ({"init_from": "SOURCE", "model.positions": "sincos"}, r"this network has no classifier/trunk/position_emb"),
        ({"init_from": "SOURCE", "init_fresh": ("logits",)}, r"config\.init_fresh: 'logits' matches no parameter"),
        ({"frozen": ("classifier/truk/.*",)}, r"config\.frozen: .* did you mean 'classifier/trunk/\.\*'"),
        ({"init_fresh": ("classifier/logits/.*",)}, r"config\.init_fresh.* needs config\.init_from"),
        ({"frozen": (".*",)}, r"config\.frozen: .* leave nothing to train"),
        ({"frozen": ("classifier/(",)}, r"config\.frozen: 'classifier/\(' is not a regular expression"),
        ({"optim.no_decay": ("*",)}, r"config\.optim\.no_decay: '\*' is not a regular expression"),
        ({"model.patch_size": 3}, r"config\.model: patch_size=3 does not divide images of 8x8; these do: 1, 2, 4, 8"),
        ({"distill.teacher": "nowhere"}, r"config\.distill\.teacher=nowhere: "),
        ({"distill.teacher": "DIFFUSION"}, r"a run of config\.task=diffusion has no predict function 'classify'"),
        (
            {"distill.teacher": "SOURCE", "data.source": 'subset("digits", classes=(3, 5))'},
            r"its num_classes is 10.* is 2",
        ),
        ({"distill.teacher": "SOURCE", "data.size": 16}, r"its image_shape is \(8, 8, 1\).* is \(16, 16, 1\)"),
    ],
)
def test_what_does_not_fit_is_said_in_one_line_and_nothing_is_written(source_run, trained, values, words, tmp_path):
    places = {"SOURCE": str(source_run), "DIFFUSION": str(trained)}
    with pytest.raises(GenmodelsError, match=words) as caught:
        loop.train(vit(**{key: places.get(value, value) for key, value in values.items()}), tmp_path / "run")
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "run").exists()


def pupil(teacher):
    config = experiment("classifier_digits")
    config.distill = {"teacher": str(teacher)}
    return config


def test_a_teacher_may_move_but_not_change(tmp_path):
    assert loop.train(experiment("classifier_digits"), tmp_path / "teacher") == 0
    run, moved = tmp_path / "run", tmp_path / "moved"
    assert loop.train(pupil(tmp_path / "teacher"), run, lambda step: 85 if step == 2 else None) == 85
    (tmp_path / "teacher").rename(moved)
    assert loop.train(pupil(moved), run, lambda step: 85 if step == 4 else None) == 85
    with pytest.raises(ConfigError, match=r"config\.distill\.teacher was .*/moved, is ;"):
        loop.train(pupil(""), run)
    leaves, alone = len(jax.tree.leaves(final_state(run))), len(jax.tree.leaves(final_state(moved)))
    assert leaves == alone  # the teacher's parameters are not part of the state
    assert loop.train(experiment("classifier_digits", **{"train.steps": 8}), moved) == 0
    with pytest.raises(StorageError, match=r"config\.distill\.teacher=.* is no longer the network"):
        loop.train(pupil(moved), run)
    shutil.rmtree(moved)
    with pytest.raises(StorageError, match=r"config\.distill\.teacher=.* no such file"):
        loop.train(pupil(moved), run)
    assert Run.load(run).step == 4  # who only asks the pupil need not have the teacher


def test_predict_functions_get_the_networks_that_they_want(tmp_path, monkeypatch):
    """As a first stage will be used: here a predict function of the pupil hands on what the teacher says."""
    make = classifier.make

    def with_both(config, data, num_steps):
        task = make(config, data, num_steps)
        wanted = {name: dataclasses.replace(one, training_only=False) for name, one in task.pretrained.items()}
        ask = tasks.Predict(lambda v, frozen, inputs, dist: frozen["teacher"]("classify", inputs, dist), ("image",), "")
        return dataclasses.replace(
            task, pretrained=wanted, predict=task.predict | {"ask": ask} if wanted else task.predict
        )

    monkeypatch.setattr(classifier, "make", with_both)
    teacher, run = tmp_path / "teacher", tmp_path / "run"
    assert loop.train(experiment("classifier_digits"), teacher) == 0
    assert loop.train(pupil(teacher), run) == 0
    images = {"image": np.random.default_rng(0).integers(0, 256, (5, 8, 8, 1)).astype(np.uint8)}
    asked, wanted = Run.load(run).predict("ask", 5, images), Run.load(teacher).predict("classify", 5, images)
    np.testing.assert_allclose(asked["logits"], wanted["logits"], atol=1e-6)
    assert loop.train(experiment("classifier_digits", **{"train.steps": 8}), teacher) == 0
    with pytest.raises(StorageError, match=r"is no longer the network"):
        Run.load(run)


def test_a_pattern_of_weights_that_do_not_decay_but_match_none_is_noted(tmp_path, capsys):
    config = vit(**{"optim.no_decay": (".*/bias", ".*/biass"), "optim.weight_decay": 0.1})
    assert loop.train(config, tmp_path / "run", lambda step: 85) == 85
    notes = [line for line in capsys.readouterr().out.splitlines() if line.startswith("note: config.optim")]
    assert notes == ["note: config.optim.no_decay: '.*/biass' matches no parameter"]


def test_experiments_stand_for_work_directories_that_are_trained_first(tmp_path):
    config = pupil("experiments/classifier_digits.py:tiny")
    stops = iter([None, None, 85])
    assert loop.train(config, tmp_path / "run", lambda step: next(stops)) == 85
    first = tmp_path / "run" / "prerequisites" / "classifier_digits-tiny"
    assert int(final_state(first).step) == 2
    assert not (tmp_path / "run" / "config.json").exists()
    assert loop.train(config, tmp_path / "run") == 0
    assert int(final_state(first).step) == 6
    assert read_json(tmp_path / "run" / "config.json")["origins"]["teacher"]["workdir"] == str(first)


def test_an_experiment_that_needs_itself_trains_nothing(tmp_path):
    own = tmp_path / "own.py"
    own.write_text(
        "import runpy\n"
        "def get_config():\n"
        f"    config = runpy.run_path('{ROOT / 'experiments/vit_digits.py'}')['get_config']('tiny')\n"
        f"    config.init_from = '{own}'\n"
        "    return config\n"
    )
    with pytest.raises(ConfigError, match=rf"config.init_from={own}: needs itself"):
        loop.train(load_experiment("--config", str(own)), tmp_path / "run")
    assert not list(tmp_path.rglob("config.json"))


@pytest.mark.slow
@pytest.mark.parametrize("variant", ["tiny_distilled", "tiny_probe"])
def test_variants_that_need_something_train_it_and_are_evaluated(variant, tmp_path):
    assert loop.train(experiment("vit_digits", variant), tmp_path / "run") == 0
    (result,) = scoring.of_run(str(tmp_path / "run"), None, None, "latest")
    assert 0 <= result.value <= 1
    assert len(list((tmp_path / "run" / "prerequisites").iterdir())) == 1


def test_gradients_and_updates_of_a_frozen_part_are_none():
    params = {"a": {"w": jnp.ones(3)}, "b": {"w": jnp.ones(3)}}
    frozen = optim.Frozen("net", ("net/a/.*",))
    batch = {"x": jnp.arange(3.0)[None]}

    def loss_fn(p, rows):
        return jnp.mean(rows["x"] * p["a"]["w"] * p["b"]["w"]), {}

    grads, _ = optim.gradients(loss_fn, params, batch, whole_view(batch), 1, frozen)
    assert list(parameters.named(grads)) == ["b/w"]
    tx = optim.make_optimizer(vit(**{"optim.weight_decay": 1.0}).optim, 10, frozen)
    assert all("a/w" not in name for name in parameters.named(tx.init(params)))


def test_weights_that_are_spared_do_not_decay():
    params = {"norm": {"scale": jnp.ones(2)}, "dense": {"kernel": jnp.ones(2), "bias": jnp.ones(2)}}
    settings = {"optim.weight_decay": 0.1, "optim.warmup": 0, "optim.decay": "constant", "optim.learning_rate": 1.0}
    zeros = jax.tree.map(jnp.zeros_like, params)
    for no_decay, wanted in (((), set()), ((".*/(bias|scale)",), {"norm/scale", "dense/bias"})):
        tx = optim.make_optimizer(vit(**settings, **{"optim.no_decay": no_decay}).optim, 10, optim.Frozen("net"))
        updates = parameters.named(tx.update(zeros, tx.init(params), params)[0])
        assert {name for name, value in updates.items() if not value.any()} == wanted
        assert all(np.allclose(value, -0.1) for name, value in updates.items() if name not in wanted)


def test_a_work_directory_older_than_the_keys_goes_on(tmp_path):
    config = experiment("classifier_digits")
    assert loop.train(config, tmp_path / "run", lambda step: 85 if step == 3 else None) == 85
    path = tmp_path / "run" / "config.json"
    old = json.loads(path.read_text())
    for key in ("init_from", "init_fresh", "frozen"):
        del old[key]
    del old["optim"]["no_decay"]
    path.write_text(json.dumps(old))
    assert Run.load(tmp_path / "run").step == 3
    assert loop.train(config, tmp_path / "run") == 0
    with pytest.raises(ConfigError, match=r"config\.frozen was \(\), is"):
        loop.train(experiment("classifier_digits", frozen=("classifier/conv_0/.*",)), tmp_path / "run")
