"""Where things that a config names lie: absolute paths, so that a run can be evaluated and resumed from any folder."""

import os
from collections.abc import Iterable

from ml_collections import ConfigDict

from genmodels import config as config_lib
from genmodels.core import user_code
from genmodels.data.sources import with_absolute_paths
from genmodels.extractors import is_user_extractor
from genmodels.runs.experiment import is_experiment

WEIGHTS = ("eval.lpips_trunk", "eval.lpips_linear")  # files
EXTRACTOR = "eval.extractor"  # which may be NAME:PATH


def absolute(path: str) -> str:
    """The absolute path, with "~" replaced; "" stays."""
    return os.path.abspath(os.path.expanduser(path)) if path else ""


def _of_extractor(spec: str) -> str:
    """NAME:PATH with an absolute path; a module:function is no path and stays."""
    name, colon, path = spec.partition(":")
    return f"{name}:{absolute(path)}" if colon and not is_user_extractor(spec) else spec


def _of_run(value: str) -> str:
    """A work directory, or an experiment FILE.py[:VARIANT], with an absolute path."""
    if not is_experiment(value):
        return absolute(value)
    file, colon, variant = value.partition(":")
    return absolute(file) + colon + variant


def absolute_places(config: ConfigDict, runs: Iterable[str] = ()) -> ConfigDict:
    """A copy of the config in which every place is absolute.

    Args:
      runs: keys "a.b" of the work directories and experiments that the task needs, besides init_from.
    """
    flat = config_lib.flatten(config)
    changes = {
        "data.source": with_absolute_paths,
        EXTRACTOR: _of_extractor,
        **dict.fromkeys(WEIGHTS, absolute),
        **dict.fromkeys(("init_from", *runs), _of_run),
    }
    copy = ConfigDict(config.to_dict())
    copy.update_from_flattened_dict({key: change(flat[key]) for key, change in changes.items() if flat.get(key)})
    return copy


def named_code(config: ConfigDict) -> dict[str, str]:
    """{key: value} of what a config names that is, or brings, code outside this package.

    These are a task and an extractor of the form module:function, and experiment files.
    """
    flat = {key: value for key, value in config_lib.flatten(config).items() if isinstance(value, str)}
    found = {key: value for key, value in flat.items() if is_experiment(value) and not key.startswith("data.")}
    task, extractor = flat["task"], flat.get(EXTRACTOR, "")
    found |= {"task": task} if user_code.is_user_code(task) else {}
    return found | ({EXTRACTOR: extractor} if is_user_extractor(extractor) else {})
