"""What a run does: which rows of which tables were measured, and how often they are drawn anew."""

from typing import NamedTuple

K = 24
"""Rows of a list, the job's own default."""
ASKED = 30
"""Rows that every list has at first: of GB1 a few cannot be looked up, and the next ones take their places."""
POOL = "mic"
"""The table whose lists are chosen among what was measured and held back."""


class Setting(NamedTuple):
    """What was measured."""

    table: str  # gb1, SIX6, VSX1, rna or mic
    num_rows: int
    is_worst: bool = False  # drawn from the worst 60 % of the table instead of from all of it
    factor: float = 1.0  # that scores are multiplied by before they are written down
    offset: float = 0.0  # added to them then

    def __str__(self) -> str:
        title = {"gb1": "GB1", "rna": "RNA", POOL: "E. coli MIC"}.get(self.table, self.table)
        scale = f", scores times {self.factor:g}" if self.factor != 1.0 else ""
        scale += f", scores plus {self.offset:,g}" if self.offset != 0.0 else ""
        return f"{title}, {self.num_rows:,} rows {'of the worst 60 %' if self.is_worst else 'at random'}{scale}"

    @property
    def unscaled(self) -> "Setting":
        """The same rows with their scores as they are."""
        return self._replace(factor=1.0, offset=0.0)


class Plan(NamedTuple):
    """Settings with the seeds of their draws, in the order in which they are measured."""

    draws: tuple[tuple[Setting, int], ...]

    @classmethod
    def of(cls, *parts: tuple[Setting, range]) -> "Plan":
        """Return the plan of settings, each with its seeds; a draw that is named twice is measured once."""
        return cls(tuple(dict.fromkeys((setting, seed) for setting, seeds in parts for seed in seeds)))

    @property
    def settings(self) -> tuple[Setting, ...]:
        return tuple(dict.fromkeys(setting for setting, _ in self.draws))


NUM_DRAWS = 10
MAIN = Setting("gb1", 480)
SCALED = tuple(MAIN._replace(factor=factor, offset=offset) for factor, offset in ((0.01, 0.0), (100.0, 0.0), (1.0, 1000.0)))
"""Where nothing may change."""
_DRAWN = (
    MAIN,
    *(Setting(factor, 200) for factor in ("SIX6", "VSX1")),
    Setting("rna", 300),
    Setting("gb1", 96),
    Setting(POOL, 1000),
    *(Setting(table, 1000, is_worst=True) for table in ("gb1", "SIX6", "VSX1")),
    *(Setting(table, 1000) for table in ("gb1", "SIX6", "VSX1")),
)
FULL = Plan.of(
    *((setting, range(seed, seed + 1)) for seed in range(NUM_DRAWS) for setting in _DRAWN),
    *((setting, range(3)) for setting in SCALED),
)
"""A draw of everything before the next, so that a run that is stopped has something to tell of each."""
QUICK = Plan.of((MAIN, range(3)), (Setting("SIX6", 200), range(3)), (Setting("rna", 300), range(3)))
