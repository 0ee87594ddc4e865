"""Networks over boards: the written-out gradient of convolutions, and what the authors' network sees."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from tests.slowly import slowly

from narrows.envs import ConnectFour, TicTacToe
from narrows.policies import ConvNet, FaithfulConvNet, Scaled, Sizes
from narrows.policies.convnet import Convolution


def test_the_gradient_of_a_convolution_is_that_of_slow_loops():
    layer = Convolution(2, 3, 1.0, jax.random.key(0))
    planes = jax.random.normal(jax.random.key(1), (2, 3, 4, 2))
    weights = jax.random.normal(jax.random.key(2), (2, 3, 4, 3))

    def slow(weight, bias, planes):
        around = jnp.pad(planes, ((0, 0), (1, 1), (1, 1), (0, 0)))
        cells = [
            [sum(around[:, r + i, c + j] @ weight[i, j] for i in range(3) for j in range(3)) + bias for c in range(4)]
            for r in range(3)
        ]
        return jnp.stack([jnp.stack(row, axis=1) for row in cells], axis=1)

    def number(function):
        return lambda *arguments: jnp.sum(weights * function(*arguments) ** 2)

    def fast(weight, bias, planes):
        return Convolution.__call__(_with(layer, weight, bias), planes)

    arguments = (layer.weight, layer.bias + 0.1, planes)
    np.testing.assert_allclose(fast(*arguments), slow(*arguments), rtol=1e-5, atol=1e-5)
    found = jax.jit(jax.grad(number(fast), argnums=(0, 1, 2)))(*arguments)
    expected = jax.jit(jax.grad(number(slow), argnums=(0, 1, 2)))(*arguments)
    for ours, theirs in zip(found, expected, strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-4)


def _with(layer, weight, bias):
    new = object.__new__(Convolution)
    object.__setattr__(new, "weight", weight)
    object.__setattr__(new, "bias", bias)
    return new


@pytest.mark.parametrize(
    "env", [ConnectFour(4, 4, shows_threats=False), *slowly("another board; stones that fall guard the law", TicTacToe())]
)
def test_the_authors_network_sees_colours_and_has_a_head_for_each_player(env):
    net = FaithfulConvNet(
        Sizes(env.num_features, 3, env.num_actions, flow_head=True),
        *env.board,
        channels=4,
        blocks=1,
        squeeze=2,
        key=jax.random.key(0),
    )
    state = env.reset()
    for action in (0, 1, 2):
        is_second, planes = net._planes(env.observe(state).reshape(1, *env.board))
        assert bool(is_second[0]) == bool(env.turn(state) == 1)
        text = _picture(env, state)
        for plane, stone in ((0, "x"), (1, "o")):
            expected = [[cell == stone for cell in row] for row in text]
            assert np.asarray(planes[0, :, :, plane]).tolist() == expected
        assert np.unique(planes[0, :, :, 2]).tolist() == [float(env.turn(state))]
        assert np.unique(planes[0, :, :, 3]).tolist() == [sum(row.count("x") + row.count("o") for row in text)]
        state = env.step(state, jnp.asarray(action, jnp.int32))
    first, second = (env.observe(env.reset()), env.observe(state))
    outputs = net.unroll(jnp.stack([first, second]))
    alone = net.step((), second)[0]
    np.testing.assert_allclose(outputs.forward_logits[1], alone.forward_logits, rtol=1e-5, atol=1e-6)
    with pytest.raises(ValueError, match="shows_threats"):
        FaithfulConvNet(Sizes(42, 10, 7), 6, 7, key=jax.random.key(0))


def _picture(env, state):
    batch = jax.tree.map(lambda leaf: jnp.asarray(leaf)[None], state)
    return [list(row) for row in env.to_text(batch)[0].split("/")]


def test_a_flow_scale_is_a_factor_of_the_log_flow_alone():
    net = ConvNet(Sizes(9, 3, 9, flow_head=True), 3, 3, channels=2, blocks=0, squeeze=1, hidden=4, key=jax.random.key(0))
    observations = jax.random.randint(jax.random.key(1), (5, 9), 0, 3)
    plain, scaled = net.unroll(observations), Scaled(net, 2.0, 7.0).unroll(observations)
    assert scaled.log_flow is not None
    assert plain.log_flow is not None
    np.testing.assert_allclose(scaled.log_flow, 7.0 * plain.log_flow, rtol=1e-6)
    np.testing.assert_allclose(scaled.forward_logits, 2.0 * plain.forward_logits, rtol=1e-6)


def test_a_board_of_another_size_is_refused():
    with pytest.raises(ValueError, match="multiple of rows"):
        ConvNet(Sizes(42, 10, 7), 5, 5, key=jax.random.key(0))
