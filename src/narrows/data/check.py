"""The outcome of a check of a table: the good rows, the rows set aside, and every reason."""

import hashlib
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from narrows.data.findings import Finding, Rejected, count, list_first, sum_up
from narrows.data.layout import Layout
from narrows.data.settings import USUAL, AbstractTableSettings
from narrows.data.spaces import TEXT, OpenSpace, Space
from narrows.data.spaces import space as named_space
from narrows.data.text import DELIMITERS
from narrows.printing import printable, quote

if TYPE_CHECKING:
    from narwhals.typing import IntoDataFrame

_SHOWN = 50
"""Classes, and letters, that a summary lists."""
_QUANTILES = (0.0, 0.05, 0.25, 0.5, 0.75, 0.95, 1.0)
_QUANTILE_NAMES = ("min", "5%", "25%", "median", "75%", "95%", "max")


@dataclass(frozen=True, eq=False)
class Table:
    """Scored sequences, each once. The arrays are copied and read-only.

    Args:
        path: where they were read from, in words.
        sequences: the sequences.
        scores: their scores, higher is better, float64 `[n]`; of a table of classes their places in `classes`.
        rows: line numbers, the header being on line 1; the first one of several that were joined.
        classes: the names of the classes, of a table that has classes in place of scores.
        counts: measurements that were joined into each row, int64 `[n]`; one each unless given.
        bounds: 0 where the score is a value, -1 where the true score is at most it and 1 where it is at least it, int8 `[n]`;
            values all unless given.
        measurement_std: the standard deviation of a single measurement on the scale of `scores`, pooled over replicates; None
            where nothing was measured twice.
    """

    path: str
    sequences: tuple[str, ...]
    scores: np.ndarray
    rows: tuple[int, ...]
    classes: tuple[str, ...] = ()
    counts: np.ndarray = field(default_factory=lambda: np.zeros(0))
    bounds: np.ndarray = field(default_factory=lambda: np.zeros(0))
    measurement_std: float | None = None

    def __post_init__(self) -> None:
        num = len(self.sequences)
        arrays = {
            "scores": np.array(self.scores, np.float64),
            "counts": np.array(self.counts, np.int64) if np.size(self.counts) else np.ones(num, np.int64),
            "bounds": np.array(self.bounds, np.int8) if np.size(self.bounds) else np.zeros(num, np.int8),
        }
        shapes = {name: array.shape for name, array in arrays.items()}
        if {*shapes.values()} != {(num,)} or len(self.rows) != num:
            lengths = (
                f"{num} sequences, {', '.join(f'{name} {shape}' for name, shape in shapes.items())}, {len(self.rows)} rows"
            )
            raise ValueError(f"a table needs one score and one row number for each sequence, got {lengths}")
        for name, array in arrays.items():
            array.setflags(write=False)
            object.__setattr__(self, name, array)

    def __len__(self) -> int:
        return len(self.sequences)

    @staticmethod
    def of(
        source: "Sequence[str] | np.ndarray | Mapping[str, Iterable[Any]] | IntoDataFrame",
        scores: Iterable[Any] | None = None,
        *,
        space: Space | OpenSpace | None = None,
        settings: AbstractTableSettings = USUAL,
    ) -> "Table":
        """Return the table of sequences and scores, or of a dictionary or frame with columns of both, checked like a file.

        Args:
            source: the sequences, or columns as `check_table` takes them.
            scores: a score for each sequence; left out where the source has them.
            space: what the sequences are made of; any text by default.
            settings: how the columns are read.

        Raises DataError naming what cannot be used, by its row: the first one is 2, as in a file with a header.

        >>> Table.of(["ACGU", "ACGA", "ACGU"], [1.0, 2.0, 4.0]).scores.tolist()
        [2.5, 2.0]
        """
        from narrows.data.table import read_table  # which makes tables

        columns: Any = source if scores is None else {"sequence": source, "score": scores}
        return read_table(columns, named_space(TEXT) if space is None else space, settings)

    @property
    def sha256(self) -> str:
        """Return the SHA-256 of what a fit reads, however and in whatever order the file writes it."""
        digest = hashlib.sha256()
        columns = zip(self.sequences, self.scores.tolist(), self.counts.tolist(), self.bounds.tolist(), strict=True)
        for sequence, score, number, bound in sorted(columns):
            # Single values have the hash that they had before there were others.
            more = f"\0{number}\0{bound}" if number > 1 or bound else ""
            digest.update(f"{sequence}\0{score!r}{more}\n".encode("utf-8", "surrogateescape"))
        return digest.hexdigest()


@dataclass(frozen=True, eq=False)
class Check:
    """All that `check_table` found.

    `path` is None for a table that was no file. `asked` is the space as given, `space` the one with its lengths taken from the
    good rows where they were not given (None without a good row), `layout` the columns (None where the file could not be read
    as a table). Every row that is not blank is counted once:
    `num_rows == table.counts.sum() + num_rejected + num_duplicates`.
    """

    path: str | None
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
            lines += _describe_columns(self.layout, self.settings)
        lines += [("space", _describe_space(self.asked, self.space)), ("rows", self.account())]
        lines += [("  rejected", told) for told in sum_up(self.rejected).values()]
        lines += [("blank lines", f"{self.num_blank:,} (not counted as rows)")] if self.num_blank else []
        if len(self.table):
            lines += _describe_classes(self.table) if self.table.classes else _describe_scores(self.table, self.settings)
            lines += _describe_letters(self.table, self.asked.alphabet) if self.asked.alphabet else []
        for (severity, kind), number in self._tally().items():
            lines.append((f"{severity}s", f"{kind} {number:,}"))
        return "\n".join(f"{name:<16}{value}" for name, value in lines)

    def account(self) -> str:
        """Say what became of the rows: how many there are, are kept as they are, were joined, repeat others, are rejected."""
        counts = self.table.counts
        num_joined = int(counts[counts > 1].sum())
        parts = [f"{int((counts == 1).sum()):,} kept"]
        parts += [f"{num_joined:,} replicates joined into {int((counts > 1).sum()):,}"] if num_joined else []
        parts += [f"{count(self.num_duplicates, 'duplicate')} left out"] if self.num_duplicates else []
        parts += [f"{self.num_rejected:,} rejected"] if self.num_rejected else []
        return f"{self.num_rows:,}: {', '.join(parts)}"

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
            "score_transform": self.settings.score_transform,
            "num_rows": self.num_rows,
            "num_good": len(table),
            "num_rejected": self.num_rejected,
            "num_duplicates": self.num_duplicates,
            "num_joined": int(table.counts[table.counts > 1].sum()),
            "num_joined_into": int((table.counts > 1).sum()),
            "num_bounds": int((table.bounds != 0).sum()),
            "measurement_std": table.measurement_std,
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


def _describe_columns(layout: Layout, settings: AbstractTableSettings) -> list[tuple[str, str]]:
    turned = "higher is better" if settings.score_sense == "higher" else "lower is better: kept with its sign turned"
    taken = "" if settings.score_transform == "none" else f"{settings.score_transform} taken, of which "
    turned = f" ({taken}{turned})"
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


def _describe_scores(table: Table, settings: AbstractTableSettings) -> list[tuple[str, str]]:
    quantiles = score_quantiles(table.scores)
    best = int(table.scores.argmax())
    sequence = table.sequences[best]
    return [
        _describe_lengths(table),
        ("scores", "  ".join(f"{name} {value:.4g}" for name, value in quantiles.items())),
        ("best", f"{quote(sequence) if ' ' in sequence else printable(sequence, 1000)} (row {table.rows[best]})"),
        *_describe_measurement(table, settings),
    ]


def _describe_measurement(table: Table, settings: AbstractTableSettings) -> list[tuple[str, str]]:
    lines: list[tuple[str, str]] = []
    if table.bounds.any():
        most, least = int((table.bounds < 0).sum()), int((table.bounds > 0).sum())
        lines.append(("bounds", f"at most the score in {count(most, 'row')}, at least the score in {least:,}"))
    if table.measurement_std is not None:
        spread = float(table.scores.std())
        share = 100 * min((table.measurement_std / spread) ** 2, 1) if spread else 100
        message = f"standard deviation {table.measurement_std:.3g} between replicates: no model explains that"
        lines.append(("measurement", f"{message}, {share:.0f} % of the variance of scores"))
    return lines


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
