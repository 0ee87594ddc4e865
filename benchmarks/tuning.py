"""Fine-tuning on little memory: what a step costs, and what it costs in accuracy, beside strong baselines."""

import importlib.util
from collections.abc import Iterator
from pathlib import Path

from benchmarks._tuning import names, tables
from benchmarks.harness.case import Case, Part, chosen, measure_parts
from benchmarks.harness.processes import tell
from benchmarks.harness.rows import Context, Row


def _costs(context: Context, folder: Path) -> Iterator[Row]:
    from benchmarks._tuning import costs  # PyTorch is an extra

    yield from costs.cost_rows(context, costs.QUICK if context.quick else costs.FULL_EFFORT)


def _accuracy(context: Context, folder: Path) -> Iterator[Row]:
    if importlib.util.find_spec(names.PACKAGE) is None and not context.cases:
        tell(f"benchmarks tuning: the part accuracy was left out, for {names.INSTALL}.")
        return
    from benchmarks._tuning import accuracy

    yield from accuracy.accuracy_rows(context, accuracy.QUICK if context.quick else accuracy.FULL_PLAN, folder / "accuracy")


PARTS: dict[str, Part] = {"costs": _costs, "accuracy": _accuracy}
_NEEDED = ("torch", "transformers", "peft")


def measure(context: Context) -> Iterator[Row]:
    """Yield the rows of the parts that were asked for; ValueError for an unknown part, and without PyTorch."""
    chosen(context.cases, PARTS)
    missing = [name for name in _NEEDED if importlib.util.find_spec(name) is None]
    if missing:
        raise ValueError(f"this benchmark needs {', '.join(missing)}: pip install 'narrows[tuning]' peft")
    yield from measure_parts(context, PARTS)


CASE = Case(*("Fine-tuning on little memory", tables.SAYS["text"], measure, tables.tables, "tuning_results"), takes=("--case",))
