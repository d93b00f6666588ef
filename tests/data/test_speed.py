"""How long 50,000 small images take. Bounds leave room for a busy machine; BENCHMARKS.md has what an idle one needs."""

import json
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

from tests.helpers import ROOT

COUNT = 50_000


@pytest.fixture(scope="module")
def many(tmp_path_factory):
    """50,000 PNGs of 32x32 RGB that compress about as photographs do, in ten folders."""
    folder = tmp_path_factory.mktemp("many")
    rng = np.random.RandomState(0)
    for kind in range(10):
        (folder / str(kind)).mkdir()
    for index in range(COUNT):
        coarse = Image.fromarray(rng.randint(0, 256, (6, 6, 3), dtype=np.uint8))
        smooth = np.asarray(coarse.resize((32, 32), Image.Resampling.BICUBIC))
        noisy = smooth ^ rng.randint(0, 8, (32, 32, 3), dtype=np.uint8)
        Image.fromarray(noisy).save(folder / str(index % 10) / f"{index:05d}.png")
    return folder


@pytest.mark.slow
@pytest.mark.alone
def test_scanning_starting_again_streaming_and_memory(many, tmp_path, monkeypatch):
    monkeypatch.setenv("GENMODELS_CACHE", str(tmp_path))
    launch = [sys.executable, "-m", "tests.data.speed", f"folder:{many}"]
    result = subprocess.run(launch, cwd=ROOT, capture_output=True, text=True, check=True)
    measured = json.loads(result.stdout.splitlines()[-1])
    print(measured)
    assert measured["scan_s"] < 60
    assert measured["second_start_s"] < 3
    assert measured["memory_ratio"] < 1.2
    assert measured["streamed_images_per_s"] > 5000  # the aim is 10,000, on a machine with nothing else to do
