"""Trains on N devices of this machine: virtual CPU devices, or the first N accelerators.

python launch/local.py --devices=8 --config=FILE --workdir=DIR [--config.a.b=c ...]

Every flag but --devices and --platform goes to genmodels.train unchanged. This process becomes the training, so signals
and exit codes are its own.
"""

import argparse
import os
import sys

from genmodels import xla

VISIBLE = {"cuda": "CUDA_VISIBLE_DEVICES", "tpu": "TPU_VISIBLE_CHIPS"}


def environment(devices: int, platform: str) -> dict[str, str]:
    """The environment in which jax sees exactly these devices."""
    env = os.environ.copy()
    if platform == "cpu":
        xla.configure(virtual_devices=devices)
        env = os.environ.copy()
    else:
        env[VISIBLE[platform]] = ",".join(map(str, range(devices)))
    env["JAX_PLATFORMS"] = platform
    return env


def main() -> None:
    """Replaces this process by the train command."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--devices", type=int, default=1, help="how many devices")
    parser.add_argument("--platform", choices=["cpu", *VISIBLE], default="cpu", help="cpu devices are virtual")
    args, rest = parser.parse_known_args()
    if args.devices < 1:
        parser.error(f"--devices={args.devices}: must be at least 1")
    command = [sys.executable, "-m", "genmodels.train", *rest]
    os.execve(sys.executable, command, environment(args.devices, args.platform))


if __name__ == "__main__":
    main()
