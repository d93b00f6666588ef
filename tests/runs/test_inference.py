"""Sampling from a trained run."""

import jax
import numpy as np
import pytest

from genmodels.core.parallel import Parallel
from genmodels.errors import ConfigError, StorageError
from genmodels.runs.inference import Predictor, Run
from genmodels.tasks import DataSpec, Predict, Task, make_task
from tests.helpers import experiment


def test_image_i_depends_on_seed_and_index_alone(trained):
    run = Run.load(trained)
    whole = run.sample(140, seed=0)
    assert (whole.dtype, whole.shape) == (np.uint8, (140, 8, 8, 1))
    assert np.ptp(whole) > 100
    labels = run.sample_labels(140)
    for batch_size, devices in ((8, 1), (64, 1), (64, 8)):
        predictor = Predictor(run.predictor.task, Parallel("pmap", jax.devices()[:devices]), batch_size)
        images = predictor(jax.device_get(run.variables), "sample", 140, {"label": labels}, seed=0)["image"]
        assert np.abs(images.astype(int) - whole).max() <= 1  # one grey level of rounding
    assert (run.sample(3, labels=[7], seed=0) == run.sample(9, labels=[7], seed=0)[:3]).all()
    assert (run.sample(3, seed=1) != whole[:3]).any()


def test_options_and_labels_of_sampling_are_checked(trained):
    run = Run.load(trained, "best")
    labels = [[10], [-1], [10**11], [10**30], [], [1.5], [[1], [2, 3]], [[1, 2]]]
    steps = [{"steps": x} for x in (0, 21, "5", 2.5, True)]
    others = [{"sampler": "ddmi"}, {"width": 3}, {"seed": -1}, {"guidance": np.nan}, {"eta": 0.5, "sampler": "heun"}]
    for bad in (*({"labels": x} for x in labels), *steps, *others):
        with pytest.raises(ConfigError, match=r"label|ddim|steps|option|seed|guidance=nan"):
            run.sample(2, **bad)
    with pytest.raises(ConfigError, match="at least 1"):
        run.sample(0)
    assert run.sample(2, eta=1).shape == (2, 8, 8, 1)
    assert run.sample(2, sampler="ancestral", steps=3, guidance=2.0).shape == (2, 8, 8, 1)


def test_load_works_as_in_a_notebook(trained):
    import genmodels

    assert genmodels.load(str(trained)).sample(2, labels=[3], seed=0).shape == (2, 8, 8, 1)
    assert genmodels.load(trained, 3).step == 3
    with pytest.raises(StorageError, match=r"is .* a work directory"):
        genmodels.load(str(trained / "checkpoints"))


def test_guidance_is_refused_where_no_null_label_was_trained():
    spec = DataSpec((8, 8, 1), 10)
    tasks = [make_task(experiment("ddpm_digits", **{"diffusion.label_dropout": p}), spec, 10) for p in (0.0, 0.1)]
    assert [task.predict["sample"].optional for task in tasks] == [(), ("guidance_scale",)]


@pytest.mark.parametrize("devices", [1, 8])
def test_a_model_of_one_array_is_called_as_any_other(devices):
    """With the index and the seed of each row that makes three arrays in three arguments."""

    def shifted(variables, frozen, inputs, dist):
        return {"value": variables["shift"] + jax.vmap(jax.random.normal)(inputs["key"])}

    def untrained(*args):
        raise NotImplementedError

    task = Task(untrained, untrained, {}, {"shifted": Predict(shifted, ("key",), "value")})
    predictor = Predictor(task, Parallel("pmap", jax.devices()[:devices]), 16)
    values = predictor({"shift": np.float32(5)}, "shifted", 20, {}, seed=3)["value"]
    keys = [jax.random.fold_in(jax.random.key(3), index) for index in range(20)]
    np.testing.assert_allclose(values, [5 + jax.random.normal(key) for key in keys], rtol=1e-6)
