"""The projected Bellman equation: the specification's figures, slow NumPy loops, and what diverges."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from narrows import vi
from narrows.vi.problems.bellman import (
    Moments,
    alpha_of,
    exact_step,
    linear_bellman,
    lstd,
    simulate,
    surrogate_step,
    td_step,
)
from narrows.vi.problems.chains import markov_chain, walk
from narrows.vi.problems.counterexamples import (
    baird_star,
    chain_100,
    random_walk,
    spiral,
    two_state_off_policy,
)

# Asymptotic rate of the surrogate with m inner steps, and outer steps to an error of 1e-6 (surrogate 6.2).
RATES = {1: (0.969653, 417), 2: (0.957743, 305), 5: (0.950672, 264), 10: (0.950032, 261), 50: (0.950000, 261)}


@pytest.fixture(autouse=True)
def _double():
    with jax.enable_x64(True):
        yield


@functools.cache
def _chain_100():
    return chain_100()


def _largest(problem):
    return float(np.linalg.eigvalsh(problem.moments.gram)[-1])


def _errors(problem, update, num_steps):
    """Return the distance to the solution before each step, in the norm of the weights."""

    def run(params):
        def step(params, _):
            return update(params), problem.norm(problem.predict(params - problem.solution))

        return jax.lax.scan(step, params, length=num_steps)[1]

    return np.asarray(jax.jit(run)(jnp.asarray(problem.start)))


def _learned(problem, inner, inner_steps, num_steps, **settings):
    """Return parameters after, and what is told of, each step of the surrogate method."""
    hidden = problem.hidden()
    method = vi.surrogate(vi.forward(1.0), inner, inner_steps, metric=problem.metric, **settings)

    def step(carry, _):
        params, state, info = method.step(hidden.predict, hidden.problem.operator, *carry)
        return (params, state), (params, info)

    start = (hidden.params, method.init(hidden.params, hidden.problem.start))
    return jax.jit(lambda: jax.lax.scan(step, start, length=num_steps)[1])()


def test_chain_100_has_the_facts_of_the_specification():
    problem = _chain_100()
    value, theta = problem.chain.value, problem.solution
    near = np.asarray(problem.project(jnp.asarray(value)))
    norm = functools.partial(_norm, problem)
    np.testing.assert_allclose(theta[:3], [-0.559640, -0.505266, -0.281721], atol=1e-6)
    np.testing.assert_allclose(problem.moments.matrix @ theta, problem.moments.vector, atol=1e-13)
    assert problem.error(jnp.asarray(theta)) < 1e-12 < problem.error(jnp.asarray(theta + 0.1))
    np.testing.assert_allclose(np.linalg.eigvalsh(problem.moments.gram)[[0, -1]], [0.571389, 1.601885], atol=1e-6)
    np.testing.assert_allclose([problem.strength, problem.lipschitz], [0.05, 0.146937], atol=1e-6)
    figures = [norm(value), norm(near - value), norm(problem.features @ theta - value)]
    np.testing.assert_allclose(figures, [7.476807, 6.912462, 6.912571], atol=1e-6)
    # The error bound of Tsitsiklis and Van Roy, and the second eigenvalue of the chain.
    assert figures[2] <= figures[1] / np.sqrt(1 - 0.95**2)
    assert np.sort(np.abs(np.linalg.eigvals(problem.chain.transition)))[-2] == pytest.approx(0.905079, abs=1e-6)


def _norm(problem, value):
    return np.sqrt(np.sum(problem.weights * np.asarray(value) ** 2))


@pytest.mark.parametrize("num_steps", RATES)
def test_the_surrogate_converges_at_the_rates_of_the_specification(num_steps):
    problem = _chain_100()
    size = 1 / _largest(problem)
    errors = _errors(problem, lambda params: surrogate_step(problem.moments, params, 1.0, size, num_steps), 700)
    rate, count = RATES[num_steps]
    # At 400 steps the slowest mode is alone, and rounding far away.
    assert (errors[400] / errors[350]) ** 0.02 == pytest.approx(rate, abs=1e-5)
    assert np.argmax(errors < 1e-6) == count
    # Theorem A asks for alpha < (1 - gamma) / (1 + gamma) and does not get it; Theorem C does without.
    assert alpha_of(problem.moments, size, 1) > 0.05 / 1.95


def test_exact_steps_contract_by_what_the_step_size_leaves():
    problem = _chain_100()

    def updates(params):
        return jnp.stack([exact_step(problem.moments, at, eta) for at, eta in zip(params, (1.0, 0.5, 0.1), strict=True)])

    def run(params):
        def step(params, _):
            return updates(params), jax.vmap(problem.norm)(jax.vmap(problem.predict)(params - problem.solution))

        return jax.lax.scan(step, params, length=2401)[1]

    errors = np.asarray(jax.jit(run)(jnp.zeros((3, 10))))
    # Late enough that the slowest mode is alone, early enough that rounding is far away.
    for column, (time, rate) in enumerate([(400, 0.95), (800, 0.975), (2400, 0.995)]):
        assert (errors[time, column] / errors[time - 50, column]) ** 0.02 == pytest.approx(rate, abs=1e-5)


@pytest.mark.parametrize("num_steps", [1, 2, 3, 6, 7, 20, 100])
def test_the_closed_form_of_inner_steps_is_the_loop(num_steps):
    problem = _chain_100()
    gram, matrix, vector = problem.moments
    theta, size = np.random.default_rng(3).normal(size=10), 0.4
    inner = theta.copy()
    for _ in range(num_steps):
        # The gradient of 1/2 ||Phi inner - (v - 0.7 F(v))||^2 at v = Phi theta.
        inner = inner - size * (gram @ (inner - theta) + 0.7 * (matrix @ theta - vector))
    found = surrogate_step(problem.moments, jnp.asarray(theta), 0.7, size, num_steps)
    np.testing.assert_allclose(found, inner, rtol=0, atol=1e-10)
    shrink = np.linalg.matrix_power(np.eye(10) - size * gram, num_steps)
    direct = theta - 0.7 * (np.eye(10) - shrink) @ np.linalg.solve(gram, matrix @ theta - vector)
    np.testing.assert_allclose(found, direct, rtol=0, atol=1e-10)
    assert alpha_of(problem.moments, size, num_steps) == pytest.approx(np.linalg.norm(_rooted(gram, shrink), 2), rel=1e-9)


def _rooted(gram, matrix):
    """Return a linear map of parameters as one of values: B^1/2 M B^-1/2."""
    sizes, vectors = np.linalg.eigh(gram)
    root = vectors * np.sqrt(sizes) @ vectors.T
    return root @ matrix @ np.linalg.inv(root)


@pytest.mark.parametrize("num_steps", [1, 5])
def test_the_surrogate_of_the_library_takes_the_same_steps(num_steps):
    problem = _chain_100()
    size = 1 / _largest(problem)
    bound = vi.distance_bound(problem.project, problem.metric)
    learned, infos = _learned(problem, optax.sgd(size), num_steps, 100, lower_bound=bound)
    theta = jnp.asarray(problem.start)
    closed = jax.jit(lambda theta: surrogate_step(problem.moments, theta, 1.0, size, num_steps))
    for params in learned:
        theta = closed(theta)
        np.testing.assert_allclose(params, theta, rtol=0, atol=1e-10)
    # With the exact least loss, alpha is never above what the eigenvalues of B say.
    assert np.all(infos.alpha_hat <= alpha_of(problem.moments, size, num_steps) + 1e-9)
    assert np.all(infos.result == vi.Result.RUNNING)
    if num_steps == 1:
        # What the specification calls alpha at one step is the largest on the way, not the bound, which is 0.643.
        assert np.max(infos.alpha_hat) == pytest.approx(0.564, abs=1e-3)
        np.testing.assert_allclose(learned[0], td_step(problem.moments, jnp.asarray(problem.start), size), atol=1e-12)


def test_solving_in_values_and_through_gauss_newton_finds_the_projected_solution():
    problem = _chain_100()
    expected = problem.features @ np.linalg.solve(problem.moments.matrix, problem.moments.vector)
    hidden = problem.hidden().problem
    solution = vi.solve(problem.operator, hidden.start, vi.forward(1.0), project=hidden.project, tol=1e-9)
    assert solution.result == vi.Result.CONVERGED, solution.message
    np.testing.assert_allclose(solution.value, expected, atol=1e-6)
    learned, _ = _learned(problem, vi.gauss_newton(), 1, 400)
    np.testing.assert_allclose(learned[-1], problem.solution, atol=1e-6)


def test_exact_least_squares_match_a_loop_over_states():
    chain = markov_chain(np.array([[0.5, 0.5, 0.0], [0.1, 0.0, 0.6], [0.3, 0.3, 0.4]]), np.array([1.0, -2.0, 0.5]), 0.9)
    features, weights = np.array([[1.0, 0.0], [1.0, 2.0], [0.0, -1.0]]), np.array([2.0, 1.0, 1.0])
    problem = linear_bellman(chain, features, weights)
    gram, matrix, vector = np.zeros((2, 2)), np.zeros((2, 2)), np.zeros(2)
    for state in range(3):
        share, phi = weights[state] / 4.0, features[state]
        after = sum(chain.transition[state, other] * features[other] for other in range(3))
        gram += share * np.outer(phi, phi)
        matrix += share * np.outer(phi, phi - 0.9 * after)
        vector += share * phi * chain.reward[state]
    for got, expected in zip(problem.moments, (gram, matrix, vector), strict=True):
        np.testing.assert_allclose(got, expected, atol=1e-14)
    params = np.array([0.3, -0.7])
    pull = matrix @ params - vector
    assert problem.error(jnp.asarray(params)) == pytest.approx(np.sqrt(pull @ np.linalg.solve(gram, pull)), rel=1e-12)
    np.testing.assert_allclose(lstd(problem.moments), problem.solution, atol=1e-12)


def test_two_states_off_policy_are_cured_by_neither_and_on_policy_by_both():
    problem = two_state_off_policy(0.9)
    on_policy = linear_bellman(problem.chain, problem.features, start=problem.start)
    for each, factor in ((problem, 1.2 * 0.9), (on_policy, 0.9)):
        assert exact_step(each.moments, jnp.ones(1)) == pytest.approx(factor, rel=1e-12)
        learned, _ = _learned(each, vi.gauss_newton(), 1, 200)
        np.testing.assert_allclose(learned[:, 0], factor ** np.arange(1.0, 201.0), rtol=1e-9)
        assert (_errors(each, lambda params, each=each: td_step(each.moments, params, 0.1), 500)[-1] > 1.0) == (factor > 1.0)
        assert (each.strength < 0) == (factor > 1.0)
    # gamma = 5/6 is where it turns.
    assert two_state_off_policy(0.83).strength > 0 > two_state_off_policy(0.84).strength
    np.testing.assert_allclose(on_policy.weights, [0.0, 1.0], atol=1e-12)


def test_on_bairds_star_td_diverges_and_two_inner_steps_converge():
    problem = baird_star()
    size = 1 / _largest(problem)
    assert np.linalg.matrix_rank(problem.features) == 7 and problem.strength < 0
    for step_size in (size, 0.01, 1e-4):
        # Some direction grows, however small the step.
        growth = np.linalg.eigvals(np.eye(8) - step_size * problem.moments.matrix)
        assert np.abs(growth).max() > 1.0
    one, two, many = (
        _errors(problem, lambda params, num=num: surrogate_step(problem.moments, params, 1.0, size, num), 2000)
        for num in (1, 2, 20)
    )
    assert one[200] > 1e6 * one[0]
    assert two[-1] < 1e-7 and many[-1] < 1e-7
    values = [
        _norm(problem, problem.features @ params) for params in np.asarray(_learned(problem, vi.gauss_newton(), 1, 50)[0])
    ]
    np.testing.assert_allclose(np.diff(np.log(values)), np.log(0.99), rtol=1e-6)
    # The parameters of Sutton and Barto's figure: the weights 1, 1, 1, 1, 1, 1, 10, 1 give these values.
    np.testing.assert_allclose(problem.predict(jnp.asarray(problem.start)), [3, 3, 3, 3, 3, 3, 12])


def _global_search():
    """An inner solver that looks everywhere within 20 of where it is."""

    def step(residual, params, state, scale):
        candidates = params + jnp.linspace(-20.0, 20.0, 8001)
        losses = jax.vmap(lambda at: 0.5 * jnp.sum(residual(at) ** 2))(candidates)
        return candidates[jnp.argmin(losses)], state, losses[4000]

    return vi.Inner(lambda params: (), step)


@pytest.mark.parametrize("is_reversed", [False, True])
def test_on_the_spiral_td_follows_the_sense_of_rotation_and_a_global_search_does_not(is_reversed):
    hidden = spiral(is_reversed)

    def run(inner, inner_steps, num_steps):
        method = vi.surrogate(vi.forward(1.0), inner, inner_steps, metric=vi.batch_mean)

        def step(carry, _):
            params, state, _ = method.step(hidden.predict, hidden.problem.operator, *carry)
            return (params, state), jnp.linalg.norm(hidden.predict(params))

        start = (hidden.params, method.init(hidden.params, hidden.problem.start))
        return np.asarray(jax.jit(lambda: jax.lax.scan(step, start, length=num_steps)[1])())

    first, move = np.linalg.norm(hidden.problem.start), hidden.problem.operator
    assert callable(move)
    drift = jax.jacfwd(hidden.predict)(hidden.params) @ -np.asarray(move(hidden.problem.start)) / first**2
    assert drift == pytest.approx(-0.3762 if is_reversed else 0.2987, abs=1e-4)
    td = run(optax.sgd(1e-4), 1, 2000)
    everywhere = run(_global_search(), 1, 40)
    assert everywhere[-1] < 1e-3 * first
    if is_reversed:
        assert td[-1] < 0.2 * first
    else:
        # With a local inner solver the surrogate is no better: it comes to rest where nothing is solved.
        assert np.nanmax(td) > 2000.0
        local = run(optax.sgd(1e-3), 100, 200)
        assert local[-1] > first and abs(local[-1] - local[-2]) < 1e-3 * first


def test_the_random_walk_has_its_known_values():
    for num_states in (5, 19):
        problem = random_walk(num_states)
        expected = np.arange(1, num_states + 1) / (num_states + 1)
        np.testing.assert_allclose(problem.chain.value, expected, atol=1e-12)
        np.testing.assert_allclose(problem.solution, expected, atol=1e-12)
        # Visits fall off linearly from the middle.
        middle = num_states // 2
        triangle = middle + 1.0 - np.abs(np.arange(num_states) - middle)
        np.testing.assert_allclose(problem.weights, triangle / triangle.sum(), atol=1e-12)
        assert problem.strength > 0


def test_a_walk_follows_the_chain_and_begins_anew_where_episodes_end():
    problem = random_walk(5)
    seen = jax.jit(lambda key: walk(problem.chain, key, 40_000))(jax.random.key(0))
    state, after, is_terminal = (np.asarray(leaf) for leaf in seen)
    np.testing.assert_array_equal(is_terminal, after == 5)
    np.testing.assert_array_equal(state[1:], np.where(is_terminal, 2, after)[:-1])
    assert np.all(np.abs(after - state)[~is_terminal] == 1)
    assert set(state[is_terminal]) == {0, 4}
    # Episodes last 9 steps on average, so 5 standard errors of a share are below 0.02.
    shares = np.bincount(state, minlength=5) / len(state)
    np.testing.assert_allclose(shares, problem.weights, atol=0.02)


def test_simulated_methods_match_slow_loops():
    problem = random_walk(5)
    seen = walk(problem.chain, jax.random.key(1), 60)

    def update(moments, params):
        return {"td": surrogate_step(moments, params["td"], 1.0, 0.3, 3), "lstd": lstd(moments, 1e-2)}

    start = jnp.asarray(problem.start)
    found = jax.jit(lambda seen: simulate(problem, seen, update, {"td": start, "lstd": start}))(seen)
    gram, matrix, vector, theta = 1e-3 * np.eye(5), np.zeros((5, 5)), np.zeros(5), problem.start.copy()
    for time, (state, after, is_terminal) in enumerate(zip(*(np.asarray(leaf) for leaf in seen), strict=True)):
        phi, phi_after = np.eye(5)[state], np.zeros(5) if is_terminal else np.eye(5)[after]
        gram, matrix = gram + np.outer(phi, phi), matrix + np.outer(phi, phi - phi_after)
        vector, count = vector + phi * problem.chain.reward[state], time + 1.0
        inner = theta.copy()
        for _ in range(3):
            inner -= 0.3 * (gram / count @ (inner - theta) + matrix / count @ theta - vector / count)
        theta = inner
        np.testing.assert_allclose(found["td"][time], theta, atol=1e-12)
        slow = np.linalg.solve(matrix / count + 1e-2 * np.eye(5), vector / count)
        np.testing.assert_allclose(found["lstd"][time], slow, atol=1e-10)


def test_simulation_reproduces_the_table_of_the_specification():
    problem = _chain_100()
    num_runs = 100

    def update(moments, params):
        lspe, *learned = params
        stepped = (surrogate_step(moments, at, 1.0, 0.04, num) for num, at in zip((1, 20, 100), learned, strict=True))
        return exact_step(moments, lspe), *stepped

    def errors(key):
        seen = walk(problem.chain, key, 1000)
        start = jnp.zeros(10)
        runs = simulate(problem, seen, update, (start,) * 4)
        kept = jnp.stack(runs)[:, jnp.array([9, 99, 999])]
        norm = jax.vmap(jax.vmap(lambda params: problem.norm(problem.predict(params))))
        return norm(kept - problem.solution), norm(kept - kept[:1])

    error, apart = (np.asarray(each) for each in jax.jit(jax.vmap(errors))(jax.random.split(jax.random.key(7), num_runs)))
    # Rows: LSPE and 1, 20, 100 inner steps; columns: after 10, 100 and 1000 transitions. The mean of LSPE after 100 has no use
    # as a figure: a few runs of nearly singular averages make it, here as there.
    expected = np.array([[3.72, np.nan, 3.977], [2.92, 4.00, 3.975], [3.64, 8.93, 3.988], [3.71, 12.3, 3.978]])
    # The specification's means are of 200 runs, ours of 100: their difference has this standard error.
    spread = error.std(0) * np.sqrt(1 / num_runs + 1 / 200)
    is_given = np.isfinite(expected)
    assert np.all(np.abs(error.mean(0) - expected)[is_given] < 4 * spread[is_given])
    # The iterates come together long before they come to the solution.
    expected_apart, spread = np.array([1.703, 0.193, 0.017]), apart[:, 1:, 2].std(0) * np.sqrt(1 / num_runs + 1 / 200)
    assert np.all(np.abs(apart[:, 1:, 2].mean(0) - expected_apart) < 4 * spread)
    assert apart[:, 2, 2].mean() < 0.1 * error[:, 0, 2].mean()


def test_many_problems_run_side_by_side_as_one_after_the_other():
    rng = np.random.default_rng(11)
    problems = [
        linear_bellman(markov_chain(rng.dirichlet(np.ones(6), 6), rng.normal(size=6), 0.8), rng.normal(size=(6, 3)))
        for _ in range(4)
    ]
    stacked = jax.tree.map(lambda *leaves: jnp.stack(leaves), *[problem.moments for problem in problems])

    def run(moments):
        return jax.lax.scan(lambda at, _: (surrogate_step(moments, at, 1.0, 0.1, 4), None), jnp.zeros(3), length=50)[0]

    together = jax.jit(jax.vmap(run))(stacked)
    for problem, found in zip(problems, together, strict=True):
        np.testing.assert_allclose(found, run(problem.moments), rtol=1e-10, atol=1e-12)
        np.testing.assert_allclose(problem.chain.backup(jnp.asarray(problem.chain.value)), problem.chain.value, atol=1e-12)


def test_single_precision_stays_single():
    problem = _chain_100()
    params = jnp.zeros(10, jnp.float32)
    assert surrogate_step(problem.moments, params, 1.0, 0.3, 5).dtype == jnp.float32
    assert exact_step(problem.moments, params).dtype == jnp.float32
    assert problem.operator(problem.predict(params)).dtype == jnp.float32
    with jax.enable_x64(False):
        learned, _ = _learned(problem, optax.sgd(0.6), 5, 300)
        assert learned.dtype == jnp.float32
        np.testing.assert_allclose(learned[-1], problem.solution, atol=2e-4)


def test_what_cannot_be_is_refused_with_a_cure():
    half, zeros = np.full((2, 2), 0.5), np.zeros(2)
    with pytest.raises(ValueError, match="square"):
        markov_chain(np.ones((2, 3)), zeros, 0.9)
    with pytest.raises(ValueError, match="rows of sum 1"):
        markov_chain(np.ones((2, 2)), zeros, 0.9)
    with pytest.raises(ValueError, match="got \\(3,\\)"):
        markov_chain(half, np.zeros(3), 0.9)
    with pytest.raises(ValueError, match="finite"):
        markov_chain(half, np.array([np.nan, 0.0]), 0.9)
    with pytest.raises(ValueError, match="between 0 and 1, got 1.5"):
        markov_chain(half, zeros, 1.5)
    with pytest.raises(ValueError, match="below 1"):
        markov_chain(half, zeros, 1.0)
    with pytest.raises(ValueError, match="sum 2"):
        markov_chain(half, zeros, 0.9, np.ones(2))
    with pytest.raises(ValueError, match="more than one stationary"):
        linear_bellman(markov_chain(np.eye(2), zeros, 0.9), np.eye(2))
    chain = markov_chain(half, zeros, 0.9)
    with pytest.raises(ValueError, match="a row for each of 2 states"):
        linear_bellman(chain, np.eye(3))
    with pytest.raises(ValueError, match="weights must be at least 0"):
        linear_bellman(chain, np.eye(2), np.array([1.0, -1.0]))
    with pytest.raises(ValueError, match="start must have"):
        linear_bellman(chain, np.eye(2), start=np.zeros(3))
    with pytest.raises(ValueError, match="num_steps must be at least 1, got 0"):
        surrogate_step(Moments(np.eye(2), np.eye(2), zeros), jnp.zeros(2), 1.0, 0.1, 0)
    with pytest.raises(ValueError, match="odd"):
        random_walk(4)
