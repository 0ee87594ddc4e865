"""Variational inequalities: hidden games, value prediction, the linear chain, counter-examples, and the library's own speed."""

import importlib.util
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import jax

from benchmarks._games.training import workplace
from benchmarks._vi import chain, counterexamples, minmax, plan, speed, tables, torus
from benchmarks._vi.plan import Plan
from benchmarks.case import Case
from benchmarks.rows import Context, Row

Part = Callable[[Context, Plan, Path], Iterator[Row]]

_SIMULATORS = ("gymnasium", "mujoco")
_INSTALL = "value prediction on MuJoCo needs gymnasium and its simulator: pip install 'narrows[mujoco]'"


def _in_double(rows: Callable[[], list[Row]]) -> Iterator[Row]:
    """Yield rows that are measured in double precision, without leaving it switched on between them."""
    with jax.enable_x64(True):
        found = rows()
    yield from found


def _mujoco(context: Context, asked: Plan, folder: Path) -> Iterator[Row]:
    if any(importlib.util.find_spec(name) is None for name in _SIMULATORS):
        if "mujoco" in context.cases:
            raise ValueError(f"{_INSTALL}.")
        print(f"benchmarks vi: the part mujoco was left out, for {_INSTALL}.", file=sys.stderr)
        return
    from benchmarks._vi import mujoco  # an extra, which the other parts do without

    yield from mujoco.mujoco_rows(context, mujoco.QUICK if asked.is_quick else mujoco.FULL, folder)


PARTS: dict[str, Part] = {
    "minmax": lambda context, asked, folder: _in_double(lambda: minmax.minmax_rows(context, asked.minmax)),
    "torus": lambda context, asked, folder: torus.torus_rows(context, asked.torus),
    "chain": lambda context, asked, folder: _in_double(lambda: chain.chain_rows(context, asked.chain)),
    "counterexamples": lambda context, asked, folder: _in_double(
        lambda: counterexamples.counterexample_rows(context, asked.counterexamples)
    ),
    "speed": lambda context, asked, folder: speed.speed_rows(context, asked.speed),
    "mujoco": _mujoco,
}


def measure(context: Context) -> Iterator[Row]:
    """Yield the rows of the parts that were asked for, in the order of `PARTS`."""
    yield from measure_parts(context, plan.QUICK if context.quick else plan.FULL)


def measure_parts(context: Context, asked: Plan) -> Iterator[Row]:
    """Yield the rows of a plan; ValueError lists the parts for an unknown one."""
    strange = [name for name in context.cases if name not in PARTS]
    if strange:
        raise ValueError(f"there is no case {strange[0]!r}. There are: {', '.join(PARTS)}.")
    with workplace(context) as folder:
        for name, part in PARTS.items():
            if name in (context.cases or PARTS):
                yield from part(context, asked, folder)


CASE = Case("Variational inequalities with surrogate losses", tables.TEXT, measure, tables.tables, page="vi_results")
