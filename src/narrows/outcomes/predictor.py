"""Prediction of what comes out of sequences that are asked for, where noise acts on each letter."""

from collections.abc import Callable
from collections.abc import Sequence as Objects
from dataclasses import dataclass
from typing import Any, TypeAlias

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from narrows.envs.base import NO_ACTION
from narrows.envs.perturbation import AbstractKernel
from narrows.envs.sequence import AbstractSequence
from narrows.exact.blocks import in_blocks
from narrows.outcomes.enumerated import enumerate_outcomes, num_objects
from narrows.outcomes.simulated import Simulated
from narrows.rewards import AbstractReward
from narrows.selection.outcomes import Method, Outcomes

Score: TypeAlias = Callable[[Any], Float[Array, " batch"]]

MAX_ENUMERATED = 2**17
"""Objects of an environment up to which every outcome is weighed; in larger ones outcomes are simulated."""

NUM_SIMULATED = 1000

_TOGETHER = 256


@dataclass(frozen=True, eq=False)
class OutcomePredictor:
    """Predicts the outcomes of sequences asked for letter by letter in a fixed order, whatever has come out so far.

    After the last letter the end is asked for until it comes; an object that ends early is finished and nothing more is asked.
    Make one with `outcome_predictor`.

    Args:
        env: the rules, without noise.
        kernel: what becomes of each letter.
        method: how expected scores are found.
        num_outcomes: outcomes that are weighed or drawn for each object; None where the score is not known.
        moments: mean and standard deviation of the score of what comes out of plans; None where the score is not known.
        reference: what was taken off those means.
    """

    env: AbstractSequence
    kernel: AbstractKernel
    method: Method
    num_outcomes: int | None
    moments: Callable[[Int[np.ndarray, "object time"]], tuple[np.ndarray, np.ndarray]] | None
    reference: float = 0.0

    def __call__(self, objects: Objects[str]) -> Outcomes:
        """Return what comes out of each of some objects, asked for by their texts."""
        unknown = np.full(len(objects), np.nan)
        if not len(objects):
            return Outcomes(unknown, unknown, unknown)
        plans = plans_of(self.env, objects)
        log_probs = in_blocks(lambda part: _log_probs_as_asked(self.env, self.kernel, part), plans, _TOGETHER)
        prob_as_asked = np.exp(np.sum(log_probs, axis=1, dtype=np.float64))
        mean, std = (unknown, unknown) if self.moments is None else self.moments(plans)
        return Outcomes(self.reference + mean, std, prob_as_asked)

    def standard_error(self, outcomes: Outcomes) -> Float[np.ndarray, " object"]:
        """Return the standard error of each expected score: 0 where every outcome was weighed, NaN where it is not known."""
        if self.method == "simulated" and self.num_outcomes is not None:
            return outcomes.std / self.num_outcomes**0.5
        return 0.0 * outcomes.std


def outcome_predictor(
    env: AbstractSequence,
    kernel: AbstractKernel,
    score: Score | None,
    *,
    num: int = NUM_SIMULATED,
    seed: int = 0,
    max_enumerated: int = MAX_ENUMERATED,
) -> OutcomePredictor:
    """Return the `OutcomePredictor` of an environment's objects, with everything tabulated that all objects share.

    Every outcome is weighed where there are at most `max_enumerated` objects. Elsewhere `num` outcomes of each are drawn, by
    the same random numbers for all objects: what is said of one does not depend on which others are asked about.

    Args:
        env: the rules, without noise.
        kernel: what becomes of each letter.
        score: the score of a batch of finished objects, of which a reward is taken near its reference; None where it is not
            known.
        num: simulated outcomes an object, at least 2.
        seed: of the simulation.
        max_enumerated: objects of the environment up to which outcomes are weighed.
    """
    if num < 2:
        raise ValueError(f"num must be at least 2, got {num}. A spread needs two outcomes; 1,000 is usual.")
    if score is None:
        return OutcomePredictor(env, kernel, "unknown", None, None)
    total = num_objects(env)
    near, reference = (score.centred(), score.reference) if isinstance(score, AbstractReward) else (score, 0.0)
    if total <= max_enumerated:
        moments = enumerate_outcomes(env, kernel, near).moments
        return OutcomePredictor(env, kernel, "enumerated", total, moments, reference)
    return OutcomePredictor(env, kernel, "simulated", num, Simulated(env, kernel, near, num, seed).moments, reference)


def plans_of(env: AbstractSequence, objects: Objects[str]) -> Int[np.ndarray, "object time"]:
    """Return the actions that ask for each object: its tokens, then the end, up to the longest object and one more.

    Raises ValueError for a text that names no object of the environment.
    """
    tokens = np.asarray(env.from_text(objects).tokens)
    # What fills up a sequence's tokens has the number of the end, the action after the tokens.
    return np.pad(tokens, ((0, 0), (0, 1)), constant_values=env.num_tokens)


@eqx.filter_jit
def _log_probs_as_asked(
    env: AbstractSequence, kernel: AbstractKernel, plans: Int[Array, "object time"]
) -> Float[Array, "object time"]:
    """Return the log-probability that each action takes place, all before it having taken place as asked; 0 after the end."""

    def along(plan: Int[Array, " time"]) -> Float[Array, " time"]:
        is_over = jnp.arange(plan.shape[0]) > jnp.sum(plan != env.num_tokens)
        states = jax.tree.map(lambda leaf: leaf[:-1], env.states_along(jnp.where(is_over, NO_ACTION, plan)))
        log_probs = jax.vmap(lambda state, asked: kernel.log_probs(state, asked)[asked])(states, plan)
        return jnp.where(is_over, 0.0, log_probs)

    return jax.vmap(along)(plans)
