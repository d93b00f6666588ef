"""Class-conditional DDPM on scikit-learn's 8x8 digits.

python -m genmodels.train --config=experiments/ddpm_digits.py --workdir=runs/ddpm_digits
"""

from ml_collections import ConfigDict

from genmodels.config import TINY, Variant, check_variant, defaults, promise, tiny

VARIANTS = {
    "": Variant("predicts velocity under the cosine schedule", "2.5 min on 2 CPU cores"),
    "linear": Variant("the original's betas in place of the cosine schedule"),
    "epsilon": Variant("predicts epsilon in place of velocity"),
    "learned": Variant("learns the variance too, by the hybrid loss"),
    "tiny": TINY,
}
BITS = {"": 4.6, "linear": 4.75, "epsilon": 4.55, "learned": 4.26}  # of the variational bound


def get_config(variant: str = "") -> ConfigDict:
    """One of VARIANTS."""
    check_variant(variant, VARIANTS)
    config = defaults("diffusion", process="ddpm")
    config.model.update(channels=24, multipliers=(1, 2), blocks=1, attention_resolutions=(4,))
    config.diffusion.parameterization = "velocity"
    config.likelihood.strata = 50
    config.train.update(batch_size=64, steps=3000)
    config.optim.update(learning_rate=1e-3, warmup=100, decay="cosine")
    config.ema.horizon = 0.13
    config.eval.metrics = ("fd_digits", "agreement_digits", "nn_distance_ratio", "psnr", "ssim", "nll")
    config.eval.update(timesteps=(100, 250, 500), likelihoods=("vlb",))
    protocol = {"n_generated": 1000, "sampler": "ddim", "steps": 50, "guidance_scale": 1.0, "weights": "ema"}
    protocol["data"] = "digits"
    config.expect = (
        promise("agreement_digits", 0.97 if variant == "epsilon" else 0.985, 0.015, **protocol),
        promise("fd_digits", 11.0, 4.0, **protocol, reference_split="test"),
        promise("nn_distance_ratio", 1.0, 0.2, **protocol, reference_split="test"),
        promise("nll", BITS.get(variant, 4.6), 0.15, data="digits", likelihood="vlb", strata=50),
    )

    if variant == "linear":
        config.diffusion.schedule = "linear"
    if variant == "epsilon":
        config.diffusion.parameterization = "epsilon"
    if variant == "learned":
        config.diffusion.update(variance="learned_range", loss="hybrid")
        config.sampler.variance = "learned_range"
    if variant == "tiny":
        tiny(config, channels=8, multipliers=(1,), attention_resolutions=(8,))
        config.eval.likelihoods = ("vlb", "ode")
    return config
