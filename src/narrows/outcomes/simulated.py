"""Outcomes of a sequence that is asked for, drawn at random: where there are too many to weigh."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, Integer

from narrows.envs.perturbation import AbstractKernel
from narrows.envs.sequence import AbstractSequence, SequenceState
from narrows.exact.blocks import in_blocks
from narrows.outcomes.scoring import scores_of

_OUTCOMES_TOGETHER = 2**14
_OUTCOMES_KEPT = 2**18
"""Outcomes among which equal ones are found, so that a score reads each object once; memory grows with it."""


@dataclass(frozen=True, eq=False)
class Simulated:
    """Draw `num` outcomes of each plan, by the same random numbers for all plans."""

    env: AbstractSequence
    kernel: AbstractKernel
    score: Callable[[Any], Float[Array, " batch"]]
    num: int
    seed: int

    def moments(self, plans: Int[np.ndarray, "object time"]) -> tuple[np.ndarray, np.ndarray]:
        """Return mean and standard deviation of the score of what comes out of each plan, float64."""
        together = max(1, _OUTCOMES_KEPT // self.num)
        scores = (self._scores(plans[start : start + together]) for start in range(0, len(plans), together))
        mean, std = (np.concatenate(columns) for columns in zip(*map(_spread, scores), strict=True))
        return mean, std

    def _scores(self, plans: Int[np.ndarray, "object time"]) -> Float[np.ndarray, "object outcome"]:
        """Return the scores of what comes out of each plan."""
        key = jax.random.key(self.seed)
        together = max(1, _OUTCOMES_TOGETHER // self.num)
        came = in_blocks(lambda part: _outcomes(self.env, self.kernel, key, self.num, part), plans, together)
        rows = np.ascontiguousarray(came).reshape(-1, came.shape[-1])
        # Rows of tokens as single items: that is what makes looking for equal ones fast.
        items = rows.view(np.dtype((np.void, rows.dtype.itemsize * rows.shape[1])))[:, 0]
        _, first, places = np.unique(items, return_index=True, return_inverse=True)
        distinct = rows[first].astype(np.int32)
        lengths = np.sum(distinct != self.env.num_tokens, axis=1, dtype=np.int32)
        finished = SequenceState(distinct, lengths, np.ones(len(distinct), bool))  # pyright: ignore[reportArgumentType]
        return scores_of(self.score, finished)[places].reshape(len(plans), self.num)


def _spread(scores: Float[np.ndarray, "object outcome"]) -> tuple[np.ndarray, np.ndarray]:
    apart = scores - scores[:, :1]  # equal scores have no spread at all, and their mean is each of them
    return scores[:, 0] + np.mean(apart, axis=1), np.std(apart, axis=1, ddof=1)


@eqx.filter_jit
def _outcomes(
    env: AbstractSequence, kernel: AbstractKernel, key: Array, num: int, plans: Int[Array, "object time"]
) -> Integer[Array, "object outcome position"]:
    """Return the tokens of `num` outcomes of each plan."""
    noise = jax.random.gumbel(key, (plans.shape[1], num, env.num_actions), jnp.float32)

    def take_place(state: Any, asked: Int[Array, ""], noise: Float[Array, " action"]) -> Any:
        came = jnp.argmax(kernel.log_probs(state, asked) + noise).astype(jnp.int32)  # a draw from the kernel
        is_over = env.is_terminal(state)
        return jax.tree.map(lambda old, new: jnp.where(is_over, old, new), state, env.step(state, came))

    def outcomes(plan: Int[Array, " time"]) -> Any:
        start = jax.tree.map(lambda leaf: jnp.repeat(leaf[None], num, axis=0), env.reset())

        def ask(states: Any, turn: tuple[Int[Array, ""], Float[Array, "outcome action"]]) -> tuple[Any, None]:
            asked, noise = turn
            return jax.vmap(take_place, in_axes=(0, None, 0))(states, asked, noise), None

        return jax.lax.scan(ask, start, (plan, noise))[0]

    tokens = jax.vmap(outcomes)(plans).tokens
    return tokens.astype(jnp.uint8 if env.num_tokens < 256 else jnp.int32)
