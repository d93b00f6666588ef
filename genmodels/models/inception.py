"""The Inception network of the Frechet inception distance: Szegedy et al. 2015 in TensorFlow's graph of 2015-12-05.

It differs from the published Inception v3, and from torchvision's, in four points: it has 1008 classes, average pools
do not count the padding, the last block has a max pool, and there is no auxiliary head. Batch norms are folded into the
convolutions before them (`extractors.inception`), so that a layer has only a kernel and a bias. Modules have the names
of the PyTorch port whose weights file is in common use.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from flax import linen as nn
from jaxtyping import Array, Float

SIZE = 299  # pixels
CLASSES = 1008
SPATIAL_CHANNELS = 7  # of Mixed_6d.branch1x1, which is TensorFlow's mixed_6/conv (Nash et al. 2021)

Maps = Float[Array, "_ _ _ _"]  # [batch, height, width, channel]


class Taps(NamedTuple):
    """The features of an image batch at several depths of the network.

    Attributes:
      pool1, pool2, mixed6: means over space after the first max pool, after the second, and after Mixed_6e.
      pool3: the 2048 features of FID.
      spatial: the first 7 channels of a 17x17 map, flattened row by row, which are the features of sFID.
      logits: with the bias of the last layer.
      unbiased: logits without that bias, as the Inception Score uses them.
    """

    pool1: Float[Array, "batch 64"]
    pool2: Float[Array, "batch 192"]
    mixed6: Float[Array, "batch 768"]
    pool3: Float[Array, "batch 2048"]
    spatial: Float[Array, "batch 2023"]
    logits: Float[Array, "batch 1008"]
    unbiased: Float[Array, "batch 1008"]


class _Folded(nn.Module):
    """A convolution into which a batch norm is folded, then ReLU."""

    width: int
    kernel: tuple[int, int]
    stride: int = 1
    padding: str = "SAME"

    @nn.compact
    def __call__(self, x: Maps) -> Maps:
        precision = jax.lax.Precision.HIGHEST
        conv = nn.Conv(self.width, self.kernel, self.stride, self.padding, precision=precision, name="conv")
        return nn.relu(conv(x))


def _average(x: Maps) -> Maps:
    return nn.avg_pool(x, (3, 3), padding="SAME", count_include_pad=False)


def _largest(x: Maps) -> Maps:
    return nn.max_pool(x, (3, 3), padding="SAME")


def _halved(x: Maps) -> Maps:
    return nn.max_pool(x, (3, 3), (2, 2))


_VALID = "VALID"


class Inception(nn.Module):
    """Maps images in [-1, 1] of 299x299x3, or of any size from 75x75x3 on, to their `Taps`."""

    @nn.compact
    def __call__(self, x: Float[Array, "batch height width 3"]) -> Taps:
        """All taps; under jit a tap that the caller does not use costs nothing."""

        def conv(h, name, width, kernel=1, stride=1, padding="SAME"):
            kernel = (kernel, kernel) if isinstance(kernel, int) else kernel
            return _Folded(width, kernel, stride, padding, name=name.replace(".", "_"))(h)

        def chain(h, *layers):
            for layer in layers:
                h = conv(h, *layer)
            return h

        def mixed_35(h, name, pooled):
            return jnp.concatenate(
                [
                    conv(h, f"{name}.branch1x1", 64),
                    chain(h, (f"{name}.branch5x5_1", 48), (f"{name}.branch5x5_2", 64, 5)),
                    chain(
                        h,
                        (f"{name}.branch3x3dbl_1", 64),
                        (f"{name}.branch3x3dbl_2", 96, 3),
                        (f"{name}.branch3x3dbl_3", 96, 3),
                    ),
                    conv(_average(h), f"{name}.branch_pool", pooled),
                ],
                axis=-1,
            )

        def mixed_17(h, name, inner):
            row, column = (1, 7), (7, 1)
            first = conv(h, f"{name}.branch1x1", 192)
            parts = [
                first,
                chain(
                    h,
                    (f"{name}.branch7x7_1", inner),
                    (f"{name}.branch7x7_2", inner, row),
                    (f"{name}.branch7x7_3", 192, column),
                ),
                chain(
                    h,
                    (f"{name}.branch7x7dbl_1", inner),
                    (f"{name}.branch7x7dbl_2", inner, column),
                    (f"{name}.branch7x7dbl_3", inner, row),
                    (f"{name}.branch7x7dbl_4", inner, column),
                    (f"{name}.branch7x7dbl_5", 192, row),
                ),
                conv(_average(h), f"{name}.branch_pool", 192),
            ]
            return jnp.concatenate(parts, axis=-1), first

        def mixed_8(h, name, pool):
            def split(h, stem, a, b):
                return [conv(h, f"{name}.{stem}{a}", 384, (1, 3)), conv(h, f"{name}.{stem}{b}", 384, (3, 1))]

            return jnp.concatenate(
                [
                    conv(h, f"{name}.branch1x1", 320),
                    *split(conv(h, f"{name}.branch3x3_1", 384), "branch3x3_", "2a", "2b"),
                    *split(
                        chain(h, (f"{name}.branch3x3dbl_1", 448), (f"{name}.branch3x3dbl_2", 384, 3)),
                        "branch3x3dbl_",
                        "3a",
                        "3b",
                    ),
                    conv(pool(h), f"{name}.branch_pool", 192),
                ],
                axis=-1,
            )

        h = conv(x, "Conv2d_1a_3x3", 32, 3, 2, _VALID)
        h = conv(h, "Conv2d_2a_3x3", 32, 3, 1, _VALID)
        h = pool1 = _halved(conv(h, "Conv2d_2b_3x3", 64, 3))
        h = conv(h, "Conv2d_3b_1x1", 80, 1)
        h = pool2 = _halved(conv(h, "Conv2d_4a_3x3", 192, 3, 1, _VALID))
        for name, pooled in (("Mixed_5b", 32), ("Mixed_5c", 64), ("Mixed_5d", 64)):
            h = mixed_35(h, name, pooled)
        name = "Mixed_6a"
        h = jnp.concatenate(
            [
                conv(h, f"{name}.branch3x3", 384, 3, 2, _VALID),
                chain(
                    h,
                    (f"{name}.branch3x3dbl_1", 64),
                    (f"{name}.branch3x3dbl_2", 96, 3),
                    (f"{name}.branch3x3dbl_3", 96, 3, 2, _VALID),
                ),
                _halved(h),
            ],
            axis=-1,
        )
        for name, inner in (("Mixed_6b", 128), ("Mixed_6c", 160), ("Mixed_6d", 160), ("Mixed_6e", 192)):
            h, first = mixed_17(h, name, inner)
            if name == "Mixed_6d":
                spatial = first[..., :SPATIAL_CHANNELS]
        mixed6 = h
        name = "Mixed_7a"
        h = jnp.concatenate(
            [
                chain(h, (f"{name}.branch3x3_1", 192), (f"{name}.branch3x3_2", 320, 3, 2, _VALID)),
                chain(
                    h,
                    (f"{name}.branch7x7x3_1", 192),
                    (f"{name}.branch7x7x3_2", 192, (1, 7)),
                    (f"{name}.branch7x7x3_3", 192, (7, 1)),
                    (f"{name}.branch7x7x3_4", 192, 3, 2, _VALID),
                ),
                _halved(h),
            ],
            axis=-1,
        )
        h = mixed_8(h, "Mixed_7b", _average)
        h = mixed_8(h, "Mixed_7c", _largest)
        pool3 = h.mean((1, 2))
        fc = nn.Dense(CLASSES, precision=jax.lax.Precision.HIGHEST, name="fc")
        logits = fc(pool3)
        bias = fc.variables["params"]["bias"]
        first, second, third = (part.mean((1, 2)) for part in (pool1, pool2, mixed6))
        return Taps(first, second, third, pool3, spatial.reshape(len(x), -1), logits, logits - bias)
