"""Scales of scores: a Gaussian process may see them as they are or in logarithms.

By rank was tried: likelihood prefers it wherever most scores are near the lowest, and it cannot tell good from very good.
"""

import abc
import math
from typing import Any, ClassVar, final

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

_SHIFTS = (0.02, 0.1, 0.5)
"""Standard deviations above the lowest score at which a logarithm begins."""


class AbstractWarp(eqx.Module):
    """A monotone map from standardised scores to a scale on which errors are Gaussian, and back."""

    name: ClassVar[str]

    @abc.abstractmethod
    def there(self, scores: Float[np.ndarray, " row"]) -> tuple[Float[np.ndarray, " row"], Float[np.ndarray, " row"]]:
        """Return scores on the other scale, and the logarithm of the slope there."""

    @abc.abstractmethod
    def undo(self, values: Float[Array, " batch"]) -> Float[Array, " batch"]:
        """Return the scores of values on the other scale."""

    def back(
        self, mean: Float[Array, " batch"], std: Float[Array, " batch"]
    ) -> tuple[Float[Array, " batch"], Float[Array, " batch"]]:
        """Return the median score, and half the width of the interval within one standard deviation."""
        return self.undo(mean), 0.5 * (self.undo(mean + std) - self.undo(mean - std))

    @abc.abstractmethod
    def described(self) -> dict[str, Any]:
        """Return values for JSON that `read_warp` reads."""


@final
class Identity(AbstractWarp):
    """Scores as they are."""

    name: ClassVar[str] = "as they are"

    def there(self, scores: Float[np.ndarray, " row"]) -> tuple[Float[np.ndarray, " row"], Float[np.ndarray, " row"]]:
        return scores, np.zeros_like(scores)

    def undo(self, values: Float[Array, " batch"]) -> Float[Array, " batch"]:
        return values

    def back(
        self, mean: Float[Array, " batch"], std: Float[Array, " batch"]
    ) -> tuple[Float[Array, " batch"], Float[Array, " batch"]]:
        return mean, std

    def described(self) -> dict[str, Any]:
        return {"kind": self.name}


@final
class Logarithm(AbstractWarp):
    """The logarithm of the score above a number; scores at or below it count as little above.

    Beyond the highest measured score, `top` on this scale, the way back is straight: an exponential would promise anything.
    """

    name: ClassVar[str] = "in logs"
    zero: float = eqx.field(static=True)
    least: float = eqx.field(static=True)
    top: float = eqx.field(static=True)

    def there(self, scores: Float[np.ndarray, " row"]) -> tuple[Float[np.ndarray, " row"], Float[np.ndarray, " row"]]:
        logs = np.log(np.maximum(scores - self.zero, self.least))
        return logs, -logs

    def undo(self, values: Float[Array, " batch"]) -> Float[Array, " batch"]:
        return self.zero + jnp.exp(jnp.minimum(values, self.top)) * (1.0 + jnp.maximum(values - self.top, 0.0))

    def described(self) -> dict[str, Any]:
        return {"kind": self.name, "zero": self.zero, "least": self.least, "top": self.top}


def candidates(scores: Float[np.ndarray, " row"]) -> list[AbstractWarp]:
    """Return the scales that are worth a try for some scores."""
    found: list[AbstractWarp] = [Identity()]
    low, spread = float(scores.min()), float(scores.std())
    for shift in _SHIFTS:
        zero = low - shift * spread
        found.append(Logarithm(zero, shift * spread, math.log(float(scores.max()) - zero)))
    return found


def read_warp(plain: dict[str, Any]) -> AbstractWarp:
    """Return the scale that `described` wrote; ValueError for anything else."""
    match plain:
        case {"kind": Identity.name}:
            return Identity()
        case {"kind": Logarithm.name, "zero": float(zero), "least": float(least), "top": float(top)} if least > 0:
            return Logarithm(zero, least, top)
    raise ValueError("this is no scale of scores")
