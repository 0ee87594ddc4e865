"""From a loss to the next parameters: one step of the optimiser, or several towards a frozen target."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Bool, Float, Int, PRNGKeyArray

from narrows.envs.base import AbstractEnvironment
from narrows.objectives.base import AbstractObjective, AbstractRegression, Aids, Passes
from narrows.policies.base import Model
from narrows.trajectories import Trajectory

LossOf = Callable[[Model, Aids], Float[Array, ""]]
PartialLossOf = Callable[[Model, Aids, Trajectory], Float[Array, ""]]
"""The loss of part of a batch, with the aids of that part."""


@dataclass(frozen=True)
class Surrogate:
    """Several steps of the optimiser on each batch (D'Orazio et al. 2024, arXiv:2411.05228): the forward step of `narrows.vi`.

    The errors of the batch are predictions, and the target is `(1 - step_size)` times what they are when the batch comes; an
    objective with a target copy keeps it meanwhile. Where objects are dear and parameters cheap, each object teaches more.

    Args:
        inner_steps: of the optimiser on a batch, >= 1.
        step_size: in (0, 1]; 1 asks for errors of zero. Smaller ones fit the noise of a batch less.
    """

    inner_steps: int = 5
    step_size: float = 1.0

    def __post_init__(self) -> None:
        if self.inner_steps < 1:
            raise ValueError(f"inner_steps must be at least 1, got {self.inner_steps}.")
        if not 0.0 < self.step_size <= 1.0:
            raise ValueError(f"step_size must lie in (0, 1], got {self.step_size}.")

    def check(self, objective: AbstractObjective) -> None:
        """Raise ValueError for an objective that cannot be trained through a surrogate."""
        if not isinstance(objective, AbstractRegression):
            raise ValueError(
                f"{type(objective).__name__} is no mean of errors, which a surrogate needs. Leave the surrogate out, or take "
                "SoftQ, a balance objective or BellmanGeneralMellowmax."
            )

    def loss_on(
        self,
        objective: AbstractObjective,
        model: Model,
        target: Model,
        env: AbstractEnvironment,
        batch: Trajectory,
        aids: Aids,
    ) -> LossOf:
        """Return the surrogate loss of a batch, its target frozen at `model`."""
        assert isinstance(objective, AbstractRegression), "check has refused anything else"
        start = jax.lax.stop_gradient(objective.errors(model, target, env, batch, aids).error)

        def loss(model: Model, aids: Aids) -> Float[Array, ""]:
            error, weight = objective.errors(model, target, env, batch, aids)
            return objective.reduce(error - (1.0 - self.step_size) * start, weight, aids.total)

        return loss


def loss_on(objective: AbstractObjective, target: Model, env: AbstractEnvironment, batch: Trajectory) -> LossOf:
    """Return the loss of a batch as it is."""
    return lambda model, aids: objective.loss(model, target, env, batch, aids)


class Descent(NamedTuple):
    """Where the steps led.

    Attributes:
        loss: before the first of them.
        is_finite: whether every number on the way was.
    """

    model: Model
    opt_state: Any
    loss: Float[Array, ""]
    is_finite: Bool[Array, ""]


def descend(
    loss_of: LossOf,
    optimizer: optax.GradientTransformation,
    model: Model,
    opt_state: Any,
    aids: Aids,
    num_steps: int,
    add: Callable[[Any], Any],
) -> Descent:
    """Take steps of the optimiser on one loss.

    Args:
        add: makes gradients over the items at hand gradients over the whole batch.
    """

    def once(model: Model, opt_state: Any, aids: Aids) -> Descent:
        return _once(loss_of, optimizer, model, opt_state, aids, add)

    first = once(model, opt_state, aids)
    if num_steps == 1:
        return first
    # The record tells what the sampler's own model said, which from here on is another one.
    later = aids._replace(record=None)

    def again(before: Descent, _: None) -> tuple[Descent, None]:
        after = once(before.model, before.opt_state, later)
        return after._replace(loss=before.loss, is_finite=before.is_finite & after.is_finite), None

    return jax.lax.scan(again, first, length=num_steps - 1)[0]


def descend_in_parts(
    loss_of: PartialLossOf,
    optimizer: optax.GradientTransformation,
    model: Model,
    opt_state: Any,
    batch: Trajectory,
    aids: Aids,
    passes: Passes,
    key: PRNGKeyArray,
    add: Callable[[Any], Any],
) -> Descent:
    """Go through a batch several times in parts, drawn anew each time: one step of the optimiser on each.

    Args:
        passes: how often, and in how many parts.
        key: what the order is drawn with, the same on every device that has a share of the batch.
        add: makes gradients over the items at hand gradients over the whole part.
    """
    size = batch.log_reward.shape[0]

    def parts(key: PRNGKeyArray) -> Int[Array, "part item"]:
        return jax.random.permutation(key, size).reshape(passes.minibatches, -1)

    order = jax.vmap(parts)(jax.random.split(key, passes.epochs)).reshape(passes.num_steps, -1)
    # The record is of the whole batch, and of a model that is another one after the first step.
    aids = aids._replace(record=None)

    def one(before: Descent, items: Int[Array, " item"]) -> tuple[Descent, Float[Array, ""]]:
        part = jax.tree.map(lambda leaf: leaf[items], batch)
        own = aids if aids.keys is None else aids._replace(keys=aids.keys[items])
        after = _once(lambda model, aids: loss_of(model, aids, part), optimizer, before.model, before.opt_state, own, add)
        return after._replace(is_finite=before.is_finite & after.is_finite), after.loss

    start = Descent(model, opt_state, jnp.zeros((), batch.log_reward.dtype), jnp.ones((), bool))
    end, losses = jax.lax.scan(one, start, order)
    return end._replace(loss=losses[0])


def _once(
    loss_of: LossOf,
    optimizer: optax.GradientTransformation,
    model: Model,
    opt_state: Any,
    aids: Aids,
    add: Callable[[Any], Any],
) -> Descent:
    """Take one step of the optimiser."""
    loss, gradient = jax.value_and_grad(loss_of)(model, aids)
    gradient = add(gradient)
    params: Any = model  # any pytree to optax, whose annotations name a few containers only
    updates, opt_state = optimizer.update(gradient, opt_state, params)
    moved: Any = optax.apply_updates(params, updates)
    is_finite = jnp.isfinite(loss) & jnp.isfinite(optax.tree.norm(gradient)) & jnp.isfinite(optax.tree.norm(updates))
    return Descent(moved, opt_state, loss, is_finite)
