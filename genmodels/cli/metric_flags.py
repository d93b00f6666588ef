"""Flags on how metrics are measured; a flag that is given overrides the run's config.eval."""

from typing import Any

from absl import flags

from genmodels.cli import value_flags

OVERRIDES = {
    "extractor": value_flags.define_path(
        "extractor",
        None,
        "Network whose features are taken: digits, mnist, fashion_mnist, inception[:PATH], your own module:function.",
    ),
    "resize": flags.DEFINE_string("resize", None, "How images are resized for the extractor: none, tf1 or clean."),
    "layer": flags.DEFINE_string(
        "layer", None, "Layer of the FID Inception: pool3, mixed6, pool2, pool1, spatial, logits."
    ),
    "subsets": flags.DEFINE_integer("subsets", None, "Subsets of the kernel distance; default: 100.", lower_bound=1),
    "subset_size": flags.DEFINE_integer("subset_size", None, "Images in each subset; default: 1000.", lower_bound=2),
    "neighbours": flags.DEFINE_integer(
        "neighbours", None, "Neighbours of precision, recall, density and coverage; default: 3.", lower_bound=1
    ),
    "splits": flags.DEFINE_integer("splits", None, "Splits of the classifier score; default: 10.", lower_bound=1),
    "lpips_trunk": value_flags.define_path(
        "lpips_trunk", None, "Weights of AlexNet or VGG16 for LPIPS, a .pth of torchvision."
    ),
    "lpips_linear": value_flags.define_path("lpips_linear", None, "Linear layers of LPIPS v0.1, a .pth."),
}


def given() -> dict[str, Any]:
    """{name: value} of the flags that were given."""
    return {name: flag.value for name, flag in OVERRIDES.items() if flag.value is not None}
