"""The quality of the data, and of the proxy that learned from them."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

import numpy as np

from narrows.data import Finding
from narrows.proxies.quality import ComparedModel
from narrows.report.canvas import Picture
from narrows.report.content import DataQuality, ProxyQuality, ReportData
from narrows.report.plots import MAX_POINTS, Cloud, bars, histogram, scatter
from narrows.report.statistics import error_by_distance, finite, finite_together
from narrows.report.words import UNKNOWN, count, duration, listing, number, percent, plural
from narrows.selection.guide import Guide

MOST_FINDINGS = 100
"""Findings shown on the page; the page says how many more there are."""


@dataclass(frozen=True)
class DataView:
    """The section on the data."""

    facts: tuple[tuple[str, str], ...]
    kinds: tuple[tuple[str, str, str], ...]
    findings: tuple[Finding, ...]
    num_more: int
    rejected_path: str
    pictures: tuple[Picture, ...]
    about: str
    lengths: str


@dataclass(frozen=True)
class ProxyView:
    """The section on the proxy."""

    summary: tuple[str, ...]
    facts: tuple[tuple[str, str, str], ...]
    pictures: tuple[Picture, ...]
    compared: tuple[tuple[str, ...], ...]


def data_view(data: ReportData) -> DataView | None:
    """Return the section's content, `None` without a table."""
    table = data.data
    if table is None:
        return None
    kinds = Counter((finding.kind, finding.severity) for finding in table.findings)
    lengths = finite(table.lengths)
    about = "The measurements the proxy learned from." if data.guide.is_proxy else "The measurements the run is compared with."
    pictures = [_scores(table, data.guide)] if len(table.scores) else []
    if lengths.size and np.ptp(lengths) > 0:
        pictures.append(_lengths(table, data.guide))
    return DataView(
        facts=tuple(_data_facts(table)),
        kinds=tuple((kind, severity, count(num)) for (kind, severity), num in kinds.most_common()),
        findings=table.findings[:MOST_FINDINGS],
        num_more=max(0, len(table.findings) - MOST_FINDINGS),
        rejected_path=table.rejected_path,
        pictures=tuple(pictures),
        about=about,
        lengths=f"All sequences have {plural(int(lengths[0]), 'letter')}." if lengths.size and np.ptp(lengths) == 0 else "",
    )


def proxy_view(data: ReportData) -> ProxyView | None:
    """Return the section's content, `None` without a proxy."""
    proxy = data.proxy
    if proxy is None:
        return None
    pictures = [
        _prediction(proxy) if len(proxy.test_mean) else None,
        _coverage(proxy) if proxy.coverage_1std is not None or proxy.coverage_2std is not None else None,
        _error(proxy) if len(proxy.test_distance) else None,
        _honesty(proxy) if len(proxy.test_distance) and len(proxy.test_std) else None,
    ]
    shown = tuple(picture for picture in pictures if picture is not None)
    compared = tuple(_compared(one) for one in proxy.compared)
    return ProxyView(tuple(_proxy_summary(proxy)), tuple(_proxy_facts(proxy)), shown, compared)


def _compared(one: ComparedModel) -> tuple[str, ...]:
    """Return a line of the table of models: its name, what it is, and its figures."""
    figures = map(number, (one.gain, one.spearman, one.rmse, one.log_likelihood))
    coverage = (percent(one.coverage_1std), percent(one.coverage_2std))
    return (one.name, one.meaning, *figures, *coverage, duration(one.seconds), percent(one.share) if one.share else "")


def _data_facts(table: DataQuality) -> list[tuple[str, str]]:
    columns = listing([name for name in (table.sequence_column, table.score_column) if name])
    facts = [
        ("file", table.path),
        ("columns read", columns),
        ("rows in the file", count(table.num_rows)),
        ("sequences used", count(table.num_used)),
        *([("replicates joined", count(table.num_joined))] if table.num_joined else []),
        ("rows rejected", count(table.num_rejected)),
        ("duplicates", count(table.num_duplicates)),
    ]
    scores = finite(table.scores)
    if scores.size:
        quartiles = ", ".join(number(float(value)) for value in np.quantile(scores, [0, 0.25, 0.5, 0.75, 1]))
        facts.append(("scores, minimum to maximum by quarters", quartiles))
    if table.sha256:
        facts.append(("SHA-256 of the file", table.sha256))
    return [(name, value) for name, value in facts if value and value != UNKNOWN]


def _scores(table: DataQuality, guide: Guide) -> Picture:
    left_out = len(table.scores) - finite(table.scores).size
    return Picture(
        "data-scores",
        "Measured scores",
        histogram("data-scores", table.scores, x="measured score", y="rows"),
        f"How often each score was measured, over {plural(finite(table.scores).size, 'row')}."
        + (f" {plural(left_out, 'score')} without a finite value are left out." if left_out else ""),
        "A spike at one value: a detection limit or a default. No row near the scores you hope for: "
        + ("the proxy has to extrapolate to get there." if guide.is_proxy else "nothing measured comes close to them."),
    )


def _lengths(table: DataQuality, guide: Guide) -> Picture:
    return Picture(
        "data-lengths",
        "Lengths",
        histogram("data-lengths", table.lengths, x="letters in the sequence", y="rows", whole=True),
        "How long the measured sequences are.",
        f"Hardly any of the length you search: {'the proxy knows' if guide.is_proxy else 'the table says'} little about it.",
    )


def _proxy_summary(proxy: ProxyQuality) -> list[str]:
    sentences = [proxy.description] if proxy.description else []
    if proxy.num_train is not None and proxy.num_test is not None:
        sentences.append(
            f"It was fitted on {plural(proxy.num_train, 'object')} and judged on {count(proxy.num_test)} others that were "
            "kept from it."
        )
    if proxy.split:
        sentences.append(proxy.split)
    if proxy.seconds is not None:
        sentences.append(f"Fitting took {duration(proxy.seconds)}.")
    return sentences


def _proxy_facts(proxy: ProxyQuality) -> list[tuple[str, str, str]]:
    facts = []
    if proxy.spearman is not None:
        facts.append(("rank agreement (Spearman)", number(proxy.spearman, 2), "1: the same order, 0: none"))
    if proxy.rmse is not None:
        against = f"predicting the mean for everything: {number(proxy.rmse_of_mean)}" if proxy.rmse_of_mean else ""
        facts.append(("typical error (RMSE)", number(proxy.rmse), against))
    if proxy.coverage_1std is not None:
        facts.append(("truths within the interval for 68 %", percent(proxy.coverage_1std), "1 standard deviation"))
    if proxy.coverage_2std is not None:
        facts.append(("truths within the interval for 95 %", percent(proxy.coverage_2std), "wider; calibrated like it"))
    distance = finite(proxy.test_distance)
    if distance.size:
        span = f"{number(float(distance.min()))} to {number(float(distance.max()))} edits"
        facts.append(("distance of the held-out to the training data", span, f"median {number(float(np.median(distance)))}"))
    return facts


def _prediction(proxy: ProxyQuality) -> Picture:
    truth, _ = finite_together(proxy.test_truth, proxy.test_mean)
    cloud = Cloud("held out", proxy.test_mean, proxy.test_truth)
    drawing = scatter("proxy-prediction", [cloud], x="predicted score", y="measured score", identity=True)
    shown = f"{count(MAX_POINTS)} of {count(truth.size)}" if truth.size > MAX_POINTS else count(truth.size)
    return Picture(
        "proxy-prediction",
        "Predicted and measured, held out",
        drawing,
        f"Each point is an object the proxy never saw ({shown} shown). On the dashed line prediction and measurement agree.",
        "A level cloud: the proxy predicts the mean. A bend away from the line at the right end: the best objects are "
        "just the ones it misjudges.",
    )


def _coverage(proxy: ProxyQuality) -> Picture:
    levels = {"interval for 68 %": (proxy.coverage_1std, 0.6827), "interval for 95 %": (proxy.coverage_2std, 0.95)}
    known = {label: pair for label, pair in levels.items() if pair[0] is not None}
    found = [100 * float(pair[0] or 0.0) for pair in known.values()]
    drawing = bars(
        "proxy-coverage",
        list(known),
        found,
        x="distance from the prediction",
        y="held-out truths, %",
        expected=[100 * pair[1] for pair in known.values()],
        notes=[percent(value / 100) for value in found],
    )
    return Picture(
        "proxy-coverage",
        "Is the uncertainty honest?",
        drawing,
        "The share of held-out truths that fall within the proxy's intervals for 68 % and 95 %. The short line "
        "is what an honest bell curve has: 68 % and 95 %.",
        "Bars well under the lines: the proxy is surer than it should be, and ± in the shortlist is too small.",
    )


def _error(proxy: ProxyQuality) -> Picture:
    bins = error_by_distance(proxy.test_truth, proxy.test_mean, proxy.test_distance)
    drawing = bars(
        "proxy-error",
        [str(b.low) if b.low == b.high else f"{b.low}–{b.high}" for b in bins],
        [b.rmse for b in bins],
        x="edits to the nearest training object",
        y="typical error (RMSE)",
        expected=[proxy.rmse_of_mean or float("nan")] * len(bins),
        notes=[f"n {b.num:,}" for b in bins],
    )
    return Picture(
        "proxy-error",
        "Error by distance to the training data",
        drawing,
        "The typical error for held-out objects near to and far from the training data; n is how many there are. The short "
        "line is the error of predicting the mean for everything.",
        "Bars that reach the line: out there the proxy knows nothing.",
    )


def _honesty(proxy: ProxyQuality) -> Picture | None:
    bins = error_by_distance(proxy.test_truth, proxy.test_mean, proxy.test_distance, std=proxy.test_std)
    if not any(b.sharpness > 0.0 for b in bins):
        return None
    drawing = bars(
        "proxy-honesty",
        [str(b.low) if b.low == b.high else f"{b.low}–{b.high}" for b in bins],
        [100 * b.coverage for b in bins],
        x="edits to the nearest training object",
        y="truths within 1 std, %",
        expected=[68.27] * len(bins),
        notes=[f"± {number(b.sharpness, 2)}" for b in bins],
    )
    return Picture(
        "proxy-honesty",
        "Is it honest far from the data too?",
        drawing,
        "The share of held-out truths within one standard deviation of the prediction, near to and far from the training data; "
        "± is the mean standard deviation there. The short line is what an honest bell curve has: 68 %.",
        "Bars that fall off to the right while ± stays: far out the proxy does not know that it does not know.",
    )
