"""A small and diverse selection of candidates, each with the reason why it was selected."""

from narrows.selection.candidates import Candidates as Candidates
from narrows.selection.candidates import Run as Run
from narrows.selection.candidates import candidates_from_archive as candidates_from_archive
from narrows.selection.candidates import candidates_from_objects as candidates_from_objects
from narrows.selection.candidates import merge_candidates as merge_candidates
from narrows.selection.choosing import select as select
from narrows.selection.diverse import Choice as Choice
from narrows.selection.diverse import choose_diverse as choose_diverse
from narrows.selection.files import COLUMNS as COLUMNS
from narrows.selection.files import OUTCOME_COLUMNS as OUTCOME_COLUMNS
from narrows.selection.files import read_csv as read_csv
from narrows.selection.files import write_csv as write_csv
from narrows.selection.files import write_fasta as write_fasta
from narrows.selection.foretold import Foretold as Foretold
from narrows.selection.foretold import Outcomes as Outcomes
from narrows.selection.guide import PROXY_GUIDE as PROXY_GUIDE
from narrows.selection.guide import SCORE_GUIDE as SCORE_GUIDE
from narrows.selection.guide import Guide as Guide
from narrows.selection.record import SelectionRecord as SelectionRecord
from narrows.selection.record import read_selection as read_selection
from narrows.selection.record import write_selection as write_selection
from narrows.selection.rows import Diversity as Diversity
from narrows.selection.rows import LetterCounts as LetterCounts
from narrows.selection.rows import Shortlist as Shortlist
from narrows.selection.rows import ShortlistRow as ShortlistRow
from narrows.selection.rows import with_outcomes as with_outcomes
