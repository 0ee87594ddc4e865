"""Draw with matplotlib into SVG text that is small, inert, the same every time, and wears the page's colours.

A colour of `TONES` is drawn as itself and then replaced by a CSS variable of the same name, so one drawing serves the
light page, the dark page and the printer. Text stays text and takes the page's font.
"""

from __future__ import annotations

import io
import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

import matplotlib
from markupsafe import Markup, escape
from matplotlib.axes import Axes
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator

from narrows.report.words import fixed, number, printable

TONES: Mapping[str, str] = MappingProxyType(
    {
        "ink": "#1d2627",
        "muted": "#5c6869",
        "rule": "#c9cdc6",
        "grid": "#e6e7e1",
        "paper": "#fffefb",
        "accent": "#0b6a70",
        "accent-soft": "#8fbfc0",
        "warm": "#b4500f",
        "warm-soft": "#e3b48f",
        "plum": "#76508f",
        "stone": "#8a8f88",
    }
)
"""Name and light-page value of every colour a drawing may use; `report.css` gives the dark-page values."""

STYLE: Mapping[str, Any] = MappingProxyType(
    {
        "svg.fonttype": "none",
        "svg.hashsalt": "narrows",
        "text.parse_math": False,
        "font.family": ["DejaVu Sans"],
        "font.size": 12,
        "axes.edgecolor": TONES["rule"],
        "axes.labelcolor": TONES["muted"],
        "axes.labelsize": 12,
        "axes.linewidth": 1.0,
        "axes.spines.top": False,
        "axes.spines.right": False,
        "axes.grid": True,
        "axes.axisbelow": True,
        "axes.formatter.useoffset": False,
        "axes.unicode_minus": True,
        "grid.color": TONES["grid"],
        "grid.linewidth": 1.0,
        "xtick.color": TONES["rule"],
        "ytick.color": TONES["rule"],
        "xtick.labelcolor": TONES["muted"],
        "ytick.labelcolor": TONES["muted"],
        "xtick.major.size": 4.0,
        "ytick.major.size": 0.0,
        "text.color": TONES["ink"],
        "lines.linewidth": 2.0,
        "lines.solid_capstyle": "round",
        "figure.constrained_layout.h_pad": 0.06,
        "figure.constrained_layout.w_pad": 0.06,
        "path.simplify": True,
        "path.simplify_threshold": 0.3,
    }
)

WIDTH, HEIGHT = 400, 262
"""Size of an ordinary figure in points: small enough that its 12-point text is readable on a phone."""


@dataclass(frozen=True)
class Picture:
    """A figure of the page: the drawing and the words a reader needs to judge it.

    Args:
        name: unique on the page; it starts every id inside the drawing.
        title: what is shown.
        svg: the drawing, `None` where there was nothing finite to draw.
        reading: how to read it.
        trouble: what trouble would look like; may be empty.
        wide: the figure takes the whole width of the text.
    """

    name: str
    title: str
    svg: Markup | None
    reading: str
    trouble: str = ""
    wide: bool = False


def draw(
    name: str,
    description: str,
    paint: Callable[[Axes], None],
    *,
    width: float = WIDTH,
    height: float = HEIGHT,
    bare: bool = False,
) -> Markup:
    """Return one set of axes, painted by `paint`, as an SVG element described by `description` for a screen reader.

    `bare` leaves out the axes and lets the page change the drawing's shape. The user's matplotlib settings are put aside
    while drawing, and no display is touched.
    """
    buffer = io.StringIO()
    with matplotlib.rc_context():
        matplotlib.rcdefaults()
        # Newer matplotlib types its keys as a list of literals, which older ones lack.
        matplotlib.rcParams.update(STYLE)  # pyright: ignore[reportCallIssue, reportArgumentType]
        figure = Figure(figsize=(width / 72, height / 72), layout="constrained", facecolor="none")
        canvas = FigureCanvasSVG(figure)
        axes = figure.add_subplot(facecolor="none")
        if bare:
            figure.set_layout_engine("none")
            axes.set_position((0, 0, 1, 1))
            axes.set_axis_off()
        paint(axes)
        canvas.print_svg(buffer, metadata={"Date": None, "Creator": None, "Format": None, "Type": None})
    return svg_element(name, description, width, height, _cleaned(buffer.getvalue(), name), stretch=bare)


def svg_element(
    name: str,
    description: str,
    width: float,
    height: float,
    inner: str,
    *,
    stretch: bool = False,
    enlarge: float = math.inf,
) -> Markup:
    """Wrap finished SVG content in the one element every figure of the page has.

    `stretch` lets it change its shape; it is shown at most `enlarge` times its size, so that its text stays text.
    """
    label = escape(printable(description))
    ratio = ' preserveAspectRatio="none"' if stretch else ""
    largest = f' style="max-width: {width * enlarge:.0f}px"' if math.isfinite(enlarge) else ""
    return Markup(
        f'<svg class="drawing" id="{name}" role="img" aria-label="{label}" viewBox="0 0 {width:g} {height:g}"'
        f"{ratio}{largest}>{inner}</svg>"
    )


def label_axes(axes: Axes, x: str, y: str, *, whole_x: bool = False, whole_y: bool = False) -> None:
    """Label both axes in words and give them few, round ticks; `whole_*` keeps an axis to whole numbers."""
    axes.set_xlabel(printable(x))
    axes.set_title(printable(y), loc="left", fontsize=12, color=TONES["muted"], pad=8)
    for axis, whole in ((axes.xaxis, whole_x), (axes.yaxis, whole_y)):
        axis.set_major_locator(MaxNLocator(nbins=6, integer=whole, min_n_ticks=1 if whole else 2))
        if whole:
            axis.set_major_formatter(FuncFormatter(_whole))


def log_axis(axes: Axes) -> None:
    """Make the upright axis logarithmic, its ticks plain powers of ten."""
    axes.set_yscale("log")
    axes.minorticks_off()
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: number(value, 1)))


def limits(low: float, high: float, *, margin: float = 0.06) -> tuple[float, float]:
    """Return axis limits a little wider than the data, and of a positive width where all values are equal.

    >>> limits(2.0, 2.0)
    (1.0, 3.0)
    """
    pad = (high - low) * margin
    return (low - pad, high + pad) if pad > abs(high) * 1e-9 else (low - (abs(low) or 2) / 2, high + (abs(high) or 2) / 2)


def _whole(value: float, _: object) -> str:
    return f"{value:,.0f}" if abs(value) < 1e6 else f"{fixed(value / 1e6, 2).rstrip('0').rstrip('.')} M"


_TAG = re.compile(r"<[^>]*>")
_LONG_NUMBER = re.compile(r"-?\d+\.\d{3,}")
_REFERENCE = re.compile(r"""(?:href="#|url\(#)([^")]+)""")


def _cleaned(svg: str, name: str) -> str:
    """Keep what is inside the `svg` element; see the module's first lines for what changes."""
    inner = svg[svg.index(">", svg.index("<svg")) + 1 : svg.rindex("</svg>")]
    inner = re.sub(r"<defs>\s*<style.*?</style>\s*</defs>|<!--.*?-->", "", inner, flags=re.DOTALL)
    referenced = set(_REFERENCE.findall(inner))

    def clean_tag(match: re.Match[str]) -> str:
        tag = re.sub(r' id="([^"]*)"', lambda m: f' id="{name}-{m[1]}"' if m[1] in referenced else "", match[0])
        tag = tag.replace("xlink:href", "href").replace('href="#', f'href="#{name}-').replace("url(#", f"url(#{name}-")
        tag = re.sub(r" font-family: [^;\"]*;?", "", tag)
        tag = re.sub(r' transform="rotate\(-0 [^"]*\)"', "", tag)
        tag = _LONG_NUMBER.sub(lambda m: f"{float(m[0]):.2f}".rstrip("0").rstrip("."), tag)
        return re.sub(r"\s+", " ", _toned(tag))

    return re.sub(r">\s+<", "><", _TAG.sub(clean_tag, inner)).strip()


_TONE_OF = {value: name for name, value in TONES.items()}
_HEX = re.compile(r"#[0-9a-f]{6}")


def _toned(tag: str) -> str:
    return _HEX.sub(lambda m: f"var(--{_TONE_OF[m[0]]})" if m[0] in _TONE_OF else m[0], tag)
