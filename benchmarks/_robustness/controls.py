"""Tuning by what the other seeds found, the two controls of tgm 6.4, and the exact laws where objects can be listed."""

import functools
from collections.abc import Iterable, Sequence
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np

from benchmarks._laws import CHOSEN, ENTROPY, TEMPERATURE, control_name, gibbs, matching_beta, matching_inverse_temperature
from benchmarks._robustness.jobs import Ask, Laboratory, Outcome, judged, laboratory, outcomes, run_all
from benchmarks._robustness.plan import TGMS, Level, Place, Plan, named
from benchmarks._robustness.selection import RULES
from benchmarks._robustness.training import Drawn
from narrows.exact import enumerate_graph, solve
from narrows.metrics import entropy
from narrows.metrics.exact import LogProbs

EXACT = "exact "
"""What the name of a method begins with where its law is the solution, not a training."""
_ROUNDS = 2


class Chosen(NamedTuple):
    """One training that a method is judged by: the exponent and the stop that the other seeds favour."""

    level: Level
    outcome: Outcome


Setting = tuple[str, float, int]
"""What is tuned: a method, an exponent, a stop."""


def _setting(one: Outcome) -> Setting:
    return one.method, one.beta, one.stop


def chosen(plan: Plan, found: Sequence[Outcome]) -> list[Chosen]:
    """Return for each level and seed the training whose setting did best on average over the other seeds.

    A setting is a method, an exponent of the common grid and a stop; so the q of a TGM can be chosen in the same way. Settings
    with which this very seed fills its list go first, as far as there are any: who sees a sampler give out before its list is
    full needs no truth to take another one.
    """
    best = []
    for level in plan.levels:
        here = [one for one in found if one.level == str(level) and one.beta in (*plan.betas, 0.0)]
        for seed in plan.seeds:
            others: dict[Setting, list[float]] = {}
            for one in here:
                if one.seed != seed or len(plan.seeds) == 1:
                    others.setdefault(_setting(one), []).append(one.worth[RULES[0]].mean)
            own = {_setting(one): one for one in here if one.seed == seed}
            fullest = max(one.worth[RULES[0]].kept for one in own.values())
            full = [setting for setting, one in own.items() if one.worth[RULES[0]].kept == fullest]
            best.append(Chosen(level, own[max(full, key=lambda setting: float(np.mean(others[setting])))]))
    return best


def control_job(plan: Plan, place: Place, name: str, ours: Sequence[Chosen], plain: Sequence[Outcome]) -> list[Outcome]:
    """Train GFlowNets that have the temperature, and such as have the entropy, of each chosen TGM.

    Args:
        plan, place, name: as for every job.
        ours: the trainings to be matched.
        plain: the trainings on its whole grid of the GFlowNet that is their twin.
    """

    def compute() -> list[Outcome]:
        lab, rate = laboratory(plan, place, name), plain[0].rate
        wanted = [Ask(one.level, one.outcome.seed, one.outcome.beta * _factor(one.outcome), rate) for one in ours]
        known = list(plain)
        trained = _trained(plan, lab, wanted, known)
        matched = [
            trained[ask, one.outcome.stop]._replace(method=control_name(TEMPERATURE, one.outcome.method))
            for ask, one in zip(wanted, ours, strict=True)
        ]
        for _ in range(_ROUNDS):
            asks = [
                Ask(one.level, one.outcome.seed, matching_beta(_curve(known, one), one.outcome.entropy), rate) for one in ours
            ]
            _trained(plan, lab, asks, known)
        return matched + [_nearest(known, one) for one in ours]

    return outcomes(plan, place, name, f"controls by {plain[0].method}", compute)


def exact_job(plan: Plan, place: Place, name: str, ours: Sequence[Chosen]) -> list[Outcome]:
    """Solve what each chosen training was after, and for a TGM its two controls, over all objects."""

    def compute() -> list[Outcome]:
        lab = laboratory(plan, place, name)
        graph = enumerate_graph(lab.task.env)
        tokens = jnp.asarray(graph.terminal_states.tokens)
        phis = functools.cache(lambda level, seed: lab.phi(plan, level, seed, tokens))
        found = []
        for one in ours:
            phi, beta, method = phis(one.level, one.outcome.seed), one.outcome.beta, named(one.outcome.method)
            law = solve(graph, beta * phi, method.objective.operator).log_probs
            laws: dict[str, tuple[float, LogProbs]] = {method.name: (beta, law)}
            if method.q is not None:
                warm, even = _factor(one.outcome) * beta, matching_inverse_temperature(entropy(law), phi)
                laws[control_name(TEMPERATURE, method.name)] = (warm, gibbs(warm, phi))
                laws[control_name(ENTROPY, method.name)] = (even, gibbs(even, phi))
            for told, (at, log_probs) in laws.items():
                ask = Ask(one.level, one.outcome.seed, at, 0.0)
                found.append(_judged_law(plan, lab, EXACT + told, ask, np.asarray(tokens), phi, log_probs))
        return found

    return outcomes(plan, place, name, "exact laws", compute)


def summarised(plan: Plan, everything: Iterable[Sequence[Outcome]]) -> tuple[list[Chosen], list[Chosen]]:
    """Return the chosen trainings of each method, and those of the TGM whose q was chosen as well."""
    lists = [list(found) for found in everything]
    each = [one for found in lists for one in chosen(plan, found)]
    names = {method.name for method in TGMS}
    return each, chosen(plan, [one for found in lists for one in found if one.method in names])


def with_chosen_controls(found: Sequence[Outcome], best: Sequence[Chosen]) -> list[Outcome]:
    """Return the TGM whose q was chosen, and its two controls, under names of their own."""
    known = {(one.method, one.level, one.seed): one for one in found}
    renamed = []
    for one in (one.outcome for one in best):
        renamed.append(one._replace(method=CHOSEN))
        for control in (TEMPERATURE, ENTROPY):
            match = known[control_name(control, one.method), one.level, one.seed]
            renamed.append(match._replace(method=control_name(control, CHOSEN)))
    return renamed


def _trained(plan: Plan, lab: Laboratory, asks: Sequence[Ask], known: list[Outcome]) -> dict[tuple[Ask, int], Outcome]:
    """Return GFlowNets by what was asked and where they stopped, adding to those known the ones that had to be trained."""
    method = named(known[0].method)
    have = {(one.level, one.seed, one.beta, one.stop): one for one in known}
    stops = plan.recipe.stops
    missing = [ask for ask in dict.fromkeys(asks) if (str(ask.level), ask.seed, ask.beta, stops[0]) not in have]
    fresh = run_all(plan, lab, method, missing)
    known.extend(fresh)
    have |= {(one.level, one.seed, one.beta, one.stop): one for one in fresh}
    return {(ask, stop): have[str(ask.level), ask.seed, ask.beta, stop] for ask in asks for stop in stops}


def _factor(one: Outcome) -> float:
    return named(one.method).temperature_factor(one.stop)


def _curve(known: Sequence[Outcome], one: Chosen) -> list[tuple[float, float]]:
    return [(each.beta, each.entropy) for each in _alike(known, one)]


def _alike(known: Sequence[Outcome], one: Chosen) -> list[Outcome]:
    """Return the trainings on the same proxy that stopped where this one did."""
    place = (str(one.level), one.outcome.seed, one.outcome.stop)
    return [each for each in known if (each.level, each.seed, each.stop) == place]


def _nearest(known: Sequence[Outcome], one: Chosen) -> Outcome:
    """Return the GFlowNet on the same proxy, trained as long, whose entropy is nearest."""
    best = min(_alike(known, one), key=lambda each: abs(each.entropy - one.outcome.entropy))
    return best._replace(method=control_name(ENTROPY, one.outcome.method), target=one.outcome.entropy)


def _judged_law(
    plan: Plan, lab: Laboratory, name: str, ask: Ask, tokens: np.ndarray, phi: np.ndarray, log_probs: LogProbs
) -> Outcome:
    probabilities = np.exp(log_probs - np.logaddexp.reduce(log_probs))
    rng = np.random.default_rng([ask.seed, 4])
    rows = rng.choice(len(phi), plan.recipe.num_samples, p=probabilities / probabilities.sum())
    outcome = judged(
        plan, lab, name, ask, 0, Drawn(jnp.asarray(tokens[rows]), jnp.asarray(phi[rows]), jnp.asarray(log_probs[rows]))
    )
    # Both are known here, and samples would only blur them.
    return outcome._replace(entropy=entropy(log_probs), mean_phi=float(probabilities @ phi))
