"""Each evaluator is run on a context for which the right result is known."""

import dataclasses

import numpy as np
import pytest

from genmodels.data.sources import make_source
from genmodels.errors import ConfigError, DataError
from genmodels.evaluators import METRICS, Context, ImageSet, Statistics, evaluate, resolve
from genmodels.evaluators.base import Likelihood
from genmodels.evaluators.likelihood import resolve_likelihoods
from genmodels.metrics.moments import Gaussian
from genmodels.tasks import Predict


def image_set(images, labels=None):
    return ImageSet(images, labels, {})


def value(name, **context):
    (result,) = evaluate(resolve([name]), Context(**context))
    return result.value


def test_nn_distance_ratio_is_0_for_copies_and_1_for_held_out_images():
    train, test = make_source("digits").images, make_source("digits", "test").images
    known = {"reference": image_set(test), "training": image_set(train)}
    assert value("nn_distance_ratio", generated=image_set(train[:50]), **known) == 0
    assert value("nn_distance_ratio", generated=image_set(test), **known) == 1
    halves = np.concatenate([test, train[:297]])
    np.testing.assert_allclose(value("nn_distance_ratio", generated=image_set(halves), **known), 0.5)


def test_agreement_is_the_share_of_samples_that_show_the_requested_label():
    test = make_source("digits", "test")
    right = value("agreement_digits", generated=image_set(test.images, test.labels))
    wrong = value("agreement_digits", generated=image_set(test.images, (test.labels + 1) % 10))
    np.testing.assert_allclose(right, 295 / 297)  # the classifier's accuracy
    assert wrong <= 1 - right


def test_fd_digits_is_0_for_the_same_images_and_grows_with_noise():
    images = make_source("digits", "test").images
    rng = np.random.RandomState(0)
    noisy = [np.clip(images + rng.normal(0, s, images.shape), 0, 255).astype(np.uint8) for s in (0, 20, 80)]
    values = [value("fd_digits", generated=image_set(x), reference=image_set(images)) for x in noisy]
    assert abs(values[0]) < 1e-8 < values[1] < values[2]


def test_accuracy_is_the_share_of_largest_logits_at_the_label():
    labels = np.arange(20) % 10
    guesses = np.where(np.arange(20) < 15, labels, (labels + 3) % 10)
    images = np.zeros((20, 8, 8, 1), np.uint8)

    def predict(name, num, inputs, seed):
        assert (name, num) == ("classify", 20)
        np.testing.assert_array_equal(inputs["image"], images)
        return {"logits": np.eye(10)[guesses]}

    assert value("accuracy", reference=image_set(images, labels), predict=predict) == 0.75
    named = ImageSet(images, labels, {}, class_names=tuple("abcdefghij"))
    ((table,),) = [[r.table for r in evaluate(resolve(["accuracy"]), Context(reference=named, predict=predict))]]
    assert table["names"] == list("abcdefghij")
    counts = np.array(table["counts"])
    np.testing.assert_array_equal(counts.sum(1), 2)  # rows are the true classes
    np.testing.assert_array_equal(counts.diagonal(), [2] * 5 + [1] * 5)
    assert [counts[5, 8], counts[8, 5], counts[9, 2], counts[2, 9]] == [1, 0, 1, 0]


@pytest.mark.parametrize(
    ("name", "missing", "words"),
    [
        ("fd_digits", "generated", "needs generated images, which are not given"),
        ("psnr", "reference", "needs reference images, which are not given"),
        ("nn_distance_ratio", "training", "needs training images, which are not given"),
        ("accuracy", "predict", "needs a run with its function 'classify'"),
        ("accuracy", "labels", "needs labels, but DIR has none"),
    ],
)
def test_a_metric_says_what_it_needs_of_the_context(name, missing, words):
    images, labels = np.zeros((4, 8, 8, 1), np.uint8), np.arange(4)
    one = ImageSet(images, None if missing == "labels" else labels, {"reference": "DIR"})
    complete = {"generated": one, "reference": one, "training": one, "predict": lambda *args, **options: {}}
    with pytest.raises(ConfigError, match=words):
        value(name, **{role: part for role, part in complete.items() if role != missing})


def test_a_metric_of_single_images_refuses_a_file_of_their_statistics():
    images = image_set(np.zeros((4, 8, 8, 1), np.uint8))
    gaussian = Gaussian.given(np.zeros(64), np.eye(64))
    with pytest.raises(ConfigError, match="needs the reference images themselves"):
        value("psnr", generated=images, reference=Statistics(gaussian, None, {}))


@pytest.mark.parametrize("conditional", [True, False])
def test_reconstructions_are_scored_against_their_originals_at_each_timestep(conditional):
    images, labels = np.full((4, 16, 16, 1), 100, np.uint8), np.arange(4)

    def predict(name, num, inputs, seed, timestep):
        assert (name, num) == ("denoise", 4)
        assert ("label" in inputs) == conditional
        return {"image": inputs["image"] + np.uint8(timestep)}

    context = Context(
        reference=image_set(images, labels), predict=predict, conditional=conditional, timesteps=(51, 102)
    )
    results = list(METRICS["psnr"].evaluate(context))
    assert [result.protocol["timestep"] for result in results] == [51, 102]
    np.testing.assert_allclose([r.value for r in results], [-20 * np.log10(0.2), -20 * np.log10(0.4)], atol=1e-4)
    assert len(list(METRICS["ssim"].evaluate(context))) == 2


def test_an_autoencoders_reconstructions_are_scored_once_with_its_options():
    images = np.full((4, 16, 16, 1), 100, np.uint8)

    def predict(name, num, inputs, seed, noise):
        assert (name, num, set(inputs), noise) == ("reconstruct", 4, {"image"}, 0.5)
        return {"image": inputs["image"] + np.uint8(51)}

    function = Predict(predict, ("key", "image"), "image", options={"noise": 0.5}, protocol={"denoising": True})
    context = Context(reference=image_set(images), predict=predict, functions={"reconstruct": function}, timesteps=(1,))
    (result,) = METRICS["psnr"].evaluate(context)
    np.testing.assert_allclose(result.value, -20 * np.log10(0.2), atol=1e-4)
    assert result.protocol["noise"] == 0.5
    assert result.protocol["denoising"]
    assert result.protocol["reconstruction"] == "latent"


def likelihood_context(values, **more):
    """A model whose likelihood of image i is values[i]."""
    images = np.zeros((len(values), 2, 2, 1), np.uint8)
    images[:, 0, 0, 0] = np.arange(len(values))

    def predict(name, num, inputs, *, seed):
        assert set(inputs) == {"image"}
        nll = np.asarray(values, np.float32)[inputs["image"][:, 0, 0, 0]]
        time = np.tile(np.arange(400.0), (num, 1))
        return {"nll": nll, "prior": np.full(num, 0.25), "curve_x": time, "curve_y": 1 / (1 + time)}

    return Context(
        reference=image_set(images),
        predict=predict,
        likelihoods=(Likelihood("vlb", {"likelihood": "vlb", "unit": "bits/dim"}, **more),),
    )


def test_nll_is_the_mean_over_images_with_its_standard_error_and_a_curve():
    values = [3.0, 4.0, 5.0, 8.0]
    (result,) = METRICS["nll"].evaluate(likelihood_context(values))
    assert (result.name, result.value) == ("nll", 5.0)
    np.testing.assert_allclose(result.protocol["standard_error"], np.std(values, ddof=1) / 2)
    assert result.protocol["likelihood"] == "vlb"
    assert result.protocol["mean_prior"] == 0.25
    x, y = np.array(result.curve["x"]), np.array(result.curve["y"])
    assert len(x) == len(y) <= 200
    np.testing.assert_allclose([x[:20], y[:20]], [np.arange(20), 1 / (1 + np.arange(20))])  # single terms
    assert (np.diff(x) >= 1).all()
    assert 390 < x[-1] < 399  # the mean of the last part
    np.testing.assert_allclose(y, 1 / (1 + x), rtol=1e-2)
    (part,) = METRICS["nll"].evaluate(likelihood_context(values, images=2))
    assert (part.value, part.protocol["n_reference"]) == (3.5, 2)


FUNCTIONS = {
    "elbo": Predict(dict, ("image",), "nll", options={"samples": 1}, protocol={"likelihood": "elbo"}),
    "iwae": Predict(dict, ("image",), "nll", options={"samples": 500}, protocol={"likelihood": "iwae"}),
    "encode": Predict(dict, ("image",), "latent"),
}


def test_likelihoods_are_chosen_by_name_or_as_calls():
    few, check = resolve_likelihoods(FUNCTIONS, ("elbo", "iwae(samples=5000, images=100)"), images=7)
    assert (few.name, few.options, few.images, few.protocol) == ("elbo", {}, 7, {"likelihood": "elbo", "samples": 1})
    assert (check.name, check.options, check.images) == ("iwae", {"samples": 5000}, 100)
    assert check.protocol == {"likelihood": "iwae", "samples": 5000}
    assert [one.name for one in resolve_likelihoods(FUNCTIONS, ())] == ["elbo", "iwae"]


@pytest.mark.parametrize(
    ("wanted", "words"),
    [
        ("iwea", "did you mean 'iwae'"),
        ("encode", "unknown likelihood of this model 'encode'"),
        ("iwae(sample=5)", "did you mean 'samples'"),
        ("iwae(samples=0.5)", r"samples=0\.5 must be int"),
        ("iwae(images=0)", "images=0 must be int and at least 1"),
        ("iwae(samples=0)", "samples=0 must be int and at least 1"),
        ("", "a name is missing beside a comma"),
        ("iwae('a')", "options have names"),
        ("iwae(samples=", "likelihoods='iwae.samples=': .*write a call as in Python"),
    ],
)
def test_unknown_likelihoods_and_options_are_refused(wanted, words):
    with pytest.raises(ConfigError, match=words) as caught:
        resolve_likelihoods(FUNCTIONS, (wanted,))
    assert "\n" not in str(caught.value)


def test_options_of_a_likelihood_reach_the_model():
    context = likelihood_context([3.0, 4.0], options={"samples": 9})

    def asked(*args, samples, **options):
        assert samples == 9
        return context.predict(*args, **options)

    (result,) = METRICS["nll"].evaluate(dataclasses.replace(context, predict=asked))
    assert result.value == 3.5


def test_a_likelihood_that_is_not_a_number_is_refused():
    with pytest.raises(DataError, match="image 1 is not a number"):
        list(METRICS["nll"].evaluate(likelihood_context([3.0, np.nan])))
