"""What the page says of the hidden games."""

from collections.abc import Sequence

from benchmarks._games.cells import known, name_of, value
from benchmarks._vi import minmax
from benchmarks._vi.contests import SPECIFIED
from benchmarks.rows import Row, figure, table, verdict

PICTURE = "vi_minmax.svg"

_HEADER = (
    *("step size", "algorithm", "steps to 1e-2 / 1e-4 / 1e-8", "specified", "rate", "rho"),
    *("gradient evaluations to 1e-4", "ms to 1e-4", "ms a step", "where it stays"),
)


def minmax_table(rows: Sequence[Row]) -> str:
    """Return the order of the curves, the picture, and a table for each game."""
    names = dict.fromkeys(row.case.split("/")[2] for row in rows)
    parts = [_INTRODUCTION, _order(rows)]
    if any(row.metric == minmax.DISTANCE for row in rows):
        parts.append(f"![Distance to the solution against outer steps and against seconds]({PICTURE})")
    parts += [_game(rows, name) for name in names if name != "order"]
    return "\n\n".join([*parts, _READING])


def _order(rows: Sequence[Row]) -> str:
    lines = [
        (row.case.removeprefix("vi/minmax/order/"), row.metric, figure(row.value, 3), row.target or "", verdict(row))
        for row in rows
        if row.case.startswith("vi/minmax/order/")
    ]
    return table(("game", "the order of the curves, as a ratio", "measured", "target", "met"), lines)


def _game(rows: Sequence[Row], name: str) -> str:
    found = known(rows)
    lines = []
    for case in dict.fromkeys(row.case for row in rows if row.metric == minmax.RATE and row.case.split("/")[2] == name):
        _, _, _, setting, algorithm = case.split("/")
        rate, spent = found[case, minmax.RATE], found.get((case, minmax.EVALUATIONS))
        seconds, each = found.get((case, minmax.SECONDS)), found.get((case, minmax.TIME))
        rho = "" if not rate.ratio else f"{rate.value / rate.ratio:.4f}"
        label = f"{setting}, tuned" if (case, minmax.TUNED) in found else setting
        cells = (
            _steps(found, case),
            _specified(name, setting, algorithm),
            "" if rate.value == 1.0 else f"{rate.value:.5f}",
            rho,
            "" if spent is None else f"{spent.value:,.0f}",
            "" if seconds is None else figure(1e3 * seconds.value, 2),
            "" if each is None else figure(each.value, 2),
            _stays(found, case),
        )
        lines.append((label, algorithm, *cells))
    kept = [place for place in range(len(_HEADER)) if any(line[place] for line in lines)]
    header = [_HEADER[place] for place in kept]
    return f"#### {name[0].upper()}{name[1:]}\n\n" + table(header, [[line[place] for place in kept] for line in lines])


def _steps(found: dict[tuple[str, str], Row], case: str) -> str:
    told = [found.get((case, metric)) for metric in minmax.STEPS]
    share = found.get((case, minmax.REACHED))
    text = " / ".join("-" if row is None else f"{row.value:g}" for row in told)
    return text if share is None or share.value in (0.0, 1.0) else f"{text} ({100.0 * share.value:.0f} % of runs reach 1e-4)"


def _specified(name: str, setting: str, algorithm: str) -> str:
    for size, counts in SPECIFIED.get((name, algorithm), {}).items():
        if name_of(setting.replace(" = ", "/")) == f"{size:.4g}":
            return " / ".join("-" if count is None else str(count) for count in counts)
    return ""


def _stays(found: dict[tuple[str, str], Row], case: str) -> str:
    """Return between which distances a run that does not converge ends."""
    least, largest = found.get((case, minmax.LEAST)), found.get((case, minmax.LARGEST))
    if least is None or largest is None:
        return ""
    return f"{value(least, 2)} to {value(largest, 2)}"


_INTRODUCTION = """\
### Hidden games

In *matching pennies* each player shows heads with a probability that comes out of one neuron; in *rock-paper-scissors* each
player's distribution comes out of a network with 899 weights. The games are monotone in the probabilities and not in the
parameters. `eta` marks algorithms that step in the probabilities and reach them by inner steps; `step` marks those that
follow gradients of the parameters, *tuned* ones with the best step size of a grid, chosen on other starts. The first are not
tuned: eta is the safe step of the theory, `mu / L^2`, except where a table says otherwise."""

_READING = """\
How to read them: in matching pennies with a safe eta, better inner solves only help, up to the rate that theory gives for
exact ones. With an eta beyond `2 mu / L^2` it is the other way round, since few inner steps act as a shorter eta: better
inner optimisation does not always improve the outer loop. With networks it need not do so even at a safe eta. Steps are
counted to the first time that a distance is reached; *where it stays* is the range of distances late in a run that never
reached 1e-8. Extragradient on the parameters, with a step size tuned for it, is a strong rival on problems this small; what
a surrogate saves is evaluations of the operator, and here the operator costs nothing."""
