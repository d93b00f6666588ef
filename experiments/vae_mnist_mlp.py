"""The perceptron VAE of pytorch/examples on MNIST: 784-400-20, greys as Bernoulli probabilities, 10 epochs.

python -m genmodels.train --config=experiments/vae_mnist_mlp.py --workdir=runs/vae_mlp --config.data.source=idx:DIR
2 CPU cores: about a minute. Expect (config.expect): test loss 105.6 + 0.7 nats, as published. Measured, seed 0, jax
0.10: 105.56. Variant binarized: 13 minutes, beside tests; ELBO -90.05, importance-weighted bound of 500 latents -86.6.
"""

from ml_collections import ConfigDict

from genmodels.config import check_variant, defaults


def get_config(variant: str = "") -> ConfigDict:
    """Variants: binarized (784-512-512-50 on dynamically binarised digits, for longer), tiny (seconds, on the embedded
    digits, for tests).
    """
    check_variant(variant, "binarized", "tiny")
    config = defaults()
    config.task = "vae"
    config.data.source = "idx:data/mnist"
    config.model = {"network": "mlp", "hidden": (400,), "latent_dim": 20, "activation": "relu", "dtype": "float32"}
    config.vae = {
        "likelihood": "bernoulli",
        "binarize": "none",
        "latent": "gaussian",
        "beta": 1.0,
        "kl_warmup": 0,
        "free_bits": 0.0,
    }
    config.train.batch_size = 128
    config.train.epochs = 10.0
    config.optim.learning_rate = 1e-3
    config.optim.clip_norm = 0.0  # of losses summed over pixels
    config.log.every = 100
    config.checkpoint.best = "bits_per_dim"  # the loss is lowest while the KL weighs least
    config.eval.metrics = ("nll", "fd_mnist", "psnr", "ssim")
    config.eval.batch_size = 1000
    config.eval.likelihoods = ("elbo",)

    if not variant:
        elbo = {"likelihood": "elbo", "n_reference": 10_000}
        config.expect = ({"metric": "nll", "value": 105.6, "tolerance": 0.7, "protocol": elbo},)
    if variant == "binarized":
        elbo = {"likelihood": "elbo", "n_reference": 10_000}
        config.expect = ({"metric": "nll", "value": 90.1, "tolerance": 0.7, "protocol": elbo},)
        config.model.hidden = (512, 512)
        config.model.latent_dim = 50
        config.vae.binarize = "dynamic"
        config.vae.kl_warmup = 5000
        config.model.activation = "swish"
        config.train.epochs = 60.0
        config.optim.name = "adamw"
        config.optim.weight_decay = 0.1
        config.optim.learning_rate = 2e-3
        config.optim.warmup = 200
        config.optim.decay = "cosine"
        config.ema.horizon = 0.05
        config.eval.likelihoods = ("elbo", "iwae(samples=500, images=1000)", "iwae(samples=5000, images=100)")
    if variant == "tiny":
        config.data.source = "digits"
        config.model.hidden = (16,)
        config.model.latent_dim = 4
        config.train.batch_size = 16
        config.train.epochs = 0.0
        config.train.steps = 6
        config.log.every = 2
        config.log.samples_every = 0
        config.checkpoint.every = 3
        config.eval.metrics = ("nll", "fd_digits", "psnr")
        config.eval.num_samples = 20
        config.eval.batch_size = 40
    return config
