"""EDM on CIFAR-10 with the training and sampling of its authors' code (Karras et al. 2022, tables 1 and 7).

python -m genmodels.data.prepare --dataset=tfds:cifar10
python -m genmodels.train --config=experiments/edm_cifar10.py --workdir=runs/edm --config.model.dtype=bfloat16
python -m genmodels.evaluate --workdir=runs/edm --out=runs/edm/eval/fid.json

For accelerators; not trained here: 200 million images, 18 Heun steps (35 network evaluations). Published,
unconditional, with the paper's own network (DDPM++, 55.7 million parameters) and non-leaky augmentation: FID 1.97 of
50,000 samples against the training images, the lowest of three draws.

Sources, by file and line: github.com/NVlabs/edm at 008a4e5, train.py:51-60 and 101, training/loss.py:66-80,
training/networks.py:660-667 (preconditioning), training/training_loop.py:36-39 and 134-148, generate.py:27-63. What
differs: the network, which is DDPM's U-Net of that width and depth (53,634,563 parameters), without their scaled skips,
residual resampling and first weights; images are only flipped (there, also turned, scaled and moved with probability
0.12, and the network sees by how much); the EMA warms up by (1 + t) / (10 + t), not by a half-life of t / 20; bfloat16,
if asked for. The published number is therefore no promise of this file.
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
    config.diffusion.conditional = False
    config.sampler.update(sampler="heun", steps=18, clip=0.0)
    config.train.update(batch_size=512, examples=200_000_000)
    config.optim.update(learning_rate=1e-3, warmup=19_531, clip_norm=0.0)  # 10 million images
    config.ema.decay = 0.5 ** (512 / 500_000)  # a half-life of 500,000 images
    config.log.update(every=100, samples_every=20_000)
    config.checkpoint.every = 5000
    config.eval.update(metrics=("fid[tf1]",), num_samples=50_000, split="train", batch_size=256)
    config.eval.likelihood_images = 1000

    if variant == "tiny":
        tiny(config, channels=8, multipliers=(1,), blocks=1, attention_resolutions=(8,))
        config.data.augment.flip = False
        config.optim.warmup = 0
        config.eval.update(metrics=("nll", "nn_distance_ratio"), split="test")
    return config
