"""Our worker: the public training loop as a user would call it."""

import importlib.metadata
import os
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from benchmarks._speed import problem as given
from benchmarks._speed.problem import Problem
from benchmarks._speed.protocol import Answer, main
from narrows.envs import AbstractEnvironment, BitSequence, Hypergrid, Sequence
from narrows.envs.sequence import SequenceState
from narrows.objectives import AbstractObjective, DetailedBalance, TrajectoryBalance
from narrows.policies import MLP, AbstractPolicy, Transformer, sizes_of
from narrows.rewards import AbstractReward, HypergridReward
from narrows.training import Chunk, Row, adam, run, simulate, trainer
from narrows.trajectories import sample

_OBJECTS_AT_ONCE = 1000


class NearestMode(AbstractReward):
    """Minus the share of bits in which a string differs from the nearest mode, times an exponent: gfnx's bit reward.

    Our own `BitModes` measures Levenshtein's distance, as the published task does; the peer has Hamming's only.
    """

    modes: np.ndarray

    def __call__(self, states: SequenceState) -> Float[Array, " batch"]:
        shifts = jnp.arange(given.WORD_BITS - 1, -1, -1)
        bits = ((states.tokens[..., None] >> shifts) & 1).reshape(states.tokens.shape[0], -1)
        differing = jnp.sum(bits[:, None, :] != self.modes[None], axis=-1)
        return -given.BITS_EXPONENT * jnp.min(differing, axis=-1) / self.modes.shape[-1]


class PairScore(AbstractReward):
    """A table's scores of neighbouring letters, added up and divided by the greatest length."""

    table: np.ndarray

    def __call__(self, states: SequenceState) -> Float[Array, " batch"]:
        first, second = states.tokens[:, :-1], states.tokens[:, 1:]
        is_pair = jnp.arange(1, states.tokens.shape[1]) < states.length[:, None]
        letters = len(self.table) - 1
        scores = jnp.asarray(self.table)[jnp.minimum(first, letters), jnp.minimum(second, letters)]
        return given.PAIR_EXPONENT / states.tokens.shape[1] * jnp.sum(jnp.where(is_pair, scores, 0.0), axis=-1)


class Listed(AbstractReward):
    """A score for every sequence of a length, in the order of the sequences."""

    scores: np.ndarray
    num_letters: int

    def __call__(self, states: SequenceState) -> Float[Array, " batch"]:
        weights = self.num_letters ** jnp.arange(states.tokens.shape[1] - 1, -1, -1)
        return given.DNA_EXPONENT * jnp.asarray(self.scores)[states.tokens @ weights]


class Ours:
    """One problem, solved by this library."""

    def __init__(self, problem: Problem, devices: int | None = None) -> None:
        """Build the problem for so many devices; None for one a core, as far as they can share the batch."""
        num = len(os.sched_getaffinity(0)) if devices is None else devices
        num = num if problem.batch % num == 0 else 1
        simulate(num)
        self.problem = problem
        self.env, reward = _environment(problem)
        self.trainer = trainer(
            self.env,
            lambda key: _policy(problem, self.env, key),
            reward,
            _objective(problem),
            adam(problem.learning_rate, problem.log_z_learning_rate, clip=given.CLIP),
            batch_size=problem.batch,
            devices=num,
        )
        self.state = self.trainer.init(jax.random.key(problem.seed))
        self.model = None
        self.last: Chunk | None = None
        self._draw = jax.jit(self._batches)
        self._some = jax.jit(lambda key, model: sample(key, model, self.env, _OBJECTS_AT_ONCE).terminal)

    def versions(self) -> dict[str, str]:
        return {name: importlib.metadata.version(name) for name in ("narrows", "jax", "equinox", "optax")}

    def train(self, iterations: int) -> Answer:
        end = int(self.state.step) + iterations
        self.state, history = run(self.trainer, self.state, end, every=self.problem.chunk, observers=[self._keep])
        losses = [float(row["loss"]) for row in history]
        return {"loss": float(np.mean(losses)), "decisions": self._decisions()}

    def snapshot(self) -> None:
        self.model = jax.tree.map(jnp.copy, self.state.model)

    def objects(self, num: int, path: Path) -> None:
        model = self.state.model if self.model is None else self.model
        rounds = -(-num // _OBJECTS_AT_ONCE)
        found = [self._integers(self._some(jax.random.key(1000 + round), model)) for round in range(rounds)]
        np.save(path, np.concatenate(found)[:num])

    def sample(self, batches: int) -> None:
        jax.block_until_ready(self._draw(jax.random.key(7), self.state.model, batches))

    def _batches(self, key: Array, model: Any, batches: int) -> Array:
        def one(index: Array, total: Array) -> Array:
            trajectory = sample(jax.random.fold_in(key, index), model, self.env, self.problem.batch)
            return total + jnp.sum(trajectory.actions)  # so that no part of it is left out

        return jax.lax.fori_loop(0, batches, one, jnp.zeros((), jnp.int32))

    def _keep(self, chunk: Chunk) -> Row:
        self.last = chunk
        return {}

    def _decisions(self) -> float:
        assert self.last is not None, "train has run"
        terminal: Any = jax.tree.map(lambda leaf: leaf.reshape(-1, *leaf.shape[2:]), self.last.info.terminal)
        if self.problem.space == "hypergrid":
            return float(np.mean(np.sum(terminal.coordinates, axis=-1)) + 1)
        ends = terminal.length < self.problem.num_places if self.problem.space == "peptides" else 0
        return float(np.mean(terminal.length + ends))

    def _integers(self, terminal: Any) -> np.ndarray:
        if self.problem.space == "hypergrid":
            return np.asarray(terminal.coordinates, np.int32)
        tokens = np.asarray(terminal.tokens, np.int32)
        return np.where(np.arange(tokens.shape[1]) < np.asarray(terminal.length)[:, None], tokens, -1)


def _environment(problem: Problem) -> tuple[AbstractEnvironment, AbstractReward]:
    if problem.space == "hypergrid":
        env = Hypergrid(given.HYPERGRID_NDIM, problem.size)
        return env, HypergridReward(env, **given.HYPERGRID_REWARD)
    if problem.space == "bits":
        return BitSequence(problem.size, given.WORD_BITS), NearestMode(np.asarray(given.modes(problem.size), bool))
    if problem.space == "dna8":
        assert problem.table is not None, "whoever asks for dna8 names its table"
        return Sequence(given.BASES, 8, 8), Listed(np.load(problem.table), len(given.BASES))
    if problem.space == "bits_any_order":
        return BitSequence(problem.size, given.WORD_BITS), NearestMode(np.asarray(given.modes(problem.size), bool))
    alphabet = given.AMINO_ACIDS if problem.space == "peptides" else given.BASES
    shortest = 0 if problem.space == "peptides" else problem.size
    table = np.asarray(given.pair_scores(len(alphabet)), np.float32)
    return Sequence(alphabet, shortest, problem.size), PairScore(table)


def _policy(problem: Problem, env: AbstractEnvironment, key: Array) -> AbstractPolicy:
    sizes = sizes_of(env, flow_head=problem.objective == "db")
    if problem.network == "mlp":
        return MLP(sizes, hidden=given.HIDDEN, depth=given.DEPTH, key=key)
    return Transformer(
        sizes,
        layers=given.LAYERS,
        width=given.WIDTH,
        heads=given.HEADS,
        feed_forward=given.FEED_FORWARD,
        key=key,
    )


def _objective(problem: Problem) -> AbstractObjective:
    return DetailedBalance() if problem.objective == "db" else TrajectoryBalance()


if __name__ == "__main__":
    main(Ours)
