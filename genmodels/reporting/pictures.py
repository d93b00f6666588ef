"""Pictures of a trained run for its report, made from whatever predict functions its task has."""

import pathlib
from collections.abc import Mapping
from typing import Any

import numpy as np

from genmodels.core.grids import save_grid
from genmodels.data.base import Pair, Source
from genmodels.data.pixels import Pixels
from genmodels.metrics.nearest import nearest_neighbours
from genmodels.runs.inference import Predictor, Run

EXAMPLES = 10
MOST_CLASSES = 16  # shown in the pictures that training draws


def while_training(
    predictor: Predictor, variables: Any, source: Source | Pair, folder: pathlib.Path, step: int
) -> dict[str, np.ndarray]:
    """What a run draws as it goes, in files <name>_<step>.png; also returned, by name.

    A grid from every predict function that makes images of nothing but a key and a label; of a task that has none, from
    those that make images of images.
    """
    functions = {name: p for name, p in predictor.task.predict.items() if p.output == "image"}
    free = {name: p for name, p in functions.items() if set(p.inputs) <= {"key", "label"}}
    drawn = {}
    for name, predict in free.items():
        classes = min(source.num_classes, MOST_CLASSES)
        columns = classes if "label" in predict.inputs else EXAMPLES
        num = 8 * columns
        inputs = {"label": np.arange(num, dtype=np.int32) % classes} if "label" in predict.inputs else {}
        drawn[name] = predictor(variables, name, num, inputs)["image"]
        by_class = ", one class a column" if inputs else ""
        caption = f"seed 0, images 0 to {num - 1}{by_class}"
        save_grid(folder / f"{name}_{step:06d}.png", drawn[name], columns, f"{name} at step {step}", caption)
    for name, predict in functions.items() if not free else ():
        if set(predict.inputs) <= {"key", "image"}:
            given = source.pixels[: 2 * EXAMPLES]
            drawn[name] = predictor(variables, name, len(given), {"image": given})["image"]
            rows, caption = np.concatenate([given, drawn[name]]), "above: training images; below: what became of them"
            save_grid(folder / f"{name}_{step:06d}.png", rows, len(given), f"{name} at step {step}", caption)
    return drawn


def samples(run: Run, images: np.ndarray, labels: np.ndarray | None, protocol: str) -> None:
    """samples/grid.png: samples by class, one class a column."""
    columns, chosen, by_class = EXAMPLES, images[: 10 * EXAMPLES], ""
    if labels is not None:
        classes = np.unique(labels)
        count = min(10, *(int(np.sum(labels == c)) for c in classes))
        columns, by_class = len(classes), ", one class a column"
        chosen = np.stack([images[np.flatnonzero(labels == c)[row]] for row in range(count) for c in classes])
    save_grid(run.workdir / "samples" / "grid.png", chosen, columns, "Samples", protocol + by_class)


def neighbours(run: Run, images: np.ndarray, training: Pixels) -> None:
    """samples/neighbours.png: samples above, their nearest training images below."""
    distances, indices = nearest_neighbours(images[: 2 * EXAMPLES], training)
    rows = np.concatenate([images[: 2 * EXAMPLES], training[indices]])
    caption = (
        f"above: samples 0 to {len(distances) - 1}; below: the training image nearest to each "
        f"(mean distance {distances.mean():.2f}, pixels in 0-1)"
    )
    save_grid(run.workdir / "samples" / "neighbours.png", rows, len(distances), "Nearest training images", caption)


def reconstructions(run: Run, images: Pixels, seed: int) -> None:
    """samples/reconstructions.png: images above, below what an autoencoder makes of them, for runs that are one."""
    predict = run.predictor.task.predict.get("reconstruct")
    if predict is None:
        return
    shown = images[: 2 * EXAMPLES]
    made = run.predict("reconstruct", len(shown), {"image": shown}, seed=seed)
    rows = [shown, *([made["seen"]] if "seen" in made else []), made["image"]]
    middle = "; between: with the noise that the encoder sees" if "seen" in made else ""
    caption = f"above: images 0 to {len(shown) - 1}{middle}; below: their reconstructions, {run.weights} weights"
    path = run.workdir / "samples" / "reconstructions.png"
    save_grid(path, np.concatenate(rows), len(shown), "Reconstructions", caption)


def interpolation(run: Run, images: Pixels | None, seed: int) -> None:
    """samples/interpolation.png: a path a row, between images or between samples, for runs that interpolate."""
    predict = run.predictor.task.predict.get("interpolate")
    if predict is None or ("a" in predict.inputs and (images is None or len(images) < 2)):
        return
    inputs, ends = {}, f"samples of seed {seed}"
    if "a" in predict.inputs:
        count = min(EXAMPLES, len(images) // 2)
        inputs, ends = {"a": images[:count], "b": images[count : 2 * count]}, "images and the ones after them"
    if "label" in predict.inputs:
        inputs["label"] = run.sample_labels(EXAMPLES)
    count = len(next(iter(inputs.values()))) if inputs else EXAMPLES
    frames = run.predict("interpolate", count, inputs, seed=seed)["frames"]
    caption = f"each row goes from one to another: {ends}; {predict.options['kind']}, {run.weights} weights"
    path = run.workdir / "samples" / "interpolation.png"
    save_grid(path, frames.reshape(-1, *frames.shape[2:]), frames.shape[1], "Interpolation between latents", caption)


def trajectory(run: Run, seed: int, options: Mapping[str, Any]) -> None:
    """samples/trajectory.png: x_t and the predicted x0 from noise to image, for runs that have a trajectory."""
    predict = run.predictor.task.predict.get("trajectory")
    if predict is None:
        return
    labels = run.sample_labels(EXAMPLES)
    frames = run.predict("trajectory", EXAMPLES, {} if labels is None else {"label": labels}, seed=seed, **options)
    shown = 4
    rows = [frames[name][row] for row in range(shown) for name in ("xt", "x0")]
    caption = f"{shown} samples from noise to image; of each pair of rows, above x_t and below the x0 predicted from it"
    path = run.workdir / "samples" / "trajectory.png"
    save_grid(path, np.concatenate(rows), rows[0].shape[0], "Denoising trajectory", caption)
