"""Hidden games: steps, gradient evaluations and seconds until an algorithm is near the solution, and at which rate."""

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np

from benchmarks._vi import contests
from benchmarks._vi.contests import BEYOND, FREE, PENNIES, SAFE, SPECIFIED, Contest, Effort, Entry, Trail, runner
from benchmarks.harness.rows import Context, Row, Target
from benchmarks.harness.turns import Side, take_turns

LEVELS = (1e-2, 1e-4, 1e-8)
STEPS = tuple(f"steps to {level:g}" for level in LEVELS)
NEAR = LEVELS[1]
EVALUATIONS, SECONDS, TIME = f"gradient evaluations to {NEAR:g}", f"seconds to {NEAR:g}", "time a step"
RATE, OFF = "rate", "difference of the rate from the theory's"
REACHED, TUNED = f"share of runs that reach {NEAR:g}", "step size chosen on other starts"
NEAREST, LEAST, LARGEST = "least distance", "least late distance", "largest late distance"
DISTANCE, OFF_STEPS = "distance", "largest difference from the specified steps"
DRAWN = "drawn starts"
EXACT_RATE, SAME_STEPS = Target("<=", 1e-3), Target("<=", 3.0)
_LATE = 1000
_TIMED = 200
"""Steps that are timed at least, so that the start of a program does not count."""


class Found(NamedTuple):
    """What came of one algorithm with one step size."""

    entry: Entry  # the algorithm
    step_size: float  # in prediction space or on the parameters
    is_tuned: bool  # whether it is the one chosen on other starts
    exact: Trail | None  # the run from the frozen start; None where there is none
    drawn: dict[int, Trail]  # the runs from drawn starts, by seed
    side: Side  # for the timing

    @property
    def setting(self) -> str:
        """The step size, as it stands in the rows."""
        return f"{self.entry.kind} = {self.step_size:.4g}"

    def runs(self) -> list[Trail]:
        """Return the run from the frozen start, or where there is none those from drawn ones."""
        return list(self.drawn.values()) if self.exact is None else [self.exact]

    @property
    def seeds(self) -> tuple[int, ...]:
        """The seeds of `runs`."""
        return tuple(self.drawn) if self.exact is None else ()


def minmax_rows(context: Context, effort: Effort) -> list[Row]:
    """Return the rows of all games; to be called in double precision."""
    rows: list[Row] = []
    for contest in (contests.pennies(effort), contests.free_pennies(effort)):
        rows += contest_rows(context, contest, effort)
    for regularisation in effort.regularisations:
        rows += contest_rows(context, contests.rock_paper_scissors(effort, regularisation), effort)
    return rows


def contest_rows(context: Context, contest: Contest, effort: Effort) -> Iterator[Row]:
    """Yield the rows of one game."""
    found = [one for entry in contest.entries for one in _played(contest, entry)]
    take_turns([one.side for one in found], effort.windows)
    for one in found:
        yield from _found_rows(context, contest, one, effort)
    yield from claim_rows(context, contest, found)


def hits(distance: np.ndarray) -> list[int | None]:
    """Return the number of steps until each level; None for one that is never reached."""
    return [int(np.argmax(distance < level)) if (distance < level).any() else None for level in LEVELS]


def rate(distance: np.ndarray, high: float = NEAR, low: float = 1e-9) -> float:
    """Return the factor of a step, by regression of the logarithm between two distances; 1 for a run that never comes near."""
    near, far = (np.flatnonzero(distance < level) for level in (high, low))
    if not len(near):
        return 1.0
    inside = np.arange(near[0], far[0] if len(far) else len(distance))
    return float(np.exp(np.polyfit(inside, np.log(distance[inside]), 1)[0])) if len(inside) > 2 else 1.0


def tuned(run: Any, grid: Sequence[float], starts: Sequence[Any], most: int) -> float:
    """Return the step size with the fewest steps to 1e-4, as the median over starts; the least last distance decides ties."""

    def badness(step_size: float) -> tuple[float, float]:
        distances = [np.asarray(run(step_size, start, most).distance) for start in starts]
        counts = [hits(distance)[1] for distance in distances]
        ends = [distance[-1] if np.isfinite(distance[-1]) else np.inf for distance in distances]
        return float(np.median([np.inf if count is None else count for count in counts])), float(np.median(ends))

    return min(grid, key=badness)


def _played(contest: Contest, entry: Entry) -> list[Found]:
    """Play with every step size that is to be reported."""
    run = runner(contest.hidden, entry.algorithm, entry.most)
    chosen = tuned(run, entry.grid, contest.tuning, entry.most) if entry.grid else None
    sizes = dict.fromkeys((*entry.step_sizes, *(() if chosen is None else (chosen,))))
    safe = entry.step_sizes[0] if entry.kind == "eta" else chosen
    found = []
    for size in sizes:

        def trail(start: Any, size: float = size) -> Trail:
            return Trail(*(np.asarray(leaf) for leaf in run(size, start, entry.most)))

        exact = None if contest.exact is None else trail(contest.exact)
        # From drawn starts only with the step size that one would take.
        is_drawn = exact is None or size == safe
        drawn = {seed: trail(start) for seed, start in contest.drawn.items()} if is_drawn else {}
        begin = contest.exact if exact is not None else next(iter(contest.drawn.values()))
        count = _timed_steps(entry, next(iter(drawn.values())) if exact is None else exact)
        side = Side(entry.algorithm.name, lambda _, size=size, begin=begin, count=count: run(size, begin, count))
        found.append(Found(entry, size, size == chosen, exact, drawn, side))
    return found


def _found_rows(context: Context, contest: Contest, one: Found, effort: Effort) -> Iterator[Row]:
    name = one.entry.algorithm.name
    case = f"vi/minmax/{contest.name}/{one.setting}/{name}"
    rho = contest.theory(one.step_size) if name in contest.governed else None
    if one.is_tuned:
        yield context.row(case, TUNED, [one.step_size])
    if one.exact is not None:
        specified = SPECIFIED.get((contest.name, name), {}).get(one.step_size)
        yield from _run_rows(context, case, [one.exact], (), rho)
        if specified is not None:
            yield context.row(case, OFF_STEPS, [_apart(hits(one.exact.distance), specified)], target=SAME_STEPS)
    if one.drawn:
        place = case if one.exact is None else f"vi/minmax/{contest.name}, {DRAWN}/{one.setting}/{name}"
        yield from _run_rows(context, place, list(one.drawn.values()), tuple(one.drawn), rho)
    if rho is not None and one.step_size in contest.accurate.get(name, ()):
        off = [abs(rate(trail.distance) - rho) for trail in one.runs()]
        yield context.row(case, OFF, off, seeds=one.seeds, target=EXACT_RATE)
    yield from _time_rows(context, one, case)
    horizon = contest.horizon.get(one.step_size if one.entry.kind == "eta" else 0.0)
    if horizon is not None:
        yield from _curve_rows(context, case, one, horizon, effort.points)


def _run_rows(context: Context, case: str, runs: Sequence[Trail], seeds: tuple[int, ...], rho: float | None) -> Iterator[Row]:
    counts = [hits(run.distance) for run in runs]
    if seeds:
        yield context.row(case, REACHED, [sum(count[1] is not None for count in counts) / len(counts)])
    for metric, column in zip(STEPS, zip(*counts, strict=True), strict=True):
        reached = [float(count) for count in column if count is not None]
        if len(reached) == len(counts):
            yield context.row(case, metric, reached, seeds=seeds)
    near = [count[1] for count in counts]
    spent = [float(run.evaluations[count]) for run, count in zip(runs, near, strict=True) if count is not None]
    if len(spent) == len(counts):
        yield context.row(case, EVALUATIONS, spent, seeds=seeds)
    rates = [rate(run.distance) for run in runs]
    yield context.row(case, RATE, rates, seeds=seeds, against=None if rho is None else "theory", peer=rho)
    if any(count[2] is None for count in counts):
        late = [run.distance[-min(_LATE, len(run.distance) // 4) :] for run in runs]
        nearest = [run.distance.min() for run in runs]
        for metric, values in (
            (NEAREST, nearest),
            (LEAST, [one.min() for one in late]),
            (LARGEST, [one.max() for one in late]),
        ):
            if np.isfinite(values).all():
                yield context.row(case, metric, [float(one) for one in values], seeds=seeds, target=_limit(case, metric))


def _limit(case: str, metric: str) -> Target | None:
    """Return what a run that should not converge has to stay above (surrogate T9 and T10)."""
    _, _, contest, setting, name = case.split("/")
    circles = {"step = 8": 0.30, "step = 20": 0.45}
    if metric == LEAST and (contest, name) == (PENNIES, "simultaneous GD") and setting in circles:
        return Target(">", circles[setting])
    if metric == NEAREST and (contest, name) == (FREE, "simultaneous GD") and setting in ("step = 0.1", "step = 1", "step = 5"):
        return Target(">", 0.24)
    if metric == NEAREST and contest == PENNIES and setting == f"eta = {BEYOND:g}" and name in ("PHGD", "GD, m = 100"):
        return Target(">", 1e-2)
    return None


def _timed_steps(entry: Entry, trail: Trail) -> int:
    """Return how many steps are timed: all where every step costs the same, else those until the distance is small."""
    _, near, close = hits(trail.distance)
    return entry.most if entry.kind == "step" else min(entry.most, max(_TIMED, close or near or _LATE))


def _time_rows(context: Context, one: Found, case: str) -> Iterator[Row]:
    """Yield what a step takes, and the steps until the distance is small times that."""
    trail = one.runs()[0]
    each = [seconds / _timed_steps(one.entry, trail) for seconds in one.side.seconds]
    yield context.row(case, TIME, [1e3 * seconds for seconds in each], unit="ms", windows=True)
    count = hits(trail.distance)[1]
    if count is not None:
        yield context.row(case, SECONDS, [count * seconds for seconds in each], unit="s", windows=True)


def _curve_rows(context: Context, case: str, one: Found, horizon: int, points: int) -> Iterator[Row]:
    """Yield the distance at times that lie closer at the beginning."""
    times = min(horizon, one.entry.most) * np.linspace(0.0, 1.0, points) ** 1.7
    for number in np.unique(times.round().astype(int)):
        values = [float(run.distance[number]) for run in one.runs()]
        if np.isfinite(values).all():
            yield context.row(f"{case}/after {number}", DISTANCE, values, seeds=one.seeds)


def claim_rows(context: Context, contest: Contest, found: Sequence[Found]) -> Iterator[Row]:
    """Yield the order of the published curves: what better inner solves do at a safe step, and beyond it."""
    steps = found[-1].step_size if contest.exact is None else SAFE
    counts = {one.entry.algorithm.name: _count(one) for one in found if one.step_size == steps}
    inner = [name for name in counts if name.startswith("GD, m")]
    case = f"vi/minmax/order/{contest.name}"
    # Networks are no neuron with one parameter: in between, better solves of theirs may cost some steps.
    pairs = [(inner[0], inner[-1])] if inner else []
    if contest.name == PENNIES:
        pairs = [*zip(inner, inner[1:], strict=False), (inner[0], "PHGD")]
    for few, many in pairs:
        # More inner steps than needed change nothing, so that later pairs may tie.
        sense = ">" if few == inner[0] else ">="
        bound = 1.0 if sense == ">" else 0.99
        metric = f"{STEPS[2]}: {few} to {many}"
        yield context.row(case, metric, [counts[few] / counts[many]], target=Target(sense, bound))
    if contest.name == PENNIES:
        beyond = {one.entry.algorithm.name: one.exact for one in found if one.step_size == BEYOND}
        trail = beyond["GD, m = 5"]
        assert trail is not None, "the frozen game has a frozen start"
        distance = float(trail.distance[700])
        yield context.row(case, f"{DISTANCE} after 700 steps at {BEYOND:g}: GD, m = 5", [distance], target=Target("<", 1e-8))


def _count(one: Found) -> float:
    """Return the median number of steps to 1e-8, all of them where it was never reached."""
    return float(np.median([hits(run.distance)[2] or one.entry.most for run in one.runs()]))


def _apart(counts: Sequence[int | None], specified: Sequence[int | None]) -> float:
    """Return the largest difference in steps; a level reached by one alone counts as a thousand."""
    pairs = zip(counts, specified, strict=True)
    return float(max(0 if one == two else 1000 if one is None or two is None else abs(one - two) for one, two in pairs))
