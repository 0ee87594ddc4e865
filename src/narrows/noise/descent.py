"""Train the network of a kernel: AdamW on the cross-entropy, stopped by transitions that are set aside."""

from functools import partial
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Bool, Float, Int, PRNGKeyArray

from narrows.noise.dataset import Transitions, mean_surprise
from narrows.noise.kinds import same_kind
from narrows.noise.learned import Corrected, Correction, Frequencies, inputs_of
from narrows.operators import masked_log_softmax

LEARNING_RATE = 1e-3
WEIGHT_DECAY = 1.0
"""Decoupled from the gradient (AdamW): a thousandth a step, without which states seen a few times are learned by heart."""

BATCH = 256
PATIENCE = 8
"""Epochs without a better cross-entropy on the transitions set aside after which training ends."""

VALIDATED = 0.15
"""Share of the transitions that is set aside."""


class _Progress(NamedTuple):
    epoch: Int[Array, ""]
    network: Any
    optimiser: optax.OptState
    best: Correction
    best_loss: Float[Array, ""]
    best_epoch: Int[Array, ""]


def train_correction(base: Frequencies, transitions: Transitions, hidden: int, max_epochs: int, key: PRNGKeyArray) -> Corrected:
    """Return `base` corrected by a network that learned from transitions, in a random order already, by cross-entropy.

    Some of them are set aside: the network is the one of the epoch that predicted these best, and training ends when several
    epochs in a row did not improve on it. Before the first epoch it is as good as `base`.

    Args:
        base: the kernel that does not depend on the state.
        transitions: at least two.
        hidden: width of the network.
        max_epochs: passes over the transitions, at most.
        key: initial weights and minibatches.
    """
    init_key, train_key = jax.random.split(key)
    num = len(transitions.asked)
    num_validated = min(max(round(VALIDATED * num), 1), num - 1)
    validation = jax.tree.map(lambda leaf: leaf[:num_validated], transitions)
    training = jax.tree.map(lambda leaf: leaf[num_validated:], transitions)
    at_most = jnp.asarray(max_epochs, jnp.int32)
    network = _descend(base, Correction(base.env, hidden, init_key), training, validation, train_key, at_most)
    return Corrected(base, network)


@eqx.filter_jit
def _descend(
    base: Frequencies,
    network: Any,
    training: Transitions,
    validation: Transitions,
    key: PRNGKeyArray,
    max_epochs: Int[Array, ""],
) -> Correction:
    """Return the network of the epoch that predicted `validation` best; all epochs are one compiled program."""
    optimiser = optax.adamw(LEARNING_RATE, weight_decay=WEIGHT_DECAY)
    num = training.asked.shape[0]
    num_steps = -(-num // BATCH)

    def loss(network: Correction, rows: Int[Array, " row"]) -> Float[Array, ""]:
        batch = jax.tree.map(lambda leaf: leaf[rows], training)
        # The network reads the batch as one matrix: under vmap the gradient of its weights would be made row by row.
        inputs = jax.vmap(partial(inputs_of, base.env))(batch.states)
        is_same_kind = jax.vmap(partial(same_kind, base.env))(batch.states, batch.asked)
        log_probs = masked_log_softmax(Corrected(base, network).logits(inputs, batch.asked), is_same_kind)
        return -jnp.mean(jnp.take_along_axis(log_probs, batch.came[:, None], axis=1))

    def step(carry: tuple[Any, optax.OptState], key: PRNGKeyArray) -> tuple[tuple[Any, optax.OptState], None]:
        network, memory = carry
        grads = jax.grad(loss)(network, jax.random.randint(key, (min(BATCH, num),), 0, num))
        updates, memory = optimiser.update(grads, memory, network)
        return (optax.apply_updates(network, updates), memory), None

    def epoch(now: _Progress) -> _Progress:
        keys = jax.random.split(jax.random.fold_in(key, now.epoch), num_steps)
        (network, memory), _ = jax.lax.scan(step, (now.network, now.optimiser), keys)
        found = mean_surprise(Corrected(base, network), validation)
        is_better = found < now.best_loss
        best = jax.tree.map(partial(jnp.where, is_better), network, now.best)
        best_epoch = jnp.where(is_better, now.epoch + 1, now.best_epoch)
        return _Progress(now.epoch + 1, network, memory, best, jnp.minimum(found, now.best_loss), best_epoch)

    def goes_on(now: _Progress) -> Bool[Array, ""]:
        return (now.epoch < max_epochs) & (now.epoch - now.best_epoch < PATIENCE)

    zero = jnp.zeros((), jnp.int32)
    first_loss = mean_surprise(Corrected(base, network), validation)
    start = _Progress(zero, network, optimiser.init(network), network, first_loss, zero)
    return jax.lax.while_loop(goes_on, epoch, start).best
