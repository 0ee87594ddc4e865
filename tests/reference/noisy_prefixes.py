"""Words of one length over noisy letters, a second way: an array over `[letter] * length` for each length of prefix.

Letter c takes place of letter a with probability `(1 - rate) [c = a] + rate / letters` (eflow 4.1). Everything of
eflow 7.4 follows from sums over the last axis.
"""

import numpy as np

Layers = list[np.ndarray]


def letter_kernel(num_letters: int, rate: float) -> np.ndarray:
    """Return P(what takes place | asked), asked first."""
    return (1.0 - rate) * np.eye(num_letters) + rate / num_letters


def _layers(last: np.ndarray, up) -> Layers:
    """Return the prefixes' values of every length, the empty word's first; `up` takes an array over words one longer."""
    layers = [last]
    while layers[0].ndim:
        layers.insert(0, up(layers[0]))
    return layers


def expected_flow_policy(log_reward: np.ndarray, rate: float) -> tuple[float, Layers]:
    """Return log Z and pi(a | prefix) of the expected flow network."""
    kernel = letter_kernel(log_reward.shape[0], rate)
    flows = _layers(np.exp(log_reward), lambda below: np.sum(below @ kernel.T, axis=-1))
    asked = [below @ kernel.T for below in flows[1:]]
    return float(np.log(flows[0])), [row / np.sum(row, axis=-1, keepdims=True) for row in asked]


def soft_policy(log_reward: np.ndarray, rate: float) -> Layers:
    """Return pi(a | prefix) of maximum-entropy reinforcement learning."""
    kernel = letter_kernel(log_reward.shape[0], rate)
    values = _layers(log_reward, lambda below: np.logaddexp.reduce(below @ kernel.T, axis=-1))
    asked = [below @ kernel.T for below in values[1:]]
    return [np.exp(row - np.logaddexp.reduce(row, axis=-1)[..., None]) for row in asked]


def target_conditionals(log_reward: np.ndarray) -> Layers:
    """Return p(letter | prefix) of the law proportional to the reward: the noise-free policy."""
    log_masses = _layers(log_reward, lambda below: np.logaddexp.reduce(below, axis=-1))
    return [np.exp(below - above[..., None]) for above, below in zip(log_masses[:-1], log_masses[1:], strict=True)]


def clipped_policy(log_reward: np.ndarray, rate: float) -> tuple[float, Layers]:
    """Return the share of letters whose conditional is below `rate / letters`, and the clipped deconvolution (eflow 2.5)."""
    conditionals = target_conditionals(log_reward)
    num_letters = log_reward.shape[0]
    num_below = sum(int(np.sum(row < rate / num_letters - 1e-12)) for row in conditionals)
    clipped = [np.maximum((row - rate / num_letters) / (1.0 - rate), 0.0) for row in conditionals]
    share = num_below / sum(row.size for row in conditionals)
    return share, [row / np.sum(row, axis=-1, keepdims=True) for row in clipped]


def noisy_law(policy: Layers, rate: float) -> np.ndarray:
    """Return the probability of each word when a policy's letters go through the noise."""
    law = np.ones(())
    for row in policy:
        law = law[..., None] * (row @ letter_kernel(row.shape[-1], rate))
    return law
