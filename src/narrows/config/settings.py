"""The sections of a job that have no name: records whose `Args` explain every field."""

from dataclasses import dataclass
from typing import Final, Literal

from narrows.config.schema import JobError
from narrows.data.settings import AbstractTableSettings
from narrows.selection.rankings import RankingName
from narrows.sizes import Count

AUTO: Final = "auto"
"""What a field says that a run finds when it begins."""


@dataclass(frozen=True, kw_only=True)
class DataSettings(AbstractTableSettings):
    """The table of measurements that a proxy learns from and that novelty is measured against.

    Args:
        path: CSV file, which may be packed with gzip, or Excel workbook (with the extra `excel`); relative to the job file.
        space: `rna`, `dna`, `protein` or the letters of an alphabet.
    """

    path: str
    space: str


@dataclass(frozen=True)
class NearSettings:
    """The price of being far from the measurements of `[data]`.

    Args:
        penalty: taken off the score for each edit to the nearest measured sequence, on the scale of the scores.
        limit: edits beyond which nothing is wanted; there the score falls below all measured ones. `auto` is the
            distance up to which the fit of the proxy found it to be better than the mean; a run writes into its job what that
            is. Distances from thousands of long sequences take most of the time of a training.
    """

    penalty: float = 0.0
    limit: int | Literal["auto"] | None = None

    def __post_init__(self) -> None:
        if not 0.0 <= self.penalty < float("inf"):
            raise ValueError(f"penalty must be at least 0 and finite, got {self.penalty}.")
        if isinstance(self.limit, int) and self.limit < 0:
            raise ValueError(f"limit must be at least 0 edits, got {self.limit}.")

    @property
    def edits(self) -> int | None:
        """The limit, once it is known; JobError before."""
        if isinstance(self.limit, str):
            raise JobError(f'[near] limit is "{self.limit}", which a run finds when it begins. Give a number of edits.')
        return self.limit


@dataclass(frozen=True)
class TrainSettings:
    """The length of training, and its portions.

    Args:
        num_steps: training steps in all; by default 2,000. With 0 nothing is trained, and a list is chosen from what
            plain searches of the proxy find: of all objects, where they can be listed. That is the default of a job with [data]
            of at most 2^20 objects and without a section about training.
        patience: steps after which training ends where the mean score of the best `k` objects seen that are `min_distance`
            apart, as in [shortlist], has risen by no more than 1 % of its rise so far. By default none, so that training ends
            with `num_steps`; 150 in a job with [data] and its proxy that says neither `num_steps`, which is then the most, nor
            [reward] beta, nor an objective.
        batch_size: fresh trajectories a step.
        every: steps between two looks (metrics, archive, progress); one compiled chunk.
        checkpoint_every: steps between two checkpoints, rounded up to a multiple of `every`.
        epochs: times that each batch is gone through; as the objective says by default, which is once for all but
            `ProximalPolicy` and `LaggedGeneralMellowmax`. More make more of each call of a score that is dear, at the cost of
            training time.
        minibatches: parts in which it is gone through, one step of the optimiser each; as the objective says by default.
        given_per_step: measured objects to train on in each step beside the sampled ones, by backward sampling; 0 for none. By
            default 0, and 16 where there is a patience by default.
        max_set_aside: non-finite rewards and skipped steps after which the run stops with an error.
    """

    num_steps: Count = 2000
    patience: Count | None = None
    batch_size: int = 64
    every: Count = 50
    checkpoint_every: Count = 500
    epochs: Count | None = None
    minibatches: int | None = None
    given_per_step: int = 0
    max_set_aside: Count = 1000

    def __post_init__(self) -> None:
        for name in ("batch_size", "every", "checkpoint_every"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, got {getattr(self, name)}.")
        for name in ("epochs", "minibatches"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ValueError(f"{name} must be at least 1, got {value}. Leave it out for what the objective does.")
        if self.patience is not None and self.patience < 1:
            raise ValueError(f"patience must be at least 1 step, got {self.patience}. Say num_steps alone to have none.")
        for name in ("num_steps", "given_per_step", "max_set_aside"):
            if getattr(self, name) < 0:
                raise ValueError(f"{name} must be at least 0, got {getattr(self, name)}.")


@dataclass(frozen=True)
class ShortlistSettings:
    """The selection of `narrows shortlist` unless told otherwise.

    Args:
        k: rows to select.
        min_distance: smallest distance between two rows: edits for sequences. In a job with [data] by default 15 % of the
            median measured length, rounded, and at least 2 (1 below 4 letters).
        kappa: the lower bound is the score minus `kappa` times its standard deviation; 0.5 by default where the lower bound is
            what ranks by default.
        by: what ranks the candidates: their own score by its `mean` or its `lower_bound`, how likely the trained `sampler`
            itself is to make them, a draw of the score for each row (`thompson`), the mean score over all substitutions of a
            letter (`neighbourhood`), or under noise the score `expected` of what comes out. By default `expected` where that
            can be known, `lower_bound` for the fitted proxy of a job's [data] whose temperature is found, and else `mean`.
        both_strands: an object and its reverse complement are one: DNA and RNA in two strands. Distances count for the nearer
            strand, the other strand of what is measured is measured, and `neighbourhood` takes the mean over both.
    """

    k: int = 24
    min_distance: int = 4
    kappa: float = 1.0
    by: RankingName | None = None
    both_strands: bool = False

    def __post_init__(self) -> None:
        if self.k < 1 or self.min_distance < 0:
            raise ValueError(f"expected k >= 1 and min_distance >= 0, got {self.k} and {self.min_distance}.")
        if not 0.0 <= self.kappa < float("inf"):
            raise ValueError(f"kappa must be at least 0 and finite, got {self.kappa}.")


@dataclass(frozen=True)
class RewardSettings:
    """What every reward has beside its own fields.

    Args:
        beta: inverse temperature, in units of one over the score's: the log-reward is `beta` times the score, so that an object
            is made `e` times as often as one whose score is `1 / beta` lower. Higher is greedier. `auto`, the default for a
            fitted proxy of the job's [data], finds the one at which a sampler spreads over about 100 objects for each row of
            the shortlist; a run writes into its job what was found.
    """

    beta: float | Literal["auto"] = 1.0


@dataclass(frozen=True)
class ScoreSettings:
    """The function given on the command line as `--score FILE.py:FUNCTION`.

    Args:
        kappa: standard deviations to take off the mean, >= 0, where the function returns means and standard deviations.
    """

    kappa: float = 0.0

    def __post_init__(self) -> None:
        if not 0.0 <= self.kappa < float("inf"):
            raise ValueError(f"kappa must be at least 0 and finite, got {self.kappa}.")


@dataclass(frozen=True)
class PolicySettings:
    """What every policy has beside its own fields.

    Args:
        learned_backward: learn which way each object was made, instead of taking every way as equally likely; without effect
            where there is one way only, as for sequences.
    """

    learned_backward: bool = False
