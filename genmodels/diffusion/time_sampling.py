"""The times that training draws: uniform or logit-normal quantiles, or importance sampling by past losses.

    uniform       u ~ U[0, 1)
    logit_normal  u = 1 / (1 + exp(-(mean + std z))), z ~ N(0, 1)                  Esser et al. 2024, section 3.1
    importance    p_t ~ sqrt(E[L_t^2]), the loss of step t weighted by 1 / (T p_t)  Nichol & Dhariwal 2021, eq. 18

The process maps the quantile u to a time. Each example's draw comes from its own key.
"""

import dataclasses

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Integer, Key

Quantiles = Float[Array, " batch"]
History = dict[str, Array]  # "losses": float [T, history]; "counts": int [T], the number of losses so far

TIME_SAMPLINGS = ("uniform", "logit_normal", "importance")
ALMOST_ONE = 1 - 2.0**-24  # the largest float32 below 1


def uniform(keys: Key[Array, " batch"]) -> Quantiles:
    """Uniform in [0, 1)."""
    return jax.vmap(jax.random.uniform)(keys)


def logit_normal(keys: Key[Array, " batch"], mean: float = 0.0, std: float = 1.0) -> Quantiles:
    """The logistic function of N(mean, std^2), strictly below 1."""
    z = jax.vmap(jax.random.normal)(keys)
    return jnp.minimum(jax.nn.sigmoid(mean + std * z), ALMOST_ONE)


@dataclasses.dataclass(frozen=True)
class ImportanceSampler:
    """Draws each step with a probability proportional to the root mean square of its last losses.

    Draws are uniform until every step has a full history.

    Attributes:
      num_steps: T.
      history: the number of losses that are kept for each step (10 in the paper).
      uniform_share: the share of draws that stay uniform, so that every step is drawn now and then.
    """

    num_steps: int
    history: int = 10
    uniform_share: float = 0.001

    def init(self) -> History:
        """An empty history."""
        return {
            "losses": jnp.zeros((self.num_steps, self.history), jnp.float32),
            "counts": jnp.zeros(self.num_steps, jnp.int32),
        }

    def probabilities(self, state: History) -> Float[Array, " T"]:
        """p_t; the sum over all steps is 1."""
        rms = jnp.sqrt(jnp.mean(jnp.square(state["losses"]), axis=1))
        total = jnp.sum(rms)
        learned = (1 - self.uniform_share) * rms / jnp.where(total > 0, total, 1) + self.uniform_share / self.num_steps
        warm = jnp.all(state["counts"] >= self.history) & (total > 0)
        return jnp.where(warm, learned, 1 / self.num_steps)

    def draw(
        self, state: History, keys: Key[Array, " batch"]
    ) -> tuple[Integer[Array, " batch"], Float[Array, " batch"]]:
        """One step for each key, and the weights 1 / (T p_t), which make the expected loss that of uniform draws."""
        p = self.probabilities(state)
        steps = jnp.searchsorted(jnp.cumsum(p), uniform(keys), side="right")
        steps = jnp.minimum(steps, self.num_steps - 1)
        return steps, 1 / (self.num_steps * p[steps])

    def update(self, state: History, steps: Integer[Array, " rows"], losses: Float[Array, " rows"]) -> History:
        """The history after the unweighted losses of a global batch; the last of each step are kept."""
        same = steps[:, None] == steps[None, :]
        rank = jnp.sum(jnp.tril(same, -1), axis=1)  # the number of earlier rows with the same step
        later = jnp.sum(jnp.triu(same, 1), axis=1)
        slot = (state["counts"][steps] + rank) % self.history
        rows = jnp.where(later < self.history, steps, self.num_steps)  # an index out of range drops the loss
        return {
            "losses": state["losses"].at[rows, slot].set(losses, mode="drop"),
            "counts": state["counts"].at[steps].add(1),
        }
