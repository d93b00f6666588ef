"""A task on pairs (tests/paired_task.py) goes through everything that a run can do, and lazy sources likewise."""

import jax
import numpy as np
import pytest

from genmodels import loop, scoring
from genmodels.config import defaults
from genmodels.core.grids import read_captions
from genmodels.data.base import DataSource
from genmodels.data.sources import make_source, read_images
from genmodels.errors import ConfigError
from genmodels.reporting import files, html, picture_files, pictures
from genmodels.runs import apply
from genmodels.runs.inference import Run, abstract_state, suggested_commands, task_of
from genmodels.tasks import Predict
from tests.data.files import noise
from tests.helpers import digest, experiment, lower_step
from tests.test_conformance import assert_close, assert_replicas_agree, final, train_on

BRIGHT, DARK = 200, 40  # the means of the two sets


@pytest.fixture(scope="module")
def paired(tmp_path_factory):
    """(work directory, source) of a finished run on a bright and a dark set, of which the test split is lazy."""
    folder = tmp_path_factory.mktemp("paired")
    for name, mean, count in (("a", BRIGHT, 60), ("b", DARK, 40)):
        images = (noise(count, 8, 8, 1) // 8 + mean - 16).astype(np.uint8)
        np.savez(folder / f"{name}.npz", images=images)
    parts = [f"split('npz:{folder}/{name}.npz', test=0.3)" for name in "ab"]
    source = f"pair({', '.join(parts)})"
    config = defaults()
    settings = {"task": "tests.paired_task:make", "data.source": source, "optim.learning_rate": 0.05}
    settings |= {"train.batch_size": 16, "train.steps": 150, "log.samples_every": 100, "optim.clip_norm": 0.0}
    config.update_from_flattened_dict(settings)
    assert loop.train(config, folder / "run") == 0
    return folder / "run", source


def test_it_trains_draws_evaluates_applies_and_reports(paired, capsys):
    workdir, source = paired
    assert scoring.of_run(str(workdir), None, None, "latest", allow_code=True) == []
    assert "no metrics are asked for; pictures are in" in capsys.readouterr().out
    found = sorted(path.name for path in (workdir / "samples").glob("*.png"))
    ways = ("translate_ab", "translate_ba")
    assert found == sorted(f"{way}{step}.png" for way in ways for step in ("", "_000100", "_000150"))
    _, caption = read_captions(workdir / "samples" / "translate_ab.png")
    assert caption.startswith(f"from above: images 0 to {len(make_source(source, 'test').a) - 1} of split('npz:")
    page = html.render([html.run_section(workdir)])
    assert [line.split()[2] for line in suggested_commands(workdir, True)] == ["genmodels.evaluate", "genmodels.report"]
    for way in ways:
        assert f"<b>{way}.</b> from above: images 0 to " in page
    assert page.count("data:image/png;base64,") == 2  # the pictures of training give way to those of the evaluation

    run = Run.load(workdir, allow_code=True)
    inputs, rows = apply.gather(run, "translate_ba", [str(workdir.parent / "b.npz")], None, 9)
    assert (rows, set(inputs)) == (9, {"b"})
    outputs = run.predict("translate_ba", rows, inputs)
    files.write_outputs(workdir / "out", "translate_ba", run.predictor.task.predict["translate_ba"], outputs, "")
    made = read_images("--generated", str(workdir / "out"))
    assert (len(made), made.image_shape) == (9, (8, 8, 1))
    # b says nothing of a, so that the least squared error is at the mean of a.
    assert abs(made.images.mean() - BRIGHT) < 20


def test_its_step_lowers_and_its_replicas_agree_to_rounding(paired):
    config, _, spec, task = task_of(paired[0], allow_code=True)
    lower_step(task, abstract_state(task, spec), spec, ["cuda"], {})
    one = final(train_on(config, 1, "pmap", steps=3)).params
    for left in train_on(config, 8, "pmap", steps=3):
        assert_replicas_agree(left)
    assert_close(one, jax.device_get(left[0].params))
    assert digest(one) != digest(final(train_on(config, 1, "pmap", steps=2)).params)


def test_a_metric_that_compares_with_single_images_says_that_pairs_have_none(paired):
    for metric in ("fd_digits", "psnr", "accuracy", "nn_distance_ratio"):
        with pytest.raises(
            ConfigError, match=f"metric {metric} compares with .* has the fields a and b; .* --metrics="
        ):
            scoring.of_run(str(paired[0]), (metric,), None, "latest", allow_code=True)


def test_a_pair_in_place_of_one_set_of_images_is_one_clear_line():
    spec, words = "pair('digits', 'digits')", r"pair\(.* holds 2 sets of images, digits and digits; name one of them"
    with pytest.raises(ConfigError, match=f"--generated={words}"):
        scoring.of_paths(spec, spec, ("fd_digits",))
    with pytest.raises(ConfigError, match=f"--images={words}"):
        scoring.statistics_of(spec, "digits", "none", "")


@pytest.mark.parametrize(
    "spec",
    [
        "digits",
        "subset('digits', count=20)",
        "split('digits', test=0.1)",
        "concat('digits', 'digits')",
        "pair('digits', split('digits', test=0.1))",
    ],
)
def test_every_source_and_composition_fulfils_the_protocol(spec):
    source = make_source(spec)
    assert isinstance(source, DataSource)
    assert tuple(source.parts) == source.fields
    assert len(source) == max(len(source.images_of(field)) for field in source.fields)
    for field in source.fields:
        pixels = source.images_of(field)
        assert pixels.shape == (len(pixels), *source.image_shape)
        np.testing.assert_array_equal(pixels[3:5], pixels[np.array([3, 4])])
    batch = source.batch(lambda size, stream: np.array([size - 1, 0]))
    assert batch.keys() == {*source.fields} | ({"label"} if source.num_classes else set())


@pytest.mark.parametrize("folder", [False, True])
def test_an_autoencoder_is_evaluated_on_lazy_images(folder, tmp_path):
    """Images that are decoded when they are read, and chosen and joined ones: evaluation draws and measures them."""
    files.write_images(tmp_path / "photos", make_source("digits").images[:30], None, "")
    spec = f"folder:{tmp_path}/photos" if folder else "split(concat('digits', 'digits'), test=0.02)"
    settings = {"data.source": f"split('{spec}', test=0.2)" if folder else spec, "train.batch_size": 8}
    settings |= {"data.memory_gb": 0.0, "data.workers": 0, "train.steps": 1} if folder else {"train.steps": 1}
    assert loop.train(experiment("vae_digits", **settings, **{"model.blocks": 0}), tmp_path / "run") == 0
    metrics = ("fd_digits", "psnr", "nll", "nn_distance_ratio")
    results = scoring.of_run(str(tmp_path / "run"), metrics, 10, "latest", likelihoods=("elbo",))
    assert all(np.isfinite(result.value) for result in results)
    drawn = {path.stem for path in picture_files.in_report(tmp_path / "run" / "samples")}
    assert drawn == {"grid", "reconstructions", "interpolation", "neighbours"}


def call(**outputs):
    """Stands for a predict function: gives each output for as many rows as it is asked, and notes its inputs."""

    def made(num, inputs):
        made.inputs = inputs
        return {field: np.zeros((num, *shape), np.uint8) for field, shape in outputs.items()}

    return made


IMAGE = (8, 8, 1)


def sheet_of(inputs, output, spec="digits", shows=(), **outputs):
    fn = call(**{output: IMAGE, **outputs})
    predict = Predict(fn, inputs, output, shows=dict(shows))
    return pictures.draw("fn", predict, fn, make_source(spec)), fn


def test_a_sheet_follows_from_inputs_and_output_alone():
    """Samples, samples by class, a translation, a reconstruction, a blend of two, paths and their stages."""
    pair = "pair('digits', subset('digits', count=6))"
    sheet, fn = sheet_of(("key",), "image")
    assert (sheet.columns, len(sheet.images), fn.inputs) == (10, 80, {})
    sheet, fn = sheet_of(("key", "label"), "image", "subset('digits', classes=(1, 2, 3))")
    assert (sheet.columns, list(fn.inputs["label"][:4])) == (3, [0, 1, 2, 0])
    sheet, fn = sheet_of(("b",), "image", pair)
    assert (sheet.columns, len(sheet.images), list(fn.inputs)) == (6, 12, ["b"])
    np.testing.assert_array_equal(sheet.images[:6], make_source(pair).b.images)
    sheet, fn = sheet_of(("key", "image", "label"), "image", shows={"seen": "noisy", "image": "clean"}, seen=IMAGE)
    assert (sheet.columns, len(sheet.images)) == (20, 60)
    assert sheet.caption == "from above: images 0 to 19 of digits (train), noisy, clean"
    np.testing.assert_array_equal(fn.inputs["label"], make_source("digits").labels[:20])
    sheet, fn = sheet_of(("a", "b"), "frames", frames=(7, *IMAGE))
    assert (sheet.columns, len(sheet.images)) == (7, 70)
    np.testing.assert_array_equal(fn.inputs["b"], make_source("digits").images[10:20])
    sheet, fn = sheet_of(("key",), "x0", shows={"xt": "before", "x0": "after"}, xt=(4, *IMAGE), x0=(4, *IMAGE))
    assert (sheet.columns, len(sheet.images)) == (4, 2 * 5 * 4)


def test_a_sheet_is_left_out_where_the_source_has_no_such_images_or_labels():
    pair = "pair('digits', 'digits')"
    assert sheet_of(("image",), "image", pair)[0] is None
    assert sheet_of(("a", "label"), "image", pair)[0] is None
    assert sheet_of(("a", "b"), "frames", "subset('digits', count=1)", frames=(7, *IMAGE))[0] is None


def test_a_picture_that_fails_after_an_evaluation_costs_no_number(scored, monkeypatch, capsys):
    def full(*args):
        raise OSError("no space\nleft")

    monkeypatch.setattr(pictures, "save_grid", full)
    (result,) = scoring.of_run(str(scored[0]), ("fd_digits",), 20, "latest")
    assert result.value == scored[1][0].value
    warnings = [line for line in capsys.readouterr().out.splitlines() if line.startswith("warning")]
    assert [line.split("/")[-1] for line in warnings] == [
        f"{name}.png was not drawn: no space left" for name in ("grid", "neighbours", "trajectory", "denoise")
    ]
