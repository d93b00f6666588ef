"""EDM on CIFAR-10 with the training and sampling of its paper (Karras et al. 2022, tables 1 and 7), unconditional.

python -m genmodels.data.prepare --dataset=tfds:cifar10
python -m genmodels.train --config=experiments/edm_cifar10.py --workdir=runs/edm_cifar10 --config.model.dtype=bfloat16

For accelerators: 200 million images, 18 Heun steps (35 network evaluations). Published with the paper's own network
(DDPM++, 55.7M parameters) and non-leaky augmentation: FID 1.97. Here the network is DDPM's U-Net of that width and
depth, and images are only flipped.
"""

from ml_collections import ConfigDict

from genmodels.config import TINY, Variant, check_variant, defaults, tiny

VARIANTS = {"": Variant("the paper's training and sampling"), "tiny": TINY}


def get_config(variant: str = "") -> ConfigDict:
    """One of VARIANTS."""
    check_variant(variant, VARIANTS)
    config = defaults("diffusion", process="edm")
    config.data.source = "tfds:cifar10"
    config.data.augment.flip = True
    config.model.update(multipliers=(2, 2, 2), blocks=4, dropout=0.13)
    config.diffusion.update(conditional=False, label_dropout=0.0)
    config.sampler.update(sampler="heun", steps=18, clip=0.0)
    config.train.update(batch_size=512, examples=200_000_000)
    config.optim.update(learning_rate=1e-3, warmup=19_531, clip_norm=0.0)  # 10 million images
    config.ema.decay = 0.99929  # a half-life of 500,000 images
    config.log.update(every=100, samples_every=20_000)
    config.checkpoint.every = 5000
    config.eval.update(metrics=("nll", "nn_distance_ratio"), num_samples=10_000, batch_size=256)
    config.eval.likelihood_images = 1000

    if variant == "tiny":
        tiny(config, channels=8, multipliers=(1,), blocks=1, attention_resolutions=(8,))
        config.data.augment.flip = False
        config.optim.warmup = 0
    return config
