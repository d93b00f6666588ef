"""Places that a config and the command line name: homes, relative paths, folders of somebody else."""

import ast
import json
import os
import subprocess
import sys

import numpy as np
import pytest
from absl import flags
from PIL import Image

from genmodels import loop, scoring
from genmodels.cli import value_flags
from genmodels.data.sources import make_source, with_absolute_paths
from genmodels.errors import ConfigError, StorageError
from genmodels.runs import experiment, resume
from genmodels.runs.inference import Run
from genmodels.runs.places import absolute_places, named_code
from genmodels.runs.workdir import read_config
from tests.helpers import ROOT, command, digest, final_state, finish, small_experiment


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("a,b", ["a", "b"]),
        ("a, b,", ["a", "b"]),
        ("", []),
        ("it's,her's", ["it's", "her's"]),
        ('folder("D", size=16, crop="center")', ['folder("D", size=16, crop="center")']),
        ('a.npz,folder("D,E(", size=16)', ["a.npz", 'folder("D,E(", size=16)']),
        ("elbo,iwae(samples=5, images=10)", ["elbo", "iwae(samples=5, images=10)"]),
        (
            "subset(split('npz:a', test=0.1), classes=(3, 5)),b",
            ["subset(split('npz:a', test=0.1), classes=(3, 5))", "b"],
        ),
        (r".*bias,a{1,2}[,]", [".*bias", "a{1,2}[,]"]),
        ("a),b", ["a)", "b"]),
        ("folder(x,b", ["folder(x,b"]),
    ],
)
def test_a_list_is_split_outside_of_calls(text, parts):
    assert value_flags.split(text) == parts


@pytest.mark.parametrize(
    ("spec", "absolute"),
    [
        ("digits", "digits"),
        ("folder:cats", "folder:{here}/cats"),
        ("folder:../cats", "folder:{above}/cats"),
        ("folder:~/cats", "folder:{home}/cats"),
        ("folder:/cats", "folder:/cats"),
        ("tfds:cifar10", "tfds:cifar10"),
        ('tfds("cifar10", data_dir="d")', "tfds('cifar10', data_dir='{here}/d')"),
        ('folder("cats", size=64)', "folder('{here}/cats', size=64)"),
        ('pair("folder:a", folder("b", size=8))', "pair('folder:{here}/a', folder('{here}/b', size=8))"),
        (
            'subset(split("npz:all.npz", test=0.1), classes=(3, 5))',
            "subset(split('npz:{here}/all.npz', test=0.1), classes=(3, 5))",
        ),
        ("folder(broken", "folder(broken"),
        ("", ""),
    ],
)
def test_paths_of_a_source_become_absolute(tmp_path, monkeypatch, spec, absolute):
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    monkeypatch.setenv("HOME", "/home/me")
    wanted = absolute.format(here=tmp_path / "here", above=tmp_path, home="/home/me")
    assert with_absolute_paths(spec) == wanted
    assert with_absolute_paths(wanted) == wanted


def test_what_a_config_names_becomes_absolute_but_no_code(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    config = small_experiment("vit_digits", **{"init_from": "runs/a", "distill.teacher": "b/c.py:tiny"})
    config.eval.update(extractor="inception:w.pth", lpips_trunk="t.pth")
    found = absolute_places(config, ["distill.teacher"])
    assert found.init_from == f"{tmp_path}/runs/a"
    assert found.distill.teacher == f"{tmp_path}/b/c.py:tiny"
    assert (found.eval.extractor, found.eval.lpips_trunk) == (f"inception:{tmp_path}/w.pth", f"{tmp_path}/t.pth")
    assert config.init_from == "runs/a"
    assert named_code(config) == {"distill.teacher": "b/c.py:tiny"}
    config.update({"task": "m:f", "eval": {"extractor": "m:g"}, "init_from": "x.py"})
    code = {"task": "m:f", "eval.extractor": "m:g", "init_from": "x.py", "distill.teacher": "b/c.py:tiny"}
    assert named_code(config) == code
    assert absolute_places(config).eval.extractor == "m:g"


@pytest.fixture
def relative(small, tmp_path, monkeypatch):
    """A run on images that its config names by a relative path, stopped at step 3 of 6."""
    np.savez(tmp_path / "all.npz", images=make_source("digits").images[:200], labels=np.arange(200) % 10)
    monkeypatch.chdir(tmp_path)
    config = small("ddpm_digits", **{"data.source": 'split("npz:all.npz", test=0.2)'})
    assert loop.train(config, tmp_path / "run", lambda step: 85 if step == 3 else None) == 85
    return tmp_path / "run", config


def test_a_run_on_relative_paths_is_resumed_and_evaluated_from_any_folder(relative, tmp_path, monkeypatch):
    run, config = relative
    assert read_config(run).data.source == f"split('npz:{tmp_path}/all.npz', test=0.2)"
    assert loop.train(config, tmp_path / "whole") == 0
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    assert loop.train(resume.config_to_resume(run, allow_code=False), run) == 0
    assert digest(final_state(run)) == digest(final_state(tmp_path / "whole"))
    assert scoring.of_run(str(run), ("nn_distance_ratio",), 20)[0].protocol["n_generated"] == 20


def test_an_older_run_with_relative_paths_goes_on(relative):
    run, config = relative
    text = (run / "config.json").read_text().replace(f"{run.parent}/all.npz", "all.npz")
    (run / "config.json").write_text(text)
    assert loop.train(config, run) == 0


def test_a_work_directory_alone_is_resumed(small, tmp_path):
    with pytest.raises(ConfigError, match=r"holds no run to resume; name an experiment with --config=FILE"):
        resume.config_to_resume(tmp_path / "new", allow_code=False)
    assert loop.train(small("ddpm_digits", init_from=""), tmp_path / "run") == 0
    config = resume.config_to_resume(tmp_path / "run", allow_code=False)
    assert loop.train(config, tmp_path / "run") == 0
    for key in ("init_from", "eval.extractor"):
        changed = config.copy_and_resolve_references()
        changed.update_from_flattened_dict({key: "evil.py:tiny" if key == "init_from" else "evil:make"})
        (tmp_path / "run" / "config.json").write_text(json.dumps(changed.to_dict()))
        with pytest.raises(ConfigError, match=rf"its config\.{key}=evil.* is code outside .* import and run evil"):
            resume.config_to_resume(tmp_path / "run", allow_code=False)
        assert resume.config_to_resume(tmp_path / "run", allow_code=True)


@pytest.mark.parametrize("there", ["notes.md", "captions.txt", "experiments/a.py", "images/0.png"])
def test_a_folder_with_other_things_in_it_is_left_alone(small, tmp_path, there):
    place = tmp_path / "mine"
    (place / there).parent.mkdir(parents=True)
    (place / there).write_text("x")
    with pytest.raises(StorageError, match=rf"holds {there.split('/')[0]}, which belongs to no run; choose a new"):
        loop.train(small("ddpm_digits"), place)
    assert [path.name for path in place.iterdir()] == [there.split("/")[0]]


def test_logs_and_hidden_files_are_no_obstacle(small, tmp_path):
    for name in (".DS_Store", "train.log", "log.txt", "nohup.out", "slurm-1.out"):
        (tmp_path / name).write_text("x")
    assert loop.train(small("ddpm_digits"), tmp_path, lambda step: 85) == 85


def test_a_key_without_an_experiment_is_explained(monkeypatch):
    with pytest.raises(ConfigError, match=r"--config.train.steps=9: a key can be set only with --config=FILE"):
        experiment.check_command_line(["train", "--workdir=x", "--config.train.steps=9"])


def test_a_path_that_exists_is_not_split_at_its_comma(tmp_path):
    (tmp_path / "a,b").mkdir()
    values = flags.FlagValues()
    holder = value_flags.define_list("place", None, "", flag_values=values)
    values(["x", f"--place={tmp_path}/a,b"])
    assert holder.value == [f"{tmp_path}/a,b"]


@pytest.mark.parametrize("define", [value_flags.define_path, value_flags.define_list])
def test_a_home_that_does_not_exist_is_refused_in_a_flag(define):
    values = flags.FlagValues()
    define("place", None, "", flag_values=values)
    with pytest.raises(flags.IllegalFlagValueError, match=r"no home folder ~nouser; .* write \./~nouser/a"):
        values(["x", "--place=~nouser/a"])


HOMELESS = """
import os, pwd, runpy, sys
def nobody(*args):
    raise KeyError("no entry")
pwd.getpwuid = pwd.getpwnam = nobody
sys.argv = sys.argv[1:]
runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)
"""


@pytest.mark.parametrize("cache", [True, False])
def test_without_a_home_things_work(tmp_path, cache):
    images = tmp_path / "set"
    images.mkdir()
    for index in range(3):
        Image.new("L", (8, 8), 40 * index).save(images / f"{index}.png")
    env = {key: value for key, value in os.environ.items() if key not in ("HOME", "XDG_CACHE_HOME", "GENMODELS_CACHE")}
    env |= {"PYTHONPATH": str(ROOT), "TMPDIR": str(tmp_path)}
    env |= {"GENMODELS_CACHE": str(tmp_path / "cache")} if cache else {}
    for source, code in ((f"folder:{images}", 0), ("folder:~/set", 4), ("folder:~nouser/set", 4)):
        args = [sys.executable, "-c", HOMELESS, "genmodels.data.inspect", f"--source={source}"]
        result = subprocess.run(args, env=env, capture_output=True, text=True, check=False)
        assert result.returncode == code, result.stderr
        assert "Traceback" not in result.stderr


def test_a_home_in_a_flag_is_replaced_and_no_folder_is_called_tilde(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    args = ("--config=experiments/classifier_digits.py:tiny", "--config.train.steps=1", "--workdir=~/runs/a")
    code, out, err = finish(command("train", *args))
    assert code == 0, err
    assert Run.load(tmp_path / "runs" / "a").step == 1
    assert not (ROOT / "~").exists()
    assert f"--workdir={tmp_path}/runs/a" in out


def test_letters_that_a_terminal_cannot_show_do_not_end_a_command(tmp_path):
    (tmp_path / "café").mkdir()
    for name in ("naïve", "日本"):
        Image.new("L", (8, 8), 40).save(tmp_path / "café" / f"{name}.png")
    env = os.environ | {"PYTHONIOENCODING": "ascii", "LC_ALL": "C", "PYTHONCOERCECLOCALE": "0", "PYTHONUTF8": "0"}
    args = [sys.executable, "-m", "genmodels.data.inspect", f"--source=folder:{tmp_path}/café"]
    result = subprocess.run(args, env=env, cwd=ROOT, capture_output=True, check=False)
    assert result.returncode == 0, result.stderr
    assert b"caf\\" in result.stdout


@pytest.mark.parametrize("path", sorted((ROOT / "genmodels").rglob("*.py")), ids=lambda path: path.stem)
def test_text_does_not_depend_on_the_language_of_the_machine(path):
    """Every file that is read as text states its encoding; `core.files.write_text` does for those that are written."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == "read_text":
            assert "encoding" in [keyword.arg for keyword in node.keywords], f"{path}:{node.lineno}"
