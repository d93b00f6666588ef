"""What `genmodels.evaluate` does once its flags are read: gather images, run the evaluators, leave pictures."""

import platform
import time
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

import jax
import numpy as np

from genmodels.data.base import Source
from genmodels.data.sources import from_config
from genmodels.errors import ConfigError, DataError
from genmodels.evaluators import Context, ImageSet, Result, check_paths, check_run, evaluate, likelihoods_of, need
from genmodels.inference import Run
from genmodels.reporting import pictures
from genmodels.reporting.files import read_images
from genmodels.workdir import check_writable


def _versions() -> dict[str, str]:
    return {"jax": jax.__version__, "numpy": np.__version__, "python": platform.python_version()}


def _collect(metrics: tuple[str, ...], context: Context) -> list[Result]:
    results = []
    for result in evaluate(metrics, context):
        results.append(result)
        where = "".join(
            f" [{key} {result.protocol[key]}]" for key in ("timestep", "likelihood") if key in result.protocol
        )
        print(f"{result.name}{where}: {result.value:.4g}", flush=True)
    return results


def of_paths(generated: str, reference: str, metrics: tuple[str, ...]) -> list[Result]:
    """Results of two .npz files or folders of PNGs.

    Raises:
      ConfigError, DataError: an unknown metric, one that needs a model, or unreadable images.
    """
    check_paths(metrics)
    sets = {
        role: ImageSet(source.images, source.labels, {role: path, f"{role}_sha256": source.fingerprint})
        for role, path in (("generated", generated), ("reference", reference))
        for source in [read_images(f"--{role}", path)]
    }
    check_paths(metrics, *(images.images.shape[1:] for images in sets.values()))
    return _collect(metrics, Context(**sets, protocol={"versions": _versions()}))


def _as_set(source: Source, role: str) -> ImageSet:
    origin = {role: source.name, f"{role}_split": source.split, f"{role}_sha256": source.fingerprint}
    return ImageSet(source.pixels if role == "training" else source.images, source.labels, origin)


def _data_of(run: Run, metrics: tuple[str, ...], split: str) -> tuple[Source | None, Source]:
    """The split to compare with, where a metric needs it, and the training split; both suit the model.

    Raises:
      DataError: the training data has changed, or the other split has other shapes, or labels the model does not know.
    """
    spec = run.config.data.source
    if not spec:
        raise DataError(
            f"{run.workdir}: was converted without its data; convert it anew with --source, e.g. tfds:cifar10"
        )
    try:
        training = from_config(run.config.data, "train")
    except DataError as error:
        raise DataError(
            f"{error}; if it has moved, call genmodels.train on {run.workdir} once more with the new config.data.source"
        ) from error
    reference = None
    if need(metrics, "reference"):
        reference = training if split == "train" else from_config(run.config.data, split)
    trained_on = run.described["fingerprint"]
    if training.fingerprint != trained_on:
        raise DataError(f"{spec}: is no longer what {run.workdir} was trained on (sha256 was {trained_on[:12]}...)")
    if reference is None:
        return None, training
    if reference.image_shape != training.image_shape:
        raise DataError(f"{spec}: {split} images are {reference.image_shape}, training images {training.image_shape}")
    labelled = any("label" in predict.inputs for predict in run.predictor.task.predict.values())
    if (labelled or need(metrics, "labels")) and not 0 < reference.num_classes <= run.data.num_classes:
        found = f"labels up to {reference.num_classes - 1}" if reference.num_classes else "no labels"
        raise DataError(f"{spec}: the {split} split has {found}, the model knows 0 to {run.data.num_classes - 1}")
    return reference, training


def of_run(
    workdir: str,
    metrics: tuple[str, ...] | None,
    num: int | None,
    checkpoint: str,
    split: str | None = None,
    sampling: Mapping[str, Any] = MappingProxyType({}),
    likelihoods: tuple[str, ...] | None = None,
) -> list[Result]:
    """Results of a run; leaves pictures of its samples in its samples/ when a metric is about them.

    Args:
      metrics, num, split, likelihoods: None takes the run's config.eval.
      sampling: how to draw samples where not as the run's config.sampler says: `guidance`, `sampler`, `steps` ...
    Raises:
      ConfigError, DataError, StorageError: as the parts do, each one line and before anything is drawn.
    """
    run = Run.load(workdir, checkpoint)
    settings = run.config.eval
    metrics = tuple(settings.metrics) if metrics is None else metrics
    seed = settings.seed
    predict = run.predictor.task.predict
    split = split or settings.split
    wanted = settings.get("likelihoods", ()) if likelihoods is None else likelihoods  # older runs have no such key
    check_run(metrics, predict, run.data.image_shape, split, settings.timesteps, wanted)
    if likelihoods is not None and not need(metrics, "likelihoods"):
        raise ConfigError(f"likelihoods: none of the metrics {', '.join(metrics)} is a likelihood; add nll")
    if sampling and not need(metrics, "generated"):
        raise ConfigError(f"{', '.join(sampling)}: none of the metrics {', '.join(metrics)} is about samples")
    reference, training = _data_of(run, metrics, split)
    protocol = {"checkpoint_step": run.step, "weights": run.weights, "seed": seed, "versions": _versions()}
    generated = None
    if need(metrics, "generated"):
        check_writable(run.workdir / "samples")
        num = num or settings.num_samples
        labels = run.sample_labels(num)
        print(f"drawing {num} samples", flush=True)
        start = time.perf_counter()
        images = run.sample(num, labels, seed, **sampling)
        print(f"{num} samples in {time.perf_counter() - start:.1f} s", flush=True)
        drawn = dict(predict["sample"].options) | {"guidance": 1.0} | dict(sampling)
        guidance = drawn.pop("guidance")
        generated = ImageSet(images, labels, drawn | {"guidance_scale": guidance})
        how = "".join(f", {key} {value}" for key, value in sampling.items())
        pictures.samples(run, images, labels, f"{run.weights} weights of step {run.step}, seed {seed}{how}")
        pictures.neighbours(run, images, training.pixels)
        pictures.trajectory(run, seed, {key: value for key, value in sampling.items() if key != "guidance"})
    context = Context(
        generated=generated,
        reference=reference and _as_set(reference, "reference"),
        training=_as_set(training, "training"),
        predict=run.predict,
        conditional=any({"image", "label"} <= set(function.inputs) for function in predict.values()),
        protocol=protocol,
        timesteps=tuple(settings.timesteps),
        likelihoods=likelihoods_of(predict, wanted) if need(metrics, "likelihoods") else {},
        likelihood_images=settings.get("likelihood_images", 0),
        seed=seed,
    )
    return _collect(metrics, context)
