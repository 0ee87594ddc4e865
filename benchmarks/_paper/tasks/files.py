"""Published proxies on the disk, and as the reward of a job."""

from dataclasses import asdict, fields
from pathlib import Path
from typing import Any, Final, NamedTuple, final

import jax
import jax.numpy as jnp

from benchmarks._paper.tasks.encoder import TransformerProxy, make_encoder
from benchmarks._paper.tasks.report import PublishedReport
from benchmarks._paper.tasks.task import GFP, PublishedTask
from narrows.printing import name_some, quote
from narrows.proxies.files import MANIFEST, Kind, read_manifest, read_tree, save_tree

KIND: Final = Kind("narrows-published-proxy", 1, frozenset({"task", "report"}), "`fit_published` and `published_files.save`")

_MAY_BE_MISSING: Final = ("published_rows", "design_bench_order")


@final
class Loaded(NamedTuple):
    """Hold a proxy that came from a folder, and the report of its fit."""

    reward: TransformerProxy
    report: PublishedReport


def save(reward: TransformerProxy, report: PublishedReport, folder: str | Path) -> Path:
    """Write a fitted proxy to a folder, made when missing, and return it; a proxy already there is replaced in one step.

    Raises OSError when the disk refuses; what was in the folder stays whole.
    """
    return save_tree(folder, KIND, reward, {"task": asdict(reward.task), "report": report.to_dict()})


def load(folder: str | Path) -> Loaded:
    """Return a saved proxy, bit for bit; nothing in the folder is executed.

    Raises ValueError naming the file, and the leaf, for whatever is missing, extra, reshaped, of another type or damaged.
    """
    manifest = read_manifest(folder, KIND)
    path = Path(folder) / MANIFEST
    try:
        task, report = _task(manifest["task"]), PublishedReport.from_dict(manifest["report"])
    except ValueError as error:
        raise ValueError(f"{path}: {error}. Fit the proxy again.") from None
    return Loaded(read_tree(folder, manifest, jax.eval_shape(lambda: _blank(task))), report)


def _blank(task: PublishedTask) -> TransformerProxy:
    """Return a proxy with the right leaves and nothing learned."""
    one = jnp.ones((), jnp.float32)
    return TransformerProxy(make_encoder(task, jax.random.key(0)), one, one, task)


def _task(plain: Any) -> PublishedTask:
    names = {item.name for item in fields(PublishedTask)}
    if not isinstance(plain, dict) or set(plain) != names:
        found = set(plain) if isinstance(plain, dict) else set()
        raise ValueError(
            f"the task lacks [{name_some(sorted(names - found))}] and has unknown fields [{name_some(sorted(found - names))}]"
        )
    for name, value in plain.items():
        kind = type(getattr(GFP, name))  # a task that has every field
        is_whole = kind is float and type(value) is int
        if not (type(value) is kind or is_whole or (value is None and name in _MAY_BE_MISSING)):
            raise ValueError(f"the task's {name} is {quote(value)}, expected {kind.__name__}")
    return PublishedTask(**plain)
