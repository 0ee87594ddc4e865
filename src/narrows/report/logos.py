"""Sequence logos: how much each position of a list agrees, in bits, drawn as stacked letters."""

from __future__ import annotations

import math
import warnings
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from markupsafe import Markup, escape
from matplotlib.font_manager import FontProperties
from matplotlib.path import Path
from matplotlib.textpath import text_to_path

from narrows.report.canvas import svg_element
from narrows.report.letters import tint_of
from narrows.report.words import number, plural, printable

COLUMNS = 40
"""Positions in one line of a logo; a longer one goes on in the next line."""

_CELL, _LEFT, _TOP, _BOTTOM = 18.0, 34.0, 12.0, 22.0
_BOX = 1000
_SMALLEST = 0.6


@dataclass(frozen=True, eq=False)
class Information:
    """The contents of a logo.

    Args:
        bits: height of each letter, shape `[position, letter]`, in bits.
        num: sequences that reach each position, shape `[position]`.
        correction: small-sample correction subtracted at each position, in bits, shape `[position]`.
        alphabet: the letters of the last axis of `bits`.
    """

    bits: np.ndarray
    num: np.ndarray
    correction: np.ndarray
    alphabet: str


def information(sequences: Sequence[str], alphabet: str) -> Information:
    """Return the information content of each position of the sequences, written one under another from the left.

    With `f_a` the share of letter `a` among the `n` sequences (of `N`) that reach a position, and `s` letters,

        R = max(0, log2 s - H - e),   H = -sum_a f_a log2 f_a,   e = (s - 1) / (2 ln 2 n),   height_a = f_a R n / N

    `e` is the small-sample correction of Schneider et al. 1986 (J. Mol. Biol. 188:415); the factor `n / N` lowers
    positions that only the longer sequences have. A letter outside the alphabet is not counted.

    >>> information(["AC"] * 4, "ACGU").bits[0].round(3)
    array([1.459, 0.   , 0.   , 0.   ])
    """
    length = max((len(sequence) for sequence in sequences), default=0)
    place = {letter: index for index, letter in enumerate(alphabet)}
    counts = np.zeros((length, len(alphabet)))
    for sequence in sequences:
        for position, letter in enumerate(sequence):
            if letter in place:
                counts[position, place[letter]] += 1
    num = counts.sum(axis=1)
    share = counts / np.maximum(num, 1)[:, None]
    entropy = -np.sum(share * np.log2(np.where(share > 0, share, 1.0)), axis=1)
    correction = (len(alphabet) - 1) / (2 * math.log(2) * np.maximum(num, 1))
    bits = np.maximum(0.0, math.log2(max(len(alphabet), 1)) - entropy - correction) * num / max(len(sequences), 1)
    return Information(share * bits[:, None], num.astype(np.int64), correction, alphabet)


def fewest_for_logo(alphabet: str) -> int:
    """Return from how many sequences on a logo says something: the correction is then a quarter of `log2 s` or less.

    >>> fewest_for_logo("ACGU"), fewest_for_logo("ACDEFGHIKLMNPQRSTVWY")
    (5, 13)
    """
    letters = max(len(alphabet), 2)
    return max(5, math.ceil((letters - 1) / (2 * math.log(2)) / (0.25 * math.log2(letters))))


def axis_end(logo: Information) -> float:
    """Return where the axis of bits ends: at `log2 s`, or nearer to the tallest stack where that is far lower."""
    most = math.log2(max(len(logo.alphabet), 2))
    tallest = float(logo.bits.sum(axis=1).max(initial=0.0))
    return most if tallest > most / 2 or most <= 2 else min(most, max(0.5, math.ceil(tallest * 2) / 2))


def draw_logo(name: str, logo: Information) -> Markup | None:
    """Return the logo as an SVG element, each letter's outline stored once; `None` without a position."""
    length = logo.bits.shape[0]
    if length == 0:
        return None
    lines = [range(start, min(start + COLUMNS, length)) for start in range(0, length, COLUMNS)]
    tall = 120.0 if len(lines) == 1 else 78.0
    columns = min(length, COLUMNS)
    width = _LEFT + columns * _CELL + 6
    height = len(lines) * (_TOP + tall + _BOTTOM)
    parts = [_outlines(name, logo)]
    for index, positions in enumerate(lines):
        parts.append(_line_of_logo(name, logo, positions, top=index * (_TOP + tall + _BOTTOM) + _TOP, tall=tall))
    return svg_element(name, _description(logo), width, height, "".join(parts), enlarge=1.6)


def consensus(logo: Information) -> str:
    """Return the most frequent letter of each position, `.` where the list agrees by less than a fifth of `log2 s`."""
    if not logo.alphabet:
        return ""
    least = 0.2 * math.log2(max(len(logo.alphabet), 2))
    return "".join(logo.alphabet[int(row.argmax())] if row.sum() >= least else "." for row in logo.bits)


def _description(logo: Information) -> str:
    stacks = logo.bits.sum(axis=1)
    return (
        f"Sequence logo over {plural(stacks.size, 'position')}; mean information {number(float(stacks.mean()))} bits, "
        f"most at position {int(stacks.argmax()) + 1} with {number(float(stacks.max()))} bits. "
        f"Letters that stand out, a dot where none does: {consensus(logo)}."
    )


def _line_of_logo(name: str, logo: Information, positions: range, *, top: float, tall: float) -> str:
    end, base = axis_end(logo), top + tall
    right = _LEFT + len(positions) * _CELL
    parts = [f'<path class="axis" d="M{_LEFT:g} {top:g}V{base:g}H{right:g}"/>']
    for tick in _ticks(end):
        y = base - tall * tick / end
        parts.append(f'<text class="tick" text-anchor="end" x="{_LEFT - 6:g}" y="{y + 3.5:.1f}">{tick:g}</text>')
    parts.append(f'<text class="tick" x="2" y="{top - 3:g}">bits</text>')
    for column, position in enumerate(positions):
        parts.append(_stack(name, logo, position, x=_LEFT + column * _CELL, base=base, scale=tall / end))
        if (position + 1) % 5 == 0 or position == 0 or logo.bits.shape[0] <= 20:
            middle = _LEFT + (column + 0.5) * _CELL
            parts.append(f'<text class="tick" text-anchor="middle" x="{middle:g}" y="{base + 14:g}">{position + 1}</text>')
    return "".join(parts)


def _stack(name: str, logo: Information, position: int, *, x: float, base: float, scale: float) -> str:
    """Return one position's letters, the tallest on top; a letter too low to be seen leaves its space empty."""
    parts = []
    y = base
    for letter in np.argsort(logo.bits[position], kind="stable"):
        height = float(logo.bits[position, letter]) * scale
        if height >= _SMALLEST:
            parts.append(
                f'<use href="#{name}-g{letter}" transform="matrix({(_CELL - 1.2) / _BOX:.4f} 0 0 {height / _BOX:.5f} '
                f'{x + 0.6:.1f} {y - height:.2f})"/>'
            )
        y -= height
    return "".join(parts)


def _ticks(end: float) -> list[float]:
    step = 1.0 if end > 1.5 else 0.5 if end > 0.6 else 0.25
    return [round(step * index, 2) for index in range(math.floor(end / step + 1e-9) + 1)]


def _outlines(name: str, logo: Information) -> str:
    tints = tint_of(logo.alphabet)
    shapes = (
        f'<path id="{name}-g{index}" class="i{tints[letter]}" d="{_outline(letter)}"/>'
        for index, letter in enumerate(logo.alphabet)
        if logo.bits[:, index].any()
    )
    return f"<defs>{''.join(shapes)}</defs>"


def _outline(letter: str) -> str:
    """Return the letter's outline filling a square of side `_BOX`; a narrow letter such as I keeps its shape."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # A letter the font lacks is drawn as the font's own empty box.
        font = FontProperties(family="DejaVu Sans", weight="bold")
        vertices, codes = text_to_path.get_text_path(font, printable(letter))
    if len(vertices) == 0:
        return f"M0 0H{_BOX}V{_BOX}H0Z"
    path = Path(vertices, codes)
    box = path.get_extents()
    share = 1.0 if box.width > 0.45 * box.height or box.height < 30 else 0.42
    across, up = _BOX * share / max(box.width, 1e-9), _BOX / max(box.height, 1e-9)
    shift = _BOX * (1 - share) / 2
    words = []
    for segment, code in path.iter_segments(curves=True, simplify=False):
        points = np.asarray(segment).reshape(-1, 2)
        flat = [f"{shift + (x - box.x0) * across:.0f} {(box.y1 - y) * up:.0f}" for x, y in points]
        words.append("Z" if code == 79 else {1: "M", 2: "L", 3: "Q", 4: "C"}[int(code)] + " ".join(flat))
    return escape("".join(words))
