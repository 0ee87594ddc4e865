"""Training AlphaZero: games with search and steps of the optimiser in one compiled program, as `self_play` does."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float, PRNGKeyArray

from narrows.envs.game import AbstractGame
from narrows.games.alphazero.examples import Batch, begin, draw_batch, empty_examples, play_move
from narrows.games.alphazero.settings import AlphaZero
from narrows.games.alphazero.tree_search import check_searchable
from narrows.games.self_play import Method, SelfPlayState, SelfPlayTrainer, compose
from narrows.operators import masked_log_softmax
from narrows.policies.base import AbstractPolicy, Model


def alphazero_trainer(
    env: AbstractGame,
    make_policy: Callable[[PRNGKeyArray], AbstractPolicy],
    optimizer: optax.GradientTransformation,
    settings: AlphaZero,
) -> SelfPlayTrainer:
    """Compose a game, a network and an optimiser into a step of AlphaZero.

    The state's model is the network with both heads in units of `settings.scale`, its `games` are positions, and for each of
    `num_moves` the network has looked at `1 + num_simulations` positions.

    Args:
        env: the game.
        make_policy: from a key to a network without memory and with a flow head, which becomes the value.
        optimizer: any optax transformation over a `Model`.
        settings: how games are played and learned from.

    Raises ValueError for a game with chance and for a network that a search cannot use.
    """
    check_searchable(jax.eval_shape(make_policy, jax.random.key(0)))

    def player(state: SelfPlayState) -> Callable[[PRNGKeyArray, Any, Any], tuple[Any, Any]]:
        return lambda key, slots, games: play_move(env, state.model.policy, settings, key, slots, games)

    method = Method(
        begin=lambda key: begin(env, key, settings.num_slots, settings.max_random),
        empty=lambda: empty_examples(env, settings.capacity),
        player=player,
        draw=lambda key, state: draw_batch(env, key, state.games, settings.num_rows, use_symmetries=settings.use_symmetries),
        loss=lambda model, _, batch: alphazero_loss(model, batch, settings),
        num_rows=lambda _: settings.num_rows,
    )
    return compose(env, make_policy, optimizer, settings, method)


def alphazero_loss(model: Model, batch: Batch, settings: AlphaZero) -> Float[Array, ""]:
    """Return `value_weight (v - z)^2 - policy_weight sum_a p_a log pi_a`, the mean over a batch.

    Args:
        model: the network.
        batch: positions with the outcomes `z` for the player to move and the search's policies `p`.
        settings: the weights, and the scale: `v` is the log-flow divided by it.
    """
    output = model.policy.unroll(batch.features)
    assert output.log_flow is not None, "a network without a flow head has been refused"
    log_pi = jnp.where(batch.mask, masked_log_softmax(output.forward_logits, batch.mask), 0.0)
    misfit = -jnp.sum(batch.policy * log_pi, axis=1)
    error = (output.log_flow / settings.scale - batch.outcome) ** 2
    return jnp.mean(settings.value_weight * error + settings.policy_weight * misfit)
