"""Class-conditional rectified flow (flow matching) on MNIST in its original idx files (plain or .gz).

python -m genmodels.train --config=experiments/flow_matching_mnist.py --workdir=runs/flow --config.data.source=idx:DIR

Meant for one GPU, where it has not been measured yet; the variant small is for 2 CPU cores.
"""

from ml_collections import ConfigDict

from genmodels.config import check_variant, defaults


def get_config(variant: str = "") -> ConfigDict:
    """Variants: small (2 CPU cores), tiny (seconds, on the embedded digits, for tests)."""
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
        "attention": "xla",
        "dtype": "float32",
    }
    config.diffusion = {
        "process": "flow",
        "time_sampling": "logit_normal",
        "logit_mean": 0.0,
        "logit_std": 1.0,
        "conditional": True,
        "label_dropout": 0.1,
    }
    config.sampler = {
        "sampler": "heun",
        "steps": 20,
        "spacing": "uniform",
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
    config.eval.likelihood_images = 200

    if variant == "small":
        config.model.channels = 24
        config.model.blocks = 1
        config.model.dropout = 0.0
        config.train.batch_size = 64
        config.train.epochs = 0.0
        config.train.steps = 3600
        config.optim.learning_rate = 1e-3
        config.optim.warmup = 200
    if variant == "tiny":
        config.data.source = "digits"
        config.model.channels = 8
        config.model.multipliers = (1,)
        config.model.blocks = 1
        config.model.attention_resolutions = (8,)
        config.sampler.steps = 4
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
