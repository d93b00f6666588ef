"""How long 50,000 small images take, measured as a user would meet it. Bounds leave room for a busy machine; the numbers of
an idle one are in BENCHMARKS.md (`pytest -m slow -s tests/data/test_speed.py` prints them)."""

import subprocess
import sys
import time

import numpy as np
import pytest
from PIL import Image

from genmodels.data import pipeline
from genmodels.data.base import Settings
from genmodels.data.sources import make_source
from tests.helpers import ROOT

COUNT = 50_000

PEAK = """
import resource, sys
from genmodels.data.sources import make_source
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
source = make_source(sys.argv[1])
after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
print((after - before) * 1024 / source.images.nbytes)
"""


@pytest.fixture(scope="module")
def many(tmp_path_factory):
    """50,000 PNGs of 32x32 RGB that compress as photographs do, in ten folders."""
    folder = tmp_path_factory.mktemp("many")
    rng = np.random.RandomState(0)
    for kind in range(10):
        (folder / str(kind)).mkdir()
    for index in range(COUNT):
        coarse = Image.fromarray(rng.randint(0, 256, (6, 6, 3), dtype=np.uint8)).resize(
            (32, 32), Image.Resampling.BICUBIC
        )
        noisy = np.asarray(coarse) ^ rng.randint(0, 8, (32, 32, 3), dtype=np.uint8)
        Image.fromarray(noisy).save(folder / str(index % 10) / f"{index:05d}.png")
    return folder


@pytest.mark.slow
def test_scanning_starting_again_and_streaming(many, tmp_path, monkeypatch):
    monkeypatch.setenv("GENMODELS_CACHE", str(tmp_path))
    start = time.perf_counter()
    first = make_source(f"folder:{many}")
    scan = time.perf_counter() - start
    start = time.perf_counter()
    again = make_source(f"folder:{many}")
    second = time.perf_counter() - start
    assert (len(again), again.fingerprint) == (COUNT, first.fingerprint)

    streamed = make_source(f"folder:{many}", "train", Settings(memory_gb=0.0))
    batches = pipeline.batches(streamed, 0, 256, 0, 300, workers=2)
    for _ in range(20):  # workers start
        next(batches)
    start = time.perf_counter()
    count = sum(len(batch["image"]) for batch in batches)
    pace = count / (time.perf_counter() - start)
    batches.close()
    print(f"\nscan {scan:.1f} s, second start {second:.2f} s, streaming with 2 workers {pace:,.0f} images/s")
    assert scan < 60
    assert second < 3
    assert pace > 5000


@pytest.mark.slow
def test_a_whole_process_needs_little_more_than_the_pixels(many, tmp_path, monkeypatch):
    monkeypatch.setenv("GENMODELS_CACHE", str(tmp_path))
    for start in ("first", "second"):
        launch = [sys.executable, "-c", PEAK, f"folder:{many}"]
        result = subprocess.run(launch, cwd=ROOT, capture_output=True, text=True, check=True)
        ratio = float(result.stdout.splitlines()[-1])
        print(f"\n{start} start: memory grows by {ratio:.2f} times the pixels")
        assert ratio < 1.2
