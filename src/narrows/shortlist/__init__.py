"""A small and diverse selection of candidates, each with the reason why it was selected."""

from narrows.shortlist.candidates import Candidates as Candidates
from narrows.shortlist.candidates import Run as Run
from narrows.shortlist.candidates import candidates_from_archive as candidates_from_archive
from narrows.shortlist.candidates import candidates_from_objects as candidates_from_objects
from narrows.shortlist.candidates import merge_candidates as merge_candidates
from narrows.shortlist.distances import Nearest as Nearest
from narrows.shortlist.distances import distance_matrix as distance_matrix
from narrows.shortlist.distances import is_closer as is_closer
from narrows.shortlist.distances import mean_pairwise_distance as mean_pairwise_distance
from narrows.shortlist.distances import nearest as nearest
from narrows.shortlist.diverse import Choice as Choice
from narrows.shortlist.diverse import choose_diverse as choose_diverse
from narrows.shortlist.files import COLUMNS as COLUMNS
from narrows.shortlist.files import OUTCOME_COLUMNS as OUTCOME_COLUMNS
from narrows.shortlist.files import read_csv as read_csv
from narrows.shortlist.files import write_csv as write_csv
from narrows.shortlist.files import write_fasta as write_fasta
from narrows.shortlist.foretold import Foretold as Foretold
from narrows.shortlist.foretold import Outcomes as Outcomes
from narrows.shortlist.rows import Diversity as Diversity
from narrows.shortlist.rows import LetterCounts as LetterCounts
from narrows.shortlist.rows import Shortlist as Shortlist
from narrows.shortlist.rows import ShortlistRow as ShortlistRow
from narrows.shortlist.rows import with_outcomes as with_outcomes
from narrows.shortlist.selection import select as select
