"""Value prediction by TD(0) and by its surrogates on stored transitions: one compiled program a method, a curve a run."""

import functools
import math
import time
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Float, Int

from narrows.vi import td
from narrows.vi.td.rollouts import Returns

Layers = list[tuple[Float[Array, "inputs outputs"], Float[Array, " outputs"]]]
_SMALLEST_SPREAD = 1e-2
_LARGEST_INPUT = 10.0
WINDOW = 5
"""Looks that an error is averaged over: single ones jump, and a value function on its way past the truth is no success."""


class Method(NamedTuple):
    """TD(0), or its surrogate."""

    inner_steps: int | None  # of the surrogate on each batch; None for semi-gradient TD(0)

    @property
    def name(self) -> str:
        """What tables call it."""
        return "TD(0)" if self.inner_steps is None else f"surrogate, m = {self.inner_steps}"

    @property
    def num_gradients(self) -> int:
        """Gradient steps on each batch."""
        return self.inner_steps or 1


TD0 = Method(None)


class Setting(NamedTuple):
    """What is tuned for each method: Adam's learning rate, and eta, which is 1 for TD(0)."""

    learning_rate: float
    step_size: float = 1.0


class Effort(NamedTuple):
    """What all methods share."""

    hidden: tuple[int, ...]  # widths of the network's hidden layers
    batch_size: int  # transitions in each batch, all fresh until the data are used up and shuffled anew
    num_gradients: int  # gradient steps of a run
    num_looks: int  # how often the error is looked at, evenly over the gradient steps
    discount: float  # gamma


class Data(NamedTuple):
    """A task, ready to learn from, and its true values, in the same units."""

    transitions: td.Transitions  # with normalised observations and rewards
    observation: Float[np.ndarray, "start features"]  # where values are known
    value: Float[np.ndarray, " start"]  # there
    spread: float  # standard deviation of the returns that the true values are the means of


class Curve(NamedTuple):
    """The error during a run, at its start and after every part of it."""

    transitions: Int[np.ndarray, " look"]  # drawn until then
    gradients: Int[np.ndarray, " look"]  # steps until then
    seconds: Float[np.ndarray, " look"]  # of training until then, without looks and compilation
    error: Float[np.ndarray, " look"]  # root mean squared error over the spread of the returns

    @property
    def smooth(self) -> Float[np.ndarray, " look"]:
        """The mean error over a look and those before it, `WINDOW` in all; infinite where it diverged or there are fewer."""
        means = np.convolve(self.error, np.full(WINDOW, 1.0 / WINDOW), "valid")
        return np.nan_to_num(np.concatenate([np.full(WINDOW - 1, np.inf), means]), nan=np.inf, posinf=np.inf)[: len(self.error)]

    @property
    def final(self) -> float:
        """The smooth error at the end."""
        return float(self.smooth[-1])

    def reaches(self, error: float) -> int | None:
        """Return the first look at which the smooth error is so small; None where there is none."""
        (places,) = np.nonzero(self.smooth <= error)
        return int(places[0]) if len(places) else None

    def until(self, gradients: int) -> "Curve":
        """Return the part of the curve up to so many gradient steps."""
        num = int(np.searchsorted(self.gradients, gradients, side="right"))
        return Curve(*(leaf[:num] for leaf in self))


def prepared(transitions: td.Transitions, truth: Returns, discount: float) -> Data:
    """Return a task with observations normalised and rewards scaled so that values are of the size of one.

    All methods get the same; errors are relative, so that the scale does not change them.
    """
    observed = np.asarray(transitions.observation)
    mean, spread = observed.mean(0), np.maximum(observed.std(0), _SMALLEST_SPREAD)

    def normalised(observation: Float[np.ndarray, "batch features"]) -> Float[np.ndarray, "batch features"]:
        return np.clip((observation - mean) / spread, -_LARGEST_INPUT, _LARGEST_INPUT).astype(np.float32)

    scale = (1.0 - discount) / float(np.sqrt(np.mean(np.square(transitions.reward))))
    scaled = transitions._replace(
        observation=normalised(observed),
        next_observation=normalised(np.asarray(transitions.next_observation)),
        reward=(scale * transitions.reward).astype(np.float32),
    )
    return Data(
        jax.tree.map(jnp.asarray, scaled),
        normalised(truth.observation),
        scale * truth.value,
        scale * float(truth.returns.std()),
    )


def network(key: Array, sizes: Sequence[int]) -> Layers:
    """Return weights for ReLU after each layer but the last (He et al. 2015), biases 0."""
    keys = jax.random.split(key, len(sizes) - 1)
    gains = [2.0] * (len(sizes) - 2) + [1.0]
    return [
        (jax.random.normal(key, (inputs, outputs)) * (gain / inputs) ** 0.5, jnp.zeros(outputs))
        for key, inputs, outputs, gain in zip(keys, sizes[:-1], sizes[1:], gains, strict=True)
    ]


def valued(params: Layers, observation: Float[Array, "batch features"]) -> Float[Array, " batch"]:
    """Return the value of each observation."""
    hidden = observation
    for weight, bias in params[:-1]:
        hidden = jax.nn.relu(hidden @ weight + bias)
    weight, bias = params[-1]
    return (hidden @ weight + bias)[:, 0]


def batches(num: int, batch_size: int, num_batches: int, seed: int) -> Int[np.ndarray, "step batch"]:
    """Return the places of the transitions of each batch: all of them once in a shuffled order, then again in another."""
    if num < batch_size:
        raise ValueError(f"a batch of {batch_size} needs as many transitions, got {num}. Collect more.")
    generator, per_pass = np.random.default_rng(seed), num // batch_size
    passes = [generator.permutation(num)[: per_pass * batch_size] for _ in range(-(-num_batches // per_pass))]
    return np.concatenate(passes).reshape(-1, batch_size)[:num_batches].astype(np.int32)


def trained(
    method: Method,
    setting: Setting,
    data: Data,
    effort: Effort,
    seed: int,
    *,
    until: float | None = None,
    at_least: int = 0,
    at_most: int | None = None,
) -> Curve:
    """Return the curve of one run.

    Args:
        method, setting, data, effort: what is trained, on what, for how long.
        seed: of the network and of the order of the transitions.
        until: a smooth error at which to stop; None to go on to the end.
        at_least: gradient steps before which it does not stop.
        at_most: gradient steps; None for those of `effort`.
    """
    per_part = max(effort.num_gradients // (effort.num_looks * method.num_gradients), 1)
    longest = effort.num_gradients if at_most is None else at_most
    num_parts = -(-longest // (per_part * method.num_gradients))
    order = batches(len(data.transitions.reward), effort.batch_size, per_part * num_parts, seed)
    parts = [jnp.asarray(part) for part in order.reshape(num_parts, per_part, -1)]
    numbers = [jnp.float32(value) for value in setting]
    params = network(jax.random.key(seed), (data.observation.shape[1], *effort.hidden, 1))
    state = learner(method, effort.discount, *numbers).init(params)
    # Compiled, and warm, before the clock starts.
    advance = functools.partial(_advanced, method, effort.discount)
    jax.block_until_ready(advance(numbers, params, state, data.transitions, parts[0]))
    seconds, errors = [0.0], [error_of(params, data)]
    for place, part in enumerate(parts, start=1):
        began = time.perf_counter()
        params, state = jax.block_until_ready(advance(numbers, params, state, data.transitions, part))
        seconds.append(seconds[-1] + time.perf_counter() - began)
        errors.append(error_of(params, data))
        is_reached = until is not None and float(np.mean(errors[-WINDOW:])) <= until and len(errors) >= WINDOW
        if is_reached and place * per_part * method.num_gradients >= at_least or not math.isfinite(errors[-1]):
            break
    steps = per_part * np.arange(len(errors))
    return Curve(steps * effort.batch_size, steps * method.num_gradients, np.array(seconds), np.array(errors))


def learner(method: Method, discount: float, learning_rate: float | Array, step_size: float | Array) -> td.Learner:
    """Return the library's learner of a method, with Adam inside, its state kept from batch to batch."""
    optimizer = optax.adam(learning_rate)
    if method.inner_steps is None:
        return td.semi_gradient_td0(valued, optimizer, discount=discount)
    return td.surrogate_td0(valued, optimizer, inner_steps=method.inner_steps, discount=discount, step_size=step_size)


def error_of(params: Layers, data: Data) -> float:
    """Return the root mean squared error over the spread of the returns."""
    return float(np.sqrt(np.mean((np.asarray(_looked(params, data.observation)) - data.value) ** 2)) / data.spread)


_looked = jax.jit(valued)


@functools.partial(jax.jit, static_argnums=(0, 1))
def _advanced(
    method: Method,
    discount: float,
    numbers: list[Float[Array, ""]],
    params: Layers,
    state: Any,
    transitions: td.Transitions,
    places: Int[Array, "step batch"],
) -> tuple[Layers, Any]:
    """Take a step on each batch. Rates are arguments, so that a method is compiled once."""
    made = learner(method, discount, *numbers)

    def step(carry: tuple[Layers, Any], chosen: Int[Array, " batch"]) -> tuple[tuple[Layers, Any], None]:
        params, state, _ = made.step(*carry, jax.tree.map(lambda leaf: leaf[chosen], transitions))
        return (params, state), None

    return jax.lax.scan(step, (params, state), places)[0]
