"""Transposed convolution with stride 2, which runs as an ordinary convolution on CPUs.

XLA's own transposed convolution takes about ten times as long on a CPU. Output pixels fall into four phases: even or
odd row, even or odd column. Each phase uses its own subset of the kernel's taps. All four phases together are one
smaller convolution at the input's resolution, whose channels are then rearranged in space (Shi et al. 2016).
"""

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from flax.typing import Dtype
from jaxtyping import Array, Float

Features = Float[Array, "batch height width channel"]


def depth_to_space(x: Features) -> Float[Array, "batch double_height double_width quarter"]:
    """Rearranges channels in space: [batch, h, w, 4 c] to [batch, 2 h, 2 w, c]."""
    batch, height, width, channels = x.shape
    blocks = x.reshape(batch, height, width, 2, 2, channels // 4).swapaxes(2, 3)
    return blocks.reshape(batch, 2 * height, 2 * width, channels // 4)


def _tap_selection(size: int) -> Float[np.ndarray, "taps phases size"]:
    """Which tap of a kernel with `size` taps connects an input to an output pixel, along one axis.

    The entry [r, p, t] is 1 if tap t carries input m + r to output 2 m + p, which is so if t = 2 r - p + padding.
    """
    padding = -(-size // 2)  # before the first input, as jax.lax.conv_transpose pads for "SAME"
    offsets = range(-(padding // 2), (size - padding) // 2 + 1)
    return np.array([[[t == 2 * r - p + padding for t in range(size)] for p in range(2)] for r in offsets], np.float32)


LAYOUT = ("NHWC", "HWIO", "NHWC")


def _native(x: Array, kernel: Array) -> Array:
    return jax.lax.conv_transpose(x, kernel.astype(x.dtype), (2, 2), "SAME", dimension_numbers=LAYOUT)


def _dense(x: Array, kernel: Array) -> Array:
    size, _, channels, features = kernel.shape
    selection = _tap_selection(size)
    taps, before = len(selection), -(-size // 2) // 2
    by_phase = jnp.einsum("apt,bqs,tsio->abipqo", selection, selection, kernel, precision="highest")
    small = by_phase.reshape(taps, taps, channels, 4 * features).astype(x.dtype)
    padding = 2 * ((before, taps - 1 - before),)
    return depth_to_space(jax.lax.conv_general_dilated(x, small, (1, 1), padding, dimension_numbers=LAYOUT))


class DoublingConv(nn.Module):
    """The layer `nn.ConvTranspose(features, (size, size), (2, 2))`, with the same parameters and the same output.

    Attributes:
      features: number of output channels.
      size: side of the kernel, at least 2.
      use_bias, dtype, kernel_init: as in `nn.ConvTranspose`.
    """

    features: int
    size: int
    use_bias: bool = True
    dtype: Dtype = jnp.float32
    kernel_init: nn.initializers.Initializer = nn.initializers.lecun_normal()

    @nn.compact
    def __call__(self, x: Features) -> Float[Array, "batch double_height double_width out"]:
        """[batch, h, w, channel] to [batch, 2 h, 2 w, features]."""
        shape = (self.size, self.size, x.shape[-1], self.features)
        kernel = self.param("kernel", self.kernel_init, shape, jnp.float32)
        y = jax.lax.platform_dependent(x.astype(self.dtype), kernel, cpu=_dense, default=_native)
        if self.use_bias:
            y += self.param("bias", nn.initializers.zeros, (self.features,), jnp.float32).astype(self.dtype)
        return y
