"""The variational bound of a DDPM in bits per dimension, term by term (DDPM eq. 5; Improved DDPM section 2).

    -log p(x_0) <= L_T + sum_{t=1}^{T-1} L_t + L_0              (t as in `schedules`: L_0 is the step t = 0)
        L_T = KL(q(x_T | x_0) || N(0, I))                       prior
        L_t = KL(q(x_{t-1} | x_t, x_0) || p(x_{t-1} | x_t))     denoising, closed-form between Gaussians
        L_0 = -log p(x_0 | x_1)                                 Gaussian mass of one of 256 levels (DDPM eq. 13)

The model's variance is fixed_small (the posterior variance), fixed_large (beta), or learned_range:
exp(v log beta + (1 - v) log posterior). At t = 0 the posterior variance is 0, so that of t = 1 is used instead; so it
is for fixed_large at t = 0. The code of both papers does the same. The levels are k / 127.5 - 1. Integrals use the
exact normal CDF, where that code has a tanh approximation.
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

from genmodels.diffusion.parameterization import Output, denoised
from genmodels.diffusion.process import posterior
from genmodels.diffusion.samplers import VARIANCES
from genmodels.diffusion.schedules import Schedule

Images = Float[Array, "batch height width channel"]
Steps = Integer[Array, " batch"]
PerExample = Float[Array, " batch"]
Real = Array | float

LEVEL = 2 / 255  # the distance between neighbouring grey levels in [-1, 1]


def to_bits(nats: Images) -> PerExample:
    """Bits per dimension of each image, from elementwise nats."""
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

    The first and last level extend to infinity, so the 256 masses sum to 1. The mass is computed from log CDFs on the
    side of the mean where they do not cancel, so it stays finite many standard deviations away from the mean.
    """
    inverse = jnp.exp(-log_std)
    upper, lower = (x - mean + LEVEL / 2) * inverse, (x - mean - LEVEL / 2) * inverse
    flip = upper + lower > 0  # the mass right of the mean equals the mirrored mass left of it
    high, low = jnp.where(flip, -lower, upper), jnp.where(flip, -upper, lower)
    edge = 1 - LEVEL / 4
    first, last = x < -edge, x > edge
    log_high, log_low = jax.scipy.stats.norm.logcdf(high), jax.scipy.stats.norm.logcdf(low)
    gap = jnp.minimum(log_low - log_high, -1e-7)  # float32 may round it to 0, where gradients are infinite
    inner = log_high + jnp.log(-jnp.expm1(gap))
    outer = jnp.where(first, jax.scipy.stats.norm.logcdf(upper), jax.scipy.stats.norm.logcdf(-lower))
    return -jnp.where(first | last, outer, inner)


class Terms(NamedTuple):
    """The parts of the bound of each image, in bits per dimension.

    Attributes:
      total: L_T + sum L_t + L_0, or an unbiased estimate of it.
      prior: L_T.
      steps: L_t at the S steps that were evaluated.
      time: the numbers t of these steps.
    """

    total: PerExample
    prior: PerExample
    steps: Float[Array, "batch S"]
    time: Float[Array, "batch S"]


@dataclasses.dataclass(frozen=True, eq=False)
class Bound:
    """The variational bound for one schedule, variance and parameterization.

    Attributes:
      variance: fixed_small, fixed_large or learned_range.
      parameterization: the target that the network predicts.
      clip: predictions of x_0 are clipped to [-clip, clip], as in sampling; None leaves them alone, as in training.
    Raises:
      ValueError: the variance is unknown, or the schedule has only one step.
    """

    schedule: Schedule
    variance: str
    parameterization: str
    clip: float | None = None

    def __post_init__(self):
        if self.variance not in VARIANCES:
            raise ValueError(f"unknown variance {self.variance!r}; there are {', '.join(VARIANCES)}")
        if self.schedule.num_steps < 2:
            raise ValueError("the variational bound needs a schedule of two or more steps")

    @functools.cached_property
    def _table(self) -> dict[str, np.ndarray]:
        """The coefficients of each step, float32 of shape [T]."""
        alpha, sigma = self.schedule.alpha, self.schedule.sigma
        q = posterior(alpha, sigma, np.append(1.0, alpha[:-1]), np.append(0.0, sigma[:-1]))
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
        """L_T of each image, in bits per dimension."""
        last = self.schedule.alphas_cumprod[-1]
        variance = np.float64(1 - last)
        zeros = jnp.zeros_like(x0)
        return to_bits(normal_kl(float(np.sqrt(last)) * x0, zeros + float(np.log(variance)), zeros, zeros))

    def step(self, output: Output, x0: Images, xt: Images, t: Steps) -> PerExample:
        """L_t of each image at its step t (L_0 where t = 0), in bits per dimension.

        Raises:
          ValueError: the variance is learned_range, but the network does not predict its variance.
        """
        row = {name: jnp.asarray(values)[t][:, None, None, None] for name, values in self._table.items()}
        x0_prediction = denoised(self.parameterization, output, xt, row["alpha"], row["sigma"], self.clip).x0
        if self.variance == "learned_range":
            if output.fraction is None:
                raise ValueError("variance=learned_range needs a network trained to predict its variance")
            f = (output.fraction + 1) / 2
            log_variance = f * row["log_large"] + (1 - f) * row["log_small"]
        else:
            log_variance = row["log_small" if self.variance == "fixed_small" else "log_large"]
        # The two means differ only through x_0. Subtracting the means themselves would cancel most digits.
        difference = row["x0"] * (x0 - x0_prediction)
        kl = to_bits(normal_kl(difference, row["log_small"], 0.0, log_variance))
        mean = row["x0"] * x0_prediction + row["xt"] * xt
        decoder = to_bits(discretized_gaussian_nll(x0, mean, jnp.broadcast_to(0.5 * log_variance, x0.shape)))
        return jnp.where(t == 0, decoder, kl)

    def evaluate(
        self,
        predict: Callable[[Images, Float[Array, " batch"]], Output],
        x0: Images,
        keys: Key[Array, " batch"],
        strata: int = 0,
    ) -> Terms:
        """The bound of each image, with one draw of noise for each term.

        Args:
          predict: the denoiser's output at (x_t, t).
          x0: images at the 256 levels, in [-1, 1].
          keys: one key for each image.
          strata: 0 evaluates all T steps. Otherwise the steps 1 .. T-1 are divided into this many intervals, finest
            where t is small. Step 0 and one random step from each interval are evaluated; weighted by the length of
            the interval they give an unbiased estimate.
        Raises:
          ValueError: there are more strata than steps.
        """
        num_steps = self.schedule.num_steps
        if not 0 <= strata < num_steps:
            raise ValueError(f"strata={strata} must be within [0, {num_steps - 1}]; 0 evaluates all steps")
        edges = 1 + np.arange(num_steps)
        if strata:  # a geometric progression, as the terms fall roughly as 1/t; each interval has a step
            edges = np.maximum(np.round(np.geomspace(1, num_steps, strata + 1)).astype(int), edges[: strata + 1])
        low = jnp.asarray(np.append(0, edges[:-1]))
        size = jnp.asarray(np.append(1, np.diff(edges)))
        alpha, sigma = (jnp.asarray(self._table[name]) for name in ("alpha", "sigma"))

        def term(interval):
            index, first, count = interval

            def draw(key):
                t_key, noise_key = (jax.random.fold_in(jax.random.fold_in(key, index), i) for i in range(2))
                return first + jax.random.randint(t_key, (), 0, count), jax.random.normal(noise_key, x0.shape[1:])

            t, noise = jax.vmap(draw)(keys)
            xt = alpha[t][:, None, None, None] * x0 + sigma[t][:, None, None, None] * noise
            return self.step(predict(xt, t.astype(jnp.float32)), x0, xt, t), t.astype(jnp.float32)

        steps, time = jax.lax.map(term, (jnp.arange(len(low)), low, size))
        prior = self.prior(x0)
        total = prior + jnp.sum(steps * size[:, None], axis=0)
        return Terms(total, prior, steps.T, time.T)
