"""Exact dynamic programming on every environment small enough to list: the judge of everything that is learned."""

from narrows.exact.enumeration import enumerate_graph
from narrows.exact.game_values import (
    BestResponse,
    Minimax,
    OptimalRates,
    best_response,
    expected_outcome,
    exploitability,
    hastened,
    is_argmax_optimal,
    minimax,
    optimal_rates,
    regularised_value,
)
from narrows.exact.games import GameSolution, PlayersSolution, solve_game, solve_unadjusted
from narrows.exact.graph import Graph
from narrows.exact.model import model_distribution, model_log_backward, model_log_policy
from narrows.exact.noise import Deconvolution, NoiseFree, Played, noise_free_graph, solve_deconvolution, solve_noise_free
from narrows.exact.robust import WorstCase, second_reward, smallest_shift, softmax_reference, worst_case, worst_rewards
from narrows.exact.solution import Operator, Solution, rollout_distribution, solve, terminal_distribution, uniform_log_backward
from narrows.exact.stochastic import Compromise, solve_stochastic_gflownet

__all__ = [
    "BestResponse",
    "Compromise",
    "Deconvolution",
    "GameSolution",
    "Graph",
    "Minimax",
    "NoiseFree",
    "Operator",
    "OptimalRates",
    "Played",
    "PlayersSolution",
    "Solution",
    "WorstCase",
    "best_response",
    "enumerate_graph",
    "expected_outcome",
    "exploitability",
    "hastened",
    "is_argmax_optimal",
    "minimax",
    "model_distribution",
    "model_log_backward",
    "model_log_policy",
    "noise_free_graph",
    "optimal_rates",
    "regularised_value",
    "rollout_distribution",
    "second_reward",
    "smallest_shift",
    "softmax_reference",
    "solve",
    "solve_deconvolution",
    "solve_game",
    "solve_noise_free",
    "solve_stochastic_gflownet",
    "solve_unadjusted",
    "terminal_distribution",
    "uniform_log_backward",
    "worst_case",
    "worst_rewards",
]
