"""Batches as a pure function of (seed, step): a resumed run needs no iterator state beyond its step.

The examples of all epochs stand in one endless row, each epoch shuffled by itself; batch t takes the places
[t B, (t+1) B). Batches may cross an epoch's end or be larger than the set. Process i of P reads the contiguous rows
[i B/P, (i+1) B/P) of each batch, so the global batch does not depend on the number of processes.

The shuffle is numpy's RandomState, whose stream is frozen for good, drawn once an epoch: gathering whole batches
from an array costs microseconds an image. Grain runs the batches ahead of the step in a thread.
"""

import functools
from collections.abc import Iterator

import grain
import numpy as np
from jaxtyping import Integer

from genmodels.data.sources import Source


@functools.lru_cache(maxsize=4)
def epoch_order(seed: int, epoch: int, size: int) -> Integer[np.ndarray, " size"]:
    """The order of one epoch: a permutation of 0 .. size-1."""
    return np.random.RandomState(np.array([seed, epoch], np.uint32)).permutation(size)


def batch_indices(
    seed: int, step: int, batch_size: int, size: int, process_index: int = 0, process_count: int = 1
) -> Integer[np.ndarray, " rows"]:
    """Which examples this process reads for the batch of `step`; `batch_size` counts all processes."""
    rows = batch_size // process_count
    start = step * batch_size + process_index * rows
    places = np.arange(start, start + rows)
    epochs = places // size
    return np.concatenate(
        [epoch_order(seed, int(epoch), size)[places[epochs == epoch] % size] for epoch in np.unique(epochs)]
    )


def make_batch(
    source: Source, seed: int, step: int, batch_size: int, process_index: int = 0, process_count: int = 1
) -> dict[str, np.ndarray]:
    """This process's rows of the batch of `step`; uint8 images."""
    return source.take(batch_indices(seed, step, batch_size, len(source), process_index, process_count))


def batches(
    source: Source,
    seed: int,
    batch_size: int,
    first: int,
    last: int,
    *,
    process_index: int = 0,
    process_count: int = 1,
    prefetch: int = 4,
) -> Iterator[dict[str, np.ndarray]]:
    """The batches of the steps first .. last-1, prepared ahead by a thread."""
    make = functools.partial(
        make_batch, source, seed, batch_size=batch_size, process_index=process_index, process_count=process_count
    )
    steps = grain.MapDataset.range(first, last).map(lambda step: make(step=int(step)))
    return iter(steps.to_iter_dataset(grain.ReadOptions(num_threads=1, prefetch_buffer_size=prefetch)))
