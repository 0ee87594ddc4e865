"""Laws tgm T1 to T3: values, identities, bounds and counter-examples of the operators, in float64."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst
from scipy.special import logsumexp, softmax
from tests.reference import tgm

from narrows.operators import (
    GeneralMellowmax,
    masked_log_softmax,
    masked_logsumexp,
    maximum,
    mellowmax,
    soft_bellman,
    soft_mellowmax,
)

WIDTH = 8
Q1 = np.array([1.0, 0.5, -0.2])

omegas = st.floats(0.05, 8.0)
alphas = st.one_of(st.just(0.0), st.floats(0.0, 8.0))
exponents = st.one_of(st.sampled_from([0.0, 1.0]), st.floats(0.0, 1.0))
vectors = npst.arrays(np.float64, st.integers(1, WIDTH), elements=st.floats(-5.0, 5.0, width=64))

laws = settings(max_examples=30, deadline=None)


@pytest.fixture(autouse=True, scope="module")
def double_precision():
    with jax.enable_x64(True):
        yield


def padded(q_values):
    """Return the values among illegal ones and the mask: one shape for all lengths, hence one compilation."""
    values, mask = np.full(WIDTH, 77.0), np.zeros(WIDTH, bool)
    values[: len(q_values)], mask[: len(q_values)] = q_values, True
    return jnp.asarray(values), jnp.asarray(mask)


def value(operator, q_values):
    return float(operator.value(*padded(q_values)))


def policy(operator, q_values):
    return np.exp(np.asarray(operator.log_policy(*padded(q_values))))[: len(q_values)]


def reference(operator, q_values):
    return np.exp(np.asarray(operator.log_reference(*padded(q_values))))[: len(q_values)]


def gradient(operator, q_values):
    return np.asarray(jax.grad(operator.value)(*padded(q_values)))


# tgm T1. The figures are printed there to six decimals.


@pytest.mark.parametrize(
    ("omega", "alpha", "q", "expected", "probabilities", "slopes"),
    [
        (2, 1, 0, 1.188738, [0.685590, 0.252215, 0.062195], [0.685590, 0.252215, 0.062195]),
        (2, 1, 0.25, 1.084581, [0.718464, 0.233251, 0.048285], [0.742749, 0.222666, 0.034585]),
        (2, 1, 0.5, 0.983471, [0.748340, 0.214403, 0.037258], [0.804378, 0.188520, 0.007102]),
        (2, 1, 0.75, 0.884997, [0.775360, 0.196042, 0.028598], [0.869551, 0.150332, -0.019884]),
        (2, 1, 1, 0.788798, [0.799710, 0.178439, 0.021851], [0.937472, 0.108692, -0.046164]),
        (2, 0, 1, 0.639431, [0.685590, 0.252215, 0.062195], [0.685590, 0.252215, 0.062195]),
        (2, 0, 0.5, 0.914085, [0.685590, 0.252215, 0.062195], [0.685590, 0.252215, 0.062195]),
        (1, 2, 0.5, 1.188738, [0.685590, 0.252215, 0.062195], [0.685590, 0.252215, 0.062195]),
        (4, 1, 0.5, 0.945332, [0.900969, 0.094961, 0.004069], [0.948067, 0.067090, -0.015157]),
    ],
)
def test_t1_values_policies_and_gradients(omega, alpha, q, expected, probabilities, slopes):
    operator = GeneralMellowmax(omega, alpha, q)
    assert value(operator, Q1) == pytest.approx(expected, abs=6e-7)
    np.testing.assert_allclose(policy(operator, Q1), probabilities, atol=6e-7)
    np.testing.assert_allclose(gradient(operator, Q1)[:3], slopes, atol=6e-7)


def test_t1_limits():
    assert value(GeneralMellowmax(1e4, 1.0, 0.5), Q1) == pytest.approx(0.99997, abs=5e-6)
    assert value(GeneralMellowmax(2.0, 1e5, 0.5), Q1) == pytest.approx(1.0, abs=1e-6)
    assert value(mellowmax(1e-6), Q1) == pytest.approx(0.433333, abs=1e-6)
    assert value(soft_mellowmax(1e-6, 1.0), Q1) == pytest.approx(0.651575, abs=1e-6)
    assert value(GeneralMellowmax(2.0, 1e5, 0.5), np.array([1.0, 1.0, 0.0])) == pytest.approx(1.173287, abs=1e-6)


# tgm T2: section tgm 2 and every row of tgm 2.2.


@laws
@given(vectors, omegas, alphas, exponents)
def test_agrees_with_the_reference_implementation(q_values, omega, alpha, q):
    operator = GeneralMellowmax(omega, alpha, q)
    np.testing.assert_allclose(value(operator, q_values), tgm.gm(q_values, omega, alpha, q), rtol=1e-9, atol=1e-9)
    np.testing.assert_allclose(policy(operator, q_values), softmax((q * alpha + omega) * q_values), atol=1e-12)
    np.testing.assert_allclose(reference(operator, q_values), softmax(alpha * q_values), atol=1e-12)


@laws
@given(vectors, omegas, alphas)
def test_q_0_is_soft_bellman_and_q_1_soft_mellowmax(q_values, omega, alpha):
    soft = logsumexp(omega * q_values) / omega
    for operator in (soft_bellman(omega), GeneralMellowmax(omega, alpha, 0.0)):
        assert value(operator, q_values) == pytest.approx(soft, abs=1e-9)
    # As the operator is defined, not as it is computed.
    weighted = math.log(softmax(alpha * q_values) @ np.exp(omega * (q_values - q_values.max()))) / omega + q_values.max()
    assert value(soft_mellowmax(omega, alpha), q_values) == pytest.approx(weighted, abs=1e-8)
    assert soft_mellowmax(omega, alpha) == GeneralMellowmax(omega, alpha, 1.0)


@laws
@given(vectors, omegas, exponents)
def test_alpha_0_interpolates_soft_bellman_and_mellowmax(q_values, omega, q):
    operator, size = GeneralMellowmax(omega, 0.0, q), len(q_values)
    soft = value(soft_bellman(omega), q_values)
    mellow = math.log(np.mean(np.exp(omega * (q_values - q_values.max())))) / omega + q_values.max()
    assert value(mellowmax(omega), q_values) == pytest.approx(mellow, abs=1e-9)
    assert value(operator, q_values) == pytest.approx(q * mellow + (1 - q) * soft, abs=1e-9)
    assert value(operator, q_values) == pytest.approx(soft - q * math.log(size) / omega, abs=1e-9)
    np.testing.assert_allclose(policy(operator, q_values), softmax(omega * q_values), atol=1e-12)


@laws
@given(vectors, omegas, st.floats(0.0, 0.9))
def test_alpha_at_its_peak_is_soft_bellman_of_that_temperature(q_values, omega, q):
    alpha = omega / (1 - q)
    operator = GeneralMellowmax(omega, alpha, q)
    assert value(operator, q_values) == pytest.approx(value(soft_bellman(alpha), q_values), abs=1e-9)
    np.testing.assert_allclose(policy(operator, q_values), reference(operator, q_values), atol=1e-12)


@laws
@given(vectors, omegas, alphas, st.floats(0.01, 1.0), st.integers(1, WIDTH))
def test_limits_of_large_parameters(q_values, omega, alpha, q, num_ties):
    q_values = np.round(q_values, 1)
    q_values[:num_ties] = q_values.max()
    ties = np.sum(q_values == q_values.max())
    expected = q_values.max() + (1 - q) * math.log(ties) / omega
    # For q > 0 only: at q = 0 there is no reference, and alpha does nothing.
    assert value(GeneralMellowmax(omega, 1e5, q), q_values) == pytest.approx(expected, abs=1e-6)
    # Off by at most max(q, 1 - q) log n / omega.
    assert value(GeneralMellowmax(1e7, alpha, q), q_values) == pytest.approx(q_values.max(), abs=1e-5)


@laws
@given(vectors, alphas, st.floats(0.0, 0.9))
def test_limits_of_small_omega(q_values, alpha, q):
    tiny = 1e-7
    assert value(mellowmax(tiny), q_values) == pytest.approx(q_values.mean(), abs=1e-5)
    assert value(soft_mellowmax(tiny, alpha), q_values) == pytest.approx(softmax(alpha * q_values) @ q_values, abs=1e-5)
    # Diverges like (1 / omega) log sum d^q, which a tie or alpha = 0 makes largest.
    equal = np.zeros(len(q_values))
    blown_up = value(GeneralMellowmax(tiny, alpha, q), equal)
    assert blown_up == pytest.approx((1 - q) * math.log(len(q_values)) / tiny, rel=1e-6, abs=1e-6)


@laws
@given(st.floats(-5.0, 5.0), omegas, alphas, exponents)
def test_a_forced_move_contributes_nothing(single, omega, alpha, q):
    operator = GeneralMellowmax(omega, alpha, q)
    values, mask = padded([single])
    assert value(operator, [single]) == pytest.approx(single, abs=1e-12)
    assert operator.log_policy(values, mask)[0] == operator.log_reference(values, mask)[0] == 0.0
    assert gradient(operator, [single]) == pytest.approx([1.0] + [0.0] * (WIDTH - 1), abs=1e-12)


@laws
@given(vectors, omegas, alphas, exponents, st.floats(-20.0, 20.0), st.floats(0.1, 10.0))
def test_shift_and_scale(q_values, omega, alpha, q, shift, scale):
    operator = GeneralMellowmax(omega, alpha, q)
    assert value(operator, q_values + shift) == pytest.approx(value(operator, q_values) + shift, abs=1e-9)
    scaled = GeneralMellowmax(scale * omega, scale * alpha, q)
    assert value(operator, scale * q_values) == pytest.approx(scale * value(scaled, q_values), rel=1e-9, abs=1e-9)
    np.testing.assert_allclose(policy(operator, scale * q_values), policy(scaled, q_values), atol=1e-10)


@laws
@given(vectors, omegas, st.floats(0.01, 8.0), st.floats(0.01, 0.99))
def test_slopes_in_q_and_alpha(q_values, omega, alpha, q):
    operator, step = GeneralMellowmax(omega, alpha, q), 1e-6
    acts, prior = policy(operator, q_values), reference(operator, q_values)

    def slope(change_alpha, change_q):
        high = GeneralMellowmax(omega, alpha + change_alpha, q + change_q)
        low = GeneralMellowmax(omega, alpha - change_alpha, q - change_q)
        return (value(high, q_values) - value(low, q_values)) / (2 * step)

    in_q = acts @ np.log(prior) / omega
    assert slope(0.0, step) == pytest.approx(in_q, rel=1e-5, abs=1e-6)
    assert in_q <= 1e-12
    in_alpha = q / omega * (acts @ q_values - prior @ q_values)
    assert slope(step, 0.0) == pytest.approx(in_alpha, rel=1e-4, abs=1e-6)
    if np.ptp(q_values) > 0.01 and abs(alpha - omega / (1 - q)) > 0.01:
        assert (in_alpha > 0) == (alpha < omega / (1 - q)) or abs(in_alpha) < 1e-9


@laws
@given(vectors, omegas, alphas, exponents)
def test_the_advantage_is_the_log_ratio_of_policy_and_reference(q_values, omega, alpha, q):
    operator = GeneralMellowmax(omega, alpha, q)
    values, mask = padded(q_values)
    log_ratio = operator.log_policy(values, mask)[: len(q_values)] - q * operator.log_reference(values, mask)[: len(q_values)]
    np.testing.assert_allclose(log_ratio / omega, q_values - value(operator, q_values), atol=1e-9)
    np.testing.assert_allclose(log_ratio / omega, tgm.advantage(q_values, omega, alpha, q), atol=1e-9)


@laws
@given(vectors, omegas, alphas, exponents, st.integers(0, 2**32 - 1))
def test_the_value_is_the_regularised_maximum(q_values, omega, alpha, q, seed):
    operator = GeneralMellowmax(omega, alpha, q)
    log_prior = np.log(reference(operator, q_values))

    def regularised(probabilities):
        with np.errstate(divide="ignore"):
            entropy_term = np.sum(np.where(probabilities > 0, probabilities * np.log(probabilities), 0.0))
        return probabilities @ q_values - (entropy_term - q * probabilities @ log_prior) / omega

    best = value(operator, q_values)
    assert regularised(policy(operator, q_values)) == pytest.approx(best, abs=1e-8)
    for other in np.random.default_rng(seed).dirichlet(np.ones(len(q_values)), size=5):
        assert regularised(other) <= best + 1e-8


@laws
@given(vectors, omegas, alphas, exponents)
def test_gradient_by_formula_and_finite_differences(q_values, omega, alpha, q):
    operator = GeneralMellowmax(omega, alpha, q)
    acts, prior = policy(operator, q_values), reference(operator, q_values)
    formula = ((q * alpha + omega) * acts - q * alpha * prior) / omega
    ours = gradient(operator, q_values)
    np.testing.assert_allclose(ours[: len(q_values)], formula, atol=1e-9)
    assert not ours[len(q_values) :].any()
    assert ours.sum() == pytest.approx(1.0, abs=1e-9)
    for index, expected in enumerate(formula):
        nudge = 1e-6 * (np.arange(len(q_values)) == index)
        difference = value(operator, q_values + nudge) - value(operator, q_values - nudge)
        assert difference / 2e-6 == pytest.approx(expected, abs=2e-6 * (1 + (q * alpha + omega) ** 2))


@laws
@given(
    npst.arrays(np.float64, WIDTH, elements=st.floats(-5.0, 5.0, width=64)),
    npst.arrays(bool, WIDTH).filter(np.any),
    st.sampled_from([0.0, 1e30, -1e30, math.inf, -math.inf, math.nan]),
    omegas,
    alphas,
    exponents,
)
def test_a_mask_is_the_same_as_deletion_whatever_stands_there(q_values, mask, junk, omega, alpha, q):
    operator, kept = GeneralMellowmax(omega, alpha, q), q_values[mask]
    values = jnp.asarray(np.where(mask, q_values, junk))
    assert operator.value(values, mask) == pytest.approx(tgm.gm(kept, omega, alpha, q), abs=1e-9)
    for ours, temperature in (
        (operator.log_policy(values, mask), q * alpha + omega),
        (operator.log_reference(values, mask), alpha),
    ):
        np.testing.assert_allclose(ours[mask], tgm.log_soft(kept, temperature), atol=1e-9)
        assert np.all(np.isneginf(np.asarray(ours)[~mask]))
    slopes = np.asarray(jax.grad(operator.value)(values, jnp.asarray(mask)))
    expected = ((q * alpha + omega) * softmax((q * alpha + omega) * kept) - q * alpha * softmax(alpha * kept)) / omega
    np.testing.assert_allclose(slopes[mask], expected, atol=1e-9)
    assert not slopes[~mask].any()


# tgm T3: tgm 2.3 and the counter-examples of tgm 2.4.


@laws
@given(vectors, omegas, alphas, exponents)
def test_accumulation_and_dilution_are_bounded(q_values, omega, alpha, q):
    operator, bound = GeneralMellowmax(omega, alpha, q), math.log(len(q_values)) / omega
    excess = value(operator, q_values) - q_values.max()
    assert -q * bound - 1e-9 <= excess <= (1 - q) * bound + 1e-9
    equal = np.full(len(q_values), q_values[0])
    assert value(operator, equal) - equal[0] == pytest.approx((1 - q) * bound, abs=1e-9)


@pytest.mark.parametrize("size", [2, 5, 8])
@pytest.mark.parametrize(("omega", "alpha", "q"), [(1.0, 1.0, 0.0), (1.0, 0.0, 1.0), (2.0, 3.0, 0.5), (4.0, 1.0, 1.0)])
def test_two_level_values_reach_but_never_pass_the_bounds(size, omega, alpha, q):
    operator, bound = GeneralMellowmax(omega, alpha, q), math.log(size) / omega
    excess = []
    for gap in (0.0, 0.1, 0.5, 1.0, 3.0, 10.0, 100.0):
        for num_high in range(1, size):
            excess.append(value(operator, [0.0] * num_high + [-gap] * (size - num_high)))
    assert max(excess) == pytest.approx((1 - q) * bound, abs=1e-9)
    assert min(excess) >= -q * bound - 1e-9
    if alpha == 0.0:
        assert min(excess) == pytest.approx(-bound, abs=1e-9)


def test_the_tight_dilution_is_smaller_than_the_bound():
    # tgm 2.3: n = 20, omega = alpha = 1, the worst distance to the maximum over all values.
    gaps = np.linspace(0.0, 12.0, 12_001)
    levels = jnp.asarray(-np.concatenate([np.zeros((len(gaps), 1)), np.repeat(gaps[:, None], 19, axis=1)], axis=1))
    mask = jnp.ones(20, bool)
    for q, worst in ((1.0, 1.0065), (0.25, 2.2468), (0.5, 1.4979), (0.75, 0.7489)):
        assert np.abs(GeneralMellowmax(1.0, 1.0, q).value(levels, mask)).max() == pytest.approx(worst, abs=6e-5)


def test_the_operator_is_neither_monotone_nor_a_non_expansion():
    operator = GeneralMellowmax(1.0, 1.0, 1.0)
    low, high = value(operator, [0.0, -2.0, -2.0]), value(operator, [0.0, -1.9, -1.9])
    assert (low, high) == pytest.approx((-0.203568, -0.217931), abs=6e-7)
    moved = value(operator, [0.01, -1.51, -1.51]) - value(operator, [0.0, -1.5, -1.5])
    assert moved == pytest.approx(0.012572, abs=6e-7)
    assert moved > 0.01


@laws
@given(vectors, omegas, alphas, exponents)
def test_the_lipschitz_constant_is_bounded_and_one_without_a_reference(q_values, omega, alpha, q):
    slopes = np.abs(gradient(GeneralMellowmax(omega, alpha, q), q_values)).sum()
    assert 1 - 1e-9 <= slopes <= 1 + 2 * q * alpha / omega + 1e-9
    if q * alpha == 0.0:
        assert slopes == pytest.approx(1.0, abs=1e-9)


# The pieces, and what the types promise.


def test_a_row_without_a_legal_action_is_finite_in_value_and_gradient():
    mask = jnp.array([[True, False], [False, False]])

    def total(logits):
        log_probs = masked_log_softmax(logits, mask)
        return jnp.sum(jnp.where(jnp.array([True, False]), log_probs[:, 0], 0.0))

    logits = jnp.array([[0.3, 9.0], [1.0, 2.0]])
    assert masked_log_softmax(logits, mask).tolist() == [[0.0, -math.inf], [0.0, 0.0]]
    assert jax.grad(total)(logits).tolist() == [[0.0, 0.0], [0.0, 0.0]]


def test_batches_act_on_the_last_axis():
    generator = np.random.default_rng(0)
    values, mask = generator.normal(size=(2, 3, 5)), generator.random((2, 3, 5)) < 0.6
    mask[..., 0] = True
    operator, batch = GeneralMellowmax(2.0, 1.0, 0.5), (jnp.asarray(values), jnp.asarray(mask))
    soft, largest, log_sum = operator.value(*batch), maximum(*batch), masked_logsumexp(*batch)
    log_policy = np.asarray(operator.log_policy(*batch))
    assert soft.shape == largest.shape == log_sum.shape == (2, 3)
    for row in np.ndindex(2, 3):
        kept = values[row][mask[row]]
        assert soft[row] == pytest.approx(tgm.gm(kept, 2.0, 1.0, 0.5), abs=1e-12)
        assert largest[row] == kept.max()
        assert log_sum[row] == pytest.approx(logsumexp(kept), abs=1e-12)
        np.testing.assert_allclose(log_policy[row][mask[row]], tgm.log_soft(kept, 2.5), atol=1e-12)


def test_single_precision_stays_finite_at_extreme_values():
    operator = GeneralMellowmax(16.0, 1.0, 0.5)
    values = jnp.array([3e4, -3e4, 0.0, 5.0], jnp.float32)
    mask = jnp.array([True, True, True, False])
    assert operator.value(values, mask).dtype == jnp.float32
    assert float(operator.value(values, mask)) == pytest.approx(3e4, rel=1e-6)
    assert jax.grad(operator.value)(values, mask).tolist() == [1.0, 0.0, 0.0, 0.0]
    hottest = jax.grad(lambda v: operator.log_policy(v, mask)[0])(values)
    assert np.isfinite(hottest).all()


@pytest.mark.parametrize(
    ("name", "parameters"),
    [
        ("omega", {"omega": 0.0}),
        ("omega", {"omega": math.inf}),
        ("omega", {"omega": math.nan}),
        ("alpha", {"alpha": -0.1}),
        ("alpha", {"alpha": math.inf}),
        ("q", {"q": 1.1}),
        ("q", {"q": -1e-9}),
        ("q", {"q": math.nan}),
    ],
)
def test_parameters_out_of_range_are_refused_by_name(name, parameters):
    with pytest.raises(ValueError, match=f"^{name} must"):
        GeneralMellowmax(**parameters)
