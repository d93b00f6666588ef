"""Sources made of sources, and the strings that name them."""

import numpy as np
import pytest

from genmodels.data import pipeline
from genmodels.data.base import Settings
from genmodels.data.sources import make_source
from genmodels.data.spec import Call, parse
from genmodels.errors import ConfigError, DataError
from tests.data.files import noise, write_folder


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("GENMODELS_CACHE", str(tmp_path / "cache"))


def npz(path, count, shape=(4, 4, 1), seed=0, **arrays):
    np.savez(path, images=noise(count, *shape, seed=seed), **arrays)
    return f"npz:{path}"


def test_both_ways_to_write_a_source():
    assert parse("folder:a(b),c") == Call("folder", ("a(b),c",), {}, "folder:a(b),c")
    assert parse("digits").args == ()
    nested = parse('pair("npz:a", subset(folder("b c", size=8), classes=(1, 2)))')
    assert (nested.name, nested.args[0]) == ("pair", "npz:a")
    assert nested.args[1].options == {"classes": (1, 2)}
    assert nested.args[1].args[0] == Call("folder", ("b c",), {"size": 8}, "folder('b c', size=8)")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "SCHEME:PATH"),
        ("pair('digits', ", "never closed"),
        ("pair(digits, digits)", "digits must be in quotes"),
        ("pair('digits')", "missing a required .*argument: 'b'"),
        ("pear('digits', 'digits')", "did you mean 'pair'"),
        ("subset('digits', clases=(1,))", "did you mean 'classes'"),
        ("subset('digits', classes=(11,))", "no class 11; there are 0 to 9"),
        ("subset('digits', count=5000)", "there are 1500 train images to choose from"),
        ("subset('digits', count='5')", "count='5' must be int"),
        ("subset('digits')", r"classes=\(\.\.\.\) or count=N"),
        ("subset('digits', classes=(3, 3))", "names a class twice"),
        ("subset('digits', classes=cat)", "words must be in quotes"),
        ("split('digits', test=1.5)", r"within \(0, 1\)"),
        ("split('digits')", "missing a required .*argument: 'test'"),
        ("concat('digits')", "two sources or more"),
        ("concat(pair('digits', 'digits'), 'digits')", "a pair cannot be a part of concat"),
        ("digits('x', 'y')", "takes one path"),
        ("folder('x', sise=3)", "did you mean 'size'"),
        ("folder('x', size='3')", "config.data.size='3': must be int"),
        ("__import__('os')", "unknown data source '__import__'"),
        ("folder(open('x'))", "takes one path"),
    ],
)
def test_what_is_not_understood_is_said(text, words):
    with pytest.raises(ConfigError, match=words) as caught:
        make_source(text)
    assert "\n" not in str(caught.value)


def test_a_subset_by_class_has_the_labels_in_the_order_given():
    digits = make_source("digits")
    source = make_source("subset('digits', classes=(7, 3))")
    assert source.num_classes == 2
    wanted = np.isin(digits.labels, [3, 7])
    np.testing.assert_array_equal(source.images, digits.images[wanted])
    np.testing.assert_array_equal(np.array([7, 3])[source.labels], digits.labels[wanted])
    assert (
        len(make_source("subset('digits', classes=(7, 3))", "test"))
        == np.isin(make_source("digits", "test").labels, [3, 7]).sum()
    )


def test_a_subset_by_count_is_a_fixed_choice_without_repeats():
    one, other = make_source("subset('digits', count=100)"), make_source("subset('digits', count=100)")
    assert one.fingerprint == other.fingerprint
    assert len(np.unique(one.table.digests, axis=0)) == len(one) == 100
    assert len(np.unique(one.labels)) == 10
    both = make_source("subset('digits', classes=4, count=7)")
    assert (len(both), both.num_classes) == (7, 1)


def test_named_classes_are_chosen_and_merged_by_name(tmp_path):
    write_folder(tmp_path / "a", [f"{name}/{i}.png" for name in ("cat", "dog") for i in range(2)])
    write_folder(tmp_path / "b", [f"{name}/{i}.png" for name in ("ant", "dog") for i in range(3)])
    a, b = f"folder:{tmp_path}/a", f"folder:{tmp_path}/b"
    joined = make_source(f"concat('{a}', '{b}')")
    assert joined.class_names == ("cat", "dog", "ant")
    np.testing.assert_array_equal(joined.labels, [0, 0, 1, 1, 2, 2, 2, 1, 1, 1])
    np.testing.assert_array_equal(joined.images, np.concatenate([make_source(a).images, make_source(b).images]))
    dogs = make_source(f"subset(concat('{a}', '{b}'), classes='dog')")
    assert (len(dogs), dogs.class_names) == (5, ("dog",))
    assert make_source(f"subset('{a}', classes=('dog',))").files == ("dog/0.png", "dog/1.png")
    with pytest.raises(ConfigError, match="no class 'cow'; there are cat, dog"):
        make_source(f"subset('{a}', classes=('cow',))")


def test_a_concatenation_does_not_guess(tmp_path):
    plain = npz(tmp_path / "plain.npz", 5, (8, 8, 1))
    with pytest.raises(DataError, match=r"has labels, npz:.*plain\.npz has none; concat\(\.\.\., labels=False\)"):
        make_source(f"concat('digits', '{plain}')")
    dropped = make_source(f"concat('digits', '{plain}', labels=False)")
    assert (len(dropped), dropped.labels, dropped.num_classes) == (1505, None, 0)
    rows = np.array([1504, 0, 1500, 1499])
    np.testing.assert_array_equal(dropped.take(rows)["image"], dropped.images[rows])
    small = npz(tmp_path / "small.npz", 5)
    for combination in ("concat", "pair"):
        with pytest.raises(DataError, match=r"8x8x1.*4x4x1: bring them to one shape with config\.data\.size"):
            make_source(f"{combination}('digits', '{small}')")


def test_parts_may_have_rules_of_their_own(tmp_path):
    write_folder(tmp_path / "a", ["a.png"], (12, 12, 3))
    joined = make_source(f"concat(folder('{tmp_path}/a', size=8, convert='grey'), 'digits', labels=False)")
    assert joined.image_shape == (8, 8, 1)
    everywhere = make_source("digits", "train", Settings(size=4, convert="rgb"))
    assert everywhere.image_shape == (4, 4, 3)
    assert everywhere.notes == ("found 8x8x1; to 4x4, lanczos; convert=rgb",)


def test_a_split_by_hash_divides_without_loss_and_is_stable():
    whole = make_source("digits")
    train, test = (make_source("split('digits', test=0.2)", split) for split in ("train", "test"))
    assert (train.split, test.split) == ("train", "test")
    both = np.concatenate([train.table.digests, test.table.digests])
    np.testing.assert_array_equal(np.sort(both.view("V16").ravel()), np.sort(whole.table.digests.view("V16").ravel()))
    assert not set(map(bytes, train.table.digests)) & set(map(bytes, test.table.digests))
    assert abs(len(test) - 300) < 4 * np.sqrt(1500 * 0.2 * 0.8)  # four standard deviations
    fewer = make_source("split(subset('digits', classes=(0, 1, 2)), test=0.2)", "test")
    assert set(map(bytes, fewer.table.digests)) <= set(map(bytes, test.table.digests))
    other = make_source("split('digits', test=0.2, seed=1)", "test")
    assert other.fingerprint != test.fingerprint


def test_a_split_holds_out_the_same_images_at_every_size(tmp_path):
    write_folder(tmp_path / "a", [f"{i}.png" for i in range(60)], (12, 12, 3))
    spec = f"split('folder:{tmp_path}/a', test=0.3)"
    rules = Settings(), Settings(size=6), Settings(convert="grey", memory_gb=0.0)
    assert len({make_source(spec, "test", rule).files for rule in rules}) == 1
    whole, small = (make_source("split('digits', test=0.2)", "test", rule) for rule in (Settings(), Settings(size=4)))
    np.testing.assert_array_equal(whole.labels, small.labels)


def test_copies_are_on_the_same_side_of_a_split(tmp_path):
    images = noise(50, 4, 4, 1)
    np.savez(tmp_path / "a.npz", images=np.concatenate([images, images]))
    train, test = (make_source(f"split('npz:{tmp_path}/a.npz', test=0.5)", split) for split in ("train", "test"))
    for side in (train, test):
        assert (np.unique(side.table.digests, axis=0, return_counts=True)[1] == 2).all()


def test_a_pair_is_shuffled_independently_and_each_side_by_its_own_length(tmp_path):
    a, b = npz(tmp_path / "a.npz", 6), npz(tmp_path / "b.npz", 4, seed=1)
    pair = make_source(f"pair('{a}', '{b}')")
    assert (len(pair), pair.image_shape, pair.fields) == (6, (4, 4, 1), ("a", "b"))
    drawn = [pipeline.make_batch(pair, 0, step, 2) for step in range(12)]
    for field, part in (("a", pair.a), ("b", pair.b)):
        row = np.concatenate([batch[field] for batch in drawn])
        for epoch in range(len(row) // len(part)):
            seen = row[epoch * len(part) : (epoch + 1) * len(part)].reshape(len(part), -1)
            np.testing.assert_array_equal(
                np.unique(seen, axis=0), np.unique(part.images.reshape(len(part), -1), axis=0)
            )
    same = make_source("pair('digits', 'digits')")
    batch = pipeline.make_batch(same, 0, 0, 100)
    assert (batch["a"] != batch["b"]).any(axis=(1, 2, 3)).mean() > 0.9


def test_fingerprints_are_of_contents_wherever_they_lie(tmp_path):
    digits_source = make_source("digits")
    np.savez(tmp_path / "a.npz", images=digits_source.images, labels=digits_source.labels)
    assert make_source(f"npz:{tmp_path}/a.npz").fingerprint == digits_source.fingerprint
    assert (
        make_source("concat(subset('digits', classes=(0,)), subset('digits', classes=(1,)))").fingerprint
        != digits_source.fingerprint
    )
    changed = digits_source.images.copy()
    changed[1000, 3, 3, 0] ^= 1
    np.savez(tmp_path / "b.npz", images=changed, labels=digits_source.labels)
    np.savez(tmp_path / "c.npz", images=digits_source.images, labels=np.roll(digits_source.labels, 1))
    np.savez(
        tmp_path / "d.npz", images=np.roll(digits_source.images, 1, axis=0), labels=np.roll(digits_source.labels, 1)
    )
    found = {make_source(f"npz:{tmp_path}/{name}.npz").fingerprint for name in "abcd"}
    assert len(found) == 4
