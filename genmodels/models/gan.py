"""Generators and discriminators: DCGAN (Radford et al. 2016, section 3) and SNGAN's residual networks (Miyato et al.
2018, appendix B.4).

The networks are unconditional or conditional on a class. A conditional generator has batch norms with a scale and shift
for each class. A conditional discriminator adds the inner product of its features with an embedding of the class
(Miyato & Koyama 2018, equation 4). Images are float in [-1, 1].
"""

import dataclasses
from collections.abc import Callable

import jax.numpy as jnp
from flax import linen as nn
from flax.typing import Dtype
from jaxtyping import Array, Float, Integer

from genmodels.models.unet import upsample_to
from genmodels.nn.batch_norm import EPSILON, BatchNorm
from genmodels.nn.transposed import DoublingConv

Images = Float[Array, "batch height width channel"]
Maps = Float[Array, "batch out_height out_width out_channel"]  # features whose size differs from the input's
Latents = Float[Array, "batch latent"]
Labels = Integer[Array, " batch"] | None
Scores = Float[Array, " batch"]

DCGAN_INIT = nn.initializers.normal(0.02)
GLOROT = nn.initializers.glorot_uniform()
GLOROT_RELU = nn.initializers.variance_scaling(2.0, "fan_avg", "uniform")
LEAKY_SLOPE = 0.2


class Head(nn.Module):
    """Maps features phi to the score w . phi + b, plus embedding(label) . phi if there are classes; float32.

    Attributes:
      num_classes: 0 is unconditional.
      bias: whether the score has the term b.
      kernel_init: of w and of the embedding.
    """

    num_classes: int
    bias: bool
    kernel_init: nn.initializers.Initializer

    @nn.compact
    def __call__(self, features: Float[Array, "batch feature"], labels: Labels) -> Scores:
        """One score per example.

        Raises:
          ValueError: labels are missing for a conditional head, or given to an unconditional one.
        """
        if (labels is None) == bool(self.num_classes):
            raise ValueError(f"a discriminator with num_classes={self.num_classes} got labels={labels is not None}")
        features = features.astype(jnp.float32)
        scores = nn.Dense(1, use_bias=self.bias, kernel_init=self.kernel_init, name="score")(features)[:, 0]
        if labels is not None:
            embed = nn.Embed(self.num_classes, features.shape[-1], embedding_init=self.kernel_init, name="label")
            scores += jnp.sum(embed(labels) * features, axis=-1)
        return scores


class DCGANGenerator(nn.Module):
    """A dense layer to a small feature map, then transposed convolutions that double its size.

    Every layer except the last is followed by batch norm and ReLU, the last one by tanh.

    Attributes:
      base: (height, width) of the small feature map.
      channels: width of the feature map before each doubling.
      out_channels: channels of the image.
      num_classes: 0 is unconditional.
      kernel: side of the kernels in pixels.
      bias: whether the last layer has a bias; the other layers have none, because batch norms follow them.
      norm_rows, norm_epsilon: of the batch norms, see `rows` and `epsilon` of `nn.batch_norm`.
      dtype: of the computation; batch norms and the image stay float32.
    """

    base: tuple[int, int]
    channels: tuple[int, ...]
    out_channels: int
    num_classes: int = 0
    kernel: int = 4
    bias: bool = True
    norm_rows: int = 0
    dtype: Dtype = jnp.float32
    norm_epsilon: float = EPSILON

    @nn.compact
    def __call__(self, latents: Latents, labels: Labels = None, mean: Callable | None = None) -> Images:
        """Latents [batch, latent] to images in [-1, 1].

        `mean` is `dist.mean` in training and None in evaluation, see `nn.batch_norm`.
        """

        def rectified(h, name):
            return nn.relu(BatchNorm(self.num_classes, self.norm_rows, self.norm_epsilon, name=name)(h, labels, mean))

        def doubled(h, width, name, bias=False):
            return DoublingConv(width, self.kernel, bias, self.dtype, DCGAN_INIT, name=name)(h)

        first = self.base[0] * self.base[1] * self.channels[0]
        h = nn.Dense(first, use_bias=False, dtype=self.dtype, kernel_init=DCGAN_INIT, name="project")(latents)
        h = rectified(h.reshape(-1, *self.base, self.channels[0]), "norm_0")
        for level, width in enumerate(self.channels[1:], 1):
            h = rectified(doubled(h, width, f"up_{level - 1}"), f"norm_{level}")
        h = doubled(h, self.out_channels, f"up_{len(self.channels) - 1}", self.bias)
        return jnp.tanh(h.astype(jnp.float32))


class DCGANDiscriminator(nn.Module):
    """Strided convolutions with leaky ReLU, and a linear score of the flattened last feature map.

    Attributes:
      channels: width of each convolution, all of which halve the size.
      num_classes: 0 is unconditional.
      kernel: side of the kernels in pixels.
      batch_norm: whether batch norms follow all convolutions except the first, as in the paper.
      bias: whether layers that no batch norm follows have a bias.
      norm_rows, norm_epsilon: of the batch norms, see `rows` and `epsilon` of `nn.batch_norm`.
      dtype: of the computation; batch norms and the score stay float32.
    """

    channels: tuple[int, ...]
    num_classes: int = 0
    kernel: int = 4
    batch_norm: bool = False
    bias: bool = True
    norm_rows: int = 0
    dtype: Dtype = jnp.float32
    norm_epsilon: float = EPSILON

    @nn.compact
    def __call__(self, images: Images, labels: Labels = None, mean: Callable | None = None) -> Scores:
        """One score per image: an unbounded number, which is higher for images that look more real."""
        h = images
        for level, width in enumerate(self.channels):
            normed = self.batch_norm and level > 0
            bias, size, init = self.bias and not normed, (self.kernel, self.kernel), DCGAN_INIT
            h = nn.Conv(width, size, 2, use_bias=bias, dtype=self.dtype, kernel_init=init, name=f"down_{level}")(h)
            if normed:
                h = BatchNorm(rows=self.norm_rows, epsilon=self.norm_epsilon, name=f"norm_{level}")(h, None, mean)
            h = nn.leaky_relu(h, LEAKY_SLOPE)
        return Head(self.num_classes, self.bias, DCGAN_INIT, name="head")(h.reshape(h.shape[0], -1), labels)


def _conv(x: Images, width: int, size: int, dtype: Dtype, name: str) -> Maps:
    """A 3x3 convolution of a residual branch or the 1x1 convolution of a shortcut, whose initial gains differ."""
    init = GLOROT if size == 1 else GLOROT_RELU
    return nn.Conv(width, (size, size), dtype=dtype, kernel_init=init, name=name)(x)


def _halved(x: Images) -> Maps:
    return nn.avg_pool(x, (2, 2), (2, 2))


def _doubled(x: Images) -> Maps:
    return upsample_to(x, 2 * x.shape[1], 2 * x.shape[2])


class UpBlock(nn.Module):
    """Residual block that doubles height and width: norm, ReLU, double, conv, norm, ReLU, conv.

    The shortcut is a 1x1 convolution. Attributes are those of `ResNetGenerator`, with `width` the output's channels.
    """

    width: int
    num_classes: int
    norm_rows: int
    dtype: Dtype
    norm_epsilon: float = EPSILON

    @nn.compact
    def __call__(self, x: Images, labels: Labels, mean: Callable | None) -> Maps:
        """[batch, h, w, channel] to [batch, 2 h, 2 w, width]; `mean` as in `DCGANGenerator`."""

        def rectified(h, name):
            return nn.relu(BatchNorm(self.num_classes, self.norm_rows, self.norm_epsilon, name=name)(h, labels, mean))

        h = _conv(_doubled(rectified(x, "norm_0")), self.width, 3, self.dtype, "conv_0")
        h = _conv(rectified(h, "norm_1"), self.width, 3, self.dtype, "conv_1")
        # Doubling commutes with a 1x1 convolution, which is cheaper before it.
        return h + _doubled(_conv(x, self.width, 1, self.dtype, "shortcut"))


class ResNetGenerator(nn.Module):
    """A dense layer to a small feature map, residual blocks that double its size, then norm, ReLU, conv and tanh.

    Attributes:
      base: (height, width) of the small feature map.
      channels: width of the small feature map, then of each residual block.
      out_channels: channels of the image.
      num_classes: 0 is unconditional.
      norm_rows, norm_epsilon: of the batch norms, see `rows` and `epsilon` of `nn.batch_norm`.
      dtype: of the computation; batch norms and the image stay float32.
    """

    base: tuple[int, int]
    channels: tuple[int, ...]
    out_channels: int
    num_classes: int = 0
    norm_rows: int = 0
    dtype: Dtype = jnp.float32
    norm_epsilon: float = EPSILON

    @nn.compact
    def __call__(self, latents: Latents, labels: Labels = None, mean: Callable | None = None) -> Images:
        """Latents [batch, latent] to images in [-1, 1]; `mean` as in `DCGANGenerator`."""
        first = self.base[0] * self.base[1] * self.channels[0]
        h = nn.Dense(first, dtype=self.dtype, kernel_init=GLOROT, name="project")(latents)
        h = h.reshape(-1, *self.base, self.channels[0])
        for level, width in enumerate(self.channels[1:]):
            settings = (self.num_classes, self.norm_rows, self.dtype, self.norm_epsilon)
            h = UpBlock(width, *settings, name=f"up_{level}")(h, labels, mean)
        h = nn.relu(BatchNorm(rows=self.norm_rows, epsilon=self.norm_epsilon, name="norm")(h, None, mean))
        h = nn.Conv(self.out_channels, (3, 3), dtype=jnp.float32, kernel_init=GLOROT, name="image")(h)
        return jnp.tanh(h)


class DownBlock(nn.Module):
    """Residual block of the discriminator without norms: ReLU, conv, ReLU, conv, and average pooling.

    Attributes:
      width: channels of the output.
      halve: whether pooling halves height and width.
      first: whether the input is the image, to which no ReLU is applied.
      dtype: of the computation.
    """

    width: int
    halve: bool
    first: bool
    dtype: Dtype

    @nn.compact
    def __call__(self, x: Images) -> Maps:
        """[batch, h, w, channel] to [batch, h / 2, w / 2, width], or to [batch, h, w, width] without halving.

        The shortcut has a 1x1 convolution if the size or the width changes.
        """
        hidden = self.width if self.first else x.shape[-1]
        h = x if self.first else nn.relu(x)
        h = nn.relu(_conv(h, hidden, 3, self.dtype, "conv_0"))
        h = _conv(h, self.width, 3, self.dtype, "conv_1")
        changes = self.halve or x.shape[-1] != self.width
        if self.halve:
            h, x = _halved(h), _halved(x)
        return h + (_conv(x, self.width, 1, self.dtype, "shortcut") if changes else x)


class ResNetDiscriminator(nn.Module):
    """Residual blocks, ReLU, the sum over space, and a linear score.

    Attributes:
      channels: width of each block.
      halvings: number of blocks, from the first on, that halve height and width.
      num_classes: 0 is unconditional.
      dtype: of the computation; the score stays float32.
      bias: whether the score has a bias.
    """

    channels: tuple[int, ...]
    halvings: int
    num_classes: int = 0
    dtype: Dtype = jnp.float32
    bias: bool = True

    @nn.compact
    def __call__(self, images: Images, labels: Labels = None, mean: Callable | None = None) -> Scores:
        """One score per image, unbounded; `mean` is not used, because the network has no batch norm."""
        h = images
        for level, width in enumerate(self.channels):
            h = DownBlock(width, level < self.halvings, level == 0, self.dtype, name=f"down_{level}")(h)
        features = jnp.sum(nn.relu(h.astype(jnp.float32)), axis=(1, 2))
        return Head(self.num_classes, self.bias, GLOROT, name="head")(features, labels)


ARCHITECTURES = ("dcgan", "resnet")
NORMS = ("spectral", "batch", "none")


@dataclasses.dataclass(frozen=True)
class Networks:
    """The section `config.model` of a GAN: the settings of both networks, for images of one shape.

    Attributes:
      image_shape, num_classes: of the data; 0 classes is unconditional.
      architecture: kind of both networks: dcgan or resnet.
      latent: numbers in a latent, which are standard normal.
      channels: the generator's width at its smallest map and after each doubling; a dcgan's last doubling is the image.
      discriminator_channels: the discriminator's width after each convolution or block; () are the generator's in
        reverse. With few, the discriminator sees small parts of the image only: two convolutions of a dcgan see 10
        pixels, four see 46.
      discriminator_halvings: how many blocks of a resnet halve the size; 0 are as many as the generator doubles.
      discriminator_norm: normalisation in the discriminator: spectral, batch (dcgan, as in its paper) or none.
      kernel: side of a dcgan's kernels: 5 in the paper, 4 in most code.
      bias: adds a bias in those layers of a dcgan that no batch norm follows, and to the score of a resnet.
      norm_rows: the batch norms' group: 0 is the batch over all devices, else so many contiguous rows of it.
      norm_epsilon: added to the variance in the batch norms.
      dtype: precision of the computation: float32 or bfloat16.
    Raises:
      ValueError: a value is out of range, or the images cannot be halved as often as the networks need.
    """

    image_shape: tuple[int, int, int]
    num_classes: int
    architecture: str = "dcgan"
    latent: int = 100
    channels: tuple[int, ...] = (128, 64)
    discriminator_channels: tuple[int, ...] = ()
    discriminator_halvings: int = 0
    discriminator_norm: str = "spectral"
    kernel: int = 4
    bias: bool = True
    norm_rows: int = 0
    norm_epsilon: float = EPSILON
    dtype: str = "float32"

    def __post_init__(self):
        for name, known in (
            ("architecture", ARCHITECTURES),
            ("discriminator_norm", NORMS),
            ("dtype", ("float32", "bfloat16")),
        ):
            if getattr(self, name) not in known:
                raise ValueError(f"unknown {name} {getattr(self, name)!r}; there are {', '.join(known)}")
        if min(self.latent, self.kernel - 1, *self.channels, *self.discriminator_channels, len(self.channels)) < 1:
            raise ValueError("latent, channels and discriminator_channels must be at least 1, kernel at least 2")
        if self.norm_rows < 0 or self.discriminator_halvings < 0:
            raise ValueError("norm_rows and discriminator_halvings must not be negative")
        if not 0 < self.norm_epsilon < 1:
            raise ValueError(f"norm_epsilon must be within (0, 1), got {self.norm_epsilon}")
        if self.architecture == "resnet" and self.discriminator_norm == "batch":
            raise ValueError("discriminator_norm=batch needs architecture=dcgan; a resnet takes spectral or none")
        if self.architecture == "dcgan" and self.discriminator_halvings:
            raise ValueError("discriminator_halvings needs architecture=resnet; a dcgan halves at every width")
        if self.halvings > len(self.discriminator_widths):
            raise ValueError(
                f"discriminator_halvings={self.halvings} needs at least as many discriminator_channels, "
                f"got {len(self.discriminator_widths)}"
            )
        exact_halvings = {"channels": self.doublings}
        if self.architecture == "resnet":  # a dcgan's padded convolutions halve odd sizes too
            exact_halvings["discriminator_channels"] = self.halvings
        for name, times in exact_halvings.items():
            step = 2**times
            bad = [side for side in self.image_shape[:2] if side % step]
            if bad:
                fitting = ", ".join(str(side) for side in range(step, 4 * bad[0] + 1, step) if side * 2 >= bad[0])
                raise ValueError(
                    f"images of side {bad[0]} do not halve {times} times, as {name}={getattr(self, name)} requires; "
                    f"sizes that do: {fitting or step}. Set config.data.size, or fewer widths"
                )

    @property
    def doublings(self) -> int:
        """How often the generator doubles height and width."""
        return len(self.channels) - (self.architecture == "resnet")

    @property
    def discriminator_widths(self) -> tuple[int, ...]:
        """The channels of each convolution or block of the discriminator."""
        return tuple(self.discriminator_channels or self.channels[::-1])

    @property
    def halvings(self) -> int:
        """How often the discriminator halves height and width."""
        if self.architecture == "dcgan":
            return len(self.discriminator_widths)
        return self.discriminator_halvings or self.doublings

    def generator(self) -> nn.Module:
        """The generator: (latents, labels, mean) to images in [-1, 1]."""
        height, width, colours = self.image_shape
        base = (height >> self.doublings, width >> self.doublings)
        common = (base, tuple(self.channels), colours, self.num_classes)
        if self.architecture == "resnet":
            return ResNetGenerator(*common, self.norm_rows, self.dtype, self.norm_epsilon)
        return DCGANGenerator(*common, self.kernel, self.bias, self.norm_rows, self.dtype, self.norm_epsilon)

    def discriminator(self) -> nn.Module:
        """The discriminator: (images, labels, mean) to scores. `nn.spectral_norm` normalises its parameters outside."""
        widths = self.discriminator_widths
        if self.architecture == "resnet":
            return ResNetDiscriminator(widths, self.halvings, self.num_classes, self.dtype, self.bias)
        norms = (self.norm_rows, self.dtype, self.norm_epsilon)
        batch_norm = self.discriminator_norm == "batch"
        return DCGANDiscriminator(widths, self.num_classes, self.kernel, batch_norm, self.bias, *norms)
