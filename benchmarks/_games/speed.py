"""What playing and learning cost: moves a second beside pgx, a training step beside the authors', and who takes the time."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks.harness.rows import Context, Row, Target
from benchmarks.harness.turns import Side, ratios, take_turns
from narrows.envs.game import AbstractGame
from narrows.games.players import Acts, logits
from narrows.games.recipe import Recipe, preset
from narrows.games.self_play import SelfPlay, SelfPlayState, SelfPlayTrainer
from narrows.games.slots import Games, begin, empty_games, play_move
from narrows.policies.base import Scaled
from narrows.trajectories.behaviour import Behaviour, on_policy

MOVES, RATIO = "moves a second", "ratio of moves a second"
STEP, POSITION = "time a step", "time a position learned from"
STEP_RATIO, POSITION_RATIO, SHARE = (
    "ratio of times a step",
    "ratio of times a position",
    "share of time in which games are played",
)
SELF_PLAY, RANDOM_PLAY = Target(">=", 20_000.0), Target(">=", 1e6)
CHEAPER = Target(">=", 10.0)
CHILDREN, HEAD, NOBODY, PEER = "by children", "by head", "at random", "at random, pgx"
OURS, FAITHFUL = "cpu preset", "faithful preset"

_NEVER = 1_000_000_000
"""Steps between two rounds of play of a training that is to be timed without any."""


class Effort(NamedTuple):
    """How much is timed."""

    slots: int  # games side by side
    windows: int  # timed windows of each side, in turns
    moves: tuple[int, int]  # moves of a window in every slot, with the network and at random
    steps: int  # steps of a window of the cpu preset's training
    rows: int  # positions in a step of ours with the authors' network
    games: int  # games in a step of theirs
    # channels, blocks: of the authors' network
    channels: int
    blocks: int


FULL = Effort(slots=1024, windows=7, moves=(12, 1000), steps=40, rows=256, games=8, channels=128, blocks=10)
QUICK = Effort(slots=1024, windows=3, moves=(3, 100), steps=8, rows=42, games=1, channels=64, blocks=2)


def speed_rows(context: Context, effort: Effort) -> Iterator[Row]:
    """Yield the rates of play, the times of training steps and the share of either in the cpu preset."""
    yield from _play_rows(context, effort)
    yield from _step_rows(context, effort)
    yield from _share_rows(context, effort)


def _play_rows(context: Context, effort: Effort) -> Iterator[Row]:
    recipe = preset("connect4", "cpu")
    network, alone = effort.moves
    sides = [
        _players(recipe, "children", CHILDREN, effort.slots, network),
        _players(recipe, "head", HEAD, effort.slots, network),
        _players(recipe, None, NOBODY, effort.slots, alone),
        _pgx(PEER, effort.slots, alone),
    ]
    take_turns(sides, effort.windows)
    yield from rate_rows(context, sides, [effort.slots * moves for moves in (network, network, alone, alone)])


def rate_rows(context: Context, sides: Sequence[Side], moves: Sequence[int]) -> Iterator[Row]:
    """Yield the moves a second of sides that have been timed, of which each has made so many moves a window."""
    rates = {side.name: [num / seconds for seconds in side.seconds] for side, num in zip(sides, moves, strict=True)}
    targets = {CHILDREN: SELF_PLAY, NOBODY: RANDOM_PLAY}
    for name, values in rates.items():
        yield context.row(f"games/speed/{name}", MOVES, values, unit="1/s", target=targets.get(name), windows=True)
    of_both = ratios(rates[NOBODY], rates[PEER])
    yield context.row(f"games/speed/{NOBODY}", RATIO, of_both, against=_pgx_name(), windows=True)


def _players(recipe: Recipe, acts: Acts | None, name: str, slots: int, moves: int) -> Side:
    """Return self-play as the trainer plays it, by the recipe's untrained network or, with `acts` None, at random."""
    env, settings = recipe.env(), play_of(recipe)
    policy = Scaled(recipe.make_policy(jax.random.key(0)), recipe.scale, recipe.scale)
    behaviour = on_policy if acts is None else settings.behaviour
    max_random = 0 if acts is None else settings.max_random

    def logits_of(states: Any) -> Any:
        assert acts is not None, "nobody is asked who plays at random"
        return logits(env, policy, acts, states, recipe.scale)

    start = begin(env, jax.random.key(1), slots, max_random), empty_games(env, settings.capacity), jax.random.key(2)
    return Side(name, _playing(env, None if acts is None else logits_of, behaviour, max_random, moves), start)


def _playing(
    env: AbstractGame, logits_of: Callable[[Any], Any] | None, behaviour: Behaviour, max_random: int, moves: int
) -> Callable[[Any], Any]:
    """Return what plays so many moves in every slot, one compiled program."""

    def body(number: Any, carry: tuple[Any, Any, Any]) -> tuple[Any, Any, Any]:
        slots, games, key = carry
        slots, games = play_move(env, logits_of, behaviour, max_random, jax.random.fold_in(key, number), slots, games)
        return slots, games, key

    def advance(carry: tuple[Any, Any, Any]) -> tuple[Any, Any, Any]:
        slots, games, key = jax.lax.fori_loop(0, moves, body, carry)
        return slots, games, jax.random.fold_in(key, moves)

    return jax.jit(advance)


def _pgx(name: str, slots: int, moves: int) -> Side:
    """Return the library's own random play of the same game: its rules, its automatic reset, its choice of moves."""
    try:
        import pgx
        from pgx.experimental import act_randomly, auto_reset
    except ImportError:
        raise ImportError("play is timed beside pgx, and it is not here: pip install 'narrows[games]'") from None
    rules = pgx.make("connect_four")
    step, reset = jax.vmap(auto_reset(rules.step, rules.init)), jax.vmap(rules.init)

    def body(number: Any, carry: tuple[Any, Any]) -> tuple[Any, Any]:
        state, key = carry
        act, move = jax.random.split(jax.random.fold_in(key, number))
        actions = act_randomly(act, state.legal_action_mask)
        return step(state, actions, jax.random.split(move, slots)), key

    def advance(carry: tuple[Any, Any]) -> tuple[Any, Any]:
        state, key = jax.lax.fori_loop(0, moves, body, carry)
        return state, jax.random.fold_in(key, moves)

    start = reset(jax.random.split(jax.random.key(3), slots)), jax.random.key(4)
    # The types of a few fields change in the first step, and a loop's may not.
    start = (jax.tree.map(lambda new, old: jnp.asarray(old, new.dtype), jax.eval_shape(body, 0, start)[0], start[0]), start[1])
    return Side(name, jax.jit(advance), start)


def _pgx_name() -> str:
    import pgx

    return f"pgx {pgx.__version__}"


def _step_rows(context: Context, effort: Effort) -> Iterator[Row]:
    """Yield the time of a training step of either preset with the authors' network, without the play, scaled up from a part.

    A step's time but for the update of the weights is in proportion to the positions that the network looks at, so that what is
    timed on few of them is multiplied.
    """
    theirs = preset("connect4", "faithful")
    network = {**theirs.network, "channels": effort.channels, "blocks": effort.blocks}
    longest = theirs.env().max_steps
    ours = preset("connect4", "cpu")
    # The authors' network does not read threats.
    ours = replace(ours, network=network, shows_threats=False)
    num_rows, num_games = play_of(ours).num_rows, play_of(theirs).games_per_batch
    small = {
        OURS: _with(ours, num_rows=effort.rows, games_per_batch=max(4, effort.rows // 8)),
        FAITHFUL: _with(replace(theirs, network=network), num_rows=effort.games * longest, games_per_batch=effort.games),
    }
    factors = {OURS: num_rows / effort.rows, FAITHFUL: num_games / effort.games}
    sides = [_learning(recipe, name, 1) for name, recipe in small.items()]
    take_turns(sides, effort.windows)
    learned = {side.name: float(side.state.num_rows) / (effort.windows + 1) for side in sides}
    yield from step_rows(context, sides, factors, learned)


def step_rows(
    context: Context, sides: Sequence[Side], factors: Mapping[str, float], learned: Mapping[str, float]
) -> Iterator[Row]:
    """Yield the times of a whole step and of a position.

    Args:
        context: of the run.
        sides: ours and theirs; a window of each was a step on a part of the positions.
        factors: by how much a whole step has more.
        learned: real positions of a window.
    """
    times, each = {}, {}
    for side in sides:
        times[side.name] = [factors[side.name] * seconds for seconds in side.seconds]
        each[side.name] = [seconds / learned[side.name] for seconds in side.seconds]
        case = f"games/speed/step/{side.name}"
        yield context.row(case, STEP, times[side.name], unit="s", windows=True)
        yield context.row(case, POSITION, [1e3 * one for one in each[side.name]], unit="ms", windows=True)
    case = f"games/speed/step/{OURS}"
    for metric, found, target in ((STEP_RATIO, times, CHEAPER), (POSITION_RATIO, each, None)):
        of_both = ratios(found[FAITHFUL], found[OURS])
        yield context.row(case, metric, of_both, against=FAITHFUL, target=target, windows=True)


def _share_rows(context: Context, effort: Effort) -> Iterator[Row]:
    """Yield what of the cpu preset's time its games take: what is left of a step when it only learns."""
    recipe = preset("connect4", "cpu")
    whole = recipe.trainer()
    start = jax.jit(whole.init)(jax.random.key(0))
    sides = [
        Side("whole", _steps(whole, effort.steps), start),
        Side("learning", _steps(_with(recipe).trainer(), effort.steps), start._replace(step=start.step + 1)),
    ]
    take_turns(sides, effort.windows)
    yield from share_rows(context, sides, effort.steps)


def share_rows(context: Context, sides: Sequence[Side], steps: int) -> Iterator[Row]:
    """Yield the time of a step with its games and without, of sides timed for so many steps a window, and what games take."""
    for side in sides:
        times = [1e3 * seconds / steps for seconds in side.seconds]
        yield context.row(f"games/speed/training/{side.name}", STEP, times, unit="ms", windows=True)
    shares = [max(0.0, 1.0 - one) for one in ratios(sides[1].seconds, sides[0].seconds)]
    yield context.row("games/speed/training/whole", SHARE, shares, windows=True)


def play_of(recipe: Recipe) -> SelfPlay:
    """Return how a recipe plays."""
    return SelfPlay(**recipe.self_play)


def _with(recipe: Recipe, **play: Any) -> Recipe:
    """Return a recipe that plays no game after its first step, with other settings of play."""
    return replace(recipe, self_play={**recipe.self_play, "steps_per_round": _NEVER, **play})


def _learning(recipe: Recipe, name: str, steps: int) -> Side:
    """Return the training of a recipe on games at random, none of which it plays itself."""
    capacity = 512
    recipe = _with(recipe, capacity=capacity, initial_games=0, num_slots=1)
    trainer = recipe.trainer()
    state = trainer.init(jax.random.key(0))
    # Not its first step, in which it would play.
    state = state._replace(step=state.step + 1, games=random_games(recipe.env(), capacity))
    return Side(name, _steps(trainer, steps), state)


def _steps(trainer: SelfPlayTrainer, steps: int) -> Callable[[SelfPlayState], SelfPlayState]:
    return jax.jit(lambda state: jax.lax.fori_loop(0, steps, lambda _, one: trainer.step(one)[0], state))


def random_games(env: AbstractGame, capacity: int) -> Games:
    """Return a full ring of finished games at random."""
    # No game is longer than the board, so that every slot ends two at least.
    advance = _playing(env, None, on_policy, 0, 2 * env.max_steps)
    _, games, _ = advance((begin(env, jax.random.key(0), capacity, 0), empty_games(env, capacity), jax.random.key(1)))
    assert int(np.asarray(games.size)) == capacity, "so many games have ended"
    return games
