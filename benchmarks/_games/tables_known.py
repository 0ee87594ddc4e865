"""What the page says of exact solutions, of the perfect judge and of speed."""

from collections.abc import Sequence

from benchmarks._games import exact, judge, speed
from benchmarks._games.cells import Known, cases, count, judged, known, name_of, peer, share, value
from benchmarks.rows import Row, figure, table

_SHARES = frozenset({exact.OPTIMAL, exact.STRICT, exact.MASS, exact.UNADJUSTED, exact.UNADJUSTED_STRICT})
_SPOKEN = {
    exact.OPTIMAL: "optimal",
    exact.STRICT: "strict",
    exact.MASS: "optimal mass",
    exact.FIRST: "first player at worst",
    exact.SECOND: "second at worst",
    exact.UNADJUSTED: "unadjusted: optimal",
    exact.UNADJUSTED_STRICT: "unadjusted: strict",
    exact.NO_BRANCHES: "log Z, no branch term",
}
_SHOWN = (
    *(exact.LOG_Z, exact.OPTIMAL, exact.STRICT, exact.MASS, exact.FIRST, exact.SECOND, exact.EXPLOITABILITY),
    *(exact.UNADJUSTED, exact.UNADJUSTED_STRICT, exact.NO_BRANCHES),
)


def exact_table(rows: Sequence[Row]) -> str:
    """Return the exact solutions, a table a game."""
    found, parts = known(rows), [_EXACT]
    for game_case in cases(rows, "games/exact", 3):
        game = name_of(game_case)
        lines = []
        for case in cases(rows, game_case, 4):
            cells = [_exact_cell(found.get((case, metric)), metric) for metric in _SHOWN]
            lines.append((name_of(case), *cells, as_specified(rows, case)))
        header = ("lambda", *(_SPOKEN.get(metric, metric) for metric in _SHOWN), "as specified")
        num = found[game_case, exact.POSITIONS]
        counted = count(num) if num.value < 1e6 else f"{num.value / 1e6:.3f} million"
        right = as_specified(rows, game_case)
        note = f"{counted} unfinished positions{', as many as specified' if right == 'yes' else ''}."
        parts += [f"**{game}**: {note}", table(header, lines)]
        first = [found.get((f"{game_case}/10", metric)) for metric in (exact.CENTRE, exact.CORNER, exact.EDGE)]
        if all(row is not None for row in first):
            centre, corner, edge = (figure(row.value, 4) for row in first if row is not None)
            parts.append(f"First move at lambda = 10: {centre} for the centre, {corner} for each corner, {edge} for each edge.")
    return "\n\n".join(parts)


def as_specified(rows: Sequence[Row], case: str) -> str:
    """Return whether all figures of a case that the specification has are as it says."""
    errors = [row for row in rows if row.case == case and row.metric.startswith(exact.ERROR)]
    return "" if not errors else "yes" if all(row.met for row in errors) else "**no**"


def judge_table(rows: Sequence[Row]) -> str:
    """Return what the judge costs, and what players score that nobody has trained."""
    found, lines = known(rows), []
    for case in (case for case in cases(rows, "games/solver", 3) if name_of(case).startswith("ply ")):
        nodes, taken = found[case, judge.NODES], found[case, judge.TIME]
        ratio = "" if nodes.ratio is None else figure(nodes.ratio, 2)
        number = name_of(case).removeprefix("ply ")
        lines.append((number, count(found[case, "positions"]), count(nodes), peer(nodes, digits=2), ratio, value(taken)))
    header = ("stones on the board", "positions", "mean nodes", "specification's", "ratio", "mean ms")
    rate = found["games/solver", judge.RATE]
    told = f"{figure(rate.value / 1e6)} million nodes a second on one core, {_target(rate)}."
    return "\n\n".join([f"{_JUDGE} {told}", table(header, lines), _UNTRAINED, _untrained(rows, found)])


def speed_table(rows: Sequence[Row]) -> str:
    """Return rates of play, times of steps and who takes the time."""
    found, parts = known(rows), [_SPEED]
    lines = []
    for name in (speed.CHILDREN, speed.HEAD, speed.NOBODY, speed.PEER):
        row = found[f"games/speed/{name}", speed.MOVES]
        ratio = found.get((f"games/speed/{name}", speed.RATIO))
        told = "" if ratio is None else f"{value(ratio)} to {ratio.against}"
        lines.append((_PLAYERS[name], _rates(row), told, *judged(row)))
    parts.append(table(("who plays", "moves a second", "ratio", "target", "met"), lines))
    lines = []
    for name in (speed.OURS, speed.FAITHFUL):
        case = f"games/speed/step/{name}"
        ratio, each = found.get((case, speed.STEP_RATIO)), found.get((case, speed.POSITION_RATIO))
        cells = (value(found[case, speed.STEP]), value(ratio), *judged(ratio))
        lines.append((name, *cells, value(found[case, speed.POSITION]), value(each)))
    header = (
        "training step of the",
        "s a step",
        "how many times less",
        "target",
        "met",
        "ms a position",
        "how many times less",
    )
    share_row = found["games/speed/training/whole", speed.SHARE]
    whole = found["games/speed/training/whole", speed.STEP]
    note = f"A step of the cpu preset with its own network takes {figure(whole.value)} ms, games and all."
    return "\n\n".join([*parts, _STEPS, table(header, lines), f"{note} Of that {share(share_row)} is spent on playing."])


def _untrained(rows: Sequence[Row], found: Known) -> str:
    lines = []
    for case in cases(rows, "games/solver", 4):
        of, num = case.split("/")[2], found[case.rpartition("/")[0], "positions"]
        outcome, strict = found[case, judge.OUTCOME], found[case, judge.STRICT]
        theirs = f"{peer(outcome, 100)} / {peer(strict, 100)} %" if outcome.ratio else ""
        lines.append((f"{of} ({count(num)})", name_of(case), share(outcome), share(strict), theirs))
    return table(("set", "player", "outcome", "strict", "specification's"), lines)


def _exact_cell(row: Row | None, metric: str) -> str:
    if row is None:
        return ""
    if metric in _SHARES:
        # 99.999 % is not all of them.
        return "all" if row.value == 1.0 else f"{100.0 * row.value:.3f} %"
    return "0" if abs(row.value) < 5e-7 else figure(row.value, 6) if metric == exact.LOG_Z else f"{row.value:.4f}"


def _rates(row: Row) -> str:
    told = f"{row.value:,.0f}"
    return told if row.low is None or row.high is None else f"{told} ({row.low:,.0f} to {row.high:,.0f})"


def _target(row: Row) -> str:
    return f"{'as asked for' if row.met else 'which misses what was asked for'} ({row.target})"


_PLAYERS = {
    speed.CHILDREN: "the cpu preset's network, by children: one look a legal move",
    speed.HEAD: "the same network, by its policy head: one look",
    speed.NOBODY: "nobody: moves at random",
    speed.PEER: "pgx, moves at random",
}

_EXACT = """\
### Exact solutions

The flow network of a whole game by backward induction, without any learning. *lambda* is the log-reward of a win. *optimal*
is the share of all positions in which the most probable move keeps the best outcome, *optimal mass* the mean probability of
such moves. *At worst*: what the first player gets (1 for a win, -1 for a loss) where one side samples this policy and the
other answers it best, for either side; *exploitability* is half of what lies between. *Unadjusted* is the definition in which
flows are added up at one's own turns, and *no branch term* a loss that forgets the number of legal moves: both are other
games, and their figures unmask such a mistake. *As specified*: every figure that the specification has agrees to its last
digit, or within 1e-5; in the strict rates, positions where several moves are exactly as probable are left open."""

_JUDGE = """\
### The perfect judge

It scores every legal move of a Connect-4 position on 7 columns by 6 rows, here with an empty table before each position.
Positions are of random games; few of them take most of the nodes, so that means of small samples scatter."""

_UNTRAINED = """\
What players reach that have not learned anything: on random positions a rule of one move's depth passes for a good player,
which is why the others are reported on."""

_SPEED = """\
### Speed

1,024 games side by side in one compiled program; finished games are stored and begin anew. Windows in turns in one process;
the median, with the smallest and largest window in brackets."""

_STEPS = """\
A training step with the authors' network on either side, without the games, scaled up in proportion from a part of the
positions: ours learns from 1,024 positions and looks at the moves of each, theirs from 1,024 games that fill up 42 places
each, after their end too. Beside it stands the time for each real position that is learned from, which is another question."""
