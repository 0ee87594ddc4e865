"""The page and its pictures, all of it read off the rows: first what was asked for and what came out, then part by part."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks._vi import chain, counterexamples, minmax, torus
from benchmarks._vi.contests import SPECIFIED
from benchmarks._vi.torus import BATCH, TD0
from benchmarks.harness.case import prose
from benchmarks.harness.pictures import picture, values
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
    name_of,
    part_of,
    plain,
    spread,
    table,
    verdict,
    with_verdict,
)
from benchmarks.harness.turns import RATIO, TIME

if TYPE_CHECKING:
    from matplotlib.axes import Axes

SAYS = prose("vi")
MINMAX_PICTURE, TORUS_PICTURE = "vi_minmax.svg", "vi_torus.svg"


def tables(rows: Sequence[Row]) -> str:
    """Return the whole section."""

    def told(row: Row) -> str:
        return f"{spread(row, 4)}{f' {row.unit}' if row.unit not in ('', 'x') else ''}"

    def is_figure(row: Row) -> bool:
        return row.metric.startswith(chain.ERROR) or row.metric in (chain.DIFFERENCE, minmax.OFF_STEPS)

    parts = [in_short(rows, "vi/", told, is_figure)]
    for name, tell in SECTIONS.items():
        own = [row for row in rows if part_of(row.case, 1) == name]
        parts += [SAYS[name], *tell(Found(own))] if own else []
    return "\n\n".join(parts)


def _minmax(found: Found) -> list[str]:
    """Return the order of the curves, the picture, and a table for each game."""
    order = [row for row in found.rows if part_of(row.case, 2) == "order"]
    cells = [(part_of(row.case, 3), row.metric, plain(row), row.target or "", verdict(row)) for row in order]
    parts = [table(("game", "the order of the curves, as a ratio", "measured", "target", "met"), cells)]
    if any(row.metric == minmax.DISTANCE for row in found.rows):
        parts.append(f"![Distance to the solution against outer steps and against seconds]({MINMAX_PICTURE})")

    def setting(case: str) -> str:
        return f"{part_of(case, 3)}, tuned" if (case, minmax.TUNED) in found else part_of(case, 3)

    def steps(case: str) -> str:
        reached = found.get((case, minmax.REACHED))
        text = " / ".join(found.told(case, metric, fixed, "g") or "-" for metric in minmax.STEPS)
        is_told = reached is not None and reached.value in (0.0, 1.0)
        return text if reached is None or is_told else f"{text} ({100.0 * reached.value:.0f} % of runs reach 1e-4)"

    def specified(case: str) -> str:
        known = SPECIFIED.get((part_of(case, 2), name_of(case)), {})
        at = part_of(case, 3).split(" = ")[1]
        wanted = next((numbers for size, numbers in known.items() if f"{size:.4g}" == at), ())
        return " / ".join("-" if number is None else str(number) for number in wanted)

    def stays(case: str) -> str:
        """Return between which distances a run that does not converge ends."""
        ends = [found.told(case, metric, spread, 2) for metric in (minmax.LEAST, minmax.LARGEST)]
        return " to ".join(ends) if all(ends) else ""

    columns: list[Column] = [
        ("step size", setting),
        ("algorithm", name_of),
        ("steps to 1e-2 / 1e-4 / 1e-8", steps),
        ("specified", specified),
        ("rate", found.cell(minmax.RATE, lambda row: "" if row.value == 1.0 else f"{row.value:.5f}")),
        ("rho", found.cell(minmax.RATE, lambda row: f"{row.value / row.ratio:.4f}" if row.ratio else "")),
        ("gradient evaluations to 1e-4", found.cell(minmax.EVALUATIONS, count)),
        ("ms to 1e-4", found.cell(minmax.SECONDS, lambda row: figure(1e3 * row.value, 2))),
        ("ms a step", found.cell(minmax.TIME, plain, 2)),
        ("where it stays", stays),
    ]
    for name in dict.fromkeys(part_of(row.case, 2) for row in found.rows):
        cases = dict.fromkeys(row.case for row in found.rows if row.metric == minmax.RATE and part_of(row.case, 2) == name)
        if name != "order":
            parts.append(f"#### {name[0].upper()}{name[1:]}\n\n" + lines(cases, columns, drops_empty=True))
    return [*parts, SAYS["reading"]]


def _torus(found: Found) -> list[str]:
    """Return what each method needs, by optimiser and by how the learning rate was chosen."""
    parts = []
    if any(row.metric == torus.RMSE for row in found.rows):
        parts.append(f"![Error of the values against samples and against seconds]({TORUS_PICTURE})")

    def late(row: Row) -> str:
        return f"{spread(row, 2)}; specified {_specified(row)}" if row.ratio else spread(row, 2)

    def judged(row: Row) -> str:
        return with_verdict(row, plain(row))

    def outer_steps(case: str) -> str:
        told = (found.get((case, metric)) for metric in torus.SAMPLES)
        return " / ".join("-" if row is None else f"{row.value / BATCH:g}" for row in told)

    def specified(case: str) -> str:
        """Return the specification's outer steps; nothing for learning rates that are not its."""
        optimizer, rate = part_of(case, 2).split(" ")
        inner_steps = 1 if name_of(case) == TD0 else int(name_of(case).removeprefix("m = "))
        known = torus.SPECIFIED.get((optimizer, inner_steps), ())
        return "" if rate == torus.TUNED else " / ".join(map(str, known))

    columns: list[Column] = [
        ("method", name_of),
        ("learning rate", found.cell(torus.RATE, plain, 2)),
        ("outer steps to RMSE 8 / 6 / 4", outer_steps),
        (torus.SAMPLES[1], found.cell(torus.SAMPLES[1], counts)),
        ("specified outer steps", specified),
        ("gradient steps", found.cell(torus.GRADIENTS, count)),
        ("seconds", found.cell(torus.SECONDS, spread, 2)),
        ("seeds that arrive", found.cell(torus.REACHED, lambda row: f"{100.0 * row.value:.0f} %")),
        ("times fewer samples", found.cell(torus.SAVED, judged)),
        ("gradient steps to TD(0)'s", found.cell(torus.COST, judged)),
        ("late RMSE", found.cell(torus.LATE, late)),
    ]
    for case in found.cases("vi/torus", 4):
        if name_of(case) == TD0:
            group = case.rpartition("/")[0]
            name = name_of(group)
            title = "Tuned learning rates" if torus.TUNED in name else "Learning rates of the specification"
            parts.append(f"#### {title} ({name})\n\n" + lines(found.cases(group, 4), columns, drops_empty=True))
    etas: list[Column] = [
        ("Adam 0.001, m = 20", name_of),
        ("late RMSE", found.cell(torus.LATE, late)),
        ("to that at eta = 1", found.cell(torus.LATE_RATIO)),
        *found.judged(torus.LATE_RATIO),
        (torus.SAMPLES[1], found.cell(torus.SAMPLES[1], counts)),
    ]
    cases = found.cases("vi/torus/eta", 4)
    return [*parts, SAYS["eta"], lines(cases, etas)] if cases else parts


def _chain(found: Found) -> list[str]:
    """Return the facts, the rates, and the table of the simulation."""
    off = found.judged
    facts = []
    for name, specified in chain.FACTS.items():
        told = (cell("vi/chain/facts") for _, cell in off(f"{chain.ERROR}{name}"))
        facts.append((name, found.told("vi/chain/facts", name, fixed, ".6f"), f"{specified:.6f}", *told))
    rates = {f"m = {num}": rate for num, (rate, _) in chain.RATES.items()}
    rates |= {f"{chain.LSPE}, eta = {eta:g}": rate for eta, rate in chain.EXACT_RATES.items()}
    difference, met = off(f"{chain.ERROR}the rate")
    columns: list[Column] = [
        ("method", name_of),
        ("rate", found.cell(chain.RATE, fixed, ".6f")),
        ("specified", lambda case: f"{rates[name_of(case)]:.6f}"),
        ("difference", difference[1]),
        met,
        (chain.STEPS, found.cell(chain.STEPS, fixed, ".0f")),
        ("specified steps", found.cell(chain.STEPS, lambda row: f"{row.value / row.ratio:.0f}" if row.ratio else "")),
    ]
    rated = [case for case in found.cases("vi/chain", 3) if (case, chain.RATE) in found]
    parts = [table(("fact", "measured", "specified", "difference", "met"), facts), lines(rated, columns)]

    def simulated(time: str, name: str) -> str:
        mean, wide = found[f"{time}/{name}", chain.MEAN], found.told(f"{time}/{name}", chain.SPREAD, plain, 2)
        apart = found.told(f"{time}/{name}", chain.APART, lambda row: f"; {plain(row)} ({_specified(row)})")
        return f"{plain(mean)} ± {wide} ({_specified(mean)}){apart}"

    names = (chain.LSPE, *(f"m = {num}" for num in chain.INNER_STEPS), chain.LSTD)
    times = list(dict.fromkeys(row.case.rpartition("/")[0] for row in found.rows if "/simulation/after " in row.case))
    cells = [(name_of(time).removeprefix("after "), *(simulated(time, name) for name in names)) for time in times]
    return [*parts, SAYS["simulation"], table(("transitions", *names), cells)] if times else parts


def _specified(row: Row) -> str:
    """Return what the specification has, rounded as it is there."""
    return figure(float(f"{row.value / row.ratio:.4g}"), 3) if row.ratio else ""


def _counterexamples(found: Found) -> list[str]:
    """Return who converges and who does not."""
    cells = []
    for row in found.rows:
        if row.metric in (counterexamples.FACTOR, counterexamples.LAST, counterexamples.LARGEST):
            word = "" if row.metric == counterexamples.LARGEST else "grows" if row.value > 1.0 else "shrinks"
            of = (part_of(row.case, 2), part_of(row.case, 3))
            cells.append((*of, row.metric, f"{row.value:.6g}", word, row.target or "", verdict(row)))
    return [table(("example", "method", "of the values", "", "they", "target", "met"), cells)]


def _speed(found: Found) -> list[str]:
    """Return times of steps beside loops by hand."""
    columns: list[Column] = [
        ("what", lambda case: part_of(case, 2)),
        ("by", name_of),
        ("ms a step", found.cell(TIME)),
        ("ratio to the loop by hand", found.cell(RATIO)),
        *found.judged(RATIO),
    ]
    return [lines(found.cases("vi/speed", 4), columns)]


def _mujoco(found: Found) -> list[str]:
    """Return all figures of the simulated tasks, a line a method."""

    def told(row: Row) -> str:
        return with_verdict(row, spread(row) if row.unit in ("", "x") else f"{spread(row)} {row.unit}")

    parts = []
    for study in dict.fromkeys(case.rpartition("/")[0] for case in found.cases("vi/mujoco", 5)):
        metrics = dict.fromkeys(row.metric for row in found.rows if row.case.startswith(f"{study}/"))
        columns: list[Column] = [("method", name_of), *((metric, found.cell(metric, told)) for metric in metrics)]
        title = study.removeprefix("vi/mujoco/").replace("/", ", ")
        parts.append(f"#### {title}\n\n{lines(found.cases(study, 5), columns)}")
    cells = [(part_of(r.case, 2), r.metric, spread(r), r.unit) for r in found.rows if r.case.count("/") == 3]
    return [*parts, table(("task", "of the true values", "", "unit"), cells)] if cells else parts


SECTIONS: dict[str, Callable[[Found], list[str]]] = {
    "minmax": _minmax,
    "torus": _torus,
    "chain": _chain,
    "counterexamples": _counterexamples,
    "speed": _speed,
    "mujoco": _mujoco,
}
Columns = dict[str, list[str]]
"""The cases of each column, by its title."""


def draw_minmax(rows: Sequence[Row], path: Path) -> bool:
    """Write the picture of the games; False where there are no curves.

    A column a game and step size: above against outer steps, below against seconds. Algorithms on the parameters are dashed,
    those that were tuned only, and stand beside each step size in prediction space.
    """
    found = Found(row for row in rows if row.case.startswith("vi/minmax/"))
    curves = _curves(found, minmax.DISTANCE)
    columns: Columns = {}
    for case in curves:
        _, _, game, setting, _ = case.split("/")
        if setting.startswith("eta"):
            plain = [one for one in curves if one.split("/")[2] == game and (one, minmax.TUNED) in found]
            columns.setdefault(f"{game}, {setting}", plain).append(case)
    names = _names(columns)

    def line(axes: "Axes", case: str, is_seconds: bool) -> None:
        scale = found[case, minmax.TIME].value / 1e3 if is_seconds else 1.0
        place = names.index(name_of(case))
        style = "--" if "/step = " in case else "-" if place < 10 else "-."
        # Neither axis has a place for 0.
        points = [(scale * time, max(row.value, 1e-16)) for time, row in curves[case].items()]
        at, heights = zip(*(point for point in points if point[0] > 0.0 or not is_seconds), strict=True)
        axes.plot(at, heights, style, color=f"C{place % 10}", linewidth=1.0, label=name_of(case))

    def panel(axes: "Axes", is_seconds: bool) -> None:
        axes.set_yscale("log")
        axes.set_ylim(1e-9, 2.0)
        axes.set_xlabel("seconds" if is_seconds else "outer steps")
        if is_seconds:
            axes.set_xscale("log")

    return _draw(path, columns, line, panel, "distance to the solution")


def draw_torus(rows: Sequence[Row], path: Path) -> bool:
    """Write the picture of the torus; False where there are no curves.

    A column an optimiser and choice of learning rate: above against samples, below against seconds, with bands over the seeds.
    """
    found = Found(row for row in rows if row.case.startswith("vi/torus/"))
    curves = _curves(found, torus.RMSE)
    columns: Columns = {}
    for case in curves:
        columns.setdefault(case.split("/")[2], []).append(case)
    names = _names(columns)

    def line(axes: "Axes", case: str, is_seconds: bool) -> None:
        scale = found[case, torus.TIME].value / 1e3 if is_seconds else float(BATCH)
        places, shown = [scale * time for time in curves[case]], list(curves[case].values())
        low, high, colour = [row.least for row in shown], [row.most for row in shown], f"C{names.index(name_of(case))}"
        axes.fill_between(places, low, high, color=colour, alpha=0.2, linewidth=0)
        axes.plot(places, values(shown), color=colour, linewidth=1.0, label=name_of(case))

    def panel(axes: "Axes", is_seconds: bool) -> None:
        axes.axhline(torus.AT, color="0.6", linewidth=0.8)
        axes.set_xscale("log")
        axes.set_yscale("log")
        axes.set_ylim(1.0, 40.0)
        axes.set_xlabel("seconds" if is_seconds else "samples")

    return _draw(path, columns, line, panel, "RMSE of the values")


def _curves(found: Found, metric: str) -> dict[str, dict[float, Row]]:
    """Return the rows of each case that has a curve, by time in outer steps."""
    curves: dict[str, dict[float, Row]] = {}
    for row in found.rows:
        if row.metric == metric:
            case, _, time = row.case.rpartition("/")
            curves.setdefault(case, {})[float(time.removeprefix("after "))] = row
    return curves


def _names(columns: Columns) -> list[str]:
    return list(dict.fromkeys(name_of(case) for group in columns.values() for case in group))


def _draw(
    path: Path,
    columns: Columns,
    line: Callable[["Axes", str, bool], None],
    panel: Callable[["Axes", bool], None],
    label: str,
) -> bool:
    if columns:
        with picture(path, 2, len(columns), (3.6, 3.0), legend=2.4) as panels:
            for place, axes in enumerate(panels):
                row, column = divmod(place, len(columns))
                for case in list(columns.values())[column]:
                    line(axes, case, row == 1)
                panel(axes, row == 1)
                if row == 0:
                    axes.set_title(list(columns)[column])
                if column == 0:
                    axes.set_ylabel(label)
    return bool(columns)
