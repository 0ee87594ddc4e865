"""The page, read off the rows: what was asked for, the lead over all settings, then setting by setting."""

from collections.abc import Callable, Sequence

from benchmarks._tables.draw import NARROWS
from benchmarks._tables.plan import FULL
from benchmarks._tables.reporting import (
    BEST,
    COVERAGE,
    EVERYWHERE,
    GAP,
    MEAN,
    MEDIAN,
    MEDIAN_GAP,
    ROWS,
    SAME,
    SCALED,
    SCALES,
    SECONDS,
    SEEN,
    SPEARMAN,
    TOTAL,
    WHOLE,
)
from benchmarks.harness.case import prose
from benchmarks.harness.rows import Row
from benchmarks.harness.tables import (
    Cell,
    Column,
    Found,
    counts,
    figure,
    interval_of,
    lines,
    name_of,
    part_of,
    plain,
    verdict,
    with_verdict,
)

SAYS = prose("tables")
_LESS = f"{NARROWS} less "


def tables(rows: Sequence[Row]) -> str:
    """Return the whole section."""
    found = Found(rows)
    settings = [name for name in dict.fromkeys(part_of(row.case, 1) for row in rows) if name not in (EVERYWHERE, SCALES)]
    return "\n\n".join(
        [
            *_overall(found, settings),
            *_scales(found),
            SAYS["costs"],
            lines(settings, _of_proxies(found)),
            lines(settings, _of_costs(found)),
            _still_to_do(found, settings),
            *(part for setting in settings for part in _of_setting(found, setting)),
        ]
    )


def num_draws(found: Found, setting: str) -> int:
    """Return how often the rows of a setting were drawn."""
    return len(found[f"tables/{setting}/{NARROWS}", MEDIAN].seeds)


def _overall(found: Found, settings: Sequence[str]) -> list[str]:
    cases = found.cases(f"tables/{EVERYWHERE}")
    once = [setting for setting in settings if num_draws(found, setting) == 1]
    without = [f"Not among them, for want of a second draw: {'; '.join(once)}."] if once else []
    columns: list[Column] = [
        ("rival", _rival),
        ("Narrows less it, standard deviations, mean [95 %]", found.cell(SCALED, _signed)),
        ("median", found.cell(MEDIAN_GAP, plain)),
        ("settings", found.cell("settings", plain, 1)),
        ("", found.cell(SCALED, _word)),
        *found.judged(SCALED),
    ]
    return [f"### Over {EVERYWHERE}", SAYS["overall"], *without, lines(cases, columns)] if cases else []


def _scales(found: Found) -> list[str]:
    cases = found.cases(f"tables/{SCALES}")
    columns: list[Column] = [
        ("setting", name_of),
        ("draws", found.cell(SAME, lambda row: str(len(row.seeds)))),
        (SAME, found.cell(SAME, counts)),
        *found.judged(SAME),
    ]
    return [SAYS["scales"], lines(cases, columns)] if cases else []


def _of_setting(found: Found, setting: str) -> list[str]:
    start = f"tables/{setting}"
    methods = [case for case in found.cases(start, 3) if (case, MEAN) in found]
    methods.sort(key=lambda case: -found[case, MEAN].value)

    def gap(metric: str, tell: Callable[..., str]) -> Cell:
        return lambda case: found.told(f"{start}/{_LESS}{part_of(case, 2)}", metric, tell)

    columns: list[Column] = [
        ("method", lambda case: part_of(case, 2)),
        ("true score, mean [95 %]", found.cell(MEAN, _interval)),
        ("median", found.cell(MEDIAN, plain)),
        ("best row", found.cell(BEST, plain)),
        ("rows", found.cell(ROWS, plain, 2)),
        ("Narrows less it, mean [95 %]", gap(GAP, _signed)),
        ("median", gap(MEDIAN_GAP, plain)),
        ("", gap(GAP, _word)),
        ("target", lambda case: _target(found, case, f"{start}/{_LESS}{part_of(case, 2)}", lambda row: row.target or "")),
        ("met", lambda case: _target(found, case, f"{start}/{_LESS}{part_of(case, 2)}", verdict)),
    ]
    draws = num_draws(found, setting)
    return [f"### {setting}", f"{draws} {'draw' if draws == 1 else 'draws'} of rows.", lines(methods, columns)]


def _target(found: Found, case: str, gap: str, tell: Callable[[Row], str]) -> str:
    return found.told(gap, GAP, tell) or found.told(case, MEAN, tell)


def _of_proxies(found: Found) -> list[Column]:
    def of(name: str, metric: str, tell: Callable[..., str] = plain) -> Cell:
        return lambda setting: found.told(f"tables/{setting}/{name}", metric, tell)

    return [
        ("setting", str),
        ("draws", lambda setting: str(num_draws(found, setting))),
        ("Spearman, ours", of(NARROWS, SPEARMAN)),
        ("ridge", of("ridge", SPEARMAN)),
        ("forest", of("random forest", SPEARMAN)),
        ("at least the better", of(NARROWS, SPEARMAN, verdict)),
        ("within 68 %", of(NARROWS, COVERAGE.format(68))),
        ("within 95 %", of(NARROWS, COVERAGE.format(95))),
        ("distinct objects, median", of(NARROWS, SEEN, lambda row: f"{row.value:,.0f}")),
        ("least", of(NARROWS, SEEN, lambda row: f"{row.least:,.0f}")),
    ]


def _of_costs(found: Found) -> list[Column]:
    def of(name: str, tell: Callable[..., str]) -> Cell:
        return lambda setting: found.told(f"tables/{setting}/{NARROWS}/{name}", SECONDS, tell)

    return [
        ("setting", str),
        *((f"{name} s", of(name, _asked)) for name in ("start", "fit", "run", "shortlist", TOTAL)),
        (f"{WHOLE} s", of(WHOLE, plain)),
    ]


def _still_to_do(found: Found, settings: Sequence[str]) -> str:
    """Return how much of a full run is there, and what a full one takes by the draws that are known."""
    seconds = {setting: found[f"tables/{setting}/{NARROWS}/{WHOLE}", SECONDS].value for setting in settings}
    usual = sum(seconds.values()) / len(seconds)
    whole = sum(seconds.get(str(setting.unscaled), usual) for setting, _ in FULL.draws)
    done = sum(num_draws(found, setting) for setting in settings)
    done += sum(len(found[case, SAME].seeds) for case in found.cases(f"tables/{SCALES}"))
    return (
        f"{done} of the {len(FULL.draws)} draws of a full run are measured. By what they took, a full run takes "
        f"{figure(whole / 3600, 2)} hours of one processor."
    )


def _rival(case: str) -> str:
    return part_of(case, 2).removeprefix(_LESS)


def _interval(row: Row) -> str:
    """Return a mean with its interval; of one draw there is none."""
    found = interval_of(row)
    return f"{found.value:.2f}" if found.low == found.high else found.told()


def _signed(row: Row) -> str:
    found = interval_of(row)
    return f"{found.value:+.2f}" if found.low == found.high else found.told(sign=True)


def _asked(row: Row) -> str:
    return with_verdict(row, plain(row))


def _word(row: Row) -> str:
    """Return in words what the interval of a difference says, nothing where there is one draw."""
    value, low, high = interval_of(row)
    if low == high:
        return "the same" if value == 0.0 else ""
    return "ahead" if low > 0.0 else "behind" if high < 0.0 else "level"
