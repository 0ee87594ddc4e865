"""`narrows doctor`: is this installation sound, and if not, what mends it."""

from pathlib import Path

import jax
import jax.numpy as jnp
from tyro.conf import Positional

from narrows.doctor import Report
from narrows.doctor import doctor as look
from narrows.envs import Hypergrid
from narrows.objectives import TrajectoryBalance
from narrows.policies import MLP, sizes_of
from narrows.rewards import HypergridReward
from narrows.training import adam, run, trainer


def doctor(folder: Positional[Path] = Path()) -> Report:
    """Show versions, devices, extras and the room in a folder, and train a tiny sampler to see that everything works.

    Args:
        folder: where you mean to keep runs.
    """
    return look(folder, self_test=_train_tiny_sampler)


def render(report: Report) -> str:
    """Return the findings, one line each, and the verdict."""
    return report.summary()


def _train_tiny_sampler() -> str:
    env = Hypergrid(2, 4)
    policy = MLP(sizes_of(env), hidden=16, key=jax.random.key(0))
    training = trainer(env, policy, HypergridReward(env), TrajectoryBalance(), adam(1e-2), batch_size=16)
    state, history = run(training, training.init(jax.random.key(1)), 200, every=100)
    if not (history[1]["loss"] < history[0]["loss"] and bool(jnp.all(jnp.isfinite(state.model.log_z)))):
        raise RuntimeError(f"a tiny sampler did not learn: its loss went from {history[0]['loss']} to {history[1]['loss']}")
    return f"a tiny sampler learned: loss {history[0]['loss']:.3g} to {history[1]['loss']:.3g}"
