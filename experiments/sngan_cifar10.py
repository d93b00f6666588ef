"""SNGAN on CIFAR-10 with the residual networks and settings of its paper (Miyato et al. 2018, tables 1 and 4).

python -m genmodels.data.prepare --dataset=tfds:cifar10
python -m genmodels.train --config=experiments/sngan_cifar10.py --workdir=runs/sngan --config.model.dtype=bfloat16

For accelerators: 50,000 steps, each of 5 discriminator updates of 64 real and 64 fake images and a generator update of
128, rates falling to zero, as in the authors' code. Published: inception score 8.22, FID 21.7, of 5,000 samples (table
2). No EMA there, none here.
"""

from ml_collections import ConfigDict

from genmodels.config import TINY, Variant, check_variant, defaults, tiny

VARIANTS = {
    "": Variant("unconditional"),
    "conditional": Variant("on the class, with a projection discriminator"),
    "tiny": TINY,
}


def get_config(variant: str = "") -> ConfigDict:
    """One of VARIANTS."""
    check_variant(variant, VARIANTS)
    config = defaults("gan")
    config.data.source = "tfds:cifar10"
    config.model.update(architecture="resnet", latent=128, channels=(256, 256, 256, 256))
    config.model.update(discriminator_channels=(128, 128, 128, 128), discriminator_halvings=2)
    config.gan.update(loss="hinge", discriminator_steps=5, generator_multiple=2, conditional=variant == "conditional")
    config.train.update(batch_size=5 * 64, steps=50_000)
    config.optim.update(learning_rate=2e-4, b1=0.0, b2=0.9, clip_norm=0.0, decay="linear")
    config.optim.generator.learning_rate = 2e-4
    config.optim.discriminator.learning_rate = 2e-4
    config.log.update(every=100, samples_every=5000)
    config.checkpoint.update(every=5000, best="")  # no logged number says which checkpoint is the best
    config.eval.update(metrics=("nn_distance_ratio",), num_samples=5000, batch_size=256)

    if variant == "tiny":
        tiny(config, latent=4, channels=(8, 8, 8), discriminator_channels=(8, 8, 8))
        config.gan.discriminator_steps = 2
    return config
