"""Two-player games: solved exactly, judged perfectly, timed, and learned by self-play up to Connect-4 against AlphaZero."""

from collections.abc import Iterator
from functools import partial

from benchmarks._games import connect4, exact, judge, rivals, small_games, speed, tables
from benchmarks.harness.case import Case, Part, kept_part, measure_parts, part
from benchmarks.harness.rows import Context, Row

_TIC_TAC_TOE = small_games.tic_tac_toe_rows
PARTS: dict[str, Part] = {
    "exact": part(exact.solved_rows, exact.FULL, exact.QUICK),
    "solver": part(judge.judge_rows, judge.FULL, judge.QUICK),
    "speed": part(speed.speed_rows, speed.FULL, speed.QUICK),
    "tic_tac_toe": part(partial(_TIC_TAC_TOE, name="cpu"), small_games.FULL, small_games.QUICK),
    "small": kept_part(small_games.small_rows, small_games.FULL, small_games.QUICK),
    "connect4": kept_part(connect4.connect4_rows, connect4.FULL, connect4.QUICK),
    "ablation": kept_part(connect4.ablation_rows, connect4.FULL, connect4.QUICK),
    "alphazero": kept_part(rivals.rival_rows, rivals.FULL, rivals.QUICK),
    "faithful": part(partial(_TIC_TAC_TOE, name="faithful"), small_games.FULL, small_games.QUICK._replace(steps=20)),
}
ONLY_WHEN_ASKED = frozenset({"faithful"})
"""Parts that take long and say what is known."""


def measure(context: Context) -> Iterator[Row]:
    """Yield the rows of the parts that were asked for, in the order of `PARTS`."""
    yield from measure_parts(context, PARTS, ONLY_WHEN_ASKED)


CASE = Case(
    *("Two-player games", tables.SAYS["text"], measure, tables.tables, "games_results", {tables.PICTURE: tables.draw}),
    takes=("--case",),
)
