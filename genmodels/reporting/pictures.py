"""Pictures of a trained run for its report, made from whatever predict functions its task has."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from genmodels.data.pixels import Pixels
from genmodels.inference import Run
from genmodels.metrics.nearest import nearest_neighbours
from genmodels.reporting.grids import save_grid

EXAMPLES = 10


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
