"""Flags of the commands that measure; those given override the run's config.eval."""

from typing import Any

from absl import flags

OVERRIDES = {
    "extractor": flags.DEFINE_string(
        "extractor",
        None,
        "Whose features: digits, mnist, fashion_mnist, inception[:PATH], or your own module:function.",
    ),
    "resize": flags.DEFINE_string("resize", None, "How images come to the extractor's size: none, tf1 or clean."),
    "layer": flags.DEFINE_string("layer", None, "Of the FID Inception: pool3, mixed6, pool2, pool1, spatial, logits."),
    "subsets": flags.DEFINE_integer("subsets", None, "Of the kernel distance; 100.", lower_bound=1),
    "subset_size": flags.DEFINE_integer("subset_size", None, "Images in each; 1000.", lower_bound=2),
    "neighbours": flags.DEFINE_integer("neighbours", None, "Of precision, recall ...; 3.", lower_bound=1),
    "splits": flags.DEFINE_integer("splits", None, "Of the classifier score; 10.", lower_bound=1),
    "lpips_trunk": flags.DEFINE_string("lpips_trunk", None, "AlexNet's or VGG16's weights, a .pth of torchvision."),
    "lpips_linear": flags.DEFINE_string("lpips_linear", None, "The linear layers of LPIPS v0.1, a .pth."),
}


def given() -> dict[str, Any]:
    """{name: value} of the flags that were given."""
    return {name: flag.value for name, flag in OVERRIDES.items() if flag.value is not None}
