import gzip

import jax
import numpy as np
import pytest
from sklearn.datasets import load_digits

from genmodels.data import pipeline, transforms
from genmodels.data.base import Source
from genmodels.data.sources import make_source
from genmodels.errors import ConfigError, DataError


def numbered(size):
    images = np.arange(size, dtype=np.uint8).reshape(size, 1, 1, 1)
    return Source("test", "train", images, np.arange(size, dtype=np.int32), size)


def test_digits_are_scikit_learns_with_the_fixed_split():
    digits = load_digits()
    order = np.random.RandomState(0).permutation(1797)
    train, test = make_source("digits"), make_source("digits", "test")
    assert (len(train), len(test), train.image_shape, train.num_classes) == (1500, 297, (8, 8, 1), 10)
    np.testing.assert_array_equal(train.labels, digits.target[order[:1500]])
    np.testing.assert_array_equal(np.round(test.images[..., 0] / 255 * 16), digits.images[order[1500:]])
    assert train.images.max() == 255
    assert train.fingerprint != test.fingerprint == make_source("digits", "test").fingerprint


@pytest.mark.parametrize(("size", "batch"), [(10, 4), (10, 10), (3, 7), (5, 1)])
def test_every_epoch_is_a_permutation_and_processes_see_the_same_global_batch(size, batch):
    steps = -(-size * 6 // batch)
    indices = lambda *args: pipeline.examples_at(3, pipeline.batch_places(*args), size)  # noqa: E731
    whole = [indices(t, batch) for t in range(steps)]
    row = np.concatenate(whole)
    epochs = row[: len(row) // size * size].reshape(-1, size)
    assert (np.sort(epochs, axis=1) == np.arange(size)).all()
    if size > 3:
        assert len(np.unique(epochs, axis=0)) > 1
    for count in (c for c in (2, 4) if batch % c == 0):
        for t in range(steps):
            parts = [indices(t, batch, i, count) for i in range(count)]
            np.testing.assert_array_equal(np.concatenate(parts), whole[t])


def test_batches_are_those_of_their_steps_wherever_one_starts():
    source = numbered(50)
    run = list(pipeline.batches(source, 1, 8, 0, 9))
    late = list(pipeline.batches(source, 1, 8, 5, 9))
    assert len(run) == 9
    for step, (a, b) in enumerate(zip(run[5:], late, strict=True), start=5):
        np.testing.assert_array_equal(a["label"], b["label"])
        np.testing.assert_array_equal(a["image"], pipeline.make_batch(source, 1, step, 8)["image"])
    assert (run[0]["label"] != pipeline.make_batch(source, 2, 0, 8)["label"]).any()


def test_normalisation_round_trips_every_grey_level():
    grey = np.arange(256, dtype=np.uint8).reshape(1, 16, 16, 1)
    batch = transforms.normalize({"image": jax.numpy.asarray(grey), "label": jax.numpy.arange(1)})
    assert float(batch["image"].min()) == -1
    assert float(batch["image"].max()) == 1
    np.testing.assert_array_equal(transforms.denormalize(batch["image"]), grey)
    np.testing.assert_array_equal(batch["label"], [0])
    outside = jax.numpy.array([-3.0, -1.01, 0.0, 1.01, 3.0])
    np.testing.assert_array_equal(transforms.denormalize(outside), [0, 0, 128, 255, 255])


def test_npz_in_both_layouts(tmp_path):
    images = np.arange(48, dtype=np.uint8).reshape(3, 4, 4)
    np.savez(tmp_path / "ours.npz", images=images[..., None])
    np.savez(tmp_path / "keras.npz", x_train=images, y_train=np.array([[0], [1], [2]]), x_test=images[:1], y_test=[1])
    ours, keras = make_source(f"npz:{tmp_path}/ours.npz"), make_source(f"npz:{tmp_path}/keras.npz")
    assert (ours.num_classes, keras.num_classes) == (0, 3)
    np.testing.assert_array_equal(ours.images, keras.images)
    assert len(make_source(f"npz:{tmp_path}/keras.npz", "test")) == 1
    with pytest.raises(DataError, match=r"no test images.*--split=train"):
        make_source(f"npz:{tmp_path}/ours.npz", "test")


def write_idx(path, array):
    head = bytes([0, 0, 8, array.ndim]) + b"".join(int(n).to_bytes(4, "big") for n in array.shape)
    path.write_bytes(gzip.compress(head + array.tobytes()) if path.suffix == ".gz" else head + array.tobytes())


def test_idx_plain_and_gzipped_and_truncated(tmp_path):
    images = np.arange(48, dtype=np.uint8).reshape(3, 4, 4)
    write_idx(tmp_path / "train-images-idx3-ubyte.gz", images)
    write_idx(tmp_path / "train-labels-idx1-ubyte", np.array([4, 0, 1], np.uint8))
    source = make_source(f"idx:{tmp_path}")
    np.testing.assert_array_equal(source.images[..., 0], images)
    assert source.num_classes == 5
    with pytest.raises(DataError, match="t10k-images-idx3-ubyte"):
        make_source(f"idx:{tmp_path}", "test")
    (tmp_path / "train-labels-idx1-ubyte").write_bytes(bytes([0, 0, 8, 1, 0, 0, 0, 9, 1, 2]))
    with pytest.raises(DataError, match="truncated"):
        make_source(f"idx:{tmp_path}")
    path = tmp_path / "train-images-idx3-ubyte.gz"
    whole = path.read_bytes()
    for damaged in (whole[: len(whole) // 2], whole[:20] + b"\xff" * 20 + whole[40:]):
        path.write_bytes(damaged)
        with pytest.raises(DataError, match=r"train-images-idx3-ubyte\.gz: cannot be read"):
            make_source(f"idx:{tmp_path}")


def test_the_genuine_mnist(shared):
    test = make_source(f"idx:{shared}/data/mnist", "test")
    assert (len(test), test.image_shape, test.num_classes) == (10_000, (28, 28, 1), 10)
    assert np.bincount(test.labels).tolist() == [980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009]


@pytest.mark.parametrize(
    ("spec", "error", "words"),
    [
        ("digit", ConfigError, "did you mean 'digits'"),
        ("digits:5", ConfigError, "takes no path"),
        ("npz:absent.npz", DataError, "no such file"),
        ("idx:absent", DataError, "idx:absent: no such folder"),
        ("idx:", ConfigError, "idx: names no folder"),
    ],
)
def test_wrong_sources_say_what_is_wrong(spec, error, words):
    with pytest.raises(error, match=words):
        make_source(spec)


def test_arrays_that_are_not_images_are_refused(tmp_path):
    for name, arrays, words in [
        ("float", {"images": np.zeros((2, 4, 4, 1))}, "uint8"),
        ("labels", {"images": np.zeros((2, 4, 4, 1), np.uint8), "labels": np.arange(3)}, "labels"),
        ("other", {"pictures": np.zeros(3)}, "it holds pictures"),
    ]:
        np.savez(tmp_path / f"{name}.npz", **arrays)
        with pytest.raises(DataError, match=words):
            make_source(f"npz:{tmp_path}/{name}.npz")
    np.savez_compressed(tmp_path / "good.npz", images=np.random.RandomState(0).randint(0, 255, (99, 9, 9, 1), np.uint8))
    good = (tmp_path / "good.npz").read_bytes()
    middle = len(good) // 2
    for damaged in (b"hello", good[:middle], good[:middle] + b"\xff" * 99 + good[middle + 99 :]):
        (tmp_path / "bad.npz").write_bytes(damaged)
        with pytest.raises(DataError, match="not a readable"):
            make_source(f"npz:{tmp_path}/bad.npz")
