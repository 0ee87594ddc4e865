"""The page, all of it read off the rows: first what was asked for and what came out, then a section for each part."""

from collections.abc import Callable, Sequence

from benchmarks._games import exact
from benchmarks._games.cells import count
from benchmarks._games.tables_known import exact_table, judge_table, speed_table
from benchmarks._games.tables_learned import (
    ablation_table,
    connect4_table,
    rival_table,
    small_table,
    tic_tac_toe_table,
)
from benchmarks.rows import Row, spread, table, verdict

SECTIONS: dict[str, Callable[[Sequence[Row]], str]] = {
    "exact": exact_table,
    "solver": judge_table,
    "speed": speed_table,
    "tic_tac_toe": tic_tac_toe_table,
    "small": small_table,
    "connect4": connect4_table,
    "ablation": ablation_table,
    "alphazero": rival_table,
}


def tables(rows: Sequence[Row]) -> str:
    """Return the whole section."""
    there = {row.case.split("/")[1] for row in rows}
    return "\n\n".join([_in_short(rows), *(tell(rows) for name, tell in SECTIONS.items() if name in there)])


def _in_short(rows: Sequence[Row]) -> str:
    """Return every target with what was measured; the many of the exact solutions in one line."""
    errors = [row for row in rows if row.metric.startswith(exact.ERROR)]
    lines = []
    if errors:
        right = sum(row.met is True for row in errors)
        met = "yes" if right == len(errors) else "**no**"
        lines.append(("exact solutions", "figures as specified", f"{right} of {len(errors)}", "all", met))
    for row in rows:
        if row.target is not None and not row.metric.startswith(exact.ERROR):
            part = row.case.removeprefix("games/").replace("/", ": ")
            lines.append((part, row.metric, _told(row), row.target, verdict(row)))
    return "### In short\n\n" + table(("part", "what was asked for", "measured", "target", "met"), lines) if lines else ""


def _told(row: Row) -> str:
    """Return a value with its range and unit; numbers of things have no decimals."""
    if row.unit == "" and row.value > 1.0 and row.value.is_integer():
        return count(row)
    return f"{spread(row, 4)}{f' {row.unit}' if row.unit not in ('', '1/s') else ''}"


TEXT = """\
Adversarial flow networks learn two-player games from their rules alone: both players are one network, trained on games that
it plays against itself. The players of Connect-4 are trained by matching the flow into each position with the flows out of it,
and their network is shown, beside the stones, the fields where a stone would make four (*threats*), which the rules give and
which are no part of the published method; what each of the two is worth is measured below. Here they are solved exactly where a
game is small, timed, trained, and measured against perfect play and against AlphaZero.

How play is judged:

- A move is **optimal** (*outcome*) if it keeps what perfect play would get: the win where there is one, else the draw. It is
  **strict optimal** (*strict*) if it also wins as fast or loses as late as can be. A perfect solver says which moves are
  which.
- **Quiet positions** (E-quiet) are those in which the difference shows: from random games of Connect-4, after 8 to 32 moves,
  where neither player could win with the next stone and the legal moves do not all lead to the same outcome. On positions
  taken as they come a rule such as *win, else block* gets most moves right.
- No player here searches, unless *simulations* are mentioned. **By children**: the network looks once at each position that a
  legal move leads to, and the move with the most flow is played, which is the policy of the theory. **By policy head**: it
  looks once at the position itself. Neither looks further ahead.
- Shares are of the most probable move, or *expected*: of the policy, each move counted with its probability.

Where something was trained from several seeds, figures are the median over them, with the smallest and largest in brackets,
and a target is met if every seed reaches it, unless it is for their mean. *Specification* is what an independent program had
found before any of this was written.
"""
