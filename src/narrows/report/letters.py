"""Colours of letters: groups that a colour-blind reader can tell apart, or need not, as the letter itself is shown."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import groupby

from markupsafe import Markup, escape

from narrows.report.words import printable

NUM_TINTS = 8
"""Tints `l0` to `l7` of `report.css`; a letter outside the alphabet has none."""

AMINO_ACID_GROUPS = ("AVLIM", "FWY", "STNQ", "KRH", "DE", "GPC")
"""Aliphatic, aromatic, polar, positive, negative, special."""

_NUCLEOTIDES = {"A": 0, "C": 1, "G": 2, "U": 3, "T": 3}


def tint_of(alphabet: str) -> Mapping[str, int]:
    """Return the tint of each letter: by base, by amino-acid chemistry, else by place in the alphabet.

    >>> tint_of("ACGU")["U"], tint_of("ACDEFGHIKLMNPQRSTVWY")["D"], tint_of("01")["1"]
    (3, 4, 1)
    """
    letters = set(alphabet)
    if letters and letters <= set(_NUCLEOTIDES):
        return {letter: _NUCLEOTIDES[letter] for letter in alphabet}
    if len(letters) > NUM_TINTS and letters <= set("".join(AMINO_ACID_GROUPS)):
        return {letter: tint for tint, group in enumerate(AMINO_ACID_GROUPS) for letter in group}
    return {letter: place % NUM_TINTS for place, letter in enumerate(alphabet)}


def tinted(sequence: str, tints: Mapping[str, int]) -> Markup:
    """Return the sequence as HTML, each letter on its tint, in groups of ten."""
    groups = (sequence[start : start + 10] for start in range(0, len(sequence), 10))
    return Markup("").join(_group(group, tints) for group in groups)


def _group(letters: str, tints: Mapping[str, int]) -> Markup:
    """Return up to ten letters; neighbours of one tint share an element, which keeps long lists small."""
    runs = (_run(tint, "".join(run)) for tint, run in groupby(letters, key=tints.get))
    return Markup('<span class="ten">{}</span>').format(Markup("").join(runs))


def _run(tint: int | None, letters: str) -> Markup:
    shown = escape(printable(letters))
    return shown if tint is None else Markup(f"<b class=l{tint}>{shown}</b>")
