"""The cells of one row: a sequence of the space and a finite score or a class, or every reason why not."""

import math
import re
import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from narrows.data.findings import Finding, count, error
from narrows.data.layout import NUMBER, Layout
from narrows.data.mutations import NoMutation, Parent, read_parent
from narrows.data.records import Record
from narrows.data.settings import USUAL, AbstractTableSettings
from narrows.data.spaces import NAMED_ALPHABETS, OpenSpace, Space, folded_letters
from narrows.printing import printable, quote

_BOUND = re.compile(r"(?P<sign><<?=?|>>?=?|=[<>]|[≤≥])\s*(?P<number>\S+)")
_AT_MOST = frozenset("< << <= <<= =< ≤".split())
_NOT_FINITE = re.compile(r"[+-]?(nan|inf|infinity)", re.IGNORECASE)
_MISSING = frozenset("na nan n/a null none nil - -- ? inf #n/a #value! nd n.d. n.a.".split())
_AMBIGUOUS = {"ACGU": "BDHKMNRSVWXY", "ACGT": "BDHKMNRSVWXY", NAMED_ALPHABETS["protein"]: "BJXZ"}


class Measured(NamedTuple):
    """The cells of a row that can be used: its sequence, and its score or class as in the file, None for an inactive word.

    `bound` is 0 where the score is a value, -1 where the true one is at most it and 1 where it is at least it; `spelling` is
    how the file spells a sequence whose lower case was read as upper case.
    """

    sequence: str
    score: float | str | None
    bound: int = 0
    spelling: str | None = None


@dataclass(frozen=True)
class Rules:
    """The rules of a cell; `legal` matches exactly the sequences of the space.

    With `has_classes` the column of scores holds names of classes instead of numbers. `fold` has the letters that are read as
    others, `parent` the sequence that mutations are about, `inactive` the words that stand for a bound.
    """

    space: Space | OpenSpace
    layout: Layout
    legal: re.Pattern[str]
    has_classes: bool = False
    fold: Mapping[int, str] = field(default_factory=dict)
    parent: Parent | None = None
    inactive: frozenset[str] = frozenset()

    @staticmethod
    def of(
        space: Space | OpenSpace, layout: Layout, settings: AbstractTableSettings = USUAL, has_classes: bool = False
    ) -> "Rules":
        """Return the rules of a space for the columns of a file."""
        longest = "" if space.max_length is None else str(space.max_length)
        count = f"{{{max(space.min_length or 1, 1)},{longest}}}"
        # Of any text the blanks around it are taken off first, and said.
        letters = "".join(map(re.escape, space.alphabet))
        legal = f"[{letters}]{count}" if letters else rf"(?=[\s\S]{count}\Z)\S(?:[\s\S]*\S)?"
        fold = folded_letters(space.alphabet, settings.case)
        parent = None
        if settings.parent is not None:
            sequence = read_parent(settings.parent, space, settings.case, Path())
            parent = Parent(sequence, settings.parent_start, space.alphabet, fold)
        inactive = frozenset(word.strip().casefold() for word in settings.inactive)
        return Rules(space, layout, re.compile(legal), has_classes, fold, parent, inactive)


def read_row(rules: Rules, record: Record) -> Measured | None:
    """Return the cells of a trusted record that has both right, None where it needs a look."""
    fields, layout = record.fields, rules.layout
    if len(fields) != len(layout.header):
        return None
    sequence, cell = _read_sequence(rules, fields[layout.sequence]), fields[layout.score]
    if sequence is None:
        return None
    is_mutation = rules.parent is not None and rules.parent.is_list(fields[layout.sequence])
    spelling = None if is_mutation or sequence == fields[layout.sequence] else fields[layout.sequence]
    if rules.has_classes:
        return Measured(sequence, cell, spelling=spelling) if cell and cell == cell.strip() else None
    if rules.inactive and cell.casefold() in rules.inactive:
        return Measured(sequence, None, spelling=spelling)
    bound = _BOUND.fullmatch(cell)
    if NUMBER.fullmatch(cell if bound is None else bound["number"]) is None:
        return None
    score = float(cell if bound is None else bound["number"])
    if not math.isfinite(score):
        return None
    return Measured(sequence, score, 0 if bound is None else -1 if bound["sign"] in _AT_MOST else 1, spelling)


def _read_sequence(rules: Rules, cell: str) -> str | None:
    if rules.parent is not None and rules.parent.is_list(cell):
        try:
            cell = rules.parent.mutant(cell)
        except NoMutation:
            return None
    if rules.legal.fullmatch(cell):
        return cell
    folded = cell.translate(rules.fold)
    return folded if folded != cell and rules.legal.fullmatch(folded) else None


def strip_cells(record: Record) -> Record:
    """Return the record without the blanks around its cells."""
    return record._replace(fields=[field.strip() for field in record.fields])


def explain_row(rules: Rules, record: Record) -> list[Finding]:
    """Return every reason why a record whose cells can be trusted cannot be used; none only if `read_row` reads it."""
    if len(record.fields) != len(rules.layout.header):
        return [_ragged(rules.layout, record)]
    layout = rules.layout
    sequence, cell = record.fields[layout.sequence], record.fields[layout.score]
    return [
        *_explain_sequence(rules, sequence, record.row, layout.header[layout.sequence]),
        *(_explain_class if rules.has_classes else _explain_score)(cell, record.row, layout.header[layout.score]),
    ]


def _ragged(layout: Layout, record: Record) -> Finding:
    expected, came = len(layout.header), len(record.fields)
    message = f"{count(came, 'cell')} where the header has {expected}"
    after = record.fields[layout.score : layout.score + 2]
    if layout.delimiter == "," and came > expected and NUMBER.fullmatch(",".join(after).replace(",", ".")):
        return error(record.row, None, "ragged", f"{message}: a decimal comma? Write {quote('.'.join(after))}.")
    cure = (
        "Quote a cell that holds a separator."
        if came > expected
        else "A row needs a cell for every column, if only an empty one."
    )
    return error(record.row, None, "ragged", f"{message}. {cure}")


def _explain_sequence(rules: Rules, cell: str, row: int, column: str) -> list[Finding]:
    if not cell:
        return [error(row, column, "empty_sequence", "the sequence cell is empty")]
    sequence, space = cell.translate(rules.fold), rules.space
    if rules.parent is not None and rules.parent.is_list(cell):
        try:
            sequence = rules.parent.mutant(cell)
        except NoMutation as problem:
            return [error(row, column, "mutation", f"mutations {quote(cell)}: {problem}")]
    found: list[Finding] = []
    alphabet = space.alphabet
    bad = [(place, letter) for place, letter in enumerate(sequence, start=1) if letter not in alphabet] if alphabet else []
    if bad:
        place, letter = bad[0]
        more = f" (and {count(len(bad) - 1, 'more bad symbol')})" if len(bad) > 1 else ""
        missing = " If the cell stands for a missing value, take the row out." if sequence.lower() in _MISSING else ""
        is_case = all(letter.upper() in alphabet or letter.lower() in alphabet for _, letter in bad)
        message = f"sequence {quote(cell)} has {_name(letter)} at position {place}{more}: {_hint(space, letter)}.{missing}"
        found.append(error(row, column, "case" if is_case else "bad_symbol", message))
    is_short = space.min_length is not None and len(sequence) < space.min_length
    is_long = space.max_length is not None and len(sequence) > space.max_length
    if is_short or is_long:
        message = f"sequence {quote(cell)} has {count(len(sequence), 'letter')}; the space takes {space.lengths}"
        found.append(error(row, column, "length", message))
    return found


def _hint(space: Space | OpenSpace, letter: str) -> str:
    alphabet, letters = space.alphabet, printable(space.alphabet, 100)
    if space.name == "rna" and letter in "Tt":
        return "T is DNA; write U, or check the table with --space dna"
    if space.name == "dna" and letter in "Uu":
        return "U is RNA; write T, or check the table with --space rna"
    if letter.isspace():
        return "a blank inside the sequence; take it out"
    if letter.upper() in alphabet:
        return f"lower case; write {letter.upper()!r}, or read it so with --case upper"
    if letter.lower() in alphabet:
        return f"upper case; write {letter.lower()!r}"
    if letter.upper() in _AMBIGUOUS.get(alphabet, ""):
        return f"a letter that stands for several; the letters of {printable(space.name, 100)} are {letters}"
    if letter.isdigit() and alphabet.isalpha():
        return "a number; for a table of mutations such as V39C name the sequence that they are about with --parent"
    if letter in "-.*":
        return f"a gap or a stop sign; the letters of {printable(space.name, 100)} are {letters}"
    return f"the letters are {letters}"


def _name(letter: str) -> str:
    if letter.isascii() and letter.isprintable():
        return repr(letter)
    # Look-alikes and invisible characters are told apart by their code point only.
    name = unicodedata.name(letter, "control character")
    return f"{letter!r} (U+{ord(letter):04X}, {name})"


def _explain_score(cell: str, row: int, column: str) -> list[Finding]:
    if not cell:
        return [error(row, column, "empty_score", "the score cell is empty")]
    shown = quote(cell)
    if bound := _BOUND.fullmatch(cell):
        cell = bound["number"]
    if NUMBER.fullmatch(cell):
        if math.isfinite(float(cell)):
            return []
        return [error(row, column, "non_finite_score", f"score {shown} is too large for a 64-bit number")]
    if _NOT_FINITE.fullmatch(cell):
        return [error(row, column, "non_finite_score", f"score {shown} is not finite. Take the row out or measure again.")]
    if "," in cell and NUMBER.fullmatch(cell.replace(",", ".")):
        cure = f"write {printable(cell.replace(',', '.'), 40)}"
        if re.search(",[0-9]{3}$", cell):  # 1,000 is one to some and a thousand to others
            cure += f", or {printable(cell.replace(',', ''), 40)} if the comma groups thousands"
        return [error(row, column, "decimal_comma", f"score {shown} has a decimal comma; {cure}")]
    return [error(row, column, "non_numeric_score", f"score {shown} is not a number{_score_hint(cell)}")]


def _explain_class(cell: str, row: int, column: str) -> list[Finding]:
    return [] if cell else [error(row, column, "empty_score", "the cell of the class is empty")]


def _score_hint(cell: str) -> str:
    if cell.lower() in _MISSING:
        return f": it reads like a missing value. Take it out or, if it means no activity, name it with --inactive {cell!r}."
    if "\N{MINUS SIGN}" in cell or "\N{EN DASH}" in cell:
        return ": its minus sign is a typographic one; write -"
    if cell[0] in "~≈":
        return ": write the number alone where about that much is near enough"
    if "±" in cell or "+/-" in cell:
        return ": write the value alone; rows of replicates tell how far measurements spread"
    if NUMBER.fullmatch(re.sub(r"[,' _.](?=[0-9]{3})", "", cell)):
        return ": write it without thousands separators"
    if cell.isascii() and cell[0].isalpha():
        return f". Expected digits such as 0.25; if it stands for no activity, name it with --inactive {cell[:20]!r}."
    return ". Expected digits with a decimal point, such as 0.25 or -1.5e-3."
