"""What an objective is: a batch of trajectories -> one number to minimise."""

from abc import abstractmethod
from typing import TYPE_CHECKING

import equinox as eqx
from jaxtyping import Array, Float

from narrows.envs.base import AbstractEnvironment
from narrows.operators import GeneralMellowmax
from narrows.policies.base import Model
from narrows.trajectories import Trajectory

if TYPE_CHECKING:  # a type checker would read an AbstractVar as an argument of the constructor
    from typing import ClassVar as AbstractVar
else:
    from equinox import AbstractVar


class AbstractObjective(eqx.Module):
    """A loss whose minimiser is the policy of `operator` (`exact.solve` gives it where states can be enumerated).

    `needs_flow` asks for a policy with a `log_flow` head; `target_period` is the number of updates after which the target
    copy of the model is renewed, None for an objective without one; `trains_backward` says whether a learned backward policy
    gets a gradient, and `min_batch_size` how many trajectories one loss takes at least.
    """

    operator: AbstractVar[GeneralMellowmax]
    needs_flow: AbstractVar[bool]
    target_period: AbstractVar[int | None]
    trains_backward: AbstractVar[bool]
    min_batch_size: AbstractVar[int]

    @abstractmethod
    def loss(self, model: Model, target: Model, env: AbstractEnvironment, batch: Trajectory) -> Float[Array, ""]:
        """Return the loss of a batch. Items whose `log_reward` is not finite count for nothing."""
