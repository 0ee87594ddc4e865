"""The biological tasks of the TGM paper as data (tgm 5.1 and 5.4): their objects, proxies and training settings."""

from dataclasses import dataclass
from typing import Final, Literal, final, get_args

from narrows.data import Space
from narrows.data.spaces import CUSTOM_PREFIX, NAMED_ALPHABETS
from narrows.envs.sequence import Sequence
from narrows.printing import quote

DESIGN_BENCH_PROTEIN: Final = "ARNDCQEGHILKMFPSTWYV"
"""The order in which design-bench numbers amino acids, by their names; alphabets here go by their letters."""
Objective = Literal["regression", "binary"]
"""`regression` is the squared error on standardised targets, `binary` the cross-entropy on labels 0 and 1."""


@final
@dataclass(frozen=True)
class PublishedTask:
    """Hold what a task is: which sequences there are, the encoder that scores them, and how that encoder is trained.

    A variant is `dataclasses.replace(AMP, min_length=12)`: AMP's shortest peptide is not settled in what was published.

    Args:
        name: of the task, in capitals; design-bench's files start with it in lower case.
        alphabet: the letters in the order of the environment's actions.
        min_length, max_length: letters of the objects that are built.
        objective: what the proxy learns from.
        embed: width of a token's vector, of a head, and hidden units of the feed-forward layers.
        layers, heads: blocks of the encoder, and attention heads of each, every one as wide as a token's vector.
        batch, learning_rate, weight_decay: of AdamW.
        max_epochs: passes over the training rows, at most.
        patience: training ends after more than so many epochs without a better validation loss.
        validation_fraction: share of the rows, drawn at random, that only judge.
        published_rows: how many rows the published data have, None where that is not known.
        design_bench_order: the letters in the order of design-bench's numbers, None for a task that it does not have.
    """

    name: str
    alphabet: str
    min_length: int
    max_length: int
    objective: Objective
    embed: int
    layers: int
    batch: int
    learning_rate: float
    heads: int = 8
    weight_decay: float = 1e-6
    max_epochs: int = 250
    patience: int = 5
    validation_fraction: float = 0.2
    published_rows: int | None = None
    design_bench_order: str | None = None

    def __post_init__(self) -> None:
        Space(self.name, self.alphabet, self.min_length, self.max_length)  # says what is wrong with letters and lengths
        if self.objective not in get_args(Objective):
            raise ValueError(f"objective must be one of {', '.join(get_args(Objective))}, got {quote(self.objective)}.")
        for name in ("embed", "layers", "heads", "batch", "max_epochs", "patience"):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int) or value < 1:
                raise ValueError(f"{name} must be a whole number of at least 1, got {quote(value)}.")
        if self.embed % 2:
            raise ValueError(f"embed must be even, half for sines and half for cosines, got {self.embed}.")
        if not 0.0 < self.learning_rate < float("inf") or not 0.0 <= self.weight_decay < float("inf"):
            raise ValueError(
                f"learning_rate must be positive and weight_decay at least 0, got {self.learning_rate} and {self.weight_decay}."
            )
        if not 0.0 < self.validation_fraction < 1.0:
            raise ValueError(f"validation_fraction must be between 0 and 1, got {self.validation_fraction}. Published: 0.2.")
        if self.design_bench_order is not None and sorted(self.design_bench_order) != sorted(self.alphabet):
            raise ValueError(
                f"design_bench_order must hold the letters of the alphabet {quote(self.alphabet)}, got "
                f"{quote(self.design_bench_order)}."
            )

    def environment(self) -> Sequence:
        """Return the task's environment: letters appended one by one, and an end from `min_length` on."""
        return Sequence(self.alphabet, self.min_length, self.max_length)

    @property
    def readable(self) -> Space:
        """The sequences that the proxy can be trained on and asked about.

        Where lengths vary, shorter ones than are built belong to them: they are in the published data, and tell as much.
        """
        shortest = self.max_length if self.min_length == self.max_length else min(self.min_length, 1)
        named = {letters: name for name, letters in NAMED_ALPHABETS.items()}
        return Space(named.get(self.alphabet, CUSTOM_PREFIX + self.alphabet), self.alphabet, shortest, self.max_length)


UTR: Final = PublishedTask(
    name="UTR",
    alphabet=NAMED_ALPHABETS["dna"],
    min_length=50,
    max_length=50,
    objective="regression",
    embed=64,
    layers=4,
    batch=128,
    learning_rate=1e-4,
    published_rows=280_000,
    design_bench_order="ACGT",
)
"""5' untranslated regions of 50 nucleotides and the ribosome load they lead to (design-bench's UTR)."""

AMP: Final = PublishedTask(
    name="AMP",
    alphabet=NAMED_ALPHABETS["protein"],
    min_length=14,
    max_length=60,
    objective="binary",
    embed=64,
    layers=4,
    batch=256,
    learning_rate=1e-4,
    published_rows=6_438 + 9_522,
)
"""Antimicrobial peptides (label 1) among others (label 0), from DBAASP. The shortest length is a convention, see above."""

GFP: Final = PublishedTask(
    name="GFP",
    alphabet=NAMED_ALPHABETS["protein"],
    min_length=237,
    max_length=237,
    objective="regression",
    embed=128,
    layers=3,
    batch=128,
    learning_rate=1e-5,
    published_rows=56_086,
    design_bench_order=DESIGN_BENCH_PROTEIN,
)
"""Variants of a green fluorescent protein and their median brightness (design-bench's GFP)."""
