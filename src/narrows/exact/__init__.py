"""Exact dynamic programming on every environment small enough to list: the judge of everything that is learned."""

from narrows.exact.enumeration import enumerate_graph
from narrows.exact.graph import Graph
from narrows.exact.law import model_law, model_log_backward, model_log_policy
from narrows.exact.solution import Operator, Solution, solve, terminal_law, uniform_log_backward

__all__ = [
    "Graph",
    "Operator",
    "Solution",
    "enumerate_graph",
    "model_law",
    "model_log_backward",
    "model_log_policy",
    "solve",
    "terminal_law",
    "uniform_log_backward",
]
