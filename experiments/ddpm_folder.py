"""DDPM on a folder of your own images: copy this file, change the lines under "yours", run it.

python -m genmodels.data.inspect --source=folder:photos --size=64 --crop=center --convert=rgb --out=sheet.png
python -m genmodels.train --config=experiments/ddpm_folder.py --workdir=runs/photos

Sub-folders of the folder are classes; without them the model is unconditional.
"""

from ml_collections import ConfigDict

from genmodels.config import TINY, Variant, check_variant, defaults, tiny

VARIANTS = {
    "": Variant("64x64, for one GPU"),
    "small": Variant("32x32 and a narrower network, for CPUs", "19 min on 2 CPU cores, by 40 steps"),
    "tiny": TINY,
}


def get_config(variant: str = "") -> ConfigDict:
    """One of VARIANTS."""
    check_variant(variant, VARIANTS)
    config = defaults("diffusion", process="ddpm")

    # Yours. A tenth of the images is held out by a hash of each file; a folder with train/ and test/ in it needs no
    # split(...) around it. Also: tar:photos.tar, zip:photos.zip, subset("folder:photos", classes=("cat", "dog")) ...
    config.data.source = 'split("folder:photos", test=0.1)'
    config.data.size = 64  # 0 leaves the images as they are: then all must have one size
    config.data.crop = "center"  # the middle square; "none" squashes
    config.data.convert = "rgb"  # or "grey"
    config.data.augment.flip = True  # not for images with writing, or where left is not right

    config.model.update(channels=64, multipliers=(1, 2, 2, 4), attention_resolutions=(16, 8), dropout=0.1)
    config.model.update(scale_shift=True, dtype="bfloat16")
    config.model.head_channels = 64  # Dhariwal & Nichol 2021, section 4
    config.model.norm_groups = 16  # one number for all norms, so that the model can be exported to diffusers
    config.diffusion.parameterization = "velocity"
    config.likelihood.strata = 50
    config.train.update(batch_size=64, steps=50_000)
    config.optim.update(learning_rate=2e-4, warmup=1000, decay="cosine")
    config.ema.horizon = 0.1
    config.log.samples_every = 5000
    config.eval.update(metrics=("nn_distance_ratio", "psnr", "ssim", "nll"), num_samples=500, batch_size=100)
    config.eval.update(timesteps=(100, 250, 500), likelihoods=("vlb",), likelihood_images=1000)

    if variant == "small":
        config.data.size = 32
        config.model.update(channels=24, multipliers=(1, 2, 2), blocks=1, attention_resolutions=(8,), head_channels=24)
        config.model.update(norm_groups=6, dropout=0.0, dtype="float32")
        config.train.update(batch_size=32, steps=4000)
        config.optim.update(learning_rate=1e-3, warmup=200)
        config.log.samples_every = 1000
        config.eval.num_samples = 100
    if variant == "tiny":
        config.data.update(size=8, convert="grey")
        tiny(config, channels=8, multipliers=(1,), blocks=1, attention_resolutions=(8,), head_channels=8)
        config.model.norm_groups = 2
    return config
