"""Scores a run, or one set of images against another.

python -m genmodels.evaluate --workdir=DIR [--metrics=a,b] --out=FILE.json [--check] [--split=train|test] [--steps=..]
python -m genmodels.evaluate --generated=PATH --reference=PATH --metrics=a,b --out=FILE.json [--extractor=..]
"""

import pathlib

from absl import flags

from genmodels import cli
from genmodels.cli import code_flags, metric_flags, sampling_flags, value_flags

WORKDIR = value_flags.define_path("workdir", None, "Work directory of a run.")
GENERATED = value_flags.define_path("generated", None, "Images to score: .npz, folder, archive, or statistics.")
REFERENCE = value_flags.define_path("reference", None, "Images to compare with: the same kinds.")
METRICS = value_flags.define_list("metrics", None, "Metrics; default: the run's config.eval.metrics; empty: pictures.")
OUT = value_flags.define_path("out", None, "JSON file to write.", required=True)
CHECK = flags.DEFINE_bool("check", False, "Exit 1 when a result is short of config.expect on the data of the promise.")
NUM = flags.DEFINE_integer("num", None, "Samples to draw; default: the run's config.eval.num_samples.", lower_bound=1)
SPLIT = flags.DEFINE_enum("split", None, ("train", "test"), "Split to compare with; default: config.eval.split.")
LIKELIHOODS = value_flags.define_list("likelihoods", None, "What nll measures, e.g. elbo,iwae(samples=5, images=10).")
CHECKPOINT = flags.DEFINE_string("checkpoint", "latest", "latest, best or a step.")
for module in (sampling_flags, metric_flags, code_flags):
    flags.adopt_module_key_flags(module)


def read_flags(out: pathlib.Path, only_with_workdir: dict) -> str | tuple[str, str]:
    """The --workdir, or --generated and --reference; raises ConfigError if the flags ask for neither or for both."""
    from genmodels.errors import ConfigError

    workdir, generated, reference = WORKDIR.value, GENERATED.value, REFERENCE.value
    if out.suffix != ".json":
        raise ConfigError(f"--out={out}: must end in .json")
    if workdir and not generated and not reference:
        return workdir
    if workdir or generated is None or reference is None:
        raise ConfigError("give either --workdir, or both --generated and --reference")
    for name in (name for name, value in only_with_workdir.items() if value):
        raise ConfigError(f"--{name} goes with --workdir")
    if not METRICS.value:
        raise ConfigError("--generated needs --metrics=a,b")
    return generated, reference


def main() -> int:
    """Evaluates, prints each result as it comes, and writes all of them at the end."""
    from genmodels import scoring
    from genmodels.core.files import check_writable
    from genmodels.errors import EXIT_EXPECTATION_MISSED, ConfigError
    from genmodels.evaluators import expectations
    from genmodels.reporting.files import read_results, write_results
    from genmodels.runs import workdir

    out, sampling, options = pathlib.Path(OUT.value), sampling_flags.given(), metric_flags.given()
    kinds = tuple(LIKELIHOODS.value) if LIKELIHOODS.value else None
    scored = read_flags(out, {"check": CHECK.value} | sampling | {"likelihoods": kinds})
    metrics = None if METRICS.value is None else tuple(METRICS.value)
    check_writable(out)
    if isinstance(scored, tuple):
        results = scoring.of_paths(*scored, metrics or (), options)
    else:
        expect = workdir.read_config(pathlib.Path(scored)).expect
        data = workdir.read_data(pathlib.Path(scored))
        if CHECK.value and not expect:
            raise ConfigError(f"--check: config.expect of {scored} is empty, so there is nothing to check")
        asked: dict = {"split": SPLIT.value, "sampling": sampling, "likelihoods": kinds, "metric_options": options}
        code = code_flags.ALLOW_CODE.value
        results = scoring.of_run(scored, metrics, NUM.value, CHECKPOINT.value, allow_code=code, **asked)
    write_results(out, results)
    print(f"results in {out}")
    checks = expectations.compare(read_results(out), expect, data) if CHECK.value else []
    print(*expectations.lines(checks), sep="\n", end="\n" if checks else "")
    return 0 if all(check.passed for check in checks) else EXIT_EXPECTATION_MISSED


if __name__ == "__main__":
    cli.run(main)
