"""Folders and archives: what is found in them, what is refused, and what the next start remembers."""

import json
import os
import tracemalloc

import numpy as np
import pytest
from PIL import Image

from genmodels.data import cache, images, preflight, scan
from genmodels.data.base import Settings
from genmodels.data.preflight import save_sheet
from genmodels.data.sources import make_source
from genmodels.errors import DataError
from tests.data.files import noise, pack, write_folder
from tests.data.test_images import bomb

CLASSES = [f"{kind}/{i}.png" for kind in ("cat", "dog") for i in range(4)]


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("GENMODELS_CACHE", str(tmp_path / "cache"))


def test_sub_folders_are_classes_in_the_order_of_their_names(tmp_path):
    written = write_folder(tmp_path / "data", CLASSES)
    source = make_source(f"folder:{tmp_path}/data")
    assert source.class_names == ("cat", "dog")
    assert source.files == tuple(sorted(CLASSES))
    np.testing.assert_array_equal(source.labels, [0] * 4 + [1] * 4)
    np.testing.assert_array_equal(source.images, [written[name] for name in source.files])


def test_flat_folders_are_unlabelled(tmp_path):
    write_folder(tmp_path / "data", ["b.png", "a.png", "c.PNG"])
    (tmp_path / "data" / ".hidden.png").write_text("not an image")
    (tmp_path / "data" / "notes.txt").write_text("not an image")
    source = make_source(f"folder:{tmp_path}/data")
    assert (source.files, source.labels, source.num_classes) == (("a.png", "b.png", "c.PNG"), None, 0)


@pytest.mark.parametrize("held_out", ["test", "val", "Validation"])
def test_train_and_test_folders_are_the_splits_and_share_the_classes_of_train(held_out, tmp_path):
    names = [f"train/{name}" for name in CLASSES] + [f"{held_out}/dog/{i}.png" for i in range(3)]
    write_folder(tmp_path / "data", names)
    spec = f"folder:{tmp_path}/data"
    train, test = make_source(spec), make_source(spec, "test")
    assert (len(train), len(test), test.num_classes) == (8, 3, 2)
    np.testing.assert_array_equal(test.labels, [1, 1, 1])
    write_folder(tmp_path / "data", [f"{held_out}/cow/0.png"])
    with pytest.raises(DataError, match=rf"the class of {held_out}/cow/0\.png has no images in train"):
        make_source(spec, "test")


@pytest.mark.parametrize("kind", ["folder", "tar", "zip"])
def test_streamed_and_held_images_are_the_same(kind, tmp_path):
    write_folder(tmp_path / "data", CLASSES)
    path = tmp_path / "data" if kind == "folder" else pack(tmp_path / "data", tmp_path / f"packed.{kind}")
    held, streamed = (make_source(f"{kind}:{path}", "train", Settings(memory_gb=gb)) for gb in (1.0, 0.0))
    assert (held.in_memory, streamed.in_memory) == (True, False)
    assert held.fingerprint == streamed.fingerprint
    np.testing.assert_array_equal(held.images, streamed.images)
    np.testing.assert_array_equal(streamed.take(np.array([5, 0, 5]))["image"], held.images[[5, 0, 5]])


def test_a_file_that_changes_under_a_streaming_run_is_named(tmp_path):
    write_folder(tmp_path / "data", CLASSES)
    source = make_source(f"folder:{tmp_path}/data", "train", Settings(memory_gb=0.0))
    Image.fromarray(noise(6, 6, 3, seed=99)).save(tmp_path / "data" / "dog" / "1.png")
    source.take(np.array([0, 1]))
    with pytest.raises(DataError, match=r"dog/1\.png: has changed since the run began"):
        source.take(np.array([5]))
    (tmp_path / "data" / "dog" / "1.png").unlink()
    with pytest.raises(DataError, match=r"dog/1\.png: can no longer be read"):
        source.take(np.array([5]))


def save(path, image, **options):
    (Image.fromarray(image) if isinstance(image, np.ndarray) else image).save(path, **options)


def empty(root):
    for name in ("a.txt", "b.txt", "c.gif", "README"):
        (root / name).write_text("")


def truncated(root):
    whole = (root / "good_0.png").read_bytes()
    (root / "half.png").write_bytes(whole[: len(whole) * 2 // 3])


def mixed(root):
    save(root / "large.png", noise(9, 7, 3))


def grey(root):
    save(root / "z_grey.png", noise(6, 6))


def beside(root):
    (root / "cat").mkdir()
    save(root / "cat" / "a.png", noise(6, 6, 3))


def stranger(root):
    for name in ("train", "test", "extra"):
        (root / name).mkdir()
        save(root / name / "a.png", noise(6, 6, 3))


def lonely(root):
    (root / "Test").mkdir()
    save(root / "Test" / "a.png", noise(6, 6, 3))


def lost_captions(root):
    (root / "cat").mkdir()
    save(root / "cat" / "a.png", noise(6, 6, 3))
    (root / "cat" / "captions.jsonl").write_text("")


def captions(root):
    (root / "captions.jsonl").write_text(
        '{"file": "good_0.png", "caption": "x"}\n{"file": "nowhere.png", "caption": "y"}\n'
    )


BAD_FOLDERS = {
    "empty": (
        empty,
        0,
        r"no images: looked for \.png, \.jpg.*found 4 other files \(2 \.txt, 1 \.gif, 1 without suffix\)",
    ),
    "truncated": (
        truncated,
        3,
        r"half\.png cannot be read: .*; repair or remove, or set config\.data\.skip_damaged=True",
    ),
    "text": (lambda root: (root / "x.png").write_text("hi"), 3, r"x\.png cannot be read: it is not an image in PNG"),
    "mixed": (
        mixed,
        3,
        r"2 different sizes: 3 of 6x6 \(good_0\.png\), 1 of 9x7 \(large\.png\): set config\.data\.size",
    ),
    "grey": (grey, 3, r"1 grey \(z_grey\.png \.\.\.\) among 3 RGB \(good_0\.png \.\.\.\): set config\.data\.convert"),
    "alpha": (lambda root: save(root / "a.png", noise(6, 6, 4)), 3, r"a\.png has transparency: config\.data\.convert"),
    "deep": (
        lambda root: save(root / "d.png", Image.fromarray(noise(6, 6).astype(np.uint16))),
        3,
        r"d\.png has 16 bits a channel: config\.data\.convert=grey",
    ),
    "cmyk": (lambda root: save(root / "c.jpg", Image.new("CMYK", (6, 6))), 3, r"c\.jpg is CMYK, for print"),
    "bomb": (
        lambda root: (root / "bomb.png").write_bytes(bomb()),
        3,
        r"bomb\.png cannot be read: it has too many pixels",
    ),
    "beside": (beside, 3, r"3 images \(good_0\.png \.\.\.\) lie beside class folders \(cat \.\.\.\)"),
    "stranger": (stranger, 0, r"extra lies beside the folder train/: move it out"),
    "lonely": (lonely, 0, r"has a folder Test/ but no train/ beside it"),
    "nothing": (lambda root: (root / "a.png").symlink_to(root / "b"), 3, r"a\.png cannot be read: .*No such file"),
    "pipe": (lambda root: os.mkfifo(root / "a.png"), 3, r"a\.png is a pipe or device"),
    "lost": (lost_captions, 0, r"cat/captions\.jsonl is in the wrong folder; move it up, beside cat"),
    "captions": (captions, 3, r"captions\.jsonl names 'nowhere\.png', but there is no such image"),
}


@pytest.mark.parametrize("name", BAD_FOLDERS)
def test_bad_folders_get_one_line_that_names_the_file_and_the_remedy(name, tmp_path):
    spoil, good, words = BAD_FOLDERS[name]
    write_folder(tmp_path / "data", [f"good_{i}.png" for i in range(good)])
    (tmp_path / "data").mkdir(exist_ok=True)
    spoil(tmp_path / "data")
    with pytest.raises(DataError, match=words) as caught:
        make_source(f"folder:{tmp_path}/data")
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "cache").exists()


@pytest.mark.parametrize(
    ("name", "settings"),
    [
        ("mixed", {"size": 6, "crop": "center"}),
        ("grey", {"convert": "rgb"}),
        ("alpha", {"convert": "rgb"}),
        ("deep", {"convert": "grey"}),
        ("cmyk", {"convert": "rgb"}),
        ("truncated", {"skip_damaged": True}),
        ("bomb", {"skip_damaged": True}),
    ],
)
def test_the_remedies_that_are_named_work(name, settings, tmp_path):
    write_folder(tmp_path / "data", [f"good_{i}.png" for i in range(3)])
    BAD_FOLDERS[name][0](tmp_path / "data")
    source = make_source(f"folder:{tmp_path}/data", "train", Settings(**settings))
    assert len(source) == (3 if "skip_damaged" in settings else 4)
    assert source.image_shape == (6, 6, 1 if settings.get("convert") == "grey" else 3)


def test_oblong_images_are_not_cropped_unasked(tmp_path):
    write_folder(tmp_path / "data", ["a.png"], (4, 8, 3))
    with pytest.raises(DataError, match=r"1 images are not square \(a\.png: 4x8\).*config\.data\.crop=center"):
        make_source(f"folder:{tmp_path}/data", "train", Settings(size=4))


@pytest.mark.parametrize("memory", [1.0, 0.0])
def test_damaged_files_are_skipped_once_and_the_count_stays(memory, tmp_path):
    written = write_folder(tmp_path / "data", [f"{i}.png" for i in range(6)])
    half = (tmp_path / "data" / "2.png").read_bytes()
    (tmp_path / "data" / "2.png").write_bytes(half[: len(half) // 2])
    settings = Settings(skip_damaged=True, memory_gb=memory)
    for _ in range(2):  # scanned, then from the cache
        source = make_source(f"folder:{tmp_path}/data", "train", settings)
        assert source.files == ("0.png", "1.png", "3.png", "4.png", "5.png")
        np.testing.assert_array_equal(source.images, [written[name] for name in source.files])
        assert "skipped 1 damaged file: 2.png" in source.notes[0]
    for file in (tmp_path / "data").iterdir():
        file.write_bytes(b"no")
    with pytest.raises(DataError, match="none of the 6 images can be read"):
        make_source(f"folder:{tmp_path}/data", "train", settings)


def test_two_links_to_one_folder_are_two_classes_and_other_links_harm_nothing(tmp_path):
    write_folder(tmp_path / "data", CLASSES)
    (tmp_path / "data" / "ape").symlink_to("cat")
    (tmp_path / "data" / "latest").symlink_to("nowhere")
    source = make_source(f"folder:{tmp_path}/data")
    assert source.class_names == ("ape", "cat", "dog")
    assert len(source) == 12


def test_pictures_of_other_formats_are_counted(tmp_path):
    write_folder(tmp_path / "data", ["a.png"])
    for name in ("b.tiff", "c.tiff", "d.gif", "e.txt"):
        (tmp_path / "data" / name).write_text("")
    pictures, others = make_source(f"folder:{tmp_path}/data").notes
    assert pictures == "not read, because of their suffix: 1 .gif, 2 .tiff"
    assert others.startswith("not read: 1 .txt (e.txt);")


def test_threads_decode_what_one_does(tmp_path, monkeypatch):
    written = write_folder(tmp_path / "data", [f"{i}.png" for i in range(40)])
    monkeypatch.setattr(scan, "MIN_THREADED_PIXELS", 0)
    monkeypatch.setattr(scan, "MAX_DECODED_BYTES", 500)
    monkeypatch.setattr(scan, "_cores", lambda: 7)
    source = make_source(f"folder:{tmp_path}/data")
    np.testing.assert_array_equal(source.images, [written[name] for name in source.files])


def test_names_that_are_no_text_can_be_shown(tmp_path):
    write_folder(tmp_path / "data", [f"{kind}\udcff/{i}.png" for kind in "ab" for i in range(2)])
    source = make_source(f"folder:{tmp_path}/data")
    assert "a\\udcff 2" in "\n".join(preflight.describe(source))
    save_sheet(tmp_path / "sheet.png", source)


def test_links_that_go_round_in_circles_end(tmp_path):
    write_folder(tmp_path / "data", CLASSES)
    os.symlink(tmp_path / "data", tmp_path / "data" / "cat" / "loop")
    assert len(make_source(f"folder:{tmp_path}/data")) == 8


def refuse(*args):
    raise AssertionError("scanned again")


def test_the_second_start_scans_nothing_until_a_file_changes(tmp_path, monkeypatch):
    write_folder(tmp_path / "data", CLASSES)
    spec = f"folder:{tmp_path}/data"
    first = make_source(spec)
    with monkeypatch.context() as patch:
        patch.setattr(scan, "_scan", refuse)
        again = make_source(spec)
        np.testing.assert_array_equal(again.images, first.images)
        assert (again.fingerprint, again.files, again.notes) == (first.fingerprint, first.files, first.notes)
        with pytest.raises(AssertionError):
            make_source(spec, "train", Settings(convert="grey"))
        path = tmp_path / "data" / "cat" / "1.png"
        before = path.stat()
        pixels = np.asarray(Image.open(path)) ^ 1
        Image.fromarray(pixels).save(path, compress_level=0)
        path.write_bytes(path.read_bytes()[: before.st_size].ljust(before.st_size))
        os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))  # same size, same time of change
        with pytest.raises(AssertionError):
            make_source(spec)
    Image.fromarray(pixels).save(path)
    assert make_source(spec).fingerprint != first.fingerprint


@pytest.mark.parametrize("file", ["images.npy", "table.npz", "info.json"])
def test_a_damaged_or_unwritable_cache_costs_a_scan_and_nothing_else(file, tmp_path, monkeypatch, capsys):
    write_folder(tmp_path / "data", CLASSES)
    spec = f"folder:{tmp_path}/data"
    first = make_source(spec)
    (entry,) = cache.root().iterdir()
    data = bytearray((entry / file).read_bytes())
    data[-30:] = bytes(30)
    (entry / file).write_bytes(data)
    again = make_source(spec)
    np.testing.assert_array_equal(again.images, first.images)
    assert again.fingerprint == first.fingerprint
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("GENMODELS_CACHE", str(tmp_path / "file"))
    assert make_source(spec).fingerprint == first.fingerprint
    assert "the next start scans again" in capsys.readouterr().out


def test_two_processes_may_keep_the_same_scan(tmp_path, monkeypatch, capsys):
    write_folder(tmp_path / "data", CLASSES)
    first = make_source(f"folder:{tmp_path}/data")
    monkeypatch.setattr(cache, "read", lambda name, wanted: None)  # as one sees it that began at the same time
    monkeypatch.setattr(cache.shutil, "rmtree", lambda path, ignore_errors: None)  # the other writes after our clearing
    assert make_source(f"folder:{tmp_path}/data").fingerprint == first.fingerprint
    assert "note" not in capsys.readouterr().out


def test_the_cache_keeps_to_its_limit(tmp_path, monkeypatch):
    monkeypatch.setattr(cache, "MAX_CACHE_BYTES", 6000)
    for number in range(4):
        write_folder(tmp_path / str(number), ["a.png"], (32, 32, 3))
        make_source(f"folder:{tmp_path}/{number}")
    assert len(list(cache.root().iterdir())) == 1


def test_memory_stays_within_a_fifth_of_the_pixels(tmp_path, monkeypatch):
    monkeypatch.setattr(images, "_is_plain_png", lambda data, rule: False)  # PIL's arrays are seen by tracemalloc
    monkeypatch.setattr(scan, "MAX_DECODED_BYTES", 2**19)
    write_folder(tmp_path / "data", [f"{i}.png" for i in range(300)], (96, 96, 3))
    half = (tmp_path / "data" / "7.png").read_bytes()
    (tmp_path / "data" / "7.png").write_bytes(half[: len(half) // 2])
    for _ in range(2):  # scanned, then from the cache
        tracemalloc.start()
        source = make_source(f"folder:{tmp_path}/data", "train", Settings(skip_damaged=True))
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert len(source) == 299
        assert peak < 1.2 * source.images.nbytes + 1e6


def test_captions_lines_that_are_none(tmp_path):
    write_folder(tmp_path / "data", ["a.png"])
    for line in ("{", '{"file": "a.png"}', "[]", '"a.png"'):
        (tmp_path / "data" / "captions.jsonl").write_text(json.dumps({"file": "a.png", "caption": ""}) + "\n" + line)
        with pytest.raises(DataError, match=r"captions\.jsonl, line 2"):
            make_source(f"folder:{tmp_path}/data")
