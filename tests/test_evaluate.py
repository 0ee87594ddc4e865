"""The heads on a whole batch and their gradient: in chunks, from records, against stepping through every trajectory."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from tests.reference.cases import quick_jit
from tests.slowly import slowly

from narrows.envs import BitSequence, Hypergrid, Sequence, Subsets, perturbed
from narrows.envs.base import NO_ACTION
from narrows.envs.perturbation import AbstractPerturbed, ReversiblePerturbed
from narrows.noise import Substitution
from narrows.objectives import DetailedBalance, StochasticDetailedBalance
from narrows.objectives.base import LossContext
from narrows.policies import MLP, Tabular, Transformer, sizes_of
from narrows.policies.base import AbstractPolicy, Model, PolicyOutput, Scaled, scan_unroll
from narrows.trajectories import evaluate as chunked
from narrows.trajectories import path, sample, sample_with_cache, sampling
from narrows.trajectories.draw import draw

NUM = 24
ONE_CHUNK, MANY_CHUNKS = 256, 16
"""Rows a chunk."""


def _sizes(env, *, backward=False):
    return sizes_of(env, learned_backward=backward, flow_head=True, child_flow_head=True)


def _mlp(env, *, backward=False, **given):
    return MLP(_sizes(env, backward=backward), hidden=16, **given, key=jax.random.key(0))


def _transformer(env, **given):
    return Transformer(_sizes(env), layers=2, width=8, heads=2, feed_forward=8, **given, key=jax.random.key(0))


NOISY_LETTERS = perturbed(Sequence("AB", 1, 5), Substitution(Sequence("AB", 1, 5), 0.3))
NOISY_GRID = ReversiblePerturbed(Hypergrid(2, 5), Substitution(Hypergrid(2, 5), 0.3))


class Remembers(AbstractPolicy):
    """The least that someone's own policy with a memory implements: `start` and `step`."""

    weight: jax.Array

    @property
    def has_backward_head(self):
        return False

    @property
    def has_flow_head(self):
        return True

    def start(self):
        return jnp.zeros(())

    def step(self, carry, observation):
        carry = jnp.tanh(carry + observation.last * self.weight[0])
        return PolicyOutput(carry * self.weight, None, carry * self.weight[1]), carry


CASES = {
    "grid": (Hypergrid(2, 6), _mlp, {}),
    "grid, backward head": (Hypergrid(2, 6), _mlp, {"backward": True}),
    "subsets, gelu": (Subsets(5), _mlp, {"backward": True, "activation": "gelu"}),
    "letters": (Sequence("AB", 1, 5), _transformer, {}),
    "letters, pre": (Sequence("AB", 1, 5), _transformer, {"norm": "pre", "activation": "silu"}),
    "bits": (BitSequence(16, 2), _transformer, {}),
    "table": (Subsets(4), lambda env: Tabular(sizes_of(env, flow_head=True), 1.0, key=jax.random.key(0)), {}),
    "noisy letters": (NOISY_LETTERS, _transformer, {}),
    "noisy grid, backward head": (NOISY_GRID, _mlp, {"backward": True}),
    "own": (Sequence("AB", 1, 5), lambda env: Remembers(jnp.array([0.3, -0.5, 0.9])), {}),
}


def _model(name):
    env, make, given = CASES[name]
    model = Model(Scaled(make(env, **given), 3.0), jnp.asarray(1.5))
    noise = jax.tree.map(lambda leaf: 0.05 * jax.random.normal(jax.random.key(leaf.size), leaf.shape), model)
    return env, jax.tree.map(jnp.add, model, noise)


def _stepping(policy, observations, is_needed, record=None):
    return jax.vmap(lambda one: scan_unroll(policy, one), in_axes=1, out_axes=1)(observations)


def _distance(found, expected):
    norm = float(np.sqrt(sum(np.sum(np.square(leaf)) for leaf in jax.tree.leaves(expected))))
    difference = jax.tree.map(jnp.subtract, found, expected)
    return float(np.sqrt(sum(np.sum(np.square(leaf)) for leaf in jax.tree.leaves(difference)))) / norm


# Half of the batch was recorded, as when past trajectories are added to fresh ones.
PARTS = ((MANY_CHUNKS, 0.5),)
ALL = ((ONE_CHUNK, 0.0), *PARTS)
# One network of each kind shows that chunks and records do not depend on each other.
CROSSED = (*ALL, (ONE_CHUNK, 1.0), (MANY_CHUNKS, 0.0))


@pytest.mark.parametrize(
    ("name", "ways"),
    [
        ("grid, backward head", PARTS),
        ("letters", PARTS),
        ("own", ((ONE_CHUNK, 0.0),)),
        *slowly(
            "the same law for other networks, chunks and rules, each a program of seconds; an MLP, a transformer and a "
            "policy of one's own guard it quickly, and tests/objectives/test_expected.py compares losses in noise with loops",
            *((name, CROSSED if name in ("grid", "letters") else ALL) for name in CASES),
        ),
    ],
    ids=str,
)
def test_losses_and_gradients_are_those_of_stepping(name, ways, monkeypatch):
    env, model = _model(name)
    # The one of each kind that asks for every head: a program takes seconds to compile.
    objective = StochasticDetailedBalance() if isinstance(env, AbstractPerturbed) else DetailedBalance()
    batch, record = quick_jit(lambda model: sample_with_cache(jax.random.key(1), model, env, NUM))(model)
    batch = batch._replace(log_reward=jnp.linspace(-1.0, 1.0, NUM))

    def slope(given):
        return quick_jit(lambda model: jax.value_and_grad(objective.loss)(model, model, env, batch, LossContext(given)))(model)

    with monkeypatch.context() as patch:
        patch.setattr(path, "evaluate", _stepping)
        expected = slope(None)
    for rows, share in ways:
        given = jax.tree.map(lambda leaf, num=int(share * NUM): leaf[:, :num], record) if share else None
        monkeypatch.setattr(chunked, "CPU_ROWS", rows)
        found = slope(given)
        np.testing.assert_allclose(found[0], expected[0], rtol=1e-5)
        assert _distance(found[1], expected[1]) < 2e-6


def test_recording_changes_nothing_that_is_sampled():
    env, model = _model("grid")
    plain = quick_jit(lambda model: sample(jax.random.key(2), model, env, NUM))(model)
    recorded, _ = quick_jit(lambda model: sample_with_cache(jax.random.key(2), model, env, NUM))(model)
    assert np.array_equal(plain.actions, recorded.actions) and np.array_equal(
        plain.terminal.coordinates, recorded.terminal.coordinates
    )


@pytest.mark.parametrize("env", [Sequence("AB", 1, 4), BitSequence(6, 2), Hypergrid(3, 4), Subsets(4, 1, 3)], ids=repr)
def test_states_along_a_trajectory_are_those_of_stepping(env):
    model = Model(MLP(sizes_of(env), hidden=8, key=jax.random.key(0)), jnp.zeros(()))
    actions = quick_jit(lambda model: sample(jax.random.key(3), model, env, 64).actions)(model)
    assert np.any(actions == NO_ACTION) or isinstance(env, BitSequence)

    def stepped(row):
        def advance(state, action):
            state = jax.tree.map(partial(jnp.where, action == NO_ACTION), state, env.step(state, action))
            return state, state

        states = jax.lax.scan(advance, env.reset(), row)[1]
        return jax.tree.map(lambda first, rest: jnp.concatenate([first[None], rest]), env.reset(), states)

    found, expected = quick_jit(lambda actions: (jax.vmap(env.states_along)(actions), jax.vmap(stepped)(actions)))(actions)
    jax.tree.map(np.testing.assert_array_equal, found, expected)


@pytest.mark.parametrize("num", [1, 5, 32, 33, 257])
def test_a_draw_inverts_the_distribution(num):
    weights = np.random.default_rng(num).exponential(size=num).astype(np.float32)
    weights[::3] = 0.0
    weights[-1] = 0.5
    uniforms = (np.arange(20_000) + 0.5) / 20_000
    drawn = jax.jit(jax.vmap(draw, in_axes=(None, 0)))(jnp.asarray(weights), jnp.asarray(uniforms, jnp.float32))
    law = weights / weights.sum()
    # Evenly spread numbers fall into each interval as often as it is long, up to one at each end.
    assert np.max(np.abs(np.bincount(drawn, minlength=num) - 20_000 * law)) < 3
    assert not np.any(weights[np.asarray(drawn)] == 0.0)


def test_a_draw_never_takes_what_has_no_weight():
    weights = jnp.zeros(40).at[7].set(1e-30)
    for uniform in (0.0, 0.5, float(np.nextafter(np.float32(1.0), np.float32(0.0)))):
        assert draw(weights, jnp.asarray(uniform, jnp.float32)) == 7
        assert draw(jnp.array([0.0, 1.0, 0.0]), jnp.asarray(uniform, jnp.float32)) == 1
    assert draw(jnp.zeros(3), jnp.asarray(0.3)) == 0


def test_growing_room_changes_nothing_that_is_sampled(monkeypatch):
    env = Sequence("AB", 3, 8)
    model = Model(_transformer(env), jnp.zeros(()))
    wide = quick_jit(lambda model: sample_with_cache(jax.random.key(4), model, env, NUM))(model)
    monkeypatch.setattr(sampling, "CACHE_STEP", 3)
    assert sampling._limits(12) == [3, 6, 9, 12] and sampling._limits(2) == [2] and sampling._limits(10) == [4, 7, 10]
    grown = quick_jit(lambda model: sample_with_cache(jax.random.key(4), model, env, NUM))(model)
    assert np.array_equal(wide[0].actions, grown[0].actions)
    np.testing.assert_allclose(wide[1].output.forward_logits, grown[1].output.forward_logits, atol=1e-5)
