"""The naming law of distribution metrics: what a number may be called, and what a name asks for.

A metric is called <family>_<extractor>[<resize>], as in fd_digits. The published names (fid, kid, is, ...) are kept for
the FID Inception with its published weights, which a hash verifies.
"""

import dataclasses
import difflib
import re
from collections.abc import Iterable

from genmodels.errors import ConfigError
from genmodels.extractors import NAMES, Extractor, ExtractorSpec, inception, is_published

# The families, and the name that papers give to a metric of the family; "" where they have none.
FAMILIES = {
    "fd": "fid",
    "sfd": "sfid",
    "fd_infinity": "fid_infinity",
    "kd": "kid",
    "cs": "is",
    "precision": "",
    "recall": "",
    "density": "",
    "coverage": "",
    "agreement": "",
    "class_share_min": "",
}
PUBLISHED = {published: family for family, published in FAMILIES.items() if published}
PATTERN = re.compile(r"(?P<stem>\w+?)(\.(?P<layer>\w+))?(\[(?P<resize>\w+)\])?")


def _parsed(name: str) -> tuple[str, str, str]:
    """The stem, layer and resize in a metric's name; "" for each that it does not state."""
    match = PATTERN.fullmatch(name)
    return (match["stem"], match["layer"] or "", match["resize"] or "") if match else ("", "", "")


def family_of(name: str) -> str | None:
    """The family to which a metric's name belongs; None if the name is not that of a distribution metric."""
    stem, *_ = _parsed(name)
    if stem in PUBLISHED:
        return PUBLISHED[stem]
    matching = [family for family in FAMILIES if stem == family or stem.startswith(f"{family}_")]
    return max(matching, key=len, default=None)


def unknown_metric(name: str, others: Iterable[str] = ()) -> str:
    """The error message for an unknown metric; it suggests the nearest name and lists all metrics.

    Args:
      name: the unknown name.
      others: names of metrics that are not distribution metrics.
    """
    names = [*others, *PUBLISHED, *FAMILIES, *(f"{family}_{id}" for family in FAMILIES for id in NAMES)]
    near = difflib.get_close_matches(name, names, n=1, cutoff=0.5)
    known = f"{', '.join([*others, *PUBLISHED])}, and with an extractor, as in fd_digits, {', '.join(FAMILIES)}"
    return f"unknown metric {name!r}: {f'did you mean {near[0]!r}? ' if near else ''}there are {known}"


def check_layer(layer: str, extractors: Iterable[ExtractorSpec | None]) -> None:
    """Checks that a layer which is asked for has an effect.

    Args:
      extractors: of the metrics; None for a metric that has none.
    Raises:
      ConfigError: no metric is measured by a network with layers to choose from.
    """
    specs = list(extractors)
    if layer and specs and not any(spec is not None and spec.layer for spec in specs):
        raise ConfigError(
            f"layer={layer} has no effect: none of the metrics is measured by the FID Inception, which alone has "
            f"layers to choose from"
        )


def result_name(family: str, extractor: Extractor) -> str:
    """The name of a result under the naming law: fid[clean], fd_digits, fd_inception.logits[clean], ..."""
    resize = "" if extractor.resize == "none" else f"[{extractor.resize}]"
    if FAMILIES[family] and may_have_published_name(family, extractor):
        return f"{FAMILIES[family]}{resize}"
    other_layer = extractor.id in (inception.ID, inception.UNVERIFIED) and extractor.layer != _default_layer(family)
    layer = f".{extractor.layer}" if other_layer else ""
    return f"{family}_{extractor.id}{layer}{resize}"


def _default_layer(family: str) -> str:
    """The layer of the FID Inception that a family uses by default."""
    return inception.SPATIAL if family == "sfd" else inception.DEFAULT_LAYER


def may_have_published_name(family: str, extractor: Extractor) -> bool:
    """Whether an extractor is the one that papers measure the family with: verified weights, and their layer."""
    return is_published(extractor) and (family == "cs" or extractor.layer == _default_layer(family))


@dataclasses.dataclass(frozen=True)
class ExtractorDefaults:
    """The extractor, resize and layer for metrics whose names do not state them, from the flags or config.eval.

    Attributes are those of `ExtractorSpec`; an empty `spec` names no extractor.
    """

    spec: str = ""
    resize: str = "none"
    layer: str = ""

    @property
    def id(self) -> str:
        """The id of the extractor; "" if none is named."""
        return ExtractorSpec(self.spec, self.resize).id if self.spec else ""


def extractor_of(name: str, family: str, defaults: ExtractorDefaults) -> ExtractorSpec:
    """The extractor of a metric, from its name and, for what the name does not state, from the defaults.

    Raises:
      ConfigError: no extractor is named, the name contradicts the defaults, or the name is reserved for the FID
        Inception and another extractor is chosen.
    """
    stem, layer, resize = _parsed(name)
    for flag, in_name, default in (("resize", resize, defaults.resize), ("layer", layer, defaults.layer)):
        if in_name not in ("", "none") and default not in ("", "none", in_name):
            raise ConfigError(f"metric {name}: contradicts --{flag}={default}; leave one of the two out")
    resize = resize if resize not in ("", "none") else defaults.resize
    layer, default_id = layer or defaults.layer, defaults.id
    if stem in PUBLISHED:
        if default_id not in ("", inception.ID):
            raise ConfigError(
                f"metric {name}: {stem} is measured by the FID Inception with its published weights; with "
                f"--extractor={defaults.spec} ask for {family}_{default_id}"
            )
        if layer not in ("", _default_layer(family)):
            raise ConfigError(
                f"metric {name}: {stem} is measured at the layer {_default_layer(family)}; for another layer ask for "
                f"{family}"
            )
        if resize == "none":
            raise ConfigError(f"metric {name}: its name must state the resize: {stem}[clean] or {stem}[tf1]")
        id = inception.ID
    else:
        id = stem.removeprefix(family).removeprefix("_") or default_id
    if not id:
        raise ConfigError(f"metric {name}: no extractor is named; ask for {name}_digits, or set --extractor")
    if id != default_id and id not in NAMES:
        raise ConfigError(unknown_metric(name, [f"{family}_{default_id}"] if default_id else []))
    has_layers = id in (inception.ID, inception.UNVERIFIED)
    if family == "sfd" and not has_layers:
        raise ConfigError(
            f"metric {name}: needs features with positions in the image, and only the FID Inception has a layer of "
            "such; ask for sfid[clean] or sfid[tf1]"
        )
    if has_layers:
        layer = layer or _default_layer(family)
    return ExtractorSpec(defaults.spec if id == default_id else id, resize, layer if has_layers else "")
