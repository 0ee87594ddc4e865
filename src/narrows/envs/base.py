"""The contract of rules: pure functions of one state. Batching is `jax.vmap` in `trajectories`, and nowhere else."""

from abc import abstractmethod
from collections.abc import Sequence as Objects
from typing import TYPE_CHECKING, Any, Generic, NamedTuple, TypeVar

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, PyTree

from narrows.distance import EDITS, AbstractDistance

if TYPE_CHECKING:  # a type checker would read an AbstractVar as an argument of the constructor
    from typing import ClassVar as AbstractVar
else:
    from equinox import AbstractVar

State = TypeVar("State")

CHANCE = -1
"""The value of `turn` where chance moves: outcomes are drawn from `chance_log_probs`, never from a policy."""


NO_ACTION = -1
"""The action of a trajectory after its end."""


class Prefix(NamedTuple):
    """The view that a policy has of a sequence under construction.

    `tokens` is the whole state, values in `[0, num_values)`; `last` is the newest token (`num_values - 1` before the first)
    and `position` how many there are, so that a policy with memory reads one token a step.
    """

    tokens: Int[Array, " feature"]
    last: Int[Array, ""]
    position: Int[Array, ""]


class AbstractEnvironment(eqx.Module, Generic[State]):
    """Deterministic rules over a finite action axis that players and chance share.

    `num_features` integers, each in `[0, num_values)`, describe a state to a policy. They come from `observe`, either bare or
    as the `tokens` of a `Prefix`.
    """

    num_actions: AbstractVar[int]
    max_steps: AbstractVar[int]
    num_features: AbstractVar[int]
    num_values: AbstractVar[int]

    @abstractmethod
    def reset(self) -> State:
        """Return the one initial state."""

    @abstractmethod
    def step(self, state: State, action: Int[Array, ""]) -> State:
        """Return the state after a legal action. The result for an illegal one is unspecified: nobody asks."""

    @abstractmethod
    def action_mask(self, state: State) -> Bool[Array, " action"]:
        """Return True for each legal action, all False in a terminal state."""

    @abstractmethod
    def is_terminal(self, state: State) -> Bool[Array, ""]:
        """Return whether the object is finished."""

    @abstractmethod
    def observe(self, state: State) -> PyTree[Array]:
        """Return what a policy sees of a state."""

    @abstractmethod
    def to_text(self, states: State) -> list[str]:
        """Return one line of text for each of a batch of terminal states: the objects as people and archives name them."""

    @abstractmethod
    def from_text(self, texts: Objects[str]) -> State:
        """Return the batch of terminal states that `to_text` names so; ValueError names the first text that is not one."""

    @property
    def distance(self) -> AbstractDistance:
        """The metric of objects by their texts, with its unit; edits of the text unless the rules have a better one."""
        return EDITS

    def states_along(self, actions: Int[Array, " time"]) -> State:
        """Return the `time + 1` states of one trajectory, from the initial one; after the end the last one repeats.

        Rules that know these states without stepping override this: a closed form costs a fraction of a scan.
        """

        def advance(state: State, action: Int[Array, ""]) -> tuple[State, State]:
            stepped = self.step(state, jnp.maximum(action, 0))
            state = jax.tree.map(lambda old, new: jnp.where(action == NO_ACTION, old, new), state, stepped)
            return state, state

        start = self.reset()
        _, states = jax.lax.scan(advance, start, actions)
        return jax.tree.map(lambda first, rest: jnp.concatenate([jnp.asarray(first)[None], rest]), start, states)

    def turn(self, state: State) -> Int[Array, ""]:
        """Return whose turn it is: player 0, player 1 or `CHANCE`."""
        return jnp.zeros((), jnp.int32)

    def chance_log_probs(self, state: State) -> Float[Array, " action"]:
        """Return log-probabilities of the outcomes; read at `CHANCE` turns only."""
        return jnp.where(self.action_mask(state), 0.0, -jnp.inf)


class AbstractReversibleEnvironment(AbstractEnvironment[State]):
    """Rules of a directed acyclic graph whose moves can be undone, which is what a backward policy acts on."""

    num_backward_actions: AbstractVar[int]

    @abstractmethod
    def backward_step(self, state: State, backward_action: Int[Array, ""]) -> State:
        """Return the parent that a legal backward action leads to."""

    @abstractmethod
    def backward_mask(self, state: State) -> Bool[Array, " backward_action"]:
        """Return True for each parent of a state, all False in the initial one."""

    @abstractmethod
    def backward_action(self, state: State, action: Int[Array, ""]) -> Int[Array, ""]:
        """Return the backward action that leads from `step(state, action)` back to `state`."""

    @abstractmethod
    def forward_action(self, state: State, backward_action: Int[Array, ""]) -> Int[Array, ""]:
        """Return the action that leads from `backward_step(state, backward_action)` forth to `state`."""


def features(observation: Any) -> Int[Array, "*time feature"]:
    """Return the integers that describe a state, or each of several, whichever form the observation has."""
    return observation.tokens if isinstance(observation, Prefix) else observation
