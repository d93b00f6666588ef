"""Configuration: what an experiment file starts from and what can be asked of the config that it returns.

An experiment calls `defaults(task)` and sets what differs. `sections` holds the keys that every config has, the task's
own dataclasses hold the rest; defaults, types, `validate` and `train --describe` all read them there.
"""

from genmodels.config.defaults import completed, defaults, sections, settings, switches
from genmodels.config.effects import Effect, switched, when, without_effect, without_idle_values
from genmodels.config.experiments import TINY, Variant, check_variant, promise, tiny
from genmodels.config.opening import opened
from genmodels.config.sections import OptimOfNetwork
from genmodels.config.settings import NO_SETTINGS, Setting, build, fits, settings_of
from genmodels.config.stored import ORIGINS, conflicts, flatten, from_json, nested, to_json
from genmodels.config.validation import check_patterns, check_seed, total_steps, validate

__all__ = [
    "NO_SETTINGS",
    "ORIGINS",
    "TINY",
    "Effect",
    "OptimOfNetwork",
    "Setting",
    "Variant",
    "build",
    "check_patterns",
    "check_seed",
    "check_variant",
    "completed",
    "conflicts",
    "defaults",
    "fits",
    "flatten",
    "from_json",
    "nested",
    "opened",
    "promise",
    "sections",
    "settings",
    "settings_of",
    "switched",
    "switches",
    "tiny",
    "to_json",
    "total_steps",
    "validate",
    "when",
    "without_effect",
    "without_idle_values",
]
