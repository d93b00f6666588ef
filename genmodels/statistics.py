"""Writes mean and covariance of the features of images, as `mu` and `sigma` in an .npz that other tools read too.

python -m genmodels.statistics --images=PATH --out=FILE.npz --extractor=inception[:PATH] --resize=clean [--layer=..]
"""

import pathlib

from absl import flags

from genmodels import cli
from genmodels.cli import value_flags

IMAGES = value_flags.define_path("images", None, "Images: .npz, folder, archive, or a source as a call.", required=True)
OUT = value_flags.define_path("out", None, "FILE.npz to write.", required=True)
EXTRACTOR = value_flags.define_path(
    "extractor", None, "Network whose features are taken; as in evaluate.", required=True
)
RESIZE = flags.DEFINE_string("resize", "none", "How images are resized for it: none, tf1 or clean.")
LAYER = flags.DEFINE_string("layer", "", "Layer of the FID Inception; default: pool3.")


def main() -> None:
    """Passes over the images once; genmodels.evaluate takes the file as --reference or --generated."""
    from genmodels import scoring
    from genmodels.core.files import check_writable, write_arrays
    from genmodels.errors import ConfigError

    out = pathlib.Path(OUT.value)
    if out.suffix != ".npz":
        raise ConfigError(f"--out={out}: must end in .npz")
    check_writable(out)
    arrays = scoring.statistics_of(IMAGES.value, EXTRACTOR.value, RESIZE.value, LAYER.value)
    write_arrays(out, arrays)
    print(f"{out}: mu and sigma of {arrays['count']:,} images, {len(arrays['mu'])} dimensions, {arrays['extractor']}")


if __name__ == "__main__":
    cli.run(main)
