"""Training by self-play: games and steps of the optimiser in one compiled program, nothing leaves the device between them."""

from collections.abc import Callable
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Bool, Float, Int, PRNGKeyArray

from narrows.envs.game import AbstractGame
from narrows.games.looking import Acts, logits
from narrows.games.losses import Loss
from narrows.games.packing import pack
from narrows.games.slots import Games, Logits, Slots, begin, empty_games, play_move
from narrows.policies.base import AbstractPolicy, Model, Scaled
from narrows.trajectories.behaviour import Behaviour


class SelfPlay(eqx.Module):
    """How games are played and how many of them are learned from.

    Args:
        scale: log-reward of a win, lambda in eflow 1.3; published 10.
        scale_start: where the scale begins, to rise linearly over `scale_steps` steps; None for the same scale throughout.
        scale_steps: see `scale_start`.
        acts: how the players choose, see `looking.Acts`.
        temperature: of the players; published 2.
        epsilon: share of uniform play.
        max_random: of each game the first 0 to so many moves, uniformly many, are random ones that do not end the game: then
            positions that good players avoid are seen too, in every phase of the game.
        num_slots: games played side by side.
        games_per_round: finished games after which a round of play ends.
        steps_per_round: steps of the optimiser after each round.
        capacity: games kept, the oldest are overwritten.
        initial_games: games before the first step, played by the untrained network.
        num_rows: positions in a training batch, at most: as many whole games as fit.
        games_per_batch: games drawn for a batch; those that do not fit are left out.
        use_symmetries: learn from a random mirror or turn of each game.
        prefers_late: learn from late positions more often than from early ones, see `packing.pack`; for flow matching, since a
            balance objective takes whole games.
        average: share of the old average that each step keeps, in [0, 1): what plays and is judged in the end is the average
            over about the last `1 / (1 - average)` steps; 0 for the latest network.
    """

    scale: float = eqx.field(default=10.0, static=True)
    scale_start: float | None = eqx.field(default=None, static=True)
    scale_steps: int = eqx.field(default=1000, static=True)
    acts: Acts = eqx.field(default="children", static=True)
    temperature: float = eqx.field(default=2.0, static=True)
    epsilon: float = eqx.field(default=0.0, static=True)
    max_random: int = eqx.field(default=0, static=True)
    num_slots: int = eqx.field(default=256, static=True)
    games_per_round: int = eqx.field(default=16, static=True)
    steps_per_round: int = eqx.field(default=1, static=True)
    capacity: int = eqx.field(default=50_000, static=True)
    initial_games: int = eqx.field(default=1000, static=True)
    num_rows: int = eqx.field(default=1024, static=True)
    games_per_batch: int = eqx.field(default=128, static=True)
    use_symmetries: bool = eqx.field(default=True, static=True)
    prefers_late: bool = eqx.field(default=False, static=True)
    average: float = eqx.field(default=0.998, static=True)

    def __check_init__(self) -> None:
        for name, minimum in _MINIMA.items():
            value = getattr(self, name)
            if value < minimum:
                raise ValueError(f"{name} must be at least {minimum}, got {value}.")
        for name in ("scale", "scale_start"):
            value = getattr(self, name)
            if value is not None and not 0.0 < value < float("inf"):
                raise ValueError(
                    f"{name} must be positive and finite, got {value}. It is the log-reward of a win; 10 is usual."
                )
        if not 0.0 <= self.average < 1.0:
            raise ValueError(f"average must lie in [0, 1), got {self.average}. 0.998 averages over about 500 steps.")
        _ = self.behaviour

    @property
    def behaviour(self) -> Behaviour:
        """The players' exploration."""
        return Behaviour(self.temperature, self.epsilon)


_MINIMA = {
    "scale_steps": 1,
    "max_random": 0,
    "num_slots": 1,
    "games_per_round": 1,
    "steps_per_round": 1,
    "capacity": 1,
    "initial_games": 0,
    "num_rows": 1,
    "games_per_batch": 1,
}


class SelfPlayState(NamedTuple):
    """Everything the next step depends on. `num_rows` counts the positions trained on, `num_moves` the moves played."""

    model: Model
    average: Model
    opt_state: Any
    slots: Slots
    games: Games
    key: PRNGKeyArray
    step: Int[Array, ""]
    num_rows: Float[Array, ""]
    num_moves: Float[Array, ""]


class SelfPlayInfo(NamedTuple):
    """What one step leaves for a reader."""

    loss: Float[Array, "*chunk"]
    is_skipped: Bool[Array, "*chunk"]


class SelfPlayTrainer(NamedTuple):
    """A pair of pure functions, as `training.Trainer` is, over a state such as `SelfPlayState`."""

    init: Callable[[PRNGKeyArray], Any]
    step: Callable[[Any], tuple[Any, SelfPlayInfo]]


def self_play_trainer(
    env: AbstractGame,
    make_policy: Callable[[PRNGKeyArray], AbstractPolicy],
    loss: Loss,
    optimizer: optax.GradientTransformation,
    settings: SelfPlay,
) -> SelfPlayTrainer:
    """Compose a game, a network, a loss and an optimiser into a step of self-play training.

    Args:
        env: the game.
        make_policy: from a key to a network without memory. Its heads are read in units of `settings.scale`.
        loss: on packed games.
        optimizer: any optax transformation over a `Model`.
        settings: how games are played.

    Raises ValueError for a network without a flow head where one is needed, where a batch holds less than a game, and for parts
    of games where whole ones are needed.
    """
    if settings.num_rows < env.max_steps:
        raise ValueError(
            f"num_rows must be at least {env.max_steps}, the longest game of {type(env).__name__}, got {settings.num_rows}."
        )
    shape = jax.eval_shape(make_policy, jax.random.key(0))
    if (loss.needs_flow or settings.acts == "children") and not shape.has_flow_head:
        raise ValueError(
            "this loss, or playing by children, needs a network with a flow head. Construct it with flow_head=True."
        )
    if settings.prefers_late and loss.needs_whole_games:
        raise ValueError("a balance objective takes whole games. Leave prefers_late out, or train by flow matching.")
    behaviour = settings.behaviour

    def play(state: SelfPlayState, num_games: int) -> SelfPlayState:
        """Play until so many more games have ended."""
        goal = state.games.total + num_games
        scale = scale_at(settings, state.step)
        policy = state.average.policy if settings.acts == "children" else state.model.policy

        def logits_of(states: Any) -> Float[Array, "slot action"]:
            return logits(env, policy, settings.acts, states, scale)

        key, key_play = jax.random.split(state.key)
        slots, games, moves = _until(env, logits_of, behaviour, settings.max_random, key_play, state.slots, state.games, goal)
        return state._replace(slots=slots, games=games, key=key, num_moves=state.num_moves + moves)

    def init(key: PRNGKeyArray) -> SelfPlayState:
        key_model, key_slots, key = jax.random.split(key, 3)
        model = Model(Scaled(make_policy(key_model), settings.scale, settings.scale), jnp.zeros(()))
        params: Any = model
        slots = begin(env, key_slots, settings.num_slots, settings.max_random)
        zero = jnp.zeros(())
        state = SelfPlayState(
            model=jax.tree.map(jnp.copy, model),
            average=jax.tree.map(jnp.copy, model),
            opt_state=jax.tree.map(jnp.copy, optimizer.init(params)),
            slots=slots,
            games=empty_games(env, settings.capacity),
            key=key,
            step=jnp.zeros((), jnp.int32),
            num_rows=zero,
            num_moves=jnp.copy(zero),
        )
        return jax.jit(lambda state: play(state, settings.initial_games))(state) if settings.initial_games else state

    def step(state: SelfPlayState) -> tuple[SelfPlayState, SelfPlayInfo]:
        if settings.steps_per_round == 1:
            state = play(state, settings.games_per_round)
        else:
            is_due = state.step % settings.steps_per_round == 0
            state = jax.lax.cond(is_due, lambda state: play(state, settings.games_per_round), lambda state: state, state)
        key, key_pack = jax.random.split(state.key)
        packed = pack(
            env,
            key_pack,
            state.games,
            settings.num_rows,
            settings.games_per_batch,
            use_symmetries=settings.use_symmetries,
            prefers_late=settings.prefers_late,
        )
        scale = scale_at(settings, state.step)
        value, gradient = jax.value_and_grad(loss)(state.model, state.average, env, packed, scale)
        params: Any = state.model
        updates, opt_state = optimizer.update(gradient, state.opt_state, params)
        model = optax.apply_updates(params, updates)
        # One non-finite number anywhere would spread to every parameter, so such a step changes nothing.
        is_finite = jnp.isfinite(value) & jnp.isfinite(optax.tree.norm(updates))
        model, opt_state = _select(is_finite, (model, opt_state), (state.model, state.opt_state))
        average = _averaged(settings.average, state.step, model, state.average)
        state = state._replace(
            model=model,
            average=average,
            opt_state=opt_state,
            key=key,
            step=state.step + 1,
            num_rows=state.num_rows + jnp.sum(packed.is_row),
        )
        return state, SelfPlayInfo(value, ~is_finite)

    return SelfPlayTrainer(init, step)


def scale_at(settings: SelfPlay, step: Int[Array, ""]) -> Float[Array, ""]:
    """Return the log-reward of a win at a step."""
    if settings.scale_start is None:
        return jnp.asarray(settings.scale, jnp.float32)
    share = jnp.minimum(step / settings.scale_steps, 1.0)
    return jnp.asarray(settings.scale_start + share * (settings.scale - settings.scale_start), jnp.float32)


def _until(
    env: AbstractGame,
    logits_of: Logits,
    behaviour: Behaviour,
    max_random: int,
    key: PRNGKeyArray,
    slots: Slots,
    games: Games,
    goal: Int[Array, ""],
) -> tuple[Slots, Games, Float[Array, ""]]:
    def body(loop: tuple) -> tuple:
        number, slots, games = loop
        slots, games = play_move(env, logits_of, behaviour, max_random, jax.random.fold_in(key, number), slots, games)
        return number + 1, slots, games

    start = (jnp.zeros((), jnp.int32), slots, games)
    number, slots, games = jax.lax.while_loop(lambda loop: loop[2].total < goal, body, start)
    return slots, games, (number * slots.num_moves.shape[0]).astype(jnp.float32)


def _averaged(keep: float, step: Int[Array, ""], model: Model, average: Model) -> Model:
    """Return the average moved towards the model, faster in the first steps, of which no average is worth keeping."""
    share = jnp.minimum(keep, (1.0 + step) / (10.0 + step)) if keep > 0.0 else jnp.zeros(())
    return jax.tree.map(lambda old, new: share * old + (1.0 - share) * new, average, model)


def _select(is_first: Bool[Array, ""], first: Any, second: Any) -> Any:
    return jax.tree.map(lambda one, other: jnp.where(is_first, one, other), first, second)
