"""From draws to rows: the true scores of lists, differences draw by draw, and what is known of proxies, runs and costs."""

import operator
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

import numpy as np

from benchmarks._tables.draw import FOREST, GIVEN, NARROWS, OWN, RIDGE, Outcome
from benchmarks._tables.plan import MAIN, POOL, K, Setting
from benchmarks.harness.intervals import Interval, of_mean, of_sum
from benchmarks.harness.rows import Context, Row, Target

MEAN, MEDIAN, BEST = "true score", "true score, median", "best true score"
GAP, MEDIAN_GAP = "difference of true scores", "difference of true scores, median"
SAME = "rows of the same true score as with scores as they are"
SCALED = "difference in standard deviations of the truth"
SPEARMAN, SEEN, ROWS = "rank correlation with the truth", "distinct objects", "rows with a true score"
COVERAGE = "share within {} %"
SECONDS = "processor seconds"
FIT, TOTAL, WHOLE = "fit", "table to list", "whole draw"
EVERYWHERE, SCALES = "all settings", "other scales"
Found = Mapping[Setting, Mapping[int, Outcome]]
"""What was found, by setting and seed."""

_LEAST_MEAN = 2.6
_MOST_SECONDS = {("gb1", FIT): 20.0, ("gb1", TOTAL): 60.0, ("SIX6", TOTAL): 15.0, ("VSX1", TOTAL): 15.0, ("rna", TOTAL): 40.0}
_LEAST_SEEN = 10 * K


def rows_of(context: Context, found: Found) -> Iterator[Row]:
    """Yield the rows of every setting of which there is a draw, and last the differences over all, and over scales."""
    plain = {setting: draws for setting, draws in found.items() if setting == setting.unscaled}
    for setting, draws in plain.items():
        seeds, outcomes = sorted(draws), [draws[seed] for seed in sorted(draws)]
        yield from _list_rows(context, setting, seeds, outcomes)
        yield from _gap_rows(context, setting, seeds, outcomes)
        yield from _proxy_rows(context, setting, seeds, outcomes)
        yield from _cost_rows(context, setting, seeds, outcomes)
    yield from _overall_rows(context, plain)
    yield from _scale_rows(context, found)


def _list_rows(context: Context, setting: Setting, seeds: Sequence[int], outcomes: Sequence[Outcome]) -> Iterator[Row]:
    for name in outcomes[0].lists:
        case, lists = f"tables/{setting}/{name}", [one.lists[name] for one in outcomes]
        means = _means(outcomes, name)
        target = Target(">=", _LEAST_MEAN) if setting == MAIN and name == NARROWS else None
        yield context.interval_row(case, MEAN, of_mean(means), target)
        yield context.row(case, MEDIAN, means.tolist(), seeds=seeds)
        yield context.row(case, BEST, [max(scores) for scores in lists], seeds=seeds)
        yield context.row(case, ROWS, [float(len(scores)) for scores in lists], seeds=seeds)


def _gap_rows(context: Context, setting: Setting, seeds: Sequence[int], outcomes: Sequence[Outcome]) -> Iterator[Row]:
    for name in (name for name in (*GIVEN, *OWN) if name in outcomes[0].lists):
        case, gaps = f"tables/{setting}/{NARROWS} less {name}", _means(outcomes, NARROWS) - _means(outcomes, name)
        interval = of_mean(gaps)
        ahead = Target(">", 0.0) if setting == MAIN and name in GIVEN else None
        row = context.interval_row(case, GAP, interval, ahead)
        yield row if ahead or len(seeds) < 2 else replace(row, target="upper end >= 0", met=interval.high >= 0.0)
        yield context.row(case, MEDIAN_GAP, gaps.tolist(), seeds=seeds)


def _proxy_rows(context: Context, setting: Setting, seeds: Sequence[int], outcomes: Sequence[Outcome]) -> Iterator[Row]:
    best = max(np.mean([one.spearman[name] for one in outcomes]) for name in (RIDGE, FOREST))
    for name in (NARROWS, RIDGE, FOREST):
        agreed = np.array([one.spearman[name] for one in outcomes])
        row = context.interval_row(f"tables/{setting}/{name}", SPEARMAN, of_mean(agreed))
        asked = {"target": ">= that of the better baseline", "met": bool(np.mean(agreed) >= best)}
        yield replace(row, **asked) if name == NARROWS else row
    for share in outcomes[0].coverage:
        values = [one.coverage[share] for one in outcomes]
        yield context.row(f"tables/{setting}/{NARROWS}", COVERAGE.format(share), values, seeds=seeds)


def _cost_rows(context: Context, setting: Setting, seeds: Sequence[int], outcomes: Sequence[Outcome]) -> Iterator[Row]:
    case = f"tables/{setting}/{NARROWS}"
    if setting.table != POOL:
        seen = [float(one.num_seen or 0) for one in outcomes]
        yield context.row(case, SEEN, seen, seeds=seeds, target=Target(">=", _LEAST_SEEN))
    commands = [name for name in outcomes[0].seconds if name != "beside"]
    parts = {name: [one.seconds[name] for one in outcomes] for name in commands}
    parts[TOTAL] = [sum(one.seconds[name] for name in commands) for one in outcomes]
    parts[WHOLE] = [sum(one.seconds.values()) for one in outcomes]
    for name, values in parts.items():
        most = _MOST_SECONDS.get((setting.table, name))
        target = None if most is None else Target("<=", most)
        yield context.row(f"{case}/{name}", SECONDS, values, unit="s", seeds=seeds, target=target)


def _overall_rows(context: Context, found: Found) -> Iterator[Row]:
    """Yield our lead over each rival in standard deviations of the truth, every setting with two draws counted alike."""
    outcomes = [list(draws.values()) for draws in found.values() if len(draws) > 1]
    for name in (*GIVEN, *OWN):
        gaps = [
            np.array([(np.mean(one.lists[NARROWS]) - np.mean(one.lists[name])) / one.spread for one in each])
            for each in outcomes
            if name in each[0].lists
        ]
        if gaps:
            case, interval = f"tables/{EVERYWHERE}/{NARROWS} less {name}", of_sum(gaps, [1.0 / len(gaps)] * len(gaps))
            row = context.interval_row(case, SCALED, interval)
            yield row if name in OWN else _ahead(row, interval)
            yield context.row(case, "settings", [float(len(gaps))])
            yield context.row(case, MEDIAN_GAP, [float(np.median([np.median(gap) for gap in gaps]))])


def _scale_rows(context: Context, found: Found) -> Iterator[Row]:
    """Yield how much of a list stays, place by place, when scores are written down on another scale."""
    for setting, draws in found.items():
        usual = found.get(setting.unscaled, {})
        seeds = sorted(draws.keys() & usual.keys()) if setting != setting.unscaled else []
        pairs = [(draws[seed].lists[NARROWS], usual[seed].lists[NARROWS]) for seed in seeds]
        if pairs:
            same = [float(sum(map(operator.eq, *pair))) for pair in pairs]
            yield context.row(f"tables/{SCALES}/{setting}", SAME, same, seeds=seeds, target=Target(">=", K))


def _ahead(row: Row, interval: Interval) -> Row:
    return replace(row, target="lower end > 0", met=interval.low > 0.0)


def _means(outcomes: Sequence[Outcome], name: str) -> np.ndarray:
    return np.array([np.mean(one.lists[name]) for one in outcomes])
