"""Value prediction: the usual TD(0) as a second implementation, slow loops, and the specification's TORUS-2."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from tests.slowly import slowly

from narrows import vi
from narrows.vi import td
from narrows.vi.problems.counterexamples import chain_100, random_walk

DISCOUNT = 0.9


@pytest.fixture(autouse=True)
def _double():
    with jax.enable_x64(True):
        yield


def _linear(params, observation):
    return observation @ params


def _batches(num, size, seed=0):
    """Return random transitions, some of them terminal, stacked; NumPy's, which are cut and repeated at no cost."""
    rng = np.random.default_rng(seed)
    first, after = (rng.normal(size=(num, size, 4)) for _ in range(2))
    return td.Transitions(first, rng.normal(size=(num, size)), after, rng.random((num, size)) < 0.2)


def _small_network(seed):
    """Return parameters of a network small enough to run eagerly."""
    rng = np.random.default_rng(seed)
    return [(rng.normal(size=(4, 5)), np.zeros(5)), (rng.normal(size=(5, 1)), np.zeros(1))]


def _run(learner, params, batches):
    """Return parameters after each step, and what each step told."""

    def run(params, batches):
        def step(carry, batch):
            params, state, info = learner.step(*carry, batch)
            return (params, state), (params, info)

        return jax.lax.scan(step, (params, learner.init(params)), batches)[1]

    return jax.tree.map(np.asarray, jax.jit(run)(params, batches))


def _near(got, expected, tolerance):
    for one, other in zip(jax.tree.leaves(got), jax.tree.leaves(expected), strict=True):
        assert one.dtype == other.dtype
        np.testing.assert_allclose(one, other, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize(("is_double", "tolerance"), [(True, 1e-12), (False, 1e-6)])
def test_one_step_of_sgd_is_the_semi_gradient_on_a_chain(is_double, tolerance):
    with jax.enable_x64(is_double):
        problem = chain_100()
        seen = jax.jit(lambda key: td.of_chain(problem.chain, key, 100 * 8, problem.features))(jax.random.key(0))
        batches = jax.tree.map(lambda leaf: np.asarray(leaf).reshape(100, 8, *leaf.shape[1:]), seen)
        params = jnp.asarray(np.random.default_rng(1).normal(size=10), seen.reward.dtype)
        ours, told = _run(td.surrogate_td0(_linear, optax.sgd(0.01), inner_steps=1, discount=0.95), params, batches)
        usual, usual_told = _run(td.semi_gradient_td0(_linear, optax.sgd(0.01), discount=0.95), params, batches)
        assert ours.dtype == (jnp.float64 if is_double else jnp.float32)
        _near(ours, usual, tolerance)
        # The usual step has one inner step by construction, and no step size of its own.
        _near(told[:6], usual_told[:6], 100 * tolerance)
        theta = np.asarray(params)
        for time in range(100):
            phi, reward, after, _ = (np.asarray(leaf[time]) for leaf in batches[:4])
            errors = reward + 0.95 * after @ theta - phi @ theta
            theta = theta + 0.01 * phi.T @ errors / 8
            np.testing.assert_allclose(ours[time], theta, rtol=tolerance, atol=tolerance)


def test_one_step_of_any_optimiser_is_the_semi_gradient_with_it():
    batches, params = _batches(50, 16), _small_network(2)
    optimizer = optax.chain(optax.clip_by_global_norm(1.0), optax.adam(optax.linear_schedule(1e-2, 1e-3, 50)))
    ours, _ = _run(td.surrogate_td0(td.mlp_value, optimizer, inner_steps=1, discount=DISCOUNT), params, batches)
    usual, _ = _run(td.semi_gradient_td0(td.mlp_value, optimizer, discount=DISCOUNT), params, batches)
    # Adam divides a gradient by its own size, so that 50 steps magnify the rounding of a small one.
    _near(ours, usual, 1e-8)


def test_a_step_size_scales_the_learning_rate_of_one_step():
    batches, params = _batches(20, 16), jnp.ones(4)
    ours, told = _run(
        td.surrogate_td0(_linear, optax.sgd(0.2), inner_steps=1, step_size=0.25, discount=DISCOUNT), params, batches
    )
    usual, _ = _run(td.semi_gradient_td0(_linear, optax.sgd(0.05), discount=DISCOUNT), params, batches)
    _near(ours, usual, 1e-12)
    np.testing.assert_allclose(told.gap_root, 0.25 * told.residual, rtol=1e-12)


def test_several_steps_match_a_loop_with_frozen_targets():
    (batch,), params = (jax.tree.map(lambda leaf: leaf[0], _batches(1, 16)),), np.array([0.5, -1.0, 0.3, 0.1])
    phi, reward, after, is_terminal = (np.asarray(leaf) for leaf in batch[:4])
    target = phi @ params - 0.6 * (phi @ params - reward - np.where(is_terminal, 0.0, DISCOUNT * after @ params))
    theta = params.copy()
    for _ in range(7):
        theta = theta - 0.1 * phi.T @ (phi @ theta - target) / 16
    learner = td.surrogate_td0(_linear, optax.sgd(0.1), inner_steps=7, step_size=0.6, discount=DISCOUNT)
    found, _, info = jax.jit(learner.step)(jnp.asarray(params), learner.init(jnp.asarray(params)), batch)
    np.testing.assert_allclose(found, theta, atol=1e-12)
    assert info.loss_before == pytest.approx(0.5 * np.mean((phi @ params - target) ** 2), rel=1e-12)
    assert info.loss_after == pytest.approx(0.5 * np.mean((phi @ theta - target) ** 2), rel=1e-12)
    assert info.alpha_hat == pytest.approx(np.sqrt(info.loss_after / info.loss_before), rel=1e-12)
    assert info.num_inner_steps == 7


def test_the_end_of_an_episode_is_worth_nothing():
    # v(s) = 2 s: values 2 and 4, next values 10 and 10, of which the second lies beyond the end.
    batch = td.Transitions(jnp.array([[1.0], [2.0]]), jnp.array([1.0, 1.0]), jnp.full((2, 1), 5.0), jnp.array([False, True]))
    params = jnp.array([2.0])
    np.testing.assert_allclose(td.td_error(_linear, params, batch, 0.9), [1 + 0.9 * 10 - 2, 1 - 4])
    # One gradient step of size 0.1 on the mean: 2 + 0.1 * (1 * 8 + 2 * -3) / 2.
    for learner in (
        td.surrogate_td0(_linear, optax.sgd(0.1), inner_steps=1, discount=0.9),
        td.semi_gradient_td0(_linear, optax.sgd(0.1), discount=0.9),
    ):
        found, _, info = jax.jit(learner.step)(params, learner.init(params), batch)
        np.testing.assert_allclose(found, [2.1], rtol=1e-12)
        assert info.loss_before == pytest.approx((64 + 9) / 4)
    weighted = batch._replace(weight=jnp.array([3.0, 1.0]))
    learner = td.semi_gradient_td0(_linear, optax.sgd(0.1), discount=0.9)
    np.testing.assert_allclose(learner.step(params, learner.init(params), weighted)[0], [2 + 0.1 * (3 * 8 - 6) / 4])


def test_td_learns_the_values_of_the_random_walk():
    problem = random_walk(5)
    seen = jax.jit(lambda key: td.of_chain(problem.chain, key, 400 * 100, np.eye(5)))(jax.random.key(3))
    batches = jax.tree.map(lambda leaf: np.asarray(leaf).reshape(100, 400, *leaf.shape[1:]), seen)
    learner = td.surrogate_td0(_linear, optax.sgd(1.0), inner_steps=10, step_size=0.5, discount=1.0)
    found, _ = _run(learner, jnp.asarray(problem.start), batches)
    np.testing.assert_allclose(found[-50:].mean(0), np.arange(1, 6) / 6, atol=0.02)


def test_a_batch_tenfold_or_weighted_gives_the_same_steps():
    batches, params = _batches(20, 8), jnp.ones(4)
    learner = td.surrogate_td0(_linear, optax.adam(1e-2), inner_steps=5, discount=DISCOUNT)
    plain, told = _run(learner, params, batches)
    tenfold, tenfold_told = _run(learner, params, jax.tree.map(lambda leaf: np.repeat(leaf, 10, axis=1), batches))
    _near(tenfold, plain, 1e-9)
    _near(tenfold_told, told, 1e-9)
    # Each transition as often as its weight says.
    counts = np.array([3, 1, 0, 2, 1, 1, 1, 3])
    repeated = jax.tree.map(lambda leaf: np.repeat(leaf, counts, axis=1), batches)
    weighted = batches._replace(weight=np.broadcast_to(counts.astype(float), (20, 8)))
    for each in (learner, td.semi_gradient_td0(_linear, optax.adam(1e-2), discount=DISCOUNT)):
        _near(_run(each, params, weighted)[0], _run(each, params, repeated)[0], 1e-9)


def test_a_streamed_step_is_a_target_network_renewed_once_a_step():
    stream = _batches(3 * 4, 8)
    stream = stream._replace(weight=np.random.default_rng(5).random((12, 8)))
    batches = jax.tree.map(lambda leaf: leaf.reshape(3, 4, *leaf.shape[1:]), stream)
    params = _small_network(6)
    optimizer = optax.adam(1e-2)
    ours, told = _run(td.streamed_td0(td.mlp_value, optimizer, discount=DISCOUNT), params, batches)

    def loss_of(params, frozen, batch):
        after = jnp.where(batch.is_terminal, 0.0, td.mlp_value(frozen, batch.next_observation))
        errors = td.mlp_value(params, batch.observation) - batch.reward - DISCOUNT * after
        return 0.5 * jnp.sum(batch.weight * errors**2) / jnp.sum(batch.weight)

    state, online = optimizer.init(params), params
    losses = jax.jit(lambda *args: jax.vmap(loss_of, (None, None, 0))(*args).mean())

    @jax.jit
    def learned(online, state, frozen, part):
        updates, state = optimizer.update(jax.grad(loss_of)(online, frozen, part), state, online)
        return optax.apply_updates(online, updates), state

    for outer in range(3):
        frozen = online
        parts = [jax.tree.map(lambda leaf, outer=outer, inner=inner: leaf[outer, inner], batches) for inner in range(4)]
        together = jax.tree.map(lambda *leaves: np.stack(leaves), *parts)
        assert float(told.loss_before[outer]) == pytest.approx(float(losses(online, frozen, together)), rel=1e-9)
        for part in parts:
            online, state = learned(online, state, frozen, part)
        assert float(told.loss_after[outer]) == pytest.approx(float(losses(online, frozen, together)), rel=1e-9)
        _near(jax.tree.map(lambda leaf, outer=outer: leaf[outer], ours), online, 1e-9)
    # With the same batch in every inner step it is the surrogate that reuses one.
    same = jax.tree.map(lambda leaf: np.repeat(leaf[:, :1], 4, axis=1), batches)
    alone = jax.tree.map(lambda leaf: leaf[:, 0], batches)
    reused = td.surrogate_td0(td.mlp_value, optimizer, inner_steps=4, discount=DISCOUNT)
    for ours, theirs in zip(
        _run(td.streamed_td0(td.mlp_value, optimizer, discount=DISCOUNT), params, same),
        _run(reused, params, alone),
        strict=True,
    ):
        _near(ours, theirs, 1e-9)


def test_compiled_is_eager_and_compiled_once():
    first, second = (jax.tree.map(lambda leaf, at=at: leaf[at], _batches(2, 8)) for at in range(2))
    params = _small_network(7)
    num_traces = []

    def step(step_size, discount, params, state, batch):
        num_traces.append(1)
        learner = td.surrogate_td0(
            td.mlp_value, optax.adam(1e-2), inner_steps=3, step_size=step_size, discount=discount, alpha=0.5, keep_best=True
        )
        return learner.step(params, state, batch)

    state = td.surrogate_td0(td.mlp_value, optax.adam(1e-2), inner_steps=3, discount=DISCOUNT).init(params)
    eager = step(jnp.asarray(1.0), jnp.asarray(0.9), params, state, first)
    compiled = jax.jit(step)
    once = compiled(jnp.asarray(1.0), jnp.asarray(0.9), params, state, first)
    _near(once, eager, 1e-10)
    num_traces.clear()
    compiled(jnp.asarray(0.3), jnp.asarray(0.5), *once[:2], second)
    assert not num_traces


def test_a_step_that_fails_is_told_and_not_taken():
    batch = jax.tree.map(lambda leaf: leaf[0], _batches(1, 8))
    bad = batch._replace(reward=np.where(np.arange(8) == 0, np.nan, batch.reward))
    params = jnp.ones(4)
    stacked = jax.tree.map(lambda leaf: leaf[None], bad)
    surrogate = td.surrogate_td0(_linear, optax.sgd(0.1), inner_steps=2, discount=DISCOUNT)
    for learner, data in ((surrogate, bad), (td.streamed_td0(_linear, optax.sgd(0.1), discount=DISCOUNT), stacked)):
        found, state, info = jax.jit(learner.step)(params, learner.init(params), data)
        assert info.result == vi.Result.NONFINITE_OPERATOR and not info.is_accepted
        np.testing.assert_array_equal(found, params)
        assert state.method.step == 0
    usual = td.semi_gradient_td0(_linear, optax.sgd(0.1), discount=DISCOUNT)
    assert jax.jit(usual.step)(params, usual.init(params), bad)[2].result == vi.Result.NONFINITE_OPERATOR
    wild = td.surrogate_td0(_linear, optax.sgd(1e300), inner_steps=3, discount=DISCOUNT)
    assert jax.jit(wild.step)(params, wild.init(params), batch)[2].result == vi.Result.NONFINITE_STEP


def test_what_does_not_fit_is_refused_with_a_cure():
    batch = jax.tree.map(lambda leaf: leaf[0], _batches(1, 8))
    params = jnp.ones((4, 1))
    optimizer = optax.sgd(0.1)
    for build in (
        lambda value, discount: td.surrogate_td0(value, optimizer, inner_steps=1, discount=discount),
        lambda value, discount: td.semi_gradient_td0(value, optimizer, discount=discount),
    ):
        with pytest.raises(ValueError, match="between 0 and 1, got 1.5"):
            build(_linear, 1.5)
        learner = build(_linear, 0.9)
        with pytest.raises(ValueError, match=r"one number for each of 8 transitions, got shape \(8, 1\)"):
            learner.step(params, learner.init(params), batch)
        with pytest.raises(ValueError, match="one axis, the batch"):
            learner.step(params[:, 0], learner.init(params[:, 0]), batch._replace(is_terminal=jnp.zeros((8, 1), bool)))
    with pytest.raises(ValueError, match="inner_steps must be at least 1, got 0"):
        td.surrogate_td0(_linear, optimizer, inner_steps=0, discount=0.9)
    with pytest.raises(ValueError, match="step_size must be positive"):
        td.streamed_td0(_linear, optimizer, step_size=-1.0, discount=0.9)
    streamed = td.streamed_td0(_linear, optimizer, discount=0.9)
    with pytest.raises(ValueError, match="two axes"):
        streamed.step(params[:, 0], streamed.init(params[:, 0]), batch)
    with pytest.raises(ValueError, match="a row for each of 5 states, got 4"):
        td.of_chain(random_walk(5).chain, jax.random.key(0), 3, np.eye(4))
    with pytest.raises(ValueError, match="the last is 1"):
        td.mlp_params(jax.random.key(0), (4, 8))


def test_the_closed_form_of_the_torus_satisfies_the_bellman_equation():
    angles = td.torus.points(jax.random.key(8), 50)
    # Gauss and Hermite's rule is exact here to rounding.
    nodes, weights = np.polynomial.hermite_e.hermegauss(40)
    first, second = np.meshgrid(nodes, nodes, indexing="ij")
    moved = angles[:, None] + np.array(td.torus.DRIFT) + td.torus.NOISE * np.stack([first.ravel(), second.ravel()], 1)
    expected = td.torus.exact_value(moved) @ (np.outer(weights, weights).ravel() / weights.sum() ** 2)
    backed_up = td.torus.reward(angles) + td.torus.DISCOUNT * expected
    np.testing.assert_allclose(td.torus.exact_value(angles), backed_up, atol=1e-9)
    # The reward, written out, and the sampled moves, whose standard error is below 0.003 here.
    one, two = np.asarray(angles).T
    np.testing.assert_allclose(td.torus.reward(angles), np.cos(one) + np.cos(two) + 0.5 * np.cos(one + two), atol=1e-12)

    @jax.jit
    def sampled_value(key, at):
        return td.torus.exact_value(td.torus.moved(key, jnp.broadcast_to(at, (400_000, 2)))).mean()

    sampled = np.array([sampled_value(jax.random.key(9 + number), angles[number]) for number in range(2)])
    np.testing.assert_allclose(td.torus.reward(angles[:2]) + td.torus.DISCOUNT * sampled, backed_up[:2], atol=2e-2)
    spread = td.torus.exact_value(td.torus.points(jax.random.key(10), 100_000)).std()
    assert spread == pytest.approx(15.64, abs=0.1)
    seen = td.torus.transitions(jax.random.key(11), 6)
    np.testing.assert_allclose(seen.observation[:, :2] ** 2 + seen.observation[:, 2:] ** 2, 1.0, rtol=1e-12)
    # One value for two observations of the same angles.
    np.testing.assert_allclose(td.torus.exact_value(angles), td.torus.exact_value(angles + 2 * np.pi), atol=1e-9)


def _torus_errors(inner_steps, num_steps):
    """Return the error of 3 seeds after every 10 outer steps on the torus, trained side by side in single precision."""
    learner = td.surrogate_td0(td.mlp_value, optax.sgd(1e-2), inner_steps=inner_steps, discount=td.torus.DISCOUNT)

    def run(seed, points):
        params_key, data_key = jax.random.split(jax.random.key(seed))
        params = td.mlp_params(params_key)

        def step(carry, key):
            params, state, _ = learner.step(carry[0], carry[1], td.torus.transitions(key, 128))
            return (params, state), None

        def block(carry, keys):
            carry, _ = jax.lax.scan(step, carry, keys)
            return carry, td.torus.rmse(td.mlp_value, carry[0], points)

        keys = jax.random.split(data_key, num_steps).reshape(num_steps // 10, 10)
        return jax.lax.scan(block, (params, learner.init(params)), keys)[1]

    with jax.enable_x64(False):
        points = td.torus.points(jax.random.key(99), 2000)
        return np.asarray(jax.jit(jax.vmap(run, (0, None)))(jnp.arange(3), points))


@pytest.mark.parametrize(
    ("inner_steps", "num_steps"), [(20, 200), *slowly("700 outer steps of three seeds; 20 inner steps guard the law", (5, 700))]
)
def test_inner_steps_save_transitions_on_the_torus(inner_steps, num_steps):
    # The bounds are those of surrogate T15; the medians there to an error of 6 are 100 and 420 outer steps.
    errors = _torus_errors(inner_steps, num_steps)
    assert np.median(errors.min(1)) <= 6.0
    assert np.all(errors[:, 0] > 10.0)


@pytest.mark.slow("1,190 outer steps of three seeds; what is learned with inner steps guards the code")
def test_without_them_the_torus_needs_many():
    # Before 1200 outer steps, surrogate T15; the median there is 1970.
    assert np.median(_torus_errors(1, 1190).min(1)) > 6.0


def test_seeds_side_by_side_are_seeds_one_after_the_other():
    batches = _batches(10, 8)
    learner = td.surrogate_td0(td.mlp_value, optax.adam(1e-2), inner_steps=3, discount=DISCOUNT)

    def run(key):
        params = td.mlp_params(key, (4, 5, 1))

        def step(carry, batch):
            params, state, _ = learner.step(carry[0], carry[1], batch)
            return (params, state), None

        return jax.lax.scan(step, (params, learner.init(params)), batches)[0][0]

    keys = jax.random.split(jax.random.key(12), 3)
    together, alone = jax.jit(jax.vmap(run))(keys), jax.jit(run)
    for seed in range(3):
        _near(jax.tree.map(lambda leaf, seed=seed: leaf[seed], together), alone(keys[seed]), 1e-10)
