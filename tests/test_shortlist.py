"""The diverse choice and the shortlist against plain loops."""

import itertools
import random
import re
import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.reference.diverse import greedy
from tests.reference.lev import levenshtein

from narrows.distance import EDITS
from narrows.selection import (
    Candidates,
    Run,
    ScoredCandidates,
    Shortlist,
    candidates_from_archive,
    candidates_from_objects,
    choose_diverse,
    merge_candidates,
    select,
)
from narrows.selection import diverse as diverse_module
from narrows.selection.diverse import KEPT
from narrows.storage.archive import Archive

STRINGS = st.lists(st.text("AC", max_size=5), min_size=1, max_size=20)
SCORES = st.sampled_from([-1.0, 0.0, 0.5, 2.0])


def random_strings(seed: int, num: int, length: int = 8, letters: str = "ACGU") -> list[str]:
    rng = random.Random(seed)
    return ["".join(rng.choices(letters, k=length)) for _ in range(num)]


def draw_scores(data, num: int) -> np.ndarray:
    return np.array(data.draw(st.lists(SCORES, min_size=num, max_size=num)), np.float64)


# The greedy choice


@pytest.mark.parametrize(("first", "largest"), [(1, 1), (2, 3), (256, 1 << 14)])
def test_choice_agrees_with_plain_loops_in_blocks_of_any_size(monkeypatch, first, largest):
    monkeypatch.setattr(diverse_module, "_FIRST_BLOCK", first)
    monkeypatch.setattr(diverse_module, "_LARGEST_BLOCK", largest)

    @settings(max_examples=60)
    @given(st.data(), STRINGS, st.integers(1, 8), st.integers(0, 5), st.booleans())
    def agrees(data, items, k, min_distance, own_distance):
        scores = draw_scores(data, len(items))
        choice = choose_diverse(items, scores, k=k, min_distance=min_distance, distance=levenshtein if own_distance else EDITS)
        # Equal strings are never both kept, unless the distance is the caller's own affair.
        least = min_distance if own_distance else max(1, min_distance)
        kept = greedy(items, scores.tolist(), k, least, levenshtein)
        assert choice.kept.tolist() == kept
        considered = choice.order[: len(choice.blocker)]
        assert len(kept) < k or considered[-1] == kept[-1]
        assert len(kept) == k or len(choice.blocker) == len(items)
        rows: list[int] = []
        for position, blocker in zip(considered.tolist(), choice.blocker.tolist(), strict=True):
            close = [row for row, other in enumerate(rows) if levenshtein(items[other], items[position]) < least]
            assert blocker == (close[0] if close else KEPT)
            rows += [] if close else [position]
        assert rows == kept

    agrees()


def test_choice_among_many_agrees_with_plain_loops():
    items = random_strings(0, 3000, 6)
    scores = np.random.default_rng(0).normal(size=3000)
    for k, min_distance in ((100, 3), (100, 5), (5, 2)):
        choice = choose_diverse(items, scores, k=k, min_distance=min_distance)
        assert choice.kept.tolist() == greedy(items, scores.tolist(), k, min_distance, levenshtein)


def test_choice_among_many_is_fast():
    rng = np.random.default_rng(0)
    items = ["".join(row) for row in np.array(list("ACGU"))[rng.integers(0, 4, (100_000, 14))]]
    start = time.perf_counter()
    # No 100 of these are 9 apart: every candidate is compared with what was kept.
    choice = choose_diverse(items, rng.normal(size=len(items)), k=100, min_distance=9)
    assert len(choice.kept) < 100 and len(choice.blocker) == len(items)
    assert time.perf_counter() - start < 10.0  # 0.15 s on one quiet core


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"k": 0}, "k must be at least 1, got 0"),
        ({"min_distance": -1}, "min_distance must be a number of at least 0"),
        ({"min_distance": float("nan")}, "min_distance must be a number of at least 0"),
        ({"scores": np.array([1.0])}, "one score for each of 2 items, got scores of shape \\(1,\\)"),
        ({"scores": np.array([1.0, np.nan])}, "item 1 \\('C'\\) has no score"),
    ],
)
def test_choice_refuses(change, message):
    with pytest.raises(ValueError, match=message):
        choose_diverse(**({"items": ["A", "C"], "scores": np.array([1.0, 2.0]), "k": 1, "min_distance": 1} | change))


# The shortlist


@settings(max_examples=60, deadline=None)
@given(st.data(), STRINGS, STRINGS, st.integers(1, 6), st.integers(0, 4), st.booleans(), st.booleans())
def test_shortlist_agrees_with_plain_loops(data, objects, measured, k, min_distance, by_bound, exclude):
    mean, std = draw_scores(data, len(objects)), abs(draw_scores(data, len(objects)))
    measured_scores = draw_scores(data, len(measured))
    shortlist = select(
        objects,
        mean,
        std,
        k=k,
        min_distance=min_distance,
        measured=measured,
        measured_scores=measured_scores,
        lower_bound_kappa=0.5,
        by="lower_bound" if by_bound else "mean",
        exclude_measured=exclude,
    )
    ranking = mean - 0.5 * std if by_bound else mean
    allowed = [index for index, name in enumerate(objects) if not (exclude and name in measured)]
    chosen = greedy([objects[i] for i in allowed], ranking[allowed].tolist(), k, max(1, min_distance), levenshtein)
    expected = [allowed[index] for index in chosen]
    assert [row.sequence for row in shortlist.rows] == [objects[index] for index in expected]
    assert shortlist.num_candidates == len({objects[index] for index in allowed})
    assert shortlist.num_left_out == len(set(objects)) - shortlist.num_candidates
    assert (shortlist.reason_fewer is None) == (len(shortlist.rows) == k)
    for rank, (row, index) in enumerate(zip(shortlist.rows, expected, strict=True), start=1):
        assert row.rank == rank
        assert row.score == mean[index] and row.score_std == std[index]
        assert row.lower_bound == pytest.approx(mean[index] - 0.5 * std[index])
        distances = [levenshtein(row.sequence, other) for other in measured]
        assert row.distance_to_measured == min(distances)
        ties = [score for score, distance in zip(measured_scores, distances, strict=True) if distance == min(distances)]
        assert row.nearest_measured_score == max(ties)
        assert row.nearest_measured is not None
        assert levenshtein(row.sequence, row.nearest_measured) == min(distances)
    check_whole(shortlist)


def check_whole(shortlist: Shortlist) -> None:
    """Check what must hold of every shortlist: distances, clusters, diversity, letters."""
    names = [row.sequence for row in shortlist.rows]
    distances = [[levenshtein(one, other) for other in names] for one in names]
    assert shortlist.distances.tolist() == distances
    pairs = [distances[i][j] for i in range(len(names)) for j in range(i)]
    assert all(distance >= max(1, shortlist.min_distance) for distance in pairs)
    diversity = shortlist.diversity
    assert diversity.min_distance == min(pairs, default=None)
    assert diversity.mean_distance == (pytest.approx(sum(pairs) / len(pairs)) if pairs else None)
    known = [row.distance_to_measured for row in shortlist.rows if row.distance_to_measured is not None]
    assert diversity.novelty == (pytest.approx(sum(known) / len(known)) if known else None)
    heads: list[int] = []
    for row in range(len(names)):
        if all(distances[row][head] >= max(1, shortlist.cluster_distance) for head in heads):
            heads.append(row)
    clusters = [min(range(len(heads)), key=lambda head: distances[row][heads[head]]) + 1 for row in range(len(names))]
    assert [row.cluster for row in shortlist.rows] == clusters
    assert diversity.num_clusters == len(heads)
    letters, counts = shortlist.letter_counts.letters, shortlist.letter_counts.counts
    assert letters == "".join(sorted(set("".join(names))))
    assert counts.shape == (max(map(len, names), default=0), len(letters))
    for position, row in enumerate(counts.tolist()):
        assert row == [sum(name[position : position + 1] == letter for name in names) for letter in letters]


def test_every_row_says_why_it_is_there():
    #          row 1   close    close    row 2    close to 2  row 3    no more looked at
    objects = ["AAAAAA", "AAAAAC", "AAAAAG", "CCCCCC", "CCCCCA", "GGGGGG", "UUUUUU"]
    shortlist = select(objects, np.arange(7.0, 0.0, -1.0), k=3, min_distance=3)
    assert [row.why for row in shortlist.rows] == [
        "highest score of 7 candidates",
        "number 4 of 7 by score; 2 better ones were passed over, closer than 3 edits to row 1",
        "number 6 of 7 by score; 3 better ones were passed over, closer than 3 edits to row 1 (2), row 2 (1)",
    ]
    assert shortlist.num_considered == 6
    listed = select(objects, np.arange(7.0, 0.0, -1.0), np.zeros(7), k=2, min_distance=1, by="lower_bound")
    assert [row.why for row in listed.rows] == [
        "highest lower bound (mean - 1 std) of 7 candidates",
        "number 2 of 7 by lower bound (mean - 1 std); all better ones are listed above",
    ]


def test_reasons_account_for_every_better_candidate():
    objects = random_strings(3, 4000, 7)
    scores = np.random.default_rng(3).normal(size=4000)
    shortlist = select(objects, scores, k=30, min_distance=4)
    assert len(shortlist.rows) == 30
    total = shortlist.num_candidates
    told = [row for row in shortlist.rows[1:] if not row.why.endswith("; all better ones are listed above")]
    assert len(told) > 20
    for row in told:
        found = re.fullmatch(rf"number ([\d,]+) of {total:,} by score; ([\d,]+) better .* edits to (.*)", row.why)
        assert found, row.why
        place, passed = (int(number.replace(",", "")) for number in found.groups()[:2])
        assert place == passed + row.rank
        counts = [int(number.replace(",", "")) for number in re.findall(r"\(([\d,]+)\)", found.group(3))]
        assert sum(counts) == passed or not counts
    check_whole(shortlist)


def test_what_is_not_known_is_none():
    row = select(["A"], np.array([1.0]), k=1, min_distance=1).rows[0]
    assert (row.score_std, row.lower_bound, row.nearest_measured, row.nearest_measured_score) == (None,) * 4
    assert (row.distance_to_measured, row.seed, row.step, row.run) == (None, None, None, "")
    rows = select(["AA", "CC"], np.array([2.0, 1.0]), np.array([np.nan, 0.5]), k=2, min_distance=1, measured=["CG"]).rows
    assert [(r.score_std, r.lower_bound) for r in rows] == [(None, None), (0.5, 0.5)]
    assert [(r.nearest_measured, r.nearest_measured_score, r.distance_to_measured) for r in rows] == [
        ("CG", None, 2),
        ("CG", None, 1),
    ]


def test_a_repeated_object_counts_once_with_its_better_score():
    shortlist = select(["AA", "CC", "AA"], np.array([0.0, 1.0, 2.0]), k=3, min_distance=0)
    assert [(row.sequence, row.score) for row in shortlist.rows] == [("AA", 2.0), ("CC", 1.0)]
    assert shortlist.num_candidates == 2


def test_ties_go_in_the_order_given():
    objects = random_strings(0, 40)
    first = select(objects, np.zeros(40), k=5, min_distance=3)
    assert first.rows == select(objects, np.zeros(40), k=5, min_distance=3).rows
    assert first.rows[0].sequence == objects[0]


def test_says_why_there_are_fewer_rows_and_is_right():
    objects = random_strings(0, 500, 6)
    scores = np.random.default_rng(0).normal(size=500)
    few = select(objects, scores, k=40, min_distance=5)
    assert len(few.rows) < 40 and few.reason_fewer is not None
    found = re.fullmatch(
        rf"{len(few.rows)} of the 40 rows asked for: {few.num_candidates - len(few.rows)} of {few.num_candidates} "
        r"candidates are closer than 5 edits to a better row\. With min_distance (\d) there are 40; or run the .*",
        few.reason_fewer,
    )
    assert found, few.reason_fewer
    enough = int(found.group(1))
    assert select(objects, scores, k=40, min_distance=enough).reason_fewer is None
    assert select(objects, scores, k=40, min_distance=enough + 1).reason_fewer is not None
    assert few.reason_fewer in few.summary()


def test_says_when_there_are_too_few_candidates():
    scores = np.array([3.0, 2.0, 1.0])
    none_close = select(["AAA", "CCC", "GGG"], scores, k=5, min_distance=2, measured=["GGG"])
    assert none_close.reason_fewer == (
        "2 of the 5 rows asked for: there are no more candidates (1 more are measured already and left out). "
        "Run the sampler longer or ask for fewer rows."
    )
    close = select(["AAA", "AAC", "GGG"], scores, k=5, min_distance=2)
    assert close.reason_fewer == (
        "2 of the 5 rows asked for: 1 of 3 candidates are closer than 2 edits to a better row. "
        "A smaller min_distance gives at most 3: run the sampler longer, too."
    )
    nothing = select(["AAA"], np.ones(1), k=1, min_distance=2, measured=["AAA"])
    assert nothing.rows == () and nothing.reason_fewer is not None
    assert "(1 more are measured already and left out)" in nothing.reason_fewer
    assert nothing.summary().startswith("0 rows of 1, from 0 candidates")
    check_whole(nothing)
    kept = select(["AAA"], np.ones(1), k=1, min_distance=2, measured=["AAA"], exclude_measured=False)
    assert kept.rows[0].distance_to_measured == 0


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"k": 0}, "k must be at least 1"),
        ({"min_distance": -1}, "min_distance counts edits: .* at least 0, got -1"),
        ({"min_distance": 1.5}, "min_distance counts edits: .* whole number"),
        ({"cluster_distance": -1}, "cluster_distance counts edits"),
        ({"objects": [], "mean": np.zeros(0)}, "there are no candidates to choose from: the archive is empty"),
        ({"mean": np.array([np.nan, 1.0, np.inf])}, "mean must be finite: got nan for candidate 0 \\('A'\\), 2 such"),
        ({"mean": np.zeros(2)}, "one mean and one std for each of 3 candidates"),
        ({"std": np.zeros(4)}, "one mean and one std for each of 3 candidates"),
        ({"std": np.array([0.0, -1.0, 0.0])}, "a std is at least 0 .*: got -1.0 for candidate 1 \\('C'\\)"),
        ({"std": np.array([0.0, np.inf, 0.0])}, "a std is at least 0 .*: got inf"),
        ({"by": "lower_bound"}, "a lower bound needs a std: got nan for candidate 0 .* Rank by the mean"),
        ({"by": "median"}, "by must be 'mean', .*'neighbourhood' or 'thompson', got 'median'"),
        ({"by": "sampler"}, "by='sampler' needs ranks: give one log-probability"),
        ({"ranks": np.zeros(3)}, "by='mean' ranks by the scores"),
        ({"by": "sampler", "ranks": np.zeros(2)}, "expected one log-probability for each of 3 candidates"),
        ({"by": "sampler", "ranks": np.array([0, np.nan, 0])}, "the log-probability must be finite: got nan for candidate 1"),
        ({"lower_bound_kappa": -1.0}, "lower_bound_kappa must be a number of at least 0"),
        ({"measured": ["A"], "measured_scores": [1.0, 2.0]}, "one finite score for each of 1 measured"),
        ({"measured": ["A"], "measured_scores": [np.nan]}, "with 1 that are not finite"),
    ],
)
def test_shortlist_refuses(change, message):
    arguments = {"objects": ["A", "C", "G"], "mean": np.zeros(3), "k": 1, "min_distance": 1} | change
    with pytest.raises(ValueError, match=message):
        select(**arguments)


# Several runs


@settings(max_examples=60)
@given(st.lists(st.lists(st.tuples(st.text("AC", max_size=2), st.integers(0, 9)), max_size=5), min_size=1, max_size=4))
def test_merging_keeps_the_first_run_and_its_first_step(parts):
    runs = [
        Candidates(
            tuple(name for name, _ in part),
            (Run(f"unused{index}"), Run(f"run{index}", index)),
            np.ones(len(part), np.int64),
            np.array([step for _, step in part], np.int64),
        )
        for index, part in enumerate(parts)
    ]
    expected: dict[str, tuple[int, int]] = {}
    for index, part in enumerate(parts):
        for name, step in part:
            expected[name] = min(expected.get(name, (index, step)), (index, step))
    merged = merge_candidates(runs)
    found = {
        name: (merged.runs[run].seed, step)
        for name, run, step in zip(merged.objects, merged.run_index, merged.steps.tolist(), strict=True)
    }
    assert found == expected and len(merged.objects) == len(expected)


def test_rows_know_their_run_seed_and_step(tmp_path):
    parts = []
    for seed, objects in enumerate((["AAAA", "CCCC"], ["AAAA", "GGGG"])):
        with Archive.open(tmp_path / f"{seed}.sqlite", create=True) as archive:
            archive.add(objects, np.array([1.0, 2.0]), np.array([10 + seed, 20 + seed]))
            parts.append(candidates_from_archive(archive, Run(f"runs/{seed}", seed)))
    merged = merge_candidates(parts)
    scores = {"AAAA": 3.0, "CCCC": 2.0, "GGGG": 1.0}
    rows = select(merged, np.array([scores[name] for name in merged.objects]), k=3, min_distance=2).rows
    assert [(row.sequence, row.run, row.seed, row.step) for row in rows] == [
        ("AAAA", "runs/0", 0, 10),
        ("CCCC", "runs/0", 0, 20),
        ("GGGG", "runs/1", 1, 21),
    ]


def test_candidates_refuse_what_does_not_fit():
    with pytest.raises(ValueError, match="one run and one step an object, got .*'steps': 2"):
        Candidates(("A",), (Run("r"),), np.zeros(1, np.int64), np.zeros(2, np.int64))
    with pytest.raises(ValueError, match="run_index must lie in 0..0"):
        Candidates(("A",), (Run("r"),), np.ones(1, np.int64), np.zeros(1, np.int64))
    with pytest.raises(ValueError, match="at least one run"):
        merge_candidates([])


def test_nothing_farther_from_the_measured_than_the_limit_is_chosen():
    generator = np.random.default_rng(5)
    objects = ["".join(letters) for letters in generator.choice(list("ACGU"), (400, 8))]
    measured, mean = objects[:7], generator.normal(size=400)
    distances = [min(levenshtein(one, other) for other in measured) for one in objects]
    for limit in (3, 4, 5):
        found = select(objects, mean, k=10, min_distance=3, measured=measured, max_from_measured=limit)
        allowed = [place for place, edits in enumerate(distances) if edits <= limit]
        inside = select([objects[place] for place in allowed], mean[allowed], k=10, min_distance=3, measured=measured)
        assert [row.sequence for row in found.rows] == [row.sequence for row in inside.rows]
        assert all((row.distance_to_measured or 0) <= limit for row in found.rows)
    first = select(
        ["AAAA", "GGGG", "GGGU"], np.array([3.0, 2.0, 1.0]), k=3, min_distance=2, measured=["GGGA"], max_from_measured=1
    )
    assert [row.sequence for row in first.rows] == ["GGGG"]
    assert first.rows[0].why.endswith("1 better one was passed over, more than 1 edits from all that is measured")
    assert "1 candidates are more than 1 edits from all that is measured" in (first.reason_fewer or "")
    for limit, names, message in ((-1, ["GGGA"], "at least 0 edits"), (1, [], "nothing is. Give measured sequences")):
        with pytest.raises(ValueError, match=message):
            select(["AAAA"], np.array([1.0]), k=1, min_distance=1, measured=names, max_from_measured=limit)


def test_the_sampler_may_rank():
    objects, likely = ["AAAA", "CCCC", "CCCG"], np.array([-3.0, -2.0, -1.0])
    chosen = select(objects, np.array([3.0, 2.0, 1.0]), k=2, min_distance=2, by="sampler", ranks=likely)
    assert [row.sequence for row in chosen.rows] == ["CCCG", "AAAA"]
    assert [row.score for row in chosen.rows] == [1.0, 3.0], "what the proxy says is told as ever"
    assert "probability under the sampler" in chosen.rows[0].why and chosen.ranked_by == "sampler"


def test_a_rule_with_numbers_of_its_own_asks_for_the_scores_of_its_rows_alone():
    texts, asked = ["".join(word) for word in itertools.product("ACGT", repeat=4)], []
    mean = np.arange(256.0)

    def score(places):
        asked.extend(places.tolist())
        return mean[places], np.full(len(places), 0.5)

    scored = ScoredCandidates(candidates_from_objects(texts), score)
    likely = np.random.default_rng(0).permutation(256)
    found = select(scored, k=5, min_distance=2, by="sampler", ranks=likely)
    assert asked == [texts.index(row.sequence) for row in found.rows]
    slow = select(texts, mean, np.full(256, 0.5), k=5, min_distance=2, by="sampler", ranks=likely)
    assert found.rows == slow.rows and found.num_candidates == slow.num_candidates
    by_mean = select(scored, k=5, min_distance=2)
    assert asked[5:] == [*range(256)] and by_mean.rows == select(texts, mean, np.full(256, 0.5), k=5, min_distance=2).rows
    with pytest.raises(ValueError, match="Leave those out"):
        select(scored, mean, k=5, min_distance=2)
