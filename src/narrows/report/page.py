"""Turn report data into one self-contained HTML page that loads nothing and runs nothing."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from jinja2 import Environment, PackageLoader, StrictUndefined

from narrows.files import write_atomically
from narrows.report.content import ReportData
from narrows.report.glossary import chapters
from narrows.report.sections.headline import headline
from narrows.report.sections.origin import origin_view
from narrows.report.sections.quality import data_view, proxy_view
from narrows.report.sections.run import run_view
from narrows.report.sections.shortlist import shortlist_view
from narrows.report.sections.truth import truth_view
from narrows.report.words import command, printable


@dataclass(frozen=True)
class Missing:
    """A sentence about what a part of the page lacks, and the commands that get it."""

    sentence: str
    lead: str
    commands: tuple[str, ...]


def render(data: ReportData) -> str:
    """Return the report as HTML text, the same text for the same data.

    Everything that comes from the data is escaped; control characters and lone surrogates become U+FFFD. The page has
    no script, no form and no address outside itself, and its content security policy forbids them.

    >>> page = render(ReportData("<b>demo</b>", settings={"seed": 0}))
    >>> "&lt;b&gt;demo&lt;/b&gt;" in page, "<b>demo</b>" in page
    (True, False)
    """
    environment = Environment(
        loader=PackageLoader("narrows.report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    html = environment.get_template("report.html.j2").render(
        data=data,
        headline=headline(data),
        shortlist=shortlist_view(data),
        truth=truth_view(data),
        run=run_view(data),
        table=data_view(data),
        proxy=proxy_view(data),
        origin=origin_view(data),
        chapters=chapters(data.guide),
        missing=_missing(data),
    )
    return printable(html)


def write_report(data: ReportData, path: str | os.PathLike[str]) -> Path:
    """Write the report to `path`, whole or not at all, and return the path.

    Raises OSError where the folder is missing or cannot be written; an older page then stays as it was.
    """
    path = Path(path)
    if not path.parent.is_dir():
        raise FileNotFoundError(f"the folder {str(path.parent)!r} does not exist. Make it, or name another place.")
    write_atomically(path, render(data))
    return path


def _missing(data: ReportData) -> Mapping[str, Missing]:
    folder, space = data.folder or "RUN", data.space.name if data.space else "rna"
    again = command("narrows", "report", folder)

    def narrows(*words: str) -> str:
        return command("narrows", *words)

    return {
        "shortlist": Missing(
            "No shortlist has been selected from this run yet.",
            "To add it:",
            (narrows("shortlist", folder, "--k", "24", "--min-distance", "4"), again),
        ),
        "truth": Missing(
            f"The true score has not been asked, so whether the {data.guide.noun} kept its promises is not known.",
            "To ask it:",
            (narrows("verify", folder, "--score", "my_score.py:score"), again),
        ),
        "run": Missing(
            "No training history has been recorded.", "To record one:", (narrows("run", "job.toml", "--out", folder), again)
        ),
        "data": Missing(
            "No measured table belongs to this run; its job names none.",
            "To check one:",
            (narrows("check", "measurements.csv", "--space", space),),
        ),
        "proxy": Missing(
            "No quality figures of a proxy belong to this run; its score is not a fitted proxy.",
            "To fit one:",
            (narrows("fit", "measurements.csv", "--space", space),),
        ),
    }
