"""One inert HTML page that explains a run: fill a `ReportData`, then `write_report(data, path)`."""

from narrows.report.content import (
    Candidate,
    DataQuality,
    Foretold,
    History,
    Noise,
    Provenance,
    ProxyQuality,
    ReportData,
    ScoreGroup,
    Search,
    Selection,
    SetAside,
    Truth,
)
from narrows.report.page import render, write_report

__all__ = [
    "Candidate",
    "DataQuality",
    "Foretold",
    "History",
    "Noise",
    "Provenance",
    "ProxyQuality",
    "ReportData",
    "ScoreGroup",
    "Search",
    "Selection",
    "SetAside",
    "Truth",
    "render",
    "write_report",
]
