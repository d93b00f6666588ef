"""Spectral normalisation (Miyato et al. 2018): every kernel is divided by its largest singular value.

These are functions of a network's parameters, so that no network needs a special layer. The training state carries one
vector u per kernel, which power iteration moves towards the first singular vector. The vectors depend only on the
parameters and are therefore equal on all devices.
"""

import jax
import jax.numpy as jnp
from flax import traverse_util
from jaxtyping import Array, Float, Key

NAMES = ("kernel", "embedding")  # of the parameters that are normalised
INITIAL_ITERATIONS = 15  # power iterations on random vectors
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
    """u <- W^T W u / |W^T W u|, which approaches the first right singular vector of W (algorithm 1).

    Args:
      kernel: reshaped to W [fan_in, out].
      u: of unit length.
    """
    w = jax.lax.stop_gradient(_matrix(kernel))
    for _ in range(iterations):
        u = _unit(_times(w.T, _unit(_times(w, u))))
    return u


def sigma(kernel: Kernel, u: Float[Array, " out"]) -> Float[Array, ""]:
    """v^T W u with v = W u / |W u|: a lower bound of the largest singular value, which it reaches as u converges.

    The gradient treats u and v as constants (equation 12).
    """
    w = _matrix(kernel)
    v = jax.lax.stop_gradient(_unit(_times(w, u)))
    return jnp.vdot(v, _times(w, jax.lax.stop_gradient(u)))


def _kernels(params: dict) -> dict[str, Kernel]:
    flat = traverse_util.flatten_dict(params, sep="/")
    return {path: leaf for path, leaf in flat.items() if path.split("/")[-1] in NAMES}


def init(rng: Key[Array, ""], params: dict) -> Vectors:
    """A vector for every kernel and embedding of a network: random, then improved by a few power iterations."""
    kernels = _kernels(params)
    keys = jax.random.split(rng, len(kernels))
    starts = {
        path: _unit(jax.random.normal(key, w.shape[-1:])) for key, (path, w) in zip(keys, kernels.items(), strict=True)
    }
    return {path: power_iteration(w, starts[path], INITIAL_ITERATIONS) for path, w in kernels.items()}


def update(params: dict, vectors: Vectors) -> Vectors:
    """The vectors after one power iteration for every kernel and embedding."""
    return {path: power_iteration(w, vectors[path]) for path, w in _kernels(params).items()}


def normalized(params: dict, vectors: Vectors) -> dict:
    """The parameters with every kernel and embedding divided by its `sigma`; all others are unchanged."""
    flat = traverse_util.flatten_dict(params, sep="/")
    kernels = {path: w / (sigma(w, vectors[path]) + EPSILON) for path, w in _kernels(params).items()}
    return traverse_util.unflatten_dict(flat | kernels, sep="/")
