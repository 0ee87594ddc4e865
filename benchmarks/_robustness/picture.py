"""True score of the shortlist over how right the proxy is, as a picture drawn from the rows."""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks._robustness.methods import CHOSEN, RANDOM
from benchmarks._robustness.proxies import ENTRIES
from benchmarks._robustness.reporting import CONTROLS, CORRELATION, EVERYWHERE, JUDGED, POOLED, RIVALS, SCORE, SUBJECTS
from benchmarks._robustness.tables import interval_of, place_of
from benchmarks.rows import Row

if TYPE_CHECKING:
    from matplotlib.axes import Axes

LINES = (*RIVALS, RANDOM, *JUDGED, *(name for name in CONTROLS if name.endswith(CHOSEN)))


def draw(rows: Sequence[Row], path: Path) -> bool:
    """Write the picture, a panel a task and a line a method, and return whether there is anything to draw.

    The proxies are those that enter as their mean; the same rows give the same file.
    """
    import matplotlib as mpl  # a second that only a picture has use for
    from matplotlib.figure import Figure

    tasks = list(dict.fromkeys(task for task, _, _ in map(place_of, rows) if task != EVERYWHERE))
    if not tasks:
        return False
    with mpl.rc_context({"svg.hashsalt": "narrows", "font.size": 8, "svg.fonttype": "none"}):
        num_columns = math.ceil(math.sqrt(len(tasks)))
        num_lines = -(-len(tasks) // num_columns)
        picture = Figure(figsize=(4.2 * num_columns + 2.6, 3.6 * num_lines), layout="constrained")
        panels = picture.subplots(num_lines, num_columns, squeeze=False).reshape(-1)
        for panel, task in zip(panels, tasks, strict=False):
            _panel(panel, rows, task)
        for panel in panels[len(tasks) :]:
            panel.set_axis_off()
        handles, labels = panels[0].get_legend_handles_labels()
        picture.legend(handles, labels, loc="outside right upper", frameon=False)
        picture.savefig(path, metadata={"Date": None} if path.suffix == ".svg" else None)
    return True


def _panel(panel: "Axes", rows: Sequence[Row], task: str) -> None:
    known = {(row.case, row.metric): row for row in rows}
    levels = dict.fromkeys(level for one, level, _ in map(place_of, rows) if one == task and level != POOLED)
    right = {
        level: known[f"robustness/{task}/{level}/proxy/{SUBJECTS[0]}", CORRELATION].value
        for level in levels
        if level.endswith(ENTRIES[0])
    }
    shown = sorted(right, key=lambda level: right[level])
    for place, name in enumerate(LINES):
        found = [interval_of(known[f"robustness/{task}/{level}/{name}", SCORE]) for level in shown]
        means, below = [mean for mean, _, _ in found], [mean - low for mean, low, _ in found]
        above = [high - mean for mean, _, high in found]
        style = "-" if name in JUDGED else "--" if name in CONTROLS else ":"
        at = [right[level] for level in shown]
        panel.errorbar(at, means, yerr=[below, above], fmt=style, marker="o", markersize=3, color=f"C{place}", label=name)
    panel.set_title(task)
    panel.locator_params(axis="x", nbins=5)
    panel.set_xlabel("rank correlation of proxy and truth, random objects")
    panel.set_ylabel("true score of the shortlist")
