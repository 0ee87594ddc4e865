"""Variational inequalities: hidden games, value prediction, the linear chain, counter-examples, and the library's own speed."""

import importlib.util
from collections.abc import Callable, Iterator
from pathlib import Path

import jax

from benchmarks._vi import chain, counterexamples, minmax, speed, tables, torus
from benchmarks._vi.contests import FULL as GAMES
from benchmarks._vi.contests import QUICK as QUICK_GAMES
from benchmarks.harness.case import Case, Effort, Part, measure_parts, part
from benchmarks.harness.processes import tell
from benchmarks.harness.rows import Context, Row

_SIMULATORS = ("gymnasium", "mujoco")
_INSTALL = "value prediction on MuJoCo needs gymnasium and its simulator: pip install 'narrows[mujoco]'"


def in_double(rows: Callable[[Context, Effort], list[Row]]) -> Callable[[Context, Effort], Iterator[Row]]:
    """Yield rows that are measured in double precision, without leaving it switched on between them."""

    def yielded(context: Context, effort: Effort) -> Iterator[Row]:
        with jax.enable_x64(True):
            found = rows(context, effort)
        yield from found

    return yielded


def _mujoco(context: Context, folder: Path) -> Iterator[Row]:
    if any(importlib.util.find_spec(name) is None for name in _SIMULATORS):
        if "mujoco" in context.cases:
            raise ValueError(f"{_INSTALL}.")
        tell(f"benchmarks vi: the part mujoco was left out, for {_INSTALL}.")
        return
    from benchmarks._vi import mujoco  # an extra, which the other parts do without

    yield from mujoco.mujoco_rows(context, mujoco.QUICK if context.quick else mujoco.FULL, folder)


PARTS: dict[str, Part] = {
    "minmax": part(in_double(minmax.minmax_rows), GAMES, QUICK_GAMES),
    "torus": part(torus.torus_rows, torus.FULL, torus.QUICK),
    "chain": part(in_double(chain.chain_rows), chain.FULL, chain.QUICK),
    "counterexamples": part(in_double(counterexamples.counterexample_rows), counterexamples.FULL, counterexamples.QUICK),
    "speed": part(speed.speed_rows, speed.FULL, speed.QUICK),
    "mujoco": _mujoco,
}
_PICTURES = {tables.MINMAX_PICTURE: tables.draw_minmax, tables.TORUS_PICTURE: tables.draw_torus}


def measure(context: Context) -> Iterator[Row]:
    """Yield the rows of the parts that were asked for, in the order of `PARTS`."""
    yield from measure_parts(context, PARTS)


CASE = Case(
    *("Variational inequalities with surrogate losses", tables.SAYS["text"], measure, tables.tables, "vi_results", _PICTURES),
    takes=("--case",),
)
