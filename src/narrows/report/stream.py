"""The narrowing stream: how many objects each stage of a run leaves."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from markupsafe import Markup
from matplotlib.axes import Axes
from matplotlib.patches import PathPatch
from matplotlib.path import Path

from narrows.report.canvas import TONES, draw
from narrows.report.words import count


def stream(name: str, sizes: Sequence[int]) -> Markup | None:
    """Return a stream that narrows from stage to stage, its width the logarithm of each stage's count."""
    if len(sizes) < 2 or min(sizes) < 1:
        return None
    logs = np.array([math.log10(size) for size in sizes])
    widths = 0.05 + 0.95 * logs / max(logs.max(), 1.0)

    def paint(axes: Axes) -> None:
        for tone, scale in (("accent-soft", 1.0), ("accent", 0.62)):
            shape = _stream_outline(widths * scale)
            axes.add_patch(PathPatch(shape, facecolor=TONES[tone], edgecolor="none", alpha=0.55))
        axes.set_xlim(0, len(sizes))
        axes.set_ylim(-1.02, 1.02)

    steps = " to ".join(count(size) for size in sizes)
    return draw(
        name, f"A stream that narrows from {steps}, drawn on a logarithmic scale.", paint, width=900, height=92, bare=True
    )


def _stream_outline(widths: np.ndarray) -> Path:
    """Return the outline: flat across the middle of each stage, a smooth bend at each border."""
    top = [(0.0, widths[0])]
    codes: list[np.uint8] = []
    for stage in range(1, widths.size):
        before, after = widths[stage - 1], widths[stage]
        top += [(stage - 0.3, before), (stage - 0.05, before), (stage + 0.05, after), (stage + 0.3, after)]
        codes += [Path.LINETO, Path.CURVE4, Path.CURVE4, Path.CURVE4]
    top.append((float(widths.size), widths[-1]))
    codes.append(Path.LINETO)
    bottom = [(x, -y) for x, y in reversed(top)]
    vertices = [*top, *bottom, (0.0, 0.0)]
    return Path(vertices, [Path.MOVETO, *codes, Path.LINETO, *codes, Path.CLOSEPOLY])
