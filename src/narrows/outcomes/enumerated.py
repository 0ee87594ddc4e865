"""Every outcome of a sequence that is asked for, weighed: exact where all objects can be listed."""

from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from narrows.envs.perturbation import AbstractKernel
from narrows.envs.sequence import AbstractSequence, SequenceState
from narrows.exact.blocks import in_blocks
from narrows.outcomes.scoring import scores_of

_PREFIXES_TOGETHER = 4096
_PLANS_TOGETHER = 64


class Enumerated(eqx.Module):
    """The noise after every prefix and the score of every object, each length in the order of its words as numbers.

    `probs[t]` is `P(came | prefix of t letters, asked)`; `scores[l]` belongs to the objects of `min_length + l` letters.
    """

    probs: tuple[Float[Array, "asked _ came"], ...]
    scores: tuple[Float[Array, " _"], ...]

    def moments(self, plans: Int[np.ndarray, "object time"]) -> tuple[np.ndarray, np.ndarray]:
        """Return mean and standard deviation of the score of what comes out of each plan, float64."""
        mean, std = in_blocks(lambda part: _moments(self, part), plans, _PLANS_TOGETHER)
        return mean.astype(np.float64), std.astype(np.float64)


def num_objects(env: AbstractSequence) -> int:
    """Return how many finished objects an environment has."""
    return sum(env.num_tokens**length for length in range(env.min_length, env.max_length + 1))


def enumerate_outcomes(env: AbstractSequence, kernel: AbstractKernel, score: Callable[[Any], Array]) -> Enumerated:
    """Tabulate the noise after every prefix and the score of every object."""

    @eqx.filter_jit
    def probs(kernel: AbstractKernel, prefixes: SequenceState) -> Float[Array, "prefix asked came"]:
        return jnp.exp(jax.vmap(kernel.all_log_probs)(prefixes))

    lengths = range(env.min_length, env.max_length + 1)
    words = [_words(env, length, is_done=False) for length in range(env.max_length)]
    tables = [in_blocks(lambda part: probs(kernel, part), prefixes, _PREFIXES_TOGETHER) for prefixes in words]
    values = [scores_of(score, _words(env, length, is_done=True)) for length in lengths]
    return Enumerated(
        # Asked first: of each table a plan reads one contiguous part.
        tuple(jnp.asarray(table.transpose(1, 0, 2), jnp.float32) for table in tables),
        tuple(jnp.asarray(value, jnp.float32) for value in values),
    )


def _words(env: AbstractSequence, length: int, *, is_done: bool) -> SequenceState:
    """Return all words of a length, as prefixes or as finished objects; word `w` is written in base `num_tokens`."""
    places = np.arange(env.num_tokens**length)
    tokens = np.full((len(places), env.max_length), env.num_tokens, np.int32)
    for position in range(length):
        tokens[:, position] = places // env.num_tokens ** (length - 1 - position) % env.num_tokens
    lengths = np.full(len(places), length, np.int32)
    return SequenceState(tokens, lengths, np.full(len(places), is_done))  # pyright: ignore[reportArgumentType]


@eqx.filter_jit
def _moments(table: Enumerated, plans: Int[Array, "object time"]) -> tuple[Array, Array]:
    return jax.lax.map(lambda plan: _moments_of(table, plan), plans, batch_size=8)


def _moments_of(table: Enumerated, plan: Int[Array, " time"]) -> tuple[Float[Array, ""], Float[Array, ""]]:
    weights = _weights(table, plan)[-len(table.scores) :]  # nothing ends before the shortest object
    parts = list(zip(weights, table.scores, strict=True))
    total = jnp.sum(jnp.stack([jnp.sum(weight) for weight in weights]))  # 1, up to single precision
    mean = jnp.sum(jnp.stack([jnp.vdot(weight, score) for weight, score in parts])) / total
    squares = jnp.stack([jnp.vdot(weight, (score - mean) ** 2) for weight, score in parts])
    return mean, jnp.sqrt(jnp.sum(squares) / total)


def _weights(table: Enumerated, plan: Int[Array, " time"]) -> list[Float[Array, " _"]]:
    """Return for each length the probability of each of its words to come out of a plan."""
    weights, going_on = [], jnp.ones(1)
    for time, probs in enumerate(table.probs):
        came = going_on[:, None] * probs[plan[time]]
        weights.append(came[:, -1])
        going_on = came[:, :-1].reshape(-1)
    return [*weights, going_on]
