"""Rankings that have numbers of their own, beside plain loops."""

import itertools
from collections import Counter
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from narrows.alphabet import reverse_complements
from narrows.distance import EDITS, StrandDistance
from narrows.search import Space
from narrows.search.space import distinct
from narrows.selection import PROXY_GUIDE, Candidates, Run, ScoredCandidates, select
from narrows.selection.rankings import RANKINGS, RankingTask, ranking_named
from narrows.selection.rankings.neighbourhood import neighbourhood_means

RNG = np.random.default_rng(0)


class Predictor:
    """A run that predicts, and counts what it was asked for."""

    letters, is_user_score, env_name = "ACGT", False, "Sequence"

    def __init__(self, length):
        texts = ["".join(word) for word in itertools.product("ACGT", repeat=length)]
        self.scores, self.asked = dict(zip(texts, RNG.normal(size=len(texts)).tolist(), strict=True)), Counter()

    def predict(self, objects):
        self.asked.update(objects)
        return np.array([self.scores[text] for text in objects])


def slow_mean(run, text, both):
    around = {text[:p] + letter + text[p + 1 :] for p in range(len(text)) for letter in "ACGT"}
    turned = [*around, *(reverse_complements([*around], "ACGT") if both else [])]
    return np.mean([run.scores[name] for name in turned])


@pytest.mark.parametrize("both", [False, True])
def test_a_neighbourhood_is_the_mean_over_all_substitutions_each_asked_for_once(both, monkeypatch):
    monkeypatch.setattr("narrows.selection.rankings.neighbourhood._ROWS_TOGETHER", 100)
    run = Predictor(4)
    texts = [*run.scores][::5]
    means = neighbourhood_means(run.predict, texts, Space("ACGT", 4, 4), both_strands=both)
    np.testing.assert_allclose(means, [slow_mean(run, text, both) for text in texts])
    assert set(run.asked.values()) == {1}


def task(run: Any, by, texts, mean, std, k=4, both=False, measured=()):
    scored = ScoredCandidates.of(
        Candidates(tuple(texts), (Run("a", 3),), np.zeros(len(texts), np.int64), np.arange(len(texts))), mean, std
    )

    def choose(scored, ranks):
        distance = StrandDistance(EDITS, "ACGT") if both else EDITS
        return select(
            scored,
            k=k,
            min_distance=2,
            measured=measured,
            by=by,
            ranks=ranks,
            guide=PROXY_GUIDE,
            distance=distance,
        )

    return RankingTask([run], scored, frozenset(measured), k, choose, lambda scored: choose(scored, None), both)


@pytest.mark.parametrize("asked", [1 << 17, 30])
def test_rows_by_neighbourhood_are_the_best_of_those_that_were_looked_at(asked, monkeypatch):
    monkeypatch.setattr("narrows.selection.rankings.neighbourhood._ASKED", asked)
    run = Predictor(4)
    texts = [*run.scores]
    mean, measured = run.predict(texts), texts[:20]
    chosen = ranking_named("neighbourhood").rank(task(run, "neighbourhood", texts, mean, mean * 0 + 1, measured=measured))
    looked_at = [text for text in sorted(texts, key=lambda text: -run.scores[text]) if text not in measured]
    looked_at = looked_at if asked > 256 else looked_at[: chosen.num_candidates]
    rows = []
    for text in sorted(looked_at, key=lambda text: -slow_mean(run, text, False)):
        if len(rows) < 4 and all(EDITS.matrix([text, row])[0, 1] >= 2 for row in rows):
            rows.append(text)
    assert [row.sequence for row in chosen.rows] == rows and len(rows) == 4
    assert chosen.num_left_out == 20 and "proxy mean over all single substitutions" in chosen.rows[0].why


def test_both_strands_are_one_object():
    run = Predictor(4)
    texts = [*run.scores]
    means = neighbourhood_means(run.predict, texts, Space("ACGT", 4, 4), both_strands=True)
    np.testing.assert_allclose(
        means, neighbourhood_means(run.predict, reverse_complements(texts, "ACGT"), Space("ACGT", 4, 4), both_strands=True)
    )
    mean = run.predict(texts)
    rows = [
        row.sequence
        for row in ranking_named("neighbourhood")
        .rank(task(run, "neighbourhood", texts, mean, np.ones(256), both=True, k=8))
        .rows
    ]
    for one, other in itertools.combinations(rows, 2):
        assert EDITS.matrix([one, *reverse_complements([other], "ACGT"), other])[0, 1:].min() >= 2
    with pytest.raises(ValueError, match="letters of DNA or RNA"):
        reverse_complements(["AC"], "AC")


def test_each_row_takes_the_best_of_its_own_draw():
    texts = [text * 3 for text in "ACGT"] + ["ACGTAC"]
    mean, std = np.array([0.0, 1.0, 2.0, 3.0, 3.1]), np.array([0.1, 4.0, 0.1, 0.5, 0.5])
    rule = ranking_named("thompson")
    chosen = rule.rank(task(None, "thompson", texts, mean, std, k=3))
    draws = mean + std * np.random.default_rng(3).standard_normal((3, 5))
    taken = []
    for turn in range(5):
        for draw in draws:
            best = int(np.argsort(-draw)[turn])
            taken += [best] if best not in taken else []
    assert [row.sequence for row in chosen.rows] == [texts[place] for place in taken[:3]]
    assert [row.sequence for row in rule.rank(task(None, "thompson", texts, mean, std, k=3)).rows] == [
        row.sequence for row in chosen.rows
    ]
    sure = rule.rank(task(None, "thompson", texts, mean, 0 * std, k=3))
    assert [row.sequence for row in sure.rows] == [texts[place] for place in (4, 3, 2)]
    with pytest.raises(ValueError, match="draws of a score need a std"):
        rule.rank(task(None, "thompson", texts, mean, std * np.nan))


def test_what_cannot_be_ranked_says_why():
    for change, words in (({"letters": None}, "replaces letters"), ({"is_user_score": True}, "would ask your score")):
        run = SimpleNamespace(letters="ACGT", is_user_score=False, env_name="Subsets")
        run.__dict__.update(change)
        with pytest.raises(ValueError, match=words):
            ranking_named("neighbourhood").rank(task(run, "neighbourhood", ["AC"], np.ones(1), np.ones(1)))
    assert {"thompson", "neighbourhood"} < {*RANKINGS}


@pytest.mark.parametrize("width", [3, 8, 13])
@pytest.mark.parametrize("most", [4, 1000])
def test_distinct_rows_are_those_of_a_set(width, most):
    rows = np.random.default_rng(1).integers(0, most, (200, width), np.int32)
    rows = np.concatenate([rows, rows[::3]])
    unique, place = distinct(rows)
    np.testing.assert_array_equal(unique[place], rows)
    assert len(unique) == len({tuple(row) for row in rows.tolist()})
