"""Spaces of sequences: an alphabet and a range of lengths."""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import overload

from narrows.data.settings import Case
from narrows.printing import did_you_mean, name_some, printable, quote

NAMED_ALPHABETS: dict[str, str] = {"rna": "ACGU", "dna": "ACGT", "protein": "ACDEFGHIKLMNPQRSTVWY"}
CUSTOM_PREFIX = "letters:"
TEXT = "text"
"""The space of all texts, which has no alphabet: any letters, and blanks between them."""


@dataclass(frozen=True)
class Space:
    """All sequences over `alphabet` with `min_length` to `max_length` letters.

    `name` is what `space` was asked for, so that `space(s.name, s.min_length, s.max_length) == s`.
    """

    name: str
    alphabet: str
    min_length: int
    max_length: int

    def __post_init__(self) -> None:
        _check_alphabet(self.name, self.alphabet)
        _check_lengths(self.min_length, self.max_length)

    def closed_over(self, sequences: Iterable[str]) -> "Space":
        """Return this space: its lengths are known already. `OpenSpace` takes them from `sequences`."""
        return self

    @property
    def lengths(self) -> str:
        """The range of lengths in words."""
        return _range_in_words(self.min_length, self.max_length)


@dataclass(frozen=True)
class OpenSpace:
    """An alphabet whose shortest or longest length (`None`) is still to be taken from data."""

    name: str
    alphabet: str
    min_length: int | None = None
    max_length: int | None = None

    def __post_init__(self) -> None:
        _check_alphabet(self.name, self.alphabet)
        _check_lengths(self.min_length, self.max_length)

    def closed_over(self, sequences: Iterable[str]) -> Space:
        """Return the space whose missing lengths are the shortest and the longest of `sequences`.

        Raises ValueError where there is no sequence to take a length from.

        >>> space("rna").closed_over(["ACGU", "AC"])
        Space(name='rna', alphabet='ACGU', min_length=2, max_length=4)
        """
        lengths = [len(sequence) for sequence in sequences]
        if not lengths:
            raise ValueError(
                f"space {quote(self.name)} takes its lengths from the data, and there is no sequence to take them from"
            )
        shortest = min(lengths) if self.min_length is None else self.min_length
        longest = max(lengths) if self.max_length is None else self.max_length
        return Space(self.name, self.alphabet, shortest, longest)

    @property
    def lengths(self) -> str:
        """The range of lengths in words."""
        return _range_in_words(self.min_length, self.max_length)


@overload
def space(name_or_letters: str, min_length: int, max_length: int) -> Space: ...
@overload
def space(name_or_letters: str, min_length: int | None = None, max_length: int | None = None) -> Space | OpenSpace: ...
def space(name_or_letters: str, min_length: int | None = None, max_length: int | None = None) -> Space | OpenSpace:
    """Return the space called `rna`, `dna`, `protein` or `text`, or the one over letters of your own.

    Own letters are written as they are (`"HP"`, `"01"`), or after `letters:` where they could be mistaken for a name:
    anything with a lower-case letter is read as a name, so that a misspelt name is never taken for an alphabet.
    A length left out makes an `OpenSpace`, which takes it from the data. The space `text` has no alphabet and holds every text.

    Raises ValueError for an unknown name (naming the known ones), a repeated letter, or lengths that leave nothing.

    >>> space("rna", 14, 14)
    Space(name='rna', alphabet='ACGU', min_length=14, max_length=14)
    >>> space("HP", 3, 5).alphabet
    'HP'
    >>> space("letters:ab", max_length=9).lengths
    'at most 9'
    """
    name = name_or_letters.strip()
    if name.lower() == TEXT:
        name, alphabet = TEXT, ""
    elif name.lower() in NAMED_ALPHABETS:
        name = name.lower()
        alphabet = NAMED_ALPHABETS[name]
    elif name.startswith(CUSTOM_PREFIX):
        alphabet = name.removeprefix(CUSTOM_PREFIX)
    elif not name or any(letter.islower() for letter in name):
        raise ValueError(_unknown_name(name))
    else:
        alphabet, name = name, CUSTOM_PREFIX + name
    if min_length is None or max_length is None:
        return OpenSpace(name, alphabet, min_length, max_length)
    return Space(name, alphabet, min_length, max_length)


def as_read(space: Space | OpenSpace, case: Case) -> Space | OpenSpace:
    """Return the space of what is read: of a named one whose case is kept, lower-case letters are letters of their own.

    >>> as_read(space("rna"), "keep").alphabet
    'ACGUacgu'
    """
    if case != "keep" or space.name not in NAMED_ALPHABETS:
        return space
    letters = space.alphabet + space.alphabet.lower()
    return replace(space, name=CUSTOM_PREFIX + letters, alphabet=letters)


def folded_letters(alphabet: str, case: Case) -> dict[int, str]:
    """Return the lower-case letters that are read as upper case, for `str.translate`: those that the alphabet lacks.

    >>> "acgu".translate(folded_letters("ACG", "upper"))
    'ACGu'
    """
    capitals = [letter for letter in alphabet if "A" <= letter <= "Z" and letter.lower() not in alphabet]
    return {ord(letter.lower()): letter for letter in capitals} if case == "upper" else {}


def _unknown_name(name: str) -> str:
    guess = did_you_mean(name.lower(), [*NAMED_ALPHABETS, TEXT])
    known = ", ".join([*NAMED_ALPHABETS, TEXT])
    own = f"{CUSTOM_PREFIX}{printable(name or 'ABC', 40)}"
    return f"unknown space {quote(name)}.{guess} Known: {known}. For letters of your own write {own}"


def _check_alphabet(name: str, alphabet: str) -> None:
    repeated = sorted(letter for letter, number in Counter(alphabet).items() if number > 1)
    if repeated:
        raise ValueError(f"an alphabet needs distinct letters; {quote(alphabet)} repeats {name_some(repeated)}")
    # A blank or invisible letter could not be told from the blanks around a cell.
    unusable = [letter for letter in alphabet if letter.isspace() or not letter.isprintable()]
    if unusable:
        raise ValueError(f"an alphabet takes visible letters only; {quote(alphabet)} holds {quote(unusable[0])}")
    if not alphabet and name != TEXT:
        raise ValueError("an alphabet needs at least one letter, got none")


def _check_lengths(min_length: int | None, max_length: int | None) -> None:
    if min_length is not None and min_length < 0:
        raise ValueError(f"min_length must be at least 0, got {min_length}")
    if max_length is not None and max_length < 1:
        raise ValueError(f"max_length must be at least 1, got {max_length}")
    if min_length is not None and max_length is not None and min_length > max_length:
        raise ValueError(f"min_length must not exceed max_length, got {min_length} and {max_length}")


def _range_in_words(min_length: int | None, max_length: int | None) -> str:
    if min_length is None and max_length is None:
        return "any"
    if min_length is None:
        return f"at most {max_length}"
    if max_length is None:
        return f"at least {min_length}"
    return str(min_length) if min_length == max_length else f"{min_length} to {max_length}"
