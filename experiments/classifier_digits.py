"""The digits classifier behind `fd_digits` and `agreement_digits`.

python -m genmodels.train --config=experiments/classifier_digits.py --workdir=runs/classifier_digits
python -m genmodels.export --workdir=runs/classifier_digits --out=genmodels/extractors/weights/digits.npz

Rebuilding it gives the same network to rounding; its hash, and with it the identity of every number, changes.
"""

from ml_collections import ConfigDict

from genmodels.config import TINY, Variant, check_variant, defaults, promise, tiny

VARIANTS = {"": Variant("a small ConvNet", "1 min on 2 CPU cores"), "tiny": TINY}


def get_config(variant: str = "") -> ConfigDict:
    """One of VARIANTS."""
    check_variant(variant, VARIANTS)
    config = defaults("classifier", network="convnet")
    config.model.dropout = 0.3
    config.train.update(batch_size=50, steps=3000)
    config.optim.update(name="adamw", weight_decay=0.01, learning_rate=2e-3, warmup=100, decay="cosine")
    config.ema.horizon = 0.05
    config.log.every = 100
    config.eval.metrics = ("accuracy",)
    config.expect = (promise("accuracy", 0.993, 0.007, data="digits", reference_split="test", n_reference=297),)
    if variant == "tiny":
        tiny(config, channels=(4, 4), features=8)
    return config
