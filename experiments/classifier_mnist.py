"""The classifiers behind `fd_mnist` and `fd_fashion_mnist`, trained on the 60,000 training images.

python -m genmodels.train --config=experiments/classifier_mnist.py --workdir=runs/mnist --config.data.source=idx:DIR
python -m genmodels.export --workdir=runs/mnist --out=genmodels/extractors/weights/mnist.npz

Rebuilding gives the same network to rounding; its hash, and with it the identity of every number, changes.
"""

from ml_collections import ConfigDict

from genmodels.config import TINY, Variant, check_variant, defaults, promise, tiny

VARIANTS = {
    "": Variant("a small ConvNet on MNIST", "4 min on 2 CPU cores"),
    "fashion": Variant("the same on Fashion-MNIST", "4 min on 2 CPU cores"),
    "tiny": TINY,
}


def get_config(variant: str = "") -> ConfigDict:
    """One of VARIANTS."""
    check_variant(variant, VARIANTS)
    config = defaults("classifier", network="convnet")
    config.data.source = "idx:data/mnist"
    config.model.update(channels=(16, 32, 48, 48), dropout=0.3)
    config.train.update(batch_size=100, epochs=12.0)
    config.optim.update(name="adamw", weight_decay=0.01, learning_rate=2e-3, warmup=200, decay="cosine")
    config.ema.horizon = 0.05
    config.log.every = 200
    config.eval.metrics = ("accuracy",)
    held_out = {"reference_split": "test", "n_reference": 10_000}
    config.expect = (promise("accuracy", 0.994, 0.003, data="mnist", **held_out),)
    if variant == "fashion":
        config.data.source = "idx:data/fashion_mnist"
        config.expect = (promise("accuracy", 0.921, 0.005, data="fashion_mnist", **held_out),)
    if variant == "tiny":
        tiny(config, channels=(4, 4), features=8)
    return config
