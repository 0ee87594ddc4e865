"""Training by self-play: games and steps of the optimiser in one compiled program, nothing leaves the device between them."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Bool, Float, Int, PRNGKeyArray

from narrows.envs.base import AbstractEnvironment
from narrows.envs.game import AbstractGame
from narrows.games.losses import Loss
from narrows.games.packing import Packed, pack
from narrows.games.players import Acts, logits
from narrows.games.slots import begin, empty_games, play_move
from narrows.policies.base import AbstractPolicy, Model, Scaled
from narrows.trajectories.behaviour import Behaviour

if TYPE_CHECKING:  # a type checker would read an AbstractVar as an argument of the constructor
    from typing import ClassVar as AbstractVar
else:
    from equinox import AbstractVar


class AbstractSelfPlay(eqx.Module):
    """Settings that every way of learning by self-play has.

    Attributes:
        scale: what the flow head says of a won position.
        max_random: of each game the first 0 to so many moves, uniformly many, are random.
        num_slots: games played side by side.
        games_per_round: finished games after which a round of play ends.
        steps_per_round: steps of the optimiser after each round.
        capacity: of the ring of what is learned from, in which the oldest is overwritten.
        initial_games: games before the first step, played by the untrained network.
        num_rows: positions in a training batch.
        use_symmetries: learn from a random mirror or turn of each game or position.
        average: share of the old average that each step keeps, in [0, 1): what is judged in the end is the average over about
            the last `1 / (1 - average)` steps; 0 for the latest network.
    """

    scale: AbstractVar[float]
    max_random: AbstractVar[int]
    num_slots: AbstractVar[int]
    games_per_round: AbstractVar[int]
    steps_per_round: AbstractVar[int]
    capacity: AbstractVar[int]
    initial_games: AbstractVar[int]
    num_rows: AbstractVar[int]
    use_symmetries: AbstractVar[bool]
    average: AbstractVar[float]

    def __check_init__(self) -> None:
        check_at_least(self, num_slots=1, games_per_round=1, steps_per_round=1, capacity=1, num_rows=1)
        check_at_least(self, max_random=0, initial_games=0)
        check_scale("scale", self.scale)
        if not 0.0 <= self.average < 1.0:
            raise ValueError(f"average must lie in [0, 1), got {self.average}. 0.998 averages over about 500 steps.")


def check_at_least(settings: AbstractSelfPlay, **minima: int) -> None:
    """Raise ValueError for a setting below its minimum."""
    for name, minimum in minima.items():
        if getattr(settings, name) < minimum:
            raise ValueError(f"{name} must be at least {minimum}, got {getattr(settings, name)}.")


def check_scale(name: str, scale: float) -> None:
    """Raise ValueError for what cannot be the log-flow of a won position."""
    if not 0.0 < scale < float("inf"):
        raise ValueError(
            f"{name} must be positive and finite, got {scale}. It is the log-flow of a won position: 10 is usual for a flow "
            "network, 1 for AlphaZero."
        )


class SelfPlay(AbstractSelfPlay):
    """Settings of an adversarial flow network. Other arguments are those of `AbstractSelfPlay`.

    Args:
        scale: log-reward of a win, lambda in eflow 1.3; published 10.
        scale_start: where the scale begins, to rise linearly over `scale_steps` steps; None for the same scale throughout.
        scale_steps: see `scale_start`.
        acts: how the players choose, see `players.Acts`.
        temperature: of the players; published 2.
        epsilon: share of uniform play.
        max_random: random moves that end the game are not among those: then positions that good players avoid are seen too, in
            every phase of the game.
        capacity: games kept, the oldest are overwritten.
        num_rows: positions in a training batch, at most: as many whole games as fit.
        games_per_batch: games drawn for a batch; those that do not fit are left out.
        prefers_late: learn from late positions more often than from early ones, see `packing.pack`; for flow matching, since a
            balance objective takes whole games.
        average: where the players choose by children, the averaged network plays.
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
        check_at_least(self, scale_steps=1, games_per_batch=1)
        if self.scale_start is not None:
            check_scale("scale_start", self.scale_start)
        _ = self.behaviour

    @property
    def behaviour(self) -> Behaviour:
        """The players' exploration."""
        return Behaviour(self.temperature, self.epsilon)


class SelfPlayState(NamedTuple):
    """Everything the next step depends on.

    Attributes:
        model: what is trained.
        average: its average over training, which is judged.
        opt_state: of the optimiser.
        slots: games in progress.
        games: a ring of what is learned from, of which `games.total` counts the games finished so far.
        key: randomness.
        step: steps of the optimiser so far.
        num_rows: positions trained on.
        num_moves: moves played.
    """

    model: Model
    average: Model
    opt_state: Any
    slots: Any
    games: Any
    key: PRNGKeyArray
    step: Int[Array, ""]
    num_rows: Float[Array, ""]
    num_moves: Float[Array, ""]


class SelfPlayInfo(NamedTuple):
    """The loss of a step, and whether the step was left out because it was not finite."""

    loss: Float[Array, "*chunk"]
    is_skipped: Bool[Array, "*chunk"]


class SelfPlayTrainer(NamedTuple):
    """A pair of pure functions, as `training.Trainer` is, over a `SelfPlayState`."""

    init: Callable[[PRNGKeyArray], SelfPlayState]
    step: Callable[[SelfPlayState], tuple[SelfPlayState, SelfPlayInfo]]


class Method(NamedTuple):
    """The parts in which ways of learning by self-play differ.

    Attributes:
        begin: from a key to games at their start, one a slot.
        empty: returns an empty ring.
        player: from the state to a function that plays one move in every slot: of a key, slots and ring.
        draw: from a key and the state to a batch.
        loss: of the model on a batch; the state has the rest that it may depend on.
        num_rows: positions in a batch.
    """

    begin: Callable[[PRNGKeyArray], Any]
    empty: Callable[[], Any]
    player: Callable[[SelfPlayState], Callable[[PRNGKeyArray, Any, Any], tuple[Any, Any]]]
    draw: Callable[[PRNGKeyArray, SelfPlayState], Any]
    loss: Callable[[Model, SelfPlayState, Any], Float[Array, ""]]
    num_rows: Callable[[Any], int | Int[Array, ""]]


def compose(
    env: AbstractGame,
    make_policy: Callable[[PRNGKeyArray], AbstractPolicy],
    optimizer: optax.GradientTransformation,
    settings: AbstractSelfPlay,
    method: Method,
) -> SelfPlayTrainer:
    """Compose a game, a network and an optimiser into a step of training: a round of play where one is due, and an update.

    Raises ValueError for a game with chance turns.
    """
    if type(env).chance_log_probs is not AbstractEnvironment.chance_log_probs:
        raise ValueError(
            f"{type(env).__name__} has chance turns, and self-play here is for games without chance. Train by a job instead: "
            "`narrows run` draws the outcomes of chance."
        )

    def play(state: SelfPlayState, num_games: int) -> SelfPlayState:
        """Play until so many more games have ended."""
        goal = state.games.total + num_games
        key, key_play = jax.random.split(state.key)
        play_move = method.player(state)

        def body(loop: tuple[Any, ...]) -> tuple[Any, ...]:
            number, slots, games = loop
            return number + 1, *play_move(jax.random.fold_in(key_play, number), slots, games)

        start = (jnp.zeros((), jnp.int32), state.slots, state.games)
        number, slots, games = jax.lax.while_loop(lambda loop: loop[2].total < goal, body, start)
        num_moves = state.num_moves + (number * settings.num_slots).astype(jnp.float32)
        return state._replace(slots=slots, games=games, key=key, num_moves=num_moves)

    def init(key: PRNGKeyArray) -> SelfPlayState:
        key_model, key_slots, key = jax.random.split(key, 3)
        model = Model(Scaled(make_policy(key_model), settings.scale, settings.scale), jnp.zeros(()))
        params: Any = model
        parts = (model, model, optimizer.init(params), method.begin(key_slots), method.empty())
        # No two leaves may share memory: whoever drives the steps gives them away.
        model, average, opt_state, slots, games = jax.tree.map(jnp.copy, parts)
        step, zero = jnp.zeros((), jnp.int32), jnp.zeros(())
        state = SelfPlayState(model, average, opt_state, slots, games, key, step, zero, jnp.copy(zero))
        return jax.jit(lambda state: play(state, settings.initial_games))(state) if settings.initial_games else state

    def step(state: SelfPlayState) -> tuple[SelfPlayState, SelfPlayInfo]:
        if settings.steps_per_round == 1:
            state = play(state, settings.games_per_round)
        else:
            is_due = state.step % settings.steps_per_round == 0
            state = jax.lax.cond(is_due, lambda state: play(state, settings.games_per_round), lambda state: state, state)
        key, key_batch = jax.random.split(state.key)
        batch = method.draw(key_batch, state)
        value, gradient = jax.value_and_grad(method.loss)(state.model, state, batch)
        params: Any = state.model
        updates, opt_state = optimizer.update(gradient, state.opt_state, params)
        # One non-finite number anywhere would spread to every parameter, so such a step changes nothing.
        is_finite = jnp.isfinite(value) & jnp.isfinite(optax.tree.norm(updates))
        new, old = (optax.apply_updates(params, updates), opt_state), (params, state.opt_state)
        model, opt_state = jax.tree.map(lambda yes, no: jnp.where(is_finite, yes, no), new, old)
        state = state._replace(
            model=model,
            average=_averaged(settings.average, state.step, model, state.average),
            opt_state=opt_state,
            key=key,
            step=state.step + 1,
            num_rows=state.num_rows + method.num_rows(batch),
        )
        return state, SelfPlayInfo(value, ~is_finite)

    return SelfPlayTrainer(init, step)


def _averaged(keep: float, step: Int[Array, ""], model: Model, average: Model) -> Model:
    """Return the average moved towards the model, faster in the first steps, of which no average is worth keeping."""
    share = jnp.minimum(keep, (1.0 + step) / (10.0 + step)) if keep > 0.0 else jnp.zeros(())
    return jax.tree.map(lambda old, new: share * old + (1.0 - share) * new, average, model)


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

    Raises ValueError for a game with chance, a network without a flow head where one is needed, where a batch holds less than a
    game, and for parts of games where whole ones are needed.
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

    def player(state: SelfPlayState) -> Callable[[PRNGKeyArray, Any, Any], tuple[Any, Any]]:
        scale = scale_at(settings, state.step)
        policy = state.average.policy if settings.acts == "children" else state.model.policy

        def logits_of(states: Any) -> Float[Array, "slot action"]:
            return logits(env, policy, settings.acts, states, scale)

        return lambda key, slots, games: play_move(env, logits_of, settings.behaviour, settings.max_random, key, slots, games)

    def draw(key: PRNGKeyArray, state: SelfPlayState) -> Packed:
        return pack(
            env,
            key,
            state.games,
            settings.num_rows,
            settings.games_per_batch,
            use_symmetries=settings.use_symmetries,
            prefers_late=settings.prefers_late,
        )

    method = Method(
        begin=lambda key: begin(env, key, settings.num_slots, settings.max_random),
        empty=lambda: empty_games(env, settings.capacity),
        player=player,
        draw=draw,
        loss=lambda model, state, packed: loss(model, state.average, env, packed, scale_at(settings, state.step)),
        num_rows=lambda packed: jnp.sum(packed.is_row),
    )
    return compose(env, make_policy, optimizer, settings, method)


def scale_at(settings: SelfPlay, step: Int[Array, ""]) -> Float[Array, ""]:
    """Return the log-reward of a win at a step."""
    if settings.scale_start is None:
        return jnp.asarray(settings.scale, jnp.float32)
    share = jnp.minimum(step / settings.scale_steps, 1.0)
    return jnp.asarray(settings.scale_start + share * (settings.scale - settings.scale_start), jnp.float32)
