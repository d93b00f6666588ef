"""The transformer encoder block (Vaswani et al. 2017), with pre-norm and GELU as in ViT (Dosovitskiy et al. 2021)."""

import jax.numpy as jnp
from flax import linen as nn
from flax.typing import Dtype
from jaxtyping import Array, Key

from genmodels.nn.attention import SelfAttention, Tokens
from genmodels.nn.norms import LayerNorm
from genmodels.nn.stochastic import Dropout, StochasticDepth

Keys = Key[Array, " batch"] | None
KERNEL_INIT = nn.initializers.xavier_uniform()


class Mlp(nn.Module):
    """Dense, GELU (exact, by erf), dropout, dense; the output has the width of the input.

    Attributes:
      hidden: width of the hidden layer.
      dropout: probability, in [0, 1).
      dtype: of the computation.
    """

    hidden: int
    dropout: float
    dtype: Dtype

    @nn.compact
    def __call__(self, x: Tokens, keys: Keys) -> Tokens:
        """Maps each token independently; dropout is on if `keys` are given."""
        h = nn.Dense(self.hidden, dtype=self.dtype, kernel_init=KERNEL_INIT, name="in")(x)
        h = Dropout(self.dropout, name="dropout")(nn.gelu(h, approximate=False), keys)
        return nn.Dense(x.shape[-1], dtype=self.dtype, kernel_init=KERNEL_INIT, name="out")(h)


class EncoderBlock(nn.Module):
    """x + attention(norm(x)), then x + mlp(norm(x)).

    Attributes:
      heads: number of attention heads; it must divide the width of the tokens.
      hidden: width of the MLP's hidden layer.
      dropout: probability, for the output of each branch and within the MLP.
      stochastic_depth: probability that a branch is left out.
      norm_epsilon: of the layer norms.
      attention: implementation, see `nn.attention.attend`.
      dtype: of the computation; norms and softmax stay float32.
    """

    heads: int
    hidden: int
    dropout: float = 0.0
    stochastic_depth: float = 0.0
    norm_epsilon: float = 1e-6
    attention: str = "xla"
    dtype: Dtype = jnp.float32

    @nn.compact
    def __call__(self, x: Tokens, keys: Keys = None) -> Tokens:
        """Tokens of the same shape; dropout and stochastic depth are on if `keys` are given."""

        def add(x, branch, name):
            branch = Dropout(self.dropout, name=f"dropout_{name}")(branch, keys)
            return x + StochasticDepth(self.stochastic_depth, name=f"depth_{name}")(branch, keys)

        def norm(name):
            return LayerNorm(self.norm_epsilon, name=name)

        attention = SelfAttention(self.heads, self.dtype, self.attention, KERNEL_INIT, name="attention")
        x = add(x, attention(norm("norm_attention")(x)), "attention")
        mlp = Mlp(self.hidden, self.dropout, self.dtype, name="mlp")
        return add(x, mlp(norm("norm_mlp")(x), keys), "mlp")


def depth_rates(last: float, depth: int) -> tuple[float, ...]:
    """The stochastic-depth probability of each block, rising linearly from 0 to `last` (Huang et al. 2016, equation 4).

    The first block has probability 0, as in DeiT; in the paper the line starts at the network's input instead.
    """
    return tuple(last * block / max(1, depth - 1) for block in range(depth))
