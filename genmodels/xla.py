"""XLA settings that must stand in the environment before jax makes its first backend."""

import os

# jax 0.10 runs convolutions on the CPU through YNN by default, twice the time of the plain path at our sizes
# (BENCHMARKS.md); jax 0.12 accepts the switch and is indifferent to it.
FLAGS = {"--xla_cpu_experimental_ynn_fusion_type": ""}

# jax 0.10 deadlocks with several virtual CPU devices unless its thread pool is larger than what queued steps can block.
# Not for one device: so many threads on few cores make a step slower by half.
VIRTUAL_POOL = "32"


def configure(virtual_devices: int | None = None) -> None:
    """Adds our flags to the environment; whatever the user has set there wins.

    Args:
      virtual_devices: split the CPU into this many devices.
    """
    flags = os.environ.get("XLA_FLAGS", "").split()
    wanted = dict(FLAGS)
    if virtual_devices:
        os.environ.setdefault("PJRT_NPROC", VIRTUAL_POOL)
        wanted["--xla_force_host_platform_device_count"] = str(virtual_devices)
    present = {flag.partition("=")[0] for flag in flags}
    flags += [f"{name}={value}" for name, value in wanted.items() if name not in present]
    os.environ["XLA_FLAGS"] = " ".join(flags)
