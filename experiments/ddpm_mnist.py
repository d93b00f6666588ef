"""Class-conditional DDPM on MNIST in its original idx files (plain or .gz).

python -m genmodels.train --config=experiments/ddpm_mnist.py --workdir=runs/ddpm_mnist --config.data.source=idx:DIR

Meant for one GPU, where it has not been measured yet. The variant small takes about 40 minutes on 2 CPU cores. From
1,000 samples of 50 DDIM steps and the 10,000 test images expect of it nn_distance_ratio 1.1 - 0.1, and psnr 26.5 - 1 dB
at timestep 250. Measured, seed 0, jax 0.10: 1.118, 26.52.
"""

from ml_collections import ConfigDict

from genmodels.config import check_variant, defaults


def get_config(variant: str = "") -> ConfigDict:
    """Variants: small (40 minutes on 2 CPU cores), tiny (seconds, on the embedded digits, for tests)."""
    check_variant(variant, "small", "tiny")
    config = defaults()
    config.task = "diffusion"
    config.data.source = "idx:data/mnist"
    config.model = {
        "channels": 64,
        "multipliers": (1, 2, 2),
        "blocks": 2,
        "attention_resolutions": (7,),
        "heads": 4,
        "dropout": 0.1,
        "scale_shift": True,
        "norm_groups": 0,  # of all norms, as diffusers wants it; 0 suits each to its width
        "attention": "xla",
        "dtype": "float32",
    }
    config.diffusion = {
        "process": "ddpm",
        "schedule": "cosine",
        "timesteps": 1000,
        "zero_terminal_snr": False,
        "parameterization": "velocity",
        "variance": "fixed_small",
        "loss": "simple",
        "vlb_weight": 0.001,
        "weighting": "uniform",
        "snr_gamma": 5.0,
        "time_sampling": "uniform",
        "logit_mean": 0.0,
        "logit_std": 1.0,
        "conditional": True,
        "label_dropout": 0.1,
    }
    config.sampler = {
        "sampler": "ddim",
        "steps": 50,
        "spacing": "trailing",
        "eta": 0.0,
        "variance": "fixed_small",
        "clip": 1.0,
    }
    config.likelihood = {
        "strata": 50,
        "clip": 1.0,
        "trace": "hutchinson",
        "rtol": 1e-4,
        "atol": 1e-4,
    }
    config.train.batch_size = 128
    config.train.epochs = 20.0
    config.optim.learning_rate = 3e-4
    config.optim.warmup = 500
    config.optim.decay = "cosine"
    config.ema.horizon = 0.1
    distances = ("fd_mnist", "agreement_mnist", "recall_mnist")
    others = ("nn_distance_ratio", "psnr", "ssim", "nll")
    config.eval.metrics = (*distances, *others)
    config.eval.timesteps = (100, 250, 500)
    config.eval.likelihoods = ("vlb",)
    config.eval.likelihood_images = 1000

    if variant == "small":
        config.model.channels = 24
        config.model.blocks = 1
        config.model.dropout = 0.0
        config.train.batch_size = 64
        config.train.epochs = 0.0
        config.train.steps = 3600
        config.optim.learning_rate = 1e-3
        config.optim.warmup = 200
        held_out = {"reference_split": "test", "n_reference": 10_000, "weights": "ema"}
        sampled = {"n_generated": 1000, "sampler": "ddim", "steps": 50, "guidance_scale": 1.0}
        config.expect = (
            {"metric": "nn_distance_ratio", "value": 1.1, "tolerance": 0.1, "protocol": held_out | sampled},
            {"metric": "psnr", "value": 26.5, "tolerance": 1.0, "protocol": held_out | {"timestep": 250}},
        )
    if variant == "tiny":
        config.data.source = "digits"
        config.model.channels = 8
        config.model.multipliers = (1,)
        config.model.blocks = 1
        config.model.attention_resolutions = (8,)
        config.diffusion.timesteps = 20
        config.sampler.steps = 4
        config.likelihood.strata = 4
        config.train.batch_size = 16
        config.train.epochs = 0.0
        config.train.steps = 6
        config.log.every = 2
        config.log.samples_every = 0
        config.checkpoint.every = 3
        config.eval.metrics = ("fd_digits", "agreement_digits", "recall_digits", *others)
        config.eval.num_samples = 20
        config.eval.batch_size = 40
        config.eval.timesteps = (5,)
    return config
