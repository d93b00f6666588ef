"""The variational bound of a DDPM in bits per dimension, term by term (DDPM eq. 5; Improved DDPM section 2).

    -log p(x_0) <= L_T + sum_{t=1}^{T-1} L_t + L_0              (t counts as in `schedules`: L_0 is the step t = 0)
        L_T = KL(q(x_T | x_0) || N(0, I))                       prior
        L_t = KL(q(x_{t-1} | x_t, x_0) || p(x_{t-1} | x_t))     denoising, closed-form between Gaussians
        L_0 = -log p(x_0 | x_1)                                 Gaussian mass of one of 256 levels (DDPM eq. 13)

The model's variance is fixed_small (posterior), fixed_large (beta), or learned_range: exp of v log beta + (1 - v) log
posterior. At t = 0 the posterior variance is 0; fixed_small and learned_range take that of t = 1 in its place, and so
does fixed_large there (both papers' code). The levels are k / 127.5 - 1; integrals use the exact normal CDF, where that
code has a tanh approximation.
"""

import dataclasses
import functools
import math
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Integer, Key

from genmodels.diffusion import parameterization, process
from genmodels.diffusion.parameterization import Output
from genmodels.diffusion.samplers import VARIANCES
from genmodels.diffusion.schedules import Schedule

Images = Float[Array, "batch height width channel"]
Steps = Integer[Array, " batch"]
PerExample = Float[Array, " batch"]
Real = Array | float

LEVEL = 2 / 255  # distance of neighbouring grey levels in [-1, 1]


def to_bits(nats: Images) -> PerExample:
    """Mean over dimensions of elementwise nats, in bits."""
    return jnp.mean(nats, axis=(1, 2, 3)) / math.log(2)


def normal_kl(mean1: Real, log_variance1: Real, mean2: Real, log_variance2: Real) -> Array:
    """KL(N(mean1, exp log_variance1) || N(mean2, exp log_variance2)), elementwise, in nats."""
    return 0.5 * (
        log_variance2
        - log_variance1
        + jnp.exp(log_variance1 - log_variance2)
        - 1
        + jnp.square(mean1 - mean2) * jnp.exp(-log_variance2)
    )


def discretized_gaussian_nll(x: Images, mean: Images, log_std: Array) -> Images:
    """-log of the mass that N(mean, std^2) puts on the grey level of `x`, elementwise, in nats.

    The first and last level reach to infinity, so the 256 masses sum to 1. Computed from log CDFs on the side of the
    mean where they do not cancel, so tails many standard deviations out stay finite.
    """
    inverse = jnp.exp(-log_std)
    upper, lower = (x - mean + LEVEL / 2) * inverse, (x - mean - LEVEL / 2) * inverse
    flip = upper + lower > 0  # mass right of the mean is the mirrored mass left of it
    high, low = jnp.where(flip, -lower, upper), jnp.where(flip, -upper, lower)
    edge = 1 - LEVEL / 4
    first, last = x < -edge, x > edge
    log_high, log_low = jax.scipy.stats.norm.logcdf(high), jax.scipy.stats.norm.logcdf(low)
    gap = jnp.minimum(log_low - log_high, -1e-7)  # equal only where float32 cannot tell; keeps gradients finite
    inner = log_high + jnp.log(-jnp.expm1(gap))
    outer = jnp.where(first, jax.scipy.stats.norm.logcdf(upper), jax.scipy.stats.norm.logcdf(-lower))
    return -jnp.where(first | last, outer, inner)


class Terms(NamedTuple):
    """The parts of the bound in bits per dimension; `steps` times 1 at most T entries.

    Attributes:
      total: L_T + sum L_t + L_0, or an unbiased estimate of it.
      prior: L_T.
      steps: L_t at the steps in `time`.
      time: which steps those are.
    """

    total: PerExample
    prior: PerExample
    steps: Float[Array, "batch S"]
    time: Float[Array, "batch S"]


@dataclasses.dataclass(frozen=True, eq=False)
class Bound:
    """The bound of a model with this schedule and variance.

    Attributes:
      variance: fixed_small, fixed_large or learned_range.
      kind: parameterization of the network's prediction.
      clip: x_0 to [-clip, clip], as when sampling; None is off (the training loss).
    Raises:
      ValueError: an unknown variance, or a schedule of one step.
    """

    schedule: Schedule
    variance: str
    kind: str
    clip: float | None = None

    def __post_init__(self):
        if self.variance not in VARIANCES:
            raise ValueError(f"unknown variance {self.variance!r}; there are {', '.join(VARIANCES)}")
        if self.schedule.num_steps < 2:
            raise ValueError("the variational bound needs a schedule of two or more steps")

    @functools.cached_property
    def _table(self) -> dict[str, np.ndarray]:
        """Per-step coefficients in float32, [T]."""
        alpha, sigma = self.schedule.alpha, self.schedule.sigma
        q = process.posterior(alpha, sigma, np.append(1.0, alpha[:-1]), np.append(0.0, sigma[:-1]))
        log_small = np.log(np.append(q.variance[1], q.variance[1:]))
        log_large = np.log(q.beta)
        if self.variance == "fixed_large":
            log_large = np.append(log_small[0], log_large[1:])
        table = {
            "x0": q.x0_coefficient,
            "xt": q.xt_coefficient,
            "log_small": log_small,
            "log_large": log_large,
            "alpha": alpha,
            "sigma": sigma,
        }
        return {name: values.astype(np.float32) for name, values in table.items()}

    def prior(self, x0: Images) -> PerExample:
        """L_T in bits per dimension."""
        last = self.schedule.alphas_cumprod[-1]
        variance = np.float64(1 - last)
        zeros = jnp.zeros_like(x0)
        return to_bits(normal_kl(float(np.sqrt(last)) * x0, zeros + float(np.log(variance)), zeros, zeros))

    def step(self, output: Output, x0: Images, xt: Images, t: Steps) -> PerExample:
        """L_t of every example at its own step (L_0 where t = 0), in bits per dimension."""
        row = {name: jnp.asarray(values)[t][:, None, None, None] for name, values in self._table.items()}
        denoised = parameterization.denoised(self.kind, output, xt, row["alpha"], row["sigma"], self.clip)
        if self.variance == "learned_range":
            f = (output.fraction + 1) / 2
            log_variance = f * row["log_large"] + (1 - f) * row["log_small"]
        else:
            log_variance = row["log_small" if self.variance == "fixed_small" else "log_large"]
        # The means differ only through x_0: subtracting them would lose their digits.
        difference = row["x0"] * (x0 - denoised.x0)
        kl = to_bits(normal_kl(difference, row["log_small"], 0.0, log_variance))
        mean = row["x0"] * denoised.x0 + row["xt"] * xt
        decoder = to_bits(discretized_gaussian_nll(x0, mean, jnp.broadcast_to(0.5 * log_variance, x0.shape)))
        return jnp.where(t == 0, decoder, kl)

    def evaluate(
        self,
        predict: Callable[[Images, Float[Array, " batch"]], Output],
        x0: Images,
        keys: Key[Array, " batch"],
        strata: int = 0,
    ) -> Terms:
        """The bound of each image, one draw of noise a term.

        Args:
          x0: images at the 256 levels, in [-1, 1].
          strata: 0 evaluates all T steps. Else step 0, and in each of this many parts of 1 .. T-1, finest where t is
            small, one step drawn for every image, which stands for its part: an unbiased estimate.
        Raises:
          ValueError: more strata than steps.
        """
        num = self.schedule.num_steps
        if not 0 <= strata < num:
            raise ValueError(f"strata must be from 0 (all steps) to {num - 1}, got {strata}")
        edges = 1 + np.arange(num)
        if strata:  # in geometric progression, as the terms fall off roughly as 1/t; single steps while those are finer
            edges = np.maximum(np.round(np.geomspace(1, num, strata + 1)).astype(int), edges[: strata + 1])
        low = jnp.asarray(np.append(0, edges[:-1]))
        size = jnp.asarray(np.append(1, np.diff(edges)))
        alpha, sigma = (jnp.asarray(self._table[name]) for name in ("alpha", "sigma"))

        def one(part):
            index, first, count = part
            salted = jax.vmap(jax.random.fold_in, (0, None))(keys, index)
            t_key, noise_key = (jax.vmap(jax.random.fold_in, (0, None))(salted, i) for i in range(2))
            t = first + jax.vmap(lambda key: jax.random.randint(key, (), 0, count))(t_key)
            noise = jax.vmap(lambda key: jax.random.normal(key, x0.shape[1:]))(noise_key)
            xt = alpha[t][:, None, None, None] * x0 + sigma[t][:, None, None, None] * noise
            return self.step(predict(xt, t.astype(jnp.float32)), x0, xt, t), t.astype(jnp.float32)

        steps, time = jax.lax.map(one, (jnp.arange(len(low)), low, size))
        prior = self.prior(x0)
        total = prior + jnp.sum(steps * size[:, None], axis=0)
        return Terms(total, prior, steps.T, time.T)
