"""DDPM on CIFAR-10 with the settings of its paper (Ho et al. 2020, appendix B): 35,746,307 parameters.

python -m genmodels.data.prepare --dataset=tfds:cifar10
python -m genmodels.train --config=experiments/ddpm_cifar10.py --workdir=runs/ddpm_cifar10 --config.model.dtype=bfloat16

For accelerators: 800,000 steps of 128 images. Published: FID 3.17, at most 3.75 bits/dim; the variant cosine (Improved
DDPM, Nichol & Dhariwal 2021, tables 1-2: 500,000 steps, 4,000 timesteps, hybrid loss) 3.17 bits/dim. Not measured here.
"""

from ml_collections import ConfigDict

from genmodels.config import check_variant, defaults


def get_config(variant: str = "") -> ConfigDict:
    """Variants: cosine (Improved DDPM, with learned variance), tiny (seconds, on the embedded digits, for tests)."""
    check_variant(variant, "cosine", "tiny")
    config = defaults()
    config.task = "diffusion"
    config.data.source = "tfds:cifar10"
    config.data.augment.flip = True
    config.model = {
        "channels": 128,
        "multipliers": (1, 2, 2, 2),
        "blocks": 2,
        "attention_resolutions": (16,),
        "heads": 1,
        "dropout": 0.1,
        "scale_shift": False,
        "attention": "xla",
        "dtype": "float32",
    }
    config.diffusion = {
        "process": "ddpm",
        "schedule": "linear",
        "timesteps": 1000,
        "zero_terminal_snr": False,
        "parameterization": "epsilon",
        "variance": "fixed_large",
        "loss": "simple",
        "vlb_weight": 0.001,
        "weighting": "uniform",
        "snr_gamma": 5.0,
        "time_sampling": "uniform",
        "logit_mean": 0.0,
        "logit_std": 1.0,
        "conditional": False,
        "label_dropout": 0.0,
    }
    config.sampler = {
        "sampler": "ancestral",
        "steps": 1000,
        "spacing": "trailing",
        "eta": 0.0,
        "variance": "fixed_large",
        "clip": 1.0,
    }
    config.likelihood = {
        "strata": 100,
        "clip": 1.0,
        "trace": "hutchinson",
        "rtol": 1e-4,
        "atol": 1e-4,
    }
    config.train.batch_size = 128
    config.train.steps = 800_000
    config.optim.learning_rate = 2e-4
    config.optim.warmup = 5000
    config.optim.clip_norm = 1.0
    config.ema.decay = 0.9999
    config.log.every = 100
    config.log.samples_every = 20_000
    config.checkpoint.every = 5000
    config.eval.metrics = ("nll", "nn_distance_ratio")
    config.eval.num_samples = 10_000
    config.eval.batch_size = 256
    config.eval.likelihoods = ("vlb",)
    config.eval.likelihood_images = 1000

    if variant == "cosine":
        config.model.blocks = 3
        config.model.attention_resolutions = (16, 8)
        config.model.heads = 4
        config.model.dropout = 0.3
        config.model.scale_shift = True
        config.diffusion.schedule = "cosine"
        config.diffusion.timesteps = 4000
        config.diffusion.variance = "learned_range"
        config.diffusion.loss = "hybrid"
        config.sampler.steps = 4000
        config.sampler.variance = "learned_range"
        config.train.steps = 500_000
        config.optim.learning_rate = 1e-4
        config.optim.warmup = 0
    if variant == "tiny":
        config.data.source = "digits"
        config.model.channels = 8
        config.model.multipliers = (1,)
        config.model.blocks = 1
        config.model.attention_resolutions = (8,)
        config.diffusion.timesteps = 20
        config.diffusion.variance = "learned_range"
        config.diffusion.loss = "vlb"
        config.diffusion.time_sampling = "importance"
        config.sampler.variance = "learned_range"
        config.sampler.steps = 4
        config.likelihood.strata = 4
        config.train.batch_size = 16
        config.train.steps = 6
        config.log.every = 2
        config.log.samples_every = 0
        config.checkpoint.every = 3
        config.eval.num_samples = 20
        config.eval.batch_size = 40
        config.eval.likelihoods = ("vlb", "ode")
    return config
