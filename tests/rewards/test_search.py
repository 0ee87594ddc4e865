"""Who of a batch hangs, kills or fails is found within a bound, and costs nobody else the score: on a clock that is made up."""

from concurrent.futures import Executor, Future
from concurrent.futures._base import DoneAndNotDoneFutures

import numpy as np
import pytest

from narrows.commands import scores as commands
from narrows.runs import RunFolder
from narrows.scorers import ExecutorScorer, ScoreError, Scorer
from narrows.scorers import search as search_module
from narrows.scorers.backends import AbstractBackend, BatchFailed, Reply
from narrows.scorers.search import LIMIT, LOADING, Search

TIMEOUT = 600.0
HANG = 1e9


class Clock:
    """A clock that moves when a score says so."""

    def __init__(self, monkeypatch):
        self.now = 0.0
        for room in ("backends", "executor", "search"):
            monkeypatch.setattr(f"narrows.scorers.{room}.time", self)

    def monotonic(self):
        return self.now


class Acted(AbstractBackend):
    """A score in a process that is made up: objects take their seconds, and some of them kill it or raise."""

    @property
    def identity(self):
        return None

    def __init__(self, clock, seconds, bad=(), raising=(), loading=1.0):
        self.clock, self.seconds, self.bad, self.raising, self.loading = clock, seconds, bad, raising, loading
        self.is_running, self.num_starts, self.calls = False, 0, []

    def start(self):
        if not self.is_running:
            self.clock.now += self.loading
            self.num_starts += 1
        self.is_running = True

    def score(self, objects, timeout):
        self.start()
        self.calls.append(objects)
        needed = sum(self.seconds(int(name)) for name in objects)
        for name in objects:
            if int(name) in self.bad:
                self.is_running = False
                raise BatchFailed("the process died")
            if int(name) in self.raising:
                raise BatchFailed("ValueError")
        self.clock.now += min(needed, timeout)
        if needed > timeout:
            self.is_running = False
            raise BatchFailed(f"took longer than {timeout:g} s", is_late=True)
        return [float(name) for name in objects]

    def stop(self):
        self.is_running = False


@pytest.fixture
def clock(monkeypatch):
    return Clock(monkeypatch)


def hanging(*indices, others=0.1):
    return lambda index: HANG if index in indices else others


def scored(clock, backend, num, **settings):
    """Return the objects without a score, with the reasons, and how long it took; the others must have theirs."""
    with Scorer(backend, timeout=TIMEOUT, **settings) as score:
        score(["100000"])  # a score that works, so that failures are the objects' own
        begun, started = clock.now, backend.num_starts
        result = score([str(index) for index in range(num)])
    failures = {int(name): why for name, why in result.failures.items()}
    np.testing.assert_array_equal(result.values, [np.nan if index in failures else index for index in range(num)])
    return failures, clock.now - begun - backend.loading * (backend.num_starts - started)


@pytest.mark.parametrize("num", [1, 2, 7, 8, 9, 64, 256])
@pytest.mark.parametrize("where", [0.0, 0.5, 0.999])
def test_one_that_hangs_is_found_in_three_timeouts(clock, num, where):
    index = int(num * where)
    backend = Acted(clock, hanging(index))
    failures, seconds = scored(clock, backend, num)
    assert failures == {index: "took longer than 600 s"}  # alone, and for as long as any
    assert seconds < 3.1 * TIMEOUT
    assert len(backend.calls) < 30 + 1


@pytest.mark.parametrize("num", [8, 64, 256])
@pytest.mark.parametrize("step", [2, 8, 20])
def test_several_that_hang_cost_nobody_else_the_score(clock, num, step):
    bad = set(range(0, num, step))
    failures, seconds = scored(clock, Acted(clock, hanging(*bad)), num)
    assert set(failures) == bad
    assert seconds <= LIMIT * TIMEOUT


@pytest.mark.parametrize("num", [2, 64, 256])
def test_all_that_hang_cost_a_few_timeouts(clock, num):
    failures, seconds = scored(clock, Acted(clock, lambda index: HANG if index < 256 else 0.1), num)
    assert len(failures) == num
    assert seconds <= LIMIT * TIMEOUT
    if num > 2:
        assert "its share of the 4800 s (8 timeouts) that a batch may cost: others hang as well" in failures[0]


@pytest.mark.parametrize("num", [16, 64, 256])
def test_hanging_and_killing_and_raising_at_once(clock, num):
    hang, bad, raising = {3, 11}, {0, 5, num - 1}, {1, 8}
    failures, seconds = scored(clock, Acted(clock, hanging(*hang), bad, raising), num)
    assert set(failures) == hang | bad | raising
    assert {failures[index] for index in bad} == {"the process died"}
    assert {failures[index] for index in raising} == {"ValueError"}
    assert {failures[index] for index in hang} == {"took longer than 600 s"}
    assert seconds <= LIMIT * TIMEOUT


@pytest.mark.parametrize(("bad", "raising"), [({9}, set()), (set(), {9, 40})])
def test_errors_and_deaths_take_nothing_off_the_time_of_slow_objects(clock, bad, raising):
    backend = Acted(clock, lambda index: 0.9 * TIMEOUT / 64 if index < 64 else 0.1, bad, raising)
    assert set(scored(clock, backend, 64)[0]) == bad | raising


@pytest.mark.parametrize("factor", [0.99, 2.0, 3.0])
def test_what_is_merely_slow_loses_no_object(clock, factor):
    """Also where the batch takes up to three timeouts, which is found out by its parts."""
    backend = Acted(clock, lambda index: factor * TIMEOUT / 64 if index < 64 else 0.1)
    failures, _ = scored(clock, backend, 64)
    assert failures == {}
    assert factor > 1.0 or len(backend.calls) == 1 + 1


def test_a_slow_object_beside_one_that_hangs_has_the_whole_timeout(clock):
    failures, _ = scored(clock, Acted(clock, lambda index: HANG if index == 5 else 500.0 if index == 6 else 0.1), 64)
    assert set(failures) == {5}


def test_loading_is_bounded_as_well(clock):
    backend = Acted(clock, lambda index: 0.1, bad=set(range(0, 256, 2)), loading=60.0)
    with Scorer(backend, timeout=TIMEOUT) as score:
        score(["1"])
        begun = clock.now
        result = score([str(index) for index in range(256)])
    assert clock.now - begun < LOADING + 60.0 + TIMEOUT
    assert f"of at most {LOADING:g} to load the score anew" in result.failures["0"]


def test_a_dead_score_ends_a_call_of_many_batches(clock):
    backend = Acted(clock, lambda index: 0.1 if index > 99_999 else HANG)
    failures, seconds = scored(clock, backend, 640, batch_size=64)
    assert len(failures) == 640
    assert seconds <= 2 * LIMIT * TIMEOUT
    assert failures[639].startswith("not tried: ")
    with Scorer(Acted(clock, lambda index: HANG), timeout=TIMEOUT) as score, pytest.raises(ScoreError, match="first 20"):
        score([str(index) for index in range(64)])


def test_objects_that_nobody_wants_any_longer_are_forgotten():
    search = Search(["a", "b", "c"], 1.0)
    batch = search.next()
    assert batch is not None and search.next() is None
    assert search.failed(batch, Reply(failure="no")) == {}
    first = search.next()
    assert first is not None and first.names == ("a",)
    search.keep({"b"})
    assert list(search.left) == ["a", "b"]  # one that is under way is
    search.withdraw(first)
    second = search.next()
    assert second is not None and second.names == ("b",)
    search.scored(second, Reply(values=[1.0]))
    assert not search.left and search.next() is None and search.given_up() == {}


# --- through executors ---


class Pool(Executor):
    """One worker on the made-up clock, which answers a piece when it is waited for."""

    def __init__(self, backend, monkeypatch):
        self.backend, self.sent = backend, []
        monkeypatch.setattr("narrows.scorers.dispatch.wait", self.wait)

    def submit(self, fn, /, *args, **kwargs):
        self.sent.append((Future(), args))
        return self.sent[-1][0]

    def wait(self, futures, seconds=None, return_when=None):
        while self.sent and (seconds or 0.0) > 0.0:
            future, (allowed, names, _) = self.sent.pop(0)
            if not future.cancelled():
                future.set_result(self.backend.reply(names, allowed))
                break
        return DoneAndNotDoneFutures({future for future in futures if future.done()}, set())


@pytest.mark.parametrize("piece", [8, 64])
def test_pieces_on_executors_are_bounded_as_well(clock, monkeypatch, piece):
    bad = {3, 5, 17}
    backend = Acted(clock, hanging(*bad), bad={40})
    with ExecutorScorer(str, Pool(backend, monkeypatch), piece=piece, timeout=TIMEOUT) as score:
        result = score([str(index) for index in range(64)])
    assert set(map(int, result.failures)) == {*bad, 40}
    assert clock.now - backend.num_starts <= (2 if piece == 8 else 1) * LIMIT * TIMEOUT


@pytest.mark.parametrize("piece", [1, 64])
def test_an_executor_on_which_everything_hangs_is_given_up(clock, monkeypatch, piece):
    said = []
    backend = Acted(clock, lambda index: 0.1 if index > 99_999 else HANG)
    with ExecutorScorer(str, Pool(backend, monkeypatch), piece=piece, timeout=TIMEOUT, say=said.append) as score:
        score(["100000"])
        begun = clock.now - backend.num_starts
        result = score([str(index) for index in range(64)])
        assert len(result.failures) == 64
        assert clock.now - backend.num_starts - begun <= LIMIT * TIMEOUT
        assert score(["100001"]).values.tolist() == [100001.0]  # it goes on with others
    if piece == 1:
        assert said[1] == (
            "objects hang, and no score has come for 20 min; 62 are under way, and given up if none comes for 60 min more"
        )
        assert result.failures["63"].startswith("not tried: ")


# --- what is said meanwhile ---


def test_a_search_that_takes_long_is_told_and_a_short_one_is_not(clock):
    said, seen = [], []
    with Scorer(Acted(clock, hanging(5)), timeout=TIMEOUT, say=said.append) as score:
        score([str(index) for index in range(64)])
        with score.heard_by(seen.append):
            clock.now += 60.0
            score([str(index) for index in (*range(64, 70), 5)])  # known to fail: nothing to look for
    assert said[0] == "some of the 64 objects of a batch hang or fail; looking for them among 64, for at most 70 min more"
    assert "among 3, for at most 65 min more" in said[-1]
    assert seen == []
    with Scorer(Acted(clock, lambda index: 0.1, raising={3}), timeout=TIMEOUT, say=seen.append) as score:
        score([str(index) for index in range(8)])
    assert seen == []


def test_commands_tell_it_on_the_error_stream(write, tmp_path, capfd, monkeypatch):
    monkeypatch.setattr(search_module, "SAY_SECONDS", 0.0)
    name = write("import time\ndef score(objects):\n    if 'h' in objects: time.sleep(60)\n    return [1.0] * len(objects)\n")
    with commands.open_scorer(name, RunFolder(tmp_path), 0.3) as score:
        assert score is not None
        assert list(score(["a", "h"]).failures) == ["h"]
    assert "narrows: some of the 2 objects of a batch hang or fail; looking for them among 2, for" in capfd.readouterr().err
