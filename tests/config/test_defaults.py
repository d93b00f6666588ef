"""Every key of a task is in its config, from the dataclass that reads it; what a switch brings and takes away."""

import dataclasses
import importlib

import jax
import jax.numpy as jnp
import pytest

from genmodels import config as config_lib
from genmodels.config.settings import meanings
from genmodels.core.guard import finish
from genmodels.core.parallel import whole_view
from genmodels.errors import ConfigError
from genmodels.runs.inference import abstract_state
from genmodels.tasks import TASKS, DataSpec, make_task
from genmodels.tasks.diffusion_settings import PROCESSES
from tests.helpers import experiment

KINDS = [  # every task, under every value of its switches
    ("gan", {}),
    ("vae", {}),
    *[("diffusion", {"process": name}) for name in PROCESSES],
    *[("classifier", {"network": name}) for name in ("convnet", "vit")],
]
SPEC = DataSpec((8, 8, 1), 10)
DECIDED_BY_DATA = {"image_shape", "num_classes", "out_channels", "moments", "learns_std"}


def test_every_task_is_among_these():
    assert {task for task, _ in KINDS} == TASKS.keys()


@pytest.mark.parametrize(("task", "switches"), KINDS)
def test_every_key_has_a_meaning_and_a_type(task, switches):
    settings = config_lib.settings(config_lib.defaults(task, **switches))
    assert [key for key, setting in settings.items() if len(setting.meaning.split()) < 3] == []
    assert {setting.type_name for setting in settings.values()} <= {
        *("int", "float", "bool", "str", "tuple[dict, ...]", "tuple[int, ...]", "tuple[str, ...]")
    }


@pytest.mark.parametrize(("task", "switches"), KINDS)
def test_defaults_are_those_of_the_dataclasses(task, switches):
    """So that a key left out of a config means the same as the key with its default."""
    config = config_lib.defaults(task, **switches)
    for section, readers in config_lib.sections(config).items():
        values = config_lib.flatten(config)
        for reader in readers if isinstance(readers, tuple) else (readers,):
            for field in dataclasses.fields(reader):
                if field.name in DECIDED_BY_DATA or (field.name == "name" and section == "model"):
                    continue
                if field.name != "parent" and isinstance(field.default, (bool, int, float, str, tuple)):
                    assert values[f"{section}.{field.name}"] == field.default


@pytest.mark.parametrize(("task", "switches"), KINDS)
def test_what_the_data_decides_is_no_key(task, switches):
    flat = config_lib.flatten(config_lib.defaults(task, **switches))
    names = {key.rpartition(".")[2] for key in flat}
    assert not names & {"parent", "num_classes", "out_channels", "image_shape", "moments", "learns_std", "mixed"}


def test_unknown_tasks_and_switches_are_named():
    for args, switches, words in [
        (("difusion",), {}, "did you mean 'diffusion'"),
        (("diffusion",), {"proces": "edm"}, "did you mean 'process'"),
        (("diffusion",), {"process": "edn"}, "did you mean 'edm'"),
        (("classifier",), {"network": "vti"}, "did you mean 'vit'"),
    ]:
        with pytest.raises(ConfigError, match=words):
            config_lib.defaults(*args, **switches)


def test_another_process_keeps_what_the_experiment_sets_and_brings_its_own_keys():
    old = experiment("ddpm_digits", "", **{"diffusion.label_dropout": 0.25, "sampler.steps": 30})
    new = config_lib.switched(old, {"diffusion.process": "flow"})[0]
    assert set(new.diffusion) == {field.name for field in dataclasses.fields(PROCESSES["flow"])}
    assert (new.diffusion.process, new.diffusion.label_dropout) == ("flow", 0.25)
    assert (new.sampler.spacing, new.sampler.steps) == (
        "uniform",
        30,
    )  # trailing is of timesteps, which flow has none of
    assert new.model == old.model
    assert (new.train, new.optim, new.ema) == (old.train, old.optim, old.ema)
    back = config_lib.switched(new, {"diffusion.process": "ddpm"})[0]
    assert back.diffusion.parameterization == config_lib.defaults("diffusion").diffusion.parameterization


def test_a_switched_experiment_can_be_trained(small):
    config = config_lib.switched(small("ddpm_digits"), {"diffusion.process": "flow"})[0]
    config_lib.validate(config, 1)
    task = make_task(config, SPEC, 10)
    batch = {"image": jnp.zeros((16, 8, 8, 1)), "label": jnp.zeros(16, jnp.int32)}
    _, metrics = jax.eval_shape(
        lambda state: finish(*task.train_step(state, {}, batch, jax.random.key(0), whole_view(batch))),
        abstract_state(task, SPEC),
    )
    assert "loss" in metrics


def test_another_network_brings_its_keys_and_keeps_those_of_the_same_type():
    config = config_lib.switched(experiment("classifier_digits", ""), {"model.name": "vit"})[0]
    assert config.model.dropout == 0.3  # the experiment's
    assert "features" not in config.model
    config.model.update(patch_size=4, width=8, depth=1, heads=2)
    assert "trunk" in abstract_state(make_task(config, SPEC, 10), SPEC).params["classifier"]


def test_an_experiment_that_lacks_keys_gets_them():
    config = config_lib.defaults()
    config.task = "gan"
    config.gan = {"loss": "hinge"}
    whole = config_lib.completed(config)
    assert (whole.gan.loss, whole.gan.penalty, whole.model.bias) == ("hinge", "none", True)
    assert config_lib.flatten(config_lib.completed(whole)) == config_lib.flatten(whole)


@pytest.mark.parametrize(
    ("section", "values", "words"),
    [
        ("train", {"step": 6}, "unknown key config.train.step 'step': did you mean 'steps'"),
        ("train", {"steps": 6.5}, r"config\.train\.steps=6\.5: must be int"),
        ("modle", {"channels": 3}, "unknown section config.modle 'modle': did you mean 'model'"),
        ("data", {"sise": 8}, "did you mean 'size'"),
    ],
)
def test_keys_that_no_config_has_are_refused_before_training(section, values, words):
    config = experiment("ddpm_digits").to_dict()
    config[section] = config.get(section, {}) | values
    with pytest.raises(ConfigError, match=words):
        config_lib.validate(config_lib.from_json(config_lib.to_json(type(experiment("ddpm_digits"))(config))), 1)


def test_a_setting_of_one_network_follows_the_shared_one_until_it_is_set():
    """An old config.json without the keys means the same as the new one, in which they are not set."""
    new = experiment("gan_digits", "")
    old = config_lib.from_json(config_lib.to_json(new))
    old.optim.generator = {"learning_rate": 1e-3}
    absent = config_lib.flatten(config_lib.defaults("gan"))
    assert config_lib.conflicts(old, new, absent) == []
    new.optim.generator.b1 = 0  # an integer will do for a float
    assert config_lib.conflicts(old, new, absent) == ["config.optim.generator.b1 was not set, is 0.0"]
    with pytest.raises(TypeError):
        new.optim.generator.b1 = "0"


class Documented:
    """A class.

    Attributes:
      first, second: one text
        on two lines.
      third: another: with a colon.
    Raises:
      fourth: nothing.
    """


def test_meanings_are_read_from_docstrings():
    text = "one text on two lines."
    assert meanings(Documented) == {"first": text, "second": text, "third": "another: with a colon."}


def test_annotations_that_are_strings_or_optional_are_types_too(tmp_path, monkeypatch):
    (tmp_path / "postponed.py").write_text(
        "from __future__ import annotations\nimport dataclasses\nfrom typing import Optional\n"
        "@dataclasses.dataclass\nclass Mine:\n    rate: Optional[float] = None\n    count: int = 3\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    postponed = importlib.import_module("postponed")
    found = config_lib.settings_of(postponed.Mine)
    assert {name: setting.type_name for name, setting in found.items()} == {"rate": "float", "count": "int"}
    with pytest.raises(ConfigError, match=r"config\.mine\.count='x': must be int"):
        config_lib.build(postponed.Mine, {"count": "x"}, "mine")
