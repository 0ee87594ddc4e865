"""Constraints of flow at the players' turns and at chance turns, along a batch of trajectories."""

from typing import NamedTuple

import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from narrows.envs.base import CHANCE, AbstractEnvironment
from narrows.envs.perturbation import AbstractPerturbed
from narrows.envs.turns import turns_of
from narrows.objectives.chance import ChanceTurns
from narrows.operators import masked_log_softmax, masked_logsumexp
from narrows.trajectories import Path, gather, per_step, shift_back


class Terms(NamedTuple):
    """The terms of a weighted mean: a value and a weight, for any number of things in each item of the batch."""

    value: Float[Array, "term batch"]
    weight: Float[Array, "term batch"]

    def squared(self) -> "Terms":
        """Return the squares of the values, weighted alike."""
        return Terms(self.value**2, self.weight)

    def concat(self, other: "Terms") -> "Terms":
        """Return both."""
        return Terms(jnp.concatenate([self.value, other.value]), jnp.concatenate([self.weight, other.weight]))


class Choices(NamedTuple):
    """Every action at the players' turns: the policy's log-probability, and the log-flow of the chance turn after it."""

    log_policy: Float[Array, "turn batch action"]
    answer: Float[Array, "turn batch action"]
    is_legal: Bool[Array, "turn batch action"]

    def terms(self, value: Float[Array, "turn batch action"], weight: Float[Array, "turn batch action"]) -> Terms:
        """Return a term an action; illegal ones count for nothing."""

        def flat(numbers: Float[Array, "turn batch action"]) -> Float[Array, "term batch"]:
            return jnp.moveaxis(jnp.where(self.is_legal, numbers, 0.0), 1, 2).reshape(-1, numbers.shape[1])

        return Terms(flat(value), flat(weight))


class Turns(NamedTuple):
    """The turns of a batch of trajectories, of which `chance` has some as its rows; other arrays are `[time, batch]`."""

    env: AbstractEnvironment
    path: Path
    chance: ChanceTurns
    log_z: Float[Array, ""]

    @property
    def is_chance(self) -> Bool[Array, "time batch"]:
        return self.path.is_valid & (self.path.turn == CHANCE)

    @property
    def is_players(self) -> Bool[Array, "time batch"]:
        return self.path.is_valid & (self.path.turn != CHANCE)

    @property
    def is_answered(self) -> Bool[Array, "time batch"]:
        """The players' turns that a chance turn follows."""
        return self.is_players & shift_back(self.is_chance)

    @property
    def is_unpaired(self) -> Bool[Array, "time batch"]:
        """Chance turns that follow none of a player's: the first of all, or one after another."""
        return self.is_chance & ~jnp.concatenate([jnp.zeros_like(self.is_players[:1]), self.is_players[:-1]])

    def spread(self, rows: Float[Array, "turn batch *outcome"]) -> Float[Array, "time batch *outcome"]:
        """Return numbers of chance turns at their times, zeros at the players' where the two alternate."""
        if not isinstance(self.env, AbstractPerturbed):
            return rows
        return jnp.stack([jnp.zeros_like(rows), rows], axis=1).reshape(-1, *rows.shape[1:])

    def player_rows(self, numbers: Float[Array, "time batch"]) -> Float[Array, "turn batch"]:
        """Return the rows of the players' turns where these and chance turns alternate, else every row."""
        return numbers[::2] if isinstance(self.env, AbstractPerturbed) else numbers

    def at_player_turns(self, rows: Float[Array, "turn batch *outcome"]) -> Float[Array, "time batch *outcome"]:
        """Return numbers of chance turns at the players' turns before them, and at unpaired ones."""
        numbers = self.spread(rows)
        is_unpaired = self.is_unpaired.reshape(*self.is_unpaired.shape, *(1,) * (numbers.ndim - 2))
        return jnp.where(is_unpaired, numbers, shift_back(numbers))

    def flow(self, arrival: Float[Array, "turn batch"]) -> Float[Array, "time batch"]:
        """Return the log-flow of the state before each turn: `log_z` at the root, then that of what came."""
        arrived = self.spread(arrival)
        return jnp.concatenate([jnp.broadcast_to(self.log_z, arrived[:1].shape), arrived[:-1]])

    def errors(self, arrival: Float[Array, "turn batch"], answer: Float[Array, "turn batch"]) -> Terms:
        """Return `log F(s) + log pi(a|s) - log F(s, a)` of each player's turn (eflow eq. 2.5), to be squared or summed.

        Args:
            arrival: log-flow of the state that came.
            answer: log-flow of the chance turn: what a method takes for the average over outcomes.

        At an unpaired chance turn the flow of the state is compared with the average directly.
        """
        answer = self.spread(answer)
        following = jnp.where(self.is_answered, shift_back(answer), self.spread(arrival))
        flow = self.flow(arrival)
        error = jnp.where(self.is_players, flow + self.path.log_pi - following, flow - answer)
        counts = self.is_players | self.is_unpaired
        return Terms(jnp.where(counts, error, 0.0), counts.astype(error.dtype))

    def choices(self, flows: Float[Array, "turn batch action"]) -> Choices:
        """Return every action at the players' turns; the environment must be one that `shares_outcomes`.

        Args:
            flows: log-flows of the states that all outcomes lead to.
        """
        rows = slice(0, None, 2) if isinstance(self.env, AbstractPerturbed) else slice(None)
        mask = self.path.action_mask[rows] & self.is_players[rows][..., None]
        log_policy = jnp.where(mask, masked_log_softmax(self.path.forward_logits[rows], mask), 0.0)
        if not isinstance(self.env, AbstractPerturbed):
            return Choices(log_policy, flows, mask)
        log_p = per_step(self.env.kernel.all_log_probs)(self.chance.states)
        # Rows of illegal actions have no meaning, and maybe no probability above zero.
        log_p = jnp.where(mask[..., None], log_p, 0.0)
        return Choices(log_policy, masked_logsumexp(log_p + flows[..., None, :], log_p > -jnp.inf), mask)

    def ends(self) -> Terms:
        """Return the head's error at the object that each trajectory ended in.

        Where no other reward is known, the head is all there is for other outcomes, and it learns from these.
        """
        error = gather(self.chance.head, self.chance.came) - self.chance.log_reward
        return Terms(jnp.where(self.chance.is_end, error, 0.0), self.chance.is_end.astype(error.dtype))


def shares_outcomes(env: AbstractEnvironment) -> bool:
    """Return whether the outcomes of all actions of a state lead to the same states: under a kernel, or one player's alone."""
    return isinstance(env, AbstractPerturbed) or turns_of(env) == {0}
