"""Multi-head self-attention (Vaswani et al. 2017) over tokens, or over the positions of a feature map as in DDPM."""

import jax
from flax import linen as nn
from flax.typing import Dtype
from jaxtyping import Array, Float

from genmodels.nn.norms import GroupNorm

IMPLEMENTATIONS = ("xla", "cudnn")

Tokens = Float[Array, "batch tokens dim"]


def attend(query: Tokens, key: Tokens, value: Tokens, heads: int, implementation: str) -> Tokens:
    """softmax(q k^T / sqrt(d)) v in each head, with the softmax in float32.

    Args:
      query, key, value: [batch, tokens, heads * d], the heads side by side in the last axis.
      heads: number of heads; it must divide the last axis.
      implementation: "xla" runs everywhere; "cudnn" is the fused kernel, which needs an NVIDIA GPU and bfloat16.
    """
    split = lambda x: x.reshape(*x.shape[:2], heads, -1)  # noqa: E731
    out = jax.nn.dot_product_attention(  # type: ignore[call-overload]  # its literals come from configs, as strings
        split(query), split(key), split(value), implementation=implementation
    )
    return out.reshape(query.shape)


def check_attention(heads: int, width: int, implementation: str) -> None:
    """Raises ValueError if the number of heads does not divide the width, or if the implementation is unknown."""
    if width % heads:
        raise ValueError(f"{heads} attention heads do not divide {width} channels")
    if implementation not in IMPLEMENTATIONS:
        raise ValueError(f"unknown attention {implementation!r}; there are {', '.join(IMPLEMENTATIONS)}")


class SelfAttention(nn.Module):
    """project(attention(x)) of tokens, without norm and residual connection.

    Attributes:
      heads: number of heads; it must divide the width of the tokens.
      dtype: of the computation.
      implementation: see `attend`.
      kernel_init: of the four dense layers.
    Raises:
      ValueError: see `check_attention`.
    """

    heads: int
    dtype: Dtype
    implementation: str = "xla"
    kernel_init: nn.initializers.Initializer = nn.initializers.xavier_uniform()

    @nn.compact
    def __call__(self, x: Tokens) -> Tokens:
        """Every token attends to every token of the same example."""
        width = x.shape[-1]
        check_attention(self.heads, width, self.implementation)

        def dense(name):
            return nn.Dense(width, dtype=self.dtype, kernel_init=self.kernel_init, name=name)

        out = attend(dense("query")(x), dense("key")(x), dense("value")(x), self.heads, self.implementation)
        return dense("project")(out)


class SpatialAttention(nn.Module):
    """x + project(attention(norm(x))), where every position attends to every position.

    Attributes:
      heads: number of heads; it must divide the number of channels.
      implementation: see `attend`.
      norm_epsilon, norm_groups: of the group norm, see `nn.norms.GroupNorm`.
    Raises:
      ValueError: see `check_attention`.
    """

    heads: int
    kernel_init: nn.initializers.Initializer
    dtype: Dtype
    implementation: str = "xla"
    norm_epsilon: float = 1e-6
    norm_groups: int = 0

    @nn.compact
    def __call__(self, x: Float[Array, "batch height width channel"]) -> Float[Array, "batch height width channel"]:
        """A feature map of the same shape; it equals `x` at initialisation, because the projection starts at zero."""
        batch, height, width, channels = x.shape
        check_attention(self.heads, channels, self.implementation)
        h = GroupNorm(self.norm_epsilon, self.norm_groups, name="norm")(x).reshape(batch, height * width, channels)

        def dense(name, init=self.kernel_init):
            return nn.Dense(channels, dtype=self.dtype, kernel_init=init, name=name)

        out = attend(dense("query")(h), dense("key")(h), dense("value")(h), self.heads, self.implementation)
        out = dense("project", nn.initializers.zeros)(out)
        return x + out.reshape(x.shape)
