"""The inequalities of the theory on thousands of random problems that satisfy its assumptions: no violation."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from narrows import vi
from narrows.vi.metric import half_square
from narrows.vi.problems import rotation


@pytest.fixture(autouse=True)
def double_precision():
    with jax.enable_x64(True):
        yield


def random_fields(rng, num, size):
    """Matrices of strongly monotone operators, neither symmetric nor normal, with mu and L; and step sizes below 2 mu / L^2."""
    root, skew = rng.normal(size=(2, num, size, size))
    matrix = root @ root.swapaxes(1, 2) / size + 0.2 * np.eye(size) + skew - skew.swapaxes(1, 2)
    strength = np.linalg.eigvalsh((matrix + matrix.swapaxes(1, 2)) / 2)[:, 0]
    lipschitz = np.linalg.norm(matrix, 2, axis=(1, 2))
    eta = 2 * strength / lipschitz**2 * rng.uniform(0.05, 0.95, num)
    return matrix, strength, lipschitz, eta


def rho_of(strength, lipschitz, eta):
    return np.sqrt(1 - 2 * eta * strength + (eta * lipschitz) ** 2)


def test_theorem_a_bounds_every_inexact_step():
    """3000 random operators, errors of random length in random directions."""
    rng = np.random.default_rng(1)
    matrix, strength, lipschitz, eta = random_fields(rng, 3000, 4)
    alpha, z, direction = rng.uniform(size=3000), rng.normal(size=(3000, 4)), rng.normal(size=(3000, 4))
    direction /= np.linalg.norm(direction, axis=1, keepdims=True)

    def one(matrix, eta, alpha, z, direction):
        def miss(residual, params, state, scale):
            missed = residual(params)
            return params - missed + alpha * jnp.linalg.norm(missed) * direction, state, half_square(missed)

        method = vi.surrogate(vi.forward(eta), vi.Inner(lambda params: (), miss))
        after, _, info = method.step(lambda params: params, lambda z: matrix @ z, z, method.init(z, z))
        return after, info.alpha_hat

    after, measured = jax.jit(jax.vmap(one))(matrix, eta, alpha, z, direction)
    np.testing.assert_allclose(measured, alpha, rtol=1e-8, atol=1e-10)
    bound = (rho_of(strength, lipschitz, eta) + alpha * eta * lipschitz) * np.linalg.norm(z, axis=1)
    ratio = np.linalg.norm(after, axis=1) / bound
    # The bound holds, and it is no empty one.
    assert 0.95 < ratio.max() <= 1 + 1e-12


SETS = {"box": vi.box(-1.0, 1.0), "ball": vi.ball(1.0), "simplex": vi.simplex}


@pytest.mark.parametrize("name", SETS)
def test_t5_gap_inequalities_and_theorem_b_on_convex_sets(name):
    """B1, B2, B4 and `r' <= (alpha + rho (1 + alpha)) r` over 3400 random problems on each set: no violation."""
    rng = np.random.default_rng(2)
    matrix, strength, lipschitz, eta = random_fields(rng, 3400, 4)
    points, fraction = rng.normal(size=(3400, 3, 4)), rng.uniform(size=3400)
    run = jax.jit(jax.vmap(lambda *case: gap_case(SETS[name], *case)))
    cases = {key: np.asarray(value) for key, value in run(matrix, eta, points, fraction).items()}
    rho = rho_of(strength, lipschitz, eta)
    for key in ("b1_of_inexact", "b1_of_start", "largest_of_b2"):
        assert cases[key].min() >= -1e-12, key
    np.testing.assert_allclose(cases["gap"], cases["b2"], rtol=1e-10, atol=1e-12)
    assert (cases["distance"] <= cases["gap_root"] / (1 - rho) + 1e-7).all()
    bound = (cases["alpha"] + rho * (1 + cases["alpha"])) * cases["gap_root"]
    assert (cases["next_gap_root"] <= bound + 1e-7).all()
    is_far = bound > 1e-3
    assert (cases["next_gap_root"][is_far] / bound[is_far]).max() > 0.9


def gap_case(project, matrix, eta, points, fraction):
    # The operator whose solution is the projection of a point: its field there is normal to the set.
    beyond = 1.5 * points[0]
    solution, z, elsewhere = project(beyond), project(points[1]), project(points[2])

    def operator(z):
        return matrix @ (z - solution) - (beyond - solution)

    method = vi.projected(vi.forward(eta), project)
    exact, _, info = method.step(operator, z, method.init(z))
    field, target = operator(z), z - eta * operator(z)

    def gap(at):
        return half_square(at - target) - vi.distance_bound(project)(target)

    # On the way from the exact step to another point the gap is a parabola: stop where it is alpha^2 of the first.
    curve, slope = half_square(elsewhere - exact), (exact - target) @ (elsewhere - exact)
    wanted = fraction**2 * gap(z)
    root = jnp.sqrt(slope**2 + 4.0 * curve * wanted)
    inexact = exact + jnp.clip(2.0 * wanted / (slope + root + 1e-30), 0.0, 1.0) * (elsewhere - exact)
    _, _, next_info = method.step(operator, inexact, method.init(z))
    return {
        "b1_of_inexact": gap(inexact) - half_square(inexact - exact),
        "b1_of_start": gap(z) - half_square(z - exact),
        "gap": gap(z),
        "b2": eta * field @ (z - exact) - half_square(z - exact),
        "largest_of_b2": gap(z) - eta * field @ (z - elsewhere) + half_square(z - elsewhere),
        "gap_root": info.gap_root,
        "next_gap_root": next_info.gap_root,
        "distance": jnp.linalg.norm(z - solution),
        # At a vertex that is the solution there is nothing left to gain.
        "alpha": jnp.where(gap(z) > 0, jnp.sqrt(jnp.maximum(gap(inexact), 0.0) / gap(z)), 0.0),
    }


@pytest.mark.parametrize(("num_predictions", "num_params", "steps"), [(3, 5, 1), (5, 3, 3), (4, 4, 10)])
def test_t6_gradient_steps_on_a_linear_model_contract_the_energy_of_theorem_c(num_predictions, num_params, steps):
    """1000 random models for each number of inner steps, with more and with fewer parameters than predictions."""
    rng = np.random.default_rng(3)
    matrix, strength, lipschitz, eta = random_fields(rng, 1000, num_predictions)
    features, shift = rng.normal(size=(1000, num_predictions, num_params)), rng.normal(size=(1000, num_predictions, 1))
    params = rng.normal(size=(1000, num_params, 1))
    left, singular, _ = np.linalg.svd(features, full_matrices=False)
    rate = rng.uniform(0.2, 1.0, 1000) / singular[:, 0] ** 2

    def one(matrix, features, shift, params, rate, eta):
        method = vi.surrogate(vi.forward(eta), optax.sgd(rate), steps)
        state = method.init(params, shift)
        return method.step(lambda params: features @ params, lambda z: matrix @ z + shift, params, state)[0]

    after = np.asarray(jax.jit(jax.vmap(one))(matrix, features, shift, params, rate, eta))
    # In coordinates of the range, where K is diagonal.
    turned = left.swapaxes(1, 2)
    solution = np.linalg.solve(turned @ matrix @ left, -turned @ shift)
    weights = 1 - (1 - rate[:, None] * singular**2) ** steps

    def energy(params):
        return (((turned @ features @ params - solution)[..., 0] ** 2) / weights).sum(1)

    gain = 2 * eta * strength - (eta * lipschitz) ** 2
    ratio, bound = energy(after) / energy(params), 1 - gain * weights.min(1)
    assert (ratio <= bound + 1e-10).all() and (bound < 1).all()
    assert (ratio / bound).max() > 0.95


def test_t6_one_gradient_step_converges_although_its_alpha_is_above_the_threshold():
    problem, features = rotation(1.0, 3.0), jnp.array([[0.5, 0.1], [0.0, 0.4]])
    method = vi.surrogate(vi.forward(problem.safe_step_size), optax.sgd(1.0))

    def once(carry, _):
        params, state, info = method.step(lambda params: features @ params, problem.operator, *carry)
        return (params, state), (jnp.linalg.norm(features @ params), info.alpha_hat)

    params = jnp.ones(2)
    _, (norms, alphas) = jax.lax.scan(once, (params, method.init(params, params)), length=3000)
    assert float(alphas.min()) > 2 * problem.strength / problem.lipschitz
    assert float(norms[-1]) < 1e-10
