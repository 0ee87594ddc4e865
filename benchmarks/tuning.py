"""Fine-tuning on little memory: what a step costs, and what it costs in accuracy, beside strong baselines."""

import importlib.util
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

from benchmarks._games.training import workplace
from benchmarks._tuning import names, tables
from benchmarks.case import Case
from benchmarks.rows import Context, Row

Part = Callable[[Context, Path], Iterator[Row]]


def _costs(context: Context, folder: Path) -> Iterator[Row]:
    from benchmarks._tuning import costs  # PyTorch is an extra

    yield from costs.cost_rows(context, costs.QUICK if context.quick else costs.FULL_EFFORT)


def _accuracy(context: Context, folder: Path) -> Iterator[Row]:
    if importlib.util.find_spec(names.PACKAGE) is None and not context.cases:
        print(f"benchmarks tuning: the part accuracy was left out, for {names.INSTALL}.", file=sys.stderr)
        return
    from benchmarks._tuning import accuracy

    yield from accuracy.accuracy_rows(context, accuracy.QUICK if context.quick else accuracy.FULL_PLAN, folder / "accuracy")


PARTS: dict[str, Part] = {"costs": _costs, "accuracy": _accuracy}
_NEEDED = ("torch", "transformers", "peft")


def measure(context: Context) -> Iterator[Row]:
    """Yield the rows of the parts that were asked for; ValueError for an unknown part, and without PyTorch."""
    strange = [name for name in context.cases if name not in PARTS]
    if strange:
        raise ValueError(f"there is no case {strange[0]!r}. There are: {', '.join(PARTS)}.")
    missing = [name for name in _NEEDED if importlib.util.find_spec(name) is None]
    if missing:
        raise ValueError(f"this benchmark needs {', '.join(missing)}: pip install 'narrows[tuning]' peft")
    with workplace(context) as folder:
        for name, part in PARTS.items():
            if not context.cases or name in context.cases:
                yield from part(context, folder)


CASE = Case("Fine-tuning on little memory", tables.TEXT, measure, tables.tables, page="tuning_results")
