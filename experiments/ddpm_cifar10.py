"""DDPM on CIFAR-10 with the settings of its paper (Ho et al. 2020, appendix B): 35,746,307 parameters.

python -m genmodels.data.prepare --dataset=tfds:cifar10
python -m genmodels.train --config=experiments/ddpm_cifar10.py --workdir=runs/ddpm_cifar10 --config.model.dtype=bfloat16

For accelerators: 800,000 steps of 128 images. Published: FID 3.17, at most 3.75 bits/dim; of the variant cosine
(Nichol & Dhariwal 2021, tables 1-2: 500,000 steps, 4,000 timesteps, hybrid loss) 3.17 bits/dim.
"""

from ml_collections import ConfigDict

from genmodels.config import TINY, Variant, check_variant, defaults, tiny

VARIANTS = {
    "": Variant("the original: linear betas, epsilon, fixed variance"),
    "cosine": Variant("Improved DDPM: cosine betas, learned variance, four heads"),
    "tiny": TINY,
}


def get_config(variant: str = "") -> ConfigDict:
    """One of VARIANTS."""
    check_variant(variant, VARIANTS)
    config = defaults("diffusion", process="ddpm")
    config.data.source = "tfds:cifar10"
    config.data.augment.flip = True
    config.model.dropout = 0.1
    config.diffusion.update(schedule="linear", variance="fixed_large", conditional=False, label_dropout=0.0)
    config.sampler.update(sampler="ancestral", steps=1000, variance="fixed_large")
    config.likelihood.strata = 100
    config.train.update(batch_size=128, steps=800_000)
    config.optim.update(learning_rate=2e-4, warmup=5000)
    config.ema.decay = 0.9999
    config.log.update(every=100, samples_every=20_000)
    config.checkpoint.every = 5000
    config.eval.update(metrics=("nll", "nn_distance_ratio"), num_samples=10_000, batch_size=256)
    config.eval.update(likelihoods=("vlb",), likelihood_images=1000)

    if variant == "cosine":
        config.model.update(blocks=3, attention_resolutions=(16, 8), heads=4, dropout=0.3, scale_shift=True)
        config.diffusion.update(schedule="cosine", timesteps=4000, variance="learned_range", loss="hybrid")
        config.sampler.update(steps=4000, variance="learned_range")
        config.train.steps = 500_000
        config.optim.update(learning_rate=1e-4, warmup=0)
    if variant == "tiny":
        tiny(config, channels=8, multipliers=(1,), blocks=1, attention_resolutions=(8,))
        config.diffusion.update(variance="learned_range", loss="vlb", time_sampling="importance")
        config.sampler.variance = "learned_range"
        config.eval.likelihoods = ("vlb", "ode")
    return config
