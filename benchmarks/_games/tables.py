"""The page and its picture, all of it read off the rows: first what was asked for and what came out, then part by part."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks._games import connect4, exact, judge, rivals, small_games, speed, training
from benchmarks.harness.case import prose
from benchmarks.harness.pictures import picture, reach, values
from benchmarks.harness.rows import Row
from benchmarks.harness.tables import (
    Column,
    Found,
    count,
    counts,
    figure,
    fixed,
    in_short,
    lines,
    minutes,
    name_of,
    part_of,
    peer,
    plain,
    ratio,
    share,
    spread,
    table,
    verdict,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes

SAYS = prose("games")
PICTURE = "games_learning.svg"
_ACTS = {"children": "by children", "head": "by its policy head"}


def tables(rows: Sequence[Row]) -> str:
    """Return the whole section."""
    there, found = {part_of(row.case, 1) for row in rows}, Found(rows)
    short = in_short(rows, "games/", _told, lambda row: row.metric.startswith(exact.ERROR), "exact solutions")
    return "\n\n".join([short, *("\n\n".join(tell(found)) for name, tell in SECTIONS.items() if name in there)])


def _told(row: Row) -> str:
    """Return a value with its range and unit; numbers of things have no decimals."""
    if row.unit == "" and row.value > 1.0 and row.value.is_integer():
        return count(row)
    return f"{spread(row, 4)}{f' {row.unit}' if row.unit not in ('', '1/s') else ''}"


# What is known without training.


def _exact(found: Found) -> list[str]:
    """Return the exact solutions, a table a game."""

    def as_specified(case: str) -> str:
        errors = [row for row in found.rows if row.case == case and row.metric.startswith(exact.ERROR)]
        return "" if not errors else "yes" if all(row.met for row in errors) else "**no**"

    def of_all(row: Row) -> str:
        return "all" if row.value == 1.0 else f"{100.0 * row.value:.3f} %"  # 99.999 % is not all of them

    def number(row: Row) -> str:
        return "0" if abs(row.value) < 5e-7 else figure(row.value, 6) if row.metric == exact.LOG_Z else f"{row.value:.4f}"

    shown = (
        (exact.LOG_Z, "log Z", number),
        (exact.OPTIMAL, "optimal", of_all),
        (exact.STRICT, "strict", of_all),
        (exact.MASS, "optimal mass", of_all),
        (exact.FIRST, "first player at worst", number),
        (exact.SECOND, "second at worst", number),
        (exact.EXPLOITABILITY, exact.EXPLOITABILITY, number),
        (exact.UNADJUSTED, "unadjusted: optimal", of_all),
        (exact.UNADJUSTED_STRICT, "unadjusted: strict", of_all),
        (exact.NO_BRANCHES, "log Z, no branch term", number),
    )
    columns = [("lambda", name_of), *((head, found.cell(metric, tell)) for metric, head, tell in shown)]
    parts = [SAYS["exact"]]
    for game in found.cases("games/exact", 3):
        num = found[game, exact.POSITIONS]
        counted = count(num) if num.value < 1e6 else f"{num.value / 1e6:.3f} million"
        right = ", as many as specified" if as_specified(game) == "yes" else ""
        parts.append(f"**{name_of(game)}**: {counted} unfinished positions{right}.")
        parts.append(lines(found.cases(game, 4), [*columns, ("as specified", as_specified)]))
        moves = (exact.CENTRE, exact.CORNER, exact.EDGE)
        centre, corner, edge = (found.told(f"{game}/10", move, plain, 4) for move in moves)
        if centre and corner and edge:
            parts.append(f"First move at lambda = 10: {centre} for the centre, {corner} for each corner, {edge} for each edge.")
    return parts


def _judge(found: Found) -> list[str]:
    """Return what the judge costs, and what players score that nobody has trained."""
    rate = found["games/solver", judge.RATE]
    asked = f"{'as asked for' if rate.met else 'which misses what was asked for'} ({rate.target})"
    plies = [case for case in found.cases("games/solver", 3) if name_of(case).startswith("ply ")]
    costs: list[Column] = [
        ("stones on the board", lambda case: name_of(case).removeprefix("ply ")),
        ("positions", found.cell("positions", count)),
        ("mean nodes", found.cell(judge.NODES, count)),
        ("specification's", found.cell(judge.NODES, peer, 2)),
        ("ratio", found.cell(judge.NODES, ratio, 2)),
        ("mean ms", found.cell(judge.TIME)),
    ]

    def theirs(case: str) -> str:
        outcome, strict = found[case, judge.OUTCOME], found[case, judge.STRICT]
        return f"{peer(outcome, 3, 100)} / {peer(strict, 3, 100)} %" if outcome.ratio else ""

    players: list[Column] = [
        ("set", lambda case: f"{part_of(case, 2)} ({count(found[case.rpartition('/')[0], 'positions'])})"),
        ("player", name_of),
        ("outcome", found.cell(judge.OUTCOME, share)),
        ("strict", found.cell(judge.STRICT, share)),
        ("specification's", theirs),
    ]
    told = f"{figure(rate.value / 1e6)} million nodes a second on one core, {asked}."
    untrained = [SAYS["untrained"], lines(found.cases("games/solver", 4), players)]
    return [f"{SAYS['solver']} {told}", lines(plies, costs), *untrained]


def _speed(found: Found) -> list[str]:
    """Return rates of play, times of steps and who takes the time."""
    players = {
        speed.CHILDREN: "the cpu preset's network, by children: one look a legal move",
        speed.HEAD: "the same network, by its policy head: one look",
        speed.NOBODY: "nobody: moves at random",
        speed.PEER: "pgx, moves at random",
    }
    rates: list[Column] = [
        ("who plays", lambda case: players[name_of(case)]),
        ("moves a second", found.cell(speed.MOVES, counts)),
        ("ratio", found.cell(speed.RATIO, lambda row: f"{spread(row)} to {row.against}")),
        *found.judged(speed.MOVES),
    ]
    steps: list[Column] = [
        ("training step of the", name_of),
        ("s a step", found.cell(speed.STEP)),
        ("how many times less", found.cell(speed.STEP_RATIO)),
        *found.judged(speed.STEP_RATIO),
        ("ms a position", found.cell(speed.POSITION)),
        ("how many times less", found.cell(speed.POSITION_RATIO)),
    ]
    whole = "games/speed/training/whole"
    note = f"A step of the cpu preset with its own network takes {found.told(whole, speed.STEP, plain)} ms, games and all."
    return [
        SAYS["speed"],
        lines((f"games/speed/{name}" for name in players), rates),
        SAYS["steps"],
        lines((f"games/speed/step/{name}" for name in (speed.OURS, speed.FAITHFUL)), steps),
        f"{note} Of that {found.told(whole, speed.SHARE, share)} is spent on playing.",
    ]


# What was learned.


def _tic_tac_toe(found: Found) -> list[str]:
    """Return what the presets reach in tic-tac-toe."""
    cells = []
    for case in found.cases("games/tic_tac_toe", 3):
        seeds, log_z = found[case, training.OUTCOME], found[case, small_games.LOG_Z]
        games = sum(found[case, metric].value for metric in (small_games.WON, small_games.DRAWN, small_games.LOST))
        for head, metric, tell, args in (
            ("optimal moves, mean of the seeds", small_games.MEAN, share, (2,)),
            (f"optimal moves, median of {len(seeds.seeds)}", training.OUTCOME, share, (2,)),
            ("optimal mass", training.OUTCOME_MASS, share, (2,)),
            (f"lost of {games:,.0f} games against random play", small_games.LOST, spread, ()),
            ("seconds, compiling and all", small_games.WALL, spread, ()),
            (f"log Z ({peer(log_z, 5)} is exact)", small_games.LOG_Z, spread, ()),
            ("games of self-play", training.GAMES, count, ()),
        ):
            row = found[case, metric]
            cells.append((name_of(case), head, tell(row, *args), row.target or "", verdict(row)))
    return [SAYS["tic_tac_toe"], table(("preset", "", "median (range) over seeds", "target", "met"), cells)]


def _small(found: Found) -> list[str]:
    """Return what the cpu preset reaches on small boards."""

    def board(case: str) -> str:
        return case.rpartition("/")[0]

    def positions(case: str) -> str:
        whole = found[board(case), small_games.OF_ALL].value
        return f"{found.told(board(case), small_games.POSITIONS, count)}, {'all' if whole == 1.0 else f'{100 * whole:.2g} %'}"

    def interval(case: str) -> str:
        ends = [found.get((case, metric)) for metric in (small_games.LOW, small_games.HIGH)]
        return f" [{', '.join(f'{100 * end.value:.2f}' for end in ends if end)}]" if all(ends) else ""

    columns: list[Column] = [
        ("board", lambda case: name_of(board(case))),
        ("positions", positions),
        ("acts", lambda case: _ACTS[name_of(case)]),
        ("outcome", lambda case: found.told(case, training.OUTCOME, share, 2) + interval(case)),
        ("strict", found.cell(training.STRICT, share, 2)),
        *found.judged(training.OUTCOME),
        ("training", lambda case: found.told(board(case), training.SECONDS, minutes)),
    ]
    return [SAYS["small"], lines((of for case in found.cases("games/small", 3) for of in found.cases(case, 4)), columns)]


def _connect4(found: Found) -> list[str]:
    """Return what a preset reaches on the usual board, by band of plies, and how it came to that."""

    def marked(row: Row) -> str:
        mark = "" if row.target is None else f" (target {row.target}: {'met' if row.met else '**missed**'})"
        return f"{share(row)}{mark}"

    shares = (training.OUTCOME, training.STRICT, training.OUTCOME_MASS, training.STRICT_MASS)
    heads = ("outcome", "strict", "outcome, expected", "strict, expected")
    parts = [SAYS["connect4"]]
    for case in found.cases("games/connect4", 3):
        cells = []
        for acts, spoken in _ACTS.items():
            whole = f"{case}/{acts}"
            for of in (whole, *found.cases(whole, 5)):
                stones, place = ("all", case) if of == whole else (name_of(of), of)
                told = (found.told(of, metric, marked) for metric in shares)
                cells.append((spoken, stones, found.told(place, connect4.POSITIONS, count), *told))
        quiet = f"games/solver/{judge.QUIET_SET}"
        for name in (judge.TACTIC, judge.CENTRE, judge.UNIFORM):
            if (f"{quiet}/{name}", judge.OUTCOME) in found:
                told = (found.told(f"{quiet}/{name}", metric, share) for metric in (judge.OUTCOME, judge.STRICT))
                cells.append((f"untrained: {name}", "all", found.told(quiet, "positions", count), *told, "", ""))
        steps, games, learned = (found.told(case, m, count) for m in (training.STEPS, training.GAMES, training.LEARNED))
        said = [
            f"Preset `{name_of(case)}`: {found.told(case, training.SECONDS, minutes)} of training, {steps} steps, "
            f"{games} games, {learned} positions learned from."
        ]
        reached = {f"{one:.0%}": found.get((case, f"{connect4.REACHED} {one:.0%}")) for one in connect4.MILESTONES}
        there = [f"{name} after {minutes(row)}" for name, row in reached.items() if row]
        missed = [name for name, row in reached.items() if not row]
        said += [f"Strict optimal moves in training reached {', '.join(there)}."] if there else []
        said += [f"Not reached: {', '.join(missed)}."] if missed else []
        parts += [" ".join(said), table(("acts", "stones on the board", "positions", *heads), cells)]
        if any(of.startswith(f"{case}/after ") for of in found.cases(case)):
            parts.append(f"![Share of optimal moves over training time]({PICTURE})")
    return parts


def _ablation(found: Found) -> list[str]:
    """Return what recipes come to that lack one thing."""
    cases = found.cases("games/ablation", 3)
    whole = found.get((f"games/ablation/{connect4.FULL_RECIPE}", training.STRICT))

    def change(row: Row) -> str:
        return "" if whole is None or row is whole else f"{100 * (row.value - whole.value):+.1f}"

    columns: list[Column] = [
        ("recipe", name_of),
        ("outcome", found.cell(training.OUTCOME, share)),
        ("strict", found.cell(training.STRICT, share)),
        ("strict, points more than full", found.cell(training.STRICT, change)),
        ("steps", found.cell(training.STEPS, count)),
        ("positions learned from", found.cell(training.LEARNED, count)),
    ]
    taken = [found[case, training.SECONDS] for case in cases]
    seeds, shortest = len(taken[0].seeds), minutes(min(taken, key=lambda row: row.value))
    note = f"{shortest} of processor time each, median (range) of {seeds} seed{'s'[: seeds - 1]}."
    return [f"{SAYS['ablation']} {note}", lines(cases, columns)]


def _rivals(found: Found) -> list[str]:
    """Return what was spent on either side and how their games ended."""

    def perfect(acts: str) -> Callable[[str], str]:
        return lambda case: " / ".join(found.told(f"{case}/{acts}", m, share) for m in (training.OUTCOME, training.STRICT))

    spent: list[Column] = [
        ("network", lambda case: name if (name := name_of(case)) == "AFlowNet" else f"AlphaZero, {name}"),
        ("training", found.cell(training.SECONDS, minutes)),
        ("TFLOP", found.cell(rivals.ARITHMETIC)),
        ("ours to theirs", found.cell(rivals.SHARE, plain)),
        *((metric, found.cell(metric, count)) for metric in (training.STEPS, training.GAMES, training.LEARNED)),
        ("outcome / strict by children", perfect("children")),
        ("by head", perfect("head")),
    ]
    scores: list[Column] = [
        *((head, lambda case, place=place: part_of(case, place)) for place, head in enumerate(("budget", "ours", "theirs"), 2)),
        ("score of ours", found.cell(rivals.SCORE, fixed, ".3f")),
        ("95 % interval", lambda case: " to ".join(found.told(case, m, fixed, ".3f") for m in (rivals.LOW, rivals.HIGH))),
        ("games", found.cell(rivals.GAMES_PLAYED, count)),
        ("target for its lower end", found.judged(rivals.LOW)[0][1]),
        found.judged(rivals.LOW)[1],
    ]
    of_networks, of_contests = (found.cases("games/alphazero", parts) for parts in (3, 5))
    return [SAYS["alphazero"], lines(of_networks, spent), SAYS["scores"], lines(of_contests, scores)]


SECTIONS: dict[str, Callable[[Found], list[str]]] = {
    "exact": _exact,
    "solver": _judge,
    "speed": _speed,
    "tic_tac_toe": _tic_tac_toe,
    "small": _small,
    "connect4": _connect4,
    "ablation": _ablation,
    "alphazero": _rivals,
}


def draw(rows: Sequence[Row], path: Path) -> bool:
    """Write the picture; False where no training has a history."""
    found = Found(rows)
    looks, ablated = {}, found.cases("games/ablation", 3)
    for case in found.cases("games/connect4", 4):
        if name_of(case).startswith("after "):
            looks.setdefault(case.rpartition("/")[0], []).append(case)
    if looks:
        with picture(path, 1, 1 + bool(ablated), (5.6, 3.6)) as panels:
            _draw_curves(panels[0], found, looks)
            if ablated:
                _draw_ablation(panels[1], found, ablated)
    return bool(looks)


def _draw_curves(panel: "Axes", found: Found, trainings: dict[str, list[str]]) -> None:
    for number, (case, looks) in enumerate(trainings.items()):
        minutes = [float(name_of(one).split()[1]) / 60.0 for one in looks]
        for metric, style in ((connect4.HISTORY_OUTCOME, "-"), (connect4.HISTORY_STRICT, "--")):
            shares = [100.0 * found[one, metric].value for one in looks]
            label = f"{metric.split(',')[0]}, {name_of(case)}"
            panel.plot(minutes, shares, style, color=f"C{number}", marker=".", linewidth=1.0, label=label)
    for target, style in ((connect4.OUTCOME_ENOUGH, "-"), (connect4.STRICT_ENOUGH, "--")):
        panel.axhline(100.0 * target.bound, color="0.6", linestyle=style, linewidth=0.8)
    panel.set_xlabel("minutes of training")
    panel.set_ylabel("optimal moves on quiet positions, %")
    panel.legend(loc="lower right", frameon=False)
    panel.set_title("Connect-4; the targets in grey")


def _draw_ablation(panel: "Axes", found: Found, ablated: Sequence[str]) -> None:
    places = list(range(len(ablated)))[::-1]
    for metric, colour in ((training.OUTCOME, "C0"), (training.STRICT, "C1")):
        shares = [found[case, metric] for case in ablated]
        at, label = [100.0 * value for value in values(shares)], metric.split(",")[0]
        panel.errorbar(at, places, xerr=reach(shares, 100.0), fmt="o", color=colour, markersize=4.0, capsize=2, label=label)
    panel.set_yticks(places, [name_of(case) for case in ablated])
    panel.set_xlabel("optimal moves on quiet positions, %")
    panel.legend(loc="best", frameon=False)
    panel.set_title("Recipes in equal training time")
