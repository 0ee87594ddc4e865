"""Training on one device and on four, as a program: how many devices there are is settled before JAX starts.

Each function prints what test_devices.py checks, as JSON.
"""

import json
import sys
import tempfile

import jax
import jax.monitoring
import jax.numpy as jnp
import numpy as np
import optax
from tests.test_hosted import Scripted

from narrows.envs import Hypergrid, Sequence, Subsets, perturbed
from narrows.noise import Substitution
from narrows.objectives import (
    BellmanGeneralMellowmax,
    DetailedBalance,
    SampledExpectedDetailedBalance,
    TrajectoryBalance,
    TrajectoryGeneralMellowmax,
    VarGrad,
)
from narrows.policies import MLP, Transformer, sizes_of
from narrows.rewards import HypergridReward, UnwrapPerturbed
from narrows.rewards.base import AbstractReward
from narrows.scorers.host import HostReward
from narrows.storage import checkpoint
from narrows.training import Devices, Given, objects_of, run, simulate, trainer
from narrows.training.exploration import LocalSearch, Recombination
from narrows.training.replay import Replay

NUM = 4
BATCH = 8
STEPS, EVERY = 6, 2
GRID, WORDS = Hypergrid(2, 6), Sequence("ACGU", 0, 6)
# Adam divides by the gradient's size, so where that is rounding alone its steps are rounding enlarged.
OPTIMIZER = optax.sgd(1e-3, momentum=0.9)
REPLAY = Replay(capacity=32, batch_size=4)


class FirstLetter(AbstractReward):
    """Scores a word by its tokens; one that begins with `missing` has no score."""

    missing: int

    def __call__(self, states):
        score = jnp.sin(jnp.sum(states.tokens * jnp.arange(1.0, states.tokens.shape[-1] + 1), axis=-1))
        return jnp.where(states.tokens[:, 0] == self.missing, jnp.nan, score)


class Nothing(AbstractReward):
    """Scores nothing."""

    def __call__(self, states):
        return jnp.full(states.tokens.shape[:1], jnp.nan)


def mlp(env, **options):
    return MLP(sizes_of(env, **options), hidden=16, key=jax.random.key(0))


def transformer(env, **options):
    return Transformer(sizes_of(env, **options), layers=1, width=8, heads=2, feed_forward=8, key=jax.random.key(0))


def given(env, reward, texts):
    states = env.from_text(texts)
    return Given(states, reward(states), 4)


def noisy(env):
    return dict(
        env=env,
        policy=mlp(env, child_flow_head=True),
        reward=UnwrapPerturbed(GRID_REWARD),
        objective=SampledExpectedDetailedBalance(),
        replay=REPLAY,
        given=given(env, UnwrapPerturbed(GRID_REWARD), ["0 0", "5 5", "2 3"]),
    )


GRID_REWARD, WORD_REWARD = HypergridReward(GRID), FirstLetter(2)
CASES = {
    "TB, MLP, backward policy, replay and given": lambda: dict(
        env=GRID,
        policy=mlp(GRID, learned_backward=True),
        reward=GRID_REWARD,
        objective=TrajectoryBalance(),
        replay=REPLAY,
        given=given(GRID, GRID_REWARD, ["0 0", "5 5", "2 3"]),
    ),
    "DB, Transformer, words without a score": lambda: dict(
        env=WORDS, policy=transformer(WORDS, flow_head=True), reward=WORD_REWARD, objective=DetailedBalance()
    ),
    "VarGrad, MLP, ranked replay": lambda: dict(
        env=GRID,
        policy=mlp(GRID),
        reward=GRID_REWARD,
        objective=VarGrad(),
        replay=Replay(capacity=16, batch_size=8, prioritised=True),
    ),
    "TGM, Transformer, replay and given, words without a score": lambda: dict(
        env=WORDS,
        policy=transformer(WORDS),
        reward=WORD_REWARD,
        objective=TrajectoryGeneralMellowmax(),
        replay=REPLAY,
        given=given(WORDS, WORD_REWARD, ["A", "ACGU", "", "UU", "UCUCUC"]),
    ),
    "recombination, the best and given, words without a score": lambda: dict(
        env=WORDS,
        policy=mlp(WORDS),
        reward=WORD_REWARD,
        objective=TrajectoryGeneralMellowmax(),
        exploration=Recombination(share=0.75),
        replay=Replay(capacity=32, batch_size=4, keep="best"),
        given=given(WORDS, WORD_REWARD, ["A", "ACGU", "", "UU", "UCUCUC"]),
    ),
    "Metropolis' local search": lambda: dict(
        env=GRID,
        policy=mlp(GRID),
        reward=GRID_REWARD,
        objective=VarGrad(),
        exploration=LocalSearch(accept="metropolis", rounds=2),
    ),
    "Bellman, MLP, given": lambda: dict(
        env=GRID,
        policy=mlp(GRID),
        reward=GRID_REWARD,
        objective=BellmanGeneralMellowmax(target_period=2),
        given=given(GRID, GRID_REWARD, ["1 0", "4 5"]),
    ),
    "drawn outcomes of noise, MLP, replay and given": lambda: noisy(perturbed(GRID, Substitution(GRID, 0.3))),
    "nothing has a score": lambda: dict(env=WORDS, policy=mlp(WORDS), reward=Nothing(), objective=TrajectoryBalance()),
}


def train(num_devices, *, env, policy, reward, objective, state=None, num_steps=STEPS, **options):
    """Return the last state, every step's loss, whether it was skipped, and the sampled texts."""
    made = trainer(env, policy, reward, objective, OPTIMIZER, batch_size=BATCH, devices=num_devices, **options)
    losses, skipped, texts = [], [], []

    def note(chunk):
        losses.extend(np.asarray(chunk.info.loss).tolist())
        skipped.extend(np.asarray(chunk.info.is_skipped).tolist())
        texts.extend(objects_of(chunk.info, env))
        assert all(len(leaf.sharding.device_set) == 1 for leaf in jax.tree.leaves(chunk.state))
        return {}

    state = made.init(jax.random.key(1)) if state is None else state
    state, _ = run(made, state, num_steps, every=EVERY, observers=[note])
    return state, losses, skipped, texts


def distance(one, two):
    """Return the largest difference of two trees of numbers, relative to the largest number in each leaf."""
    pairs = zip(jax.tree.leaves(one), jax.tree.leaves(two), strict=True)
    pairs = [(np.asarray(a, np.float64), np.asarray(b, np.float64)) for a, b in pairs]
    assert all(np.array_equal(np.isnan(a), np.isnan(b)) for a, b in pairs)
    return max(float(np.nanmax(np.abs(a - b)) / max(np.nanmax(np.abs(a)), 1e-3)) for a, b in pairs)


def compared(one, two):
    (state, losses, skipped, texts), (state_2, losses_2, skipped_2, texts_2) = one, two
    return {
        "objects": len(texts),
        "distinct": len(set(texts)),
        "same_objects": texts == texts_2,
        "skipped": [sum(skipped), sum(skipped_2)],
        "losses": float(np.max(np.abs(np.subtract(losses, losses_2)) / np.maximum(np.abs(losses), 1e-6))),
        "parameters": distance(state.model, state_2.model),
        "same_key": bool(jnp.all(jax.random.key_data(state.key) == jax.random.key_data(state_2.key))),
        "buffer": state.buffer is None or distance(state.buffer, state_2.buffer),
    }


QUICK = "TB, MLP, backward policy, replay and given"
"""The case that guards the most: past and given objects, and a learned backward policy."""


def cases_of(names):
    return {name: compared(train(1, **CASES[name]()), train(NUM, **CASES[name]())) for name in names}


def quick():
    """One device against four, with all kinds of trajectories that a step can learn from."""
    return cases_of([QUICK])


def others():
    """One device against four, with other objectives and networks, in noise, and where scores are missing."""
    return cases_of([name for name in CASES if name != QUICK])


def moved():
    """Two steps on one device, two on four, two on one, by way of checkpoints, against six on one."""
    make = CASES[QUICK]
    whole, state, seen = train(1, **make(), num_steps=6), None, []
    with tempfile.TemporaryDirectory() as folder:
        for num_devices, last in ((1, 2), (NUM, 4), (1, 6)):
            state, *rest = train(num_devices, **make(), state=state, num_steps=last)
            seen.append(rest)
            saved = checkpoint.save(folder, state, step=last, metadata={})
            template = jax.eval_shape(trainer(**make(), optimizer=OPTIMIZER, batch_size=BATCH).init, jax.random.key(1))
            state, _ = checkpoint.restore(saved.path, template)
    losses, skipped, texts = (sum(parts, []) for parts in zip(*seen, strict=True))
    return compared(whole, (state, losses, skipped, texts))


def hosted():
    """A score outside JAX: one batch at a time, then three under way at once."""
    env = Subsets(num_items=6)
    results = {}
    for pending in (1, 3):
        one, four = (
            train(num, env=env, policy=mlp(env), reward=HostReward(Scripted(pending), env), objective=TrajectoryBalance())
            for num in (1, NUM)
        )
        results[f"pending {pending}"] = compared(one, four)
    return results


def refused():
    """What is said of batches that cannot be shared, and of devices that are not there."""
    plain = CASES["nothing has a score"]()
    calls = {
        "batch": lambda: trainer(**plain, optimizer=OPTIMIZER, batch_size=6, devices=NUM),
        "replay": lambda: trainer(**plain, optimizer=OPTIMIZER, batch_size=8, replay=Replay(batch_size=6), devices=NUM),
        "given": lambda: trainer(
            **plain,
            optimizer=OPTIMIZER,
            batch_size=8,
            given=given(WORDS, WORD_REWARD, ["A"])._replace(batch_size=3),
            devices=NUM,
        ),
        "none": lambda: trainer(**plain, optimizer=OPTIMIZER, devices=0),
        "many": lambda: trainer(**plain, optimizer=OPTIMIZER, batch_size=10, devices=NUM + 1),
    }
    return {name: said(call) for name, call in calls.items()}


def said(call):
    try:
        call()
    except ValueError as error:
        return str(error)
    return None


def compiles():
    """How often a program is compiled in the second and third chunk on four devices: each chunk starts where one has ended."""
    names, counts = [], []

    def note(event, duration_secs, **kwargs):
        if event.endswith("backend_compile_duration"):
            names.append(event)

    make = CASES["nothing has a score"]()
    made = trainer(**make, optimizer=OPTIMIZER, batch_size=BATCH, devices=NUM)
    state, _ = run(made, made.init(jax.random.key(0)), 2, every=EVERY)
    jax.monitoring.register_event_duration_secs_listener(note)
    run(made, state, STEPS, every=EVERY, observers=[lambda chunk: counts.append(len(names)) or {}])
    return counts


if __name__ == "__main__":
    simulate(NUM)
    assert Devices.first(NUM).num == NUM
    print(json.dumps({name: globals()[name]() for name in sys.argv[1:]}))
