"""Measures a trained diffusion run for BENCHMARKS.md: a table line for each sampler and step count, and likelihoods.

python -m tests.diffusion.table --run=DIR [--classifier=DIR] [--samplers=ddim,heun] [--steps=5,10,20,50] [--nll]

Without --classifier the samples are classified by the digits classifier. The seconds are those of drawing the samples,
without compilation.
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


def extractor_of(classifier):
    """A function from uint8 images to the (features, logits) of the classifier's run, or of the digits classifier."""
    if not classifier:
        return ExtractorSpec("digits").load()
    classifier_run = Run.load(classifier)

    def extract(images):
        out = classifier_run.predict("classify", len(images), {"image": images})
        return out["features"], out["logits"]

    return extract


def main():
    args = parser.parse_args()
    run, extract = Run.load(args.run), extractor_of(args.classifier)
    reference = from_config(run.config.data, "test")
    features, logits = extract(reference.images)
    accuracy = np.mean(logits.argmax(-1) == reference.labels)
    print(f"accuracy of the classifier: {accuracy:.4f} on {len(reference)} test images", flush=True)
    for name in filter(None, args.samplers.split(",")):
        for steps in map(int, args.steps.split(",")):
            options = {"sampler": name, "steps": steps}
            run.sample(1, **options)  # compiles the sampler
            start = time.perf_counter()
            images = run.sample(args.num, **options)
            seconds = time.perf_counter() - start
            sample_features, logits = extract(images)
            agreement = np.mean(logits.argmax(-1) == run.sample_labels(args.num))
            distance = frechet_distance(Moments.of(sample_features).gaussian(), Moments.of(features).gaussian()).value
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
