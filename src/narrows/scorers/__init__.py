"""Your own score: a Python function in a file of yours, run where it can neither hang, nor crash, nor corrupt a run."""

from narrows.scorers.backends import ScoreError as ScoreError
from narrows.scorers.executor import ExecutorScorer as ExecutorScorer
from narrows.scorers.executor import ScoreBatch as ScoreBatch
from narrows.scorers.host import HostReward as HostReward
from narrows.scorers.ledger import ScoreResult as ScoreResult
from narrows.scorers.scorer import BUILT_IN as BUILT_IN
from narrows.scorers.scorer import Scorer as Scorer
from narrows.scorers.scorer import load_scorer as load_scorer
from narrows.scorers.worker import Scores as Scores
