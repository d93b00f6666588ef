"""The digits classifier behind `fd_digits` and `agreement_digits`.

python -m genmodels.train --config=experiments/classifier_digits.py --workdir=runs/classifier_digits
python -m genmodels.export --workdir=runs/classifier_digits --out=genmodels/extractors/weights/digits.npz
2 CPU cores: about a minute. Expect: accuracy 0.993 - 0.007 on the 297 test digits.

Rebuilding it gives the same network to rounding; its hash, and with it the identity of every number, changes.
"""

from ml_collections import ConfigDict

from genmodels.config import check_variant, defaults


def get_config(variant: str = "") -> ConfigDict:
    """Variants: tiny (seconds, for tests)."""
    check_variant(variant, "tiny")
    config = defaults()
    config.task = "classifier"
    config.data.source = "digits"
    config.model = {"channels": (24, 48, 48), "features": 64, "dropout": 0.3}
    config.train.batch_size = 50
    config.train.steps = 3000
    config.optim.name = "adamw"
    config.optim.weight_decay = 0.01
    config.optim.learning_rate = 2e-3
    config.optim.warmup = 100
    config.optim.decay = "cosine"
    config.ema.horizon = 0.05
    config.log.every = 100
    config.eval.metrics = ("accuracy",)
    config.expect = (
        {
            "metric": "accuracy",
            "value": 0.993,
            "tolerance": 0.007,
            "protocol": {"reference_split": "test", "n_reference": 297},
        },
    )

    if variant == "tiny":
        config.model.channels = (4, 4)
        config.model.features = 8
        config.train.batch_size = 16
        config.train.steps = 6
        config.log.every = 2
        config.checkpoint.every = 3
        config.eval.batch_size = 40
        config.expect = ()
    return config
