"""No field of an objective is dead: each changes the loss, or how training uses it."""

import dataclasses
import functools
from typing import Any, get_args, get_type_hints

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from tests.reference.cases import compile_quickly
from tests.slowly import slowly

from narrows import objectives
from narrows.envs import Sequence, Subsets, perturbed
from narrows.noise import Substitution
from narrows.objectives import AbstractObjective, VarGrad
from narrows.objectives.balance import AbstractBalance
from narrows.objectives.base import LossContext
from narrows.policies import Tabular, sizes_of
from narrows.policies.base import Critics, Model
from narrows.rewards import AbstractReward, PairwiseSubsets, UnwrapPerturbed
from narrows.trajectories import sample

PLAIN = Subsets(3)
WORDS = Sequence("AB", 1, 2)
NOISY = perturbed(WORDS, Substitution(WORDS, 0.25))
NUM = 8

VALUES: dict[str, tuple[Any, ...]] = {
    "reference": (lambda state: jnp.log(jnp.array([0.1, 0.2, 0.3, 0.4])),),
    "huber": (0.1,),
}
"""Values to try for fields by name, where their type does not say any."""


class Length(AbstractReward):
    """Longer is better."""

    def __call__(self, states):
        return jnp.asarray(states.length, jnp.float32)


@functools.cache
def setting(is_noisy: bool):
    """Return rules, two models, a batch of their objects and what a step lends to a loss."""
    env, reward = (NOISY, UnwrapPerturbed(Length())) if is_noisy else (PLAIN, PairwiseSubsets(PLAIN))

    def model(seed: int) -> Model:
        keys = jax.random.split(jax.random.key(seed), 3)
        first, *others = (Tabular(sizes_of(env, flow_head=True, child_flow_head=True), key=key) for key in keys)
        # Drawn anew and wide, for tables that begin near zero would hide what clips and floors do.
        first, *others = (scattered(one, key) for one, key in zip((first, *others), keys, strict=True))
        return Model(first, jnp.float32(0.5), Critics((others[0], others[1]), jnp.float32(-0.5)))

    keys = jax.random.split(jax.random.key(9), NUM)
    batch = compile_quickly(lambda model: sample(jax.random.key(7), model, env, NUM))(model(1))
    batch = batch._replace(log_reward=jnp.asarray(np.random.default_rng(0).normal(size=NUM), jnp.float32))
    return env, model(1), model(2), batch, LossContext(reward=reward, keys=keys)


def scattered(policy: Any, key: jax.Array) -> Any:
    leaves, structure = jax.tree.flatten(policy)
    keys = jax.random.split(key, len(leaves))
    return jax.tree.unflatten(structure, [jax.random.normal(*pair) for pair in zip(keys, map(jnp.shape, leaves), strict=True)])


def losses(variants: list[AbstractObjective]) -> np.ndarray:
    """Return the loss of each variant of an objective, from one compiled program."""
    env, model, target, batch, context = setting(variants[0].needs.child_flow)

    def all_of(model: Model, target: Model, batch: Any) -> jax.Array:
        return jnp.stack([one.loss(model, target, env, batch, context) for one in variants])

    return np.asarray(compile_quickly(all_of)(model, target, batch))


def changed(objective: AbstractObjective, name: str) -> list[AbstractObjective]:
    """Return the objective with other values of a field, as far as its constructor takes them."""
    kind, value = get_type_hints(type(objective))[name], getattr(objective, name)
    tried = VALUES.get(name, ())
    if not tried and isinstance(value, bool):
        tried = (not value,)
    elif not tried and isinstance(value, int):
        tried = (value + 1,)
    elif not tried and isinstance(value, float):
        tried = (value / 2, value + 0.25, -0.01)
    elif not tried and isinstance(value, str):
        tried = tuple(other for other in get_args(kind) if other != value)
    others = []
    for other in tried:
        try:
            others.append(dataclasses.replace(objective, **{name: other}))
        except ValueError:  # out of range
            continue
    where = f"{type(objective).__name__}.{name}"
    assert others, f"{where}: no other value is known for {value!r}. Add some to VALUES in {__file__}."
    return others


def dead_fields(kind: type[AbstractObjective]) -> list[str]:
    """Return the fields that change neither a loss nor how often a batch and a target copy are used."""
    try:
        plain = kind()
    except TypeError as error:
        raise AssertionError(f"{kind.__name__} has a field without a default ({error}). Give it one, as a job needs.") from None
    names = [field.name for field in dataclasses.fields(kind)]  # pyright: ignore[reportArgumentType]
    others = {name: changed(plain, name) for name in names}
    is_used = {name: any(_usage(one) != _usage(plain) for one in others[name]) for name in names}
    names = [name for name in names if not is_used[name]]
    # A field may count only where another one is not as usual: alpha where q is above 0.
    for base in (plain, *(one for several in others.values() for one in several)):
        if not names:
            break
        variants = [(name, one) for name in names for one in changed(base, name)]
        found = losses([base, *(one for _, one in variants)])
        alive = {name for (name, _), loss in zip(variants, found[1:], strict=True) if loss != found[0]}
        names = [name for name in names if name not in alive]
    return names


def _usage(objective: AbstractObjective) -> tuple[Any, ...]:
    return objective.needs.passes, objective.needs.target_period


GUARDED = {
    "AdversarialDetailedBalance",
    "AdversarialFlowMatching",
    "AdversarialSubTrajectoryBalance",
    "AdversarialTrajectoryBalance",
    "AdversarialVarGrad",
    "BellmanGeneralMellowmax",
    "DetailedBalance",
    "DiscreteSAC",
    "ExpectedDetailedBalance",
    "ExpectedFlowMatching",
    "ExpectedTrajectoryBalance",
    "LaggedGeneralMellowmax",
    "MunchausenDQN",
    "NaiveDetailedBalance",
    "ProximalPolicy",
    "SoftQ",
    "StochasticDetailedBalance",
    "TrajectoryBalance",
    "TrajectoryGeneralMellowmax",
    "UnadjustedExpectedDetailedBalance",
    "VarGrad",
}
"""Objectives whose fields are compared with slow loops elsewhere in this folder."""


@pytest.mark.parametrize(
    "name",
    [
        *(name for name in objectives.__all__ if name not in GUARDED),
        *slowly("several programs each; loops with and without each field guard them quickly", *sorted(GUARDED)),
    ],
)
def test_every_field_counts(name):
    dead = dead_fields(getattr(objectives, name))
    assert not dead, (
        f"{name}: {', '.join(dead)} changes neither the loss nor how a batch is used. Read it in the loss or take it away; if "
        f"it counts for some values only, add those to VALUES in {__file__}."
    )


class Deaf(AbstractBalance):
    """VarGrad, with a weight that nobody reads."""

    weight: int = eqx.field(default=1, static=True)

    @property
    def form(self):
        return VarGrad().form


def test_a_dead_field_is_found():
    assert dead_fields(Deaf) == ["weight"]
