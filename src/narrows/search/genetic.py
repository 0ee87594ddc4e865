"""A plain genetic algorithm: tournaments, one-point crossover, mutation, and the best survive."""

import numpy as np
from jaxtyping import Int

from narrows.search.problem import Asked, Found, Problem
from narrows.search.variation import crossed_at_a_point, mutated

_POPULATION = 256
_TOURNAMENT = 3
_CROSSOVER = 0.8
_PATIENCE = 20
"""Generations without anything new after which the search ends, though it could ask for more."""


def genetic_algorithm(problem: Problem, budget: int, seed: int = 0) -> Found:
    """Let a population of 256 evolve until the budget is spent.

    It begins with the best of the starts, or without any with objects at random. In a generation 256 children are made: two
    parents each, winners of tournaments of three; one-point crossover with probability 0.8; and each letter replaced with
    probability 1 / length, at least one of them, and where the length is free a letter lost and a letter gained with
    probability 0.1 each. The 256 best of parents and children, all distinct, live on.

    Args:
        problem: what is searched.
        budget: the most distinct objects whose score is asked.
        seed: of everything that is drawn.
    """
    rng, asked, space = np.random.default_rng(seed), Asked(problem, budget), problem.space
    population = list(problem.starts) or list(dict.fromkeys(space.write(space.drawn(rng, _POPULATION))))
    population = _best(asked, population)
    idle = 0
    while not asked.is_spent and idle < _PATIENCE:
        before, rows = asked.num, space.read(population)
        first, second = (rows[_winners(rng, len(rows))] for _ in range(2))
        children = mutated(rng, crossed_at_a_point(rng, first, second, space, _CROSSOVER), space)
        population = _best(asked, [*population, *space.write(children)])
        idle = 0 if asked.num > before else idle + 1
    return asked.found()


def _best(asked: Asked, texts: list[str]) -> list[str]:
    distinct = list(dict.fromkeys(texts))
    order = np.argsort(-asked(distinct), kind="stable")[:_POPULATION]
    return [distinct[place] for place in order.tolist()]


def _winners(rng: np.random.Generator, num: int) -> Int[np.ndarray, " child"]:
    """Return the winner of a tournament for each child: the population is sorted, so the first place of those drawn."""
    return rng.integers(0, num, (_POPULATION, _TOURNAMENT)).min(axis=1)
