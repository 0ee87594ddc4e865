"""Adversarial flow networks solved exactly, beside the figures of the specification (eflow 7.2 and 7.3, T5 and T6)."""

from collections.abc import Iterator
from typing import Any, NamedTuple

import jax
import numpy as np
from jaxtyping import Bool, Float

from benchmarks.harness.rows import Context, Row, Target
from narrows.envs.game import AbstractGame
from narrows.envs.tic_tac_toe import TicTacToe
from narrows.exact import (
    Graph,
    best_response,
    enumerate_graph,
    exploitability,
    hastened,
    minimax,
    optimal_rates,
    solve_game,
    solve_unadjusted,
)
from narrows.games.names import game_named

SPECIFICATION = "specification"
ERROR = "error: "
"""Before the name of a metric: by how much it is off."""

POSITIONS = "positions"
LOG_Z, OPTIMAL, STRICT, TIES = "log Z", "optimal moves", "strict moves", "strict moves, ties left open"
MASS, EXPLOITABILITY = "mass on optimal moves", "exploitability"
FIRST, SECOND = "worst case of the first player", "worst case of the second player"
UNADJUSTED, UNADJUSTED_STRICT, UNADJUSTED_TIES = (
    *("optimal moves, unadjusted", "strict moves, unadjusted", "strict moves, unadjusted, ties left open"),
)
NO_BRANCHES, FLOW_1, FLOW_2 = "log Z without the branch term", "log F_1, unadjusted", "log F_2, unadjusted"
CENTRE, CORNER, EDGE = "first move: the centre", "first move: each corner", "first move: each edge"
_FIRST_MOVES = {CENTRE: 4, CORNER: 0, EDGE: 1}
_LARGEST = 20_000_000


class Known(NamedTuple):
    """A figure of the specification and how far from it one may be: half of its last digit, or a test's tolerance."""

    value: float
    within: float


_CELLS = "tic_tac_toe"


def _known() -> dict[tuple[str, float, str], Known]:
    """Return the figures of the specification by game, log-reward of a win and metric."""
    found: dict[tuple[str, float, str], Known] = {}
    lines = {
        1.0: (0.268960, 1e-5, 0.9947, 0.7341, -0.812, 0.982),
        2.0: (0.592, 6e-4, 0.9982, 0.8624, -0.591, 0.935),
        3.0: (1.004735, 1e-5, 0.9982, 0.9343, -0.331, 0.833),
        4.0: (1.439, 6e-4, 1.0, 0.9699, -0.149, 0.636),
        5.0: (1.783100, 1e-5, 1.0, 0.9871, -0.060, 0.386),
        10.0: (2.140596, 1e-5, 1.0, 0.9999, 0.0, 0.004),
        30.0: (2.1439, 6e-5, 1.0, 1.0, 0.0, 0.0),
    }
    for scale, (log_z, within, optimal, mass, first, second) in lines.items():
        # Of 4,520 positions not one may be missed where the specification says all.
        rate = Known(optimal, 0.0 if optimal == 1.0 else 6e-5)
        found |= {(_CELLS, scale, LOG_Z): Known(log_z, within), (_CELLS, scale, OPTIMAL): rate}
        found |= {(_CELLS, scale, MASS): Known(mass, 6e-5)}
        found |= {(_CELLS, scale, FIRST): Known(first, 6e-4), (_CELLS, scale, SECOND): Known(second, 6e-4)}
    moves = {CENTRE: 0.24956, CORNER: 0.12498, EDGE: 0.06263}
    wrong = {NO_BRANCHES: 3.042988, FLOW_1: 8.735499, FLOW_2: 3.714178}
    found |= {(_CELLS, 10.0, metric): Known(value, 1e-5) for metric, value in (moves | wrong).items()}
    boards = {
        "connect4-4x4": ((0.037715, -0.385235, -0.799155, -0.810045), (0.99269, 0.99999), 0.98731, (0.93230, 0.99967), 0.96413),
        "connect4-4x5": ((0.067205, 0.009769, -0.959288, -1.059662), (0.99408, 0.99990), 0.97887, (0.91997, 0.99919), 0.92368),
        "connect4-5x4": ((0.093496, -0.212589, -2.068337, -2.352358), (0.99001, 0.99973), 0.97460, (0.87736, 0.99835), 0.88986),
    }
    for game, (log_zs, optimal, strict, unadjusted, unadjusted_strict) in boards.items():
        found |= {(game, scale, LOG_Z): Known(log_z, 1e-5) for scale, log_z in zip((1.0, 5.0, 10.0, 20.0), log_zs, strict=True)}
        for scale, rate, other in zip((1.0, 5.0, 10.0), (*optimal, 1.0), (*unadjusted, 1.0), strict=True):
            found |= {(game, scale, OPTIMAL): Known(rate, 6e-6), (game, scale, UNADJUSTED): Known(other, 6e-6)}
        found |= {(game, 10.0, STRICT): Known(strict, 6e-6), (game, 10.0, UNADJUSTED_STRICT): Known(unadjusted_strict, 6e-6)}
    for scale, log_z in ((1.0, 0.772688), (10.0, -0.027190)):
        found["connect4-4x4", scale, NO_BRANCHES] = Known(log_z, 1e-5)
    return found


KNOWN = _known()
NUM_POSITIONS = {_CELLS: 4520, "connect4-4x4": 134_289, "connect4-4x5": 1_348_441, "connect4-5x4": 3_100_379}
"""Unfinished positions, by game."""


Solved = dict[str, tuple[float, ...]]
"""Games that are solved exactly, with the log-rewards of a win."""
_BOARD = (1.0, 5.0, 10.0, 20.0)
FULL: Solved = {_CELLS: (1.0, 2.0, 3.0, 4.0, 5.0, 10.0, 30.0)}
FULL |= dict.fromkeys(("connect4-4x4", "connect4-4x5", "connect4-5x4"), _BOARD)
QUICK: Solved = {_CELLS: (1.0, 5.0, 10.0), "connect4-4x4": (1.0, 10.0)}


def solved_rows(context: Context, solved: Solved) -> Iterator[Row]:
    """Yield the exact solutions of every game."""
    for game, scales in solved.items():
        yield from exact_rows(context, game, scales)


def exact_rows(context: Context, game: str, scales: tuple[float, ...]) -> Iterator[Row]:
    """Yield the exact solutions of a game, one for each log-reward of a win.

    How far a figure is from the specification's is a row of its own, with what is allowed as its target.
    """
    env = game_named(game)
    graph = enumerate_graph(env, limit=_LARGEST)
    outcome = np.asarray(jax.jit(jax.vmap(env.outcome))(graph.terminal_states)).astype(np.float64)
    case = f"games/exact/{game}"
    num, expected = int(np.sum(~graph.is_terminal)), NUM_POSITIONS.get(game)
    yield context.row(case, POSITIONS, [num], against=None if expected is None else SPECIFICATION, peer=expected)
    if expected is not None:
        yield context.row(case, f"{ERROR}{POSITIONS}", [abs(num - expected)], target=Target("<=", 0.0))
    perfect, fast = minimax(graph, outcome).is_optimal, minimax(graph, hastened(graph, outcome)).is_optimal
    for scale in scales:
        figures = _figures(env, graph, outcome, scale, perfect, fast)
        for metric, value in figures.items():
            known = KNOWN.get((game, scale, metric))
            where = f"{case}/{scale:g}"
            against, peer = (None, None) if known is None else (SPECIFICATION, known.value)
            yield context.row(where, metric, [value], against=against, peer=peer)
            if known is not None:
                # Where a slow win is worth as much as a fast one, how ties are broken decides, and the specification is silent.
                ties = figures.get({STRICT: TIES, UNADJUSTED_STRICT: UNADJUSTED_TIES}.get(metric, ""), 0.0)
                error = max(abs(value - known.value) - ties, 0.0)
                yield context.row(where, f"{ERROR}{metric}", [error], target=Target("<=", known.within))


def _figures(
    env: AbstractGame, graph: Graph, outcome: np.ndarray, scale: float, perfect: np.ndarray, fast: np.ndarray
) -> dict[str, float]:
    """Return every metric of one exact solution."""
    solution = solve_game(graph, scale * outcome)
    rates = optimal_rates(solution.log_policy, perfect)
    strict = _strict(graph, solution.log_policy, fast)
    first, second = (best_response(graph, solution.log_policy, outcome, player).root_value for player in (1, 0))
    found = {LOG_Z: solution.root_value, OPTIMAL: rates.argmax, STRICT: strict.rate, TIES: strict.open, MASS: rates.mass}
    found |= {FIRST: first, SECOND: second, EXPLOITABILITY: exploitability(graph, solution.log_policy, outcome)}
    other = solve_unadjusted(graph, np.stack([scale * outcome, -scale * outcome]))
    strict = _strict(graph, other.log_policy, fast)
    found |= {UNADJUSTED: optimal_rates(other.log_policy, perfect).argmax}
    found |= {UNADJUSTED_STRICT: strict.rate, UNADJUSTED_TIES: strict.open}
    found |= {NO_BRANCHES: solve_game(graph, scale * outcome, branch_adjusted=False).root_value}
    found |= {FLOW_1: float(other.log_flows[0, 0]), FLOW_2: float(other.log_flows[1, 0])}
    if isinstance(env, TicTacToe):
        found |= {metric: float(np.exp(solution.log_policy[0, cell])) for metric, cell in _FIRST_MOVES.items()}
    return found


class _Strict(NamedTuple):
    """Share of positions with a fastest win or slowest loss as the most probable move, and of those where ties decide it."""

    rate: float
    open: float


def _strict(graph: Graph, log_policy: Float[np.ndarray, "state action"], fast: Bool[np.ndarray, "state action"]) -> _Strict:
    best: Any = np.max(log_policy, axis=1, keepdims=True)
    counts = ~graph.is_terminal
    tied = log_policy[counts] > best[counts] - 1e-9
    can, must = np.any(tied & fast[counts], axis=1), np.all(~tied | fast[counts], axis=1)
    return _Strict(optimal_rates(log_policy, fast).argmax, float(np.mean(can & ~must)))
