"""Each worry is raised by the data that call for it and by no other."""

from dataclasses import replace

import numpy as np
import pytest
from tests.report.samples import bare, noisy, sample

from narrows.data import Space
from narrows.report import (
    Apart,
    DataQuality,
    History,
    Noise,
    ProxyQuality,
    ReportData,
    ScoreGroup,
    Search,
    Selection,
    SetAside,
    Truth,
)
from narrows.report.cautions import cautions, checks_made
from narrows.report.sections.headline import headline
from narrows.selection import ShortlistRow

HUGE = Space("protein", "ACDEFGHIKLMNPQRSTVWY", 200, 240)
STEPS = np.arange(40)
ALL_NEW = {"num_distinct": STEPS * 60, "num_sampled": STEPS * 64}
ROWS = tuple(ShortlistRow(i + 1, "ACGU" * 3, 0.9, distance_to_measured=3 + i) for i in range(4))


def data(**parts) -> ReportData:
    return replace(bare(), **parts)


def truth(shortlist, measured, promised) -> Truth:
    return Truth("t", (ScoreGroup("shortlist", "s", shortlist, promised), ScoreGroup("measured", "m", measured)))


RAISED = {
    "its ranking agrees with the measured one by only 0.31": data(proxy=ProxyQuality(spearman=0.31)),
    "rank agreement could not be computed": data(proxy=ProxyQuality(spearman=float("nan"))),
    "no better than predicting the mean": data(proxy=ProxyQuality(rmse=0.2, rmse_of_mean=0.2)),
    "surer than it should be: 40\xa0%": data(proxy=ProxyQuality(coverage_1std=0.4)),
    "repeats itself: 50 distinct objects in 1,000": data(space=HUGE, search=Search(num_distinct=50, num_sampled=1000)),
    "it has collapsed": data(space=HUGE, history=History(STEPS, num_distinct=np.minimum(STEPS, 20))),
    "not a finite number at 2 logged steps": data(history=History([1, 2, 3], loss=[1.0, np.nan, np.inf])),
    "training had not settled": data(history=History(STEPS, loss=np.concatenate([np.ones(30), np.full(10, 3.0)]))),
    "4 rows, 9 were asked for: no more objects": data(selection=Selection(ROWS, 9, reason_fewer="no more objects.")),
    "2 rows of 4 in the shortlist are more than 4 edits from every measured object, farther than anything": data(
        selection=Selection(ROWS), proxy=ProxyQuality(test_distance=[1, 4])
    ),
    "1 row of 4 in the shortlist is more than 5 edits from every measured object, where this proxy was no better": data(
        selection=Selection(ROWS), proxy=ProxyQuality(test_distance=[1, 4], trusted_distance=5)
    ),
    "of all that it saw, 20 objects are 4 edits apart; of as many drawn at random, 90 are": data(
        search=Search(num_distinct=900, apart=Apart(20, 90, 240, 4))
    ),
    "The proxy score does not move: what is sampled has 0.105 on average, 0.1 at the beginning, and the ten best 0.9": data(
        history=History(STEPS, mean_score=0.1 + 0.005 * (STEPS > 20), top_score=0.9 + 0 * STEPS, **ALL_NEW)
    ),
    "4 rows of 4 in the shortlist have 12 letters, which is [env] max_length, and 25\xa0% of what was measured": data(
        space=Space("rna", "ACGU", 6, 12), selection=Selection(ROWS), data=DataQuality("t", lengths=[12, 6, 7, 8])
    ),
    "4 rows of 4 in the shortlist have 12 letters, which is [env] min_length, and 0\xa0%": data(
        space=Space("rna", "ACGU", 12, 20), selection=Selection(ROWS), data=DataQuality("t", lengths=[16, 17])
    ),
    "4 rows of 4 have a proxy score above": data(selection=Selection(ROWS), data=DataQuality("t", scores=[0.5, 0.8])),
    "3 rows of the data did not pass": data(data=DataQuality("t", num_rejected=3)),
    "4 rows of 4 in the shortlist come out as something else more often than as asked (least likely: 20\xa0%": noisy(
        data(selection=Selection(ROWS)), prob_as_asked=0.2
    ),
    "For 4 rows of 4 what comes out is expected to score far below the sequence asked for: by 0.2 at most": noisy(
        data(selection=Selection(ROWS)), drop=0.2
    ),
    "few measurements (30)": data(data=DataQuality("t", num_used=30)),
    "1 item with a number that is not finite was set aside": data(set_aside=(SetAside("A", "nan"),)),
    "was stopped before its end when this page was made, at step 5 of 9": data(search=Search("", "stopped", 5, 9)),
    "worse on average than the best measured": data(truth=truth([0.1, 0.2, 0.15], [0.8, 0.9, 0.85], ())),
    "promised too much": data(truth=truth([0.1, 0.2], [0.1, 0.2], [0.9, 0.9])),
}


@pytest.mark.parametrize("words", RAISED)
def test_a_worry_is_raised(words):
    found = [caution.text for caution in cautions(RAISED[words])]
    assert len(found) == 1 and words in found[0]


QUIET = {
    "good proxy": data(proxy=ProxyQuality(spearman=0.8, rmse=0.1, rmse_of_mean=0.3, coverage_1std=0.66)),
    "many for a list": data(space=HUGE, search=Search(num_distinct=5000, num_sampled=100_000, enough=240)),
    "few apart, and no more at random": data(search=Search(num_distinct=900, apart=Apart(50, 90, 240, 4))),
    "all listed": data(search=Search(num_distinct=50, num_sampled=1000, apart=Apart(2, 90, 240, 4), is_listed=True)),
    "a score that has risen": data(history=History(STEPS, mean_score=0.1 + 0.01 * STEPS, top_score=0.9 + 0 * STEPS, **ALL_NEW)),
    "a score that has risen at once": data(
        history=History(
            STEPS, mean_score=0.8 + 0 * STEPS, top_score=0.9 + 0 * STEPS, num_distinct=STEPS * 10, num_sampled=STEPS * 64
        )
    ),
    "of the lengths of what was measured": data(
        space=Space("rna", "ACGU", 6, 12), selection=Selection(ROWS), data=DataQuality("t", lengths=[12, 12, 7, 8])
    ),
    "near enough": data(selection=Selection(ROWS), proxy=ProxyQuality(test_distance=[1, 4], trusted_distance=6)),
    "nearly all seen": data(space=Space("x", "01", 5, 5), search=Search(num_distinct=31, num_sampled=100_000)),
    "all seen": data(space=Space("x", "01", 5, 5), history=History(STEPS, num_distinct=np.full(40, 32))),
    "still finding": data(space=HUGE, history=History(STEPS, num_distinct=STEPS * 10)),
    "falling loss": data(history=History(STEPS, loss=np.exp(-STEPS / 9.0))),
    "as asked": data(selection=Selection(ROWS, 4)),
    "within what was tested": data(selection=Selection(ROWS), proxy=ProxyQuality(test_distance=[1, 9])),
    "better than measured": data(truth=truth([0.9, 0.8, 0.95], [0.1, 0.2, 0.15], [0.9, 0.8, 0.95])),
    "hardly any noise": noisy(data(selection=Selection(ROWS))),
    "nothing known": bare(),
}


@pytest.mark.parametrize("case", QUIET)
def test_no_worry_without_a_cause(case):
    assert cautions(QUIET[case]) == ()


def test_serious_ones_come_first_and_lead_to_a_section():
    found = cautions(
        replace(RAISED["few measurements (30)"], proxy=ProxyQuality(spearman=0.1), set_aside=(SetAside("A", "x"),))
    )
    assert [caution.level for caution in found] == ["caution", "note", "note"]


def test_checks_are_said_to_be_made_only_where_they_could_be():
    made, not_made = checks_made(sample(num_rows=2))
    assert not_made == () and len(made) == 10
    assert checks_made(noisy(sample(num_rows=2)))[0] == (*made, "what noise does to the rows")
    assert "what noise does to the rows" in checks_made(replace(bare(), noise=Noise("Table")))[1]
    made, not_made = checks_made(bare())
    assert made == () and len(not_made) == 10


def test_a_proxy_that_is_no_better_than_the_mean_is_said_in_the_first_line():
    worthless = ProxyQuality(spearman=0.1, rmse=0.99, rmse_of_mean=1.0, beats_mean=False)
    found = headline(data(proxy=worthless))
    assert found.lede[0].startswith("Caution: this proxy is no better than the mean")
    assert [caution.text for caution in found.cautions if "mean" in caution.text] == [], "it is said once"
    assert headline(data(proxy=replace(worthless, beats_mean=True))).lede[0].startswith("This run searched")
