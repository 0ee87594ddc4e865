"""Texts that every Python brings: sentences of the standard library's documentation, and tasks made of them.

Nothing is downloaded. The sentences depend on the version of Python, so that a checksum goes with every figure.
"""

import ast
import hashlib
import re
import sysconfig
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np

TaskName = Literal["acceptability", "pairs", "few"]

_LEFT_OUT = frozenset({"site-packages", "dist-packages", "test", "tests", "idlelib", "tkinter", "lib2to3", "__pycache__"})
_SENTENCE = re.compile(r"(?<=[.!?])\s+(?=[A-Z])")
_WORD = re.compile(r"[A-Za-z][A-Za-z'-]*[,;:]?", re.ASCII)
_SHORTEST, _LONGEST = 7, 22
_TEST, _TUNE = 573, 400
"""Rows that judge, and rows of a split of their own on which learning rates are chosen."""
_TRAIN = {"acceptability": 2400, "pairs": 1200, "few": 200}
_MOST_TUNED = 1200
"""Rows that are learned from where rates are chosen."""


class Sentence(NamedTuple):
    """A sentence and the module or topic that it is from."""

    text: str
    source: str


class Examples(NamedTuple):
    """Texts with labels."""

    first: tuple[str, ...]  # of each row
    second: tuple[str, ...]  # of each row of a task of pairs; empty otherwise
    labels: tuple[int, ...]  # 0 or 1


class Data(NamedTuple):
    """A task."""

    # train, test: no sentence is in both
    train: Examples
    test: Examples
    # tune_train, tune_test: another split, without the rows of `test`, for choosing learning rates
    tune_train: Examples
    tune_test: Examples
    checksum: str  # of all sentences


def sentences() -> list[Sentence]:
    """Return the sentences, sorted, each once."""
    found: dict[str, Sentence] = {}
    root = Path(sysconfig.get_paths()["stdlib"])
    for path in sorted(root.rglob("*.py")):
        place = path.relative_to(root)
        if _LEFT_OUT.isdisjoint(place.parts):
            for sentence in _in_module(path, place.parts[0].removesuffix(".py")):
                found.setdefault(sentence.text, sentence)
    return [found[text] for text in sorted(found)]


def data(task: TaskName, seed: int, known: Sequence[Sentence]) -> Data:
    """Return a task made of the sentences; the seed decides which of them are learned from and how they are spoiled.

    `acceptability`: left as they are (1), or two neighbouring words exchanged (0). `few`: the same with 200 rows to learn
    from. `pairs`: two sentences from one module (1), or from two (0).
    """
    generator = np.random.default_rng([seed, 2205])
    order = generator.permutation(len(known))
    test, rest = order[:_TEST], order[_TEST:]
    num = min(_TRAIN[task], len(rest))
    # The split for choosing rates takes its judging rows from what is learned from otherwise.
    tune_test, tune_rest = rest[:_TUNE], rest[_TUNE:]
    made = _pairs if task == "pairs" else _spoiled
    parts = (rest[:num], test, tune_rest[: min(num, _MOST_TUNED)], tune_test)
    train, judged, tune_train, tune_judged = (made([known[row] for row in part], generator) for part in parts)
    checksum = hashlib.sha256("\n".join(sentence.text for sentence in known).encode()).hexdigest()
    return Data(train, judged, tune_train, tune_judged, checksum)


def _in_module(path: Path, source: str) -> Iterator[Sentence]:
    try:
        tree = ast.parse(path.read_text(encoding="utf-8"))
    except (SyntaxError, UnicodeDecodeError, ValueError):
        return
    if source == "pydoc_data":
        for node in ast.walk(tree):
            if isinstance(node, ast.Dict):
                for key, value in zip(node.keys, node.values, strict=True):
                    if isinstance(key, ast.Constant) and isinstance(value, ast.Constant):
                        yield from _cut(str(value.value), f"topic {key.value}")
        return
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            yield from _cut(ast.get_docstring(node) or "", source)


def _cut(text: str, source: str) -> Iterator[Sentence]:
    for paragraph in re.split(r"\n\s*\n", text):
        for sentence in _SENTENCE.split(" ".join(paragraph.split())):
            words = sentence.split(" ")
            body = [*words[:-1], words[-1].removesuffix(".")]
            is_prose = sentence.endswith(".") and all(_WORD.fullmatch(word) for word in body)
            if is_prose and sentence[0].isupper() and _SHORTEST <= len(words) <= _LONGEST:
                yield Sentence(sentence, source)


def _spoiled(own: Sequence[Sentence], generator: np.random.Generator) -> Examples:
    texts, labels = [], []
    for number, sentence in enumerate(own):
        is_left = number % 2 == 0
        texts.append(sentence.text if is_left else _exchanged(sentence.text, generator))
        labels.append(int(is_left))
    return Examples(tuple(texts), (), tuple(labels))


def _exchanged(text: str, generator: np.random.Generator) -> str:
    """Exchange two neighbouring words that differ; the first and the last stay, whose capital and stop would tell."""
    words = text.split(" ")
    places = [place for place in range(1, len(words) - 2) if words[place].lower() != words[place + 1].lower()]
    place = int(generator.choice(places))
    words[place], words[place + 1] = words[place + 1], words[place]
    return " ".join(words)


def _pairs(own: Sequence[Sentence], generator: np.random.Generator) -> Examples:
    by_source: dict[str, list[int]] = {}
    for number, sentence in enumerate(own):
        by_source.setdefault(sentence.source, []).append(number)
    first, second, labels = [], [], []
    for number, sentence in enumerate(own):
        same = [other for other in by_source[sentence.source] if other != number]
        is_same = number % 2 == 0 and bool(same)
        others = same if is_same else [other for other, known in enumerate(own) if known.source != sentence.source]
        first.append(sentence.text)
        second.append(own[int(generator.choice(others))].text)
        labels.append(int(is_same))
    return Examples(tuple(first), tuple(second), tuple(labels))
