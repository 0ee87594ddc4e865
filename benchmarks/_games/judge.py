"""The perfect judge: what it costs to score positions, and what players without any training score on the sets."""

import time
from collections.abc import Iterator
from dataclasses import replace
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int

from benchmarks._games.exact import SPECIFICATION
from benchmarks.harness.rows import Context, Row, Target
from narrows.envs.connect_four import ConnectFour
from narrows.games.drawing import build_set
from narrows.games.exam import exam_of, states_of
from narrows.games.players import TacticPlayer
from narrows.games.sets import EvaluationSet, quiet
from narrows.games.solver import ILLEGAL, Solver
from narrows.games.solver.positions import random_positions

RATE, NODES, TIME = "nodes a second", "mean nodes to score all moves", "time a position"
OUTCOME, STRICT = "outcome", "strict"
FAST_ENOUGH = Target(">=", 1e6)
UNIFORM, CENTRE, TACTIC = "uniform", "centre first", "1-ply tactic"
RANDOM_SET, QUIET_SET, LATE_QUIET_SET = "random positions", "quiet positions", "quiet positions from ply 12"

SPECIFIED_NODES = {
    **{8: 1.4e7, 10: 4.6e6, 12: 1.5e6, 14: 3.7e5, 16: 9.9e4, 18: 2.6e4, 20: 9.7e3},
    **{22: 3.4e3, 24: 1.4e3, 26: 4.0e2, 28: 1.3e2, 30: 56.0},
}
"""Mean nodes of another program that does the same, by ply (eflow 8.2)."""

SPECIFIED_RATES = {
    (RANDOM_SET, UNIFORM): (0.625, 0.392),
    (RANDOM_SET, CENTRE): (0.712, 0.504),
    (RANDOM_SET, TACTIC): (0.958, 0.903),
    (LATE_QUIET_SET, UNIFORM): (0.426, 0.279),
    (LATE_QUIET_SET, CENTRE): (0.539, 0.400),
    (LATE_QUIET_SET, TACTIC): (0.600, 0.444),
}
"""Outcome and strict, on smaller draws of the same kinds (eflow 8.3)."""

_MANY = 20_000
"""Nodes from which on a position's time is the search's and not that of asking for it."""

_GAMES_EACH = 256
"""Random games that are begun for each position that is wanted: most end before they have so many stones."""


class Effort(NamedTuple):
    """How much the judge is asked."""

    positions: dict[int, int]  # how many positions are scored for each number of stones
    random: dict[int, int]  # the same for the set of random positions that players are measured on
    table_bits: int  # of the solver's table


FULL = Effort(
    {8: 10, 10: 20, 12: 50, 14: 100} | dict.fromkeys(range(16, 32, 2), 400), dict.fromkeys(range(12, 41), 150), table_bits=24
)
QUICK = Effort({14: 5, 18: 20, 22: 50, 30: 50}, dict.fromkeys(range(20, 41, 4), 30), table_bits=20)


def judge_rows(context: Context, effort: Effort, seed: int = 0) -> Iterator[Row]:
    """Yield nodes and times by ply, then the shares of optimal moves of players that nobody has trained."""
    solver = Solver(table_bits=effort.table_bits, book=False)
    yield from _cost_rows(context, solver, effort, seed)
    whole = quiet()
    sets = {RANDOM_SET: build_set(solver, "random", effort.random, seed=seed), QUIET_SET: whole, LATE_QUIET_SET: late(whole)}
    for name, positions in sets.items():
        yield context.row(f"games/solver/{name}", "positions", [len(positions)])
        for player, play in untrained(positions, seed).items():
            found = exam_of(positions).grade(play).overall
            peers = SPECIFIED_RATES.get((name, player))
            against, (outcome, strict) = (None, (None, None)) if peers is None else (SPECIFICATION, peers)
            case = f"games/solver/{name}/{player}"
            yield context.row(case, OUTCOME, [found.outcome], against=against, peer=outcome)
            yield context.row(case, STRICT, [found.strict], against=against, peer=strict)


def late(positions: EvaluationSet) -> EvaluationSet:
    """Return the positions with 12 stones or more: those that the specification's figures are of."""
    rows = positions.ply >= 12
    return replace(positions, moves=positions.moves[rows], scores=positions.scores[rows])


def untrained(
    positions: EvaluationSet, seed: int
) -> dict[str, Int[np.ndarray, " position"] | Float[np.ndarray, "position column"]]:
    """Return what players do that know no more than a rule."""
    is_legal = positions.scores != ILLEGAL
    distance = np.abs(np.arange(positions.width) - (positions.width - 1) / 2)
    states = states_of(positions.mover, positions.stones)
    tactic = TacticPlayer(ConnectFour(positions.width, positions.height))
    return {
        UNIFORM: is_legal / is_legal.sum(axis=1, keepdims=True),
        # Of two columns as near the middle the left one comes first: 3, 2, 4, 1, 5, 0, 6.
        CENTRE: np.argmin(np.where(is_legal, distance, np.inf), axis=1),
        TACTIC: tactic.choose(states, np.random.default_rng(seed)),
    }


def _cost_rows(context: Context, solver: Solver, effort: Effort, seed: int) -> Iterator[Row]:
    generator = np.random.default_rng(seed)
    late_one = random_positions(solver.board, 30, _GAMES_EACH, generator)
    solver.scores(late_one.mover[:1], late_one.stones[:1])  # compiles
    all_nodes, all_seconds = 0, 0.0
    for ply, num in effort.positions.items():
        drawn = random_positions(solver.board, ply, _GAMES_EACH * num, generator)
        nodes, seconds = [], []
        for row in range(min(num, len(drawn.mover))):
            solver.clear()  # what other positions have left in the table would be found again
            before, began = solver.nodes, time.perf_counter()
            solver.scores(drawn.mover[row : row + 1], drawn.stones[row : row + 1])
            seconds.append(time.perf_counter() - began)
            nodes.append(solver.nodes - before)
            if nodes[-1] >= _MANY:
                all_nodes, all_seconds = all_nodes + nodes[-1], all_seconds + seconds[-1]
        case, peer = f"games/solver/ply {ply}", SPECIFIED_NODES.get(ply)
        against = None if peer is None else SPECIFICATION
        yield context.row(case, "positions", [len(nodes)])
        yield context.row(case, NODES, [float(np.mean(nodes))], against=against, peer=peer)
        yield context.row(case, TIME, [1e3 * float(np.mean(seconds))], unit="ms")
    yield context.row("games/solver", RATE, [all_nodes / max(all_seconds, 1e-9)], unit="1/s", target=FAST_ENOUGH)
