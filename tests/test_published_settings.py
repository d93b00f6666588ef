"""Recipes with a published number have the settings of their authors' code: a table of these, by file and line."""

import ast

import jax
import pytest

from genmodels import config as config_lib
from genmodels import evaluators
from genmodels.data.tfds import open_records
from genmodels.errors import DataError
from genmodels.runs.inference import abstract_state
from genmodels.tasks import DataSpec, make_task
from tests.helpers import ROOT, experiment

# Of each recipe: {our key: (value, where the authors have it)}.
DDPM = {  # github.com/hojonathanho/diffusion at 1e0dceb
    "data.augment.flip": (True, "scripts/run_cifar.py:46-47, 137"),
    "model.channels": (128, "scripts/run_cifar.py:39"),
    "model.multipliers": ((1, 2, 2, 2), "scripts/run_cifar.py:39"),
    "model.blocks": (2, "scripts/run_cifar.py:39"),
    "model.attention_resolutions": ((16,), "scripts/run_cifar.py:39"),
    "model.heads": (1, "diffusion_tf/models/unet.py:66-84"),
    "model.scale_shift": (False, "diffusion_tf/models/unet.py:48-49"),
    "model.dropout": (0.1, "scripts/run_cifar.py:137"),
    "model.norm_groups": (0, "diffusion_tf/models/unet.py:12: 32 groups, which 0 gives at 128 channels and more"),
    "model.norm_epsilon": (1e-6, "diffusion_tf/models/unet.py:12: the default of tf.contrib.layers.group_norm"),
    "model.downsample_padding": ("same", "diffusion_tf/nn.py:76"),
    "model.frequency_shift": (1.0, "diffusion_tf/nn.py:100"),
    "diffusion.schedule": ("linear", "scripts/run_cifar.py:135"),
    "diffusion.timesteps": (1000, "scripts/run_cifar.py:135"),
    "diffusion.rescale_timesteps": (False, "diffusion_tf/nn.py:104"),
    "diffusion.parameterization": ("epsilon", "scripts/run_cifar.py:136"),
    "diffusion.variance": ("fixed_large", "scripts/run_cifar.py:136"),
    "diffusion.loss": ("simple", "scripts/run_cifar.py:136"),
    "diffusion.time_sampling": ("uniform", "scripts/run_cifar.py:49"),
    "diffusion.conditional": (False, "scripts/run_cifar.py:36"),
    "sampler.sampler": ("ancestral", "scripts/run_cifar.py:55-61"),
    "sampler.steps": (1000, "scripts/run_cifar.py:55-61"),
    "sampler.variance": ("fixed_large", "scripts/run_cifar.py:136"),
    "sampler.clip": (1.0, "diffusion_tf/diffusion_utils_2.py:186"),
    "train.batch_size": (128, "scripts/run_cifar.py:134"),
    "train.steps": (800_000, "the paper, appendix B"),
    "optim.name": ("adam", "scripts/run_cifar.py:134"),
    "optim.learning_rate": (2e-4, "scripts/run_cifar.py:134"),
    "optim.warmup": (5000, "scripts/run_cifar.py:134"),
    "optim.decay": ("constant", "diffusion_tf/utils.py:145-148"),
    "optim.clip_norm": (1.0, "scripts/run_cifar.py:134"),
    "ema.decay": (0.9999, "diffusion_tf/tpu_utils/tpu_utils.py:103"),
    "ema.warmup": (False, "diffusion_tf/tpu_utils/tpu_utils.py:90"),
    "ema.horizon": (0.0, "diffusion_tf/tpu_utils/tpu_utils.py:90"),
    "eval.num_samples": (50_000, "scripts/run_cifar.py:125"),
    "eval.split": ("train", "diffusion_tf/tpu_utils/tpu_utils.py:380-382"),
    "eval.metrics": (("fid[tf1]",), "diffusion_tf/tpu_utils/tpu_utils.py:51-57"),
}
IMPROVED = DDPM | {  # github.com/openai/improved-diffusion at 1bc7bbb
    "data.augment.flip": (False, "improved_diffusion/image_datasets.py:78-106"),
    "model.blocks": (3, "README.md:95"),
    "model.attention_resolutions": ((16, 8), "improved_diffusion/script_util.py:21"),
    "model.heads": (4, "improved_diffusion/script_util.py:19"),
    "model.scale_shift": (True, "improved_diffusion/script_util.py:34"),
    "model.dropout": (0.3, "README.md:95"),
    "model.norm_epsilon": (1e-5, "improved_diffusion/nn.py:17-19, 100: the default of torch.nn.GroupNorm"),
    "model.downsample_padding": ("symmetric", "improved_diffusion/unet.py:98"),
    "model.frequency_shift": (0.0, "improved_diffusion/nn.py:114-116"),
    "diffusion.schedule": ("cosine", "README.md:96"),
    "diffusion.timesteps": (4000, "README.md:96"),
    "diffusion.rescale_timesteps": (True, "improved_diffusion/script_util.py:31"),
    "diffusion.variance": ("learned_range", "README.md:95"),
    "diffusion.loss": ("hybrid", "improved_diffusion/script_util.py:245-246"),
    "diffusion.vlb_weight": (0.001, "improved_diffusion/gaussian_diffusion.py:732"),
    "sampler.steps": (4000, "README.md:96"),
    "sampler.variance": ("learned_range", "README.md:95"),
    "train.steps": (500_000, "README.md:92"),
    "optim.learning_rate": (1e-4, "README.md:97"),
    "optim.warmup": (0, "improved_diffusion/train_util.py:257-259"),
    "optim.clip_norm": (0.0, "improved_diffusion/train_util.py:244-249"),
    "optim.weight_decay": (0.0, "scripts/image_train.py:65"),
    "ema.decay": (0.9999, "scripts/image_train.py:69"),
    "ema.warmup": (False, "improved_diffusion/nn.py:55-65"),
}
SNGAN = {  # github.com/pfnet-research/sngan_projection at e84b1a5
    "data.augment.dequantize": (True, "datasets/cifar10.py:20-21"),
    "data.augment.flip": (False, "datasets/cifar10.py:19-22"),
    "model.architecture": ("resnet", "configs/sn_cifar10_unconditional.yml:13-24"),
    "model.latent": (128, "configs/sn_cifar10_unconditional.yml:16"),
    "model.channels": ((256,) * 4, "configs/sn_cifar10_unconditional.yml:18"),
    "model.discriminator_channels": ((128,) * 4, "configs/sn_cifar10_unconditional.yml:26"),
    "model.discriminator_halvings": (2, "dis_models/snresnet_32.py:13-16"),
    "model.discriminator_norm": ("spectral", "dis_models/resblocks.py"),
    "model.bias": (False, "dis_models/snresnet_32.py:17"),
    "model.norm_rows": (0, "one GPU"),
    "model.norm_epsilon": (2e-5, "the default of chainer.links.BatchNormalization"),
    "gan.statistics_decay": (0.9, "the default of chainer.links.BatchNormalization"),
    "gan.loss": ("hinge", "configs/sn_cifar10_unconditional.yml:47"),
    "gan.penalty": ("none", "updater.py:75-101"),
    "gan.discriminator_steps": (5, "configs/sn_cifar10_unconditional.yml:44"),
    "gan.generator_multiple": (2, "configs/sn_cifar10_unconditional.yml:45: 128 latents"),
    "gan.augment": ((), "updater.py:75-101"),
    "gan.conditional": (False, "configs/sn_cifar10_unconditional.yml:46"),
    "train.batch_size": (5 * 64, "configs/sn_cifar10_unconditional.yml:2, 44"),
    "train.steps": (50_000, "configs/sn_cifar10_unconditional.yml:3"),
    "optim.name": ("adam", "train.py:45"),
    "optim.learning_rate": (2e-4, "configs/sn_cifar10_unconditional.yml:36"),
    "optim.b1": (0.0, "configs/sn_cifar10_unconditional.yml:37"),
    "optim.b2": (0.9, "configs/sn_cifar10_unconditional.yml:38"),
    "optim.decay": ("linear", "train.py:120-123"),
    "optim.warmup": (0, "configs/sn_cifar10_unconditional.yml:4"),
    "optim.clip_norm": (0.0, "train.py:44-47"),
    "ema.decay": (0.0, "updater.py: no average"),
    "ema.horizon": (0.0, "updater.py: no average"),
    "eval.num_samples": (5000, "the paper, appendix B.1"),
    "eval.metrics": (("fid[tf1]",), "the paper, appendix B.1"),
}
PROJECTION = SNGAN | {
    "gan.conditional": (True, "configs/sn_cifar10_conditional.yml:46"),
    "gan.fake_labels": ("uniform", "updater.py:54-55"),
}
EDM = {  # github.com/NVlabs/edm at 008a4e5
    "model.channels": (128, "train.py:118"),
    "model.multipliers": ((2, 2, 2), "train.py:118"),
    "model.blocks": (4, "training/networks.py:240"),
    "model.attention_resolutions": ((16,), "training/networks.py:241"),
    "model.heads": (1, "training/networks.py:263"),
    "model.dropout": (0.13, "train.py:58"),
    "model.norm_epsilon": (1e-6, "training/networks.py:263"),
    "model.frequency_shift": (1.0, "training/networks.py:269"),
    "diffusion.sigma_data": (0.5, "training/loss.py:67"),
    "diffusion.p_mean": (-1.2, "training/loss.py:67"),
    "diffusion.p_std": (1.2, "training/loss.py:67"),
    "diffusion.sigma_min": (0.002, "generate.py:27"),
    "diffusion.sigma_max": (80.0, "generate.py:27"),
    "diffusion.conditional": (False, "train.py:46: the unconditional model"),
    "sampler.sampler": ("heun", "generate.py:50-61"),
    "sampler.steps": (18, "generate.py:27"),
    "sampler.spacing": ("karras", "generate.py:36"),
    "sampler.clip": (0.0, "generate.py:50-61"),
    "train.batch_size": (512, "train.py:52"),
    "train.examples": (200_000_000, "train.py:51"),
    "optim.name": ("adam", "train.py:101"),
    "optim.learning_rate": (1e-3, "train.py:56"),
    "optim.b2": (0.999, "train.py:101"),
    "optim.eps": (1e-8, "train.py:101"),
    "optim.warmup": (10_000_000 // 512, "training/training_loop.py:39, 136"),
    "optim.clip_norm": (0.0, "training/training_loop.py:134-140"),
    "ema.decay": (0.5 ** (512 / 500_000), "train.py:57, training/training_loop.py:146"),
    "eval.num_samples": (50_000, "fid.py:116"),
    "eval.split": ("train", "README.md: the statistics are of the training images"),
    "eval.metrics": (("fid[tf1]",), "fid.py"),
}
VIT = {  # github.com/google-research/vision_transformer at c6de1e5
    "data.source": ("tfds:cifar10:train[:98%]", "vit_jax/configs/common.py:89"),
    "data.size": (384, "vit_jax/configs/common.py:91"),
    "data.filter": ("bilinear", "vit_jax/input_pipeline.py:209, 213"),
    "data.augment.crop_area": (0.05, "vit_jax/input_pipeline.py:202"),
    "data.augment.flip": (True, "vit_jax/input_pipeline.py:210-211"),
    "model.patch_size": (16, "vit_jax/configs/models.py:117"),
    "model.width": (768, "vit_jax/configs/models.py:118"),
    "model.hidden": (3072, "vit_jax/configs/models.py:120"),
    "model.heads": (12, "vit_jax/configs/models.py:121"),
    "model.depth": (12, "vit_jax/configs/models.py:122"),
    "model.dropout": (0.0, "vit_jax/configs/models.py:124"),
    "model.stochastic_depth": (0.0, "vit_jax/models_vit.py"),
    "model.pooling": ("class", "vit_jax/configs/models.py:125"),
    "model.positions": ("learned", "vit_jax/models_vit.py:191-193"),
    "model.resize_positions": ("linear", "vit_jax/checkpoint.py:236"),
    "model.norm_epsilon": (1e-6, "vit_jax/models_vit.py:138: the default of flax.linen.LayerNorm"),
    "loss.label_smoothing": (0.0, "vit_jax/train.py:48-50"),
    "loss.mixup": (0.0, "vit_jax/train.py:48-50"),
    "train.batch_size": (512, "vit_jax/configs/common.py:48"),
    "train.steps": (10_000, "vit_jax/configs/common.py:87"),
    "optim.name": ("sgd", "vit_jax/train.py:140"),
    "optim.learning_rate": (0.01, "vit_jax/configs/vit.py:36"),
    "optim.momentum": (0.9, "vit_jax/train.py:142"),
    "optim.warmup": (500, "vit_jax/configs/common.py:68"),
    "optim.decay": ("cosine", "vit_jax/configs/common.py:66"),
    "optim.clip_norm": (1.0, "vit_jax/configs/common.py:41"),
    "ema.decay": (0.0, "vit_jax/train.py: no average"),
    "ema.horizon": (0.0, "vit_jax/train.py: no average"),
    "eval.split": ("test", "vit_jax/configs/common.py:90"),
    "eval.metrics": (("accuracy",), "vit_jax/train.py"),
}
PUBLISHED = {
    "ddpm_cifar10": DDPM,
    "ddpm_cifar10:cosine": IMPROVED,
    "sngan_cifar10": SNGAN,
    "sngan_cifar10:conditional": PROJECTION,
    "edm_cifar10": EDM,
    "vit_cifar10": VIT,
}


def config_of(name):
    file, _, variant = name.partition(":")
    return experiment(file, variant)


@pytest.mark.parametrize("name", PUBLISHED)
def test_settings_equal_those_of_the_authors_code(name):
    found = config_lib.flatten(config_of(name))
    differ = {
        key: f"{found[key]}, not {value} ({source})"
        for key, (value, source) in PUBLISHED[name].items()
        if found[key] != value
    }
    assert differ == {}


@pytest.mark.parametrize("network", ["generator", "discriminator"])
def test_both_networks_of_sngan_have_its_rate(network):
    optim = config_of("sngan_cifar10").optim
    assert (optim.learning_rate, optim[network].learning_rate) == (2e-4, None)  # each follows the shared one


@pytest.mark.parametrize(
    ("name", "count"),
    [
        ("ddpm_cifar10", 35_746_307),
        ("ddpm_cifar10:cosine", 52_546_438),  # of the authors' UNetModel
        ("sngan_cifar10", 4_276_739 + 1_053_824),
    ],
)
def test_networks_have_the_authors_numbers_of_parameters(name, count):
    spec = DataSpec((32, 32, 3), 10)
    state = abstract_state(make_task(config_of(name), spec, 1), spec)
    assert sum(leaf.size for leaf in jax.tree.leaves(state.params)) == count


@pytest.mark.parametrize("name", PUBLISHED)
def test_every_recipe_cites_its_source_says_what_differs_and_how_to_measure_what_was_published(name):
    text = ast.get_docstring(ast.parse((ROOT / "experiments" / f"{name.partition(':')[0]}.py").read_text()))
    for words in (
        "Sources, by file and line: github.com/",
        "Published",
        "What differs",
        "python -m genmodels.evaluate",
    ):
        assert words in " ".join(text.split())


@pytest.mark.parametrize("name", PUBLISHED)
def test_the_metrics_of_recipes_exist_and_their_promises_are_among_them(name):
    config = config_of(name)
    evaluators.resolve(config.eval.metrics, evaluators.ExtractorDefaults())
    for promise in config.expect:
        assert promise["metric"] in config.eval.metrics
        protocol = promise["protocol"]
        assert protocol["reference_split"] == config.eval.split
        assert protocol.get("n_generated", config.eval.num_samples) == config.eval.num_samples


def test_the_share_of_the_training_images_is_a_split_that_tfds_sources_know():
    with pytest.raises(DataError, match="prepare"):
        open_records("cifar10:train[:98%]", "train", "/nowhere")
