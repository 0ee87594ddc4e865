"""Bit sequences: modes found and closeness to them by samples, for every q and for the two controls of each."""

import functools
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Int, PRNGKeyArray
from rapidfuzz.distance import Levenshtein
from rapidfuzz.process import cdist

from benchmarks._laws import ENTROPY, NATS, OFF, TEMPERATURE, control_name, matching_beta, policy_entropy
from benchmarks._paper.plan import ALPHA, CONTROLS, OMEGA, QS, temperature_factor
from benchmarks.harness.processes import done, tell
from benchmarks.harness.rows import Context, Row, Target
from narrows.envs import BitSequence
from narrows.metrics.samples import MODE_RADIUS
from narrows.objectives import TrajectoryGeneralMellowmax
from narrows.policies import MLP, sizes_of
from narrows.policies.base import Model
from narrows.rewards import BitModes, Tempered
from narrows.training import TrainState, trainer
from narrows.trajectories.behaviour import Behaviour

HEAD = "paper/bits/"
BETA = 64.0
FOUND, CLOSENESS, BETA_TAKEN = "modes found", "closeness to modes", "beta"
_NUM_SAMPLES = 2048
"""For the entropy of a policy."""


@dataclass(frozen=True)
class BitPlan:
    """What a run does."""

    # num_steps, seeds: of each training
    num_steps: int = 5000
    seeds: tuple[int, ...] = (0, 1, 2)
    # num_bits, num_modes: of the task
    num_bits: int = 120
    num_modes: int = 60
    qs: tuple[float, ...] = (0.0, *QS)  # of TGM; 0 is the GFlowNet that the controls are made of
    shown: int = 5  # how many times modes are counted on the way
    control_rounds: int = 2  # trainings for each control that has to find the exponent of an entropy


FULL = BitPlan()
QUICK = BitPlan(num_steps=200, seeds=(0,), qs=(0.0, 1.0), shown=2, control_rounds=1)


class BitRun(NamedTuple):
    """What one training came to."""

    beta: float  # the exponent it was given
    entropy: float  # of its policy in nats
    # samples, found, closeness: at each time that modes were counted
    samples: list[int]
    found: list[int]
    closeness: list[float]


def name_of(q: float) -> str:
    """Return what rows call the trainings of a q."""
    return f"q = {q:g}"


def bit_rows(context: Context, plan: BitPlan) -> Iterator[Row]:
    """Yield modes found and closeness to the modes, by samples seen, for each q and for its controls."""
    settings = [(name_of(q), q, BETA) for q in plan.qs]
    settings += [(control_name(TEMPERATURE, name_of(q)), 0.0, BETA * temperature_factor(q)) for q in plan.qs if q > 0.0]
    asks = [(name, q, beta, seed) for name, q, beta in settings for seed in plan.seeds]
    found = done([functools.partial(bit_job, plan, *ask) for ask in asks])
    runs = {(name, seed): run for (name, _, _, seed), run in zip(asks, found, strict=True)}
    plain = {seed: [runs[name, seed] for name, q, _ in settings if q == 0.0] for seed in plan.seeds}
    pairs = [(q, seed) for q in plan.qs if q > 0.0 for seed in plan.seeds]
    jobs = [functools.partial(matched_job, plan, q, runs[name_of(q), seed].entropy, plain[seed], seed) for q, seed in pairs]
    for (q, seed), run in zip(pairs, done(jobs), strict=True):
        runs[control_name(ENTROPY, name_of(q)), seed] = run
    for name in dict.fromkeys(name for name, _ in runs):
        of_name = [runs[name, seed] for seed in plan.seeds]
        for place, samples in enumerate(of_name[0].samples):
            case = f"{HEAD}{name}/{samples}"
            yield context.row(case, FOUND, [float(one.found[place]) for one in of_name], seeds=plan.seeds)
            yield context.row(case, CLOSENESS, [one.closeness[place] for one in of_name], unit="edits", seeds=plan.seeds)
        yield context.row(f"{HEAD}{name}", BETA_TAKEN, [one.beta for one in of_name], seeds=plan.seeds)
        yield context.row(f"{HEAD}{name}", NATS, [one.entropy for one in of_name], unit="nat", seeds=plan.seeds)
    for q in plan.qs:
        if q > 0.0:
            yield from _difference_rows(context, plan, name_of(q), runs)


def _difference_rows(context: Context, plan: BitPlan, name: str, runs: dict[tuple[str, int], BitRun]) -> Iterator[Row]:
    for rival in (name_of(0.0), *(control_name(control, name) for control in CONTROLS)):
        pairs = [(runs[name, seed], runs[rival, seed]) for seed in plan.seeds]
        ahead = [float(ours.found[-1] - other.found[-1]) for ours, other in pairs]
        # tgm T13b asks it of every q. That a control is no better is asked of none.
        target = Target(">=", 0.0) if rival == name_of(0.0) else None
        yield context.row(f"{HEAD}{name} less {rival}", FOUND, ahead, seeds=plan.seeds, target=target)
        if rival == control_name(ENTROPY, name):
            off = [abs(other.entropy - ours.entropy) for ours, other in pairs]
            yield context.row(f"{HEAD}{rival}", OFF, off, unit="nat", seeds=plan.seeds)


def bit_job(plan: BitPlan, name: str, q: float, beta: float, seed: int) -> BitRun:
    """Train on bit sequences and count the modes among all samples of the training."""
    began = time.perf_counter()
    env = BitSequence(plan.num_bits)
    reward = BitModes(env, num_modes=plan.num_modes)
    model, drawn = train_bits(env, Tempered(reward, beta), q, plan.num_steps, jax.random.key(seed))
    tokens = np.asarray(drawn).reshape(plan.shown, -1, env.max_length)
    nearest = np.full(len(reward.modes), plan.num_bits)
    nats = policy_entropy(jax.random.fold_in(jax.random.key(seed), 1), model, env, _NUM_SAMPLES)
    run = BitRun(beta, nats, [], [], [])
    for place, part in enumerate(tokens, start=1):
        texts = ["".join(f"{token:08b}" for token in row) for row in np.unique(part, axis=0).tolist()]
        nearest = np.minimum(nearest, cdist(texts, reward.modes, scorer=Levenshtein.distance, dtype=np.int32).min(axis=0))
        run.samples.append(place * part.shape[0])
        run.found.append(int(np.sum(nearest <= MODE_RADIUS * plan.num_bits / 120)))
        run.closeness.append(float(np.mean(nearest)))
    tell(f"bits, {name}, seed {seed}: {run.found[-1]} modes, {nats:.2f} nats, in {time.perf_counter() - began:.0f} s")
    return run


def matched_job(plan: BitPlan, q: float, nats: float, plain: Sequence[BitRun], seed: int) -> BitRun:
    """Return the GFlowNet, of those that are known and those that are trained here, whose entropy is nearest to a TGM's."""
    name = control_name(ENTROPY, name_of(q))
    # Without a reward a GFlowNet has the uniform law.
    uniform, known = plan.num_bits * float(np.log(2.0)), list(plain)
    for _ in range(plan.control_rounds):
        curve = [(0.0, uniform), *((one.beta, one.entropy) for one in known)]
        known.append(bit_job(plan, name, 0.0, matching_beta(curve, nats), seed))
    return min(known, key=lambda one: abs(one.entropy - nats))


@eqx.filter_jit
def train_bits(
    env: BitSequence, reward: Tempered, q: float, num_steps: int, key: PRNGKeyArray
) -> tuple[Model, Int[Array, "step sample place"]]:
    """Return the trained model and the words that its training drew."""

    def policy(key: PRNGKeyArray) -> MLP:
        return MLP(sizes_of(env), hidden=128, depth=2, key=key)

    optimizer = optax.chain(optax.clip_by_global_norm(10.0), optax.adamw(1e-3, weight_decay=1e-4))
    objective = TrajectoryGeneralMellowmax(OMEGA, ALPHA, q)
    training = trainer(env, policy, reward, objective, optimizer, batch_size=16, behaviour=Behaviour(epsilon=0.0005))

    def step(state: TrainState, _: None) -> tuple[TrainState, Array]:
        state, info = training.step(state)
        return state, info.terminal.tokens.astype(jnp.uint8)

    state, tokens = jax.lax.scan(step, training.init(key), length=num_steps)
    return state.model, tokens
