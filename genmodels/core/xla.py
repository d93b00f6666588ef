"""XLA settings that must stand in the environment before jax makes its first backend."""

import os

# jax 0.10 runs convolutions on the CPU through YNN by default, twice the time of the plain path at our sizes
# (BENCHMARKS.md); jax 0.12 accepts the switch and is indifferent to it.
YNN_OFF = "--xla_cpu_experimental_ynn_fusion_type="

DEVICE_COUNT = "--xla_force_host_platform_device_count"

# jax 0.10 deadlocks with several virtual CPU devices unless its thread pool is larger than what queued steps can block.
# Not for one device: so many threads on few cores make a step slower by half.
VIRTUAL_POOL = "32"


def configure(virtual_devices: int | None = None) -> None:
    """Adds our flags to the environment; whatever the user has set there wins, but for the number of devices.

    Args:
      virtual_devices: split the CPU into this many devices.
    """
    given = {flag.partition("=")[0]: flag for flag in os.environ.get("XLA_FLAGS", "").split()}
    flags = {YNN_OFF.partition("=")[0]: YNN_OFF} | given
    if virtual_devices:
        flags[DEVICE_COUNT] = f"{DEVICE_COUNT}={virtual_devices}"
    if virtual_devices and virtual_devices > 1:
        os.environ.setdefault("PJRT_NPROC", VIRTUAL_POOL)
    os.environ["XLA_FLAGS"] = " ".join(flags.values())
