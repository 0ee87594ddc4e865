"""The reward-diversity frontier as a picture, drawn from the rows."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks._stochastic.exact import EXACT
from benchmarks._stochastic.methods import METHODS, TARGET, UNIFORM
from benchmarks._stochastic.tables import ENTROPY, MEAN
from benchmarks.rows import Row

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_MARKERS = "os^vDPX"


def draw(rows: Sequence[Row], path: Path) -> None:
    """Write the picture: a panel a rate of noise, exact laws dashed, trained ones with the range of their seeds.

    A trained law has the colour of the exact one that it is after. The same rows give the same file.
    """
    import matplotlib as mpl  # a second that only a picture has use for
    from matplotlib.figure import Figure

    alphas = sorted({float(row.case.split("/")[1]) for row in rows if "/trained/" in row.case})
    with mpl.rc_context({"svg.hashsalt": "narrows", "font.size": 8, "svg.fonttype": "none"}):
        num_columns = min(2, len(alphas))
        num_lines = -(-len(alphas) // num_columns)
        picture = Figure(figsize=(5.2 * num_columns + 2.4, 4.0 * num_lines), layout="constrained")
        panels = picture.subplots(num_lines, num_columns, squeeze=False).reshape(-1)
        for panel, alpha in zip(panels, alphas, strict=False):
            _panel(panel, rows, alpha)
        for panel in panels[len(alphas) :]:
            panel.set_axis_off()
        handles, labels = panels[0].get_legend_handles_labels()
        picture.legend(handles, labels, loc="outside right upper", frameon=False)
        picture.savefig(path, metadata={"Date": None} if path.suffix == ".svg" else None)


def _panel(panel: "Axes", rows: Sequence[Row], alpha: float) -> None:
    colours = {name: f"C{place}" for place, name in enumerate(EXACT)} | {TARGET: "0.6"}
    for name in (TARGET, *EXACT):
        points = _points(rows, alpha, "exact", name)
        panel.plot(_values(points, 0), _values(points, 1), "--", linewidth=1.0, color=colours[name], label=f"exact: {name}")
    counts: dict[str, int] = {}
    for method in METHODS:
        nth = counts[method.exact] = counts.get(method.exact, -1) + 1
        points = _points(rows, alpha, "trained", method.name)
        panel.errorbar(
            _values(points, 0),
            _values(points, 1),
            xerr=_reach(points, 0),
            yerr=_reach(points, 1),
            color=colours[method.exact],
            marker=_MARKERS[nth],
            markersize=4.0,
            linewidth=0.7,
            label=method.name,
        )
    start = _points(rows, alpha, "exact", UNIFORM)[0]
    panel.plot(start[0].value, start[1].value, "k*", label="uniform")
    panel.set_title(f"alpha = {alpha:g}")
    panel.set_xlabel("entropy, nats")
    panel.set_ylabel("mean score")


def _points(rows: Sequence[Row], alpha: float, kind: str, name: str) -> list[tuple[Row, Row]]:
    """Return entropy and mean score of a law for each exponent, the smallest first."""
    known = {(row.case, row.metric): row for row in rows}
    begin, end = f"stochastic/{alpha:g}/", f"/{kind}/{name}"
    betas = [
        case[len(begin) : -len(end)]
        for case, metric in known
        if metric == MEAN and case.startswith(begin) and case.endswith(end)
    ]
    places = [f"{begin}{beta}{end}" for beta in sorted(betas, key=float)]
    return [(known[place, ENTROPY], known[place, MEAN]) for place in places]


def _values(points: Sequence[tuple[Row, Row]], axis: int) -> list[float]:
    return [point[axis].value for point in points]


def _reach(points: Sequence[tuple[Row, Row]], axis: int) -> list[list[float]]:
    """Return how far the seeds reach below and above the median."""
    chosen = [point[axis] for point in points]
    below = [row.value - (row.value if row.low is None else row.low) for row in chosen]
    above = [(row.value if row.high is None else row.high) - row.value for row in chosen]
    return [below, above]
