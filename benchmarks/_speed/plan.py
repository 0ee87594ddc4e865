"""Which problems are timed, against whom, and what is asked for."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from benchmarks._speed.problem import Problem
from benchmarks.harness.case import prose


@dataclass(frozen=True)
class Plan:
    """One case."""

    name: str  # as on the command line
    title: str  # of its table
    problem: Problem  # what both sides train on
    peers: tuple[str, ...]  # who can be measured on it
    trained: int  # iterations before the windows, the same number on every side; 0 for a policy that stays as initialised
    targets: Mapping[str, float] = field(default_factory=dict)  # the least ratio of ours to a peer's rate, by peer
    memory_mb: float | None = None  # the most that ours may have resident; None for no more than the peer
    note: str = ""  # what a reader has to know, for the footnote

    def quick(self) -> "Plan":
        """Return the same case with less training before the windows."""
        return replace(self, trained=min(self.trained, 5 * self.problem.chunk))


SAYS = prose("speed")
_GRID = Problem("hypergrid", "tb", "mlp", 20, chunk=100)
_BITS = Problem("bits", "tb", "transformer", 120, chunk=20)
PLANS = {
    plan.name: plan
    for plan in (
        Plan(
            "hypergrid_tb",
            "Hypergrid 20^4, trajectory balance, trained policy",
            _GRID,
            ("narrows-one", "gfnx", "gfnx-pinned", "torchgfn"),
            1000,
            {"gfnx": 3.0, "torchgfn": 5.0},
            note=SAYS["hypergrid"],
        ),
        Plan(
            "hypergrid_tb_untrained",
            "Hypergrid 20^4, trajectory balance, the policy as initialised",
            _GRID.still(),
            ("narrows-one", "gfnx", "torchgfn"),
            0,
            note=f"{SAYS['hypergrid']} {SAYS['still']}",
        ),
        Plan(
            "hypergrid_db",
            "Hypergrid 20^4, detailed balance, trained policy",
            replace(_GRID, objective="db"),
            ("narrows-one", "gfnx", "torchgfn"),
            1000,
            {"gfnx": 3.0, "torchgfn": 5.0},
            note=SAYS["hypergrid"],
        ),
        Plan(
            "bits_tb",
            "Bit sequences, n = 120, k = 8, trajectory balance",
            _BITS,
            ("narrows-one", "gfnx", "gfnx-pinned"),
            200,
            {"gfnx": 25.0},
            note=SAYS["bits"],
        ),
        Plan(
            "bits_db",
            "Bit sequences, n = 120, k = 8, detailed balance",
            replace(_BITS, objective="db"),
            ("narrows-one", "gfnx"),
            200,
            {"gfnx": 25.0},
            note=SAYS["bits"],
        ),
        Plan(
            "bits_any_order",
            "Bit sequences, n = 120, k = 8, trajectory balance: gfnx's own environment, words placed in any order",
            replace(_BITS, space="bits_any_order"),
            ("gfnx",),
            200,
            note=SAYS["bits_any_order"],
        ),
        Plan(
            "tfbind8_tb",
            "TF-Bind-8, trajectory balance",
            Problem("dna8", "tb", "mlp", 8, chunk=100),
            ("narrows-one", "gfnx", "gfnx-pinned"),
            1000,
            {"gfnx": 5.0},
            note=SAYS["tfbind8_tb"],
        ),
        Plan(
            "peptides_tb",
            "Peptides of up to 60 letters, trajectory balance",
            Problem("peptides", "tb", "transformer", 60, chunk=10),
            ("narrows-one", "gfnx"),
            40,
            {"gfnx": 60.0},
            memory_mb=1000.0,
            note=SAYS["peptides_tb"],
        ),
    )
}

LENGTHS = (15, 30, 60, 120, 240)
FITTED = (15, 120)
MAX_LENGTH_SAMPLING, MAX_LENGTH_TRAINING = 120, 60
"""The longest sequences that the peer is asked for: past them it needs minutes or more memory than a small machine has."""

BATCHES = (16, 64, 256, 1024, 4096)
PEER_BATCHES = (16, 256)
LENGTH_EXPONENT = 1.3
SHARE_OF_PEAK = 0.4
SHARE_BATCH = 256


def of_length(length: int) -> Problem:
    """Return the problem of the length sweep: 4 letters, one length, the transformer."""
    return Problem("letters", "tb", "transformer", length, chunk=max(2, 300 // length))


def of_batch(batch: int) -> Problem:
    """Return the problem of the batch sweep: the bit sequences with another batch."""
    return replace(_BITS, batch=batch, chunk=max(1, 320 // batch))


@dataclass(frozen=True)
class Lesson:
    """A problem small enough for its exact law: `trained` iterations on every side, then `num` sampled objects."""

    name: str
    problem: Problem
    trained: int
    num: int = 100_000


LESSONS = (
    Lesson("hypergrid 8^4, TB", replace(_GRID, size=8), 2000),
    Lesson("hypergrid 8^4, DB", replace(_GRID, size=8, objective="db"), 2000),
    Lesson("6 letters, transformer, TB", replace(of_length(6), chunk=50), 1500),
    Lesson("6 letters, transformer, DB", replace(of_length(6), chunk=50, objective="db"), 1500),
    Lesson("TF-Bind-8, TB", PLANS["tfbind8_tb"].problem, 3000),
)
