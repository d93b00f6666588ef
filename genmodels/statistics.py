"""Writes mean and covariance of the features of images, as `mu` and `sigma` in an .npz that other tools read too.

python -m genmodels.statistics --images=PATH --out=FILE.npz --extractor=inception[:PATH] --resize=clean [--layer=..]
"""

import pathlib

import numpy as np
from absl import flags

from genmodels import cli

IMAGES = flags.DEFINE_string("images", None, "Images: .npz, folder, archive, or a source as a call.", required=True)
OUT = flags.DEFINE_string("out", None, "FILE.npz to write.", required=True)
EXTRACTOR = flags.DEFINE_string("extractor", None, "Whose features, as evaluate takes it.", required=True)
RESIZE = flags.DEFINE_string("resize", "none", "How images come to its size: none, tf1 or clean.")
LAYER = flags.DEFINE_string("layer", "", "Of the FID Inception; pool3 unless named.")


def main() -> None:
    """One pass over the images; genmodels.evaluate takes the file as --reference or --generated."""
    from genmodels import scoring
    from genmodels.core.files import atomic_path, check_writable
    from genmodels.errors import ConfigError

    out = pathlib.Path(OUT.value)
    if out.suffix != ".npz":
        raise ConfigError(f"--out={out}: must end in .npz")
    check_writable(out)
    arrays = scoring.statistics_of(IMAGES.value, EXTRACTOR.value, RESIZE.value, LAYER.value)
    with atomic_path(out) as temporary:
        np.savez(temporary, **arrays)
    print(f"{out}: mu and sigma of {arrays['count']:,} images, {len(arrays['mu'])} dimensions, {arrays['extractor']}")


if __name__ == "__main__":
    cli.run(main)
