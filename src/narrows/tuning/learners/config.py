"""The configuration of learners."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import isfinite
from numbers import Integral
from typing import ClassVar, Literal, get_args

from narrows.tuning.config import TuningConfig, check_choice

Role = Literal["q", "k", "v", "o", "up", "down"]
Init = Literal["uniform", "swapped", "gaussian", "nonzero"]
LearnerMode = Literal["plain", "lean"]


@dataclass(frozen=True, kw_only=True)
class LearnerConfig(TuningConfig):
    """Settings of learners: where they stand, how they start, and what else is trained in which phase.

    The head is always trained in full. Weights of feed-forwards and word embeddings are frozen in both phases.

    Attributes, beside those of `TuningConfig`:
        r: dimension of the learners.
        rank_pattern: other dimensions, by name of the linear; a key is a regular expression for the end of the name.
        target_roles: which linears of a block get one. One linear that is query, key and value at once gets one learner of
            three times the width, and wants all three roles; the gated linear of a feed-forward gets one of twice the width.
        target_modules: instead of roles: ends of names, a regular expression for whole names, or `all-linear` for every
            linear of every block, those for relative positions too.
        exclude_modules: ends of names that get none.
        layers_to_transform: numbers of the blocks whose linears get one; None for all.
        priming_epochs: how many epochs train what `priming_trains` says beside the learners. Published are 0 and 2.
        priming_steps: number of priming steps, instead of epochs.
        priming_trains: weights that are trained in priming and then frozen: those of attention, none, or ends of names of
            modules or parameters.
        train_biases: train the biases of all linears, with or without a learner.
        train_norms: train all norms, that of the embeddings too.
        init: `uniform`, P1 from +-1/sqrt(in) and P2 zero; `swapped`, the other way round; `gaussian`, P1 with deviation 0.02
            and P2 zero; `nonzero`, both random, which changes what the model computes and is for tests.
        scale: factor of the learner's path; the paper has none.
        dropout: probability on the input of the learner's path.
        train_down_projection: train P1 after priming; False freezes it there, so that inputs need not be kept.
        memory_mode: `lean` computes the activation again in the backward pass instead of keeping what follows it.
        seed: of the initial values.
    """

    method: ClassVar[str] = "learner"
    small_adapter: ClassVar[str] = "Only priming_epochs=0, or priming_trains='none', gives a file of the learners alone."

    r: int = 64
    rank_pattern: Mapping[str, int] | None = None
    target_roles: Sequence[Role] = ("q", "k", "v", "o", "up", "down")
    target_modules: Sequence[str] | str | None = None
    exclude_modules: Sequence[str] = ()
    layers_to_transform: Sequence[int] | None = None
    priming_epochs: float = 2.0
    priming_steps: int | None = None
    priming_trains: Literal["attention", "none"] | Sequence[str] = "attention"
    train_biases: bool = True
    train_norms: bool = True
    init: Init = "uniform"
    scale: float = 1.0
    dropout: float = 0.0
    train_down_projection: bool = True
    memory_mode: LearnerMode = "plain"
    seed: int = 0

    def __post_init__(self) -> None:
        for key, rank in {"r": self.r, **(self.rank_pattern or {})}.items():
            if not isinstance(rank, Integral) or rank < 1:
                raise ValueError(f"the dimension of a learner is a whole number, at least 1, got {rank} for {key!r}.")
        if self.scale == 0 or not isfinite(self.scale):
            raise ValueError(f"scale must be finite and not 0, which would train no learner, got {self.scale}.")
        check_choice("init", self.init, get_args(Init))
        check_choice("memory_mode", self.memory_mode, get_args(LearnerMode))
        for role in self.target_roles:
            check_choice("target_roles", role, get_args(Role))
        if isinstance(self.priming_trains, str):
            check_choice("priming_trains", self.priming_trains, ("attention", "none"))
        if self.priming_epochs < 0 or (self.priming_steps is not None and self.priming_steps < 0):
            raise ValueError(
                f"priming_epochs and priming_steps must not be negative, got {self.priming_epochs} and {self.priming_steps}."
            )
        if not 0.0 <= self.dropout < 1.0:
            raise ValueError(f"dropout is a probability below 1, got {self.dropout}.")
        if self.dropout > 0 and self.memory_mode == "lean":
            raise ValueError(
                "memory_mode='lean' computes what a learner got again, and dropout would draw another mask then. "
                "Take dropout=0, or memory_mode='plain'."
            )
        if not self.train_down_projection and self.init == "swapped" and not self.has_priming:
            raise ValueError(
                "init='swapped' starts P1 at zero, and train_down_projection=False without priming leaves it there, so nothing "
                "would be learned. Take init='uniform'."
            )

    @property
    def has_priming(self) -> bool:
        """Whether the run begins with a priming phase."""
        return self.priming_epochs > 0 if self.priming_steps is None else self.priming_steps > 0

    def is_primed(self, step: int, epoch: float) -> bool:
        """Whether priming is over after so many steps, or, where no number of them was given, so many epochs."""
        if self.priming_steps is not None:
            return step >= self.priming_steps
        return epoch >= self.priming_epochs - 1e-6
