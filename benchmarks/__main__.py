"""Measure: `python -m benchmarks NAME [--quick] [--json] [--out FILE] [--data FOLDER]`, or `python -m benchmarks docs`.

Where a benchmark has parts, `--case NAME` picks one (again for more).
`speed` has peers: `--against NAME,NAME` picks them, `none` for ours alone. In the folder that `--data` names `games` keeps its
long trainings and continues them there, `vi` what it has simulated, `tuning`, `robustness` and `tables` what they have found,
and `kills` what the commands have said where one has failed.
"""

import argparse
import importlib.metadata
import os
import platform
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path

from benchmarks.harness import docs
from benchmarks.harness.case import Case, load, names
from benchmarks.harness.rows import Context, Row, write_rows
from benchmarks.harness.tables import plain_table

_LIBRARIES = ("narrows", "jax", "equinox", "optax", "numpy")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one benchmark or write the pages; return 0, or 1 where it could not be measured."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("name", metavar="NAME", help=f"docs, or one of: {', '.join(names())}")
    parser.add_argument("--quick", action="store_true", help="the same thing, smaller, within minutes")
    parser.add_argument("--json", action="store_true", help="print one line of JSON a row instead of a table")
    parser.add_argument("--out", type=Path, metavar="FILE", help="also write the rows there, as JSON lines")
    parser.add_argument("--data", type=Path, metavar="FOLDER", help="where the case's data lies, if not where it expects it")
    parser.add_argument(
        "--case",
        action="append",
        default=[],
        metavar="CASE",
        help="only this part, of a benchmark that has parts; again for more",
    )
    parser.add_argument("--against", metavar="PEERS", help="speed: beside these peers, commas between, or none")
    parser.add_argument("--record", action="store_true", help="guard: store the rates as the baseline of later runs")
    words = list(sys.argv[1:] if arguments is None else arguments)
    asked = parser.parse_args(words)
    try:
        if asked.name == "docs":
            print(f"written: {', '.join(map(str, docs.write()))}")
            return 0
        case = load(asked.name)
        _run(case, _context(asked, case), asked.json, asked.out)
    # What a user can mend is a sentence; anything else is a defect of ours and keeps its traceback.
    except (ValueError, OSError, ImportError) as error:
        print(f"benchmarks {asked.name}: {error}", file=sys.stderr)
        return 1
    return 0


def _context(asked: argparse.Namespace, case: Case) -> Context:
    """Return what a run shares; ValueError for an option that belongs to another benchmark, and for a place of no use."""
    given = {"--case": asked.case, "--against": asked.against is not None, "--record": asked.record}
    for option in (option for option, is_given in given.items() if is_given and option not in case.takes):
        *others, last = (name for name in names() if option in load(name).takes)
        whose = f"benchmarks {', '.join(others)} and {last}" if others else f"benchmark {last}"
        raise ValueError(f"{option} belongs to the {whose}, not to {asked.name}. Leave it out.")
    if asked.data is not None and asked.data.exists() and not asked.data.is_dir():
        raise ValueError(f"--data {asked.data}: expected a folder, and this is none. Name a folder, or leave --data out.")
    # A run may take hours: that its rows have nowhere to go must be known before.
    if asked.out is not None and (asked.out.is_dir() or not asked.out.parent.is_dir()):
        what = "this is a folder" if asked.out.is_dir() else f"there is no folder {asked.out.parent}"
        raise ValueError(f"--out {asked.out}: expected a file in a folder that is there, and {what}. Name another file.")
    against = () if asked.against is None else tuple(asked.against.split(","))
    return Context(
        *(asked.quick, asked.data, _command(asked), _versions(), _machine()), tuple(asked.case), against, asked.record
    )


def _run(case: Case, context: Context, as_json: bool, out: Path | None) -> None:
    rows: list[Row] = []
    try:
        for row in case.measure(context):
            rows.append(row)
            if as_json:
                print(row.to_json(), flush=True)
    finally:  # what was measured before a failure is worth seeing, and is kept nowhere
        if rows and not as_json:
            print(plain_table(rows))
    if out is not None:
        write_rows(out, rows)


def _command(asked: argparse.Namespace) -> str:
    """Return what to type for the same rows; how they are printed and kept makes no difference to them."""
    words = ["python", "-m", "benchmarks", asked.name]
    words += ["--quick"] if asked.quick else []
    words += [word for name in asked.case for word in ("--case", name)]
    words += ["--against", asked.against] if asked.against is not None else []
    words += ["--record"] if asked.record else []
    words += ["--data", str(asked.data)] if asked.data is not None else []
    return shlex.join(words)


def _versions() -> dict[str, str]:
    return {"python": platform.python_version(), **{name: importlib.metadata.version(name) for name in _LIBRARIES}}


def _machine() -> str:
    import jax  # only a measurement needs it

    device = jax.devices()[0]
    accelerator = "" if device.platform == "cpu" else f", {len(jax.devices())} x {device.device_kind}"
    return f"{os.cpu_count()} cores{accelerator}, {platform.system()} {platform.machine()}"


if __name__ == "__main__":
    sys.exit(main())
