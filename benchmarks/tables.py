"""A user's own table: lists by the commands with no setting but data and space, beside rivals on the same rows."""

import dataclasses
import tempfile
from collections.abc import Iterator
from pathlib import Path

from benchmarks._tables.draw import Outcome, measure_draw
from benchmarks._tables.plan import FULL, QUICK, Plan, Setting
from benchmarks._tables.reporting import rows_of
from benchmarks._tables.tables import SAYS, tables
from benchmarks._tables.tasks import missing
from benchmarks.harness.case import Case, chosen
from benchmarks.harness.places import digest, remembered, workplace
from benchmarks.harness.processes import tell
from benchmarks.harness.rows import Context, Row


def measure(context: Context) -> Iterator[Row]:
    """Yield the rows of the tables that were asked for; ValueError for an unknown one."""
    yield from measure_plan(context, QUICK if context.quick else FULL)


def measure_plan(context: Context, plan: Plan) -> Iterator[Row]:
    """Yield the rows of a plan's draws; of those that there are when Ctrl-C ends the measuring."""
    asked = chosen(context.cases, dict.fromkeys(setting.table for setting in plan.settings))
    why = {setting: missing(setting) for setting in plan.settings if setting.table in asked}
    for setting, reason in why.items():
        if reason is not None:
            tell(f"{setting} is left out: {reason}")
    draws = [(setting, seed) for setting, seed in plan.draws if setting in why and why[setting] is None]
    if not draws:
        raise ValueError("nothing that was asked for can be measured here. What is missing is told above.")
    found: dict[Setting, dict[int, Outcome]] = {}
    with workplace(context) as folder:
        try:
            # What is there already counts also where the measuring is ended soon.
            for setting, seed in sorted(draws, key=lambda draw: not _kept(folder, *draw).is_file()):
                found.setdefault(setting, {})[seed] = _outcome(folder, setting, seed)
        except KeyboardInterrupt:
            tell("stopped; the rows are of what is measured. With --data, the same command goes on.")
    yield from rows_of(context, {setting: found[setting] for setting in plan.settings if setting in found})


def _outcome(folder: Path, setting: Setting, seed: int) -> Outcome:
    """Return what a draw gives, found again where it was measured before."""

    def compute() -> dict[str, object]:
        with tempfile.TemporaryDirectory() as work:
            measured = measure_draw(setting, seed, Path(work))
        tell(f"{setting}, draw {seed}: {sum(measured.seconds.values()):.0f} processor seconds")
        return dataclasses.asdict(measured)

    return Outcome(**remembered(_kept(folder, setting, seed), compute))


def _kept(folder: Path, setting: Setting, seed: int) -> Path:
    """Return where a draw is kept."""
    return folder / f"{setting.table}-{seed}-{digest(str(setting))}.json"


CASE = Case("From a table to a list", SAYS["text"], measure, tables, "tables_results", takes=("--case",))
