"""What `genmodels.evaluate` does once its flags are read: gather images, run the evaluators, leave pictures."""

import dataclasses
import platform
import tempfile
import time
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

import jax
import numpy as np

from genmodels.cli.progress import progress
from genmodels.core.files import check_writable
from genmodels.data.base import DataSource
from genmodels.data.pixels import gather
from genmodels.data.sources import from_config, read_images
from genmodels.errors import ConfigError, DataError
from genmodels.evaluators import (
    Context,
    ExtractorDefaults,
    ImageSet,
    Metric,
    Options,
    Result,
    Statistics,
    check_counts,
    check_paths,
    check_run,
    choice,
    evaluate,
    load_weights,
    need,
    pairs,
    protocol,
    resolve,
    statistics,
)
from genmodels.evaluators.features import MOMENTS, present, summarise
from genmodels.evaluators.likelihood import resolve_likelihoods
from genmodels.evaluators.metric_names import check_layer
from genmodels.extractors import ExtractorSpec, is_user_extractor
from genmodels.reporting import pictures
from genmodels.runs.inference import Run, check_code

Metrics = Mapping[str, Metric]
NO_OPTIONS: Mapping[str, Any] = MappingProxyType({})
COUNTS = ("n_generated", "n_reference")
MAX_BYTES_IN_MEMORY = 2**30  # of samples; more go to a temporary file


def _versions() -> dict[str, str]:
    return {"jax": jax.__version__, "numpy": np.__version__, "python": platform.python_version()}


def _collect(metrics: Metrics, context: Context) -> list[Result]:
    results = []
    for result in evaluate(metrics, context):
        results.append(result)
        entries = result.protocol
        where = "".join(f" [{key} {entries[key]}]" for key in ("timestep", "likelihood") if key in entries)
        found = (entries[key] for key in COUNTS if key in entries)
        counts = " against ".join(f"{count:,}" if isinstance(count, int) else count for count in found)
        print(f"{result.name}{where}: {result.value:.4g}" + (f"   N {counts}" if counts else ""), flush=True)
        if "warning" in entries:
            print(f"note: {result.name}: {entries['warning']}", flush=True)
    return results


def _asked(settings: Mapping[str, Any]) -> tuple[ExtractorDefaults, Options]:
    """What is said of extractor and comparisons: keys of config.eval, or flags of the same names."""
    default = ExtractorDefaults(
        settings.get("extractor", ""), settings.get("resize", "none"), settings.get("layer", "")
    )
    return default, Options.of(settings)


def of_paths(
    generated: str, reference: str, names: tuple[str, ...], metric_options: Mapping[str, Any] = NO_OPTIONS
) -> list[Result]:
    """Results of two sets of images: .npz files, folders, archives; or statistics files, where metrics need no more.

    Args:
      metric_options: extractor, resize, layer and fields of Options, where not the defaults.
    Raises:
      ConfigError, DataError: an unknown metric, one that needs a model, unreadable images, or too few of them.
    """
    default, options = _asked(metric_options)
    metrics = resolve(names, default)
    check_layer(default.layer, [metric.extractor_spec for metric in metrics.values()])
    paths = {"generated": generated, "reference": reference}
    files = [role for role, path in paths.items() if statistics.is_statistics(path)]
    check_paths(metrics, statistics=files)
    load_weights(metrics, options)
    mixed = all(metric.extractor_spec and metric.extractor_spec.load().resize != "none" for metric in metrics.values())
    sets: dict[str, ImageSet | Statistics] = {}
    for role, path in paths.items():
        if role in files:
            sets[role] = statistics.read(f"--{role}", path)
        else:
            source = read_images(f"--{role}", path, mixed)
            origin = {role: path, f"{role}_sha256": source.fingerprint}
            sets[role] = ImageSet(
                source.pixels, source.labels, origin, source.fingerprint, source.class_names, source.files
            )
    shapes = {role: tuple(one.images.shape[1:]) for role, one in sets.items() if isinstance(one, ImageSet)}
    check_paths(metrics, shapes, files)
    images = [one for one in sets.values() if isinstance(one, ImageSet)]
    if len(images) == len(sets) and any(metric.between_paths for metric in metrics.values()):
        pairs.check_names(*images)
    counts = [len(one) if isinstance(one, ImageSet) else one.gaussian.count for one in sets.values()]
    check_counts(metrics, options, *counts)
    context = Context(sets["generated"], sets["reference"], protocol={"versions": _versions()}, options=options)
    return _collect(metrics, context)


def statistics_of(images: str, extractor: str, resize: str, layer: str) -> dict[str, np.ndarray]:
    """The arrays of a statistics file of these images.

    Raises:
      ConfigError, DataError: an unknown extractor, resize or layer, or images that it cannot take.
    """
    extractor_spec = ExtractorSpec(extractor, resize, layer)
    network = extractor_spec.load()
    source = read_images("--images", images, mixed=network.resize != "none")
    if source.image_shape:
        extractor_spec.check(source.image_shape)
    one = ImageSet(source.pixels, source.labels, {}, source.fingerprint)
    summary = summarise("--images", one, network, {MOMENTS}, splits=1)
    return statistics.arrays(present(summary.gaussian), network, source.fingerprint)


def _as_set(source: DataSource | None, role: str, lazy: bool) -> ImageSet | None:
    """The images of the field `image` for the evaluators; None where there are none."""
    if source is None or "image" not in source.fields:
        return None
    origin = {role: source.name, f"{role}_split": source.split, f"{role}_sha256": source.fingerprint}
    pixels = source.images_of("image")
    images = pixels if lazy else gather(pixels)
    return ImageSet(images, source.labels, origin, source.fingerprint, source.class_names)


def _draw(run: Run, num: int, seed: int, sampling: Mapping[str, Any]) -> np.ndarray:
    """Samples of all classes in turn, uint8, with their progress shown; in a temporary file where they are many."""
    print(f"drawing {num} samples", flush=True)
    start = time.perf_counter()
    shape = (num, *run.data.image_shape)
    with tempfile.TemporaryFile() as file:
        held = np.prod(shape, dtype=np.int64) <= MAX_BYTES_IN_MEMORY
        images = np.empty(shape, np.uint8) if held else np.memmap(file, np.uint8, "w+", shape=shape)
    done = 0
    with progress("samples", num) as bar:
        for batch in run.sample_batches(num, None, seed, **sampling):
            images[done : done + len(batch)] = batch
            done += len(batch)
            bar.update(len(batch))
    print(f"{num} samples in {time.perf_counter() - start:.1f} s", flush=True)
    return images


def _data_of(run: Run, metrics: Metrics, split: str) -> tuple[DataSource | None, DataSource]:
    """The split to compare with and the training split, which both suit the model.

    The first is None where metrics are asked for and none of them needs it.

    Raises:
      DataError: the training data has changed, or the other split has other shapes, or labels the model does not know.
    """
    spec = run.config.data.source
    if not spec:
        raise DataError(
            f"{run.workdir}: was converted without its data; convert it again with --source, e.g. tfds:cifar10"
        )
    try:
        training = from_config(run.config.data, "train", listing=run.listing)
    except DataError as error:
        raise DataError(
            f"{error}; if it has moved, call genmodels.train on {run.workdir} once more with the new config.data.source"
        ) from error
    reference = None
    if need(metrics, "reference") or not metrics:
        reference = training if split == "train" else from_config(run.config.data, split, listing=run.listing)
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


@dataclasses.dataclass(frozen=True, eq=False)
class Asked:
    """What is to be measured of a run: what the caller asks for, and the run's config.eval for the rest.

    Attributes:
      split: of the data that the run is compared with.
      likelihoods: the kinds to measure, see `evaluators.likelihood`.
      num: the number of samples to draw, if any metric needs samples.
      sampling: how to draw them where not as the run's config.sampler says.
      checkpoint: latest, best or a step.
      left_out: {metric: why it cannot be measured on this run}, of config.eval.metrics where the caller names none.
    """

    metrics: Metrics
    options: Options
    split: str
    likelihoods: tuple[str, ...]
    num: int
    sampling: Mapping[str, Any]
    checkpoint: str
    left_out: Mapping[str, str]

    def model(self, run: Run) -> dict[str, Any]:
        """Protocol entries that say which model of the run is measured."""
        chosen = {"selected_from": f"the checkpoints by least {run.config.checkpoint.best}"}
        entries = {"family": run.config.task, "checkpoint_step": run.step, "weights": run.weights}
        return entries | (chosen if self.checkpoint == "best" else {})

    @property
    def draws(self) -> bool:
        """Whether samples are needed."""
        return need(self.metrics, "generated")


def _asked_of(
    run: Run,
    names: tuple[str, ...] | None,
    num: int | None,
    split: str | None,
    sampling: Mapping[str, Any],
    likelihoods: tuple[str, ...] | None,
    metric_options: Mapping[str, Any],
    checkpoint: str,
) -> Asked:
    """What is asked of a run, checked as far as that takes no data; see `of_run`."""
    settings = run.config.eval
    default, options = _asked({**settings, **metric_options})  # older runs lack some keys
    wanted = tuple(settings.get("likelihoods", ())) if likelihoods is None else likelihoods
    metrics = resolve(tuple(settings.metrics) if names is None else names, default)
    check_layer(default.layer, [metric.extractor_spec for metric in metrics.values()])
    functions, data = run.predictor.task.predict, run.data
    split = split or settings.split
    left_out: dict[str, str] = {}
    if names is None:
        subject = choice.Subject(functions, data.image_shape, data.fields)
        metrics, left_out = choice.choose_metrics(metrics, options, {**settings, "split": split}, subject)
    check_run(metrics, functions, data.image_shape, split, settings.timesteps, wanted, data.fields)
    asked = Asked(metrics, options, split, wanted, num or settings.num_samples, sampling, checkpoint, left_out)
    if likelihoods is not None and not need(metrics, "likelihoods"):
        raise ConfigError(f"likelihoods: none of the metrics {', '.join(metrics)} is a likelihood; add nll")
    if sampling and not asked.draws:
        raise ConfigError(f"{', '.join(sampling)}: none of the metrics {', '.join(metrics)} is about samples")
    load_weights(metrics, options)
    return asked


def _measurable(asked: Asked, by_default: bool, reference: int | None) -> Asked:
    """What can be measured with so many images: by default what the data allows, with a note, else all or an error."""
    if not by_default:
        check_counts(asked.metrics, asked.options, asked.num, reference)
        return asked
    chosen = choice.Choice(dict(asked.metrics), dict(asked.left_out))
    chosen = choice.choose_by_counts(chosen, asked.options, asked.num, reference)
    if chosen.left_out:
        print(f"note: {chosen.note()}", flush=True)
    return dataclasses.replace(asked, metrics=chosen.metrics, left_out=chosen.left_out)


def _samples(run: Run, asked: Asked) -> ImageSet:
    """The samples that the metrics need, with how they were drawn."""
    images = _draw(run, asked.num, run.config.eval.seed, asked.sampling)
    labels, names = run.sample_labels(asked.num), run.data.class_names
    how = run.how_drawn(asked.sampling) | ({} if labels is None else {"labels": "all classes in turn"})
    return ImageSet(images, labels, how | {protocol.OPTIONS: list(how)}, class_names=names)


def _shown(run: Run, asked: Asked) -> list[str]:
    """The predict functions that get a picture. Those that draw get one if samples are drawn, or no metric is asked."""
    functions = pictures.pictured(run.predictor.task.predict)
    return [name for name, one in functions.items() if one.images or asked.draws or not asked.metrics]


def _leave_pictures(
    run: Run, asked: Asked, generated: ImageSet | None, reference: DataSource | None, training: DataSource
) -> None:
    """A picture of each function that `_shown` names, in the run's samples/."""
    shown, seed = _shown(run, asked), run.config.eval.seed
    if generated is not None:
        how = "".join(f", {key} {value}" for key, value in asked.sampling.items())
        title = f"{run.weights} weights of step {run.step}, seed {seed}{how}"
        images = np.asarray(generated.images)
        pictures.samples(run, images, generated.labels, title)
        if "image" in training.fields:
            pictures.neighbours(run, images, training.images_of("image"))
        shown.remove("sample")
    pictures.of_functions(run, shown, training if reference is None else reference, seed, asked.sampling)


def _context(
    run: Run, asked: Asked, generated: ImageSet | None, reference: DataSource | None, training: DataSource
) -> Context:
    """What the evaluators see of a run."""
    metrics, settings, functions = asked.metrics, run.config.eval, run.predictor.task.predict
    lazy = all(metric.extractor_spec for metric in metrics.values() if "reference" in metric.needs)
    measured, images = need(metrics, "likelihoods"), settings.get("likelihood_images", 0)
    return Context(
        generated=generated,
        reference=_as_set(reference, "reference", lazy),
        training=_as_set(training, "training", lazy=True),
        predict=run.predict,
        conditional=any({"image", "label"} <= set(function.inputs) for function in functions.values()),
        protocol=asked.model(run) | {"seed": settings.seed, "versions": _versions()},
        timesteps=tuple(settings.timesteps),
        functions=functions,
        likelihoods=resolve_likelihoods(functions, asked.likelihoods, images) if measured else (),
        options=asked.options,
        seed=settings.seed,
    )


def of_run(
    workdir: str,
    names: tuple[str, ...] | None = None,
    num: int | None = None,
    checkpoint: str = "latest",
    *,
    split: str | None = None,
    sampling: Mapping[str, Any] = NO_OPTIONS,
    likelihoods: tuple[str, ...] | None = None,
    metric_options: Mapping[str, Any] = NO_OPTIONS,
    allow_code: bool = False,
) -> list[Result]:
    """Results of a run; leaves pictures in its samples/. A picture that fails is a warning.

    Without metrics only the pictures are made.

    Args:
      names, num, split, likelihoods: of metrics ...; None takes the run's config.eval, without the metrics that the
        data or the model does not allow.
      sampling: how to draw samples where not as the run's config.sampler says: `guidance`, `sampler`, `steps` ...
      metric_options: extractor, resize, layer and fields of Options, where not as the run's config.eval says.
      allow_code: whether the task and the extractor that the run's config names may be code outside this package.
    Raises:
      ConfigError, DataError, StorageError: as the parts do, each one line and before anything is drawn.
    """
    run = Run.load(workdir, checkpoint, allow_code=allow_code)
    extractor = run.config.eval.get("extractor", "")
    if "extractor" not in metric_options and is_user_extractor(extractor):
        check_code(run.workdir, "config.eval.extractor", extractor, allow_code)
    asked = _asked_of(run, names, num, split, sampling, likelihoods, metric_options, checkpoint)
    reference, training = _data_of(run, asked.metrics, asked.split)
    asked = _measurable(asked, names is None, None if reference is None else len(reference))
    if _shown(run, asked):
        check_writable(run.workdir / "samples")
    generated = _samples(run, asked) if asked.draws else None
    _leave_pictures(run, asked, generated, reference, training)
    if not asked.metrics:
        none = "no metric can be measured" if asked.left_out else "no metrics are asked for"
        print(f"{none}; pictures are in {run.workdir / 'samples'}", flush=True)
    return _collect(asked.metrics, _context(run, asked, generated, reference, training))
