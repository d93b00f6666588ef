"""Imports flow one way, and neither torch nor TensorFlow is needed to run."""

import ast
import pathlib
import subprocess
import sys

import pytest

ROOT = pathlib.Path(__file__).resolve().parent.parent
PACKAGE = ROOT / "genmodels"

# What each part may import of ours. Parts not named here are mains and their helpers: anything but mains.
LOWEST = {"errors"}
ALLOWED = {
    "errors": set(),
    "xla": set(),
    "signals": {"errors"},
    "paths": LOWEST,
    "experiment": LOWEST,
    "nn": {"nn"},
    "losses": {"losses", "nn"},
    "diffusion": {"diffusion"},
    "metrics": {"metrics"},
    "models": {"nn", "models"},
    "extractors": LOWEST | {"extractors", "models", "metrics"},
    "config": LOWEST,
    "state": set(),
    "parallel": set(),
    "optim": LOWEST | {"parallel", "paths", "state"},
    "workdir": LOWEST | {"config", "experiment"},
    "data": LOWEST | {"data", "config"},
    "checkpoint": LOWEST,
    "tasks": LOWEST | {"tasks", "models", "diffusion", "losses", "nn", "optim", "parallel", "state", "config"},
    "evaluators": LOWEST | {"config", "parallel", "evaluators", "metrics", "extractors", "data"},
    "reporting": LOWEST | {"reporting", "evaluators", "data", "metrics", "config", "state", "workdir", "inference"},
    "inference": LOWEST | {"tasks", "data", "checkpoint", "config", "parallel", "state", "workdir"},
    "transfer": LOWEST
    | {"checkpoint", "config", "experiment", "inference", "parallel", "paths", "state", "tasks", "workdir"},
    "metric_flags": set(),
    "evaluation": LOWEST | {"extractors", "inference", "evaluators", "data", "reporting", "workdir"},
    "applying": LOWEST | {"inference", "reporting", "tasks", "workdir"},
    "loop": LOWEST
    | {"tasks", "evaluators", "extractors", "data", "checkpoint", "reporting", "parallel", "inference", "state"}
    | {"config", "workdir", "paths", "transfer"},
    "foreign": LOWEST | {"inference", "tasks", "state", "data", "checkpoint", "config", "workdir"},
    "diffusers_folder": LOWEST | {"foreign", "inference", "tasks", "models", "config", "workdir", "diffusion"},
    "transformers_folder": LOWEST | {"foreign", "tasks", "models", "config", "workdir"},
    "cli": LOWEST | {"config", "experiment", "xla"},
}
MAINS = {
    "train",
    "sample",
    "apply",
    "evaluate",
    "statistics",
    "report",
    "export",
    "convert",
    "data/inspect",
    "data/prepare",
}


def imports_of(path):
    """The parts of genmodels that a file imports."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.module and node.module.split(".")[0] == "genmodels":
            below = node.module.split(".")[1:2]
            yield from below or [alias.name for alias in node.names]
        elif isinstance(node, ast.Import):
            for alias in node.names:
                parts = alias.name.split(".")
                if parts[0] == "genmodels" and len(parts) > 1:
                    yield parts[1]


def part_of(path):
    inside = path.relative_to(PACKAGE)
    name = str(inside.with_suffix(""))
    return name if name in MAINS else inside.parts[0].removesuffix(".py")


@pytest.mark.parametrize("path", sorted(PACKAGE.rglob("*.py")), ids=lambda p: str(p.relative_to(PACKAGE)))
def test_no_arrow_points_the_wrong_way(path):
    part, found = part_of(path), set(imports_of(path))
    assert not found & MAINS, f"{path} imports a main"
    if part in ALLOWED:
        assert found <= ALLOWED[part], f"{path} imports {found - ALLOWED[part]}"


@pytest.mark.parametrize("path", sorted((ROOT / "experiments").glob("*.py")), ids=lambda p: p.stem)
def test_experiments_import_config_only(path):
    assert set(imports_of(path)) == {"config"}


def test_the_allowed_arrows_have_no_cycle():
    done = set()
    while len(done) < len(ALLOWED):
        ready = {part for part, needs in ALLOWED.items() if needs - {part} <= done} - done
        assert ready, f"cycle among {ALLOWED.keys() - done}"
        done |= ready


def test_one_file_imports_tensorflow_and_two_its_datasets():
    found = {"tensorflow": set(), "tensorflow_datasets": set()}
    for path in PACKAGE.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            names += [node.module] if isinstance(node, ast.ImportFrom) and node.module else []
            for name in names:
                if name.split(".")[0] in found:
                    found[name.split(".")[0]].add(str(path.relative_to(PACKAGE)))
    assert found == {
        "tensorflow": {"data/preparing.py"},
        "tensorflow_datasets": {"data/preparing.py", "data/tfds.py"},
    }


def test_mains_are_short():
    for name in MAINS:
        assert len((PACKAGE / f"{name}.py").read_text().splitlines()) <= 80


def test_the_loop_knows_no_method():
    text = (PACKAGE / "loop.py").read_text().lower()
    assert not [word for word in ("diffusion", "generator", "discriminator", "denois", "vae") if word in text]


def test_no_torch_and_no_tensorflow_at_run_time():
    code = (
        "import sys, genmodels.loop, genmodels.evaluation, genmodels.reporting.html\n"
        "names = {'torch', 'tensorflow', 'diffusers', 'transformers', 'skimage'}\n"
        "bad = names & {m.split('.')[0] for m in sys.modules}\n"
        "sys.exit(str(bad) if bad else 0)"
    )
    result = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
