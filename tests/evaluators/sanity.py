"""Does a distance increase as images get worse? Measures images distorted by degrees, for the table of BENCHMARKS.md.

python -m tests.evaluators.sanity --extractor=fashion_mnist --source=idx:DIR [--split=test] [--seed=0]
"""

import argparse

import numpy as np
from scipy.ndimage import gaussian_filter

from genmodels.data.sources import make_source
from genmodels.extractors import ExtractorSpec
from genmodels.metrics.frechet import frechet_distance
from genmodels.metrics.moments import Moments

NOISE = (8, 16, 32, 64)  # grey levels
BLUR = (0.5, 0.75, 1.0, 1.5)  # standard deviation in pixels
MISSING = (1, 2, 3, 5)  # of ten classes
DISTINCT = (0.5, 0.2, 0.1, 0.02)  # share of images that are not copies


def distorted(images, labels, seed=0):
    """{kind: [(degree, images)]}, each list from slight to severe; all have as many images as five classes leave."""
    rng = np.random.default_rng(seed)
    count = int(np.sum(labels >= max(MISSING)))
    some = images[rng.permutation(len(images))[:count]]
    left = [np.flatnonzero(labels >= missing) for missing in MISSING]
    noise = rng.normal(size=some.shape)
    return {
        "untouched": [(0, some)],
        "noise": [(s, np.clip(np.round(some + s * noise), 0, 255).astype(np.uint8)) for s in NOISE],
        "blur": [(s, np.round(gaussian_filter(some.astype(float), (0, s, s, 0))).astype(np.uint8)) for s in BLUR],
        "missing classes": [(m, images[rng.permutation(r)[:count]]) for m, r in zip(MISSING, left, strict=True)],
        "distinct share": [(share, np.resize(some[: int(share * count)], some.shape)) for share in DISTINCT],
    }


def distances(extractor, images, labels, seed=0):
    """{kind: [(degree, FD)]} between one half, distorted, and the other."""
    order = np.random.default_rng(seed).permutation(len(images))
    half, other = order[: len(order) // 2], order[len(order) // 2 :]
    moments = lambda x: Moments.of(extractor(x).features).gaussian()  # noqa: E731
    reference = moments(images[other])
    return {
        kind: [(degree, frechet_distance(moments(x), reference).value) for degree, x in rows]
        for kind, rows in distorted(images[half], labels[half], seed).items()
    }


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--extractor", required=True)
    parser.add_argument("--source", required=True)
    parser.add_argument("--split", default="test")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    source = make_source(args.source, args.split)
    found = distances(ExtractorSpec(args.extractor).load(), source.images, source.labels, args.seed)
    for kind, rows in found.items():
        print(f"| {kind} | " + " | ".join(f"{degree:g}: {value:.4g}" for degree, value in rows) + " |")


if __name__ == "__main__":
    main()
