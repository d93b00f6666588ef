"""Batches as a pure function of (seed, step): a resumed run needs no iterator state beyond its step.

The shuffled epochs follow each other in one endless sequence; batch t takes the places [t B, (t+1) B) of it. A batch
may cross the end of an epoch or be larger than the set. Process i of P reads the contiguous rows [i B/P, (i+1) B/P) of
each batch, so the global batch does not depend on the number of processes.

Each epoch has one permutation by numpy's RandomState, whose random stream numpy has promised never to change. Pixels in
memory are gathered when a step asks for them: that takes microseconds an image, while the device still works on the
step before (a thread that hands batches over took longer). Other pixels are decoded ahead of the step by Grain's worker
processes. A Grain element is a whole batch, so a batch holds the same rows whatever the number of workers and wherever
the pixels are.
"""

import contextlib
import functools
import gc
import os
import signal
import sys
import threading
import time
from collections.abc import Generator, Iterator
from typing import Any

import jax
import numpy as np
from absl import flags
from jaxtyping import Bool, Integer

from genmodels.data.base import Batch, DataSource
from genmodels.errors import DataError

LOST_WORKER = "terminated unexpectedly"  # in Grain's error for a worker process that ended by itself

# The signals that stop a run. A terminal and a scheduler send them to all of its processes.
STOPS = (signal.SIGINT, signal.SIGQUIT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1)


@functools.lru_cache(maxsize=4)
def epoch_order(seed: int, epoch: int, size: int, stream: int = 0) -> Integer[np.ndarray, " size"]:
    """The order of one epoch, a permutation of 0 .. size-1; sets with different `stream` are shuffled independently."""
    entropy = [seed, epoch, stream] if stream else [seed, epoch]
    return np.random.RandomState(np.array(entropy, np.uint32)).permutation(size)


def examples_at(
    seed: int, places: Integer[np.ndarray, " rows"], size: int, stream: int = 0
) -> Integer[np.ndarray, " rows"]:
    """The examples at these places of the endless sequence of epochs."""
    epochs = places // size
    found = np.empty(len(places), np.int64)
    for epoch in np.unique(epochs):
        here = epochs == epoch
        found[here] = epoch_order(seed, int(epoch), size, stream)[places[here] % size]
    return found


def batch_places(
    step: int, batch_size: int, process_index: int = 0, process_count: int = 1
) -> Integer[np.ndarray, " rows"]:
    """The places in the endless sequence that this process reads at `step`.

    Args:
      batch_size: rows of the global batch, over all processes.
    Raises:
      ValueError: the number of processes does not divide the batch size.
    """
    if batch_size % process_count:
        raise ValueError(f"a batch of {batch_size} does not divide among {process_count} processes")
    rows = batch_size // process_count
    start = step * batch_size + process_index * rows
    return np.arange(start, start + rows)


def make_batch(
    source: DataSource, seed: int, step: int, batch_size: int, process_index: int = 0, process_count: int = 1
) -> Batch:
    """This process's rows of the batch of `step`: uint8 images by field, and `label` where there are labels."""
    places = batch_places(step, batch_size, process_index, process_count)
    return source.batch(lambda size, stream: examples_at(seed, places, size, stream))


def _start_worker(index: int, count: int, parent: int) -> None:
    """Sets up a worker process: it uses no accelerator and leaves STOPS to the main process.

    It ends when the main process closes its batches or has ended.
    """
    os.environ |= {"JAX_PLATFORMS": "cpu", "CUDA_VISIBLE_DEVICES": ""}
    jax.config.update("jax_platforms", "cpu")  # jax read its environment when it was imported
    for number in STOPS:
        signal.signal(number, signal.SIG_IGN)
    threading.Thread(target=_leave_with, args=(parent,), daemon=True).start()


def _leave_with(parent: int) -> None:
    """Ends this process after its parent was killed; otherwise it would wait forever to hand over its next batch."""
    while os.getppid() == parent:
        time.sleep(1)
    os._exit(0)


@contextlib.contextmanager
def _children_shielded() -> Iterator[None]:
    """Blocks STOPS in processes that are started inside: workers, and Python's tracker of their shared memory.

    The tracker frees what a killed worker left, and need not warn of it.
    """
    before, options = signal.pthread_sigmask(signal.SIG_BLOCK, STOPS), list(sys.warnoptions)
    sys.warnoptions.append("ignore:resource_tracker:UserWarning")  # which Python hands on to the tracker
    try:
        yield
    finally:
        sys.warnoptions[:] = options
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def batches(
    source: DataSource,
    seed: int,
    batch_size: int,
    first: int,
    last: int,
    *,
    process_index: int = 0,
    process_count: int = 1,
    prefetch: int = 4,
    workers: int = 0,
) -> Generator[Batch]:
    """The batches of the steps first .. last-1. Closing the iterator ends the workers.

    Args:
      workers: processes that decode batches where pixels are not in memory; 0 uses a thread of this process.
      prefetch: batches that each worker prepares ahead of the step.
    Raises:
      DataError: from the iterator, when a file no longer holds the image that was scanned, or a worker was killed.
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
        if not flags.FLAGS.is_parsed():  # Grain reads absl's flags to start workers; a notebook parses none
            flags.FLAGS.mark_as_parsed()
        options = grain.MultiprocessingOptions(num_workers=workers, per_worker_buffer_size=prefetch)
        ahead = ahead.mp_prefetch(options, worker_init_fn=functools.partial(_start_worker, parent=os.getpid()))
    with _children_shielded():
        iterator = iter(ahead)
    try:
        with _children_shielded():
            batch = next(iterator, None)  # here Grain starts the workers
        while batch is not None:
            # Copied, because the workers reuse the shared memory that it lies in.
            yield {field: np.array(rows) for field, rows in batch.items()} if workers else batch
            batch = next(iterator, None)
    except RuntimeError as error:
        if LOST_WORKER not in str(error):
            raise
        raise DataError(
            f"{source.name}: a data worker process was killed, perhaps for lack of memory; run the same command again, "
            f"with fewer than --config.data.workers={workers} if memory is short"
        ) from error
    finally:
        iterator.close()
        if workers:
            del iterator
            gc.collect()  # a reference cycle in Grain's iterators keeps the last batches and their shared memory;
            time.sleep(0.1)  # a thread of Grain's frees it, and what is left at exit is reported as a leak


def pad_rows(batch: Any, size: int) -> tuple[Any, Bool[np.ndarray, " size"]]:
    """The batch, a pytree of arrays, with its last row repeated up to `size` rows, and a mask of the original rows."""
    count = len(jax.tree.leaves(batch)[0])
    padded = jax.tree.map(lambda rows: np.concatenate([rows, np.repeat(rows[-1:], size - count, axis=0)]), batch)
    return padded, np.arange(size) < count
