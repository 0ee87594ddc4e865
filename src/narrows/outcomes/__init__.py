"""What comes out of objects that are asked for, under noise."""

from narrows.outcomes.predictor import Foreteller as Foreteller
from narrows.outcomes.predictor import foreteller as foreteller
from narrows.outcomes.predictor import plans_of as plans_of
