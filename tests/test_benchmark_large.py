"""The benchmark of large spaces: when a list is at the optimum, the jobs, what a search asks for, and the page."""

from typing import Any

import numpy as np
import pytest
from benchmarks import large
from benchmarks.harness.rows import Context
from benchmarks.large import APART, CALLS, GOAL, HOUSE, MEAN, MODES, OURS, QUICK, SCRATCH, TASKS, THERE, TRUNCATION, K

from narrows.config import build_env, build_reward
from narrows.distance import EDITS
from narrows.search import Found

CONTEXT = Context(False, None, "python -m benchmarks large", {"python": "3.11.0"}, "2 cores, Linux x86_64")


def texts(num: int, start: int = 0) -> list[str]:
    """Return objects any two of which are four apart: four letters each, all of a kind but for their own part."""
    return [f"{number:03d}" * APART for number in range(start, start + num)]


def test_a_list_is_at_the_optimum_once_all_its_rows_are_far_apart_and_good():
    close = [f"{'A' * 12}{letter}" for letter in "BCDEFGHIJKLMNOPQRSTUVWXYZ"]  # good, and one edit from one another
    found = Found((*texts(300), *close, *texts(K, 500)), np.array([0.5] * 300 + [1.0] * 25 + [1.0] * K))
    assert large.mean_of_list(found, 300, EDITS) == 0.5
    assert large.mean_of_list(found, 325, EDITS) == pytest.approx((1.0 + (K - 1) * 0.5) / K)
    assert large.calls_until(found, EDITS) == 325 + K
    assert large.calls_until(Found(found.objects[:325], found.scores[:325]), EDITS) is None
    few = Found(tuple(texts(6)), np.ones(6))
    assert large.mean_of_list(few, 6, EDITS) == pytest.approx(6 / K)  # rows that it lacks count


@pytest.mark.parametrize("task", TASKS)
def test_every_task_is_a_job_whose_optimum_is_one(task):
    job = large.job_of(task, 3)
    env = build_env(job)
    reward: Any = build_reward(job, env)
    assert (job.exploration["name"], job.replay and job.replay["keep"], job.reward["seed"]) == ("Recombination", "best", 3)
    best = [reward.optimum()] if task == "Ehrlich" else list(reward.modes)[:2]
    assert np.all(np.asarray(reward(env.from_text(best))) >= GOAL)


@pytest.mark.parametrize("name", [HOUSE, TRUNCATION])
def test_a_rival_asks_for_distinct_objects_within_its_budget(name):
    found = large.METHODS[name]("Ehrlich", 0, 1500)
    assert len(found.objects) == len(set(found.objects)) == 1500
    again = large.METHODS[name]("Ehrlich", 0, 1500)
    assert again.objects == found.objects
    outcome = large.outcome_of(found, "Ehrlich", 0, QUICK)
    assert outcome[CALLS] == QUICK.budget and outcome[THERE] == 0.0


@pytest.mark.slow("trains two runs of a large job; tests/test_exploration.py guards what they are made of quickly")
def test_ours_asks_within_its_budget():
    for name in (OURS, SCRATCH):
        found = large.METHODS[name]("bits", 0, 640)
        assert len(found.objects) == len(set(found.objects)) == 640


def test_the_page_shows_what_was_asked_for():
    def outcome(calls: float) -> dict[str, float]:
        return {CALLS: calls, THERE: float(calls < 64_000), f"{MEAN}, 10000": 0.5, MODES: 3.0}

    made = {OURS: {0: outcome(8_000.0), 1: outcome(10_000.0)}, HOUSE: {0: outcome(64_000.0), 1: outcome(30_000.0)}}
    rows = list(large._rows(CONTEXT, large.FULL, "bits", made))
    ratio = next(row for row in rows if row.target is not None)
    assert ratio.value == pytest.approx(9 / 47, rel=1e-4) and ratio.met
    page = large.tables(rows)
    assert "### bits" in page and "| Narrows " in page and "9,000 (8,000 to 10,000)" in page and "(target < 1: yes)" in page
    worse = {**made, HOUSE: {0: outcome(400.0), 1: outcome(400.0)}}
    assert next(row for row in large._rows(CONTEXT, large.FULL, "bits", worse) if row.target is not None).met is False
