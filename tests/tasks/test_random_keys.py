"""Every draw of every task, recorded: no key is drawn from twice, and none that is drawn from is a parent of others."""

import collections
import contextlib
import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.extend.core import primitives

from genmodels import loop
from genmodels.core.parallel import whole_view
from genmodels.core.rng import fold
from genmodels.data import transforms
from genmodels.data.augment import Augment
from genmodels.nn.stochastic import Dropout
from tests.test_conformance import BRIEF, SLOW_MORE, built, config_of, frozen_of, teacher  # noqa: F401

EVERY_AUGMENTATION = Augment(
    flip=True, flip_vertical=True, pad_crop=1, brightness=0.1, contrast=0.1, cutout=2, crop_area=0.5, dequantize=True
)
DRAWS_MORE = {"classifier": {"loss.mixup": 0.2}, "gan/resnet": {"gan.augment": ("colour", "cutout")}}
# Options that make a predict function short; its draws do not depend on them.
BRIEF_OPTIONS = {"steps": 3, "frames": 2, "strata": 3, "samples": 2, "rtol": 1.0, "atol": 1.0}


@dataclasses.dataclass
class Record:
    """How often each key was drawn from, split, and folded with each number."""

    drawn: collections.Counter = dataclasses.field(default_factory=collections.Counter)
    split: collections.Counter = dataclasses.field(default_factory=collections.Counter)
    folded: collections.Counter = dataclasses.field(default_factory=collections.Counter)

    def faults(self):
        """What breaks the rule of genmodels.core.rng, in words."""
        parents = self.split.keys() | self.folded.keys()
        return {
            "drawn from twice": [key for key, times in self.drawn.items() if times > 1],
            "drawn from, and a parent": sorted(self.drawn.keys() & parents),
            "split twice": [key for key, times in self.split.items() if times > 1],
            "split and folded": sorted(self.split.keys() & self.folded.keys()),
        }

    def check(self):
        assert {what: len(keys) for what, keys in self.faults().items() if keys} == {}


@contextlib.contextmanager
def recording(monkeypatch):
    """Runs what is inside operation by operation, with the values of its keys in a Record."""
    record = Record()

    def watch(primitive, counter):
        impl = primitive.impl

        def watched(keys, *args, **params):
            counter.update(map(tuple, np.asarray(jax.random.key_data(keys)).reshape(-1, 2).tolist()))
            return impl(keys, *args, **params)

        patch.setattr(primitive, "impl", watched)

    with monkeypatch.context() as patch, jax.disable_jit():
        watch(primitives.random_bits_p, record.drawn)
        watch(primitives.random_split_p, record.split)
        watch(primitives.random_fold_in_p, record.folded)
        yield record


def batch_of(source, rows):
    images = np.random.default_rng(0).integers(0, 256, (rows, *source.image_shape), dtype=np.uint8)
    return {"image": jnp.asarray(images), "label": jnp.arange(rows) % 10}


@pytest.mark.parametrize("name", [*BRIEF, *SLOW_MORE])
def test_no_key_serves_two_purposes(config_of, monkeypatch, name):  # noqa: F811
    config = config_of(name, **DRAWS_MORE.get(name, {}))
    source, task = built(config)
    frozen = frozen_of(config, task)
    batch = batch_of(source, 2 * task.row_multiple)
    step = loop.compose_step(task, EVERY_AUGMENTATION)
    with recording(monkeypatch) as record:  # both from the key of one seed, as in the loop
        state = task.init(jax.random.key(0), transforms.normalize(batch))
        step(state, frozen, batch, jax.random.fold_in(jax.random.key(0), 1), whole_view(batch))
    assert record.drawn
    record.check()

    for function, predict in task.predict.items():
        options = {key: BRIEF_OPTIONS.get(key, value) for key, value in predict.options.items()}
        fields = transforms.normalize(batch) | {"key": fold(jax.random.key(0), jnp.arange(len(batch["image"])))}
        inputs = {field: fields.get(field, fields["image"]) for field in predict.inputs}
        with recording(monkeypatch) as record:
            predict.fn(state.variables(), frozen, inputs, whole_view(batch), **options)
        assert {what: len(keys) for what, keys in record.faults().items() if keys} == {}, function


def normal(key):
    return jax.random.normal(key, (2,))


def dropped(key):
    network = Dropout(0.5)
    return network.apply({}, jnp.ones((1, 2)), key[None])


MISUSES = (
    ("drawn from twice", lambda key: normal(key) + normal(key)),
    ("drawn from twice", lambda key: dropped(key) + dropped(key)),  # two networks that are called with the same keys
    ("drawn from, and a parent", lambda key: normal(key) + normal(fold(key, 1))),
    ("split twice", lambda key: jax.random.split(key)[0] == jax.random.split(key, 3)[2]),
    ("split and folded", lambda key: jax.random.split(key)[0] == fold(key, 1)),
)


@pytest.mark.parametrize(("fault", "misuse"), MISUSES)
def test_a_key_that_serves_two_purposes_is_found(monkeypatch, fault, misuse):
    keys = jax.random.split(jax.random.key(0), 3)
    with recording(monkeypatch) as record:
        jax.vmap(misuse)(keys)
    assert len(record.faults()[fault]) == 3
