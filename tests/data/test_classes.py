"""Classes by name and by number, and the order in which numbered folders and files come."""

import shutil

import numpy as np
import pytest
from PIL import Image

from genmodels.data import classes
from genmodels.data.base import TEXT_LISTING, Settings
from genmodels.data.sources import make_source
from genmodels.data.table import fingerprint, tabulate
from genmodels.errors import ConfigError, DataError
from tests.data.files import noise, pack, write_folder

OLD = Settings(listing=TEXT_LISTING)


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("GENMODELS_CACHE", str(tmp_path / "cache"))


def write_numbered(root, numbers=range(12), count=2):
    """Folders that are named by numbers; every image of folder k has the grey level 10 k, 10 k + 1, ..."""
    for number in numbers:
        (root / str(number)).mkdir(parents=True)
        for row in range(count):
            Image.new("L", (4, 4), 10 * number + row).save(root / str(number) / f"{row}.png")


def grey(source):
    return source.images[:, 0, 0, 0]


def test_label_k_is_the_folder_k(tmp_path):
    write_numbered(tmp_path / "data", count=11)
    for source in (
        make_source(f"folder:{tmp_path}/data"),
        make_source(f"zip:{pack(tmp_path / 'data', tmp_path / 'a.zip')}"),
        make_source(f"tar:{pack(tmp_path / 'data', tmp_path / 'a.tar', 'inside/')}"),
    ):
        assert source.class_names == tuple(map(str, range(12)))
        np.testing.assert_array_equal(grey(source), [10 * k + row for k in range(12) for row in range(11)])
        np.testing.assert_array_equal(source.labels, np.repeat(np.arange(12), 11))


def test_the_case_of_numbered_classes(shared):
    folder = shared / "cases" / "numbered_classes"
    if not folder.is_dir():
        pytest.skip(f"{folder} is not there")
    source = make_source(f"folder:{folder}")
    np.testing.assert_array_equal(grey(source) // 20, source.labels)
    chosen = make_source(f"subset('folder:{folder}', classes=(10, 2))")
    np.testing.assert_array_equal(grey(chosen) // 20, np.array([10, 2])[chosen.labels])


def test_a_run_of_old_has_its_order_and_its_labels(tmp_path):
    """What the code before natural order listed: names sorted as text, and their fingerprint."""
    write_numbered(tmp_path / "data", count=11)
    (tmp_path / "data" / "7a").mkdir()
    (tmp_path / "data" / "dataset.json").write_text("[")
    files = sorted(str(path.relative_to(tmp_path / "data")) for path in (tmp_path / "data").rglob("*.png"))
    folders = sorted({file.split("/")[0] for file in files})
    old = make_source(f"folder:{tmp_path}/data", settings=OLD)
    assert (old.files, old.class_names) == (tuple(files), tuple(folders))
    assert old.class_names[2] == "10"
    images = np.stack([np.asarray(Image.open(tmp_path / "data" / file))[..., None] for file in files])
    labels = np.array([folders.index(file.split("/")[0]) for file in files])
    assert old.fingerprint == fingerprint((4, 4, 1), tabulate(images).digests, labels)


@pytest.mark.parametrize(
    ("chosen", "folders"),
    [("(10, 2)", [10, 2]), ("('10', '2')", [10, 2]), ("7", [7]), ("'11'", [11]), ("['3', 1]", [3, 1])],
)
@pytest.mark.parametrize("first", [0, 1])
def test_a_subset_takes_the_folders_that_it_names(chosen, folders, first, tmp_path):
    """Folders from 1 on have the labels from 0 on: the number is the folder's."""
    write_numbered(tmp_path / "data", range(first, 13))
    source = make_source(f"subset('folder:{tmp_path}/data', classes={chosen})")
    assert source.class_names == tuple(map(str, folders))
    np.testing.assert_array_equal(grey(source) // 10, np.array(folders)[source.labels])


NUMBERED = ("5", "7", "9")


@pytest.mark.parametrize(
    ("wanted", "names", "label"),
    [
        ("dog", ("cat", "dog"), 1),
        ("1", ("cat", "dog"), 1),
        (1, ("cat", "dog"), 1),
        ("2", tuple(map(str, range(1, 11))), 1),
        (2, tuple(map(str, range(1, 11))), 1),
        (np.int64(9), NUMBERED, 2),
        ("7", ("005", "007", "2"), 1),
        ("-1", ("-1", "0", "1"), 0),
        ("2", ("cat", "2", "dog"), 1),
        ("3", (), 3),
        ("0.5", ("0.25", "0.5"), 1),
    ],
)
def test_a_word_is_a_name_and_a_number_is_a_name_where_names_are_numbers(wanted, names, label):
    assert classes.class_number(wanted, names, len(names) or 10) == label


@pytest.mark.parametrize(
    ("wanted", "names", "words"),
    [
        ("dgo", ("cat", "dog"), "no class 'dgo'; did you mean 'dog'.* there are cat, dog"),
        ("cat", (), "no class 'cat'; there are 0 to 9"),
        ("10", (), "no class '10'; there are 0 to 9"),
        ("-1", ("cat", "dog"), "no class '-1'"),
        (0, NUMBERED, "no class is named 0; classes are named by numbers here: there are 5, 7, 9"),
        ("1", ("cat", "2", "dog"), "no class is named 1"),
        ("1", ("01", "001"), "no class is named 1"),
        ("", ("cat", "dog"), "no class ''"),
        (1.0, ("cat", "dog"), "no class 1.0: a label is"),
        (True, ("cat", "dog"), "no class True: a label is"),
        ("x", tuple(f"n{i:04d}" for i in range(1000)), r"n0019 \.\.\. 980 more \(labels 0 to 999\)$"),
        ("9" * 5000, ("cat", "dog"), "no class '999"),
    ],
)
def test_a_class_that_is_none_or_ambiguous_is_refused(wanted, names, words):
    with pytest.raises(ConfigError, match=words):
        classes.class_number(wanted, names, len(names) or 10)


def test_a_letter_may_be_written_as_one_or_as_two():
    one, two = "\u00e9t\u00e9", "e\u0301te\u0301"
    for wanted in (one, two):
        for name in (one, two):
            assert classes.class_number(wanted, ("a", name), 2) == 1
    assert classes.class_number(two, (one, two), 2) == 1


def test_a_subset_of_classes_without_images_says_so(tmp_path):
    write_folder(tmp_path, ["a/0.png", "a/1.png"], (8, 8))
    (tmp_path / "b").mkdir()
    with pytest.raises(ConfigError, match="no train image is of the classes b"):
        make_source(f"subset('folder:{tmp_path}', classes=('b',))")


def test_samples_of_guided_diffusion_are_read(tmp_path):
    images = np.random.default_rng(0).integers(0, 256, (6, 4, 4, 3), dtype=np.uint8)
    np.savez(tmp_path / "a.npz", images, np.arange(6) % 3)
    source = make_source(f"npz:{tmp_path}/a.npz")
    np.testing.assert_array_equal(source.images_of("image")[:], images)
    assert source.labels.tolist() == [0, 1, 2, 0, 1, 2]


def test_a_subset_of_classes_without_names_keeps_their_numbers_as_names():
    """So that neither another subset nor a concatenation takes the digit 7 for a digit 0."""
    source = make_source("subset('digits', classes=(7, 3))")
    assert source.class_names == ("7", "3")
    with pytest.raises(ConfigError, match="no class is named 0"):
        make_source("subset(subset('digits', classes=(7, 3)), classes=0)")
    three = make_source("subset(subset('digits', classes=(7, 3)), classes=3)")
    np.testing.assert_array_equal(three.images, make_source("subset('digits', classes=3)").images)
    joined = make_source("concat(subset('digits', classes=(7,)), subset('digits', classes=(3,)), 'digits')")
    digits = make_source("digits").labels
    wanted = np.concatenate([digits[digits == 7], digits[digits == 3], digits])
    np.testing.assert_array_equal(np.array(joined.class_names, int)[joined.labels], wanted)


def test_an_npz_has_the_names_of_its_classes(tmp_path):
    images, labels = noise(6, 4, 4, 1), np.array([0, 1, 1, 0, 1, 0])
    names = np.array(["cat", "dog", "fox"])
    np.savez(tmp_path / "a.npz", images=images, labels=labels, class_names=names, notes=np.arange(3))
    source = make_source(f"npz:{tmp_path}/a.npz")
    assert (source.num_classes, source.class_names) == (3, ("cat", "dog", "fox"))
    assert make_source(f"subset('npz:{tmp_path}/a.npz', classes='dog')").class_names == ("dog",)
    for bad in (names[:1], np.array(["cat", "cat"]), np.arange(2)):
        np.savez(tmp_path / "b.npz", images=images, labels=labels, class_names=bad)
        with pytest.raises(
            DataError, match=r"b\.npz: class_names must be text, a different name for each of 2 classes"
        ):
            make_source(f"npz:{tmp_path}/b.npz")


def test_labels_of_other_classes_are_translated_by_name():
    labels = np.array([0, 1, 1])
    np.testing.assert_array_equal(classes.renumbered(labels, ("dog", "fox"), ("cat", "dog", "fox"), "x"), [1, 2, 2])
    np.testing.assert_array_equal(classes.renumbered(labels, (), ("cat", "dog", "fox"), "x"), labels)
    with pytest.raises(ConfigError, match="x: has the class 'cow', which is none of cat, dog"):
        classes.renumbered(labels, ("dog", "cow"), ("cat", "dog"), "x")


@pytest.mark.parametrize("kind", ["folder", "tar", "tar.gz", "zip"])
def test_an_empty_class_folder_changes_no_label(kind, tmp_path):
    names = [f"{name}/{i}.png" for name in ("cat", "fox") for i in range(2)]
    write_folder(tmp_path / "data", names)
    for empty in ("dog", "cow", "notes", ".git"):
        (tmp_path / "data" / empty).mkdir()
    (tmp_path / "data" / "cow" / "a.heic").write_text("")
    (tmp_path / "data" / "notes" / "a.txt").write_text("")
    path = tmp_path / "data"
    if kind != "folder":  # an archive as tar and zip write it, which lists folders too
        form = {"tar.gz": "gztar"}.get(kind, kind)
        path = shutil.make_archive(str(tmp_path / "packed"), form, path)
    spec = f"{kind.partition('.')[0]}:{path}"
    source = make_source(spec)
    assert (source.class_names, source.num_classes) == (("cat", "cow", "dog", "fox"), 4)
    np.testing.assert_array_equal(source.labels, [0, 0, 3, 3])
    assert make_source(spec, settings=OLD).class_names == ("cat", "fox")


def test_an_empty_folder_that_appears_is_seen_and_one_beside_plain_images_is_none(tmp_path):
    write_folder(tmp_path / "data", ["cat/0.png", "fox/0.png"])
    spec = f"folder:{tmp_path}/data"
    assert make_source(spec).class_names == ("cat", "fox")
    (tmp_path / "data" / "dog").mkdir()
    assert make_source(spec).class_names == ("cat", "dog", "fox")
    write_folder(tmp_path / "flat", ["0.png"])
    (tmp_path / "flat" / "dog").mkdir()
    assert make_source(f"folder:{tmp_path}/flat").num_classes == 0


def test_a_class_of_the_test_split_may_be_empty_in_the_training_split(tmp_path):
    write_folder(tmp_path / "data", ["train/cat/0.png", "train/fox/0.png", "test/dog/0.png"])
    (tmp_path / "data" / "train" / "dog").mkdir()
    assert list(make_source(f"folder:{tmp_path}/data", "test").labels) == [1]
