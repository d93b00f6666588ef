"""A small DCGAN on scikit-learn's 8x8 digits.

python -m genmodels.train --config=experiments/gan_digits.py --workdir=runs/gan_digits
"""

from ml_collections import ConfigDict

from genmodels.config import TINY, Variant, check_variant, defaults, promise, tiny

VARIANTS = {
    "": Variant("unconditional, with spectral norm", "1.3 min on 2 CPU cores"),
    "conditional": Variant("on the class", "1.5 min on 2 CPU cores"),
    "tiny": TINY,
}


def get_config(variant: str = "") -> ConfigDict:
    """One of VARIANTS."""
    check_variant(variant, VARIANTS)
    config = defaults("gan")
    config.model.update(latent=32, channels=(64, 32), discriminator_channels=(32, 64))
    config.train.update(batch_size=64, steps=3000)
    config.optim.update(b1=0.5, clip_norm=0.0, decay="linear")
    config.optim.generator.learning_rate = 1e-3
    config.optim.discriminator.learning_rate = 1e-3
    config.ema.horizon = 0.1
    config.checkpoint.best = ""  # no logged number says which checkpoint is the best
    config.eval.metrics = ("fd_digits", "recall_digits", "class_share_min_digits", "nn_distance_ratio")
    sampled = {"data": "digits", "n_generated": 1000, "weights": "ema"}
    config.expect = (
        promise("fd_digits", 60.0, 25.0, **sampled, reference_split="test"),
        promise("recall_digits", 0.87, 0.15, **sampled, reference_split="test"),
        promise("class_share_min_digits", 0.056, 0.03, **sampled),
    )

    if variant == "conditional":
        config.gan.conditional = True
        config.eval.metrics += ("agreement_digits",)
        config.expect = (
            promise("fd_digits", 12.0, 5.0, **sampled, reference_split="test"),
            promise("recall_digits", 0.79, 0.15, **sampled, reference_split="test"),
            promise("agreement_digits", 0.99, 0.03, **sampled),
        )
    if variant == "tiny":
        tiny(config, latent=4, channels=(8, 4), discriminator_channels=(4, 8))
    return config
