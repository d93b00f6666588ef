"""Any predict function by command, on a run of an autoencoder."""

import numpy as np
import pytest

from genmodels import loop
from genmodels.core.grids import read_captions
from genmodels.data.sources import make_source, read_images
from genmodels.errors import ConfigError, DataError
from genmodels.reporting.files import write_outputs
from genmodels.runs import apply
from genmodels.runs.inference import Run, suggested_commands
from tests.helpers import command, digest, experiment, final_state, finish

AFTER = ("evaluate", "report")


@pytest.fixture(scope="module")
def autoencoder(tmp_path_factory):
    workdir = tmp_path_factory.mktemp("vae") / "run"
    assert loop.train(experiment("vae_mnist_mlp"), workdir) == 0
    images = make_source("digits", "test")
    np.savez(workdir.parent / "digits.npz", images=images.images[:12], labels=images.labels[:12])
    return workdir


@pytest.fixture(scope="module")
def run(autoencoder):
    return Run.load(autoencoder)


def test_the_command_reconstructs_images_and_sets_options(autoencoder):
    images, out = autoencoder.parent / "digits.npz", autoencoder.parent / "made.npz"
    code, said, err = finish(
        command(
            "apply", f"--workdir={autoencoder}", "--predict=reconstruct", f"--input={images}", "--num=5", f"--out={out}"
        )
    )
    assert code == 0, err
    assert "reconstruct of 5 rows" in said
    made = Run.load(autoencoder).predict("reconstruct", 5, {"image": np.load(images)["images"][:5]})["image"]
    np.testing.assert_array_equal(np.load(out)["images"], made)
    assert read_images("--generated", str(out)).image_shape == (8, 8, 1)


def test_a_finished_run_is_told_what_it_is_for(autoencoder, tmp_path):
    assert [line.split()[2] for line in suggested_commands(autoencoder)] == [
        f"genmodels.{x}" for x in ("sample", *AFTER)
    ]
    classifier = experiment("classifier_digits")
    assert loop.train(classifier, tmp_path / "run") == 0
    assert [line.split()[2] for line in suggested_commands(tmp_path / "run")] == [f"genmodels.{x}" for x in AFTER]


def test_a_work_directory_of_another_task_is_refused_in_one_line(autoencoder):
    before = digest(final_state(autoencoder))
    with pytest.raises(
        ConfigError, match=r"another experiment: config\.task was vae, is gan;.* choose another"
    ) as caught:
        loop.train(experiment("gan_digits"), autoencoder)
    assert "\n" not in str(caught.value)
    assert digest(final_state(autoencoder)) == before


def test_options_are_numbers_or_words():
    assert apply.parse_options(["frames=5", "kind=linear", "psi=.7"]) == {"frames": 5, "kind": "linear", "psi": 0.7}
    with pytest.raises(ConfigError, match="--set=frames: must be key=value"):
        apply.parse_options(["frames"])


def test_paths_between_images_become_a_grid_a_folder_or_arrays(run, tmp_path):
    source = str(run.workdir.parent / "digits.npz")
    inputs, rows = apply.gather(run, "interpolate", [source, source], None, 3)
    assert (rows, set(inputs)) == (3, {"a", "b"})
    predict = run.predictor.task.predict["interpolate"]
    outputs = run.predict("interpolate", rows, inputs, frames=4)
    np.testing.assert_array_equal(outputs["frames"][:, 0], outputs["frames"][:, 3])  # from an image to itself
    for out in ("a.png", "a.npz", "a"):
        write_outputs(tmp_path / out, "interpolate", predict, outputs, "seed 0")
    assert read_captions(tmp_path / "a.png") == ("interpolate", "seed 0; a path a row")
    assert np.load(tmp_path / "a.npz")["frames"].shape == (3, 4, 8, 8, 1)
    assert len(list((tmp_path / "a").glob("*.png"))) == 12
    encoded = run.predict("encode", rows, {"image": inputs["a"]})
    with pytest.raises(ConfigError, match=r"gives latent, which is no image: end it in \.npz"):
        write_outputs(tmp_path / "b.png", "encode", run.predictor.task.predict["encode"], encoded, "")


@pytest.mark.parametrize(
    ("name", "paths", "labels", "num", "words"),
    [
        ("enkode", [], None, None, "did you mean 'encode'"),
        ("encode", [], None, 3, "takes 1 sets of images: --input=IMAGE_PATH"),
        ("interpolate", ["digits.npz"], None, None, "takes 2 sets of images: --input=A_PATH,B_PATH"),
        ("sample", ["digits.npz"], None, 3, "takes no images: give --num"),
        ("sample", [], None, None, "say how many rows with --num"),
        ("sample", [], [1], 3, "--labels: the predict function sample takes none"),
        ("encode", ["large.npz"], None, None, r"images of 9x9x1, this model takes 8x8x1.*size=8"),
    ],
)
def test_inputs_that_do_not_fit_are_refused_in_one_line(run, name, paths, labels, num, words):
    np.savez(run.workdir.parent / "large.npz", images=np.zeros((2, 9, 9, 1), np.uint8))
    with pytest.raises(ConfigError, match=words) as caught:
        apply.gather(run, name, [str(run.workdir.parent / path) for path in paths], labels, num)
    assert "\n" not in str(caught.value)


def test_options_of_a_function_that_has_none_are_refused(run):
    with pytest.raises(ConfigError, match="unknown option of sample 'steps': there are none"):
        run.sample(3, steps=5)


def test_labels_come_with_the_images_or_by_flag(trained, tmp_path):
    run = Run.load(trained)
    images = np.zeros((4, 8, 8, 1), np.uint8)
    np.savez(tmp_path / "known.npz", images=images, labels=np.array([3, 1, 4, 1]))
    np.savez(tmp_path / "plain.npz", images=images)
    np.savez(tmp_path / "wrong.npz", images=images, labels=np.array([3, 1, 14, 1]))

    def labels(path, given=None):
        return list(apply.gather(run, "denoise", [str(tmp_path / path)], given, None)[0]["label"])

    assert labels("known.npz") == [3, 1, 4, 1]
    assert labels("known.npz", [7, 8]) == labels("plain.npz", [7, 8]) == [7, 8, 7, 8]
    with pytest.raises(ConfigError, match="which have none: give --labels"):
        labels("plain.npz")
    with pytest.raises(ConfigError, match="label 14 is out of range"):
        labels("wrong.npz")
    with pytest.raises(DataError, match="no such file"):
        labels("none.npz")
    inputs, rows = apply.gather(run, "sample", [], None, 12)
    assert (rows, list(inputs["label"])) == (12, [*range(10), 0, 1])
