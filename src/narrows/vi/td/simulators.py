"""Environments of gymnasium, which is an extra: made by id, stepped with checks, and put back into a state they were in."""

import difflib
import importlib
import warnings
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any, NamedTuple, TypeAlias

import numpy as np
from jaxtyping import Float, Shaped

Environment: TypeAlias = Any
"""A `gymnasium.Env`, whose library may be missing."""

Policy: TypeAlias = Callable[[Shaped[np.ndarray, "batch ..."], np.random.Generator], Shaped[np.ndarray, "batch ..."]]
"""From a batch of observations and a generator, the only source of chance, to an action for each."""


class StateAccess(NamedTuple):
    """A way to read a simulator's state and put it back.

    Attributes:
        read: the state of an environment as a vector, such that a step from it depends on it and the action alone.
        write: bring an environment that has been reset into such a state; what is derived from it may lag until the next step.
    """

    read: Callable[[Environment], Float[np.ndarray, " state"]]
    write: Callable[[Environment, Float[np.ndarray, " state"]], None]


class Stepped(NamedTuple):
    """The result of a step of one environment; truncated is an episode that was cut off and would have gone on."""

    observation: Shaped[np.ndarray, "..."]
    reward: float
    is_terminal: bool
    is_truncated: bool


def made(environment_id: str, *, has_time_limit: bool = True) -> Environment:
    """Make an environment of gymnasium by its id.

    Raises ImportError where gymnasium, or what the environment runs on, is missing, and ValueError for an unknown id or for
    spaces other than a Box of observations with a Box or Discrete of actions.
    """
    gymnasium = _gymnasium()
    limit = None if has_time_limit else -1
    try:
        with _mujoco_warns_python():
            env = gymnasium.make(environment_id, max_episode_steps=limit, disable_env_checker=True)
    except gymnasium.error.DependencyNotInstalled as error:
        raise ImportError(
            f"{environment_id} needs a library that is not here ({error}). For MuJoCo: pip install 'narrows[mujoco]'"
        ) from None
    except (gymnasium.error.Error, ModuleNotFoundError) as error:
        known = sorted(gymnasium.registry)
        # Without regard to case: the name is what people misspell.
        by_lower = {name.lower(): name for name in known}
        near = [by_lower[name] for name in difflib.get_close_matches(environment_id.lower(), by_lower, n=3)]
        hint = (
            f"Did you mean {' or '.join(near)}?"
            if near
            else "Register it, or write module:Name-v0 for one that a module registers."
        )
        raise ValueError(f"gymnasium cannot make an environment {environment_id!r}: {error} {hint}") from None
    spaces = gymnasium.spaces
    seen, acts = env.observation_space, env.action_space
    if not isinstance(seen, spaces.Box) or not isinstance(acts, (spaces.Box, spaces.Discrete)):
        env.close()
        raise ValueError(
            f"{environment_id} must have a Box of observations and a Box or Discrete of actions, got {seen} and {acts}. "
            "Register a version wrapped in gymnasium.wrappers.FlattenObservation."
        )
    return env


@contextmanager
def several(environment_id: str, num: int, *, has_time_limit: bool = True) -> Iterator[list[Environment]]:
    """Give that many environments, closed at the end."""
    if num < 1:
        raise ValueError(f"expected at least one environment, got {num}.")
    with ExitStack() as stack:
        envs = []
        for _ in range(num):
            env = made(environment_id, has_time_limit=has_time_limit)
            stack.callback(env.close)
            envs.append(env)
        yield envs


def stepped(env: Environment, action: Shaped[np.ndarray, "..."]) -> Stepped:
    """Step an environment; ValueError for a reward or observation that is no finite number."""
    observation, reward, is_terminal, is_truncated, _ = env.step(action)
    if not np.isfinite(reward) or not np.all(np.isfinite(observation)):
        what = f"the reward {reward}" if not np.isfinite(reward) else "an observation that is not finite"
        raise ValueError(
            f"{env.spec.id} returned {what} after the action {action}. Look whether the policy keeps to {env.action_space}."
        )
    return Stepped(np.asarray(observation), float(reward), bool(is_terminal), bool(is_truncated))


def acted(
    policy: Policy, env: Environment, observations: Shaped[np.ndarray, "batch ..."], generator: np.random.Generator
) -> Shaped[np.ndarray, "batch ..."]:
    """Return an action for each observation, in the type of the environment's; ValueError for any other shape."""
    space = env.action_space
    actions = np.asarray(policy(observations, generator))
    expected = (len(observations), *space.shape)
    if actions.shape != expected:
        raise ValueError(
            f"the policy must return one action for each observation of the batch, shape {expected}, got {actions.shape}."
        )
    if not np.all(np.isfinite(actions)):
        raise ValueError("the policy returned an action that is not finite.")
    return actions.astype(space.dtype)


def mujoco_access() -> StateAccess:
    """Return how the state of MuJoCo's environments is read and put back, bit for bit, with all that integration looks at."""
    try:
        mujoco: Any = importlib.import_module("mujoco")
    except ImportError:
        raise ImportError("states of MuJoCo need the library: pip install 'narrows[mujoco]'") from None
    kind = mujoco.mjtState.mjSTATE_INTEGRATION

    def read(env: Environment) -> Float[np.ndarray, " state"]:
        model, data = env.unwrapped.model, env.unwrapped.data
        state = np.empty(mujoco.mj_stateSize(model, kind))
        mujoco.mj_getState(model, data, state, kind)
        return state

    def write(env: Environment, state: Float[np.ndarray, " state"]) -> None:
        mujoco.mj_setState(env.unwrapped.model, env.unwrapped.data, state, kind)

    return StateAccess(read, write)


def access_of(env: Environment) -> StateAccess:
    """Return how an environment's state is read and put back; ValueError for one of which that is not known."""
    _gymnasium()
    from gymnasium.envs.mujoco import MujocoEnv  # pyright: ignore[reportMissingImports] (an extra)

    if not isinstance(env.unwrapped, MujocoEnv):
        raise ValueError(
            f"it is not known how to read and set the state of {env.spec.id}, only that of MuJoCo's environments. "
            "Pass `access`, or begin at from_resets()."
        )
    return mujoco_access()


def with_chance_from(env: Environment, generator: np.random.Generator) -> None:
    """Let the chance inside an environment come from here on from a seed of its own."""
    env.unwrapped.np_random = np.random.default_rng(generator.integers(2**63))


@contextmanager
def _mujoco_warns_python() -> Iterator[None]:
    """Turn MuJoCo's remarks on a model into Python's warnings; by itself it leaves a log in whatever folder it runs in."""
    try:
        mujoco: Any = importlib.import_module("mujoco")
    except ImportError:
        yield
        return
    before = mujoco.get_mju_user_warning()
    mujoco.set_mju_user_warning(lambda message: warnings.warn(f"MuJoCo: {message}", stacklevel=2))
    try:
        yield
    finally:
        mujoco.set_mju_user_warning(before)


def _gymnasium() -> Any:
    try:
        import gymnasium  # pyright: ignore[reportMissingImports] (an extra)
    except ImportError:
        raise ImportError("environments of gymnasium need the library: pip install 'narrows[mujoco]'") from None
    return gymnasium
