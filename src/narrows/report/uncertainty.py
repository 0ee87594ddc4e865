"""The uncertainty set of a choice between two actions, drawn: its border for several q and a policy's worst case on each."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from markupsafe import Markup
from matplotlib.axes import Axes

from narrows.exact import smallest_shift, worst_rewards
from narrows.files import write_atomically
from narrows.report.canvas import TONES, draw, label_axes, limits
from narrows.report.words import number, printable

EXPONENTS = (0.0, 0.25, 0.5, 0.75, 1.0)
_LINES = ("warm", "warm-soft", "plum", "accent-soft", "accent")
"""Tones of the borders, from the least q to the largest."""

_WIDTH, _HEIGHT = 480, 440
_REACH = 14.0
"""Log-odds of the border's ends: beyond, a curve is its own asymptote."""


@dataclass(frozen=True, eq=False)
class TwoActions:
    """A policy's choice between two actions, and what the adversary measures it against.

    Of a choice between more, these are two and the others keep their worst case: the picture is then an exact cut through the
    set at that point, and the two have to share the bound that the others leave, the sum of their own probabilities.

    Args:
        labels: what the actions are called.
        log_policy: log-probabilities of the two, shape `[2]`.
        log_reference: log d of the two, shape `[2]`, finite.
        omega: of the operator; times the inverse temperature of the reward for changes in units of the score.
        log_factors: `log P_B` of their moves where histories meet, 0 in a tree, shape `[2]`.
    """

    labels: tuple[str, str]
    log_policy: np.ndarray
    log_reference: np.ndarray
    omega: float
    log_factors: np.ndarray | None = None

    def __post_init__(self) -> None:
        for name in ("log_policy", "log_reference"):
            if np.shape(getattr(self, name)) != (2,) or not np.all(getattr(self, name) < 1e-9):
                raise ValueError(f"{name} must be the logarithms of two probabilities, got {getattr(self, name)}.")
        if not np.all(np.isfinite(self.log_reference)):
            raise ValueError(f"the reference must give both actions some probability, got log {self.log_reference}.")
        if not 0.0 < self.omega < float("inf"):
            raise ValueError(f"omega must be positive and finite, got {self.omega}.")

    @property
    def log_bound(self) -> float:
        """The share that other actions leave of the bound 1 in this cut, 0 if there are none."""
        return float(np.logaddexp(*self.log_policy))

    def log_weights(self, q: float) -> np.ndarray:
        """Return `log w`, shape `[2]`, of the set with this q."""
        return q * self.log_reference + (0.0 if self.log_factors is None else self.log_factors)

    def worst(self, q: float) -> np.ndarray:
        """Return the worst change of both rewards for the policy, shape `[2]`."""
        return worst_rewards(np.asarray(self.log_policy), self.log_weights(q), self.omega)

    def border(self, q: float, log_odds: np.ndarray) -> np.ndarray:
        """Return points of the set's border, shape `[2, point]`: the worst changes for all policies of such odds.

        It is `second_reward` of the first, traced evenly at both ends.
        """
        shares = -np.logaddexp(0.0, np.stack([-log_odds, log_odds], axis=-1))
        return worst_rewards(self.log_bound + shares, np.broadcast_to(self.log_weights(q), shares.shape), self.omega).T


def two_actions(name: str, choice: TwoActions, exponents: Sequence[float] = EXPONENTS, unit: str = "the log-reward") -> Markup:
    """Return the borders of the sets in the plane of both actions' changes (tgm 4.2), the worst case on each marked.

    Changes above and to the right of a border are in its set. No change at all is marked by a cross.

    Args:
        name: id of the drawing.
        choice: the policy and its reference.
        exponents: values of q, at most five.
        unit: what changes are measured in.
    """
    if not 1 <= len(exponents) <= len(_LINES) or not all(0.0 <= q <= 1.0 for q in exponents):
        raise ValueError(f"expected one to {len(_LINES)} values of q in [0, 1], got {tuple(exponents)}.")
    ordered = sorted(exponents)
    # As many tones as borders, the ends of the scale for the ends of the range.
    tones = [_LINES[place] for place in np.linspace(0, len(_LINES) - 1, len(ordered)).round().astype(int).tolist()]
    points = np.stack([choice.worst(q) for q in ordered])
    window = _window(choice, ordered, points)

    def paint(axes: Axes) -> None:
        label_axes(axes, *(f"change of {label}, in units of {unit}" for label in choice.labels))
        for q, tone, point in zip(ordered, tones, points, strict=True):
            _border(axes, choice, q, tone, window)
            if np.all(np.isfinite(point)):
                axes.plot(*point, marker="o", markersize=7, markeredgecolor=TONES["paper"], color=TONES[tone], zorder=3)
        axes.plot(0.0, 0.0, marker="P", markersize=8, linestyle="none", color=TONES["ink"], label="no change", zorder=3)
        axes.set_xlim(*window[0])
        axes.set_ylim(*window[1])
        axes.legend(loc="upper right", frameon=False, fontsize=11, handlelength=1.6)

    return draw(name, _description(choice, ordered, points, unit), paint, width=_WIDTH, height=_HEIGHT)


def write_two_actions(
    path: Path, choice: TwoActions, exponents: Sequence[float] = EXPONENTS, unit: str = "the log-reward"
) -> None:
    """Write the picture as an SVG file of its own, whole or not at all: the same choice gives the same bytes."""
    write_atomically(path, standalone(two_actions("two-actions", choice, exponents, unit)) + "\n")


def standalone(drawing: Markup) -> str:
    """Return a drawing of a page as an SVG document: its colours those of the light page, on paper."""
    coloured = re.sub(r"var\(--([a-z-]+)\)", lambda match: TONES[match[1]], str(drawing))
    box = re.search(r'viewBox="0 0 (\S+) (\S+)"', coloured)
    assert box is not None, "every drawing has a viewBox"
    start, rest = coloured.split(">", 1)
    size = f'xmlns="http://www.w3.org/2000/svg" width="{box[1]}" height="{box[2]}" font-family="DejaVu Sans, sans-serif"'
    return f'{start.replace("<svg", f"<svg {size}", 1)}><rect width="100%" height="100%" fill="{TONES["paper"]}"/>{rest}'


def _border(axes: Axes, choice: TwoActions, q: float, tone: str, window: np.ndarray) -> None:
    x, y = choice.border(q, np.linspace(-_REACH, _REACH, 241))
    # A little beyond the window, so that the line leaves it.
    spans = np.diff(window, axis=1)[:, 0]
    is_near = (x < window[0, 1] + spans[0]) & (y < window[1, 1] + spans[1])
    axes.plot(x[is_near], y[is_near], color=TONES[tone], label=f"q = {number(q)}")


def _window(choice: TwoActions, exponents: Sequence[float], points: np.ndarray) -> np.ndarray:
    """Return limits of both axes, shape `[2, 2]`, that show the corner of every border, every worst case and no change."""
    lowest = np.stack([choice.log_weights(q) - choice.log_bound for q in exponents]) / choice.omega
    corners = lowest + np.log(2.0) / choice.omega
    shown = np.concatenate([np.where(np.isfinite(points), points, corners), corners, lowest, np.zeros((1, 2))])
    low, high = np.min(shown, axis=0), np.max(shown, axis=0)
    # The curves bend over a few times 1 / omega, whatever lies between the points.
    high = high + np.maximum(0.35 * (high - low), 1.0 / choice.omega)
    return np.array([limits(low[axis], high[axis], margin=0.04) for axis in range(2)])


def _description(choice: TwoActions, exponents: Sequence[float], points: np.ndarray, unit: str) -> str:
    cases = "; ".join(
        f"q {number(q)}: worst case ({number(first)}, {number(second)}), no change misses by {number(_missed(choice, q))}"
        for q, (first, second) in zip(exponents, points.tolist(), strict=True)
    )
    return printable(
        f"Borders of the sets of changes of {choice.labels[0]} and {choice.labels[1]}, in units of {unit}. {cases}."
    )


def _missed(choice: TwoActions, q: float) -> float:
    """Return the shift of both rewards that brings no change onto the border."""
    return float(smallest_shift(choice.log_weights(q) - choice.log_bound, choice.omega))
