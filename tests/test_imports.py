"""Imports flow one way, and neither torch nor TensorFlow is needed to run."""

import ast
import pathlib
import subprocess
import sys

import pytest

ROOT = pathlib.Path(__file__).resolve().parent.parent
PACKAGE = ROOT / "genmodels"

# The arrows there are, from each part to the others; `core`, `cli`, `config` and `errors` are imported from anywhere.
SUBSTRATE = {"core", "cli", "config", "errors"}
ARROWS = {
    "errors": set(),
    "config": {"core", "errors"},
    "core": {"errors"},
    "cli": {"core", "errors"},
    "nn": set(),
    "losses": set(),
    "diffusion": set(),
    "metrics": set(),
    "models": {"nn"},
    "extractors": {"models", "metrics"},
    "data": set(),
    "tasks": {"models", "diffusion", "losses", "nn"},
    "evaluators": {"metrics", "extractors", "data"},
    "runs": {"tasks", "extractors", "data"},
    "reporting": {"runs", "tasks", "evaluators", "data", "metrics"},
    "interop": {"runs", "tasks", "data", "models", "nn", "diffusion"},
    "scoring": {"reporting", "runs", "evaluators", "extractors", "data"},
    "loop": {"reporting", "runs", "tasks", "evaluators", "extractors", "data"},
}
PURE = {"nn", "losses", "diffusion", "metrics"}  # know neither config nor flags
MAINS = {
    "train",
    "experiments",
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
    if part in ARROWS:
        allowed = ARROWS[part] | {part} | (SUBSTRATE if part not in SUBSTRATE | PURE else set())
        assert found <= allowed, f"{path} imports {found - allowed}"


def test_every_part_has_its_arrows_and_every_arrow_is_there():
    parts = {part_of(path) for path in PACKAGE.rglob("*.py")} - MAINS - {"__init__"}
    assert parts == ARROWS.keys()
    for part, allowed in ARROWS.items():
        found = set().union(*(imports_of(path) for path in PACKAGE.rglob("*.py") if part_of(path) == part))
        assert allowed <= found, f"{part} imports no {allowed - found}"


@pytest.mark.parametrize("path", sorted((ROOT / "experiments").glob("*.py")), ids=lambda p: p.stem)
def test_experiments_import_config_only(path):
    assert set(imports_of(path)) == {"config"}


def test_the_allowed_arrows_have_no_cycle():
    done = set()
    while len(done) < len(ARROWS):
        ready = {part for part, needs in ARROWS.items() if needs - {part} <= done} - done
        assert ready, f"cycle among {ARROWS.keys() - done}"
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
        "tensorflow": {"data/tfds_build.py"},
        "tensorflow_datasets": {"data/tfds_build.py", "data/tfds.py"},
    }


def test_mains_are_short():
    for name in MAINS:
        assert len((PACKAGE / f"{name}.py").read_text().splitlines()) <= 80


def test_the_loop_knows_no_method():
    text = (PACKAGE / "loop.py").read_text().lower()
    assert not [word for word in ("diffusion", "generator", "discriminator", "denois", "vae") if word in text]


def test_no_torch_and_no_tensorflow_at_run_time():
    code = (
        "import sys, genmodels.loop, genmodels.scoring, genmodels.reporting.html\n"
        "names = {'torch', 'tensorflow', 'diffusers', 'transformers', 'skimage'}\n"
        "bad = names & {m.split('.')[0] for m in sys.modules}\n"
        "sys.exit(str(bad) if bad else 0)"
    )
    result = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
