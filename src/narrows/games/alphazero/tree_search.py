"""Tree search with a network and the true rules: Gumbel AlphaZero and PUCT, both by mctx, for a batch of positions at once."""

from functools import partial
from typing import Any, Literal, NamedTuple, TypeAlias

import chex
import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, PRNGKeyArray

from narrows.envs.game import AbstractGame
from narrows.games.slots import choose_rows
from narrows.policies.base import AbstractPolicy

try:
    import mctx
except ImportError as error:
    raise ImportError("tree search needs the library mctx, which is not here: pip install 'narrows[games]'") from error

Kind: TypeAlias = Literal["gumbel", "puct"]

_FLAT = 1e30
"""Where PUCT's exploration begins to grow with the logarithm of the visits: never."""


class SearchSettings(eqx.Module):
    """Settings of a search.

    Args:
        num_simulations: positions that are added to the tree and looked at, beside the one to move in.
        kind: `gumbel` drops moves by sequential halving and searches below by completed Q-values, each missing one completed by
            the mixed value (Danihelka et al. 2022); `puct` is AlphaZero's rule `Q + c P sqrt(N) / (1 + n)`, an unvisited move
            having `Q = 0`.
        c_puct: `c` of that rule; 1 in eflow 6.4.
        stretches_values: Gumbel search only: whether the Q-values of each position are stretched to [0, 1] before they are
            added to the logits, as mctx does unless told otherwise. Outcomes lie in [-1, 1] anyway, and stretched the noise of
            a network that knows nothing counts as much as a win: of equal training less is learned.
    """

    num_simulations: int = eqx.field(default=32, static=True)
    kind: Kind = eqx.field(default="gumbel", static=True)
    c_puct: float = eqx.field(default=1.0, static=True)
    stretches_values: bool = eqx.field(default=False, static=True)

    def __check_init__(self) -> None:
        if self.num_simulations < 1:
            raise ValueError(f"num_simulations must be at least 1, got {self.num_simulations}. For none, use NetworkPlayer.")
        if self.kind not in ("gumbel", "puct"):
            raise ValueError(f"kind must be 'gumbel' or 'puct', got {self.kind!r}.")
        if not 0.0 < self.c_puct < float("inf"):
            raise ValueError(f"c_puct must be positive and finite, got {self.c_puct}. 1 is usual.")


class SearchResult(NamedTuple):
    """The result of searching each of a batch of positions.

    Attributes:
        policy: the search's policy, zero for illegal moves: the improved one of Gumbel AlphaZero, the shares of visits of PUCT.
        action: the move that it plays.
        value: how the game ends after that move, 1 for a win of the player to move and -1 for a loss.
    """

    policy: Float[Array, "position action"]
    action: Int[Array, " position"]
    value: Float[Array, " position"]


def check_searchable(policy: AbstractPolicy) -> None:
    """Raise ValueError unless a search can use a network."""
    if not policy.has_flow_head:
        raise ValueError("tree search needs a network with a flow head, which is its value. Construct it with flow_head=True.")
    if policy.has_memory:
        raise ValueError(
            "tree search needs a network without memory: positions of a tree come in no order. Use MLP or ConvNet."
        )


def search(
    env: AbstractGame,
    policy: AbstractPolicy,
    settings: SearchSettings,
    scale: float | Float[Array, ""],
    key: PRNGKeyArray,
    states: Any,
    explores: Bool[Array, " position"],
) -> SearchResult:
    """Search a batch of positions.

    A position's value, for the player to move, is the network's log-flow divided by `scale` and clipped to [-1, 1]; at the end
    of the game it is the outcome. What is good for one player is bad for the other, so a value changes its sign with the turn.

    Args:
        env: the game.
        policy: the network: its logits are the prior. One of an adversarial flow network will do as well, the log-reward of a
            win as `scale`.
        settings: how to search.
        scale: what the log-flow of a won position is.
        key: consumed.
        states: the positions, none of them terminal.
        explores: where the move is drawn, from the improved policy by adding Gumbel noise or in proportion to the visits;
            elsewhere it is the best or most visited.
    """
    mask = jax.vmap(env.action_mask)(states)
    key_search, key_move = jax.random.split(key)
    logits, value = _evaluate(env, policy, scale, states, mask)
    root = mctx.RootFnOutput(prior_logits=logits, value=value, embedding=states)  # pyright: ignore[reportCallIssue]

    def expand(policy: Any, key: Any, action: Any, states: Any) -> tuple[Any, Any]:
        return _expanded(env, policy, scale, action, states)

    params: Any = policy
    found: Any
    if settings.kind == "gumbel":
        found = mctx.gumbel_muzero_policy(
            params,
            key_search,
            root,
            expand,
            settings.num_simulations,
            invalid_actions=~mask,
            qtransform=partial(mctx.qtransform_completed_by_mix_value, rescale_values=settings.stretches_values),
            max_num_considered_actions=min(16, env.num_actions),
            gumbel_scale=explores[:, None].astype(jnp.float32),
        )
        action = found.action
    else:
        found = mctx.muzero_policy(
            params,
            key_search,
            root,
            expand,
            settings.num_simulations,
            invalid_actions=~mask,
            qtransform=_plain_values,
            dirichlet_fraction=0.0,
            pb_c_init=settings.c_puct,
            pb_c_base=_FLAT,
        )
        action = _drawn(key_move, found.action_weights, explores)
    # What mctx leaves on illegal moves underflows to zero, but that is not for us to rely on.
    weights = jnp.where(mask, found.action_weights, 0.0)
    policy_found = weights / jnp.sum(weights, axis=1, keepdims=True)
    values = found.search_tree.summary().qvalues
    return SearchResult(policy_found, action, jnp.take_along_axis(values, action[:, None], axis=1)[:, 0])


def _evaluate(
    env: AbstractGame,
    policy: AbstractPolicy,
    scale: float | Float[Array, ""],
    states: Any,
    mask: Bool[Array, "position action"],
) -> tuple[Float[Array, "position action"], Float[Array, " position"]]:
    """Return what the network says: logits, the lowest number for illegal moves, and value."""
    output = policy.unroll(jax.vmap(env.observe)(states))
    assert output.log_flow is not None, "whoever searches has checked that there is a flow head"
    logits = output.forward_logits.astype(jnp.float32)
    lowest = jnp.finfo(jnp.float32).min
    # The best legal move has logit 0, so that no logit comes near that of an illegal one.
    best = jnp.max(jnp.where(mask, logits, lowest), axis=1, keepdims=True)
    return jnp.where(mask, logits - best, lowest), jnp.clip(output.log_flow.astype(jnp.float32) / scale, -1.0, 1.0)


def _expanded(
    env: AbstractGame, policy: AbstractPolicy, scale: float | Float[Array, ""], action: Int[Array, " position"], states: Any
) -> tuple[Any, Any]:
    """Return what a move leads to as mctx wants it: reward for the one who moves, what the value after it counts for them."""
    was_over = jax.vmap(env.is_terminal)(states)
    moved = jax.vmap(env.step)(states, action)
    # Below the end of a game the tree goes on for ever at the same position, worth nothing more.
    after = choose_rows(was_over, states, moved)
    is_over = jax.vmap(env.is_terminal)(after)
    before, turn = jax.vmap(env.turn)(states), jax.vmap(env.turn)(after)
    by_mover = jnp.where(before == 0, 1, -1) * jax.vmap(env.outcome)(after)
    logits, value = _evaluate(env, policy, scale, after, jax.vmap(env.action_mask)(after))
    step = mctx.RecurrentFnOutput(
        reward=jnp.where(is_over & ~was_over, by_mover, 0).astype(jnp.float32),  # pyright: ignore[reportCallIssue]
        discount=jnp.where(is_over, 0.0, jnp.where(turn == before, 1.0, -1.0)),  # pyright: ignore[reportCallIssue]
        prior_logits=logits,  # pyright: ignore[reportCallIssue]
        value=jnp.where(is_over, 0.0, value),  # pyright: ignore[reportCallIssue]
    )
    return step, after


def _plain_values(tree: Any, node: chex.Numeric) -> Float[Array, " action"]:
    """Return the Q-values of a node's moves as they are, 0 for those not visited, and less than any for illegal ones."""
    is_legal = tree.children_prior_logits[node] > jnp.finfo(jnp.float32).min / 2
    return jnp.where(is_legal, jnp.where(tree.children_visits[node] > 0, tree.qvalues(node), 0.0), -1e3)


def _drawn(
    key: PRNGKeyArray, visits: Float[Array, "position action"], explores: Bool[Array, " position"]
) -> Int[Array, " position"]:
    """Return a move drawn in proportion to its visits where asked for, elsewhere a random one of those visited most."""
    key_share, key_tie = jax.random.split(key)
    shared = jax.random.categorical(key_share, jnp.where(visits > 0.0, jnp.log(visits), -jnp.inf))
    is_most = visits >= jnp.max(visits, axis=1, keepdims=True)
    most = jax.random.categorical(key_tie, jnp.where(is_most, 0.0, -jnp.inf))
    return jnp.where(explores, shared, most).astype(jnp.int32)
