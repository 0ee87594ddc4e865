"""The speed benchmark without its peers: the workers' protocol on tiny problems, the counts, the turns, the verdicts."""

import io
import json
import math
import re
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import ClassVar

import jax
import numpy as np
import pytest
from benchmarks import __main__ as command
from benchmarks import guard, speed
from benchmarks._speed import learning, measure, ours, problem, protocol, tables, workers
from benchmarks._speed.plan import BATCHES, LENGTHS, LESSONS, PLANS, Plan, of_batch, of_length
from benchmarks._speed.problem import Problem
from benchmarks.harness.places import ROOT
from benchmarks.harness.rows import Context, Row

from narrows.envs import Sequence
from narrows.trajectories import sample

CONTEXT = Context(True, None, "python -m benchmarks speed", {"python": "3.11.0"}, "2 cores, Linux x86_64")
TINY = Problem("hypergrid", "tb", "mlp", 3, batch=4, chunk=2)
EFFORT = measure.Effort(2, 0.02)


class Clock:
    """A side that answers at once and says it took `seconds` an iteration, after `compiling` the first time."""

    def __init__(self, name, seconds, compiling, log):
        self.name, self.seconds, self.compiling, self.log = name, seconds, compiling, log

    def ask(self, ask, **details):
        self.log.append((self.name, ask, details["count"]))
        took, self.compiling = self.compiling + self.seconds * details["count"], 0.0
        return {"seconds": took, "loss": 1.0 / len(self.log), "decisions": 3.0}


def test_a_problem_reaches_the_worker_as_it_was():
    for known in (TINY, TINY.still(), *(plan.problem for plan in PLANS.values()), *map(of_length, LENGTHS)):
        assert Problem.from_json(known.to_json()) == known
        assert "\n" not in known.to_json()


def test_windows_go_round_in_turns_and_last_alike():
    log = []
    slow, fast = Clock("slow", 0.1, 5.0, log), Clock("fast", 0.001, 2.0, log)
    timings = [measure.warm_up(fast, 10), measure.warm_up(slow, 1)]
    assert [timing.compile_seconds for timing in timings] == pytest.approx([2.0, 5.0])
    assert [timing.unit_seconds for timing in timings] == pytest.approx([0.01, 0.1])
    assert timings[0].first_loss == 1.0
    del log[:]
    measure.take_turns(timings, 3, 0.5)
    assert [name for name, _, _ in log] == ["fast", "slow"] * 3, "A B A B A B"
    assert [count for _, _, count in log] == [500, 5] * 3, "half a second each"
    assert timings[0].rates == pytest.approx([1000.0] * 3) and timings[1].rates == pytest.approx([10.0] * 3)


def test_a_window_holds_at_least_one_unit():
    log = []
    timing = measure.warm_up(Clock("x", 10.0, 0.0, log), 1)
    measure.take_turns([timing], 1, 0.5)
    assert log[-1] == ("x", "train", 1)


def test_the_products_of_an_mlp_are_counted_by_hand():
    # A trajectory of 5 choices: a hidden layer of 256 x 256 and a head of 256 x 5 each; the first layer is a look-up.
    by_hand = 5 * (256 * 256 + 256 * 5)
    assert measure.trajectory_multiply_adds(replace(TINY, batch=1), 5.0) == by_hand
    assert measure.iteration_flops(replace(TINY, batch=7), 5.0) == 2 * 3 * 7 * by_hand
    assert measure.trajectory_multiply_adds(replace(TINY, objective="db"), 5.0) == by_hand + 5 * 256, "a head for the flow"


def test_the_products_of_a_transformer_are_counted_by_hand():
    bits = Problem("bits", "tb", "transformer", 120)
    total = 0
    for position in range(15):
        for _ in range(3):  # layers
            total += 64 * 3 * 64 + 64 * 64  # queries, keys and values of 8 heads of 8; the way back
            total += 2 * 64 * (position + 1)  # scores and values of the keys so far, all heads together
            total += 64 * 64 + 64 * 64  # feed-forward
        total += 64 * 256  # the head: 256 words, no choice to end
    assert measure.trajectory_multiply_adds(bits, 15.0) == total


@pytest.mark.slow("compiles a transformer; the counts by hand guard the formula")
def test_the_matrix_products_of_our_network_are_those_that_are_counted():
    """XLA's own count of one forward pass over a sequence bounds ours from above, and not by much."""
    letters = Problem("letters", "tb", "transformer", 30)
    env, _ = ours._environment(letters)
    policy = ours._policy(letters, env, jax.random.key(0))
    states = [env.reset()]
    for _ in range(29):
        states.append(env.step(states[-1], jax.numpy.int32(1)))
    prefixes = jax.tree.map(lambda *leaves: np.stack(leaves), *map(env.observe, states))
    cost = jax.jit(lambda policy, seen: policy.unroll(seen)).lower(policy, prefixes).compile().cost_analysis()
    assert cost is not None
    counted = 2 * measure.trajectory_multiply_adds(letters, 30.0)
    assert counted < cost["flops"] < 2.0 * counted


@pytest.mark.parametrize(
    ("asked", "places", "choices"),
    [
        (Problem("hypergrid", "tb", "mlp", 20), 4, 5),
        (Problem("bits", "tb", "transformer", 120), 15, 256),
        (Problem("bits_any_order", "tb", "transformer", 120), 15, 3840),
        (Problem("peptides", "tb", "transformer", 60), 60, 21),
        (Problem("dna8", "tb", "mlp", 8), 8, 4),
    ],
)
def test_the_sizes_of_a_problem(asked, places, choices):
    assert (asked.num_places, asked.num_choices) == (places, choices)


def test_modes_are_drawn_as_the_library_draws_them():
    from narrows.envs import BitSequence
    from narrows.rewards import BitModes

    known = BitModes(BitSequence(120, 8), num_modes=problem.NUM_MODES).modes
    assert ["".join(map(str, mode)) for mode in problem.modes(120)] == list(known)


def test_the_rewards_of_our_side_are_the_formulas():
    env, nearest = ours._environment(Problem("bits", "tb", "transformer", 16))
    texts = ["0" * 16, "01" * 8, "1111000011110000"]
    modes = ["".join(map(str, mode)) for mode in problem.modes(16)]
    by_hand = [-2.0 * min(sum(a != b for a, b in zip(text, mode, strict=True)) for mode in modes) / 16 for text in texts]
    np.testing.assert_allclose(nearest(env.from_text(texts)), by_hand, atol=1e-6)
    env, pairs = ours._environment(Problem("peptides", "tb", "transformer", 60))
    table, letters = problem.pair_scores(20), problem.AMINO_ACIDS
    texts = ["", "A", "ARN", "WYVAAK"]
    by_hand = [
        10.0 / 60 * sum(table[letters.index(a)][letters.index(b)] for a, b in zip(t, t[1:], strict=False)) for t in texts
    ]
    np.testing.assert_allclose(pairs(env.from_text(texts)), by_hand, atol=1e-5)


def test_listed_scores_are_read_in_the_order_of_the_sequences(tmp_path):
    np.save(tmp_path / "scores.npy", np.arange(4**8, dtype=np.float32))
    env, listed = ours._environment(Problem("dna8", "tb", "mlp", 8, table=str(tmp_path / "scores.npy")))
    assert isinstance(env, Sequence)
    found = np.asarray(listed(env.from_text(["AAAAAAAA", "AAAAAAAC", "CAAAAAAA", "TTTTTTTT"]))) / problem.DNA_EXPONENT
    assert found.tolist() == [0, 1, 4**7, 4**8 - 1]


@pytest.mark.parametrize("lesson", [lesson for lesson in LESSONS if lesson.problem.space != "dna8"], ids=lambda one: one.name)
def test_exact_laws_are_those_of_the_rewards(lesson):
    law, base = learning.exact_law(lesson.problem), learning.base_of(lesson.problem)
    env, reward = ours._environment(lesson.problem)
    assert law.sum() == pytest.approx(1.0) and law.size == base**lesson.problem.num_places
    random = np.random.default_rng(0).integers(0, base, (2, lesson.problem.num_places))
    separator, names = (" ", [str(number) for number in range(base)]) if lesson.problem.space == "hypergrid" else ("", "ACGT")
    texts = [separator.join(names[number] for number in row) for row in random]
    one, two = (random @ base ** np.arange(random.shape[1] - 1, -1, -1)).tolist()
    scores = np.asarray(reward(env.from_text(texts)))
    assert math.log(law[one] / law[two]) == pytest.approx(float(scores[0] - scores[1]), abs=1e-5)


def test_total_variation_of_samples():
    law = np.array([0.5, 0.25, 0.25, 0.0])
    exact = np.array([[0, 0], [0, 0], [0, 1], [1, 0]])
    assert learning.total_variation(law, exact, 2) == 0.0
    assert learning.total_variation(law, np.array([[1, 1]]), 2) == 1.0
    with pytest.raises(ValueError, match=r"expected objects of numbers in \[0, 2\), got -1 to 1"):
        learning.total_variation(law, np.array([[-1, 1]]), 2)
    assert 0.0 < learning.sampling_floor(np.full(100, 0.01), 1000) < 0.3


@pytest.mark.slow("trains in a process; the protocol with a made-up side guards what is asked and answered")
def test_a_worker_trains_samples_and_says_what_it_took(tmp_path):
    with workers.at_work([workers.OURS], TINY) as (worker,):
        assert worker.versions["jax"] == jax.__version__
        assert worker.ask("snapshot") == {}
        first, second = worker.ask("train", count=4), worker.ask("train", count=4)
        assert first["seconds"] > second["seconds"] > 0.0, "the second time nothing is compiled"
        assert first["loss"] > 0.0 and 1.0 <= first["decisions"] <= 4 * 2 + 1
        assert worker.ask("sample", count=3)["seconds"] > 0.0
        worker.ask("objects", num=1500, path=str(tmp_path / "objects.npy"))
        objects = np.load(tmp_path / "objects.npy")
        assert objects.shape == (1500, 4) and objects.min() >= 0 and objects.max() == 2
        # The snapshot is of the first policy, which ends at every step with a probability near a fifth.
        assert np.mean(objects.sum(axis=1) == 0) == pytest.approx(0.2, abs=0.05)
        assert 5e7 < worker.ask("memory")["peak_bytes"] < 5e9
        with pytest.raises(ValueError, match=r"narrows on hypergrid \(tb\) failed: .* got 'dance'"):
            worker.ask("dance")


class Made:
    """A side that does nothing and says so."""

    def __init__(self, problem):
        self.problem = problem

    def versions(self):
        return {"made": "up"}

    def train(self, iterations):
        return {"loss": 1.0 / iterations, "decisions": 3.0}

    def snapshot(self):
        pass

    def objects(self, num, path):
        np.save(path, np.zeros((num, self.problem.num_places), np.int32))

    def sample(self, batches):
        pass


def test_a_worker_answers_in_lines_of_json_and_says_what_it_does_not_know(tmp_path, monkeypatch):
    answers = io.StringIO()
    path = str(tmp_path / "objects.npy")
    asked = [("train", {"count": 4}), ("sample", {"count": 2}), ("snapshot", {}), ("objects", {"num": 3, "path": path})]
    lines = [json.dumps({"ask": ask, **details}) + "\n" for ask, details in [*asked, ("memory", {}), ("dance", {})]]
    monkeypatch.setattr(protocol, "_take_over_output", lambda: answers)
    monkeypatch.setattr("sys.stdin", io.StringIO("".join(lines)))
    with pytest.raises(ValueError, match="got 'dance'"):
        protocol.serve(Made, TINY)
    built, trained, sampled, kept, drawn, memory, failed = map(json.loads, answers.getvalue().splitlines())
    assert built["versions"] == {"made": "up"} and trained["loss"] == 0.25 and trained["seconds"] >= 0.0
    assert set(sampled) == {"seconds"} and kept == drawn == {} and memory["peak_bytes"] > 1e6
    assert np.load(path).shape == (3, 4) and "snapshot, objects and memory, got 'dance'" in failed["error"]
    answers.truncate(0)

    def broken(problem: Problem) -> protocol.Side:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        protocol.serve(broken, TINY)
    assert "ZeroDivisionError" in answers.getvalue()


@pytest.mark.slow("starts a process; the protocol is guarded by the worker that trains")
def test_a_worker_that_cannot_begin_says_why():
    with pytest.raises(ValueError, match=r"narrows on hypergrid \(tb\) failed: ValueError: side must be at least 2, got 1"):
        with workers.at_work([workers.OURS], replace(TINY, size=1)):
            pass


@pytest.mark.slow("starts a process; one that fails guards the sentence")
def test_a_worker_that_dies_is_told_of():
    with workers.at_work([workers.OURS], TINY) as (worker,):
        worker._process.kill()
        worker._process.wait()
        with pytest.raises(ValueError, match="narrows on hypergrid .* ended"):
            worker.ask("train", count=2)


def test_a_peer_that_is_not_installed_is_a_sentence():
    missing = workers.Library("gfnx", ".venv-that-is-not-there", "benchmarks._speed.peer_gfnx")
    with pytest.raises(ValueError, match=r"`make \.venv-that-is-not-there` installs it; `--against none` measures ours alone"):
        missing.python()


@pytest.mark.slow("trains in a process; the learning rate is what it rests on")
def test_a_still_policy_stays(tmp_path):
    with workers.at_work([workers.OURS], TINY.still()) as (worker,):
        worker.ask("train", count=20)
        worker.ask("snapshot")
        worker.ask("train", count=20)
        worker.ask("objects", num=2000, path=str(tmp_path / "objects.npy"))
    assert np.mean(np.load(tmp_path / "objects.npy").sum(axis=1) == 0) == pytest.approx(0.2, abs=0.05)


class Silent(Clock):
    """A worker that is no process and has nothing to say of its memory."""

    versions: ClassVar = {"jax": "1.0"}

    def ask(self, ask, **details):
        return {"peak_bytes": 2e8} if ask == "memory" else super().ask(ask, **details)


@pytest.fixture
def plan_rows(monkeypatch):
    """Ours stands in for the peer too, whose ratio is then one."""

    @contextmanager
    def at_work(names, problem):
        yield [Silent(name, 0.01, 0.5, []) for name in names]

    monkeypatch.setattr(measure, "at_work", at_work)
    plan = Plan("hypergrid_tb", "T", TINY, ("gfnx",), 20, {workers.OURS: 1e-9}, memory_mb=1.0)
    return list(measure.measure_plan(CONTEXT, plan, [workers.OURS], EFFORT))


def test_the_rows_of_a_case(plan_rows):
    metrics = {row.metric for row in plan_rows}
    assert {"iterations", "trajectories", "compile time", "peak memory", "share of the product peak"} <= metrics
    assert {"loss after 20 iterations", "loss, in the windows to at first", "rate to the peer's"} <= metrics
    (ratio,) = [row for row in plan_rows if row.metric == "rate to the peer's"]
    assert ratio.value == ratio.low == pytest.approx(1.0)
    assert ratio.target == ">= 1e-09" and ratio.met and ratio.against == workers.OURS and ratio.seeds == ()
    (bounded,) = [row for row in plan_rows if row.metric == "peak memory, bounded"]
    assert bounded.target == "<= 1" and bounded.met is False
    for row in plan_rows:
        if row.metric.startswith("share"):
            assert 0.0 < row.value < 1e-3, "of a hundred products of 2048 by 2048 a second"
    rates = {row.metric: row.value for row in plan_rows[:2]}
    assert rates["trajectories"] == pytest.approx(TINY.batch * rates["iterations"], rel=1e-5)


def test_the_page_shows_every_figure_and_the_missed_target(plan_rows):
    shown = tables.tables(plan_rows)
    assert "### Hypergrid 20^4, trajectory balance, trained policy" in shown and "**no**" in shown
    # Both sides are called narrows here, so the later of two rows of one name is the one that is shown.
    last = {(row.case, row.metric): row for row in plan_rows}
    for row in last.values():
        assert row.metric.startswith("loss, ") or tables.spread(row) in shown
    assert "Batch 16, mean squared trajectory balance" in shown


@pytest.mark.slow("trains in a process; exact laws and total variation are guarded by themselves")
def test_a_lesson_compares_laws():
    lesson = replace(LESSONS[0], problem=replace(TINY, chunk=10), trained=300, num=2000)
    rows = list(learning.measure_lesson(CONTEXT, lesson, [], (0,)))
    ours_row, floor = rows[0], rows[1]
    assert ours_row.seeds == (0,) and ours_row.metric == "total variation after 1,200 trajectories"
    assert floor.value < ours_row.value < 0.3, "the grid of 81 points is learned, though not beyond what samples can tell"


def test_growth_is_the_slope_of_logarithms():
    assert measure.growth({15: 15.0**1.25, 60: 60.0**1.25, 120: 120.0**1.25}) == pytest.approx(1.25)


def test_sweeps_ask_for_what_the_targets_are_about():
    assert {15, 30, 60, 120, 240} == set(LENGTHS) and {16, 256, 4096} <= set(BATCHES)
    assert of_batch(256) == replace(PLANS["bits_tb"].problem, batch=256, chunk=of_batch(256).chunk)
    env, _ = ours._environment(of_length(15))
    terminal = sample(jax.random.key(0), _uniform(env), env, 2).terminal
    assert np.all(np.asarray(terminal.length) == 15)


def _uniform(env):
    from narrows.policies.base import Model, Uniform

    return Model(Uniform(env.num_actions), jax.numpy.zeros(()))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            ["tfbind8", "--case", "bits_tb"],
            "--case belongs to the benchmarks games, kills, large, paper, robustness, speed, tables, tuning and vi, not to",
        ),
        (["guard", "--against", "gfnx"], "--against belongs to the benchmark speed, not to guard"),
        (["speed", "--record"], "--record belongs to the benchmark guard, not to speed"),
        (["speed", "--case", "chess"], "there is no case 'chess'. There are: hypergrid_tb, "),
        (["speed", "--against", "nobody"], "there is no peer 'nobody'. There are: narrows-one, gfnx, "),
        (["speed", "--against", "none,gfnx"], "expected none alone or names of peers"),
        (["speed", "--case", "tfbind8_tb", "--against", "none", "--data", "/nowhere"], "Name its folder with --data"),
    ],
)
def test_what_cannot_be_measured_is_a_sentence(arguments, message, capsys):
    assert command.main(arguments) == 1
    told = capsys.readouterr().err
    assert message in told and "Traceback" not in told


def test_the_command_of_a_row_repeats_it(monkeypatch):
    asked = []
    monkeypatch.setattr(command, "_run", lambda case, context, as_json, out: asked.append(context))
    assert command.main(["speed", "--case", "bits_tb", "--case", "length", "--against", "gfnx,torchgfn"]) == 0
    assert asked[0].command == "python -m benchmarks speed --case bits_tb --case length --against gfnx,torchgfn"
    assert asked[0].cases == ("bits_tb", "length") and asked[0].against == ("gfnx", "torchgfn")


def test_every_target_of_the_issue_is_set():
    assert PLANS["hypergrid_tb"].targets == {"gfnx": 3.0, "torchgfn": 5.0} == PLANS["hypergrid_db"].targets
    assert PLANS["bits_tb"].targets == {"gfnx": 25.0} == PLANS["bits_db"].targets
    assert PLANS["tfbind8_tb"].targets == {"gfnx": 5.0}
    assert PLANS["peptides_tb"].targets == {"gfnx": 60.0} and PLANS["peptides_tb"].memory_mb == 1000.0
    assert all(set(plan.targets) <= set(plan.peers) <= set(workers.PEERS) for plan in PLANS.values())
    assert all(plan.problem.chunk * measure.WARM_UP < plan.trained for plan in PLANS.values() if plan.trained)
    assert set(speed.QUICK) <= set(speed.CASES)


def test_the_guard_fails_in_a_sentence_and_stores_on_demand(tmp_path, monkeypatch):
    monkeypatch.setattr(guard, "BASELINE", tmp_path / "guard.json")
    paces = dict.fromkeys(guard.GUARDED, [1.0, 2.0, 3.0])
    monkeypatch.setattr(guard, "_paces", paces.__getitem__)
    with pytest.raises(ValueError, match="there is no guard.json yet"):
        list(guard.measure(CONTEXT))
    rows = list(guard.measure(replace(CONTEXT, record=True)))
    assert json.loads(guard.BASELINE.read_text()) == dict.fromkeys(guard.GUARDED, 2.0)
    assert [row.value for row in rows] == [1.0] * len(rows) and all(row.met for row in rows)
    paces["bits_tb"] = [1.0, 1.3, 9.0]
    found: list[Row] = []
    with pytest.raises(ValueError, match=re.escape("slower than 0.7 times the stored baseline: bits_tb (0.65)")):
        found.extend(guard.measure(CONTEXT))
    guard.BASELINE.write_text('{"other": 1.0}')
    with pytest.raises(ValueError, match="Store it again with --record"):
        list(guard.measure(CONTEXT))


@pytest.mark.slow("starts a process; the guard itself is tested on made-up paces")
def test_the_guard_counts_in_a_loop_that_never_changes():
    """The stored baselines are worth nothing after a change of the reference."""
    with workers.at_work([workers.REFERENCE], TINY) as (reference,):
        one, two = reference.ask("train", count=1), reference.ask("train", count=3)
        assert two["loss"] != one["loss"] and reference.ask("train", count=1)["loss"] == one["loss"]
        assert reference.ask("sample", count=1)["seconds"] > 0.0


def test_peak_memory_is_that_of_this_process():
    held = np.ones(3_000_000)
    assert protocol.peak_bytes() > held.nbytes
    assert isinstance(protocol.peak_bytes(), int)


def test_pins_are_complete_and_exact():
    for name in ("peers.txt", "peers-pinned.txt"):
        lines = [line for line in (ROOT / "benchmarks" / name).read_text().splitlines() if not line.startswith("#")]
        assert all(re.fullmatch(r"[A-Za-z0-9._-]+==[A-Za-z0-9.]+", line) for line in lines)
        assert {"gfnx==0.0.1"} <= set(lines)
    assert {"torch==2.13.0", "torchgfn==2.4.1"} <= set((ROOT / "benchmarks" / "peers.txt").read_text().splitlines())


def test_what_the_peers_run_imports_nothing_of_ours():
    for name in ("problem", "protocol", "peer_gfnx", "peer_torchgfn"):
        source = Path(ROOT / "benchmarks" / "_speed" / f"{name}.py").read_text()
        found = re.findall(r"^\s*(?:from|import) ([a-z_.]+)", source, flags=re.MULTILINE)
        assert not [module for module in found if module.startswith("narrows")]
        assert {module for module in found if module.startswith("benchmarks")} <= {
            "benchmarks._speed",
            "benchmarks._speed.problem",
            "benchmarks._speed.protocol",
        }
