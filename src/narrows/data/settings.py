"""How a table is read: one record for the commands' options and for a job's `[data]`."""

from dataclasses import dataclass
from typing import Literal, get_args, get_type_hints

ScoreSense = Literal["higher", "lower"]
ScoreTransform = Literal["none", "log10", "-log10", "logit", "rank"]
Replicates = Literal["mean", "median", "best", "refuse"]
Censored = Literal["bound", "value", "drop"]
Case = Literal["upper", "refuse", "keep"]
OnInvalid = Literal["refuse", "skip"]


@dataclass(frozen=True, kw_only=True)
class AbstractTableSettings:
    """How a table is read.

    Args:
        sequence_column: name of the column of sequences, or its position such as '#1'; found by its usual names if not given.
        score_column: name of the column of scores, or its position; found by its usual names if not given.
        score_sense: whether a higher or a lower score is better; lower changes the sign of every score.
        score_transform: what is done to every score before its sense counts: log10, -log10 (which makes small scores, such as
            concentrations, the best ones: leave score_sense alone then), logit (of shares between 0 and 1) or rank (the share
            of measurements below it). A score that has none, such as the logarithm of 0, is an error of its row.
        replicates: how rows of one sequence with different scores are joined: by their mean, their median, the best of them, or
            not at all, which refuses them.
        censored: what a cell such as '>128' or '<= 0.5' is: a bound of the score, the number as if it had been measured, or a
            row to drop.
        inactive: words in the column of scores, such as n.d. or inactive, that stand for a bound at the worst number of the
            column; upper and lower case are the same.
        case: what lower-case letters are that the space has in upper case alone: upper case, refused, or letters of their own,
            which are kept. In tables of peptides they often stand for D-amino acids.
        parent: the sequence that mutations such as V39C:D40L, p.Val39Cys or WT are about, or a FASTA file that holds it alone.
        parent_start: the number of the parent's first letter.
        on_invalid: refuse a table with bad rows, or skip them, going on with the rest and writing rejected.csv.
    """

    sequence_column: str | None = None
    score_column: str | None = None
    score_sense: ScoreSense = "higher"
    score_transform: ScoreTransform = "none"
    replicates: Replicates = "mean"
    censored: Censored = "bound"
    inactive: tuple[str, ...] = ()
    case: Case = "upper"
    parent: str | None = None
    parent_start: int = 1
    on_invalid: OnInvalid = "refuse"

    def __post_init__(self) -> None:
        for name, hint in get_type_hints(AbstractTableSettings).items():
            known, came = get_args(hint), getattr(self, name)
            if known and isinstance(known[0], str) and came not in known:
                raise ValueError(f"{name} must be {' or '.join(map(repr, known))}, got {came!r}")

    @property
    def is_lower_better(self) -> bool:
        """Whether a smaller number in the file is a better one."""
        return (self.score_sense == "lower") != (self.score_transform == "-log10")


@dataclass(frozen=True, kw_only=True)
class TableSettings(AbstractTableSettings):
    """Settings of how a table is read."""


USUAL = TableSettings()
