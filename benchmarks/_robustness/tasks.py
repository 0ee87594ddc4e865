"""What is searched: spaces of sequences, the truth about their objects, and what might have been measured of them."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import equinox as eqx
import jax
import numpy as np
from jaxtyping import Float

from benchmarks.harness.places import measured_table
from benchmarks.harness.processes import tell
from narrows.envs import Sequence as Sequences
from narrows.rewards.ehrlich import Ehrlich
from narrows.rewards.landscape import Landscape
from narrows.scorers.rna import RnaBinding

FAMILIES = ("tfbind8", "ehrlich", "rna")
_MUTATED = 0.25
"""Share of the Ehrlich functions' random objects that had letters changed, so that some are infeasible."""

Score = Callable[[Sequence[str]], Float[np.ndarray, " object"]]


@dataclass(frozen=True)
class Task:
    """A space and the truth about it."""

    name: str  # the family first, then a slash and which one
    env: Sequences  # the rules
    truth: Score  # the score of objects, on the host; larger is better. No method and no proxy sees it.
    # draws objects as somebody would who knows nothing, from how many and a generator
    random: Callable[[int, np.random.Generator], list[str]]
    is_feasible: Callable[[Sequence[str]], np.ndarray]  # which objects can exist at all
    min_distance: int  # edits that two chosen objects must differ by


def task_named(name: str, folder: Path) -> Task:
    """Return a task; ValueError or ImportError where what it needs is missing.

    Args:
        name: one of `NAMES`.
        folder: where the measured tables of TF-Bind-8 lie.
    """
    return _MAKERS[name](name, folder)


def present(names: Sequence[str], folder: Path) -> list[str]:
    """Return which of some tasks can be run here, with a sentence on stderr for each that cannot."""
    found = []
    for name in names:
        why = _missing(name, folder)
        if why is None:
            found.append(name)
        else:
            tell(f"{name} is left out: {why}")
    return found


def _missing(name: str, folder: Path) -> str | None:
    family, which = name.split("/")
    try:
        if family == "tfbind8":
            measured_table(folder, which)
        if family == "rna":
            RnaBinding()
    except (ValueError, ImportError) as error:
        return str(error)
    return None


def _measured(name: str, folder: Path) -> Task:
    env = Sequences("ACGT", 8, 8)
    path = measured_table(folder, name.split("/")[1])
    landscape = eqx.filter_jit(Landscape(env, str(path), sequence_column="#1", score_column="E-score", both_strands=True))

    return Task(name, env, _in_blocks(env, landscape), _uniform(env), _everything, min_distance=2)


def _ehrlich(alphabet: str, length: int, num_motifs: int, motif_length: int, epistasis: float) -> Callable[[str, Path], Task]:
    def make(name: str, folder: Path) -> Task:
        env = Sequences(alphabet, length, length)
        reward = Ehrlich(
            env, num_motifs=num_motifs, motif_length=motif_length, quantization=motif_length, epistasis=epistasis, seed=0
        )
        score, feasible = eqx.filter_jit(reward), eqx.filter_jit(reward.is_feasible)

        def random(num: int, rng: np.random.Generator) -> list[str]:
            walks = reward.function.sample_feasible(num, seed=int(rng.integers(2**31)))
            return [_mutant(text, alphabet, rng) if rng.random() < _MUTATED else text for text in walks]

        return Task(
            *(name, env, _in_blocks(env, score), random),
            lambda texts: _in_blocks(env, feasible)(texts) > 0.5,
            min_distance=3,
        )

    return make


def _rna(name: str, folder: Path) -> Task:
    env = Sequences("ACGU", 14, 14)
    return Task(name, env, RnaBinding(), _uniform(env), _everything, min_distance=3)


_MAKERS: dict[str, Callable[[str, Path], Task]] = {
    "tfbind8/SIX6": _measured,
    "tfbind8/VSX1": _measured,
    "ehrlich/short": _ehrlich("ACGT", 12, num_motifs=2, motif_length=3, epistasis=0.0),
    "ehrlich/long": _ehrlich("ABCDEFGH", 24, num_motifs=3, motif_length=4, epistasis=1.0),
    "rna/target_1": _rna,
}
NAMES = tuple(_MAKERS)


def _uniform(env: Sequences) -> Callable[[int, np.random.Generator], list[str]]:
    def random(num: int, rng: np.random.Generator) -> list[str]:
        letters = np.array(list(env.alphabet))
        return ["".join(row) for row in letters[rng.integers(env.num_tokens, size=(num, env.max_length))]]

    return random


def _mutant(text: str, alphabet: str, rng: np.random.Generator) -> str:
    """Return a text with one letter drawn anew."""
    place = int(rng.integers(len(text)))
    return text[:place] + str(rng.choice(list(alphabet))) + text[place + 1 :]


def _everything(texts: Sequence[str]) -> np.ndarray:
    return np.ones(len(texts), bool)


_BLOCK = 1024


def _in_blocks(env: Sequences, function: Callable) -> Score:
    """Return a function of texts that runs a compiled one on blocks of one size, so that it is compiled once."""

    def scores(texts: Sequence[str]) -> Float[np.ndarray, " object"]:
        found = np.empty(len(texts))
        for start in range(0, len(texts), _BLOCK):
            part = list(texts[start : start + _BLOCK])
            # Rows are repeated, and not texts: reading a text costs more than scoring it.
            states = jax.tree.map(lambda leaf: np.resize(leaf, (_BLOCK, *leaf.shape[1:])), env.from_text(part))
            found[start : start + _BLOCK] = np.asarray(function(states))[: len(part)]
        return found

    return scores
