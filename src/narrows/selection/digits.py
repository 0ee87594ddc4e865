"""The number of digits that are shown."""

import math

import numpy as np
from jaxtyping import Float


def digits(value: float, spread: float, *, least: int = 6, apart: int = 5) -> int:
    """Return how many significant digits show a number of a column.

    Args:
        value: the number.
        spread: how far apart the column's numbers are.
        least: digits in any case: more would be noise of single precision, and a nuisance in a table.
        apart: digits of the spread that are shown behind an offset, however large that is.

    >>> digits(0.5, 1.0), digits(1e8 + 0.5, 1.0), digits(0.0, 1.0), digits(1.0, 0.0)
    (6, 13, 6, 6)
    """
    if not (math.isfinite(value) and math.isfinite(spread) and value != 0.0 and spread > 0.0):
        return least
    offset = math.floor(math.log10(abs(value))) - math.floor(math.log10(spread))
    return min(17, max(least, offset + apart))


def spread_of(values: Float[np.ndarray, " number"]) -> float:
    """Return how far apart the finite ones of some numbers are, 0 without any."""
    finite = values[np.isfinite(values)]
    return float(finite.max() - finite.min()) if finite.size else 0.0


def rounded(
    values: Float[np.ndarray, " number"], *, apart: int = 5, spread: float | None = None
) -> Float[np.ndarray, " number"]:
    """Return the numbers of a column as they are shown; with the spread of the whole column where they are a part of it.

    >>> rounded(np.array([0.12345678, 1.0])).tolist(), rounded(np.array([1e6 + 0.12345678, 1e6 + 1])).tolist()
    ([0.123457, 1.0], [1000000.12346, 1000001.0])
    """
    values = np.asarray(values, np.float64)
    spread = spread_of(values) if spread is None else spread
    known = np.where(np.isfinite(values) & (values != 0.0), np.abs(values), 1.0)
    # Numbers between two powers of ten are shown alike.
    magnitudes, which = np.unique(np.floor(np.log10(known)), return_inverse=True)
    numbers = [digits(10.0**magnitude, spread, apart=apart) for magnitude in magnitudes.tolist()]
    return np.array(
        [float(f"{value:.{numbers[place]}g}") for value, place in zip(values.tolist(), which.tolist(), strict=True)], np.float64
    )
