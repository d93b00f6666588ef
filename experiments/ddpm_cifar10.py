"""DDPM on CIFAR-10 with the settings of its authors' code (Ho et al. 2020): 35,746,307 parameters; Improved DDPM too.

python -m genmodels.data.prepare --dataset=tfds:cifar10
python -m genmodels.train --config=experiments/ddpm_cifar10.py --workdir=runs/ddpm --config.model.dtype=bfloat16
python -m genmodels.evaluate --workdir=runs/ddpm --out=runs/ddpm/eval/fid.json --check
python -m genmodels.evaluate --workdir=runs/ddpm --metrics=nll --split=test --out=runs/ddpm/eval/nll.json

For accelerators; not trained here. Published: FID 3.17 of 50,000 samples against the training images, the lowest of the
run, and at most 3.75 bits/dim of the test images. Of the variant cosine (Nichol & Dhariwal 2021, table 2): FID 3.19
and 3.17 bits/dim after 500,000 steps.

Sources, by file and line: github.com/hojonathanho/diffusion at 1e0dceb, scripts/run_cifar.py:38-49 and 132-138,
diffusion_tf/models/unet.py:12 (norms), nn.py:10-11 (first weights) and 88-109 (frequencies), tpu_utils/tpu_utils.py:90
(EMA). cosine: github.com/openai/improved-diffusion at 1bc7bbb, README.md:92-98, improved_diffusion/script_util.py:15-35
and 103-110, nn.py:93-121 (norms, frequencies), unet.py:98 (padding), gaussian_diffusion.py:351-354 (time) and 722-733
(loss), train_util.py:82 and 244-249 (no clipping, EMA), image_datasets.py:78-106 (no flips). What differs: bfloat16, if
it is asked for; the first weights of cosine, which are DDPM's and not PyTorch's; nll takes 100 of the timesteps and
1,000 images, unless one trains with --config.likelihood.strata=0 --config.eval.likelihood_images=0.
"""

from ml_collections import ConfigDict

from genmodels.config import TINY, Variant, check_variant, defaults, promise, tiny

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
    config.diffusion.update(schedule="linear", variance="fixed_large", conditional=False)
    config.sampler.update(sampler="ancestral", steps=1000, variance="fixed_large")
    config.likelihood.strata = 100
    config.train.update(batch_size=128, steps=800_000)
    config.optim.update(learning_rate=2e-4, warmup=5000)
    config.ema.update(decay=0.9999, warmup=False)
    config.log.update(every=100, samples_every=20_000)
    config.checkpoint.every = 5000
    config.eval.update(metrics=("fid[tf1]",), num_samples=50_000, split="train", batch_size=256)
    config.eval.update(likelihoods=("vlb",), likelihood_images=1000)
    protocol = {
        "data": config.data.source,
        "n_generated": 50_000,
        "reference_split": "train",
        "weights": "ema",
        "sampler": "ancestral",
    }
    config.expect = (promise("fid[tf1]", 3.17, 0.3, **protocol, steps=1000),)

    if variant == "cosine":
        config.data.augment.flip = False
        config.model.update(blocks=3, attention_resolutions=(16, 8), heads=4, dropout=0.3, scale_shift=True)
        config.model.update(norm_epsilon=1e-5, frequency_shift=0.0, downsample_padding="symmetric")
        config.diffusion.update(schedule="cosine", timesteps=4000, rescale_timesteps=True)
        config.diffusion.update(variance="learned_range", loss="hybrid")
        config.sampler.update(steps=4000, variance="learned_range")
        config.train.steps = 500_000
        config.optim.update(learning_rate=1e-4, warmup=0, clip_norm=0.0)
        config.expect = (promise("fid[tf1]", 3.19, 0.3, **protocol, steps=4000),)
    if variant == "tiny":
        tiny(config, channels=8, multipliers=(1,), blocks=1, attention_resolutions=(8,))
        config.diffusion.update(variance="learned_range", loss="vlb", time_sampling="importance")
        config.sampler.variance = "learned_range"
        config.eval.update(metrics=("nll", "nn_distance_ratio"), likelihoods=("vlb", "ode"), split="test")
    return config
