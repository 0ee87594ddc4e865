"""TORUS-2: value prediction on two angles, whose exact values have a closed form (surrogate 6.4).

The angles drift and diffuse, uniformly distributed in the long run. The reward's waves `e^(i k . phi)` are eigenfunctions of
one step, so the value is their sum with factors `1 / (1 - gamma e^(i k.omega - |k|^2 sigma^2 / 2))`; its standard deviation
over the angles is 15.6.
"""

from typing import Final

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from narrows.vi.base import Params
from narrows.vi.td.transitions import Transitions, Value

DISCOUNT: Final = 0.99
DRIFT: Final = (0.10, -0.07)
NOISE: Final = 0.1
WAVES: Final = ((1.0, 0.0), (0.0, 1.0), (1.0, 1.0))
HEIGHTS: Final = (1.0, 1.0, 0.5)


def points(key: Array, num: int) -> Float[Array, "num 2"]:
    """Return angles drawn uniformly, between 0 and a full turn."""
    return jax.random.uniform(key, (num, 2), maxval=2 * np.pi)


def observation(angles: Float[Array, "*batch 2"]) -> Float[Array, "*batch 4"]:
    """Return the cosines of both angles, then their sines."""
    return jnp.concatenate([jnp.cos(angles), jnp.sin(angles)], -1)


def reward(angles: Float[Array, "*batch 2"]) -> Float[Array, "*batch"]:
    """Return `cos phi_1 + cos phi_2 + 1/2 cos(phi_1 + phi_2)`."""
    return jnp.cos(_phases(angles)) @ jnp.asarray(HEIGHTS, angles.dtype)


def moved(key: Array, angles: Float[Array, "*batch 2"]) -> Float[Array, "*batch 2"]:
    """Return the angles one step later, not brought back below a full turn."""
    return angles + jnp.asarray(DRIFT, angles.dtype) + NOISE * jax.random.normal(key, angles.shape, angles.dtype)


def exact_value(angles: Float[Array, "*batch 2"]) -> Float[Array, "*batch"]:
    """Return the exact value, in closed form."""
    waves = np.asarray(WAVES)
    factors = np.asarray(HEIGHTS) / (1.0 - DISCOUNT * np.exp(1j * waves @ np.asarray(DRIFT) - NOISE**2 / 2 * (waves**2).sum(1)))
    real, imaginary = jnp.asarray(factors.real, angles.dtype), jnp.asarray(factors.imag, angles.dtype)
    phases = _phases(angles)
    return jnp.cos(phases) @ real - jnp.sin(phases) @ imaginary


def transitions(key: Array, num: int) -> Transitions:
    """Return independent transitions from angles drawn uniformly; no episode ends."""
    here_key, next_key = jax.random.split(key)
    here = points(here_key, num)
    return Transitions(observation(here), reward(here), observation(moved(next_key, here)), jnp.zeros(num, bool))


def rmse(value: Value, params: Params, angles: Float[Array, "num 2"]) -> Float[Array, ""]:
    """Return the root of the mean squared error of a value function at some angles."""
    return jnp.sqrt(jnp.mean((value(params, observation(angles)) - exact_value(angles)) ** 2))


def _phases(angles: Float[Array, "*batch 2"]) -> Float[Array, "*batch wave"]:
    return angles @ jnp.asarray(WAVES, angles.dtype).T
