"""The sections that every config has, whatever its task: their keys with default, type and meaning."""

import dataclasses
import typing

from genmodels.config.settings import meanings


@dataclasses.dataclass(frozen=True)
class Common:
    """The keys outside of sections.

    Attributes:
      task: the method: a name of `genmodels.tasks.TASKS`.
      seed: random seed of the first weights, the order of the data and all that is drawn in training.
      parallel: how a step runs on several devices: pmap or sharded.
      shard_parameters: splits the parameters over the devices; needs parallel=sharded.
      init_from: a work directory, or FILE.py[:VARIANT] to train first, whose parameters the run begins with.
      init_fresh: regular expressions; parameters that they match begin with new values all the same.
      frozen: regular expressions; parameters, "network/module/leaf", that they match are not trained.
      expect: what the trained model should reach: ({"metric":, "value":, "tolerance":, "protocol": {}, "data":}, ...).
    """

    task: str = "diffusion"
    seed: int = 0
    parallel: str = "pmap"
    shard_parameters: bool = False
    init_from: str = ""
    init_fresh: tuple[str, ...] = ()
    frozen: tuple[str, ...] = ()
    expect: tuple[dict, ...] = ()


@dataclasses.dataclass(frozen=True)
class Data:
    """`config.data`, beside `data.base.Settings`, which say how images are read.

    Attributes:
      source: what to train on: digits, idx:DIR, npz:PATH, folder:PATH, tar:PATH, zip:PATH, tfds:NAME, or a combination.
      workers: processes that decode sets which do not fit in memory.
    """

    source: str = "digits"
    workers: int = 2


@dataclasses.dataclass(frozen=True)
class Train:
    """`config.train`. Exactly one of steps, epochs and examples must be positive.

    Attributes:
      batch_size: images a step, over all devices.
      steps: length of the run in updates.
      epochs: length of the run in passes over the data.
      examples: length of the run in images.
      accumulate: micro-batches that a step is computed in.
      max_bad_steps: consecutive updates that are not finite before the run gives up.
    """

    batch_size: int = 64
    steps: int = 0
    epochs: float = 0.0
    examples: int = 0
    accumulate: int = 1
    max_bad_steps: int = 5


@dataclasses.dataclass(frozen=True)
class Optim:
    """`config.optim`.

    Attributes:
      name: the optimizer: adam, adamw, lion or sgd.
      learning_rate: its largest value, after the warm-up.
      warmup: steps in which the learning rate rises linearly from 0.
      decay: how the learning rate falls to zero at the last step: linear or cosine; constant stays.
      clip_norm: largest norm of the whole gradient; 0 does not clip.
      b1: decay of the mean of gradients (adam, adamw, lion).
      b2: decay of the mean of squared gradients (adam, adamw), of the momentum (lion).
      eps: added to the denominator (adam, adamw); at least 1e-15.
      weight_decay: share of the weights that the rate takes away at each step (adamw, lion).
      no_decay: regular expressions; weights whose names, "network/module/leaf", they match do not decay.
      momentum: share of the last update that goes on (sgd).
    """

    name: str = "adam"
    learning_rate: float = 1e-3
    warmup: int = 0
    decay: str = "constant"
    clip_norm: float = 1.0
    b1: float = 0.9
    b2: float = 0.999
    eps: float = 1e-8
    weight_decay: float = 0.0
    no_decay: tuple[str, ...] = ()
    momentum: float = 0.9


def _doc_of_network() -> str:
    texts = {name: f"{text} Where it is not set, as config.optim.{name}." for name, text in meanings(Optim).items()}
    return "\n".join(["`config.optim.NETWORK`.", "", "Attributes:", *(f"  {name}: {texts[name]}" for name in texts)])


# `config.optim.NETWORK` of a task with several networks: each key follows `config.optim` until it is set.
OptimOfNetwork = dataclasses.make_dataclass(
    "OptimOfNetwork",
    [(name, hint | None, None) for name, hint in typing.get_type_hints(Optim).items()],
    namespace={"__doc__": _doc_of_network()},
    frozen=True,
)


@dataclasses.dataclass(frozen=True)
class EMA:
    """`config.ema`: the exponential moving average of the parameters, which is what samples and is evaluated.

    Attributes:
      decay: share of the old average at each step, e.g. 0.9999; 0 keeps no average unless horizon is set.
      horizon: averaging time as a share of the run, e.g. 0.1; where positive, it sets the decay.
      warmup: keeps the decay at step t at (1 + t) / (10 + t) or below.
    """

    decay: float = 0.0
    horizon: float = 0.0
    warmup: bool = True


@dataclasses.dataclass(frozen=True)
class Log:
    """`config.log`; 0 steps mean never, but for the last step.

    Attributes:
      every: steps between two records of the metrics.
      samples_every: steps between two sheets of pictures.
      tensorboard: writes TensorBoard files beside metrics.jsonl.
    """

    every: int = 50
    samples_every: int = 1000
    tensorboard: bool = False


@dataclasses.dataclass(frozen=True)
class Checkpoint:
    """`config.checkpoint`.

    Attributes:
      every: steps between two checkpoints; 0 saves after the last step alone.
      keep: newest checkpoints that are kept.
      best: the logged metric whose least value marks the best checkpoint, which is kept too; "" keeps none.
    """

    every: int = 1000
    keep: int = 2
    best: str = "loss"


@dataclasses.dataclass(frozen=True)
class Eval:
    """`config.eval`, beside `evaluators.base.Options`: what `evaluate` measures unless its flags say otherwise.

    Attributes:
      metrics: names as in `evaluate --metrics`.
      num_samples: samples that the metrics of samples are computed from.
      batch_size: images a call of the network in evaluation.
      seed: random seed of the samples.
      split: images that are compared with: train or test.
      timesteps: times at which diffusion models reconstruct images in one step.
      likelihoods: what nll measures, e.g. ("vlb", "ode"); () is all that the model has.
      likelihood_images: images whose likelihood is measured; 0 is the whole split.
      extractor: whose features metrics without one in their name use: fd is then fd_digits.
      resize: how images come to the extractor's size: none, tf1 or clean.
      layer: layer of the FID Inception; "" is pool3.
    """

    metrics: tuple[str, ...] = ()
    num_samples: int = 1000
    batch_size: int = 250
    seed: int = 0
    split: str = "test"
    timesteps: tuple[int, ...] = ()
    likelihoods: tuple[str, ...] = ()
    likelihood_images: int = 0
    extractor: str = ""
    resize: str = "none"
    layer: str = ""


# Which dataclasses read a section, by its name. Packages that import this one are named by strings.
COMMON = {
    "": (Common,),
    "data": (Data, "genmodels.data.base:Settings"),
    "data.augment": ("genmodels.data.augment:Augment",),
    "train": (Train,),
    "optim": (Optim,),
    "ema": (EMA,),
    "log": (Log,),
    "checkpoint": (Checkpoint,),
    "eval": (Eval, "genmodels.evaluators.base:Options"),
}
