"""From a checked job to the objects it names. A job never names importable code, only what `narrows list` shows."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax

from narrows.config.job import SCORE, SURROGATE, Job, without_surrogate
from narrows.config.measured import measurements
from narrows.config.names import NAMES
from narrows.config.schema import JobError, Section, build_or_explain
from narrows.envs import AbstractEnvironment, AbstractKernel, perturbed
from narrows.envs.check import check_chance
from narrows.objectives import AbstractObjective
from narrows.policies import AbstractPolicy
from narrows.proxies.near import Near, Neighbourhood
from narrows.rewards import AbstractReward, Tempered, UnwrapPerturbed
from narrows.scorers import HostReward
from narrows.sizes import MOST
from narrows.training import Surrogate, Trainer, adam, trainer
from narrows.training.replay import Replay
from narrows.trajectories.behaviour import Behaviour


@dataclass(frozen=True)
class Parts:
    """The objects that a job names."""

    env: AbstractEnvironment
    reward: AbstractReward | HostReward
    objective: AbstractObjective
    make_policy: Callable[[jax.Array], AbstractPolicy]
    behaviour: Behaviour
    replay: Replay | None
    beta: float

    def trainer(self, job: Job, **given: Any) -> Trainer:
        """Return the training step of these parts."""
        settings = {"epochs": job.train.epochs, "minibatches": job.train.minibatches}
        asked = {name: value for name, value in settings.items() if value is not None}
        return trainer(
            self.env,
            self.make_policy,
            self.reward,
            self.objective,
            build_or_explain("optimizer", adam, without_surrogate(job.optimizer)),
            batch_size=job.train.batch_size,
            behaviour=self.behaviour,
            replay=self.replay,
            surrogate=build_or_explain("optimizer", lambda: _surrogate(job), {}),
            passes=self.objective.needs.passes._replace(**asked) if asked else None,
            **given,
        )


def build(job: Job, score: Callable[[Any], Any] | None = None) -> Parts:
    """Construct what a job names.

    Args:
        job: a checked job.
        score: the user's own score, texts in and numbers out, for a job whose reward is `Score`.

    Raises JobError naming the section when a constructor refuses its fields.
    """
    rules = build_env(job)
    kernel = build_kernel(job, rules)
    env = rules if kernel is None else build_or_explain("noise", lambda: _checked(perturbed(rules, kernel)), {})
    objective = _make("objective", job.objective)
    beta = job.reward["beta"]
    return Parts(
        env=env,
        reward=_make_reward(job, rules, env, beta, score),
        objective=objective,
        make_policy=_policy_maker(job, env, objective),
        behaviour=build_or_explain("exploration", Behaviour, job.exploration),
        replay=None if job.replay is None else build_or_explain("replay", Replay, job.replay),
        beta=beta,
    )


def build_env(job: Job) -> AbstractEnvironment:
    """Construct the environment that a job names: its objects and rules, without noise.

    Raises JobError also for one that is too large to be held in arrays, whatever the memory.
    """
    env: AbstractEnvironment = _make("env", job.env)
    sizes = {
        "steps to an object": env.max_steps,
        "actions": env.num_actions,
        "features": env.num_features,
        "values of a feature": env.num_values,
    }
    for what, size in sizes.items():
        if size > MOST:
            asked = ", ".join(f"{name} = {value}" for name, value in job.env.items() if name != "name")
            raise JobError(f"[env] {job.env['name']} with {asked} has {size:,} {what}, at most {MOST:,} will do. Lower them.")
    return env


def build_kernel(job: Job, env: AbstractEnvironment) -> AbstractKernel | None:
    """Construct the noise that a job names for its environment, None for a job without any."""
    if job.noise is None:
        return None
    name, settings = job.noise["name"], _settings(job.noise)
    if "path" in settings:
        settings["path"] = str(job.folder / settings["path"])
    return build_or_explain("noise", lambda **fields: NAMES["noise"][name](env, **fields), settings)


def _checked(env: AbstractEnvironment) -> AbstractEnvironment:
    """Return an environment whose chance turns are distributions: a kernel that gives none stops a run before it begins."""
    check_chance(env)
    return env


def _make_reward(
    job: Job, rules: AbstractEnvironment, env: AbstractEnvironment, beta: float, score: Callable[[Any], Any] | None
) -> AbstractReward | HostReward:
    near = _neighbourhood(job, rules)
    if job.reward["name"] == SCORE:
        if score is None:
            raise JobError(
                "[reward] name is Score, which is given on the command line. Add --score FILE.py:FUNCTION, or --proxy FOLDER "
                "for a tuned encoder."
            )
        return HostReward(score, env, beta, near)
    if score is not None:
        raise JobError(f'a score was given but [reward] names {job.reward["name"]}. Write name = "Score" to use it.')
    settings = {key: value for key, value in job.reward.items() if key not in ("name", "beta")}
    if "path" in settings:
        settings["path"] = str(job.folder / settings["path"])
    reward = build_or_explain("reward", lambda **fields: NAMES["reward"][job.reward["name"]](rules, **fields), settings)
    if near is not None:
        reward = build_or_explain("near", lambda: Near(reward, rules, near), {})
    reward = build_or_explain("reward", lambda: Tempered(reward, beta), {})
    return reward if env is rules else UnwrapPerturbed(reward)


def _neighbourhood(job: Job, rules: AbstractEnvironment) -> Neighbourhood | None:
    if job.near is None:
        return None
    table = measurements(job)
    assert table is not None, "a job with [near] has [data]"
    sequences, costs = tuple(table.sequences), (job.near.penalty, job.near.limit)
    return build_or_explain("near", lambda: Neighbourhood(sequences, table.scores, *costs, rules.distance), {})


def _policy_maker(job: Job, env: AbstractEnvironment, objective: AbstractObjective) -> Callable[[jax.Array], AbstractPolicy]:
    settings = {key: value for key, value in job.policy.items() if key not in ("name", "learned_backward")}
    constructor = NAMES["policy"][job.policy["name"]]
    sizes = build_or_explain("policy", lambda: objective.sizes(env, learned_backward=job.policy["learned_backward"]), {})

    def make(key: jax.Array) -> AbstractPolicy:
        return build_or_explain("policy", lambda **fields: constructor(sizes, key=key, **fields), settings)

    return make


def _surrogate(job: Job) -> Surrogate | None:
    settings = job.optimizer.get(SURROGATE)
    return None if settings is None else Surrogate(**settings)


def _make(section: str, table: Section) -> Any:
    return build_or_explain(section, NAMES[section][table["name"]], _settings(table))


def _settings(table: Section) -> dict[str, Any]:
    return {key: value for key, value in table.items() if key != "name"}
