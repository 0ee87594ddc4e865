"""The page and its picture, all of it read off the rows: laws, frontier, shortlists, the 2 % claim and the timings."""

from collections import Counter
from collections.abc import Sequence
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from benchmarks._stochastic.methods import METHODS, RIVALS, SPEAKERS, TARGET, UNIFORM
from benchmarks._stochastic.training import EXACT
from benchmarks.harness.case import prose
from benchmarks.harness.intervals import Interval
from benchmarks.harness.pictures import picture, reach, values
from benchmarks.harness.rows import Row
from benchmarks.harness.tables import Column, Found, figure, lines, name_of, part_of, peer, plain, spread, table
from benchmarks.harness.turns import RATIO, TIME

if TYPE_CHECKING:
    from matplotlib.axes import Axes

SAYS = prose("stochastic")
METRICS = ("mean score", "entropy", "L1 to the target", "top 100 mean", "top 100 distance")
MEAN, ENTROPY, DISTANCE, BEST_MEAN, BEST_DISTANCE = METRICS
ALONG, AT_END, END, BEND = (
    *("gap along the frontier", "gap at the least entropy", "least entropy of both", "largest error of interpolation"),
)
PICTURE = "stochastic_frontier.svg"


class Verdict(NamedTuple):
    """One comparison at equal entropy, at one rate of noise."""

    alpha: float
    ours: str
    rival: str
    gap: Interval  # positive where the expected flow network scores more
    error: float  # what interpolation may add to it or take away

    @property
    def word(self) -> str:
        """Return who is ahead, in a word, as far as the interval tells."""
        return "ahead" if self.gap.low > self.error else "behind" if self.gap.high < -self.error else "open"


def tables(rows: Sequence[Row]) -> str:
    """Return the whole section."""
    found = Found(rows)
    alphas = sorted({float(part) for part in (part_of(row.case, 1) for row in rows) if part != "speed"})
    parts = [*_claim(found, alphas), *(part for alpha in alphas for part in _laws(found, alpha)), *_best(found, alphas)]
    return "\n\n".join([*parts, *_learned(found), *_speed(found)])


def verdicts(found: Found, alpha: float, metric: str = ALONG) -> list[Verdict]:
    """Return the comparisons at one rate of noise."""
    told = []
    for ours in SPEAKERS:
        for rival in RIVALS:
            case = f"stochastic/{alpha:g}/frontier/{ours}/{rival}"
            if (case, metric) in found:
                gap = Interval(*(found[case, f"{metric}{suffix}"].value for suffix in ("", ", from", ", to")))
                told.append(Verdict(alpha, ours, rival, gap, found[f"stochastic/{alpha:g}/frontier", BEND].value))
    return told


def _claim(found: Found, alphas: Sequence[float]) -> list[str]:
    noisy = [alpha for alpha in alphas if verdicts(found, alpha)]
    if not noisy:
        return ["No frontier was measured."]
    cells = []
    for alpha in noisy:
        for along, end in zip(verdicts(found, alpha), verdicts(found, alpha, AT_END), strict=True):
            place = found.told(f"stochastic/{alpha:g}/frontier/{along.ours}/{along.rival}", END, plain, 4)
            gaps = (along.gap.told(4, sign=True), along.word, end.gap.told(4, sign=True))
            cells.append((f"{alpha:g}", along.ours, along.rival, *gaps, place))
    bends = [found[f"stochastic/{alpha:g}/frontier", BEND].value for alpha in noisy]
    header = ("alpha", "expected flow network", "rival", ALONG, "verdict", "gap at the end", "entropy there")
    return [
        "### Is the published claim true here?",
        *claim_sentences(found, noisy),
        f"![Mean score over entropy, exact and trained, for each rate of noise]({PICTURE})",
        table(header, cells),
        SAYS["gaps"].replace("BEND", figure(max(bends), 2)),
    ]


def claim_sentences(found: Found, alphas: Sequence[float]) -> list[str]:
    """Return what the rows say of the claim that expected flow networks, when trained, outperform the other formulations."""
    told = [one for alpha in alphas for one in verdicts(found, alpha)]
    sentences = []
    for (alpha, ours), group in groupby(told, key=lambda one: (one.alpha, one.ours)):
        rivals: dict[str, list[str]] = {}
        for one in group:
            rivals.setdefault(one.word, []).append(f"*{one.rival}*")
        phrases = {"ahead": "ahead of", "behind": "behind", "open": "open beside"}
        words = [f"{phrase} {' and '.join(rivals[word])}" for word, phrase in phrases.items() if word in rivals]
        sentences.append(f"- alpha = {alpha:g}, *{ours}*: {', '.join(words)}.")
    ahead, behind, still_open = (sum(one.word == word for one in told) for word in ("ahead", "behind", "open"))
    total = len(told)
    if ahead and behind:
        summary = "**true of some rivals and false of others**"
    elif not ahead and not behind:
        summary = "**left open**: no difference at equal entropy can be told"
    else:
        verb, word = ("confirmed", "ahead") if ahead else ("refuted", "behind")
        how, where = (
            ("in part", "wherever a difference at equal entropy can be told")
            if still_open
            else ("here", "in every comparison at equal entropy")
        )
        summary = f"**{verb} {how}**: they are {word} {where}"
    first = (
        f"That expected flow networks outperform the other formulations when trained is {summary}. Of {total} comparisons "
        f"{ahead} have the expected flow network ahead, {behind} behind, and {still_open} are open."
    )
    return [first, "\n".join(sentences), _nearest(found, alphas)]


def _nearest(found: Found, alphas: Sequence[float]) -> str:
    """Return which method's trained law lies nearest to the target, cell by cell: that may be asked at a fixed exponent."""
    best: Counter[str] = Counter()
    for alpha in alphas:
        for beta in _betas(found, alpha):
            cell = {m.name: found[_case(alpha, beta, "trained", m.name), DISTANCE].value for m in METHODS}
            best[min(cell, key=lambda name: cell[name])] += 1
    told = ", ".join(f"{name} in {count}" for name, count in best.most_common())
    return (
        f"Nearest to the target (L1, median over the seeds) among the trained laws of the {best.total()} noisy cells: {told}."
    )


def _laws(found: Found, alpha: float) -> list[str]:
    def exact(row: Row) -> str:
        return figure(0.0 if abs(row.value) < 1e-4 else row.value, 4)  # a distance of nothing is rounding

    header = ("beta", "method", "is after", *(f"{name}, {kind}" for name in METRICS[:3] for kind in ("exact", "trained")))
    cells = []
    for beta in _betas(found, alpha):
        for method in METHODS:
            mine, its = _case(alpha, beta, "trained", method.name), _case(alpha, beta, "exact", method.exact)
            pairs = [(found.told(its, name, exact), found.told(mine, name, spread, 4)) for name in METRICS[:3]]
            cells.append((f"{beta:g}", method.name, method.exact, *(cell for pair in pairs for cell in pair)))
        for name in (TARGET, UNIFORM):
            told = [found.told(_case(alpha, beta, "exact", name), metric, exact) for metric in METRICS[:3]]
            cells.append((f"{beta:g}", name, "", *(part for cell in told for part in (cell, ""))))
    seeds = found[_case(alpha, _betas(found, alpha)[0], "trained", METHODS[0].name), MEAN].seeds
    note = f"Trained: median over {len(seeds)} seeds, with the smallest and largest in brackets."
    return [f"### alpha = {alpha:g}", note, table(header, cells)]


def _best(found: Found, alphas: Sequence[float]) -> list[str]:
    betas, cells = _betas(found, alphas[0]), []
    exact = list(dict.fromkeys([*(method.exact for method in METHODS), TARGET, UNIFORM]))
    for alpha in alphas:
        for kind, names in (("exact", exact), ("trained", [method.name for method in METHODS])):
            for name in names:
                places = [_case(alpha, beta, kind, name) for beta in betas]
                told = [" / ".join(found.told(place, metric, plain) for metric in METRICS[3:]) for place in places]
                cells.append((f"{alpha:g}", kind, name, *told))
    header = ("alpha", "", "law", *(f"beta = {beta:g}" for beta in betas))
    return ["### The best 100 of 2,048 samples", SAYS["best"], table(header, cells)]


def _learned(found: Found) -> list[str]:
    cells = []
    for row in found.rows:
        if row.metric.startswith("relative error"):
            metric = row.metric.removeprefix("relative error of the ")
            value, (_, alpha, beta, _, name) = found[row.case, metric], row.case.split("/")
            judged = (cell(row.case) for _, cell in found.judged(row.metric))
            told = (peer(value, 4), spread(value, 4), f"{100.0 * row.most:.2f} %")
            cells.append((alpha, beta, name, metric, *told, *judged))
    header = ("alpha", "beta", "method", "metric", "exact", "learned", "largest error", "target", "met")
    return ["### Is the exact law learned?", SAYS["learned"], table(header, cells)]


def _speed(found: Found) -> list[str]:
    columns: list[Column] = [
        ("setting", lambda case: part_of(case, 2)),
        ("training", name_of),
        ("ms a step", found.cell(TIME)),
        ("ratio", found.cell(RATIO)),
        ("to", found.cell(RATIO, lambda row: row.against or "")),
        *found.judged(RATIO),
    ]
    return ["### What a step costs", SAYS["speed"], lines(found.cases("stochastic/speed"), columns)]


def _betas(found: Found, alpha: float) -> list[float]:
    ends = f"/trained/{METHODS[0].name}"
    places = [case.split("/") for case, metric in found if metric == MEAN and case.endswith(ends)]
    return sorted(float(place[2]) for place in places if float(place[1]) == alpha)


def _case(alpha: float, beta: float, kind: str, name: str) -> str:
    return f"stochastic/{alpha:g}/{beta:g}/{kind}/{name}"


_MARKERS = "os^vDPX"


def draw(rows: Sequence[Row], path: Path) -> bool:
    """Write the picture: a panel a rate of noise, exact laws dashed, trained ones with the range of their seeds.

    A trained law has the colour of the exact one that it is after.
    """
    alphas = sorted({float(row.case.split("/")[1]) for row in rows if "/trained/" in row.case})
    num_columns = min(2, len(alphas))
    if alphas:
        with picture(path, -(-len(alphas) // num_columns), num_columns, (5.2, 4.0), legend=2.4) as panels:
            for panel, alpha in zip(panels, alphas, strict=False):
                _panel(panel, Found(rows), alpha)
    return bool(alphas)


def _panel(panel: "Axes", found: Found, alpha: float) -> None:
    def laws(kind: str, name: str) -> tuple[list[Row], list[Row]]:
        """Return entropies and mean scores for each exponent, the smallest first."""
        begin, end = f"stochastic/{alpha:g}/", f"/{kind}/{name}"
        cases = [case for case, metric in found if metric == MEAN and case.startswith(begin) and case.endswith(end)]
        cases.sort(key=lambda case: float(case.split("/")[2]))
        return [found[case, ENTROPY] for case in cases], [found[case, MEAN] for case in cases]

    colours = {name: f"C{place}" for place, name in enumerate(EXACT)} | {TARGET: "0.6"}
    for name in (TARGET, *EXACT):
        panel.plot(*map(values, laws("exact", name)), "--", linewidth=1.0, color=colours[name], label=f"exact: {name}")
    counts: dict[str, int] = {}
    for method in METHODS:
        nth = counts[method.exact] = counts.get(method.exact, -1) + 1
        nats, means = laws("trained", method.name)
        style = {"color": colours[method.exact], "marker": _MARKERS[nth], "markersize": 4.0, "linewidth": 0.7}
        panel.errorbar(values(nats), values(means), xerr=reach(nats), yerr=reach(means), label=method.name, **style)
    nats, means = laws("exact", UNIFORM)
    panel.plot(nats[0].value, means[0].value, "k*", label="uniform")
    panel.set_title(f"alpha = {alpha:g}")
    panel.set_xlabel("entropy, nats")
    panel.set_ylabel("mean score")
