"""The harness of the benchmarks: rows, tables, pages, intervals, processes, turns, places, and the command."""

import doctest
import functools
import json
import math
import os
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from benchmarks import __main__ as command
from benchmarks.harness import docs, intervals, rows, tables
from benchmarks.harness.case import Case, chosen, kept_part, load, measure_parts, names, part, prose
from benchmarks.harness.pictures import picture
from benchmarks.harness.places import RESULTS, ROOT, digest, measured_table, remembered, workplace
from benchmarks.harness.processes import done, side_by_side
from benchmarks.harness.rows import Context, Row, Target, read_rows, write_rows
from benchmarks.harness.tables import Found, in_short, interval_of, lines, name_of, plain_table, spread
from benchmarks.harness.turns import Side, ratios, take_turns
from scipy.stats import ttest_ind

CONTEXT = Context(False, None, "python -m benchmarks x", {"python": "3.11.0"}, "2 cores, Linux x86_64")


# Rows.


def row(**changes) -> Row:
    return replace(CONTEXT.row("x/a", "speed", [1.0, 3.0, 2.0], seeds=(0, 1, 2), unit="s"), **changes)


def test_a_row_has_the_fields_of_the_design():
    line = json.loads(row().to_json())
    fields = "case metric value low high unit against ratio target met seeds command versions machine"
    assert list(line) == fields.split()


def test_a_row_holds_median_range_ratio_and_verdict():
    found = CONTEXT.row("x", "m", [0.04, 0.06, 0.01], seeds=(0, 1, 2), peer=0.02, against="p", target=Target("<=", 0.05))
    assert (found.value, found.low, found.high, found.ratio) == (0.04, 0.01, 0.06, 2.0)
    assert found.target == "<= 0.05"
    assert found.met is False, "one of the seeds misses the target, though the median reaches it"
    assert CONTEXT.row("x", "m", [0.05], target=Target("<=", 0.05)).met is True
    assert CONTEXT.row("x", "m", [0.05], target=Target("<", 0.05)).met is False
    exact = CONTEXT.row("x", "m", [0.05])
    assert (exact.low, exact.high, exact.seeds, exact.met, exact.target) == (None, None, (), None, None)


@pytest.mark.parametrize(
    ("values", "seeds", "message"),
    [([1.0], (0, 1), "expected 2 values, one a seed, got 1"), ([1.0, math.nan], (0, 1), "expected finite values")],
)
def test_a_row_that_hides_something_is_refused(values, seeds, message):
    with pytest.raises(ValueError, match=message):
        CONTEXT.row("x", "m", values, seeds=seeds)


def test_rows_come_back_as_they_were_written(tmp_path):
    made = [row(), row(metric="other", target="<= 3", met=True, low=None, high=None, seeds=())]
    write_rows(tmp_path / "new" / "x.jsonl", made)
    assert read_rows(tmp_path / "new" / "x.jsonl") == made


@pytest.mark.parametrize("line", ["{", "[]", '{"case": "x"}'])
def test_a_line_that_is_no_row_is_named(tmp_path, line):
    path = tmp_path / "x.jsonl"
    path.write_text(row().to_json() + "\n" + line + "\n")
    with pytest.raises(ValueError, match=r"x\.jsonl, line 2: "):
        read_rows(path)


@pytest.mark.parametrize("module", [rows, tables, intervals], ids=lambda module: module.__name__)
def test_the_examples_in_the_docstrings_hold(module):
    result = doctest.testmod(module)
    assert result.attempted > 0 and result.failed == 0


def test_tables_show_range_and_verdict():
    shown = plain_table([row(target="<= 1", met=False)])
    assert "2.00 (1.00 to 3.00)" in shown and "**no**" in shown
    assert len({len(line) for line in shown.splitlines()}) == 1
    assert spread(row(low=None, high=None)) == "2.00"


# Tables.


def test_a_column_says_one_thing_of_every_case_and_nothing_where_nothing_was_measured():
    found = Found(
        [row(), row(case="x/b", value=5.0, low=None, high=None), row(case="x/b", metric="cost", target="<= 9", met=True)]
    )
    assert found.cases("x") == ["x/a", "x/b"] and found.cases("x", 1) == [] and ("x/a", "cost") not in found
    columns = [("of", name_of), ("speed", found.cell("speed")), *found.judged("cost"), ("none", found.cell("lost"))]
    assert lines(found.cases("x"), columns).splitlines()[2:] == [
        *("| a  | 2.00 (1.00 to 3.00) |        |     |      |", "| b  | 5.00                | <= 9   | yes |      |"),
    ]
    assert "none" not in lines(found.cases("x"), columns, drops_empty=True)


def test_in_short_counts_the_figures_of_the_specification_and_lists_the_other_targets():
    made = [row(metric=f"error {number}", target="<= 1", met=number > 0) for number in range(3)]
    made += [row(metric="rate", target=">= 1", met=True), row(metric="no target")]
    told = " ".join(in_short(made, "x/", spread, lambda one: one.metric.startswith("error")).split())
    assert "| a | figures as specified | 2 of 3 | all | **no** |" in told and "| a | rate |" in told
    assert "no target" not in told and in_short(made[-1:], "x/", spread) == ""


# Intervals.


def test_an_interval_of_few_seeds_holds_the_mean_and_narrows_with_more():
    rng = np.random.default_rng(0)
    few, many = (intervals.bootstrap(rng.normal(1.0, 1.0, (1, num))) for num in (5, 100))
    assert few.low < few.value < few.high
    assert many.high - many.low == pytest.approx(2 * 1.96 / 10, rel=0.25)
    assert intervals.bootstrap(np.full((2, 5), 3.0)) == pytest.approx((3.0, 3.0, 3.0))


def test_the_interval_of_a_mean_is_students():
    found = intervals.of_mean(np.array([0.6, 0.62, 0.64]))
    assert found[1:] == pytest.approx((0.62 - 4.302653 * 0.02 / 3**0.5, 0.62 + 4.302653 * 0.02 / 3**0.5), rel=1e-5)
    assert intervals.of_mean(np.array([2.0])) == (2.0, 2.0, 2.0)


def test_the_interval_of_a_difference_is_welchs_and_needs_two_seeds():
    ours, theirs = np.array([0.20, 0.22, 0.24]), np.array([0.1, 0.16])
    known = ttest_ind(ours, theirs, equal_var=False).confidence_interval(0.95)
    assert intervals.of_difference(ours, theirs) == pytest.approx((0.09, known.low, known.high))
    assert intervals.of_difference(np.ones(2), np.full(2, 0.5)) == (0.5, 0.5, 0.5)
    with pytest.raises(ValueError, match="two seeds of either method, got 3 and 1"):
        intervals.of_difference(ours, theirs[:1])


def test_a_row_keeps_an_interval():
    found = CONTEXT.interval_row("x", "m", intervals.Interval(0.5, 0.25, 0.75), Target(">", 0.6))
    assert (found.value, found.low, found.high, found.met) == (0.5, 0.25, 0.75, False)
    assert interval_of(found).told(1) == "0.5 [0.2, 0.8]"
    with pytest.raises(ValueError, match="x: m has no interval. Measure it again: `python -m benchmarks x`"):
        interval_of(replace(found, low=None))


# Processes and turns.


def test_processes_have_a_core_each():
    cores = set(os.sched_getaffinity(0))
    found = done([functools.partial(os.sched_getaffinity, 0)] * 3)
    assert all(len(affinity) == 1 and affinity <= cores for affinity in found)
    with side_by_side([functools.partial(math.sqrt, -1.0)]) as (failed,), pytest.raises(ValueError, match="domain"):
        failed.result()


def test_turns_are_taken_and_the_first_is_not_counted():
    order = []
    sides = [Side(name, lambda state, name=name: order.append(name) or state + 1, 0) for name in "ab"]
    take_turns(sides, 3)
    assert "".join(order) == "ab" + "ab" * 3
    assert [side.state for side in sides] == [4, 4] and [len(side.seconds) for side in sides] == [3, 3]
    assert ratios([1.0, 6.0], [2.0, 3.0]) == [0.5, 2.0]


def test_windows_are_judged_by_their_median():
    found = CONTEXT.row("speed/x", "m", [1.0, 4.0, 5.0], windows=True, target=Target(">=", 3.0))
    assert (found.value, found.low, found.high, found.met, found.seeds) == (4.0, 1.0, 5.0, True, ())
    with pytest.raises(ValueError, match="expected 1 values"):
        CONTEXT.row("speed/x", "m", [], windows=True)


# Places and parts.


def test_results_are_kept_where_asked_and_computed_once(tmp_path):
    with workplace(replace(CONTEXT, data=tmp_path / "new")) as folder:
        assert remembered(folder / "deep" / "x.json", lambda: {"a": (1, 2)}) == {"a": [1, 2]}
    with workplace(replace(CONTEXT, data=tmp_path / "new")) as folder:
        assert remembered(folder / "deep" / "x.json", lambda: 1 / 0) == {"a": [1, 2]}, "as JSON keeps it, the first time too"
    with workplace(CONTEXT) as folder:
        assert folder.is_dir()
    assert not folder.exists()
    assert digest((1, "a")) == digest((1, "a")) != digest((1, "b")) and len(digest(1, 20)) == 20


def test_a_missing_table_is_named(tmp_path):
    with pytest.raises(ValueError, match="VSX1_REF_R1_8mers.txt.*--data"):
        measured_table(tmp_path, "VSX1")


def test_parts_are_measured_in_their_own_order_with_their_own_effort(tmp_path):
    def rows_of(context, effort, folder=None):
        yield context.row("x/a" if folder is None else f"x/{folder.name}", "m", [effort])

    parts = {"one": part(rows_of, 1.0, 2.0), "two": kept_part(rows_of, 3.0, 4.0), "late": part(rows_of, 5.0, 6.0)}

    def told(**changes):
        asked = replace(CONTEXT, data=tmp_path / "kept", **changes)
        return [(found.case, found.value) for found in measure_parts(asked, parts, frozenset({"late"}))]

    assert told() == [("x/a", 1.0), ("x/kept", 3.0)]
    assert told(quick=True, cases=("late", "one")) == [("x/a", 2.0), ("x/a", 6.0)]
    with pytest.raises(ValueError, match="there is no case 'chess'. There are: one, two, late."):
        told(cases=("chess",))
    assert chosen((), "ab", "peer") == ("a", "b")


@pytest.mark.parametrize("name", ["games", "vi", "speed"])
def test_what_the_pages_say_is_found_by_its_heading(name):
    said = prose(name)
    assert said["text"] and all(body == body.strip("\n") and "<!--" not in body for body in said.values())


def test_a_picture_has_its_panels_and_the_same_bytes_again(tmp_path):
    def draw(path):
        with picture(path, 1, 2, (2.0, 2.0), legend=1.0) as panels:
            panels[0].plot([0, 1], [1, 2], label="a line")
        return path.read_bytes()

    assert draw(tmp_path / "x.svg") == draw(tmp_path / "y.svg") and b"a line" in (tmp_path / "x.svg").read_bytes()


# Pages and the command.


def test_the_committed_pages_are_those_of_the_committed_results():
    for name, path in docs.PAGES.items():
        assert path.read_text(encoding="utf-8") == docs.page(name), "run: make docs-results"


def test_every_committed_row_was_measured_by_a_case_that_exists():
    files = sorted(RESULTS.glob("*.jsonl"))
    assert files
    for path in files:
        assert path.stem in names()
        for found in read_rows(path):
            assert found.case.split("/")[0] == path.stem
            assert found.command.startswith(f"python -m benchmarks {path.stem}")
            assert "--quick" not in found.command, "what is quoted is the full run, not the quick one"


def test_a_page_shows_every_case_once(tmp_path):
    source = (RESULTS / "tfbind8.jsonl").read_text().splitlines(keepends=True)
    (tmp_path / "tfbind8.jsonl").write_text("".join(source))
    page = docs.page("results", tmp_path)
    assert page.count(f"## {load('tfbind8').title}") == 1
    (tmp_path / "tfbind8.jsonl").write_text("")
    with pytest.raises(ValueError, match="holds no row"):
        docs.page("results", tmp_path)


def fake(rows):
    return Case("Title", "Text.", lambda context: iter(rows))


def test_the_command_prints_lines_and_writes_the_file(tmp_path, capsys, monkeypatch):
    made = [row(), row(metric="other")]
    monkeypatch.setattr(command, "load", lambda name: fake(made))
    assert command.main(["x", "--json", "--out", str(tmp_path / "x.jsonl")]) == 0
    assert capsys.readouterr().out == "".join(found.to_json() + "\n" for found in made)
    assert read_rows(tmp_path / "x.jsonl") == made
    assert command.main(["x"]) == 0
    assert capsys.readouterr().out == plain_table(made) + "\n"


def test_the_command_tells_a_case_how_it_was_asked(monkeypatch, capsys):
    asked = []
    monkeypatch.setattr(command, "load", lambda name: Case("T", "t", lambda context: asked.append(context) or iter([row()])))
    assert command.main(["x", "--quick", "--data", "some where", "--json"]) == 0
    assert asked[0].quick and asked[0].data == Path("some where")
    assert asked[0].command == "python -m benchmarks x --quick --data 'some where'"
    assert "cores, " in asked[0].machine and {"python", "narrows", "jax"} <= set(asked[0].versions)


def test_a_failing_case_leaves_no_file(tmp_path, capsys, monkeypatch):
    def measure(context):
        yield row()
        raise ValueError("the peer is missing. Install it.")

    monkeypatch.setattr(command, "load", lambda name: Case("T", "t", measure))
    assert command.main(["x", "--out", str(tmp_path / "x.jsonl")]) == 1
    assert "benchmarks x: the peer is missing. Install it." in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_an_absent_table_and_an_unknown_name_are_sentences(tmp_path, capsys):
    (tmp_path / "x.csv").touch()
    for option, place, expected in (
        ("--data", tmp_path / "x.csv", "expected a folder, and this is none"),
        ("--out", tmp_path / "none" / "x.jsonl", f"there is no folder {tmp_path / 'none'}"),
        ("--out", tmp_path, "this is a folder"),
    ):
        assert command.main(["tfbind8", "--quick", option, str(place)]) == 1
        assert expected in capsys.readouterr().err
    assert command.main(["tfbind8", "--quick", "--data", str(tmp_path)]) == 1
    told = capsys.readouterr().err
    assert "SIX6_REF_R1_8mers.txt" in told and "--data" in told and "Traceback" not in told
    assert command.main(["nothing"]) == 1
    assert "there is no benchmark 'nothing'. There are: " in capsys.readouterr().err


def test_it_runs_as_a_module():
    done = subprocess.run([sys.executable, "-m", "benchmarks", "--help"], cwd=ROOT, capture_output=True, text=True, check=True)
    assert "tfbind8" in done.stdout and "--quick" in done.stdout


def test_no_benchmark_looks_into_the_folder_of_another():
    """What two of them need is harness; `guard` is the speed benchmark's own watch."""
    strangers = []
    for path in (ROOT / "benchmarks").rglob("*.py"):
        owner = path.relative_to(ROOT / "benchmarks").parts[0].removesuffix(".py").removeprefix("_")
        folders = set(re.findall(r"(?:from|import) benchmarks\._(\w+)", path.read_text(encoding="utf-8")))
        strangers += [(path.name, folder) for folder in folders - {owner, "laws", "speed" if owner == "guard" else ""}]
    assert not strangers
