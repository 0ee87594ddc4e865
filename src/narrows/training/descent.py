"""From a loss to the next parameters: one step of the optimiser, or several towards a frozen target."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Bool, Float, Int, PRNGKeyArray

from narrows.envs.base import AbstractEnvironment
from narrows.objectives.base import AbstractObjective, AbstractRegression, LossContext, Passes
from narrows.policies.base import Model
from narrows.trajectories import Trajectory

LossOf = Callable[[Model, LossContext], Float[Array, ""]]
PartialLossOf = Callable[[Model, LossContext, Trajectory], Float[Array, ""]]
"""The loss of part of a batch, with the context of that part."""


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
        context: LossContext,
    ) -> LossOf:
        """Return the surrogate loss of a batch, its target frozen at `model`."""
        assert isinstance(objective, AbstractRegression), "check has refused anything else"
        start = jax.lax.stop_gradient(objective.errors(model, target, env, batch, context).error)

        def loss(model: Model, context: LossContext) -> Float[Array, ""]:
            error, weight = objective.errors(model, target, env, batch, context)
            return objective.reduce(error - (1.0 - self.step_size) * start, weight, context.total)

        return loss


class Descent(NamedTuple):
    """The model after some steps of the optimiser.

    Attributes:
        loss: before the first of them.
        is_finite: whether every number on the way was.
    """

    model: Model
    opt_state: Any
    loss: Float[Array, ""]
    is_finite: Bool[Array, ""]


class Descender(NamedTuple):
    """Steps of the optimiser; `add` makes gradients over the items at hand gradients over the whole batch."""

    optimizer: optax.GradientTransformation
    add: Callable[[Any], Any]

    def once(self, loss_of: LossOf, model: Model, opt_state: Any, context: LossContext) -> Descent:
        """Take one step on a loss."""
        loss, gradient = jax.value_and_grad(loss_of)(model, context)
        gradient = self.add(gradient)
        params: Any = model  # any pytree to optax, whose annotations name a few containers only
        updates, opt_state = self.optimizer.update(gradient, opt_state, params)
        moved: Any = optax.apply_updates(params, updates)
        is_finite = jnp.isfinite(loss) & jnp.isfinite(optax.tree.norm(gradient)) & jnp.isfinite(optax.tree.norm(updates))
        return Descent(moved, opt_state, loss, is_finite)

    def repeat(self, loss_of: LossOf, model: Model, opt_state: Any, context: LossContext, num_steps: int) -> Descent:
        """Take several steps on one loss."""
        first = self.once(loss_of, model, opt_state, context)
        if num_steps == 1:
            return first
        # The cache is of the sampler's own model, which from here on is another one.
        later = context._replace(cache=None)

        def again(before: Descent, _: None) -> tuple[Descent, None]:
            after = self.once(loss_of, before.model, before.opt_state, later)
            return after._replace(loss=before.loss, is_finite=before.is_finite & after.is_finite), None

        return jax.lax.scan(again, first, length=num_steps - 1)[0]

    def in_parts(
        self,
        loss_of: PartialLossOf,
        model: Model,
        opt_state: Any,
        context: LossContext,
        batch: Trajectory,
        passes: Passes,
        key: PRNGKeyArray,
    ) -> Descent:
        """Go through a batch several times in parts, drawn anew each time: one step on each.

        Args:
            passes: how often, and in how many parts.
            key: what the order is drawn with, the same on every device that has a share of the batch.
        """
        size = batch.log_reward.shape[0]

        def parts(key: PRNGKeyArray) -> Int[Array, "part item"]:
            return jax.random.permutation(key, size).reshape(passes.minibatches, -1)

        order = jax.vmap(parts)(jax.random.split(key, passes.epochs)).reshape(passes.num_steps, -1)
        # The cache is of the whole batch, and of a model that is another one after the first step.
        context = context._replace(cache=None)

        def one(before: Descent, items: Int[Array, " item"]) -> tuple[Descent, Float[Array, ""]]:
            part = jax.tree.map(lambda leaf: leaf[items], batch)
            own = context if context.keys is None else context._replace(keys=context.keys[items])
            after = self.once(lambda model, context: loss_of(model, context, part), before.model, before.opt_state, own)
            return after._replace(is_finite=before.is_finite & after.is_finite), after.loss

        start = Descent(model, opt_state, jnp.zeros((), batch.log_reward.dtype), jnp.ones((), bool))
        end, losses = jax.lax.scan(one, start, order)
        return end._replace(loss=losses[0])
