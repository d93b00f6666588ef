"""A work directory may come from anybody: what its files hold gives one line that names the file, and runs no code."""

import json
import os
import shutil
import sys

import pytest

from genmodels import config as config_lib
from genmodels import loop, scoring
from genmodels.core import parameters
from genmodels.errors import ConfigError, GenmodelsError
from genmodels.reporting import html
from genmodels.runs.inference import Run

CHANGES = {  # of config.json, and what the message says besides the file
    "train.batch_size": [(0, "at least 1"), (10**30, "at most")],
    "eval.batch_size": [(10**9, "at most"), (0, "at least 1"), (-5, "at least 1"), ("many", "int"), (True, "int")],
    "eval.num_samples": [(10**15, "at most"), (2.5, "int")],
    "eval.seed": [(-1, "within"), (2**32, "within")],
    "eval.metrics": [("fd_digits", "tuple"), ([["fd"]], "tuple"), ({"a": 1}, "must be a value")],
    "eval.split": [("valid", "train")],
    "eval": [("all", "must be an object with keys, it is a string"), (None, "null"), ([], "a list")],
    "model": [(None, "null"), ("large", "a string"), ([1], "a list"), ({"no_such": 1}, "unknown key")],
    "diffusion": [
        (3, "a number"),
        ({"process": {}}, "must be a name|process"),
        ({"process": "ddpm", "timesteps": 0}, "timesteps"),
    ],
    "diffusion.timesteps": [("many", "int"), (10**12, "timesteps"), (-1, "timesteps")],
    "sampler.steps": [(0, "steps"), (10**12, "steps")],
    "train.steps": [(10**400, "steps"), (float("nan"), "not finite"), (-1, "positive")],
    "train.epochs": [(1e308, "epochs"), (float("inf"), "epochs")],
    "task": [(3, "name of a task"), ("no_such", "unknown config.task"), ("", "unknown config.task"), ([], "task")],
    "expect": [
        ("fd", "expect"),
        ([3], "expect"),
        ([{"metric": "fd"}], "tolerance"),
        ([[[]]], "expect"),
        ([{"metric": [], "value": 1, "tolerance": 1}], "name of a metric"),
        ([{"metric": "fd", "value": 10**400, "tolerance": 1}], "not finite"),
    ],
    "frozen": [("(", "frozen"), (["("], "regular expression"), (["a" * 5000], "letters"), ([1], "frozen")],
    "seed": [({}, "must be a value"), ("0", "int"), (2**40, "within")],
    "a.b": [(1, "not a valid name of a key")],
    "__class__": [(1, "not a valid name of a key")],
    "items": [({"x": 1}, "not a valid name of a key")],
    "origins": [([], "an object"), ({"init_from": 3}, "identity"), ({"init_from": {"sha256": 1}}, "identity")],
    "optim.b2": [(float("nan"), "not finite"), (10**400, "not finite")],
    "model.norm_epsilon": [(float("inf"), "not finite")],
    "sampler.eta": [([[1e999]], "not finite")],
    "no_such_section": [({"x": 1}, "unknown section"), (1, "must be an object")],
}
TEXTS = ["null", "[]", '"text"', "7", "", "{", "[" * 100_000, '{"a":' * 100_000, "\x00", '{"task": "vae"}]', "NaN"]
FACTS = {
    "image_shape": [None, "8x8", [8, 8], [8, 8, 0], [8, 8, -1], [8, 8, "1"], [8, 8, 1.5], [10**30, 8, 1], {"0": 8}],
    "num_classes": [None, -1, "ten", 10**30, True],
    "count": [None, -1, "many", 1.5],
    "source": [None, 3, ["digits"]],
    "fingerprint": [None, 0],
    "fields": [None, [], "image", [1], ["a", "b"]],
}


@pytest.fixture
def run(trained, tmp_path):
    shutil.copytree(trained, tmp_path / "run")
    return tmp_path / "run"


def openings(run):
    """What every command that opens a work directory begins with."""
    return {
        "sample": lambda: Run.load(run),
        "evaluate": lambda: scoring.of_run(str(run), ("fd_digits",), 20, "latest"),
        "report": lambda: html.run_section(run),
    }


def refused(run, file, words="", ways=("sample", "evaluate", "report")):
    for way in ways:
        with pytest.raises(GenmodelsError, match=words) as caught:
            openings(run)[way]()
        assert str(run / file) in str(caught.value)
        assert len(str(caught.value)) < 1500


def test_an_intact_one_is_opened(run):
    assert Run.load(run).step
    assert html.run_section(run)["plots"]


@pytest.mark.parametrize(("key", "value", "words"), [(key, *case) for key, cases in CHANGES.items() for case in cases])
def test_a_config_of_other_values_is_refused(run, key, value, words):
    config = json.loads((run / "config.json").read_text())
    place, (*sections, last) = config, key.split(".") if key != "a.b" else [key]
    for section in sections:
        place = place[section]
    place[last] = value
    (run / "config.json").write_text(json.dumps(config))
    if key.partition(".")[0] in ("diffusion", "model", "sampler") or key in ("train.steps", "train.epochs"):
        for way in ("sample", "evaluate"):  # a report builds no network
            with pytest.raises(GenmodelsError, match=words) as caught:
                openings(run)[way]()
            assert str(run) in str(caught.value)
    else:
        refused(run, "config.json", words)


@pytest.mark.parametrize("text", TEXTS, ids=range(len(TEXTS)))
@pytest.mark.parametrize("file", ["config.json", "data.json"])
def test_a_file_that_holds_something_else_is_refused(run, file, text):
    (run / file).write_text(text)
    refused(run, file)


@pytest.mark.parametrize(("fact", "value"), [(fact, value) for fact, values in FACTS.items() for value in values])
def test_facts_of_the_data_of_another_kind_are_refused(run, fact, value):
    facts = json.loads((run / "data.json").read_text())
    (run / "data.json").write_text(json.dumps(facts | {fact: value}))
    if (fact, value) == ("fields", ["a", "b"]):
        with pytest.raises(ConfigError, match=r"reads the field image"):
            Run.load(run)
        return
    refused(run, "data.json", fact)
    del facts[fact]
    (run / "data.json").write_text(json.dumps(facts))
    if fact != "fields":  # older files lack it
        refused(run, "data.json", fact)


@pytest.mark.parametrize(
    "place", ["samples", "parameters.txt", "metrics.jsonl", "checkpoints/1", "eval/x.json", "data.png"]
)
def test_a_link_that_leads_out_is_not_followed(run, tmp_path, place):
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "secret").write_text("secret")
    target = outside if place in ("samples", "checkpoints/1") else outside / "secret"
    path = run / place
    shutil.rmtree(path, ignore_errors=True) if path.is_dir() else path.unlink(missing_ok=True)
    path.parent.mkdir(exist_ok=True)
    path.symlink_to(target)
    refused(run, place, "is a link out of the work directory")
    assert sorted(outside.iterdir()) == [outside / "secret"]
    with pytest.raises(GenmodelsError, match="is a link out of the work directory"):
        loop.train(Run.load(shutil.copytree(run, tmp_path / "c", ignore=lambda *_: [path.name])).config, run)


@pytest.mark.parametrize("place", ["config.json", ".lock", "samples/grid.png", "metrics.jsonl", "pipe"])
def test_a_pipe_is_not_waited_for(run, place):
    (run / place).unlink(missing_ok=True)
    os.mkfifo(run / place)
    refused(run, place, "is neither a file nor a folder")


@pytest.mark.parametrize("target", ["itself", "nowhere", "../run/itself"])
def test_a_link_to_nothing_is_named(run, target):
    (run / "itself").symlink_to(target)
    refused(run, "itself", "is a link out of the work directory or to nothing")


@pytest.mark.parametrize(
    "contents", [{}, {"task": "diffusion"}, {"task": "vae", "data": {}}, {"task": "gan", "model": {}}]
)
def test_a_config_without_its_sections_has_the_defaults_or_is_refused(run, contents):
    (run / "config.json").write_text(json.dumps(contents))
    html.render([html.run_section(run)])
    with pytest.raises(GenmodelsError) as caught:
        Run.load(run)
    assert str(run) in str(caught.value)


@pytest.mark.parametrize(
    ("task", "changes"),
    [
        ("vae", {"model.network": "conv", "model.blocks": 10**6}),
        ("gan", {"model.channels": [8] * 3000}),
        ("classifier", {"model.name": "vit", "model.depth": 10**6}),
        ("vae", {"model.hidden": [1] * 3000, "model.network": "mlp"}),
    ],
)
def test_networks_without_end_are_refused_before_they_are_traced(run, task, changes):
    network = {"network": changes.pop("model.name")} if "model.name" in changes else {}
    config = config_lib.defaults(task, **network)
    config.update({"train": {"steps": 5}})
    contents = config_lib.nested(config_lib.flatten(config.to_dict()) | changes)
    (run / "config.json").write_text(json.dumps(contents))
    with pytest.raises(ConfigError, match="layers are more than 1,000"):
        Run.load(run)


DAMAGED_RESULTS = [
    '{"results": [{"name": "fd", "value": %s, "protocol": {}}]}' % ("9" * 4000),
    '{"results": [{"name": "fd", "value": 1, "protocol": {"checkpoint_step": {}}}]}',
    '{"results": [{"name": [], "value": 1, "protocol": {}}]}',
    '{"results": {}}x',
]


@pytest.mark.parametrize("text", DAMAGED_RESULTS, ids=range(len(DAMAGED_RESULTS)))
def test_results_that_are_none_are_named(run, text):
    (run / "eval").mkdir(exist_ok=True)
    (run / "eval" / "x.json").write_text(text)
    refused(run, "eval/x.json", ways=("report",))


@pytest.mark.parametrize(
    "text", ["{}", '[{"title": {}, "metrics": [1], "y_label": null}]', "[[]]", '[{"metrics": []}]']
)
def test_curves_that_are_none_are_named(run, text):
    (run / "curves.json").write_text(text)
    refused(run, "curves.json", ways=("report",))


def test_a_report_shows_what_is_no_text_and_stays_small(run, capsys):
    facts = json.loads((run / "data.json").read_text())
    (run / "data.json").write_text(json.dumps(facts | {"source": "folder:\ud800"}))
    row = {"step": 1, **{f"metric_{index}": index for index in range(400)}}
    (run / "metrics.jsonl").write_text(json.dumps(row))
    (run / "parameters.txt").unlink()
    (run / "parameters.txt").mkdir()
    page = html.render([html.run_section(run)])
    assert "folder:?" in page
    page.encode()
    assert "the report draws the first 60" in capsys.readouterr().out


def test_links_to_and_inside_a_work_directory_are_followed(run, tmp_path):
    (run / "again").symlink_to("samples")
    (tmp_path / "link").symlink_to(run)
    assert Run.load(tmp_path / "link").step


def test_an_expression_that_would_take_ages_is_refused_in_time(run, monkeypatch):
    monkeypatch.setattr(parameters, "MATCHING_SECONDS", 0.2)
    config = json.loads((run / "config.json").read_text())
    for pattern in ("(.*)*!", "(.|.)*#", r"(.+)+\1#", "(.*.*.*.*.*.*.*.*)!"):
        (run / "config.json").write_text(json.dumps(config | {"frozen": [pattern]}))
        with pytest.raises(ConfigError, match=r"take more than 0.2 s to match .* write them without"):
            Run.load(run)


@pytest.mark.parametrize("key", ["task", "eval.extractor"])
def test_code_that_it_names_is_not_imported_and_the_message_says_what_would_be(run, tmp_path, monkeypatch, key):
    (tmp_path / "evil.py").write_text("open('it_ran', 'w').close()\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    config = json.loads((run / "config.json").read_text())
    section, _, last = key.rpartition(".")
    (config[section] if section else config)[last] = "evil:make"
    (run / "config.json").write_text(json.dumps(config))
    with pytest.raises(
        ConfigError, match=rf"its config\.{key}=evil:make is code outside .* import and run evil; .*--allow"
    ):
        openings(run)["evaluate"]()
    html.render([openings(run)["report"]()])
    assert not (tmp_path / "it_ran").exists()
    assert "evil" not in sys.modules
    with pytest.raises(ConfigError, match=r"evil:make: AttributeError: .*'make'"):
        scoring.of_run(str(run), ("fd",), 20, "latest", allow_code=True)
    assert (tmp_path / "it_ran").exists()
    sys.modules.pop("evil")
