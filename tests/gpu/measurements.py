"""Speed and memory of train steps at their published sizes."""

import statistics
import time
from collections.abc import Callable
from typing import Any

import jax
import numpy as np

from genmodels import config as config_lib
from genmodels import loop
from genmodels.core.parallel import Parallel, whole_view
from genmodels.data.augment import Augment
from genmodels.data.base import Source
from genmodels.data.pipeline import make_batch
from genmodels.tasks import DataSpec, make_task
from tests.gpu.plan import Published
from tests.helpers import experiment

ROUND = 5  # steps
ROUNDS = 8
LONG = 20.0  # seconds of measuring after which a further round adds nothing
MEMORY = "RESOURCE_EXHAUSTED"
HALVINGS = 3


def rate(step: Callable[[], Any], wait: Callable[[Any], None], batch: int, toy: bool) -> dict[str, float]:
    """Images/s and the time of a step: the median over rounds, each waited for at its end; and of the first call."""
    began = time.perf_counter()
    wait(step())
    first = time.perf_counter() - began
    rounds: list[float] = []
    while len(rounds) < (2 if toy else ROUNDS) and sum(rounds) * ROUND < LONG:
        began = time.perf_counter()
        for _ in range(ROUND):
            last = step()
        wait(last)
        rounds.append((time.perf_counter() - began) / ROUND)
    seconds = statistics.median(rounds)
    return {"batch": batch, "images_per_s": batch / seconds, "ms": 1000 * seconds, "first step s": first}


def random_source(side: int, channels: int, count: int) -> Source:
    """Random images with labels in ten classes."""
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 256, (count, side, side, channels), np.uint8)
    return Source("random", "train", pixels, rng.integers(0, 10, count).astype(np.int32), 10)


def most_memory(step: Callable, arguments: tuple, fresh: bool) -> tuple[float, str]:
    """The most that the device held since the process began, in GB; if that is not of this step alone, XLA's plan."""
    stats = jax.devices()[0].memory_stats()
    if fresh and stats and "peak_bytes_in_use" in stats:
        return stats["peak_bytes_in_use"] / 1e9, "device"
    whole = jax.jit(lambda state, frozen, batch, rng: step(state, frozen, batch, rng, whole_view(batch)))
    plan = whole.lower(*arguments).compile().memory_analysis()
    return (plan.argument_size_in_bytes + plan.output_size_in_bytes + plan.temp_size_in_bytes) / 1e9, "plan"


def measured(config: Any, source: Source, toy: bool, fresh: bool) -> dict[str, Any]:
    """The step of a config, compiled as the loop compiles it, on batches from the host.

    Args:
      fresh: whether nothing larger has run in this process, so that the device's peak is this step's.
    """
    size = config.train.batch_size
    task = make_task(config, DataSpec(source.image_shape, source.num_classes), 1000)
    step = loop.compose_step(task, config_lib.build(Augment, config.data.augment, "data.augment"))
    parallel = Parallel(devices=jax.devices()[:1])
    state = parallel.place(loop.initial_state(task, source, 0))
    parameters = sum(leaf.size for leaf in jax.tree.leaves(state.params))
    compiled = parallel.compile_step(step, state)
    rng, batch = parallel.place(jax.random.key(0)), make_batch(source, 0, 0, size)

    def advance():
        nonlocal state
        state, metrics = compiled(state, {}, batch, rng)
        return metrics

    found = rate(advance, lambda metrics: jax.block_until_ready(metrics), size, toy)
    memory, by = most_memory(step, (state, {}, batch, rng), fresh)
    return {"parameters": parameters, **found, "memory GB": memory, "memory by": by}


def published(toy: bool, size: Published) -> dict[str, Any]:
    """An experiment's step at its published size."""
    if toy:
        config, side, channels = experiment(size.file), 8, 1
    else:
        config, side, channels = experiment(size.file, size.variant, **size.settings), size.side, 3
    for halving in range(HALVINGS + 1):
        source = random_source(side, channels, config.train.batch_size)
        try:
            return measured(config, source, toy, fresh=halving == 0)
        except jax.errors.JaxRuntimeError as error:
            if MEMORY not in str(error) or halving == HALVINGS:
                raise
        config.train.batch_size //= 2
    raise AssertionError("the last try returns or raises")
