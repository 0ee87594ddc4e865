"""Bit sequences: modes found and closeness to them by samples, for every q and for the two controls of each."""

import functools
import sys
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

from benchmarks._laws import matching_beta, policy_entropy
from benchmarks._paper.controls import closed_gaps
from benchmarks._paper.plan import ALPHA, CONTROLS, OMEGA, QS, temperature_factor
from benchmarks._robustness.methods import ENTROPY, TEMPERATURE, control_name
from benchmarks._robustness.reporting import NATS, OFF
from benchmarks._stochastic.workers import side_by_side
from benchmarks.rows import Context, Row, Target, figure, spread, table, verdict
from narrows.envs import BitSequence
from narrows.metrics.samples import MODE_RADIUS
from narrows.objectives import TrajectoryGeneralMellowmax
from narrows.policies import MLP
from narrows.policies.base import Model
from narrows.rewards import BitModes, Tempered
from narrows.training import TrainState, trainer
from narrows.trajectories.behaviour import Behaviour

HEAD = "paper/bits/"
BETA = 64.0
FOUND, CLOSENESS, TAKEN = "modes found", "closeness to modes", "beta"
_NUM_SAMPLES = 2048
"""For the entropy of a policy."""


@dataclass(frozen=True)
class BitPlan:
    """What a run does.

    Args:
        num_steps, seeds: of each training.
        num_bits, num_modes: of the task.
        qs: of TGM; 0 is the GFlowNet that the controls are made of.
        shown: how many times modes are counted on the way.
        control_rounds: trainings for each control that has to find the exponent of an entropy.
    """

    num_steps: int = 5000
    seeds: tuple[int, ...] = (0, 1, 2)
    num_bits: int = 120
    num_modes: int = 60
    qs: tuple[float, ...] = (0.0, *QS)
    shown: int = 5
    control_rounds: int = 2


FULL = BitPlan()
QUICK = BitPlan(num_steps=200, seeds=(0,), qs=(0.0, 1.0), shown=2, control_rounds=1)


class BitRun(NamedTuple):
    """What one training came to.

    Attributes:
        beta: the exponent it was given.
        entropy: of its policy in nats.
        samples, found, closeness: at each time that modes were counted.
    """

    beta: float
    entropy: float
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
    with side_by_side([functools.partial(bit_job, plan, name, q, beta, seed) for name, q, beta, seed in asks]) as futures:
        runs = {(name, seed): future.result() for (name, _, _, seed), future in zip(asks, futures, strict=True)}
    plain = {seed: [runs[name, seed] for name, q, _ in settings if q == 0.0] for seed in plan.seeds}
    pairs = [(q, seed) for q in plan.qs if q > 0.0 for seed in plan.seeds]
    jobs = [functools.partial(matched_job, plan, q, runs[name_of(q), seed].entropy, plain[seed], seed) for q, seed in pairs]
    with side_by_side(jobs) as futures:
        for (q, seed), future in zip(pairs, futures, strict=True):
            runs[control_name(ENTROPY, name_of(q)), seed] = future.result()
    for name in dict.fromkeys(name for name, _ in runs):
        of_name = [runs[name, seed] for seed in plan.seeds]
        for place, samples in enumerate(of_name[0].samples):
            case = f"{HEAD}{name}/{samples}"
            yield context.row(case, FOUND, [float(one.found[place]) for one in of_name], seeds=plan.seeds)
            yield context.row(case, CLOSENESS, [one.closeness[place] for one in of_name], unit="edits", seeds=plan.seeds)
        yield context.row(f"{HEAD}{name}", TAKEN, [one.beta for one in of_name], seeds=plan.seeds)
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
    said = f"bits, {name}, seed {seed}: {run.found[-1]} modes, {nats:.2f} nats"
    print(f"{said}, in {time.perf_counter() - began:.0f} s", file=sys.stderr, flush=True)
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
        return MLP(env.num_features, env.num_values, env.num_actions, hidden=128, depth=2, key=key)

    optimizer = optax.chain(optax.clip_by_global_norm(10.0), optax.adamw(1e-3, weight_decay=1e-4))
    objective = TrajectoryGeneralMellowmax(OMEGA, ALPHA, q)
    training = trainer(env, policy, reward, objective, optimizer, batch_size=16, behaviour=Behaviour(epsilon=0.0005))

    def step(state: TrainState, _: None) -> tuple[TrainState, Array]:
        state, info = training.step(state)
        return state, info.terminal.tokens.astype(jnp.uint8)

    state, tokens = jax.lax.scan(step, training.init(key), length=num_steps)
    return state.model, tokens


def bit_tables(rows: Sequence[Row]) -> list[str]:
    """Return the parts of the page about bit sequences."""
    own = [row for row in rows if row.case.startswith(HEAD)]
    counted = [row for row in own if row.metric == CLOSENESS]
    if not counted:
        return []
    names = list(dict.fromkeys(row.case.split("/")[2] for row in counted))
    counts = list(dict.fromkeys(row.case.split("/")[3] for row in counted))
    known = {(row.case.removeprefix(HEAD), row.metric): row for row in own}
    header = ("training", *(f"{int(count):,}" for count in counts))
    parts = ["### Bit sequences: modes found, and closeness to the modes in edits, by samples seen"]
    for metric in (FOUND, CLOSENESS):
        cells = [(name, *(spread(known[f"{name}/{count}", metric]) for count in counts)) for name in names]
        parts += [f"{metric[0].upper()}{metric[1:]}:", table(header, cells)]
    cells = [
        (
            name,
            figure(known[name, TAKEN].value),
            spread(known[name, NATS]),
            spread(known[name, OFF]) if (name, OFF) in known else "",
        )
        for name in names
    ]
    parts += ["Exponents and entropies in nats at the end:", table(("training", TAKEN, NATS, OFF), cells)]
    ahead = [row for row in own if " less " in row.case]
    cells = [(row.case.split("/")[2], spread(row), row.target or "", verdict(row)) for row in ahead]
    parts += ["Differences in modes found at the end, paired by seed:", table(("what", "modes", "target", "met"), cells)]
    return [*parts, closed_gaps(ahead)]


TEXT = """\
**Bit sequences** (tgm 5.3): 120 bits in words of 8, 60 hidden modes, a mode is found when a sample lies within 28
edits; closeness is the mean over modes of the least distance. TGM with omega = 4, alpha = 1, beta = 64, batches of 16,
epsilon = 0.0005, AdamW at 0.001, an MLP of two layers of 128 in place of the published transformer, and 80,000 samples where
the paper goes to 100,000: its figures are not ours to compare with. Every q has two GFlowNets (q = 0) beside it, trained alike
(tgm 6.4): *temperature-matched* with beta times `1 + q alpha / omega`, *entropy-matched* with the beta at which the policy
in the end has the TGM's entropy on the same seed, `-mean log P` of 2,048 samples, found by two more trainings.
"""
