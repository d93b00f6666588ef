"""Learning from a teacher's logits (Hinton et al. 2015; hard labels as in DeiT, Touvron et al. 2021, equation 3)."""

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float

Logits = Float[Array, "batch classes"]
Losses = Float[Array, " batch"]


def soft_loss(student: Logits, teacher: Logits, temperature: float) -> Losses:
    """T^2 KL(softmax(teacher / T) || softmax(student / T)), nats.

    Its gradient is that of the paper's cross-entropy; T^2 keeps its size when the temperature changes (section 2).
    """
    ours, theirs = (jax.nn.log_softmax(logits / temperature) for logits in (student, teacher))
    return temperature**2 * jnp.sum(jnp.exp(theirs) * (theirs - ours), axis=-1)


def hard_loss(student: Logits, teacher: Logits) -> Losses:
    """Cross-entropy with the class that the teacher decides for, nats."""
    return optax.softmax_cross_entropy_with_integer_labels(student, jnp.argmax(teacher, axis=-1))
