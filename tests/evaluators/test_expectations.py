"""Promises of experiments: in the direction of each metric, under their protocol, and on the data they were made on."""

import pytest

from genmodels.data.sources import make_source
from genmodels.evaluators.expectations import KNOWN_DATA, compare, lines
from genmodels.runs import experiment
from tests.helpers import EXPERIMENTS, ROOT

DIGITS = {"source": "digits", "fingerprint": KNOWN_DATA["digits"]}
FLOWERS = {"source": "folder:/home/flowers", "fingerprint": "f1"}
PROMISE = {"metric": "fd_digits", "value": 4.0, "tolerance": 0.5}


def row(value, name="fd_digits", **protocol):
    return {"name": name, "value": value, "protocol": protocol}


def test_expectations_are_one_sided_and_need_the_same_protocol():
    rows = [{"name": "fd_digits", "value": 5.0, "protocol": {"n": 10}}, {"name": "psnr", "value": 20, "protocol": {}}]
    promise = {"metric": "fd_digits", "value": 4.0, "tolerance": 0.5, "protocol": {"n": 10}}
    assert [c.met for c in compare(rows, [promise])] == [False]
    assert [c.met for c in compare(rows, [promise | {"value": 6.0}])] == [True]  # lower is better
    assert [c.met for c in compare(rows, [promise | {"protocol": {"n": 11}}])] == [None]
    assert [c.met for c in compare(rows, [{"metric": "psnr", "value": 25, "tolerance": 1}])] == [False]
    assert [c.met for c in compare(rows, [{"metric": "psnr", "value": 15, "tolerance": 1}])] == [True]


@pytest.mark.parametrize(("ratio", "met"), [(3.67, False), (1.25, False), (1.15, True), (0.85, True), (0.0, False)])
def test_a_ratio_is_to_be_near_its_goal_so_that_noise_and_copies_fall_short(ratio, met):
    promise = {"metric": "nn_distance_ratio", "value": 1.1, "tolerance": 0.1}
    (check,) = compare([row(ratio, "nn_distance_ratio")], [promise])
    assert check.met is met


def test_no_guidance_is_what_a_model_does_that_cannot_be_guided():
    promises = [PROMISE | {"protocol": {"guidance_scale": scale}} for scale in (1.0, 2.0)]
    assert [check.met for check in compare([row(4.0)], promises)] == [True, None]


@pytest.mark.parametrize(
    ("name", "data", "same"),
    [
        ("digits", DIGITS, True),
        ("digits", DIGITS | {"source": "npz:/home/elsewhere.npz"}, True),  # what it holds counts, not where it lies
        ("digits", FLOWERS, False),
        ("digits", {"source": "digits", "fingerprint": "d2"}, False),  # at another size, for example
        ("folder:flowers", FLOWERS, True),
        ('folder("flowers")', FLOWERS, True),
        ("folder:/srv/flowers", FLOWERS, False),
        ("folder:owers", FLOWERS, False),
        ("tar:flowers", FLOWERS, False),
        ("split('folder:flowers', test=0.1)", FLOWERS, False),
        ("split('folder:flowers', test=0.1)", {"source": "split('folder:/home/flowers', test=0.1)"}, True),
        ("split('folder:flowers', test=0.1)", {"source": "split(folder('/home/flowers'), test=0.1)"}, True),
        ("split('folder:flowers', test=0.1)", {"source": "split('folder:/home/flowers', test=0.2)"}, False),
        ("what I had (lost)", FLOWERS, False),
        ("", FLOWERS, True),  # a run from before promises named their data
    ],
)
def test_a_promise_is_checked_on_the_data_that_it_was_made_on(name, data, same):
    (check,) = compare([row(9.0)], [PROMISE | {"data": name}], data)
    assert (check.met, check.passed, check.other_data) == ((False, False, "") if same else (None, True, name))
    said = list(lines([check]))
    assert said[0].startswith("SHORT" if same else "OTHER DATA")
    assert len(said) == (1 if same else 2)  # that nothing was checked at all is said, too


def test_an_unmet_promise_counts_beside_one_of_other_data():
    checks = compare([row(9.0)], [PROMISE | {"data": "digits"}, PROMISE | {"data": "folder:flowers"}], FLOWERS)
    assert [check.passed for check in checks] == [True, False]
    assert len(list(lines(checks))) == 2


def test_the_fingerprints_of_known_data_are_those_of_the_data(shared):
    sources = {"digits": "digits"} | {name: f"idx:{shared}/data/{name}" for name in ("mnist", "fashion_mnist")}
    assert {name: make_source(spec).fingerprint for name, spec in sources.items()} == KNOWN_DATA


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_every_experiment_names_the_data_of_its_promises(name):
    module = experiment.run("--config", str(ROOT / "experiments" / f"{name}.py"))
    for variant in module["VARIANTS"]:
        config = module["get_config"](variant)
        known = config.data.source.removeprefix("idx:data/")
        assert {promise["data"] for promise in config.expect} <= {known if known in KNOWN_DATA else config.data.source}


def test_a_promise_that_names_no_data_is_of_the_source_in_its_file(tmp_path):
    path = tmp_path / "mine.py"
    path.write_text(
        "from genmodels.config import defaults, promise\n\n"
        "def get_config():\n"
        "    config = defaults('vae')\n"
        "    config.data.source = 'folder:flowers'\n"
        "    config.expect = (promise('psnr', 20, 1), promise('psnr', 20, 1, data='digits'))\n"
        "    return config\n"
    )
    assert [promise["data"] for promise in experiment.load("--config", str(path)).expect] == [
        "folder:flowers",
        "digits",
    ]
