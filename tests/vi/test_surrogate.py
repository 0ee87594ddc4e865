"""Surrogate steps against gradients, Jacobians and loops written out here; `t1` in a name is surrogate T1, and so on."""

from typing import get_args

import jax
import jax.flatten_util
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from tests.slowly import slowly

from narrows import vi
from narrows.vi.base import Result
from narrows.vi.least_squares import Solver


@pytest.fixture(autouse=True)
def _double():
    with jax.enable_x64(True):
        yield


def mlp(key, sizes=(3, 8, 8, 2)):
    keys = jax.random.split(key, len(sizes))
    return [(jax.random.normal(k, (a, b)) / a**0.5, 0.1 * jnp.ones(b)) for k, a, b in zip(keys, sizes, sizes[1:], strict=False)]


def outputs(params, inputs):
    for weight, bias in params[:-1]:
        inputs = jnp.tanh(inputs @ weight + bias)
    weight, bias = params[-1]
    return inputs @ weight + bias


INPUTS = np.random.default_rng(0).normal(size=(5, 3))
TWIST = np.random.default_rng(1).normal(size=(10, 10))


def operator(z):
    """A field that is no gradient."""
    return (jnp.tanh(z.ravel() @ TWIST) + z.ravel()).reshape(z.shape)


def predict(params):
    return outputs(params, INPUTS)


def jacobian(params):
    return _jacobian(params), *jax.flatten_util.ravel_pytree(params)


@jax.jit
def _jacobian(params):
    flat, unflatten = jax.flatten_util.ravel_pytree(params)
    return jax.jacobian(lambda flat: predict(unflatten(flat)).ravel())(flat)


def take(method, params, num=1, at=predict, field=operator):
    state, infos = method.init(params, at(params)), []
    for _ in range(num):
        params, state, info = method.step(at, field, params, state)
        infos.append(info)
    return params, state, infos


@jax.jit
def regression(params, target):
    """Return the surrogate loss and its gradient, once compiled for all the loops written out here."""
    return jax.value_and_grad(lambda params: 0.5 * jnp.sum((predict(params) - target) ** 2))(params)


def descended(params, target, rates):
    """Return gradient descent towards a target, every iterate with its loss, the start first."""
    loss, grads = regression(params, target)
    found = [(params, float(loss))]
    for rate in rates:
        params = jax.tree.map(lambda leaf, grad, rate=rate: leaf - rate * grad, params, grads)
        loss, grads = regression(params, target)
        found.append((params, float(loss)))
    return found


def furthest(one, two):
    return max(float(abs(a - b).max()) for a, b in zip(jax.tree.leaves(one), jax.tree.leaves(two), strict=True))


def assert_close(one, two, tolerance):
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=0, atol=tolerance), one, two)


def test_t1_first_gradient_and_first_loss_are_those_of_the_operator():
    params, eta = mlp(jax.random.key(0)), 0.3
    jac, flat, unflatten = jacobian(params)
    field = operator(predict(params))
    # An optimiser that adds the gradient to the parameters shows it.
    found, _, (info,) = take(vi.surrogate(vi.forward(eta), optax.scale(1.0)), params)
    assert_close(optax.tree.sub(found, params), unflatten(eta * jac.T @ field.ravel()), 1e-10)
    np.testing.assert_allclose(info.loss_before, 0.5 * eta**2 * jnp.sum(field**2), rtol=1e-12)
    np.testing.assert_allclose(info.gap_root, eta * jnp.linalg.norm(field), rtol=1e-12)
    np.testing.assert_allclose(info.residual, jnp.linalg.norm(field), rtol=1e-12)


def test_t1_no_gradient_flows_through_the_target():
    method = vi.surrogate(vi.forward(0.1), optax.sgd(0.1))
    params = mlp(jax.random.key(0))
    moved = vi.OfParams(lambda z, theta: operator(z) + outputs(theta, 2.0 * INPUTS))
    constant = operator(predict(params)) + outputs(params, 2.0 * INPUTS)
    assert_close(take(method, params, field=moved)[0], take(method, params, field=lambda z: constant)[0], 0.0)


def test_t2_one_step_of_sgd_is_gradient_play():
    params = by_hand = mlp(jax.random.key(1))
    rate, eta = 0.05, 0.2
    pull = jax.jit(lambda params: jax.vjp(predict, params)[1](operator(predict(params)))[0])
    method = vi.surrogate(vi.forward(eta), optax.sgd(rate))
    step = jax.jit(lambda params, state: method.step(predict, operator, params, state))
    state = method.init(params, predict(params))
    for _ in range(100):
        params, state, _ = step(params, state)
        by_hand = jax.tree.map(lambda leaf, grad: leaf - rate * eta * grad, by_hand, pull(by_hand))
    assert_close(params, by_hand, 1e-12)


@pytest.mark.parametrize("inner_steps", [2, *slowly("more steps; two guard the law", 7)])
def test_more_inner_steps_are_a_regression_on_a_frozen_target(inner_steps):
    params = mlp(jax.random.key(2))
    optimizer, eta = optax.adam(1e-2), 0.2
    by_hand, inner, target = params, optimizer.init(params), predict(params)
    for _ in range(3):
        target = predict(by_hand) - eta * operator(predict(by_hand))
        for _ in range(inner_steps):
            grads = regression(by_hand, target)[1]
            updates, inner = optimizer.update(grads, inner, by_hand)
            by_hand = optax.apply_updates(by_hand, updates)
    found, _, infos = take(vi.surrogate(vi.forward(eta), optimizer, inner_steps), params, 3)
    assert_close(found, by_hand, 1e-12)
    assert infos[-1].num_inner_steps == inner_steps
    np.testing.assert_allclose(infos[-1].loss_after, 0.5 * jnp.sum((predict(by_hand) - target) ** 2), rtol=1e-9)
    np.testing.assert_allclose(infos[-1].alpha_hat, jnp.sqrt(infos[-1].loss_after / infos[-1].loss_before), rtol=1e-12)


def test_inner_state_is_kept_or_reset():
    params = mlp(jax.random.key(3))
    by_hand, eta, optimizer = params, 0.2, optax.adam(1e-2)
    for _ in range(2):
        target = predict(by_hand) - eta * operator(predict(by_hand))
        grads = regression(by_hand, target)[1]
        by_hand = optax.apply_updates(by_hand, optimizer.update(grads, optimizer.init(by_hand), by_hand)[0])
    assert_close(take(vi.surrogate(vi.forward(eta), optimizer, reset_inner_state=True), params, 2)[0], by_hand, 1e-12)
    kept = take(vi.surrogate(vi.forward(eta), optimizer), params, 2)[0]
    assert furthest(kept, by_hand) > 1e-4


def test_extragradient_keeps_its_anchor_and_starts_from_the_half_step():
    params, eta, rates = mlp(jax.random.key(4)), 0.2, [0.05, 0.05]
    anchor = predict(params)
    half = descended(params, anchor - eta * operator(anchor), rates)[-1][0]
    (_, before), *_, (end, after) = descended(half, anchor - eta * operator(predict(half)), rates)
    found, _, (info,) = take(vi.surrogate(vi.extragradient(eta), optax.sgd(0.05), 2), params)
    assert_close(found, end, 1e-12)
    assert info.num_inner_steps == 4
    np.testing.assert_allclose((info.loss_before, info.loss_after), (before, after), rtol=1e-9)


def test_extragradient_is_two_anchored_iterations_and_many_are_the_proximal_point():
    matrix = jnp.array([[0.3, 1.0], [-1.0, 0.2]])
    z, eta = jnp.array([1.0, -2.0]), 0.4
    for method, num in ((vi.extragradient(eta), 2), (vi.proximal_point(eta, 60), 60)):
        runner, by_hand = vi.projected(method), z
        for _ in range(num):
            by_hand = z - eta * matrix @ by_hand
        np.testing.assert_allclose(runner.step(lambda z: matrix @ z, z, runner.init(z))[0], by_hand, rtol=1e-12)
    resolvent = jnp.linalg.solve(jnp.eye(2) + eta * matrix, z)
    np.testing.assert_allclose(by_hand, resolvent, rtol=1e-12)


def test_optimistic_looks_back_one_step():
    z = params = jnp.array([1.0, 2.0])
    matrix, eta, previous = jnp.array([[0.0, 1.0], [-1.0, 0.0]]), 0.3, None
    method = vi.surrogate(vi.optimistic(eta), optax.sgd(1.0))
    state = method.init(params, params)
    for _ in range(4):
        field = matrix @ z
        z = z - eta * (2 * field - (field if previous is None else previous))
        previous = field
        params, state, _ = method.step(lambda params: params, lambda z: matrix @ z, params, state)
        np.testing.assert_allclose(params, z, rtol=1e-12)


def test_t17_gauss_newton_is_preconditioned_hidden_gradient_descent():
    params, eta = mlp(jax.random.key(5)), 0.3
    jac, flat, unflatten = jacobian(params)
    field = np.asarray(operator(predict(params)).ravel())
    by_jacobian = flat - eta * np.linalg.pinv(jac) @ field
    by_gram = flat - eta * np.linalg.pinv(jac.T @ jac, rcond=1e-12) @ (jac.T @ field)
    np.testing.assert_allclose(by_jacobian, by_gram, atol=1e-8)
    assert_close(take(vi.preconditioned_hidden_gradient(eta), params)[0], unflatten(by_jacobian), 1e-12)
    assert_close(
        take(vi.damped_gauss_newton(eta, 0.5), params)[0], take(vi.preconditioned_hidden_gradient(0.5 * eta), params)[0], 1e-12
    )
    once, twice = (take(vi.damped_gauss_newton(eta, 0.5, num), params)[0] for num in (1, 2))
    assert abs(once[0][0] - twice[0][0]).max() > 1e-3


def test_t17_levenberg_marquardt_lies_between_gauss_newton_and_a_gradient_step():
    params, eta = mlp(jax.random.key(6)), 0.3
    jac, flat, unflatten = jacobian(params)
    residual = eta * operator(predict(params)).ravel()

    def step(damping, solver: Solver = "auto"):
        return take(vi.surrogate(vi.forward(eta), vi.levenberg_marquardt(damping, solver)), params)[0]

    for damping in (1e-2, 1.0):
        by_hand = flat - jnp.linalg.solve(jac.T @ jac + damping * jnp.eye(len(flat)), jac.T @ residual)
        for solver in get_args(Solver):
            assert_close(step(damping, solver), unflatten(by_hand), 1e-10 if solver == "cg" else 1e-12)
    assert_close(step(1e-9), take(vi.preconditioned_hidden_gradient(eta), params)[0], 1e-6)
    far = jax.flatten_util.ravel_pytree(step(1e9))[0] - flat
    np.testing.assert_allclose(far * 1e9, -jac.T @ residual, rtol=0, atol=1e-5)


def test_t17_a_tall_jacobian_solves_in_parameters():
    params = jnp.array([0.3, -0.2])
    features = jnp.asarray(np.random.default_rng(2).normal(size=(6, 2)))
    found = take(vi.surrogate(vi.forward(1.0), vi.levenberg_marquardt(0.5)), params, at=lambda p: features @ p, field=jnp.tanh)[
        0
    ]
    field = jnp.tanh(features @ params)
    by_hand = params - jnp.linalg.solve(features.T @ features + 0.5 * jnp.eye(2), features.T @ field)
    np.testing.assert_allclose(found, by_hand, rtol=1e-12)


def test_t17_gauss_newton_in_the_fisher_metric_is_the_natural_gradient():
    params, eta = mlp(jax.random.key(7)), 0.3
    jac, flat, unflatten = jacobian(params)
    root = np.random.default_rng(3).normal(size=(10, 10))
    fisher = root @ root.T + np.eye(10)
    cost = np.asarray(operator(predict(params)).ravel())
    method = vi.preconditioned_hidden_gradient(eta, vi.matrix(fisher))
    found = take(method, params, field=lambda z: jnp.linalg.solve(fisher, operator(z).ravel()).reshape(z.shape))[0]
    natural = flat - eta * np.linalg.pinv(jac.T @ fisher @ jac, rcond=1e-12) @ (jac.T @ cost)
    assert_close(found, unflatten(natural), 1e-9)


def test_alpha_descent_stops_as_soon_as_it_holds():
    params = mlp(jax.random.key(8))
    target = predict(params) - 0.1 * operator(predict(params))
    path = descended(params, target, [0.02] * 20)
    needed = next(num for num, (_, loss) in enumerate(path) if loss <= 0.81 * path[0][1])
    assert 2 < needed < 20
    found, _, (info,) = take(vi.surrogate(vi.forward(0.1), optax.sgd(0.02), 100, alpha=0.9), params)
    assert info.num_inner_steps == needed
    assert info.alpha_hat <= 0.9
    assert_close(found, path[needed][0], 1e-12)
    assert take(vi.surrogate(vi.forward(0.1), optax.sgd(0.02), 2, alpha=0.9), params)[2][0].num_inner_steps == 2


@pytest.mark.parametrize("alpha", [None, 0.9])
def test_keep_best_never_ends_worse_than_it_began(alpha):
    params = mlp(jax.random.key(9))
    wild = vi.surrogate(vi.forward(0.1), optax.sgd(3.0), 4, alpha=alpha)
    assert take(wild, params)[2][0].alpha_hat > 1.0
    careful = vi.surrogate(vi.forward(0.1), optax.sgd(3.0), 4, alpha=alpha, keep_best=True)
    found, _, (info,) = take(careful, params)
    assert info.alpha_hat == 1.0 and not info.is_accepted
    assert_close(found, params, 0.0)
    good = vi.surrogate(vi.forward(0.1), optax.sgd(0.02), 4, alpha=alpha, keep_best=True)
    assert take(good, params)[2][0].is_accepted


def test_keep_best_returns_the_best_of_all_inner_iterates():
    params = mlp(jax.random.key(9))
    path = descended(params, predict(params) - 0.1 * operator(predict(params)), [0.02, 0.02, 0.02, 4.0, 4.0, 4.0])
    best = int(np.argmin([loss for _, loss in path]))
    assert 0 < best < 5
    rate = optax.piecewise_constant_schedule(0.02, {3: 200.0})
    found, _, (info,) = take(vi.surrogate(vi.forward(0.1), optax.sgd(rate), 6, keep_best=True), params)
    np.testing.assert_allclose(info.loss_after, path[best][1], rtol=1e-12)
    assert_close(found, path[best][0], 1e-12)


def test_normalising_changes_adam_and_not_sgd():
    params = mlp(jax.random.key(10))
    for optimizer, changes in ((optax.sgd(0.01), False), (optax.adam(0.01), True)):
        plain, normal = (take(vi.surrogate(vi.forward(0.1), optimizer, 3, normalise=on), params)[0] for on in (False, True))
        difference = abs(plain[0][0] - normal[0][0]).max()
        assert (difference > 1e-4) if changes else (difference < 1e-12)


def test_t19_adam_inside_comes_to_rest_only_when_normalised():
    game = vi.problems.hidden_matching_pennies()

    def run(inner, **settings):
        method = vi.surrogate(vi.forward(1 / 17), inner, 20, **settings)

        def once(carry, _):
            params, state, info = method.step(game.predict, game.problem.operator, *carry)
            x, y = game.predict(params)
            return (params, state), (jnp.hypot(x - 0.5, y - 0.5), info.alpha_hat)

        start = game.params, method.init(game.params, game.problem.start)
        return jax.jit(lambda start: jax.lax.scan(once, start, length=700)[1])(start)

    for reset in (False, True):
        distance, alpha = run(optax.adam(0.05), reset_inner_state=reset)
        assert distance[-100:].max() > 1e-4 and alpha.max() > 1.0
    distance, alpha = run(optax.adam(1.0), normalise=True, reset_inner_state=True)
    # 108, 256 and 549 steps to 1e-2, 1e-4 and 1e-8, alpha 0.15 on the way (surrogate 5.2).
    assert [int(np.argmax(np.asarray(distance) < level)) + 1 for level in (1e-2, 1e-4, 1e-8)] == [108, 256, 549]
    np.testing.assert_allclose(alpha[:549].mean(), 0.15, atol=0.01)


def test_lower_bound_makes_alpha_exact_where_a_target_is_out_of_reach():
    # One number in [0, 1]; from 0.5 the target is 1.5, of which the last 0.5 cannot be had.
    logit, eta = jnp.zeros(1), 1.0
    bound = vi.distance_bound(vi.box(0.0, 1.0))
    method = vi.surrogate(vi.forward(eta), optax.sgd(1.0), 3, lower_bound=bound)
    found, _, (info,) = take(method, logit, at=jax.nn.sigmoid, field=lambda z: -jnp.ones(1))
    z = float(jax.nn.sigmoid(found)[0])
    np.testing.assert_allclose(info.alpha_hat**2, ((1.5 - z) ** 2 - 0.25) / (1.0 - 0.25), rtol=1e-12)
    np.testing.assert_allclose(info.gap_root, np.sqrt(2 * (0.5 - 0.125)), rtol=1e-12)


def test_t20_a_batch_ten_times_over_changes_nothing():
    params, eta = mlp(jax.random.key(11)), 0.5
    targets = np.random.default_rng(4).normal(size=(5, 2))

    def run(times, metric):
        inputs, wanted = np.tile(INPUTS, (times, 1)), np.tile(targets, (times, 1))
        method = vi.surrogate(vi.forward(eta), optax.sgd(0.1), 4, metric=metric)
        return take(method, params, 3, at=lambda p: outputs(p, inputs), field=lambda z: jnp.tanh(z - wanted))[0]

    metrics = (1, vi.batch_mean), (10, vi.batch_mean), (10, vi.weighted(np.ones(50))), (1, vi.euclidean), (10, vi.euclidean)
    once, tenfold, weighted, plain, plain_tenfold = jax.jit(lambda: [run(*each) for each in metrics])()
    assert_close(once, tenfold, 1e-12)
    assert_close(once, weighted, 1e-12)
    assert abs(plain[0][0] - plain_tenfold[0][0]).max() > 1e-3


def test_any_pytree_of_predictions_and_parameters():
    params = {"a": jnp.ones(2), "b": (jnp.zeros((2, 2)),)}

    def split(params):
        return {"x": jnp.tanh(params["a"] + params["b"][0].sum(0)), "y": [params["b"][0] * 2.0 - 1.0]}

    def field(z):
        return jax.tree.map(lambda leaf: leaf - 0.3, z)

    methods = (vi.forward(0.3), vi.extragradient(0.3), vi.optimistic(0.3), vi.proximal_point(0.3, 4))
    inners = (optax.adam(0.05), vi.gauss_newton(), vi.levenberg_marquardt(0.1), optax.sgd(0.1))
    for method, inner in zip(methods, inners, strict=True):
        now, _, infos = jax.jit(lambda params, m=method, i=inner: take(vi.surrogate(m, i, 2), params, 2, split, field))(params)
        assert jax.tree.structure(now) == jax.tree.structure(params)
        assert infos[-1].residual < infos[0].residual


@pytest.mark.parametrize("dtype", [jnp.float32, *slowly("what all tests here compute in", jnp.float64)])
def test_precision_is_that_of_the_parameters(dtype):
    params = jax.tree.map(lambda leaf: leaf.astype(dtype), mlp(jax.random.key(0)))
    inputs = INPUTS.astype(dtype)
    method = vi.surrogate(vi.extragradient(optax.linear_schedule(0.1, 0.01, 10)), optax.adam(1e-3), 2)
    state = method.init(params, outputs(params, inputs))
    params, state, info = method.step(lambda p: outputs(p, inputs), lambda z: z - 1.0, params, state)
    assert {leaf.dtype for leaf in jax.tree.leaves(params)} == {jnp.dtype(dtype)}
    assert info.loss_before.dtype == dtype


def test_compiled_is_eager_and_a_new_step_size_compiles_nothing():
    params, compiled = mlp(jax.random.key(12)), 0

    @jax.jit
    def step(eta, rate, params, state):
        nonlocal compiled
        compiled += 1
        method = vi.surrogate(vi.extragradient(eta), optax.sgd(rate), 3)
        return method.step(predict, operator, params, state)

    for eta in (0.1, 0.2, 0.05):
        method = vi.surrogate(vi.extragradient(eta), optax.sgd(0.05), 3)
        state = method.init(params, predict(params))
        assert_close(
            step(jnp.asarray(eta), jnp.asarray(0.05), params, state), method.step(predict, operator, params, state), 1e-12
        )
    assert compiled == 1


def test_mapped_over_problems_is_a_loop():
    many = jax.vmap(mlp)(jax.random.split(jax.random.key(13), 4))
    twists = jnp.arange(1.0, 5.0)
    method = vi.surrogate(vi.forward(0.1), optax.adam(1e-2), 20, alpha=0.7)

    def run(params, twist):
        state = method.init(params, predict(params))
        return method.step(predict, lambda z: twist * operator(z), params, state)

    mapped, one = jax.jit(jax.vmap(run))(many, twists), jax.jit(run)
    for item in range(4):
        alone = one(*jax.tree.map(lambda leaf, item=item: leaf[item], (many, twists)))
        assert_close(jax.tree.map(lambda leaf, item=item: leaf[item], mapped), alone, 1e-12)
    assert len(set(np.asarray(mapped[2].num_inner_steps).tolist())) > 1


def test_what_is_wrong_with_the_operator_is_said():
    params, method = mlp(jax.random.key(0)), vi.surrogate(vi.forward(0.1), optax.sgd(0.1))
    state = method.init(params, predict(params))
    with pytest.raises(ValueError, match=r"shape of the predictions, \(5, 2\), got \(5,\)"):
        method.step(predict, lambda z: z[:, 0], params, state)
    with pytest.raises(ValueError, match="pytree like the predictions"):
        method.step(predict, lambda z: (z,), params, state)


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: vi.forward(-0.1), "step_size must be positive"),
        (lambda: vi.extragradient(0.0), "step_size must be positive"),
        (lambda: vi.optimistic(float("nan")), "step_size must be positive"),
        (lambda: vi.proximal_point(0.1, 0), "num_iterations must be at least 1"),
        (lambda: vi.surrogate(vi.forward(0.1), optax.sgd(0.1), 0), "inner_steps must be at least 1"),
        (lambda: vi.surrogate(vi.forward(0.1), optax.sgd(0.1), alpha=1.0), "alpha must lie between"),
        (lambda: vi.gauss_newton(0.0), "scale must be positive"),
        (lambda: vi.surrogate(vi.forward(0.1), optax.adam), "inner must be an optax optimiser"),  # pyright: ignore[reportArgumentType]
        (lambda: vi.surrogate(0.1, optax.sgd(0.1)), "method must be forward"),  # pyright: ignore[reportArgumentType]
        (lambda: vi.projected(vi.forward), "method must be forward"),  # pyright: ignore[reportArgumentType]
        (lambda: vi.levenberg_marquardt(0.0), "gauss_newton"),
        (lambda: vi.levenberg_marquardt(0.1, "qr"), "solver must be"),  # pyright: ignore[reportArgumentType]
    ],
)
def test_settings_out_of_range_are_refused(make, said):
    with pytest.raises(ValueError, match=said):
        make()


@pytest.mark.parametrize(
    ("method", "field", "inner", "result"),
    [
        (vi.forward(0.1), lambda z: z / 0.0, optax.sgd(0.1), Result.NONFINITE_OPERATOR),
        (vi.forward(0.1), jnp.tanh, optax.sgd(1e308), Result.NONFINITE_STEP),
        (vi.forward(lambda step: -1.0 + 0.0 * step), jnp.tanh, optax.sgd(0.1), Result.BAD_STEP_SIZE),
    ],
)
@pytest.mark.parametrize("is_compiled", [False, True])
def test_a_step_that_fails_says_so_and_changes_nothing(method, field, inner, result, is_compiled):
    params = mlp(jax.random.key(0))
    method = vi.surrogate(method, inner, 3)
    state = method.init(params, predict(params))
    step = (jax.jit if is_compiled else lambda step: step)(lambda *args: method.step(predict, field, *args))
    moved, after, info = step(params, state)
    assert Result(int(info.result)) is result and result.is_failure and len(result.message) > 40
    assert not info.is_accepted
    assert_close((moved, after), (params, state), 0.0)


def test_unread_losses_are_not_computed():
    """The compiler leaves out the forward pass behind `loss_after` where nobody reads it."""
    params, inputs = mlp(jax.random.key(0), (3, 64, 64, 2)), np.ones((128, 3))
    method = vi.surrogate(vi.forward(0.1), optax.sgd(0.1))

    def step(params, state):
        return method.step(lambda p: outputs(p, inputs), jnp.tanh, params, state)

    def by_hand(params):
        z = outputs(params, inputs)
        target = jax.lax.stop_gradient(z - 0.1 * jnp.tanh(z))
        grads = jax.grad(lambda params: 0.5 * jnp.sum((outputs(params, inputs) - target) ** 2))(params)
        return jax.tree.map(lambda leaf, grad: leaf - 0.1 * grad, params, grads)

    def flops(function, *args):
        costs = jax.jit(function).lower(*args).compile().cost_analysis()
        assert costs is not None
        return costs["flops"]

    state = method.init(params, outputs(params, inputs))
    hand = flops(by_hand, params)
    assert flops(lambda *args: step(*args)[:2], params, state) < 1.05 * hand
    assert flops(step, params, state) > 1.15 * hand
