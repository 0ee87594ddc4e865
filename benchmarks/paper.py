"""The experiments of the TGM paper that can be run anywhere: every objective's law beside the exact one, and bit sequences."""

import dataclasses
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Float, PRNGKeyArray

from benchmarks._paper import bits
from benchmarks._paper import plan as biology_plan
from benchmarks._paper.biology import biology_rows
from benchmarks._paper.bits import BitPlan, bit_rows
from benchmarks._paper.plan import QS
from benchmarks._paper.tables import SAYS, tables
from benchmarks.harness.case import Case, chosen
from benchmarks.harness.processes import tell
from benchmarks.harness.rows import Context, Row, Target
from narrows import objectives
from narrows.envs import Sequence as Sequences
from narrows.envs.sequence import SequenceState
from narrows.exact import enumerate_graph, model_distribution, solve
from narrows.metrics.exact import total_variation
from narrows.objectives.base import AbstractObjective
from narrows.policies import Tabular
from narrows.rewards import AbstractReward
from narrows.training import run, trainer
from narrows.trajectories.behaviour import Behaviour

BIOLOGY_PARTS = tuple(size.name for size in biology_plan.FULL.sizes)
PARTS = ("objectives", "bits", *BIOLOGY_PARTS)
NEAR = Target("<=", 0.05)
"""Of the law that an objective has learned, from the exact one, in total variation: the claim for every objective."""
HEIGHT = 4.0
"""Of the log-rewards of the words, which are uniform from 0."""
PERIOD = 20


class Shown(NamedTuple):
    """An objective that the table shows, and how its policy is kept from forgetting what it underrates."""

    name: str
    objective: AbstractObjective
    rate: float = 0.05


def _shown() -> tuple[Shown, ...]:
    return (
        *(Shown(f"TGM, q = {q:g}", objectives.TrajectoryGeneralMellowmax(1.0, 1.0, q)) for q in (0.0, *QS)),
        Shown("TGM, omega = 4, q = 0.5", objectives.TrajectoryGeneralMellowmax(4.0, 1.0, 0.5)),
        *(
            Shown(f"transition GM, q = {q:g}", objectives.BellmanGeneralMellowmax(1.0, 1.0, q, target_period=PERIOD))
            for q in (0.0, 0.5, 1.0)
        ),
        Shown("lagged TGM, q = 0.9", objectives.LaggedGeneralMellowmax()),
        Shown("trajectory balance", objectives.TrajectoryBalance()),
        Shown("detailed balance", objectives.DetailedBalance()),
        Shown("sub-trajectory balance", objectives.SubTrajectoryBalance()),
        Shown("VarGrad", objectives.VarGrad()),
        Shown("soft Q-learning", objectives.SoftQ()),
        Shown("expected detailed balance", objectives.ExpectedDetailedBalance()),
        Shown("expected trajectory balance", objectives.ExpectedTrajectoryBalance()),
        Shown("expected flow matching", objectives.ExpectedFlowMatching()),
        Shown("naive detailed balance", objectives.NaiveDetailedBalance()),
        Shown("stochastic detailed balance", objectives.StochasticDetailedBalance()),
        Shown("Munchausen DQN", objectives.MunchausenDQN(target_period=PERIOD)),
        Shown(
            "discrete SAC, temperature 1",
            objectives.DiscreteSAC(temperature=1.0, tunes_temperature=False, target_period=PERIOD),
        ),
    )


@dataclass(frozen=True)
class Plan:
    """What a run measures."""

    num_steps: int = 2000  # of training a table by each objective
    seeds: tuple[int, ...] = (0, 1, 2)  # of those
    # bits, biology: of the bit sequences and of the biological tasks
    bits: BitPlan = BitPlan()
    biology: biology_plan.Plan = biology_plan.FULL


FULL = Plan()
QUICK = Plan(num_steps=600, seeds=(0,), bits=bits.QUICK, biology=biology_plan.QUICK)


class Scores(AbstractReward):
    """A fixed log-reward of each text of a length, by its digits."""

    values: Float[Array, " text"]
    num_letters: int = eqx.field(static=True)

    def __call__(self, states: SequenceState) -> Float[Array, " batch"]:
        digits = self.num_letters ** jnp.arange(states.tokens.shape[-1] - 1, -1, -1)
        return self.values[jnp.sum(states.tokens * digits, axis=-1)]


def measure(context: Context) -> Iterator[Row]:
    """Yield the rows of the parts that were asked for; ValueError for an unknown one."""
    yield from measure_parts(context, QUICK if context.quick else FULL)


def measure_parts(context: Context, plan: Plan) -> Iterator[Row]:
    """Yield the rows of a plan."""
    parts = chosen(context.cases, PARTS)
    if "objectives" in parts:
        for shown in _shown():
            yield objective_row(context, plan, shown)
    if "bits" in parts:
        yield from bit_rows(context, plan.bits)
    sizes = tuple(size for size in plan.biology.sizes if size.name in parts)
    if sizes:
        yield from biology_rows(context, dataclasses.replace(plan.biology, sizes=sizes))


def objective_row(context: Context, plan: Plan, shown: Shown) -> Row:
    """Return how far the law that an objective teaches a table is from the exact one, over all words of three letters."""
    began = time.perf_counter()
    distances = [learned_distance(shown, plan.num_steps, seed) for seed in plan.seeds]
    tell(f"{shown.name}: {max(distances):.3f} in {time.perf_counter() - began:.0f} s")
    case = f"paper/objectives/{shown.name}"
    return context.row(case, "total variation", distances, seeds=plan.seeds, against="dynamic programme", target=NEAR)


def learned_distance(shown: Shown, num_steps: int, seed: int) -> float:
    """Return the total variation between what is learned and the dynamic programme's law of the same operator."""
    env = Sequences("ACGU", 3, 3)
    reward = Scores(HEIGHT * jax.random.uniform(jax.random.key(3), (64,)), 4)
    graph = enumerate_graph(env)
    objective = shown.objective

    def policy(key: PRNGKeyArray) -> Tabular:
        return Tabular(
            objective.sizes(env),
            key=key,
        )

    optimizer = optax.adam(optax.cosine_decay_schedule(shown.rate, num_steps * objective.needs.passes.num_steps))
    training = trainer(env, policy, reward, objective, optimizer, batch_size=64, behaviour=Behaviour(temperature=1.5))
    state, _ = run(training, training.init(jax.random.key(seed)), num_steps, every=num_steps)
    exact = solve(graph, np.asarray(reward(graph.terminal_states), np.float64), objective.operator).log_probs
    return float(total_variation(model_distribution(state.model, env, graph), exact))


CASE = Case(*("The paper's experiments", SAYS["text"], measure, tables), takes=("--case",))
