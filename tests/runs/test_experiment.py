"""Experiments on the command line: overrides, switches, --describe, and the catalogue."""

import re
import subprocess
import sys

import pytest
from absl import flags

from genmodels import config as config_lib
from genmodels.errors import ConfigError
from genmodels.runs import catalogue, experiment
from tests.helpers import EXPERIMENTS, ROOT, command, finish


@pytest.fixture
def parsed(monkeypatch):
    """The config of an experiment under overrides, as `train` gets it, and the overridden keys."""

    def made(file, *given):
        argv = ["train", f"--config={ROOT}/experiments/{file}", *given]
        monkeypatch.setattr(sys, "argv", argv)
        experiment.check_command_line(argv)
        values = flags.FlagValues()
        holder = experiment.define_flag("", values)
        values(argv)
        return holder.value

    return made


@pytest.mark.parametrize(
    ("file", "given", "key", "value"),
    [
        ("ddpm_digits.py", "--config.model.head_channels=8", "model.head_channels", 8),
        ("ddpm_digits.py:tiny", "--config.diffusion.process=flow", "sampler.spacing", "uniform"),
        ("gan_digits.py", "--config.model.bias=False", "model.bias", False),
        ("gan_digits.py", "--noconfig.model.bias", "model.bias", False),
        ("gan_mnist.py", "--config.optim.generator.b1=0", "optim.generator.b1", 0.0),
        ("gan_mnist.py", "--config.optim.generator.no_decay=('a','b')", "optim.generator.no_decay", ("a", "b")),
        ("classifier_digits.py", "--config.distill.teacher=runs/a", "distill.teacher", "runs/a"),
        ("classifier_digits.py", "--config.model.name=vit", "model.pooling", "class"),
        ("vit_digits.py", "--config.model.name=convnet", "model.features", 64),
        ("ddpm_digits.py", "--config.task=vae", "vae.beta", 1.0),
        ("ddpm_digits.py", "--config.data.augment.hue=1", "data.augment.hue", 1.0),
    ],
)
def test_every_key_can_be_set_on_the_command_line(parsed, file, given, key, value):
    found = config_lib.flatten(parsed(file, given))[key]
    assert (found, type(found)) == (value, type(value))


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("fd_digits,recall_digits", ("fd_digits", "recall_digits")),
        ("fd_digits", ("fd_digits",)),
        ("('fd_digits','recall_digits')", ("fd_digits", "recall_digits")),
        ("['fd_digits']", ("fd_digits",)),
        ("", ()),
    ],
)
def test_words_on_the_command_line_need_no_quotes(parsed, text, value):
    assert parsed("ddpm_digits.py", f"--config.eval.metrics={text}").eval.metrics == value
    assert parsed("ddpm_digits.py", "--config.eval.metrics", text).eval.metrics == value


def test_keys_of_what_a_switch_chose_can_be_set_too(parsed):
    config = parsed("ddpm_digits.py", "--config.diffusion.process=edm", "--config.diffusion.p_mean=-1")
    assert (config.diffusion.process, config.diffusion.p_mean) == ("edm", -1.0)


@pytest.mark.parametrize(
    ("given", "words"),
    [
        (["--config.diffusion.process=flwo"], "did you mean 'flow'"),
        (["--config.diffusion.process=flow", "--config.diffusion.schedule=linear"], "unknown key 'schedule'"),
        (["--config.model.num_classes=3"], "unknown key"),
        (["--config.optim.generator.b1=0"], "unknown key"),
        (["--config.task=difusion"], "did you mean 'diffusion'"),
    ],
)
def test_what_the_switches_leave_no_room_for_is_refused(parsed, given, words):
    with pytest.raises(ConfigError, match=words):
        parsed("ddpm_digits.py", *given)


def test_values_of_another_type_are_refused(parsed):
    with pytest.raises(flags.IllegalFlagValueError, match=r"config\.optim\.generator\.b1=low"):
        parsed("gan_digits.py", "--config.optim.generator.b1=low")


def test_describe_says_of_every_key_what_set_it():
    code, out, err = finish(
        command("train", "--config=experiments/ddpm_digits.py:tiny", "--config.optim.b1=0.5", "--describe")
    )
    assert code == 0, err
    shown = dict(re.findall(r"^config\.(\S+) = (.*)$", out, re.MULTILINE))
    assert shown.keys() == config_lib.flatten(config_lib.defaults("diffusion")).keys()
    assert shown["optim.b1"] == "0.5  (float, command line)"
    assert shown["diffusion.parameterization"] == "'velocity'  (str, file)"
    assert shown["optim.b2"] == "0.999  (float, default)"
    assert "width of the first level" in out


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_an_experiment_says_what_its_variants_are(name):
    title, entries = catalogue.entries(ROOT / "experiments" / f"{name}.py")
    assert len(title.split()) > 3
    variants = {entry.name.partition(":")[2]: entry.variant for entry in entries}
    assert "" in variants
    assert all(variant.what for variant in variants.values())
    for entry in entries:
        if "tiny" in entry.name:
            assert (entry.source, entry.expect) == ("digits", ())


def test_the_catalogue_lists_every_variant_with_what_it_should_reach(tmp_path):
    result = subprocess.run(
        [sys.executable, "-m", "genmodels.experiments"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert result.returncode == 0, result.stderr
    text = " ".join(result.stdout.split())
    for name in EXPERIMENTS:
        assert f"experiments/{name}.py:tiny" in text
    for file, facts in [
        ("ddpm_mnist.py:small", ["data idx:data/mnist", "psnr 26.5 (tolerance 1)", "42 min on 2 CPU cores"]),
        ("ddpm_mnist.py:fashion_small", ["data idx:data/fashion_mnist", "expects nothing", "time not measured"]),
    ]:
        said = text.partition(f"experiments/{file} ")[2].partition("experiments/")[0]
        assert [fact for fact in facts if fact not in said] == []
    with pytest.raises(ConfigError, match="no experiment files"):
        list(catalogue.lines(tmp_path))


def test_a_file_of_ones_own_is_listed_without_variants(tmp_path):
    (tmp_path / "mine.py").write_text(
        '"""Mine."""\nfrom genmodels.config import defaults\ndef get_config():\n    return defaults("vae")\n'
    )
    assert list(catalogue.lines(tmp_path))[:2] == ["Mine.", f"  {tmp_path}/mine.py"]
    (tmp_path / "other.py").write_text("x = 1\n")
    with pytest.raises(ConfigError, match=r"other.py: the file has no 'get_config'"):
        list(catalogue.lines(tmp_path))


def test_a_switch_says_what_it_leaves_out_and_no_longer_promises_it(parsed, capsys):
    config = parsed("ddpm_digits.py", "--config.diffusion.process=flow")
    (note,) = [line for line in capsys.readouterr().out.splitlines() if line.startswith("note:")]
    left_out = ("diffusion.parameterization", "eval.likelihoods", "expect", "likelihood.strata")
    assert note.endswith(", ".join(f"config.{key}" for key in left_out))
    assert (config.expect, config.eval.likelihoods) == ((), ())
    assert parsed("ddpm_digits.py", "--config.diffusion.process=ddpm").expect
    assert "note:" not in capsys.readouterr().out


def test_an_empty_value_does_not_take_the_next_flag_for_its_own(parsed):
    with pytest.raises(ConfigError, match=r"process ''"):
        parsed("ddpm_digits.py", "--config.diffusion.process=", "--workdir=x")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("def get_config(): pass", "must return a ConfigDict, it returned NoneType"),
        (
            "import ml_collections\ndef get_config(): return ml_collections.ConfigDict()",
            r"config\.task=None: must name",
        ),
    ],
)
def test_mistakes_of_a_file_are_named(tmp_path, text, words):
    (tmp_path / "mine.py").write_text(text)
    with pytest.raises(ConfigError, match=words):
        experiment.load("--config", str(tmp_path / "mine.py"))


@pytest.mark.parametrize("variants", ['("", "small")', '{"": "plain"}'])
def test_variants_of_another_form_are_one_line(tmp_path, variants):
    (tmp_path / "mine.py").write_text(f"VARIANTS = {variants}\n")
    with pytest.raises(ConfigError, match="VARIANTS must be a dictionary"):
        list(catalogue.lines(tmp_path))
