"""What an objective is: a batch of trajectories -> one number to minimise."""

from abc import abstractmethod
from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple

import equinox as eqx
from jaxtyping import Array, Float, Key

from narrows.envs.base import AbstractEnvironment
from narrows.envs.turns import turns_of
from narrows.operators import GeneralMellowmax, Maximum
from narrows.policies.base import Model
from narrows.rewards.base import AbstractReward
from narrows.trajectories import Record, Trajectory

if TYPE_CHECKING:  # a type checker would read an AbstractVar as an argument of the constructor
    from typing import ClassVar as AbstractVar
else:
    from equinox import AbstractVar


Total = Callable[[Float[Array, "*sums"]], Float[Array, "*sums"]]
"""From sums over the items at hand to sums over all items of a batch, wherever they are."""


def here(part: Float[Array, "*sums"]) -> Float[Array, "*sums"]:
    """Return the sums as they are: the `Total` of a batch that is all at hand."""
    return part


class Aids(NamedTuple):
    """What a training step lends to a loss beside the batch.

    Attributes:
        record: what the sampler kept of the first trajectories of the batch under this very model.
        total: makes sums over these items sums over the batch, of which other devices may have the rest. A loss takes its
            means from such sums; no sum through which a gradient flows may go into another.
        reward: the log-reward of any finished object, where that can be had inside a compiled step; else None, and the batch's
            own log-rewards are all that is known.
        keys: randomness for each item of the batch, for an objective that draws, `needs_keys`; None for the others.
    """

    record: Record | None = None
    total: Total = here
    reward: AbstractReward | None = None
    keys: Key[Array, " batch"] | None = None


ALONE = Aids()
"""No aids: a loss then computes everything itself."""


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


class Residual(NamedTuple):
    """Errors that an objective brings to zero, and how much each counts."""

    error: Float[Array, "*batch violation"]
    weight: Float[Array, "*batch violation"]


class AbstractObjective(eqx.Module):
    """A loss whose minimiser is the policy of `operator` (`exact.solve` gives it where states can be enumerated).

    `needs_flow` and `needs_child_flow` ask for a policy with those heads; `needs_keys` says whether the loss draws random
    numbers; `target_period` is the number of updates after which the target copy of the model is renewed, None for an objective
    without one; `trains_backward` says whether a learned backward policy gets a gradient, and `min_batch_size` how many
    trajectories one loss takes at least. `needs_critics` asks for a model with `Critics`, `is_on_policy` for trajectories of
    the model alone, and `passes` says how each batch is used.
    """

    operator: AbstractVar[GeneralMellowmax | Maximum]
    needs_flow: AbstractVar[bool]
    needs_child_flow: AbstractVar[bool]
    needs_keys: AbstractVar[bool]
    target_period: AbstractVar[int | None]
    trains_backward: AbstractVar[bool]
    min_batch_size: AbstractVar[int]

    @property
    def needs_critics(self) -> bool:
        """Whether the model must have critics: by default not."""
        return False

    @property
    def is_on_policy(self) -> bool:
        """Whether other trajectories than the model's own would teach it wrong: by default not."""
        return False

    @property
    def passes(self) -> "Passes":
        """How often a batch is gone through, and in how many parts: by default once, as a whole."""
        return Passes()

    def accounts_for(self, env: AbstractEnvironment) -> bool:
        """Return whether the constraints hold in such an environment: by default one where a single player has every turn."""
        return turns_of(env) == {0}

    @abstractmethod
    def loss(
        self,
        model: Model,
        target: Model,
        env: AbstractEnvironment,
        batch: Trajectory,
        aids: Aids = ALONE,
    ) -> Float[Array, ""]:
        """Return the loss of a batch. Items whose `log_reward` is not finite count for nothing.

        Args:
            model: what is trained.
            target: its target copy; the model itself for an objective without one.
            env: the rules.
            batch: complete trajectories.
            aids: what training lends beside them.
        """


class AbstractRegression(AbstractObjective):
    """An objective whose loss is a reduction of errors, so that it can be trained through a surrogate.

    `loss` is `reduce(*errors(...))`. The errors are predictions whose operator is the identity, and a forward step in them asks
    for `(1 - step_size)` times what they are (`narrows.vi`).
    """

    @abstractmethod
    def errors(self, model: Model, target: Model, env: AbstractEnvironment, batch: Trajectory, aids: Aids = ALONE) -> Residual:
        """Return the errors of a batch, arguments as in `loss`."""

    @abstractmethod
    def reduce(self, error: Float[Array, "*violation"], weight: Float[Array, "*violation"], total: Total) -> Float[Array, ""]:
        """Return one number from errors."""
