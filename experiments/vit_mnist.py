"""A small Vision Transformer on MNIST or Fashion-MNIST: 16 patches of 7x7 pixels, 306,634 parameters.

python -m genmodels.train --config=experiments/vit_mnist.py --workdir=runs/vit_mnist --config.data.source=idx:DIR

The variant fashion is too short for a Vision Transformer: it is right on as few training images as test images, and on
fewer than the ConvNet of classifier_mnist.py.
"""

from ml_collections import ConfigDict

from genmodels.config import TINY, Variant, check_variant, defaults, promise, tiny

VARIANTS = {
    "": Variant("MNIST", "9 min on 2 CPU cores"),
    "fashion": Variant("Fashion-MNIST, with flips", "6 min on 2 CPU cores"),
    "tiny": TINY,
}


def get_config(variant: str = "") -> ConfigDict:
    """One of VARIANTS."""
    check_variant(variant, VARIANTS)
    config = defaults("classifier", network="vit")
    config.data.source = "idx:data/mnist"
    config.data.augment.pad_crop = 2
    config.model.update(patch_size=7, width=96, depth=4, heads=4, hidden=192, pooling="mean")
    config.loss.label_smoothing = 0.1
    config.train.update(batch_size=100, epochs=8.0)
    config.optim.update(name="adamw", weight_decay=0.05, learning_rate=2e-3, warmup=300, decay="cosine")
    config.optim.no_decay = (".*/(bias|scale)", ".*/(position_embedding|class_position|class_token)")
    config.ema.horizon = 0.05
    config.log.every = 100
    config.eval.metrics = ("accuracy",)
    reached = {"": (0.99, 0.004), "fashion": (0.862, 0.015)}
    held_out = {"data": "fashion_mnist" if variant == "fashion" else "mnist", "n_reference": 10_000}
    if variant in reached:
        config.expect = (promise("accuracy", *reached[variant], **held_out, reference_split="test"),)

    if variant == "fashion":
        config.data.source = "idx:data/fashion_mnist"
        config.data.augment.flip = True
    if variant == "tiny":
        tiny(config, patch_size=4, width=8, depth=2, heads=2, hidden=16)
    return config
