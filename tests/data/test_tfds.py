"""Prepared TFDS data sets, written here by hand as TFDS 4.9 lays them out, and the genuine builders (slow)."""

import json
import subprocess
import sys
import time

import numpy as np
import pytest
from array_record.python import array_record_module

from genmodels.data import tfds, tfds_build
from genmodels.data.base import Settings
from genmodels.data.sources import make_source
from genmodels.errors import ConfigError, DataError
from tests.data.files import noise
from tests.data.test_images import encoded
from tests.helpers import ROOT


def field(number, data):
    """A length-delimited protobuf field, or a varint for integers."""
    if isinstance(data, int):
        return varint(number << 3) + varint(data)
    return varint(number << 3 | 2) + varint(len(data)) + data


def varint(value):
    out = b""
    while value > 127:
        out, value = out + bytes([value & 127 | 128]), value >> 7
    return out + bytes([value])


def example(image, label):
    """A serialised tf.train.Example {"image": bytes, "label": int64}."""
    image = field(1, b"image") + field(2, field(1, field(1, image)))
    label = field(1, b"label") + field(2, field(3, field(1, label)))
    return field(1, field(1, image) + field(1, label))


def prepare_by_hand(folder, name="tiny", form="array_record", splits=("train", "test"), count=12):
    """A data set as TFDS leaves it: two descriptions, and one shard a split."""
    path = folder / name / "1.0.0"
    path.mkdir(parents=True)
    stacks = {}
    for seed, split in enumerate(splits):
        stacks[split] = noise(count, 6, 6, 3, seed=seed)
        if form == "array_record":
            shard = path / f"{name}-{split}.array_record-00000-of-00001"
            writer = array_record_module.ArrayRecordWriter(str(shard), "group_size:1")
            for index, image in enumerate(stacks[split]):
                writer.write(example(encoded(image).getvalue(), index % 3))
            writer.close()
    template = "{DATASET}-{SPLIT}.{FILEFORMAT}-{SHARD_X_OF_Y}"
    info = {
        "name": name,
        "version": "1.0.0",
        "fileFormat": form,
        "splits": [
            {"name": s, "filepathTemplate": template, "numBytes": "1", "shardLengths": [str(count)]} for s in splits
        ],
    }
    dimensions = {"dimensions": ["6", "6", "3"]}
    core = "tensorflow_datasets.core.features"
    features = {
        "pythonClassName": f"{core}.features_dict.FeaturesDict",
        "featuresDict": {
            "features": {
                "image": {
                    "pythonClassName": f"{core}.image_feature.Image",
                    "image": {"shape": dimensions, "dtype": "uint8", "encodingFormat": "png"},
                },
                "label": {
                    "pythonClassName": f"{core}.class_label_feature.ClassLabel",
                    "classLabel": {"numClasses": "3"},
                },
            }
        },
    }
    (path / "dataset_info.json").write_text(json.dumps(info))
    (path / "features.json").write_text(json.dumps(features))
    (path / "label.labels.txt").write_text("cat\ndog\ncow\n")
    return stacks


@pytest.fixture(autouse=True)
def own_folders(tmp_path, monkeypatch):
    monkeypatch.setenv("GENMODELS_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path / "tfds"))


def test_a_prepared_copy_is_read_as_it_was_written(tmp_path):
    stacks = prepare_by_hand(tmp_path / "tfds")
    for memory in (1.0, 0.0):
        for split in ("train", "test"):
            source = make_source("tfds:tiny", split, Settings(memory_gb=memory))
            np.testing.assert_array_equal(source.images, stacks[split])
            np.testing.assert_array_equal(source.labels, np.arange(12) % 3)
            assert source.class_names == ("cat", "dog", "cow")
    elsewhere = make_source(f"tfds('tiny', data_dir='{tmp_path}/tfds', convert='grey')")
    assert elsewhere.image_shape == (6, 6, 1)


def test_a_named_split_takes_the_place_of_train(tmp_path):
    stacks = prepare_by_hand(tmp_path / "tfds", splits=("train", "validation"))
    np.testing.assert_array_equal(make_source("tfds:tiny:train[:25%]").images, stacks["train"][:3])
    np.testing.assert_array_equal(make_source("tfds:tiny:train[:25%]", "test").images, stacks["validation"])
    np.testing.assert_array_equal(make_source("tfds:tiny:validation").images, stacks["validation"])
    with pytest.raises(DataError, match=r"no test images: its splits are train, validation; train with"):
        make_source("tfds:tiny:validation", "test")
    with pytest.raises(ConfigError, match=r"has no split 'valid'; it has train, validation"):
        make_source("tfds:tiny:valid")


def test_what_is_not_prepared_is_said_at_once_with_the_command(tmp_path):
    prepare_by_hand(tmp_path / "tfds")
    start = time.perf_counter()
    command = f"python -m genmodels.data.prepare --dataset=tfds:mnist --data_dir={tmp_path}/tfds"
    with pytest.raises(tfds.NotPreparedError) as caught:
        make_source("tfds:mnist")
    assert str(caught.value).endswith(f"not prepared in {tmp_path}/tfds; prepare it once, with a network: {command}")
    with pytest.raises(ConfigError, match="unknown data set 'mnits': did you mean 'mnist'"):
        make_source("tfds:mnits")
    with pytest.raises(ConfigError, match=r"did you mean 'tiny'.* prepared are tiny"):
        make_source("tfds:tinny")
    with pytest.raises(ConfigError, match=r"must be tfds:NAME"):
        make_source("tfds:")
    assert time.perf_counter() - start < 5


def test_an_unfinished_copy_and_a_tfrecord_copy_are_no_copies(tmp_path):
    prepare_by_hand(tmp_path / "tfds", form="tfrecord")
    with pytest.raises(DataError, match=r"was prepared as tfrecord, .*prepare --dataset=tfds:tiny --data_dir="):
        make_source("tfds:tiny")
    (tmp_path / "tfds" / "tiny" / "1.0.0").rename(tmp_path / "tfds" / "tiny" / "incomplete.ABC_1.0.0")
    with pytest.raises(ConfigError, match="unknown data set 'tiny'"):
        make_source("tfds:tiny")


def test_a_host_that_does_not_answer_is_named_soon(monkeypatch):
    monkeypatch.setattr(tfds_build.urllib.request, "getproxies", dict)
    start = time.perf_counter()
    with pytest.raises(DataError, match=r"tfds:x: nowhere\.invalid cannot be reached .* as --manual_dir"):
        tfds_build.check_network("x", ["https://nowhere.invalid/x.zip"])  # a name that RFC 2606 keeps from resolving
    assert time.perf_counter() - start < 2 * tfds_build.CONNECT_TIMEOUT_S
    tfds_build.check_network("x", [])


def prepare(*args):
    launch = [sys.executable, "-m", "genmodels.data.prepare", *args]
    return subprocess.run(launch, cwd=ROOT, capture_output=True, text=True, check=False, timeout=900)


@pytest.mark.parametrize(
    ("args", "words"),
    [
        (["--dataset=mnist"], "must be tfds:NAME"),
        (["--dataset=tfds:mnits"], "did you mean 'mnist'"),
        (["--dataset=tfds:mnist", "--manual_dir=nowhere"], "--manual_dir=nowhere: no such folder"),
    ],
)
def test_prepare_says_what_is_wrong_before_it_loads_anything(args, words, tmp_path):
    result = prepare(*args, f"--data_dir={tmp_path}/tfds")
    assert result.returncode in (2, 4)
    assert words in result.stderr
    assert len(result.stderr.strip().splitlines()) == 1


@pytest.mark.slow
def test_the_genuine_mnists_are_prepared_side_by_side_without_a_mix_up(shared, tmp_path):
    """Both sets have files of the same names; each prepared copy must hold its own images, those of the idx files."""
    pytest.importorskip("tensorflow", reason="TensorFlow prepares TFDS data: pip install -e '.[tfds-prepare]'")
    folder = f"--data_dir={tmp_path}/tfds"
    wrong = prepare("--dataset=tfds:mnist", folder, f"--manual_dir={shared}/data/fashion_mnist")
    assert wrong.returncode == 4
    assert "NonMatchingChecksumError" in wrong.stderr.splitlines()[-1]
    for name in ("fashion_mnist", "mnist"):
        result = prepare(f"--dataset=tfds:{name}", folder, f"--manual_dir={shared}/data/{name}")
        assert result.returncode == 0, result.stderr
    for name in ("fashion_mnist", "mnist"):
        for split in ("train", "test"):
            ours, original = make_source(f"tfds:{name}", split), make_source(f"idx:{shared}/data/{name}", split)
            assert contents(ours) == contents(original)
            assert ours.num_classes == 10
    again = prepare("--dataset=tfds:mnist", folder)
    assert again.returncode == 0
    assert "is already prepared" in again.stdout


def contents(source):
    """Images with their labels, in whatever order."""
    return sorted(zip(map(bytes, source.table.digests), source.labels.tolist(), strict=True))
