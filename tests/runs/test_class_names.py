"""Classes of a run by name: in data.json, on the command line, in the files of samples, and in runs of before."""

import json

import numpy as np
import pytest
from PIL import Image

from genmodels import loop, scoring
from genmodels.core import grids
from genmodels.core.grids import read_captions
from genmodels.data.base import TEXT_LISTING
from genmodels.data.classes import names_in
from genmodels.data.sources import make_source, read_images
from genmodels.errors import ConfigError, StorageError
from genmodels.reporting.files import write_images, write_outputs
from genmodels.runs import apply, plan
from genmodels.runs import workdir as workdir_lib
from genmodels.runs.inference import Run
from genmodels.runs.workdir import read_json
from tests.helpers import command, experiment, finish, small_experiment, stand_in

TEXT_ORDER = ("0", "1", "10", "11", "2", "3", "4", "5", "6", "7", "8", "9")


def write_classes(root, names, count=4):
    """Images of class k have grey levels from 20 k on."""
    for number, name in enumerate(names):
        (root / name).mkdir(parents=True, exist_ok=True)
        for row in range(count):
            Image.new("L", (8, 8), 20 * number + row).save(root / name / f"{row}.png")


@pytest.fixture(scope="module")
def animals(tmp_path_factory):
    """A run on cats, dogs and foxes, and one of before on folders 0 to 11: (work directory, work directory)."""
    folder = tmp_path_factory.mktemp("classes")
    write_classes(folder / "animals", ("cat", "dog", "red fox"), 16)
    write_classes(folder / "numbers", map(str, range(12)))
    with pytest.MonkeyPatch.context() as patch:
        stand_in(patch)
        patch.setenv("GENMODELS_CACHE", str(folder / "cache"))
        settings = {"train.steps": 2, "data.source": f"folder:{folder}/animals"}
        assert loop.train(small_experiment("ddpm_folder", **settings), folder / "run") == 0
        patch.setattr(workdir_lib, "listing_of", lambda workdir: TEXT_LISTING)
        settings["data.source"] = f"split('folder:{folder}/numbers', test=0.3)"
        assert loop.train(small_experiment("ddpm_folder", **settings), folder / "old") == 0
    described = read_json(folder / "old" / "data.json")
    del described["listing"], described["class_names"]  # as it was before there were these keys
    (folder / "old" / "data.json").write_text(json.dumps(described))
    return folder / "run", folder / "old"


@pytest.fixture
def run(animals, small):
    return Run.load(animals[0])


def test_data_json_holds_the_names(animals):
    described = read_json(animals[0] / "data.json")
    assert described["class_names"] == ["cat", "dog", "red fox"]


def test_samples_are_drawn_by_name_and_say_it(run, tmp_path):
    assert list(run.sample_labels(5, ["dog", "cat"])) == [1, 0, 1, 0, 1]
    assert list(run.sample_labels(3, ["2", 1])) == [2, 1, 2]
    np.testing.assert_array_equal(run.sample(2, ["red fox"]), run.sample(2, [2]))
    with pytest.raises(ConfigError, match=r"labels: no class 'dgo'; did you mean 'dog'\?; there are cat, dog, red fox"):
        run.sample(2, ["dgo"])
    labels = run.sample_labels(3)
    write_images(tmp_path / "a.npz", run.sample(3), labels, "", run.data.class_names)
    write_images(tmp_path / "a", run.sample(3), labels, "", run.data.class_names)
    assert make_source(f"npz:{tmp_path}/a.npz").class_names == ("cat", "dog", "red fox")
    names = sorted(path.name for path in (tmp_path / "a").iterdir())
    assert names == ["000000_label0_cat.png", "000001_label1_dog.png", "000002_label2_red-fox.png"]
    assert list(read_images("--generated", str(tmp_path / "a")).labels) == [0, 1, 2]


def test_names_that_are_no_text_can_be_kept_and_shown(tmp_path):
    name = "caf\udce9"  # the byte E9, which is not UTF-8
    write_images(tmp_path / "a", np.zeros((1, 4, 4, 1), np.uint8), np.array([0]), "", [name])
    write_images(tmp_path / "a.npz", np.zeros((1, 4, 4, 1), np.uint8), np.array([0]), "", [name])
    assert make_source(f"npz:{tmp_path}/a.npz").class_names == (name,)
    grids.save_grid(tmp_path / "a.png", np.zeros((1, 4, 4, 1), np.uint8), 1, "", names_in(np.array([0]), [name]))
    assert read_captions(tmp_path / "a.png")[1] == "caf\\udce9"


def test_names_of_classes_never_change_a_label_that_is_read_back(tmp_path):
    names = ["_label7", "x_label8", "a/b", "5", "label9.png", "0"]
    write_images(tmp_path / "a", np.zeros((6, 4, 4, 1), np.uint8), np.arange(6), "", names)
    assert list(read_images("--generated", str(tmp_path / "a")).labels) == list(range(6))


def test_the_command_takes_names(animals, tmp_path):
    """A run of the true network, which a new process needs."""
    settings = {"train.steps": 1, "data.source": f"folder:{animals[0].parent}/animals", "gan.conditional": True}
    assert loop.train(experiment("gan_digits", **settings, **{"model.channels": (4,)}), tmp_path / "run") == 0
    arguments = (f"--workdir={tmp_path}/run", "--num=4", "--labels=dog,cat", f"--out={tmp_path}/a.npz")
    code, said, err = finish(command("sample", *arguments))
    assert code == 0, err
    assert "classes dog, cat" in said
    with np.load(tmp_path / "a.npz") as file:
        assert (list(file["labels"]), list(file["class_names"])) == ([1, 0, 1, 0], ["cat", "dog", "red fox"])


def test_labels_stored_with_images_are_those_of_their_names(run, tmp_path):
    write_classes(tmp_path / "some", ("dog", "red fox"), 2)
    inputs, _ = apply.gather(run, "denoise", [str(tmp_path / "some")], None, None)
    assert list(inputs["label"]) == [1, 1, 2, 2]
    inputs, _ = apply.gather(run, "denoise", [str(tmp_path / "some")], ["cat"], None)
    assert list(inputs["label"]) == [0, 0, 0, 0]
    write_classes(tmp_path / "others", ("dog", "cow"), 2)
    with pytest.raises(ConfigError, match=r"--input=folder:.*others: has the class 'cow', which is none of cat, dog"):
        apply.gather(run, "denoise", [str(tmp_path / "others")], None, None)
    predict = run.predictor.task.predict["denoise"]
    outputs = {"image": inputs["image"]}
    write_outputs(tmp_path / "a.npz", "denoise", predict, outputs, "", inputs, run.data.class_names)
    write_outputs(tmp_path / "a", "denoise", predict, outputs, "", inputs, run.data.class_names)
    assert (tmp_path / "a" / "000000.png").exists()  # they are made of images, and are not drawn for a label
    with np.load(tmp_path / "a.npz") as file:
        assert (list(file["labels"]), list(file["class_names"])) == ([0] * 4, ["cat", "dog", "red fox"])


def test_pictures_name_the_classes_of_their_columns(animals):
    newest = animals[0] / "samples" / "sample_000002.png"
    assert "one class a column: cat, dog, red fox" in read_captions(newest)[1]


def test_a_run_of_before_keeps_its_labels_when_it_is_sampled_evaluated_and_resumed(animals, small, monkeypatch, capsys):
    old = animals[1]
    monkeypatch.setenv("GENMODELS_CACHE", str(old.parent / "cache"))
    run = Run.load(old)
    assert list(run.labels([2, "10"])) == [2, 10]  # its names are not known, only its order
    assert "folders were numbered in the order of text (10 before 2)" in capsys.readouterr().out
    with pytest.raises(ConfigError, match=r"no class '12'; there are 0 to 11; .*old/data\.json holds no names"):
        run.labels(["12"])
    (result,) = scoring.of_run(str(old), ("psnr",), None, "latest")  # which refuses other labels than those of training
    assert np.isfinite(result.value)
    config = small("ddpm_folder", **{"train.steps": 3, "data.source": run.config.data.source})
    assert loop.train(config, old) == 0
    described = read_json(old / "data.json")
    assert (described["listing"], described["class_names"]) == (TEXT_LISTING, list(TEXT_ORDER))
    assert list(Run.load(old).labels([2, "10"])) == [4, 2]
    config = small("ddpm_folder", **{"train.steps": 4, "data.source": run.config.data.source})
    assert loop.train(config, old) == 0
    assert read_json(old / "data.json")["class_names"] == list(TEXT_ORDER)


def test_a_class_may_be_renamed(tmp_path):
    write_classes(tmp_path / "data", ("cat", "dog"))
    values = {"data.source": f"folder:{tmp_path}/data"}
    assert loop.train(experiment("classifier_digits", **values, **{"train.steps": 1}), tmp_path / "run") == 0
    (tmp_path / "data" / "dog").rename(tmp_path / "data" / "hound")
    assert loop.train(experiment("classifier_digits", **values, **{"train.steps": 2}), tmp_path / "run") == 0
    assert read_json(tmp_path / "run" / "data.json")["class_names"] == ["cat", "hound"]


def test_a_damaged_description_of_classes_is_one_line(tmp_path):
    facts = {"source": "digits", "split": "train", "fingerprint": "", "count": 1, "num_classes": 0}
    facts |= {"image_shape": [8, 8, 1], "listing": 7}
    (tmp_path / "data.json").write_text(json.dumps(facts))
    with pytest.raises(StorageError, match="listing must be 1 or 2, it is 7"):
        workdir_lib.listing_of(tmp_path)
    for bad in ("cat", ["cat"], [1, 2]):
        (tmp_path / "data.json").write_text(json.dumps(facts | {"listing": 2, "num_classes": 2, "class_names": bad}))
        with pytest.raises(StorageError, match=r"class_names must be a list of (2 )?names"):
            workdir_lib.read_data(tmp_path)


def test_a_teacher_of_classes_in_another_order_is_refused(tmp_path):
    for name, folders in (("a", ("cat", "dog")), ("b", ("cat", "dog"))):
        write_classes(tmp_path / name, folders)
    config = experiment("classifier_digits", **{"data.source": f"folder:{tmp_path}/a", "train.steps": 1})
    assert loop.train(config, tmp_path / "teacher") == 0
    described = read_json(tmp_path / "teacher" / "data.json")
    (tmp_path / "teacher" / "data.json").write_text(json.dumps(described | {"class_names": ["dog", "cat"]}))
    settings = {"data.source": f"folder:{tmp_path}/b", "distill.teacher": str(tmp_path / "teacher")}
    with pytest.raises(ConfigError, match=r"its classes are dog, cat, those of config\.data\.source cat, dog"):
        loop.train(experiment("classifier_digits", **settings), tmp_path / "student")


@pytest.mark.parametrize(
    ("name", "settings", "words"),
    [
        ("classifier_digits", {}, "give images of two classes or more$"),
        ("gan_digits", {"gan.conditional": True}, r"two classes or more, or .*--config\.gan\.conditional=False$"),
        ("ddpm_digits", {}, r"two classes or more, or .*--config\.diffusion\.conditional=False$"),
    ],
)
@pytest.mark.parametrize("empty", [False, True])
def test_labels_of_one_class_are_refused_before_training(name, settings, words, empty, tmp_path):
    write_classes(tmp_path / "data", ("cat",))
    if empty:
        (tmp_path / "data" / "dog").mkdir()
    config = experiment(name, **{"data.source": f"folder:{tmp_path}/data", **settings})
    with pytest.raises(ConfigError, match=rf"all images are of one class \(cat\), .*{words}") as caught:
        loop.train(config, tmp_path / "run")
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "run").exists()


def test_labels_of_one_class_do_not_matter_to_a_model_that_takes_none(tmp_path):
    write_classes(tmp_path / "data", ("cat",))
    for name, settings in (("gan_digits", {}), ("ddpm_digits", {"diffusion.conditional": False})):
        config = experiment(name, **{"data.source": f"folder:{tmp_path}/data", "train.batch_size": 16, **settings})
        assert plan.make_plan(config).data.num_classes == 1
