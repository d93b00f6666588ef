"""DDPM on a folder of your own images: copy this file, change what stands under "yours", run it.

python -m genmodels.data.inspect --source=folder:photos --size=64 --crop=center --convert=rgb --out=sheet.png
python -m genmodels.train --config=experiments/ddpm_folder.py --workdir=runs/photos

Sub-folders of the folder are classes; without them the model is unconditional. Meant for one GPU, where it has not been
measured yet; the variant small (32x32, a narrower network) is for CPU cores.
"""

from ml_collections import ConfigDict

from genmodels.config import check_variant, defaults


def get_config(variant: str = "") -> ConfigDict:
    """Variants: small (32x32, for CPU cores), tiny (seconds, on the embedded digits, for tests)."""
    check_variant(variant, "small", "tiny")
    config = defaults()
    config.task = "diffusion"

    # Yours. A tenth of the images is held out by a hash of each file; a folder with train/ and test/ in it needs no
    # split(...) around it. Also: tar:photos.tar, zip:photos.zip, subset("folder:photos", classes=("cat", "dog")) ...
    config.data.source = 'split("folder:photos", test=0.1)'
    config.data.size = 64  # 0 leaves the images as they are: then all must have one size
    config.data.crop = "center"  # the middle square; "none" squashes
    config.data.convert = "rgb"  # or "grey"
    config.data.augment.flip = True  # not for images with writing, or where left is not right

    config.model = {
        "channels": 64,
        "multipliers": (1, 2, 2, 4),
        "blocks": 2,
        "attention_resolutions": (16, 8),
        "head_channels": 64,  # a head's width, as Improved DDPM and diffusers set it
        "dropout": 0.1,
        "scale_shift": True,
        "norm_groups": 0,  # of all norms, as diffusers wants it; 0 suits each to its width
        "attention": "xla",
        "dtype": "bfloat16",
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
    config.train.batch_size = 64
    config.train.steps = 50_000
    config.optim.learning_rate = 2e-4
    config.optim.warmup = 1000
    config.optim.decay = "cosine"
    config.ema.horizon = 0.1
    config.log.samples_every = 5000
    config.eval.metrics = ("nn_distance_ratio", "psnr", "ssim", "nll")
    config.eval.num_samples = 500
    config.eval.batch_size = 100
    config.eval.timesteps = (100, 250, 500)
    config.eval.likelihoods = ("vlb",)
    config.eval.likelihood_images = 1000

    if variant == "small":
        config.data.size = 32
        config.model.channels = 24
        config.model.multipliers = (1, 2, 2)
        config.model.blocks = 1
        config.model.attention_resolutions = (8,)
        config.model.head_channels = 24
        config.model.dropout = 0.0
        config.model.dtype = "float32"
        config.train.batch_size = 32
        config.train.steps = 4000
        config.optim.learning_rate = 1e-3
        config.optim.warmup = 200
        config.log.samples_every = 1000
        config.eval.num_samples = 100
    if variant == "tiny":
        config.data.source = "digits"
        config.data.size = 8
        config.data.convert = "grey"
        config.model.channels = 8
        config.model.multipliers = (1,)
        config.model.blocks = 1
        config.model.attention_resolutions = (8,)
        config.model.head_channels = 8
        config.diffusion.timesteps = 20
        config.sampler.steps = 4
        config.likelihood.strata = 4
        config.train.batch_size = 16
        config.train.steps = 6
        config.log.every = 2
        config.log.samples_every = 0
        config.checkpoint.every = 3
        config.eval.num_samples = 20
        config.eval.batch_size = 40
        config.eval.timesteps = (5,)
    return config
