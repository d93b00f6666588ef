"""Data as users bring it: the template on a folder, small odd images, and bad data that leaves nothing behind."""

import re
import shutil
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

from genmodels import loop, scoring
from genmodels.data import inspection
from genmodels.data.sources import make_source
from genmodels.errors import ConfigError, DataError
from genmodels.runs.workdir import read_json
from tests.data.files import noise, write_folder
from tests.helpers import ROOT, command, digest, experiment, final_state, finish


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("GENMODELS_CACHE", str(tmp_path / "cache"))


def write_digits(root, count=60):
    """The first digits as users would keep them: a folder a class."""
    source = make_source("digits")
    for index in range(count):
        path = root / f"digit_{source.labels[index]}" / f"{index:03d}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(source.images[index, ..., 0]).save(path)


def test_the_template_trains_and_is_evaluated_on_a_folder(small, tmp_path, capsys):
    write_digits(tmp_path / "photos")
    spec = f'split("folder:{tmp_path}/photos", test=0.2)'
    config = small("ddpm_folder", **{"data.source": spec})
    assert loop.train(config, tmp_path / "run") == 0
    said = capsys.readouterr().out
    assert "data: 10 classes" in said
    described = read_json(tmp_path / "run" / "data.json")
    assert described["num_classes"] == 10
    assert 30 < described["count"] < 60
    assert (tmp_path / "run" / "data.png").exists()
    (result,) = scoring.of_run(str(tmp_path / "run"), ("psnr",), None, "latest")
    assert result.protocol["n_reference"] == 60 - described["count"]


def classifier(folder, **values):
    """The cheapest task to compile, on a folder."""
    return experiment("classifier_digits", **{"data.source": f"folder:{folder}", **values})


def test_a_streamed_run_equals_one_from_memory_and_may_change_over(tmp_path):
    write_digits(tmp_path / "photos")
    augmented = {"data.augment.pad_crop": 1}
    assert loop.train(classifier(tmp_path / "photos", **augmented), tmp_path / "held") == 0
    streamed = classifier(tmp_path / "photos", **augmented, **{"data.memory_gb": 0.0})
    assert loop.train(streamed, tmp_path / "changed", lambda step: 85 if step == 3 else None) == 85
    shutil.move(tmp_path / "photos", tmp_path / "moved")
    assert loop.train(classifier(tmp_path / "moved", **augmented), tmp_path / "changed") == 0
    assert digest(final_state(tmp_path / "changed")) == digest(final_state(tmp_path / "held"))
    assert loop.train(classifier(tmp_path / "moved"), tmp_path / "plain") == 0
    assert digest(final_state(tmp_path / "plain").params) != digest(final_state(tmp_path / "held").params)


def test_a_changed_folder_is_refused_at_resume_and_in_the_middle(tmp_path):
    write_digits(tmp_path / "photos")
    config = classifier(tmp_path / "photos", **{"data.memory_gb": 0.0, "train.steps": 40, "checkpoint.every": 0})
    files = sorted((tmp_path / "photos").rglob("*.png"))
    kept = {path: path.read_bytes() for path in files}

    def spoil(step):
        for path in files if step == 2 else ():
            path.write_bytes(b"gone")

    with pytest.raises(DataError, match=r"\.png: can no longer be read"):
        loop.train(config, tmp_path / "run", spoil)
    assert int(final_state(tmp_path / "run").step) >= 2
    for path, data in kept.items():
        path.write_bytes(data)
    files[0].unlink()
    with pytest.raises(ConfigError, match=r"the data has changed since this run began \(count was 60, is 59\)"):
        loop.train(config, tmp_path / "run")
    Image.fromarray(noise(8, 8)).save(files[0])
    with pytest.raises(ConfigError, match=r"the data has changed since this run began \(fingerprint"):
        loop.train(config, tmp_path / "run")
    files[0].write_bytes(kept[files[0]])
    assert loop.train(config, tmp_path / "run", lambda step: 85) == 85


def test_140_grey_images_of_9x9_train_as_they_are(small, tmp_path, capsys):
    write_folder(tmp_path / "data", [f"{i}.png" for i in range(140)], (9, 9))
    values = {"data.source": f"folder:{tmp_path}/data", "data.size": 0}
    config = small("ddpm_folder", **values)
    assert loop.train(config, tmp_path / "run", lambda step: 85 if step == 3 else None) == 85
    assert int(final_state(tmp_path / "run").step) == 3
    assert "note: genmodels.evaluate will need other --metrics, --likelihoods or --split: " in capsys.readouterr().out
    assert read_json(tmp_path / "run" / "data.json")["image_shape"] == [9, 9, 1]
    assert np.asarray(Image.open(tmp_path / "run" / "data.png")).ndim == 2


@pytest.mark.parametrize(
    ("values", "error", "words"),
    [
        (
            {"data.source": "pair('digits', 'digits')"},
            ConfigError,
            "reads the field image, but batches .* have a and b",
        ),
        ({"data.source": "folder:nowhere"}, DataError, "folder:nowhere: no such folder"),
        ({"data.source": "foler:x"}, ConfigError, "did you mean 'folder'"),
        ({"data.convert": "gray"}, ConfigError, "did you mean 'grey'"),
        ({"data.augment.hue": 0.1}, ConfigError, r"config\.data\.augment: saturation and hue are for RGB"),
        ({"data.augment.hue": 2.0}, ConfigError, r"config\.data\.augment: hue must be within"),
        ({"data.workers": -1}, ConfigError, r"config\.data\.workers must be finite and not negative"),
        ({"train.batch_size": 12}, ConfigError, "does not divide into 8 devices"),
    ],
)
def test_bad_data_settings_leave_nothing_behind(values, error, words, tmp_path):
    with pytest.raises(error, match=words):
        loop.train(experiment("ddpm_folder", **values), tmp_path / "run")
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("name", ["inspect", "prepare"])
def test_a_command_of_the_data_runs_as_a_file_too(name, tmp_path):
    """Its folder comes first on Python's path then, where inspect.py would hide the standard library's."""
    file = ROOT / "genmodels" / "data" / f"{name}.py"
    result = subprocess.run([sys.executable, file, "--help"], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert f"python -m genmodels.data.{name}" in result.stdout
    assert result.stderr == ""


def test_inspect_prints_what_training_would_and_fails_as_it_would(tmp_path):
    write_digits(tmp_path / "photos")
    sheet = tmp_path / "sheet.png"
    code, out, err = finish(command("data.inspect", f"--source=folder:{tmp_path}/photos", f"--out={sheet}"))
    assert code == 0, err
    assert re.search(r"folder:.*photos \(train\): 60 images 8x8 grey", out)
    assert "no test images: it has no folders train and test" in out
    assert Image.open(sheet).info["Description"].startswith("one class a column: digit_0, digit_1")
    both = finish(command("data.inspect", f'--source=split("folder:{tmp_path}/photos", test=0.3)'))
    assert "no test image is in the training split" in both[1]
    (tmp_path / "photos" / "digit_0" / "x.png").write_bytes(b"")
    code, out, err = finish(command("data.inspect", f"--source=folder:{tmp_path}/photos"))
    assert code == 4
    assert re.fullmatch(
        r"error: 1 file is damaged: .*digit_0/x\.png cannot be read: .*--skip_damaged=True", err.strip()
    )


def damage(path, share):
    """Cuts a PNG: a header is left of it, or not even that."""
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * share)])


def section(folder, **values):
    return {"source": f"folder:{folder}", **values}


def test_all_damaged_files_of_both_splits_are_listed_at_once(tmp_path, capsys):
    """Some have no header, others only lack their end, which is found when they are decoded."""
    names = [f"{split}/{i}.png" for split in ("train", "test") for i in range(6)]
    write_folder(tmp_path / "data", names, (16, 16, 3))
    bad = {"train/1.png": 0.1, "train/4.png": 0.7, "test/0.png": 0.7, "test/2.png": 0.0}
    for name, share in bad.items():
        damage(tmp_path / "data" / name, share)
    with pytest.raises(DataError, match=r"^4 files are damaged: .* or set --skip_damaged=True$") as caught:
        inspection.open_splits(section(tmp_path / "data"))
    assert "\n" not in str(caught.value)
    lines = capsys.readouterr().out.splitlines()
    assert {line.split(": ")[2] for line in lines if line.startswith("damaged: ")} == set(bad)
    train, test, _ = inspection.open_splits(section(tmp_path / "data", skip_damaged=True))
    assert (len(train), len(test)) == (4, 4)


def test_the_list_of_damaged_files_is_bounded_and_counts_all(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(inspection, "MAX_DAMAGED", 5)
    write_folder(tmp_path / "data", [f"{i}.png" for i in range(12)])
    for i in range(11):
        damage(tmp_path / "data" / f"{i}.png", 0.7)
    with pytest.raises(DataError, match=r"11 files are damaged: .* and 10 more \(1\.png, 2\.png, .* \.\.\.\)"):
        inspection.open_splits(section(tmp_path / "data"))
    lines = [line for line in capsys.readouterr().out.splitlines() if line.startswith("damaged")]
    assert len(lines) == 6
    assert lines[-1] == "damaged: 6 more files"


def test_damage_and_what_else_is_wrong_are_one_message(tmp_path):
    write_folder(tmp_path / "data", ["a.png", "b.png"], (16, 16, 3))
    write_folder(tmp_path / "data", ["c.png"], (16, 16))
    damage(tmp_path / "data" / "b.png", 0.7)
    with pytest.raises(
        DataError, match=r"b\.png cannot be read: .*; besides, .*1 grey \(c\.png .*--convert=rgb or grey"
    ):
        inspection.open_splits(section(tmp_path / "data"))


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({}, r"2 different sizes: .*: set --size=N and --crop=center"),
        ({"size": 8}, r"1 images are not square .*: set --crop=center"),
        ({"size": -1}, r"^--size must be within"),
        ({"source": "foler:x"}, r"^--source: unknown data source 'foler': did you mean 'folder'"),
        ({"source": ""}, r"--source='': must be SCHEME:PATH"),
    ],
)
def test_inspect_names_its_own_flags(values, words, tmp_path):
    write_folder(tmp_path / "data", ["a.png"], (8, 8, 3))
    write_folder(tmp_path / "data", ["b.png"], (8, 9, 3))
    with pytest.raises((ConfigError, DataError), match=words) as caught:
        inspection.open_splits(section(tmp_path / "data") | values)
    assert "config.data" not in str(caught.value)
