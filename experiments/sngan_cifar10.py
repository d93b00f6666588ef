"""SNGAN on CIFAR-10 with the residual networks and settings of its paper (Miyato et al. 2018, tables 1 and 4).

python -m genmodels.data.prepare --dataset=tfds:cifar10
python -m genmodels.train --config=experiments/sngan_cifar10.py --workdir=runs/sngan --config.model.dtype=bfloat16

For accelerators: 50,000 steps, each of 5 discriminator updates of 64 real and 64 fake images and a generator update of
128, rates falling to zero, as in the authors' code. Published: inception score 8.22, FID 21.7, of 5,000 samples (table
2). No EMA there, none here. Not measured here.
"""

from ml_collections import ConfigDict

from genmodels.config import check_variant, defaults


def get_config(variant: str = "") -> ConfigDict:
    """Variants: conditional (projection discriminator), tiny (seconds, on the embedded digits, for tests)."""
    check_variant(variant, "conditional", "tiny")
    config = defaults()
    config.task = "gan"
    config.data.source = "tfds:cifar10"
    config.model = {
        "architecture": "resnet",
        "latent": 128,
        "channels": (256, 256, 256, 256),
        "discriminator_channels": (128, 128, 128, 128),
        "discriminator_halvings": 2,
        "discriminator_norm": "spectral",
        "norm_rows": 0,  # of a batch norm's group; 0 is the batch over all devices
        "dtype": "float32",
    }
    config.gan = {
        "loss": "hinge",
        "penalty": "none",
        "penalty_weight": 10.0,
        "penalty_interval": 1,
        "discriminator_steps": 5,
        "generator_multiple": 2,
        "augment": (),
        "conditional": variant == "conditional",
    }
    config.train.batch_size = 5 * 64
    config.train.steps = 50_000
    config.optim.learning_rate = 2e-4
    config.optim.b1 = 0.0
    config.optim.b2 = 0.9
    config.optim.clip_norm = 0.0
    config.optim.decay = "linear"
    config.optim.generator = {"learning_rate": 2e-4}
    config.optim.discriminator = {"learning_rate": 2e-4}
    config.log.every = 100
    config.log.samples_every = 5000
    config.checkpoint.every = 5000
    config.checkpoint.best = ""  # no number of the game says which is
    config.eval.metrics = ("nn_distance_ratio",)
    config.eval.num_samples = 5000
    config.eval.batch_size = 256

    if variant == "tiny":
        config.data.source = "digits"
        config.model.latent = 4
        config.model.channels = (8, 8, 8)
        config.model.discriminator_channels = (8, 8, 8)
        config.gan.discriminator_steps = 2
        config.train.batch_size = 16
        config.train.steps = 6
        config.log.every = 2
        config.log.samples_every = 0
        config.checkpoint.every = 3
        config.eval.num_samples = 20
        config.eval.batch_size = 40
    return config
