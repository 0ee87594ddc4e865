"""The pool of a temperature sweep: colder samples score higher, nothing twice, nonsense refused."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from narrows.envs import Sequence
from narrows.metrics import temperature_pool
from narrows.policies import Tabular, sizes_of
from narrows.policies.base import Model

ENV = Sequence("AB", 6, 6)
POLICY = Tabular(sizes_of(ENV), init_scale=1.0, key=jax.random.key(0))
MODEL = Model(POLICY, jnp.zeros(()))


def test_the_pool_holds_each_object_once_and_is_larger_when_hotter():
    cold, own, hot = (len(temperature_pool(jax.random.key(1), MODEL, ENV, 64, (t,))) for t in (8.0, 1.0, 0.1))
    assert cold < own < hot <= 64
    pool = temperature_pool(jax.random.key(1), MODEL, ENV, 64, (8.0, 1.0, 0.1))
    assert len(set(pool)) == len(pool) >= hot
    assert set(map(len, pool)) == {6}


@pytest.mark.parametrize("multiplier", [0.0, -1.0, np.nan, np.inf])
def test_nonsense_is_refused(multiplier):
    with pytest.raises(ValueError, match="multipliers must be positive and finite"):
        temperature_pool(jax.random.key(1), MODEL, ENV, 4, (1.0, multiplier))
