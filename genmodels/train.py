"""Trains an experiment; run again on the same work directory, it resumes.

python -m genmodels.train --config=experiments/ddpm_digits.py --workdir=runs/ddpm_digits [--config.a.b=c ...]
python -m genmodels.train --workdir=runs/ddpm_digits                           # resumes what is there
python -m genmodels.train --config=experiments/ddpm_digits.py --describe      # every key with its value and meaning
"""

import pathlib
from collections.abc import Iterator
from typing import Any

from absl import flags

from genmodels import cli
from genmodels.cli import code_flags, value_flags
from genmodels.runs import experiment

CONFIG = experiment.define_flag("Experiment, FILE.py or FILE.py:variant; default: the one that --workdir began with.")
WORKDIR = value_flags.define_path("workdir", None, "Work directory of the run, created when missing.")
flags.adopt_module_key_flags(code_flags)
DESCRIBE = flags.DEFINE_bool("describe", False, "Print every key: its value, type, meaning, and what set it; no run.")
flags.register_multi_flags_validator(
    ["workdir", "describe"],
    lambda given: given["workdir"] or given["describe"],
    "--workdir=DIR must be given: the run is written there",
)
flags.register_multi_flags_validator(
    ["workdir", "config"], lambda given: given["workdir"] or given["config"], "--config=FILE must be given"
)


def notes(plan: Any) -> Iterator[str]:
    """What is better known before training than after a day of it."""
    from genmodels.interop import diffusers

    if why := diffusers.obstacle(plan.config, plan.data):
        yield f"this model will not go to diffusers (genmodels.export --out=FOLDER): {why}"


def main() -> int:
    """Trains and, on a finished run, prints the commands that usually follow."""
    if DESCRIBE.value or WORKDIR.value is None:  # the validator above allows no directory for --describe only
        print(*experiment.describe(CONFIG.value, experiment.overrides(CONFIG)), sep="\n")
        return 0
    from genmodels import loop
    from genmodels.cli import signals
    from genmodels.runs import inference, resume

    workdir, allow_code = pathlib.Path(WORKDIR.value), code_flags.ALLOW_CODE.value
    config = CONFIG.value or resume.config_to_resume(workdir, allow_code)
    with signals.stop_requests() as requested:
        code = loop.train(config, workdir, lambda step: requested(), allow_code=allow_code, notes=notes)
    if code:
        print(f"stopped and saved; the same command resumes {workdir}")
    else:
        print("next:", *inference.suggested_commands(workdir, {config.task}), sep="\n  ")
    return code


if __name__ == "__main__":
    cli.run(main, check=experiment.check_command_line)
