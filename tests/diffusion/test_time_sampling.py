import jax
import jax.numpy as jnp
import numpy as np
from scipy import stats

from genmodels.diffusion.time_sampling import ImportanceSampler, logit_normal, uniform
from tests.diffusion.gaussian import keys_for


def test_quantiles_have_their_distributions():
    keys = keys_for(20_000)
    assert stats.kstest(np.asarray(uniform(keys)), "uniform").pvalue > 1e-3
    u = np.asarray(logit_normal(keys, -0.5, 1.5))
    assert stats.kstest(np.log(u / (1 - u)), stats.norm(-0.5, 1.5).cdf).pvalue > 1e-3
    assert logit_normal(keys, 30.0).max() < 1


def by_hand(history, steps, losses, num, keep):
    """The window of the newest losses of each step, as lists."""
    for step, loss in zip(steps, losses, strict=True):
        history[int(step)] = [*history[int(step)], float(loss)][-keep:]
    return history


def test_the_history_is_a_window_of_the_newest_losses():
    sampler = ImportanceSampler(num_steps=5, history=3)
    state, wanted, rng = sampler.init(), {t: [] for t in range(5)}, np.random.default_rng(0)
    for _ in range(6):
        steps, losses = rng.integers(0, 5, 16), rng.uniform(0, 2, 16).astype(np.float32)
        state = jax.jit(sampler.update)(state, jnp.asarray(steps), jnp.asarray(losses))
        wanted = by_hand(wanted, steps, losses, 5, 3)
        for t in range(5):
            found = np.asarray(state["losses"][t])
            assert sorted(found[found > 0]) == sorted(np.float32(wanted[t]))


def test_probabilities_are_uniform_until_every_step_is_known_and_then_follow_the_root_mean_square():
    sampler = ImportanceSampler(num_steps=4, history=2, uniform_share=0.1)
    state = sampler.update(sampler.init(), jnp.array([0, 0, 1, 1, 2, 2, 3]), jnp.array([1.0, 1, 2, 2, 3, 3, 4]))
    np.testing.assert_allclose(sampler.probabilities(state), 0.25)
    state = sampler.update(state, jnp.array([3]), jnp.array([3.0]))
    rms = np.array([1, 2, 3, np.sqrt(12.5)])
    np.testing.assert_allclose(sampler.probabilities(state), 0.9 * rms / rms.sum() + 0.1 / 4, rtol=1e-6)


def test_weights_make_the_expected_loss_that_of_uniform_draws():
    sampler = ImportanceSampler(num_steps=6, history=1)
    losses = jnp.array([5.0, 1.0, 0.5, 0.2, 0.1, 0.05])
    state = sampler.update(sampler.init(), jnp.arange(6), losses)
    steps, weights = jax.jit(sampler.draw)(state, keys_for(50_000))
    counts = np.bincount(np.asarray(steps), minlength=6) / 50_000
    np.testing.assert_allclose(counts, sampler.probabilities(state), atol=0.01)
    # with draws in proportion to the loss every weighted loss is the same, up to the uniform share
    weighted = np.asarray(weights * losses[steps])
    np.testing.assert_allclose(weighted.mean(), losses.mean(), rtol=0.01)
    assert weighted.std() < 0.1 * losses.std()
