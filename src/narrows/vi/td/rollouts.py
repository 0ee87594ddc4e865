"""Transitions and true values from any environment of gymnasium and a fixed policy.

    data = rollouts.collect("HalfCheetah-v5", policy, 200_000, seed=0)
    starts = rollouts.visited("HalfCheetah-v5", policy, 200, seed=1)
    truth = rollouts.returns("HalfCheetah-v5", policy, starts, discount=0.99, num_rollouts=16, num_steps=400, seed=2)

Everything follows from the seed, the policy and the version of the simulator, whatever the number of processes.
"""

import itertools
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from multiprocessing import get_context
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int, Shaped

from narrows.vi.td.simulators import Environment, Policy, StateAccess, access_of, acted, several, stepped, with_chance_from
from narrows.vi.td.transitions import Transitions


class Starts(NamedTuple):
    """Starts of rollouts: after a reset with a seed and, where there are states, after one step from a state.

    That step is there because simulators derive some of what is observed and rewarded while they step: after it an environment
    is exactly what it was, and before it only its state is.

    Attributes:
        seed: of the reset.
        state: one step before, as `StateAccess` reads it; None to begin at the reset.
        action: of that step; None without states.
    """

    seed: Int[np.ndarray, " start"]
    state: Float[np.ndarray, "start state"] | None = None
    action: Shaped[np.ndarray, "start ..."] | None = None


class Returns(NamedTuple):
    """Discounted returns of repeated rollouts.

    Attributes:
        observation: where they began.
        returns: of each rollout.
    """

    observation: Shaped[np.ndarray, "start ..."]
    returns: Float[np.ndarray, "start rollout"]

    @property
    def value(self) -> Float[np.ndarray, " start"]:
        """The mean over rollouts, an estimate of the true value."""
        return self.returns.mean(1)

    @property
    def standard_error(self) -> Float[np.ndarray, " start"]:
        """The standard error of `value`."""
        return self.returns.std(1, ddof=1) / self.returns.shape[1] ** 0.5


def collect(environment_id: str, policy: Policy, num: int, *, seed: int, num_envs: int = 8) -> Transitions:
    """Return transitions of a policy, those of environments side by side in the order in which they happened.

    An episode that is cut off by its time limit has not ended: its last transition is not terminal, and its next observation
    is the one before the reset. Floats are kept in single precision.

    Args:
        environment_id: as gymnasium knows it; `module:Name-v0` imports the module that registers it.
        policy: from observations `[batch, ...]` and a NumPy generator to actions `[batch, ...]`, within the action space.
        num: of transitions.
        seed: of everything.
        num_envs: environments side by side; each goes on from episode to episode.
    """
    if num < 1:
        raise ValueError(f"num must be at least 1, got {num}.")
    generator = np.random.default_rng(seed)
    with several(environment_id, min(num_envs, num)) as envs:
        now = np.stack([env.reset(seed=_seed(generator))[0] for env in envs])
        num_rows = -(-num // len(envs))
        first, after = (np.empty((num_rows, *now.shape), _stored(now.dtype)) for _ in range(2))
        reward = np.empty((num_rows, len(envs)), np.float32)
        is_terminal = np.empty((num_rows, len(envs)), bool)
        for row in range(num_rows):
            first[row] = now
            actions = acted(policy, envs[0], now, generator)
            for place, (env, action) in enumerate(zip(envs, actions, strict=True)):
                seen = stepped(env, action)
                after[row, place], reward[row, place], is_terminal[row, place] = seen[:3]
                is_over = seen.is_terminal or seen.is_truncated
                now[place] = env.reset()[0] if is_over else seen.observation
    return Transitions(*(_flat(leaf)[:num] for leaf in (first, reward, after, is_terminal)))


def visited(
    environment_id: str, policy: Policy, num: int, *, seed: int, every: int = 50, access: StateAccess | None = None
) -> Starts:
    """Return states that a policy visits, one after every so many steps of one long run over episodes.

    Args:
        environment_id, policy: as in `collect`.
        num: of states.
        seed: of everything.
        every: steps from one to the next; a state where an episode ends is passed over for the one after it.
        access: how to read states; None for that of MuJoCo's environments.
    """
    if num < 1 or every < 1:
        raise ValueError(f"num and every must be at least 1, got {num} and {every}.")
    generator = np.random.default_rng(seed)
    states, actions = [], []
    with several(environment_id, 1) as (env,):
        access = access_of(env) if access is None else access
        now, wait = env.reset(seed=_seed(generator))[0], every
        while len(states) < num:
            (action,) = acted(policy, env, now[None], generator)
            wait -= 1
            before = access.read(env) if wait <= 0 else None
            seen = stepped(env, action)
            if before is not None and not seen.is_terminal:
                states.append(before)
                actions.append(action)
                wait = every
            now = env.reset()[0] if seen.is_terminal or seen.is_truncated else seen.observation
    seeds = generator.integers(2**31, size=num)
    return Starts(seeds, np.stack(states), np.stack(actions))


def from_resets(num: int, *, seed: int) -> Starts:
    """Return that many starts at resets, for environments whose state cannot be set."""
    return Starts(np.random.default_rng(seed).integers(2**31, size=num))


def returns(
    environment_id: str,
    policy: Policy,
    starts: Starts,
    *,
    discount: float,
    num_rollouts: int,
    num_steps: int,
    seed: int,
    num_processes: int = 1,
    access: StateAccess | None = None,
) -> Returns:
    """Return discounted returns of repeated rollouts from each start, whose means are the true values.

    Rollouts of one start share nothing but that start; time limits do not cut them. What comes after the last step is left out,
    at most a share `discount ** num_steps` of the largest value.

    Args:
        environment_id, policy: as in `collect`; with several processes the policy travels to them, so a module must define it,
            and a script needs `if __name__ == "__main__":`.
        starts: from `visited` or `from_resets`.
        discount: gamma, in [0, 1].
        num_rollouts: from each start, at least 2.
        num_steps: of each rollout, where it does not end before.
        seed: of everything.
        num_processes: the result does not depend on it.
        access: how to set states; None for that of MuJoCo's environments.
    """
    if not 0.0 <= discount <= 1.0:
        raise ValueError(f"discount must lie between 0 and 1, got {discount}.")
    if num_rollouts < 2 or num_steps < 1 or num_processes < 1:
        raise ValueError(
            "expected at least 2 rollouts, 1 step and 1 process, "
            f"got num_rollouts {num_rollouts}, num_steps {num_steps}, num_processes {num_processes}."
        )
    work = partial(_from_starts, environment_id, policy, starts, access, discount, num_rollouts, num_steps, seed)
    shares = [list(range(len(starts.seed)))[part::num_processes] for part in range(num_processes)]
    if num_processes == 1:
        parts = [work(share) for share in shares]
    else:
        # Not by fork, for JAX may be running here in several threads.
        with ProcessPoolExecutor(num_processes, mp_context=get_context("spawn")) as pool:
            parts = list(pool.map(work, shares))
    order = np.argsort(list(itertools.chain(*shares)), kind="stable")
    observation, found = (np.concatenate([part[place] for part in parts if part])[order] for place in range(2))
    return Returns(observation, found)


def _from_starts(
    environment_id: str,
    policy: Policy,
    starts: Starts,
    access: StateAccess | None,
    discount: float,
    num_rollouts: int,
    num_steps: int,
    seed: int,
    chosen: Sequence[int],
) -> Returns | None:
    if not chosen:
        return None
    observations, found = [], []
    with several(environment_id, num_rollouts, has_time_limit=False) as envs:
        if access is None and starts.state is not None:
            access = access_of(envs[0])
        for start in chosen:
            generator = np.random.default_rng([seed, start])
            now = np.stack([_begun(env, starts, start, access, generator) for env in envs])
            observations.append(now[0].copy())
            found.append(_rolled(envs, policy, now, discount, num_steps, generator))
    return Returns(np.stack(observations), np.stack(found))


def _begun(
    env: Environment, starts: Starts, start: int, access: StateAccess | None, generator: np.random.Generator
) -> Shaped[np.ndarray, "..."]:
    """Bring an environment to a start, with chance of its own from there on."""
    observation, _ = env.reset(seed=int(starts.seed[start]))
    if starts.state is not None and starts.action is not None:
        assert access is not None, "states come with a way to set them"
        access.write(env, starts.state[start])
        observation = stepped(env, starts.action[start]).observation
    with_chance_from(env, generator)
    return np.asarray(observation)


def _rolled(
    envs: Sequence[Environment],
    policy: Policy,
    now: Shaped[np.ndarray, "rollout ..."],
    discount: float,
    num_steps: int,
    generator: np.random.Generator,
) -> Float[np.ndarray, " rollout"]:
    total, running = np.zeros(len(envs)), list(range(len(envs)))
    for step in range(num_steps):
        if not running:
            break
        for place, action in zip(tuple(running), acted(policy, envs[0], now[running], generator), strict=True):
            seen = stepped(envs[place], action)
            total[place] += discount**step * seen.reward
            now[place] = seen.observation
            if seen.is_terminal:
                running.remove(place)
            elif seen.is_truncated and step + 1 < num_steps:
                raise ValueError(
                    f"{envs[place].spec.id} cuts its episodes off by itself, here after {step + 1} of {num_steps} steps, and a "
                    "return that is cut off is too small. Use fewer steps, or an environment without that limit."
                )
    return total


def _flat(leaf: np.ndarray) -> np.ndarray:
    return leaf.reshape(-1, *leaf.shape[2:])


def _stored(dtype: np.dtype) -> np.dtype:
    return np.dtype(np.float32) if np.issubdtype(dtype, np.floating) else dtype


def _seed(generator: np.random.Generator) -> int:
    return int(generator.integers(2**31))
