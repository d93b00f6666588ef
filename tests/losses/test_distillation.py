import jax
import jax.numpy as jnp
import numpy as np
from scipy.special import log_softmax, softmax

from genmodels.losses.distillation import hard_loss, soft_loss

STUDENT, TEACHER = (3 * jax.random.normal(jax.random.key(i), (6, 5)) for i in range(2))


def test_soft_loss_is_the_divergence_between_softened_distributions():
    p, log_q = softmax(np.asarray(TEACHER) / 3, -1), log_softmax(np.asarray(STUDENT) / 3, -1)
    np.testing.assert_allclose(soft_loss(STUDENT, TEACHER, 3.0), 9 * (p * (np.log(p) - log_q)).sum(-1), rtol=1e-4)
    np.testing.assert_allclose(soft_loss(TEACHER, TEACHER + 7, 3.0), 0, atol=1e-5)


def test_the_gradient_of_the_soft_loss_is_the_papers_and_at_high_temperature_matches_logits():
    """Hinton et al. 2015, equations 2 and 4, times T^2: T (q - p), and (z - v) / classes for zero-mean logits."""
    grad = jax.grad(lambda z, t: soft_loss(z, TEACHER, t).sum())
    for temperature in (1.0, 4.0):
        wanted = temperature * (softmax(STUDENT / temperature, -1) - softmax(TEACHER / temperature, -1))
        np.testing.assert_allclose(grad(STUDENT, temperature), wanted, atol=1e-4)
    z, v = (x - x.mean(-1, keepdims=True) for x in (STUDENT, TEACHER))
    np.testing.assert_allclose(grad(STUDENT, 300.0), (z - v) / 5, atol=0.02)


def test_hard_loss_depends_on_the_teachers_decision_only():
    wanted = -log_softmax(np.asarray(STUDENT), -1)[np.arange(6), np.argmax(TEACHER, -1)]
    np.testing.assert_allclose(hard_loss(STUDENT, TEACHER), wanted, rtol=1e-5)
    np.testing.assert_array_equal(hard_loss(STUDENT, TEACHER), hard_loss(STUDENT, 10 * jnp.asarray(TEACHER)))
