"""Problems ready to use: signs, constants and solutions by second ways, and what `solve` makes of them."""

import itertools
import math
from functools import cache
from typing import Any

import jax
import jax.flatten_util
import jax.numpy as jnp
import numpy as np
import pytest
from tests.slowly import slowly

from narrows import vi
from narrows.vi.problems import (
    MATCHING_PENNIES,
    ROCK_PAPER_SCISSORS,
    Network,
    bilinear,
    duality_gap,
    hidden_matching_pennies,
    hidden_rock_paper_scissors,
    matrix_game,
    quadratic,
    random_quadratic,
    rotation,
)

PAYOFF = ((3.0, 0.0, 1.0), (0.0, 2.0, 0.0), (1.0, 1.0, 4.0), (2.0, 0.0, 3.0))
SKEW = ((1.0, -2.0, 0.5), (2.0, 0.5, 0.0), (0.0, -1.0, 2.0))


@pytest.fixture(autouse=True)
def double_precision():
    with jax.enable_x64(True):
        yield


PROBLEMS = {
    "quadratic": lambda: quadratic(SKEW, (1.0, -1.0, 2.0)),
    "boxed": lambda: quadratic(SKEW, (1.0, -1.0, 2.0), vi.box(-0.2, 0.2)),
    "bilinear": lambda: bilinear(((1.0, 2.0, 0.0), (0.0, 1.0, 3.0)), (0.5, -1.0), (1.0, 2.0, 0.0)),
    "rotation": lambda: rotation(0.5, 2.0),
    "random": lambda: random_quadratic(jax.random.key(0), 6, 0.7, 3.5),
    "game": lambda: matrix_game(PAYOFF),
    "regularised": lambda: matrix_game(PAYOFF, 0.3),
    "pennies": lambda: matrix_game(MATCHING_PENNIES),
    "hidden_pennies": lambda: hidden_matching_pennies().problem,
    "hidden_rock": lambda: hidden_rock_paper_scissors(0.2, key=jax.random.key(1), hidden=4).problem,
}


@cache
def made(name):
    """The problem in double precision."""
    return PROBLEMS[name]()


def call(problem, z) -> Any:
    return problem.operator(z)


def solution_of(problem) -> Any:
    assert problem.solution is not None
    return problem.solution


def solve(problem, method, max_steps=20_000, tol=1e-11):
    # As one program: piece by piece takes longer to compile.
    def run(start):
        return vi.solve(lambda z: call(problem, z), start, method, project=problem.project, max_steps=max_steps, tol=tol)

    return jax.jit(run)(problem.start)


def flat(z):
    return np.asarray(jax.flatten_util.ravel_pytree(z)[0])


@pytest.mark.parametrize("name", PROBLEMS)
def test_strength_and_lipschitz_are_those_of_the_jacobian(name):
    problem = made(name)
    vector, unflatten = jax.flatten_util.ravel_pytree(problem.start)
    jacobian = np.asarray(jax.jit(jax.jacfwd(lambda z: jax.flatten_util.ravel_pytree(call(problem, unflatten(z)))[0]))(vector))
    assert np.linalg.eigvalsh((jacobian + jacobian.T) / 2)[0] == pytest.approx(problem.strength, abs=1e-12)
    assert np.linalg.svd(jacobian, compute_uv=False)[0] == pytest.approx(problem.lipschitz, rel=1e-12)


@pytest.mark.parametrize("name", [name for name in PROBLEMS if name != "boxed"])
def test_solutions_satisfy_the_variational_inequality(name):
    """`<F(z*), z - z*> >= 0` for points of the set in all directions."""
    problem = made(name)
    solution, field = flat(problem.solution), flat(call(problem, problem.solution))
    _, unflatten = jax.flatten_util.ravel_pytree(problem.start)
    points = np.random.default_rng(0).normal(size=(200, len(solution))) * 3
    points[0] = solution
    project = jax.jit(jax.vmap(lambda z: jax.flatten_util.ravel_pytree(problem.project(unflatten(z)))[0]))
    points = np.asarray(project(points))
    np.testing.assert_allclose(points[0], solution, atol=1e-12)
    assert ((points - solution) @ field >= -1e-9).all()


def test_signs_are_those_of_what_the_players_want():
    """Each operator against the gradients of losses: what is maximised counts negative (surrogate 1)."""
    rng = np.random.default_rng(1)
    matrix, b, c = rng.normal(size=(2, 3)), rng.normal(size=2), rng.normal(size=3)
    x, y = jnp.asarray(rng.normal(size=2)), jnp.asarray(rng.normal(size=3))
    first, second = jax.jit(jax.grad(lambda x, y: x @ matrix @ y + b @ x + c @ y, (0, 1)))(x, y)
    np.testing.assert_allclose(flat(call(bilinear(matrix, b, c), (x, y))), flat((first, -second)), rtol=1e-12)

    def paid(x, y):
        pull = 0.5 * 0.7 * (jnp.sum((x - 0.5) ** 2) - jnp.sum((y - 1 / 3) ** 2))
        return x @ matrix @ y + pull

    first, second = jax.jit(jax.grad(paid, (0, 1)))(x, y)
    np.testing.assert_allclose(flat(call(matrix_game(matrix, 0.7), (x, y))), flat((first, -second)), rtol=1e-12)

    def utility(player, x, y):
        outcome = (2 * x - 1) * (2 * y - 1)
        return outcome - 0.3 * (x - 0.5) ** 2 if player == 0 else -outcome - 0.3 * (y - 0.5) ** 2

    at = jnp.float64(0.8), jnp.float64(0.3)
    wanted = [-jax.jit(jax.grad(utility, player + 1), static_argnums=0)(player, *at) for player in (0, 1)]
    np.testing.assert_allclose(flat(call(hidden_matching_pennies(0.3).problem, at)), wanted, rtol=1e-12)

    symmetric = np.array([[2.0, 0.5], [0.5, 1.0]])
    gradient = jax.jit(jax.grad(lambda z: 0.5 * z @ symmetric @ z + b @ z))(x)
    np.testing.assert_allclose(flat(call(quadratic(symmetric, b), x)), flat(gradient), rtol=1e-12)


def test_duality_gap_is_what_pure_replies_gain():
    rng = np.random.default_rng(2)
    x, y = rng.dirichlet(np.ones(4)), rng.dirichlet(np.ones(3))
    costs = [sum(PAYOFF[i][j] * y[j] for j in range(3)) for i in range(4)]
    gains = [sum(PAYOFF[i][j] * x[i] for i in range(4)) for j in range(3)]
    assert float(duality_gap(PAYOFF, (jnp.asarray(x), jnp.asarray(y)))) == pytest.approx(max(gains) - min(costs), rel=1e-12)
    assert float(duality_gap(PAYOFF, solution_of(made("game")))) == pytest.approx(0.0, abs=1e-12)
    with pytest.raises(ValueError, match="payoff must have shape"):
        duality_gap(PAYOFF, (jnp.asarray(y), jnp.asarray(x)))


def test_rock_paper_scissors_is_fair():
    for regularisation in (0.0, 1.0):
        problem = matrix_game(ROCK_PAPER_SCISSORS, regularisation)
        np.testing.assert_allclose(flat(problem.solution), 1 / 3, rtol=1e-12)
        assert problem.lipschitz == pytest.approx(math.sqrt(regularisation**2 + 3))


def test_networks_are_a_loop_over_units():
    """A second way: NumPy and the error function."""
    hidden = hidden_rock_paper_scissors(key=jax.random.key(2), hidden=5)
    assert isinstance(hidden.params[0], Network) and hidden.params[0].weight.shape == (3, 5)
    for network, strategy in zip(hidden.params, hidden.predict(hidden.params), strict=True):
        first, bias, second, shift = map(np.asarray, network)
        before = [first[i, 1] + bias[i] for i in range(5)]
        units = [u * 0.5 * (1 + math.erf(u / math.sqrt(2))) for u in before]
        odds = np.exp([sum(second[k, i] * units[i] for i in range(5)) + shift[k] for k in range(3)])
        np.testing.assert_allclose(strategy, odds / odds.sum(), rtol=1e-12)
        # Away from the solution, as the shifts of the output bias want it.
        assert strategy.max() > 0.6


EXACT = {
    "forward": lambda problem: vi.forward(problem.safe_step_size),
    "extragradient": lambda problem: vi.extragradient(0.5 / problem.lipschitz),
    "optimistic": lambda problem: vi.optimistic(0.3 / problem.lipschitz),
    "proximal_point": lambda problem: vi.proximal_point(0.5 / problem.lipschitz),
}


@pytest.mark.parametrize(
    ("name", "method"),
    # A forward step is safe only for strongly monotone operators.
    [
        *(("quadratic", method) for method in EXACT),
        ("bilinear", "extragradient"),
        *slowly(
            "other problems; every method on one of them guards the law quickly",
            ("regularised", "forward"),
            *(
                (name, method)
                for name in ("bilinear", "game")
                for method in EXACT
                if method != "forward" and (name, method) != ("bilinear", "extragradient")
            ),
        ),
    ],
)
def test_solve_finds_the_exact_solution(name, method):
    problem = made(name)
    found = solve(problem, EXACT[method](problem))
    assert int(found.result) == vi.Result.CONVERGED, found.message
    if name == "bilinear":
        # Solutions are many: it is one where the field vanishes.
        np.testing.assert_allclose(flat(call(problem, found.value)), 0.0, atol=1e-9)
    else:
        np.testing.assert_allclose(flat(found.value), flat(problem.solution), atol=1e-8)


def test_solve_in_a_box_agrees_with_trying_all_faces():
    problem = made("boxed")
    found = solve(problem, vi.forward(problem.safe_step_size))
    matrix, offset = np.array(SKEW), np.array([1.0, -1.0, 2.0])
    solutions = []
    for face in itertools.product((-1, 0, 1), repeat=3):
        z, is_free = 0.2 * np.array(face), np.array(face) == 0
        z[is_free] = np.linalg.solve(matrix[np.ix_(is_free, is_free)], -(matrix @ z + offset)[is_free])
        field = matrix @ z + offset
        is_inside = (np.abs(z) <= 0.2).all()
        if is_inside and (field[np.array(face) == 1] <= 0).all() and (field[np.array(face) == -1] >= 0).all():
            solutions.append(z)
    assert len(solutions) == 1
    np.testing.assert_allclose(found.value, solutions[0], atol=1e-9)


def test_a_batch_of_problems_is_a_loop_over_them_and_compiling_changes_nothing():
    problems = [random_quadratic(jax.random.key(seed), 3, 1.0, 2.0) for seed in range(4)]
    matrices = jnp.stack([jax.jacfwd(lambda z, problem=problem: call(problem, z))(problem.start) for problem in problems])
    offsets = jnp.stack([call(problem, jnp.zeros(3)) for problem in problems])

    def one(matrix, offset):
        return vi.solve(lambda z: matrix @ z + offset, jnp.ones(3), vi.forward(0.25), tol=1e-10)

    together, compiled = jax.vmap(one)(matrices, offsets), jax.jit(one)
    for index, problem in enumerate(problems):
        alone, at_once = solve(problem, vi.forward(0.25), tol=1e-10), compiled(matrices[index], offsets[index])
        for other in (jax.tree.map(lambda leaf, index=index: leaf[index], together), at_once):
            np.testing.assert_allclose(other.value, alone.value, atol=1e-13)
            assert int(other.stats.num_steps) == int(alone.stats.num_steps)
        np.testing.assert_allclose(alone.value, solution_of(problem), atol=1e-9)


@pytest.mark.parametrize("is_double", [False, *slowly("what all tests here compute in", True)])
def test_problems_come_in_the_precision_that_jax_is_set_to(is_double):
    with jax.enable_x64(is_double):
        dtype = jnp.float64 if is_double else jnp.float32
        for name in ("regularised", "hidden_pennies", "hidden_rock"):
            problem = PROBLEMS[name]()
            leaves = jax.tree.leaves((problem.start, problem.solution, call(problem, problem.start)))
            assert {leaf.dtype for leaf in leaves} == {jnp.dtype(dtype)}, name
            if name == "regularised":
                found = solve(problem, vi.extragradient(0.5 / problem.lipschitz), tol=1e-10 if is_double else 1e-5)
                assert int(found.result) == vi.Result.CONVERGED
                np.testing.assert_allclose(flat(found.value), flat(problem.solution), atol=1e-9 if is_double else 1e-4)


def test_simultaneous_gradient_spirals_away_from_a_bilinear_saddle_and_others_do_not():
    """With an orthogonal matrix all points move alike: factors sqrt(1 + eta^2) and sqrt(1 - eta^2 + eta^4) a step."""
    eta, problem = 0.3, bilinear(np.array([[0.6, -0.8], [0.8, 0.6]]))
    for method, squared in ((vi.forward(eta), 1 + eta**2), (vi.extragradient(eta), 1 - eta**2 + eta**4)):
        found = solve(problem, method, max_steps=50, tol=0.0)
        assert np.linalg.norm(flat(found.value)) == pytest.approx(2 * squared**25, rel=1e-10)
    assert int(solve(problem, vi.forward(eta), max_steps=5000).result) == vi.Result.DIVERGED
    with pytest.raises(ValueError, match="only monotone"):
        _ = problem.safe_step_size


def test_matching_pennies_is_solved_by_the_average_of_iterates_that_never_settle():
    problem = matrix_game(MATCHING_PENNIES)
    found = solve(problem, vi.forward(0.02), max_steps=5000)
    assert int(found.result) == vi.Result.MAX_STEPS
    assert float(duality_gap(MATCHING_PENNIES, found.value)) > 0.3
    assert float(duality_gap(MATCHING_PENNIES, found.stats.average)) < 0.05


def test_random_quadratics_differ_with_the_key_and_equal_constants_leave_no_choice():
    first, second = (random_quadratic(jax.random.key(seed), 3, 1.0, 2.0) for seed in (0, 1))
    assert not np.allclose(solution_of(first), solution_of(second))
    z = jnp.arange(3.0)
    same = random_quadratic(jax.random.key(0), 3, 2.0, 2.0)
    np.testing.assert_allclose(call(same, z), 2.0 * (z - solution_of(same)), rtol=1e-12)


def test_offsets_out_of_reach_leave_no_solution():
    assert quadratic(((1.0, 0.0), (0.0, 0.0)), (1.0, 1.0)).solution is None
    assert bilinear(((1.0,), (0.0,)), (1.0, 1.0)).solution is None


@pytest.mark.parametrize(
    ("make", "match"),
    [
        (lambda: quadratic(((1.0, 0.0),)), "must be square"),
        (lambda: quadratic(((-1.0, 0.0), (0.0, 1.0))), "must be monotone"),
        (lambda: quadratic(SKEW, (1.0,)), "offset must have shape"),
        (lambda: bilinear(np.array([1.0, 2.0])), "two axes"),
        (lambda: bilinear(((1.0, 2.0),), (1.0, 2.0)), "offset_x must have shape"),
        (lambda: rotation(2.0, 1.0), "strength between 0 and it|0 <= strength <= lipschitz"),
        (lambda: random_quadratic(jax.random.key(0), 1, 1.0, 1.0), "size must be at least 2"),
        (lambda: matrix_game(np.array([1.0, 2.0])), "a row and a column"),
        (lambda: matrix_game(((1.0, math.inf),)), "finite"),
        (lambda: matrix_game(PAYOFF, -1.0), "regularisation must be at least 0"),
        (lambda: hidden_matching_pennies(-1.0), "regularisation must be at least 0"),
        (lambda: hidden_matching_pennies(weights=((1.0, 0.0), (1.0, 1.0))), "other than 0"),
        (lambda: hidden_rock_paper_scissors(), "either key"),
        (lambda: hidden_rock_paper_scissors(key=jax.random.key(0), hidden=0), "hidden must be at least 1"),
    ],
)
def test_bad_input_is_told(make, match):
    with pytest.raises(ValueError, match=match):
        make()
