"""Train all members of an ensemble at once: one compiled program, one bootstrap sample and one best epoch a member."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple, final

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Bool, Float, Int, PRNGKeyArray

from narrows.proxies.network import Network

LEARNING_RATE = 3e-3
WEIGHT_DECAY = 0.3
AVERAGING = 0.98
CLIP = 5.0
_CHUNK = 5
_MIN_STEPS = 16
_MAX_VALIDATION = 1024


@final
@dataclass(frozen=True)
class Epochs:
    """Progress of a training: epochs done and at most, and the members' mean squared error out of bag."""

    done: int
    at_most: int
    validation: float


@final
class Bags(NamedTuple):
    """The rows that each member learns from and those that validate it; `weight` is 0 where `validation` is filled up."""

    train: Int[np.ndarray, "member row"]
    validation: Int[np.ndarray, "member held"]
    weight: Float[np.ndarray, "member held"]


class _State(NamedTuple):
    members: Network
    optimiser: optax.OptState
    average: Network
    best: Network
    best_loss: Float[Array, " member"]
    best_epoch: Int[Array, " member"]
    num_steps: Int[Array, ""]


def draw_bags(allowed: Int[np.ndarray, " allowed"], num_rows: int, members: int, rng: np.random.Generator) -> Bags:
    """Return a bootstrap sample of the allowed rows for each member, and the rows it left out.

    Both are repeated to lengths that depend on `num_rows` alone: a second training on other rows of the same table then runs
    the same compiled program.
    """
    size = min(_MAX_VALIDATION, -(-num_rows // 2))
    train = np.empty((members, num_rows), np.int32)
    validation, weight = np.empty((members, size), np.int32), np.zeros((members, size), np.float32)
    for member in range(members):
        drawn = rng.choice(allowed, len(allowed))
        out_of_bag = rng.permutation(np.setdiff1d(allowed, drawn))[:size]
        if not len(out_of_bag):
            out_of_bag = allowed[:size]  # one sample in millions of a dozen rows leaves none out
        train[member] = np.resize(drawn, num_rows)
        validation[member] = np.resize(out_of_bag, size)
        weight[member, : len(out_of_bag)] = 1.0
    return Bags(train, validation, weight)


def train_members(
    members: Network,
    tokens: Int[np.ndarray, "row length"],
    targets: Float[np.ndarray, " row"],
    bags: Bags,
    key: PRNGKeyArray,
    *,
    max_epochs: int,
    patience: int,
    progress: Callable[[Epochs], None] | None = None,
) -> Network:
    """Return the members, each with the averaged parameters that did best on its own out-of-bag rows.

    AdamW on the squared error; an exponential average of the parameters is what is validated and kept. Training ends when no
    member has improved for `patience` epochs.

    Args:
        members: initialised networks, stacked.
        tokens, targets: all rows, the targets standardised.
        bags: rows for each member.
        key: order of the minibatches.
        max_epochs: passes over the rows, at most; an epoch has at least 16 steps.
        progress: called every few epochs.

    Raises ValueError where a member's error was never finite.
    """
    inputs = (jnp.asarray(tokens), jnp.asarray(targets, jnp.float32), *map(jnp.asarray, bags))
    state = _start(members)
    done = 0
    while done < max_epochs:
        num = min(_CHUNK, max_epochs - done)
        keys = jax.vmap(partial(jax.random.fold_in, key))(jnp.arange(done, done + _CHUNK))
        active = jnp.arange(_CHUNK) < num
        state, losses = _train_chunk(state, keys, active, jnp.asarray(done, jnp.int32), *inputs)
        done += num
        if progress is not None:
            progress(Epochs(done, max_epochs, float(losses[num - 1].mean())))
        if done - int(state.best_epoch.max()) >= patience:
            break
    if not np.isfinite(np.asarray(state.best_loss)).all():
        raise ValueError("training never gave a finite error. Look for scores that dwarf all others and leave them out.")
    return state.best


def _optimiser() -> optax.GradientTransformation:
    return optax.chain(optax.clip_by_global_norm(CLIP), optax.adamw(LEARNING_RATE, weight_decay=WEIGHT_DECAY))


@eqx.filter_jit
def _start(members: Network) -> _State:
    num = members.positions.shape[0]
    optimiser = eqx.filter_vmap(_optimiser().init)(members)
    infinite = jnp.full(num, jnp.inf, jnp.float32)
    return _State(members, optimiser, members, members, infinite, jnp.zeros(num, jnp.int32), jnp.zeros((), jnp.int32))


@eqx.filter_jit
def _train_chunk(
    state: _State,
    keys: PRNGKeyArray,
    active: Bool[Array, " epoch"],
    done: Int[Array, ""],
    tokens: Int[Array, "row length"],
    targets: Float[Array, " row"],
    train: Int[Array, "member row"],
    validation: Int[Array, "member held"],
    weight: Float[Array, "member held"],
) -> tuple[_State, Float[Array, "epoch member"]]:
    """Return the state after the active epochs of a chunk, and the validation losses."""

    def epoch(state: _State, inputs: tuple[Array, Array, Array]) -> tuple[_State, Array]:
        key, is_active, index = inputs

        def run(state: _State) -> tuple[_State, Array]:
            after = _epoch(state, key, tokens, targets, train)
            losses = jax.vmap(partial(_loss, tokens=tokens, targets=targets))(after.average, validation, weight)
            return _keep_best(after, losses, index), losses

        return jax.lax.cond(is_active, run, lambda state: (state, state.best_loss), state)

    return jax.lax.scan(epoch, state, (keys, active, done + 1 + jnp.arange(_CHUNK, dtype=jnp.int32)))


def _epoch(state: _State, key: PRNGKeyArray, tokens: Array, targets: Array, train: Array) -> _State:
    """Return the state after one epoch of steps, each on a minibatch drawn from a member's bag."""
    members, rows = train.shape
    batch = 64 if rows <= 10_000 else 256
    optimiser = _optimiser()

    def update(member: Any, memory: optax.OptState, picked: Array) -> tuple[Any, optax.OptState]:
        grads = jax.grad(_loss)(member, picked, jnp.ones(batch, jnp.float32), tokens=tokens, targets=targets)
        updates, memory = optimiser.update(grads, memory, member)
        return optax.apply_updates(member, updates), memory

    def step(state: _State, key: PRNGKeyArray) -> tuple[_State, None]:
        columns = jax.random.randint(key, (members, batch), 0, rows)
        stepped, memory = jax.vmap(update)(state.members, state.optimiser, jnp.take_along_axis(train, columns, axis=1))
        count = state.num_steps + 1
        # The average starts short, so that it does not remember the initial weights.
        decay = jnp.minimum(AVERAGING, count / (count + 9.0)).astype(jnp.float32)
        average = jax.tree.map(lambda old, new: decay * old + (1 - decay) * new, state.average, stepped)
        return state._replace(members=stepped, optimiser=memory, average=average, num_steps=count), None

    return jax.lax.scan(step, state, jax.random.split(key, max(_MIN_STEPS, -(-rows // batch))))[0]


def _keep_best(state: _State, losses: Float[Array, " member"], epoch: Int[Array, ""]) -> _State:
    is_better = losses < state.best_loss

    def pick(new: Array, old: Array) -> Array:
        return jnp.where(is_better.reshape(-1, *[1] * (new.ndim - 1)), new, old)

    return state._replace(
        best=jax.tree.map(pick, state.average, state.best),
        best_loss=jnp.where(is_better, losses, state.best_loss),
        best_epoch=jnp.where(is_better, epoch, state.best_epoch),
    )


def _loss(member: Network, rows: Array, weight: Array, *, tokens: Array, targets: Array) -> Float[Array, ""]:
    """Return the weighted mean squared error of one member on some rows."""
    errors = jax.vmap(member)(tokens[rows]) - targets[rows]
    return jnp.sum(weight * jnp.square(errors)) / jnp.sum(weight)
