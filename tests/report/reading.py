"""Read a page back as a browser would: tags in balance, attributes, ids, references."""

import re
from dataclasses import dataclass, field
from html.parser import HTMLParser

VOID = {"meta", "br", "hr", "img", "input", "link", "wbr"}


@dataclass
class Reading:
    tags: list[str] = field(default_factory=list)
    attributes: list[tuple[str, str, str]] = field(default_factory=list)
    text: list[str] = field(default_factory=list)
    styles: list[str] = field(default_factory=list)

    @property
    def ids(self) -> list[str]:
        return [value for _, name, value in self.attributes if name == "id"]

    @property
    def references(self) -> set[str]:
        """Every place of the page that something points to."""
        found = {value[1:] for _, name, value in self.attributes if name in ("href", "xlink:href") and value[:1] == "#"}
        for _, name, value in self.attributes:
            found |= set(re.findall(r"url\(#([^)]+)\)", value))
            if name == "aria-labelledby":
                found |= set(value.split())
        return found

    def has_text(self, text: str) -> bool:
        return text in " ".join("".join(self.text).split())


class _Reader(HTMLParser):
    def __init__(self):
        super().__init__(convert_charrefs=True)
        self.reading, self.open = Reading(), []

    def handle_starttag(self, tag, attrs):
        self._note(tag, attrs)
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self._note(tag, attrs)

    def _note(self, tag, attrs):
        names = [name for name, _ in attrs]
        assert len(names) == len(set(names)), f"<{tag}> has an attribute twice: {names}"
        self.reading.tags.append(tag)
        self.reading.attributes += [(tag, name, value or "") for name, value in attrs]

    def handle_endtag(self, tag):
        assert self.open and self.open[-1] == tag, f"</{tag}> closes {self.open[-3:]}"
        self.open.pop()

    def handle_data(self, data):
        (self.reading.styles if self.open and self.open[-1] == "style" else self.reading.text).append(data)


def read(page: str) -> Reading:
    """Parse a page strictly: every element closed in order, no attribute twice."""
    reader = _Reader()
    reader.feed(page)
    reader.close()
    assert not reader.open, f"never closed: {reader.open}"
    return reader.reading


def assert_inert(reading: Reading) -> None:
    """Check that the page runs nothing and loads nothing."""
    assert not {"script", "iframe", "object", "embed", "form", "link", "base", "img", "image"} & set(reading.tags)
    for tag, name, value in reading.attributes:
        assert not name.startswith("on"), f"<{tag} {name}>"
        if name in ("href", "xlink:href", "src", "srcset", "action", "data", "poster"):
            assert value.startswith("#"), f"<{tag} {name}={value!r}> leads out of the page"
        if name == "style":
            assert not re.search(r"url\((?!#)", value), value
    for style in reading.styles:
        assert "@import" not in style and "url(" not in style and "http" not in style


def assert_coherent(reading: Reading) -> None:
    """Check that no id occurs twice and that everything pointed to is there."""
    assert len(reading.ids) == len(set(reading.ids))
    assert reading.references <= set(reading.ids)
