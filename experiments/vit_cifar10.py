"""ViT-B/16 fine-tuned on CIFAR-10 (Dosovitskiy et al. 2021, section 4.1 and table 4).

python -m genmodels.convert --transformers=FOLDER --workdir=runs/vit_b16     # e.g. google/vit-base-patch16-224-in21k
python -m genmodels.train --config=experiments/vit_cifar10.py --workdir=runs/vit_cifar10 --config.init_from=runs/vit_b16

Published: 98.9 to 99.0% of the test images, from ImageNet-21k weights. Not trained by this project: shapes and lowering
are tested. Images are enlarged to 384 pixels, position embeddings resized to their grid of 24x24.
"""

from ml_collections import ConfigDict

from genmodels.config import check_variant, defaults


def get_config(variant: str = "") -> ConfigDict:
    """Variants: at224 (the resolution of pre-training), tiny (seconds, on the embedded digits, for tests)."""
    check_variant(variant, "at224", "tiny")
    config = defaults()
    config.task = "classifier"
    config.data.source = "tfds:cifar10"
    config.data.size = 224 if variant == "at224" else 384
    config.data.filter = "bicubic"
    config.data.augment.flip = True
    config.model = {
        "name": "vit",
        "patch_size": 16,
        "width": 768,
        "depth": 12,
        "heads": 12,
        "hidden": 3072,
        "pooling": "class",
        "positions": "learned",
        "dropout": 0.0,
        "stochastic_depth": 0.0,
        "norm_epsilon": 1e-12,  # that of transformers' weights
        "attention": "xla",
        "dtype": "bfloat16",
    }
    config.loss = {"label_smoothing": 0.0, "mixup": 0.0}
    config.distill = {"teacher": "", "temperature": 1.0, "alpha": 0.5, "hard": False}
    config.train.batch_size = 512
    config.train.steps = 10_000
    config.optim.name = "sgd"
    config.optim.momentum = 0.9
    config.optim.learning_rate = 0.003  # the paper tries 0.001, 0.003, 0.01 and 0.03
    config.optim.clip_norm = 1.0
    config.optim.warmup = 500
    config.optim.decay = "cosine"
    config.eval.metrics = ("accuracy",)

    if variant == "tiny":
        config.data.source = "digits"
        config.data.size = 0
        config.data.augment.flip = False
        config.model.update({"patch_size": 4, "width": 8, "depth": 2, "heads": 2, "hidden": 16})
        config.init_from = "experiments/vit_digits.py:tiny"
        config.init_fresh = ("classifier/trunk/class_(token|position)",)  # that one pools by the mean
        config.train.batch_size = 16
        config.train.steps = 6
        config.log.every = 2
        config.checkpoint.every = 3
        config.eval.batch_size = 40
    return config
