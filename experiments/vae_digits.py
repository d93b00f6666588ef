"""VAE on scikit-learn's 8x8 digits, greys in bits per dimension: beside ddpm_digits in the report.

python -m genmodels.train --config=experiments/vae_digits.py --workdir=runs/vae_digits

Longer runs have a worse ELBO: the encoder overfits before the decoder does.
"""

from ml_collections import ConfigDict

from genmodels.config import TINY, Variant, check_variant, defaults, promise, tiny

VARIANTS = {
    "": Variant("convolutional, with a Gaussian latent vector", "1 min on 2 CPU cores"),
    "autoencoder": Variant("a plain autoencoder, without KL"),
    "denoising": Variant("a plain autoencoder of noisy images"),
    "vq": Variant("vector-quantised, with a grid of codes"),
    "tiny": TINY,
}


def get_config(variant: str = "") -> ConfigDict:
    """One of VARIANTS."""
    check_variant(variant, VARIANTS)
    config = defaults("vae")
    config.model.update(network="conv", blocks=1, latent_dim=16)
    config.vae.likelihood = "gaussian"
    config.train.update(batch_size=64, steps=1000)
    config.optim.update(learning_rate=2e-3, warmup=100, decay="cosine")
    config.optim.clip_norm = 200.0  # of losses summed over pixels
    config.ema.horizon = 0.05
    config.eval.metrics = ("nll", "fd_digits", "nn_distance_ratio", "psnr", "ssim")
    config.eval.likelihoods = ("elbo", "iwae(samples=500)")
    if not variant:
        config.expect = (promise("nll", 3.68, 0.1, data="digits", likelihood="elbo", reference_split="test"),)

    if variant in ("autoencoder", "denoising", "vq"):
        config.vae.latent = "vq" if variant == "vq" else "none"
        config.eval.update(metrics=("psnr", "ssim"), likelihoods=())
    if variant == "denoising":
        config.vae.noise = 0.5
    if variant == "vq":
        config.vae.codebook_size = 64
        config.model.update(grid=True, channels=(32,), latent_dim=8)
        config.ema.horizon = 0.0  # the codebook follows the encoder as it is
    if variant == "tiny":
        tiny(config, channels=(8,), latent_dim=4)
        config.eval.likelihoods = ("elbo", "iwae(samples=10, images=20)")
    return config
