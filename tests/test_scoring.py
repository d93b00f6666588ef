"""Scores of runs and of paths, and the promises they are held against."""

import json
import shutil

import numpy as np
import pytest

from genmodels import loop, scoring
from genmodels.data.sources import make_source, read_images
from genmodels.errors import ConfigError, DataError, StorageError
from genmodels.reporting import files
from genmodels.runs.inference import Run, suggested_commands
from tests.helpers import experiment


def test_a_run_is_scored_with_the_protocol_of_every_number(scored):
    workdir, results = scored
    names = ["fd_digits", "agreement_digits", "nn_distance_ratio", "psnr", "ssim", "nll", "nll"]
    assert [result.name for result in results] == names
    protocol = results[0].protocol
    for key in ("extractor_sha256", "n_generated", "reference_sha256", "weights", "sampler", "steps", "guidance_scale"):
        assert key in protocol
    assert protocol["comparable_to_published"] is False
    assert all(np.isfinite(result.value) for result in results)
    drawn = {path.name for path in (workdir / "samples").iterdir()}
    assert {"grid.png", "trajectory.png", "neighbours.png", "denoise.png"} <= drawn


def test_unknown_metrics_are_refused_before_anything_is_drawn(trained, capsys):
    with pytest.raises(ConfigError, match="did you mean 'psnr'"):
        scoring.of_run(str(trained), ("psnrr",), 20, "latest")
    with pytest.raises(ConfigError, match="'classify', which this model does not have"):
        scoring.of_run(str(trained), ("accuracy",), 20, "latest")
    assert "drawing" not in capsys.readouterr().out


def test_nothing_is_sampled_for_metrics_that_are_not_about_samples(trained, tmp_path, capsys):
    shutil.copytree(trained, tmp_path / "run")
    before = {path.name for path in (trained / "samples").iterdir()}
    (result,) = scoring.of_run(str(tmp_path / "run"), ("psnr",), 20, "latest", split="train")
    assert result.protocol["reference_split"] == "train"
    assert result.protocol["n_reference"] == 1500
    assert "drawing" not in capsys.readouterr().out
    drawn = {path.name for path in (tmp_path / "run" / "samples").iterdir()} - before
    assert drawn == {"denoise.png"}  # the one picture that is made of images, not of samples
    wanted = tuple(Run.load(trained).config.eval.metrics)
    with pytest.raises(ConfigError, match=r"needs held-out images.*--metrics=fd_digits,agreement_digits,psnr,ssim"):
        scoring.of_run(str(trained), wanted, 10, "latest", split="train")
    assert "drawing" not in capsys.readouterr().out


@pytest.mark.parametrize(
    ("name", "left_out", "measured", "on_train"),
    [
        ("vae_mnist_mlp", "fd_digits: the extractor digits takes images of 1 channel, these are 8x8x3", "nll psnr", ""),
        (
            "gan_digits",
            "fd_digits (likewise recall_digits, class_share_min_digits): the extractor digits takes images of 1",
            "nn_distance_ratio",
            "nn_distance_ratio needs held-out images, not the train split; only pictures can be made",
        ),
    ],
)
def test_colour_images_get_the_metrics_that_they_allow(name, left_out, measured, on_train, tmp_path, capsys):
    """The command that training suggests is one that works, with a held-out split and without."""
    pixels = np.random.RandomState(0).randint(0, 256, (40, 8, 8, 3), np.uint8)
    np.savez(tmp_path / "a.npz", images=pixels, test_images=255 - pixels)
    np.savez(tmp_path / "b.npz", images=pixels)
    for file in "ab":
        run, spec = tmp_path / file, f"npz:{tmp_path}/{file}.npz"
        assert loop.train(experiment(name, **{"data.source": spec, "train.steps": 1}), run) == 0
        notes = [line for line in capsys.readouterr().out.splitlines() if line.startswith("note: config.eval.metrics")]
        (command,) = (line for line in suggested_commands(run) if "evaluate" in line)
        split = "train" if "--split=train" in command else None
        assert split == {"a": None, "b": "train"}[file]
        results = scoring.of_run(str(run), None, 10, "latest", split=split, likelihoods=None)
        found = {result.name for result in results}
        assert found == set(() if split and on_train else measured.split())
        said = capsys.readouterr().out
        assert [line for line in said.splitlines() if line.startswith("note: config.eval.metrics")] == notes
        assert left_out in notes[0]
        assert not split or on_train in notes[0]
        assert ("no metric can be measured; pictures are in" in said) == (not found)


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"eval.resize": "cleen"}, r"unknown config\.eval\.resize 'cleen': did you mean 'clean'"),
        ({"eval.layer": "pool4"}, r"unknown config\.eval\.layer 'pool4': did you mean"),
        ({"eval.extractor": "digit"}, r"config\.eval\.extractor=digit: .*did you mean 'digits'"),
        ({"eval.extractor": "inception:no.pth"}, r"config\.eval\.extractor: there is no file no\.pth"),
        ({"eval.lpips_trunk": "no.pth"}, r"config\.eval\.lpips_trunk: there is no file no\.pth"),
        ({"eval.metrics": ("kd_digits",)}, r"config\.eval\.num_samples=20: .*1000 images.* config\.eval\.subset_size"),
        ({"eval.metrics": ("cs_digits",), "eval.splits": 21}, r"config\.eval\.num_samples=20: .*config\.eval\.splits"),
        ({"eval.subset_size": 1}, r"config\.eval\.subset_size must be at least 2, got 1"),
        ({"eval.likelihoods": ("vib",)}, r"config\.eval\.likelihoods: unknown likelihood .*did you mean 'vlb'"),
        (
            {"eval.likelihoods": ("vlb(strata=99)",)},
            r"config\.eval\.likelihoods: 'vlb.*strata=99 must be within \[0, 19",
        ),
        ({"eval.likelihoods": ("ode(trace='exakt')",)}, "did you mean 'exact'"),
        ({"eval.likelihoods": ("ode(rtol=2.0)",)}, r"rtol=2\.0 and atol=0\.0001 must be within \(0, 1\)"),
        ({"eval.timesteps": (20,)}, r"config\.eval\.timesteps: 20 must be within"),
        ({"expect": ({"metric": "psnr", "value": 1, "tolerance": -1},)}, "tolerance of psnr must not be negative"),
        ({"expect": ({"metric": "psnr", "value": 1, "tolerance": 1, "data": 3},)}, "data of psnr must be the name"),
    ],
)
def test_values_that_no_evaluation_takes_are_refused_before_training(small, values, words, tmp_path):
    config = small("ddpm_digits")
    for key, value in values.items():
        config.update_from_flattened_dict({key: value}) if "." in key else config.update({key: value})
    with pytest.raises(ConfigError, match=words) as caught:
        loop.train(config, tmp_path / "run")
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "run").exists()


def test_likelihoods_say_what_they_are_and_can_be_chosen(scored, trained):
    vlb, ode = (r for r in scored[1] if r.name == "nll")
    assert [r.protocol["likelihood"] for r in (vlb, ode)] == ["vlb", "ode"]
    assert vlb.protocol["strata"] == 4
    assert vlb.protocol["given"] == "label"
    assert len(vlb.curve["x"]) == 5
    assert vlb.curve["x"][0] == 1  # counted from 1, as papers do and a logarithmic axis needs
    assert 0 < vlb.value < 30
    assert ode.protocol["trace"] == "hutchinson"
    assert ode.protocol["mean_evaluations"] > 10
    (only,) = scoring.of_run(str(scored[0]), ("nll",), None, "latest", likelihoods=("vlb",))
    assert only.value == vlb.value
    with pytest.raises(ConfigError, match="did you mean 'vlb'"):
        scoring.of_run(str(trained), ("nll",), None, "latest", likelihoods=("vib",))
    with pytest.raises(ConfigError, match="needs a run"):
        scoring.of_paths("a.npz", "b.npz", ("nll",))
    with pytest.raises(ConfigError, match="add nll"):
        scoring.of_run(str(trained), ("psnr",), None, "latest", likelihoods=("vlb",))


def test_samples_can_be_drawn_in_another_way_than_the_runs(scored, trained, tmp_path):
    copied = tmp_path / "run"
    shutil.copytree(trained, copied)
    chosen = {"sampler": "heun", "steps": 3, "guidance": 2.0}
    (result,) = scoring.of_run(str(copied), ("fd_digits",), 20, "latest", sampling=chosen)
    protocol = result.protocol
    assert [protocol[key] for key in ("sampler", "steps", "guidance_scale", "spacing")] == ["heun", 3, 2.0, "trailing"]
    assert result.value != scored[1][0].value
    with pytest.raises(ConfigError, match="steps: none of the metrics psnr is about samples"):
        scoring.of_run(str(copied), ("psnr",), 20, "latest", sampling={"steps": 3})
    with pytest.raises(ConfigError, match="did you mean 'heun'"):
        scoring.of_run(str(copied), ("fd_digits",), 20, "latest", sampling={"sampler": "heunn"})


def test_data_that_does_not_suit_the_model_is_refused(small, tmp_path, monkeypatch):
    def write(count=40, **more):
        images = np.random.RandomState(0).randint(0, 256, (count, 8, 8, 1), np.uint8)
        labels = np.arange(count) % 3
        arrays = {"images": images, "labels": labels, "test_images": images + 1, "test_labels": labels} | more
        np.savez(tmp_path / "a.npz", **{name: array for name, array in arrays.items() if array is not None})

    write()
    config = small("ddpm_digits", **{"data.source": f"npz:{tmp_path}/a.npz", "eval.metrics": ("psnr",)})
    assert loop.train(config, tmp_path / "run", lambda step: 85 if step == 1 else None) == 85
    assert len(scoring.of_run(str(tmp_path / "run"), None, None, "latest")) == 1
    write(test_images=None, test_labels=None)
    assert len(scoring.of_run(str(tmp_path / "run"), ("agreement_digits",), 20, "latest")) == 1
    for changed, words in [
        ({"test_labels": np.arange(40) % 4}, "test split has labels up to 3, the model knows 0 to 2"),
        ({"test_labels": None}, "test split has no labels"),
        ({"test_images": np.zeros((40, 9, 9, 1), np.uint8)}, "test images are"),
        ({"count": 41}, "no longer what .* was trained on"),
    ]:
        write(**changed)
        with pytest.raises(DataError, match=words):
            scoring.of_run(str(tmp_path / "run"), None, None, "latest")


def test_infinite_values_survive_strict_json(tmp_path):
    files.write_images(tmp_path / "a.npz", make_source("digits").images[:3], None, "")
    results = scoring.of_paths(str(tmp_path / "a.npz"), str(tmp_path / "a.npz"), ("psnr",))
    assert results[0].protocol["generated_sha256"] == results[0].protocol["reference_sha256"]
    files.write_results(tmp_path / "r.json", results)
    text = (tmp_path / "r.json").read_text()
    assert json.loads(text, parse_constant=pytest.fail)["results"][0]["value"] == "Infinity"
    assert files.read_results(tmp_path / "r.json")[0]["value"] == np.inf


def test_paths_are_read_back_as_written_and_paired_metrics_see_equal_images(tmp_path):
    source = make_source("digits", "test")
    for out in ("a.npz", "folder"):
        files.write_images(tmp_path / out, source.images[:30], source.labels[:30], "")
        read = read_images("--generated", str(tmp_path / out))
        np.testing.assert_array_equal(read.images, source.images[:30])
        np.testing.assert_array_equal(read.labels, source.labels[:30])
    results = scoring.of_paths(
        str(tmp_path / "a.npz"), str(tmp_path / "folder"), ("fd_digits", "agreement_digits", "ssim")
    )
    values = {result.name: result.value for result in results}
    assert abs(values["fd_digits"]) < 1e-8
    assert values["agreement_digits"] > 0.95
    np.testing.assert_allclose(values["ssim"], 1, atol=1e-5)
    with pytest.raises(ConfigError, match="needs a run"):
        scoring.of_paths(str(tmp_path / "a.npz"), str(tmp_path / "folder"), ("nn_distance_ratio",))
    with pytest.raises(ConfigError, match="did you mean 'fd_digits'"):
        scoring.of_paths(str(tmp_path / "a.npz"), str(tmp_path / "folder"), ("fd_digit",))


def test_the_shipped_digits_classifier_is_the_recorded_one_and_is_good():
    from genmodels.extractors import ExtractorSpec

    source = make_source("digits", "test")
    features, logits = ExtractorSpec("digits").load()(source.images)
    assert features.shape == (297, 64)
    assert np.mean(logits.argmax(-1) == source.labels) >= 0.98
    with pytest.raises(DataError, match="8x8x1"):
        ExtractorSpec("digits").load()(np.zeros((2, 9, 9, 1), np.uint8))


def test_an_autoencoder_is_evaluated_on_one_image_and_not_where_it_cannot_leave_its_pictures(tmp_path, monkeypatch):
    np.savez(tmp_path / "one.npz", images=np.full((1, 8, 8, 1), 90, np.uint8))
    run = tmp_path / "run"
    split = {"data.source": f"npz:{tmp_path}/one.npz", "train.batch_size": 8, "train.steps": 1}
    assert loop.train(experiment("vae_digits", **split), run) == 0
    (result,) = scoring.of_run(str(run), ("psnr",), None, "latest", split="train")
    assert result.protocol["n_reference"] == 1
    assert (run / "samples" / "reconstructions.png").exists()
    assert not (run / "samples" / "interpolation.png").exists()  # there is nowhere to go
    monkeypatch.setattr("os.access", lambda *args: False)  # root may write anywhere
    with pytest.raises(StorageError, match="samples: cannot be written"):
        scoring.of_run(str(run), ("psnr",), None, "latest", split="train")
