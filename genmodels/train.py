"""Trains an experiment; run again on the same work directory, it resumes.

python -m genmodels.train --config=experiments/ddpm_digits.py --workdir=runs/ddpm_digits [--config.a.b=c ...]
"""

import pathlib

from absl import flags
from ml_collections import config_flags

from genmodels import cli
from genmodels.cli import code_flags
from genmodels.runs import experiment

CONFIG = config_flags.DEFINE_config_file("config", None, "Experiment, FILE.py or FILE.py:variant.", lock_config=True)
WORKDIR = flags.DEFINE_string("workdir", None, "Work directory of the run, created when missing.")
flags.adopt_module_key_flags(code_flags)
flags.mark_flags_as_required(["config", "workdir"])


def main() -> int:
    """Trains and, on a finished run, prints the commands that usually follow."""
    from genmodels import loop
    from genmodels.cli import signals
    from genmodels.runs import inference

    workdir = pathlib.Path(WORKDIR.value)
    with signals.stop_requests() as requested:
        code = loop.train(CONFIG.value, workdir, lambda step: requested(), allow_code=code_flags.ALLOW_CODE.value)
    if code:
        print(f"stopped and saved; the same command resumes {workdir}")
    else:
        print("next:", *inference.suggested_commands(workdir, {CONFIG.value.task}), sep="\n  ")
    return code


if __name__ == "__main__":
    cli.run(main, check=experiment.check_command_line)
