"""Players, which choose a move in each of a batch of positions, and the ways in which a network chooses."""

from typing import Any, Final, Literal, NamedTuple, Protocol, TypeAlias, runtime_checkable

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from narrows.envs.game import AbstractGame
from narrows.games.rules import in_rows, legal_moves
from narrows.operators import masked_log_softmax
from narrows.policies.base import AbstractPolicy

Acts: TypeAlias = Literal["head", "children"]
"""A network chooses by its policy head, one look at the position, or in proportion to the flows of the positions that the
moves lead to (eflow eqs. 3.5 and 3.6), one look at each of those. Neither looks further ahead."""


MANY_ACTIONS: Final = 128
"""Games of more actions are played by head: to look at what comes of every move takes as many looks as there are actions."""


@runtime_checkable
class Player(Protocol):
    """Chooses a legal move in each of a batch of unfinished positions of one game."""

    @property
    def name(self) -> str:
        """The name of this player in tables."""
        ...

    def choose(self, states: Any, generator: np.random.Generator) -> Int[np.ndarray, " game"]:
        """Return an action for each position.

        Args:
            states: a batch of states of the game, none of them terminal.
            generator: randomness, for a player that needs any.
        """
        ...


class Advice(NamedTuple):
    """The policy and the values of a network for a batch of positions.

    `log_policy` is `-inf` for illegal actions; `value` is the expected outcome for the player to move in [-1, 1],
    None for a network without a flow head.
    """

    log_policy: Float[np.ndarray, "game action"]
    value: Float[np.ndarray, " game"] | None


class NetworkPlayer:
    """A trained network: the most probable move, or one drawn from the policy at a temperature.

    Args:
        env: the game.
        policy: the network.
        name: how tables call it.
        scale: log-reward of a win that the network was trained with (lambda in eflow 1.3), by which log-flows are
            divided to become values.
        temperature: 0 plays the most probable move.
        acts: whether moves are chosen by the policy head or by the flows of the positions they lead to.
    """

    def __init__(
        self,
        env: AbstractGame,
        policy: AbstractPolicy,
        name: str = "network",
        *,
        scale: float = 10.0,
        temperature: float = 0.0,
        acts: Acts = "head",
    ) -> None:
        if temperature < 0.0:
            raise ValueError(f"temperature must be at least 0, got {temperature}. 0 plays the most probable move.")
        self.env = env
        self.policy = policy
        self.name = name
        self.scale = scale
        self.temperature = temperature
        self.acts: Acts = acts

    def advise(self, states: Any) -> Advice:
        """Return policy and value for each of a batch of positions."""
        log_policy, log_flow = in_rows(lambda rows: _heads(self.env, self.policy, self.acts, self.scale, rows), states)
        return Advice(log_policy, None if log_flow is None else np.clip(log_flow / self.scale, -1.0, 1.0))

    def choose(self, states: Any, generator: np.random.Generator) -> Int[np.ndarray, " game"]:
        log_policy = self.advise(states).log_policy
        if self.temperature > 0.0:
            log_policy = log_policy / self.temperature + generator.gumbel(size=log_policy.shape)
        return np.argmax(log_policy, axis=1)


class UniformPlayer:
    """Plays every legal move with the same probability."""

    name = "random"

    def __init__(self, env: AbstractGame) -> None:
        self.env = env

    def choose(self, states: Any, generator: np.random.Generator) -> Int[np.ndarray, " game"]:
        mask = legal_moves(self.env, states)
        return np.argmax(np.where(mask, generator.random(mask.shape), -1.0), axis=1)


class TacticPlayer:
    """Looks one move ahead: wins, else blocks, else avoids handing over a win, else plays near the middle (eflow 6.3).

    What is near the middle: the distance on the board for tic-tac-toe, of the columns for Connect-4.
    """

    name = "tactic"

    def __init__(self, env: AbstractGame) -> None:
        if env.num_actions > MANY_ACTIONS:
            raise ValueError(
                f"{self.name} looks at every answer to every move, and this game has {env.num_actions} actions, more than "
                f"{MANY_ACTIONS}. Let random or a trained player play instead."
            )
        self.env = env
        num_rows, num_columns = env.board
        if env.num_actions == num_columns:
            distance = np.abs(np.arange(num_columns) - (num_columns - 1) / 2)
        elif env.num_actions == num_rows * num_columns:
            row, column = np.divmod(np.arange(env.num_actions), num_columns)
            distance = np.abs(row - (num_rows - 1) / 2) + np.abs(column - (num_columns - 1) / 2)
        else:
            distance = np.zeros(env.num_actions)
        self.preference = -distance

    def choose(self, states: Any, generator: np.random.Generator) -> Int[np.ndarray, " game"]:
        mask, wins, hands_over = in_rows(lambda rows: _tactics(self.env, rows), states)
        # Whoever hands nothing over has stopped what the other threatened.
        rank = 2.0 * wins - hands_over + self.preference / 100.0
        # Of moves alike in every respect a random one, or two such players would play one game only.
        rank = rank + 1e-4 * generator.random(rank.shape)
        return np.argmax(np.where(mask, rank, -np.inf), axis=1)


class Children(NamedTuple):
    """The log-flow of every move for the player who makes it; rows of illegal moves have no meaning.

    `is_known` says which moves end the game: their log-flow is the log-reward, never predicted.
    """

    log_flow: Float[Array, "position action"]
    is_known: Bool[Array, "position action"]


def children(env: AbstractGame, policy: AbstractPolicy, states: Any, scale: float | Float[Array, ""]) -> Children:
    """Return the log-flows of all moves of a batch of positions, `-u(s')` of a network with a flow head (eflow 3.4).

    Args:
        env: the game.
        policy: a network without memory whose flow head speaks for the player to move.
        states: a batch of positions.
        scale: log-reward of a win.
    """
    actions = jnp.arange(env.num_actions, dtype=jnp.int32)
    after = jax.vmap(lambda state: jax.vmap(env.step, in_axes=(None, 0))(state, actions))(states)
    after = jax.tree.map(lambda leaf: leaf.reshape(-1, *leaf.shape[2:]), after)
    log_flow = policy.unroll(jax.vmap(env.observe)(after)).log_flow
    assert log_flow is not None, "whoever asks has checked that there is a flow head"
    is_over = jax.vmap(env.is_terminal)(after)
    # A game can be won by the player who was not to move, in games other than these; so the sign is asked for, not assumed.
    by_mover = jnp.where(jax.vmap(env.turn)(after) == 0, 1, -1) * jax.vmap(env.outcome)(after)
    value = -jnp.where(is_over, scale * by_mover, log_flow)
    return Children(value.reshape(-1, env.num_actions), is_over.reshape(-1, env.num_actions))


def logits(
    env: AbstractGame, policy: AbstractPolicy, acts: Acts, states: Any, scale: float | Float[Array, ""]
) -> Float[Array, "position action"]:
    """Return the logits of the moves in each of a batch of positions."""
    if acts == "children":
        return children(env, policy, states, scale).log_flow
    return policy.unroll(jax.vmap(env.observe)(states)).forward_logits


@eqx.filter_jit
def _heads(
    env: AbstractGame, policy: AbstractPolicy, acts: Acts, scale: float, states: Any
) -> tuple[Float[Array, "game action"], Float[Array, " game"] | None]:
    log_flow = policy.unroll(jax.vmap(env.observe)(states)).log_flow
    return masked_log_softmax(logits(env, policy, acts, states, scale), jax.vmap(env.action_mask)(states)), log_flow


@eqx.filter_jit
def _tactics(env: AbstractGame, states: Any) -> tuple[Bool[Array, "game action"], ...]:
    """Return which moves are legal, which win at once, and which let the other win at once."""
    actions = jnp.arange(env.num_actions, dtype=jnp.int32)

    def can_win(state: Any) -> Bool[Array, " action"]:
        children = jax.vmap(env.step, in_axes=(None, 0))(state, actions)
        won = jax.vmap(lambda child: env.is_terminal(child) & (env.outcome(child) != 0))(children)
        return won & env.action_mask(state)

    def look(state: Any) -> tuple[Bool[Array, " action"], ...]:
        mask, wins = env.action_mask(state), can_win(state)
        children = jax.vmap(env.step, in_axes=(None, 0))(state, actions)
        hands_over = jax.vmap(lambda child: jnp.any(can_win(child)))(children) & ~wins
        return mask, wins, hands_over

    return jax.vmap(look)(states)
