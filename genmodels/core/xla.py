"""XLA settings that must be in the environment before jax creates its first backend."""

import os

# By default jax 0.10 runs convolutions on the CPU through YNN, which takes twice as long as the plain path at our sizes
# (BENCHMARKS.md). jax 0.12 accepts the flag, and its speed does not depend on it.
YNN_OFF = "--xla_cpu_experimental_ynn_fusion_type="

DEVICE_COUNT = "--xla_force_host_platform_device_count"

# With several virtual CPU devices jax 0.10 deadlocks unless its thread pool has more threads than queued steps can
# block. The pool is not enlarged for one device, where so many threads on few cores make a step slower by half.
VIRTUAL_POOL_THREADS = "32"


def configure(virtual_devices: int | None = None) -> None:
    """Adds our flags to the environment. Flags that the user has set win, except for the number of devices.

    Args:
      virtual_devices: if given, the CPU is split into this many devices.
    """
    given = {flag.partition("=")[0]: flag for flag in os.environ.get("XLA_FLAGS", "").split()}
    flags = {YNN_OFF.partition("=")[0]: YNN_OFF} | given
    if virtual_devices:
        flags[DEVICE_COUNT] = f"{DEVICE_COUNT}={virtual_devices}"
    if virtual_devices and virtual_devices > 1:
        os.environ.setdefault("PJRT_NPROC", VIRTUAL_POOL_THREADS)
    os.environ["XLA_FLAGS"] = " ".join(flags.values())
