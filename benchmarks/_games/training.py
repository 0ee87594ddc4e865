"""Trainings through the library's own loop, in folders that can be continued, and how well what comes out plays."""

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from benchmarks.harness.rows import Context, Row, Target
from narrows.games.exam import Exam, Optimality, watch
from narrows.games.folder import GameFolder, load_player
from narrows.games.players import Acts, NetworkPlayer
from narrows.games.recipe import Recipe
from narrows.runs import read_rows
from narrows.runs.progress import PatientConsole
from narrows.runs.self_play import train

OUTCOME, STRICT = "outcome, its move", "strict, its move"
OUTCOME_MASS, STRICT_MASS = "outcome, expected", "strict, expected"
SECONDS, STEPS, GAMES, LEARNED = "training time", "steps", "games", "positions learned from"
_ROUNDING = 0.01
"""Seconds by which a history's last line may fall short of what was asked for."""


@dataclass(frozen=True)
class Run:
    """A training that has come as far as was asked."""

    recipe: Recipe  # what was trained
    player: NetworkPlayer  # what came out, the averaged network
    folder: GameFolder  # where it lies
    # its rows: `step`, `seconds` of training, `games`, `moves` and `rows`; `strict` and `optimal` now and then
    history: Sequence[dict[str, float]]
    # seconds of the call that trained it, in which it was compiled, played its first games and was saved too; of a continued
    # training the last call's
    wall: float

    @property
    def seconds(self) -> float:
        """Seconds of training alone, over all calls."""
        return self.last("seconds")

    def last(self, name: str) -> float:
        """Return a column of the last row, 0 where nothing has been trained."""
        return float(self.history[-1][name]) if self.history else 0.0


def trained(
    path: Path,
    recipe: Recipe,
    *,
    seconds: float | None = None,
    looks: bool = False,
    clock: Callable[[], float] = time.perf_counter,
) -> Run:
    """Train a recipe in a folder until its steps are done or so many seconds of training over all calls are used.

    Args:
        path: the folder; what is there already counts.
        recipe: what to train.
        seconds: of training in all; None for all steps.
        looks: whether to look now and then, beside the clock, at how well it plays.
        clock: what those seconds are read from.

    Raises KeyboardInterrupt if the training was stopped, for whoever stopped it meant all of this.
    """
    folder = GameFolder(path)
    used = _seconds(folder)
    began = time.perf_counter()
    if seconds is None or used < seconds - _ROUNDING or not folder.recipe_file.is_file():
        look = watch(recipe.env(), recipe.acts, recipe.scale) if looks else None
        began = time.perf_counter()
        left = None if seconds is None else seconds - used
        # Lines of rows go to the standard output, so progress goes elsewhere.
        found = train(path, recipe, seconds=left, watch=look, console=PatientConsole(stderr=True), clock=clock)
        if not found.is_finished and (seconds is None or found.seconds < seconds - _ROUNDING):
            raise KeyboardInterrupt
    wall = time.perf_counter() - began
    return Run(recipe, load_player(path, path.name)[1], folder, read_rows(folder.history), wall)


def acting(run: Run, acts: Acts, name: str | None = None) -> NetworkPlayer:
    """Return the network of a run, choosing by the policy head or by the flows of the positions one move away."""
    player = run.player
    called = player.name if name is None else name
    return NetworkPlayer(player.env, player.policy, called, scale=player.scale, acts=acts)


class Grades:
    """How much of a player's play is optimal in some positions.

    Attributes:
        chosen: of its moves.
        expected: of its policy, each move counted with its probability.
    """

    def __init__(self, questions: Exam, player: NetworkPlayer) -> None:
        log_policy = player.advise(questions.states).log_policy
        self.chosen: Optimality = questions.grade(np.argmax(log_policy, axis=1))
        self.expected: Optimality = questions.grade(np.exp(log_policy))


def grade_rows(
    context: Context,
    case: str,
    grades: Sequence[Grades],
    *,
    seeds: Sequence[int] = (),
    outcome: Target | None = None,
    strict: Target | None = None,
    expected: bool = True,
) -> Iterator[Row]:
    """Yield the shares of optimal play over all positions, one value a seed."""
    chosen = [one.chosen.overall for one in grades]
    yield context.row(case, OUTCOME, [one.outcome for one in chosen], seeds=seeds, target=outcome)
    yield context.row(case, STRICT, [one.strict for one in chosen], seeds=seeds, target=strict)
    if expected:
        mass = [one.expected.overall for one in grades]
        yield context.row(case, OUTCOME_MASS, [one.outcome for one in mass], seeds=seeds)
        yield context.row(case, STRICT_MASS, [one.strict for one in mass], seeds=seeds)


def effort_rows(
    context: Context, case: str, runs: Sequence[Run], seeds: Sequence[int] = (), target: Target | None = None
) -> Iterator[Row]:
    """Yield how long runs have trained and on how much, one value a seed; the seconds are those of training alone."""
    yield context.row(case, SECONDS, [run.seconds for run in runs], unit="s", seeds=seeds, target=target)
    for metric, name in ((STEPS, "step"), (GAMES, "games"), (LEARNED, "rows")):
        yield context.row(case, metric, [run.last(name) for run in runs], seeds=seeds)


def _seconds(folder: GameFolder) -> float:
    rows = read_rows(folder.history)
    return float(rows[-1]["seconds"]) if rows else 0.0
