import numpy as np

from genmodels.data.sources import make_source
from genmodels.evaluators import resolve
from genmodels.evaluators.sample_diagnostics import class_shares, sample_classifiers, watch

DIGITS = make_source("digits", "test")


def classifier():
    metrics = resolve(["fd_digits", "psnr"])
    (found,) = sample_classifiers([metric.extractor_spec for metric in metrics.values()], (8, 8, 1))
    return found


def test_sample_classifiers_are_the_shipped_classifiers_of_the_evaluation_that_fit_the_images():
    def of(*names, shape=(8, 8, 1)):
        return sample_classifiers([metric.extractor_spec for metric in resolve(names).values()], shape)

    assert len(of("fd_digits", "kd_digits", "fid[clean]")) == 1
    assert not of("fd_mnist", "nn_distance_ratio")
    assert [one.spec for one in of("fd_mnist[clean]", "fd_digits")] == ["digits", "mnist"]


def test_shares_are_those_of_the_labels_and_few_classes_are_warned_of():
    everything = class_shares(DIGITS.images, classifier())
    shares = np.bincount(DIGITS.labels) / len(DIGITS)
    np.testing.assert_allclose(
        everything["drawn_class_max"], shares.max(), atol=0.01
    )  # the classifier errs on 2 of 297
    assert everything["drawn_class_coverage"] == 1
    np.testing.assert_allclose([everything[f"drawn_share_{name}"] for name in range(10)], shares, atol=0.01)
    assert not list(watch(everything))
    threes = class_shares(DIGITS.images[DIGITS.labels == 3], classifier())
    assert threes["drawn_class_max"] > 0.95
    (line,) = watch(threes)
    assert line.startswith("few classes: ")
    three = class_shares(DIGITS.images[DIGITS.labels < 3], classifier())
    assert three["drawn_class_max"] < 0.5  # none stands out, but they are few
    assert list(watch(three)) == [
        f"few classes: {three['drawn_class_max']:.0%} of the drawn samples are of one class, "
        "none is of class 3, 4, 5, 6, 7, 8, 9"
    ]
    assert not list(watch({"loss": 1.0}))
