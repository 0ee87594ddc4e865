"""Problems ready to use: affine operators, matrix games, games hidden behind a model, and projected Bellman equations."""

from narrows.vi.problems.base import HiddenProblem, Problem
from narrows.vi.problems.bellman import (
    LinearBellman,
    Moments,
    alpha_of,
    exact_step,
    linear_bellman,
    lstd,
    simulate,
    surrogate_step,
    td_step,
)
from narrows.vi.problems.chains import Chain, Walk, markov_chain, walk
from narrows.vi.problems.counterexamples import (
    baird_star,
    chain_100,
    random_walk,
    spiral,
    spiral_chain,
    two_state_off_policy,
)
from narrows.vi.problems.hidden import Network, hidden_matching_pennies, hidden_rock_paper_scissors
from narrows.vi.problems.matrix_games import MATCHING_PENNIES, ROCK_PAPER_SCISSORS, duality_gap, matrix_game
from narrows.vi.problems.quadratics import bilinear, quadratic, random_quadratic, rotation

__all__ = [
    "MATCHING_PENNIES",
    "ROCK_PAPER_SCISSORS",
    "Chain",
    "HiddenProblem",
    "LinearBellman",
    "Moments",
    "Network",
    "Problem",
    "Walk",
    "alpha_of",
    "baird_star",
    "bilinear",
    "chain_100",
    "duality_gap",
    "exact_step",
    "hidden_matching_pennies",
    "hidden_rock_paper_scissors",
    "linear_bellman",
    "lstd",
    "markov_chain",
    "matrix_game",
    "quadratic",
    "random_quadratic",
    "random_walk",
    "rotation",
    "simulate",
    "spiral",
    "spiral_chain",
    "surrogate_step",
    "td_step",
    "two_state_off_policy",
    "walk",
]
