"""Cluster splits against brute force, and what they say when there is none."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.reference.lev import levenshtein

from narrows.proxies import splits
from narrows.proxies.splits import cluster_split, default_distance, held_out, near_duplicates

LETTERS = st.text("AC", max_size=5)


def clusters_by_brute_force(sequences, max_distance):
    """Flood fill over all pairs, with a plain Levenshtein distance."""
    cluster, num = [-1] * len(sequences), 0
    for start in range(len(sequences)):
        if cluster[start] >= 0:
            continue
        frontier = [start]
        cluster[start] = num
        while frontier:
            one = frontier.pop()
            for other in range(len(sequences)):
                if cluster[other] < 0 and levenshtein(sequences[one], sequences[other]) <= max_distance:
                    cluster[other] = num
                    frontier.append(other)
        num += 1
    return cluster


def random_sequences(num, length, letters="ACGU", seed=0):
    rng = np.random.default_rng(seed)
    return ["".join(row) for row in rng.choice(list(letters), (num, length))]


@settings(max_examples=60, deadline=None)
@given(st.lists(LETTERS, min_size=1, max_size=14), st.integers(0, 3), st.integers(1, 4))
def test_clusters_are_those_of_brute_force_whatever_the_block(sequences, max_distance, block):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(splits, "_BLOCK", block)
        assert near_duplicates(sequences, max_distance).tolist() == clusters_by_brute_force(sequences, max_distance)


@pytest.mark.parametrize("seed", range(3))
def test_no_pair_across_the_split_is_a_near_duplicate(seed):
    sequences = random_sequences(150, 6, seed=seed)
    split = cluster_split(sequences, fraction=0.25, max_distance=1, seed=seed)
    across = [levenshtein(sequences[i], sequences[j]) for i in split.test for j in split.train]
    assert min(across) > 1
    assert sorted([*split.train, *split.test]) == list(range(150))
    assert 0.125 * 150 <= len(split.test) <= 0.25 * 150


def test_copies_of_one_sequence_stay_together():
    sequences = ["ACGU", "GGGG"] * 10
    split = cluster_split(sequences, fraction=0.5, max_distance=0)
    assert not {sequences[i] for i in split.train} & {sequences[i] for i in split.test}


def test_the_seed_decides_which_clusters_are_held_out():
    sequences = random_sequences(60, 10)
    first, same, other = (cluster_split(sequences, max_distance=1, seed=seed).test for seed in (1, 1, 2))
    assert first.tolist() == same.tolist()
    assert first.tolist() != other.tolist()


def test_a_given_distance_that_joins_everything_is_an_error_with_the_cure():
    sequences = random_sequences(50, 6)
    with pytest.raises(ValueError, match=r"1 clusters, the largest with 50. Use a smaller max_distance \(now 6\)"):
        cluster_split(sequences, max_distance=6)


def test_the_default_distance_is_lowered_until_a_split_exists_and_says_so():
    wild_type = "ACGU" * 10
    mutants = [wild_type[:i] + letter + wild_type[i + 1 :] for i in range(40) for letter in "ACGU" if letter != wild_type[i]]
    assert default_distance(mutants) == 6
    split = cluster_split(mutants)
    # Mutants of one position are one edit apart, any two others two: the distance goes 6, 3, 1.
    assert (split.max_distance, split.reduced_from, split.num_clusters) == (1, 6, 40)
    assert "At a distance of 6 nearly all would be one cluster" in split.describe()


def test_one_sequence_many_times_cannot_be_split():
    with pytest.raises(ValueError, match="not enough different sequences"):
        cluster_split(["ACGU"] * 30)


def test_a_giant_cluster_stays_on_the_training_side_and_is_mentioned():
    chain = ["A" * n for n in range(1, 21)]  # each is one edit from the next
    far = ["C" * 30, "G" * 33, "U" * 36, "CG" * 20, "GU" * 22]
    split = cluster_split(chain + far, fraction=0.2, max_distance=1)
    assert split.largest_cluster == 20
    assert set(range(20)) <= set(split.train.tolist())
    assert len(split.test) == 5
    assert "One cluster holds 80% of the data" in split.describe()


def test_few_large_clusters_give_one_rather_than_none():
    clusters = np.repeat([0, 1, 2], 10)
    assert len(held_out(clusters, 6.0, seed=0)) == 10
    assert len(held_out(np.zeros(10, int), 2.0, seed=0)) == 0


@pytest.mark.parametrize(
    ("fraction", "max_distance", "match"), [(0.0, 1, "fraction"), (1.0, 1, "fraction"), (0.2, -1, "max_d")]
)
def test_settings_out_of_range(fraction, max_distance, match):
    with pytest.raises(ValueError, match=match):
        cluster_split(["AC", "GU"], fraction=fraction, max_distance=max_distance)
    with pytest.raises(ValueError, match="at least 2"):
        cluster_split(["AC"])
