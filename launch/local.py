"""Trains on N devices of this machine: virtual CPU devices, or the first N accelerators.

python launch/local.py --devices=8 --config=FILE --workdir=DIR [--config.a.b=c ...]

Every flag but --devices and --platform goes to genmodels.train unchanged. This process becomes the training, so signals
and exit codes are its own.
"""

import argparse
import os
import sys

from genmodels.core import xla

VISIBLE = {"cuda": "CUDA_VISIBLE_DEVICES", "tpu": "TPU_VISIBLE_CHIPS"}


def set_environment(devices: int, platform: str) -> None:
    """Lets jax see exactly these devices: of accelerators, the first ones that the environment allows already.

    Raises:
      ValueError: it allows fewer.
    """
    os.environ["JAX_PLATFORMS"] = platform
    if platform == "cpu":
        xla.configure(virtual_devices=devices)
        return
    name = VISIBLE[platform]
    allowed = [index for index in os.environ.get(name, "").split(",") if index and not index.startswith("-")]
    if name not in os.environ:
        allowed = [str(index) for index in range(devices)]
    if devices > len(allowed):
        raise ValueError(f"--devices={devices}: {name}={os.environ[name]!r} allows {len(allowed)}")
    os.environ[name] = ",".join(allowed[:devices])


def main() -> None:
    """Replaces this process by the train command."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--devices", type=int, default=1, help="how many devices")
    parser.add_argument("--platform", choices=["cpu", *VISIBLE], default="cpu", help="cpu devices are virtual")
    args, rest = parser.parse_known_args()
    if args.devices < 1:
        parser.error(f"--devices={args.devices}: must be at least 1")
    try:
        set_environment(args.devices, args.platform)
    except ValueError as error:
        parser.error(str(error))
    os.execv(sys.executable, [sys.executable, "-m", "genmodels.train", *rest])


if __name__ == "__main__":
    main()
