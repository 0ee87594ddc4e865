"""Rules of construction: what can be built, one step at a time."""

from narrows.envs.base import CHANCE as CHANCE
from narrows.envs.base import AbstractEnvironment as AbstractEnvironment
from narrows.envs.base import AbstractReversibleEnvironment as AbstractReversibleEnvironment
from narrows.envs.base import Prefix as Prefix
from narrows.envs.base import features as features
from narrows.envs.bit_sequence import BitSequence
from narrows.envs.check import ContractError as ContractError
from narrows.envs.check import check_chance as check_chance
from narrows.envs.check import check_environment as check_environment
from narrows.envs.connect_four import ConnectFour
from narrows.envs.game import AbstractGame as AbstractGame
from narrows.envs.hypergrid import Hypergrid
from narrows.envs.perturbation import AbstractKernel as AbstractKernel
from narrows.envs.perturbation import AbstractPerturbed as AbstractPerturbed
from narrows.envs.perturbation import Perturbed as Perturbed
from narrows.envs.perturbation import perturbed as perturbed
from narrows.envs.sequence import Sequence
from narrows.envs.subsets import Subsets
from narrows.envs.tic_tac_toe import TicTacToe

__all__ = ["BitSequence", "ConnectFour", "Hypergrid", "Sequence", "Subsets", "TicTacToe"]
