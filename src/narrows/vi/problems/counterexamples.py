"""Markov reward processes that theory and practice are tried on, counter-examples to temporal differences among them."""

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from narrows.vi.problems.base import HiddenProblem, Problem
from narrows.vi.problems.bellman import LinearBellman, linear_bellman
from narrows.vi.problems.chains import Chain, markov_chain


def chain_100() -> LinearBellman:
    """Return CHAIN-100: 100 states that mostly stay as they are, 10 random features, discount 0.95 (surrogate 6.2).

    A slow chain in the manner of Yu and Bertsekas (2009, Example 3); theirs is not public, this one is drawn from seed 0.
    """
    rng = np.random.default_rng(0)
    mixing = rng.uniform(0.0, 1.0, (100, 100))
    mixing /= mixing.sum(1, keepdims=True)
    chain = markov_chain(0.1 * mixing + 0.9 * np.eye(100), rng.normal(size=100), 0.95)
    return linear_bellman(chain, np.concatenate([np.ones((100, 1)), rng.normal(size=(100, 9))], 1))


def two_state_off_policy(discount: float) -> LinearBellman:
    """Return two states with features 1 and 2, both of which move to the second, weighted alike (surrogate 6.5).

    The exact surrogate step multiplies the parameter by `1.2 gamma`, and TD(0) drifts away for `gamma > 5/6`: neither is cured
    by the other, since `T` is no contraction in this norm. With the chain's own weights both converge.
    """
    chain = markov_chain(np.array([[0.0, 1.0], [0.0, 1.0]]), np.zeros(2), discount)
    return linear_bellman(chain, np.array([[1.0], [2.0]]), np.array([0.5, 0.5]), start=np.ones(1))


def baird_star(discount: float = 0.99) -> LinearBellman:
    """Return Baird's star: seven states that all move to the last, eight features, weighted alike (Baird 1995).

    Features, discount and start are those of Sutton and Barto (2018, section 11.2). All values are 0, and the features can
    represent any values at all; expected TD(0) diverges even so, for every step size. The exact surrogate step is then value
    iteration and converges like `gamma^t`; two inner gradient steps of size `1 / lambda_max(B)` on each surrogate are enough.
    """
    transition = np.zeros((7, 7))
    transition[:, 6] = 1.0
    features = np.concatenate([2.0 * np.eye(7), np.ones((7, 1))], 1)
    features[6, 6:] = [1.0, 2.0]
    start = np.array([1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 10.0, 1.0])
    return linear_bellman(markov_chain(transition, np.zeros(7), discount), features, np.full(7, 1 / 7), start)


def random_walk(num_states: int = 5) -> LinearBellman:
    """Return Sutton's random walk: left or right alike, episodes end beyond either end, reward 1 beyond the right one.

    The features tell all states apart, and the value of state i is `i / (n + 1)`; episodes begin in the middle, at 1/2.
    (Sutton and Barto 2018, example 6.2.)

    Args:
        num_states: n, an odd number.
    """
    if num_states < 1 or num_states % 2 == 0:
        raise ValueError(f"num_states must be an odd number, so that there is a middle to begin in, got {num_states}.")
    transition = 0.5 * (np.eye(num_states, k=1) + np.eye(num_states, k=-1))
    reward, restart = np.zeros(num_states), np.zeros(num_states)
    reward[-1], restart[num_states // 2] = 0.5, 1.0
    chain = markov_chain(transition, reward, 1.0, restart)
    return linear_bellman(chain, np.eye(num_states), start=np.full(num_states, 0.5))


def spiral_chain(is_reversed: bool = False) -> Chain:
    """Return the chain of `spiral`: three states in a ring, to stay or to step back alike; forward where reversed."""
    step = np.roll(np.eye(3), 1 if is_reversed else -1, axis=1)
    return markov_chain(0.5 * np.eye(3) + 0.5 * step, np.zeros(3), 0.9)


def spiral(is_reversed: bool = False) -> HiddenProblem:
    """Return values on a spiral around their solution 0, `v = e^(0.05 theta) (a cos 0.866 theta - b sin 0.866 theta)`.

    The states are seen as often as they occur, all alike: use it with `batch_mean`. Even so TD(0) diverges, since the chain
    turns values the way the spiral unwinds; reversed it converges. What can be represented is no convex set, so no theory
    covers it: the best inner solution over a wide range of parameters shrinks either way. (Tsitsiklis and Van Roy 1997.)
    """
    chain = spiral_chain(is_reversed)
    first = np.array([100.0, -70.0, -30.0])
    second = (np.roll(first, -1) - np.roll(first, -2)) / np.sqrt(3.0)

    def predict(params: Float[Array, ""]) -> Float[Array, " state"]:
        near, far = (jnp.asarray(each, params.dtype) for each in (first, second))
        return jnp.exp(0.05 * params) * (near * jnp.cos(0.866 * params) - far * jnp.sin(0.866 * params))

    def operator(value: Float[Array, " state"]) -> Float[Array, " state"]:
        return value - chain.backup(value)

    # The operator is normal, so its constants are the least real part and the largest size of its eigenvalues.
    sizes = np.linalg.eigvals(np.eye(3) - chain.discount * chain.transition)
    start = jnp.zeros(())
    problem = Problem(operator, predict(start), jnp.zeros(3), float(sizes.real.min()), float(np.abs(sizes).max()))
    return HiddenProblem(predict, start, problem)
