"""Samplers: a step object says how x_t becomes x_s; one scan takes every step.

Each step gets the clipped x0 and the epsilon re-derived from it, epsilon = (x_t - alpha_t x_0) / sigma_t.

    ancestral   x_s = c_0 x_0 + c_t x_t + sqrt(v) z                               DDPM algorithm 2, eq. 7
                v: fixed_small = posterior variance, fixed_large = beta           DDPM section 3.2
    DDIM        x_s = alpha_s x_0 + sqrt(sigma_s^2 - v) epsilon + sqrt(v) z       DDIM eq. 12
                v = eta^2 posterior variance                                      DDIM eq. 16

Both work on any decreasing sub-sequence of the training steps; after the last of them comes the data itself
(alphas_cumprod = 1), where no noise is added. DDIM with eta = 1 equals ancestral with fixed_small.
"""

import dataclasses
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Integer, Key

from genmodels.diffusion import parameterization, process
from genmodels.diffusion.schedules import Schedule

Images = Float[Array, "batch height width channel"]
Table = dict[str, np.ndarray]  # name -> float64 [S], one row a step

VARIANCES = ("fixed_small", "fixed_large")


@dataclasses.dataclass(frozen=True)
class AncestralStep:
    """A sample of the learned reverse process p(x_s | x_t) (DDPM)."""

    variance: str = "fixed_small"

    def __post_init__(self):
        if self.variance not in VARIANCES:
            raise ValueError(f"unknown variance {self.variance!r}; there are {', '.join(VARIANCES)}")

    def table(self, schedule: Schedule, t: np.ndarray, s: np.ndarray) -> Table:
        """Per-step coefficients for going from the steps `t` to the steps `s` (-1 is the data)."""
        q = process.posterior(schedule.alphas_cumprod_at(t), schedule.alphas_cumprod_at(s))
        variance = q.variance if self.variance == "fixed_small" else np.where(s < 0, 0.0, q.beta)
        return {"x0": q.x0_coefficient, "xt": q.xt_coefficient, "noise": np.sqrt(variance)}

    def __call__(self, row: dict[str, Array], xt: Images, x0: Images, epsilon: Images, noise: Images) -> Images:
        """x_s from x_t."""
        return row["x0"] * x0 + row["xt"] * xt + row["noise"] * noise


@dataclasses.dataclass(frozen=True)
class DDIMStep:
    """The implicit step: deterministic at eta = 0, ancestral at eta = 1 (Song et al. 2021)."""

    eta: float = 0.0

    def __post_init__(self):
        if not 0 <= self.eta <= 1:
            raise ValueError(f"eta must be between 0 and 1, got {self.eta}")

    def table(self, schedule: Schedule, t: np.ndarray, s: np.ndarray) -> Table:
        """Per-step coefficients for going from the steps `t` to the steps `s` (-1 is the data)."""
        prev = schedule.alphas_cumprod_at(s)
        variance = self.eta**2 * process.posterior(schedule.alphas_cumprod_at(t), prev).variance
        return {
            "x0": np.sqrt(prev),
            "epsilon": np.sqrt(np.maximum(1 - prev - variance, 0.0)),
            "noise": np.sqrt(variance),
        }

    def __call__(self, row: dict[str, Array], xt: Images, x0: Images, epsilon: Images, noise: Images) -> Images:
        """x_s from x_t."""
        return row["x0"] * x0 + row["epsilon"] * epsilon + row["noise"] * noise


class Path(NamedTuple):
    """What a sampler saw on its way, one entry a step: the noisy image it started from and the x0 predicted there."""

    xt: Float[Array, "S batch height width channel"]
    x0: Float[Array, "S batch height width channel"]


STEPS: dict[str, Callable[..., Any]] = {"ancestral": AncestralStep, "ddim": DDIMStep}


def per_example_normal(
    keys: Key[Array, " batch"], salt: int | Integer[Array, ""], shape: tuple[int, ...]
) -> Float[Array, "batch ..."]:
    """Standard normal noise of `shape` for every example, from that example's key folded with `salt`."""
    return jax.vmap(lambda key: jax.random.normal(jax.random.fold_in(key, salt), shape))(keys)


def sample(
    predict: Callable[[Images, Integer[Array, " batch"]], Images],
    step: AncestralStep | DDIMStep,
    schedule: Schedule,
    timesteps: Integer[np.ndarray, " S"],
    keys: Key[Array, " batch"],
    shape: tuple[int, int, int],
    *,
    kind: str = "epsilon",
    clip: float | None = 1.0,
) -> tuple[Images, Path]:
    """Draws one image per key, visiting `timesteps` in one `lax.scan`.

    Args:
      predict: network output at (x_t, t), of the parameterization `kind`.
      timesteps: strictly decreasing training steps, e.g. from `schedules.sampling_timesteps`.
      keys: one key an example. All of an example's noise comes from its own key, so image i does not depend on
        the batch it was drawn in.
      shape: (height, width, channel).
      clip: x0 is clipped to [-clip, clip] at every step and epsilon re-derived; None leaves both alone.

    Returns:
      The images, and the way to them. A caller that drops the latter pays nothing for it under jit.

    Raises:
      ValueError: timesteps not strictly decreasing within [0, T).
    """
    t = np.asarray(timesteps)
    if t.size == 0 or t.max() >= schedule.num_steps or t.min() < 0 or (np.diff(t) >= 0).any():
        raise ValueError(f"timesteps must decrease strictly within [0, {schedule.num_steps}), got {t.tolist()}")
    s = np.append(t[1:], -1)
    table = step.table(schedule, t, s) | {"alpha": schedule.alpha[t], "sigma": schedule.sigma[t]}
    rows = {name: jnp.asarray(values, jnp.float32) for name, values in table.items()}
    rows["t"] = jnp.asarray(t, jnp.int32)

    def body(xt, row):
        alpha, sigma = row["alpha"], row["sigma"]
        prediction = predict(xt, jnp.full(xt.shape[0], row["t"]))
        x0 = parameterization.to_x0(kind, prediction, xt, alpha, sigma)
        if clip is None:
            epsilon = parameterization.to_epsilon(kind, prediction, xt, alpha, sigma)
        else:
            x0 = jnp.clip(x0, -clip, clip)
            epsilon = parameterization.to_epsilon("x0", x0, xt, alpha, sigma)
        noise = per_example_normal(keys, row["t"], shape)
        return step(row, xt, x0, epsilon, noise), Path(xt, x0)

    start = per_example_normal(keys, schedule.num_steps, shape)
    return jax.lax.scan(body, start, rows)
