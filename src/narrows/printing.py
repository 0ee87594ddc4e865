"""Showing text that came from a file: nothing that steers a terminal, and no more than can be read.

`printable` and `quote` write what a file said, inside a sentence; `say` is how sentences are printed.
"""

import contextlib
import difflib
import io
import sys
import unicodedata
from collections.abc import Iterable, Iterator
from typing import TextIO

_LONGEST_LINE = 10_000


def printable(value: object, limit: int | None = 200) -> str:
    r"""Write what a file said on one line: at most `limit` letters of it, with an escape for each that shows as none.

    Those are control characters, line ends, zero-width letters, changes of direction and bytes that are not text.

    >>> printable("1\x1b[2J\n"), printable("a" * 9, 4)
    ('1\\x1b[2J\\n', 'aaa…')
    """
    text = _cut(str(value), limit)
    return text if text.isprintable() else "".join(map(_visible, text))


def quote(value: object, limit: int = 40) -> str:
    """Write what a file said as `printable` does, a text in quotes that tell where it starts and ends.

    >>> quote("ACGU"), quote(3), quote("A" * 9, 4)
    ("'ACGU'", '3', "'AAA…'")
    """
    return repr(_cut(value, limit)) if isinstance(value, str) else printable(repr(value), limit)


def name_some(values: Iterable[object], limit: int = 20) -> str:
    """Quote the first values of many, and say how many more there are.

    >>> name_some("ab"), name_some("abcd", 2)
    ("'a', 'b'", "'a', 'b' and 2 more")
    """
    names = list(values)
    listed = ", ".join(map(quote, names[:limit]))
    return listed if len(names) <= limit else f"{listed} and {len(names) - limit:,} more"


def did_you_mean(name: object, known: Iterable[str]) -> str:
    """Write a question, after a blank, about the nearest of the known names, and nothing where none is near.

    >>> did_you_mean("rnaa", ["rna", "dna"]), did_you_mean("peptide", ["rna", "dna"])
    (" Did you mean 'rna'?", '')
    """
    near = difflib.get_close_matches(str(name), list(known), n=1)
    return f" Did you mean {quote(near[0])}?" if near else ""


def say(text: str, file: TextIO | None = None) -> None:
    """Print sentences, to standard output unless a file is given; line ends stand, whatever else steers a terminal does not.

    Sentences quote files through `printable` and `quote`; here is made sure of the rest, such as the names of files.
    """
    lines = text.expandtabs(4).split("\n")
    print("\n".join(printable(line, _LONGEST_LINE) for line in lines), file=file, flush=True)


@contextlib.contextmanager
def lenient_output() -> Iterator[None]:
    r"""Let standard output and errors write `\xNN`, `\uNNNN` for letters that their encoding lacks, instead of failing.

    Only how they treat such letters is changed, and changed back at the end; a stream of another make stays as it is.
    """
    with contextlib.ExitStack() as stack:
        for stream in (sys.stdout, sys.stderr):
            if isinstance(stream, io.TextIOWrapper) and stream.errors != "backslashreplace":
                stack.callback(_reconfigure, stream, stream.errors)
                _reconfigure(stream, "backslashreplace")
        yield


def _reconfigure(stream: io.TextIOWrapper, errors: str | None) -> None:
    # It flushes: a reader that went away is told of where something is printed, a closed stream has nothing to change.
    with contextlib.suppress(OSError, ValueError):
        stream.reconfigure(errors=errors)


def _cut(text: str, limit: int | None) -> str:
    return text if limit is None or len(text) <= limit else f"{text[: limit - 1]}…"


def _visible(letter: str) -> str:
    # A wide or unbreakable space takes its room like any other.
    return letter if letter.isprintable() or unicodedata.category(letter) == "Zs" else repr(letter)[1:-1]
