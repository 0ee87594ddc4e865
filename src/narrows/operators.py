"""The operators that turn the values of a state's actions into the value of the state.

Every method of the flow family is one equation (`general mellowmax`, Jiralerspong et al. 2025, arXiv:2506.17007, eq. 6):

    M(Q) = (1/omega) log sum_a d_a^q exp(omega Q_a),    d = softmax(alpha Q)
    pi   = softmax((q alpha + omega) Q)

with soft Bellman (q = 0), mellowmax (q = 1, alpha = 0) and soft mellowmax (q = 1) as named cases. All functions act on the
last axis and take a mask that is True where an action is legal.
"""

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

Values = Float[Array, "*batch action"]
Mask = Bool[Array, "*batch action"]
Value = Float[Array, "*batch"]


def masked_log_softmax(logits: Values, mask: Mask) -> Values:
    """Return log-probabilities over the legal actions and `-inf` elsewhere.

    A row without any legal action (a finished trajectory's) yields zeros, finite in value and gradient, so that it can be
    selected away afterwards.

    >>> jnp.exp(masked_log_softmax(jnp.zeros(3), jnp.array([True, False, True]))).tolist()
    [0.5, 0.0, 0.5]
    """
    is_row_empty = ~jnp.any(mask, axis=-1, keepdims=True)
    safe_mask = mask | is_row_empty
    # The finite stand-in keeps gradients of illegal logits zero rather than NaN.
    log_probs = jax.nn.log_softmax(jnp.where(safe_mask, logits, jnp.finfo(logits.dtype).min), axis=-1)
    return jnp.where(is_row_empty, 0.0, jnp.where(safe_mask, log_probs, -jnp.inf))


def masked_logsumexp(values: Values, mask: Mask) -> Value:
    """Return `log sum exp` over the legal actions, shape `[*batch]`; at least one action must be legal."""
    return jax.nn.logsumexp(jnp.where(mask, values, -jnp.inf), axis=-1)


def maximum(values: Values, mask: Mask) -> Value:
    """Return the largest legal value, shape `[*batch]`."""
    return jnp.max(jnp.where(mask, values, -jnp.inf), axis=-1)


class Maximum(eqx.Module):
    """The hard maximum and its policy, uniform over the maximisers: where every operator here goes as omega grows."""

    @property
    def omega(self) -> float:
        return float("inf")

    @property
    def policy_scale(self) -> float:
        """What a network's outputs are multiplied by: 1, for values of any scale have the same maximum."""
        return 1.0

    def value(self, values: Values, mask: Mask) -> Value:
        """Return the largest legal value, shape `[*batch]`."""
        return maximum(values, mask)

    def log_policy(self, values: Values, mask: Mask) -> Values:
        """Return `-log k` on each of the `k` maximisers, `-inf` elsewhere."""
        is_best = mask & (values == maximum(values, mask)[..., None])
        return masked_log_softmax(jnp.zeros_like(values), is_best)


class GeneralMellowmax(eqx.Module):
    """The general mellowmax and its policy, with the parameters that choose the named cases.

    Args:
        omega: inverse temperature of the regularisation, > 0.
        alpha: inverse temperature of the reference distribution `d = softmax(alpha Q)`, >= 0.
        q: trade-off between entropy (0) and pull towards `d` (1), in [0, 1].

    Raises ValueError for parameters outside these ranges.
    """

    omega: float = eqx.field(default=1.0, static=True)
    alpha: float = eqx.field(default=1.0, static=True)
    q: float = eqx.field(default=0.0, static=True)

    def __check_init__(self) -> None:
        if not 0.0 < self.omega < float("inf"):
            raise ValueError(f"omega must be positive and finite, got {self.omega}. It is an inverse temperature; try 1.")
        if not 0.0 <= self.alpha < float("inf"):
            raise ValueError(f"alpha must be at least 0 and finite, got {self.alpha}. The published setting is 1.")
        if not 0.0 <= self.q <= 1.0:
            raise ValueError(f"q must lie in [0, 1], got {self.q}. 0 is a GFlowNet, 1 is soft mellowmax.")

    @property
    def policy_scale(self) -> float:
        """The factor `q alpha + omega` that turns values into the logits of the policy."""
        return self.q * self.alpha + self.omega

    def value(self, values: Values, mask: Mask) -> Value:
        """Return `(LSE((q alpha + omega) Q) - q LSE(alpha Q)) / omega`, the stable form, shape `[*batch]`."""
        soft = masked_logsumexp(self.policy_scale * values, mask)
        if self.q == 0.0:
            return soft / self.omega
        return (soft - self.q * masked_logsumexp(self.alpha * values, mask)) / self.omega

    def log_policy(self, values: Values, mask: Mask) -> Values:
        """Return `log softmax((q alpha + omega) Q)` over legal actions, `-inf` elsewhere."""
        return masked_log_softmax(self.policy_scale * values, mask)

    def log_reference(self, values: Values, mask: Mask) -> Values:
        """Return `log d = log softmax(alpha Q)` over legal actions, `-inf` elsewhere."""
        return masked_log_softmax(self.alpha * values, mask)


def soft_bellman(omega: float = 1.0) -> GeneralMellowmax:
    """Return the soft Bellman operator `(1/omega) LSE(omega Q)`, the GFlowNet's."""
    return GeneralMellowmax(omega=omega, alpha=0.0, q=0.0)


def mellowmax(omega: float = 1.0) -> GeneralMellowmax:
    """Return mellowmax `(1/omega) log mean exp(omega Q)` (Asadi and Littman 2017)."""
    return GeneralMellowmax(omega=omega, alpha=0.0, q=1.0)


def soft_mellowmax(omega: float = 1.0, alpha: float = 1.0) -> GeneralMellowmax:
    """Return soft mellowmax `(1/omega) log <softmax(alpha Q), exp(omega Q)>` (Gan et al. 2021)."""
    return GeneralMellowmax(omega=omega, alpha=alpha, q=1.0)
