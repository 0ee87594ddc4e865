"""A run's policy against an adversary within a set of rewards: what `narrows worst` computes, in units of the score."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, NamedTuple, Self

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import PRNGKeyArray

from narrows.envs import AbstractEnvironment
from narrows.envs import Sequence as SequenceEnv
from narrows.envs.base import CHANCE
from narrows.envs.turns import turns_of
from narrows.exact import Graph, WorstCase, enumerate_graph, model_log_backward, model_log_policy, softmax_reference, worst_case
from narrows.exact import solve as solve_exactly
from narrows.exact.blocks import in_blocks
from narrows.metrics.worst_case import Mean, SampledWorstCase, object_changes, sampled_worst_case
from narrows.operators import GeneralMellowmax, masked_log_softmax, mellowmax, soft_bellman, soft_mellowmax
from narrows.policies.base import Model
from narrows.report.uncertainty import TwoActions
from narrows.rewards import AbstractReward
from narrows.runs.opened import OpenRun
from narrows.scorers import HostReward, Scorer
from narrows.trajectories import NO_ACTION, follow

Reference = Literal["solution", "model"]

_BETWEEN = 0.5
"""The q of the general set where the run's is 0 or 1, which are named sets themselves."""

_USUAL = GeneralMellowmax(omega=4.0, alpha=1.0, q=_BETWEEN)
"""The operator where a run maximises the score itself and so has no set of its own."""


class NamedSet(NamedTuple):
    """An operator's uncertainty set by name, and whether it is the one of the run's own objective."""

    name: str
    operator: GeneralMellowmax
    is_own: bool


@dataclass(frozen=True)
class SetRow:
    """The worst case over one set, in units of the score; None where it is not known without listing states."""

    which: NamedSet
    value: Mean
    best_value: float | None = None
    margin: float | None = None
    contains_proxy: bool | None = None


class ObjectRow(NamedTuple):
    """One object's worst case, in units of the score; `source` says why it is listed."""

    name: str
    probability: float
    score: float
    worst_change: float
    source: str


@dataclass(frozen=True, eq=False)
class TestedPolicy:
    """The policy of a run's newest checkpoint, with what an adversary has to know of the run.

    Args:
        env: the rules, under the run's noise.
        reward: the log-reward that it was trained on.
        beta: inverse temperature, log-reward in a unit of the score.
        model: the model.
        own: the operator of the run's objective, None where that is the maximum.
        policy_scale: logits are so many times values Q.
        counts_backward: whether the sets count the logarithm of the backward policy.
        key: of random numbers.
    """

    __test__ = False  # for pytest, which takes a name that begins so for a test
    env: AbstractEnvironment
    reward: AbstractReward | HostReward
    beta: float
    model: Model
    own: GeneralMellowmax | None
    policy_scale: float
    counts_backward: bool
    key: PRNGKeyArray

    @classmethod
    def of(cls, run: OpenRun) -> Self:
        """Return the policy of a run; RunError where it has no checkpoint yet."""
        parts, objective = run.parts, run.job.objective
        operator = parts.objective.operator
        return cls(
            parts.env,
            parts.reward,
            parts.beta,
            run.model,
            operator if isinstance(operator, GeneralMellowmax) else None,
            operator.policy_scale,
            objective.get("dag_correction") is not False,
            jax.random.key(run.job.seed),
        )

    @property
    def has_chance(self) -> bool:
        return CHANCE in turns_of(self.env)

    def log_reward(self, terminal: Any) -> np.ndarray:
        """Return the log-reward of each of a batch of terminal states; ValueError where one is not finite."""
        reward = self.reward
        # Blocks are filled up with copies, which a score of the user's should not be asked for.
        if isinstance(reward, HostReward):
            values = reward(terminal)
        else:
            values = reward.reference + in_blocks(eqx.filter_jit(reward.centred()), terminal).astype(np.float64)
        is_missing = ~np.isfinite(values)
        if np.any(is_missing):
            place = int(np.argmax(is_missing))
            name = self.env.to_text(jax.tree.map(lambda leaf: leaf[place][None], terminal))[0]
            known = reward.score.failures if isinstance(reward, HostReward) and isinstance(reward.score, Scorer) else {}
            why = known.get(name, f"it is {float(values[place]) / self.beta:g}")
            raise ValueError(
                f"the worst case is a mean over objects, and {int(np.sum(is_missing)):,} of {len(values):,} have no score that "
                f"is a finite number. The first is {name!r}: {why}. Let the score return a number for each of them, a low one "
                "where an object is bad, and ask again."
            )
        return values


def sets_of(own: GeneralMellowmax | None, omega: float | None, alpha: float | None, q: float | None) -> list[NamedSet]:
    """Return the named sets of the run's parameters, or of those given instead; the one that they choose comes first."""
    given = {name: value for name, value in (("omega", omega), ("alpha", alpha), ("q", q)) if value is not None}
    asked = replace(own or _USUAL, **given)
    operators = {
        "GFlowNet": soft_bellman(asked.omega),
        "mellowmax": mellowmax(asked.omega),
        "soft mellowmax": soft_mellowmax(asked.omega, asked.alpha),
        "general mellowmax": asked if 0.0 < asked.q < 1.0 else replace(asked, q=_BETWEEN),
    }
    if asked.alpha == 0.0:
        del operators["soft mellowmax"]  # it is mellowmax then
    sets = [NamedSet(name, operator, own is not None and _is_same(operator, own)) for name, operator in operators.items()]
    return sorted(sets, key=lambda one: not _is_same(one.operator, asked))


def _is_same(one: GeneralMellowmax, other: GeneralMellowmax) -> bool:
    """Return whether two operators have the same set; alpha has no part in a reference that does not count."""
    return one.omega == other.omega and one.q == other.q and (one.alpha == other.alpha or one.q == 0.0)


class Listed:
    """The worst case of a run whose states can be listed, exactly.

    Args:
        run: the run.
        states: most states to list.
        reference: what the reference policy is a softmax of, the values of the exact solution or the model's own.

    Raises ValueError where there are more states, and for a policy that has no law by states.
    """

    def __init__(self, run: TestedPolicy, states: int, reference: Reference) -> None:
        self.run = run
        self.reference: Reference = reference
        self.graph: Graph = enumerate_graph(run.env, limit=states)
        self.log_policy = model_log_policy(run.model, run.env, self.graph)
        is_shared = bool(np.any(self.graph.num_parents > 1))
        self.counts_backward = run.counts_backward and not np.any(self.graph.is_chance)
        is_learned = self.counts_backward and is_shared and run.model.policy.has_backward_head
        self.log_backward = model_log_backward(run.model, run.env, self.graph) if is_learned else None

    def cases(self, sets: Sequence[NamedSet], log_reward: np.ndarray) -> list[WorstCase]:
        """Return the worst case over each set."""
        return [
            worst_case(
                self.graph,
                self.log_policy,
                log_reward,
                one.operator,
                log_reference=self.log_reference(one.operator, log_reward),
                dag_correction=self.counts_backward,
                log_backward=self.log_backward,
            )
            for one in sets
        ]

    def log_reference(self, operator: GeneralMellowmax, log_reward: np.ndarray) -> np.ndarray:
        """Return log d of each action."""
        if self.reference == "model":
            return softmax_reference(self.graph, self.log_policy, operator.alpha / self.run.policy_scale)
        solution = solve_exactly(
            self.graph,
            log_reward,
            operator,
            dag_correction=self.counts_backward,
            log_backward=self.log_backward,
            averaging="value",
        )
        return softmax_reference(self.graph, solution.q_values, operator.alpha)

    def rows(self, sets: Sequence[NamedSet], cases: Sequence[WorstCase]) -> tuple[SetRow, ...]:
        """Return the figures in units of the score."""
        beta = self.run.beta
        return tuple(
            SetRow(one, Mean(case.value / beta, 0.0), case.best_value / beta, case.margin / beta, case.contains_zero)
            for one, case in zip(sets, cases, strict=True)
        )

    def objects(self, case: WorstCase, log_reward: np.ndarray, chosen: Sequence[str], top: int) -> list[ObjectRow]:
        """Return the chosen objects' worst case, then that of the most probable ones."""
        if case.object_rewards is None:
            raise ValueError(
                "chance moves in this run, and an object comes out in several ways, so that no one change of its score is the "
                "worst. Leave --out away."
            )
        graph, beta, env = self.graph, self.run.beta, self.run.env
        place = np.searchsorted(graph.terminals, graph.index(env.from_text(chosen))) if chosen else np.zeros(0, np.int64)
        probable = np.argsort(-case.log_probs, kind="stable")[:top]
        places = np.concatenate([place, probable[~np.isin(probable, place)]])
        names = env.to_text(graph.rows(graph.terminals[places]))
        columns = (np.exp(case.log_probs[places]), log_reward[places] / beta, case.object_rewards[places] / beta)
        return _object_rows(names, *columns, num_chosen=len(place))


class Sampled:
    """The worst case of a run whose states are too many, from trajectories; the reference is the model's own."""

    def __init__(self, run: TestedPolicy, sets: Sequence[NamedSet], samples: int) -> None:
        self.run, self.operators = run, [one.operator for one in sets]
        self.found: SampledWorstCase = sampled_worst_case(
            run.key,
            run.model,
            run.env,
            run.log_reward,
            self.operators,
            policy_scale=run.policy_scale,
            num=samples,
            dag_correction=run.counts_backward,
        )

    def rows(self, sets: Sequence[NamedSet]) -> tuple[SetRow, ...]:
        """Return the estimates in units of the score."""
        return tuple(SetRow(one, self.scaled(value)) for one, value in zip(sets, self.found.values, strict=True))

    def scaled(self, estimate: Mean) -> Mean:
        """Return an estimate in units of the score."""
        beta = self.run.beta
        return Mean(estimate.value / beta, estimate.standard_error / beta)

    def objects(self, chosen: Sequence[str], top: int) -> list[ObjectRow]:
        """Return the chosen objects' worst case over the first set, then that of the most probable sampled ones."""
        env, beta = self.run.env, self.run.beta
        drawn = [name for name in dict.fromkeys(env.to_text(self.found.terminal)) if name not in {*chosen}]
        names = [*chosen, *drawn]
        terminal = jax.tree.map(np.asarray, env.from_text(names))
        scale = self.run.policy_scale
        found = object_changes(self.run.model, env, terminal, self.operators[:1], policy_scale=scale)
        probable = np.argsort(-found.log_probs[len(chosen) :], kind="stable")[:top] + len(chosen)
        places = np.concatenate([np.arange(len(chosen)), probable])
        log_reward = self.run.log_reward(jax.tree.map(lambda leaf: leaf[places], terminal))
        columns = (np.exp(found.log_probs[places]), log_reward / beta, found.changes[0][places] / beta)
        return _object_rows([names[place] for place in places.tolist()], *columns, num_chosen=len(chosen))


def _object_rows(
    names: Sequence[str], probability: np.ndarray, score: np.ndarray, change: np.ndarray, *, num_chosen: int
) -> list[ObjectRow]:
    sources = ["shortlist"] * num_chosen + ["most probable"] * (len(names) - num_chosen)
    columns = (probability.tolist(), score.tolist(), change.tolist())
    return [ObjectRow(*row) for row in zip(names, *columns, sources, strict=True)]


def first_choice(run: TestedPolicy, operator: GeneralMellowmax, log_reference: np.ndarray | None) -> TwoActions:
    """Return the first state's choice between its two most probable actions, changes in units of the score.

    Args:
        run: the run.
        operator: its omega and alpha are those of the sets.
        log_reference: log d of the first state's actions; by default the model's own.
    """
    state = run.env.reset()
    mask = np.asarray(run.env.action_mask(state))
    legal = np.flatnonzero(mask)
    if legal.size < 2 or int(run.env.turn(state)) != 0:
        raise ValueError("the first state leaves the policy no choice, and a picture needs two actions. Leave --plot away.")
    actions = np.full((legal.size, run.env.max_steps), NO_ACTION, np.int32)
    actions[:, 0] = legal
    path = follow(run.model, run.env, jnp.asarray(actions))
    logits = path.forward_logits[0, 0]
    log_policy = np.asarray(masked_log_softmax(logits, jnp.asarray(mask)), np.float64)
    if log_reference is None:
        scaled = (operator.alpha / run.policy_scale) * logits
        log_reference = np.asarray(masked_log_softmax(scaled, jnp.asarray(mask)), np.float64)
    factors = np.zeros(mask.shape)
    if run.counts_backward and not run.has_chance:
        factors[legal] = np.asarray(path.log_pb[0])
    two = np.argsort(-log_policy, kind="stable")[:2]
    first, second = (_action_name(run.env, action) for action in two.tolist())
    omega = operator.omega * run.beta
    return TwoActions((first, second), log_policy[two], log_reference[two], omega, factors[two])


def _action_name(env: AbstractEnvironment, action: int) -> str:
    if isinstance(env, SequenceEnv):
        return "the end" if action == env.num_tokens else env.alphabet[action]
    return f"action {action}"
