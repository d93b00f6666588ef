"""Transposed convolution with stride 2. On CPUs, where XLA's own takes ten times as long, it is a dense one.

Of the kernel's taps each of the four phases of the output, even and odd rows and columns, sees its own: together they
are a small convolution at the lower resolution whose channels are then spread in space (Shi et al. 2016).
"""

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from flax.typing import Dtype
from jaxtyping import Array, Float

Features = Float[Array, "batch height width channel"]


def depth_to_space(x: Features) -> Float[Array, "batch double_height double_width quarter"]:
    """[batch, h, w, 4 c] to [batch, 2 h, 2 w, c]."""
    batch, height, width, channels = x.shape
    blocks = x.reshape(batch, height, width, 2, 2, channels // 4).swapaxes(2, 3)
    return blocks.reshape(batch, 2 * height, 2 * width, channels // 4)


def _places(size: int) -> Float[np.ndarray, "taps phases size"]:
    """1 where tap t of a kernel of `size` meets input m + r for output 2 m + p: t = 2 r - p + padding before."""
    before = -(-size // 2)  # as jax.lax.conv_transpose pads for "SAME"
    reach = range(-(before // 2), (size - before) // 2 + 1)
    return np.array([[[t == 2 * r - p + before for t in range(size)] for p in range(2)] for r in reach], np.float32)


LAYOUT = ("NHWC", "HWIO", "NHWC")


def _native(x: Array, kernel: Array) -> Array:
    return jax.lax.conv_transpose(x, kernel.astype(x.dtype), (2, 2), "SAME", dimension_numbers=LAYOUT)


def _dense(x: Array, kernel: Array) -> Array:
    size, _, channels, features = kernel.shape
    places = _places(size)
    taps, before = len(places), -(-size // 2) // 2
    spread = jnp.einsum("apt,bqs,tsio->abipqo", places, places, kernel, precision="highest")
    small = spread.reshape(taps, taps, channels, 4 * features).astype(x.dtype)
    padding = 2 * ((before, taps - 1 - before),)
    return depth_to_space(jax.lax.conv_general_dilated(x, small, (1, 1), padding, dimension_numbers=LAYOUT))


class DoublingConv(nn.Module):
    """`nn.ConvTranspose(features, (size, size), (2, 2))`: same parameters, same output [batch, 2 h, 2 w, features].

    Attributes:
      size: of the kernel, 2 or more.
    """

    features: int
    size: int
    use_bias: bool = True
    dtype: Dtype = jnp.float32
    kernel_init: nn.initializers.Initializer = nn.initializers.lecun_normal()

    @nn.compact
    def __call__(self, x: Features) -> Float[Array, "batch double_height double_width out"]:
        """Doubles height and width."""
        shape = (self.size, self.size, x.shape[-1], self.features)
        kernel = self.param("kernel", self.kernel_init, shape, jnp.float32)
        y = jax.lax.platform_dependent(x.astype(self.dtype), kernel, cpu=_dense, default=_native)
        if self.use_bias:
            y += self.param("bias", nn.initializers.zeros, (self.features,), jnp.float32).astype(self.dtype)
        return y
