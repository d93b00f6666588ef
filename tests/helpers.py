"""What several tests need."""

import hashlib
import os
import pathlib
import runpy
import subprocess
import sys

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from tests import QUICK_COMPILE

ROOT = pathlib.Path(__file__).resolve().parent.parent
EXPERIMENTS = sorted(path.stem for path in (ROOT / "experiments").glob("*.py"))


def experiment(name, variant="tiny", **overrides):
    """The config of experiments/<name>.py with {"a.b": value} overrides."""
    config = runpy.run_path(str(ROOT / "experiments" / f"{name}.py"))["get_config"](variant)
    config.update_from_flattened_dict(overrides)
    return config


class Small(nn.Module):
    """Replaces the U-Net in tests that are not about it: a hidden layer on each pixel, the time and the label."""

    out_channels: int
    num_classes: int = 0
    attention: str = "xla"
    dtype: object = jnp.float32

    @nn.compact
    def __call__(self, x, timesteps, labels=None, keys=None):
        embedding = nn.Dense(16)(timesteps[:, None] / 20.0)
        if labels is not None:
            embedding += nn.Embed(self.num_classes + 1, 16)(labels)
        h = nn.tanh(nn.Dense(16)(x) + embedding[:, None, None])
        return nn.Dense(self.out_channels, kernel_init=nn.initializers.zeros, name="conv_out")(h)


def stand_in(patch):
    """Puts `Small` in the place of every task's U-Net for as long as the monkeypatch lasts."""
    from genmodels.tasks import diffusion

    patch.setattr(diffusion, "UNet", Small)


def small_experiment(name, **overrides):
    """As `experiment`, for `Small` in the place of the U-Net."""
    config = experiment(name, **overrides)
    config.model = {}
    return config


def random_variables(init, *args):
    """Random variables in the shapes that `init(key, *args)` gives. Nothing is compiled, and no layer is zero.

    Kernels have variance 1 / fan-in, scales are near 1 and other parameters near 0.
    """
    rng = np.random.default_rng(0)

    def drawn(path, leaf):
        values = rng.standard_normal(leaf.shape)
        name = path[-1].key
        values = values / np.sqrt(np.prod(leaf.shape[:-1])) if name == "kernel" else (name == "scale") + 0.05 * values
        return jnp.asarray(values, leaf.dtype)

    return jax.tree_util.tree_map_with_path(drawn, jax.eval_shape(init, jax.random.key(0), *args))


def random_state(task, batch):
    """A state in the shapes that `task.init` gives, with `random_variables` as the parameters and their averages.

    The optimizer's state is zero, which is where optax's Adam and SGD begin. Only `extra` is computed by `task.init`.
    """
    state = jax.eval_shape(task.init, jax.random.key(0), batch)
    params = random_variables(lambda key: task.init(key, batch).params)
    zeros = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), state.replace(params={}, ema_params={}))
    extra = jax.jit(lambda key: task.init(key, batch).extra)(jax.random.key(0)) if state.extra else {}
    return zeros.replace(params=params, ema_params={name: params[name] for name in state.ema_params}, extra=extra)


def digest(tree):
    """A hash of every bit of a pytree."""
    total = hashlib.sha256()
    for path, leaf in jax.tree_util.tree_leaves_with_path(tree):
        total.update(jax.tree_util.keystr(path).encode())
        total.update(np.ascontiguousarray(np.asarray(leaf)).tobytes())
    return total.hexdigest()


def final_state(workdir):
    """The newest state of a work directory as numpy arrays."""
    from genmodels.core.checkpoint import Checkpoints
    from genmodels.core.parallel import Parallel
    from genmodels.runs.inference import abstract_state, task_of

    _, _, data, task = task_of(workdir)
    target = abstract_state(task, data)
    checkpoints = Checkpoints(workdir / "checkpoints", read_only=True)
    state = checkpoints.restore(target, Parallel().state_shardings(target))
    checkpoints.close()
    return jax.device_get(state)


def lower_step(task, state, spec, platforms, frozen):
    """The step that a task's run compiles, lowered for `platforms` without one of their devices."""
    from genmodels import loop
    from genmodels.core.parallel import whole_view

    step = loop.compose_step(task)
    rows = 8 * task.row_multiple
    batch = {field: jnp.zeros((rows, *spec.image_shape), jnp.uint8) for field in spec.fields}
    batch |= {"label": jnp.zeros(rows, jnp.int32)} if spec.num_classes else {}
    return jax.export.export(jax.jit(lambda s, f, b, r: step(s, f, b, r, whole_view(b))), platforms=platforms)(
        state, frozen, batch, jax.random.key(0)
    )


def command(module, *args, quick=True):
    """Starts `python -m genmodels.<module>` as a user would, on one CPU device; `quick` spares compilation."""
    return started("-m", f"genmodels.{module}", *map(str, args), quick=quick)


def started(*args, quick=True):
    """Starts Python with these arguments, on one CPU device."""
    env = {key: value for key, value in os.environ.items() if key not in ("XLA_FLAGS", "PJRT_NPROC")}
    env |= {"XLA_FLAGS": QUICK_COMPILE} if quick else {}
    return subprocess.Popen(
        [sys.executable, *args], cwd=ROOT, env=env, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )


def finish(process, timeout=600):
    """(exit code, stdout, stderr) of a process, once it is done."""
    out, err = process.communicate(timeout=timeout)
    return process.returncode, out, err
