"""The trunks of LPIPS (Zhang et al. 2018): the convolutional parts of AlexNet and VGG16, with five taps after ReLUs.

Layers are named by their index in torchvision's `features`, because the published weights come from there.
"""

from flax import linen as nn
from jax.lax import Precision
from jaxtyping import Array, Float

Maps = Float[Array, "_ _ _ _"]  # [batch, height, width, channel]

# For each convolution: its index in `features`, width, kernel, stride, padding, (window, stride) of a max pool before
# it or None, and whether its output is a tap.
TRUNKS = {
    "alex": (
        (0, 64, 11, 4, 2, None, True),
        (3, 192, 5, 1, 2, (3, 2), True),
        (6, 384, 3, 1, 1, (3, 2), True),
        (8, 256, 3, 1, 1, None, True),
        (10, 256, 3, 1, 1, None, True),
    ),
    "vgg": (
        (0, 64, 3, 1, 1, None, False),
        (2, 64, 3, 1, 1, None, True),
        (5, 128, 3, 1, 1, (2, 2), False),
        (7, 128, 3, 1, 1, None, True),
        (10, 256, 3, 1, 1, (2, 2), False),
        (12, 256, 3, 1, 1, None, False),
        (14, 256, 3, 1, 1, None, True),
        (17, 512, 3, 1, 1, (2, 2), False),
        (19, 512, 3, 1, 1, None, False),
        (21, 512, 3, 1, 1, None, True),
        (24, 512, 3, 1, 1, (2, 2), False),
        (26, 512, 3, 1, 1, None, False),
        (28, 512, 3, 1, 1, None, True),
    ),
}


class Trunk(nn.Module):
    """Maps shifted and scaled images (`metrics.lpips.scaled`) to five feature maps.

    Attributes:
      kind: "alex" or "vgg", a key of TRUNKS.
    """

    kind: str

    @nn.compact
    def __call__(self, x: Float[Array, "batch height width 3"]) -> list[Maps]:
        """The outputs of the tapped layers, from shallow to deep, each [batch, height, width, channel]."""
        taps = []
        for place, width, kernel, stride, padding, pool, tapped in TRUNKS[self.kind]:
            if pool:
                window, step = pool
                x = nn.max_pool(x, (window, window), (step, step))
            pad = ((padding, padding), (padding, padding))
            conv = nn.Conv(width, (kernel, kernel), stride, pad, precision=Precision.HIGHEST, name=f"features_{place}")
            x = nn.relu(conv(x))
            if tapped:
                taps.append(x)
        return taps
