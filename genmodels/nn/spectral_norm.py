"""Spectral normalisation (Miyato et al. 2018): every kernel divided by its largest singular value.

A function of a network's parameters, not a layer: networks stay as they are. One vector u a kernel, carried in the
training state, follows the first singular vector by power iteration. It is made of parameters alone, so it is the same
on all devices.
"""

import jax
import jax.numpy as jnp
from flax import traverse_util
from jaxtyping import Array, Float, Key

NAMES = ("kernel", "embedding")
FIRST = 15  # iterations on fresh vectors
EPSILON = 1e-12

Kernel = Float[Array, "*fan_in out"]
Vectors = dict[str, Float[Array, " out"]]  # by the kernel's path, "conv_0/kernel"


def _unit(x: Array) -> Array:
    return x / (jnp.linalg.norm(x) + EPSILON)


def _matrix(kernel: Kernel) -> Float[Array, "fan_in out"]:
    return kernel.reshape(-1, kernel.shape[-1])


def _times(w: Array, u: Array) -> Array:
    return jnp.matmul(w, u, precision="highest")


def power_iteration(kernel: Kernel, u: Float[Array, " out"], iterations: int = 1) -> Float[Array, " out"]:
    """u <- W^T W u, normalised: nearer to the first right singular vector of W [fan_in, out] (algorithm 1)."""
    w = jax.lax.stop_gradient(_matrix(kernel))
    for _ in range(iterations):
        u = _unit(_times(w.T, _unit(_times(w, u))))
    return u


def sigma(kernel: Kernel, u: Float[Array, " out"]) -> Float[Array, ""]:
    """v^T W u with v = W u / |W u|: the largest singular value once u has converged, never more than it.

    The gradient takes u and v for constants (equation 12).
    """
    w = _matrix(kernel)
    v = jax.lax.stop_gradient(_unit(_times(w, u)))
    return jnp.vdot(v, _times(w, jax.lax.stop_gradient(u)))


def _kernels(params: dict) -> dict[str, Kernel]:
    flat = traverse_util.flatten_dict(params, sep="/")
    return {path: leaf for path, leaf in flat.items() if path.split("/")[-1] in NAMES}


def init(rng: Key[Array, ""], params: dict) -> Vectors:
    """A vector for every kernel and embedding of a network, after a few iterations from a random start."""
    kernels = _kernels(params)
    keys = jax.random.split(rng, len(kernels))
    starts = {
        path: _unit(jax.random.normal(key, w.shape[-1:])) for key, (path, w) in zip(keys, kernels.items(), strict=True)
    }
    return {path: power_iteration(w, starts[path], FIRST) for path, w in kernels.items()}


def update(params: dict, vectors: Vectors) -> Vectors:
    """One power iteration for every kernel."""
    return {path: power_iteration(w, vectors[path]) for path, w in _kernels(params).items()}


def normalized(params: dict, vectors: Vectors) -> dict:
    """The parameters with every kernel and embedding divided by its `sigma`; biases are left."""
    flat = traverse_util.flatten_dict(params, sep="/")
    changed = {path: w / (sigma(w, vectors[path]) + EPSILON) for path, w in _kernels(params).items()}
    return traverse_util.unflatten_dict(flat | changed, sep="/")
