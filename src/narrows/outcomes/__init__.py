"""The outcomes of objects that are asked for under noise."""

from narrows.outcomes.expected_outcomes import ExpectedOutcomes as ExpectedOutcomes
from narrows.outcomes.expected_outcomes import outcomes_under_noise as outcomes_under_noise
from narrows.outcomes.predictor import OutcomePredictor as OutcomePredictor
from narrows.outcomes.predictor import outcome_predictor as outcome_predictor
from narrows.outcomes.predictor import plans_of as plans_of
