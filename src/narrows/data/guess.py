"""What a table holds, guessed from its letters, its cells and the names of its columns, each guess with its reason."""

import dataclasses
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from narrows.data.findings import FileRefused, count
from narrows.data.layout import NUMBER, Layout, find_layout, read_header
from narrows.data.records import is_blank, read_records
from narrows.data.settings import AbstractTableSettings, TableSettings
from narrows.data.spaces import CUSTOM_PREFIX, NAMED_ALPHABETS
from narrows.data.text import Text, read_text
from narrows.printing import name_some, quote

LOWER_IS_BETTER = frozenset("energy dg ddg mfe kd ki mic ic50 ec50 loss error rmsd rmse".split())
"""Words in the name of a column whose numbers are better when they are lower."""
_SCORE_WORDS = frozenset(
    "score scores fitness activity affinity measured measurement kd ki mic ic50 ec50 hc50 energy binding enrichment".split()
)
_NO_SCORE_WORDS = frozenset(
    "count counts distance error hd id index length n number p position predicted pvalue rank sd se sem std uncertainty".split()
)
_SEQUENCE_WORDS = frozenset("seq sequence peptide variant variants mutant mutants oligo aptamer protein mer".split())
_INACTIVE = frozenset("inactive|not active|no activity|no binding|non-binder|dead|nb|n.b.".split("|"))
"""Words that mean a measurement at the bad end of the scale."""
_WORD = re.compile(r"[A-Za-z*-]+", re.ASCII)
_MUTATIONS = re.compile(r"(?:p\.)?\(?[A-Za-z]{1,3}[0-9]+(?:[A-Za-z]{1,3}|[=*])\)?(?:[:;,/+\s].*)?", re.ASCII)
_COUNTED = 10
"""Rows from which on a column of consecutive numbers is one that counts them."""
_MOST, _HALF = 0.9, 0.5
"""Shares of the rows that must fit a guess: of letters that a space has, and of cells that are alike."""
_FEW_LETTERS = 5
"""With no more letters than these a table of amino acids is an alphabet of one's own, such as HP."""


@dataclass(frozen=True)
class Guess:
    """What a table holds as far as it can be told.

    Args:
        space: name or letters of the space of the sequences.
        settings: how the table is to be read.
        reasons: why, in words, by field: `space`, `sequence_column`, `score_column`, `score_sense`, `inactive`.
    """

    space: str
    settings: TableSettings
    reasons: dict[str, str] = field(default_factory=dict)


def guess_table(path: Path, space: str | None = None, given: TableSettings | None = None) -> Guess:
    """Return what a table seems to hold; what is given stands.

    A file that cannot be read as a table gives what was given: `check_table` says what is wrong with it.

    Args:
        path: the table.
        space: name or letters of its space, if known.
        given: how it is to be read, as far as that is known.
    """
    given = TableSettings() if given is None else given
    try:
        text = read_text(path)
        settings, reasons = _guess_columns(text, given)
        layout = find_layout(text, "", settings.sequence_column, settings.score_column)
    except FileRefused:
        return Guess(space or "protein", given)
    rows = [record.fields for record in read_records(text.lines, layout.delimiter, layout.body) if record.problem is None]
    rows = [[cell.strip() for cell in fields] for fields in rows if len(fields) == len(layout.header) and not is_blank(fields)]
    if settings.score_sense == "higher" and settings.score_transform == "none":
        sense = _guess_sense(layout, path)
        settings = settings if sense is None else dataclasses.replace(settings, score_sense="lower")
        reasons |= {} if sense is None else {"score_sense": sense}
    if not settings.inactive:
        words = Counter(fields[layout.score] for fields in rows if fields[layout.score].casefold() in _INACTIVE)
        settings = dataclasses.replace(settings, inactive=tuple(words)) if words else settings
        reasons |= {"inactive": f"guessed: in {count(words.total(), 'row')}, as bounds at the bad end"} if words else {}
    if space is None:
        space, reasons["space"] = guess_space([fields[layout.sequence] for fields in rows], settings)
    return Guess(space, settings, reasons)


def guess_space(sequences: Sequence[str], settings: AbstractTableSettings) -> tuple[str, str]:
    """Return the name or the letters of the space that sequences seem to lie in, and why, with what would make that wrong.

    >>> guess_space(["ACGU", "GGAU"], TableSettings())[0], guess_space(["AB", "BA"], TableSettings())[0]
    ('rna', 'letters:AB')
    """
    if settings.parent is not None:  # mutations have the letters of their parent, which may be the name of a file
        sequences = [settings.parent] if _WORD.fullmatch(settings.parent) else [NAMED_ALPHABETS["protein"]]
    words = [word.upper() if settings.case == "upper" else word for word in sequences if word]
    seen = Counter("".join(words))
    wrong = {
        "rna": "wrong if T may stand in them, too",
        "dna": "wrong if these are peptides of A, C, G and T alone, or RNA that is written with T",
        "protein": f'wrong if the letters are an alphabet of your own: then space = "{CUSTOM_PREFIX}..." with these',
    }
    must_have = {"rna": "U", "dna": "", "protein": ""}
    for name, alphabet in NAMED_ALPHABETS.items():
        num_inside = sum(set(word) <= {*alphabet} for word in words)
        num_letters = len(set(seen) & {*alphabet})
        is_lacking = must_have[name] not in "".join(seen) or (name == "protein" and num_letters <= _FEW_LETTERS)
        if is_lacking or num_inside < _MOST * len(words):
            continue
        share = "every row is" if num_inside == len(words) else f"{num_inside:,} of {len(words):,} rows are"
        return name, f"guessed: {share} of its letters ({num_letters} of {len(alphabet)} occur); {wrong[name]}"
    own = "".join(sorted(letter for letter in {*"".join(sequences)} if letter.isprintable() and not letter.isspace()))
    return CUSTOM_PREFIX + own, f"guessed: the {len(own)} letters that occur; wrong if others may be used, or if one is a slip"


def is_better_when_lower(name: str) -> bool:
    """Return whether the name of a column says that its numbers are better when they are lower.

    >>> is_better_when_lower("IC50 (nM)"), is_better_when_lower("pIC50")
    (True, False)
    """
    return not LOWER_IS_BETTER.isdisjoint(_words_of(name))


def _guess_sense(layout: Layout, path: Path) -> str | None:
    """Return why lower scores seem to be better, None where nothing says so."""
    column = layout.header[layout.score]
    if is_better_when_lower(column):
        return f"guessed from the name of the column, {quote(column)}; wrong if higher is better there"
    if is_better_when_lower(path.stem):
        return f"guessed from the name of the file, {quote(path.name)}; wrong if higher is better there"
    return None


def _guess_columns(text: Text, given: TableSettings) -> tuple[TableSettings, dict[str, str]]:
    """Return the settings with the columns named that have none of the usual names; FileRefused where none can be told."""
    try:
        find_layout(text, "", given.sequence_column, given.score_column)
    except FileRefused as refused:
        if refused.finding.kind != "column":
            raise
    else:
        return given, {}
    delimiter, record = read_header(text, {"sequence": given.sequence_column, "score": given.score_column})
    header = [name.strip() for name in record.fields]
    rows = [found.fields for found in read_records(text.lines, delimiter, record.end) if len(found.fields) == len(header)]
    columns = [_Column(place, name, [row[place].strip() for row in rows]) for place, name in enumerate(header)]
    reasons: dict[str, str] = {}
    named = {}
    roles = {"sequence": given.sequence_column, "score": given.score_column}
    for role, name in roles.items():
        if name is None:
            found = [column for column in columns if column.may_be(role) and column.shown(header) not in named.values()]
            found.sort(key=lambda column: column.rank(role), reverse=True)
            if not found:
                continue
            named[f"{role}_column"] = found[0].shown(header)
            reasons[f"{role}_column"] = _why(role, found, header)
    return dataclasses.replace(given, **named), reasons


def _why(role: str, found: list["_Column"], header: list[str]) -> str:
    what = {"sequence": "words of letters", "score": "numbers"}[role]
    others = [column.shown(header) for column in found[1:]]
    if not others:
        return f"guessed: the only column of {what}"
    how = {"sequence": "by name and by how many differ", "score": "by name, then by how many rows have one"}[role]
    return f"guessed, {how}; {what} are also in {name_some(others, 10)}"


@dataclass(frozen=True)
class _Column:
    """A column of a table: its place, its name and its cells."""

    place: int
    name: str
    cells: list[str]

    def shown(self, header: list[str]) -> str:
        """Return the name that `--score-column` takes: by position where another column has the same."""
        return f"#{self.place + 1}" if not self.name or header.count(self.name) > 1 else self.name

    def may_be(self, role: str) -> bool:
        filled = [cell for cell in self.cells if cell]
        if role == "sequence":
            alike = sum(_WORD.fullmatch(cell) is not None or _MUTATIONS.fullmatch(cell) is not None for cell in filled)
            return alike >= _MOST * len(filled) > 0 and len(set(filled)) >= _HALF * len(filled)
        numbers = [float(cell) for cell in filled if NUMBER.fullmatch(cell)]
        # A column that counts the rows is no measurement.
        is_index = len(numbers) >= _COUNTED and numbers == [numbers[0] + step for step in range(len(numbers))]
        alike = sum(NUMBER.fullmatch(cell.lstrip("<>=~ ")) is not None for cell in filled)
        return alike >= _HALF * len(filled) > 0 and not is_index

    def rank(self, role: str) -> tuple[int, int, int]:
        words = _words_of(self.name)
        filled = [cell for cell in self.cells if cell]
        if role == "sequence":
            return int(not _SEQUENCE_WORDS.isdisjoint(words)), len(set(filled)), -self.place
        liked = int(not _SCORE_WORDS.isdisjoint(words)) - 2 * int(not self.name or not _NO_SCORE_WORDS.isdisjoint(words))
        return liked, len(filled), -self.place


def _words_of(name: str) -> set[str]:
    return {*re.split(r"[^a-z0-9]+", name.casefold())}
