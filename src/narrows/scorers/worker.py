"""The other side of the pipe: a process of its own that loads one function of the user's and answers batches of objects.

Run as a script, and importing nothing but the standard library, so that it starts fast and adds nothing to what the user's
code finds. One JSON value a line, in and out; an answer has the number of its request, and 0 once the file was loaded:

    out  {"number": 0} or {"number": 0, "error": TRACEBACK}
    in   {"number": 1, "objects": ["ACGU", ...]}
    out  {"number": 1, "values": [0.5, ...], "stds": [0.1, ...] or null}
         or {"number": 1, "wrong": SENTENCE} or {"number": 1, "error": LINE}
"""

import contextlib
import faulthandler
import importlib.util
import json
import os
import shutil
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import IO, Any, NamedTuple

_LONGEST_REASON = 2000
"""Characters; a reason is kept with each object that failed."""
_PROCESS = os.getpid()
_HOW = (
    "Return means and standard deviations as Scores(mean, std), the NamedTuple of narrows.scorers or one of your own with "
    "these fields, or as an array of two columns."
)


class WrongResult(ValueError):
    """A score that returned something that is not one number an object: a mistake in the function, not in an object."""


class Scores(NamedTuple):
    """The scores of objects with the standard deviation of each; what a score of a user's may return.

    Args:
        mean: one number for each object.
        std: the standard deviation of each, at least 0.
    """

    mean: Any
    std: Any


class Unsure(float):
    """A score that came with its standard deviation."""

    std: float

    def __new__(cls, value: float, std: float = float("nan")) -> "Unsure":
        self = super().__new__(cls, value)
        self.std = std
        return self


def as_floats(result: Any, objects: Sequence[str], kappa: float = 0.0) -> list[float]:
    """Return what a score returned as one float an object, NaN and infinities included.

    Lists, tuples and one-dimensional arrays of any library will do. `Scores`, or an array with two columns, are means and
    standard deviations, of which `mean - kappa std` counts, as an `Unsure` each. Raises WrongResult for texts, for a wrong
    length, for values that are no number, for two columns of which nobody says what they are, and for means alone where
    `kappa` asks for more.

    >>> as_floats((1, 2.5), ["A", "C"])
    [1.0, 2.5]
    >>> as_floats(Scores([1, 2.5], [0.5, 0.25]), ["A", "C"], kappa=2.0)
    [0.0, 2.0]
    """
    columns = _two_columns(result, objects)
    if columns is not None and _says_what_they_are(result):
        means, deviations = (as_floats(part, objects) for part in columns)
        return [_bound(*pair, kappa, place, objects[place]) for place, pair in enumerate(zip(means, deviations, strict=True))]
    if columns is not None:
        raise WrongResult(
            f"the score returned two columns for {len(objects)} objects, and nothing says whether they are two scores or means "
            f"and standard deviations. {_HOW} A score of several properties returns one number that weighs them."
        )
    if kappa > 0.0:
        raise WrongResult(
            f"kappa is {kappa:g}, and the score returned no standard deviations. {_HOW} Or leave kappa out of [reward]."
        )
    if isinstance(result, str | bytes | dict) or not isinstance(result, Iterable):
        kind = type(result).__name__
        raise WrongResult(f"the score returned a {kind} for {len(objects)} objects. Return one number for each, in order.")
    values = list(result)
    if len(values) != len(objects):
        raise WrongResult(
            f"the score returned {len(values)} values for {len(objects)} objects. Return one for each, in order, and NaN for "
            "one that cannot be scored."
        )
    return [_as_float(value, index, name) for index, (value, name) in enumerate(zip(values, objects, strict=True))]


def _two_columns(result: Any, objects: Sequence[str]) -> tuple[Any, Any] | None:
    """Return the two columns of a result that has two, and None for any other."""
    if getattr(result, "shape", None) == (len(objects), 2):
        return result[:, 0], result[:, 1]
    is_pair = isinstance(result, tuple | list) and len(result) == 2 and all(_is_column(part) for part in result)
    return (result[0], result[1]) if is_pair else None


def _says_what_they_are(result: Any) -> bool:
    # Any NamedTuple with these fields: a file of a user's may have its own, and import nothing of ours.
    return not isinstance(result, tuple | list) or getattr(result, "_fields", None) == Scores._fields


def _is_column(part: Any) -> bool:
    return isinstance(part, Iterable) and not isinstance(part, str | bytes | dict) and getattr(part, "shape", (1,)) != ()


def _bound(mean: float, deviation: float, kappa: float, place: int, name: str) -> float:
    if deviation < 0.0:
        raise WrongResult(f"the score returned a standard deviation of {deviation:g} for object {place} ({name!r}).")
    return Unsure(mean if kappa == 0.0 else mean - kappa * deviation, deviation)


def reason(error: BaseException) -> str:
    """Return an exception as one line that says where in the user's file it arose."""
    frames = traceback.extract_tb(error.__traceback__)
    last = traceback.format_exception_only(error)[-1].strip()[:_LONGEST_REASON]
    return f"{last} ({Path(frames[-1].filename).name}, line {frames[-1].lineno})" if frames else last


def _as_float(value: Any, index: int, name: str) -> float:
    number = None
    if not isinstance(value, str | bytes) and getattr(value, "shape", ()) == ():
        try:
            number = float(value)
        except OverflowError:
            number = float("inf")
        except (TypeError, ValueError):
            number = None
    if number is None:
        shown = repr(value) if len(repr(value)) <= 60 else type(value).__name__
        raise WrongResult(
            f"the score returned {shown} for object {index} ({name!r}), which is no number. Return a float, and NaN for one "
            "that cannot be scored."
        )
    return number


def main(path: str, function: str, parent: int, kappa: float, is_temporary: bool) -> None:
    """Load the user's function and answer requests until the pipe closes.

    The folder of a temporary file is removed at the end: the parent may have been killed and cannot do it any more.
    """
    folder = Path(path).parent if is_temporary else None
    try:
        _work(path, function, parent, kappa, folder)
    finally:
        _remove(folder)


def _work(path: str, function: str, parent: int, kappa: float, folder: Path | None) -> None:
    requests, replies = _private_pipes()
    faulthandler.enable(all_threads=False)  # short enough to quote where a crash is told
    threading.Thread(target=_end_with_parent, args=(parent, folder), daemon=True).start()
    try:
        score = _load(Path(path), function)
    except BaseException as error:  # also SystemExit: whatever the file does must reach the user
        what = _traceback(error, path) if not isinstance(error, WrongResult) else str(error)
        _send(replies, {"number": 0, "error": what})
        return
    _send(replies, {"number": 0})
    for line in requests:
        request = json.loads(line)
        _send(replies, {"number": request["number"], **_answer(score, request["objects"], kappa)})
    with contextlib.suppress(OSError, ValueError):
        sys.stdout.flush()
    _end_all(folder)  # the parent is gone or going, and may not do it


def _private_pipes() -> tuple[IO[str], IO[str]]:
    """Return the pipes to the parent, and give the user's code an empty input and the error stream to print to."""
    requests = os.fdopen(os.dup(0), "r", encoding="utf-8")
    replies = os.fdopen(os.dup(1), "w", encoding="utf-8")
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.dup2(2, 1)  # below Python, so that prints of compiled code stay out of the pipe as well
    return requests, replies


def _load(path: Path, name: str) -> Callable[[list[str]], Any]:
    sys.path.insert(0, str(path.parent))  # as Python does for a script, so that the file can import its neighbours
    spec = importlib.util.spec_from_file_location(path.stem, path)
    if spec is None or spec.loader is None:
        raise WrongResult(f"{path} is no Python file. Give it a name that ends in .py.")
    module = importlib.util.module_from_spec(spec)
    sys.modules[path.stem] = module
    spec.loader.exec_module(module)
    if name not in vars(module):
        found = sorted(key for key, value in vars(module).items() if callable(value) and not key.startswith("_"))
        raise WrongResult(f"{path} has no function {name!r}. It has: {', '.join(found) or 'none'}.")
    function = vars(module)[name]
    if not callable(function):
        raise WrongResult(f"{name} in {path} is a {type(function).__name__}, not a function of a list of texts.")
    return function


def _answer(score: Callable[[list[str]], Any], objects: list[str], kappa: float) -> dict[str, Any]:
    try:
        values = as_floats(score(list(objects)), objects, kappa)
        stds = [value.std for value in values if isinstance(value, Unsure)]
        return {"values": values, "stds": stds or None}
    except WrongResult as error:
        return {"wrong": str(error)}
    except KeyboardInterrupt:
        raise
    except BaseException as error:  # also SystemExit: one object must not end the worker
        return {"error": reason(error)}


def _traceback(error: BaseException, path: str) -> str:
    """Return a traceback from the user's file on, without the frames of ours that led there."""
    frames = traceback.TracebackException.from_exception(error)
    start = next((place for place, frame in enumerate(frames.stack) if frame.filename == path), 0)
    frames.stack = traceback.StackSummary.from_list(frames.stack[start:])
    return "".join(frames.format())


def _send(replies: IO[str], message: dict[str, Any]) -> None:
    if os.getpid() != _PROCESS:  # a fork of the user's code that came back here as well: one answer is enough
        os._exit(0)
    replies.write(json.dumps(message) + "\n")
    replies.flush()


def _remove(folder: Path | None) -> None:
    if folder is not None:
        shutil.rmtree(folder, ignore_errors=True)


def _end_all(folder: Path | None) -> None:
    """Remove the folder of a temporary file, and end the group if it is one of our own: us and what the score started."""
    _remove(folder)
    if os.name != "nt" and os.getpgid(0) == os.getpid():
        os.killpg(0, signal.SIGKILL)


def _end_with_parent(parent: int, folder: Path | None) -> None:
    """End this process and what it started when the parent is gone, even in the middle of an endless loop."""
    if os.name == "nt":
        return
    while os.getppid() == parent:
        time.sleep(0.5)
    _end_all(folder)
    os._exit(1)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]), float(sys.argv[4]), is_temporary="temporary" in sys.argv[5:])
