"""What a training step samples: objects from scratch, or earlier ones parts of which are drawn again.

A new way is a file of this folder and a name here.
"""

from narrows.training.exploration.base import AbstractExploration as AbstractExploration
from narrows.training.exploration.base import Plan as Plan
from narrows.training.exploration.base import Scene as Scene
from narrows.training.exploration.conservative import Conservative
from narrows.training.exploration.from_scratch import FromScratch
from narrows.training.exploration.local_search import LocalSearch
from narrows.training.exploration.recombination import Recombination
from narrows.training.exploration.variants import Variants

__all__ = ["Conservative", "FromScratch", "LocalSearch", "Recombination", "Variants"]
