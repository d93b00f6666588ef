"""What is checked and measured, in order of value."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

SHARED = "shared"  # a process that goes on to the next entry
OWN = "own"  # a process for one entry, so that the most memory it held is the entry's
DETERMINISTIC = "deterministic"  # as SHARED, with XLA's deterministic operations


@dataclasses.dataclass(frozen=True)
class Entry:
    """One check or measurement.

    Attributes:
      name: unique, with slashes.
      function: "module:function", called as function(toy, *arguments); it returns a dictionary of numbers and words.
      arguments: plain values.
      box: seconds it may take on an accelerator; an entry that takes longer has failed.
      worker: SHARED, OWN or DETERMINISTIC.
      counterpart: the name of the entry that it is compared with.
    """

    name: str
    function: str
    arguments: Sequence[Any] = ()
    box: float = 120.0
    worker: str = SHARED
    counterpart: str = ""


MACHINE = Entry("machine", "tests.gpu.machine:describe")


@dataclasses.dataclass(frozen=True)
class Published:
    """A train step at its published size.

    Attributes:
      file, variant: of the experiment.
      side: height and width of its images, which have three channels.
      settings: {"section.key": value} in bfloat16.
    """

    file: str
    variant: str
    side: int
    settings: Mapping[str, Any]


BFLOAT16 = {"model.dtype": "bfloat16"}
PUBLISHED = {
    "ddpm_cifar10": Published("ddpm_cifar10", "", 32, BFLOAT16),
    "vit_b16": Published("vit_cifar10", "at224", 224, BFLOAT16 | {"train.batch_size": 128}),
    "sngan_cifar10": Published("sngan_cifar10", "", 32, BFLOAT16),
    "edm_cifar10": Published("edm_cifar10", "", 32, BFLOAT16),
}
TORCH = {"unet": "ddpm_cifar10", "vit": "vit_b16"}  # the function in torch_steps, and what it is compared with


def steps(rows: Sequence[str]) -> list[Entry]:
    """The step of each conformance row against the CPU's."""
    return [Entry(f"step/{row}", "tests.gpu.checks:step", (row,)) for row in rows]


def resume(rows: Sequence[str]) -> list[Entry]:
    """A run of each row, stopped and resumed."""
    return [Entry(f"resume/{row}", "tests.gpu.checks:resume", (row, True), worker=DETERMINISTIC) for row in rows]


def published(*names: str, attention: str = "") -> list[Entry]:
    """The step of experiments, with another implementation of attention if one is named."""
    found = []
    for name in names:
        settings = PUBLISHED[name].settings | ({"model.attention": attention} if attention else {})
        size = dataclasses.replace(PUBLISHED[name], settings=settings)
        title, plain = f"published/{name}", f"published/{name}" if attention else ""
        title += f"/{attention}" if attention else ""
        found.append(Entry(title, "tests.gpu.measurements:published", (size,), 150, OWN, plain))
    return found


def torch(*, compiled: bool) -> list[Entry]:
    """Counterparts in torch, as written or through torch.compile."""
    suffix = "/compiled" if compiled else ""
    return [
        Entry(f"torch/{name}{suffix}", f"tests.gpu.torch_steps:{name}", (compiled,), 150, OWN, f"published/{ours}")
        for name, ours in TORCH.items()
    ]


def entries(rows: Sequence[str], more: Sequence[str]) -> list[Entry]:
    """All of them.

    Args:
      rows, more: the names of tests.test_conformance.RUNS and MORE.
    """
    first, *others = [row for row in rows if "/" not in row]  # a row a family
    return [
        *steps(rows),
        Entry("attention/unet", "tests.gpu.checks:attention", (128, 256, 256, 1)),
        Entry("attention/vit", "tests.gpu.checks:attention", (128, 197, 768, 12)),
        *resume([first]),
        *published("ddpm_cifar10", "vit_b16"),
        *torch(compiled=False),
        *published("sngan_cifar10", "edm_cifar10"),
        *resume(others),
        *published("ddpm_cifar10", "vit_b16", attention="cudnn"),
        *steps(more),
        Entry(f"resume_default/{first}", "tests.gpu.checks:resume", (first, False)),
        *torch(compiled=True),
    ]
