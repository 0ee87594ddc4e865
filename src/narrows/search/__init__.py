"""Searches of a score over texts, beside which a sampler is judged. A new one is a file of this folder and a name here."""

from typing import Final

from narrows.search.adaptive import adalead as adalead
from narrows.search.climbing import hill_climb as hill_climb
from narrows.search.edits import num_edits as num_edits
from narrows.search.edits import substitutions as substitutions
from narrows.search.genetic import genetic_algorithm as genetic_algorithm
from narrows.search.problem import Found as Found
from narrows.search.problem import Problem as Problem
from narrows.search.problem import Score as Score
from narrows.search.problem import Search as Search
from narrows.search.space import Space as Space
from narrows.search.space import distinct as distinct
from narrows.search.tempering import find_temperature as find_temperature

SEARCHES: Final[dict[str, Search]] = {
    "hill climb": hill_climb,
    "genetic algorithm": genetic_algorithm,
    "AdaLead": adalead,
}
"""Every search by the name that tables call it."""
