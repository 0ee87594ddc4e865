"""The contract of an objective: a batch of trajectories to one number to minimise, and what that needs."""

from abc import abstractmethod
from typing import NamedTuple

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Key

from narrows.envs.base import AbstractEnvironment
from narrows.envs.turns import turns_of
from narrows.objectives.reductions import Total, identity_total
from narrows.operators import GeneralMellowmax, Maximum
from narrows.policies.base import Model
from narrows.policies.sizes import Sizes, sizes_of
from narrows.rewards.base import AbstractReward
from narrows.trajectories import SamplerCache, Trajectory


class LossContext(NamedTuple):
    """The arguments of a loss beside models, environment and batch.

    Attributes:
        cache: what the sampler kept of the first trajectories of the batch under this very model.
        total: makes sums over these items sums over the batch, of which other devices may have the rest. A loss takes its
            means from such sums; no sum through which a gradient flows may go into another.
        reward: the log-reward of any finished object, where that can be had inside a compiled step; else None, and the batch's
            own log-rewards are all that is known.
        keys: randomness for each item of the batch, for an objective that needs `keys`; None for the others.
    """

    cache: SamplerCache | None = None
    total: Total = identity_total
    reward: AbstractReward | None = None
    keys: Key[Array, " batch"] | None = None


NO_CONTEXT = LossContext()
"""Nothing beside the batch: a loss then computes everything itself."""


class Passes(NamedTuple):
    """How a batch is used.

    Attributes:
        epochs: times that it is gone through, >= 1.
        minibatches: parts in which, one step of the optimiser each; it must have a multiple of so many trajectories.
    """

    epochs: int = 1
    minibatches: int = 1

    @property
    def num_steps(self) -> int:
        """Steps of the optimiser on a batch."""
        return self.epochs * self.minibatches


class Needs(NamedTuple):
    """What an objective needs of the model, of the batch and of the step that trains it.

    Attributes:
        flow: a policy with a head for the log-flow.
        child_flow: a policy with a head for the log-flows of the states that actions lead to.
        critics: a model with `Critics`.
        keys: a random key for each item of the batch.
        on_policy: trajectories of the model alone; others would teach it wrong.
        trains_backward: whether a learned backward policy gets a gradient.
        min_batch_size: trajectories that one loss takes at least.
        target_period: updates after which the target copy of the model is renewed; None for no such copy.
        passes: how each batch is used.
    """

    flow: bool = False
    child_flow: bool = False
    critics: bool = False
    keys: bool = False
    on_policy: bool = False
    trains_backward: bool = False
    min_batch_size: int = 1
    target_period: int | None = None
    passes: Passes = Passes()


class Residual(NamedTuple):
    """Errors that an objective brings to zero, and how much each counts."""

    error: Float[Array, "*batch violation"]
    weight: Float[Array, "*batch violation"]


class AbstractObjective(eqx.Module):
    """A loss whose minimiser is the policy of `operator` (`exact.solve` gives it where states can be enumerated)."""

    @property
    @abstractmethod
    def operator(self) -> GeneralMellowmax | Maximum:
        """The operator whose policy is the minimiser."""

    @property
    @abstractmethod
    def needs(self) -> Needs:
        """What must be there for the loss to be computed and trained."""

    def accounts_for(self, env: AbstractEnvironment) -> bool:
        """Return whether the constraints hold in such an environment: by default one where a single player has every turn."""
        return turns_of(env) == {0}

    def sizes(self, env: AbstractEnvironment, *, learned_backward: bool = False) -> Sizes:
        """Return the sizes of a policy for an environment, with the heads that this objective needs."""
        return sizes_of(
            env, learned_backward=learned_backward, flow_head=self.needs.flow, child_flow_head=self.needs.child_flow
        )

    @abstractmethod
    def loss(
        self, model: Model, target: Model, env: AbstractEnvironment, batch: Trajectory, context: LossContext = NO_CONTEXT
    ) -> Float[Array, ""]:
        """Return the loss of a batch. Items whose `log_reward` is not finite count for nothing.

        Args:
            model: what is trained.
            target: its target copy; the model itself for an objective without one.
            env: the rules.
            batch: complete trajectories.
            context: what training gives beside them.
        """


class AbstractRegression(AbstractObjective):
    """An objective whose loss is a reduction of errors, so that it can be trained through a surrogate.

    The errors are predictions whose operator is the identity, and a forward step in them asks for `(1 - step_size)` times what
    they are (`narrows.vi`).
    """

    @abstractmethod
    def errors(
        self, model: Model, target: Model, env: AbstractEnvironment, batch: Trajectory, context: LossContext = NO_CONTEXT
    ) -> Residual:
        """Return the errors of a batch, arguments as in `loss`."""

    @abstractmethod
    def reduce(self, error: Float[Array, "*violation"], weight: Float[Array, "*violation"], total: Total) -> Float[Array, ""]:
        """Return one number from errors."""

    def loss(
        self, model: Model, target: Model, env: AbstractEnvironment, batch: Trajectory, context: LossContext = NO_CONTEXT
    ) -> Float[Array, ""]:
        return self.reduce(*self.errors(model, target, env, batch, context), context.total)


def usable(batch: Trajectory) -> tuple[Trajectory, Bool[Array, " batch"]]:
    """Return the batch with a harmless reward in place of each non-finite one, and which items may train."""
    is_usable = jnp.isfinite(batch.log_reward)
    return batch._replace(log_reward=jnp.where(is_usable, batch.log_reward, 0.0)), is_usable


def check_target_period(target_period: int | None) -> None:
    """Raise ValueError unless the updates between renewals of a target copy are at least 1."""
    if target_period is None or target_period < 1:
        raise ValueError(f"target_period must be at least 1, got {target_period}.")
