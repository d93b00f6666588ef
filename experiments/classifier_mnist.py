"""The classifiers behind `fd_mnist` and `fd_fashion_mnist`, trained on the 60,000 training images.

python -m genmodels.train --config=experiments/classifier_mnist.py --workdir=runs/mnist --config.data.source=idx:DIR
python -m genmodels.export --workdir=runs/mnist --out=genmodels/extractors/weights/mnist.npz

Fashion-MNIST's is the variant fashion. 2 CPU cores: about 4 minutes each. Expect: accuracy 0.994 - 0.003 on the 10,000
test images, of fashion 0.921 - 0.005. Rebuilding gives the same network to rounding; its hash, and with it the identity
of every number, changes.
"""

from ml_collections import ConfigDict

from genmodels.config import check_variant, defaults


def get_config(variant: str = "") -> ConfigDict:
    """Variants: fashion, tiny (seconds, on the embedded digits, for tests)."""
    check_variant(variant, "fashion", "tiny")
    config = defaults()
    config.task = "classifier"
    config.data.source = "idx:data/fashion_mnist" if variant == "fashion" else "idx:data/mnist"
    config.model = {"channels": (16, 32, 48, 48), "features": 64, "dropout": 0.3}
    config.train.batch_size = 100
    config.train.epochs = 12.0
    config.optim.name = "adamw"
    config.optim.weight_decay = 0.01
    config.optim.learning_rate = 2e-3
    config.optim.warmup = 200
    config.optim.decay = "cosine"
    config.ema.horizon = 0.05
    config.log.every = 200
    config.eval.metrics = ("accuracy",)
    config.expect = (
        {
            "metric": "accuracy",
            "value": 0.921 if variant == "fashion" else 0.994,
            "tolerance": 0.005 if variant == "fashion" else 0.003,
            "protocol": {"reference_split": "test", "n_reference": 10000},
        },
    )

    if variant == "tiny":
        config.data.source = "digits"
        config.model.channels = (4, 4)
        config.model.features = 8
        config.train.batch_size = 16
        config.train.epochs = 0.0
        config.train.steps = 6
        config.log.every = 2
        config.checkpoint.every = 3
        config.eval.batch_size = 40
        config.expect = ()
    return config
