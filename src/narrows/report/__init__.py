"""One inert HTML page that explains a run: fill a `ReportData`, then `write_report(data, path)`."""

from narrows.report.cautions import COURSE, LIST
from narrows.report.content import (
    Apart,
    Caution,
    DataQuality,
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
    "COURSE",
    "LIST",
    "Apart",
    "Caution",
    "DataQuality",
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
