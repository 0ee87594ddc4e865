"""The kinds of drawing a page uses: curves, histogram, scatter, strips and bars."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple, final

import numpy as np
from markupsafe import Markup
from matplotlib.axes import Axes

from narrows.report.canvas import TONES, draw, label_axes, limits, log_axis
from narrows.report.content import Values
from narrows.report.statistics import (
    bootstrap_mean,
    column,
    evenly_thinned,
    finite,
    finite_together,
    is_finite,
)
from narrows.report.words import number, plural, printable

MAX_POINTS = 600
"""Points drawn in one scatter or curve; a caption says when there were more."""


@final
class Curve(NamedTuple):
    """A line of a chart: its name on the chart, its points, its tone."""

    label: str
    x: Values
    y: Values
    tone: str = "accent"
    dashed: bool = False


@final
class Cloud(NamedTuple):
    """A group of points of a scatter; `error` is a half-length of a vertical bar, `text` a word by each point."""

    label: str
    x: Values
    y: Values
    tone: str = "accent"
    marker: str = "o"
    error: Values = ()
    text: tuple[str, ...] = ()


@final
class Strip(NamedTuple):
    """A group of values shown one by one."""

    label: str
    values: Values
    tone: str = "accent"


def curves(
    name: str,
    lines: Sequence[Curve],
    *,
    x: str,
    y: str,
    level: tuple[str, float] | None = None,
    whole_y: bool = False,
    log_y: bool = False,
    from_zero: bool = False,
) -> Markup | None:
    """Return lines over a common axis, named at their ends; `level` is a horizontal line with a name."""
    drawn = [(line, *finite_together(line.x, line.y)) for line in lines]
    drawn = [(line, xs, ys) for line, xs, ys in drawn if xs.size]
    if not drawn:
        return None
    log_y = log_y and all(is_wide_range(ys) for _, _, ys in drawn)
    if level is not None and not math.isfinite(level[1]):
        level = None

    def paint(axes: Axes) -> None:
        label_axes(axes, x, y, whole_x=True, whole_y=whole_y)
        for line, xs, ys in drawn:
            _line(axes, line, xs, ys)
        if level is not None:
            axes.axhline(level[1], color=TONES["warm"], linewidth=1.4, linestyle=(0, (4, 3)), label=printable(level[0]))
        axes.set_xlim(*limits(min(xs.min() for _, xs, _ in drawn), max(xs.max() for _, xs, _ in drawn), margin=0.02))
        if log_y:
            log_axis(axes)
        else:
            heights = np.concatenate([ys for *_, ys in drawn] + [column([level[1]] if level else [])])
            low, high = limits(0.0 if from_zero else heights.min(), heights.max())
            axes.set_ylim(0.0 if from_zero and heights.min() >= 0 else low, high)
        if len(drawn) > 1 or level is not None:
            _legend(axes)

    ends = "; ".join(f"{line.label} from {number(ys[0])} to {number(ys[-1])}" for line, _, ys in drawn)
    return draw(name, f"Line chart of {y} over {x}: {ends}.", paint)


def is_wide_range(values: Values) -> bool:
    """Return whether values ask for a logarithmic axis: all positive, the largest 20 times the smallest or more.

    >>> is_wide_range([1.0, 30.0]), is_wide_range([1.0, 2.0]), is_wide_range([0.0, 9.0])
    (True, False, False)
    """
    array = finite(values)
    return bool(array.size > 0 and array.min() > 0 and array.max() >= 20 * array.min())


def is_banded(values: Values) -> bool:
    """Return whether there are so many values that a curve shows blocks of them, each as its mean in a band."""
    return finite(values).size > MAX_POINTS // 2


def histogram(
    name: str,
    values: Values,
    *,
    x: str,
    y: str,
    whole: bool = False,
    marks: Mapping[str, float] | None = None,
) -> Markup | None:
    """Return how often values occur, one bar a whole number where `whole`, with named vertical marks."""
    array = finite(values)
    if array.size == 0:
        return None
    edges = _edges(array, whole)
    counts, edges = np.histogram(array, bins=edges)
    shown = {label: mark for label, mark in (marks or {}).items() if math.isfinite(mark)}

    def paint(axes: Axes) -> None:
        label_axes(axes, x, y, whole_x=whole, whole_y=True)
        axes.grid(visible=False, axis="x")
        width = np.diff(edges)
        axes.bar(edges[:-1] + width / 2, counts, width=width * 0.9, color=TONES["accent-soft"], linewidth=0)
        for (label, mark), tone in zip(shown.items(), ("warm", "plum", "ink"), strict=False):
            axes.axvline(mark, color=TONES[tone], linewidth=1.6, label=printable(label))
        ends = [edges[0], edges[-1], *shown.values()]
        axes.set_xlim(*limits(min(ends), max(ends), margin=0.03))
        if shown:
            _legend(axes)

    quartiles = ", ".join(number(float(q)) for q in np.quantile(array, [0, 0.25, 0.5, 0.75, 1]))
    description = f"Histogram of {x} over {plural(array.size, 'value')}; quartiles from minimum to maximum: {quartiles}."
    return draw(name, description, paint)


def scatter(
    name: str, clouds: Sequence[Cloud], *, x: str, y: str, identity: bool = False, whole_x: bool = False
) -> Markup | None:
    """Return points; with `identity` both axes share one range and the line of agreement is drawn."""
    drawn = [(cloud, _cloud_points(cloud)) for cloud in clouds]
    drawn = [(cloud, points) for cloud, points in drawn if points.x.size]
    if not drawn:
        return None
    xs = np.concatenate([points.x for _, points in drawn])
    ys = np.concatenate([np.concatenate([p.y - p.error, p.y + p.error]) for _, p in drawn])

    def paint(axes: Axes) -> None:
        label_axes(axes, x, y, whole_x=whole_x)
        x_range, y_range = limits(xs.min(), xs.max()), limits(ys.min(), ys.max())
        if identity:
            x_range = y_range = (min(x_range[0], y_range[0]), max(x_range[1], y_range[1]))
            axes.plot(x_range, x_range, color=TONES["muted"], linewidth=1.2, linestyle=(0, (4, 3)), zorder=1)
            axes.set_aspect("equal", adjustable="box")
        for cloud, points in drawn:
            _points(axes, cloud, points)
        axes.set_xlim(*x_range)
        axes.set_ylim(*y_range)
        if len(drawn) > 1 and identity:  # which is square, and leaves room beside it
            axes.legend(loc="center left", bbox_to_anchor=(1.03, 0.5), frameon=False, fontsize=11, handlelength=1.6)
        elif len(drawn) > 1:
            _legend(axes)

    groups = "; ".join(f"{cloud.label}, {plural(points.x.size, 'point')}" for cloud, points in drawn)
    return draw(name, f"Scatter of {y} against {x}: {groups}.", paint)


def strips(name: str, groups: Sequence[Strip], *, x: str) -> Markup | None:
    """Return every value of every group as a point, each group with its mean and 95 % bootstrap interval."""
    drawn = [(group, finite(group.values)) for group in groups]
    drawn = [(group, values) for group, values in drawn if values.size]
    if not drawn:
        return None

    def paint(axes: Axes) -> None:
        label_axes(axes, x, "")
        axes.grid(visible=False, axis="y")
        axes.set_yticks([])
        axes.spines["left"].set_visible(False)
        for row, (group, values) in enumerate(drawn):
            _strip(axes, -float(row), group, values)
        everything = np.concatenate([values for _, values in drawn])
        axes.set_xlim(*limits(everything.min(), everything.max()))
        axes.set_ylim(-len(drawn) + 0.55, 0.62)

    means = "; ".join(f"{group.label}: mean {number(float(values.mean()))}" for group, values in drawn)
    description = f"Every value of {x} by group, with group means. {means}."
    return draw(name, description, paint, height=62 + 72 * len(drawn))


def bars(
    name: str, labels: Sequence[str], heights: Values, *, x: str, y: str, expected: Values = (), notes: Sequence[str] = ()
) -> Markup | None:
    """Return one bar a label, from 0 up, with an optional expected height as a short line and a note at its foot."""
    array = column(heights)
    if not is_finite(array).any():
        return None
    targets = column(expected) if len(expected) == array.size else np.full(array.size, np.nan)
    shown, lines = (np.where(is_finite(values), np.maximum(values, 0.0), 0.0) for values in (array, targets))
    top = float(np.maximum(shown, lines).max()) or 1.0

    def paint(axes: Axes) -> None:
        label_axes(axes, x, y)
        axes.grid(visible=False, axis="x")
        places = [float(place) for place in range(array.size)]
        axes.bar(places, shown, width=0.62, color=TONES["accent-soft"], linewidth=0)
        for place, line in zip(places, lines, strict=True):
            if line > 0:
                axes.plot([place - 0.4, place + 0.4], [line, line], color=TONES["warm"], linewidth=2)
        for place, line, note in zip(places, lines, notes, strict=False):
            # At the foot, where no line of the grid or of what is expected runs through it.
            foot = float(line) if 0 < line < 0.12 * top else 0.0
            axes.text(place, foot + top * 0.03, printable(note), ha="center", va="bottom", fontsize=11)
        axes.set_xticks(places, [printable(label) for label in labels])
        axes.set_ylim(0, top * 1.08)

    words = "; ".join(f"{label}: {number(float(height))}" for label, height in zip(labels, array, strict=True))
    return draw(name, f"Bar chart of {y} by {x}: {words}.", paint)


@final
class _Points(NamedTuple):
    x: np.ndarray
    y: np.ndarray
    error: np.ndarray
    text: tuple[str, ...]


def _cloud_points(cloud: Cloud) -> _Points:
    x, y = column(cloud.x), column(cloud.y)
    keep = is_finite(x) & is_finite(y)
    order = np.flatnonzero(keep)[evenly_thinned(x[keep], MAX_POINTS)]
    error = (
        np.where(is_finite(column(cloud.error)), column(cloud.error), 0.0)[order] if len(cloud.error) else np.zeros(order.size)
    )
    return _Points(x[order], y[order], error, tuple(cloud.text[i] for i in order) if cloud.text else ())


def _points(axes: Axes, cloud: Cloud, points: _Points) -> None:
    if points.error.any():
        axes.vlines(
            points.x, points.y - points.error, points.y + points.error, color=TONES[cloud.tone], linewidth=1, alpha=0.45
        )
    many = points.x.size > 150
    axes.plot(
        points.x,
        points.y,
        linestyle="none",
        marker=cloud.marker,
        markersize=4 if many else 6,
        markeredgewidth=0.8,
        markeredgecolor=TONES["paper"],
        color=TONES[cloud.tone],
        alpha=0.6 if many else 0.9,
        label=printable(cloud.label),
    )
    for x, y, text in zip(points.x, points.y, points.text, strict=False):
        axes.annotate(printable(text), (x, y), xytext=(5, 3), textcoords="offset points", fontsize=10, color=TONES["muted"])


def _line(axes: Axes, line: Curve, xs: np.ndarray, ys: np.ndarray) -> None:
    style = (0, (4, 3)) if line.dashed else "-"
    color = TONES[line.tone]
    if is_banded(ys):
        blocks = np.array_split(np.arange(xs.size), MAX_POINTS // 4)
        low, high = (np.array([edge(ys[block]) for block in blocks]) for edge in (np.min, np.max))
        xs, ys = (np.array([values[block].mean() for block in blocks]) for values in (xs, ys))
        axes.fill_between(xs, low, high, color=color, alpha=0.18, linewidth=0)
    axes.plot(xs, ys, color=color, linestyle=style, marker="o" if xs.size == 1 else None, label=printable(line.label))


def _strip(axes: Axes, place: float, group: Strip, values: np.ndarray) -> None:
    offsets = ((np.arange(values.size) * 0.618034) % 1.0 - 0.5) * 0.26
    axes.plot(
        np.sort(values),
        place + offsets,
        linestyle="none",
        marker="o",
        markersize=6,
        markeredgewidth=0.8,
        markeredgecolor=TONES["paper"],
        color=TONES[group.tone],
        alpha=0.7,
    )
    mean = bootstrap_mean(values)
    if math.isfinite(mean.low):
        axes.plot([mean.low, mean.high], [place - 0.24] * 2, color=TONES["ink"], linewidth=2)
    axes.plot([mean.mean] * 2, [place - 0.32, place + 0.17], color=TONES["ink"], linewidth=2)
    axes.text(0.0, place + 0.3, printable(group.label), transform=axes.get_yaxis_transform(), fontsize=12, fontweight="bold")
    axes.text(
        1.0,
        place + 0.3,
        f"mean {number(mean.mean)}, n = {values.size}",
        transform=axes.get_yaxis_transform(),
        ha="right",
        fontsize=11,
        color=TONES["muted"],
    )


def _edges(array: np.ndarray, whole: bool) -> np.ndarray:
    low, high = float(array.min()), float(array.max())
    if whole:
        step = max(1, math.ceil((high - low + 1) / 60))
        return np.arange(math.floor(low), math.floor(high) + step + 1, step) - 0.5
    bins = int(np.clip(math.sqrt(array.size), 8, 40))
    return np.linspace(*(limits(low, high) if low == high else (low, high)), bins + 1)


def _legend(axes: Axes) -> None:
    axes.legend(
        loc="upper center",
        bbox_to_anchor=(0.5, -0.2),
        ncols=2,
        frameon=False,
        fontsize=11,
        handlelength=1.6,
        columnspacing=1.4,
        borderaxespad=0.2,
    )
