"""The naming law, how the extractor follows from a metric's name and the flags, and the protocol of every number."""

import dataclasses

import jax.numpy as jnp
import numpy as np
import pytest

from genmodels import extractors
from genmodels.data.sources import make_source
from genmodels.errors import ConfigError, DataError
from genmodels.evaluators import (
    Context,
    ExtractorDefaults,
    ImageSet,
    Options,
    Statistics,
    distribution,
    evaluate,
    goal,
    metric_names,
    resolve,
)
from genmodels.evaluators.goals import DOWN, UP
from genmodels.extractors import ExtractorSpec, NetworkExtractor, inception
from genmodels.metrics import frechet
from genmodels.metrics.moments import Moments

COUNT = 60


def images(seed, count=COUNT):
    return np.random.default_rng(seed).integers(0, 256, (count, 8, 8, 1), dtype=np.uint8)


def image_set(pixels, labels=None, **origin):
    return ImageSet(pixels, labels, origin)


def stand_in(sha256=inception.WEIGHTS.sha256, **changes):
    """What the loader gives for the FID Inception: the right identity before a network of two numbers an image."""
    network = NetworkExtractor(
        id=inception.ID,
        sha256=sha256,
        layer=inception.DEFAULT_LAYER,
        dimension=2,
        resize="clean",
        shape=(8, 8, 1),
        apply=lambda variables, x: (jnp.stack([x.mean((1, 2, 3)), x.std((1, 2, 3))], 1), x[:, 0, :4, 0] / 50),
        variables={},
        value_range="0-255",
        batch_size=16,
    )
    return dataclasses.replace(network, **changes)


@pytest.fixture
def inception_is(monkeypatch):
    def install(**changes):
        monkeypatch.setattr(extractors, "_load", lambda extractor_spec: stand_in(**changes))

    return install


def measure(name, default=None, reference=None, **options):
    reference = image_set(images(1)) if reference is None else reference
    context = Context(generated=image_set(images(0)), reference=reference, options=Options(subset_size=20, **options))
    (result,) = evaluate(resolve([name], default or ExtractorDefaults()), context)
    return result


@pytest.mark.parametrize(
    ("asked", "name"),
    [
        ("fid[clean]", "fid[clean]"),
        ("kid[clean]", "kid[clean]"),
        ("is[clean]", "is[clean]"),
        ("fid_infinity[clean]", "fid_infinity[clean]"),
        ("precision_inception[clean]", "precision_inception[clean]"),
    ],
)
def test_names_of_published_numbers_belong_to_the_published_network(inception_is, asked, name):
    inception_is()
    result = measure(asked)
    assert result.name == name
    assert result.protocol["comparable_to_published"] == ("precision" not in asked)


@pytest.mark.parametrize(
    ("changes", "name"),
    [
        ({"sha256": "0" * 64}, "fd_inception[clean]"),
        ({"id": inception.UNVERIFIED}, "fd_inception_unverified[clean]"),
        ({"layer": "mixed6"}, "fd_inception.mixed6[clean]"),
        ({"resize": "none"}, "fd_inception"),
    ],
)
def test_nothing_else_is_ever_called_fid(inception_is, changes, name):
    inception_is(**changes)
    result = measure("fid[clean]")
    assert result.name == name
    assert result.protocol["comparable_to_published"] is False
    assert result.protocol["reason"]


@pytest.mark.parametrize(
    ("name", "default", "message"),
    [
        ("fid", {}, r"fid\[clean\] or fid\[tf1\]"),
        ("fid[clean]", {"spec": "digits"}, "with --extractor=digits ask for fd_digits"),
        ("kid[tf1]", {"resize": "clean"}, "contradicts --resize=clean"),
        ("fd", {}, "fd_digits, or set --extractor"),
        ("fd_digit", {}, "did you mean 'fd_digits'"),
        ("fidd[clean]", {}, "unknown metric"),
        ("fid[lanczos]", {}, "unknown resize 'lanczos'"),
        ("fd_inception.pool4[clean]", {}, "did you mean 'pool3'"),
        ("fid[clean]", {"layer": "mixed6"}, "at the layer pool3"),
        ("sfd_digits", {}, "only the FID Inception"),
        ("fd_inception_unverified[tf1]", {}, "inception_unverified:PATH"),
    ],
)
def test_unknown_and_contradictory_names_are_refused(name, default, message):
    with pytest.raises(ConfigError, match=message):
        resolve([name], ExtractorDefaults(**default))


@pytest.mark.parametrize(
    ("name", "default", "extractor_spec"),
    [
        ("fd_digits", {}, ExtractorSpec("digits")),
        ("fd", {"spec": "digits"}, ExtractorSpec("digits")),
        ("fd_mnist[clean]", {}, ExtractorSpec("mnist", "clean")),
        ("fd_mnist", {"resize": "tf1"}, ExtractorSpec("mnist", "tf1")),
        ("fd_infinity_fashion_mnist", {}, ExtractorSpec("fashion_mnist")),
        ("fid[clean]", {}, ExtractorSpec("inception", "clean", "pool3")),
        ("fid", {"resize": "tf1"}, ExtractorSpec("inception", "tf1", "pool3")),
        ("fid[tf1]", {"spec": "inception:a.pth"}, ExtractorSpec("inception:a.pth", "tf1", "pool3")),
        ("sfid[clean]", {}, ExtractorSpec("inception", "clean", "spatial")),
        ("fd_inception.logits[clean]", {}, ExtractorSpec("inception", "clean", "logits")),
        ("kd_digits", {"spec": "inception:a.pth", "resize": "clean"}, ExtractorSpec("digits", "clean")),
    ],
)
def test_names_and_flags_together_choose_the_extractor(name, default, extractor_spec):
    assert resolve([name], ExtractorDefaults(**default))[name].extractor_spec == extractor_spec


def test_distances_improve_downwards_and_scores_upwards():
    assert {
        goal(name) for name in ("fid[clean]", "fd_digits", "kd_own", "sfid[tf1]", "fd_infinity_mnist", "lpips", "nll")
    } == {DOWN}
    assert {goal(name) for name in ("is[clean]", "cs_digits", "precision_digits", "recall", "psnr", "ms_ssim")} == {UP}
    assert goal("nn_distance_ratio") == 1
    with pytest.raises(ConfigError, match="did you mean 'psnr'"):
        goal("psnrr")


def test_every_number_says_how_it_was_measured():
    sides = {"generated": image_set(images(0), made="a"), "reference": image_set(images(1), reference_sha256="b")}
    context = Context(
        **sides, protocol={"checkpoint_step": 7}, options=Options(subsets=3, subset_size=20, neighbours=2)
    )
    names = ("fd", "kd", "precision", "cs")
    results = {
        result.name: result.protocol for result in evaluate(resolve(names, ExtractorDefaults("digits")), context)
    }
    common = {"extractor", "extractor_sha256", "layer", "dimension", "resize", "value_range", "n_generated", "made"}
    for protocol in results.values():
        assert common <= protocol.keys()
        assert protocol["checkpoint_step"] == 7
        assert protocol["dtype"]
    for name in ("fd_digits", "kd_digits", "precision_digits"):
        assert (results[name]["n_reference"], results[name]["reference_sha256"]) == (COUNT, "b")
    assert "n_reference" not in results["cs_digits"]
    assert {"covariance_divisor": "N-1", "resize": "none"}.items() <= results["fd_digits"].items()
    assert "64 dimensions" in results["fd_digits"]["warning"]  # 60 images cannot fill them
    kernel = results["kd_digits"]
    assert {"subsets": 3, "subset_size": 20, "seed": 0}.items() <= kernel.items()
    assert kernel["std_over_subsets"] > 0
    assert results["precision_digits"]["neighbours"] == 2
    assert results["cs_digits"]["splits"] == 10


def test_class_scores_and_agreement_by_the_classifier():
    test = make_source("digits", "test")
    context = Context(generated=image_set(test.images, test.labels), options=Options(splits=1))
    logits = ExtractorSpec("digits").load()(test.images).logits.astype(np.float64)
    p = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    expected = np.exp(np.mean(np.sum(p * np.log(p / p.mean(0)), 1)))
    values = {r.name: r.value for r in evaluate(resolve(["cs_digits", "agreement_digits"]), context)}
    np.testing.assert_allclose(values["cs_digits"], expected, rtol=1e-10)
    np.testing.assert_allclose(values["agreement_digits"], np.mean(logits.argmax(1) == test.labels))
    with pytest.raises(ConfigError, match="needs labels"):
        measure("agreement_digits")


def test_the_least_class_share_is_that_of_the_rarest_class_and_zero_for_an_absent_one():
    test = make_source("digits", "test")
    classes = ExtractorSpec("digits").load()(test.images).logits.argmax(1)
    chosen = np.concatenate([np.flatnonzero(classes == c)[: 5 if c == 7 else 20] for c in range(10)])
    result = measure_of(test.images[chosen])
    assert result.protocol["histogram"] == [20] * 7 + [5] + [20] * 2
    assert result.value == 5 / 185
    assert "n_reference" not in result.protocol
    assert measure_of(test.images[classes != 9]).value == 0


def measure_of(pixels):
    (result,) = evaluate(resolve(["class_share_min_digits"]), Context(generated=image_set(pixels)))
    return result


def statistics_of(pixels, made_with, dimension=64):
    features = ExtractorSpec("digits").load()(pixels).features[:, :dimension]
    return Statistics(Moments.of(features).gaussian(), made_with, {"reference": "s.npz"})


def test_statistics_give_the_same_distance_as_their_images():
    from genmodels.evaluators.statistics import identity

    made_with = identity(ExtractorSpec("digits").load())
    direct = measure("fd_digits").value
    for known in (made_with, None):
        result = measure("fd_digits", reference=statistics_of(images(1), known))
        np.testing.assert_allclose(result.value, direct, rtol=1e-9)
        assert result.protocol["n_reference"] == COUNT
    with pytest.raises(DataError, match="statistics of 32 dimensions; the extractor digits has 64"):
        measure("fd_digits", reference=statistics_of(images(1), None, dimension=32))
    with pytest.raises(DataError, match="made with resize 'clean', not 'none'"):
        measure("fd_digits", reference=statistics_of(images(1), made_with | {"resize": "clean"}))


def test_statistics_of_unknown_origin_are_refused_as_a_reference_for_fid(inception_is):
    inception_is()
    unknown = Statistics(Moments.of(np.random.default_rng(0).normal(size=(30, 2))).gaussian(), None, {"reference": "s"})
    with pytest.raises(DataError, match=r"ask for fd_inception\[clean\]"):
        measure("fid[clean]", reference=unknown)
    result = measure("fd_inception[clean]", reference=unknown)
    assert result.name == "fd_inception[clean]"
    assert result.protocol["comparable_to_published"] is False


def test_each_set_is_passed_once_for_all_metrics(inception_is, monkeypatch):
    calls = []

    class Counting(NetworkExtractor):
        def __call__(self, pixels):
            calls.append(len(pixels))
            return super().__call__(pixels)

    one = stand_in()
    counting = Counting(**{field.name: getattr(one, field.name) for field in dataclasses.fields(one)})
    monkeypatch.setattr(extractors, "_load", lambda extractor_spec: counting)
    context = Context(
        generated=image_set(images(0)), reference=image_set(images(1)), options=Options(subset_size=20, splits=2)
    )
    names = ("fid[clean]", "kid[clean]", "is[clean]", "recall_inception[clean]")
    assert len(list(evaluate(resolve(names), context))) == len(names)
    assert calls == [COUNT, COUNT]


def test_features_that_are_not_finite_are_refused_and_their_image_is_named(monkeypatch):
    broken = stand_in(apply=lambda variables, x: (jnp.where(x[:, 0, 0] > 250, jnp.nan, x[:, 0, 0]).repeat(2, 1), None))
    monkeypatch.setattr(extractors, "_load", lambda extractor_spec: broken)
    pixels = images(0)
    pixels[:, 0, 0] = 0
    pixels[41, 0, 0] = 255
    context = Context(generated=image_set(pixels), reference=image_set(images(1)))
    with pytest.raises(DataError, match="features of image 41 of generated are not finite"):
        list(evaluate(resolve(["fid[clean]"]), context))


def test_few_images_of_many_dimensions_still_have_the_right_distance():
    result = measure("fd_digits")
    a, b = (ExtractorSpec("digits").load()(images(seed)).features.astype(np.float64) for seed in (0, 1))
    ca, cb = ((x - x.mean(0)) / np.sqrt(COUNT - 1) for x in (a, b))
    expected = np.sum((a.mean(0) - b.mean(0)) ** 2) + (ca**2).sum() + (cb**2).sum()
    expected -= 2 * np.linalg.norm(ca @ cb.T, "nuc")
    np.testing.assert_allclose(result.value, expected, rtol=1e-9)
    assert "rows" in result.protocol["solver"]
    same = frechet.frechet_distance(Moments.of(a).gaussian(), Moments.of(a).gaussian())
    assert same.value < 1e-8


def test_every_family_that_has_a_name_is_measured():
    assert distribution.FAMILIES.keys() == metric_names.FAMILIES.keys()
