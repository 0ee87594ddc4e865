"""References to the methods, such as "tgm 5.4" or "eflow T13", lead to something; so do the names in docs/methods."""

import ast
import re
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
METHODS = ROOT / "docs" / "methods"
NAMES = ("tgm", "eflow", "surrogate", "far", "learners")

_ITEM = r"(?:T\d+[a-d]?|[A-Z]?\d+(?:\.\d+)*)"
_REFERENCE = re.compile(rf"\b({'|'.join(NAMES)}) (eqs?\. )?({_ITEM}(?:(?:, | and | to ){_ITEM})*)\b")
_OTHER_SPELLINGS = re.compile(
    rf"(?:{'|'.join(NAMES)}|spec)(?:\.md)?,? (?:sections?|tests?|tables?|laws?|equations?) [\dA-Z]"
    r"|\bspec(?:ification)? [\dA-Z]"
    r"|(?<!\d, )\bsections? \d+\.\d"
    r"|\b[Aa]cceptance (?:test )?\d"
    r"|\bT[1-9]\d?[a-d]?\b"
)


class Page:
    """What a page of docs/methods can be asked for."""

    def __init__(self, text):
        self.sections = set(re.findall(r"^#+ (\d+(?:\.\d+)*)\.? ", text, re.MULTILINE))
        self.equations = set(re.findall(r"\(([A-Z]?\d+(?:\.\d+)*)\)$", text, re.MULTILINE))
        self.laws = set(re.findall(r"^- \*\*(T\d+)\.\*\*", text, re.MULTILINE))

    def has(self, item, is_equation):
        if is_equation:
            return item in self.equations
        return item.rstrip("abcd") in self.laws if item.startswith("T") else item in self.sections


@cache
def page(name):
    return Page((METHODS / f"{name}.md").read_text())


def unresolved(text):
    """Return the references of a text that lead nowhere, and what looks like one and is written otherwise."""
    found = []
    for name, equation, items in _REFERENCE.findall(text):
        found += [f"{name} {item}" for item in re.findall(_ITEM, items) if not page(name).has(item, bool(equation))]
    return found + [match.group() for match in _OTHER_SPELLINGS.finditer(_REFERENCE.sub("", text))]


def texts():
    """Return every file that may refer to a method; not the pages themselves, whose own numbers need no name, nor this one."""
    paths = (path for room in ("src", "tests", "benchmarks", "docs", "examples") for path in (ROOT / room).rglob("*"))
    own = (*METHODS.iterdir(), Path(__file__))
    return [path for path in paths if path.suffix in (".py", ".md", ".toml") and path not in own]


def test_every_reference_leads_to_a_section_an_equation_or_a_law():
    wrong = {str(path.relative_to(ROOT)): unresolved(path.read_text()) for path in texts()}
    assert not {path: items for path, items in wrong.items() if items}


@pytest.mark.parametrize("name", NAMES)
def test_pages_refer_to_one_another_rightly(name):
    references = (match.group() for match in _REFERENCE.finditer((METHODS / f"{name}.md").read_text()))
    assert not [item for reference in references for item in unresolved(reference)]
    assert page(name).laws == {f"T{number}" for number in range(1, len(page(name).laws) + 1)}


@pytest.mark.parametrize(
    ("text", "wrong"),
    [
        ("the loss (tgm 3.2), its laws (tgm T1 to T3) and (eflow eqs. 3.5 and 3.6)", []),
        ("the tree (tgm 99.1)", ["tgm 99.1"]),
        ("several (eflow 2.5 and 97)", ["eflow 97"]),
        ("a law (surrogate T99)", ["surrogate T99"]),
        ("an equation is no section (eflow 3.9) but (eflow eq. 3.9)", ["eflow 3.9"]),
        ("(tgm section 3.2)", ["tgm section 3"]),
        ("(spec 2.2)", ["spec 2"]),
        ("test T13 alone", ["T13"]),
        ("as in section 4.2", ["section 4.2"]),
        ("(Sutton and Barto 2018, section 11.2)", []),
    ],
)
def test_the_finder_finds(text, wrong):
    assert unresolved(text) == wrong


def exists(dotted):
    """Return whether a module, or a name that stands at the top of one, has this dotted name, without importing it."""
    parts = dotted.split(".")
    for length in range(len(parts), 0, -1):
        folder = ROOT.joinpath("src", *parts[:length])
        module = folder / "__init__.py" if folder.is_dir() else folder.with_suffix(".py")
        if module.exists():
            return length == len(parts) or (length == len(parts) - 1 and parts[-1] in _names(module))
    return False


@cache
def _names(module):
    names = set()
    for node in ast.parse(module.read_text()).body:
        if isinstance(node, ast.ImportFrom):
            names |= {alias.asname or alias.name for alias in node.names}
        elif isinstance(node, ast.FunctionDef | ast.ClassDef):
            names.add(node.name)
        elif isinstance(node, ast.Assign | ast.AnnAssign):  # __all__, where what is imported when asked for stands too
            names |= {part.value for part in ast.walk(node) if isinstance(part, ast.Constant) and isinstance(part.value, str)}
    return names


def test_every_name_and_path_in_the_pages_exists():
    for path in METHODS.glob("*.md"):
        spans = re.findall(r"`([^`\n]+)`", path.read_text())
        dotted = [name for span in spans for name in re.findall(r"^(narrows(?:\.\w+)+)", span)]
        assert not [name for name in dotted if not exists(name)], path.name
        paths = [span for span in spans if re.match(r"(src|tests|benchmarks|docs|examples)/", span)]
        assert not [span for span in paths if not (ROOT / span).exists()], path.name
    assert exists("narrows.operators.GeneralMellowmax")
    assert not exists("narrows.operators.GeneralMellowmin")
    assert not exists("narrows.no_such_room.GeneralMellowmax")
