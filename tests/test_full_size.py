"""Experiments at their published sizes: every one is shaped and lowered, though none is trained here."""

import jax
import pytest

from genmodels.runs.inference import abstract_state
from genmodels.tasks import DataSpec, make_task
from tests.helpers import EXPERIMENTS, experiment, lower_step

SHAPES = {"mnist": (28, 28, 1), "cifar10": (32, 32, 3), "folder": (64, 64, 3)}  # by a word in the experiment's name

LARGE = ("cifar10", "folder", "flow_matching", "ddpm_mnist")  # as long to trace and lower as all others together


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=pytest.mark.slow) if any(word in name for word in LARGE) else name
        for name in [*EXPERIMENTS, "sngan_cifar10:conditional", "vit_cifar10:at224"]
    ],
)
def test_experiments_at_full_size_are_shaped_and_lower(name):
    image_shape = next((shape for word, shape in SHAPES.items() if word in name), (8, 8, 1))
    file, _, variant = name.partition(":")
    config = experiment(file, variant)
    if config.data.size:
        image_shape = (config.data.size, config.data.size, image_shape[-1])
    spec = DataSpec(image_shape, 10)
    task = make_task(config, spec, 100)
    state = abstract_state(task, spec)
    exported = lower_step(task, state, spec, ["cuda"], {})
    shapes = [leaf.shape for leaf in jax.tree.leaves(state)]
    assert [leaf.shape for leaf in exported.out_avals[: len(shapes)]] == shapes


@pytest.mark.parametrize(
    "name", ["ddpm_folder:small", "vae_folder", "vae_folder:vq", "vae_folder:small", "gan_folder", "gan_folder:small"]
)
def test_templates_for_folders_suit_colour_images_of_their_size(name):
    file, _, variant = name.partition(":")
    config = experiment(file, variant)
    spec = DataSpec((config.data.size, config.data.size, 3), 2)
    assert abstract_state(make_task(config, spec, 100), spec).params
