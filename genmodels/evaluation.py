"""What `genmodels.evaluate` does once its flags are read: gather images, run the evaluators, leave pictures."""

import platform
import time
from collections.abc import Iterable
from typing import Any

import jax
import numpy as np

from genmodels.data.sources import Source, make_source
from genmodels.evaluators import Context, ImageSet, Result, check_names, evaluate
from genmodels.inference import Run
from genmodels.reporting import pictures
from genmodels.reporting.files import read_images


def _versions() -> dict[str, str]:
    return {"jax": jax.__version__, "numpy": np.__version__, "python": platform.python_version()}


def _collect(metrics: tuple[str, ...], context: Context) -> list[Result]:
    results = []
    for result in evaluate(metrics, context):
        results.append(result)
        where = f" [timestep {result.protocol['timestep']}]" if "timestep" in result.protocol else ""
        print(f"{result.name}{where}: {result.value:.4g}", flush=True)
    return results


def of_paths(generated: str, reference: str, metrics: tuple[str, ...]) -> list[Result]:
    """Results of two .npz files or folders of PNGs.

    Raises:
      ConfigError, DataError: an unknown metric, one that needs a model, or unreadable images.
    """
    check_names(metrics)
    a, b = read_images("--generated", generated), read_images("--reference", reference)
    context = Context(
        generated=ImageSet(*a, {"generated": generated}),
        reference=ImageSet(*b, {"reference": reference}),
        protocol={"versions": _versions()},
    )
    return _collect(metrics, context)


def _as_set(source: Source, role: str) -> ImageSet:
    origin = {role: source.name, f"{role}_split": source.split, f"{role}_sha256": source.fingerprint}
    return ImageSet(source.images, source.labels, origin)


def of_run(
    workdir: str, metrics: tuple[str, ...] | None, num: int | None, checkpoint: str
) -> tuple[list[Result], Iterable[Any]]:
    """Results of a run, and what its config expects; leaves pictures in its samples/.

    Raises:
      ConfigError, DataError, StorageError: as the parts do, each one line.
    """
    check_names(metrics or ())
    run = Run.load(workdir, checkpoint)
    settings = run.config.eval
    metrics = tuple(settings.metrics) if metrics is None else metrics
    check_names(metrics)
    seed = settings.seed
    model = {"checkpoint_step": run.step, "weights": run.weights, "seed": seed, "versions": _versions()}
    reference = make_source(run.config.data.source, settings.split)
    training = make_source(run.config.data.source, "train")
    generated = None
    predict = run.predictor.task.predict
    if "sample" in predict:
        num = num or settings.num_samples
        labels = run.sample_labels(num)
        print(f"drawing {num} samples", flush=True)
        start = time.perf_counter()
        images = run.sample(num, labels, seed)
        print(f"{num} samples in {time.perf_counter() - start:.1f} s", flush=True)
        generated = ImageSet(images, labels, dict(predict["sample"].options) | {"guidance_scale": 1.0})
        pictures.samples(run, images, labels, f"{run.weights} weights of step {run.step}, seed {seed}")
        pictures.neighbours(run, images, training.images)
        pictures.trajectory(run, seed)
    context = Context(
        generated=generated,
        reference=_as_set(reference, "reference"),
        training=_as_set(training, "training"),
        predict=run.predict,
        conditional="label" in predict["denoise"].inputs if "denoise" in predict else False,
        protocol=model,
        timesteps=tuple(settings.timesteps),
        seed=seed,
    )
    return _collect(metrics, context), run.config.expect
