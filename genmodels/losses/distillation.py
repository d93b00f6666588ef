"""Learning from a teacher's logits (Hinton et al. 2015; hard labels as in DeiT, Touvron et al. 2021, equation 3)."""

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float

Logits = Float[Array, "batch classes"]
Losses = Float[Array, " batch"]


def soft_loss(student: Logits, teacher: Logits, temperature: float) -> Losses:
    """T^2 KL(softmax(teacher / T) || softmax(student / T)) of each example, in nats.

    It has the same gradient as the paper's cross-entropy. The factor T^2 keeps the size of the gradient independent of
    the temperature (section 2).
    """
    log_student, log_teacher = (jax.nn.log_softmax(logits / temperature) for logits in (student, teacher))
    return temperature**2 * jnp.sum(jnp.exp(log_teacher) * (log_teacher - log_student), axis=-1)


def hard_loss(student: Logits, teacher: Logits) -> Losses:
    """Cross-entropy of the student with the teacher's most likely class, for each example, in nats."""
    return optax.softmax_cross_entropy_with_integer_labels(student, jnp.argmax(teacher, axis=-1))
