"""Images as grids of tokens, and embeddings of each token's position on the grid.

Patches and learned positions: ViT (Dosovitskiy et al. 2021). Fixed sine-cosine positions in two dimensions: MoCo v3
(Chen et al. 2021) and MAE (He et al. 2022). Learned positions can be resized to another grid.
"""

import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from flax.typing import Dtype
from jaxtyping import Array, Float

from genmodels.nn.embeddings import sinusoidal_embedding


def check_patches(height: int, width: int, patch_size: int) -> None:
    """Raises ValueError, which lists the patch sizes that fit, unless patches of this size tile the images."""
    if patch_size < 1 or height % patch_size or width % patch_size:
        fit = [size for size in range(1, min(height, width) + 1) if not height % size and not width % size]
        raise ValueError(
            f"patch_size={patch_size} does not divide images of {height}x{width}; these do: {', '.join(map(str, fit))}"
        )


class PatchEmbedding(nn.Module):
    """Cuts images into square patches and maps each patch linearly to a token.

    Attributes:
      patch_size: side of a patch in pixels.
      width: length of a token.
      dtype: of the computation.
    Raises:
      ValueError: see `check_patches`.
    """

    patch_size: int
    width: int
    dtype: Dtype

    @nn.compact
    def __call__(self, images: Float[Array, "batch height width channel"]) -> Float[Array, "batch rows columns token"]:
        """Images to a grid of [height / patch_size, width / patch_size] tokens."""
        height, width = images.shape[1:3]
        check_patches(height, width, self.patch_size)
        side = (self.patch_size, self.patch_size)
        return nn.Conv(self.width, side, side, "VALID", dtype=self.dtype, name="projection")(images)


def sincos_2d(rows: int, columns: int, width: int) -> Float[Array, "{rows} {columns} {width}"]:
    """Fixed embeddings of grid positions.

    The first half of the width encodes the column, the second half the row, each as [sin(p w_i), cos(p w_i)] with
    w_i = 10000^(-4 i / width).

    Raises:
      ValueError: the width is not a multiple of 4, or is below 8.
    """
    if width % 4 or width < 8:
        raise ValueError(f"sine-cosine positions need a width that is a multiple of 4 and at least 8, got {width}")
    axes = [sinusoidal_embedding(jnp.arange(count), width // 2, frequency_shift=0.0) for count in (columns, rows)]
    column = jnp.broadcast_to(axes[0][None], (rows, columns, width // 2))
    row = jnp.broadcast_to(axes[1][:, None], (rows, columns, width // 2))
    return jnp.concatenate([column, row], axis=-1)


def _cubic(old: int, new: int) -> Float[np.ndarray, "{new} {old}"]:
    """The matrix of cubic interpolation (Keys 1981, a = -0.75), with the outermost values repeated beyond the edge."""
    a = -0.75
    centres = (np.arange(new) + 0.5) * old / new - 0.5
    weights = np.zeros((new, old))
    for tap in range(-1, 3):
        source = np.floor(centres) + tap
        d = np.abs(centres - source)
        near, far = ((a + 2) * d - (a + 3)) * d * d + 1, ((a * d - 5 * a) * d + 8 * a) * d - 4 * a
        np.add.at(weights, (np.arange(new), np.clip(source, 0, old - 1).astype(int)), np.where(d <= 1, near, far))
    return weights


def _linear(old: int, new: int) -> Float[np.ndarray, "{new} {old}"]:
    """The matrix of linear interpolation with the outermost values on each other, as `scipy.ndimage.zoom` has it."""
    source = np.linspace(0, old - 1, new)
    return np.maximum(0, 1 - np.abs(source[:, None] - np.arange(old)))


RESIZES = {"cubic": _cubic, "linear": _linear}


def resize_positions(
    embedding: Float[np.ndarray, "rows columns width"] | Float[Array, "rows columns width"],
    rows: int,
    columns: int,
    method: str = "cubic",
) -> Float[Array, "{rows} {columns} width"]:
    """A learned position embedding resized to another grid (ViT, section 3.2).

    Neither method smooths when it shrinks a grid, so that resizing to the same grid returns the same values.

    Args:
      method: "cubic" aligns the centres of patches and gives the values of torch's interpolation, which DeiT and
        transformers use; "linear" aligns the outermost patches, as the code of ViT does.
    """
    old = np.asarray(embedding, np.float64)
    row_weights, column_weights = (RESIZES[method](*sides) for sides in zip(old.shape, (rows, columns), strict=False))
    return jnp.asarray(np.einsum("rR,cC,RCw->rcw", row_weights, column_weights, old), embedding.dtype)
