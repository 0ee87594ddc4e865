"""Splits that keep near-duplicates together, so that a proxy is judged on what it has not practically seen."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import final

import numpy as np
from jaxtyping import Int
from rapidfuzz.distance import Levenshtein
from rapidfuzz.process import cdist
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

_BLOCK = 256
"""Rows compared with everything at a time: 256 x 100,000 distances of four bytes are 100 MB."""

Rows = Int[np.ndarray, " row"]


@final
@dataclass(frozen=True, eq=False)
class Split:
    """Two sides no pair of which is within `max_distance` edits.

    `train` and `test` are positions in the sequences, ascending; `clusters` has a cluster number for each sequence.
    `reduced_from` is the default distance that joined nearly everything, where a smaller one had to be taken.
    """

    train: Rows
    test: Rows
    clusters: Rows
    max_distance: int
    reduced_from: int | None = None

    @property
    def num_clusters(self) -> int:
        return int(self.clusters.max()) + 1

    @property
    def largest_cluster(self) -> int:
        """Number of sequences in the largest cluster."""
        return int(np.bincount(self.clusters).max())

    def describe(self) -> str:
        """Describe the split in a few sentences."""
        num, largest = len(self.clusters), self.largest_cluster
        text = (
            f"Held out by clusters: {len(self.test):,} of {num:,} sequences, {_farther(self.max_distance)} every sequence "
            f"on the other side; {self.num_clusters:,} clusters, the largest with {largest:,}."
        )
        if self.reduced_from is not None:
            text += f" At a distance of {self.reduced_from} nearly all would be one cluster, so it was lowered."
        if 2 * largest > num:
            text += f" One cluster holds {largest / num:.0%} of the data and stays on the training side."
        return text


def cluster_split(sequences: Sequence[str], *, fraction: float = 0.2, max_distance: int | None = None, seed: int = 0) -> Split:
    """Split sequences so that none on one side is within `max_distance` edits (Levenshtein) of one on the other.

    Clusters are the connected components of the graph that joins sequences within `max_distance` (single linkage), and a
    cluster lies on one side as a whole, in an order drawn by `seed`.

    Args:
        sequences: at least two.
        fraction: share of the sequences to hold out, in (0, 1); whole clusters may give somewhat less.
        max_distance: edits, >= 0. By default 15 % of the median length, at least 1; where that joins nearly everything, the
            default is halved until a split is possible.
        seed: which clusters are held out.

    Raises ValueError where a given `max_distance` leaves no split.

    >>> split = cluster_split(["AAAA", "AAAC", "GGGG", "GGGU", "CUCU"], fraction=0.4, max_distance=1)
    >>> split.num_clusters, split.clusters.tolist()
    (3, [0, 0, 1, 1, 2])
    """
    if len(sequences) < 2:
        raise ValueError(f"expected at least 2 sequences to split, got {len(sequences)}.")
    if not 0.0 < fraction < 1.0:
        raise ValueError(f"fraction must be between 0 and 1, got {fraction}. 0.2 holds out a fifth.")
    if max_distance is not None and max_distance < 0:
        raise ValueError(f"max_distance must be at least 0 edits, got {max_distance}.")
    asked = default_distance(sequences) if max_distance is None else max_distance
    distance = asked
    while True:
        clusters = near_duplicates(sequences, distance)
        test = held_out(clusters, fraction * len(sequences), seed)
        if len(test):
            train = np.setdiff1d(np.arange(len(sequences)), test)
            return Split(train, test, clusters, distance, asked if distance < asked else None)
        if max_distance is not None or distance == 0:
            raise ValueError(_no_split(clusters, fraction, distance))
        distance //= 2


def default_distance(sequences: Sequence[str]) -> int:
    """Return 15 % of the median length in whole edits, at least 1: 2 for 14 letters, 1 for 8."""
    return max(1, round(0.15 * float(np.median([len(sequence) for sequence in sequences]))))


def held_out(clusters: Rows, num: float, seed: int) -> Rows:
    """Return the rows of whole clusters, about `num` rows in all and never more than half of them.

    Returned ascending, and empty where the clusters cannot give half of `num`.
    """
    sizes = np.bincount(clusters)
    order = np.random.default_rng(seed).permutation(len(sizes))
    chosen, total = np.zeros(len(sizes), bool), 0
    for cluster in order[sizes[order] > 0]:
        if total + sizes[cluster] <= num:
            chosen[cluster] = True
            total += sizes[cluster]
    if total < 0.5 * num:
        # A few large clusters: one more than asked for is better than none.
        left = [cluster for cluster in order if sizes[cluster] and not chosen[cluster]]
        smallest = min(left, key=lambda cluster: sizes[cluster], default=None)
        if smallest is not None and total + sizes[smallest] <= len(clusters) / 2:
            chosen[smallest] = True
            total += sizes[smallest]
    return np.flatnonzero(chosen[clusters]) if total >= 0.5 * num else np.zeros(0, np.int64)


def near_duplicates(sequences: Sequence[str], max_distance: int) -> Rows:
    """Return the cluster number of each sequence, from 0 in the order of first appearance.

    Every pair is compared unless its two sequences are known to be in one cluster already, `_BLOCK` rows at a time, so that
    memory grows with the number of sequences and not with its square.
    """
    names = np.asarray(sequences, dtype=object)
    distinct, inverse = np.unique(names, return_inverse=True)
    labels = np.arange(len(distinct))
    is_open = np.ones(len(distinct), bool)
    while is_open.any():
        block, others = _next_block(labels, is_open)
        is_open[block] = False
        near = _within(distinct[block], distinct[others], max_distance)
        labels = _joined(labels, block[near[0]], others[near[1]])
    return _in_order_of_appearance(labels[inverse.reshape(-1)])


def _next_block(labels: Rows, is_open: np.ndarray) -> tuple[Rows, Rows]:
    """Return the rows to compare next and those to compare them with: rows of one cluster skip their own cluster.

    A skipped pair is in one cluster already; any other pair is compared when the first of the two has its turn.
    """
    rows = np.flatnonzero(is_open)
    sizes = np.bincount(labels[rows], minlength=len(labels))
    largest = int(sizes.argmax())
    if sizes[largest] > 1:
        return rows[labels[rows] == largest][:_BLOCK], rows[labels[rows] != largest]
    return rows[:_BLOCK], rows


def _within(block: np.ndarray, others: np.ndarray, max_distance: int) -> tuple[Rows, Rows]:
    """Return the positions of the pairs within `max_distance` edits."""
    if not len(others):
        return np.zeros(0, np.int64), np.zeros(0, np.int64)
    distances = cdist(block, others, scorer=Levenshtein.distance, score_cutoff=max_distance, dtype=np.uint32, workers=-1)
    left, right = np.nonzero(distances <= max_distance)
    return left, right


def _joined(labels: Rows, left: Rows, right: Rows) -> Rows:
    """Return the labels after joining the clusters of `left[i]` and `right[i]`."""
    links = coo_array((np.ones(len(left), np.int8), (labels[left], labels[right])), shape=(len(labels), len(labels)))
    return connected_components(links, directed=False)[1].astype(np.int64)[labels]


def _in_order_of_appearance(labels: Rows) -> Rows:
    _, first, inverse = np.unique(labels, return_index=True, return_inverse=True)
    rank = np.empty(len(first), np.int64)
    rank[np.argsort(first)] = np.arange(len(first))
    return rank[inverse.reshape(-1)]


def _farther(max_distance: int) -> str:
    if max_distance == 0:
        return "each different from"
    return f"each more than {max_distance} edit{'s' if max_distance > 1 else ''} from"


def _no_split(clusters: Rows, fraction: float, max_distance: int) -> str:
    sizes = np.bincount(clusters)
    if max_distance == 0:
        cure = "There are not enough different sequences: add data, or hold out a smaller fraction."
    else:
        cure = f"Use a smaller max_distance (now {max_distance}), or leave it out to have it chosen."
    return (
        f"cannot hold out {fraction:.0%} of the {len(clusters):,} sequences: with everything within {max_distance} edits kept "
        f"together they form {len(sizes):,} clusters, the largest with {sizes.max():,}. {cure}"
    )
