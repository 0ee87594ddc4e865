"""What a task of MuJoCo is learned from and judged by: a policy, its transitions and true values, simulated once and kept.

The policy is linear in normalised observations, found by augmented random search, with noise for variety: Mania, Guy and Recht,
"Simple random search provides a competitive approach to reinforcement learning" (arXiv:1803.07055), V2.
"""

import hashlib
import json
import os
from collections.abc import Callable
from functools import partial
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import NamedTuple, TypeVar

import numpy as np

from benchmarks.harness.processes import done, tell
from narrows.vi import td
from narrows.vi.td import rollout_files, rollouts, simulators
from narrows.vi.td.rollouts import Returns

_SMALLEST_SPREAD = 1e-2
"""Coordinates that hardly move are not blown up."""


class LinearPolicy(NamedTuple):
    """Actions linear in normalised observations, plus noise, within -1 and 1."""

    weights: np.ndarray  # of shape [observation, action]
    # mean, spread: of observations
    mean: np.ndarray
    spread: np.ndarray
    noise: float  # standard deviation of what is added

    def __call__(self, observations: np.ndarray, generator: np.random.Generator) -> np.ndarray:
        """Return an action for each observation."""
        actions = ((observations - self.mean) / self.spread) @ self.weights
        return np.clip(actions + self.noise * generator.normal(size=actions.shape), -1.0, 1.0)


class Search(NamedTuple):
    """How a policy is searched for."""

    num_iterations: int  # of the search
    num_directions: int  # tried in each, both ways
    num_best: int  # of them that are followed
    radius: float  # of a trial
    rate: float  # of a step
    num_steps: int  # of an episode
    bonus: float  # taken off each reward, so that standing still is not the best
    noise: float  # of the policy that comes out


def searched(environment_id: str, search: Search, seed: int) -> LinearPolicy:
    """Return the policy that a search from zero weights ends with."""
    generator = np.random.default_rng(seed)
    with simulators.several(environment_id, 1) as (env,):
        size, num_actions = env.observation_space.shape[0], env.action_space.shape[0]
        policy = LinearPolicy(np.zeros((size, num_actions)), np.zeros(size), np.ones(size), 0.0)
        moments = np.zeros(size), np.zeros(size), 0
        for _ in range(search.num_iterations):
            trials = generator.normal(size=(search.num_directions, size, num_actions))
            returns = np.empty((search.num_directions, 2))
            for place, trial in enumerate(trials):
                for side, sign in enumerate((1.0, -1.0)):
                    tried = policy._replace(weights=policy.weights + sign * search.radius * trial)
                    returns[place, side], seen = _episode(env, tried, search, generator)
                    moments = moments[0] + seen.sum(0), moments[1] + (seen**2).sum(0), moments[2] + len(seen)
            policy = _moved(policy, trials, returns, search)
            policy = policy._replace(mean=(mean := moments[0] / moments[2]), spread=_spread(moments[1] / moments[2] - mean**2))
    return policy._replace(noise=search.noise)


def save(path: Path, policy: LinearPolicy) -> None:
    """Write a policy's parameters."""
    np.savez(path, weights=policy.weights, mean=policy.mean, spread=policy.spread, noise=policy.noise)


def load(path: Path) -> LinearPolicy:
    """Read a policy."""
    with np.load(path, allow_pickle=False) as found:
        return LinearPolicy(found["weights"], found["mean"], found["spread"], float(found["noise"]))


def _moved(policy: LinearPolicy, trials: np.ndarray, returns: np.ndarray, search: Search) -> LinearPolicy:
    """Follow the best directions, each by how much better one way was than the other."""
    best = np.argsort(-returns.max(1))[: search.num_best]
    scale = search.rate / (search.num_best * max(returns[best].std(), 1e-8))
    step = scale * np.tensordot(returns[best, 0] - returns[best, 1], trials[best], 1)
    return policy._replace(weights=policy.weights + step)


def _episode(
    env: simulators.Environment, policy: LinearPolicy, search: Search, generator: np.random.Generator
) -> tuple[float, np.ndarray]:
    now, total, seen = env.reset(seed=int(generator.integers(2**31)))[0], 0.0, []
    for _ in range(search.num_steps):
        seen.append(now)
        (action,) = simulators.acted(policy, env, now[None], generator)
        step = simulators.stepped(env, action)
        now, total = step.observation, total + step.reward - search.bonus
        if step.is_terminal or step.is_truncated:
            break
    return total, np.stack(seen)


def _spread(variance: np.ndarray) -> np.ndarray:
    return np.maximum(np.sqrt(np.maximum(variance, 0.0)), _SMALLEST_SPREAD)


T = TypeVar("T")
_SIMULATORS = ("gymnasium", "mujoco")


class Task(NamedTuple):
    """A task and how it is sampled."""

    environment_id: str  # as gymnasium knows it
    search: Search  # for its policy
    num_transitions: int  # of the data
    num_states: int  # whose true values are known, visited by the policy in a run of its own
    num_rollouts: int  # from each of them
    num_steps: int  # of each rollout
    discount: float  # gamma
    num_parts: int = 2  # the data are collected in so many parts, by processes side by side

    @property
    def remaining(self) -> float:
        """How much of a return is left out at most, as a share of the largest."""
        return self.discount**self.num_steps


class Simulated(NamedTuple):
    """What came out."""

    transitions: td.Transitions  # of the policy
    truth: Returns  # returns from the states that it is judged by


def simulated(task: Task, folder: Path, num_processes: int | None = None) -> Simulated:
    """Return a task's data from its folder; what is not there is simulated and left there.

    The folder's name holds a digest of all settings and of the versions of the simulators, so that nothing stale is found.

    Raises ImportError where gymnasium or MuJoCo is missing.
    """
    num_processes = num_processes or len(os.sched_getaffinity(0))
    settings = _settings(task)
    name = hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()[:10]
    home = folder / f"{task.environment_id}-{name}"
    home.mkdir(parents=True, exist_ok=True)
    (home / "settings.json").write_text(json.dumps(settings, indent=1) + "\n", encoding="utf-8")
    policy = _kept(home / "policy.npz", partial(_policy, task), load, save)
    collected, returned = partial(_transitions, task, policy, num_processes), partial(_truth, task, policy, num_processes)
    data = _kept(home / "transitions.npz", collected, rollout_files.load_transitions, rollout_files.save_transitions)
    truth = _kept(home / "returns.npz", returned, rollout_files.load_returns, rollout_files.save_returns)
    return Simulated(data, truth)


def _kept(path: Path, make: Callable[[], T], load: Callable[[Path], T], save: Callable[[Path, T], object]) -> T:
    if path.is_file():
        return load(path)
    tell(f"simulating {path.parent.name}, {path.stem}")
    made = make()
    save(path, made)
    return made


def _policy(task: Task) -> LinearPolicy:
    return searched(task.environment_id, task.search, seed=0)


def _transitions(task: Task, policy: LinearPolicy, num_processes: int) -> td.Transitions:
    sizes = [len(part) for part in np.array_split(np.arange(task.num_transitions), task.num_parts)]
    jobs = [partial(rollouts.collect, task.environment_id, policy, size, seed=1 + at) for at, size in enumerate(sizes)]
    parts = [job() for job in jobs] if num_processes == 1 else done(jobs)
    first, reward, after, is_terminal = (np.concatenate([np.asarray(part[leaf]) for part in parts]) for leaf in range(4))
    return td.Transitions(first, reward, after, is_terminal)


def _truth(task: Task, policy: LinearPolicy, num_processes: int) -> Returns:
    starts = rollouts.visited(task.environment_id, policy, task.num_states, seed=10_000, every=53)
    return rollouts.returns(
        task.environment_id,
        policy,
        starts,
        discount=task.discount,
        num_rollouts=task.num_rollouts,
        num_steps=task.num_steps,
        num_processes=num_processes,
        seed=20_000,
    )


def _settings(task: Task) -> dict:
    return {**task._asdict(), "search": task.search._asdict(), "versions": {name: _version(name) for name in _SIMULATORS}}


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return "missing"
