"""Any predict function by command, on a run of an autoencoder."""

import numpy as np
import pytest
from PIL import Image

from genmodels import loop
from genmodels.core.grids import banded, columns_of, grid, read_captions, to_pil
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
    assert read_captions(tmp_path / "a.png") == ("interpolate", "seed 0; one path in each row")
    assert np.load(tmp_path / "a.npz")["frames"].shape == (3, 4, 8, 8, 1)
    assert len(list((tmp_path / "a").glob("*.png"))) == 12
    encoded = run.predict("encode", rows, {"image": inputs["a"]})
    with pytest.raises(ConfigError, match=r"output 'latent' of encode is not an image; end --out in \.npz"):
        write_outputs(tmp_path / "b.png", "encode", run.predictor.task.predict["encode"], encoded, "")


@pytest.mark.parametrize(
    ("name", "paths", "labels", "num", "words"),
    [
        ("enkode", [], None, None, "did you mean 'encode'"),
        ("encode", [], None, 3, "takes 1 set of images: --input=IMAGE_PATH"),
        ("interpolate", ["digits.npz"], None, None, "takes 2 sets of images: --input=A_PATH,B_PATH"),
        ("sample", ["digits.npz"], None, 3, "takes no images: give --num"),
        ("sample", [], None, None, "say how many rows with --num"),
        ("sample", [], [1], 3, "--labels: the predict function sample takes no labels"),
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


def test_one_image_is_an_input_by_its_path_or_as_a_call(run, tmp_path):
    pixels = make_source("digits", "test").images[0]
    to_pil(pixels).save(tmp_path / "one.png")
    to_pil(pixels).resize((16, 16), Image.Resampling.NEAREST).convert("RGB").save(tmp_path / "large.PNG")
    inputs, rows = apply.gather(run, "interpolate", [str(tmp_path / "one.png")] * 2, None, None)
    assert rows == 1
    np.testing.assert_array_equal(inputs["a"][0], pixels)
    with pytest.raises(ConfigError, match="images of 16x16x3, this model takes 8x8x1; change them") as caught:
        apply.gather(run, "encode", [str(tmp_path / "large.PNG")], None, None)
    advice = str(caught.value).partition("--input='")[2].rstrip("'")
    assert advice == f'image("{tmp_path}/large.PNG", size=8, crop="center", convert="grey")'
    inputs, _ = apply.gather(run, "encode", [advice], None, None)
    assert np.abs(inputs["image"][0].astype(int) - pixels).mean() < 16
    (tmp_path / "half.png").write_bytes((tmp_path / "one.png").read_bytes()[:60])
    for name, words in (("half.png", "half.png cannot be read"), ("on.png", r"no such file; did you mean .*one\.png")):
        with pytest.raises(DataError, match=words):
            apply.gather(run, "encode", [str(tmp_path / name)], None, None)


def test_pictures_show_what_went_in_above_what_came_out(run, tmp_path):
    images = make_source("digits", "test").images[:12]
    predict = run.predictor.task.predict
    outputs = run.predict("reconstruct", 12, {"image": images})
    write_outputs(tmp_path / "a.png", "reconstruct", predict["reconstruct"], outputs, "seed 0", {"image": images})
    assert read_captions(tmp_path / "a.png")[1] == "seed 0; from above: the input, their reconstructions"
    columns = columns_of(12, 16, 8)
    picture = np.asarray(Image.open(tmp_path / "a.png"))
    expected = grid(banded([images, outputs["image"]], columns), columns)[..., 0]
    factor = len(picture) // len(expected)
    np.testing.assert_array_equal(picture[::factor, ::factor], expected)
    ends = {"a": images[:3], "b": images[3:6]}
    paths = run.predict("interpolate", 3, ends, frames=4)
    write_outputs(tmp_path / "b.png", "interpolate", predict["interpolate"], paths, "seed 0", ends)
    picture = np.asarray(Image.open(tmp_path / "b.png"))
    rows = np.concatenate([ends["a"][:, None], paths["frames"], ends["b"][:, None]], axis=1).reshape(-1, 8, 8, 1)
    np.testing.assert_array_equal(picture[:: len(picture) // 32, :: len(picture) // 32], grid(rows, 6)[..., 0])
    write_outputs(tmp_path / "c", "reconstruct", predict["reconstruct"], outputs, "", {"image": images})
    assert len(list((tmp_path / "c").glob("*.png"))) == 12  # a folder has what came out alone, to be measured
