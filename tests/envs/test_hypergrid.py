"""The hypergrid against plain loops over the grid."""

import itertools
import math

import jax
import pytest
from tests.reference.graph import count_trajectories, explore, key_of

from narrows.envs import Hypergrid

SIZES = [(1, 2), (1, 5), (2, 3), (3, 3), (4, 2)]


def num_paths(point):
    """Return the multinomial number of orders in which the steps to a point can be taken."""
    return math.factorial(sum(point)) // math.prod(math.factorial(x) for x in point)


@pytest.mark.parametrize(("ndim", "side"), SIZES)
def test_masks_and_moves_equal_the_grid(ndim, side):
    env = Hypergrid(ndim, side)
    nodes = explore(env)
    points = list(itertools.product(range(side), repeat=ndim))
    assert set(nodes) == {(*point, is_done) for point in points for is_done in (False, True)}
    for key, node in nodes.items():
        *point, is_done = key
        assert node.is_terminal == is_done
        expected: dict[int, tuple] = {ndim: (*point, True)}
        for axis in range(ndim):
            if point[axis] < side - 1:
                expected[axis] = (*point[:axis], point[axis] + 1, *point[axis + 1 :], False)
        assert node.children == ({} if is_done else expected)


@pytest.mark.parametrize(("ndim", "side"), SIZES)
def test_a_point_has_as_many_trajectories_as_orders_of_its_steps(ndim, side):
    counts = count_trajectories(explore(Hypergrid(ndim, side)))
    assert counts == {(*p, True): num_paths(p) for p in itertools.product(range(side), repeat=ndim)}


@pytest.mark.parametrize(("ndim", "side"), SIZES)
def test_parents_are_the_steps_undone(ndim, side):
    env = Hypergrid(ndim, side)
    nodes = explore(env)
    parents = {key: set() for key in nodes}
    for key, node in nodes.items():
        for child in node.children.values():
            parents[child].add(key)

    @jax.jit
    def back(state):
        return env.backward_mask(state), jax.vmap(env.backward_step, in_axes=(None, 0))(state, jax.numpy.arange(ndim + 1))

    for key, node in nodes.items():
        mask, found = back(node.state)
        rows = [jax.tree.map(lambda leaf, row=row: leaf[row], found) for row in range(ndim + 1) if mask[row]]
        assert {key_of(row) for row in rows} == parents[key]
        assert len(rows) == len(parents[key])


def test_the_farthest_corner_takes_max_steps():
    env = Hypergrid(ndim=3, side=4)
    state, num_steps = env.reset(), 0
    while not env.is_terminal(state):
        state = env.step(state, jax.numpy.argmax(env.action_mask(state)))
        num_steps += 1
    assert state.coordinates.tolist() == [3, 3, 3]
    assert num_steps == env.max_steps == 10


def test_texts_round_trip_and_nonsense_is_refused():
    env = Hypergrid(ndim=2, side=12)
    states = env.from_text(["0 11", "10 3"])
    assert states.coordinates.tolist() == [[0, 11], [10, 3]]
    assert states.is_done.tolist() == [True, True]
    assert env.to_text(states) == ["0 11", "10 3"]
    assert env.to_text(env.from_text([])) == []
    for text in ("", "1", "1 2 3", "1 12", "1 -2", "1 a", "1.0 2", "1,2"):
        with pytest.raises(ValueError, match="expected 2 integers in 0 to 11") as error:
            env.from_text(["0 0", text])
        assert repr(text) in str(error.value)


def test_observation_sizes_and_refusals():
    env = Hypergrid(ndim=3, side=5)
    assert (env.num_actions, env.num_backward_actions, env.num_features, env.num_values) == (4, 4, 3, 5)
    assert env.observe(env.from_text(["1 2 4"])).tolist() == [[1, 2, 4]]
    with pytest.raises(ValueError, match="ndim must be at least 1, got 0"):
        Hypergrid(ndim=0)
    with pytest.raises(ValueError, match="side must be at least 2, got 1"):
        Hypergrid(side=1)
