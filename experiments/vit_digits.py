"""A small Vision Transformer on scikit-learn's digits, and what can be done with a trained one.

python -m genmodels.train --config=experiments/vit_digits.py --workdir=runs/vit_digits

The variants train what they need first, in prerequisites/ of their work directory.
"""

from ml_collections import ConfigDict

from genmodels.config import TINY, Variant, check_variant, defaults, promise, tiny

VARIANTS = {
    "": Variant("from its first weights", "2 min on 2 CPU cores"),
    "distilled": Variant("learns from the ConvNet of classifier_digits as well", "2 min on 2 CPU cores"),
    "probe": Variant("the trunk of the plain one, frozen, under a new head", "11 s on 2 CPU cores, the trunk apart"),
    "tiny": TINY,
    "tiny_distilled": TINY,
    "tiny_probe": TINY,
}


def get_config(variant: str = "") -> ConfigDict:
    """One of VARIANTS."""
    check_variant(variant, VARIANTS)
    config = defaults("classifier", network="vit")
    config.data.augment.pad_crop = 1
    config.model.update(patch_size=2, width=64, depth=4, heads=4, hidden=128, pooling="mean", stochastic_depth=0.1)
    config.loss.update(label_smoothing=0.1, mixup=0.2)
    config.train.update(batch_size=100, steps=2000)
    config.optim.update(name="adamw", weight_decay=0.05, learning_rate=2e-3, warmup=100, decay="cosine")
    config.optim.no_decay = (".*/(bias|scale)", ".*/(position_embedding|class_position|class_token)")
    config.ema.horizon = 0.05
    config.log.every = 100
    config.eval.metrics = ("accuracy",)
    reached = (0.99, 0.01) if variant == "distilled" else (0.985, 0.015)
    config.expect = (promise("accuracy", *reached, data="digits", reference_split="test", n_reference=297),)

    size = ":tiny" if variant.startswith("tiny") else ""
    if variant.endswith("distilled"):
        config.distill.update(teacher=f"experiments/classifier_digits.py{size}", temperature=2.0)
        config.train.steps = 1500
    if variant.endswith("probe"):
        config.init_from = f"experiments/vit_digits.py{size}"
        config.init_fresh = ("classifier/logits/.*",)
        config.frozen = ("classifier/trunk/.*",)
        config.train.steps = 300
    if size:
        tiny(config, patch_size=4, width=8, depth=2, heads=2, hidden=16)
    return config
