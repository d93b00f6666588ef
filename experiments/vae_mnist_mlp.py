"""The perceptron VAE of pytorch/examples on MNIST: 784-400-20, greys as Bernoulli probabilities, 10 epochs.

python -m genmodels.train --config=experiments/vae_mnist_mlp.py --workdir=runs/vae_mlp --config.data.source=idx:DIR
"""

from ml_collections import ConfigDict

from genmodels.config import TINY, Variant, check_variant, defaults, promise, tiny

VARIANTS = {
    "": Variant("as published", "1 min on 2 CPU cores"),
    "binarized": Variant("784-512-512-50 on dynamically binarised digits, for longer", "13 min on 2 CPU cores"),
    "tiny": TINY,
}


def get_config(variant: str = "") -> ConfigDict:
    """One of VARIANTS."""
    check_variant(variant, VARIANTS)
    config = defaults("vae")
    config.data.source = "idx:data/mnist"
    config.train.update(batch_size=128, epochs=10.0)
    config.optim.clip_norm = 0.0  # losses are summed over pixels
    config.log.every = 100
    config.checkpoint.best = "bits_per_dim"  # the loss is lowest while the KL weighs least
    config.eval.update(metrics=("nll", "fd_mnist", "psnr", "ssim"), batch_size=1000, likelihoods=("elbo",))
    if variant != "tiny":
        bound = 90.1 if variant == "binarized" else 105.6
        config.expect = (promise("nll", bound, 0.7, data="mnist", likelihood="elbo", n_reference=10_000),)

    if variant == "binarized":
        config.model.update(hidden=(512, 512), latent_dim=50, activation="swish")
        config.vae.update(binarize="dynamic", kl_warmup=5000)
        config.train.epochs = 60.0
        config.optim.update(name="adamw", weight_decay=0.1, learning_rate=2e-3, warmup=200, decay="cosine")
        config.ema.horizon = 0.05
        config.eval.likelihoods = ("elbo", "iwae(samples=500, images=1000)", "iwae(samples=5000, images=100)")
    if variant == "tiny":
        tiny(config, hidden=(16,), latent_dim=4)
        config.eval.metrics = ("nll", "fd_digits", "psnr")
    return config
