"""Whatever reads images reads them alike from an array and from a stack that decodes, chooses or joins on demand."""

import numpy as np
import pytest

from genmodels import loop, scoring
from genmodels.core.grids import to_pil
from genmodels.data import pipeline, preflight, table
from genmodels.data.pixels import Chosen, Decoded, Joined, Mixed, Stack, gather, held
from genmodels.data.sources import from_config, make_source, read_images
from genmodels.errors import DataError
from genmodels.evaluators import Context, ImageSet, evaluate, resolve
from genmodels.evaluators.base import Likelihood
from genmodels.metrics.nearest import nearest_neighbours
from genmodels.reporting import files, pictures
from genmodels.runs import apply
from genmodels.runs.inference import Run
from genmodels.tasks import Predict
from tests.helpers import experiment

CLASSES, EACH = 3, 16


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    """A folder of three classes of 8x8 digits, and one of the same digits in two sizes."""
    folder, digits = tmp_path_factory.mktemp("photos"), make_source("digits")
    for label in range(CLASSES):
        chosen = digits.images[digits.labels == label][:EACH]
        files.write_images(folder / "one_size" / f"c{label}", chosen, None, "")
        (folder / "mixed").mkdir(exist_ok=True)
        for row, image in enumerate(chosen):
            side = 8 if row % 2 else 16
            to_pil(image).resize((side, side)).save(folder / "mixed" / f"{label}_{row:02}.png")
    return folder


# What a source is made of, {} being the folder; each is opened with its pixels in memory and decoded on demand.
SPECS = {
    "folder": "folder:{}",
    "split": "split('folder:{}', test=0.4)",
    "subset": "subset('folder:{}', classes=('c2', 'c0'))",
    "concat": "concat('folder:{}', 'folder:{}')",
    "all of them": "concat(subset(split('folder:{}', test=0.4), classes=('c0', 'c2')), split('folder:{}', test=0.3))",
}


@pytest.fixture(params=[(name, memory) for name in SPECS for memory in (0.0, 2.0)], ids=str)
def source(request, photos):
    name, memory = request.param
    spec = SPECS[name].replace("{}", str(photos / "one_size"))
    return from_config({"source": spec, "memory_gb": memory})


@pytest.fixture(params=["folder", "split", "concat"])
def mixed(request, photos):
    """Images of two sizes: a folder, and what is chosen and joined from it."""
    name = "{}" if request.param == "folder" else SPECS[request.param]
    return read_images("--generated", name.replace("{}", str(photos / "mixed")), mixed=True)


def assert_rows_are(pixels, images):
    """`pixels` gives the rows that numpy gives of `images`, for every kind of index."""
    count = len(images)
    assert isinstance(pixels, Stack)
    assert (len(pixels), pixels.shape[0]) == (count, count)
    order = np.random.RandomState(0).permutation(count)
    for indices in (order, order[:5], np.array([0, 0, count - 1]), np.array([-1, 2, -count]), np.array([], int)):
        assert [image.tobytes() for image in pixels[indices]] == [images[i].tobytes() for i in indices]
    for part in (slice(None), slice(3, 7), slice(-4, None), slice(None, None, -2), slice(5, 5), slice(2, 10**6)):
        assert [image.tobytes() for image in pixels[part]] == [image.tobytes() for image in images[part]]
    for wrong in (np.array([count]), np.array([0, -count - 1])):
        with pytest.raises(IndexError):
            pixels[wrong]


def test_a_stack_gives_the_rows_that_an_array_gives(source):
    pixels, images = source.images_of("image"), source.images
    assert pixels.shape == (len(images), 8, 8, 1)
    assert_rows_are(pixels, images)
    if isinstance(pixels, Decoded | Chosen | Joined):
        with pytest.raises(Exception, match=r"mask|Type-check error"):  # the tests check annotations first
            pixels[np.ones(len(images), bool)]
    empty = pixels[np.array([], int)]
    assert (empty.shape, empty.dtype) == ((0, 8, 8, 1), np.uint8)


def test_images_of_many_sizes_are_chosen_and_joined_like_others(mixed):
    images = [image for _, image in sorted(enumerate(mixed.pixels[:]))]
    assert isinstance(mixed.pixels, Mixed | Chosen | Joined)
    assert {image.shape for image in images} == {(8, 8, 1), (16, 16, 1)}
    assert mixed.pixels.shape == (len(images),)
    assert_rows_are(mixed.pixels, images)
    with pytest.raises(DataError, match="many sizes"):
        mixed.images_of("image")


def test_what_describes_and_trains_on_a_set_reads_it(source, tmp_path):
    images = source.images
    in_memory = make_source(f"npz:{written(tmp_path, images, source.labels)}")
    assert source.fingerprint == in_memory.fingerprint
    np.testing.assert_array_equal(table.tabulate(source.images_of("image")).digests, in_memory.table.digests)
    for one, other in zip(pipeline.batches(source, 0, 7, 0, 9), pipeline.batches(in_memory, 0, 7, 0, 9), strict=True):
        assert one.keys() == {"image", "label"}
        assert all(np.array_equal(one[field], other[field]) for field in one)
    (shown, *_), (expected, *_) = preflight.sheet(source), preflight.sheet(in_memory)
    np.testing.assert_array_equal(shown, expected)
    assert preflight.describe(source)
    assert held(source.images_of("image")) == source.in_memory


def written(folder, images, labels):
    np.savez(folder / "same.npz", images=images, labels=labels)
    return folder / "same.npz"


def predict(name, num, inputs, *, seed, **options):
    """A model that darkens an image, classifies it by its mean, and has a likelihood that depends on its pixels."""
    images = inputs["image"][0:num]
    means = images.reshape(num, -1).mean(1)
    return {
        "image": images // 2,
        "logits": -np.abs(means[:, None] - np.array([60, 80, 100])),
        "nll": means.astype(np.float32),
    }


def test_every_metric_is_the_same_number(source):
    functions = {"reconstruct": Predict(predict, ("image",), "image")}
    held_out = {"likelihoods": (Likelihood("nll", {"likelihood": "nll"}),), "functions": functions, "predict": predict}
    digits = make_source("digits", "test")
    names = ("fd_digits", "kd_digits", "recall_digits", "cs_digits", "class_share_min_digits", "nn_distance_ratio")
    names += ("psnr", "ssim", "nll", "accuracy")

    def values(images):
        one = ImageSet(images, source.labels, {}, class_names=source.class_names)
        sets = {"reference": one, "training": one, "generated": ImageSet(digits.images, digits.labels, {})}
        options = scoring.Options(subset_size=10, subsets=5)
        return [r.value for r in evaluate(resolve(names), Context(**sets, **held_out, options=options))] + [
            r.value for r in evaluate(resolve(names[:5]), Context(generated=one, reference=one, options=options))
        ]

    # The ratio of distances to one's own images is not defined, for an array as for a stack.
    with np.errstate(divide="ignore"):
        np.testing.assert_array_equal(values(source.images_of("image")), values(source.images))
    distances, _ = nearest_neighbours(digits.images[:9], source.images_of("image"))
    np.testing.assert_array_equal(distances, nearest_neighbours(digits.images[:9], source.images)[0])


def test_two_paths_are_compared_and_their_statistics_written(source, tmp_path):
    spec = source.name if "(" in source.name else f'folder("{source.name.removeprefix("folder:")}")'
    same = written(tmp_path, source.images, source.labels)
    for pair in ((spec, str(same)), (str(same), spec)):
        values = {r.name: r.value for r in scoring.of_paths(*pair, ("fd_digits", "psnr", "ssim"))}
        assert values["fd_digits"] < 1e-6
        np.testing.assert_allclose([values["psnr"], values["ssim"]], [np.inf, 1])
    found, expected = (scoring.statistics_of(str(one), "digits", "none", "") for one in (spec, same))
    np.testing.assert_array_equal(found["mu"], expected["mu"])


def test_distances_of_images_of_many_sizes_are_measured_by_a_resize(mixed, photos):
    name = mixed.name if "(" in mixed.name else str(photos / "mixed")
    (result,) = scoring.of_paths(name, name, ("fd_digits",), {"resize": "clean"})
    assert result.value < 1e-6
    assert result.protocol["n_generated"] == len(mixed)


def test_pictures_are_drawn_of_it(source):
    function = Predict(predict, ("image",), "image", shows={"image": "darker"})
    sheet = pictures.draw("darken", function, lambda num, inputs: predict("darken", num, inputs, seed=0), source)
    np.testing.assert_array_equal(sheet.images[: sheet.columns], source.images[: sheet.columns])
    np.testing.assert_array_equal(sheet.made, source.images[: sheet.columns] // 2)


@pytest.mark.parametrize("spec", ["split", "subset", "concat", "all of them"])
@pytest.mark.parametrize("name", ["vae_mnist_mlp", "classifier_digits"])
def test_runs_are_trained_evaluated_and_applied(name, spec, photos, tmp_path):
    whole = SPECS[spec].replace("{}", str(photos / "one_size"))
    values = {"data.source": f'split("{whole}", test=0.3, seed=1)', "data.memory_gb": 0.0, "data.workers": 0}
    run = tmp_path / "run"
    assert loop.train(experiment(name, **values, **{"train.steps": 2, "train.batch_size": 8}), run) == 0
    results = scoring.of_run(str(run), None, 20, "latest")
    assert {result.name for result in results} == set(Run.load(run).config.eval.metrics)
    assert all(np.isfinite(result.value) for result in results)
    loaded = Run.load(run)
    reference = from_config(loaded.config.data, "test")
    call = "reconstruct" if name.startswith("vae") else "classify"
    assert apply.gather(loaded, call, [reference.name], None, 5)[1] == 5
    lazy = loaded.predict(call, len(reference), {"image": reference.images_of("image")})
    in_memory = loaded.predict(call, len(reference), {"image": gather(reference.images_of("image"))})
    np.testing.assert_array_equal(*(next(iter(made.values())) for made in (lazy, in_memory)))
