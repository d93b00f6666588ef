"""What the entries of a protocol say of a number: how it was measured, how what it measures was made, what came out.

Numbers that were measured differently are never ranked together. Numbers of samples that were made differently are what
a reader wants ranked, so that a report shows how each was made. An entry that is listed nowhere here, nor under the
protocol's own "made", says how the number was measured.
"""

from collections.abc import Mapping
from typing import Any

Protocol = Mapping[str, Any]

OPTIONS = "made"  # the entry that names those entries which are options of the function that made the samples
# How samples, reconstructions or likelihoods were made, and by which model; in the order in which a row shows it.
MADE = (
    "family",
    "generated",
    "generated_sha256",
    "generated_statistics_sha256",
    "sampler",
    "guidance_scale",
    "labels",
    "variance",
    "weights",
    "checkpoint_step",
    "selected_from",
    "seed",
)
OF_SAMPLER = ("steps", "spacing", "eta", "clip")  # likewise, of samples that a sampler drew
# Results beside the number.
OUTCOME = (
    "histogram",
    "std_over_subsets",
    "std_over_splits",
    "standard_error",
    "warning",
    "fitted_to_n",
    "exact_pairs",
)
OUTCOME_PREFIX = "mean_"
ENVIRONMENT = ("versions", OPTIONS)  # say neither
# Entries that are not compared where one of these hashes identifies the images by their contents.
LOCATION = {
    "reference": ("reference_sha256", "reference_statistics_sha256"),
    "reference_split": ("reference_sha256",),
    "training": ("training_sha256",),
    "training_split": ("training_sha256",),
}
ABSENT = {"guidance_scale": 1.0}  # what a model does that has no such option: it is not guided
TEXTS = {
    "family": "{}",
    "labels": "{}",
    "guidance_scale": "guidance {}",
    "weights": "{} weights",
    "checkpoint_step": "step {}",
    "selected_from": "selected from {}",
    "generated_sha256": "",
    "generated_statistics_sha256": "",
}


def _made(protocol: Protocol) -> list[str]:
    """The names of the entries that say how something was made, in the order in which they are shown."""
    named = protocol.get(OPTIONS, ())
    options = [key for key in named if isinstance(key, str)] if isinstance(named, list | tuple) else []
    options += OF_SAMPLER if "sampler" in protocol else ()
    after = MADE.index("sampler") + 1
    return [key for key in dict.fromkeys([*MADE[:after], *options, *MADE[after:]]) if key in protocol]


def made(protocol: Protocol) -> dict[str, Any]:
    """The entries that say how the samples were made, by which model; they belong to the row of a table."""
    return {key: protocol[key] for key in _made(protocol)}


def measured(protocol: Protocol) -> dict[str, Any]:
    """The entries that say how the number was measured; they must be equal in a column of a table.

    Of the solver of a Frechet distance the method counts. After its comma stands what rank and size chose: the ways to
    factor a covariance and to sum singular values, which agree to 1e-9.
    """
    others = {*_made(protocol), *OUTCOME, *ENVIRONMENT}
    found = {
        key: value
        for key, value in protocol.items()
        if key not in others
        and not key.startswith(OUTCOME_PREFIX)
        and not any(content_hash in protocol for content_hash in LOCATION.get(key, ()))
    }
    return found | ({"solver": str(found["solver"]).partition(",")[0]} if "solver" in found else {})


def fulfils(protocol: Protocol, wanted: Protocol) -> bool:
    """Whether a protocol has all entries of another."""
    return all(protocol.get(key, ABSENT.get(key)) == value for key, value in wanted.items())


def describe(entries: Protocol) -> str:
    """Entries that say how something was made as a line for people."""
    words = [TEXTS.get(key, f"{key} {{}}").format(value) for key, value in entries.items()]
    return ", ".join(word for word in words if word)
