"""Measures how long a source takes: `python -m tests.data.speed folder:DIR`, with an empty $GENMODELS_CACHE."""

import json
import resource
import sys
import time


def memory():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def main(spec):
    from genmodels.data import pipeline
    from genmodels.data.base import Settings
    from genmodels.data.sources import make_source

    measured = {}
    before = memory()
    for what in ("scan_s", "second_start_s"):
        start = time.perf_counter()
        source = make_source(spec)
        measured[what] = time.perf_counter() - start
        measured.setdefault("memory_ratio", (memory() - before) / source.images.nbytes)
    streamed = make_source(spec, "train", Settings(memory_gb=0.0))
    batches = pipeline.batches(streamed, 0, 256, 0, 300, workers=2)
    for _ in range(20):  # workers start
        next(batches)
    start = time.perf_counter()
    count = sum(len(batch["image"]) for batch in batches)
    measured["streamed_images_per_s"] = count / (time.perf_counter() - start)
    batches.close()
    print(json.dumps(measured))


if __name__ == "__main__":
    main(sys.argv[1])
