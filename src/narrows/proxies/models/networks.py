"""The bagged networks: small convolutional ones, each trained on its own bootstrap sample."""

from typing import Any, Self, final

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, PRNGKeyArray

from narrows.data import Space
from narrows.proxies import network
from narrows.proxies.bagging import draw_bags, train_members
from narrows.proxies.models.base import AbstractModel, Lesson
from narrows.proxies.network import Network

_SIZES = ("CHANNELS", "FIRST_WINDOW", "WINDOW", "NUM_RESIDUAL", "POSITION_UNITS", "HIDDEN")
MEMBERS, EPOCHS, PATIENCE = 5, 100, 10


@final
class Networks(AbstractModel):
    """Predict by the mean of several networks, unsure by their spread.

    Args:
        networks: `K` networks, their leaves stacked along a leading axis.
    """

    networks: Network

    def __call__(self, tokens: Int[Array, "batch length"]) -> tuple[Float[Array, " batch"], Float[Array, " batch"]]:
        outputs = self.members(tokens)
        return jnp.mean(outputs, axis=0), jnp.std(outputs, axis=0)

    def members(self, tokens: Int[Array, "batch length"]) -> Float[Array, "member batch"]:
        return eqx.filter_vmap(lambda member: jax.vmap(member)(tokens))(self.networks)

    def described(self) -> dict[str, Any]:
        return {"members": self.networks.positions.shape[0], **sizes()}

    @classmethod
    def blank(cls, plain: dict[str, Any], space: Space) -> Self:
        match plain:
            case {"members": int(members), **rest} if rest == sizes() and members >= 2:
                return cls(make_networks(space, members, jax.random.key(0)))
        raise ValueError(f"this Narrows has networks of {sizes()}")


def sizes() -> dict[str, int]:
    """Return the sizes that the networks of this version have."""
    return {name.lower(): getattr(network, name) for name in _SIZES}


@eqx.filter_jit  # op by op it would compile fifty small programs
def make_networks(space: Space, num: int, key: PRNGKeyArray) -> Network:
    """Return `num` freshly initialised networks, stacked."""
    return eqx.filter_vmap(lambda one: Network(len(space.alphabet), space.max_length, key=one))(jax.random.split(key, num))


def train(lesson: Lesson, num_rows: int) -> Networks:
    """Return networks that have learned from some rows, by a program whose size depends on `num_rows` alone."""
    init_key, batch_key = jax.random.split(jax.random.key(lesson.seed))
    rows = np.arange(len(lesson.scores))
    bags = draw_bags(rows, num_rows, MEMBERS, np.random.default_rng(lesson.seed))
    padding = ((0, num_rows - len(rows)), (0, 0))
    tokens = np.pad(lesson.tokens, padding, constant_values=len(lesson.space.alphabet))
    scores = np.pad(lesson.scores, padding[0])
    trained = train_members(
        make_networks(lesson.space, MEMBERS, init_key), tokens, scores, bags, batch_key, max_epochs=EPOCHS, patience=PATIENCE
    )
    return Networks(trained)
