"""Data parallel training: one program on every device of a mesh, each with its share of the batch and the whole state.

Nothing is partitioned automatically. A step is written for one share, and says itself where numbers of other shares come in:
sums for a loss, the sum of the gradients, the fresh items for a replay buffer. So the loops of a step, which end when their own
trajectories do, run without a word between devices.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any, Final

import jax
import jax.numpy as jnp
import numpy as np
from jax.experimental import multihost_utils
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from jaxtyping import Array, Float

from narrows.trajectories import Share

_AXIS: Final = "batch"
# As a tree of these describes a tree of arrays, they stand where arrays do.
SAME: Final[Any] = PartitionSpec()
"""The same on every device."""
ITEMS: Final[Any] = PartitionSpec(_AXIS)
"""Items of a batch along the first axis, each device has its share."""
ITEMS_OVER_TIME: Final[Any] = PartitionSpec(None, _AXIS)
"""The same, where time comes first."""


@dataclass(frozen=True)
class Devices:
    """The devices that share each batch. Without a mesh: one, which JAX chooses, and nothing is asked of another.

    Its methods from `share` to `all_gather` are for use inside a function given to `shard_map`.
    """

    mesh: Mesh | None = None

    @classmethod
    def first(cls, num: int = 1) -> "Devices":
        """Return the first `num` devices of each process; ValueError if there are fewer or `num` is below 1."""
        if num < 1:
            raise ValueError(f"devices must be at least 1, got {num}.")
        found = jax.local_device_count()
        if num > found:
            raise ValueError(f"{num} devices were asked for and there are {found} ({_kind()}). {_cure()}")
        if num == 1 and jax.process_count() == 1:
            return cls()
        every = sorted(jax.devices(), key=lambda device: (device.process_index, device.id))
        chosen = [device for process in range(jax.process_count()) for device in _of(every, process)[:num]]
        if len(chosen) != num * jax.process_count():
            raise ValueError(f"{num} devices were asked for and another process has fewer. Ask for as many as each has.")
        return cls(Mesh(np.array(chosen), (_AXIS,)))

    @property
    def num(self) -> int:
        """Return how many devices there are, over all processes."""
        return 1 if self.mesh is None else self.mesh.size

    @property
    def has_others(self) -> bool:
        """Return whether some of the devices belong to other processes."""
        return self.mesh is not None and self.mesh.is_multi_process

    @property
    def is_first(self) -> bool:
        """Return whether this is the first of the processes that train together, or the only one: the one that writes."""
        return not self.has_others or jax.process_index() == 0

    def shard_map(self, function: Callable, in_specs: tuple[Any, ...], out_specs: Any) -> Callable:
        """Return the function of a whole batch that runs `function` of a share on every device.

        Args:
            function: pure, in terms of a share.
            in_specs: `SAME`, `ITEMS` or `ITEMS_OVER_TIME` for each argument; also for those a call may leave out.
            out_specs: one of these for the result or each of its parts; what is `SAME` must be computed alike on every device.
        """
        if self.mesh is None:
            return function

        def run(*arguments: Any) -> Any:
            # Unchecked: the check follows through every loop which arrays differ between devices, and would want each zero
            # that a sampling loop starts from declared as one that will.
            specs = in_specs[: len(arguments)]
            return jax.shard_map(function, mesh=self.mesh, in_specs=specs, out_specs=out_specs, check_vma=False)(*arguments)

        return run

    def share(self) -> Share:
        """Return which part of each batch is this device's."""
        return Share() if self.mesh is None else Share(jax.lax.axis_index(_AXIS), self.num)

    def total(self, part: Float[Array, "*sums"]) -> Float[Array, "*sums"]:
        """Return sums over the devices of what each has summed; the gradient is that of this device's part.

        A loss made of such totals is the same on each device, and the sum of the devices' gradients is its gradient, if no
        total that has a gradient goes into another.
        """
        return part if self.mesh is None else _total(part)

    def add(self, tree: Any) -> Any:
        """Return the sum over the devices of a tree of floats."""
        if self.mesh is None:
            return tree
        leaves, structure = jax.tree.flatten(tree)
        # One message instead of one a leaf, filled leaf by leaf: XLA on a CPU concatenates one number at a time, which took
        # longer than a small network's step.
        flat, start = jnp.zeros(sum(leaf.size for leaf in leaves), jnp.result_type(*leaves)), 0
        for leaf in leaves:
            flat = jax.lax.dynamic_update_slice(flat, leaf.ravel().astype(flat.dtype), (start,))
            start += leaf.size
        flat, start, found = jax.lax.psum(flat, _AXIS), 0, []
        for leaf in leaves:
            found.append(flat[start : start + leaf.size].reshape(leaf.shape).astype(leaf.dtype))
            start += leaf.size
        return jax.tree.unflatten(structure, found)

    def all_gather(self, tree: Any) -> Any:
        """Return all items of a batch, of which each device has its share, in order."""
        if self.mesh is None:
            return tree
        return jax.tree.map(lambda leaf: jax.lax.all_gather(leaf, _AXIS, tiled=True), tree)

    def check_shares(self, name: str, num_items: int) -> None:
        """Raise ValueError unless so many items can be shared alike."""
        if num_items % self.num:
            raise ValueError(f"{name} {num_items} cannot be shared alike by {self.num} devices. Make it a multiple of them.")

    def any_process(self, wish: bool) -> bool:
        """Return whether any process has the wish; every process must ask."""
        return bool(np.any(multihost_utils.process_allgather(np.array(wish)))) if self.has_others else wish

    @contextmanager
    def all_or_none(self) -> Iterator[None]:
        """Run a block that may fail in one process alone: then none goes on, where it would wait for the one that failed.

        Raises RuntimeError if the block has failed in another process; every process must enter such a block.
        """
        try:
            yield
        except BaseException:
            self.any_process(True)
            raise
        if self.any_process(False):
            raise RuntimeError("another process could not begin, so this one ends. Its message says why.")

    def place(self, state: Any) -> Any:
        """Return a state as the steps want it: a copy on every device, wherever it comes from, or on one if there is one.

        Across processes it is the first one's; every process must call this with a state of the same form.
        """
        if self.mesh is None:
            return local(state)
        on_every_device = NamedSharding(self.mesh, SAME)
        if not self.has_others:
            return jax.device_put(state, on_every_device)
        plain = multihost_utils.broadcast_one_to_all(_map_keys(jax.random.key_data, local(state), like=state))
        return _map_keys(jax.random.wrap_key_data, jax.device_put(plain, on_every_device), like=state)

    def fetch(self, tree: Any) -> Any:
        """Return arrays of which each device has the same or its share as whole NumPy arrays, in every process."""
        return multihost_utils.process_allgather(tree, tiled=True) if self.has_others else jax.device_get(tree)


ONE: Final = Devices()
"""The device that JAX chooses."""


def simulate(num: int) -> None:
    """Make a CPU appear as `num` devices, one thread each, unless JAX has started, as `Devices.first` then says."""
    with suppress(RuntimeError):
        jax.config.update("jax_num_cpu_devices", num)


def join(coordinator: str, processes: int, process: int) -> None:
    """Make this process one of several that train together, before JAX starts.

    Args:
        coordinator: HOST:PORT at which the first process can be reached and where nothing listens yet.
        processes: how many there are, >= 2.
        process: which one this is, counted from 0.

    Raises ValueError for numbers out of range, and RuntimeError if JAX has started or the others do not come.
    """
    if not 0 <= process < processes or processes < 2:
        raise ValueError(f"expected two or more processes, counted from 0, got process {process} of {processes}.")
    host, _, port = coordinator.rpartition(":")
    if not host or not port.isdigit():
        raise ValueError(f"the coordinator is HOST:PORT of the first process, got {coordinator!r}.")
    jax.config.update("jax_cpu_collectives_implementation", "gloo")
    jax.distributed.initialize(coordinator, processes, process)


def local(state: Any) -> Any:
    """Return a state that every device has a copy of as plain arrays on one of this process; any other as it is."""

    def copy(leaf: Any) -> Any:
        is_spread = isinstance(leaf, jax.Array) and len(leaf.sharding.device_set) > 1
        return leaf.addressable_data(0) if is_spread else leaf

    return jax.tree.map(copy, state)


@jax.custom_vjp
def _total(part: jax.Array) -> jax.Array:
    return jax.lax.psum(part, _AXIS)


_total.defvjp(lambda part: (_total(part), None), lambda _, d_total: (d_total,))


def _map_keys(function: Callable, tree: Any, *, like: Any) -> Any:
    """Apply a function where another tree has random keys, which are not sent between processes as such."""
    return jax.tree.map(
        lambda leaf, kind: function(leaf) if jnp.issubdtype(kind.dtype, jax.dtypes.prng_key) else leaf, tree, like
    )


def _of(devices: list[Any], process: int) -> list[Any]:
    return [device for device in devices if device.process_index == process]


def _kind() -> str:
    return jax.default_backend()


def _cure() -> str:
    if jax.default_backend() == "cpu":
        return (
            "On a CPU they are threads, which are made before JAX starts: call narrows.training.simulate(N) first thing, "
            "or give the command --devices N."
        )
    return "Ask for fewer."
