"""Class-conditional rectified flow (flow matching) on MNIST in its original idx files (plain or .gz).

python -m genmodels.train --config=experiments/flow_matching_mnist.py --workdir=runs/flow --config.data.source=idx:DIR
"""

from ml_collections import ConfigDict

from genmodels.config import TINY, Variant, check_variant, defaults, tiny

VARIANTS = {
    "": Variant("for one GPU"),
    "small": Variant("a narrower network, 3,600 steps, for CPU cores"),
    "tiny": TINY,
}


def get_config(variant: str = "") -> ConfigDict:
    """One of VARIANTS."""
    check_variant(variant, VARIANTS)
    config = defaults("diffusion", process="flow")
    config.data.source = "idx:data/mnist"
    config.model.update(channels=64, multipliers=(1, 2, 2), attention_resolutions=(7,), heads=4)
    config.model.update(dropout=0.1, scale_shift=True)
    config.diffusion.time_sampling = "logit_normal"
    config.sampler.update(sampler="heun", steps=20, clip=0.0)
    config.train.update(batch_size=128, epochs=20.0)
    config.optim.update(learning_rate=3e-4, warmup=500, decay="cosine")
    config.ema.horizon = 0.1
    distances = ("fd_mnist", "agreement_mnist", "recall_mnist")
    config.eval.metrics = (*distances, "nn_distance_ratio", "psnr", "ssim", "nll")
    config.eval.update(timesteps=(100, 250, 500), likelihood_images=200)

    if variant == "small":
        config.model.update(channels=24, blocks=1, dropout=0.0)
        config.train.update(batch_size=64, epochs=0.0, steps=3600)
        config.optim.update(learning_rate=1e-3, warmup=200)
    if variant == "tiny":
        tiny(config, channels=8, multipliers=(1,), blocks=1, attention_resolutions=(8,))
    return config
