"""`narrows report`: everything a run folder knows, as one page."""

from dataclasses import dataclass
from pathlib import Path

from tyro.conf import Positional

from narrows.report import write_report
from narrows.runs import OpenRun
from narrows.runs.page import gather


@dataclass(frozen=True)
class Page:
    """Where the page is."""

    path: Path


def report(folder: Positional[Path], *, out: Path | None = None) -> Page:
    """Write one self-contained page about a run: how it went, the shortlist, and how far to trust it.

    Args:
        folder: the run folder; what is not there yet (a shortlist, a verification) the page says how to add.
        out: the page; by default report.html in the run folder.
    """
    if out is not None and out.suffix not in (".html", ".htm"):
        raise ValueError(f"--out {out}: expected a name that ends in .html.")
    run = OpenRun(folder)
    path = run.folder.report if out is None else out
    write_report(gather(run), path)
    return Page(path)


def render(page: Page) -> str:
    """Return what the command prints."""
    return f"page: {page.path.resolve()}"
