"""The jobs of a run, each in a process of its own: proxies of a task, a method on it, controls, exact laws. All are kept."""

import dataclasses
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from benchmarks._robustness.plan import GFLOWNET, RANDOM, TWINS, Level, Method, Place, Plan, named
from benchmarks._robustness.proxies import (
    Measured,
    Member,
    ProxyReward,
    Scale,
    Wrongness,
    measure_some,
    reward_of,
    scale_of,
    taught,
    wrongness,
)
from benchmarks._robustness.selection import RULES, Sampled, Worth, shortlists
from benchmarks._robustness.tasks import Task, task_named
from benchmarks._robustness.training import Drawn, train
from benchmarks.harness.places import digest, remembered
from benchmarks.harness.processes import tell
from narrows.distance import EDITS

_FORMAT = 5
_PORTION = 9
"""Trainings a call; one shape for all calls, so that a method is compiled once."""


class Outcome(NamedTuple):
    """What one training, or one exact law, came to."""

    method: str  # its name
    # level, seed, beta: which training
    level: str
    seed: int
    beta: float
    stop: int  # after how many steps; 0 where nothing is learned
    rate: float  # learning rate; 0 where nothing is learned
    entropy: float  # of the policy in nats, `-mean log P` of its samples
    mean_phi: float  # the proxy's standardised score, mean over samples
    worth: dict[str, Worth]  # of the shortlist by each rule
    seen: Wrongness | None = None  # how wrong the proxy is about the first samples; None where that is not asked
    target: float | None = None  # the entropy that was to be matched, of an entropy-matched control


class Ask(NamedTuple):
    """One training: on which proxy, with which exponent and rate."""

    level: Level
    seed: int
    beta: float
    rate: float


class Laboratory(NamedTuple):
    """A task, its unit, and the proxies that were taught for it."""

    task: Task
    scale: Scale
    measured: dict[tuple[int, int], Measured]
    members: dict[tuple[int, int], Member]

    def reward(self, plan: Plan, level: Level, seed: int) -> ProxyReward:
        """Return the reward of one proxy, at inverse temperature 1."""
        return reward_of(self.task, plan.lesson, self.members[level.size, seed], level.entry)

    def phi(self, plan: Plan, level: Level, seed: int, tokens: Int[Array, "batch place"]) -> Float[np.ndarray, " batch"]:
        """Return what one proxy, as it is used, says of objects."""
        return np.asarray(_phi(self.reward(plan, level, seed), tokens), np.float64)


def laboratory(plan: Plan, place: Place, name: str) -> Laboratory:
    """Return a task with its proxies, taught now or before: the same numbers either way."""
    task = task_named(name, place.tables)
    path = _path(place, name, "proxies", plan)
    sizes = dict.fromkeys(level.size for level in (*plan.levels, *([plan.tuning_level] if plan.tuning_seeds else [])))
    pairs = [(size, seed) for size in sizes for seed in (*plan.seeds, *plan.tuning_seeds)]

    def teach() -> dict[str, Any]:
        measured = [measure_some(task, plan.lesson, *pair) for pair in pairs]
        stacked = taught(task, plan.lesson, measured, [seed for _, seed in pairs])
        leaves = [np.asarray(leaf, np.float64).tolist() for leaf in jax.tree.leaves(stacked)]
        listed = [{"texts": one.texts, "scores": one.scores.tolist()} for one in measured]
        return {"scale": scale_of(task, plan.lesson)._asdict(), "measured": listed, "members": leaves}

    kept = remembered(path, teach)
    measured = [Measured(one["texts"], np.asarray(one["scores"])) for one in kept["measured"]]
    like = eqx.filter_eval_shape(_blank, task, plan)
    leaves = [jnp.asarray(np.asarray(leaf, np.float32)) for leaf in kept["members"]]
    stacked = jax.tree.unflatten(jax.tree.structure(like), leaves)
    members = [jax.tree.map(lambda leaf, row=row: leaf[row], stacked) for row in range(len(pairs))]
    return Laboratory(
        task, Scale(**kept["scale"]), dict(zip(pairs, measured, strict=True)), dict(zip(pairs, members, strict=True))
    )


class Doubts(NamedTuple):
    """How wrong one proxy is about random objects: all, and the third of them nearest to what was measured and farthest."""

    everywhere: Wrongness
    near: Wrongness
    far: Wrongness


def proxy_job(plan: Plan, place: Place, name: str) -> dict[tuple[int, int], Doubts]:
    """Teach the proxies of a task and return how wrong each is."""
    began = time.perf_counter()
    lab = laboratory(plan, place, name)
    fresh = lab.task.random(plan.lesson.num_fresh, np.random.default_rng(2))
    found = {}
    for pair, members in lab.members.items():
        measured = lab.measured[pair]
        order = np.argsort(EDITS.nearest(fresh, measured.texts).distance, kind="stable")
        third = len(fresh) // 3
        parts = (range(len(fresh)), order[:third], order[-third:])
        found[pair] = Doubts(
            *(wrongness(lab.task, lab.scale, members, measured, [fresh[row] for row in rows]) for rows in parts)
        )
    _tell(name, "proxies", len(found), began)
    return found


def method_job(plan: Plan, place: Place, name: str, method_name: str) -> list[Outcome]:
    """Choose a method's learning rate on the tuning seeds, then train it on every proxy with every exponent."""

    def compute() -> list[Outcome]:
        lab, method = laboratory(plan, place, name), named(method_name)
        rate = _best_rate(plan, lab, method)
        betas = plan.betas + (plan.wider if method_name in TWINS else ())
        asks = [Ask(level, seed, beta, rate) for level in plan.levels for seed in plan.seeds for beta in betas]
        return run_all(plan, lab, method, asks, sees=method_name == GFLOWNET)

    return outcomes(plan, place, name, method_name, compute)


def random_job(plan: Plan, place: Place, name: str) -> list[Outcome]:
    """Draw objects uniformly, as many as a method asks the proxy about, and choose among them."""

    def compute() -> list[Outcome]:
        lab, found = laboratory(plan, place, name), []
        for level in plan.levels:
            for seed in plan.seeds:
                rng = np.random.default_rng([seed, 3])
                tokens = rng.integers(lab.task.env.num_tokens, size=(plan.recipe.num_calls, lab.task.env.max_length))
                phi = lab.phi(plan, level, seed, jnp.asarray(tokens, jnp.int32))
                entropy = lab.task.env.max_length * float(np.log(lab.task.env.num_tokens))
                drawn = Drawn(jnp.asarray(tokens), jnp.asarray(phi), jnp.full(len(phi), -entropy))
                found.append(judged(plan, lab, RANDOM, Ask(level, seed, 0.0, 0.0), 0, drawn))
        return found

    return outcomes(plan, place, name, RANDOM, compute)


@eqx.filter_jit
def _phi(reward: ProxyReward, tokens: Int[Array, "batch place"]) -> Float[Array, " batch"]:
    return reward.phi(tokens)


def run_all(plan: Plan, lab: Laboratory, method: Method, asks: Sequence[Ask], *, sees: bool = False) -> list[Outcome]:
    """Train a method for all of some asks, a portion a call, and judge what was drawn at each stop."""
    found, rewards = [], {}
    for start in range(0, len(asks), _PORTION):
        part = list(asks[start : start + _PORTION])
        filled = part + part[:1] * (_PORTION - len(part))
        for level, seed in {(ask.level, ask.seed) for ask in part} - set(rewards):
            rewards[level, seed] = lab.reward(plan, level, seed)
        made = [dataclasses.replace(rewards[ask.level, ask.seed], beta=jnp.asarray(ask.beta, jnp.float32)) for ask in filled]
        stacked = jax.tree.map(lambda *leaves: jnp.stack(leaves), *made)
        rates = jnp.asarray([ask.rate for ask in filled], jnp.float32)
        # Every method begins from the same numbers: a seed has one key, whatever is trained with it.
        keys = jax.vmap(jax.random.key)(jnp.asarray([ask.seed for ask in filled], jnp.uint32))
        drawn = jax.device_get(train(lab.task.env, stacked, rates, keys, method.objective, plan.recipe))
        for row, ask in enumerate(part):
            for place, stop in enumerate(plan.recipe.stops):
                one = jax.tree.map(lambda leaf, row=row, place=place: leaf[row, place], drawn)
                found.append(judged(plan, lab, method.name, ask, stop, one, sees=sees))
    return found


def judged(plan: Plan, lab: Laboratory, name: str, ask: Ask, stop: int, drawn: Drawn, *, sees: bool = False) -> Outcome:
    """Return what the objects that a policy drew are worth."""
    letters, phi = np.array(list(lab.task.env.alphabet)), np.asarray(drawn.phi, np.float64)
    texts = ["".join(row) for row in letters[np.asarray(drawn.tokens)]]
    pair = ask.level.size, ask.seed
    measured, members = lab.measured[pair], lab.members[pair]
    sampled = Sampled(phi, np.asarray(drawn.log_prob, np.float64))
    worth = shortlists(lab.task, lab.scale, measured, texts, sampled, plan.num_chosen)
    entropy = -float(np.mean(sampled.log_prob))
    seen = wrongness(lab.task, lab.scale, members, measured, texts[: plan.num_visited]) if sees else None
    return Outcome(name, str(ask.level), ask.seed, ask.beta, stop, ask.rate, entropy, float(np.mean(phi)), worth, seen)


def outcomes(plan: Plan, place: Place, task: str, what: str, compute: Callable[[], list[Outcome]]) -> list[Outcome]:
    """Return outcomes that were computed before by the same plan, or compute and keep them."""

    def plain() -> list[dict[str, Any]]:
        began = time.perf_counter()
        found = compute()
        _tell(task, what, len(found), began)
        return [_plain(one) for one in found]

    return [_outcome(one) for one in remembered(_path(place, task, what, plan), plain)]


def _best_rate(plan: Plan, lab: Laboratory, method: Method) -> float:
    """Return the rate whose best exponent and stop give the best shortlist, on average over the tuning seeds."""
    if len(plan.rates) == 1:
        return plan.rates[0]
    level = plan.tuning_level
    asks = [Ask(level, seed, beta, rate) for rate in plan.rates for beta in plan.betas for seed in plan.tuning_seeds]
    scores: dict[tuple[float, float, int], list[float]] = {}
    for one in run_all(plan, lab, method, asks):
        scores.setdefault((one.rate, one.beta, one.stop), []).append(one.worth[RULES[0]].mean)
    return max(scores, key=lambda setting: float(np.mean(scores[setting])))[0]


def _path(place: Place, task: str, what: str, plan: Plan) -> Path:
    key = digest((_FORMAT, task, what, dataclasses.replace(plan, tasks=())))
    return place.results / task / f"{what.replace(' ', '_').replace(',', '').replace('=', '')}-{key}.json"


def _tell(task: str, what: str, count: int, began: float) -> None:
    tell(f"{task}, {what}: {count} in {time.perf_counter() - began:.0f} s")


def _plain(one: Outcome) -> dict[str, Any]:
    worth = {rule: value._asdict() for rule, value in one.worth.items()}
    return {**one._asdict(), "worth": worth, "seen": None if one.seen is None else one.seen._asdict()}


def _outcome(entry: dict[str, Any]) -> Outcome:
    worth = {rule: Worth(**value) for rule, value in entry["worth"].items()}
    seen = None if entry["seen"] is None else Wrongness(**entry["seen"])
    return Outcome(**{**entry, "worth": worth, "seen": seen})


def _blank(task: Task, plan: Plan) -> Member:
    return Member(task.env.max_length, task.env.num_tokens, plan.lesson.width, key=jax.random.key(0))
