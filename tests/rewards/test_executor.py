"""Scores through executors of the standard library: order, retries, culprits, timeouts, and what is asked only once."""

import collections
import json
import os
import threading
import time
from concurrent.futures import BrokenExecutor, CancelledError, Future, ProcessPoolExecutor, ThreadPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import pytest

from narrows.scorers import ExecutorScorer, ScoreError, load_scorer, remote
from narrows.scorers.backends import Reply
from narrows.scorers.dispatch import Dispatcher
from narrows.scorers.remote import ScoreFile, run_file
from narrows.scorers.search import Piece

COUNTED = """
import json, os, pathlib, time
LOG = pathlib.Path({log!r})
def score(objects):
    with LOG.open("a") as file: file.write(json.dumps([os.getpid(), objects]) + "\\n")
    if "hang" in objects: time.sleep(60)
    if "crash" in objects: os._exit(3)
    if "fail" in objects: raise ValueError("cannot fold this")
    return [float("nan") if one == "bad" else 0.5 * len(one) for one in objects]
"""


@pytest.fixture
def counted(write, tmp_path):
    return write(COUNTED.format(log=str(tmp_path / "calls.txt")))


@pytest.fixture
def threads():
    with ThreadPoolExecutor(3) as pool:
        yield pool


def asked(tmp_path):
    lines = (tmp_path / "calls.txt").read_text().splitlines()
    return [name for line in lines for name in json.loads(line)[1]]


def spawned():
    """Return a pool of fresh processes: a fork of a process with threads may hang."""
    return ProcessPoolExecutor(2, mp_context=get_context("spawn"))


@pytest.mark.parametrize("piece", [1, 3, 100])
def test_scores_come_back_in_order_and_equal_the_local_ones(counted, threads, tmp_path, piece):
    names = ["A" * (number % 7 + 1) + "C" * (number % 3) for number in range(25)]
    with ExecutorScorer(counted, threads, piece=piece) as score:
        result = score(names)
        identity = score.identity
    assert sorted(asked(tmp_path)) == sorted(set(names))
    with load_scorer(counted) as local:
        np.testing.assert_array_equal(result.values, local(names).values)
        assert identity == local.identity
    assert result.failures == {}


@pytest.mark.slow("starts a pool; threads find the score above, and a pool of processes is used below")
def test_processes_of_another_interpreter_find_the_score(counted):
    with ExecutorScorer(counted, spawned, piece=2) as score:
        assert score(["AA", "A", "AAA"]).values.tolist() == [1.0, 0.5, 1.5]


def test_pieces_run_side_by_side_and_the_slow_one_holds_up_only_its_own_batch(threads):
    release = threading.Event()

    def wait_for_some(objects):
        if "slow" in objects:
            assert release.wait(30)
        return [float(len(one)) for one in objects]

    with ExecutorScorer(wait_for_some, threads) as score:
        slow, quick = score.submit(["slow", "A"]), score.submit(["AA", "A"])
        assert score.first_of([slow, quick]) == 1
        assert quick.result().values.tolist() == [2.0, 1.0]
        assert not slow.is_done and slow.missing == {"slow"}  # "A" was shared with the quick one
        release.set()
        assert slow.result().values.tolist() == [4.0, 1.0]


def test_an_object_is_sent_once_whatever_is_under_way(counted, threads, tmp_path):
    cache = tmp_path / "scores.sqlite"
    with ExecutorScorer(counted, threads, cache=cache) as score:
        first, second = score.submit(["A", "AA", "A"]), score.submit(["AA", "AAA"])
        assert second.result().values.tolist() == [1.0, 1.5]
        assert first.result().values.tolist() == [0.5, 1.0, 0.5]
        assert score(["AAA", "bad"]).values[0] == 1.5
        assert np.isnan(score(["bad"]).values[0])
    assert sorted(asked(tmp_path)) == ["A", "AA", "AAA", "bad"]
    with load_scorer(counted, cache=cache) as local:  # one cache for both ways
        assert local(["A", "AA", "AAA"]).values.tolist() == [0.5, 1.0, 1.5]
    assert len(asked(tmp_path)) == 4


def test_what_fails_hangs_or_crashes_costs_nobody_else_the_score(counted, threads, tmp_path):
    with ExecutorScorer(counted, threads, piece=3, timeout=1.0) as score:
        result = score(["A", "fail", "AA", "hang", "AAA", "crash", "AAAA", "bad"])
    np.testing.assert_array_equal(result.values, [0.5, np.nan, 1.0, np.nan, 1.5, np.nan, 2.0, np.nan])
    assert list(result.failures) == ["fail", "hang", "crash", "bad"]
    assert "cannot fold this" in result.failures["fail"]
    assert "took longer than 1 s" in result.failures["hang"]
    assert "ended with status 3" in result.failures["crash"]
    assert "not a finite number" in result.failures["bad"]


def test_a_failure_is_an_error_when_it_should_be(counted, threads):
    with (
        ExecutorScorer(counted, threads, on_failure="raise") as score,
        pytest.raises(ScoreError, match=r"object 2 \('fail'\) could not be scored: ValueError: cannot fold this"),
    ):
        score(["A", "AA", "fail"])


def test_nothing_but_failures_is_a_fault_of_the_score(threads):
    with (
        ExecutorScorer(lambda objects: 1 / 0, threads) as score,
        pytest.raises(ScoreError, match="the first 20 objects all failed"),
    ):
        score([str(number) for number in range(50)])


def test_wrong_results_and_wrong_settings_are_refused(write, threads):
    with ExecutorScorer(lambda objects: [1.0], threads, piece=2) as score:
        batch, other = score.submit(["A", "AA"]), score.submit(["AAA", "AAAA"])
        with pytest.raises(ScoreError, match="returned 1 values for 2 objects"):
            batch.result()
        with pytest.raises(CancelledError, match="Submit its objects again"):  # and not a wait for ever
            other.result()
        with pytest.raises(ValueError, match="Put it in a list"):
            score("A")
        with pytest.raises(ValueError, match="at least one"):
            score.first_of([])
    for settings, message in (
        ({"piece": 0}, "piece must be at least 1, got 0"),
        ({"retries": -1}, "retries must be at least 0"),
        ({"pending": 0}, "pending must be at least 1"),
        ({"timeout": 0.0}, "timeout must be a positive"),
        ({"on_failure": "ignore"}, "on_failure must be"),
        ({"cache": "scores.sqlite"}, "no name to remember"),
    ):
        with pytest.raises(ValueError, match=message):
            ExecutorScorer(len, threads, **settings)  # pyright: ignore[reportArgumentType]
    for name in ("rna", "missing.py:score", 7):
        with pytest.raises(ScoreError, match="FILE.py:FUNCTION"):
            ExecutorScorer(name, threads)  # pyright: ignore[reportArgumentType]
    with (
        pytest.raises(ScoreError, match="No module named 'no_such_library'"),
        ExecutorScorer(write("import no_such_library\n"), threads),
    ):
        pass


# --- workers that die ---


def die_on_poison(objects):
    """Runs in a pool: kills its process when it meets the poison."""
    if "poison" in objects:
        os._exit(1)
    return [float(len(one)) for one in objects]


@pytest.mark.slow("starts pools one by one; below, pools that break without a process")
def test_the_object_that_breaks_pools_is_found_and_nobody_else_pays():
    names = ["A" * number for number in range(1, 8)]
    names.insert(3, "poison")
    made = []

    def make():
        made.append(spawned())
        return made[-1]

    with ExecutorScorer(die_on_poison, make, piece=2, retries=0) as score:
        result = score(names)
    assert list(result.failures) == ["poison"]
    assert "a process of the executor died under it" in result.failures["poison"]
    np.testing.assert_array_equal(result.values, [np.nan if name == "poison" else len(name) for name in names])
    assert len(made) > 1


class Breaking(ThreadPoolExecutor):
    """Breaks at the poison as a pool of processes does: what it holds is lost, and it takes no more."""

    def __init__(self):
        super().__init__(2)
        self.is_broken = False

    def submit(self, fn, /, *args, **kwargs):
        if self.is_broken:
            raise BrokenProcessPool("broken")
        _, names, _ = args
        if "poison" not in names:
            return super().submit(fn, *args, **kwargs)
        self.is_broken, lost = True, Future()
        lost.set_exception(BrokenProcessPool("a process died"))
        return lost


def test_the_object_that_breaks_pools_is_found_without_a_process():
    names = ["A" * number for number in range(1, 8)]
    names.insert(3, "poison")
    made = []

    def make():
        made.append(Breaking())
        return made[-1]

    with ExecutorScorer(die_on_poison, make, piece=2, retries=0) as score:
        result = score(names)
    assert list(result.failures) == ["poison"]
    assert "a process of the executor died under it" in result.failures["poison"]
    np.testing.assert_array_equal(result.values, [np.nan if name == "poison" else len(name) for name in names])
    assert len(made) > 1


def test_a_broken_pool_that_cannot_be_replaced_is_told():
    with spawned() as pool, ExecutorScorer(die_on_poison, pool) as score:
        assert score(["A"]).values.tolist() == [1.0]
        with pytest.raises(ScoreError, match="Give a function that makes one"):
            score(["poison"])


class Flaky(ThreadPoolExecutor):
    """Loses each piece as often as told, in the way of an engine that cancels or of one that breaks."""

    def __init__(self, losses, error):
        super().__init__(2)
        self.losses, self.error, self.sent = losses, error, collections.Counter()

    def submit(self, fn, /, *args, **kwargs):
        _, names, _ = args
        self.sent[tuple(names)] += 1
        if not names or self.sent[tuple(names)] > self.losses:
            return super().submit(fn, *args, **kwargs)
        lost = Future()
        lost.cancel() if self.error is None else lost.set_exception(self.error)
        if self.error is None:
            lost.set_running_or_notify_cancel()
        return lost


@pytest.mark.parametrize("error", [None, CancelledError()])
def test_a_lost_piece_is_sent_again_but_not_for_ever(error):
    with Flaky(2, error) as pool, ExecutorScorer(lambda objects: [1.0], pool, retries=2) as score:
        assert score(["A", "B"]).values.tolist() == [1.0, 1.0]
        assert pool.sent[("A",)] == 3
    with Flaky(9, error) as pool, ExecutorScorer(lambda objects: [1.0], pool, retries=2) as score:
        assert "lost 3 times" in score(["A"]).failures["A"]
    watched = []

    def watch():
        watched.append(1)
        if len(watched) > 2:
            raise ScoreError("the engine is gone")

    with Flaky(9, error) as pool, ExecutorScorer(lambda objects: [1.0], pool, watch=watch, retries=99) as score:
        with pytest.raises(ScoreError, match="the engine is gone"):
            score(["A"])


def test_each_try_has_a_ticket_of_its_own():
    tickets = []

    def call(seconds, names, ticket):
        tickets.append(ticket)
        if len(tickets) < 3:
            raise CancelledError
        return Reply(values=[0.0])

    with ThreadPoolExecutor(1) as pool:
        dispatcher = Dispatcher(pool, call, retries=5, watch=lambda: None)
        dispatcher.send(Piece(("A",), 1.0))
        answers = []
        while not answers:
            answers = dispatcher.collect(1.0)
    assert len(set(tickets)) == 3


def test_an_executor_that_takes_no_work_is_told(threads):
    threads.shutdown()
    with pytest.raises(ScoreError, match="takes no more work"), ExecutorScorer(lambda objects: [1.0], threads):
        pass
    assert issubclass(BrokenExecutor, RuntimeError)  # or a broken one would be told as a closed one


# --- cancelling, and the processes on the far side ---


def test_a_cancelled_batch_sends_no_more_and_spares_what_another_wants():
    started, release, seen = threading.Event(), threading.Event(), []

    def hold(objects):
        seen.extend(objects)
        started.set()
        assert release.wait(30)
        return [float(len(one)) for one in objects]

    with ThreadPoolExecutor(1) as pool, ExecutorScorer(hold, pool) as score:
        first, second = score.submit(["A", "AA", "AAA", "AAAA"]), score.submit(["AAA"])
        assert started.wait(30)
        first.cancel()
        release.set()
        assert second.result().values.tolist() == [3.0]
        with pytest.raises(CancelledError):
            first.result()
        assert seen == ["A", "AAA"]
        assert score(["A", "AA"]).values.tolist() == [1.0, 2.0]


def test_the_process_of_a_score_is_kept_between_pieces_and_ends_when_idle(counted, threads, tmp_path, monkeypatch):
    monkeypatch.setattr(remote, "IDLE_SECONDS", 0.3)
    file = ScoreFile.read(counted)
    for number in range(3):
        assert run_file(file, 5.0, ["A" * (number + 1)], str(number)).values == [0.5 * (number + 1)]
    (process,) = {json.loads(line)[0] for line in (tmp_path / "calls.txt").read_text().splitlines()}
    end = time.monotonic() + 15.0
    while Path(f"/proc/{process}").exists() if Path("/proc").exists() else False:
        assert time.monotonic() < end, "the idle process did not end"
        time.sleep(0.05)
    assert run_file(file, 5.0, ["AA"], "again").values == [1.0]


def test_another_release_on_the_worker_is_refused(counted):
    file = ScoreFile.read(counted)._replace(version="0.0.0")
    reply = run_file(file, 5.0, ["A"], "ticket")
    assert reply.fault is not None and "Install the same release on both" in reply.fault
