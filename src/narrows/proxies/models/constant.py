"""The mean of what was measured, against which every other model is judged."""

from typing import Any, Self, final

import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from narrows.data import Space
from narrows.proxies.models.base import AbstractModel


@final
class Constant(AbstractModel):
    """Predict the same for every sequence."""

    mean: Float[Array, ""]
    std: Float[Array, ""]

    def __call__(self, tokens: Int[Array, "batch length"]) -> tuple[Float[Array, " batch"], Float[Array, " batch"]]:
        return jnp.full(len(tokens), self.mean), jnp.full(len(tokens), self.std)

    def described(self) -> dict[str, Any]:
        return {}

    @classmethod
    def blank(cls, plain: dict[str, Any], space: Space) -> Self:
        if plain:
            raise ValueError("a constant has nothing to describe")
        return cls(jnp.zeros(()), jnp.zeros(()))
