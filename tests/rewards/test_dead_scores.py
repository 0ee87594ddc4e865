"""Processes of scores that die, fork, flood or fall silent: noticed at once, cleared away, and never taken for an answer."""

import os
import signal
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
from tests.rewards.alive import is_alive, needs_proc, wait_until

from narrows.scorers import ExecutorScorer, load_scorer

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="forks")

SCORE = """
import os, pathlib, signal, threading, time
HERE = pathlib.Path(__file__).parent
def sleeping(own_session=False):
    child = os.fork()
    if child == 0:
        if own_session: os.setsid()
        time.sleep(600)
        os._exit(0)
    (HERE / "child").write_text(str(child))
def everywhere(data):
    for pipe in range(3, 30):
        try: os.write(pipe, data)
        except OSError: pass
def score(objects):
    what = objects[0]
    if what == "exit": sleeping(); os._exit(3)
    if what == "kill": sleeping(); os.kill(os.getpid(), signal.SIGKILL)
    if what == "away": sleeping(own_session=True); os._exit(3)
    if what == "close": os.closerange(3, 64); time.sleep(600)
    if what == "garbage": everywhere(b"9.0\\n"); time.sleep(600)
    if what == "forged": everywhere(b'{"number": 77, "values": [9.0]}\\n')
    if what == "flood":
        while True: everywhere(b"x" * 60000 + b"\\n")
    if what == "fork": os.fork()
    if what == "soon": threading.Timer(0.1, os._exit, [3]).start()
    if what == "hang": sleeping(); time.sleep(600)
    if what == "late": time.sleep(0.5)
    return [float(len(one)) for one in objects]
"""

SOON = 30.0
"""Seconds: far from the timeout of 600 s, and enough for a machine that has much else to do."""


@pytest.mark.parametrize(
    ("what", "why"),
    [
        ("exit", "ended with status 3"),
        ("kill", "was killed by SIGKILL"),
        ("away", "ended with status 3"),
        ("close", "closed the pipe for its answers"),
        ("garbage", "something else than an answer came through the pipe for answers: '9.0'"),
        ("flood", "something else than an answer came through the pipe for answers: 'xxx"),
    ],
)
def test_a_process_that_will_not_answer_is_noticed_at_once(write, tmp_path, what, why):
    with load_scorer(write(SCORE), timeout=600.0) as score:
        begun = time.monotonic()
        failures = score([what]).failures
        assert why in failures[what]
        assert score(["AAA", "A"]).values.tolist() == [3.0, 1.0]
        assert time.monotonic() - begun < SOON
        if what in ("exit", "kill") and os.path.isdir("/proc/self"):
            wait_until(lambda: not is_alive(int((tmp_path / "child").read_text())))
    assert time.monotonic() - begun < SOON
    if what == "away":  # it left the group, so it is its own master
        os.kill(int((tmp_path / "child").read_text()), 9)


@pytest.mark.parametrize("what", ["forged", "fork"])
def test_a_second_answer_is_not_taken_for_the_next_one(write, what):
    with load_scorer(write(SCORE), timeout=600.0) as score:
        assert score([what]).values.tolist() == [len(what)]
        assert score(["AAA", "A"]).values.tolist() == [3.0, 1.0]
        assert score(["AA"]).values.tolist() == [2.0]


def test_an_answer_after_the_timeout_is_nobodys(write):
    with load_scorer(write(SCORE), timeout=0.3) as score:
        assert "took longer" in score(["late"]).failures["late"]
        time.sleep(0.4)
        assert score(["AAA"]).values.tolist() == [3.0]


def test_a_process_that_died_between_two_batches_is_no_objects_fault(write):
    with load_scorer(write(SCORE), timeout=600.0) as score:
        assert score(["soon"]).values.tolist() == [4.0]
        time.sleep(0.5)
        assert score(["AA"]).failures == {}


def test_a_request_that_nobody_reads_is_given_up(write):
    """A request larger than a pipe holds, to a process that stopped reading: writing must not wait for ever."""
    source = """
import os, signal, threading
def score(objects):
    threading.Timer(0.1, os.kill, [os.getpid(), signal.SIGSTOP]).start()
    return [1.0]
"""
    with load_scorer(write(source), timeout=0.5) as score:
        assert score(["A"]).failures == {}
        time.sleep(0.5)  # it stopped with nothing asked
        assert "took longer" in score(["A" * 300_000]).failures["A" * 300_000]


def test_innocents_keep_their_scores_beside_everything_at_once(write):
    source = SCORE.replace("what = objects[0]", "what = next((one for one in objects if one in BAD), '')")
    names = ["A", "hang", "AA", "exit", "AAA", "A" * 5, "garbage", "A" * 6]
    bad = ["hang", "exit", "garbage"]
    with load_scorer(write(source + f"BAD = {bad!r}\n"), timeout=0.5) as score:
        result = score(names)
    assert sorted(result.failures) == sorted(bad)
    assert [value for value, name in zip(result.values, names, strict=True) if name not in bad] == [1, 2, 3, 5, 6]


@needs_proc
def test_giving_up_ends_what_runs_in_threads_of_ours(write, tmp_path):
    """Ctrl-C while pieces hang: a pool of threads waits for its pieces, so their processes must end first."""

    def watch():
        if (tmp_path / "child").exists():
            raise KeyboardInterrupt

    source = SCORE.replace("pathlib.Path(__file__).parent", f"pathlib.Path({str(tmp_path)!r})")  # it runs as a copy elsewhere
    begun = time.monotonic()
    with pytest.raises(KeyboardInterrupt), ThreadPoolExecutor(2) as pool:
        with ExecutorScorer(write(source), pool, timeout=600.0, watch=watch) as score:
            score(["hang", "A"])
    assert time.monotonic() - begun < SOON
    wait_until(lambda: not is_alive(int((tmp_path / "child").read_text())))


@pytest.fixture
def ctrl_c_counts():
    """Whoever starts tests in the background has them ignore Ctrl-C."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@needs_proc
@pytest.mark.usefixtures("ctrl_c_counts")
def test_ctrl_c_in_the_middle_of_a_search_ends_the_process_and_its_children(write, tmp_path):
    source = SCORE.replace("what = objects[0]", "what, *others = objects\n    if others: raise ValueError('one of these')")

    def press():
        wait_until((tmp_path / "child").exists)
        time.sleep(0.2)
        os.kill(os.getpid(), signal.SIGINT)

    thread = threading.Thread(target=press)
    begun = time.monotonic()
    with pytest.raises(KeyboardInterrupt), load_scorer(write(source), timeout=600.0) as score:
        thread.start()
        score(["A", "hang", "AA"])
    thread.join()
    assert time.monotonic() - begun < SOON
    wait_until(lambda: not is_alive(int((tmp_path / "child").read_text())))
