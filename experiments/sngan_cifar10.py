"""SNGAN on CIFAR-10 with the networks and settings of its authors' code (Miyato et al. 2018, tables 1 and 4).

python -m genmodels.data.prepare --dataset=tfds:cifar10
python -m genmodels.train --config=experiments/sngan_cifar10.py --workdir=runs/sngan --config.model.dtype=bfloat16
python -m genmodels.evaluate --workdir=runs/sngan --out=runs/sngan/eval/fid.json --check
python -m genmodels.evaluate --workdir=runs/sngan --metrics='is[tf1]' --num=50000 --splits=10 --out=runs/sngan/is.json

For accelerators; not trained here: 50,000 steps, each of 5 discriminator updates of 64 real and 64 fake images and a
generator update of 128, rates falling to zero. Published, unconditional (table 2): FID 21.7 of 5,000 samples against
10,000 images, and an inception score of 8.22, the mean of ten sets of 5,000. The paper does not say which 10,000; here
they are the test images. 4,276,739 and 1,053,824 parameters.

Sources, by file and line: github.com/pfnet-research/sngan_projection at e84b1a5, configs/sn_cifar10_unconditional.yml
(and _conditional), gen_models/resnet_32.py:10-26, dis_models/snresnet_32.py:9-34 (no bias in the last layer),
datasets/cifar10.py:20-21 (dequantisation), updater.py:50-59 (labels of fakes) and 73-100, train.py:44-47 and 120-125
(Adam, rates); chainer's batch norm: decay 0.9, epsilon 2e-5. What differs: bfloat16, if it is asked for; there, the
generator is updated before the five discriminator updates and not after them, u of a spectral norm moves at every use
and not once an update, and batch statistics are averaged over the discriminator's updates too, with unbiased variances.
"""

from ml_collections import ConfigDict

from genmodels.config import TINY, Variant, check_variant, defaults, promise, tiny

VARIANTS = {
    "": Variant("unconditional"),
    "conditional": Variant("on the class, with a projection discriminator"),
    "tiny": TINY,
}


def get_config(variant: str = "") -> ConfigDict:
    """One of VARIANTS."""
    check_variant(variant, VARIANTS)
    config = defaults("gan")
    config.data.source = "tfds:cifar10"
    config.data.augment.dequantize = True
    config.model.update(architecture="resnet", latent=128, channels=(256, 256, 256, 256), norm_epsilon=2e-5)
    config.model.update(discriminator_channels=(128, 128, 128, 128), discriminator_halvings=2, bias=False)
    config.gan.update(loss="hinge", discriminator_steps=5, generator_multiple=2, statistics_decay=0.9)
    config.train.update(batch_size=5 * 64, steps=50_000)
    config.optim.update(learning_rate=2e-4, b1=0.0, b2=0.9, clip_norm=0.0, decay="linear")
    config.log.update(every=100, samples_every=5000)
    config.checkpoint.update(every=5000, best="")  # no logged number says which checkpoint is the best
    config.eval.update(metrics=("fid[tf1]",), num_samples=5000, batch_size=250)
    if not variant:
        protocol = {
            "data": config.data.source,
            "n_generated": 5000,
            "n_reference": 10_000,
            "reference_split": "test",
            "weights": "raw",
        }
        config.expect = (promise("fid[tf1]", 21.7, 1.0, **protocol),)

    if variant == "conditional":
        config.gan.update(conditional=True, fake_labels="uniform")
    if variant == "tiny":
        tiny(config, latent=4, channels=(8, 8, 8), discriminator_channels=(8, 8, 8))
        config.gan.discriminator_steps = 2
        config.eval.metrics = ("nn_distance_ratio",)
    return config
