"""Samplers: a step object moves x from one node of a grid to the next, cleaner one; one scan takes all the steps.

At every node the network gives x_0 (clipped, if asked) and the epsilon that follows from it. From node t to node s:

    ancestral   x_s = c_0 x_0 + c_t x_t + sqrt(v) z                               DDPM algorithm 2, eq. 7
                v: fixed_small = posterior variance, fixed_large = beta           DDPM section 3.2
                   learned_range = exp(f log beta + (1 - f) log posterior)        Improved DDPM eq. 15
    ddim        x_s = alpha_s x_0 + sqrt(sigma_s^2 - v) epsilon + sqrt(v) z       DDIM eq. 12
                v = eta^2 posterior variance                                      DDIM eq. 16
    euler       ddim with eta = 0: both hold x_0 and epsilon fixed over the step  DDIM section 4.3
    heun        Euler, then the mean of the slopes at both ends                   EDM algorithm 1
                along alpha and sigma; heun_ratio: along sigma / alpha
    dpmpp_2m    exponential integrator, x_0 extrapolated from two nodes           DPM-Solver++ algorithm 2

Every sampler works on every grid of `spacing`, hence for every process. The last node is the data. In the step to it,
ancestral adds no noise, and heun and dpmpp_2m take x_0, as their second order is not defined there. ddim with eta = 1
equals ancestral with fixed_small.
"""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Integer, Key

from genmodels.diffusion.parameterization import Denoised, Output, denoised
from genmodels.diffusion.process import posterior
from genmodels.diffusion.spacing import Grid

Images = Float[Array, "batch height width channel"]
Table = dict[str, np.ndarray]  # coefficients by name, each float64 of shape [S]: one value for each step

VARIANCES = ("fixed_small", "fixed_large", "learned_range")
COORDINATES = ("path", "ratio")
START_SALT = 1000  # keys are folded with it for the noise at the start, and with START_SALT + 1 + i in step i


class View(NamedTuple):
    """The inputs of a step from node t to node s.

    Attributes:
      x: the images at node t.
      here: the network's x_0 and epsilon at node t.
      before: the network's x_0 in the previous step; zeros in the first step.
      noise: standard normal noise.
      ahead: evaluates the network on images at node s, which must not be the data.
    """

    x: Images
    here: Denoised
    before: Images
    noise: Images
    ahead: Callable[[Images], Denoised]


def _ends(grid: Grid) -> tuple[np.ndarray, ...]:
    """alpha_t, sigma_t, alpha_s and sigma_s of every step."""
    return grid.alpha[:-1], grid.sigma[:-1], grid.alpha[1:], grid.sigma[1:]


@dataclasses.dataclass(frozen=True)
class AncestralStep:
    """A sample of the learned reverse process p(x_s | x_t) (DDPM)."""

    variance: str = "fixed_small"

    def __post_init__(self):
        if self.variance not in VARIANCES:
            raise ValueError(f"unknown variance {self.variance!r}; there are {', '.join(VARIANCES)}")

    def table(self, grid: Grid) -> Table:
        """The coefficients of each step."""
        q = posterior(*_ends(grid))
        noisy = grid.sigma[1:] > 0
        safe = np.where(noisy, q.variance, 1.0)  # the step to the data adds no noise, whatever the variance
        row = {"x0": q.x0_coefficient, "xt": q.xt_coefficient}
        if self.variance == "learned_range":
            return row | {"noisy": 1.0 * noisy, "log_small": np.log(safe), "log_large": np.log(q.beta)}
        return row | {"noise": noisy * np.sqrt(safe if self.variance == "fixed_small" else q.beta)}

    def __call__(self, row: dict[str, Array], view: View) -> Images:
        """The images x_s at node s.

        Raises:
          ValueError: the variance is learned_range, but the network does not predict its variance.
        """
        mean = row["x0"] * view.here.x0 + row["xt"] * view.x
        if self.variance != "learned_range":
            return mean + row["noise"] * view.noise
        if view.here.fraction is None:
            raise ValueError("variance=learned_range needs a network trained to predict its variance")
        f = (view.here.fraction + 1) / 2
        std = jnp.exp(0.5 * (f * row["log_large"] + (1 - f) * row["log_small"]))
        return mean + row["noisy"] * std * view.noise


@dataclasses.dataclass(frozen=True)
class DDIMStep:
    """The implicit step: deterministic at eta = 0, ancestral at eta = 1 (Song et al. 2021)."""

    eta: float = 0.0

    def __post_init__(self):
        if not 0 <= self.eta <= 1:
            raise ValueError(f"eta must be between 0 and 1, got {self.eta}")

    def table(self, grid: Grid) -> Table:
        """The coefficients of each step."""
        variance = self.eta**2 * posterior(*_ends(grid)).variance
        sigma = grid.sigma[1:]
        return {
            "x0": grid.alpha[1:],
            "epsilon": np.sqrt(np.maximum(sigma**2 - variance, 0.0)),
            "noise": np.sqrt(variance),
        }

    def __call__(self, row: dict[str, Array], view: View) -> Images:
        """The images x_s at node s."""
        return row["x0"] * view.here.x0 + row["epsilon"] * view.here.epsilon + row["noise"] * view.noise


@dataclasses.dataclass(frozen=True)
class HeunStep:
    """The trapezoidal rule on the probability-flow ODE: two network evaluations in each step, one in the last.

    Attributes:
      coordinate: the form of the ODE that the rule is applied to. "path": dx = x_0 dalpha + epsilon dsigma. "ratio":
        d(x / alpha) = epsilon d(sigma / alpha), as in EDM and diffusers. They are the same where alpha is 1. "ratio"
        fails in the long first step of schedules that end with almost no signal, such as cosine.
    """

    coordinate: str = "path"

    def __post_init__(self):
        if self.coordinate not in COORDINATES:
            raise ValueError(f"unknown coordinate {self.coordinate!r}; there are {', '.join(COORDINATES)}")

    def table(self, grid: Grid) -> Table:
        """The coefficients of each step: those of Euler, and those of the change of x_0 and epsilon in the step."""
        alpha_t, sigma_t, alpha_s, sigma_s = _ends(grid)
        second = sigma_s > 0
        d_x0, d_epsilon = (alpha_s - alpha_t) / 2, (sigma_s - sigma_t) / 2
        if self.coordinate == "ratio":  # at zero SNR x / alpha is infinite, so that step stays an Euler step
            second &= alpha_t > 0
            signal = np.where(alpha_t > 0, alpha_t, 1.0)
            d_x0, d_epsilon = np.zeros_like(alpha_t), (sigma_s - sigma_t * alpha_s / signal) / 2
        return {"x0": alpha_s, "epsilon": sigma_s, "d_x0": d_x0, "d_epsilon": d_epsilon, "second": 1.0 * second}

    def __call__(self, row: dict[str, Array], view: View) -> Images:
        """The images x_s at node s."""
        here = view.here
        euler = row["x0"] * here.x0 + row["epsilon"] * here.epsilon

        def corrected():
            there = view.ahead(euler)
            return euler + row["d_x0"] * (there.x0 - here.x0) + row["d_epsilon"] * (there.epsilon - here.epsilon)

        return jax.lax.cond(row["second"] > 0, corrected, lambda: euler)


@dataclasses.dataclass(frozen=True)
class DPMSolverPP2MStep:
    """DPM-Solver++(2M), midpoint form (Lu et al. 2022b, algorithm 2): second order from one evaluation in each step.

    With lambda = log(alpha / sigma) and h its growth over the step,

        x_s = sigma_s/sigma_t x_t + (alpha_s - sigma_s alpha_t/sigma_t) (x_0 + h / (2 h_before) (x_0 - x_0_before))

    The first step and the step to the data are of first order (as in diffusers).
    """

    def table(self, grid: Grid) -> Table:
        """The coefficients of each step."""
        alpha_t, sigma_t, alpha_s, sigma_s = _ends(grid)
        with np.errstate(divide="ignore"):  # the growth is infinite in a step from zero SNR and in the step to the data
            growth = np.diff(np.log(grid.alpha) - np.log(grid.sigma))
        ratio = np.zeros_like(growth)
        inner = np.isfinite(growth[1:])
        ratio[1:][inner] = growth[1:][inner] / growth[:-1][inner]
        return {
            "x": sigma_s / sigma_t,
            "x0": alpha_s - sigma_s * alpha_t / sigma_t,
            "extrapolate": ratio / 2,
        }

    def __call__(self, row: dict[str, Array], view: View) -> Images:
        """The images x_s at node s."""
        x0 = view.here.x0 + row["extrapolate"] * (view.here.x0 - view.before)
        return row["x"] * view.x + row["x0"] * x0


Step = AncestralStep | DDIMStep | HeunStep | DPMSolverPP2MStep


class Path(NamedTuple):
    """The path of a sampler, one entry for each step: the noisy images at its start and the x0 predicted from them."""

    xt: Float[Array, "S batch height width channel"]
    x0: Float[Array, "S batch height width channel"]


STEPS: dict[str, Callable[..., Any]] = {
    "ancestral": AncestralStep,
    "ddim": DDIMStep,
    "euler": DDIMStep,
    "heun": HeunStep,
    "heun_ratio": functools.partial(HeunStep, "ratio"),
    "dpmpp_2m": DPMSolverPP2MStep,
}


def per_example_normal(
    keys: Key[Array, " batch"], salt: int | Integer[Array, ""], shape: tuple[int, ...]
) -> Float[Array, "batch ..."]:
    """Standard normal noise of `shape` for each example, from the example's key folded with `salt`."""
    return jax.vmap(lambda key: jax.random.normal(jax.random.fold_in(key, salt), shape))(keys)


def integrate(
    predict: Callable[[Images, Float[Array, " batch"]], Output],
    step: Step,
    grid: Grid,
    start: Images,
    keys: Key[Array, " batch"],
    *,
    parameterization: str = "epsilon",
    clip: float | None = 1.0,
) -> tuple[Images, Path]:
    """Moves `start`, images at the first node of `grid`, to the last node in one `lax.scan`.

    Args:
      predict: the denoiser's output at (x, time).
      keys: one key for each example. All noise of an example comes from its key, so image i does not depend on the
        other images of its batch.
      parameterization: the target that the denoiser predicts.
      clip: x0 is clipped to [-clip, clip] at every node, and epsilon follows from the clipped x0; None clips nothing.

    Returns:
      The images, and the path to them. Under jit, a caller that drops the path pays nothing for it.

    Raises:
      ValueError: the grid has no steps, or its noise does not fall from node to node.
    """
    if grid.steps < 1 or not (grid.alpha[1:] * grid.sigma[:-1] > grid.alpha[:-1] * grid.sigma[1:]).all():
        raise ValueError("a sampling grid needs two or more nodes, each with less noise than the node before it")
    nodes = {name: jnp.asarray(values, start.dtype) for name, values in grid._asdict().items()}
    rows = {
        "step": {name: jnp.asarray(values, start.dtype) for name, values in step.table(grid).items()},
        "here": {name: values[:-1] for name, values in nodes.items()},
        "ahead": {name: values[1:] for name, values in nodes.items()},
        "salt": START_SALT + 1 + jnp.arange(grid.steps),
    }

    def denoise(x, node):
        output = predict(x, jnp.full(x.shape[0], node["time"]))
        return denoised(parameterization, output, x, node["alpha"], node["sigma"], clip)

    def body(carry, row):
        x, before = carry
        here = denoise(x, row["here"])
        noise = per_example_normal(keys, row["salt"], x.shape[1:])
        view = View(x, here, before, noise, lambda images: denoise(images, row["ahead"]))
        return (step(row["step"], view), here.x0), Path(x, here.x0)

    (images, _), path = jax.lax.scan(body, (start, jnp.zeros_like(start)), rows)
    return images, path


def sample(
    predict: Callable[[Images, Float[Array, " batch"]], Output],
    step: Step,
    grid: Grid,
    keys: Key[Array, " batch"],
    shape: tuple[int, int, int],
    *,
    parameterization: str = "epsilon",
    clip: float | None = 1.0,
    start_std: float = 1.0,
) -> tuple[Images, Path]:
    """Draws one image of `shape` (height, width, channel) for each key: `integrate` from noise of std `start_std`."""
    start = start_std * per_example_normal(keys, START_SALT, shape)
    return integrate(predict, step, grid, start, keys, parameterization=parameterization, clip=clip)
