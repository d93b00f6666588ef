"""EDM on CIFAR-10 with the training and sampling of its paper (Karras et al. 2022, tables 1 and 7), unconditional.

python -m genmodels.data.prepare --dataset=tfds:cifar10
python -m genmodels.train --config=experiments/edm_cifar10.py --workdir=runs/edm_cifar10 --config.model.dtype=bfloat16

For accelerators: 200 million images, 18 Heun steps (35 network evaluations). Published with the paper's own network
(DDPM++, 55.7M parameters) and non-leaky augmentation: FID 1.97. Here the network is DDPM's U-Net of that width and
depth, and images are only flipped. Not measured here.
"""

from ml_collections import ConfigDict

from genmodels.config import check_variant, defaults


def get_config(variant: str = "") -> ConfigDict:
    """Variants: tiny (seconds, on the embedded digits, for tests)."""
    check_variant(variant, "tiny")
    config = defaults()
    config.task = "diffusion"
    config.data.source = "tfds:cifar10"
    config.data.augment.flip = True
    config.model = {
        "channels": 128,
        "multipliers": (2, 2, 2),
        "blocks": 4,
        "attention_resolutions": (16,),
        "heads": 1,
        "dropout": 0.13,
        "scale_shift": False,
        "attention": "xla",
        "dtype": "float32",
    }
    config.diffusion = {
        "process": "edm",
        "sigma_min": 0.002,
        "sigma_max": 80.0,
        "sigma_data": 0.5,
        "p_mean": -1.2,
        "p_std": 1.2,
        "conditional": False,
        "label_dropout": 0.0,
    }
    config.sampler = {
        "sampler": "heun",
        "steps": 18,
        "spacing": "karras",
        "eta": 0.0,
        "variance": "fixed_small",
        "clip": 0.0,
    }
    config.likelihood = {
        "strata": 0,
        "clip": 1.0,
        "trace": "hutchinson",
        "rtol": 1e-4,
        "atol": 1e-4,
    }
    config.train.batch_size = 512
    config.train.examples = 200_000_000
    config.optim.learning_rate = 1e-3
    config.optim.warmup = 19_531  # 10 million images
    config.optim.clip_norm = 0.0
    config.ema.decay = 0.99929  # a half-life of 500,000 images
    config.log.every = 100
    config.log.samples_every = 20_000
    config.checkpoint.every = 5000
    config.eval.metrics = ("nll", "nn_distance_ratio")
    config.eval.num_samples = 10_000
    config.eval.batch_size = 256
    config.eval.likelihood_images = 1000

    if variant == "tiny":
        config.data.source = "digits"
        config.data.augment.flip = False
        config.model.channels = 8
        config.model.multipliers = (1,)
        config.model.blocks = 1
        config.model.attention_resolutions = (8,)
        config.sampler.steps = 4
        config.train.batch_size = 16
        config.train.examples = 0
        config.train.steps = 6
        config.optim.warmup = 0
        config.log.every = 2
        config.log.samples_every = 0
        config.checkpoint.every = 3
        config.eval.num_samples = 20
        config.eval.batch_size = 40
    return config
