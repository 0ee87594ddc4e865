"""How a table is read: one record for the commands' options and for a job's `[data]`."""

from dataclasses import dataclass
from typing import Literal, get_args, get_type_hints

ScoreSense = Literal["higher", "lower"]
OnInvalid = Literal["refuse", "skip"]


@dataclass(frozen=True, kw_only=True)
class AbstractTableSettings:
    """How a table is read.

    Args:
        sequence_column: name of the column of sequences, or its position such as '#1'; found by its usual names if not given.
        score_column: name of the column of scores, or its position; found by its usual names if not given.
        score_sense: whether a higher or a lower score is better; lower changes the sign of every score.
        on_invalid: refuse a table with bad rows, or skip them, going on with the rest and writing rejected.csv.
    """

    sequence_column: str | None = None
    score_column: str | None = None
    score_sense: ScoreSense = "higher"
    on_invalid: OnInvalid = "refuse"

    def __post_init__(self) -> None:
        for name, hint in get_type_hints(AbstractTableSettings).items():
            known, came = get_args(hint), getattr(self, name)
            if known and isinstance(known[0], str) and came not in known:
                raise ValueError(f"{name} must be {' or '.join(map(repr, known))}, got {came!r}")


@dataclass(frozen=True, kw_only=True)
class TableSettings(AbstractTableSettings):
    """Settings of how a table is read."""


USUAL = TableSettings()
