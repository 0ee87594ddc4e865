"""Laws that every policy keeps: `unroll` is a scan of `step`, nothing looks ahead, types never drift."""

import inspect
from functools import partial

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.policies.cases import (
    BOARD,
    NUM_ACTIONS,
    NUM_BACKWARD,
    NUM_FEATURES,
    NUM_TIMES,
    NUM_VALUES,
    SETTINGS,
    START,
    make,
    make_loud,
    prefixes,
)
from tests.slowly import slowly

from narrows import policies
from narrows.envs import Hypergrid, Prefix, Sequence, TicTacToe
from narrows.objectives import DetailedBalance, ExpectedDetailedBalance
from narrows.policies import MLP, ColumnNet, ConvNet, PolicyOutput, ResidualMLP, Sizes, sizes_of
from narrows.policies.base import scan_unroll

GUARDED = ("faithful-transformer", "transformer-pre", "scaled")
every_policy = pytest.mark.parametrize(
    "name",
    [
        *(name for name in SETTINGS if name not in GUARDED),
        *slowly("compiles; loops guard the faithful transformer, and the other transformer and the MLP these two", *GUARDED),
    ],
)
letters = st.lists(st.integers(0, START - 1), max_size=NUM_FEATURES)


@eqx.filter_jit
def unroll(policy, observations):
    return policy.unroll(observations)


@eqx.filter_jit
def scanned(policy, observations):
    return scan_unroll(policy, observations)


PUBLIC = [name for name in policies.__all__ if name != "FaithfulConvNet"]
"""All but the authors' network, which reads boards of games alone: tests/policies/test_boards.py."""


def _constructor(name):
    """Return a policy's constructor, with the board that some cannot do without."""
    constructor = getattr(policies, name)
    return partial(constructor, **BOARD) if "rows" in inspect.signature(constructor).parameters else constructor


def take(tree, index):
    return jax.tree.map(lambda leaf: np.asarray(leaf)[index], tree)


def assert_close(left: PolicyOutput, right: PolicyOutput):
    for first, second in zip(jax.tree.leaves(left), jax.tree.leaves(right), strict=True):
        np.testing.assert_allclose(first, second, atol=2e-5, rtol=1e-5)


def test_every_public_policy_is_a_case():
    assert {constructor for constructor, _ in SETTINGS.values()} >= {getattr(policies, name) for name in PUBLIC}


@every_policy
@settings(max_examples=25, deadline=None)
@given(tokens=letters)
def test_unroll_is_a_scan_of_step(name, tokens):
    policy, observations = make_loud(name), prefixes(tokens)
    assert_close(unroll(policy, observations), scanned(policy, observations))


@every_policy
@pytest.mark.parametrize("num_times", [2, *slowly("other lengths; one guards the law", 1, NUM_FEATURES + 1)])
def test_a_shorter_unroll_is_the_beginning_of_a_longer_one(name, num_times):
    policy, observations = make_loud(name), prefixes([0, 2, 1, 1, 0])
    begun = unroll(policy, take(observations, slice(num_times)))
    assert_close(begun, take(unroll(policy, observations), slice(num_times)))


@every_policy
@pytest.mark.parametrize("function", [unroll, *slowly("the other way, which gives the same by the law above", scanned)])
def test_a_batch_is_its_members_one_by_one(name, function):
    policy = make_loud(name)
    members = [prefixes(tokens) for tokens in ([], [1], [2, 2, 0], [0, 1, 2, 0, 1])]
    together = jax.vmap(lambda it: function(policy, it))(jax.tree.map(lambda *leaves: jnp.stack(leaves), *members))
    for row, observations in enumerate(members):
        assert_close(take(together, row), unroll(policy, observations))


@pytest.mark.parametrize("name", ["mlp", *slowly("op by op; the MLP guards the law", "tabular", "transformer-post")])
def test_eager_equals_compiled(name):
    policy, observations = make_loud(name), prefixes([1, 2])
    assert_close(policy.unroll(observations), unroll(policy, observations))


@every_policy
def test_a_step_before_the_last_is_not_moved_by_what_follows(name):
    policy, base = make_loud(name), [0, 2, 1, 1, 0]
    left = unroll(policy, prefixes(base))
    for time in range(NUM_FEATURES):
        changed = base[:time] + [(token + 1) % START for token in base[time:]]
        right = unroll(policy, prefixes(changed))
        assert_close(take(left, slice(time + 1)), take(right, slice(time + 1)))
        assert np.max(np.abs(left.forward_logits[time + 1 :] - right.forward_logits[time + 1 :])) > 1e-3


@every_policy
def test_what_comes_after_the_end_is_finite_and_repeats_the_last(name):
    output = unroll(make_loud(name), prefixes([1, 0]))
    for leaf in jax.tree.leaves(output):
        assert np.all(np.isfinite(leaf))
        np.testing.assert_allclose(leaf[3:], jnp.broadcast_to(leaf[2], leaf[3:].shape), atol=2e-5)


@every_policy
def test_a_repeated_state_in_the_middle_moves_nothing(name):
    policy, plain = make_loud(name), prefixes([1, 0, 2])
    order = np.array([0, 1, 1, 2, 2, 2, 3, 3])
    expected = take(unroll(policy, plain), order)
    assert_close(unroll(policy, take(plain, order)), expected)
    assert_close(scanned(policy, take(plain, order)), expected)


@pytest.mark.parametrize("name", [name for name in SETTINGS if name != "scaled"])
def test_no_gradient_comes_from_the_future(name):
    observations = prefixes([0, 0, 1, 2, 2])

    @eqx.filter_jit
    @eqx.filter_grad
    def gradient_of(policy):
        return sum(jnp.sum(leaf[:3] ** 2) for leaf in jax.tree.leaves(policy.unroll(observations)))

    gradient = gradient_of(make_loud(name))
    if name == "tabular":
        assert np.count_nonzero(np.abs(gradient.forward_logits).sum(axis=1)) == 3  # the root, 0 and 00
        return
    by_value = _by_value(gradient)
    size = np.abs(by_value).sum(axis=-1)
    assert np.all(size[[1, 2]] == 0.0), "values placed later must not be asked"
    assert np.all(size[[0, START]] > 0.0)


def _by_value(gradient):
    """Return the gradient of whatever is looked up by the values of the features, a row a value."""
    match gradient:
        case MLP():
            return gradient.rows.sum(axis=0)
        case ResidualMLP():
            return np.abs(gradient.first.weight.reshape(NUM_FEATURES, NUM_VALUES, -1)).sum(axis=0)
        case ColumnNet():
            return gradient.reader.weight
        case ConvNet():
            return np.abs(gradient.stem.weight).sum(axis=(0, 1))
        case _:
            return gradient.tokens


@every_policy
@pytest.mark.parametrize("num_backward_actions", [None, NUM_BACKWARD])
@pytest.mark.parametrize("flow_head", [False, True])
@pytest.mark.parametrize("child_flow_head", [False, True])
def test_heads_are_there_exactly_if_asked_for(name, num_backward_actions, flow_head, child_flow_head):
    policy = make(name, num_backward_actions=num_backward_actions, flow_head=flow_head, child_flow_head=child_flow_head)
    assert policy.has_backward_head == (num_backward_actions is not None)
    assert policy.has_flow_head == flow_head and policy.has_child_flow_head == child_flow_head
    output = eqx.filter_eval_shape(policy.unroll, prefixes([1]))
    assert output.forward_logits.shape == (NUM_TIMES, NUM_ACTIONS)
    backward = None if output.backward_logits is None else output.backward_logits.shape
    assert backward == (None if num_backward_actions is None else (NUM_TIMES, NUM_BACKWARD))
    assert (None if output.log_flow is None else output.log_flow.shape) == ((NUM_TIMES,) if flow_head else None)
    child_flow = None if output.child_log_flow is None else output.child_log_flow.shape
    assert child_flow == ((NUM_TIMES, NUM_ACTIONS) if child_flow_head else None)


def assert_strong_float32(tree):
    for leaf in jax.tree.leaves(eqx.filter(tree, eqx.is_array_like)):
        assert isinstance(leaf, bool | float) or (leaf.dtype, leaf.weak_type) == (jnp.float32, False)


@every_policy
def test_parameters_are_float32_and_strongly_typed(name):
    assert_strong_float32(make(name))


@every_policy
@pytest.mark.parametrize("is_double", [False, True])
def test_outputs_and_memory_are_float32_without_any_promotion(name, is_double):
    policy, observations = make(name), prefixes([1, 2])
    with jax.enable_x64(is_double), jax.numpy_dtype_promotion("strict"), jax.numpy_rank_promotion("raise"):
        first = jax.tree.map(lambda leaf: leaf[0], observations)
        before = eqx.filter_eval_shape(policy.start)
        output, after = eqx.filter_eval_shape(lambda it: policy.step(policy.start(), it), first)
        whole = eqx.filter_eval_shape(policy.unroll, observations)
    for tree in (before, output, after, whole):
        assert_strong_float32(tree)
    assert jax.tree.map(lambda leaf: leaf.shape, before) == jax.tree.map(lambda leaf: leaf.shape, after)


@every_policy
def test_the_key_decides_the_weights(name):
    again = make.__wrapped__(name, 0)
    arrays = [jax.tree.leaves(eqx.filter(policy, eqx.is_array)) for policy in (make(name), again, make(name, 1))]
    assert all(np.array_equal(a, b) for a, b in zip(arrays[0], arrays[1], strict=True))
    assert any(not np.array_equal(a, b) for a, b in zip(arrays[0], arrays[2], strict=True))


@pytest.mark.parametrize("name", PUBLIC)
def test_the_first_policy_is_nearly_uniform(name):
    policy = _constructor(name)(Sizes(NUM_FEATURES, NUM_VALUES, NUM_ACTIONS, flow_head=True), key=jax.random.key(3))
    output = unroll(policy, prefixes([0, 1, 2, 0, 1]))
    assert float(jnp.max(jnp.abs(jax.nn.softmax(output.forward_logits) - 1 / NUM_ACTIONS))) < 0.02
    assert float(jnp.max(jnp.abs(output.log_flow))) < 0.05


@every_policy
def test_the_second_step_compiles_nothing(name):
    policy, observations = make(name), prefixes([1, 2])
    num_traces = 0

    @eqx.filter_jit
    def step(policy, carry, observation):
        nonlocal num_traces
        num_traces += 1
        return policy.step(carry, observation)

    carry = policy.start()
    for time in range(3):
        _, carry = step(policy, carry, take(observations, time))
    assert num_traces == 1


@every_policy
def test_the_rules_of_a_sequence_give_what_a_policy_reads(name):
    env = Sequence(alphabet="ABC", min_length=0, max_length=NUM_FEATURES)
    state, seen = env.reset(), []
    for action in [2, 0, 1, env.num_tokens]:
        seen.append(env.observe(state))
        state = env.step(state, jnp.int32(action))
    seen += [env.observe(state)] * (NUM_TIMES - len(seen))
    observations = jax.tree.map(lambda *leaves: jnp.stack(leaves), *seen)
    assert_close(unroll(make_loud(name), observations), unroll(make_loud(name), prefixes([2, 0, 1])))


@pytest.mark.parametrize("name", ["tabular", "mlp", "scaled"])
def test_policies_without_memory_read_bare_features_too(name):
    policy, observations = make_loud(name), prefixes([1, 2, 0])
    assert isinstance(observations, Prefix)
    assert_close(unroll(policy, observations.tokens), unroll(policy, observations))


@pytest.mark.parametrize(
    ("sizes", "message"),
    [
        ((0, 2, 2), "num_features must be a whole number of at least 1, got 0"),
        ((2, 0, 2), "num_values must be a whole number of at least 1, got 0"),
        ((2, 2, -1), "num_actions must be a whole number of at least 1, got -1"),
        ((2, 2, 2, 0), "num_backward_actions must be .* got 0. Leave it out"),
    ],
)
def test_impossible_sizes_are_refused(sizes, message):
    with pytest.raises(ValueError, match=message):
        Sizes(*sizes)


def test_sizes_are_those_of_the_environment_and_the_objective():
    env = Hypergrid(2, 5)
    assert sizes_of(env) == Sizes(env.num_features, env.num_values, env.num_actions)
    assert sizes_of(env, learned_backward=True).num_backward_actions == env.num_backward_actions
    assert DetailedBalance().sizes(env) == sizes_of(env, flow_head=True)
    assert ExpectedDetailedBalance().sizes(env) == sizes_of(env, child_flow_head=True)
    with pytest.raises(ValueError, match="learned_backward needs an environment that can step back; TicTacToe cannot"):
        sizes_of(TicTacToe(), learned_backward=True)
