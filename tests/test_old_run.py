"""A work directory that an earlier layout of the code wrote is sampled, resumed and evaluated.

tests/old_run is what genmodels.train made of experiments/gan_digits.py:tiny with train.steps=4 and model.channels=(4,),
with one of its checkpoints left, without the files that only describe it. It must never be written again by newer code.
"""

import shutil

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

from genmodels import loop, scoring
from genmodels.config import build
from genmodels.core import grids
from genmodels.core.rng import fold
from genmodels.data import pipeline, transforms
from genmodels.data.sources import make_source
from genmodels.models.gan import Networks
from genmodels.reporting import html
from genmodels.reporting.files import write_results
from genmodels.reporting.writers import read_metrics
from genmodels.runs.inference import Run
from genmodels.tasks.gan_predict import GANFunctions, GANNetworks
from tests.helpers import ROOT, digest, experiment, final_state


def test_its_next_batch_is_the_one_that_it_would_have_had():
    """The labels are what the code that wrote the run gave for step 4."""
    batch = pipeline.make_batch(make_source("digits"), 0, 4, 16)
    assert batch["label"].tolist() == [8, 8, 2, 4, 4, 9, 8, 0, 9, 7, 0, 5, 1, 8, 2, 5]


@pytest.fixture
def old_run(tmp_path):
    shutil.copytree(ROOT / "tests" / "old_run", tmp_path / "run")
    return tmp_path / "run"


def test_its_generator_makes_the_images_that_it_made_then(old_run, tmp_path):
    """A latent was drawn from the example's key itself then; today that key is folded first."""
    run = Run.load(old_run)
    networks = GANNetworks(build(Networks, run.config.model, "model", image_shape=run.data.image_shape, num_classes=0))
    latents = networks.latents(fold(jax.random.key(0), jnp.arange(80)))
    images = transforms.denormalize(GANFunctions(networks).draw(run.variables, latents, None))
    grids.save_grid(tmp_path / "now.png", np.asarray(images), 10, "", "")
    then, now = (
        np.asarray(Image.open(path), int) for path in (old_run / "samples" / "sample_000004.png", tmp_path / "now.png")
    )
    assert np.ptp(then) > 50
    assert np.abs(then - now).max() <= 1  # one grey level of rounding


def test_it_is_resumed(old_run, capsys):
    before = final_state(old_run)
    assert int(before.step) == 4
    config = experiment("gan_digits", **{"model.channels": (4,), "train.steps": 6})
    assert loop.train(config, old_run) == 0
    assert "resuming at step 4 to 6" in capsys.readouterr().out
    after = final_state(old_run)
    assert int(after.step) == 6
    assert digest(after.params) != digest(before.params)
    assert [record["step"] for record in read_metrics(old_run / "metrics.jsonl")] == [2, 4, 6]


def test_it_is_evaluated_and_reported_beside_a_ddpm(old_run, scored):
    results = scoring.of_run(str(old_run), None, None, "latest")
    assert [result.name for result in results] == list(Run.load(old_run).config.eval.metrics)
    assert all(np.isfinite(result.value) for result in results)
    assert results[0].protocol["checkpoint_step"] == 4
    page = html.render([html.run_section(old_run)])
    for metric in ("loss", "discriminator_accuracy_real", "grad_norm_generator"):  # it has no curves.json
        assert metric in page
    assert not {"guidance_scale", "sampler", "steps"} & results[0].protocol.keys()  # a GAN has no such options
    write_results(old_run / "eval" / "result.json", results)
    runs = {"DDPM": scored[0], "GAN": old_run}
    table = html.comparison([html.run_section(path) | {"name": name} for name, path in runs.items()])
    for metric in ("fd_digits", "nn_distance_ratio"):
        (column,) = (column for column in table.columns if column.metric == metric)
        assert sorted(column.ranking()) == ["DDPM", "GAN"]
    assert table.made["GAN"] == "gan, ema weights, step 4, seed 0"
    assert table.made["DDPM"].startswith("diffusion, sampler ddim, steps 4, spacing trailing, ")
    assert "guidance 1.0, all classes in turn, " in table.made["DDPM"]
