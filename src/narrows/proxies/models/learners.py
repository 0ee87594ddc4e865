"""The ways to learn from a table that a fit compares, in the order in which they are shown. A new one is one entry."""

from collections.abc import Callable
from typing import Final

import jax.numpy as jnp
import numpy as np

from narrows.proxies.features import MOST, AbstractFeatures, Letters, Pairs, Words, is_protein
from narrows.proxies.models.base import Learner, Lesson
from narrows.proxies.models.constant import Constant
from narrows.proxies.models.gaussian_process import find_strengths, regress
from narrows.proxies.models.networks import train
from narrows.proxies.models.trees import boost

_MOST_WORDS = 500
"""Different words that are counted at most: words of four letters of DNA, of two letters of proteins."""
_FEWEST_FOR_NETWORKS = 5_000
"""Rows from which networks are compared too: training them for each fold takes minutes, and few rows teach them little."""

_Describe = Callable[[Lesson], AbstractFeatures | None]


def _letters(lesson: Lesson) -> Letters | None:
    return Letters(len(lesson.space.alphabet), lesson.places) if lesson.places else None


def _similar(lesson: Lesson) -> Letters | None:
    alphabet = lesson.space.alphabet
    return Letters(len(alphabet), lesson.places, alphabet) if lesson.places and is_protein(alphabet) else None


def _pairs(lesson: Lesson) -> Pairs | None:
    return Pairs(len(lesson.space.alphabet), lesson.places) if lesson.places and len(lesson.places) > 1 else None


def _composition(lesson: Lesson) -> Words:
    return Words(len(lesson.space.alphabet), 1, _typical(lesson))


def _words(lesson: Lesson) -> Words:
    size = len(lesson.space.alphabet)
    longest = max(letters for letters in range(1, 9) if letters == 1 or size**letters <= _MOST_WORDS)
    return Words(size, longest, _typical(lesson))


def _typical(lesson: Lesson) -> float:
    return float(max(1.0, np.median((lesson.tokens < len(lesson.space.alphabet)).sum(axis=1))))


def _process(name: str, meaning: str, describe: _Describe, *, is_local: bool = True, is_warped: bool = True) -> Learner:
    """Return a Gaussian process; without a local part it is ridge regression whose penalties the data choose."""

    def described(lesson: Lesson) -> AbstractFeatures:
        features = describe(lesson)
        assert features is not None, "it suits"
        return features

    def suits(lesson: Lesson) -> bool:
        features = describe(lesson)
        return features is not None and features.num <= MOST

    return Learner(
        name,
        meaning,
        suits,
        lambda lesson: (described(lesson), find_strengths(described(lesson), lesson, is_local=is_local, is_warped=is_warped)),
        lambda lesson, found, num_rows: regress(found[0], lesson, found[1], is_local, num_rows),
    )


def _mean(lesson: Lesson, prepared: None, num_rows: int) -> Constant:
    mean = np.average(lesson.scores, weights=1.0 / lesson.noise)
    return Constant(jnp.asarray(mean, jnp.float32), jnp.asarray(lesson.scores.std(), jnp.float32))


def _for_trees(lesson: Lesson) -> AbstractFeatures:
    return _letters(lesson) or _words(lesson)


LEARNERS: Final[tuple[Learner, ...]] = (
    Learner("mean", "the mean of what was measured, for everything", lambda _: True, lambda _: None, _mean),
    _process("ridge-letters", "ridge regression on the letter at each place", _letters, is_local=False, is_warped=False),
    _process("ridge-pairs", "ridge regression on the letters at every two places", _pairs, is_local=False),
    _process(
        "ridge-composition", "ridge regression on how often each letter occurs", _composition, is_local=False, is_warped=False
    ),
    _process("ridge-words", "ridge regression on how often each short word occurs", _words, is_local=False),
    _process("gp-letters", "a Gaussian process in which every place weighs for itself", _letters),
    _process(
        "gp-blosum62",
        "a Gaussian process in which every place weighs for itself and amino acids that BLOSUM62 calls alike are near",
        _similar,
    ),
    _process("gp-words", "a Gaussian process of how often short words occur", _words),
    Learner(
        "trees",
        "boosted trees, bagged",
        lambda lesson: _for_trees(lesson).num <= MOST,
        lambda lesson: _for_trees(lesson),
        lambda lesson, features, num_rows: boost(features, lesson),
    ),
    Learner(
        "networks",
        "small convolutional networks, bagged",
        lambda lesson: len(lesson.scores) >= _FEWEST_FOR_NETWORKS,
        lambda lesson: None,
        lambda lesson, prepared, num_rows: train(lesson, num_rows),
    ),
)
