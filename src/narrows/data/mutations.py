"""Mutations of a parent sequence, as tables of variants write them: `V39C:D40L`, `p.(Val39Cys)`, `WT`."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from narrows.data.findings import DataError
from narrows.data.settings import Case
from narrows.data.spaces import NAMED_ALPHABETS, OpenSpace, Space, folded_letters
from narrows.files import read_text
from narrows.printing import printable, quote

_THREE_LETTERS: dict[str, str] = dict(
    zip(
        "Ala Cys Asp Glu Phe Gly His Ile Lys Leu Met Asn Pro Gln Arg Ser Thr Val Trp Tyr".split(),
        NAMED_ALPHABETS["protein"],
        strict=True,
    )
)
_SUBSTITUTION = re.compile(r"(?P<old>[A-Za-z]{3}|[A-Za-z])(?P<place>[0-9]{1,9})(?P<new>[A-Za-z]{3}|[A-Za-z]|=|\*)", re.ASCII)
_UNCHANGED = frozenset({"wt", "_wt", "wild type", "wild-type", "wildtype", "p.=", "p.(=)"})
_BETWEEN = re.compile(r"[:;,/+\s]+")
_STOPS = ("*", "Ter")


class NoMutation(ValueError):
    """A text that is no list of substitutions of the parent; the message says why."""


@dataclass(frozen=True)
class Parent:
    """The sequence that mutations are about; `start` is the number of its first letter, `fold` the letters read as others."""

    sequence: str
    start: int = 1
    alphabet: str = NAMED_ALPHABETS["protein"]
    fold: Mapping[int, str] = field(default_factory=dict)

    def is_list(self, text: str) -> bool:
        """Return whether a text reads like mutations and not like a whole sequence: `WT`, or numbers in it.

        >>> [Parent("MTYK").is_list(text) for text in ("WT", "T2A", "MTYK")]
        [True, True, False]
        """
        return text.casefold() in _UNCHANGED or any(letter.isdigit() for letter in text)

    def mutant(self, text: str) -> str:
        """Return the parent with the substitutions of a text.

        Raises NoMutation for what is no substitution, or none of this parent.

        >>> Parent("MTYK").mutant("T2A:p.(Lys4Arg)")
        'MAYR'
        """
        if text.casefold() in _UNCHANGED:
            return self.sequence
        letters, places = list(self.sequence), set[int]()
        bare = text.removeprefix("p.").strip("[]")
        for part in filter(None, _BETWEEN.split(bare)):
            place, new = self._substitution(part.strip("()").removeprefix("p.").strip("()"))
            if place in places:
                raise NoMutation(f"position {place + self.start} is changed twice")
            places.add(place)
            letters[place] = new
        return "".join(letters)

    def _substitution(self, part: str) -> tuple[int, str]:
        found = _SUBSTITUTION.fullmatch(part)
        names = [] if found is None else [found["old"].title(), found["new"].title()]
        if found is None or any(len(name) == 3 and name not in (*_THREE_LETTERS, *_STOPS) for name in names):
            raise NoMutation(f"{quote(part)} is no substitution such as V39C, and others are not read")
        if names[1] in _STOPS:
            raise NoMutation(f"{quote(part)} puts a stop sign, which is no letter")
        place, end = int(found["place"]) - self.start, self.start + len(self.sequence) - 1
        if not 0 <= place < len(self.sequence):
            raise NoMutation(f"position {found['place']} is outside the parent, which has positions {self.start} to {end}")
        old = self._letter(found["old"])
        new = old if found["new"] == "=" else self._letter(found["new"])
        if self.sequence[place] != old:
            raise NoMutation(f"position {found['place']} is {self.sequence[place]} in the parent, not {printable(old)}")
        return place, new

    def _letter(self, name: str) -> str:
        letter = _THREE_LETTERS[name.title()] if len(name) == 3 else name.translate(self.fold)
        if letter not in self.alphabet:
            raise NoMutation(f"{quote(name)} is no letter of the space")
        return letter


def read_parent(named: str, space: Space | OpenSpace, case: Case, folder: Path) -> str:
    """Return the parent's sequence, which is named itself or stands alone in a FASTA file.

    Args:
        named: the sequence, or the path of the file.
        space: its letters are those of the parent.
        case: what lower-case letters are.
        folder: where a relative path starts.

    Raises DataError for what is neither.
    """
    if not space.alphabet:
        raise DataError("a parent needs a space with letters, and a space of texts has none. Name one, such as protein.")
    letters, fold = frozenset(space.alphabet), folded_letters(space.alphabet, case)
    sequence = named.strip().translate(fold)
    if sequence and letters.issuperset(sequence):
        return sequence
    path = folder / named
    if not path.is_file():
        shown = printable(space.alphabet, 40)
        raise DataError(
            f"parent {quote(named)} is neither a sequence of the letters {shown} nor a FASTA file (looked for {path})"
        )
    try:
        lines = [line.strip() for line in read_text(path).splitlines()]
    except (OSError, ValueError) as error:
        raise DataError(f"parent: {error}") from None
    if sum(line.startswith(">") for line in lines) > 1:
        raise DataError(f"parent: {path} holds several sequences. Keep the parent alone in it.")
    sequence = "".join(line for line in lines if not line.startswith((">", ";"))).translate(fold)
    if not sequence or not letters.issuperset(sequence):
        raise DataError(f"parent: {path} holds no sequence of the letters {printable(space.alphabet, 40)}. Write it as FASTA.")
    return sequence
