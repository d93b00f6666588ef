"""Networks of autoencoders, which map images to latents and back: perceptrons or residual convolutions.

`mlp` with hidden=(400,) and 20 latents is the network of Kingma & Welling 2014 in the version of pytorch/examples
(652,824 parameters at 28x28). `conv` first halves the image several times, so that its residual blocks (He et al. 2016,
pre-activation) run at the lowest resolution. Its decoder doubles the size by sub-pixel convolutions (Shi et al. 2016).
"""

import math
from typing import Any, NamedTuple

import jax.numpy as jnp
from flax import linen as nn
from flax.typing import Dtype
from jaxtyping import Array, Float

from genmodels.nn.norms import GroupNorm
from genmodels.nn.transposed import depth_to_space

NETWORKS = ("mlp", "conv")
ACTIVATIONS = {"relu": nn.relu, "tanh": nn.tanh, "swish": nn.swish}
Images = Float[Array, "batch height width channel"]
Latents = Float[Array, "batch ..."]
# Uniform within +-1 / sqrt(fan_in), torch's default, with which published results were obtained; with lecun_normal the
# loss ends half a nat higher.
LINEAR_INIT = nn.initializers.variance_scaling(1 / 3, "fan_in", "uniform")
MIN_LOG_STD = -6.0  # of a pixel in [-1, 1]: exp(-6) is below half a grey level, where a smaller one gains nothing


class Decoded(NamedTuple):
    """The distribution of an image's pixels under a decoder.

    Attributes:
      pixels: logits (Bernoulli) or means (Gaussian) of the pixels.
      log_std: logarithm of the standard deviation that all pixels share; None if the decoder has none.
    """

    pixels: Images
    log_std: Float[Array, ""] | None


class PreActivation(nn.Module):
    """x + conv(act(norm(conv(act(norm(x)))))), where the last convolution is initialised with zeros."""

    dtype: Dtype = jnp.float32

    @nn.compact
    def __call__(self, x: Images) -> Images:
        """A feature map of the same shape; at initialisation it equals `x`."""
        width, h = x.shape[-1], x
        for index in range(2):
            init = nn.initializers.zeros if index else nn.initializers.lecun_normal()
            h = nn.swish(GroupNorm(name=f"norm_{index}")(h))
            h = nn.Conv(width, (3, 3), dtype=self.dtype, kernel_init=init, name=f"conv_{index}")(h)
        return x + h


class Encoder(nn.Module):
    """Maps images to `outputs` numbers per image, or per position of a grid; float32.

    Attributes are those of `Autoencoder`, with `widths` its `hidden` or `channels`.
    """

    network: str
    widths: tuple[int, ...]
    blocks: int
    outputs: int
    grid: bool
    activation: str
    dtype: Dtype

    @nn.compact
    def __call__(self, x: Images) -> Latents:
        """[batch, height, width, channel] to [batch, outputs], or to [batch, h, w, outputs] with `grid`."""
        h = x.astype(self.dtype)
        if self.network == "mlp":
            h = h.reshape(h.shape[0], -1)
            for index, width in enumerate(self.widths):
                h = ACTIVATIONS[self.activation](
                    nn.Dense(width, dtype=self.dtype, kernel_init=LINEAR_INIT, name=f"dense_{index}")(h)
                )
            return nn.Dense(self.outputs, dtype=jnp.float32, kernel_init=LINEAR_INIT, name="out")(h)
        for index, width in enumerate(self.widths):
            h = nn.Conv(width, (3, 3), 2, dtype=self.dtype, name=f"conv_{index}")(nn.swish(h) if index else h)
        for index in range(self.blocks):
            h = PreActivation(self.dtype, name=f"block_{index}")(h)
        h = nn.swish(GroupNorm(name="norm")(h))
        return nn.Dense(self.outputs, dtype=jnp.float32, name="out")(h if self.grid else h.reshape(h.shape[0], -1))


class Decoder(nn.Module):
    """Maps latents to images.

    Attributes are those of `Autoencoder`, with `widths` the encoder's, which are used in reverse.
    """

    image_shape: tuple[int, int, int]
    network: str
    widths: tuple[int, ...]
    blocks: int
    grid: bool
    activation: str
    learns_std: bool
    dtype: Dtype

    @nn.compact
    def __call__(self, z: Latents) -> Decoded:
        """[batch, dim], or [batch, h, w, dim] with `grid`, to logits or means of the pixels, float32."""
        height, width, channels = self.image_shape
        h = z.astype(self.dtype)
        if self.network == "mlp":
            for index, wide in enumerate(reversed(self.widths)):
                h = ACTIVATIONS[self.activation](
                    nn.Dense(wide, dtype=self.dtype, kernel_init=LINEAR_INIT, name=f"dense_{index}")(h)
                )
            pixels = nn.Dense(math.prod(self.image_shape), kernel_init=LINEAR_INIT, name="out")(h.astype(jnp.float32))
        else:
            factor, deep = 2 ** len(self.widths), self.widths[-1]
            positions = (height // factor, width // factor)
            features = deep if self.grid else math.prod(positions) * deep
            h = nn.Dense(features, dtype=self.dtype, name="in")(h).reshape(z.shape[0], *positions, deep)
            for index in range(self.blocks):
                h = PreActivation(self.dtype, name=f"block_{index}")(h)
            h = nn.swish(GroupNorm(name="norm")(h))
            for index, wide in enumerate(reversed(self.widths[:-1])):
                h = nn.swish(depth_to_space(nn.Conv(4 * wide, (3, 3), dtype=self.dtype, name=f"conv_{index}")(h)))
            pixels = depth_to_space(nn.Conv(4 * channels, (3, 3), dtype=jnp.float32, name="out")(h))
        log_std = None
        if self.learns_std:
            log_std = jnp.maximum(self.param("log_std", nn.initializers.zeros, ()), MIN_LOG_STD)
        return Decoded(pixels.reshape(z.shape[0], *self.image_shape), log_std)


class Autoencoder(nn.Module):
    """An encoder and a decoder.

    Attributes:
      image_shape: (height, width, channel).
      moments: numbers the encoder gives for each latent dimension: 2 for mean and log variance, 1 for a value.
      learns_std: the decoder has a standard deviation, one number for all pixels (Rybkin et al. 2021).
      network: kind of encoder and decoder: mlp or conv.
      hidden: of mlp: widths of the hidden layers from image to latent; the decoder has them in reverse.
      channels: of conv: width after each halving of the image.
      blocks: of conv: residual blocks at the lowest resolution, in the encoder and in the decoder.
      latent_dim: numbers in the latent vector, or in the latent at each position of the grid.
      grid: of conv: latents keep their positions, [batch, height / 2^n, width / 2^n, latent_dim].
      activation: nonlinearity of mlp: relu, tanh, swish.
      dtype: precision of the computation, float32 or bfloat16; parameters, norms and both outputs stay float32.
    Raises:
      ValueError: a setting is unknown or out of range, two settings contradict each other, or the image size is not a
        multiple of 2^n.
    """

    image_shape: tuple[int, int, int]
    moments: int
    learns_std: bool
    network: str = "mlp"
    hidden: tuple[int, ...] = (400,)
    channels: tuple[int, ...] = (32, 64)
    blocks: int = 2
    latent_dim: int = 20
    grid: bool = False
    activation: str = "relu"
    dtype: Dtype = "float32"

    def __post_init__(self):
        for name, known in (("network", NETWORKS), ("activation", ACTIVATIONS)):
            if getattr(self, name) not in known:
                raise ValueError(f"unknown {name} {getattr(self, name)!r}; there are {', '.join(known)}")
        if not self.hidden or not self.channels:
            raise ValueError("hidden and channels must name at least one width")
        if min(*self.hidden, *self.channels, self.latent_dim) < 1 or self.blocks < 0:
            raise ValueError("hidden, channels and latent_dim must be positive, blocks must not be negative")
        if self.grid and self.network == "mlp":
            raise ValueError("grid needs network=conv, because the latent of a perceptron has no positions")
        factor, (height, width, _) = 2 ** len(self.channels), self.image_shape
        if self.network == "conv" and (height % factor or width % factor):
            near = max(factor, round(height / factor) * factor)
            raise ValueError(
                f"{len(self.channels)} channels shrink images to 1/{factor}, but {height}x{width} does not "
                f"divide by {factor}; use fewer channels, or images of e.g. {near}x{near} (config.data.size={near})"
            )
        super().__post_init__()

    @property
    def latent_shape(self) -> tuple[int, ...]:
        """The shape of one latent: (dim,), or (height, width, dim) with `grid`."""
        factor = 2 ** len(self.channels)
        positions = (self.image_shape[0] // factor, self.image_shape[1] // factor) if self.grid else ()
        return (*positions, self.latent_dim)

    def setup(self):
        """Creates the encoder and the decoder."""
        widths = tuple(self.hidden if self.network == "mlp" else self.channels)
        shared: dict[str, Any] = {"network": self.network, "widths": widths, "blocks": self.blocks, "grid": self.grid}
        shared |= {"activation": self.activation, "dtype": self.dtype}
        self.encoder = Encoder(outputs=self.moments * self.latent_dim, **shared)
        self.decoder = Decoder(image_shape=self.image_shape, learns_std=self.learns_std, **shared)

    def __call__(self, x: Images) -> Decoded:
        """Encodes and decodes images, with the encoder's mean as the latent; initialises all parameters."""
        return self.decode(self.encode(x)[..., : self.latent_dim])

    def encode(self, x: Images) -> Latents:
        """Images to the moments of their latents, concatenated: [batch, ..., moments * latent_dim]."""
        return self.encoder(x)

    def decode(self, z: Latents) -> Decoded:
        """Latents [batch, *latent_shape] to the distribution of the pixels."""
        return self.decoder(z)
