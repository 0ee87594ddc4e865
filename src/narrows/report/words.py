"""Numbers and lists as words: what is not known reads as a dash, never as "nan"."""

from __future__ import annotations

import math
import re
import shlex
from collections.abc import Iterable, Sequence

import numpy as np

UNKNOWN = "–"
_SUPERSCRIPTS = str.maketrans("0123456789-", "⁰¹²³⁴⁵⁶⁷⁸⁹⁻")
_UNPRINTABLE = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\ud800-\udfff\ufffe\uffff\u202a-\u202e\u2066-\u2069]")


def printable(text: str) -> str:
    """Replace control characters, lone surrogates and writing-direction overrides by U+FFFD.

    >>> printable("AC\\x00G")
    'AC\\ufffdG'
    """
    return _UNPRINTABLE.sub("\ufffd", text)


def number(value: float | None, digits: int = 3) -> str:
    """Return `value` with `digits` significant digits, large and small ones as a power of ten.

    >>> number(0.123456), number(1234567.0), number(None), number(-0.5), number(float("nan")), number(3)
    ('0.123', '1.23 × 10⁶', '–', '−0.5', '–', '3')
    """
    if value is None or not math.isfinite(value):
        return UNKNOWN
    if value == 0:
        return "0"
    exponent = math.floor(math.log10(abs(value)))
    if -4 <= exponent < 6:
        shown = f"{value:.{max(0, digits - 1 - exponent)}f}"
        shown = shown.rstrip("0").rstrip(".") if "." in shown else shown
        return _minus(shown)
    mantissa, power = f"{value:.{digits - 1}e}".split("e")
    return f"{_minus(mantissa)} × 10{str(int(power)).translate(_SUPERSCRIPTS)}"


def fixed(value: float | None, decimals: int) -> str:
    """Return `value` with a fixed number of decimals, for a column whose points should line up.

    >>> fixed(0.5, 3), fixed(None, 3), fixed(-1.0, 1)
    ('0.500', '–', '−1.0')
    """
    if value is None or not math.isfinite(value):
        return UNKNOWN
    return _minus(f"{value:.{decimals}f}") if abs(value) < 1e9 else number(value, 4)


def decimals_for(values: Iterable[float | None]) -> int:
    """Return how many decimals tell `values` apart: three digits of their spread, between 0 and 6.

    >>> decimals_for([0.51, 0.72]), decimals_for([100.0, 900.0]), decimals_for([])
    (3, 0, 3)
    """
    array = np.array([value for value in values if value is not None and abs(value) < 1e150], dtype=np.float64)
    spread = float(np.ptp(array)) if array.size > 1 else 0.0
    if spread == 0:
        spread = float(np.abs(array).max()) if array.size else 0.0
    if spread == 0 or not math.isfinite(spread):
        return 3
    return int(np.clip(2 - math.floor(math.log10(spread)), 0, 6))


def count(value: int | None) -> str:
    """Return a count in full while it is readable, else as a power of ten.

    >>> count(268435456), count(20**60), count(None)
    ('268,435,456', '1.2 × 10⁷⁸', '–')
    """
    if value is None:
        return UNKNOWN
    if abs(value) < 10**15:
        return _minus(f"{value:,}")
    power = math.floor(math.log10(abs(value)))
    mantissa = f"{10 ** (math.log10(abs(value)) - power):.1f}"
    mantissa, power = ("1.0", power + 1) if mantissa == "10.0" else (mantissa, power)
    return f"{'−' if value < 0 else ''}{mantissa} × 10{str(power).translate(_SUPERSCRIPTS)}"


def plural(value: int, noun: str, nouns: str | None = None) -> str:
    """Return the count with its noun.

    >>> plural(1, "row"), plural(1200, "row"), plural(2, "entry", "entries")
    ('1 row', '1,200 rows', '2 entries')
    """
    return f"{count(value)} {noun if value == 1 else nouns or noun + 's'}"


def percent(share: float | None, decimals: int = 0) -> str:
    """Return a share as a percentage; a share too small for the digits says so.

    >>> percent(0.683), percent(2e-6, 2), percent(None), percent(0.0)
    ('68\\xa0%', 'under 0.01\\xa0%', '–', '0\\xa0%')
    """
    if share is None or not math.isfinite(share):
        return UNKNOWN
    smallest = 10.0**-decimals
    if 0 < share * 100 < smallest / 2:
        return f"under {smallest:.{decimals}f}\u00a0%"
    return f"{_minus(f'{share * 100:.{decimals}f}')}\u00a0%"


def duration(seconds: float | None) -> str:
    """Return a duration in the units a person would use.

    >>> duration(4.21), duration(200.0), duration(7322.0), duration(None)
    ('4.2\\xa0s', '3\\xa0min 20\\xa0s', '2\\xa0h 2\\xa0min', '–')
    """
    if seconds is None or not math.isfinite(seconds):
        return UNKNOWN
    if seconds < 60:
        return f"{seconds:.1f}\u00a0s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes}\u00a0min {rest}\u00a0s" if minutes < 60 else f"{minutes // 60}\u00a0h {minutes % 60}\u00a0min"


def listing(words: Sequence[str]) -> str:
    """Join words as a sentence does.

    >>> listing(["a", "b", "c"]), listing(["a"])
    ('a, b and c', 'a')
    """
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} and {words[-1]}" if words else ""


def command(*words: str) -> str:
    """Return a command line whose words are quoted where a shell needs it.

    >>> command("narrows", "report", "runs/my run")
    "narrows report 'runs/my run'"
    """
    return shlex.join(words)


def _minus(text: str) -> str:
    return text.replace("-", "−")
