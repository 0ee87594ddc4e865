"""AdaLead: greedy evolution from everything that is nearly the best (Sinai et al. 2020, arXiv:2010.02141, algorithm 1)."""

import numpy as np

from narrows.search.problem import Asked, Found, Problem
from narrows.search.space import Rows
from narrows.search.variation import crossed_over, mutated

_THRESHOLD = 0.05
_RECOMBINATION = 0.2
_BATCH = 100
_CHILDREN = 500
"""Rollouts side by side: fewer calls of the score, with more objects each."""
_CALLS_A_ROUND = 20 * _BATCH
_PATIENCE = 20
"""Times that all rollouts may end without anything new before the search ends, though it could ask for more."""


def adalead(problem: Problem, budget: int, seed: int = 0) -> Found:
    """Search in rounds of 2,000 calls, each from the seeds: those of all batches so far that are nearly the best.

    A seed scores at least `max - 0.05 (max - min)`, where `min` is the lowest of the starts: the paper's scores begin at 0.
    Seeds are paired at random, until there are 500 children, and cross over with probability 0.2 at each place. From each
    child a rollout goes on, a mutation (each letter with probability 1 / length) a step, until an object scores less than that
    child; then seeds cross anew. The 100 best of a round are its batch. The paper measures the batch and fits the model again
    between rounds; here the score is all there is. Each mutation changes something, for a rollout that stands still would
    never end.

    Args:
        problem: what is searched.
        budget: the most distinct objects whose score is asked.
        seed: of everything that is drawn.
    """
    rng, asked, space = np.random.default_rng(seed), Asked(problem, budget), problem.space
    batches = list(problem.starts) or list(dict.fromkeys(space.write(space.drawn(rng, _BATCH))))
    lowest, idle = float(np.min(asked(batches))), 0
    while not asked.is_spent and idle < _PATIENCE:
        seeds, end = _seeds(asked, batches, lowest), asked.num + _CALLS_A_ROUND
        mutants: dict[str, None] = {}
        while asked.num < end and not asked.is_spent and idle < _PATIENCE:
            before = asked.num
            roots = _recombined(rng, problem, seeds)
            _roll_out(rng, problem, asked, roots, mutants)
            idle = 0 if asked.num > before else idle + 1
        batches = list(dict.fromkeys([*batches, *_top(asked, list(mutants))]))
    return asked.found()


def _seeds(asked: Asked, texts: list[str], lowest: float) -> list[str]:
    scores = asked(texts)
    best = float(scores.max())
    bar = best - _THRESHOLD * (best - lowest) if np.isfinite(lowest) else best
    return [texts[place] for place in np.flatnonzero(scores >= bar).tolist()]


def _recombined(rng: np.random.Generator, problem: Problem, seeds: list[str]) -> Rows:
    """Return the rows that seeds, paired at random, make by crossing over: two a pair, until there are enough."""
    rows = problem.space.read(seeds)
    num = max(_CHILDREN, len(rows))
    shuffled = [rng.permutation(len(rows)) for _ in range(-(-num // len(rows)))]
    places = np.concatenate(shuffled)[: num // 2 * 2]
    first, second = rows[places[::2]], rows[places[1::2]]
    return np.concatenate(crossed_over(rng, first, second, problem.space, _RECOMBINATION))


def _roll_out(rng: np.random.Generator, problem: Problem, asked: Asked, roots: Rows, mutants: dict[str, None]) -> None:
    """Note what rows become that mutate on and on, each until it scores less than its root, and all until nothing is new."""
    texts = problem.space.write(roots)
    bars, rows = asked(texts), roots
    mutants.update(dict.fromkeys(texts))
    while len(rows) and not asked.is_spent:
        before = asked.num
        rows = mutated(rng, rows, problem.space)
        texts = problem.space.write(rows)
        scores = asked(texts)
        mutants.update(dict.fromkeys(texts))
        alive = (scores >= bars) & np.isfinite(scores)
        rows, bars = rows[alive], bars[alive]
        if asked.num == before:  # on a plateau that is known already
            break


def _top(asked: Asked, texts: list[str]) -> list[str]:
    order = np.argsort(-asked(texts), kind="stable")[:_BATCH]
    return [texts[place] for place in order.tolist()]
