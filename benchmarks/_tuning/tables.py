"""The page, all of it read off the rows: first what was asked for and what came out, then costs, accuracy and selection."""

from collections.abc import Sequence

from benchmarks._tuning import names
from benchmarks.harness.case import prose
from benchmarks.harness.rows import Row
from benchmarks.harness.tables import Column, Found, count, fixed, in_short, lines, name_of, part_of, plain, spread

SAYS = prose("tuning")


def tables(rows: Sequence[Row]) -> str:
    """Return the whole section."""
    found = Found(rows)
    parts = [*_seconds(found), *_bytes(found), *_accuracy(found), *_selection(found), *_rates(found)]
    return "\n\n".join(part for part in (in_short(rows, "tuning/", spread), *parts) if part)


def _seconds(found: Found) -> list[str]:
    metrics = (names.FORWARD, names.BACKWARD, names.OPTIMIZER, names.STEP)
    columns: list[Column] = [
        ("method", name_of),
        *((f"{metric} s", found.cell(metric, plain)) for metric in metrics),
        ("forward and backward", found.cell(names.PASSES_RATIO)),
        ("step", found.cell(names.STEP_RATIO)),
    ]
    parts = []
    for precision in ("fp32", "bf16"):
        here = found.cases(f"tuning/costs/{precision}", 4)
        timed = [case for case in here if " + " not in case]
        if timed:
            drifts = [found.told(case, names.DRIFT, plain) for case in here if (case, names.DRIFT) in found]
            parts += [f"### Costs: seconds of a step, {precision}", lines(timed, columns)]
            parts.append(f"Full fine-tuning timed last in each turn, to itself timed first: {', '.join(drifts)}.")
    return parts


def _bytes(found: Found) -> list[str]:
    listed = found.cases("tuning/costs/fp32", 5)
    dropouts = list(dict.fromkeys(part_of(case, 3) for case in listed))
    columns: list[Column] = [
        ("method", name_of),
        ("trained", found.cell(names.TRAINED, count)),
        ("gradients and moments MiB", found.cell(names.STATE, plain)),
    ]
    for dropout in dropouts:
        for precision in ("fp32", "bf16"):
            for head, metric in ((f"kept MiB, {precision}, {dropout}", names.KEPT), ("to full", names.KEPT_RATIO)):
                place = f"tuning/costs/{precision}/{dropout}/"
                columns.append(
                    (head, lambda case, place=place, metric=metric: found.told(place + name_of(case), metric, plain))
                )
    first = [case for case in listed if part_of(case, 3) == dropouts[0]]
    return ["### Costs: bytes", lines(first, columns)] if first else []


def _interval(found: Found, case: str) -> str:
    return " to ".join(found.told(case, metric, plain) for metric in (names.LOW, names.HIGH))


def _accuracy(found: Found) -> list[str]:
    columns: list[Column] = [
        ("method", name_of),
        ("trained", found.cell(names.TRAINED, count)),
        ("accuracy", found.cell(names.ACCURACY)),
        ("95 % interval of the mean", lambda case: _interval(found, case)),
        ("to full", found.cell(names.RELATIVE, plain, 4)),
        ("Matthews", found.cell(names.CORRELATION, plain)),
        ("processor seconds", found.cell(names.SECONDS, fixed, ".0f")),
    ]
    cases = found.cases("tuning/accuracy", 4)
    parts = []
    for task in dict.fromkeys(part_of(case, 2) for case in cases):
        parts += [f"### Accuracy: {task}", lines([case for case in cases if part_of(case, 2) == task], columns)]
    return parts


def _selection(found: Found) -> list[str]:
    columns: list[Column] = [
        ("nodes chosen", lambda case: case.removeprefix("tuning/selection/").replace("/", ": ")),
        ("accuracy, minus that of random nodes", found.cell(names.OVER_RANDOM, spread, 2)),
        ("95 % interval of the mean", lambda case: _interval(found, case)),
    ]
    cases = found.cases("tuning/selection")
    return ["### Does a choice of nodes beat chance?", lines(cases, columns)] if cases else []


def _rates(found: Found) -> list[str]:
    def tried(case: str) -> str:
        return ", ".join(f"{name_of(one)}: {found.told(one, names.TUNED, fixed, '.3f')}" for one in found.cases(case, 4))

    columns: list[Column] = [
        ("method", name_of),
        ("rate taken", found.cell(names.RATE, fixed, "g")),
        ("accuracy of each rate on rows that judge nothing else", tried),
    ]
    cases = found.cases("tuning/rates", 3)
    return ["### Learning rates", lines(cases, columns)] if cases else []
