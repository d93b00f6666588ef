"""Batches as a pure function of (seed, step): a resumed run needs no iterator state beyond its step.

The examples of all epochs stand in one endless row, each epoch shuffled by itself; batch t takes the places
[t B, (t+1) B). Batches may cross an epoch's end or be larger than the set. Process i of P reads the contiguous rows
[i B/P, (i+1) B/P) of each batch, so the global batch does not depend on the number of processes.

The shuffle is numpy's RandomState, whose stream is frozen for good, drawn once an epoch. Pixels in memory are gathered
when a step asks: that takes microseconds an image, while the device works on the step before; handing batches over
from a thread took longer. Others are decoded ahead of the step by Grain's worker processes. A Grain element is a whole
batch, so neither the number of workers nor where the pixels are changes what a batch holds.
"""

import functools
import gc
import os
import signal
import threading
import time
from collections.abc import Iterator
from typing import Any

import jax
import numpy as np
from absl import flags
from jaxtyping import Bool, Integer

from genmodels.data.base import Pair, Source

Batch = dict[str, np.ndarray]


@functools.lru_cache(maxsize=4)
def epoch_order(seed: int, epoch: int, size: int, stream: int = 0) -> Integer[np.ndarray, " size"]:
    """The order of one epoch: a permutation of 0 .. size-1; `stream` tells apart sources shuffled side by side."""
    entropy = [seed, epoch, stream] if stream else [seed, epoch]
    return np.random.RandomState(np.array(entropy, np.uint32)).permutation(size)


def examples_at(
    seed: int, places: Integer[np.ndarray, " rows"], size: int, stream: int = 0
) -> Integer[np.ndarray, " rows"]:
    """Which examples stand at these places of the endless row."""
    epochs = places // size
    found = np.empty(len(places), np.int64)
    for epoch in np.unique(epochs):
        here = epochs == epoch
        found[here] = epoch_order(seed, int(epoch), size, stream)[places[here] % size]
    return found


def batch_places(
    step: int, batch_size: int, process_index: int = 0, process_count: int = 1
) -> Integer[np.ndarray, " rows"]:
    """The places in the endless row that this process reads at `step`; `batch_size` counts all processes.

    Raises:
      ValueError: the processes do not divide the batch.
    """
    if batch_size % process_count:
        raise ValueError(f"a batch of {batch_size} does not divide among {process_count} processes")
    rows = batch_size // process_count
    start = step * batch_size + process_index * rows
    return np.arange(start, start + rows)


def make_batch(
    source: Source | Pair, seed: int, step: int, batch_size: int, process_index: int = 0, process_count: int = 1
) -> Batch:
    """This process's rows of the batch of `step`: uint8 `image` and, if any, `label`; of a pair, `a` and `b`."""
    places = batch_places(step, batch_size, process_index, process_count)
    if isinstance(source, Pair):
        return {
            field: part.pixels[examples_at(seed, places, len(part), stream)]
            for stream, (field, part) in enumerate({"a": source.a, "b": source.b}.items(), start=1)
        }
    return source.take(examples_at(seed, places, len(source)))


def _start_worker(index: int, count: int, parent: int) -> None:
    """Worker processes decode images and nothing else: no accelerator, and Ctrl-C is the main process's to answer."""
    os.environ |= {"JAX_PLATFORMS": "cpu", "CUDA_VISIBLE_DEVICES": ""}
    jax.config.update("jax_platforms", "cpu")  # jax has read its environment by now
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_leave_with, args=(parent,), daemon=True).start()


def _leave_with(parent: int) -> None:
    """Ends this process when its parent was killed; it would wait for ever to hand over its next batch."""
    while os.getppid() == parent:
        time.sleep(1)
    os._exit(0)


def batches(
    source: Source | Pair,
    seed: int,
    batch_size: int,
    first: int,
    last: int,
    *,
    process_index: int = 0,
    process_count: int = 1,
    prefetch: int = 4,
    workers: int = 0,
) -> Iterator[Batch]:
    """The batches of the steps first .. last-1; `close` the iterator to end the workers.

    Args:
      workers: processes that prepare them where pixels are not in memory; 0 is a thread of this one.
      prefetch: how many batches each prepares ahead.
    Raises:
      DataError: from the iterator, when a file is no longer what it was.
    """
    make = functools.partial(
        make_batch, source, seed, batch_size=batch_size, process_index=process_index, process_count=process_count
    )
    if source.in_memory:
        yield from (make(step=step) for step in range(first, last))
        return
    import grain  # here, because its import slows every command's start

    steps = grain.MapDataset.range(first, last).map(lambda step: make(step=int(step)))
    ahead = steps.to_iter_dataset(grain.ReadOptions(num_threads=1, prefetch_buffer_size=prefetch))
    if workers:
        if not flags.FLAGS.is_parsed():  # in a notebook: Grain reads absl's flags to start its workers
            flags.FLAGS.mark_as_parsed()
        options = grain.MultiprocessingOptions(num_workers=workers, per_worker_buffer_size=prefetch)
        ahead = ahead.mp_prefetch(options, worker_init_fn=functools.partial(_start_worker, parent=os.getpid()))
    iterator = iter(ahead)
    try:
        for batch in iterator:  # copied out of the workers' shared memory, which is then theirs again
            yield {field: np.array(rows) for field, rows in batch.items()} if workers else batch
    finally:
        iterator.close()
        if workers:
            del iterator
            gc.collect()  # a cycle in Grain's iterators holds their last batches, and with them shared memory,
            time.sleep(0.1)  # which a thread of Grain's gives back; at exit it would be called leaked


def pad_rows(batch: Any, size: int) -> tuple[Any, Bool[np.ndarray, " size"]]:
    """The batch, nested or not, with its last row repeated up to `size` rows, and a mask of the real ones."""
    count = len(jax.tree.leaves(batch)[0])
    padded = jax.tree.map(lambda rows: np.concatenate([rows, np.repeat(rows[-1:], size - count, axis=0)]), batch)
    return padded, np.arange(size) < count
