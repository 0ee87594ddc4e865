"""The page and its picture, read off the rows: who is ahead, task by task and over all, and how wrong the proxies are."""

import math
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks._laws import CHOSEN, NATS, OFF
from benchmarks._robustness import reporting
from benchmarks._robustness.controls import EXACT
from benchmarks._robustness.plan import RANDOM
from benchmarks._robustness.proxies import ENTRIES
from benchmarks._robustness.reporting import (
    AHEAD,
    BY_PROXY,
    CONTROLS,
    CORRELATION,
    EVERYWHERE,
    GRID,
    IN_ORDER,
    JUDGED,
    OVER_GRID,
    POOLED,
    RIVALS,
    SCORE,
    SUBJECTS,
    WRONG,
)
from benchmarks.harness.case import prose
from benchmarks.harness.pictures import picture, reach, values
from benchmarks.harness.rows import Row
from benchmarks.harness.tables import Column, Found, figure, interval_of, lines, plain

if TYPE_CHECKING:
    from matplotlib.axes import Axes

SAYS = prose("robustness")
PICTURE = "robustness.svg"
_MORE = (
    *(BY_PROXY, IN_ORDER, reporting.BEST, reporting.PROXY, reporting.DIVERSITY, reporting.NOVELTY),
    *(reporting.FEASIBLE, reporting.KEPT, reporting.STEPS, NATS, OFF),
)
Place = tuple[str, str, str]
"""A row's task, level, and what it is about."""


def tables(rows: Sequence[Row]) -> str:
    """Return the whole section."""
    found = Found(rows)
    places = list(dict.fromkeys(place_of(row) for row in rows))
    tasks = list(dict.fromkeys(task for task, _, _ in places if task != EVERYWHERE))
    levels = list(dict.fromkeys(level for task, level, _ in places if level not in (POOLED, GRID)))
    parts = _overall(found, places) if any(task == EVERYWHERE for task, _, _ in places) else []
    parts.append(f"![True score of the shortlist over how right the proxy is, a panel a task]({PICTURE})")
    return "\n\n".join([*parts, *(part for task in tasks for part in _of_task(found, places, task, levels))])


def place_of(row: Row) -> Place:
    """Return a row's task, level, and what it is about."""
    head, _, about = row.case.partition("/proxy/")
    _, *task, level, subject = [*head.split("/"), f"proxy/{about}"] if about else head.split("/")
    return "/".join(task), level, subject


def case_of(task: str, level: str, subject: str) -> str:
    """Return the case of a place."""
    return f"robustness/{task}/{level}/{subject}"


def word_of(row: Row) -> str:
    """Return in words what the interval of a difference says."""
    _, low, high = interval_of(row)
    return "ahead" if low > 0.0 else "behind" if high < 0.0 else "closes the gap"


def _interval(row: Row) -> str:
    return interval_of(row).told()


def _subject(case: str) -> str:
    return case.rpartition("/")[2]


def _overall(found: Found, places: Sequence[Place]) -> list[str]:
    metrics = [metric for metric in (SCORE, BY_PROXY, IN_ORDER) if any(m == metric and EVERYWHERE in c for c, m in found)]
    cases = [case_of(*place) for place in places if place[:2] == (EVERYWHERE, POOLED) and " less " not in place[2]]
    cases.sort(key=lambda case: -found[case, SCORE].value)
    columns = [("method", _subject), *((f"{metric}, mean [95 %]", found.cell(metric, _interval)) for metric in metrics)]
    differences = ["Differences over all tasks and levels:", _differences(found, places, EVERYWHERE)]
    return ["### Over all tasks", lines(cases, columns), *differences, *_grid(found, places, EVERYWHERE)]


def _of_task(found: Found, places: Sequence[Place], task: str, levels: Sequence[str]) -> list[str]:
    def told(level: str, metric: str, name: str) -> str:
        return found.told(case_of(task, level, name), metric, _interval)

    here = [subject for one, level, subject in places if (one, level) == (task, POOLED) and " less " not in subject]
    shown = [name for name in here if (case_of(task, levels[0], name), SCORE) in found and not name.startswith(EXACT)]
    by_level: list[Column] = [("method", str), *((level, partial(told, level, SCORE)) for level in (*levels, POOLED))]
    more: list[Column] = [("method", str)]
    more += [(m, lambda name, m=m: found.told(case_of(task, POOLED, name), m, plain)) for m in _MORE]
    parts = [
        f"### {task}",
        "True score of the shortlist, mean [95 %], by what the proxy learned from and how it enters:",
        lines(shown, by_level),
        "Over all levels, median over the seeds:",
        lines(here, more),
        "Differences:",
        _differences(found, places, task),
        *_grid(found, places, task),
    ]
    exact = [name for name in here if name.startswith(EXACT)]
    if exact:
        parts.append("The exact laws that the trainings were after, chosen from in the same way:")
        parts.append(lines(exact, [("law", str), (SCORE, partial(told, POOLED, SCORE))]))
    about = [case_of(task, level, f"proxy/{subject}") for level in levels for subject in SUBJECTS]
    wrong: list[Column] = [
        ("level", lambda case: case.split("/proxy/")[0].rpartition("/")[2]),
        ("about", _subject),
        *((metric, found.cell(metric, plain)) for metric in WRONG),
    ]
    return [*parts, "How wrong the proxies are:", lines([case for case in about if (case, WRONG[0]) in found], wrong)]


def _differences(found: Found, places: Sequence[Place], task: str) -> str:
    asked = [
        (level, case_of(one, level, subject))
        for one, level, subject in places
        if one == task and " less " in subject and (level == POOLED or subject.startswith(CHOSEN))
    ]
    level_of = {case: level for level, case in sorted(asked, key=lambda one: (one[0] != POOLED, one[0]))}
    columns: list[Column] = [
        ("method", lambda case: _subject(case).split(" less ")[0]),
        ("less", lambda case: _subject(case).split(" less ")[1]),
        ("level", lambda case: level_of[case]),
        ("difference [95 %]", found.cell(AHEAD, lambda row: interval_of(row).told(sign=True))),
        ("it is", found.cell(AHEAD, word_of)),
    ]
    return lines(level_of, columns)


def _grid(found: Found, places: Sequence[Place], task: str) -> list[str]:
    cases = [case_of(*place) for place in places if place[:2] == (task, GRID)]
    columns: list[Column] = [
        ("method", _subject),
        ("median setting", found.cell(OVER_GRID, plain)),
        ("worst", found.cell(OVER_GRID, lambda row: figure(row.low or 0.0))),
        ("best", found.cell(OVER_GRID, lambda row: figure(row.high or 0.0))),
    ]
    head = "True score over the whole grid of exponents and lengths of training, each setting's mean over levels and seeds:"
    return [head, lines(cases, columns)] if cases else []


LINES = (*RIVALS, RANDOM, *JUDGED, *(name for name in CONTROLS if name.endswith(CHOSEN)))


def draw(rows: Sequence[Row], path: Path) -> bool:
    """Write the picture, a panel a task and a line a method; the proxies are those that enter as their mean."""
    tasks = list(dict.fromkeys(task for task, _, _ in map(place_of, rows) if task != EVERYWHERE))
    if tasks:
        num_columns = math.ceil(math.sqrt(len(tasks)))
        with picture(path, -(-len(tasks) // num_columns), num_columns, (4.2, 3.6), legend=2.6) as panels:
            for panel, task in zip(panels, tasks, strict=False):
                _panel(panel, Found(rows), task)
    return bool(tasks)


def _panel(panel: "Axes", found: Found, task: str) -> None:
    levels = dict.fromkeys(level for one, level, _ in map(place_of, found.rows) if one == task and level != POOLED)
    right = {
        level: found[case_of(task, level, f"proxy/{SUBJECTS[0]}"), CORRELATION].value
        for level in levels
        if level.endswith(ENTRIES[0])
    }
    shown = sorted(right, key=lambda level: right[level])
    for place, name in enumerate(LINES):
        own = [found[case_of(task, level, name), SCORE] for level in shown]
        style = "-" if name in JUDGED else "--" if name in CONTROLS else ":"
        at = [right[level] for level in shown]
        panel.errorbar(at, values(own), yerr=reach(own), fmt=style, marker="o", markersize=3, color=f"C{place}", label=name)
    panel.set_title(task)
    panel.locator_params(axis="x", nbins=5)
    panel.set_xlabel("rank correlation of proxy and truth, random objects")
    panel.set_ylabel("true score of the shortlist")
