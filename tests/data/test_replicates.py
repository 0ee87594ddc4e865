"""Measurements of one sequence are joined, copies of a line are not counted, and bounds stay bounds."""

import numpy as np
import pytest
from tests.data.conftest import Checker

from narrows.data import Table

COPIES = "sequence,score,plate\nAC,1,a\nAC,4,b\nAC,4,c\nAG,2,a\nAG,2,a\nAU,7,a\n"


@pytest.mark.parametrize(("how", "score"), [("mean", 3.0), ("median", 4.0), ("best", 4.0)])
def test_measurements_are_joined_and_copies_of_a_line_are_not_counted(check: Checker, how: str, score: float):
    table = check(COPIES, replicates=how).table
    assert table.sequences == ("AC", "AG", "AU") and table.rows == (2, 5, 7)
    assert table.scores.tolist() == [score, 2.0, 7.0] and table.counts.tolist() == [3, 1, 1]
    assert table.measurement_std == pytest.approx(np.std([1, 4, 4], ddof=1))


def test_what_became_of_the_rows_adds_up(check: Checker):
    found = check(COPIES + "AX,1,a\nAA,,b\nAAX,2,b\n")
    assert "9: 2 kept, 3 replicates joined into 1, 1 duplicate left out, 3 rejected\n" in found.summary()
    assert "2 with a letter outside the alphabet: rows 8 and 10" in found.summary()
    told = found.to_dict()
    assert (told["num_joined"], told["num_joined_into"], told["num_duplicates"], told["num_rejected"]) == (3, 1, 1, 3)


def test_the_best_is_the_best_in_the_sense_of_scores(check: Checker):
    content = "sequence,score\nAC,1\nAC,3\n"
    assert check(content, replicates="best", score_sense="lower").table.scores.tolist() == [-1.0]
    assert check(content, replicates="best", score_transform="-log10").table.scores.tolist() == [0.0]
    assert check(content, replicates="best").table.scores.tolist() == [3.0]


def test_the_error_of_measurement_is_pooled_over_sequences(check: Checker):
    content = "sequence,score\nAC,1\nAC,3\nAG,10\nAG,11\nAG,15\nAU,100\n"
    expected = np.sqrt((2 * 1 + 2 * 7) / 3)
    assert check(content).table.measurement_std == pytest.approx(expected)
    assert f"standard deviation {expected:.3g} between replicates" in check(content).summary()
    assert check("sequence,score\nAC,1\nAG,2\n").table.measurement_std is None
    doubled = check(content, score_transform="log10").table
    assert doubled.measurement_std == pytest.approx(
        np.sqrt((np.var(np.log10([1, 3])) * 2 + np.var(np.log10([10, 11, 15])) * 3) / 3)
    )


@pytest.mark.parametrize(
    ("how", "scores", "joined"),
    [
        ("mean", ["1", ">3"], (2.0, 1)),
        ("mean", ["<1", "3"], (2.0, -1)),
        ("mean", ["<1", ">3"], None),
        ("median", ["1", "2", ">3"], (2.0, 0)),
        ("median", ["1", ">2", "3"], (2.0, 1)),
        ("median", [">1", "2", "3"], (2.0, 1)),
        ("median", ["<1", "2", ">3"], (2.0, 0)),
        ("best", ["5", "<3"], (5.0, 0)),
        ("best", ["<5", "3"], (5.0, -1)),
        ("best", ["5", ">3"], (5.0, 1)),
        ("best", ["<5", ">3"], None),
    ],
)
def test_a_joined_score_is_a_bound_where_it_could_still_move(check: Checker, how, scores, joined):
    found = check("sequence,score\nAG,0\n" + "".join(f"AC,{score}\n" for score in scores), replicates=how)
    if joined is None:
        assert [finding.kind for finding in found.errors] == ["conflict"] * len(scores)
        assert "A bound from above and one from below cannot be joined" in found.errors[0].message
    else:
        assert (found.table.scores[1], found.table.bounds[1]) == joined


def test_the_mean_of_the_largest_scores_is_finite(check: Checker):
    found = check("sequence,score\nAC,1.7e308\nAC,1.6e308\nAC,1.5e308\nAG,0.1\nAG,0.1000\nAU,-1.7e308\nAU,1.7e308\n")
    assert found.table.scores.tolist() == pytest.approx([1.6e308, 0.1, 0.0]) and found.table.measurement_std is None
    assert np.isfinite(check("sequence,score\nAC,1.7e308\nAC,1.6e308\n", replicates="median").table.scores).all()


def test_identical_measurements_keep_their_score(check: Checker):
    content = "sequence,score,plate\n" + "".join(f"AC,0.1,{plate}\n" for plate in range(7))
    assert check(content).table.scores.tolist() == [0.1] and check(content).table.counts.tolist() == [7]


def test_the_hash_of_single_values_is_the_old_one_and_others_count():
    plain = Table("m.csv", ("AC", "AG"), np.array([1.0, 2.0]), (2, 3))
    counted = Table("m.csv", ("AC", "AG"), np.array([1.0, 2.0]), (2, 3), counts=np.array([1, 2]))
    bound = Table("m.csv", ("AC", "AG"), np.array([1.0, 2.0]), (2, 3), bounds=np.array([0, -1]))
    assert plain.sha256 == "862d655f0cb43b37bd4751dbaabb28bd38f7484e16270528acc531a119c298b7"
    assert len({plain.sha256, counted.sha256, bound.sha256}) == 3
    with pytest.raises(ValueError, match="one score and one row number for each"):
        Table("m.csv", ("AC",), np.zeros(1), (2,), counts=np.ones(2))
