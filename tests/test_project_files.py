"""What the files beside the code say is so: paths, versions, names."""

import re
import tomllib

import pytest

import genmodels
from tests.helpers import ROOT

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
PINNED = dict(re.findall(r"^([\w.-]+)==([^;\s]+)$", (ROOT / "constraints.txt").read_text(), re.MULTILINE))


@pytest.mark.parametrize("name", ["CONTRIBUTING.md", "README.md"])
def test_the_paths_that_a_guide_names_exist(name):
    text = (ROOT / name).read_text()
    paths = set(re.findall(r"`((?:genmodels|tests|experiments|launch)/[\w/]*(?:\.\w+)?)`", text))
    assert paths
    assert [path for path in sorted(paths) if not (ROOT / path).exists()] == []


@pytest.mark.parametrize(
    ("path", "name"),
    [
        ("genmodels/tasks/__init__.py", "TASKS"),
        ("genmodels/losses/adversarial.py", "LOSSES"),
        ("genmodels/losses/penalties.py", "PENALTIES"),
        ("tests/test_conformance.py", "RUNS"),
    ],
)
def test_the_registries_that_contributing_names_exist(path, name):
    assert f"`{name}`" in (ROOT / "CONTRIBUTING.md").read_text()
    assert re.search(rf"^{name} = ", (ROOT / path).read_text(), re.MULTILINE)


def test_modules_are_where_the_changelog_says():
    text = (ROOT / "CHANGELOG.md").read_text()
    rows = re.findall(r"^\| (.*) \| (.*) \|$", text, re.MULTILINE)[1:]
    assert len(rows) > 10
    modules = {name for _, now in rows for name in re.findall(r"`(genmodels[\w.]*\w)`", now)}
    places = {name: ROOT / name.replace(".", "/") for name in modules}
    absent = {name for name, place in places.items() if not place.is_dir() and not place.with_suffix(".py").exists()}
    assert absent == set()


def test_the_version_is_the_same_everywhere():
    assert PROJECT["project"]["version"] == genmodels.__version__
    assert f"\nversion: {genmodels.__version__}\n" in (ROOT / "CITATION.cff").read_text()
    assert f"\n## [{genmodels.__version__}] - " in (ROOT / "CHANGELOG.md").read_text()


def test_the_license_is_apaches():
    text = (ROOT / "LICENSE").read_text()
    assert "Apache License\n                           Version 2.0, January 2004" in text
    assert "END OF TERMS AND CONDITIONS" in text
    assert PROJECT["project"]["license"] == "Apache-2.0"
    assert "\nlicense: Apache-2.0\n" in (ROOT / "CITATION.cff").read_text()


def test_commits_are_linted_by_the_pinned_ruff():
    assert f"rev: v{PINNED['ruff']}\n" in (ROOT / ".pre-commit-config.yaml").read_text()


def test_the_workflow_runs_what_ci_runs_on_supported_pythons():
    text = (ROOT / ".github" / "workflows" / "ci.yml").read_text()
    assert "run: bash .ci/run\n" in text
    pythons = re.search(r"python: \[(.*)\]", text)[1].replace('"', "").split(", ")
    stated = {line.rpartition(" ")[2] for line in PROJECT["project"]["classifiers"] if "Python :: 3." in line}
    assert set(pythons) == stated
    assert f">={min(pythons)}" == PROJECT["project"]["requires-python"]
