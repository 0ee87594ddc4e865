"""Exact dynamic programming on every environment small enough to list: the judge of everything that is learned."""

from narrows.exact.enumeration import enumerate_graph
from narrows.exact.graph import Graph
from narrows.exact.law import model_law, model_log_backward, model_log_policy
from narrows.exact.noise import Deconvolution, NoiseFree, Played, noise_free_graph, solve_deconvolution, solve_noise_free
from narrows.exact.solution import Operator, Solution, rollout_law, solve, terminal_law, uniform_log_backward
from narrows.exact.stochastic import Compromise, solve_stochastic_gflownet

__all__ = [
    "Compromise",
    "Deconvolution",
    "Graph",
    "NoiseFree",
    "Operator",
    "Played",
    "Solution",
    "enumerate_graph",
    "model_law",
    "model_log_backward",
    "model_log_policy",
    "noise_free_graph",
    "rollout_law",
    "solve",
    "solve_deconvolution",
    "solve_noise_free",
    "solve_stochastic_gflownet",
    "terminal_law",
    "uniform_log_backward",
]
