"""Losses on games packed into rows: the balance objectives, and flow matching with values carried back along the games."""

from typing import Any, Final, NamedTuple, Protocol

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from narrows import objectives
from narrows.envs.game import AbstractGame
from narrows.games.packing import Packed
from narrows.games.players import children
from narrows.objectives.adversarial import TwoPlayers
from narrows.objectives.balance import AbstractBalance
from narrows.operators import masked_log_softmax, masked_logsumexp
from narrows.policies.base import Model, PolicyOutput
from narrows.trajectories import Path

BALANCES: Final = tuple(
    name
    for name in objectives.__all__
    if issubclass(kind := getattr(objectives, name), AbstractBalance) and isinstance(kind().form.players, TwoPlayers)
)
"""Names of the objectives that `BalanceLoss` takes."""


class Loss(Protocol):
    """A batch of packed games to one number."""

    @property
    def needs_flow(self) -> bool:
        """Whether the network must have a flow head."""
        ...

    @property
    def needs_whole_games(self) -> bool:
        """Whether a game without its first moves would be misread."""
        ...

    def __call__(
        self, model: Model, average: Model, env: AbstractGame, packed: Packed, scale: Float[Array, ""]
    ) -> Float[Array, ""]:
        """Return the loss.

        Args:
            model: what is trained.
            average: its average over training, a slower and steadier copy.
            env: the game.
            packed: games as rows.
            scale: log-reward of a win; losses are in units of its square, so that one step size suits every scale.
        """
        ...


class BalanceLoss(eqx.Module):
    """An adversarial balance objective on packed games: the network looks at real positions only."""

    objective: AbstractBalance

    needs_whole_games = True

    @property
    def needs_flow(self) -> bool:
        return self.objective.needs.flow

    def __call__(
        self, model: Model, average: Model, env: AbstractGame, packed: Packed, scale: Float[Array, ""]
    ) -> Float[Array, ""]:
        output, mask = _look(model, env, packed)
        turn = jax.vmap(env.turn)(packed.states)
        # Adversarial balance counts no backward policy and asks no child-flow head.
        heads = (output.forward_logits, mask, packed.actions, jnp.zeros(turn.shape), output.log_flow, None)
        rows = self.objective.steps(Path(packed.states, *heads, turn, packed.is_row))
        steps = jax.tree.map(lambda leaf: packed.per_game(leaf, env.max_steps), rows)
        log_reward = scale * packed.outcome.astype(jnp.float32)
        error, weight = jax.vmap(self.objective.residual, in_axes=(0, 0, None))(steps, log_reward, model.log_z)
        # The weights of a game without rows are shares of nothing, which may be no numbers.
        weight = jnp.where(packed.is_game[:, None], weight, 0.0)
        weight = weight / jnp.maximum(jnp.sum(weight, axis=1, keepdims=True), jnp.finfo(weight.dtype).tiny)
        if self.needs_flow:  # each game counts for its moves, so that a row is worth the same in a short game and in a long one
            weight = weight * packed.num_moves[:, None]
        return self.objective.reduce(error, weight, lambda sums: sums) / scale**2


class FlowMatching(eqx.Module):
    """Flow matching of the branch-adjusted network (eflow 3.4), with values carried back along the games played.

    The log-flow of a position, for the player to move, should be what its moves' flows come to:

        u(s) = log mean_a exp(q_a),    q_a = -u(s'_a),

    with `q_a` the log-reward where a move ends the game. All moves are looked at, by the averaged network and without gradient.
    For the move that was played more is known than the network says: the value carried back from later in the same game, `v`.
    It takes the place of a share `carry` of `q_a`,

        v(s) = log mean_a exp(q~_a),    q~_played = (1 - carry) q_played - carry v(s'),    q~_a = q_a else,

    so that the end of a game is heard many moves before it, and a blunder on the way does no harm: a move that is bad for its
    player weighs nothing in the mean, whatever came of it. The exact solution is a fixed point for every `carry`.

    Args:
        carry: share of what came of the played move, in [0, 1]; 0 looks one move ahead only.
        policy_weight: weight of the cross-entropy that fits the policy head to `softmax(q~)`; 0 leaves the head untrained.
    """

    carry: float = eqx.field(default=0.7, static=True)
    policy_weight: float = eqx.field(default=0.03, static=True)

    def __check_init__(self) -> None:
        if not 0.0 <= self.carry <= 1.0:
            raise ValueError(f"carry must lie in [0, 1], got {self.carry}. It is a share; try 0.7.")
        if not 0.0 <= self.policy_weight < float("inf"):
            raise ValueError(f"policy_weight must be at least 0 and finite, got {self.policy_weight}. Try 0.03.")

    needs_flow = True
    needs_whole_games = False

    def __call__(
        self, model: Model, average: Model, env: AbstractGame, packed: Packed, scale: Float[Array, ""]
    ) -> Float[Array, ""]:
        output, mask = _look(model, env, packed)
        assert output.log_flow is not None, "a network without a flow head has been refused"
        q_values = children(env, average.policy, packed.states, scale)
        backed = jax.lax.stop_gradient(self._backed(env, packed, mask, q_values.log_flow, q_values.is_known))
        error = ((output.log_flow - backed.value) / scale) ** 2
        log_pi = masked_log_softmax(output.forward_logits, mask)
        target = jnp.exp(masked_log_softmax(backed.q_values, mask))
        misfit = -jnp.sum(jnp.where(mask, target * jnp.where(mask, log_pi, 0.0), 0.0), axis=1)
        loss = jnp.where(packed.is_row, error + self.policy_weight * misfit, 0.0)
        return jnp.sum(loss) / jnp.maximum(jnp.sum(packed.is_row), 1)

    def _backed(
        self,
        env: AbstractGame,
        packed: Packed,
        mask: Bool[Array, "row action"],
        q_values: Float[Array, "row action"],
        is_known: Bool[Array, "row action"],
    ) -> "_Backed":
        """Return the values of every row with what came later in its game carried back."""
        is_played = jax.nn.one_hot(packed.actions, env.num_actions, dtype=bool)
        # Where a move ends the game its log-flow is known and nothing comes later.
        share = jnp.where(jnp.any(is_played & is_known, axis=1), 0.0, self.carry)
        rows = _Row(q_values, mask & packed.is_row[:, None], is_played, share)
        table = jax.tree.map(lambda leaf: jnp.swapaxes(packed.per_game(leaf, env.max_steps), 0, 1), rows)

        def back(later: Float[Array, " game"], row: _Row) -> tuple[Float[Array, " game"], _Backed]:
            carried = (1.0 - row.share[:, None]) * row.q_values - (row.share * later)[:, None]
            q_values = jnp.where(row.is_played, carried, row.q_values)
            value = _mean(q_values, row.mask)
            return value, _Backed(value, q_values)

        _, backed = jax.lax.scan(back, jnp.zeros(packed.is_game.shape[0]), table, reverse=True)
        return jax.tree.map(lambda leaf: leaf[packed.time, packed.game], backed)


class _Row(NamedTuple):
    q_values: Float[Array, "*place action"]
    mask: Bool[Array, "*place action"]
    is_played: Bool[Array, "*place action"]
    share: Float[Array, "*place"]


class _Backed(NamedTuple):
    value: Float[Array, "*place"]
    q_values: Float[Array, "*place action"]


def _mean(q_values: Float[Array, "game action"], mask: Bool[Array, "game action"]) -> Float[Array, " game"]:
    """Return the log of the mean flow over the legal moves, 0 where there are none."""
    num_legal: Int[Array, " game"] = jnp.sum(mask, axis=1)
    is_none = num_legal == 0
    total = masked_logsumexp(jnp.where(is_none[:, None], 0.0, q_values), mask | is_none[:, None])
    return jnp.where(is_none, 0.0, total - jnp.log(jnp.maximum(num_legal, 1)))


def _look(model: Model, env: AbstractGame, packed: Packed) -> tuple[PolicyOutput, Bool[Array, "row action"]]:
    observations: Any = jax.vmap(env.observe)(packed.states)
    return model.policy.unroll(observations), jax.vmap(env.action_mask)(packed.states)
