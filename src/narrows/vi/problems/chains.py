"""Markov reward processes with finitely many states."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int


class Chain(NamedTuple):
    """A Markov reward process; `markov_chain` checks the numbers.

    Attributes:
        transition: probability of the next state, rows the state; what a row lacks to 1 is the chance that the episode ends.
        reward: expected reward in each state.
        discount: gamma.
        restart: where episodes begin; without endings it does not matter.
    """

    transition: Float[np.ndarray, "state state"]
    reward: Float[np.ndarray, " state"]
    discount: float
    restart: Float[np.ndarray, " state"]

    def backup(self, value: Float[Array, " state"]) -> Float[Array, " state"]:
        """Return `T v = r + gamma P v`."""
        reward, transition = (jnp.asarray(each, value.dtype) for each in (self.reward, self.transition))
        return reward + self.discount * (transition @ value)

    @property
    def value(self) -> Float[np.ndarray, " state"]:
        """The exact values, `(I - gamma P)^-1 r`."""
        return np.linalg.solve(np.eye(len(self.reward)) - self.discount * self.transition, self.reward)

    @property
    def stationary(self) -> Float[np.ndarray, " state"]:
        """The share of time in each state in the long run, new episodes beginning where old ones end.

        Raises ValueError where the chain falls into parts, each with a distribution of its own.
        """
        moved = self.transition + (1.0 - self.transition.sum(1))[:, None] * self.restart
        system = np.concatenate([moved.T - np.eye(len(moved)), np.ones((1, len(moved)))])
        share, _, rank, _ = np.linalg.lstsq(system, np.eye(len(moved) + 1)[-1], rcond=None)
        if rank < len(moved):
            raise ValueError("the chain has more than one stationary distribution. Pass the weights of the states yourself.")
        share = np.maximum(share, 0.0)
        return share / share.sum()


class Walk(NamedTuple):
    """States in the order in which they were seen.

    Attributes:
        state: number of the state at each time.
        next_state: number of the next; the number of states where the episode ended.
        is_terminal: whether it ended there.
    """

    state: Int[Array, " time"]
    next_state: Int[Array, " time"]
    is_terminal: Bool[Array, " time"]


def markov_chain(
    transition: Float[np.ndarray, "state state"],
    reward: Float[np.ndarray, " state"],
    discount: float,
    restart: Float[np.ndarray, " state"] | None = None,
) -> Chain:
    """Return a Markov reward process.

    Args:
        transition: rows of probabilities; a row of sum below 1 ends the episode with what it lacks.
        reward: expected reward in each state.
        discount: in [0, 1]; 1 only where every episode ends.
        restart: where episodes begin; uniform where not given.

    Raises ValueError where these are no probabilities, or some value is infinite.
    """
    transition, reward = np.asarray(transition, float), np.asarray(reward, float)
    if transition.ndim != 2 or transition.shape[0] != transition.shape[1]:
        raise ValueError(f"transition must be square, a row for each state, got shape {transition.shape}.")
    num_states = len(transition)
    restart = np.full(num_states, 1.0 / num_states) if restart is None else np.asarray(restart, float)
    if reward.shape != (num_states,) or restart.shape != (num_states,):
        raise ValueError(
            f"reward and restart need one number for each of {num_states} states, got {reward.shape}, {restart.shape}."
        )
    if not (np.all(transition >= 0) and np.all(transition.sum(1) <= 1 + 1e-9)):
        raise ValueError("transition must hold probabilities: at least 0, rows of sum 1, or below 1 where episodes end.")
    if not (np.all(restart >= 0) and abs(restart.sum() - 1) < 1e-9):
        raise ValueError(f"restart must hold probabilities of sum 1, got sum {restart.sum()}.")
    if not np.all(np.isfinite(reward)):
        raise ValueError("reward must be finite.")
    if not 0.0 <= discount <= 1.0:
        raise ValueError(f"discount must lie between 0 and 1, got {discount}.")
    if discount * np.abs(np.linalg.eigvals(transition)).max() > 1 - 1e-12:
        raise ValueError("some state has no finite value: some episodes never end, so the discount must be below 1.")
    return Chain(transition, reward, float(discount), restart)


def walk(chain: Chain, key: Array, num_steps: int) -> Walk:
    """Return that many transitions one after the other, from a state of the stationary distribution."""
    table, fresh = jnp.asarray(_cumulative(chain.transition)), jnp.asarray(_cumulative(chain.restart[None]))[0]
    first_key, next_key, fresh_key = jax.random.split(key, 3)
    first = _drawn(jnp.asarray(_cumulative(chain.stationary[None]))[0], jax.random.uniform(first_key))

    def go(state: Array, uniform: tuple[Array, Array]) -> tuple[Array, Walk]:
        after = _drawn(table[state], uniform[0])
        is_terminal = after == len(table)
        return jnp.where(is_terminal, _drawn(fresh, uniform[1]), after), Walk(state, after, is_terminal)

    uniforms = (jax.random.uniform(next_key, (num_steps,)), jax.random.uniform(fresh_key, (num_steps,)))
    return jax.lax.scan(go, first, uniforms)[1]


def _cumulative(rows: Float[np.ndarray, "row state"]) -> Float[np.ndarray, "row state"]:
    """Return cumulative probabilities; rows of sum 1 end above 1, so that rounding never draws what is impossible."""
    rest = rows[:, ::-1].cumsum(1)[:, ::-1]
    is_last = np.concatenate([rest[:, 1:], np.zeros((len(rows), 1))], 1) == 0
    is_whole = rows.sum(1, keepdims=True) > 1 - 1e-9
    return np.where(is_last & is_whole, 2.0, rows.cumsum(1))


def _drawn(cumulative: Float[Array, " state"], uniform: Float[Array, ""]) -> Int[Array, ""]:
    """Return the number of the state drawn; the number of states for none of them."""
    return jnp.sum(cumulative <= uniform, dtype=jnp.int32)
