"""The trunks of LPIPS: the convolutional parts of AlexNet and VGG16 (Zhang et al. 2018), tapped after five ReLUs.

Layers are named by their place in torchvision's `features`, where the published weights come from.
"""

from flax import linen as nn
from jax.lax import Precision
from jaxtyping import Array, Float

Maps = Float[Array, "_ _ _ _"]  # [batch, height, width, channel]

# place in `features`: width, kernel, stride, padding, whether a max pool (window, stride) stands before it, and whether
# the output is tapped.
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
    """Images, shifted and scaled, to five maps.

    Attributes:
      kind: of TRUNKS.
    """

    kind: str

    @nn.compact
    def __call__(self, x: Float[Array, "batch height width 3"]) -> list[Maps]:
        """The tapped outputs, shallow first."""
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
