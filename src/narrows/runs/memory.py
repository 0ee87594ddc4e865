"""Whether a run fits into this machine's memory, from the shapes of what it will hold: nothing is computed for it.

The estimate is low on purpose. What it refuses cannot run; what it lets through may still turn out to be too large.
"""

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import jax

from narrows.config import Job, Parts
from narrows.config.schema import Section
from narrows.policies.base import Model
from narrows.runs.folder import RunError
from narrows.training import Devices, Trainer
from narrows.trajectories import sample_with_cache

_MOST_STATES = 2**31 - 1
"""States of a batch that can be told apart: arrays are indexed in 32 bits."""
_MEMINFO = Path("/proc/meminfo")


class OutOfMemory(RunError):
    """Memory that a run has asked for and not got."""


class Need(NamedTuple):
    """A thing that takes memory: the field that decides how much, and whether devices share it or each has a copy."""

    field: str
    num_bytes: int
    is_shared: bool = False


def refuse_too_large(needs: Sequence[Need], devices: Devices) -> None:
    """Raise RunError, naming the field that weighs most, where the needs are more than the memory; nothing if unknown."""
    here = devices.num // jax.process_count()
    on_device = _on_device()
    free = _on_machine() if on_device is None else on_device
    if free is None:
        return
    copies = here if on_device is None else 1  # devices of a CPU have one memory
    sizes = {need.field: need.num_bytes * copies // (devices.num if need.is_shared else 1) for need in needs}
    total = sum(sizes.values())
    if total > free:
        most = max(sizes, key=lambda field: sizes[field])
        raise RunError(
            f"{most}: the run needs at least {_shown(total)} of memory, {_shown(sizes[most])} of it for this, and "
            f"{_shown(free)} are free. Lower it, or the size of objects in [env]."
        )


def check_number_of_states(job: Job, parts: Parts) -> None:
    """Raise RunError where a batch has more states than can be counted."""
    replayed = 0 if parts.replay is None else parts.replay.batch_size
    num_objects, num_steps = job.train.batch_size + replayed + job.train.given_per_step, parts.env.max_steps
    num_states = num_objects * (num_steps + 1)
    if num_states > _MOST_STATES:
        raise RunError(
            f"[train] batch_size = {job.train.batch_size:,}: {num_objects:,} trajectories of {num_steps:,} steps have "
            f"{num_states:,} states, and at most {_MOST_STATES:,} can be told apart. Lower it, or the size of objects in [env]."
        )


def needs_of(job: Job, parts: Parts, trainer: Trainer) -> list[Need]:
    """Return what training holds at once: the network and its copies, the replay buffer, a batch, and what a look is told."""
    key = jax.random.key(job.seed)
    state = jax.eval_shape(trainer.init, key)

    def draw(key: jax.Array, model: Model) -> tuple[Any, Any, Any]:
        fresh, cache = sample_with_cache(key, model, parts.env, job.train.batch_size, behaviour=parts.behaviour)
        return fresh, cache, (fresh.terminal, fresh.log_reward)

    fresh, cache, told = jax.eval_shape(draw, key, state.model)
    others = job.train.given_per_step + (0 if parts.replay is None else parts.replay.batch_size)
    batch = _size(fresh) * (job.train.batch_size + others) // job.train.batch_size + _size(cache)
    num_told = min(job.train.every, job.train.num_steps)
    network = _size((state.model, state.target, state.opt_state)) + _size(state.model)  # and a gradient
    train, capacity = job.train, 0 if job.replay is None else job.replay["capacity"]
    return [
        Need(f"[policy] {_largest(job.policy)}", network),
        Need(f"[replay] capacity = {capacity:,}", _size(state.buffer)),
        Need(f"[train] batch_size = {train.batch_size:,}", batch, is_shared=True),
        Need(f"[train] every = {train.every:,}", num_told * _size(told), is_shared=True),
    ]


@contextmanager
def explained(cure: str) -> Iterator[None]:
    """Return a context manager for a block in which memory may run out: OutOfMemory says how to need less."""
    try:
        yield
    except (jax.errors.JaxRuntimeError, MemoryError) as error:
        if isinstance(error, MemoryError) or "RESOURCE_EXHAUSTED" in str(error):
            raise OutOfMemory(f"memory ran out ({str(error).partition(chr(10))[0]}). {cure}") from error
        raise


def _largest(section: Section) -> str:
    """Return the largest integer of a table with its name, or the name of what has none."""
    numbers = {name: value for name, value in section.items() if type(value) is int}
    name = max(numbers, key=lambda name: numbers[name], default=None)
    return f"name = {section['name']}" if name is None else f"{name} = {numbers[name]:,}"


def _size(tree: Any) -> int:
    """Return the bytes of a tree of arrays or of their shapes."""
    leaves = [leaf for leaf in jax.tree.leaves(tree) if hasattr(leaf, "dtype")]
    return sum(leaf.size * leaf.dtype.itemsize for leaf in leaves)


def _on_device() -> int | None:
    """Return the free memory of an accelerator, None where arrays are in the machine's own or it does not say."""
    about = jax.local_devices()[0].memory_stats() or {}
    limit = about.get("bytes_limit")
    return None if limit is None else limit - about.get("bytes_in_use", 0)


def _on_machine() -> int | None:
    """Return the memory that can be had without asking others for it, None where the system does not say."""
    try:
        lines = dict(line.split(":", 1) for line in _MEMINFO.read_text(encoding="ascii").splitlines())
        return 1024 * sum(int(lines[name].split()[0]) for name in ("MemAvailable", "SwapFree"))
    except (OSError, ValueError, KeyError):
        pass
    try:
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, ValueError, OSError):  # not every system counts its pages
        return None


def _shown(num_bytes: int) -> str:
    """Return a number of bytes as people read it."""
    return f"{num_bytes / 2**30:,.1f} GiB"
