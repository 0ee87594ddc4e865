"""Pictures drawn from the rows; the same rows give the same file."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks.harness.rows import Row

if TYPE_CHECKING:
    from matplotlib.axes import Axes


@contextmanager
def picture(path: Path, lines: int, columns: int, panel: tuple[float, float], legend: float = 0.0) -> Iterator[list["Axes"]]:
    """Give the panels of a picture, line by line, and write it in the end.

    Args:
        path: the file.
        lines, columns: of panels.
        panel: inches that one is wide and high.
        legend: inches beside them for one legend of all panels; 0 where each has its own.
    """
    import matplotlib as mpl  # a second that only a picture has use for
    from matplotlib.figure import Figure

    with mpl.rc_context({"svg.hashsalt": "narrows", "font.size": 8, "svg.fonttype": "none"}):
        drawn = Figure(figsize=(panel[0] * columns + legend, panel[1] * lines), layout="constrained")
        panels = list(drawn.subplots(lines, columns, squeeze=False).reshape(-1))
        yield panels
        for each in panels:
            if not each.has_data():
                each.set_axis_off()
        if legend:
            known = [each.get_legend_handles_labels() for each in panels]
            handles = {label: handle for one in known for handle, label in zip(*one, strict=True)}
            drawn.legend(handles.values(), handles.keys(), loc="outside right upper", frameon=False)
        drawn.savefig(path, metadata={"Date": None} if path.suffix == ".svg" else None)


def values(rows: Sequence[Row]) -> list[float]:
    """Return the values of some rows."""
    return [row.value for row in rows]


def reach(rows: Sequence[Row], factor: float = 1.0) -> list[list[float]]:
    """Return how far the ranges of some rows go below and above their values."""
    return [[factor * (row.value - row.least) for row in rows], [factor * (row.most - row.value) for row in rows]]
