"""Small changes of the source, each run against the tests that execute it: how many does the suite notice?

First say which tests execute which lines, with a tracer that is no part of the development extra, and then draw changes:

    pip install pytest-cov
    pytest -n 2 --cov=narrows --cov-context=test --cov-report=
    python -m tests.mutants .coverage --num 200 --out mutants.jsonl

The same seed draws the same changes of the same source. Each is one line of the file: killed (and by which test), survived,
timeout, or unexecuted where no test comes there. The same command goes on where one was stopped.
"""

import argparse
import ast
import collections
import compileall
import contextlib
import copy
import dataclasses
import importlib
import json
import os
import py_compile
import random
import shutil
import signal
import sqlite3
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[1]
PRELOADED = ("jax.numpy", "equinox", "optax", "scipy.stats", "matplotlib.pyplot", "pydantic", "rich.console", "hypothesis")
PRELOADED_IF_THERE = ("torch", "transformers", "distributed")
"""Imported once, before a process is forked for each change. None of them starts a device of JAX, which no fork survives."""

SWAPS: dict[type[ast.AST], type[ast.AST]] = {
    **{ast.Add: ast.Sub, ast.Sub: ast.Add, ast.Mult: ast.Add, ast.Div: ast.Mult, ast.FloorDiv: ast.Mult, ast.Mod: ast.FloorDiv},
    **{ast.Lt: ast.LtE, ast.LtE: ast.Lt, ast.Gt: ast.GtE, ast.GtE: ast.Gt, ast.Eq: ast.NotEq, ast.NotEq: ast.Eq},
    **{ast.Is: ast.IsNot, ast.IsNot: ast.Is, ast.In: ast.NotIn, ast.NotIn: ast.In, ast.And: ast.Or, ast.Or: ast.And},
    **{ast.BitAnd: ast.BitOr, ast.BitOr: ast.BitAnd, ast.Pow: ast.Mult},
}


@dataclasses.dataclass(frozen=True)
class Mutant:
    """One change: the file below the root, the place of what is replaced, and by what."""

    file: str
    line: int
    last_line: int
    start: int
    end: int
    before: str
    after: str

    def text(self) -> str:
        """Return the whole file as it reads with the change; columns count bytes, as in `ast`."""
        lines = (ROOT / self.file).read_bytes().splitlines(keepends=True)
        head, tail = lines[self.line - 1][: self.start], lines[self.last_line - 1][self.end :]
        changed = head + f"({self.after})".encode() + tail
        return b"".join([*lines[: self.line - 1], changed, *lines[self.last_line :]]).decode()


def changed(node: ast.AST) -> ast.AST | None:
    """Return the node with another operator, constant or the opposite condition; None where there is nothing to change."""
    other = copy.deepcopy(node)
    match other:
        case ast.BinOp(op=op) | ast.BoolOp(op=op) if type(op) in SWAPS:
            other.op = SWAPS[type(op)]()  # pyright: ignore[reportAttributeAccessIssue] (of the same kind as the one replaced)
        case ast.Compare(ops=[op]) if type(op) in SWAPS:
            other.ops = [SWAPS[type(op)]()]  # pyright: ignore[reportAttributeAccessIssue]
        case ast.UnaryOp(op=ast.Not() | ast.USub() | ast.Invert(), operand=operand):
            return operand
        case ast.IfExp(test=test):
            other.test = ast.UnaryOp(ast.Not(), test)
        case ast.Constant(value=bool(value)):
            other.value = not value
        case ast.Constant(value=int(value) | float(value)):
            other.value = value + 1
        case _:
            return None
    return other


def mutants_of(path: Path) -> Iterator[Mutant]:
    """Yield every change of a file, but for those of annotations, which nothing executes."""
    source = path.read_text(encoding="utf-8")

    def walk(node: ast.AST) -> Iterator[ast.AST]:
        yield node
        for name, value in ast.iter_fields(node):
            if name not in ("annotation", "returns", "type_params"):
                for child in value if isinstance(value, list) else [value]:
                    # A part of a formatted text has no place of its own in the oldest Python.
                    if isinstance(child, ast.AST) and not isinstance(child, ast.JoinedStr):
                        yield from walk(child)

    for node in walk(ast.parse(source)):
        other = changed(node)
        if other is not None and isinstance(node, ast.expr) and node.end_lineno is not None:
            place = (node.lineno, node.end_lineno, node.col_offset, node.end_col_offset or 0)
            before = ast.get_source_segment(source, node) or ""
            yield Mutant(str(path.relative_to(ROOT)), *place, before, ast.unparse(ast.fix_missing_locations(other)))


class Contexts:
    """The tests that execute each line, read from files of `coverage` with the context of every test."""

    def __init__(self, paths: list[Path]) -> None:
        self.by_line: dict[tuple[str, int], set[str]] = collections.defaultdict(set)
        self.by_file: dict[str, collections.Counter[str]] = collections.defaultdict(collections.Counter)
        tables = "line_bits join file on file.id = file_id join context on context.id = context_id"
        for path in paths:
            with contextlib.closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as database:
                for name, context, bits in database.execute(f"select path, context, numbits from {tables}"):
                    file, test = name[name.rfind("src/narrows/") :], context.rpartition("|")[0]
                    if test:
                        lines = [8 * byte + bit for byte, held in enumerate(bits) for bit in range(8) if held >> bit & 1]
                        self.by_file[file][test] += len(lines)
                        for line in lines:
                            self.by_line[file, line].add(test)

    def tests(self, mutant: Mutant, most: int) -> list[str]:
        """Return the tests that execute the change, or else its file, whose lines may run when it is imported.

        Those come first that execute the least of the file, and so are about this part of it.
        """
        counts = self.by_file[mutant.file]
        found = set().union(*(self.by_line.get((mutant.file, line), ()) for line in range(mutant.line, mutant.last_line + 1)))
        return sorted(found or counts, key=lambda test: (counts[test], test))[:most]


def run(tests: list[str], tree: Path, seconds: float) -> tuple[str, str]:
    """Return the verdict on a tree from tests in a forked process, and the test that failed."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        os.setsid()
        os.close(reading)
        _run_here(tests, tree, writing)
    os.close(writing)
    give_up = time.monotonic() + seconds
    while os.waitpid(child, os.WNOHANG)[0] == 0:
        if time.monotonic() > give_up:
            os.killpg(child, signal.SIGKILL)
            os.waitpid(child, 0)
            os.close(reading)
            return "timeout", ""
        time.sleep(0.05)
    with os.fdopen(reading, encoding="utf-8") as pipe:
        status, _, failed = pipe.read().partition(" ")
    return ("survived" if status == "0" else "killed"), failed


def _run_here(tests: list[str], tree: Path, pipe: int) -> None:
    import pytest

    class Failed:
        name = ""

        def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
            if report.failed:
                self.name = report.nodeid

    status, failed = 1, Failed()
    try:
        quiet = os.open(os.devnull, os.O_WRONLY)
        os.dup2(quiet, 1)
        os.dup2(quiet, 2)
        os.chdir(tree)
        sys.path[:] = [str(tree / "src"), str(tree), *(place for place in sys.path if not place.startswith(str(ROOT / "src")))]
        os.environ["PYTHONPATH"] = os.pathsep.join(sys.path[:2])
        status = pytest.main(["-x", "-q", "-m", "", "-p", "no:cacheprovider", "-p", "no:cov", *tests], plugins=[failed])
    finally:
        os.write(pipe, f"{int(status)} {failed.name}".encode())
        os._exit(0)


def work(part: int, parts: int, mutants: list[Mutant], contexts: Contexts, options: argparse.Namespace) -> None:
    """Judge every `parts`-th change that has no row yet, in a copy of the tree."""
    done = {json.loads(line)["number"] for line in options.out.read_text().splitlines()} if options.out.exists() else set()
    sound: set[str] = set()
    with tempfile.TemporaryDirectory() as folder:
        tree = Path(folder) / "tree"
        skipped = shutil.ignore_patterns(".git", ".venv*", "runs", "dist", "__pycache__", ".*_cache", ".coverage*")
        shutil.copytree(ROOT, tree, ignore=skipped)
        # A changed file is known by its content: what was compiled in the same second is no danger.
        compileall.compile_dir(tree / "src", quiet=1, invalidation_mode=py_compile.PycInvalidationMode.CHECKED_HASH)
        for number, mutant in list(enumerate(mutants))[part::parts]:
            if number in done:
                continue
            tests, begun, verdict, by = contexts.tests(mutant, options.most), time.monotonic(), "unexecuted", ""
            if tests:
                target = tree / mutant.file
                target.write_text(mutant.text(), encoding="utf-8")
                verdict, by = run(tests, tree, options.seconds)
                shutil.copyfile(ROOT / mutant.file, target)
                if verdict == "killed" and by and by not in sound:
                    # A test that fails as it stands kills nothing.
                    if run([by], tree, options.seconds)[0] == "survived":
                        sound.add(by)
                    else:
                        verdict = "unsound"
            row = {"number": number, **dataclasses.asdict(mutant), "verdict": verdict, "by": by, "tests": len(tests)}
            with options.out.open("a", encoding="utf-8") as file:
                file.write(json.dumps(row | {"seconds": round(time.monotonic() - begun, 1)}) + "\n")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("coverage", type=Path, nargs="+", help="files of coverage, with contexts")
    parser.add_argument("--num", type=int, default=200, help="how many changes")
    parser.add_argument("--under", type=Path, default=ROOT / "src", help="a file or a folder that alone is changed")
    parser.add_argument("--seed", type=int, default=0, help="of the draw")
    parser.add_argument("--most", type=int, default=40, help="tests for each, at most")
    parser.add_argument("--seconds", type=float, default=300.0, help="for the tests of one change")
    parser.add_argument("--jobs", type=int, default=1, help="processes side by side")
    parser.add_argument("--out", type=Path, required=True, help="JSON lines; those that are there are not done again")
    options = parser.parse_args()
    options.out = options.out.resolve()
    options.out.touch()
    files = [path for path in sorted((ROOT / "src").rglob("*.py")) if path.is_relative_to(options.under.resolve())]
    everything = [mutant for path in files for mutant in mutants_of(path)]
    mutants = random.Random(options.seed).sample(everything, min(options.num, len(everything)))
    contexts = Contexts(options.coverage)
    import tests.conftest  # noqa: F401  (sets what must be set before JAX is imported)

    for name in PRELOADED:
        importlib.import_module(name)
    for name in PRELOADED_IF_THERE:
        with contextlib.suppress(ImportError):
            importlib.import_module(name)
    workers = []
    for part in range(options.jobs):
        if (child := os.fork()) == 0:
            work(part, options.jobs, mutants, contexts, options)
            os._exit(0)
        workers.append(child)
    for child in workers:
        os.waitpid(child, 0)
    rows = [json.loads(line) for line in options.out.read_text(encoding="utf-8").splitlines()]
    print(f"{len(rows)} of {len(everything)} changes:", dict(collections.Counter(row["verdict"] for row in rows)))


if __name__ == "__main__":
    main()
