"""From a job to the objects it names."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from narrows.config import JobError, build, build_kernel, parse_job
from narrows.config.names import NAMES
from narrows.envs import AbstractKernel, AbstractPerturbed, Sequence
from narrows.noise import Substitution, Table
from narrows.scorers import HostReward

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
    # Traced alone: tests/test_training.py runs what steps.
    state, info = jax.eval_shape(lambda key: trainer.step(trainer.init(key)), jax.random.key(0))
    assert state.step.shape == () and info.log_reward.shape == (4,)
    assert state.buffer is not None and state.model.policy.has_backward_head


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
    with pytest.raises(JobError, match=r"\[exploration\] share must lie in \(0, 1\]"):
        build(job_of(tmp_path, exploration={"name": "Recombination", "share": 2.0}))
    with pytest.raises(JobError, match=r"\[exploration\] unknown name 'Fog'. Known: Conservative, FromScratch"):
        build(job_of(tmp_path, exploration={"name": "Fog"}))
    with pytest.raises(JobError, match=r"\[exploration\] .*'shares'.* Did you mean 'share'\?"):
        build(job_of(tmp_path, exploration={"name": "Recombination", "shares": 0.5}))


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


# Noise.

LETTERS = {
    "env": {"name": "Sequence", "alphabet": "AC", "min_length": 1, "max_length": 3},
    "reward": {"name": "Score", "beta": 1.0},
}
LAW = "asked,came,probability\nA,A,0.9\nA,C,0.1\nC,C,1\n"


def build_with(tmp_path, **table):
    return build(parse_job({**LETTERS, "noise": table}, tmp_path), lambda texts: [len(text) for text in texts])


@pytest.mark.parametrize("rate", [0.0, 0.3, 1.0])
def test_noise_perturbs_the_environment(tmp_path, rate):
    job = job_of(tmp_path, noise={"name": "Substitution", "rate": rate}, policy={"name": "MLP", "hidden": 8})
    env = build(job).env
    assert isinstance(env, AbstractPerturbed) and isinstance(env.kernel, Substitution)
    asked = env.step(env.reset(), jnp.asarray(1, jnp.int32))
    np.testing.assert_allclose(np.exp(env.chance_log_probs(asked)), [rate / 2, 1 - rate / 2, 0.0], atol=1e-6)


def test_a_file_of_noise_is_looked_for_beside_the_job(tmp_path):
    (tmp_path / "law.csv").write_text(LAW, encoding="utf-8")
    env = build_with(tmp_path, name="Table", path="law.csv").env
    assert isinstance(env, AbstractPerturbed) and isinstance(env.kernel, Table)
    assert build_kernel(parse_job(LETTERS, tmp_path), env.inner) is None


def test_errors_of_noise_name_their_section(tmp_path):
    with pytest.raises(JobError, match=r"\[noise\] .*none.csv: no such file"):
        build_with(tmp_path, name="Table", path="none.csv")
    (tmp_path / "law.csv").write_text(LAW.replace("0.1", "0.03"), encoding="utf-8")
    with pytest.raises(JobError, match=r"\[noise\] .*law.csv: row 2, column 'probability': .* sum to 0.93"):
        build_with(tmp_path, name="Table", path="law.csv")
    with pytest.raises(JobError, match=r"\[noise\] rate must lie in \[0, 1\], got 2.0"):
        build_with(tmp_path, name="Substitution", rate=2.0)
    with pytest.raises(JobError, match=r"\[noise\] a Table perturbs the letters of a Sequence environment, got Hypergrid"):
        build(job_of(tmp_path, noise={"name": "Table", "path": "law.csv"}))


class Leaky(AbstractKernel):
    """Loses some of what is asked for, but only after the second action."""

    env: Sequence

    def log_probs(self, state, action):
        return jnp.log((jnp.arange(3) == action) * jnp.where(action == 1, 0.93, 1.0))


def test_a_kernel_that_breaks_its_laws_is_a_mistake_of_the_job(tmp_path, monkeypatch):
    monkeypatch.setitem(NAMES, "noise", {"Table": Leaky})
    with pytest.raises(JobError, match=r"\[noise\] .* law 'chance': .* after asking for action 1, .* sum to 0.93\. State"):
        build_with(tmp_path, name="Table")
