"""Errors of XLA and of memory become one line that names the keys to change."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from genmodels.core.failures import explain, explained
from genmodels.errors import ConfigError


def test_memory_that_numpy_cannot_have_is_explained():
    words = r"the step ran out of memory: lower rows, .*Unable to allocate"
    with pytest.raises(ConfigError, match=words), explained("the step", "rows"):
        np.empty(2**58, np.uint8)


def test_memory_that_xla_cannot_have_is_explained():
    with pytest.raises(ConfigError, match="the step ran out of memory: lower rows"), explained("the step", "rows"):
        jax.block_until_ready(jax.jit(lambda: jnp.ones((2**20, 2**20, 2**6)))())


def test_a_model_without_a_precision_is_not_told_to_change_it():
    assert "dtype" not in str(explain(MemoryError(), "the step", "rows", dtype=""))


def test_other_errors_stay_what_they_are():
    assert explain(ValueError("shapes differ"), "the step", "rows") is None
    with pytest.raises(ValueError, match="shapes differ"), explained("the step", "rows"):
        raise ValueError("shapes differ")
