"""Two-player games: solved exactly, judged perfectly, timed, and learned by self-play up to Connect-4 against AlphaZero."""

from collections.abc import Callable, Iterator
from pathlib import Path

from benchmarks._games import connect4, exact, judge, plan, rivals, small_games, speed, tables
from benchmarks._games.plan import Plan
from benchmarks._games.training import workplace
from benchmarks.case import Case
from benchmarks.rows import Context, Row

Part = Callable[[Context, Plan, Path], Iterator[Row]]


def _exact(context: Context, asked: Plan, folder: Path) -> Iterator[Row]:
    for game, scales in asked.solved.items():
        yield from exact.exact_rows(context, game, scales)


def _small(context: Context, asked: Plan, folder: Path) -> Iterator[Row]:
    for game in asked.small.boards:
        yield from small_games.board_rows(context, asked.small, game, folder)


PARTS: dict[str, Part] = {
    "exact": _exact,
    "solver": lambda context, asked, folder: judge.judge_rows(context, asked.judge),
    "speed": lambda context, asked, folder: speed.speed_rows(context, asked.speed),
    "tic_tac_toe": lambda context, asked, folder: small_games.tic_tac_toe_rows(context, asked.small, "cpu"),
    "small": _small,
    "connect4": lambda context, asked, folder: connect4.connect4_rows(context, asked.connect4, folder),
    "ablation": lambda context, asked, folder: connect4.ablation_rows(context, asked.connect4, folder),
    "alphazero": lambda context, asked, folder: rivals.rival_rows(context, asked.rivals, folder),
    "faithful": lambda context, asked, folder: small_games.tic_tac_toe_rows(context, asked.faithful, "faithful"),
}
ONLY_WHEN_ASKED = frozenset({"faithful"})
"""Parts that take long and say what is known."""


def measure(context: Context) -> Iterator[Row]:
    """Yield the rows of the parts that were asked for, in the order of `PARTS`."""
    yield from measure_parts(context, plan.QUICK if context.quick else plan.FULL)


def measure_parts(context: Context, asked: Plan) -> Iterator[Row]:
    """Yield the rows of a plan; ValueError lists the parts for an unknown one."""
    strange = [name for name in context.cases if name not in PARTS]
    if strange:
        raise ValueError(f"there is no case {strange[0]!r}. There are: {', '.join(PARTS)}.")
    chosen = context.cases or tuple(name for name in PARTS if name not in ONLY_WHEN_ASKED)
    with workplace(context) as folder:
        for name, part in PARTS.items():
            if name in chosen:
                yield from part(context, asked, folder)


CASE = Case("Two-player games", tables.TEXT, measure, tables.tables, page="games_results")
