"""How much each part does, in full and with --quick."""

from typing import NamedTuple

from benchmarks._games import connect4, judge, rivals, small_games, speed


class Plan(NamedTuple):
    """What one run measures.

    Args:
        solved: games that are solved exactly, with the log-rewards of a win.
        judge: how much the perfect judge is asked.
        speed: how much is timed.
        small: trainings on small games.
        faithful: the same for the authors' preset of tic-tac-toe.
        connect4: trainings on the usual board.
        rivals: the contest with AlphaZero.
    """

    solved: dict[str, tuple[float, ...]]
    judge: judge.Effort
    speed: speed.Effort
    small: small_games.Plan
    faithful: small_games.Plan
    connect4: connect4.Plan
    rivals: rivals.Plan


_CELLS = (1.0, 2.0, 3.0, 4.0, 5.0, 10.0, 30.0)
_BOARD = (1.0, 5.0, 10.0, 20.0)

FULL = Plan(
    solved={"tic_tac_toe": _CELLS} | dict.fromkeys(("connect4-4x4", "connect4-4x5", "connect4-5x4"), _BOARD),
    judge=judge.FULL,
    speed=speed.FULL,
    small=small_games.FULL,
    faithful=small_games.FULL,
    connect4=connect4.FULL,
    rivals=rivals.FULL,
)
QUICK = Plan(
    solved={"tic_tac_toe": (1.0, 5.0, 10.0), "connect4-4x4": (1.0, 10.0)},
    judge=judge.QUICK,
    speed=speed.QUICK,
    small=small_games.QUICK,
    faithful=small_games.QUICK._replace(steps=20),
    connect4=connect4.QUICK,
    rivals=rivals.QUICK,
)
