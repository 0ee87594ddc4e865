"""From a job to the objects it names."""

import jax
import pytest

from narrows.config import JobError, build, parse_job
from narrows.rewards import HostReward

GRID = {"env": {"name": "Hypergrid", "side": 4}, "reward": {"name": "HypergridReward", "beta": 2.0}}


def job_of(tmp_path, **sections):
    return parse_job({**GRID, **sections}, tmp_path)


def test_parts_make_a_trainer_that_steps(tmp_path):
    job = job_of(
        tmp_path,
        policy={"name": "MLP", "hidden": 8, "learned_backward": True},
        objective={"name": "SubTrajectoryBalance"},
        replay={"capacity": 50, "batch_size": 4},
        train={"batch_size": 4},
    )
    trainer = build(job).trainer(job)
    state, info = jax.jit(trainer.step)(trainer.init(jax.random.key(0)))
    assert int(state.step) == 1
    assert info.log_reward.shape == (4,)


def test_constructor_errors_name_their_section(tmp_path):
    with pytest.raises(JobError, match=r"\[env\] side must be at least 2"):
        build(job_of(tmp_path, env={"name": "Hypergrid", "side": 1}))
    with pytest.raises(JobError, match=r"\[objective\] q must lie in \[0, 1\]"):
        build(job_of(tmp_path, objective={"name": "TrajectoryGeneralMellowmax", "q": 2.0}))
    with pytest.raises(JobError, match=r"\[reward\] .*BitSequence"):
        build(job_of(tmp_path, reward={"name": "BitModes"}))
    with pytest.raises(JobError, match=r"\[reward\] beta must be positive"):
        build(job_of(tmp_path, reward={"name": "HypergridReward", "beta": -1.0}))
    with pytest.raises(JobError, match=r"\[exploration\] epsilon"):
        build(job_of(tmp_path, exploration={"epsilon": 2.0}))


def test_score_comes_from_the_command_line_only(tmp_path):
    job = job_of(tmp_path, reward={"name": "Score", "beta": 3.0})
    with pytest.raises(JobError, match="Add --score FILE.py:FUNCTION"):
        build(job)
    parts = build(job, lambda texts: [len(text) for text in texts])
    assert isinstance(parts.reward, HostReward)
    with pytest.raises(JobError, match='Write name = "Score"'):
        build(job_of(tmp_path), lambda texts: texts)


def test_a_missing_landscape_is_named(tmp_path):
    job = job_of(
        tmp_path,
        env={"name": "Sequence", "alphabet": "ACGT", "min_length": 8, "max_length": 8},
        reward={"name": "Landscape", "path": "nowhere.csv"},
    )
    with pytest.raises(JobError, match="nowhere.csv"):
        build(job)
