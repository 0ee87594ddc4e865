"""The command `narrows`: each subcommand is one typed function of `narrows.commands`, loaded only when it is asked for."""

import dataclasses
import functools
import importlib
import inspect
import os
import sys
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

import tyro

from narrows.files import ChangedFile
from narrows.printing import lenient_output, quote, say
from narrows.sizes import check_sizes


class Command(NamedTuple):
    """Where a subcommand lives: its module has the function and a `render` of its result."""

    module: str
    function: str
    help: str


COMMANDS = {
    "new": Command("new_job", "new", "look at a table of measurements and write a commented job for it"),
    "check": Command("checking", "check", "check a table of measurements, naming every bad row"),
    "fit": Command("fitting", "fit", "compare models of a table, keep the best as the proxy, and say how far to trust it"),
    "tune": Command("tuning", "tune", "tune a pre-trained encoder on a table, on little memory, to be a score"),
    "run": Command("training", "run", "train the sampler of a job"),
    "resume": Command("training", "resume", "continue a stopped or killed run, bit for bit"),
    "shortlist": Command("selecting", "shortlist", "select a small, diverse shortlist from one or more runs"),
    "verify": Command("verifying", "verify", "score a shortlist with the true score, beside fair comparisons"),
    "worst": Command("worst_case", "worst", "say how much of a run's score is left when the score is wrong"),
    "report": Command("reporting", "report", "write one self-contained page about a run"),
    "example": Command("examples", "example", "write the files of an example into the current folder"),
    "list": Command("listing", "list_names", "explain what a job can say: sections, names, fields"),
    "doctor": Command("diagnosing", "doctor", "look at this installation and test it"),
}

GAMES = {
    "train": Command("games.training", "train", "train a player by self-play, or continue to"),
    "eval": Command("games.competing", "evaluate", "say how many of a player's moves are perfect"),
    "tournament": Command("games.competing", "tournament", "let players play each other: scores, Elo, a table and a plot"),
    "play": Command("games.playing", "play", "play against a player, in the terminal or in the browser"),
    "solve": Command("games.solving", "solve", "show the exact score of every move in a position"),
    "build-set": Command("games.building", "build", "build a set of positions with exact scores"),
}
"""The commands behind `narrows games`."""

_NO_ROOM = "RESOURCE_EXHAUSTED: "
"""The beginning of JAX's message that memory ran out."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one subcommand; return the exit status: 0, 1 for a mistake to correct, 2 for wrong usage, 130 after Ctrl-C."""
    # XLA's own remarks, such as how to report a slow compile, are for those who work on XLA; its errors are raised.
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    with lenient_output():
        return _main(list(sys.argv[1:] if arguments is None else arguments))


def _main(words: Sequence[str]) -> int:
    if words[:1] in (["-V"], ["--version"]):
        say(importlib.import_module("narrows").__version__)
        return 0
    if words[:1] == ["games"]:
        return _dispatch(words[1:], GAMES, "narrows games", _usage_of_games())
    return _dispatch(words, COMMANDS, "narrows", _usage())


def _dispatch(words: Sequence[str], commands: Mapping[str, Command], program: str, usage: str) -> int:
    if not words or words[0] in ("-h", "--help"):
        say(usage)
        return 0 if words else 2
    command = commands.get(words[0])
    if command is None:
        say(f"{program}: there is no command {quote(words[0])}.\n\n{usage}", sys.stderr)
        return 2
    return _call(command, f"{program} {words[0]}", words[1:])


def _call(command: Command, name: str, words: Sequence[str]) -> int:
    try:
        module = importlib.import_module(f"narrows.commands.{command.module}")
        function = getattr(module, command.function)
        bounded = _within_bounds(function)
        with _telling(name):
            result = tyro.cli(bounded, prog=name, args=list(words), config=(tyro.conf.OmitArgPrefixes,))
        say(module.render(result))
    except BrokenPipeError:  # the reader went away, as `head` does: nobody is left to tell
        _close_output()
        return 141
    # What a user can mend is a sentence; anything else is a defect of ours and keeps its traceback.
    except (ValueError, OSError, ImportError, RuntimeError, MemoryError) as error:
        if _is_interrupt(error):
            return _interrupted(name)
        say(f"{name}: {_sentence(error)}", sys.stderr)
        return 1
    except KeyboardInterrupt:
        return _interrupted(name)
    return int(getattr(result, "exit_status", 0))


@contextmanager
def _telling(name: str) -> Iterator[None]:
    """Tell, as a sentence and once, what was found changed in a file and can be gone on with."""
    with warnings.catch_warnings():
        warnings.simplefilter("always", ChangedFile)
        show, told = warnings.showwarning, set[str]()

        def tell(message: Warning | str, category: type[Warning], *place: Any, **options: Any) -> None:
            if not issubclass(category, ChangedFile):
                show(message, category, *place, **options)
            elif str(message) not in told:
                told.add(str(message))
                say(f"{name}: {message}", sys.stderr)

        warnings.showwarning = tell
        yield


def _within_bounds(function: Callable[..., Any]) -> Callable[..., Any]:
    """Return a command that refuses integers beyond the bounds in its annotations, by the name of the option."""

    @functools.wraps(function)
    def call(*arguments: Any, **options: Any) -> Any:
        given = inspect.signature(function).bind(*arguments, **options).arguments
        check_sizes(function, given, _option)
        for record in filter(dataclasses.is_dataclass, given.values()):
            check_sizes(type(record), vars(record), _option)
        return function(*arguments, **options)

    return call


def _option(name: str) -> str:
    return f"--{name.rstrip('_').replace('_', '-')}"


def _sentence(error: Exception) -> str:
    """Return what to tell of an error. The operating system's own words are a number and no cure."""
    if isinstance(error, MemoryError) or str(error).startswith(_NO_ROOM):
        return f"memory ran out ({str(error).removeprefix(_NO_ROOM) or 'no more was to be had'}). Ask for less, or free some."
    if isinstance(error, UnicodeEncodeError):
        text = quote(error.object[error.start : error.end])
        return f"{text} cannot be written in {error.encoding}, which names of files have here. Set PYTHONUTF8=1; try again."
    if not isinstance(error, OSError) or error.errno is None or error.strerror is None:
        return str(error)
    if error.strerror != os.strerror(error.errno):
        return error.strerror
    place = error.filename2 or error.filename
    head = "" if place is None else f"{place}: "
    return f"{head}{error.strerror}. Check the path, whether you may write there, and the free space; try again."


def _close_output() -> None:
    """Point the output nowhere, or Python would complain again when it ends."""
    with open(os.devnull, "w") as nowhere:
        os.dup2(nowhere.fileno(), sys.stdout.fileno())


def _is_interrupt(error: BaseException) -> bool:
    """Return whether Ctrl-C caused an error: a compiled module that is interrupted while it loads says ImportError."""
    cause: BaseException | None = error
    while cause is not None and not isinstance(cause, KeyboardInterrupt):
        cause = cause.__cause__ or cause.__context__
    return cause is not None


def _interrupted(name: str) -> int:
    say(f"{name}: interrupted.", sys.stderr)
    return 130


def _usage_of_games() -> str:
    return "\n".join(
        [
            "usage: narrows games COMMAND ... (narrows games COMMAND --help says more)",
            "",
            "Two-player zero-sum games: players trained by self-play, a perfect judge, and a board to play on.",
            "",
            *_lines({name: command.help for name, command in GAMES.items()}),
        ]
    )


def _lines(helps: Mapping[str, str]) -> list[str]:
    width = max(map(len, helps))
    return [f"  {name:<{width}}  {text}" for name, text in helps.items()]


def _usage() -> str:
    helps = {name: command.help for name, command in COMMANDS.items()}
    lines = _lines(helps | {"games": "two-player games: train, play, solve, compete (narrows games --help)"})
    return "\n".join(
        [
            "usage: narrows COMMAND ... (narrows COMMAND --help says more)",
            "",
            "Narrow a set too large to list to a small, diverse shortlist that holds up when the score is wrong.",
            "",
            *lines,
        ]
    )
