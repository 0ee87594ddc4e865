"""Variational inequalities: min-max problems, games and projected equations, in prediction space or through a model.

    method = vi.surrogate(vi.forward(0.1), optax.adam(1e-3), inner_steps=5)
    state = method.init(params, predict(params))
    params, state, info = method.step(predict, operator, params, state)

    solution = vi.solve(operator, z0, vi.extragradient(0.1), project=vi.simplex)

It stands on JAX, optax and lineax alone. The method is D'Orazio et al., "Solving Hidden Monotone Variational Inequalities with
SurrogateMethod Losses" (arXiv:2411.05228).
"""

from narrows.vi import problems, td
from narrows.vi.base import Info, Method, OfParams, Point, Reached, Result
from narrows.vi.fields import game, minimum, regularised_gap, saddle
from narrows.vi.inner import Inner, descend
from narrows.vi.least_squares import damped_gauss_newton, gauss_newton, levenberg_marquardt, preconditioned_hidden_gradient
from narrows.vi.methods import anchored, extragradient, forward, optimistic, proximal_point
from narrows.vi.metric import batch_mean, euclidean, matrix, weighted
from narrows.vi.projections import affine, ball, box, distance_bound, everywhere, product, simplex
from narrows.vi.solving import Projected, Solution, Stats, projected, solve
from narrows.vi.surrogate_loss import SurrogateMethod, SurrogateState, surrogate

__all__ = [
    "Info",
    "Inner",
    "Method",
    "OfParams",
    "Point",
    "Projected",
    "Reached",
    "Result",
    "Solution",
    "Stats",
    "SurrogateMethod",
    "SurrogateState",
    "affine",
    "anchored",
    "ball",
    "batch_mean",
    "box",
    "damped_gauss_newton",
    "descend",
    "distance_bound",
    "euclidean",
    "everywhere",
    "extragradient",
    "forward",
    "game",
    "gauss_newton",
    "levenberg_marquardt",
    "matrix",
    "minimum",
    "optimistic",
    "preconditioned_hidden_gradient",
    "problems",
    "product",
    "projected",
    "proximal_point",
    "regularised_gap",
    "saddle",
    "simplex",
    "solve",
    "surrogate",
    "td",
    "weighted",
]
