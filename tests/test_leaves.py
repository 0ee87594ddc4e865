"""Leaves of a saved state: every bit comes back, nothing compiles again, every misfit is named."""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import ml_dtypes
import numpy as np
import optax
import pytest

from narrows.storage.checkpoint import read_manifest, restore, save, tree_hash

DTYPES = [
    *"bool int8 int16 int32 int64 uint8 uint16 uint32 uint64 float16 float32 float64 complex64 complex128 >f4 >i8".split(),
    ml_dtypes.bfloat16,
    ml_dtypes.float8_e4m3fn,
    ml_dtypes.int4,
]


def random_array(dtype, shape, seed=0):
    """Return an array of random bits, NaNs with payloads among them."""
    dtype = np.dtype(dtype)
    raw = np.random.default_rng(seed).integers(0, 256, (*shape, dtype.itemsize), np.uint8)
    if dtype == np.bool_:
        return (raw % 2).astype(bool).reshape(shape)
    if dtype == ml_dtypes.int4:
        return (raw % 16).astype(np.int8).astype(ml_dtypes.int4).reshape(shape)
    return raw.view(dtype).reshape(shape)


def bits_of(array):
    return np.asarray(array).tobytes()


def round_trip(folder, state, like=None, **metadata):
    return restore(save(folder, state, step=1, metadata=metadata).path, state if like is None else like)[0]


# --- bits ---


@pytest.mark.parametrize("shape", [(), (5,), (0, 3), (2, 3, 4)])
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_numpy_arrays_come_back_bit_for_bit(tmp_path, dtype, shape):
    array = random_array(dtype, shape)
    result = round_trip(tmp_path, {"x": array}, {"x": np.zeros(shape, dtype)})["x"]
    assert type(result) is np.ndarray and result.dtype == array.dtype and result.shape == shape
    assert bits_of(result) == bits_of(array) and result.flags.writeable


@pytest.mark.parametrize("dtype", ["bool", "int8", "int32", "uint32", "float16", "float32", "complex64", "bfloat16", "int4"])
def test_jax_arrays_come_back_bit_for_bit(tmp_path, dtype):
    array = jnp.array(random_array(jnp.dtype(dtype), (7, 3)))
    for like in (jnp.zeros((7, 3), dtype), jax.ShapeDtypeStruct((7, 3), jnp.dtype(dtype))):
        result = round_trip(tmp_path, [array], [like])[0]
        assert isinstance(result, jax.Array) and result.dtype == array.dtype and not result.weak_type
        assert bits_of(result) == bits_of(array)


@pytest.mark.parametrize(
    ("dtype", "words"),
    [("float32", [0x80000000, 0x7F800001, 0xFFC12345, 1]), ("bfloat16", [0x8000, 0x7F81, 0xFFC1, 1])],
)
def test_negative_zero_nan_payloads_and_subnormals_survive(tmp_path, dtype, words):
    unsigned = np.uint32 if dtype == "float32" else np.uint16
    array = np.array(words, unsigned).view(jnp.dtype(dtype))
    state = {"numpy": array, "jax": jnp.array(array)}
    for result in round_trip(tmp_path, state).values():
        assert np.asarray(result).view(unsigned).tolist() == words


def test_views_that_are_not_contiguous_survive(tmp_path):
    array = np.arange(24.0).reshape(4, 6)[::2, ::-3].T
    assert np.array_equal(round_trip(tmp_path, array), array)
    assert read_manifest(tmp_path / "step-000001").leaves.arrays[0].name == "."


def test_numpy_scalars_stay_numpy_scalars(tmp_path):
    result = round_trip(tmp_path, (np.float32(-0.0), ml_dtypes.bfloat16(1.5)), (np.float32(1), ml_dtypes.bfloat16(0)))
    assert [type(x) for x in result] == [np.float32, ml_dtypes.bfloat16] and np.signbit(result[0]) and result[1] == 1.5


@pytest.mark.parametrize("impl", ["threefry2x32", "rbg"])
@pytest.mark.parametrize("num", [None, 3])
def test_prng_keys_come_back_as_keys(tmp_path, impl, num):
    key = jax.random.key(11, impl=impl)
    key = key if num is None else jax.random.split(key, num)
    zero = jax.random.wrap_key_data(jnp.zeros_like(jax.random.key_data(key)), impl=impl)
    for like in (zero, jax.eval_shape(lambda: zero)):
        result = round_trip(tmp_path, {"key": key}, {"key": like})["key"]
        assert result.dtype == key.dtype and result.shape == key.shape
        draw = jax.random.bits if num is None else jax.vmap(jax.random.bits)
        assert np.array_equal(draw(result), draw(key))


def test_64_bit_jax_leaves_are_refused_where_jax_has_none(tmp_path):
    with pytest.raises(ValueError, match=r"\['x'\] is float64.*jax_enable_x64"):
        round_trip(tmp_path, {"x": np.zeros(2)}, {"x": jax.ShapeDtypeStruct((2,), np.float64)})


# --- a real training state ---


NETWORK, STATIC = eqx.partition(eqx.nn.MLP(3, 1, 8, 2, key=jax.random.key(0)), eqx.is_array)


class Step(eqx.Module):
    optimiser: optax.GradientTransformation = eqx.field(static=True)

    @partial(jax.jit, static_argnums=0)
    def __call__(self, arrays, key):
        key, now = jax.random.split(key)
        x = jax.random.normal(now, (8, 3))
        network, opt_state = arrays
        grads = jax.grad(lambda net: jnp.mean((jax.vmap(eqx.combine(net, STATIC))(x) - x.sum(1, keepdims=True)) ** 2))(network)
        updates, opt_state = self.optimiser.update(grads, opt_state, network)
        return (optax.apply_updates(network, updates), opt_state), key


@contextmanager
def compilations() -> Iterator[list[str]]:
    """Collect the name of everything that is compiled."""
    seen: list[str] = []

    def listen(event: str, duration_secs: float, **kwargs: str | int) -> None:
        if event == "/jax/core/compile/backend_compile_duration":
            seen.append(event)

    jax.monitoring.register_event_duration_secs_listener(listen)
    try:
        yield seen
    finally:
        jax.monitoring.unregister_event_duration_listener(listen)


def run(step, state, num):
    for _ in range(num):
        state = step(*state)
    return state


@pytest.mark.parametrize("as_shapes", [False, True])
def test_a_restored_state_continues_bit_for_bit_and_compiles_nothing(tmp_path, as_shapes):
    # inject_hyperparams keeps its hyper-parameters, Python floats, as array leaves.
    step = Step(optax.inject_hyperparams(optax.adamw)(learning_rate=1e-2))
    start = ((NETWORK, step.optimiser.init(NETWORK)), jax.random.key(3))
    start = run(step, start, 1)
    straight = run(step, start, 6)

    half = run(step, start, 3)
    like = jax.eval_shape(lambda: start) if as_shapes else start
    restored, manifest = restore(save(tmp_path, half, step=3, metadata={"job": "x"}).path, like)
    assert tree_hash(restored) == tree_hash(half) != tree_hash(start)
    assert [leaf.weak_type for leaf in jax.tree.leaves(restored[0])] == [leaf.weak_type for leaf in jax.tree.leaves(half[0])]
    with compilations() as compiled:
        assert tree_hash(run(step, restored, 3)) == tree_hash(straight)
    assert compiled == []
    assert "[0][0].layers[0].weight" in {leaf.name for leaf in manifest.leaves.arrays}
    with compilations() as compiled:  # the counter counts
        jax.jit(lambda x: x * 3 + 17)(jnp.zeros(5))
    assert compiled


def test_weak_types_come_back_weak_and_strong_ones_strong(tmp_path):
    state = {"weak": jnp.asarray(2.5), "weak_int": jnp.full((2,), 7), "strong": jnp.zeros((), jnp.float32)}
    assert [leaf.weak_type for leaf in state.values()] == [True, True, False]
    for like in (state, jax.eval_shape(lambda: state)):
        result = round_trip(tmp_path, state, like)
        assert {name: leaf.weak_type for name, leaf in result.items()} == {"weak": True, "weak_int": True, "strong": False}
        assert tree_hash(result) == tree_hash(state)


def test_restored_leaves_are_bound_to_a_device_only_if_the_template_is(tmp_path):
    state = {"free": jnp.zeros(3), "bound": jax.device_put(jnp.ones(3), jax.devices()[0]), "key": jax.random.key(1)}
    result = round_trip(tmp_path, state)
    assert {name: leaf.committed for name, leaf in result.items()} == {"free": False, "bound": True, "key": False}


def test_restored_leaves_can_be_donated_and_donated_templates_will_do(tmp_path):
    state = {"x": jnp.arange(100.0)}
    path = save(tmp_path, state, step=1, metadata={}).path
    bump = jax.jit(lambda s: jax.tree.map(lambda x: x + 1, s), donate_argnums=0)
    bump(state)
    assert state["x"].is_deleted()
    restored, _ = restore(path, state)
    assert np.array_equal(bump(restored)["x"], np.arange(100.0) + 1) and restored["x"].is_deleted()
    assert np.array_equal(restore(path, state)[0]["x"], np.arange(100.0))
    with pytest.raises(ValueError, match=r"\['x'\] was donated"):
        save(tmp_path, state, step=2, metadata={})


def test_functions_and_other_static_leaves_are_the_templates_own(tmp_path):
    state = {"f": jnp.sin, "n": 3, "name": "tgm", "x": jnp.ones(2), "none": None}
    result = round_trip(tmp_path, state, {**state, "f": jnp.cos, "x": jnp.zeros(2)})
    assert result["f"] is jnp.cos and result["n"] == 3 and result["none"] is None and result["x"].tolist() == [1, 1]


# --- misfits ---


def test_every_missing_extra_reshaped_and_retyped_leaf_is_named(tmp_path):
    key, old_key = jax.random.key(0), jax.random.PRNGKey(0)
    saved = {
        "gone": jnp.zeros(2),
        "key": old_key,
        "layer": [jnp.zeros((3, 4)), jnp.zeros(4)],
        "unchanged": jnp.ones(1),
        "rate": 0.1,
        "was": jnp.ones(2),
    }
    like = {
        "new": jnp.zeros((), jnp.int8),
        "key": key,
        "layer": [jnp.zeros((3, 5)), jnp.zeros(4, jnp.bfloat16)],
        "unchanged": jnp.zeros(1),
        "rate": 0.2,
        "was": 5,
    }
    path = save(tmp_path, saved, step=4, metadata={}).path
    with pytest.raises(ValueError) as caught:
        restore(path, like)
    message = str(caught.value)
    for line in (
        "['gone']: extra, float32[2] in the checkpoint and nothing expected",
        "['key']: another shape and dtype, uint32[2] in the checkpoint, key<fry>[] expected",
        "['layer'][0]: another shape, float32[3,4] in the checkpoint, float32[3,5] expected",
        "['layer'][1]: another dtype, float32[4] in the checkpoint, bfloat16[4] expected",
        "['new']: missing from the checkpoint, int8[] expected",
        "['rate']: the Python float 0.1 when saved, the Python float 0.2 expected",
        "['was']: extra, float32[2] in the checkpoint and nothing expected",
        "['was']: no Python scalar when saved, the Python int 5 expected",
    ):
        assert line in message
    assert "unchanged" not in message and str(path) in message and "start a new run" in message


def test_what_cannot_be_saved_is_refused_by_name_before_anything_is_written(tmp_path):
    folder = tmp_path / "run"
    for state, message in (
        ({"o": np.array(["a"], object)}, r"\['o'\] has dtype object"),
        ({"t": np.zeros(2, "datetime64[s]")}, r"\['t'\] has dtype datetime64"),
        ({"s": np.zeros(2, [("a", "f4")])}, r"\['s'\] has dtype"),
        ({"x": jax.ShapeDtypeStruct((2,), jnp.float32)}, r"\['x'\] is a jax.ShapeDtypeStruct"),
    ):
        with pytest.raises(ValueError, match=message):
            save(folder, state, step=0, metadata={})
    unfit: list[Any] = [{"loss": float("nan")}, {"t": (1, 2)}, {1: 2}, {"x": np.int64(3)}, {"p": Path("a")}]
    for metadata in unfit:
        with pytest.raises(ValueError, match="metadata must"):
            save(folder, {}, step=0, metadata=metadata)
    for step, keep in ((-1, 1), (0, 0)):
        with pytest.raises(ValueError, match="at least"):
            save(folder, {}, step=step, metadata={}, keep=keep)
    assert not folder.exists()


@jax.tree_util.register_pytree_with_keys_class
class SameNames:
    def __init__(self, *items):
        self.items = items

    def tree_flatten_with_keys(self):
        return [(jax.tree_util.GetAttrKey("x"), item) for item in self.items], None

    @classmethod
    def tree_unflatten(cls, _, items):
        return cls(*items)


def test_two_leaves_of_one_name_are_refused(tmp_path):
    with pytest.raises(ValueError, match=r"shared or reserved: \['a'\].x"):
        save(tmp_path, {"a": SameNames(np.zeros(1), np.ones(1))}, step=0, metadata={})


def test_tree_hash_tells_names_shapes_dtypes_and_bits_apart():
    base = {"a": np.zeros((2, 3), np.float32), "n": 1}
    assert tree_hash(base) == tree_hash({"n": 1, "a": jnp.zeros((2, 3))})
    others = [
        {"b": base["a"], "n": 1},
        {"a": np.zeros((3, 2), np.float32), "n": 1},
        {"a": np.zeros((2, 3), np.int32), "n": 1},
        {"a": -base["a"], "n": 1},
        {"a": base["a"], "n": 2},
        {"a": base["a"]},
        [base["a"], 1],
    ]
    assert len({tree_hash(tree) for tree in [base, *others]}) == len(others) + 1
