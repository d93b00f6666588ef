"""Scores a run, or one set of images against another.

python -m genmodels.evaluate --workdir=DIR [--metrics=a,b] --out=FILE.json [--check] [--split=train|test] [--steps=..]
python -m genmodels.evaluate --generated=PATH --reference=PATH --metrics=a,b --out=FILE.json [--extractor=..]
"""

import pathlib
import re

from absl import flags

from genmodels import cli
from genmodels.cli import metric_flags, sampling_flags

WORKDIR = flags.DEFINE_string("workdir", None, "Work directory of a run.")
GENERATED = flags.DEFINE_string("generated", None, "Images to score: .npz, folder, archive, or statistics.")
REFERENCE = flags.DEFINE_string("reference", None, "Images to score against, likewise.")
METRICS = flags.DEFINE_list("metrics", None, "Metrics; default: the run's config.eval.metrics; empty: pictures only.")
OUT = flags.DEFINE_string("out", None, "JSON file to write.", required=True)
CHECK = flags.DEFINE_bool("check", False, "Compare with the run's config.expect; exit 1 when it falls short.")
NUM = flags.DEFINE_integer("num", None, "Samples to draw; default: the run's config.eval.num_samples.", lower_bound=1)
SPLIT = flags.DEFINE_enum("split", None, ("train", "test"), "To compare with; default: the run's config.eval.split.")
LIKELIHOODS = flags.DEFINE_string("likelihoods", None, "That nll measures, e.g. elbo,iwae(samples=500, images=1000).")
CHECKPOINT = flags.DEFINE_string("checkpoint", "latest", "latest, best or a step.")
flags.adopt_module_key_flags(sampling_flags)
flags.adopt_module_key_flags(metric_flags)


def main() -> int:
    """Evaluates, prints each result as it comes, and writes them all at the end."""
    from genmodels import scoring
    from genmodels.core.files import check_writable
    from genmodels.errors import EXIT_EXPECTATION_MISSED, ConfigError
    from genmodels.evaluators.expectations import compare
    from genmodels.reporting.files import read_results, write_results
    from genmodels.runs import workdir

    out = pathlib.Path(OUT.value)
    paths = GENERATED.value is not None and REFERENCE.value is not None
    if bool(WORKDIR.value) == paths or (WORKDIR.value and (GENERATED.value or REFERENCE.value)):
        raise ConfigError("give either --workdir, or both --generated and --reference")
    if out.suffix != ".json":
        raise ConfigError(f"--out={out}: must end in .json")
    if paths and (CHECK.value or not METRICS.value):
        raise ConfigError("--check goes with --workdir" if CHECK.value else "--generated needs --metrics=a,b")
    sampling = sampling_flags.given()
    commas = r",(?![^(]*\))"  # not those inside a call
    likelihoods = tuple(re.split(commas, LIKELIHOODS.value)) if LIKELIHOODS.value else None
    if paths and (sampling or likelihoods):
        raise ConfigError(f"--{next(iter(sampling), 'likelihoods')} goes with --workdir")
    metrics = None if METRICS.value is None else tuple(METRICS.value)
    check_writable(out)
    if paths:
        results = scoring.of_paths(GENERATED.value, REFERENCE.value, metrics, metric_flags.given())
    else:
        expect = workdir.read_config(pathlib.Path(WORKDIR.value)).expect
        if CHECK.value and not expect:
            raise ConfigError(f"--check: config.expect of {WORKDIR.value} is empty, there is nothing to check")
        results = scoring.of_run(
            WORKDIR.value,
            metrics,
            NUM.value,
            CHECKPOINT.value,
            SPLIT.value,
            sampling,
            likelihoods,
            metric_flags.given(),
        )
    write_results(out, results)
    print(f"results in {out}")
    if not CHECK.value:
        return 0
    checks = compare(read_results(out), expect)
    for check in checks:
        print(check.line())
    return 0 if all(check.met for check in checks) else EXIT_EXPECTATION_MISSED


if __name__ == "__main__":
    cli.run(main)
