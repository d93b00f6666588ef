"""What must hold on any device: its steps are the CPU's, a resume is exact, fused attention is attention."""

import dataclasses
import functools
import pathlib
import statistics
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from genmodels import loop
from genmodels.core.parallel import Parallel
from genmodels.data import pipeline
from genmodels.nn.attention import attend
from tests.gpu.worker import Failure, Skip
from tests.helpers import digest, experiment, final_state
from tests.test_conformance import MORE, RUNS, built, frozen_of

STEPS = 2
NOISE = 0.02
STILL = 1e-2
SGD = {"optim.name": "sgd", "optim.learning_rate": 0.01, "optim.warmup": 0}  # Adam makes steps of rounding errors


@dataclasses.dataclass(frozen=True)
class Variant:
    """How a step is computed, and how far it may be from the CPU's in float32 (see the package's docstring)."""

    mode: str
    dtype: str
    precision: str | None
    tolerance: float


REFERENCE = Variant("pmap", "float32", "highest", 0.0)
VARIANTS = {
    "float32 pmap": Variant("pmap", "float32", "highest", 1e-3),
    "float32 sharded": Variant("sharded", "float32", "highest", 1e-3),
    "default pmap": Variant("pmap", "float32", None, 3e-2),
    "bfloat16 pmap": Variant("pmap", "bfloat16", None, 0.1),
    "bfloat16 sharded": Variant("sharded", "bfloat16", None, 0.1),
}


@functools.cache
def teacher() -> str:
    """A work directory of a small trained classifier."""
    folder = pathlib.Path(tempfile.mkdtemp(prefix="genmodels_gpu_")) / "teacher"
    assert loop.train(experiment("classifier_digits"), folder) == 0
    return str(folder)


def config_of(row: str, **overrides: Any) -> Any:
    """The config of a conformance row, with real networks throughout."""
    file, settings = (RUNS | MORE)[row]
    if settings.get("distill.teacher"):
        settings = settings | {"distill.teacher": teacher()}
    return experiment(file, **(settings | {"data.source": "digits"} | overrides))


def start_of(row: str) -> Any:
    """A row's state of step 0 as numpy arrays, made on the CPU whatever the device.

    Noise is added to every parameter, because those that begin at zero block the gradients of the layers before them.
    """
    with jax.default_device(jax.devices("cpu")[0]):
        source, task = built(config_of(row, **SGD))
        state = jax.device_get(loop.initial_state(task, source, 0))
    rng = np.random.default_rng(0)
    noisy = jax.tree.map(lambda leaf: leaf + NOISE * rng.standard_normal(leaf.shape, np.float32), state.params)
    return state.replace(params=noisy)


def trained(row: str, variant: Variant, device: jax.Device, start: Any) -> tuple[Any, float]:
    """(state after STEPS, last loss) of a row's step on one device."""
    config = config_of(row, **SGD)
    if variant.dtype != "float32":
        config.model.dtype = variant.dtype
    source, task = built(config)
    parallel = Parallel(variant.mode, [device])
    with jax.default_matmul_precision(variant.precision):
        state = parallel.place(start)
        step = parallel.compile_step(loop.compose_step(task), state)
        rng, frozen = parallel.place(jax.random.key(1)), frozen_of(config, task, parallel)
        for t in range(STEPS):
            batch = pipeline.make_batch(source, 0, t, config.train.batch_size)
            state, metrics = step(state, frozen, batch, rng)
    return jax.device_get(state), float(metrics["loss"])


def parts(state: Any) -> dict[str, np.ndarray]:
    """The floating leaves of each module of each network, and of `extra`, as one vector each."""
    trees = {f"{network}/{name}": tree for network, modules in state.params.items() for name, tree in modules.items()}
    found = {}
    for name, tree in (trees | {"extra": state.extra}).items():
        leaves = [np.ravel(leaf) for leaf in jax.tree.leaves(tree) if jnp.issubdtype(leaf.dtype, jnp.floating)]
        found |= {name: np.concatenate(leaves).astype(np.float64)} if leaves else {}
    return found


def distance(start: Any, wanted: Any, found: Any) -> tuple[float, str]:
    """(the largest |found - wanted| / |wanted - start| of the states' parts, the part's name).

    A part that hardly moves, less than `STILL` times as much as the one that moves most, is measured as if it moved
    so much: its gradient may be rounding errors alone.
    """
    states = [parts(state) for state in (start, wanted, found)]
    moved = {name: float(np.linalg.norm(states[1][name] - states[0][name])) for name in states[0]}
    least = max(STILL * max(moved.values()), 1e-12)
    errors = {
        name: float(np.linalg.norm(states[2][name] - states[1][name])) / max(moved[name], least) for name in moved
    }
    worst = max(errors, key=errors.__getitem__)
    return errors[worst], worst


def step(toy: bool, row: str) -> dict[str, Any]:
    """A row's step on the device in all VARIANTS, compiled side by side, against the CPU's."""
    model = config_of(row).model
    variants = {name: v for name, v in VARIANTS.items() if v.dtype == "float32" or "dtype" in model}
    device, cpu, start = jax.devices()[0], jax.devices("cpu")[0], start_of(row)
    with ThreadPoolExecutor() as pool:
        reference = pool.submit(trained, row, REFERENCE, cpu, start)
        results = {name: pool.submit(trained, row, variant, device, start) for name, variant in variants.items()}
    wanted, loss = reference.result()
    found = {name: distance(start, wanted, result.result()[0]) for name, result in results.items()}
    errors = {name: error for name, (error, _) in found.items()}
    details = {
        "loss on the CPU": loss,
        "losses": {name: result.result()[1] for name, result in results.items()},
        "errors": errors,
        "worst parts": {name: part for name, (_, part) in found.items()},
        "tolerances": {name: variant.tolerance for name, variant in variants.items()},
    }
    if VARIANTS.keys() - variants.keys():
        details["note"] = "no bfloat16: its network has no dtype"
    if bad := [f"{name} {error:.2g}" for name, error in errors.items() if not error <= VARIANTS[name].tolerance]:
        raise Failure(f"beyond the tolerance: {', '.join(bad)}", details)
    return details


def resume(toy: bool, row: str, exact: bool) -> dict[str, Any]:
    """A run of six steps and one that is stopped after three and resumed; `exact`: the same bits or a failure."""
    config = config_of(row, **{"train.steps": 6})
    with tempfile.TemporaryDirectory(prefix="genmodels_gpu_") as folder:
        whole, halves = pathlib.Path(folder) / "whole", pathlib.Path(folder) / "halves"
        codes = [loop.train(config, whole), loop.train(config, halves, lambda step: 85 if step == 3 else None)]
        half = final_state(halves)
        codes.append(loop.train(config, halves))
        if codes != [0, 85, 0] or int(half.step) != 3:
            raise Failure("the run did not stop at step 3 and go on", {"codes": codes, "stopped at": int(half.step)})
        wanted, found = final_state(whole), final_state(halves)
    same = digest(wanted) == digest(found)
    details = {"same bits": same, "distance": distance(half, wanted, found)[0]}
    if exact and not same:
        raise Failure(f"the resumed run is {details['distance']:.2g} of three steps away", details)
    return details


def seconds_of(run: Callable[[], Any]) -> float:
    """How long a call takes until its result is there."""
    began = time.perf_counter()
    jax.block_until_ready(run())
    return time.perf_counter() - began


def attention(toy: bool, batch: int, tokens: int, width: int, heads: int) -> dict[str, Any]:
    """cuDNN's attention and XLA's in bfloat16, both against XLA's in float32; ms are of value and gradient."""
    if jax.devices()[0].platform not in ("gpu", "cuda"):
        raise Skip("cuDNN needs an NVIDIA GPU")
    *inputs, weights = (jax.random.normal(jax.random.key(i), (batch, tokens, width)) for i in range(4))

    def value_and_gradients(implementation, *inputs):
        def total(*qkv):
            out = attend(*qkv, heads, implementation)
            return jnp.sum(weights * out.astype(jnp.float32)), out

        (_, out), grads = jax.value_and_grad(total, (0, 1, 2), has_aux=True)(*inputs)
        return out, *grads

    compiled = jax.jit(value_and_gradients, static_argnums=0)
    with jax.default_matmul_precision("highest"):
        exact = jax.device_get(compiled("xla", *inputs))
    low = [x.astype(jnp.bfloat16) for x in inputs]
    errors, times = {}, {}
    for name in ("xla", "cudnn"):
        try:
            found = jax.device_get(compiled(name, *low))
        except (NotImplementedError, RuntimeError) as error:
            if name == "xla" or isinstance(error, jax.errors.JaxRuntimeError):  # of the device, not a refusal
                raise
            raise Skip(f"cuDNN refuses {tokens} tokens and {heads} heads of {width // heads}: {error}") from error
        pairs = zip(exact, found, strict=True)
        errors[name] = max(float(np.linalg.norm(b.astype(np.float32) - a) / np.linalg.norm(a)) for a, b in pairs)
        times[name] = 1000 * statistics.median(seconds_of(functools.partial(compiled, name, *low)) for _ in range(20))
    details = {"errors": errors, "ms": times}
    if not errors["cudnn"] <= 2 * errors["xla"]:
        raise Failure(f"cuDNN's error {errors['cudnn']:.2g} is more than twice XLA's, {errors['xla']:.2g}", details)
    return details
