"""What a policy is: one network, every head in one call, one step at a time or a whole trajectory at once."""

from abc import abstractmethod
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PyTree

if TYPE_CHECKING:  # a type checker would read an AbstractVar as an argument of the constructor
    from typing import ClassVar as AbstractVar
else:
    from equinox import AbstractVar

Carry: TypeAlias = Any
"""What a policy remembers between steps: a pytree of arrays, `()` for a policy without memory."""


class PolicyOutput(NamedTuple):
    """Every head of a policy. Logits are unmasked: whoever reads them knows the state and its legal actions."""

    forward_logits: Float[Array, "*time action"]
    backward_logits: Float[Array, "*time backward_action"] | None = None
    log_flow: Float[Array, "*time"] | None = None


class AbstractPolicy(eqx.Module):
    """A policy over one trajectory. `unroll` equals scanning `step`; a contract test says so.

    `backward_logits` is None for the uniform backward policy, `log_flow` None for a policy without that head.
    """

    has_backward_head: AbstractVar[bool]
    has_flow_head: AbstractVar[bool]

    @abstractmethod
    def start(self) -> Carry:
        """Return the memory before the first step."""

    @abstractmethod
    def step(self, carry: Carry, observation: PyTree[Array]) -> tuple[PolicyOutput, Carry]:
        """Return the heads for one observation and the memory after it."""

    @abstractmethod
    def unroll(self, observations: PyTree[Array]) -> PolicyOutput:
        """Return the heads for the observations of a whole trajectory, a leading `time` axis on every leaf."""


class Model(eqx.Module):
    """What is trained: a policy and, for the objectives that learn it, the log-partition function of the target."""

    policy: AbstractPolicy
    log_z: Float[Array, ""]


class Scaled(AbstractPolicy):
    """A policy whose forward logits are `scale` times another's outputs.

    An objective with operator parameters reads a network's raw outputs as values Q and acts by `softmax((q alpha + omega) Q)`
    (tgm section 3.2, parametrisation P1); this wrapper is that factor.
    """

    policy: AbstractPolicy
    scale: float = eqx.field(static=True)
    has_backward_head: bool = eqx.field(static=True)
    has_flow_head: bool = eqx.field(static=True)

    def __init__(self, policy: AbstractPolicy, scale: float) -> None:
        self.policy = policy
        self.scale = scale
        self.has_backward_head = policy.has_backward_head
        self.has_flow_head = policy.has_flow_head

    def start(self) -> Carry:
        return self.policy.start()

    def step(self, carry: Carry, observation: PyTree[Array]) -> tuple[PolicyOutput, Carry]:
        output, carry = self.policy.step(carry, observation)
        return self._scale(output), carry

    def unroll(self, observations: PyTree[Array]) -> PolicyOutput:
        return self._scale(self.policy.unroll(observations))

    def _scale(self, output: PolicyOutput) -> PolicyOutput:
        return output._replace(forward_logits=self.scale * output.forward_logits)


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
        time = jax.tree.leaves(observations)[0].shape[0]
        return PolicyOutput(jnp.zeros((time, self.num_actions)))


def scan_unroll(policy: AbstractPolicy, observations: PyTree[Array]) -> PolicyOutput:
    """Return what `policy.step` gives along a trajectory: the definition that every `unroll` must agree with."""

    def body(carry: Carry, observation: PyTree[Array]) -> tuple[Carry, PolicyOutput]:
        output, carry = policy.step(carry, observation)
        return carry, output

    return jax.lax.scan(body, policy.start(), observations)[1]
