"""How the share of optimal moves grew in training, and what each ingredient is worth, drawn from the rows."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks._games import connect4, training
from benchmarks._games.cells import cases, known, name_of
from benchmarks.rows import Row

if TYPE_CHECKING:
    from matplotlib.axes import Axes


def draw(rows: Sequence[Row], path: Path) -> bool:
    """Write the picture and return True, or return False where no training has a history. The same rows give the same file."""
    import matplotlib as mpl  # a second that only a picture has use for
    from matplotlib.figure import Figure

    trainings = [case for case in cases(rows, "games/connect4", 3) if _looks(rows, case)]
    ablated = cases(rows, "games/ablation", 3)
    if not trainings:
        return False
    with mpl.rc_context({"svg.hashsalt": "narrows", "font.size": 8, "svg.fonttype": "none"}):
        num = 1 + bool(ablated)
        picture = Figure(figsize=(5.6 * num, 3.6), layout="constrained")
        panels = picture.subplots(1, num, squeeze=False)[0]
        _curves(panels[0], rows, trainings)
        if ablated:
            _ablation(panels[1], rows, ablated)
        picture.savefig(path, metadata={"Date": None} if path.suffix == ".svg" else None)
    return True


def _looks(rows: Sequence[Row], case: str) -> list[str]:
    return [one for one in cases(rows, case, 4) if name_of(one).startswith("after ")]


def _curves(panel: "Axes", rows: Sequence[Row], trainings: Sequence[str]) -> None:
    found = known(rows)
    for number, case in enumerate(trainings):
        looks = _looks(rows, case)
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


def _ablation(panel: "Axes", rows: Sequence[Row], ablated: Sequence[str]) -> None:
    found, places = known(rows), list(range(len(ablated)))[::-1]
    for metric, colour in ((training.OUTCOME, "C0"), (training.STRICT, "C1")):
        shares = [found[case, metric] for case in ablated]
        values = [100.0 * row.value for row in shares]
        below = [100.0 * (row.value - (row.value if row.low is None else row.low)) for row in shares]
        above = [100.0 * ((row.value if row.high is None else row.high) - row.value) for row in shares]
        label = metric.split(",")[0]
        panel.errorbar(values, places, xerr=[below, above], fmt="o", color=colour, markersize=4.0, capsize=2, label=label)
    panel.set_yticks(places, [name_of(case) for case in ablated])
    panel.set_xlabel("optimal moves on quiet positions, %")
    panel.legend(loc="best", frameon=False)
    panel.set_title("Recipes in equal training time")
