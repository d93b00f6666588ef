"""Eight virtual CPU devices, quick compilation, a persistent compilation cache, and run-time checks of annotations."""

import gc
import os
import pathlib
import shutil

from jaxtyping import install_import_hook

from tests import QUICK_COMPILE, typechecker

MAPS = pathlib.Path("/proc/self/maps")
MAPS_TO_CLEAR_AT = 15_000
ROOT = pathlib.Path(__file__).resolve().parent.parent

os.environ["XLA_FLAGS"] = f"{os.environ.get('XLA_FLAGS', '')} {QUICK_COMPILE}"
os.environ["JAX_PLATFORMS"] = "cpu"
os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", str(ROOT / ".cache" / "jax"))
os.environ["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = "0"  # small programs are most of a test, and many repeat
os.environ.setdefault("GENMODELS_CACHE", str(ROOT / ".cache" / "genmodels"))
install_import_hook("genmodels", f"{typechecker.__name__}.check")

from genmodels.core import xla  # noqa: E402

xla.configure(virtual_devices=8)

import jax  # noqa: E402
import pytest  # noqa: E402

from tests import programs  # noqa: E402
from tests.helpers import small_experiment, stand_in  # noqa: E402

# Compiled programs keep many Python objects alive, and each full garbage collection looks at all of them.
gc.freeze()
gc.set_threshold(20_000, 10, 10)


@pytest.fixture(scope="session")
def shared():
    """The folder of real images and golden outputs that developers have beside the project."""
    folder = ROOT.parent / "shared"
    if not (folder / "data").is_dir():
        pytest.skip(f"{folder}/data is not there (real images for development)")
    return folder


@pytest.fixture(scope="session", autouse=True)
def eight_devices():
    assert jax.device_count() == 8


@pytest.fixture(scope="session", autouse=True)
def shared_programs():
    """See tests/programs.py."""
    with pytest.MonkeyPatch.context() as patch:
        programs.share(patch)
        yield


@pytest.fixture(scope="module", autouse=True)
def programs_are_let_go():
    """A compiled program keeps memory maps, of which Linux gives a process 65,530; out of them XLA crashes.

    Until they are many, programs stay: small ones are the same in all modules, and clearing takes time itself.
    """
    yield
    if MAPS.exists() and MAPS.read_bytes().count(b"\n") > MAPS_TO_CLEAR_AT:
        jax.clear_caches()


@pytest.fixture
def small(monkeypatch):
    """`experiment` for a network that compiles at once; while it is used no task has a U-Net."""
    stand_in(monkeypatch)
    return small_experiment


@pytest.fixture(scope="session")
def finished_run(tmp_path_factory):
    from genmodels import loop

    workdir = tmp_path_factory.mktemp("trained") / "run"
    with pytest.MonkeyPatch.context() as patch:
        stand_in(patch)
        assert loop.train(small_experiment("ddpm_digits"), workdir) == 0
    return workdir


@pytest.fixture
def trained(small, finished_run):
    """A finished tiny run; tests must not write in it."""
    return finished_run


@pytest.fixture(scope="session")
def evaluated_run(finished_run, tmp_path_factory):
    from genmodels import scoring
    from genmodels.reporting.files import write_results

    workdir = tmp_path_factory.mktemp("scored") / "run"
    shutil.copytree(finished_run, workdir)
    with pytest.MonkeyPatch.context() as patch:
        stand_in(patch)
        results = scoring.of_run(str(workdir), None, 20, "latest")
    write_results(workdir / "eval" / "result.json", results)
    return workdir, results


@pytest.fixture
def scored(small, evaluated_run):
    """A copy of the finished run, evaluated: (work directory, results)."""
    return evaluated_run
