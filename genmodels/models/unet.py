"""The U-Net of DDPM (Ho et al. 2020, appendix B), with options from later papers.

The network has residual blocks conditioned on time (and optionally on a class), self-attention at chosen resolutions,
and a skip connection from every block of the downward path to a block of the upward path. Scale-shift conditioning and
several attention heads, as in Improved DDPM, are options. Image sizes need not be powers of two: on the upward path a
feature map is cropped to the size of its skip connection.
"""

from typing import Any

import jax.numpy as jnp
from einops import repeat
from flax import linen as nn
from flax.typing import Dtype
from jaxtyping import Array, Float, Integer, Key

from genmodels.nn.attention import SpatialAttention
from genmodels.nn.embeddings import sinusoidal_embedding
from genmodels.nn.norms import GroupNorm
from genmodels.nn.stochastic import Dropout

Features = Float[Array, "batch height width channel"]
Output = Float[Array, "batch height width out"]
Keys = Key[Array, " batch"] | None

KERNEL_INIT = nn.initializers.variance_scaling(1.0, "fan_avg", "uniform")
ZERO_INIT = nn.initializers.zeros
PADDINGS = {"same": "SAME", "symmetric": 1}


class ResidualBlock(nn.Module):
    """x + conv(dropout(swish(norm(h)))), where h is conv(swish(norm(x))) conditioned on an embedding.

    Attributes:
      channels: of the output. If the input has another number, the shortcut is a 1x1 convolution.
      scale_shift: whether the embedding scales and shifts the second norm; otherwise it is added before that norm.
      norm_epsilon, norm_groups: see `nn.norms.GroupNorm`.
    """

    channels: int
    dropout: float
    scale_shift: bool
    norm_epsilon: float
    norm_groups: int
    dtype: Dtype

    @nn.compact
    def __call__(self, x: Features, embedding: Float[Array, "batch embedding"], keys: Keys) -> Output:
        """[batch, height, width, in] to [batch, height, width, channels]; dropout is on if `keys` are given."""

        def conv(name, kernel=(3, 3), init=KERNEL_INIT):
            return nn.Conv(self.channels, kernel, dtype=self.dtype, kernel_init=init, name=name)

        def normalize(name):
            return GroupNorm(self.norm_epsilon, self.norm_groups, name=name)

        h = conv("conv_in")(nn.swish(normalize("norm_in")(x)))
        width = 2 * self.channels if self.scale_shift else self.channels
        condition = nn.Dense(width, dtype=self.dtype, kernel_init=KERNEL_INIT, name="condition")(nn.swish(embedding))
        condition = condition[:, None, None, :]
        norm = normalize("norm_out")
        if self.scale_shift:
            scale, shift = jnp.split(condition, 2, axis=-1)
            h = norm(h) * (1 + scale) + shift
        else:
            h = norm(h + condition)
        h = Dropout(self.dropout, name="dropout")(nn.swish(h), keys)
        h = conv("conv_out", init=ZERO_INIT)(h)
        if x.shape[-1] != self.channels:
            x = conv("shortcut", kernel=(1, 1))(x)
        return x + h


def upsample_to(x: Features, height: int, width: int) -> Float[Array, "batch {height} {width} channel"]:
    """Doubles height and width by nearest neighbours, then crops to (height, width), which may be odd."""
    return repeat(x, "b h w c -> b (h 2) (w 2) c")[:, :height, :width]


class UNet(nn.Module):
    """A noise-conditional U-Net: maps noisy images, timesteps and labels to one output per pixel.

    Attributes:
      out_channels: channels of the output.
      channels: width of the first level.
      multipliers: level i has channels * multipliers[i].
      blocks: residual blocks a level on the way down; the way up has one more.
      attention_resolutions: feature-map heights at which every block is followed by attention.
      heads: number of attention heads.
      head_channels: width of an attention head; where positive, it decides their number in place of heads.
      dropout: rate of dropout in the residual blocks.
      num_classes: 0 is unconditional; else labels are 0 .. num_classes - 1 and `num_classes` is the null label.
      scale_shift: the embedding scales and shifts the second norm of a block, in place of being added (Improved DDPM).
      norm_groups: groups of all group norms, of which diffusers wants one number; 0 suits each norm to its width.
      norm_epsilon: added to the variance in the group norms.
      downsample_padding: "same" pads strided convolutions as TensorFlow does, on even sizes at the bottom and right
        alone (DDPM's); "symmetric" by one pixel all around.
      frequency_shift: shift of the frequencies of the time embedding, see `nn.embeddings`.
      attention: implementation of attention: xla, or cudnn on a GPU.
      dtype: precision of the computation, float32 or bfloat16; parameters, norms, softmax and output stay float32.
    """

    out_channels: int
    channels: int = 128
    multipliers: tuple[int, ...] = (1, 2, 2, 2)
    blocks: int = 2
    attention_resolutions: tuple[int, ...] = (16,)
    heads: int = 1
    head_channels: int = 0
    dropout: float = 0.0
    num_classes: int = 0
    scale_shift: bool = False
    norm_groups: int = 0
    norm_epsilon: float = 1e-6
    downsample_padding: str = "same"
    frequency_shift: float = 1.0
    attention: str = "xla"
    dtype: Dtype = "float32"

    def __post_init__(self):
        if min(self.channels, self.blocks, self.heads, *self.multipliers, len(self.multipliers)) < 1:
            raise ValueError("channels, blocks, heads and each of the multipliers must be at least 1")
        if not 0 <= self.dropout < 1:
            raise ValueError(f"dropout must be within [0, 1), got {self.dropout}")
        if self.downsample_padding not in PADDINGS:
            raise ValueError(f"unknown downsample_padding {self.downsample_padding!r}; there are {', '.join(PADDINGS)}")
        if min(self.norm_groups, self.head_channels) < 0 or not self.norm_epsilon > 0:
            raise ValueError("norm_groups and head_channels must not be negative, norm_epsilon must be positive")
        if not self.frequency_shift < self.channels // 2:
            raise ValueError(f"frequency_shift={self.frequency_shift} must be below half of the channels")
        super().__post_init__()

    @nn.compact
    def __call__(
        self,
        x: Features,
        timesteps: Integer[Array, " batch"] | Float[Array, " batch"],
        labels: Integer[Array, " batch"] | None = None,
        keys: Keys = None,
    ) -> Output:
        """The prediction for noisy images: float32, with the height and width of the input.

        Args:
          x: noisy images; clean ones are in [-1, 1].
          timesteps: time of each image, whole or fractional.
          labels: classes; `num_classes` is the null label.
          keys: one random key per image turns dropout on.
        Raises:
          ValueError: labels are given to an unconditional network, or missing for a conditional one.
        """
        if (labels is None) == bool(self.num_classes):
            raise ValueError(f"a U-Net with num_classes={self.num_classes} got labels={labels is not None}")
        embedding = self._embedding(timesteps, labels)

        norms: dict[str, Any] = {"norm_epsilon": self.norm_epsilon, "norm_groups": self.norm_groups}

        def block_of(width, h, name):
            return ResidualBlock(width, self.dropout, self.scale_shift, **norms, dtype=self.dtype, name=name)(
                h, embedding, keys
            )

        def residual(h, level, name):
            h = block_of(self.channels * self.multipliers[level], h, name)
            return attend(h, f"{name}_attention") if h.shape[1] in self.attention_resolutions else h

        def attend(h, name):
            if self.head_channels and h.shape[-1] % self.head_channels:
                raise ValueError(f"head_channels={self.head_channels} does not divide {h.shape[-1]} channels")
            heads = h.shape[-1] // self.head_channels if self.head_channels else self.heads
            return SpatialAttention(heads, KERNEL_INIT, self.dtype, self.attention, **norms, name=name)(h)

        def conv(h, features, name, strides=1, padding="SAME"):
            return nn.Conv(features, (3, 3), strides, padding, dtype=self.dtype, kernel_init=KERNEL_INIT, name=name)(h)

        levels = range(len(self.multipliers))
        h = conv(x.astype(self.dtype), self.channels, "conv_in")
        skips = [h]
        for level in levels:
            for block in range(self.blocks):
                h = residual(h, level, f"down_{level}_{block}")
                skips.append(h)
            if level != levels[-1]:
                h = conv(h, h.shape[-1], f"downsample_{level}", 2, PADDINGS[self.downsample_padding])
                skips.append(h)

        middle = self.channels * self.multipliers[-1]
        h = block_of(middle, h, "middle_0")
        h = attend(h, "middle_attention")
        h = block_of(middle, h, "middle_1")

        for level in reversed(levels):
            for block in range(self.blocks + 1):
                h = residual(jnp.concatenate([h, skips.pop()], axis=-1), level, f"up_{level}_{block}")
            if level:
                h = conv(upsample_to(h, *skips[-1].shape[1:3]), h.shape[-1], f"upsample_{level}")

        h = nn.swish(GroupNorm(self.norm_epsilon, self.norm_groups, name="norm_out")(h))
        return nn.Conv(self.out_channels, (3, 3), dtype=jnp.float32, kernel_init=ZERO_INIT, name="conv_out")(h)

    def _embedding(self, timesteps: Array, labels: Array | None) -> Float[Array, "batch embedding"]:
        width = 4 * self.channels
        h = sinusoidal_embedding(timesteps, self.channels, frequency_shift=self.frequency_shift).astype(self.dtype)
        h = nn.Dense(width, dtype=self.dtype, kernel_init=KERNEL_INIT, name="time_0")(h)
        h = nn.Dense(width, dtype=self.dtype, kernel_init=KERNEL_INIT, name="time_1")(nn.swish(h))
        if labels is not None:
            h += nn.Embed(self.num_classes + 1, width, dtype=self.dtype, name="label")(labels)
        return h
