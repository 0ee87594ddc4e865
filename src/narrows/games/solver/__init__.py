"""Perfect play: a Connect-4 solver, every position of a small board, and a player that makes no mistake.

What is compiled (numba, in the extra `games`) is loaded when a solver is made, not before.
"""

from narrows.games.solver.board import ILLEGAL as ILLEGAL
from narrows.games.solver.cache import cache_folder as cache_folder
from narrows.games.solver.judge import Judge as Judge
from narrows.games.solver.judge import PerfectPlayer as PerfectPlayer
from narrows.games.solver.small import SmallBoard as SmallBoard
from narrows.games.solver.solver import Solver as Solver
from narrows.games.solver.tic_tac_toe import solve_tic_tac_toe as solve_tic_tac_toe
