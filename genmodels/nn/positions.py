"""Where tokens stand: patches of an image as tokens, and embeddings of their places on the grid, fixed or resized.

Patches and learned positions: ViT (Dosovitskiy et al. 2021). Fixed sine-cosine positions in two dimensions: MoCo v3
(Chen et al. 2021) and MAE (He et al. 2022).
"""

import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from flax.typing import Dtype
from jaxtyping import Array, Float

from genmodels.nn.embeddings import sinusoidal_embedding


def check_patches(height: int, width: int, patch_size: int) -> None:
    """Raises ValueError, naming the patch sizes that would do, unless patches tile images of this size."""
    if patch_size < 1 or height % patch_size or width % patch_size:
        fit = [size for size in range(1, min(height, width) + 1) if not height % size and not width % size]
        raise ValueError(
            f"patch_size={patch_size} does not divide images of {height}x{width}; these do: {', '.join(map(str, fit))}"
        )


class PatchEmbedding(nn.Module):
    """Cuts images into squares and maps each linearly to a token.

    Attributes:
      patch_size: side of a square in pixels.
      width: of a token.
    Raises:
      ValueError: see `check_patches`.
    """

    patch_size: int
    width: int
    dtype: Dtype

    @nn.compact
    def __call__(self, images: Float[Array, "batch height width channel"]) -> Float[Array, "batch rows columns token"]:
        """The grid of tokens."""
        height, width = images.shape[1:3]
        check_patches(height, width, self.patch_size)
        side = (self.patch_size, self.patch_size)
        return nn.Conv(self.width, side, side, "VALID", dtype=self.dtype, name="projection")(images)


def sincos_2d(rows: int, columns: int, width: int) -> Float[Array, "{rows} {columns} {width}"]:
    """Half of the width says the column and half the row, each as [sin(p w_i), cos(p w_i)], w_i = 10000^(-4 i / width).

    Raises:
      ValueError: the width is no multiple of 4, or below 8.
    """
    if width % 4 or width < 8:
        raise ValueError(f"sine-cosine positions need a width that is a multiple of 4 and at least 8, got {width}")
    along = [sinusoidal_embedding(jnp.arange(count), width // 2, frequency_shift=0.0) for count in (columns, rows)]
    column = jnp.broadcast_to(along[0][None], (rows, columns, width // 2))
    row = jnp.broadcast_to(along[1][:, None], (rows, columns, width // 2))
    return jnp.concatenate([column, row], axis=-1)


def _cubic(old: int, new: int) -> Float[np.ndarray, "{new} {old}"]:
    """Weights of cubic interpolation (Keys 1981, a = -0.75), the outermost values repeated beyond the edge."""
    a = -0.75
    centres = (np.arange(new) + 0.5) * old / new - 0.5
    weights = np.zeros((new, old))
    for tap in range(-1, 3):
        place = np.floor(centres) + tap
        d = np.abs(centres - place)
        near, far = ((a + 2) * d - (a + 3)) * d * d + 1, ((a * d - 5 * a) * d + 8 * a) * d - 4 * a
        np.add.at(weights, (np.arange(new), np.clip(place, 0, old - 1).astype(int)), np.where(d <= 1, near, far))
    return weights


def resize_positions(
    embedding: Float[np.ndarray, "rows columns width"] | Float[Array, "rows columns width"], rows: int, columns: int
) -> Float[Array, "{rows} {columns} width"]:
    """A learned position embedding for another grid, by bicubic interpolation (ViT, section 3.2) as torch does it.

    So DeiT's and transformers' code gets the same values. Patch centres correspond and nothing is smoothed on the way
    down, so an equal grid gives equal values.
    """
    old = np.asarray(embedding, np.float64)
    down, across = _cubic(old.shape[0], rows), _cubic(old.shape[1], columns)
    return jnp.asarray(np.einsum("rR,cC,RCw->rcw", down, across, old), embedding.dtype)
