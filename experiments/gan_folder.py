"""GAN on a folder of your own images: copy this file, change the lines under "yours", run it.

python -m genmodels.data.inspect --source=folder:photos --size=64 --crop=center --convert=rgb --out=sheet.png
python -m genmodels.train --config=experiments/gan_folder.py --workdir=runs/photos_gan

It draws an image in one pass of the network. GANs are the least patient of the methods: look at samples/ while it
trains, and take ddpm_folder.py where time is no matter. Fewer than some thousand images need the augmentation.
"""

from ml_collections import ConfigDict

from genmodels.config import TINY, Variant, check_variant, defaults, tiny

VARIANTS = {
    "": Variant("64x64, residual networks with spectral norm, for one GPU"),
    "small": Variant("32x32 and narrower networks, for CPUs", "11 min on 2 CPU cores, by 260 steps"),
    "tiny": TINY,
}


def get_config(variant: str = "") -> ConfigDict:
    """One of VARIANTS."""
    check_variant(variant, VARIANTS)
    config = defaults("gan")

    # Yours. A tenth of the images is held out by a hash of each file; a folder with train/ and test/ in it needs no
    # split(...) around it. Also: tar:photos.tar, zip:photos.zip, subset("folder:photos", classes=("cat", "dog")) ...
    config.data.source = 'split("folder:photos", test=0.1)'
    config.data.size = 64  # 0 leaves the images as they are: then all must have one size
    config.data.crop = "center"  # the middle square; "none" squashes
    config.data.convert = "rgb"  # or "grey"
    config.data.augment.flip = True  # not for images with writing, or where left is not right

    config.model.update(architecture="resnet", latent=128, channels=(256, 256, 128, 64, 64))
    config.model.update(discriminator_channels=(64, 128, 256, 256), discriminator_norm="spectral")
    config.gan.update(loss="hinge", discriminator_steps=2, augment=("colour", "translation", "cutout"))
    config.gan.conditional = False  # True where sub-folders are classes
    config.train.update(batch_size=2 * 64, steps=50_000)  # 64 for each discriminator step
    config.optim.update(b1=0.0, b2=0.9, clip_norm=0.0, decay="linear")
    config.optim.generator.learning_rate = 2e-4
    config.optim.discriminator.learning_rate = 2e-4
    config.ema.horizon = 0.1
    config.log.update(every=100, samples_every=5000)
    config.checkpoint.best = ""  # no logged number says which checkpoint is the best
    config.eval.update(metrics=("nn_distance_ratio",), num_samples=500, batch_size=100)

    if variant == "small":
        config.data.size = 32
        config.model.update(channels=(64, 64, 32, 32), discriminator_channels=(32, 64, 64))
        config.train.update(batch_size=2 * 32, steps=4000)
        config.log.samples_every = 1000
    if variant == "tiny":
        config.data.update(size=0, crop="", convert="")
        config.data.augment.flip = False
        tiny(config, latent=4, channels=(8, 8), discriminator_channels=(8, 8), discriminator_halvings=1)
        config.gan.augment = ("translation",)
    return config
