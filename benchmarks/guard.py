"""The regression guard: our rates beside those stored here, counted in what the machine does anyway."""

import json
import statistics
from collections.abc import Iterator
from dataclasses import replace

from benchmarks._speed.measure import take_turns, warm_up
from benchmarks._speed.plan import PLANS
from benchmarks._speed.problem import Problem
from benchmarks._speed.workers import OURS, REFERENCE, at_work
from benchmarks.harness.case import Case
from benchmarks.harness.places import RESULTS
from benchmarks.harness.processes import tell
from benchmarks.harness.rows import Context, Row, Target
from benchmarks.harness.turns import ratios
from narrows.files import write_atomically

BASELINE = RESULTS / "guard.json"
LEAST = 0.7
"""The least share of its baseline that a rate may have: below it something was lost, whatever the machine's mood."""

GUARDED = ("hypergrid_tb", "hypergrid_db", "bits_tb", "tfbind8_like", "peptides_tb")
_WINDOWS, _SECONDS = 5, 0.8
_REFERENCE_UNIT = 50


def measure(context: Context) -> Iterator[Row]:
    """Yield each rate as a share of its baseline, and fail in one sentence where one is too small. `--record` stores them."""
    paces = {name: _paces(name) for name in GUARDED}
    if context.record:
        RESULTS.mkdir(exist_ok=True)
        stored = {name: float(f"{statistics.median(values):.4g}") for name, values in paces.items()}
        write_atomically(BASELINE, json.dumps(stored, indent=2) + "\n")
    baseline = _baseline()
    lost = []
    for name, values in paces.items():
        shares = [value / baseline[name] for value in values]
        row = context.row(f"guard/{name}", "rate to its baseline", shares, unit="x", windows=True, target=Target(">=", LEAST))
        lost += [] if row.met else [f"{name} ({row.value:.2f})"]
        yield row
    if lost:
        raise ValueError(
            f"slower than {LEAST:g} times the stored baseline: {', '.join(lost)}. Run it again on a quiet machine; if it "
            "stays, find the change that did it, or store new baselines with `python -m benchmarks guard --record` and say why."
        )


def _paces(name: str) -> list[float]:
    """Return our rate in turns with the reference loop's, a ratio a window."""
    problem = _problem(name)
    tell(f"guard: {name}")
    with at_work([OURS, REFERENCE], problem) as (worker, reference):
        ours, theirs = warm_up(worker, problem.chunk), warm_up(reference, _REFERENCE_UNIT)
        take_turns([ours, theirs], _WINDOWS, _SECONDS)
    return ratios(ours.rates, theirs.rates)


def _problem(name: str) -> Problem:
    # The measured table of TF-Bind-8 may be absent; its work is that of any sequence of 8 letters.
    like = Problem("letters", "tb", "mlp", 8, chunk=100)
    return like if name == "tfbind8_like" else replace(PLANS[name].problem, table=None)


def _baseline() -> dict[str, float]:
    if not BASELINE.is_file():
        raise ValueError(f"there is no {BASELINE.name} yet. `python -m benchmarks guard --record` stores today's rates.")
    stored = json.loads(BASELINE.read_text(encoding="utf-8"))
    if set(stored) != set(GUARDED):
        raise ValueError(f"{BASELINE.name} has {sorted(stored)}, expected {sorted(GUARDED)}. Store it again with --record.")
    return stored


_TEXT = f"""\
Our training rates as shares of stored ones, at least {LEAST:g} each. A rate is counted in passes of a fixed loop of small
products timed in the same turns, so that a baseline carries over from one machine to another like it.
"""

CASE = Case("Regression guard", _TEXT, measure, takes=("--record",))
