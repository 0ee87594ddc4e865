"""What a run judges its own progress by: the list that it could make of what it has seen."""

import numpy as np
import pytest

from narrows.distance import EDITS
from narrows.runs.criterion import COLUMN, Criterion, has_settled
from narrows.selection import select
from narrows.storage.archive import Archive


def chunks(num=12, size=40, seed=0):
    """Objects of three letters too few for all of them to be new, with the same score each time."""
    rng = np.random.default_rng(seed)
    for step in range(num):
        texts = ["".join(rng.choice([*"ACGU"], 3 + step % 3)) for _ in range(size)]
        yield texts, np.array([float(text.count("C") + 0.1 * text.count("G")) for text in texts]), np.full(size, step)


def test_it_is_the_mean_of_the_list_of_all_that_was_seen(tmp_path, monkeypatch):
    monkeypatch.setattr("narrows.runs.criterion._POOL_A_ROW", 1000)
    seen = {}
    with Archive.open(tmp_path / "a.sqlite", create=True) as archive:
        criterion = Criterion(archive, EDITS, 4, 2, beta=2.0)
        assert np.isnan(criterion([], np.zeros(0), np.zeros(0, int)))
        for texts, scores, steps in chunks():
            seen |= dict(zip(texts, scores.tolist(), strict=True))
            rows = select([*seen], np.array([*seen.values()]), k=4, min_distance=2).rows
            assert criterion(texts, scores, steps) == pytest.approx(np.mean([row.score for row in rows]) / 2.0)


@pytest.mark.parametrize("pool", [2, 1000])
def test_a_run_that_goes_on_has_the_same_one(tmp_path, monkeypatch, pool):
    monkeypatch.setattr("narrows.runs.criterion._POOL_A_ROW", pool)
    with Archive.open(tmp_path / "a.sqlite", create=True) as archive:
        through = Criterion(archive, EDITS, 4, 2, beta=1.0)
        for texts, scores, steps in chunks():
            again = Criterion(archive, EDITS, 4, 2, beta=1.0)  # as after a stop
            archive.add(texts, scores, steps)
            assert again(texts, scores, steps) == through(texts, scores, steps)


def test_it_has_settled_where_it_has_not_moved_for_so_long():
    def rows(values):
        return [{"step": 10 * place, COLUMN: value} for place, value in enumerate(values)]

    assert not has_settled(rows([1.0] * 9), None) and not has_settled(rows([]), 10)
    assert not has_settled(rows([1.0, 2.0, 3.0, 4.0]), 20)
    assert has_settled(rows([1.0, 2.0, 2.0, 2.0]), 20) and not has_settled(rows([1.0, 2.0, 2.0, 2.0]), 30)
    assert has_settled(rows([1.0, 2.0, 2.005, 2.009]), 20), "less than 1 % of the rise is no move"
    assert not has_settled(rows([1.0, 2.0, 2.005, 2.02]), 20)
    assert has_settled(rows([float("nan"), 5.0, 5.0, 5.0]), 20) and not has_settled([{"step": 90}], 20)
