"""What the numbers were measured on."""

import importlib.metadata
import importlib.util
import os
import platform
import shutil
import subprocess
from typing import Any

from tests.helpers import ROOT

PACKAGES = ("jax", "jaxlib", "flax", "optax", "numpy", "torch", "diffusers", "transformers")


def _output(*command: str) -> str:
    """What a program prints, or nothing where it is absent or fails."""
    if not shutil.which(command[0]):
        return ""
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=20, check=False).stdout.strip()


def versions() -> dict[str, str]:
    """Of the packages that are installed."""
    found = (name for name in PACKAGES if importlib.util.find_spec(name))
    return {name: importlib.metadata.version(name) for name in found}


def describe(toy: bool) -> dict[str, Any]:
    """The device that everything runs on, what runs there, and the names of the conformance rows."""
    import jax

    from tests.test_conformance import MORE, RUNS

    device = jax.devices()[0]
    return {
        "platform": device.platform,
        "device": device.device_kind,
        "devices": jax.device_count(),
        "runtime": device.client.platform_version,
        "driver": _output("nvidia-smi", "--query-gpu=driver_version,memory.total", "--format=csv,noheader"),
        "system": f"{platform.system()} {platform.machine()}, {os.cpu_count()} CPUs",
        "python": platform.python_version(),
        "packages": versions(),
        "commit": _output("git", "rev-parse", "HEAD"),
        "XLA_FLAGS": os.environ.get("XLA_FLAGS", ""),
        "conformance rows": (list(RUNS), list(MORE)),
        "compilation cache": bool(jax.config.jax_compilation_cache_dir),
    }
