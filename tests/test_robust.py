"""Laws tgm T8 and T9: the operator as a game against an adversarial reward, and its place on the Gibbs frontier."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.optimize import brentq, minimize
from scipy.special import softmax
from tests.reference.tgm import log_soft, solve_tree, worst_case_reward
from tests.reference.trees import hand_size_tree

from narrows.operators import GeneralMellowmax

Q1 = np.array([1.0, 0.5, -0.2])
EXPONENTS = (0.0, 0.25, 0.5, 0.75, 1.0)


@pytest.fixture(autouse=True, scope="module")
def double_precision():
    with jax.enable_x64(True):
        yield


def apply(operator, q_values):
    """Return the operator's value, policy and reference distribution."""
    values, mask = jnp.asarray(q_values), jnp.ones(len(q_values), bool)
    log_policy, log_reference = operator.log_policy(values, mask), operator.log_reference(values, mask)
    return float(operator.value(values, mask)), np.exp(log_policy), np.exp(log_reference)


def regulariser(policy, reference, omega, q):
    return np.sum(policy * (np.log(policy) - q * np.log(reference))) / omega


def minimise(policy, reference, omega, q, bound):
    """Return the numerical minimum of `<policy, delta>` over `sum reference^q exp(-omega delta) <= bound`."""

    def slack(delta):
        return 1.0 - np.sum(reference**q * np.exp(-omega * delta)) / bound

    def slack_gradient(delta):
        return omega * reference**q * np.exp(-omega * delta) / bound

    constraint = {"type": "ineq", "fun": slack, "jac": slack_gradient}
    # A start inside the set, equal for all actions.
    start = np.full(len(policy), np.log(2 * np.sum(reference**q) / bound) / omega)
    options = {"ftol": 1e-14, "maxiter": 1000}
    return minimize(lambda delta: policy @ delta, start, jac=lambda _: policy, constraints=constraint, options=options)


@pytest.mark.parametrize("seed", range(12))
def test_t8_worst_case_is_the_regulariser(seed):
    generator = np.random.default_rng(seed)
    policy, reference = generator.dirichlet(np.full(4, 3.0), size=2)
    q, omega = generator.random(), generator.uniform(0.5, 3.0)
    penalty = regulariser(policy, reference, omega, q)
    closed_form = worst_case_reward(policy, reference, omega, q)
    assert np.sum(reference**q * np.exp(-omega * closed_form)) == pytest.approx(1.0, abs=1e-12)
    found = minimise(policy, reference, omega, q, bound=1.0)
    assert found.fun == pytest.approx(-penalty, abs=1e-6)
    np.testing.assert_allclose(found.x, closed_form, atol=2e-3)
    # Another bound shifts the value by its logarithm.
    bound = generator.uniform(0.3, 4.0)
    shifted = minimise(policy, reference, omega, q, bound)
    assert shifted.fun == pytest.approx(-penalty - np.log(bound) / omega, abs=1e-6)


@pytest.mark.parametrize("seed", range(6))
def test_t8_the_operator_is_the_value_of_the_game(seed):
    generator = np.random.default_rng(seed)
    q_values = generator.normal(size=5)
    operator = GeneralMellowmax(generator.uniform(0.5, 4.0), generator.uniform(0.0, 3.0), generator.random())
    value, policy, reference = apply(operator, q_values)
    worst = worst_case_reward(policy, reference, operator.omega, operator.q)
    # The adversary makes the policy indifferent, and no other policy does better against its best answer.
    np.testing.assert_allclose(q_values + worst, value, atol=1e-10)
    for other in generator.dirichlet(np.ones(5), size=20):
        answer = worst_case_reward(other, reference, operator.omega, operator.q)
        assert other @ (q_values + answer) <= value + 1e-10


def test_t8_figures():
    value, policy, reference = apply(GeneralMellowmax(2.0, 1.0, 0.5), Q1)
    worst = worst_case_reward(policy, reference, 2.0, 0.5)
    np.testing.assert_allclose(worst, [-0.016529, 0.483471, 1.183471], atol=6e-7)
    np.testing.assert_allclose(Q1 + worst, [0.983471] * 3, atol=6e-7)
    assert value == pytest.approx(0.983471, abs=6e-7)


def test_t8_margins_between_the_proxy_and_the_set():
    reference = apply(GeneralMellowmax(2.0, 1.0, 0.5), Q1)[2]
    sums = [np.sum(reference**q) for q in EXPONENTS]
    np.testing.assert_allclose(sums, [3, 2.232141, 1.685205, 1.289914, 1], atol=6e-7)
    # With omega = 2. The set of q = 1 has the proxy on its border, every other one misses it.
    np.testing.assert_allclose(np.log(sums) / 2.0, [0.549306, 0.401480, 0.260944, 0.127288, 0.0], atol=6e-7)


def test_t8_per_action_lower_bounds():
    omega, reference = 2.0, np.asarray(apply(GeneralMellowmax(2.0, 1.0, 0.5), Q1)[2])
    for q in EXPONENTS:
        lowest = q * np.log(reference) / omega
        for action in range(3):
            others_free = np.where(np.arange(3) == action, lowest[action], 50.0)
            assert np.sum(reference**q * np.exp(-omega * others_free)) == pytest.approx(1.0, abs=1e-9)


@pytest.mark.parametrize(("omega", "q"), [(1.0, 0.0), (1.0, 0.5), (4.0, 0.5), (1.0, 1.0)])
def test_t8_steps_compose_to_the_set_of_objects(omega, q):
    children, phi = hand_size_tree()
    tables, _, _, law = solve_tree(children, phi, 2.0, omega, 1.0, q)
    root, child = (np.exp(log_soft(tables[state], 1.0)) for state in ("", "g"))
    objects = np.array([law[name] for name in ("s", "x", "y", "z")])
    generator = np.random.default_rng(0)

    def on_border(reference):
        """Return a random reward on the border of a step's set."""
        weights = generator.dirichlet(np.ones(len(reference)))
        return (q * np.log(reference) - np.log(weights)) / omega

    def mass(reference, delta):
        return np.sum(reference**q * np.exp(-omega * delta))

    for _ in range(20):
        first, second = on_border(root), on_border(child)
        composed = np.append(first[0], first[1] + second)
        assert mass(objects, composed) == pytest.approx(1.0, abs=1e-10)
        assert mass(objects, composed + 0.1) < 1.0 < mass(objects, composed - 0.1)
        # The other way: every reward on the objects' border splits into rewards on the steps' borders.
        total = on_border(objects)
        through_child = np.log(mass(child, total[1:])) / -omega
        assert mass(child, total[1:] - through_child) == pytest.approx(1.0, abs=1e-10)
        assert mass(root, np.array([total[0], through_child])) == pytest.approx(1.0, abs=1e-10)


@pytest.mark.parametrize("q", EXPONENTS)
def test_t8_worst_case_along_a_trajectory_is_flat(q):
    children, phi = hand_size_tree()
    tables, values, _, _ = solve_tree(children, phi, 2.0, 1.0, 1.0, q)
    operator = GeneralMellowmax(1.0, 1.0, q)
    at_root = apply(operator, tables[""])[0] - tables[""]
    at_child = apply(operator, tables["g"])[0] - tables["g"]
    worst = np.append(at_root[0], at_root[1] + at_child)
    scores = 2.0 * np.array([phi[name] for name in ("s", "x", "y", "z")])
    np.testing.assert_allclose(worst, values[""] - scores, atol=1e-12)


# tgm T9.


def entropy(law):
    return -np.sum(law * np.log(law))


@pytest.mark.parametrize(
    ("q", "mean", "spread", "gibbs_mean", "inverse_temperature"),
    [(0.5, 0.890486, 0.826941, 0.890933, 3.25515), (1.0, 0.943115, None, 0.944866, 5.65460)],
)
def test_t9_gibbs_has_the_larger_mean_at_equal_entropy(q, mean, spread, gibbs_mean, inverse_temperature):
    children, phi = hand_size_tree()
    _, _, law, _ = solve_tree(children, phi, 2.0, 1.0, 1.0, q)
    names = ("s", "x", "y", "z")
    ours, scores = np.array([law[name] for name in names]), np.array([phi[name] for name in names])
    assert ours @ scores == pytest.approx(mean, abs=6e-7)
    if spread is not None:
        assert entropy(ours) == pytest.approx(spread, abs=6e-7)
    beta = brentq(lambda beta: entropy(softmax(beta * scores)) - entropy(ours), 0.1, 20.0)
    assert beta == pytest.approx(inverse_temperature, abs=6e-6)
    gibbs = softmax(beta * scores)
    assert gibbs @ scores == pytest.approx(gibbs_mean, abs=6e-7)
    assert gibbs @ scores > ours @ scores


def test_t9_no_operator_beats_the_frontier():
    children, phi = hand_size_tree()
    scores = np.array([phi[name] for name in ("s", "x", "y", "z")])
    for omega in (0.5, 1.0, 3.0):
        for alpha in (0.0, 0.5, 2.0):
            for q in EXPONENTS:
                law = solve_tree(children, phi, 2.0, omega, alpha, q)[2]
                ours = np.array([law[name] for name in ("s", "x", "y", "z")])
                beta = brentq(lambda beta, ours=ours: entropy(softmax(beta * scores)) - entropy(ours), 1e-6, 200.0)
                assert softmax(beta * scores) @ scores >= ours @ scores - 1e-9
