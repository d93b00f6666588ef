"""Comparing two paths: what is read and cached; bad input is reported in one line before anything is written."""

import dataclasses
import json
import pathlib

import numpy as np
import pytest
from PIL import Image

from genmodels import extractors, scoring
from genmodels.data.pixels import Mixed
from genmodels.data.sources import make_source, read_images
from genmodels.errors import ConfigError, DataError, GenmodelsError
from genmodels.evaluators import features, statistics
from genmodels.extractors import ExtractorSpec, NetworkExtractor

DIGITS = make_source("digits", "test")


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("GENMODELS_CACHE", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)
    np.savez("a.npz", images=DIGITS.images[:150], labels=DIGITS.labels[:150])
    np.savez("b.npz", images=DIGITS.images[150:297], labels=DIGITS.labels[150:297])


def folder(name, *arrays):
    for index, array in enumerate(arrays):
        pathlib.Path(name).mkdir(exist_ok=True)
        Image.fromarray(array[..., 0] if array.shape[2] == 1 else array).save(f"{name}/{index:03d}.png")
    return name


def values(generated, reference, names, **metric_options):
    return [result.value for result in scoring.of_paths(generated, reference, names, metric_options)]


def of_sizes(*sizes, channels=1):
    rng = np.random.default_rng(0)
    return [rng.integers(0, 256, (*size, channels), dtype=np.uint8) for size in sizes]


def test_statistics_files_are_those_that_other_tools_write_and_read(tmp_path):
    arrays = scoring.statistics_of("b.npz", "digits", "none", "")
    x = ExtractorSpec("digits").load()(DIGITS.images[150:297]).features.astype(np.float64)
    np.testing.assert_allclose(arrays["mu"], x.mean(0), rtol=1e-12)
    np.testing.assert_allclose(arrays["sigma"], np.cov(x, rowvar=False), rtol=1e-9, atol=1e-12)
    np.savez("ours.npz", **arrays)
    np.savez("theirs.npz", mu=x.mean(0), sigma=np.cov(x, rowvar=False))
    direct = values("a.npz", "b.npz", ("fd_digits",))
    for reference in ("ours.npz", "theirs.npz"):
        np.testing.assert_allclose(values("a.npz", reference, ("fd_digits",)), direct, rtol=1e-8)
    assert values("ours.npz", "theirs.npz", ("fd_digits",))[0] < 1e-8
    (result,) = scoring.of_paths("a.npz", "theirs.npz", ("fd_digits",))
    assert result.protocol["n_reference"] == "unknown"
    assert result.protocol["reference_statistics_sha256"]


def test_cached_moments_are_keyed_by_images_and_extractor(monkeypatch):
    passes = []
    monkeypatch.setattr(features, "_pass", lambda *args, real=features._pass: passes.append(args[0]) or real(*args))
    first = values("a.npz", "b.npz", ("fd_digits",))
    assert passes == ["generated", "reference"]
    assert values("a.npz", "b.npz", ("fd_digits",)) == first
    assert passes == ["generated", "reference"]  # neither is passed again
    values("a.npz", "b.npz", ("fd_digits[clean]",))
    assert len(passes) == 4  # another resize is another thing
    np.savez("b.npz", images=DIGITS.images[100:297])
    assert values("a.npz", "b.npz", ("fd_digits",)) != first
    assert passes[4:] == ["reference"]


def test_damaged_cached_moments_are_ignored(tmp_path):
    first = values("a.npz", "b.npz", ("fd_digits",))
    for path in (tmp_path / "cache").rglob("table.npz"):
        data = dict(np.load(path))
        np.savez(path, **{name: array + (name == "scatter") for name, array in data.items()})
    assert values("a.npz", "b.npz", ("fd_digits",)) == first
    for path in (tmp_path / "cache").rglob("table.npz"):
        path.write_bytes(path.read_bytes()[:100])
    assert values("a.npz", "b.npz", ("fd_digits",)) == first


def test_moments_of_a_users_own_extractor_are_not_cached(tmp_path, monkeypatch):
    made = dataclasses.replace(ExtractorSpec("digits").load(), id="own")
    monkeypatch.setattr(extractors, "_load", lambda extractor_spec: made)
    values("a.npz", "b.npz", ("fd_digits",))
    assert not (tmp_path / "cache" / "data").exists()


def test_sizes_may_differ_only_where_a_resize_is_named():
    small, mixed = of_sizes(*[(8, 8)] * 30), of_sizes(*[(8, 8), (11, 7), (16, 16)] * 10)
    folder("small", *small), folder("mixed", *mixed)
    with pytest.raises(DataError, match=r"3 different sizes.*--resize=clean"):
        values("small", "mixed", ("fd_digits",))
    with pytest.raises(DataError, match="3 different sizes"):
        values("mixed", "mixed", ("fd_digits[clean]", "psnr"))
    assert isinstance(read_images("--generated", "mixed", mixed=True).pixels, Mixed)
    for kind in ("clean", "tf1"):
        extractor = ExtractorSpec("digits", kind).load()
        one_by_one = np.concatenate([extractor(image[None]).features for image in mixed])
        moments = scoring.statistics_of("mixed", "digits", kind, "")
        np.testing.assert_allclose(moments["mu"], one_by_one.mean(0), rtol=1e-4, atol=1e-4)
    assert np.isfinite(values("small", "mixed", ("fd_digits[clean]",))[0])
    np.savez("large.npz", images=np.stack(of_sizes(*[(20, 20)] * 30)))
    assert np.isfinite(values("small", "large.npz", ("fd_digits[tf1]",))[0])
    with pytest.raises(ConfigError, match="takes 8x8x1 images, these are 20x20x1"):
        values("small", "large.npz", ("fd_digits",))


def test_mixed_images_that_change_or_have_other_kinds_are_refused(tmp_path):
    folder("mixed", *of_sizes((8, 8), (9, 9), (10, 10)))
    pixels = read_images("--generated", "mixed", mixed=True).pixels
    Image.fromarray(np.zeros((9, 9), np.uint8)).save("mixed/001.png")
    with pytest.raises(DataError, match=r"001.png: has changed"):
        pixels[np.arange(3)]
    Image.fromarray(np.zeros((9, 5, 3), np.uint8)).save("mixed/003.png")
    with pytest.raises(DataError, match=r"grey .* among .* RGB"):
        read_images("--generated", "mixed", mixed=True)


def test_two_images_of_one_picture_at_another_size_have_other_fingerprints():
    folder("wide", *(np.full((size), 7, np.uint8) for size in ((4, 6, 1), (2, 2, 1))))
    folder("tall", *(np.full((size), 7, np.uint8) for size in ((6, 4, 1), (2, 2, 1))))
    found = [read_images("--generated", name, mixed=True).fingerprint for name in ("wide", "tall")]
    assert found[0] != found[1]


BAD = {
    "different counts": ("a.npz b.npz psnr", "equal shapes"),
    "few for the kernel": ("a.npz b.npz kd_digits", "1000 images a side, got 147.*--subset_size"),
    "one image": ("one.npz b.npz fd_digits", "at least 2 images a side, got 1"),
    "floats": ("float.npz b.npz fd_digits", "must be uint8"),
    "other statistics": ("a.npz wide.npz fd_digits", "statistics of 9 dimensions; .* has 64"),
    "half statistics": ("a.npz half.npz fd_digits", "no train images|mu"),
    "statistics with nan": ("a.npz nan.npz fd_digits", "not finite"),
    "statistics that are no covariance": ("a.npz lopsided.npz fd_digits", "not symmetric"),
    "images wanted": ("a.npz wide.npz kd_digits", "needs the images themselves"),
    "no folder": ("a.npz nowhere fd_digits", "no such"),
    "a text among images": ("notes b.npz fd_digits", "notes.txt, which is no image"),
    "channels": ("rgb.npz b.npz fd_digits", "takes images of 1 channel"),
    "channels of the two": ("rgb.npz b.npz fd_inception[clean]", "different numbers of channels"),
    "no weights": ("a.npz b.npz lpips", "--lpips_trunk"),
    "too small": ("a.npz a.npz ms_ssim", "176 pixels"),
    "weights of another": ("a.npz b.npz fid[clean] --extractor=inception:wrong.pth", "sha256 is .*6726825d0af5"),
    "no weights there": ("a.npz b.npz fid[clean] --extractor=inception:gone.pth", "gone.pth: No such file"),
    "truncated weights": ("a.npz b.npz fd --extractor=inception_unverified:wrong.pth --resize=tf1", "wrong.pth: is"),
    "no module": ("a.npz b.npz fd --extractor=nothing:there", "No module named 'nothing'"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_input_is_one_line_and_nothing_is_written(case, monkeypatch):
    text, message = BAD[case]
    generated, reference, metrics, *flags = text.split()
    np.savez("one.npz", images=DIGITS.images[:1])
    np.savez("float.npz", images=DIGITS.images / 255.0)
    np.savez("rgb.npz", images=DIGITS.images.repeat(3, axis=3))
    np.savez("wide.npz", mu=np.zeros(9), sigma=np.eye(9))
    np.savez("half.npz", mu=np.zeros(64))
    np.savez("nan.npz", mu=np.full(64, np.nan), sigma=np.eye(64))
    np.savez("lopsided.npz", mu=np.zeros(64), sigma=np.triu(np.ones((64, 64))))
    folder("notes", *DIGITS.images[:20])
    pathlib.Path("notes/notes.txt").write_text("what I thought")
    pathlib.Path("wrong.pth").write_bytes(b"PK" + bytes(1000))
    metric_options = {key.lstrip("-"): value for key, value in (flag.split("=") for flag in flags)}
    if "inception[clean]" in metrics:
        monkeypatch.setattr("genmodels.scoring.load_weights", lambda metrics, options: None)
        monkeypatch.setattr(
            ExtractorSpec, "load", lambda self: NetworkExtractor("x", "", "", 2, "clean", (8, 8, 3), print, {}, "")
        )
    with pytest.raises(GenmodelsError, match=message) as error:
        scoring.of_paths(generated, reference, (metrics,), metric_options)
    assert "\n" not in str(error.value)


def test_the_command_leaves_no_json_behind_when_it_fails(tmp_path):
    from tests.helpers import command, finish

    np.savez("far.npz", mu=np.zeros(9), sigma=np.eye(9))
    flags = ["--generated=a.npz", "--reference=far.npz", "--metrics=fd_digits", "--out=r.json"]
    code, _, err = finish(
        command("evaluate", *(f.replace("=", f"={tmp_path}/", 1) if ".npz" in f or ".json" in f else f for f in flags))
    )
    assert code == 4
    assert err.count("\n") == 1
    assert err.startswith("error: metric fd_digits: --reference=")
    assert not (tmp_path / "r.json").exists()


def test_results_are_strict_json_with_protocols(tmp_path):
    from genmodels.reporting.files import write_results

    names = (
        "fd_digits",
        "kd_digits",
        "precision_digits",
        "recall_digits",
        "density_digits",
        "coverage_digits",
        "cs_digits",
    )
    results = scoring.of_paths("a.npz", "b.npz", names, {"subset_size": 50, "subsets": 5})
    write_results(tmp_path / "r.json", results)
    read = json.loads((tmp_path / "r.json").read_text(), parse_constant=pytest.fail)["results"]
    assert [row["name"] for row in read] == list(names)
    assert all(row["protocol"]["comparable_to_published"] is False for row in read)
    assert statistics.is_statistics("a.npz") is False


def named(name, images, files):
    """A folder of these images under these names."""
    for image, file in zip(images, files, strict=True):
        path = pathlib.Path(name) / file
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image[..., 0]).save(path)
    return name


PAIRED = DIGITS.images[:12]


def test_images_are_paired_in_the_natural_order_of_their_names(capsys):
    named("a", PAIRED, [f"img_{i}.png" for i in range(1, 13)])
    named("b", PAIRED, [f"img_{i:02d}.png" for i in range(1, 13)])
    (ssim, psnr) = values("a", "b", ("ssim", "psnr"))
    assert ssim == pytest.approx(1)
    assert psnr == np.inf
    assert "note" not in capsys.readouterr().out


def test_the_case_of_pairs(shared):
    folder = shared / "cases" / "pairs"
    if not folder.is_dir():
        pytest.skip(f"{folder} is not there")
    assert values(str(folder / "A"), str(folder / "B"), ("ssim",))[0] == pytest.approx(1)


@pytest.mark.parametrize(
    ("ours", "theirs", "words"),
    [
        ("abcd", "bcde", "image 0 is a.png of --generated and b.png of --reference, and b is image 1 of the one and 0"),
        (
            ["1", "2", "4", "5"],
            ["01", "03", "04", "02"],
            r"image 2 is 4\.png .* 03\.png .*, and 4 is image 2 of the one and 3",
        ),
        (
            ["cat/1", "cat/2", "dog/1", "dog/2"],
            ["cat/1", "dog/1", "dog/2", "dog/3"],
            "image 1 is cat/2.png .* dog/1.png",
        ),
    ],
)
def test_pairs_whose_names_show_another_order_are_refused(ours, theirs, words, monkeypatch):
    named("x", PAIRED[:4], [f"{name}.png" for name in ours])
    named("y", PAIRED[:4], [f"{name}.png" for name in theirs])
    monkeypatch.setattr(scoring, "evaluate", None)  # before anything is measured
    with pytest.raises(DataError, match=f"paired by their places, but {words}"):
        scoring.of_paths("x", "y", ("fd_digits", "psnr"))


def test_pairs_with_names_that_have_nothing_in_common_carry_a_warning(capsys):
    named("fake", PAIRED, [f"{i}_fake.png" for i in range(12)])
    named("real", PAIRED, [f"{i}_real.png" for i in range(12)])
    (result,) = scoring.of_paths("fake", "real", ("ssim",))
    words = "names differ: image 0 is 0_fake.png of --generated and 0_real.png of --reference"
    assert words in result.protocol["warning"]
    assert f"note: ssim: images are paired by their places, and their {words}" in capsys.readouterr().out
    np.savez("plain.npz", images=PAIRED)  # has no names
    assert "warning" not in scoring.of_paths("fake", "plain.npz", ("ssim",))[0].protocol
    assert np.isfinite(values("fake", "real", ("fd_digits",))[0])  # a metric of distributions needs no pairs


def test_a_model_of_the_digits_7_and_3_agrees_with_the_digits_7_and_3():
    """Its labels are 0 and 1; those of the extractor are the digits."""
    images = DIGITS.images[np.isin(DIGITS.labels, (3, 7))]
    labels = (DIGITS.labels[np.isin(DIGITS.labels, (3, 7))] == 3).astype(int)
    np.savez("two.npz", images=images, labels=labels, class_names=np.array(["7", "3"]))
    assert values("two.npz", "b.npz", ("agreement_digits",))[0] > 0.9
