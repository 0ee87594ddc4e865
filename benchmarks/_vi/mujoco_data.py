"""What a task of MuJoCo is learned from and judged by: a policy, its transitions and true values, simulated once and kept."""

import hashlib
import json
import os
import sys
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from importlib.metadata import PackageNotFoundError, version
from multiprocessing import get_context
from pathlib import Path
from typing import NamedTuple, TypeVar

import numpy as np

from benchmarks._vi import mujoco_policy
from benchmarks._vi.mujoco_policy import LinearPolicy, Search
from narrows.vi import td
from narrows.vi.td import rollout_files, rollouts
from narrows.vi.td.rollouts import Returns

T = TypeVar("T")
_SIMULATORS = ("gymnasium", "mujoco")


class Task(NamedTuple):
    """A task and how it is sampled.

    Args:
        environment_id: as gymnasium knows it.
        search: for its policy.
        num_transitions: of the data.
        num_states: whose true values are known, visited by the policy in a run of its own.
        num_rollouts: from each of them.
        num_steps: of each rollout.
        discount: gamma.
        num_parts: the data are collected in so many parts, by processes side by side.
    """

    environment_id: str
    search: Search
    num_transitions: int
    num_states: int
    num_rollouts: int
    num_steps: int
    discount: float
    num_parts: int = 2

    @property
    def remaining(self) -> float:
        """How much of a return is left out at most, as a share of the largest."""
        return self.discount**self.num_steps


class Simulated(NamedTuple):
    """What came out.

    Attributes:
        transitions: of the policy.
        truth: returns from the states that it is judged by.
    """

    transitions: td.Transitions
    truth: Returns


def simulated(task: Task, folder: Path, num_processes: int | None = None) -> Simulated:
    """Return a task's data from its folder; what is not there is simulated and left there.

    The folder's name holds a digest of all settings and of the versions of the simulators, so that nothing stale is found.

    Raises ImportError where gymnasium or MuJoCo is missing.
    """
    num_processes = num_processes or len(os.sched_getaffinity(0))
    home = folder / f"{task.environment_id}-{_digest(task)}"
    home.mkdir(parents=True, exist_ok=True)
    _write(home / "settings.json", json.dumps(_settings(task), indent=1))
    policy = _kept(home / "policy.npz", partial(_policy, task), mujoco_policy.load, mujoco_policy.save)
    data = _kept(
        home / "transitions.npz",
        partial(_transitions, task, policy, num_processes),
        rollout_files.load_transitions,
        rollout_files.save_transitions,
    )
    truth = _kept(
        home / "returns.npz",
        partial(_truth, task, policy, num_processes),
        rollout_files.load_returns,
        rollout_files.save_returns,
    )
    return Simulated(data, truth)


def _kept(path: Path, make: Callable[[], T], load: Callable[[Path], T], save: Callable[[Path, T], None]) -> T:
    if path.is_file():
        return load(path)
    # A full run takes long; whoever waits should see it move.
    print(f"simulating {path.parent.name}, {path.stem}", file=sys.stderr, flush=True)
    made = make()
    save(path, made)
    return made


def _policy(task: Task) -> LinearPolicy:
    return mujoco_policy.searched(task.environment_id, task.search, seed=0)


def _transitions(task: Task, policy: LinearPolicy, num_processes: int) -> td.Transitions:
    sizes = [len(part) for part in np.array_split(np.arange(task.num_transitions), task.num_parts)]
    work = partial(_part, task.environment_id, policy)
    if num_processes == 1:
        parts = [work(place, size) for place, size in enumerate(sizes)]
    else:
        with ProcessPoolExecutor(num_processes, mp_context=get_context("spawn")) as pool:
            parts = list(pool.map(work, range(len(sizes)), sizes))
    first, reward, after, is_terminal = (np.concatenate([np.asarray(part[leaf]) for part in parts]) for leaf in range(4))
    return td.Transitions(first, reward, after, is_terminal)


def _part(environment_id: str, policy: LinearPolicy, place: int, size: int) -> td.Transitions:
    return rollouts.collect(environment_id, policy, size, seed=1 + place)


def _truth(task: Task, policy: LinearPolicy, num_processes: int) -> Returns:
    starts = rollouts.visited(task.environment_id, policy, task.num_states, seed=10_000, every=53)
    return rollouts.returns(
        task.environment_id,
        policy,
        starts,
        discount=task.discount,
        num_rollouts=task.num_rollouts,
        num_steps=task.num_steps,
        seed=20_000,
        num_processes=num_processes,
    )


def _settings(task: Task) -> dict:
    return {**task._asdict(), "search": task.search._asdict(), "versions": {name: _version(name) for name in _SIMULATORS}}


def _digest(task: Task) -> str:
    return hashlib.sha256(json.dumps(_settings(task), sort_keys=True).encode()).hexdigest()[:10]


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return "missing"


def _write(path: Path, content: str) -> None:
    path.write_text(content + "\n", encoding="utf-8")
