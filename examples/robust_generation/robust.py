"""Generate against a reward adversary: a min-max problem, solved exactly and by a network through a surrogate.

Forty noisy measurements of RNA-like strings give a score r and how unsure it is, sigma. An adversary may lower the score of
object x by `budget * sigma(x) * u(x)`, its u in the unit ball; the generator, a law p over objects, wants

    max over p, min over u of   <p, r - budget sigma u>  -  diversity / 2 ||p||^2  +  caution / 2 ||u||^2

where `||p||^2` is the probability that two draws are the same. In z = (p, u) it is a strongly monotone variational inequality.
In the parameters of a network that samples letter by letter it is not, which is what surrogates are for (arXiv:2411.05228).

    python examples/robust_generation/robust.py [--seed 0]
"""

import argparse
import itertools
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from narrows import vi
from narrows.envs import Sequence
from narrows.operators import masked_log_softmax
from narrows.policies import MLP, sizes_of
from narrows.policies.base import Model
from narrows.trajectories import follow, gather

LETTERS, LENGTH = "ACGU", 4
BUDGET, DIVERSITY, CAUTION = 4.0, 6.0, 0.5
NUM_MEASURED, NOISE, PRIOR = 40, 0.3, 1.0


class Task(NamedTuple):
    """What is known of every string: the score and its standard deviation; and what is not, the truth."""

    score: np.ndarray
    sigma: np.ndarray
    truth: np.ndarray


class Outcome(NamedTuple):
    """A law over all strings, judged: numbers of its mean draw, and how many strings it is effectively spread over."""

    law: np.ndarray
    believed: float
    worst: float
    true: float
    num_effective: float


def features() -> np.ndarray:
    """Return one-hot letters and pairs of neighbouring letters of all strings, `[string, feature]`."""
    strings = np.array(list(itertools.product(range(len(LETTERS)), repeat=LENGTH)))
    single = np.eye(len(LETTERS))[strings]
    pairs = np.einsum("sia,sib->siab", single[:, :-1], single[:, 1:])
    return np.concatenate([single.reshape(len(strings), -1), pairs.reshape(len(strings), -1)], axis=1)


def make_task(seed: int) -> Task:
    """Measure few strings of a random landscape, those that begin alike first, and fit Bayesian linear regression to them."""
    generator, inputs = np.random.default_rng(seed), features()
    truth = inputs @ generator.normal(size=inputs.shape[1]) * 0.5
    # Strings that begin with the same letter are four times as likely to have been measured: far from there the fit is unsure.
    odds = np.where(np.arange(len(inputs)) < len(inputs) // len(LETTERS), 4.0, 1.0)
    measured = generator.choice(len(inputs), NUM_MEASURED, replace=False, p=odds / odds.sum())
    scores = truth[measured] + NOISE * generator.normal(size=NUM_MEASURED)
    rows = inputs[measured]
    covariance = np.linalg.inv(rows.T @ rows / NOISE**2 + np.eye(rows.shape[1]) / PRIOR**2)
    sigma = np.sqrt(np.einsum("sf,fg,sg->s", inputs, covariance, inputs))
    return Task(inputs @ covariance @ rows.T @ scores / NOISE**2, sigma, truth)


def field(task: Task, budget: float):
    """Return the operator of the game: the generator's negative gradient, then the adversary's."""
    score, sigma = jnp.asarray(task.score), jnp.asarray(task.sigma)

    def operator(z):
        law, blow = z
        return DIVERSITY * law - (score - budget * sigma * blow), CAUTION * blow - budget * sigma * law

    return operator


def exactly(task: Task, budget: float) -> np.ndarray:
    """Return the law at the solution, by extragradient in prediction space."""
    lipschitz = max(DIVERSITY, CAUTION) + budget * float(task.sigma.max())
    start = jnp.full(len(task.score), 1.0 / len(task.score)), jnp.zeros(len(task.score))
    method, project = vi.extragradient(0.5 / lipschitz), vi.product(vi.simplex, vi.ball(1.0))
    found = vi.solve(field(task, budget), start, method, project=project, max_steps=100_000, tol=1e-4)
    if found.result != vi.Result.CONVERGED:
        raise RuntimeError(found.message)
    return np.asarray(found.value[0])


def by_network(task: Task, budget: float, num_steps: int, seed: int = 0) -> np.ndarray:
    """Return the law of a network that adds letter by letter, trained through a surrogate of extragradient."""
    env = Sequence(LETTERS, LENGTH, LENGTH)
    actions = jnp.asarray(list(itertools.product(range(len(LETTERS)), repeat=LENGTH)))
    policy = MLP(sizes_of(env), hidden=32, key=jax.random.key(seed))

    def predict(params):
        """Return both players' moves: the law of the policy over all strings, and a blow inside the unit ball."""
        policy, blow = params
        path = follow(Model(policy, jnp.zeros(())), env, actions)
        log_pf = gather(masked_log_softmax(path.forward_logits, path.action_mask), path.actions)
        return jnp.exp(log_pf.sum(axis=0)), blow / jnp.sqrt(1.0 + jnp.sum(blow**2))

    params = policy, jnp.zeros(len(task.score))
    step_size = 0.5 / (max(DIVERSITY, CAUTION) + budget * float(task.sigma.max()))
    method = vi.surrogate(vi.extragradient(step_size), optax.adam(0.02), inner_steps=5, normalise=True)
    operator = field(task, budget)

    def once(carry, _):
        params, state, info = method.step(predict, operator, *carry)
        return (params, state), info.result

    start = params, method.init(params, predict(params))
    (params, _), results = jax.jit(lambda start: jax.lax.scan(once, start, length=num_steps))(start)
    if vi.Result(int(results.max())).is_failure:
        raise RuntimeError(vi.Result(int(results.max())).message)
    return np.asarray(predict(params)[0])


def judge(task: Task, law: np.ndarray) -> Outcome:
    """Return what a law is worth; the worst case over the ball is `<p, r> - budget ||sigma p||`."""
    believed = float(law @ task.score)
    worst = believed - BUDGET * float(np.linalg.norm(task.sigma * law))
    return Outcome(law, believed, worst, float(law @ task.truth), 1.0 / float(law @ law))


def trusting(task: Task, diversity: float = DIVERSITY) -> np.ndarray:
    """Return the law that is best without an adversary: the maximum of a concave parabola over the simplex is a projection."""
    return np.asarray(vi.simplex(jnp.asarray(task.score / diversity)))


def as_spread_as(task: Task, num_effective: float) -> np.ndarray:
    """Return the law without an adversary that is as spread as another: the fair control."""
    low, high = 1e-2, 1e4
    for _ in range(25):
        middle = (low * high) ** 0.5
        low, high = (middle, high) if judge(task, trusting(task, middle)).num_effective < num_effective else (low, middle)
    return trusting(task, (low * high) ** 0.5)


def compare(seed: int = 0, num_steps: int = 400) -> dict[str, Outcome]:
    """Return the laws of one task, judged."""
    task = make_task(seed)
    robust = judge(task, exactly(task, BUDGET))
    return {
        "believes the score": judge(task, trusting(task)),
        "the same, as spread as robust": judge(task, as_spread_as(task, robust.num_effective)),
        "robust, exact": robust,
        "robust, by a network": judge(task, by_network(task, BUDGET, num_steps)),
    }


def main() -> None:
    """Print the table of one seed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seed", type=int, default=0)
    found = compare(parser.parse_args().seed)
    print(f"{'law':32}{'believed':>10}{'worst case':>12}{'true':>8}{'strings':>9}")
    for name, outcome in found.items():
        print(f"{name:32}{outcome.believed:10.2f}{outcome.worst:12.2f}{outcome.true:8.2f}{outcome.num_effective:9.1f}")


if __name__ == "__main__":
    main()
