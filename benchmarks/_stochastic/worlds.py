"""DNA 8-mers in noise: the graph of one rate of it, the exact laws there, and the figures that laws are compared by."""

import functools
from pathlib import Path
from typing import NamedTuple

import jax
import numpy as np
from jaxtyping import Float

from benchmarks._stochastic import methods
from narrows.envs import Sequence, perturbed
from narrows.envs.perturbation import AbstractKernel, ReversiblePerturbed
from narrows.exact import (
    Graph,
    enumerate_graph,
    solve,
    solve_deconvolution,
    solve_noise_free,
    solve_stochastic_gflownet,
)
from narrows.metrics import entropy, mean_score, top_k_diversity, top_k_mean, total_variation
from narrows.metrics.exact import LogProbs
from narrows.noise import Substitution, fit_kernel, transitions
from narrows.operators import soft_bellman
from narrows.rewards.landscape import Landscape

FACTOR = "SIX6"
NUM_SAMPLES = 2048
NUM_BEST = 100
NUM_TRANSITIONS = 20_000
"""What the kernel is learned from: uniform play, once, before any training."""


class Figures(NamedTuple):
    """What a law is worth: mean score, entropy in nats, L1 distance to the target, and its best 100 of 2,048 samples."""

    mean: float
    entropy: float
    distance: float
    best_mean: float
    best_distance: float


class World(NamedTuple):
    """One rate of noise."""

    env: ReversiblePerturbed  # the 8-mers under the kernel
    reward: Landscape  # log y of an 8-mer, y its score scaled to 0..1
    graph: Graph  # its states
    log_scores: Float[np.ndarray, " terminal"]  # log y of each object, clamped
    scores: Float[np.ndarray, " terminal"]  # y of each object
    texts: tuple[str, ...]  # the objects

    def target(self, beta: float) -> LogProbs:
        """Return the law in proportion to the reward."""
        return beta * self.log_scores - np.logaddexp.reduce(beta * self.log_scores)

    def figures(self, log_probs: LogProbs, beta: float, seed: int) -> Figures:
        """Return what a law is worth at an exponent; only the best of the samples hang on the seed."""
        drawn = np.random.default_rng(seed).choice(
            len(self.texts), NUM_SAMPLES, p=np.exp(log_probs) / np.sum(np.exp(log_probs))
        )
        texts, scores = [self.texts[place] for place in drawn], self.scores[drawn]
        return Figures(
            mean_score(log_probs, self.scores),
            entropy(log_probs),
            2.0 * total_variation(log_probs, self.target(beta)),
            top_k_mean(scores, k=NUM_BEST),
            top_k_diversity(texts, scores, k=NUM_BEST),
        )

    def exact_law(self, name: str, beta: float) -> LogProbs:
        """Return one of the exact references."""
        log_reward = beta * self.log_scores
        if name == methods.EFLOW:
            return solve(self.graph, log_reward, soft_bellman()).log_probs
        if name == methods.MAXENT:
            return solve(self.graph, log_reward, soft_bellman(), averaging="value").log_probs
        if name == methods.NOISE_FREE:
            return solve_noise_free(self.graph, log_reward).log_probs
        if name == methods.CLIPPED:
            return solve_deconvolution(self.graph, log_reward).log_probs
        if name == methods.COMPROMISE:
            assert self.graph.chance_log_probs is not None, "a perturbed environment has chance turns"
            weights = np.where(self.graph.is_chance[:, None], np.exp(self.graph.chance_log_probs), 0.0)
            return solve_stochastic_gflownet(self.graph, log_reward, weights=weights).log_probs
        if name == methods.TARGET:
            return self.target(beta)
        assert name == methods.UNIFORM, f"there is no reference {name!r}"
        return np.full(len(self.texts), -np.log(len(self.texts)))


@functools.lru_cache(maxsize=1)
def world(path: Path, alpha: float) -> World:
    """Return the world of one rate of noise."""
    inner = Sequence("ACGT", 8, 8)
    reward = Landscape(inner, str(path), sequence_column="#1", score_column="E-score", both_strands=True, scale="log")
    env = perturbed(inner, Substitution(inner, alpha))
    assert isinstance(env, ReversiblePerturbed), "letters can be taken back"
    graph = enumerate_graph(env)
    log_scores = np.asarray(reward(graph.terminal_states.inner), np.float64)
    # The least score is 0; its logarithm was clamped.
    scores = np.where(log_scores > log_scores.min(), np.exp(log_scores), 0.0)
    return World(env, reward, graph, log_scores, scores, tuple(env.to_text(graph.terminal_states)))


def learned_kernel(env: ReversiblePerturbed, seed: int) -> AbstractKernel:
    """Return the kernel that cross-entropy finds in transitions of uniform play."""
    seen = transitions(jax.random.key(seed), env, NUM_TRANSITIONS)
    return fit_kernel(env.inner, seen.states, seen.asked, seen.came, seed=seed).kernel
