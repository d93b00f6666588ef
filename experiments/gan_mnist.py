"""A small DCGAN on MNIST in its original idx files (plain or .gz).

python -m genmodels.train --config=experiments/gan_mnist.py --workdir=runs/gan_mnist --config.data.source=idx:DIR

Its discriminator is nearly always right towards the end, and the run says so; under hinge, with spectral norm, it is
right on 69 to 78%.
"""

from ml_collections import ConfigDict

from genmodels.config import TINY, Variant, check_variant, defaults, promise, tiny

VARIANTS = {
    "": Variant("non-saturating loss, batch norm in the discriminator", "13 min on 2 CPU cores"),
    "hinge": Variant("hinge loss and spectral norm", "12 min on 2 CPU cores"),
    "wgan_gp": Variant("Wasserstein loss with a gradient penalty", "12 min on 2 CPU cores"),
    "conditional": Variant("on the class"),
    "fashion": Variant("Fashion-MNIST", "13 min on 2 CPU cores"),
    "tiny": TINY,
}
FRECHET = {"": 24.0, "hinge": 33.0, "wgan_gp": 56.0, "fashion": 12.4}  # fd of each variant that was run


def get_config(variant: str = "") -> ConfigDict:
    """One of VARIANTS."""
    check_variant(variant, VARIANTS)
    data = "fashion_mnist" if variant == "fashion" else "mnist"
    config = defaults("gan")
    config.data.source = f"idx:data/{data}"
    config.model.update(latent=64, channels=(64, 32), discriminator_norm="batch")
    config.model.discriminator_channels = (16, 32, 64, 128)  # with two, it sees 10 pixels at a time, and no digit
    config.train.update(batch_size=64, steps=10_000)
    config.optim.update(b1=0.5, clip_norm=0.0, decay="linear")
    config.optim.generator.learning_rate = 5e-4
    config.optim.discriminator.learning_rate = 5e-4
    config.ema.horizon = 0.1
    config.log.every = 100
    config.checkpoint.best = ""  # no logged number says which checkpoint is the best
    config.eval.metrics = tuple(f"{family}_{data}" for family in ("fd", "recall", "precision", "class_share_min"))
    config.eval.num_samples = 2000
    if variant in FRECHET:
        sampled = {"data": data, "n_generated": 2000, "weights": "ema"}
        held_out = sampled | {"reference_split": "test", "n_reference": 10_000}
        config.expect = (
            promise(f"class_share_min_{data}", 0.08, 0.05, **sampled),
            promise(f"recall_{data}", 0.85, 0.15, **held_out),
            promise(f"fd_{data}", FRECHET[variant], 0.4 * FRECHET[variant], **held_out),
        )

    if variant == "hinge":
        config.gan.loss = "hinge"
        config.model.discriminator_norm = "spectral"
    if variant == "wgan_gp":
        config.gan.update(loss="wasserstein", penalty="wgan_gp", discriminator_steps=2)
        config.model.discriminator_norm = "none"
        config.train.update(batch_size=2 * 64, steps=4000)  # 64 for each discriminator step
        config.optim.update(b1=0.0, b2=0.9)
        config.optim.generator.learning_rate = 4e-4
        config.optim.discriminator.learning_rate = 4e-4
    if variant == "conditional":
        config.gan.conditional = True
        config.eval.metrics += ("agreement_mnist",)
    if variant == "tiny":
        tiny(config, latent=4, channels=(8, 4), discriminator_channels=(4, 8), discriminator_norm="none")
        config.gan.update(loss="wasserstein", penalty="wgan_gp")
        config.eval.metrics = ("fd_digits", "recall_digits", "class_share_min_digits")
    return config
