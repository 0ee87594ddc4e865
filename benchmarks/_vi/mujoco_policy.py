"""A policy for a task of MuJoCo: linear in normalised observations, found by augmented random search, with noise for variety.

Mania, Guy and Recht, "Simple random search provides a competitive approach to reinforcement learning" (arXiv:1803.07055), V2.
"""

from pathlib import Path
from typing import NamedTuple

import numpy as np

from narrows.vi.td import simulators

_SMALLEST_SPREAD = 1e-2
"""Coordinates that hardly move are not blown up."""


class LinearPolicy(NamedTuple):
    """Actions linear in normalised observations, plus noise, within -1 and 1.

    Attributes:
        weights: of shape [observation, action].
        mean, spread: of observations.
        noise: standard deviation of what is added.
    """

    weights: np.ndarray
    mean: np.ndarray
    spread: np.ndarray
    noise: float

    def __call__(self, observations: np.ndarray, generator: np.random.Generator) -> np.ndarray:
        """Return an action for each observation."""
        actions = ((observations - self.mean) / self.spread) @ self.weights
        return np.clip(actions + self.noise * generator.normal(size=actions.shape), -1.0, 1.0)


class Search(NamedTuple):
    """How a policy is searched for.

    Args:
        num_iterations: of the search.
        num_directions: tried in each, both ways.
        num_best: of them that are followed.
        radius: of a trial.
        rate: of a step.
        num_steps: of an episode.
        bonus: taken off each reward, so that standing still is not the best.
        noise: of the policy that comes out.
    """

    num_iterations: int
    num_directions: int
    num_best: int
    radius: float
    rate: float
    num_steps: int
    bonus: float
    noise: float


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
