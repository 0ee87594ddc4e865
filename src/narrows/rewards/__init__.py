"""Scores of finished objects; a job names one in its `[reward]` table."""

from narrows.rewards.analytic import BitModes, HypergridReward, PairwiseSubsets
from narrows.rewards.base import AbstractReward as AbstractReward
from narrows.rewards.base import Tempered as Tempered
from narrows.rewards.base import UnwrapPerturbed as UnwrapPerturbed
from narrows.rewards.ehrlich import Ehrlich
from narrows.rewards.ehrlich import EhrlichFunction as EhrlichFunction
from narrows.rewards.game_result import GameResult
from narrows.rewards.landscape import Landscape

__all__ = ["BitModes", "Ehrlich", "GameResult", "HypergridReward", "Landscape", "PairwiseSubsets"]
