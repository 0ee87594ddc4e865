"""The user's own score: whatever the file does, the answer is right or the reason is told."""

import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from tests.rewards.alive import is_alive, needs_proc, wait_until

from narrows.scorers import ExecutorScorer, ScoreError, ScoreResult, Scores, load_scorer
from narrows.scorers.rna import RnaBinding
from narrows.scorers.worker import WrongResult, as_floats

LENGTHS = "def score(objects):\n    return [float(len(one)) for one in objects]\n"


# --- what a good score gives ---


@pytest.mark.parametrize(
    "source",
    [
        LENGTHS,
        "def score(objects):\n    return tuple(map(len, objects))\n",
        "import numpy as np\ndef score(objects):\n    return np.array([len(one) for one in objects], np.float32)\n",
        "import numpy as np\ndef score(objects):\n    return [np.int64(len(one)) for one in objects]\n",
        "score = lambda objects: (len(one) for one in objects)\n",
        "class Score:\n    def __call__(self, objects):\n        return [len(one) for one in objects]\nscore = Score()\n",
    ],
)
def test_scores_come_back_in_order(write, source):
    with load_scorer(write(source), batch_size=2) as score:
        result = score(["AAA", "A", "AA", "A", ""])
    assert result.values.tolist() == [3.0, 1.0, 2.0, 1.0, 0.0]
    assert result.values.dtype == np.float64
    assert result.failures == {}
    np.testing.assert_array_equal(np.asarray(result, np.float32), [3, 1, 2, 1, 0])


def test_floats_cross_the_pipe_bit_for_bit(write):
    with load_scorer(write("def score(objects):\n    return [0.1 + 0.2, 5e-324, -1.7976931348623157e308]\n")) as score:
        assert score(["A", "B", "C"]).values.tolist() == [0.1 + 0.2, 5e-324, -1.7976931348623157e308]


def test_what_the_file_prints_and_reads_stays_out_of_the_pipe(write, capfd):
    source = """
import os, sys
print("while loading")
def score(objects):
    print('{"values": [9.0]}')
    os.write(1, b'{"values": [8.0]}\\n')
    sys.stdout.flush()
    assert sys.stdin.read() == ""
    return [1.0] * len(objects)
"""
    with load_scorer(write(source)) as score:
        assert score(["A"]).values.tolist() == [1.0]
    shown = capfd.readouterr()
    assert shown.out == ""
    assert "while loading" in shown.err
    assert '{"values": [8.0]}' in shown.err


def test_the_file_finds_its_neighbours_and_none_of_ours(write):
    write("VALUE = 7.0\n", name="cache.py")  # a name that a module beside the worker has as well
    with load_scorer(write("from cache import VALUE\ndef score(objects):\n    return [VALUE] * len(objects)\n")) as score:
        assert score(["A"]).values.tolist() == [7.0]


def test_a_function_at_hand_and_the_built_in(tmp_path):
    with load_scorer(lambda objects: np.arange(len(objects))) as score:
        assert score(["A", "B"]).values.tolist() == [0.0, 1.0]
    with pytest.raises(ValueError, match="no name to remember"):
        load_scorer(lambda objects: [0.0], cache=tmp_path / "cache.sqlite")
    pytest.importorskip("RNA")
    with load_scorer("rna") as score:
        result = score(["GGGCCCCCGCGCGG", "ACGT"])
    assert result.values[0] == RnaBinding()(["GGGCCCCCGCGCGG"])[0]
    assert np.isnan(result.values[1])
    assert "'T' at position 4 is no RNA letter" in result.failures["ACGT"]


# --- what cannot be loaded ---


@pytest.mark.parametrize(
    ("source", "match"),
    [
        ("def other(objects): ...\ndef more(objects): ...\n", "has no function 'score'. It has: more, other"),
        ("VALUE = 1\n", "has no function 'score'. It has: none"),
        ("score = 3.0\n", "score in .* is a float, not a function"),
        ("import no_such_module_at_all\n", r"(?s)could not be loaded:.*line 1.*No module named 'no_such_module_at_all'"),
        ("x = 1\ndef score(objects)\n    pass\n", r"(?s)could not be loaded:.*line 2.*SyntaxError"),
        ("def f():\n    raise KeyError('deep')\nf()\n", r"(?s)could not be loaded:.*line 3.*line 2, in f.*KeyError: 'deep'"),
        ("import sys\nsys.exit(3)\n", "(?s)could not be loaded:.*SystemExit: 3"),
        ("import os\nos._exit(3)\n", "could not be loaded: the process of the score ended with status 3"),
    ],
)
def test_faults_of_the_file_are_told(write, source, match):
    with pytest.raises(ScoreError, match=match), load_scorer(write(source)):
        pass


def test_the_traceback_of_a_file_starts_in_the_file(write):
    with pytest.raises(ScoreError) as caught, load_scorer(write("raise RuntimeError('no')\n")):
        pass
    assert "worker.py" not in str(caught.value)
    assert "importlib" not in str(caught.value)


@pytest.mark.parametrize(
    ("name", "match"),
    [
        ("nowhere/my_score.py:score", "nowhere/my_score.py does not exist"),
        ("my_score.py", "Built in: rna. For a score of your own write FILE.py:FUNCTION"),
        ("my_score.py:not a name", "write FILE.py:FUNCTION"),
        (":score", "write FILE.py:FUNCTION"),
        ("dna", "unknown score 'dna'"),
        (3, "expected FILE.py:FUNCTION or a function"),
    ],
)
def test_names_that_lead_nowhere(name, match):
    with pytest.raises(ScoreError, match=match):
        load_scorer(name)


def test_a_file_that_takes_too_long_to_load(write, monkeypatch):
    monkeypatch.setattr("narrows.scorers.backends.START_TIMEOUT", 0.5)
    with (
        pytest.raises(ScoreError, match=r"could not be loaded: took longer than 0.5 s"),
        load_scorer(write("while True: pass\n")),
    ):
        pass


# --- objects that fail ---

POISON = """
import ctypes, os, time
def score(objects):
    for one in objects:
        if one == "exit": os._exit(3)
        if one == "crash": ctypes.string_at(0)
        if one == "loop":
            while True: pass
        if one == "raise": raise RuntimeError("cannot fold " + one)
        if one == "quit": raise SystemExit(1)
    return [float("nan") if one == "nan" else float("inf") if one == "inf" else len(one) for one in objects]
"""


def test_poisonous_objects_cost_nobody_else_the_score(write):
    names = ["A", "exit", "AA", "crash", "AAA", "loop", "A" * 4, "raise", "quit", "A" * 5, "nan", "inf"]
    with load_scorer(write(POISON), timeout=1.0) as score:
        result = score(names)
    assert [name for name in names if name not in result.failures] == ["A", "AA", "AAA", "AAAA", "AAAAA"]
    np.testing.assert_array_equal(np.isnan(result.values), [name in result.failures for name in names])
    assert result.values[[0, 2, 4, 6, 9]].tolist() == [1.0, 2.0, 3.0, 4.0, 5.0]
    assert "ended with status 3" in result.failures["exit"]
    assert "killed by SIGSEGV" in result.failures["crash"] or sys.platform == "win32"
    assert "Segmentation fault" in result.failures["crash"] or sys.platform == "win32"
    assert result.failures["loop"] == "took longer than 1 s"
    assert result.failures["raise"] == "RuntimeError: cannot fold raise (my_score.py, line 9)"
    assert "SystemExit: 1" in result.failures["quit"]
    assert "nan" in result.failures["nan"]
    assert "inf" in result.failures["inf"]


def test_a_failed_object_is_not_tried_again(write):
    with load_scorer(write(POISON), timeout=1.0) as score:
        score(["loop", "A"])
        started = time.monotonic()
        again = score(["A", "loop"])
        assert time.monotonic() - started < 0.5
        assert score.failures == again.failures == {"loop": "took longer than 1 s"}


@pytest.mark.parametrize(
    ("bad", "match"), [("raise", "cannot fold"), ("nan", "the score is nan, not a finite number"), ("exit", "status 3")]
)
def test_raise_names_the_object_and_its_index(write, bad, match):
    with load_scorer(write(POISON), on_failure="raise") as score:
        assert score(["A"]).values.tolist() == [1.0]
        for _ in range(2):  # the second time from memory
            with pytest.raises(ScoreError, match=rf"object 2 \('{bad}'\) could not be scored: .*{match}"):
                score(["A", "AA", bad, "AAA"])


def test_a_score_that_fails_on_everything_is_given_up(write):
    with load_scorer(write("def score(objects):\n    raise ValueError('always')\n")) as score:
        assert len(score(["A", "B"]).failures) == 2  # too few to judge by
        with pytest.raises(ScoreError, match="the first 20 objects all failed.*ValueError: always"):
            score(["A" * n for n in range(100)])


# --- results that are no scores ---


@pytest.mark.parametrize(
    ("expression", "match"),
    [
        ("[1.0] * (len(objects) - 1)", "returned 1 values for 2 objects"),
        ("[1.0] * 3", "returned 3 values for 2 objects"),
        ("'12'", "returned a str for 2 objects"),
        ("None", "returned a NoneType"),
        ("1.0", "returned a float"),
        ("dict.fromkeys(objects, 1.0)", "returned a dict"),
        ("[1.0, '2.0']", r"returned '2.0' for object 1 \('AC'\), which is no number"),
        ("[None, 1.0]", r"returned None for object 0 \('A'\)"),
        ("[[1.0], 1.0]", r"returned \[1.0\] for object 0"),
        ("__import__('numpy').ones((2, 1))", "for object 0"),
        ("[1j, 1.0]", "returned 1j for object 0"),
    ],
)
def test_results_that_are_no_scores_are_always_an_error(write, expression, match):
    with load_scorer(write(f"def score(objects):\n    return {expression}\n")) as score, pytest.raises(ScoreError, match=match):
        score(["A", "AC"])


def test_an_integer_beyond_every_float_is_infinite():
    assert as_floats([10**400], ["A"]) == [float("inf")]
    with pytest.raises(WrongResult, match="one-element|no number"):
        as_floats([np.ones(1)], ["A"])


# --- processes ---


def test_a_file_changed_while_in_use_is_noticed(write):
    name = write(POISON)
    with load_scorer(name) as score:
        score(["A"])
        write(LENGTHS)
        with pytest.raises(ScoreError, match="was changed while it was in use"):
            score(["exit", "AA"])


PID = """
import os, subprocess, time, pathlib
HERE = pathlib.Path(__file__).parent
def score(objects):
    if objects == ["loop"]:
        child = subprocess.Popen(["sleep", "600"])
        (HERE / "pids.tmp").write_text(f"{os.getpid()} {child.pid}")
        os.replace(HERE / "pids.tmp", HERE / "pids")
        while True: pass
    return [float(os.getpid())] * len(objects)
"""


@needs_proc
def test_leaving_the_scorer_ends_its_process(write):
    with load_scorer(write(PID)) as score:
        pid = int(score(["A"]).values[0])
        assert is_alive(pid)
        assert int(score(["B"]).values[0]) == pid  # one process for all batches
    assert not is_alive(pid)
    score.close()


@needs_proc
def test_a_timeout_also_ends_what_the_score_had_started(write, tmp_path):
    with load_scorer(write(PID), timeout=1.0) as score:
        assert score(["loop"]).failures == {"loop": "took longer than 1 s"}
        pids = [int(text) for text in (tmp_path / "pids").read_text().split()]
        wait_until(lambda: not any(map(is_alive, pids)))
        assert score(["A"]).values[0] not in pids


POLITE = pytest.mark.slow("starts a process; one that is killed leaves no word at all, and its worker ends as well")


@needs_proc
@pytest.mark.parametrize("how", [pytest.param(signal.SIGINT, marks=POLITE), signal.SIGKILL])
def test_the_worker_ends_with_its_parent(write, tmp_path, how):
    script = f"""
import signal
signal.signal(signal.SIGINT, signal.default_int_handler)
from narrows.scorers import load_scorer
with load_scorer({write(PID)!r}) as score:
    score(["loop"])
"""
    with subprocess.Popen([sys.executable, "-c", script], stderr=subprocess.DEVNULL) as parent:
        wait_until((tmp_path / "pids").exists, 60.0)
        pids = [int(text) for text in (tmp_path / "pids").read_text().split()]
        assert all(map(is_alive, pids))
        parent.send_signal(how)
    wait_until(lambda: not any(map(is_alive, pids)))


# --- settings ---


@pytest.mark.parametrize(
    ("settings", "match"),
    [
        ({"timeout": 0.0}, "timeout"),
        ({"timeout": float("nan")}, "timeout"),
        ({"batch_size": 0}, "batch_size"),
        ({"on_failure": "ignore"}, "on_failure"),
    ],
)
def test_settings_out_of_range(write, settings, match):
    with pytest.raises(ValueError, match=match):
        load_scorer(write(LENGTHS), **settings)
    with load_scorer(len) as score, pytest.raises(ValueError, match="Put it in a list"):
        score("ACGU")


def test_a_result_is_an_array_to_numpy():
    result = ScoreResult(np.array([1.0, 2.0]), {})
    assert np.asarray(result).tolist() == [1.0, 2.0]
    assert np.asarray(result, dtype=np.float32).dtype == np.float32


# --- scores that know how unsure they are ---

PAIR = """from typing import NamedTuple
class Scores(NamedTuple):
    mean: list[float]
    std: list[float]
def score(objects):
    return Scores([float(len(text)) for text in objects], [0.5 * text.count('A') for text in objects])
"""


@pytest.mark.parametrize(("kappa", "expected"), [(0.0, [2.0, 1.0, 3.0]), (2.0, [1.0, 0.0, 0.0])])
def test_a_lower_bound_of_means_and_deviations(write, kappa, expected):
    texts = ["AC", "A", "AAA"]
    path = write(PAIR)
    with load_scorer(path, kappa=kappa) as score:
        assert score(texts).values.tolist() == expected
    columns = np.array([2.0, 1.0, 3.0]), np.array([0.5, 0.5, 1.5])
    for result in (Scores(*columns), np.stack(columns, 1)):
        with load_scorer(lambda objects, result=result: result, kappa=kappa) as score:
            assert score(texts).values.tolist() == expected
    with load_scorer(lambda objects: Scores(*columns), kappa=kappa) as score:
        assert score(texts).values.tolist() == expected
    with ThreadPoolExecutor(1) as pool, ExecutorScorer(path, pool, kappa=kappa, piece=2) as score:
        assert score(texts).values.tolist() == expected


def test_bounds_of_another_kappa_are_not_taken_from_the_cache(write, tmp_path):
    path = write(PAIR)
    for kappa, expected in ((0.0, 2.0), (1.0, 1.5), (2.0, 1.0)):
        with load_scorer(path, kappa=kappa, cache=tmp_path / "scores.sqlite") as score:
            assert score(["AC"]).values.tolist() == [expected]
    identities = {load_scorer(path, kappa=kappa).identity for kappa in (0.0, 1.0, 2.0)}
    assert len(identities) == 3


@pytest.mark.parametrize(
    ("expression", "match"),
    [
        ("[1.0, 2.0]", "kappa is 1, and the score returned no standard deviations"),
        ("Scores([1.0, 2.0], [0.1, -0.1])", r"a standard deviation of -0.1 for object 1 \('AC'\)"),
        ("Scores([1.0, 2.0], [0.1])", "returned 1 values for 2 objects"),
        ("([1.0, 2.0], [0.1, 0.1], [0.2, 0.2])", "kappa is 1, and the score returned no"),
    ],
)
def test_what_is_no_mean_and_deviation_is_an_error(write, expression, match):
    path = write(f"from narrows.scorers import Scores\n\ndef score(objects):\n    return {expression}\n")
    with load_scorer(path, kappa=1.0) as score, pytest.raises(ScoreError, match=match):
        score(["A", "AC"])


@pytest.mark.parametrize("expression", ["([1.0, 2.0], [0.1, 0.2])", "[[1.0, 2.0], [0.1, 0.2]]", "([1.0, 2.0], (3.0, 4.0))"])
def test_two_columns_are_asked_what_they_are(write, expression):
    path = write(f"def score(objects):\n    return {expression}\n")
    with load_scorer(path) as score, pytest.raises(ScoreError, match=r"two scores or means and.*Return .* Scores\(mean, std\)"):
        score(["A", "AC"])


def test_kappa_out_of_range_is_refused(write):
    for kappa in (-1.0, float("nan"), float("inf")):
        with pytest.raises(ValueError, match="kappa must be at least 0 and finite"):
            load_scorer(write(PAIR), kappa=kappa)
