"""What the page says of the laws, of the bit sequences and of the biological tasks."""

from collections.abc import Sequence

from benchmarks._laws import CHOSEN, NATS, OFF, control_name
from benchmarks._paper.biology import AHEAD, HIGHEST, KEPT, OVER_GRID, Q_TAKEN, RANKS, SCORE, TAKEN, TRUE, reward_at
from benchmarks._paper.bits import BETA_TAKEN, CLOSENESS, FOUND
from benchmarks._paper.plan import CONTROLS, MAIN_SHARE, SHARES
from benchmarks.harness.case import prose
from benchmarks.harness.rows import Row
from benchmarks.harness.tables import Column, Found, figure, lines, name_of, part_of, peer, plain, spread, table

SAYS = prose("paper")


def tables(rows: Sequence[Row]) -> str:
    """Return the tables of laws, of modes and of the biological tasks."""
    found = Found(rows)
    laws = found.cases("paper/objectives")
    columns = [("objective", name_of), ("total variation", found.cell("total variation")), *found.judged("total variation")]
    parts = ["### Every objective beside the exact law", lines(laws, columns)] if laws else []
    tasks = dict.fromkeys(part_of(case, 2) for case in found.cases("paper/biology"))
    return "\n\n".join([*parts, *_bits(found), *(part for task in tasks for part in _task(found, f"paper/biology/{task}"))])


def closed_gaps(found: Found, differences: Sequence[str], metric: str) -> str:
    """Return the sentence that says which controls are not behind on every seed."""
    of_controls = [case for case in differences if any(name in case for name in CONTROLS)]
    closed = [name_of(case) for case in of_controls if found[case, metric].least <= 0.0]
    if not closed:
        return "Every control is behind on every seed."
    return f"Not ahead on every seed, so that a control closes the gap: {'; '.join(closed)}."


def _bits(found: Found) -> list[str]:
    counted = [case for case in found.cases("paper/bits", 4) if (case, CLOSENESS) in found]
    if not counted:
        return []
    trainings = list(dict.fromkeys(case.rpartition("/")[0] for case in counted))
    parts = ["### Bit sequences: modes found, and closeness to the modes in edits, by samples seen"]
    for metric in (FOUND, CLOSENESS):
        columns: list[Column] = [("training", name_of)]
        for count in dict.fromkeys(name_of(case) for case in counted):
            columns.append((f"{int(count):,}", lambda case, m=metric, count=count: spread(found[f"{case}/{count}", m])))
        parts += [f"{metric[0].upper()}{metric[1:]}:", lines(trainings, columns)]
    columns = [("training", name_of), (BETA_TAKEN, found.cell(BETA_TAKEN, plain)), *((m, found.cell(m)) for m in (NATS, OFF))]
    parts += ["Exponents and entropies in nats at the end:", lines(trainings, columns)]
    ahead = [case for case in found.cases("paper/bits", 3) if " less " in case]
    columns = [("what", name_of), ("modes", found.cell(FOUND)), *found.judged(FOUND)]
    differences = ["Differences in modes found at the end, paired by seed:", lines(ahead, columns)]
    return [*parts, *differences, closed_gaps(found, ahead, FOUND)]


def _task(found: Found, task: str) -> list[str]:
    cases = found.cases(task, 4)
    methods = [case for case in cases if name_of(case) != "proxy" and " less " not in case]
    rewards = [reward_at(share) for share in SHARES]
    main = (found.get((case, rewards[MAIN_SHARE])) for case in methods)
    is_published = any(row is not None and row.against is not None for row in main)

    def told(row: Row) -> str:
        return spread(row) if row.against is None else f"{spread(row)}, published {peer(row) or figure(row.value)}"

    proxy = [(metric, found.told(f"{task}/proxy", metric, plain)) for metric in (RANKS, HIGHEST)]
    shown = [m for m in (*rewards, SCORE, KEPT, TRUE, NATS) if any((case, m) in found for case in methods)]
    grid: list[Column] = [
        ("method", name_of),
        ("median setting", found.cell(OVER_GRID, plain)),
        ("worst", found.cell(OVER_GRID, lambda row: figure(row.low or 0.0))),
        ("best", found.cell(OVER_GRID, lambda row: figure(row.high or 0.0))),
        *((metric, found.cell(metric, plain)) for metric in TAKEN),
    ]
    parts = [
        f"### {name_of(task)}{'' if is_published else ', stand-in'}",
        table(("of the proxy", ""), [line for line in proxy if line[1]]),
        lines(methods, [("method", name_of), *((metric, found.cell(metric, told)) for metric in shown)]),
        "Over the grid of exponents and learning rates, on the seed that chooses:",
        lines([case for case in methods if (case, OVER_GRID) in found], grid),
    ]
    q = found.told(f"{task}/{CHOSEN}", Q_TAKEN, plain)
    parts += [f"Of *{CHOSEN}*, q is {q}."] if q else []
    controls = [f"{task}/{control_name(control, CHOSEN)}" for control in CONTROLS]
    controls = [case for case in controls if (case, TAKEN[0]) in found]
    columns: list[Column] = [
        ("control", name_of),
        (TAKEN[0], found.cell(TAKEN[0], told)),
        (f"{OFF}, nats", found.cell(OFF, told)),
    ]
    parts += [lines(controls, columns)] if controls else []
    ahead = [case for case in cases if " less " in case]
    paired = lines(ahead, [("what", name_of), (AHEAD, found.cell(AHEAD))])
    return [*parts, "Paired by seed:", paired, closed_gaps(found, ahead, AHEAD)]
