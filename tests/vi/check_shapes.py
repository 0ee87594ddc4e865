"""A walk through `narrows.vi` with every shape annotation checked; `test_shapes.py` runs it in a process of its own.

With the word "all" it tries every method and every learner.
"""

import sys

from jaxtyping import install_import_hook

with install_import_hook(["narrows.vi"], "beartype.beartype"):
    import jax
    import jax.numpy as jnp
    import numpy as np
    import optax

    from narrows import vi
    from narrows.vi.td import torus

METHODS = (vi.forward(0.05), vi.extragradient(0.05), vi.optimistic(0.05), vi.proximal_point(0.05, 3))
INNERS = (optax.sgd(1.0), vi.levenberg_marquardt(0.01), optax.adam(0.01), vi.gauss_newton())
IS_ALL = "all" in sys.argv


def walk_games() -> None:
    game = vi.problems.matrix_game(vi.problems.ROCK_PAPER_SCISSORS, 0.5)
    hidden = vi.problems.hidden_rock_paper_scissors(0.5, key=jax.random.key(0), hidden=4)
    pennies = vi.problems.hidden_matching_pennies()
    found = vi.solve(game.operator, game.start, METHODS[1], project=game.project, max_steps=3)
    assert np.isfinite(vi.problems.duality_gap(vi.problems.ROCK_PAPER_SCISSORS, found.value))
    # One walk is enough for each: annotations are slow to check.
    walks = list(zip(METHODS, INNERS, (hidden, pennies, hidden, pennies), strict=True))
    for method, inner, problem in walks if IS_ALL else walks[1:2]:
        bound = vi.distance_bound(problem.problem.project) if problem is hidden else None
        surrogate = vi.surrogate(method, inner, 2, alpha=0.9, lower_bound=bound, keep_best=True, normalise=True)
        state = surrogate.init(problem.params, problem.problem.start)
        _, _, info = surrogate.step(problem.predict, problem.problem.operator, problem.params, state)
        assert np.isfinite(info.loss_after)


def walk_affine() -> None:
    for problem in (vi.problems.bilinear(np.eye(2, 3)), vi.problems.random_quadratic(jax.random.key(1), 3, 0.5, 2.0)):
        assert vi.solve(problem.operator, problem.start, vi.optimistic(0.2), max_steps=2).stats.num_steps == 2
    plane = vi.product(vi.affine(np.ones((1, 2)), np.ones(1)), vi.ball(1.0))
    plane((jnp.ones(2), jnp.ones(3)))
    for metric in (vi.batch_mean, vi.weighted(np.ones(2)), vi.matrix(np.eye(2))):
        metric(jnp.ones((2,)))


def walk_values() -> None:
    chain = vi.problems.chain_100()
    seen = vi.problems.walk(chain.chain, jax.random.key(2), 5)
    vi.problems.simulate(
        chain, seen, lambda moments, params: vi.problems.surrogate_step(moments, params, 1.0, 0.01, 3), chain.start
    )
    assert np.isfinite(chain.error(jnp.asarray(chain.solution)))
    batch = torus.transitions(jax.random.key(3), 6)
    params = vi.td.mlp_params(jax.random.key(4))
    for learner in (
        vi.td.surrogate_td0(vi.td.mlp_value, optax.sgd(0.1), inner_steps=2, discount=0.9),
        vi.td.semi_gradient_td0(vi.td.mlp_value, optax.sgd(0.1), discount=0.9),
    ):
        learner.step(params, learner.init(params), batch)
    streamed = vi.td.streamed_td0(vi.td.mlp_value, optax.sgd(0.1), discount=0.9)
    streamed.step(params, streamed.init(params), jax.tree.map(lambda leaf: jnp.stack([leaf, leaf]), batch))


walk_games()
walk_affine()
if IS_ALL:
    walk_values()
print("every shape is as annotated")
