"""Training beside scores that are under way: every batch is drawn, trained on and archived once, in whatever order."""

import collections
from concurrent.futures import ThreadPoolExecutor

import jax
import numpy as np
import pytest
from rich.console import Console

from narrows.config import load_job
from narrows.envs import Subsets
from narrows.objectives import TrajectoryBalance
from narrows.policies import Tabular, sizes_of
from narrows.runs import RunFolder, execute, read_rows, read_set_aside
from narrows.scorers import ExecutorScorer
from narrows.scorers.host import AbstractAsyncScore, AbstractScoreBatch, HostReward
from narrows.storage.archive import Archive
from narrows.training import adam, objects_of, run, trainer

ENV = Subsets(num_items=8)
BATCH = 4
JOB = """
[env]
name = "Subsets"
num_items = 8
[reward]
name = "Score"
beta = 2.0
[policy]
name = "MLP"
hidden = 16
[objective]
name = "TrajectoryBalance"
[train]
num_steps = 12
batch_size = 4
every = 3
checkpoint_every = 6
"""


def count_ones(texts):
    return [float(text.count("1")) for text in texts]


class Scripted(AbstractAsyncScore):
    """Ends the newest of the batches first, and notes what becomes of each."""

    def __init__(self, pending):
        self._pending = pending
        self.batches = []
        self.most_at_once = 0

    @property
    def pending(self):
        return self._pending

    def __call__(self, objects):
        return count_ones(objects)

    def submit(self, objects):
        self.batches.append(ScriptedBatch(list(objects)))
        return self.batches[-1]

    def first_of(self, batches):
        self.most_at_once = max(self.most_at_once, len(batches))
        return len(batches) - 1


class ScriptedBatch(AbstractScoreBatch):
    def __init__(self, objects):
        self.objects, self.fate = objects, []

    def result(self):
        self.fate.append("trained")
        return count_ones(self.objects)

    def cancel(self):
        self.fate.append("cancelled")


def make_trainer(score):
    policy = Tabular(sizes_of(ENV), key=jax.random.key(0))
    return trainer(ENV, policy, HostReward(score, ENV, beta=2.0), TrajectoryBalance(), adam(1e-2), batch_size=BATCH)


def train(score, num_steps, **settings):
    chunks = []

    def keep(chunk):
        chunks.append((chunk.last_step, list(objects_of(chunk.info, ENV)), np.asarray(chunk.info.log_reward)))
        return {}

    training = make_trainer(score)
    state, _ = run(training, training.init(jax.random.key(1)), num_steps, every=2, observers=[keep], **settings)
    return state, chunks


def numbers(state):
    return state._replace(key=jax.random.key_data(state.key))


def test_every_batch_is_trained_on_once_and_none_is_drawn_for_nothing():
    score = Scripted(pending=3)
    state, chunks = train(score, 10)
    assert int(state.step) == 10 and score.most_at_once == 3
    assert [batch.fate for batch in score.batches] == [["trained"]] * 10
    drawn = collections.Counter(tuple(batch.objects) for batch in score.batches)
    trained = [tuple(objects[start : start + BATCH]) for _, objects, _ in chunks for start in range(0, len(objects), BATCH)]
    assert collections.Counter(trained) == drawn
    assert len({tuple(batch.objects) for batch in score.batches[:3]}) == 3, "what is drawn side by side must differ"
    assert trained[-1] == tuple(score.batches[0].objects)  # the slowest comes last and holds up nobody
    for _, objects, log_reward in chunks:
        np.testing.assert_array_equal(log_reward.reshape(-1), 2.0 * np.array(count_ones(objects)))


def test_stopping_early_cancels_what_is_under_way():
    score = Scripted(pending=3)
    looks = iter([False, False, True])
    state, _ = train(score, 10, should_stop=lambda: next(looks))
    assert int(state.step) == 4
    assert collections.Counter(fate for batch in score.batches for fate in batch.fate) == {"trained": 4, "cancelled": 2}


def test_an_error_cancels_what_is_under_way():
    score = Scripted(pending=3)

    def stumble(batches):
        raise RuntimeError("the cluster burns")

    score.first_of = stumble
    with pytest.raises(RuntimeError, match="the cluster burns"):
        train(score, 10)
    assert [batch.fate for batch in score.batches] == [["cancelled"]] * 3


def test_one_pending_batch_is_the_plain_step_bit_for_bit():
    state, chunks = train(Scripted(pending=1), 6)
    plain, expected = train(count_ones, 6)
    for ours, theirs in zip(jax.tree.leaves(numbers(state)), jax.tree.leaves(numbers(plain)), strict=True):
        np.testing.assert_array_equal(ours, theirs)
    assert [objects for _, objects, _ in chunks] == [objects for _, objects, _ in expected]


@pytest.mark.slow("a whole run; tests/rewards/test_executor.py guards the reasons, and tests/test_runs.py the files")
def test_a_run_through_an_executor_says_why_objects_were_set_aside(tmp_path):
    job = tmp_path / "job.toml"
    job.write_text(JOB, encoding="utf-8")
    score_file = tmp_path / "mine.py"
    score_file.write_text(
        "def score(objects):\n"
        "    if objects[0].startswith('1'): raise ValueError('no pocket to dock into')\n"
        "    return [float(one.count('1')) for one in objects]\n"
    )
    folder = RunFolder.create(tmp_path / "run", load_job(job), {"job": "job.toml"})
    with ThreadPoolExecutor(3) as pool, ExecutorScorer(f"{score_file}:score", pool, pending=3) as score:
        outcome = execute(folder, score=score, console=Console(quiet=True))
    assert outcome.is_finished
    lines = read_set_aside(folder.set_aside)
    assert lines and all("no pocket to dock into (mine.py, line 2)" in line.reason for line in lines)
    assert all((line.object or "").startswith("1") for line in lines)
    rows = read_rows(folder.history)
    assert rows[-1]["sampled"] == 12 * 4 and rows[-1]["set_aside"] == len(lines)
    with Archive.open(folder.archive, read_only=True) as archive:
        entries = archive.entries()
    assert entries.log_rewards.tolist() == [2.0 * name.count("1") for name in entries.objects]
    assert not any(name.startswith("1") for name in entries.objects)
