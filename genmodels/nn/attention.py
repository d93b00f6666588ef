"""Multi-head self-attention over the positions of a feature map (Vaswani et al. 2017; DDPM's attention block)."""

import jax
from flax import linen as nn
from flax.typing import Dtype
from jaxtyping import Array, Float

from genmodels.nn.norms import GroupNorm

IMPLEMENTATIONS = ("xla", "cudnn")


class SpatialAttention(nn.Module):
    """x + project(attention(norm(x))), all positions attending to all; the softmax is float32.

    Attributes:
      heads: must divide the channels.
      implementation: "xla" runs everywhere; "cudnn" is the fused kernel, on NVIDIA GPUs in bfloat16 only.
    Raises:
      ValueError: heads do not divide the channels, or an unknown implementation.
    """

    heads: int
    kernel_init: nn.initializers.Initializer
    dtype: Dtype
    implementation: str = "xla"
    norm_epsilon: float = 1e-6
    norm_groups: int = 0

    @nn.compact
    def __call__(self, x: Float[Array, "batch height width channel"]) -> Float[Array, "batch height width channel"]:
        """The residual attention block."""
        batch, height, width, channels = x.shape
        if channels % self.heads:
            raise ValueError(f"{self.heads} attention heads do not divide {channels} channels")
        if self.implementation not in IMPLEMENTATIONS:
            raise ValueError(f"unknown attention {self.implementation!r}; there are {', '.join(IMPLEMENTATIONS)}")
        h = GroupNorm(self.norm_epsilon, self.norm_groups, name="norm")(x).reshape(batch, height * width, channels)

        def heads_of(name):
            dense = nn.Dense(channels, dtype=self.dtype, kernel_init=self.kernel_init, name=name)
            return dense(h).reshape(batch, height * width, self.heads, channels // self.heads)

        out = jax.nn.dot_product_attention(
            heads_of("query"), heads_of("key"), heads_of("value"), implementation=self.implementation
        ).reshape(batch, height * width, channels)
        zeros = nn.initializers.zeros
        out = nn.Dense(channels, dtype=self.dtype, kernel_init=zeros, name="project")(out)
        return x + out.reshape(x.shape)
