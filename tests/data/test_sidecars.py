"""Containers whose labels lie beside the images, and files that are named because they are not read."""

import json

import numpy as np
import pytest
from PIL import Image

from genmodels.data import preflight
from genmodels.data.sources import make_source, read_images
from genmodels.errors import DataError
from tests.data.files import pack, write_folder

STORED = [f"{i // 4:05d}/img{i:08d}.png" for i in range(12)]
LABELS = [0, 7, 4, 1, 8, 5, 2, 9, 6, 3, 0, 7]


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("GENMODELS_CACHE", str(tmp_path / "cache"))


def one_hot(label, width=10):
    return [float(place == label) for place in range(width)]


def write_edm(root, labels=LABELS, names=STORED):
    """A folder as the data set tools of StyleGAN and EDM write it."""
    write_folder(root, names)
    pairs = None if labels is None else [list(pair) for pair in zip(names, labels, strict=True)]
    (root / "dataset.json").write_text(json.dumps({"labels": pairs}))


@pytest.mark.parametrize("kind", ["folder", "zip", "tar", "wrapped"])
@pytest.mark.parametrize("labels", [LABELS, [one_hot(label) for label in LABELS], [float(x) for x in LABELS]])
def test_labels_of_dataset_json_are_read_and_storage_folders_are_no_classes(kind, labels, tmp_path):
    write_edm(tmp_path / "data", labels)
    path = tmp_path / "data"
    if kind != "folder":
        suffix = "zip" if kind == "wrapped" else kind
        path = pack(path, tmp_path / f"a.{suffix}", "cifar10/" if kind == "wrapped" else "")
    source = make_source(f"{path.suffix[1:] or 'folder'}:{path}")
    np.testing.assert_array_equal(source.labels, LABELS)
    assert (source.num_classes, source.class_names) == (10, ())
    assert any("dataset.json; folders are storage, not classes" in line for line in preflight.describe(source))


def test_a_container_without_labels_has_none(tmp_path):
    write_edm(tmp_path / "null", None)
    write_folder(tmp_path / "edm", STORED)
    write_folder(tmp_path / "ffhq", [f"{i // 2 * 1000:05d}/{i // 2 * 1000 + i % 2:05d}.png" for i in range(6)])
    for name in ("null", "edm", "ffhq"):
        source = make_source(f"folder:{tmp_path}/{name}")
        assert (source.labels, source.num_classes) == (None, 0)
        assert any("storage, not" in note for note in source.notes)
    write_folder(tmp_path / "ids", [f"{k:05d}/{i:05d}.png" for k in (1, 2) for i in range(3)])
    assert make_source(f"folder:{tmp_path}/ids").class_names == ("00001", "00002")  # each counts its own images


def test_each_split_has_its_own_labels_or_the_common_ones(tmp_path):
    names = [f"{split}/{name}" for split in ("train", "test") for name in STORED]
    write_edm(tmp_path / "common", LABELS + LABELS[::-1], names)
    for split, labels in (("train", LABELS), ("test", LABELS[::-1])):
        write_edm(tmp_path / "own" / split, labels)
    for name in ("common", "own"):
        for split, labels in (("train", LABELS), ("test", LABELS[::-1])):
            source = make_source(f"folder:{tmp_path}/{name}", split)
            np.testing.assert_array_equal(source.labels, labels)
            assert not any(note.startswith("not read") for note in source.notes)


@pytest.mark.parametrize(
    ("contents", "words"),
    [
        ("{", "is not JSON"),
        ('{"labels": 3}', '"labels" must be null or a list'),
        ('{"labels": [["a"]]}', '"labels" must be null or a list'),
        ('{"labels": []}', r"has no label for 00000/img00000000\.png; add it"),
        (json.dumps({"labels": list(zip(STORED, LABELS, strict=True)) * 2}), "names 12 images more than once"),
    ]
    + [
        (json.dumps({"labels": [[name, label] for name in STORED]}), words)
        for label, words in (
            ([0.3, 0.2], "is a vector that is not one-hot, such as a pose"),
            ([1, 1], "is a vector that is not one-hot"),
            (-1, r"is -1; it must be a number from 0"),
            (2.5, r"is 2\.5; it must be a number from 0"),
            (10**9, "must be a number from 0 to 999,999"),
            ("cat", "is 'cat'; it must be the number of a class"),
            (None, "is None; it must be"),
            ([[1], [0]], "it must be the number of a class"),
            (True, "is True; it must be"),
        )
    ],
)
def test_a_dataset_json_that_does_not_give_a_class_to_each_image_is_refused(contents, words, tmp_path):
    write_edm(tmp_path / "data")
    (tmp_path / "data" / "dataset.json").write_text(contents)
    with pytest.raises(DataError, match=rf"dataset\.json: .*{words}") as caught:
        make_source(f"folder:{tmp_path}/data")
    assert "\n" not in str(caught.value)


def test_another_dataset_json_is_named_and_leaves_the_class_folders(tmp_path):
    write_folder(tmp_path / "data", ["cat/0.png", "dog/0.png"])
    (tmp_path / "data" / "dataset.json").write_text('{"name": "pets"}')
    source = make_source(f"folder:{tmp_path}/data")
    assert source.class_names == ("cat", "dog")
    assert source.notes[0].startswith("not read: 1 .json (dataset.json);")


@pytest.mark.parametrize("suffix", [".tar", ".tar.gz"])
def test_a_webdataset_has_the_labels_of_its_cls_members(suffix, tmp_path):
    write_folder(tmp_path / "data", [f"{i:06d}.png" for i in range(12)])
    for i, label in enumerate(LABELS):
        (tmp_path / "data" / f"{i:06d}.cls").write_text(f"{label}\n" if i % 2 else str(label))
        (tmp_path / "data" / f"{i:06d}.txt").write_text("a caption")
        (tmp_path / "data" / f"{i:06d}.json").write_text("{}")
    spec = f"tar:{pack(tmp_path / 'data', tmp_path / f'a{suffix}')}"
    source = make_source(spec)
    np.testing.assert_array_equal(source.labels, LABELS)
    assert source.num_classes == 10
    assert "not read: 12 .json (000000.json ...), 12 .txt (000000.txt ...)" in "\n".join(preflight.describe(source))
    Image.new("L", (8, 8)).save(tmp_path / "data" / "000003.seg.png")
    with pytest.raises(DataError, match=r"000003\.png and 000003\.seg\.png are two pictures of one sample"):
        make_source(f"tar:{pack(tmp_path / 'data', tmp_path / f'two{suffix}')}")
    (tmp_path / "data" / "000003.seg.png").unlink()
    (tmp_path / "data" / "000003.cls").write_text("cat")
    with pytest.raises(DataError, match=r"000003\.cls holds 'cat'; a label is a number"):
        make_source(f"tar:{pack(tmp_path / 'data', tmp_path / f'b{suffix}')}")
    (tmp_path / "data" / "000003.cls").unlink()
    with pytest.raises(DataError, match=r"000003\.png has no 000003\.cls, but others have"):
        make_source(f"tar:{pack(tmp_path / 'data', tmp_path / f'c{suffix}')}")


@pytest.mark.parametrize(
    "name", ["metadata.jsonl", "train/metadata.csv", "labels.txt", "train/0.txt", "train/0.caption", "train/0.json"]
)
def test_a_file_beside_images_that_is_not_read_is_named_with_what_would_be(name, tmp_path):
    write_folder(tmp_path / "data", ["train/0.png", "train/1.png"])
    (tmp_path / "data" / name).write_text("{}")
    source = make_source(f"folder:{tmp_path}/data")
    assert source.labels is None
    (line,) = [line for line in preflight.describe(source) if line.startswith("not read")]
    assert f"({name})" in line
    assert line.endswith("labels are read from sub-folders, dataset.json or .cls files, captions from captions.jsonl")


def test_an_evaluation_takes_such_a_container_and_names_what_it_does_not_read(tmp_path, capsys):
    write_edm(tmp_path / "data")
    np.testing.assert_array_equal(read_images("--reference", str(tmp_path / "data")).labels, LABELS)
    (tmp_path / "data" / "0.txt").write_text("")
    read_images("--reference", str(pack(tmp_path / "data", tmp_path / "a.zip")))
    assert "note: --reference: not read: 1 .txt (0.txt);" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("name", "words"),
    [("a.parquet", "tables of images are not read"), ("00000.tar", "an archive is named itself, e.g. tar:FILE")],
)
def test_a_folder_of_containers_says_how_they_are_read(name, words, tmp_path):
    (tmp_path / name).write_text("")
    with pytest.raises(DataError, match=words):
        make_source(f"folder:{tmp_path}")


def test_the_same_images_in_every_container(shared):
    folder = shared / "cases" / "containers"
    if not folder.is_dir():
        pytest.skip(f"{folder} is not there")
    with np.load(folder / "truth.npz") as truth:
        images, labels = truth["images"], truth["labels"]
    shards = ", ".join(f"'tar:{path}'" for path in sorted(folder.glob("wds-*.tar")))
    for spec in (f"zip:{folder}/edm.zip", f"concat({shards})"):
        source = make_source(spec)
        np.testing.assert_array_equal(source.images, images)
        np.testing.assert_array_equal(source.labels, labels)
        assert source.num_classes == 10
    unlabelled = make_source(f"folder:{folder}/hf_imagefolder")
    np.testing.assert_array_equal(unlabelled.images, images)
    assert unlabelled.labels is None
    assert unlabelled.notes[0].startswith("not read: 1 .jsonl (train/metadata.jsonl)")
