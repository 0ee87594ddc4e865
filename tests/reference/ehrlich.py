"""Ehrlich functions as the paper writes them, one object at a time in plain loops."""

from collections.abc import Sequence
from fractions import Fraction

import numpy as np


def is_feasible(tokens: Sequence[int], transitions: np.ndarray) -> bool:
    """Return whether every step of a sequence has a positive entry."""
    for position in range(1, len(tokens)):
        if not transitions[tokens[position - 1]][tokens[position]] > 0:
            return False
    return True


def share(tokens: Sequence[int], motif: Sequence[int], spacing: Sequence[int], quantization: int) -> Fraction:
    """Return `max_l h_q`, exactly: the best place's share of a motif's elements, rounded down to a multiple of 1/q."""
    best = Fraction(0)
    for place in range(len(tokens) - spacing[-1]):
        present = 0
        for element, distance in zip(motif, spacing, strict=True):
            present += tokens[place + distance] == element
        level = Fraction(0)
        while level + Fraction(1, quantization) <= Fraction(int(present), len(motif)):
            level += Fraction(1, quantization)
        best = max(best, level)
    return best


def value(
    tokens: Sequence[int],
    transitions: np.ndarray,
    motifs: np.ndarray,
    spacings: np.ndarray,
    quantization: int,
    epistasis: float = 0.0,
    infeasible: float = 0.0,
) -> float:
    """Return the function's value at one sequence."""
    if not is_feasible(tokens, transitions):
        return infeasible
    product = 1.0
    for motif, spacing in zip(motifs.tolist(), spacings.tolist(), strict=True):
        level = float(share(tokens, motif, spacing, quantization))
        product *= epistasis * (level**3 - level**2) + level
    return product


def is_ergodic(transitions: np.ndarray) -> bool:
    """Return whether a chain is irreducible and aperiodic: some power is positive, and then Wielandt's is."""
    size = len(transitions)
    power = np.eye(size, dtype=int)
    for _ in range((size - 1) ** 2 + 1):
        power = ((power @ (np.asarray(transitions) > 0)) > 0).astype(int)
    return bool(power.all())
