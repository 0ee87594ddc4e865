"""How the distance and the error fall, drawn from the rows."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks._games.cells import cases, known, name_of
from benchmarks._vi import minmax, torus
from benchmarks._vi.torus_training import BATCH
from benchmarks.rows import Row

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Curve = tuple[str, list[float], list[Row]]
"""A name, times in outer steps, and a row for each."""


def draw_minmax(rows: Sequence[Row], path: Path) -> bool:
    """Write the picture of the games and return True, or return False where there are no curves.

    A column a game and step size: above against outer steps, below against seconds. Algorithms on the parameters are dashed,
    those that were tuned only. The same rows give the same file.
    """
    rows = [row for row in rows if row.case.startswith("vi/minmax/")]
    columns = _columns(rows)
    if not columns:
        return False
    found = known(rows)
    names = list(dict.fromkeys(name_of(case) for group in columns.values() for case in group))
    styles = {name: f"C{place % 10}" for place, name in enumerate(names)}

    def panel(axes: "Axes", group: Sequence[str], is_seconds: bool) -> None:
        for case in group:
            name, times, shown = _curve(rows, case, minmax.DISTANCE)
            scale = found[case, minmax.TIME].value / 1e3 if is_seconds else 1.0
            line = "--" if "/step = " in case else "-" if names.index(name) < 10 else "-."
            # Neither axis has a place for 0.
            points = [(scale * time, max(row.value, 1e-16)) for time, row in zip(times, shown, strict=True)]
            places, heights = zip(*(point for point in points if point[0] > 0.0 or not is_seconds), strict=True)
            axes.plot(places, heights, line, color=styles[name], linewidth=1.0, label=name)
        axes.set_yscale("log")
        axes.set_ylim(1e-9, 2.0)
        axes.set_xlabel("seconds" if is_seconds else "outer steps")
        if is_seconds:
            axes.set_xscale("log")

    _save(path, columns, panel, "distance to the solution")
    return True


def draw_torus(rows: Sequence[Row], path: Path) -> bool:
    """Write the picture of the torus and return True, or return False where there are no curves.

    A column an optimiser and choice of learning rate: above against samples, below against seconds, with bands over the seeds.
    """
    rows = [row for row in rows if row.case.startswith("vi/torus/")]
    groups = dict.fromkeys(case.rpartition("/")[0] for case in cases(rows, "vi/torus", 4))
    columns = {
        name_of(group): [case for case in cases(rows, group, 4) if _curve(rows, case, torus.RMSE)[1]] for group in groups
    }
    columns = {name: group for name, group in columns.items() if group}
    if not columns:
        return False
    found = known(rows)
    names = list(dict.fromkeys(name_of(case) for group in columns.values() for case in group))

    def panel(axes: "Axes", group: Sequence[str], is_seconds: bool) -> None:
        for case in group:
            name, times, shown = _curve(rows, case, torus.RMSE)
            scale = found[case, torus.TIME].value / 1e3 if is_seconds else float(BATCH)
            places, colour = [scale * time for time in times], f"C{names.index(name)}"
            low = [row.value if row.low is None else row.low for row in shown]
            high = [row.value if row.high is None else row.high for row in shown]
            axes.fill_between(places, low, high, color=colour, alpha=0.2, linewidth=0)
            axes.plot(places, [row.value for row in shown], color=colour, linewidth=1.0, label=name)
        axes.axhline(torus.AT, color="0.6", linewidth=0.8)
        axes.set_xscale("log")
        axes.set_yscale("log")
        axes.set_ylim(1.0, 40.0)
        axes.set_xlabel("seconds" if is_seconds else "samples")

    _save(path, columns, panel, "RMSE of the values")
    return True


def _columns(rows: Sequence[Row]) -> dict[str, list[str]]:
    """Return the algorithms that have curves, by game and step size; those on the parameters stand beside each of them."""
    drawn = dict.fromkeys(row.case.rpartition("/")[0] for row in rows if row.metric == minmax.DISTANCE)
    plain = {row.case for row in rows if row.metric == minmax.TUNED}
    columns: dict[str, list[str]] = {}
    for case in drawn:
        _, _, game, setting, _ = case.split("/")
        if setting.startswith("eta"):
            columns.setdefault(f"{game}, {setting}", []).append(case)
    for name, group in columns.items():
        game = name.rpartition(", ")[0]
        group[:0] = [case for case in drawn if case.split("/")[2] == game and case in plain]
    return columns


def _curve(rows: Sequence[Row], case: str, metric: str) -> Curve:
    shown = [row for row in rows if row.metric == metric and row.case.rpartition("/")[0] == case]
    return name_of(case), [float(name_of(row.case).removeprefix("after ")) for row in shown], shown


def _save(path: Path, columns: dict[str, list[str]], panel: object, label: str) -> None:
    import matplotlib as mpl  # a second that only a picture has use for
    from matplotlib.figure import Figure

    assert callable(panel)
    with mpl.rc_context({"svg.hashsalt": "narrows", "font.size": 8, "svg.fonttype": "none"}):
        picture = Figure(figsize=(3.6 * len(columns) + 2.4, 6.0), layout="constrained")
        panels = picture.subplots(2, len(columns), squeeze=False)
        for place, (name, group) in enumerate(columns.items()):
            for line in (0, 1):
                panel(panels[line, place], group, line == 1)
            panels[0, place].set_title(name)
        for line in (0, 1):
            panels[line, 0].set_ylabel(label)
        handles = {name: one for axes in panels[0] for one, name in zip(*axes.get_legend_handles_labels(), strict=True)}
        picture.legend(handles.values(), handles.keys(), loc="outside right upper", frameon=False)
        picture.savefig(path, metadata={"Date": None} if path.suffix == ".svg" else None)
