"""VAE on a folder of your own images: copy this file, change the lines under "yours", run it.

python -m genmodels.data.inspect --source=folder:photos --size=64 --crop=center --convert=rgb --out=sheet.png
python -m genmodels.train --config=experiments/vae_folder.py --workdir=runs/photos_vae

It compresses, reconstructs and interpolates; its samples are blurred. For sharp samples take ddpm_folder.py.
"""

from ml_collections import ConfigDict

from genmodels.config import TINY, Variant, check_variant, defaults, tiny

VARIANTS = {
    "": Variant("64x64 with a Gaussian latent vector, for one GPU"),
    "vq": Variant("64x64 with a grid of codes, for one GPU"),
    "small": Variant("32x32 and a narrower network, for CPUs", "3 min on 2 CPU cores, by 1,600 steps"),
    "tiny": TINY,
}


def get_config(variant: str = "") -> ConfigDict:
    """One of VARIANTS."""
    check_variant(variant, VARIANTS)
    config = defaults("vae")

    # Yours. A tenth of the images is held out by a hash of each file; a folder with train/ and test/ in it needs no
    # split(...) around it. Also: tar:photos.tar, zip:photos.zip, subset("folder:photos", classes=("cat", "dog")) ...
    config.data.source = 'split("folder:photos", test=0.1)'
    config.data.size = 64  # 0 leaves the images as they are: then all must have one size
    config.data.crop = "center"  # the middle square; "none" squashes
    config.data.convert = "rgb"  # or "grey"
    config.data.augment.flip = True  # not for images with writing, or where left is not right

    config.model.update(network="conv", channels=(64, 128, 256), blocks=2, latent_dim=128)
    config.vae.update(likelihood="gaussian", kl_warmup=2000)
    config.train.update(batch_size=64, steps=30_000)
    config.optim.update(learning_rate=2e-3, warmup=200, decay="cosine")
    config.optim.clip_norm = 10_000.0  # of losses summed over pixels
    config.ema.horizon = 0.05
    config.log.samples_every = 5000
    config.checkpoint.best = "bits_per_dim"  # the loss is lowest while the KL weighs least
    config.eval.update(metrics=("nll", "psnr", "ssim"), num_samples=500, batch_size=100, likelihoods=("elbo",))

    if variant == "vq":
        config.vae.update(latent="vq", kl_warmup=0, codebook_size=512)
        config.model.update(grid=True, latent_dim=16)
        config.ema.horizon = 0.0  # the codebook follows the encoder as it is
        config.checkpoint.best = "loss"
        config.eval.update(metrics=("psnr", "ssim"), likelihoods=())
    if variant == "small":
        config.data.size = 32
        config.model.update(channels=(32, 64), blocks=1, latent_dim=64)
        config.train.update(batch_size=32, steps=4000)
        config.log.samples_every = 1000
    if variant == "tiny":
        config.data.update(size=0, crop="", convert="")
        config.data.augment.flip = False
        tiny(config, channels=(8,), blocks=1, latent_dim=4)
    return config
