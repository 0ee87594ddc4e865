"""What both sides are asked to train on, as plain numbers: the same bytes reach every worker."""

import json
import random
from dataclasses import asdict, dataclass, replace
from typing import Literal

Space = Literal["hypergrid", "bits", "bits_any_order", "dna8", "letters", "peptides"]

HYPERGRID_REWARD = {"r0": 0.1, "r1": 0.5, "r2": 2.0}
HYPERGRID_NDIM = 4
WORD_BITS = 8
NUM_MODES = 60
BITS_EXPONENT = 2.0
PAIR_EXPONENT = 10.0
DNA_EXPONENT = 4.0
CLIP = 10.0
HIDDEN, DEPTH = 256, 2
LAYERS, WIDTH, HEADS, FEED_FORWARD = 3, 64, 8, 64
AMINO_ACIDS = "ARNDCEQGHILKMFPSTWYV"
BASES = "ACGT"
MODE_BLOCKS = ("00000000", "11111111", "11110000", "00001111", "00111100")
"""What the modes of the published bit task are made of (Malkin et al. 2022, appendix C)."""


@dataclass(frozen=True)
class Problem:
    """One training problem."""

    # the environment; `bits` writes words left to right, `bits_any_order` puts any word anywhere, `letters` are sequences of 4
    # letters of one length, `peptides` of 20 letters of any length
    space: Space
    objective: Literal["tb", "db"]  # `tb` (trajectory balance, learned log Z) or `db` (detailed balance, learned log-flow)
    # `mlp` (2 hidden layers of 256) or `transformer` (3 layers, width 64, 8 heads, feed-forward 64)
    network: Literal["mlp", "transformer"]
    size: int  # the grid's side, the number of bits, or the (longest) length
    batch: int = 16  # trajectories an iteration
    chunk: int = 50  # iterations that ours puts in one compiled program, and the least that a window holds
    # learning_rate, log_z_learning_rate: of Adam; a vanishing rate keeps the first policy
    learning_rate: float = 1e-3
    log_z_learning_rate: float = 0.1
    table: str | None = None  # for `dna8`, the file with the 65,536 scores in the order of the sequences; None elsewhere
    seed: int = 0  # of the first weights and of the sampling

    def to_json(self) -> str:
        """Return the problem as one line of JSON."""
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, line: str) -> "Problem":
        """Return the problem that `to_json` wrote."""
        return cls(**json.loads(line))

    def still(self) -> "Problem":
        """Return the same problem with a policy that stays as it was initialised: same work, no learning."""
        return replace(self, learning_rate=1e-30, log_z_learning_rate=1e-30)

    @property
    def num_letters(self) -> int:
        """Return the number of tokens that a sequence is written in; ValueError for the hypergrid, which has none."""
        sizes = {"bits": 2**WORD_BITS, "bits_any_order": 2**WORD_BITS, "dna8": 4, "letters": 4, "peptides": len(AMINO_ACIDS)}
        if self.space not in sizes:
            raise ValueError(f"{self.space} is not made of letters.")
        return sizes[self.space]

    @property
    def num_places(self) -> int:
        """Return the number of integers of an object: coordinates or, at most, tokens."""
        if self.space == "hypergrid":
            return HYPERGRID_NDIM
        return self.size // WORD_BITS if self.space.startswith("bits") else self.size

    @property
    def num_choices(self) -> int:
        """Return the number of outputs of the policy head that a choice needs."""
        if self.space == "hypergrid":
            return HYPERGRID_NDIM + 1
        return self.num_letters * (self.num_places if self.space == "bits_any_order" else 1) + (self.space == "peptides")


def modes(num_bits: int) -> list[list[int]]:
    """Return the hidden bit strings whose nearness is rewarded, the same ones on every side."""
    generator = random.Random(0)
    blocks = [generator.choices(MODE_BLOCKS, k=num_bits // len(MODE_BLOCKS[0])) for _ in range(NUM_MODES)]
    return [[int(bit) for bit in "".join(mode)] for mode in blocks]


def pair_scores(num_letters: int) -> list[list[float]]:
    """Return a fixed table of standard normal scores of neighbouring letters."""
    generator = random.Random(1)
    return [[generator.gauss(0.0, 1.0) for _ in range(num_letters)] for _ in range(num_letters)]
