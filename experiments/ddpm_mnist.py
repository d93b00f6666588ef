"""Class-conditional DDPM on MNIST or Fashion-MNIST, in their original idx files (plain or .gz).

python -m genmodels.train --config=experiments/ddpm_mnist.py --workdir=runs/ddpm_mnist --config.data.source=idx:DIR

The data may also come from TFDS: `python -m genmodels.data.prepare --dataset=tfds:mnist`, then
`--config.data.source=tfds:mnist`.
"""

from ml_collections import ConfigDict

from genmodels.config import TINY, Variant, check_variant, defaults, promise, tiny

VARIANTS = {
    "": Variant("MNIST, for one GPU"),
    "small": Variant("a narrower network, 3,600 steps", "42 min on 2 CPU cores"),
    "fashion": Variant("Fashion-MNIST, for one GPU"),
    "fashion_small": Variant("Fashion-MNIST, with the network and the steps of small"),
    "tiny": TINY,
}


def get_config(variant: str = "") -> ConfigDict:
    """One of VARIANTS."""
    check_variant(variant, VARIANTS)
    data = "fashion_mnist" if variant.startswith("fashion") else "mnist"
    config = defaults("diffusion", process="ddpm")
    config.data.source = f"idx:data/{data}"
    config.model.update(channels=64, multipliers=(1, 2, 2), attention_resolutions=(7,), heads=4)
    config.model.update(dropout=0.1, scale_shift=True)
    config.diffusion.parameterization = "velocity"
    config.likelihood.strata = 50
    config.train.update(batch_size=128, epochs=20.0)
    config.optim.update(learning_rate=3e-4, warmup=500, decay="cosine")
    config.ema.horizon = 0.1
    distances = (f"fd_{data}", f"agreement_{data}", f"recall_{data}")
    config.eval.metrics = (*distances, "nn_distance_ratio", "psnr", "ssim", "nll")
    config.eval.update(timesteps=(100, 250, 500), likelihoods=("vlb",), likelihood_images=1000)

    if variant.endswith("small"):
        config.model.update(channels=24, blocks=1, dropout=0.0)
        config.train.update(batch_size=64, epochs=0.0, steps=3600)
        config.optim.update(learning_rate=1e-3, warmup=200)
    if variant == "small":
        held_out = {"data": "mnist", "reference_split": "test", "n_reference": 10_000, "weights": "ema"}
        sampled = {"n_generated": 1000, "sampler": "ddim", "steps": 50, "guidance_scale": 1.0}
        config.expect = (
            promise("nn_distance_ratio", 1.1, 0.1, **held_out, **sampled),
            promise("psnr", 26.5, 1.0, **held_out, timestep=250),
        )
    if variant == "tiny":
        tiny(config, channels=8, multipliers=(1,), blocks=1, attention_resolutions=(8,))
    return config
