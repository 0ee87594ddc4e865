"""Searches beside plain loops and exhaustive listing, on spaces that are small."""

import numpy as np
import pytest
from tests.search.test_edits import edits_of, everything

from narrows.search import SEARCHES, Problem, Space, adalead, genetic_algorithm, hill_climb
from narrows.search.adaptive import _seeds
from narrows.search.problem import Asked

SPACES = [Space("ACGU", 5, 5), Space("AC", 3, 8)]


def rugged(space, seed=0):
    """Return a score over a small space with many local optima, and a list of what it was asked."""
    texts = everything(space)
    values = np.random.default_rng(seed).normal(size=len(texts)).round(2) + [text.count("C") / 2 for text in texts]
    table, asked = dict(zip(texts, values.tolist(), strict=True)), []

    def score(texts):
        asked.append(list(texts))
        return np.array([table[text] for text in texts])

    return score, asked


def problem(space, num_starts=3, seed=0):
    score, asked = rugged(space, seed)
    starts = tuple(everything(space)[:: space.num_objects // 7][:num_starts])
    return Problem(score, space, starts, score(starts) if starts else np.zeros(0)), asked


def climb_slowly(score, space, starts):
    """Return the tops of steepest ascents and everything on the way, one text at a time."""
    tops, seen = [], {}
    for text in starts:
        while True:
            edits = edits_of(text, space)
            scores = score(edits)
            seen.update(dict.fromkeys(edits))
            if scores.max() <= score([text])[0]:
                break
            text = edits[int(np.argmax(scores))]
        tops.append(text)
    return tops, seen


@pytest.mark.parametrize("space", SPACES, ids=str)
def test_the_hill_climb_asks_for_what_a_loop_does_and_reaches_its_tops(space):
    given, _ = problem(space, 7)
    tops, seen = climb_slowly(given.score, space, given.starts)
    found = hill_climb(given, 10**6)
    assert {*found.objects} == {*seen} - {*given.starts}
    assert {*tops} <= {*found.objects, *given.starts}


def test_a_small_budget_goes_to_the_first_starts_one_after_another():
    space = Space("ACGU", 5, 5)
    score, asked = rugged(space)
    starts = tuple(everything(space)[:40])
    given = Problem(score, space, starts, score(starts))
    asked.clear()
    found = hill_climb(given, 100)
    assert len(found.objects) == 100 and sum(map(len, asked)) == 100
    _, seen = climb_slowly(score, space, starts)
    assert list(found.objects) == [text for text in seen if text not in starts][:100]
    assert hill_climb(given.first(1), 10**6).objects == tuple(
        text for text in climb_slowly(score, space, starts[:1])[1] if text != starts[0]
    )


@pytest.mark.parametrize("name", SEARCHES)
@pytest.mark.parametrize("space", SPACES, ids=str)
def test_every_search_asks_once_for_what_it_gives_and_repeats_itself(name, space):
    given, asked = problem(space)
    asked.clear()
    found = SEARCHES[name](given, 150, 3)
    flat = [text for texts in asked for text in texts]
    assert flat == list(found.objects) and len(set(flat)) == len(flat) <= 150 and not set(flat) & set(given.starts)
    np.testing.assert_array_equal(found.scores, given.score(found.objects))
    again = SEARCHES[name](given, 150, 3)
    assert again.objects == found.objects
    if name != "hill climb":
        assert len(found.objects) == 150 or name == "AdaLead", "which may have no seed left that leads on"
        assert SEARCHES[name](given, 150, 4).objects != found.objects


@pytest.mark.parametrize("search", [genetic_algorithm, adalead])
@pytest.mark.parametrize("num_starts", [0, 1, 5])
def test_evolution_finds_the_best_of_a_smooth_space_that_it_cannot_list(search, num_starts):
    space = Space("ACGU", 12, 12)
    target = "ACGUUGCAACGU"

    def score(texts):
        return 1000 + 0.01 * np.array([sum(a == b for a, b in zip(text, target, strict=True)) for text in texts], float)

    starts = tuple(dict.fromkeys(space.write(space.drawn(np.random.default_rng(0), 5))[:num_starts]))
    found = search(Problem(score, space, starts, score(starts) if starts else np.zeros(0)), 6000)
    assert target in found.objects


@pytest.mark.parametrize("search", [genetic_algorithm, adalead])
def test_evolution_ends_where_there_is_nothing_left_to_ask(search):
    given, _ = problem(Space("AC", 2, 3), 2)
    found = search(given, 10**6)
    assert {*found.objects, *given.starts} == {*everything(given.space)}


@pytest.mark.parametrize("name", SEARCHES)
def test_what_has_no_score_is_noted_and_never_followed(name):
    space = Space("AC", 6, 6)
    score, _ = rugged(space)

    def failing(texts):
        return np.where([text.startswith("C") for text in texts], np.nan, score(texts))

    found = SEARCHES[name](Problem(failing, space, ("AAAAAA",), failing(["AAAAAA"])), 200)
    lost = [text for text, value in zip(found.objects, found.scores, strict=True) if np.isnan(value)]
    assert lost and all(text.startswith("C") for text in lost)
    assert {text for text in everything(space) if text.startswith("A")} >= {*found.objects} - {*lost} != set()


def test_seeds_are_what_is_nearly_the_best():
    space = Space("ACGU", 2, 2)
    texts = everything(space)
    scores = np.arange(16.0)
    asked = Asked(Problem(lambda texts: np.zeros(len(texts)), space, tuple(texts), scores + 1000), 0)
    slow = [text for text, value in zip(texts, scores, strict=True) if value >= 15 - 0.05 * 15]
    assert _seeds(asked, texts, 1000.0) == slow == ["UU"]
    assert len(_seeds(asked, texts, 984.0)) == 2
    assert _seeds(asked, texts, -np.inf) == ["UU"]


def test_a_problem_and_a_budget_are_checked():
    space = Space("AC", 1, 2)

    def score(texts):
        return np.zeros(len(texts))

    with pytest.raises(ValueError, match="one score for each of 1 starts"):
        Problem(score, space, ("A",), np.zeros(2))
    with pytest.raises(ValueError, match="distinct starts"):
        Problem(score, space, ("A", "A"), np.zeros(2))
    with pytest.raises(ValueError, match="at least 0 calls"):
        hill_climb(Problem(score, space, ("A",), np.zeros(1)), -1)
    with pytest.raises(ValueError, match=r"shape \(1,\) for 4 texts"):
        hill_climb(Problem(lambda texts: np.zeros(1), space, ("A",), np.zeros(1)), 9)
