"""A small convolutional classifier whose last hidden layer serves as features."""

from flax import linen as nn
from jaxtyping import Array, Float, Key

from genmodels.nn.stochastic import Dropout


class ConvNet(nn.Module):
    """3x3 convolutions, then one hidden layer; every convolution but the first halves height and width.

    Attributes:
      num_classes: number of logits.
      channels: width of each convolution.
      features: width of the hidden layer.
      dropout: rate of dropout before the hidden layer and before the logits.
    """

    num_classes: int
    channels: tuple[int, ...] = (24, 48, 48)
    features: int = 64
    dropout: float = 0.0

    @nn.compact
    def __call__(
        self, images: Float[Array, "batch height width channel"], keys: Key[Array, " batch"] | None = None
    ) -> tuple[Float[Array, "batch classes"], Float[Array, "batch features"]]:
        """Images in [-1, 1] to (logits, features); dropout is on if `keys` are given."""
        h = images
        for index, width in enumerate(self.channels):
            h = nn.swish(nn.Conv(width, (3, 3), strides=2 if index else 1, name=f"conv_{index}")(h))
        h = Dropout(self.dropout, name="dropout_0")(h.reshape(h.shape[0], -1), keys)
        features = nn.swish(nn.Dense(self.features, name="hidden")(h))
        h = Dropout(self.dropout, name="dropout_1")(features, keys)
        return nn.Dense(self.num_classes, name="logits")(h), features
