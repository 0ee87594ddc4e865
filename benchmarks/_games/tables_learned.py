"""What the page says of trained networks: small games, the usual board, the ablations and AlphaZero."""

from collections.abc import Sequence

from benchmarks._games import connect4, judge, rivals, small_games, training
from benchmarks._games.cells import cases, count, judged, known, lines_of, minutes, name_of, share, value
from benchmarks.rows import Row, figure, table

PICTURE = "games_learning.svg"
_ACTS = {"children": "by children", "head": "by its policy head"}
_SHARES = (training.OUTCOME, training.STRICT, training.OUTCOME_MASS, training.STRICT_MASS)
_FOUR = ("outcome", "strict", "outcome, expected", "strict, expected")


def tic_tac_toe_table(rows: Sequence[Row]) -> str:
    """Return what the presets reach in tic-tac-toe."""
    found, lines = known(rows), []
    for case in cases(rows, "games/tic_tac_toe", 3):
        mean, lost = found[case, small_games.MEAN], found[case, small_games.LOST]
        wall = found[case, small_games.WALL]
        seeds = found[case, training.OUTCOME]
        games = sum(found[case, metric].value for metric in (small_games.WON, small_games.DRAWN, small_games.LOST))
        exact = found[case, small_games.LOG_Z]
        lines += [
            (name_of(case), "optimal moves, mean of the seeds", share(mean, 2), *judged(mean)),
            (name_of(case), f"optimal moves, median of {len(seeds.seeds)}", share(seeds, 2), "", ""),
            (name_of(case), "optimal mass", share(found[case, training.OUTCOME_MASS], 2), "", ""),
            (name_of(case), f"lost of {games:,.0f} games against random play", value(lost), *judged(lost)),
            (name_of(case), "seconds, compiling and all", value(wall), *judged(wall)),
            (name_of(case), f"log Z ({_peer(exact)} is exact)", value(exact), "", ""),
            (name_of(case), "games of self-play", count(found[case, training.GAMES]), "", ""),
        ]
    return f"{_CELLS}\n\n{table(('preset', '', 'median (range) over seeds', 'target', 'met'), lines)}"


def small_table(rows: Sequence[Row]) -> str:
    """Return what the cpu preset reaches on small boards."""
    found, lines = known(rows), []
    for case in cases(rows, "games/small", 3):
        whole = found[case, small_games.OF_ALL].value
        positions = f"{count(found[case, small_games.POSITIONS])}, {'all' if whole == 1.0 else f'{100 * whole:.2g} %'}"
        for of in cases(rows, case, 4):
            outcome = found[of, training.OUTCOME]
            low, high = found.get((of, small_games.LOW)), found.get((of, small_games.HIGH))
            interval = "" if low is None or high is None else f" [{100 * low.value:.2f}, {100 * high.value:.2f}]"
            shares = (f"{share(outcome, 2)}{interval}", share(found[of, training.STRICT], 2))
            acts, taken = _ACTS[name_of(of)], minutes(found[case, training.SECONDS])
            lines.append((name_of(case), positions, acts, *shares, *judged(outcome), taken))
    header = ("board", "positions", "acts", "outcome", "strict", "target", "met", "training")
    return f"{_SMALL}\n\n{table(header, lines)}"


def connect4_table(rows: Sequence[Row]) -> str:
    """Return what a preset reaches on the usual board, by band of plies, and how it came to that."""
    found, parts = known(rows), [_CONNECT4]
    for case in cases(rows, "games/connect4", 3):
        lines = []
        for acts, spoken in _ACTS.items():
            whole = f"{case}/{acts}"
            lines.append((spoken, "all", count(found[case, connect4.POSITIONS]), *_four(rows, whole)))
            for of in cases(rows, whole, 5):
                lines.append((spoken, name_of(of), count(found[of, connect4.POSITIONS]), *_four(rows, of)))
        for name in (judge.TACTIC, judge.CENTRE, judge.UNIFORM):
            of = f"games/solver/{judge.QUIET_SET}/{name}"
            if (of, judge.OUTCOME) in found:
                cells = (share(found[of, judge.OUTCOME]), share(found[of, judge.STRICT]), "", "")
                lines.append(
                    (f"untrained: {name}", "all", count(found[f"games/solver/{judge.QUIET_SET}", "positions"]), *cells)
                )
        taken = found[case, training.SECONDS]
        told = [
            f"Preset `{name_of(case)}`: {minutes(taken)} of training, {count(found[case, training.STEPS])} steps, "
            f"{count(found[case, training.GAMES])} games, {count(found[case, training.LEARNED])} positions learned from."
        ]
        here = [row for row in rows if row.case == case]
        reached = [f"{share_of} after {minutes(row)}" for share_of, row in lines_of(here, connect4.REACHED)]
        missed = [f"{one:.0%}" for one in connect4.MILESTONES if not any(told.startswith(f"{one:.0%}") for told in reached)]
        told += [f"Strict optimal moves in training reached {', '.join(reached)}."] if reached else []
        told += [f"Not reached: {', '.join(missed)}."] if missed else []
        parts += [" ".join(told), table(("acts", "stones on the board", "positions", *_FOUR), lines)]
        if any(of.startswith(f"{case}/after ") for of in cases(rows, case)):
            parts.append(f"![Share of optimal moves over training time]({PICTURE})")
    return "\n\n".join(parts)


def ablation_table(rows: Sequence[Row]) -> str:
    """Return what recipes come to that lack one thing."""
    found, lines = known(rows), []
    whole = found.get((f"games/ablation/{connect4.FULL_RECIPE}", training.STRICT))
    for case in cases(rows, "games/ablation", 3):
        strict = found[case, training.STRICT]
        change = "" if whole is None or strict is whole else f"{100 * (strict.value - whole.value):+.1f}"
        shares = (share(found[case, training.OUTCOME]), share(strict), change)
        effort = (count(found[case, training.STEPS]), count(found[case, training.LEARNED]))
        lines.append((name_of(case), *shares, *effort))
    taken = [found[case, training.SECONDS] for case in cases(rows, "games/ablation", 3)]
    header = ("recipe", "outcome", "strict", "strict, points more than full", "steps", "positions learned from")
    seeds = len(taken[0].seeds)
    shortest = minutes(min(taken, key=lambda row: row.value))
    note = f"{shortest} of processor time each, median (range) of {seeds} seed{'s'[: seeds - 1]}."
    return "\n\n".join([f"{_ABLATION} {note}", table(header, lines)])


def rival_table(rows: Sequence[Row]) -> str:
    """Return what was spent on either side and how their games ended."""
    found, lines = known(rows), []
    for case in cases(rows, "games/alphazero", 3):
        name = name_of(case)
        perfect = [f"{share(found[of, training.OUTCOME])} / {share(found[of, training.STRICT])}" for of in _acting(case)]
        effort = (count(found[case, metric]) for metric in (training.STEPS, training.GAMES, training.LEARNED))
        ratio = found.get((case, rivals.SHARE))
        shared = "" if ratio is None else figure(ratio.value)
        called = name if name == "AFlowNet" else f"AlphaZero, {name}"
        lines.append(
            (called, minutes(found[case, training.SECONDS]), value(found[case, rivals.ARITHMETIC]), shared, *effort, *perfect)
        )
    spent = ("network", "training", "TFLOP", "ours to theirs", "steps", "games", "positions learned from")
    parts = [_RIVALS, table((*spent, "outcome / strict by children", "by head"), lines)]
    lines = []
    for case in cases(rows, "games/alphazero", 5):
        _, _, budget, ours, theirs = case.split("/")
        low, high = found[case, rivals.LOW], found[case, rivals.HIGH]
        interval = f"{low.value:.3f} to {high.value:.3f}"
        score = f"{found[case, rivals.SCORE].value:.3f}"
        lines.append((budget, ours, theirs, score, interval, count(found[case, rivals.GAMES_PLAYED]), *judged(low)))
    header = ("budget", "ours", "theirs", "score of ours", "95 % interval", "games", "target for its lower end", "met")
    return "\n\n".join([*parts, _SCORES, table(header, lines)])


def _acting(case: str) -> tuple[str, str]:
    return f"{case}/children", f"{case}/head"


def _four(rows: Sequence[Row], case: str) -> tuple[str, ...]:
    found = known(rows)
    cells = []
    for metric in _SHARES:
        row = found[case, metric]
        mark = "" if row.target is None else f" (target {row.target}: {'met' if row.met else '**missed**'})"
        cells.append(f"{share(row)}{mark}")
    return tuple(cells)


def _peer(row: Row) -> str:
    return figure(row.value / row.ratio, 5) if row.ratio else ""


_CELLS = """\
### Tic-tac-toe

Optimal moves of all 4,520 positions that can arise. Nothing but the rules goes in: no solved position, no search, no opponent
from outside. The `faithful` preset is the authors' configuration as published."""

_SMALL = """\
### Connect-4 on small boards

Columns by rows, four in a row win. Looked at are all positions that can arise in which legal moves differ in outcome, or a
uniform sample of them with the 95 % interval in brackets."""

_CONNECT4 = """\
### Connect-4 on 7 columns by 6 rows

From self-play, with threats shown to the network, judged on the quiet positions. Columns without *expected* are of the most
probable move, *expected* ones of the policy itself, each move counted with its probability."""

_ABLATION = """\
### What each ingredient is worth

Recipes that differ from the cpu preset in one thing, on the quiet positions. All have a learning rate that does not fall, for
they are cut off by the clock, long before the end of a usual training: what pays early is seen, what pays late is not. The
last three are other objectives, which train and play by the policy head, at the learning rate of the preset, which was not
chosen for them."""

_RIVALS = """\
### Against AlphaZero

Gumbel AlphaZero with 32 simulations a move in self-play, the same trunk, Adam and the same kind of loop in one compiled
program. Its learning rate is 0.001, as in the published examples, ours 0.002; its other settings are the library's and have
not been tuned as long as ours have. *Equal time*: as many seconds of training. *Equal arithmetic*: as many floating-point
operations of the network, in play and in training. *25 simulations*: the configuration that the authors probably compared
with, as far as it is known. Learning rates do not fall, so that to stop anywhere is fair. *TFLOP* are 10^12 operations; *ours
to theirs* is the ratio of them. *Outcome / strict* are shares of optimal moves without search, of positions as above."""

_SCORES = """\
Games from distinct openings, each with both colours; a win counts 1, a draw 1/2. The interval takes into account that games
that begin alike are alike. Without search there are two ways to act, and the target is for the three fair pairings of them:
each network in its own way, both by policy head, both by children."""
