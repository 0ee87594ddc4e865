"""From a checked job to the objects it names. A job never names importable code, only what `narrows list` shows."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax

from narrows.config.job import SURROGATE, Job, parts_of_exploration, without_surrogate
from narrows.config.measured import measurements
from narrows.config.names import NAMES, RewardKind
from narrows.config.schema import JobError, Section, build_or_explain
from narrows.config.settings import AUTO
from narrows.data import Table
from narrows.envs import AbstractEnvironment, AbstractKernel, perturbed
from narrows.envs.check import check_chance
from narrows.objectives import AbstractObjective
from narrows.policies import AbstractPolicy
from narrows.proxies.near import Near, Neighbourhood
from narrows.rewards import AbstractReward, Tempered, UnwrapPerturbed
from narrows.scorers import HostReward
from narrows.sizes import MOST
from narrows.training import Surrogate, Trainer, adam, trainer
from narrows.training.exploration import AbstractExploration
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
    exploration: AbstractExploration
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
            exploration=self.exploration,
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
    return assemble(job, rules, kernel, lambda: build_reward(job, rules), lambda: measurements(job), score)


def assemble(
    job: Job,
    rules: AbstractEnvironment,
    kernel: AbstractKernel | None,
    make_reward: Callable[[], AbstractReward],
    make_table: Callable[[], Table | None],
    score: Callable[[Any], Any] | None = None,
) -> Parts:
    """Construct what a job names from what is made of it already.

    Args:
        job: a checked job.
        rules: its environment, without noise.
        kernel: its noise.
        make_reward: returns the reward of finished objects; asked for jobs whose score is not the user's.
        make_table: returns the measurements; asked for jobs with `[near]`.
        score: the user's own score.
    """
    env = rules if kernel is None else build_or_explain("noise", lambda: _checked(perturbed(rules, kernel)), {})
    objective = _make("objective", job.objective)
    beta = job.reward["beta"]
    if beta == AUTO:
        raise JobError('[reward] beta is "auto", which a run finds when it begins. Use `narrows.runs.with_temperature(job)`.')
    near = _neighbourhood(job, rules, make_table)
    if job.reward_kind is RewardKind.USER:
        if score is None:
            raise JobError(
                "[reward] name is Score, which is given on the command line. Add --score FILE.py:FUNCTION, or --proxy FOLDER "
                "for a tuned encoder."
            )
        reward = HostReward(score, env, beta, near)
    elif score is not None:
        raise JobError(f'a score was given but [reward] names {job.reward["name"]}. Write name = "Score" to use it.')
    else:
        reward = _target(make_reward(), rules, near, beta)
        reward = reward if env is rules else UnwrapPerturbed(reward)
    return Parts(
        env=env,
        reward=reward,
        objective=objective,
        make_policy=_policy_maker(job, env, objective),
        behaviour=build_or_explain("exploration", Behaviour, parts_of_exploration(job.exploration)[1]),
        exploration=_make("exploration", parts_of_exploration(job.exploration)[0]),
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
    return None if job.noise is None else _make_for(env, "noise", job.noise, job)


def build_reward(job: Job, env: AbstractEnvironment) -> AbstractReward:
    """Construct the reward that a job names, of the objects of its environment without noise; not for a score of the user's."""
    assert job.reward_kind is not RewardKind.USER, "a score of the user's is given, not built"
    return _make_for(env, "reward", job.reward, job)


def _checked(env: AbstractEnvironment) -> AbstractEnvironment:
    """Return an environment whose chance turns are distributions: a kernel that gives none stops a run before it begins."""
    check_chance(env)
    return env


def _target(reward: AbstractReward, rules: AbstractEnvironment, near: Neighbourhood | None, beta: float) -> AbstractReward:
    """Return what the sampler is to learn: the reward less what distance costs, times the inverse temperature."""
    lowered = reward if near is None else build_or_explain("near", lambda: Near(reward, rules, near), {})
    return build_or_explain("reward", lambda: Tempered(lowered, beta), {})


def _neighbourhood(job: Job, rules: AbstractEnvironment, make_table: Callable[[], Table | None]) -> Neighbourhood | None:
    if job.near is None:
        return None
    table, settings = make_table(), (job.near.penalty, job.near.edits)
    assert table is not None, "a job with [near] has [data]"
    return build_or_explain("near", lambda: Neighbourhood(tuple(table.sequences), table.scores, *settings, rules.distance), {})


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


def _make_for(env: AbstractEnvironment, section: str, table: Section, job: Job) -> Any:
    """Construct what takes the environment first, with a path that starts from the job's folder."""
    settings = {name: value for name, value in _settings(table).items() if name != "beta"}
    if "path" in settings:
        settings["path"] = str(job.folder / settings["path"])
    return build_or_explain(section, lambda **fields: NAMES[section][table["name"]](env, **fields), settings)


def _make(section: str, table: Section) -> Any:
    return build_or_explain(section, NAMES[section][table["name"]], _settings(table))


def _settings(table: Section) -> dict[str, Any]:
    return {key: value for key, value in table.items() if key != "name"}
