"""Convolutional residual VAE on dynamically binarised MNIST (Burda et al. 2016; Kingma & Welling 2014).

python -m genmodels.train --config=experiments/vae_mnist.py --workdir=runs/vae_mnist --config.data.source=idx:DIR
"""

from ml_collections import ConfigDict

from genmodels.config import TINY, Variant, check_variant, defaults, promise, tiny

VARIANTS = {
    "": Variant("binarised digits, in nats", "15 min on 2 CPU cores"),
    "gaussian": Variant("greys, in bits/dim", "9 min on 2 CPU cores"),
    "fashion": Variant("greys of Fashion-MNIST, in bits/dim"),
    "autoencoder": Variant("a plain autoencoder, without KL"),
    "denoising": Variant("a plain autoencoder of noisy images", "4 min on 2 CPU cores"),
    "vq": Variant("vector-quantised, with a grid of codes", "4 min on 2 CPU cores"),
    "tiny": TINY,
}

# What was measured: value and tolerance in nats or, of greys, bits/dim; decibels.
NLL = {"": (93.5, 1.0), "gaussian": (1.525, 0.03)}
PSNR = {"vq": 25.8, "denoising": 23.6}


def get_config(variant: str = "") -> ConfigDict:
    """One of VARIANTS."""
    check_variant(variant, VARIANTS)
    data = "fashion_mnist" if variant == "fashion" else "mnist"
    config = defaults("vae")
    config.data.source = f"idx:data/{data}"
    config.model.update(network="conv", blocks=1, latent_dim=50)
    config.vae.update(binarize="dynamic", kl_warmup=2000)
    config.train.update(batch_size=128, epochs=16.0)
    config.optim.update(learning_rate=2e-3, warmup=200, decay="cosine")
    config.optim.clip_norm = 200.0  # of losses summed over pixels
    config.ema.horizon = 0.02
    config.log.every = 100
    config.checkpoint.best = "bits_per_dim"  # the loss is lowest while the KL weighs least
    config.eval.update(metrics=("nll", f"fd_{data}", "psnr", "ssim"), batch_size=500)
    config.eval.likelihoods = ("elbo", "iwae(samples=500, images=1000)", "iwae(samples=5000, images=100)")
    if variant in NLL:
        config.expect = (promise("nll", *NLL[variant], data=data, likelihood="elbo", n_reference=10_000),)
    if variant in PSNR:
        config.expect = (promise("psnr", PSNR[variant], 0.7, data=data, n_reference=10_000),)

    if variant in ("gaussian", "fashion"):
        config.vae.update(likelihood="gaussian", binarize="none")
        config.train.epochs = 8.0
        config.eval.likelihoods = ("elbo", "iwae(samples=500, images=1000)")
    if variant in ("autoencoder", "denoising", "vq"):
        config.vae.update(latent="vq" if variant == "vq" else "none", kl_warmup=0, binarize="none")
        config.checkpoint.best = "loss"
        config.train.epochs = 5.0
        config.eval.update(metrics=("psnr", "ssim"), likelihoods=())
    if variant == "denoising":
        config.vae.noise = 0.5
    if variant == "vq":
        config.vae.codebook_size = 64
        config.model.update(grid=True, latent_dim=8)
        config.ema.horizon = 0.0  # the codebook follows the encoder as it is
    if variant == "tiny":
        tiny(config, channels=(8,), latent_dim=4)
        config.eval.update(metrics=("nll", "fd_digits", "psnr"), likelihoods=("elbo", "iwae(samples=10, images=20)"))
    return config
