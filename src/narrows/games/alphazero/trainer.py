"""Training AlphaZero: games with search and steps of the optimiser in one compiled program, as `self_play` does."""

from collections.abc import Callable
from typing import Any, NamedTuple, cast

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float, Int, PRNGKeyArray

from narrows.envs.game import AbstractGame
from narrows.games.alphazero.examples import Batch, Examples, Slots, begin, draw_batch, empty_examples, play_move
from narrows.games.alphazero.settings import AlphaZero
from narrows.games.alphazero.tree_search import check_searchable
from narrows.games.self_play import SelfPlayInfo, SelfPlayTrainer
from narrows.operators import masked_log_softmax
from narrows.policies.base import AbstractPolicy, Model, Scaled


class AlphaZeroState(NamedTuple):
    """Everything the next step depends on, under the names of `SelfPlayState`.

    `games` are positions here, `games.total` the number of games that they are from. `num_rows` counts the positions trained on
    and `num_moves` the moves played, for each of which the network has looked at `1 + num_simulations` positions.
    """

    model: Model
    average: Model
    opt_state: Any
    slots: Slots
    games: Examples
    key: PRNGKeyArray
    step: Int[Array, ""]
    num_rows: Float[Array, ""]
    num_moves: Float[Array, ""]


def alphazero_trainer(
    env: AbstractGame,
    make_policy: Callable[[PRNGKeyArray], AbstractPolicy],
    optimizer: optax.GradientTransformation,
    settings: AlphaZero,
) -> SelfPlayTrainer:
    """Compose a game, a network and an optimiser into a step of AlphaZero, which a loop over `self_play_trainer` can drive.

    The state is an `AlphaZeroState`. Its model is the network with both heads in units of `settings.scale`.

    Args:
        env: the game.
        make_policy: from a key to a network without memory and with a flow head, which becomes the value.
        optimizer: any optax transformation over a `Model`.
        settings: how games are played and learned from.

    Raises ValueError for a network that a search cannot use.
    """
    check_searchable(jax.eval_shape(make_policy, jax.random.key(0)))

    def play(state: AlphaZeroState, num_games: int) -> AlphaZeroState:
        """Play until so many more games have ended."""
        goal = state.games.total + num_games
        key, key_play = jax.random.split(state.key)

        def body(loop: tuple[Any, ...]) -> tuple[Any, ...]:
            number, slots, games = loop
            move_key = jax.random.fold_in(key_play, number)
            return number + 1, *play_move(env, state.model.policy, settings, move_key, slots, games)

        start = (jnp.zeros((), jnp.int32), state.slots, state.games)
        number, slots, games = jax.lax.while_loop(lambda loop: loop[2].total < goal, body, start)
        num_moves = state.num_moves + (number * settings.num_slots).astype(jnp.float32)
        return state._replace(slots=slots, games=games, key=key, num_moves=num_moves)

    def init(key: PRNGKeyArray) -> AlphaZeroState:
        key_model, key_slots, key = jax.random.split(key, 3)
        model = Model(Scaled(make_policy(key_model), settings.scale, settings.scale), jnp.zeros(()))
        params: Any = model
        state = AlphaZeroState(
            model=jax.tree.map(jnp.copy, model),
            average=jax.tree.map(jnp.copy, model),
            opt_state=jax.tree.map(jnp.copy, optimizer.init(params)),
            slots=jax.tree.map(jnp.copy, begin(env, key_slots, settings.num_slots, settings.max_random)),
            games=jax.tree.map(jnp.copy, empty_examples(env, settings.capacity)),
            key=key,
            step=jnp.zeros((), jnp.int32),
            num_rows=jnp.zeros(()),
            num_moves=jnp.zeros(()),
        )
        return jax.jit(lambda state: play(state, settings.initial_games))(state) if settings.initial_games else state

    def step(state: AlphaZeroState) -> tuple[AlphaZeroState, SelfPlayInfo]:
        if settings.steps_per_round == 1:
            state = play(state, settings.games_per_round)
        else:
            is_due = state.step % settings.steps_per_round == 0
            state = jax.lax.cond(is_due, lambda state: play(state, settings.games_per_round), lambda state: state, state)
        key, key_batch = jax.random.split(state.key)
        batch = draw_batch(env, key_batch, state.games, settings.num_rows, use_symmetries=settings.use_symmetries)
        value, gradient = jax.value_and_grad(alphazero_loss)(state.model, batch, settings)
        params: Any = state.model
        updates, opt_state = optimizer.update(gradient, state.opt_state, params)
        # One non-finite number anywhere would spread to every parameter, so such a step changes nothing.
        is_finite = jnp.isfinite(value) & jnp.isfinite(optax.tree.norm(updates))
        new, old = (optax.apply_updates(params, updates), opt_state), (params, state.opt_state)
        model, opt_state = jax.tree.map(lambda yes, no: jnp.where(is_finite, yes, no), new, old)
        # Faster in the first steps, of which no average is worth keeping.
        keep = jnp.minimum(settings.average, (1.0 + state.step) / (10.0 + state.step))
        latest, kept = cast(Any, model), cast(Any, state.average)
        average = model if settings.average == 0.0 else cast(Any, optax.incremental_update(latest, kept, 1.0 - keep))
        num_rows = state.num_rows + settings.num_rows
        state = state._replace(
            model=model, average=average, opt_state=opt_state, key=key, step=state.step + 1, num_rows=num_rows
        )
        return state, SelfPlayInfo(value, ~is_finite)

    # Whoever drives a trainer reads the fields that both kinds of state have.
    return SelfPlayTrainer(cast(Any, init), cast(Any, step))


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
