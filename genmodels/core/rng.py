"""Random keys: whatever is random for an example comes from that example's own key.

    a step's key     folded with an example's index                 -> the example's key
                     folded with a stream, which no index reaches   -> what is random but belongs to no example
    an example's key folded with a salt, one for each purpose       -> one draw: its noise, its latent, ...

The random numbers of an example then depend neither on the other examples of the batch nor on how the batch is split
over devices.

The rule: a key is drawn from once and then serves nothing else, or it is a parent, which is split once or folded with a
different number for each purpose. A function that draws from a key must get a key of its own. A network draws from the
keys that it is called with, for dropout, so that each network of a step gets its own, too. Flax's `init` only folds.
`tests/tasks/test_random_keys.py` records every draw of every task and holds the rule.
"""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Integer, Key

# The key of a step or a seed is folded with these for what belongs to no example. They lie above the size of a batch.
AUGMENTATION_STREAM, CODEBOOK_STREAM, INIT_STREAM = 0x617567, 0x636F64, 0x696E69


def fold(keys: Key[Array, "*#shape"], data: int | Integer[Array, "*#shape"]) -> Key[Array, "..."]:
    """`jax.random.fold_in` for every pair of a key and a number; the two arrays broadcast against each other.

    `fold(keys, constant)` derives a key of every example for one purpose; `fold(key, example_ids)` derives a key for
    each example from one key.
    """
    return jnp.vectorize(jax.random.fold_in)(keys, data)
