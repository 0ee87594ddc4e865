"""The outcome of a check of a table: the good rows, the rows set aside, and every reason."""

import hashlib
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np

from narrows.data.findings import Finding, list_first
from narrows.data.layout import Layout
from narrows.data.settings import AbstractTableSettings, ScoreSense
from narrows.data.spaces import OpenSpace, Space
from narrows.data.text import DELIMITERS
from narrows.printing import printable, quote

_SHOWN = 50
"""Classes, and letters, that a summary lists."""
_QUANTILES = (0.0, 0.05, 0.25, 0.5, 0.75, 0.95, 1.0)
_QUANTILE_NAMES = ("min", "5%", "25%", "median", "75%", "95%", "max")


@dataclass(frozen=True, eq=False)
class Table:
    """Scored sequences: `scores` float64 `[n]`, higher is better; `rows` are line numbers, the header is on line 1.

    Where the table names classes, `classes` holds their names, and `scores` their places in it. The arrays are copied and
    read-only.
    """

    path: str
    sequences: tuple[str, ...]
    scores: np.ndarray
    rows: tuple[int, ...]
    classes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        scores = np.array(self.scores, dtype=np.float64)
        if scores.shape != (len(self.sequences),) or len(self.rows) != len(self.sequences):
            lengths = f"{len(self.sequences)} sequences, scores of shape {scores.shape} and {len(self.rows)} rows"
            raise ValueError(f"a table needs one score and one row number for each sequence, got {lengths}")
        scores.setflags(write=False)
        object.__setattr__(self, "scores", scores)

    def __len__(self) -> int:
        return len(self.sequences)

    @property
    def sha256(self) -> str:
        """Return the SHA-256 of the sequences and scores, however and in whatever order the file writes them."""
        digest = hashlib.sha256()
        for sequence, score in sorted(zip(self.sequences, self.scores.tolist(), strict=True)):
            digest.update(f"{sequence}\0{score!r}\n".encode("utf-8", "surrogateescape"))
        return digest.hexdigest()


@dataclass(frozen=True)
class Rejected:
    """One row kept out of the table: its line number, why, and its cells as they stand in the file."""

    row: int
    reason: str
    fields: tuple[str, ...]


@dataclass(frozen=True, eq=False)
class Check:
    """All that `check_table` found.

    `asked` is the space as given, `space` the one with its lengths taken from the good rows where they were not given
    (None without a good row), `layout` the columns (None where the file could not be read as a table). Every row that
    is not blank is counted once: `num_rows == len(table) + num_rejected + num_duplicates`.
    """

    path: str
    sha256: str | None
    asked: Space | OpenSpace
    space: Space | None
    layout: Layout | None
    settings: AbstractTableSettings
    table: Table
    findings: tuple[Finding, ...]
    num_rows: int
    num_duplicates: int
    num_blank: int
    rejected: tuple[Rejected, ...] = field(repr=False)

    @property
    def num_rejected(self) -> int:
        """Count the rows kept out of the table by an error."""
        return len(self.rejected)

    @property
    def errors(self) -> tuple[Finding, ...]:
        """Return the findings that make the table refused."""
        return tuple(finding for finding in self.findings if finding.severity == "error")

    @property
    def warnings(self) -> tuple[Finding, ...]:
        """Return the findings that leave the table usable."""
        return tuple(finding for finding in self.findings if finding.severity == "warning")

    @property
    def is_unreadable(self) -> bool:
        """Return whether the file as a whole is at fault, so that leaving out rows would not help."""
        return bool(self.errors) and not self.rejected

    def summary(self) -> str:
        """Describe the table in plain lines: columns, counts, lengths, scores, letters, findings by kind."""
        lines = [("table", self.table.path)]
        if self.layout is not None:
            lines += _describe_columns(self.layout, self.settings.score_sense)
        lines += [("space", _describe_space(self.asked, self.space)), ("rows", f"{self.num_rows:,}")]
        lines += [("  good", f"{len(self.table):,}"), ("  rejected", f"{self.num_rejected:,}")]
        lines += [("  duplicates", f"{self.num_duplicates:,} (same sequence, same score: kept once)")]
        lines += [("blank lines", f"{self.num_blank:,} (not counted as rows)")] if self.num_blank else []
        if len(self.table):
            lines += _describe_classes(self.table) if self.table.classes else _describe_scores(self.table)
            lines += _describe_letters(self.table, self.asked.alphabet) if self.asked.alphabet else []
        for (severity, kind), number in self._tally().items():
            lines.append((f"{severity}s", f"{kind} {number:,}"))
        return "\n".join(f"{name:<16}{value}" for name, value in lines)

    def list_findings(self) -> str:
        """Write the first findings of each kind, one line each, in the order of the file, and how many more there are."""
        return "\n".join(list_first(self.findings))

    def to_dict(self) -> dict[str, Any]:
        """Return everything but the rows themselves as JSON values."""
        table, layout, space = self.table, self.layout, self.space
        columns = None
        if layout is not None:
            names = {"sequence": layout.header[layout.sequence], "score": layout.header[layout.score]}
            columns = {**names, "all": list(layout.header), "delimiter": layout.delimiter}
        return {
            "path": self.table.path,
            "sha256": self.sha256,
            "space": {
                "name": self.asked.name,
                "alphabet": self.asked.alphabet,
                "min_length": None if space is None else space.min_length,
                "max_length": None if space is None else space.max_length,
                "lengths_from_data": isinstance(self.asked, OpenSpace),
            },
            "columns": columns,
            "score_sense": self.settings.score_sense,
            "num_rows": self.num_rows,
            "num_good": len(table),
            "num_rejected": self.num_rejected,
            "num_duplicates": self.num_duplicates,
            "num_blank": self.num_blank,
            "lengths": {str(length): number for length, number in sorted(Counter(map(len, table.sequences)).items())},
            "score_quantiles": {} if table.classes else score_quantiles(table.scores),
            "classes": class_counts(table),
            "letters": letter_shares(table, self.asked.alphabet),
            "findings": [asdict(finding) for finding in self.findings],
        }

    def _tally(self) -> dict[tuple[str, str], int]:
        return dict(Counter((finding.severity, finding.kind) for finding in self.findings).most_common())


def score_quantiles(scores: np.ndarray) -> dict[str, float]:
    """Return min, 5 %, 25 %, median, 75 %, 95 % and max of `scores`; nothing for no score."""
    if not scores.size:
        return {}
    # Halved and doubled, which is exact: the distance of two finite scores may overflow, that of their halves does not.
    values = 2 * np.quantile(scores / 2, _QUANTILES)
    return {name: float(value) for name, value in zip(_QUANTILE_NAMES, values, strict=True)}


def class_counts(table: Table) -> dict[str, int]:
    """Return how many rows each class has; nothing for a table of scores."""
    numbers = np.bincount(table.scores.astype(np.int64), minlength=len(table.classes)) if table.classes else ()
    return {name: int(number) for name, number in zip(table.classes, numbers, strict=True)}


def letter_shares(table: Table, alphabet: str) -> dict[str, float]:
    """Return the share of each letter among all letters of the table; zeros for no letter."""
    letters = "".join(table.sequences)
    return {letter: letters.count(letter) / max(len(letters), 1) for letter in alphabet}


def _describe_columns(layout: Layout, sense: ScoreSense) -> list[tuple[str, str]]:
    turned = " (higher is better)" if sense == "higher" else " (lower is better: kept with its sign turned)"
    return [
        ("sequences in", f"column {quote(layout.header[layout.sequence])} (#{layout.sequence + 1})"),
        ("scores in", f"column {quote(layout.header[layout.score])} (#{layout.score + 1}){turned}"),
        ("separator", DELIMITERS[layout.delimiter]),
    ]


def _describe_space(asked: Space | OpenSpace, space: Space | None) -> str:
    lengths = asked.lengths if space is None else space.lengths
    source = ", taken from the data" if isinstance(asked, OpenSpace) else ""
    letters = f"letters {printable(asked.alphabet)}" if asked.alphabet else "any letters"
    return f"{printable(asked.name)}: {letters}, length {lengths}{source}"


def _describe_scores(table: Table) -> list[tuple[str, str]]:
    quantiles = score_quantiles(table.scores)
    best = int(table.scores.argmax())
    sequence = table.sequences[best]
    return [
        _describe_lengths(table),
        ("scores", "  ".join(f"{name} {value:.4g}" for name, value in quantiles.items())),
        ("best", f"{quote(sequence) if ' ' in sequence else printable(sequence, 1000)} (row {table.rows[best]})"),
    ]


def _describe_classes(table: Table) -> list[tuple[str, str]]:
    counts = [f"{printable(name)} {number:,}" for name, number in class_counts(table).items()]
    return [_describe_lengths(table), ("classes", _first_of(counts))]


def _describe_lengths(table: Table) -> tuple[str, str]:
    lengths = np.array(list(map(len, table.sequences)))
    return "lengths", f"{lengths.min()} to {lengths.max()} (mean {lengths.mean():.1f})"


def _describe_letters(table: Table, alphabet: str) -> list[tuple[str, str]]:
    shares = [f"{letter} {100 * share:.1f}%" for letter, share in letter_shares(table, alphabet).items()]
    return [("letters", _first_of(shares))]


def _first_of(parts: Sequence[str]) -> str:
    more = [f"and {len(parts) - _SHOWN:,} more"] if len(parts) > _SHOWN else []
    return "  ".join([*parts[:_SHOWN], *more])
