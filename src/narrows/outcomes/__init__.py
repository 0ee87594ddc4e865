"""What comes out of objects that are asked for, under noise."""

from narrows.outcomes.foreteller import Foreteller as Foreteller
from narrows.outcomes.foreteller import foreteller as foreteller
from narrows.outcomes.foreteller import plans_of as plans_of
