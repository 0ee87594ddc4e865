"""Projections and inner products against their definitions, and `solve` against problems solved another way."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.optimize import minimize

from narrows import vi
from narrows.vi.base import Result


@pytest.fixture(autouse=True)
def _double():
    with jax.enable_x64(True):
        yield


POINTS = 2.0 * np.random.default_rng(0).normal(size=(40, 4))
PLANE, LEVEL = np.array([[1.0, 2.0, 0.0, -1.0], [2.0, 4.0, 0.0, -2.0]]), np.array([1.0, 2.0])
SETS = {
    "simplex": (vi.simplex, [{"type": "eq", "fun": lambda u: u.sum() - 1.0}], [(0, None)] * 4),
    "box": (vi.box(-0.5, 1.0), [], [(-0.5, 1.0)] * 4),
    "ball": (vi.ball(1.5, jnp.ones(4)), [{"type": "ineq", "fun": lambda u: 2.25 - np.sum((u - 1.0) ** 2)}], [(None, None)] * 4),
    "plane": (vi.affine(PLANE, LEVEL), [{"type": "eq", "fun": lambda u: PLANE[0] @ u - LEVEL[0]}], [(None, None)] * 4),
}


@pytest.mark.parametrize("name", SETS)
def test_a_projection_is_the_nearest_point_of_the_set(name):
    project, constraints, bounds = SETS[name]
    found = np.asarray(jax.vmap(project)(jnp.asarray(POINTS)))
    for point, nearest in zip(POINTS[:4], found, strict=False):
        other = minimize(
            lambda u, p=point: np.sum((u - p) ** 2), nearest * 0.9, bounds=bounds, constraints=constraints, tol=1e-14
        )
        np.testing.assert_allclose(nearest, other.x, atol=1e-6)
    np.testing.assert_allclose(jax.vmap(project)(found), found, atol=1e-12)
    # <y - P(y), u - P(y)> <= 0 for every u of the set.
    inner = np.einsum("id,ijd->ij", POINTS - found, found[None] - found[:, None])
    assert inner.max() <= 1e-10


def test_a_product_is_projected_part_by_part_and_a_batch_row_by_row():
    x, y = POINTS[0], POINTS[1]
    got = vi.product(vi.simplex, vi.box(0.0, 1.0))((x, y))
    np.testing.assert_array_equal(got[0], vi.simplex(x))
    np.testing.assert_array_equal(got[1], np.clip(y, 0.0, 1.0))
    np.testing.assert_allclose(vi.simplex(jnp.asarray(POINTS)), jnp.stack([vi.simplex(jnp.asarray(row)) for row in POINTS]))
    np.testing.assert_allclose(vi.distance_bound(vi.ball(1.0))(jnp.array([3.0, 4.0])), 8.0)


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: vi.box(1.0, 0.0), "lower must not exceed"),
        (lambda: vi.ball(0.0), "radius must be positive"),
        (lambda: vi.affine(np.eye(2), np.ones(3)), "one number a row"),
        (lambda: vi.product(vi.simplex, vi.simplex)(jnp.ones(3)), "tuple of as many parts"),
        (lambda: vi.product(vi.simplex)((jnp.ones(3), jnp.ones(2))), "got 2 parts"),
        (lambda: vi.simplex(jnp.ones(())), "single number"),
        (lambda: vi.weighted([-1.0, 2.0]), "at least 0"),
        (lambda: vi.weighted(np.ones((2, 1))), "one axis"),
        (lambda: vi.weighted([1.0, 2.0])(jnp.ones((3, 1))), "weights are for 2"),
        (lambda: vi.batch_mean((jnp.ones(3), jnp.ones(2))), "one first axis"),
        (lambda: vi.matrix(np.eye(3))(jnp.ones(2)), "weights are for 3"),
    ],
)
def test_sets_and_weights_that_cannot_be_are_refused(make, said):
    with pytest.raises(ValueError, match=said):
        make()


def test_inner_products_are_those_of_their_names():
    z = (jnp.asarray(POINTS[:5]), jnp.asarray(POINTS[5:10, 0]))
    rows = np.array([float(np.sum(np.asarray(a) ** 2) + float(b) ** 2) for a, b in zip(*z, strict=True)])
    weights = np.array([1.0, 2.0, 0.0, 3.0, 4.0])

    def square(metric):
        return sum(float(jnp.sum(leaf**2)) for leaf in metric(z))

    np.testing.assert_allclose(square(vi.euclidean), rows.sum(), rtol=1e-12)
    np.testing.assert_allclose(square(vi.batch_mean), rows.mean(), rtol=1e-12)
    np.testing.assert_allclose(square(vi.weighted(weights)), rows @ weights / weights.sum(), rtol=1e-12)
    root = np.random.default_rng(1).normal(size=(25, 25))
    flat = np.concatenate([np.ravel(part) for part in z])
    full = root @ root.T + np.eye(25)
    np.testing.assert_allclose(square(vi.matrix(full)), flat @ full @ flat, rtol=1e-10)


def test_operators_have_the_signs_of_what_players_want():
    x, y = jnp.asarray(POINTS[0]), jnp.asarray(POINTS[1, :3])
    payoff = jnp.asarray(POINTS[:4, :3])
    assert_same(vi.minimum(lambda z: 0.5 * jnp.sum(z**2))(x), x)
    assert_same(vi.saddle(lambda x, y: x @ payoff @ y)((x, y)), (payoff @ y, -payoff.T @ x))
    # Three players, the last of whom raises a utility.
    losses = (lambda a, b, c: a * b, lambda a, b, c: b**2 * c, lambda a, b, c: -(a * c + c**2))
    assert_same(vi.game(losses)((2.0, 3.0, 5.0)), (3.0, 30.0, -12.0))
    with pytest.raises(ValueError, match="game of 3 players needs a tuple of as many parts, got 2 parts"):
        vi.game(losses)((1.0, 2.0))


def assert_same(got, expected):
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-12), got, expected)


def test_the_regularised_gap_is_a_maximum_and_zero_at_the_solution():
    project, eta = vi.box(-1.0, 1.0), 0.4
    z, force = np.clip(POINTS[0], -1.0, 1.0), POINTS[1]
    gap = vi.regularised_gap(jnp.asarray(z), jnp.asarray(force), eta, project)
    tried = np.random.default_rng(2).uniform(-1.0, 1.0, (100_000, 4))
    values = (z - tried) @ force - np.sum((z - tried) ** 2, axis=1) / (2 * eta)
    assert values.max() <= gap and values.max() > 0.9 * gap
    method = vi.projected(vi.forward(eta), project)
    info = method.step(lambda _: jnp.asarray(force), jnp.asarray(z), method.init(jnp.asarray(z)))[2]
    np.testing.assert_allclose(info.gap_root, np.sqrt(2 * eta * gap), rtol=1e-9)
    np.testing.assert_allclose(vi.regularised_gap(jnp.ones(4), -jnp.ones(4), eta, project), 0.0, atol=1e-12)
    np.testing.assert_allclose(vi.regularised_gap(jnp.ones(4), force, eta), 0.5 * eta * force @ force, rtol=1e-12)


MATRIX = np.array([[1.0, 2.0, 0.0], [-2.0, 0.5, 1.0], [0.0, -1.0, 0.3]])
OFFSET = np.array([1.0, -0.5, 0.2])


def field(z):
    return MATRIX @ z + OFFSET


@pytest.mark.parametrize("method", [vi.forward(0.05), vi.extragradient(0.2), vi.optimistic(0.15), vi.proximal_point(0.3, 40)])
def test_solve_finds_the_root_and_says_so(method):
    found = vi.solve(field, jnp.ones(3), method, tol=1e-10)
    assert found.result == Result.CONVERGED and found.message == Result.CONVERGED.message
    np.testing.assert_allclose(found.value, np.linalg.solve(MATRIX, -OFFSET), atol=1e-8)
    assert found.stats.residual <= 1e-10 and 5 < found.stats.num_steps < 3000


def test_solve_in_a_box_meets_the_conditions_of_complementarity():
    found = vi.solve(field, jnp.full(3, 9.0), vi.extragradient(0.2), project=vi.box(-0.9, -0.2), tol=1e-12).value
    force = field(found)
    for z, f in zip(np.asarray(found), np.asarray(force), strict=True):
        assert -0.9 <= z <= -0.2
        assert (z < -0.9 + 1e-9 and f > -1e-9) or (z > -0.2 - 1e-9 and f < 1e-9) or abs(f) < 1e-9
    assert {bool(-0.899 < z < -0.201) for z in found} == {True, False}, "without both kinds of coordinates it shows little"


def test_results_say_how_a_run_ended():
    def ending(operator, method, **settings):
        found = vi.solve(operator, jnp.ones(3), method, **settings)
        assert np.all(np.isfinite(found.value))
        return Result(int(found.result)), found

    assert ending(field, vi.forward(0.05), max_steps=3)[0] is Result.MAX_STEPS
    assert ending(lambda z: z / 0.0, vi.forward(0.1))[0] is Result.NONFINITE_OPERATOR
    assert ending(field, vi.forward(lambda step: 0.1 - 0.1 * step))[0] is Result.BAD_STEP_SIZE
    result, found = ending(lambda z: 5.0 * z, vi.forward(1.0))
    assert result is Result.DIVERGED and "smaller step size" in found.message
    assert ending(lambda z: jnp.log(z - 0.5), vi.forward(5.0))[0] is Result.NONFINITE_OPERATOR


def test_a_run_goes_on_where_it_was_left():
    whole = vi.solve(field, jnp.ones(3), vi.optimistic(0.15), max_steps=30, tol=0.0)
    half = vi.solve(field, jnp.ones(3), vi.optimistic(0.15), max_steps=10, tol=0.0)
    rest = vi.solve(field, half.value, vi.optimistic(0.15), max_steps=20, tol=0.0, state=half.state)
    np.testing.assert_allclose(rest.value, whole.value, rtol=1e-12)
    assert rest.state.step == 30


def test_the_average_of_a_cycle_is_its_center():
    turn = jnp.array([[0.0, 1.0], [-1.0, 0.0]])
    found = vi.solve(lambda z: turn @ (z - 1.0), jnp.array([2.0, 1.0]), vi.forward(1e-3), max_steps=62_832, tol=0.0)
    assert jnp.linalg.norm(found.value - 1.0) > 0.9
    np.testing.assert_allclose(found.stats.average, 1.0, atol=0.01)


def test_a_noisy_operator_draws_anew_in_every_step():
    def noisy(key, z):
        return field(z) + jax.random.normal(key, z.shape)

    key = jax.random.key(0)
    found = vi.solve(noisy, jnp.ones(3), vi.forward(lambda step: 5.0 / (50.0 + step)), max_steps=20_000, tol=0.0, key=key)
    assert found.result == Result.MAX_STEPS
    np.testing.assert_allclose(found.value, np.linalg.solve(MATRIX, -OFFSET), atol=0.1)
    other = vi.solve(noisy, jnp.ones(3), vi.forward(0.01), max_steps=5, tol=0.0, key=jax.random.key(1)).value
    assert abs(other - vi.solve(noisy, jnp.ones(3), vi.forward(0.01), max_steps=5, tol=0.0, key=key).value).max() > 1e-3


def test_solve_is_compiled_once_for_many_problems():
    compiled = 0

    @jax.jit
    def solved(step_size, offsets):
        nonlocal compiled
        compiled += 1
        return jax.vmap(lambda b: vi.solve(lambda z: MATRIX @ z + b, jnp.zeros(3), vi.extragradient(step_size), tol=1e-9))(
            offsets
        )

    offsets = jnp.asarray(POINTS[:7, :3])
    for step_size in (0.2, 0.1):
        found = solved(jnp.asarray(step_size), offsets)
        np.testing.assert_allclose(found.value, np.linalg.solve(MATRIX, -offsets.T).T, atol=1e-7)
    assert compiled == 1 and len(set(np.asarray(found.stats.num_steps).tolist())) > 1


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.float64])
def test_solve_keeps_the_precision_of_its_start(dtype):
    start = (jnp.ones(2, dtype), {"y": jnp.ones((), dtype)})
    found = vi.solve(lambda z: jax.tree.map(lambda leaf: leaf - 0.5, z), start, vi.extragradient(0.5), tol=1e-5)
    assert {leaf.dtype for leaf in jax.tree.leaves(found.value)} == {jnp.dtype(dtype)}
    assert found.result == Result.CONVERGED


@pytest.mark.parametrize(
    ("settings", "start", "said"),
    [
        ({"max_steps": 0}, jnp.ones(3), "max_steps must be at least 1"),
        ({"tol": -1.0}, jnp.ones(3), "tol must be at least 0"),
        ({}, jnp.ones(3, int), "floating-point"),
        ({}, jnp.ones(4), "shape"),
        ({}, (), "at least one array"),
    ],
)
def test_what_solve_cannot_take_is_refused(settings, start, said):
    with pytest.raises((ValueError, TypeError), match=said):
        vi.solve(lambda z: MATRIX @ z if z.shape == (3,) else z[:3], start, vi.forward(0.1), **settings)
