"""Rules whose moves do not always turn out as asked: after each of a player's actions chance has a turn of its own."""

from abc import abstractmethod
from collections.abc import Sequence as Objects
from typing import TYPE_CHECKING, Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, PyTree

from narrows.distance import AbstractDistance
from narrows.envs.base import CHANCE, NO_ACTION, AbstractEnvironment, AbstractReversibleEnvironment
from narrows.envs.turns import turns_of

if TYPE_CHECKING:  # a type checker would read an AbstractVar as an argument of the constructor
    from typing import ClassVar as AbstractVar
else:
    from equinox import AbstractVar


class AbstractKernel(eqx.Module):
    """The distribution of the action that takes place, for every state and action asked for."""

    @abstractmethod
    def log_probs(self, state: Any, action: Int[Array, ""]) -> Float[Array, " action"]:
        """Return `log P(what takes place | state, asked)` over the environment's actions, `-inf` where it cannot.

        `state` is one of the environment that is perturbed, `action` a legal one in it. Probabilities sum to one and only
        legal actions have any: `check_chance` on the perturbed environment says where they do not.
        """

    def all_log_probs(self, state: Any) -> Float[Array, "asked action"]:
        """Return `log_probs` of every action asked for, a row each; the rows of illegal ones are unspecified.

        Kernels whose rows share work override this.
        """
        num_actions = jax.eval_shape(self.log_probs, state, jax.ShapeDtypeStruct((), jnp.int32)).shape[0]
        return jax.vmap(self.log_probs, in_axes=(None, 0))(state, jnp.arange(num_actions, dtype=jnp.int32))


class PerturbedState(NamedTuple):
    """`asked` is the action whose outcome chance is about to draw, `NO_ACTION` where it is a player's turn or all is over."""

    inner: Any
    asked: Int[Array, "*batch"]


class AbstractPerturbed(AbstractEnvironment[PerturbedState]):
    """Another environment in which a kernel decides what becomes of each action (eflow 1.1).

    Turns alternate: a player asks for an action, then the action that takes place is drawn from the kernel, over the same axis,
    and acts by the environment's own rules. So trajectories have what was asked for at even times and what took place at odd
    ones, and objects and their texts are the environment's own. On chance's turn a policy sees what it saw before it.
    """

    inner: AbstractVar[AbstractEnvironment]
    kernel: AbstractVar[AbstractKernel]

    def __check_init__(self) -> None:
        if CHANCE in turns_of(self.inner):
            raise ValueError(f"{type(self.inner).__name__} has chance turns of its own. Build the noise into its kernel.")
        given = jax.eval_shape(self.kernel.log_probs, self.inner.reset(), jax.ShapeDtypeStruct((), jnp.int32))
        if given.shape != (self.inner.num_actions,) or not jnp.issubdtype(given.dtype, jnp.floating):
            raise ValueError(
                f"{type(self.kernel).__name__} gives {given.dtype} of shape {given.shape}, expected a real number for each of "
                f"the {self.inner.num_actions} actions of {type(self.inner).__name__}. Build it for this environment."
            )

    @property
    def num_actions(self) -> int:
        return self.inner.num_actions

    @property
    def max_steps(self) -> int:
        return 2 * self.inner.max_steps

    @property
    def num_features(self) -> int:
        return self.inner.num_features

    @property
    def num_values(self) -> int:
        return self.inner.num_values

    def reset(self) -> PerturbedState:
        return PerturbedState(self.inner.reset(), jnp.full((), NO_ACTION, jnp.int32))

    def step(self, state: PerturbedState, action: Int[Array, ""]) -> PerturbedState:
        is_asking = state.asked == NO_ACTION
        moved = self.inner.step(state.inner, action)
        inner = jax.tree.map(lambda old, new: jnp.where(is_asking, old, new), state.inner, moved)
        return PerturbedState(inner, jnp.where(is_asking, action, NO_ACTION).astype(jnp.int32))

    def action_mask(self, state: PerturbedState) -> Bool[Array, " action"]:
        is_possible = self.chance_log_probs(state) > -jnp.inf
        return self.inner.action_mask(state.inner) & (is_possible | (state.asked == NO_ACTION))

    def is_terminal(self, state: PerturbedState) -> Bool[Array, ""]:
        return self.inner.is_terminal(state.inner)

    def observe(self, state: PerturbedState) -> PyTree[Array]:
        return self.inner.observe(state.inner)

    def turn(self, state: PerturbedState) -> Int[Array, ""]:
        return jnp.where(state.asked == NO_ACTION, self.inner.turn(state.inner), CHANCE).astype(jnp.int32)

    def chance_log_probs(self, state: PerturbedState) -> Float[Array, " action"]:
        return self.kernel.log_probs(state.inner, jnp.maximum(state.asked, 0))

    def states_along(self, actions: Int[Array, " time"]) -> PerturbedState:
        asked, came = actions[0::2], actions[1::2]
        inner = self.inner.states_along(came)
        # Each of the environment's states is met twice, before the asking and after it, and the last one once more.
        twice = jax.tree.map(lambda leaf: jnp.repeat(leaf, 2, axis=0)[:-1], inner)
        waiting = jnp.stack([jnp.full_like(asked, NO_ACTION), asked], axis=1).reshape(-1)
        return PerturbedState(twice, jnp.append(waiting, jnp.asarray(NO_ACTION, waiting.dtype)))

    @property
    def distance(self) -> AbstractDistance:
        return self.inner.distance

    def to_text(self, states: PerturbedState) -> list[str]:
        return self.inner.to_text(states.inner)

    def from_text(self, texts: Objects[str]) -> PerturbedState:
        return PerturbedState(self.inner.from_text(texts), jnp.full(len(texts), NO_ACTION, jnp.int32))


class Perturbed(AbstractPerturbed):
    """Any environment under a kernel; `perturbed` gives one whose moves can be undone where the environment's can.

    Args:
        inner: the rules; players and moves, no chance of their own.
        kernel: what becomes of each action.

    Raises ValueError for an environment that has chance turns and for a kernel of another number of actions.
    """

    inner: AbstractEnvironment
    kernel: AbstractKernel


class ReversiblePerturbed(AbstractPerturbed, AbstractReversibleEnvironment[PerturbedState]):
    """A reversible environment under a kernel. What was asked for is part of the way back.

    At a player's turn backward action `b * num_actions + a` undoes the environment's `b`, for which `a` had been asked; on
    chance's turn the only one, 0, takes the asking back.

    Args:
        inner: the rules; players and moves, no chance of their own.
        kernel: what becomes of each action.

    Raises ValueError for an environment that has chance turns and for a kernel of another number of actions.
    """

    inner: AbstractReversibleEnvironment
    kernel: AbstractKernel

    @property
    def num_backward_actions(self) -> int:
        return self.inner.num_backward_actions * self.inner.num_actions

    def backward_step(self, state: PerturbedState, backward_action: Int[Array, ""]) -> PerturbedState:
        undo, asked = jnp.divmod(backward_action, self.num_actions)
        is_asking = state.asked == NO_ACTION
        parent = self.inner.backward_step(state.inner, undo)
        inner = jax.tree.map(lambda old, new: jnp.where(is_asking, new, old), state.inner, parent)
        return PerturbedState(inner, jnp.where(is_asking, asked, NO_ACTION).astype(jnp.int32))

    def backward_mask(self, state: PerturbedState) -> Bool[Array, " backward_action"]:
        def askable(undo: Int[Array, ""]) -> Bool[Array, " action"]:
            parent, came = self.inner.backward_step(state.inner, undo), self.inner.forward_action(state.inner, undo)
            return self.inner.action_mask(parent) & (self.kernel.all_log_probs(parent)[:, came] > -jnp.inf)

        undos = jnp.arange(self.inner.num_backward_actions, dtype=jnp.int32)
        is_legal = (self.inner.backward_mask(state.inner)[:, None] & jax.vmap(askable)(undos)).reshape(-1)
        return jnp.where(state.asked == NO_ACTION, is_legal, jnp.arange(self.num_backward_actions) == 0)

    def backward_action(self, state: PerturbedState, action: Int[Array, ""]) -> Int[Array, ""]:
        undo = self.inner.backward_action(state.inner, action) * self.num_actions + state.asked
        return jnp.where(state.asked == NO_ACTION, 0, undo).astype(jnp.int32)

    def forward_action(self, state: PerturbedState, backward_action: Int[Array, ""]) -> Int[Array, ""]:
        came = self.inner.forward_action(state.inner, backward_action // self.num_actions)
        return jnp.where(state.asked == NO_ACTION, came, state.asked).astype(jnp.int32)


def perturbed(env: AbstractEnvironment, kernel: AbstractKernel) -> Perturbed | ReversiblePerturbed:
    """Return an environment under a kernel, one whose moves can be undone where the environment's can."""
    if isinstance(env, AbstractReversibleEnvironment):
        return ReversiblePerturbed(env, kernel)
    return Perturbed(env, kernel)
