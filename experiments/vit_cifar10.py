"""ViT-B/16 fine-tuned on CIFAR-10 with the settings of its authors' code (Dosovitskiy et al. 2021, section 4.1).

python -m genmodels.convert --transformers=FOLDER --workdir=runs/vit_b16     # e.g. google/vit-base-patch16-224-in21k
python -m genmodels.train --config=experiments/vit_cifar10.py --workdir=runs/vit_cifar10 --config.model.dtype=bfloat16
python -m genmodels.evaluate --workdir=runs/vit_cifar10 --out=runs/vit_cifar10/eval/accuracy.json --check

For accelerators; not trained here. Published, from ImageNet-21k weights: 98.95% of the test images in the paper, 99.02%
in the table of the code, which trains on the first 98% of the training images.

Sources, by file and line: github.com/google-research/vision_transformer at c6de1e5, README.md:235,
vit_jax/configs/vit.py:35-36 (rate), configs/common.py:41-68 and 86-92 (steps, split, size), configs/models.py:113-127
(no dropout), input_pipeline.py:197-214 (crop, flip, bilinear), checkpoint.py:235-236 (positions), train.py:138-145
(clipping, momentum), models_vit.py:303-307 (head of zeros). What differs: the crop is taken from the enlarged image and
may begin between two pixels of the original; the momentum is float32, not bfloat16; GELU is exact, as in transformers,
not the tanh approximation; bfloat16, if it is asked for.
"""

from ml_collections import ConfigDict

from genmodels.config import TINY, Variant, check_variant, defaults, promise, tiny

VARIANTS = {
    "": Variant("images of 384 pixels"),
    "at224": Variant("images of 224 pixels, the resolution of pre-training"),
    "tiny": TINY,
}


def get_config(variant: str = "") -> ConfigDict:
    """One of VARIANTS."""
    check_variant(variant, VARIANTS)
    config = defaults("classifier", network="vit")
    config.data.update(source="tfds:cifar10:train[:98%]", size=224 if variant == "at224" else 384, filter="bilinear")
    config.data.augment.update(crop_area=0.05, flip=True)
    config.init_from = "runs/vit_b16"
    config.model.update(hidden=3072, resize_positions="linear")
    config.train.update(batch_size=512, steps=10_000)
    config.optim.update(name="sgd", learning_rate=0.01, momentum=0.9, warmup=500, decay="cosine", clip_norm=1.0)
    config.eval.metrics = ("accuracy",)
    if not variant:
        config.expect = (
            promise("accuracy", 0.9902, 0.002, data=config.data.source, reference_split="test", n_reference=10_000),
        )

    if variant == "tiny":
        tiny(config, patch_size=4, width=8, depth=2, heads=2, hidden=16)
        config.data.size = 0
        config.data.augment.update(crop_area=0.0, flip=False)
        config.init_from = "experiments/vit_digits.py:tiny"
        config.init_fresh = ("classifier/trunk/class_(token|position)",)  # that one pools by the mean
    return config
