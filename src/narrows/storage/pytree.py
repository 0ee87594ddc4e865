"""The leaves of a pytree: their names, their bits, their hash, and how they come back in the form of a template.

Array leaves are JAX arrays (PRNG keys too), NumPy arrays and NumPy scalars. Every other leaf is static: a Python scalar or
string has a value to compare, the rest (a function) only a name.
"""

import hashlib
import json
from collections import Counter
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from narrows.printing import printable

# What every reader of safetensors knows in NumPy's terms. Other dtypes (bfloat16, int4, ...) are stored as their bytes.
_NATIVE = frozenset("bool int8 uint8 int16 uint16 int32 uint32 int64 uint64 float16 float32 float64".split())


class ArrayLeaf(NamedTuple):
    """An array of a tree: its name (`.model.policy.layers[0].weight`), shape and dtype (`key<fry>` for a PRNG key)."""

    name: str
    shape: tuple[int, ...]
    dtype: str

    def __str__(self) -> str:
        return f"{self.dtype}[{','.join(map(str, self.shape))}]"


class StaticLeaf(NamedTuple):
    """A leaf that is no array: its name, type, and `repr` for a Python scalar or string, else None."""

    name: str
    type: str
    value: str | None

    def __str__(self) -> str:
        return f"the Python {self.type} {self.value}"


class Layout(NamedTuple):
    """Every leaf of a tree, without its bits."""

    arrays: tuple[ArrayLeaf, ...]
    statics: tuple[StaticLeaf, ...]


def flatten(tree: Any) -> tuple[list[tuple[str, Any]], Any]:
    """Return every leaf with its name, "." for a lone one, and the structure; ValueError when two leaves share a name.

    >>> flatten({"a": [1, (2, 3)]})[0]
    [("['a'][0]", 1), ("['a'][1][0]", 2), ("['a'][1][1]", 3)]
    """
    paths, structure = jax.tree_util.tree_flatten_with_path(tree)
    named = [(jax.tree_util.keystr(path) or ".", leaf) for path, leaf in paths]
    counts = Counter(name for name, _ in named)
    unusable = sorted(name for name, count in counts.items() if count > 1 or name == "__metadata__")
    if unusable:
        raise ValueError(
            f"every leaf needs a name of its own, other than __metadata__; found shared or reserved: {', '.join(unusable)}. "
            "Register the node with jax.tree_util.register_pytree_with_keys and distinct keys."
        )
    return named, structure


def is_array(leaf: Any) -> bool:
    """Return whether a leaf has bits of its own, or is the `jax.ShapeDtypeStruct` of one that has."""
    return isinstance(leaf, jax.Array | np.ndarray | np.generic | jax.ShapeDtypeStruct)


def layout(named: list[tuple[str, Any]]) -> Layout:
    """Return what `flatten` named as plain data."""
    arrays = (ArrayLeaf(name, tuple(leaf.shape), leaf.dtype.name) for name, leaf in named if is_array(leaf))
    statics = (StaticLeaf(name, type(leaf).__qualname__, _value(leaf)) for name, leaf in named if not is_array(leaf))
    return Layout(tuple(arrays), tuple(statics))


def differences(saved: Layout, wanted: Layout) -> list[str]:
    """Return a line for every leaf in which a saved tree and a template differ: the template's, then the extra ones."""
    found = {leaf.name: leaf for leaf in saved.arrays}
    lines = [_array_difference(found.pop(leaf.name, None), leaf) for leaf in wanted.arrays]
    lines += [f"{leaf.name}: extra, {leaf} in the checkpoint and nothing expected" for leaf in found.values()]
    before = {leaf.name: leaf for leaf in saved.statics if leaf.value is not None}
    now = {leaf.name: leaf for leaf in wanted.statics if leaf.value is not None}
    for name in before | now:
        was, is_now = before.get(name), now.get(name)
        if was != is_now:
            lines.append(f"{name}: {was or 'no Python scalar'} when saved, {is_now or 'no Python scalar'} expected")
    return [printable(line) for line in lines if line]


def bits(name: str, leaf: Any) -> np.ndarray:
    """Return an array leaf as a contiguous little-endian NumPy array that a safetensors file can hold.

    Raises ValueError, naming the leaf, for a shape without values, a donated array, and a dtype that is no number or boolean.
    """
    if isinstance(leaf, jax.ShapeDtypeStruct):
        raise ValueError(f"leaf {name} is a jax.ShapeDtypeStruct, which has no values. Pass the state itself.")
    if isinstance(leaf, jax.Array) and leaf.is_deleted():
        raise ValueError(f"leaf {name} was donated to a compiled function. Pass the state that function returned.")
    array = np.asarray(jax.random.key_data(leaf) if _is_key(leaf) else leaf, order="C")
    if not (jnp.issubdtype(array.dtype, np.number) or jnp.issubdtype(array.dtype, np.bool_)):
        raise ValueError(f"leaf {name} has dtype {array.dtype}; only numbers and booleans can be saved. Leave it out.")
    if array.dtype.name not in _NATIVE:
        return array.reshape(*array.shape, 1).view(np.uint8)
    return array.astype(array.dtype.newbyteorder("<"), copy=False)


def stored_form(leaf: Any) -> tuple[tuple[int, ...], np.dtype]:
    """Return the shape and dtype that `bits` gives for a leaf like this one."""
    shape = tuple(leaf.shape)
    if _is_key(leaf):
        data = jax.eval_shape(jax.random.key_data, jax.ShapeDtypeStruct(shape, leaf.dtype))
        return tuple(data.shape), np.dtype(data.dtype)
    if leaf.dtype.name in _NATIVE:
        return shape, np.dtype(leaf.dtype.name)
    return (*shape, leaf.dtype.itemsize), np.dtype(np.uint8)


def revive(name: str, stored: np.ndarray, template: Any) -> Any:
    """Return the bits of a leaf, of the template's `stored_form`, as the kind of array the template is.

    The weak type, the sharding and whether the array is bound to a device are the template's, so that nothing compiles again.
    Raises ValueError when JAX does not have the dtype now (64 bits without `jax_enable_x64`).
    """
    if _is_key(template):
        return _placed(jax.random.wrap_key_data(jnp.array(stored), impl=_key_impl(template)), template)
    dtype = np.dtype(template.dtype)
    host = stored if dtype.name in _NATIVE else stored.view(dtype).reshape(template.shape)
    if isinstance(template, np.generic):
        return host[()]
    if isinstance(template, np.ndarray):
        return host.astype(dtype)
    array = jnp.array(host)  # a copy, so that the leaf can be donated
    if array.dtype != dtype:
        raise ValueError(f"leaf {name} is {dtype}, which JAX makes {array.dtype} now. Set jax_enable_x64 as when it was saved.")
    return _placed(_weakened(array) if template.weak_type else array, template)


def tree_hash(tree: Any) -> str:
    """Return the SHA-256 of a pytree: names, shapes, dtypes and bits of its arrays, names and values of its Python scalars.

    Equal for a JAX and a NumPy array with the same bits; a function counts by its name in the tree only.

    >>> tree_hash({"a": np.zeros(2)}) == tree_hash({"a": -np.zeros(2)})
    False
    """
    digest = hashlib.sha256()
    for name, leaf in flatten(tree)[0]:
        if is_array(leaf):
            digest.update(json.dumps(["array", name, leaf.shape, leaf.dtype.name]).encode() + b"\n")
            digest.update(bits(name, leaf).tobytes())
        else:
            digest.update(json.dumps(["static", name, _value(leaf)]).encode() + b"\n")
    return digest.hexdigest()


def _value(leaf: Any) -> str | None:
    return repr(leaf) if isinstance(leaf, bool | int | float | complex | str) else None


def _is_key(leaf: Any) -> bool:
    return jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key)


def _key_impl(template: Any) -> Any:
    """Return the generator of a key template, which JAX tells of arrays and tracers but not of a ShapeDtypeStruct."""
    seen: list[Any] = []
    jax.eval_shape(lambda k: seen.append(jax.random.key_impl(k)), jax.ShapeDtypeStruct(template.shape, template.dtype))
    return seen[0]


def _weakened(array: jax.Array) -> jax.Array:
    """Return the array with a weak type, where a Python scalar has the same dtype; bits stay as they are."""
    weak = jnp.full(array.shape, array.dtype.type(0).item())
    return weak.at[...].set(array) if weak.dtype == array.dtype else array


def _placed(array: jax.Array, template: jax.Array | jax.ShapeDtypeStruct) -> jax.Array:
    """Return the array where the template lives, unbound to a device if that is: a bound copy would compile again."""
    is_bound = isinstance(template, jax.ShapeDtypeStruct) or template.committed
    return jax.device_put(array, template.sharding) if is_bound and template.sharding is not None else array


def _array_difference(found: ArrayLeaf | None, wanted: ArrayLeaf) -> str:
    """Return how a saved array differs from the wanted one, "" if it does not."""
    if found == wanted:
        return ""
    if found is None:
        return f"{wanted.name}: missing from the checkpoint, {wanted} expected"
    parts = ["shape"] * (found.shape != wanted.shape) + ["dtype"] * (found.dtype != wanted.dtype)
    return f"{wanted.name}: another {' and '.join(parts)}, {found} in the checkpoint, {wanted} expected"
