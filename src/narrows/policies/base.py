"""The contract of a policy: one network, every head in one call, one step at a time or a whole trajectory at once."""

from abc import abstractmethod
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PyTree

from narrows.envs.base import features
from narrows.policies.sizes import Sizes

if TYPE_CHECKING:  # a type checker would read an AbstractVar as an argument of the constructor
    from typing import ClassVar as AbstractVar
else:
    from equinox import AbstractVar

Carry: TypeAlias = Any
"""The memory of a policy between steps: a pytree of arrays, `()` for a policy without memory."""


Residuals: TypeAlias = Any
"""Results of one step that are kept so that the gradient needs no second forward pass: a pytree of arrays, `()` for nothing."""


class PolicyOutput(NamedTuple):
    """Every head of a policy. Logits are unmasked: whoever reads them knows the state and its legal actions.

    `log_flow` is that of the state, `child_log_flow` that of the state which each action leads to once it takes place: at a
    chance turn one look at a state gives the flows of all outcomes, whose states would else have to be looked at one by one.
    """

    forward_logits: Float[Array, "*time action"]
    backward_logits: Float[Array, "*time backward_action"] | None = None
    log_flow: Float[Array, "*time"] | None = None
    child_log_flow: Float[Array, "*time action"] | None = None


class AbstractPolicy(eqx.Module):
    """A policy over one trajectory. `unroll` equals scanning `step`; a contract test says so.

    `backward_logits` is None for the uniform backward policy, `log_flow` and `child_log_flow` None for a policy without those
    heads.
    """

    @property
    @abstractmethod
    def has_backward_head(self) -> bool:
        """Whether there are `backward_logits`."""

    @property
    @abstractmethod
    def has_flow_head(self) -> bool:
        """Whether there is a `log_flow`."""

    @abstractmethod
    def start(self) -> Carry:
        """Return the memory before the first step."""

    @abstractmethod
    def step(self, carry: Carry, observation: PyTree[Array]) -> tuple[PolicyOutput, Carry]:
        """Return the heads for one observation and the memory after it."""

    def unroll(self, observations: PyTree[Array]) -> PolicyOutput:
        """Return the heads for the observations of whole trajectories: a leading `time` axis on every leaf, then the batch.

        A trajectory alone, without a batch axis, will do as well. Without an implementation of its own a policy steps.
        """
        return scan_unroll(self, observations)

    @property
    def has_child_flow_head(self) -> bool:
        """Whether there is a `child_log_flow`."""
        return False

    @property
    def has_memory(self) -> bool:
        """Whether a step depends on the ones before it."""
        return bool(jax.tree.leaves(jax.eval_shape(self.start)))

    @property
    def has_growing_memory(self) -> bool:
        """Whether a memory with room for fewer steps makes a step cheaper: `grow_cache` then gives one."""
        return False

    def grow_cache(self, carry: Carry, num_steps: int) -> Carry:
        """Return the memory, or a batch of them, with room for the first `num_steps` steps of a trajectory."""
        return carry

    def step_with_residuals(self, carry: Carry, observation: PyTree[Array]) -> tuple[PolicyOutput, Carry, Residuals]:
        """Return what `step` does, and what `unroll_from_residuals` will read."""
        output, carry = self.step(carry, observation)
        return output, carry, ()

    def unroll_from_residuals(self, observations: PyTree[Array], residuals: Residuals) -> PolicyOutput:
        """Return what `unroll` does with the same gradient, reading from the residuals what it would compute again."""
        return self.unroll(observations)


class AbstractNetwork(AbstractPolicy):
    """A policy whose heads are those that its `sizes` ask for."""

    sizes: AbstractVar[Sizes]

    @property
    def has_backward_head(self) -> bool:
        return self.sizes.num_backward_actions is not None

    @property
    def has_flow_head(self) -> bool:
        return self.sizes.flow_head

    @property
    def has_child_flow_head(self) -> bool:
        return self.sizes.child_flow_head


class Critics(eqx.Module):
    """The teachers of an actor: two networks whose forward logits are read as action values, and the weight of entropy.

    `log_temperature` is the logarithm of the entropy's weight in nats of reward.
    """

    networks: tuple[AbstractPolicy, AbstractPolicy]
    log_temperature: Float[Array, ""]


class Model(eqx.Module):
    """The trained parameters: a policy and, for objectives that learn them, the log-partition function and critics."""

    policy: AbstractPolicy
    log_z: Float[Array, ""]
    critics: Critics | None = None


class Scaled(AbstractPolicy):
    """A policy whose forward logits are `scale` times another's outputs.

    An objective with operator parameters reads a network's raw outputs as values Q and acts by `softmax((q alpha + omega) Q)`
    (tgm 3.2, parametrisation P1); this wrapper is that factor. With a `flow_scale` the log-flow is so many times the
    network's, for rewards whose logarithms are far from 1.
    """

    policy: AbstractPolicy
    scale: float = eqx.field(static=True)
    flow_scale: float = eqx.field(default=1.0, static=True)

    @property
    def has_backward_head(self) -> bool:
        return self.policy.has_backward_head

    @property
    def has_flow_head(self) -> bool:
        return self.policy.has_flow_head

    @property
    def has_child_flow_head(self) -> bool:
        return self.policy.has_child_flow_head

    def start(self) -> Carry:
        return self.policy.start()

    def step(self, carry: Carry, observation: PyTree[Array]) -> tuple[PolicyOutput, Carry]:
        output, carry = self.policy.step(carry, observation)
        return self._scale(output), carry

    def unroll(self, observations: PyTree[Array]) -> PolicyOutput:
        return self._scale(self.policy.unroll(observations))

    @property
    def has_growing_memory(self) -> bool:
        return self.policy.has_growing_memory

    def grow_cache(self, carry: Carry, num_steps: int) -> Carry:
        return self.policy.grow_cache(carry, num_steps)

    def step_with_residuals(self, carry: Carry, observation: PyTree[Array]) -> tuple[PolicyOutput, Carry, Residuals]:
        output, carry, residuals = self.policy.step_with_residuals(carry, observation)
        return self._scale(output), carry, residuals

    def unroll_from_residuals(self, observations: PyTree[Array], residuals: Residuals) -> PolicyOutput:
        return self._scale(self.policy.unroll_from_residuals(observations, residuals))

    def _scale(self, output: PolicyOutput) -> PolicyOutput:
        output = output._replace(forward_logits=self.scale * output.forward_logits)
        if output.log_flow is None or self.flow_scale == 1.0:
            return output
        return output._replace(log_flow=self.flow_scale * output.log_flow)


class Uniform(AbstractPolicy):
    """The policy that plays every legal action alike: no parameters, a baseline and a source of random objects."""

    num_actions: int = eqx.field(static=True)

    @property
    def has_backward_head(self) -> bool:
        return False

    @property
    def has_flow_head(self) -> bool:
        return False

    def start(self) -> Carry:
        return ()

    def step(self, carry: Carry, observation: PyTree[Array]) -> tuple[PolicyOutput, Carry]:
        return PolicyOutput(jnp.zeros(self.num_actions)), carry

    def unroll(self, observations: PyTree[Array]) -> PolicyOutput:
        return PolicyOutput(jnp.zeros((*features(observations).shape[:-1], self.num_actions)))


def scan_unroll(policy: AbstractPolicy, observations: PyTree[Array]) -> PolicyOutput:
    """Return what `policy.step` gives along trajectories: the definition that every `unroll` must agree with."""

    def along(observations: PyTree[Array]) -> PolicyOutput:
        def body(carry: Carry, observation: PyTree[Array]) -> tuple[Carry, PolicyOutput]:
            output, carry = policy.step(carry, observation)
            return carry, output

        return jax.lax.scan(body, policy.start(), observations)[1]

    is_batch = features(observations).ndim > 2
    return jax.vmap(along, in_axes=1, out_axes=1)(observations) if is_batch else along(observations)
