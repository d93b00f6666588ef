"""Measures trained diffusion runs for BENCHMARKS.md, one line of a table each: samplers by steps, and likelihoods.

python -m tests.diffusion.table --run=DIR [--classifier=DIR] [--samplers=ddim,heun] [--steps=5,10,20,50] [--nll]

Without --classifier images are judged by the digits classifier. Seconds are of drawing the samples, compilation apart.
"""

import argparse
import time

import numpy as np

from genmodels import scoring
from genmodels.data.sources import from_config
from genmodels.extractors import ExtractorSpec
from genmodels.metrics.frechet import frechet_distance
from genmodels.metrics.moments import Moments
from genmodels.runs.inference import Run

parser = argparse.ArgumentParser()
parser.add_argument("--run", required=True)
parser.add_argument("--classifier", default="")
parser.add_argument("--samplers", default="")
parser.add_argument("--steps", default="5,10,20,50")
parser.add_argument("--num", type=int, default=1000)
parser.add_argument("--nll", action="store_true")


def judge_of(classifier):
    """A function from uint8 images to (features, logits)."""
    if not classifier:
        return ExtractorSpec("digits").load()
    judge = Run.load(classifier)

    def extract(images):
        out = judge.predict("classify", len(images), {"image": images})
        return out["features"], out["logits"]

    return extract


def main():
    args = parser.parse_args()
    run, extract = Run.load(args.run), judge_of(args.classifier)
    reference = from_config(run.config.data, "test")
    features, logits = extract(reference.images)
    print(
        f"judge: {np.mean(logits.argmax(-1) == reference.labels):.4f} right on {len(reference)} test images", flush=True
    )
    for name in filter(None, args.samplers.split(",")):
        for steps in map(int, args.steps.split(",")):
            options = {"sampler": name, "steps": steps}
            run.sample(1, **options)  # compiles
            start = time.perf_counter()
            images = run.sample(args.num, **options)
            seconds = time.perf_counter() - start
            found, logits = extract(images)
            agreement = np.mean(logits.argmax(-1) == run.sample_labels(args.num))
            distance = frechet_distance(Moments.of(found).gaussian(), Moments.of(features).gaussian()).value
            print(f"| {name} | {steps} | {distance:.2f} | {agreement:.3f} | {seconds:.1f} |", flush=True)
    if args.nll:
        for result in scoring.of_run(args.run, ("nll",), None, "latest"):
            protocol = result.protocol
            parts = {key: round(protocol[key], 4) for key in protocol if key.startswith("mean_")}
            print(
                f"nll {protocol['likelihood']}: {result.value:.4f} +- {protocol['standard_error']:.4f} bits/dim, "
                f"{protocol['n_reference']} images, {parts}"
            )


if __name__ == "__main__":
    main()
