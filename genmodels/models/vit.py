"""The Vision Transformer (Dosovitskiy et al. 2021): patches as tokens, a pre-norm encoder, a linear head.

Options from later papers are mean pooling instead of the class token and fixed sine-cosine positions (Beyer et al.
2022, "Better plain ViT baselines"), and stochastic depth (DeiT, Touvron et al. 2021). `Trunk` is the network without
the head. Published sizes:

    width  depth  heads
    192    12     3      Ti/16  DeiT
    384    12     6      S/16   DeiT: 22,050,664 parameters at 224 with 1,000 classes
    768    12     12     B/16   86,567,656
    1024   24     16     L/16
"""

from typing import Any

import jax.numpy as jnp
from flax import linen as nn
from flax.typing import Dtype
from jaxtyping import Array, Float, Key

from genmodels.nn.norms import LayerNorm
from genmodels.nn.positions import RESIZES, PatchEmbedding, resize_positions, sincos_2d
from genmodels.nn.stochastic import Dropout
from genmodels.nn.transformer import EncoderBlock, depth_rates

Images = Float[Array, "batch height width channel"]
Keys = Key[Array, " batch"] | None
POOLINGS = ("class", "mean")
POSITIONS = ("learned", "sincos")
CUBIC = "cubic"
HEAD = "logits"
GRID = "position_embedding"  # [rows, columns, width]


class Trunk(nn.Module):
    """Maps images to normalised tokens, with the class token, if there is one, in front. For attributes see `ViT`."""

    patch_size: int
    width: int
    depth: int
    heads: int
    hidden: int
    class_token: bool
    positions: str
    dropout: float
    stochastic_depth: float
    norm_epsilon: float
    attention: str
    dtype: Dtype

    @nn.compact
    def __call__(self, images: Images, keys: Keys = None) -> Float[Array, "batch tokens dim"]:
        """Images in [-1, 1] to tokens in row-major order; dropout and stochastic depth are on if `keys` are given.

        Raises:
          ValueError: patches do not tile the images, or heads do not divide the width.
        """
        grid = PatchEmbedding(self.patch_size, self.width, self.dtype, name="patches")(images.astype(self.dtype))
        batch, rows, columns, width = grid.shape
        if self.positions == "sincos":
            positions = sincos_2d(rows, columns, width)
        else:
            positions = self.param(GRID, nn.initializers.normal(0.02), (rows, columns, width))
        x = (grid + positions.astype(self.dtype)).reshape(batch, rows * columns, width)
        if self.class_token:
            token = self.param("class_token", nn.initializers.zeros, (width,))
            if self.positions == "learned":
                token += self.param("class_position", nn.initializers.normal(0.02), (width,))
            x = jnp.concatenate([jnp.broadcast_to(token.astype(self.dtype), (batch, 1, width)), x], axis=1)
        x = Dropout(self.dropout, name="dropout")(x, keys)
        for index, rate in enumerate(depth_rates(self.stochastic_depth, self.depth)):
            settings = (self.heads, self.hidden, self.dropout, rate, self.norm_epsilon, self.attention, self.dtype)
            x = EncoderBlock(*settings, name=f"block_{index}")(x, keys)
        return LayerNorm(self.norm_epsilon, name="norm")(x)


class ViT(nn.Module):
    """A Vision Transformer that classifies; its pooled tokens serve as features.

    Attributes:
      num_classes: number of logits; 0 is no head, and the logits are then the features.
      patch_size: side of a patch in pixels, which must divide the images.
      width: numbers in a token.
      depth: number of blocks of the encoder.
      heads: number of attention heads; they must divide the width.
      hidden: width of the blocks' MLP; 0 is four times the width.
      pooling: "class" reads the class token, "mean" has none and averages the tokens.
      positions: "learned", or "sincos", which are fixed.
      resize_positions: how learned positions come to another grid when a run begins with another's: "cubic" (torch's)
        or "linear" (that of ViT's authors), see `nn.positions`.
      dropout: rate of dropout of the embedded tokens and in the blocks.
      stochastic_depth: probability that a branch of the last block is left out; it rises linearly from 0.
      norm_epsilon: added to the variance in the norms: 1e-6 as published; transformers' models have 1e-12.
      attention: implementation of attention: xla, or cudnn on a GPU; see `nn.attention.attend`.
      dtype: precision of the computation, float32 or bfloat16; all parameters, norms, features and logits stay float32.
    """

    num_classes: int
    patch_size: int = 16
    width: int = 768
    depth: int = 12
    heads: int = 12
    hidden: int = 0
    pooling: str = "class"
    positions: str = "learned"
    resize_positions: str = CUBIC
    dropout: float = 0.0
    stochastic_depth: float = 0.0
    norm_epsilon: float = 1e-6
    attention: str = "xla"
    dtype: Dtype = "float32"

    def __post_init__(self):
        if min(self.patch_size, self.width, self.depth, self.heads) < 1 or self.hidden < 0:
            raise ValueError("patch_size, width, depth and heads must be at least 1, hidden not negative")
        for name in ("dropout", "stochastic_depth"):
            if not 0 <= getattr(self, name) < 1:
                raise ValueError(f"{name} must be within [0, 1), got {getattr(self, name)}")
        for name, known in (("pooling", POOLINGS), ("positions", POSITIONS), ("resize_positions", RESIZES)):
            if getattr(self, name) not in known:
                raise ValueError(f"unknown {name} {getattr(self, name)!r}; there are {', '.join(known)}")
        if not self.norm_epsilon > 0:
            raise ValueError("norm_epsilon must be positive")
        if self.resize_positions != CUBIC and self.positions != "learned":
            raise ValueError(f"resize_positions={self.resize_positions} applies to positions=learned only")
        super().__post_init__()

    @nn.compact
    def __call__(
        self, images: Images, keys: Keys = None
    ) -> tuple[Float[Array, "batch classes"], Float[Array, "batch dim"]]:
        """Images in [-1, 1] to (logits, features); dropout and stochastic depth are on if `keys` are given.

        Raises:
          ValueError: patches do not tile the images, or heads do not divide the width.
        """
        trunk = Trunk(
            self.patch_size,
            self.width,
            self.depth,
            self.heads,
            self.hidden or 4 * self.width,
            self.pooling == "class",
            self.positions,
            self.dropout,
            self.stochastic_depth,
            self.norm_epsilon,
            self.attention,
            self.dtype,
            name="trunk",
        )
        tokens = trunk(images, keys).astype(jnp.float32)
        features = tokens[:, 0] if self.pooling == "class" else jnp.mean(tokens, axis=1)
        if not self.num_classes:
            return features, features
        return nn.Dense(self.num_classes, kernel_init=nn.initializers.zeros, name=HEAD)(features), features


def adapt(name: str, array: Any, shape: tuple[int, ...], method: str = CUBIC) -> Array | None:
    """Adapts a parameter of a trained ViT to a ViT for another image size.

    Args:
      name: name of the leaf.
      array: the trained parameter.
      shape: the shape that is needed.
      method: see `nn.positions.resize_positions`.
    Returns:
      Learned positions resized to the grid of `shape`; None for a parameter that cannot be adapted.
    """
    if name == GRID and array.shape[-1] == shape[-1]:
        return resize_positions(array, shape[0], shape[1], method)
    return None
