"""The configuration of Freeze-And-Reconfigure and its presets."""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar, Final, Literal, Self, TypeVar, get_args

from torch import Tensor

from narrows.tuning.config import GradientBound, TuningConfig, check_choice
from narrows.tuning.far.functions import CODED, FEW_BITS, MemoryMode

Score = Literal["l1_delta", "grad_l1", "grad_abs_sum", "random", "callable"]
ScoreFunction = Callable[[str, Tensor, Tensor], Tensor]
"""From the name of a feed-forward, its node vectors before and after priming, `(F, numbers a node)`, to a score, `(F,)`."""

ScorePart = Literal["in", "bias", "out"]
Scope = Literal["layer", "global"]
AfterPriming = Literal["keep", "rollback_frozen", "restart"]
PrimingOptimizer = Literal["none", "sgd", "adamw"]

T = TypeVar("T")

_MOVING: Final = ("l1_delta", "callable")


@dataclass(frozen=True, kw_only=True)
class FarConfig(TuningConfig):
    """Settings of Freeze-And-Reconfigure: what is trained, how it is chosen, and what is kept for the backward pass.

    Attributes, beside those of `TuningConfig`:
        retention: share of the nodes of each feed-forward that go on learning, or a share for each block by its number.
        priming_ratio: share of all steps that are priming; needs the number of all steps.
        priming_steps: number of priming steps, instead of a share.
        score: how nodes are ranked: `l1_delta`, how far their weights moved (the paper's, noise under Adam); `grad_l1`, the
            norm of the sum of their gradients, which is what moves under SGD; `grad_abs_sum`, the sum of the norms, F numbers
            a feed-forward; `random`; or a `ScoreFunction`.
        score_parts: which numbers of a node count: incoming weights, bias, outgoing weights.
        score_dtype: of the running sums of `grad_l1`: `float32` or `bfloat16`.
        scope: rank within each feed-forward, or across all of them at the same total.
        priming_optimizer: how `prime` moves weights; `none` moves nothing and holds no optimiser state.
        priming_learning_rate: of it; None for 0.05 with `sgd` and 5e-5 with `adamw`.
        after_priming: `keep` what priming changed; `rollback_frozen`, so that what is frozen has its pre-trained values and an
            adapter stays small; or `restart`, so that only the choice survives.
        indices: nodes chosen elsewhere, by the name of the widening linear, instead of priming.
        train_embeddings, train_attention, train_norms, train_output_bias: what else is trained. The head always is.
        memory_mode: what a feed-forward keeps for its backward pass, or a mode for each block by its number. `tier1` leaves
            the model's activation alone; `keep`, `lean` and `recompute` keep less and less and are exact; `u8` and `bf16` hold
            the activation's derivative in fewer bits, so that an entry of a whole model's gradient is off by at most 5 % of
            its tensor's largest, or 0.1 % of the model's where that is more (`gradient_bound`); outputs are exact.
        layers_to_transform: numbers of the blocks that have learners; the other feed-forwards are frozen whole.
        frozen_blocks: how many blocks from the input are frozen whole, so that nothing is kept and nothing goes back there.
            Embeddings must be frozen too.
        thrifty_dropout: keep one byte a number for dropout instead of a number.
        seed: of random choices, and of the order of nothing else.
    """

    method: ClassVar[str] = "far"
    small_adapter: ClassVar[str] = "after_priming='rollback_frozen' instead of after_priming='keep' keeps it small."

    retention: float | Mapping[int, float] = 0.1
    priming_ratio: float = 0.01
    priming_steps: int | None = None
    score: Score | ScoreFunction = "grad_l1"
    score_parts: Sequence[ScorePart] = ("in", "bias", "out")
    score_dtype: Literal["float32", "bfloat16"] = "float32"
    scope: Scope = "layer"
    priming_optimizer: PrimingOptimizer = "none"
    priming_learning_rate: float | None = None
    after_priming: AfterPriming = "rollback_frozen"
    indices: Mapping[str, Sequence[int]] | None = None
    train_embeddings: bool = True
    train_attention: bool = True
    train_norms: bool = True
    train_output_bias: bool = True
    memory_mode: MemoryMode | Mapping[int, MemoryMode] = "keep"
    layers_to_transform: Sequence[int] | None = None
    frozen_blocks: int = 0
    thrifty_dropout: bool = False
    seed: int = 0

    def __post_init__(self) -> None:
        for share in self.retention.values() if isinstance(self.retention, Mapping) else [self.retention]:
            if not 0.0 < share <= 1.0:
                raise ValueError(f"retention must be above 0 and at most 1, got {share}. FreezeFfnConfig trains no node.")
        if not 0.0 <= self.priming_ratio <= 1.0:
            raise ValueError(f"priming_ratio is a share of all steps, between 0 and 1, got {self.priming_ratio}.")
        if self.priming_steps is not None and self.priming_steps < 0:
            raise ValueError(f"priming_steps must not be negative, got {self.priming_steps}.")
        for mode in self._memory_modes():
            check_choice("memory_mode", mode, get_args(MemoryMode))
        if not callable(self.score):
            check_choice("score", self.score, get_args(Score))
        check_choice("scope", self.scope, get_args(Scope))
        check_choice("after_priming", self.after_priming, get_args(AfterPriming))
        check_choice("priming_optimizer", self.priming_optimizer, get_args(PrimingOptimizer))
        check_choice("score_dtype", self.score_dtype, ("float32", "bfloat16"))
        for part in self.score_parts:
            check_choice("score_parts", part, get_args(ScorePart))
        if self.frozen_blocks < 0 or (self.frozen_blocks > 0 and self.train_embeddings):
            raise ValueError(
                f"frozen_blocks must not be negative, and needs train_embeddings=False, got {self.frozen_blocks} with "
                f"train_embeddings={self.train_embeddings}. A gradient of the embeddings goes through every block."
            )
        if not self.score_parts:
            raise ValueError("score_parts is empty, so every node would score nothing; name some of in, bias, out.")
        if self.after_priming == "keep" and self.keep_base_copy and self.priming_optimizer != "none":
            raise ValueError(
                "keep_base_copy with after_priming='keep' would have to hold a second model, since priming moved all of it. "
                "Take after_priming='rollback_frozen', or keep_base_copy=False."
            )

    @property
    def gradient_bound(self) -> GradientBound | None:
        """The bound on the error of gradients of a whole model; None where every block's memory mode is exact."""
        return FEW_BITS if any(mode in CODED for mode in self._memory_modes()) else None

    @property
    def needs_movement(self) -> bool:
        """Whether the score looks at how far weights moved, so that priming needs an optimiser."""
        return callable(self.score) or self.score in _MOVING

    @classmethod
    def paper(cls, retention: float | Mapping[int, float] = 0.1) -> Self:
        """Return the published settings: everything is trained but the nonlearner nodes, ranked by movement under AdamW."""
        return cls(retention=retention, score="l1_delta", priming_optimizer="adamw")

    @classmethod
    def edge(cls, retention: float | Mapping[int, float] = 0.1) -> Self:
        """Return settings with frozen embeddings, the cheapest further gain there is, and no optimiser state in priming."""
        return cls(retention=retention, score="grad_l1", train_embeddings=False)

    @classmethod
    def frugal(cls, retention: float | Mapping[int, float] = 0.1, frozen_blocks: int = 2) -> Self:
        """Return `edge` with the lowest blocks frozen whole, where nothing is kept and no gradient goes; beyond the paper.

        Gradients are exact, and dropout keeps bytes. Two blocks are a third of DistilBERT; a deeper encoder can spare more.
        What it costs in accuracy is a question to the data, so compare with `edge` there.
        """
        return cls(
            retention=retention, score="grad_l1", train_embeddings=False, frozen_blocks=frozen_blocks, thrifty_dropout=True
        )

    def retention_of(self, block: int) -> float:
        """Return the share of learners of a block; ValueError where a mapping does not name it."""
        return _of_block(self.retention, block, "retention")

    def memory_mode_of(self, block: int) -> MemoryMode:
        """Return the memory mode of a block; ValueError where a mapping does not name it."""
        return _of_block(self.memory_mode, block, "memory_mode")

    def _memory_modes(self) -> Collection[MemoryMode]:
        return self.memory_mode.values() if isinstance(self.memory_mode, Mapping) else [self.memory_mode]

    def is_transformed(self, block: int) -> bool:
        """Whether the feed-forward of a block has learners."""
        return block >= self.frozen_blocks and (self.layers_to_transform is None or block in self.layers_to_transform)

    def num_priming_steps(self, total: int | None) -> int:
        """Return S_p, `max(1, ceil(p * total))` where no number was given."""
        if self.priming_steps is not None:
            return self.priming_steps
        if total is None:
            raise ValueError(
                "priming_ratio is a share of all steps, and their number is not known here. Give priming_steps in the "
                "configuration, or total_steps."
            )
        return max(1, -(-round(self.priming_ratio * total * 1e9) // 10**9))


def _of_block(value: T | Mapping[int, T], block: int, name: str) -> T:
    if not isinstance(value, Mapping):
        return value
    if block not in value:
        raise ValueError(f"{name} names blocks {', '.join(map(str, value))}, and the model has a block {block} too. Name it.")
    return value[block]
