"""ViT-B/16 fine-tuned on CIFAR-10 (Dosovitskiy et al. 2021, section 4.1 and table 4).

python -m genmodels.convert --transformers=FOLDER --workdir=runs/vit_b16     # e.g. google/vit-base-patch16-224-in21k
python -m genmodels.train --config=experiments/vit_cifar10.py --workdir=runs/vit_cifar10 --config.init_from=runs/vit_b16

Published: 98.9 to 99.0% of the test images, from ImageNet-21k weights. Images are enlarged to 384 pixels, position
embeddings resized to their grid of 24x24.
"""

from ml_collections import ConfigDict

from genmodels.config import TINY, Variant, check_variant, defaults, tiny

VARIANTS = {
    "": Variant("images of 384 pixels"),
    "at224": Variant("images of 224 pixels, the resolution of pre-training"),
    "tiny": TINY,
}


def get_config(variant: str = "") -> ConfigDict:
    """One of VARIANTS."""
    check_variant(variant, VARIANTS)
    config = defaults("classifier", network="vit")
    config.data.update(source="tfds:cifar10", size=224 if variant == "at224" else 384, filter="bicubic")
    config.data.augment.flip = True
    config.model.update(hidden=3072, dtype="bfloat16")
    config.model.norm_epsilon = 1e-12  # that of transformers' weights
    config.train.update(batch_size=512, steps=10_000)
    config.optim.update(name="sgd", warmup=500, decay="cosine")
    config.optim.learning_rate = 0.003  # the paper tries 0.001, 0.003, 0.01 and 0.03
    config.eval.metrics = ("accuracy",)

    if variant == "tiny":
        tiny(config, patch_size=4, width=8, depth=2, heads=2, hidden=16)
        config.data.size = 0
        config.data.augment.flip = False
        config.init_from = "experiments/vit_digits.py:tiny"
        config.init_fresh = ("classifier/trunk/class_(token|position)",)  # that one pools by the mean
    return config
