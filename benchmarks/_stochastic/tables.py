"""What the page says, all of it read off the rows: laws, frontier, shortlists, the 2 % claim and the timings."""

from collections.abc import Sequence
from itertools import groupby
from typing import NamedTuple

from benchmarks._stochastic.methods import METHODS, RIVALS, SPEAKERS, TARGET, UNIFORM
from benchmarks.rows import Row, figure, spread, table, verdict

METRICS = ("mean score", "entropy", "L1 to the target", "top 100 mean", "top 100 distance")
MEAN, ENTROPY, DISTANCE, BEST_MEAN, BEST_DISTANCE = METRICS
ALONG, AT_END, END, BEND = (
    *("gap along the frontier", "gap at the least entropy", "least entropy of both", "largest error of interpolation"),
)
PICTURE = "stochastic_frontier.svg"

Known = dict[tuple[str, str], Row]


class Verdict(NamedTuple):
    """One comparison at equal entropy.

    Attributes:
        alpha: rate of noise.
        ours, rival: the methods.
        value, low, high: the gap and its interval, positive where the expected flow network scores more.
        error: what interpolation may add to it or take away.
    """

    alpha: float
    ours: str
    rival: str
    value: float
    low: float
    high: float
    error: float

    @property
    def word(self) -> str:
        """Return who is ahead, in a word, as far as the interval tells."""
        return "ahead" if self.low > self.error else "behind" if self.high < -self.error else "open"


def tables(rows: Sequence[Row]) -> str:
    """Return the whole section."""
    known = {(row.case, row.metric): row for row in rows}
    alphas = sorted({float(part) for part in (row.case.split("/")[1] for row in rows) if part != "speed"})
    parts = [_claim_text(known, alphas), *(_laws(known, alpha) for alpha in alphas), _best(known, alphas)]
    return "\n\n".join([*parts, _learned(rows), _speed(rows)])


def verdicts(known: Known, alpha: float, metric: str = ALONG) -> list[Verdict]:
    """Return the comparisons at one rate of noise."""
    found = []
    for ours in SPEAKERS:
        for rival in RIVALS:
            case = f"stochastic/{alpha:g}/frontier/{ours}/{rival}"
            if (case, metric) in known:
                value, low, high = (known[case, f"{metric}{suffix}"].value for suffix in ("", ", from", ", to"))
                error = known[f"stochastic/{alpha:g}/frontier", BEND].value
                found.append(Verdict(alpha, ours, rival, value, low, high, error))
    return found


def _claim_text(known: Known, alphas: Sequence[float]) -> str:
    noisy = [alpha for alpha in alphas if verdicts(known, alpha)]
    if not noisy:
        return "No frontier was measured."
    parts = ["### Is the published claim true here?", "\n\n".join(claim_sentences(known, noisy))]
    header = ("alpha", "expected flow network", "rival", ALONG, "verdict", "gap at the end", "entropy there")
    lines = []
    for alpha in noisy:
        for along, end in zip(verdicts(known, alpha), verdicts(known, alpha, AT_END), strict=True):
            case = f"stochastic/{alpha:g}/frontier/{along.ours}/{along.rival}"
            place = figure(known[case, END].value, 4)
            lines.append((f"{alpha:g}", along.ours, along.rival, _interval(along), along.word, _interval(end), place))
    bends = [known[f"stochastic/{alpha:g}/frontier", BEND].value for alpha in noisy]
    note = (
        "Gaps are differences of mean score at equal entropy, expected flow network less rival, with 95 % intervals "
        "over seeds (Welch's t): on average over the part of the frontier that all seeds of both reach, evenly in the root of "
        "the distance to the uniform law's entropy, and at its end. Curves are interpolated between exponents. On exact laws "
        f"that errs by at most {figure(max(bends), 2)}, and ahead or behind is who still is when the interval is moved by what "
        "it errs at that alpha."
    )
    picture = f"![Mean score over entropy, exact and trained, for each rate of noise]({PICTURE})"
    return "\n\n".join([*parts, picture, table(header, lines), note])


def claim_sentences(known: Known, alphas: Sequence[float]) -> list[str]:
    """Return what the rows say of the claim that expected flow networks, when trained, outperform the other formulations."""
    sentences, everything = [], []
    for alpha in alphas:
        for ours, group in groupby(verdicts(known, alpha), key=lambda one: one.ours):
            found = list(group)
            everything += found
            told = [_names(found, "ahead", "ahead of"), _names(found, "behind", "behind"), _names(found, "open", "open beside")]
            sentences.append(f"- alpha = {alpha:g}, *{ours}*: {', '.join(filter(None, told))}.")
    counts = {word: sum(one.word == word for one in everything) for word in ("ahead", "behind", "open")}
    total = len(everything)
    if counts["ahead"] == total:
        summary = "**confirmed here**: they are ahead in every comparison at equal entropy"
    elif counts["behind"] == total:
        summary = "**refuted here**: they are behind in every comparison at equal entropy"
    elif not counts["behind"] and counts["ahead"]:
        summary = "**confirmed in part**: they are ahead wherever a difference at equal entropy can be told"
    elif not counts["ahead"] and counts["behind"]:
        summary = "**refuted in part**: they are behind wherever a difference at equal entropy can be told"
    elif counts["ahead"]:
        summary = "**true of some rivals and false of others**"
    else:
        summary = "**left open**: no difference at equal entropy can be told"
    first = (
        f"That expected flow networks outperform the other formulations when trained is {summary}. Of {total} comparisons "
        f"{counts['ahead']} have the expected flow network ahead, {counts['behind']} behind, and {counts['open']} are open."
    )
    return [first, "\n".join(sentences), *_nearest(known, alphas)]


def _names(found: Sequence[Verdict], word: str, phrase: str) -> str:
    rivals = [one.rival for one in found if one.word == word]
    return f"{phrase} {' and '.join(f'*{rival}*' for rival in rivals)}" if rivals else ""


def _nearest(known: Known, alphas: Sequence[float]) -> list[str]:
    """Return which method's trained law lies nearest to the target, cell by cell: that may be asked at a fixed exponent."""
    counts: dict[str, int] = {}
    for alpha in alphas:
        for beta in _betas(known, alpha):
            cell = {m.name: known[_case(alpha, beta, "trained", m.name), DISTANCE].value for m in METHODS}
            best = min(cell, key=lambda name: cell[name])
            counts[best] = counts.get(best, 0) + 1
    told = ", ".join(f"{name} in {count}" for name, count in sorted(counts.items(), key=lambda item: -item[1]))
    return [
        f"Nearest to the target (L1, median over the seeds) among the trained laws of the {sum(counts.values())} noisy "
        f"cells: {told}."
    ]


def _laws(known: Known, alpha: float) -> str:
    header = ("beta", "method", "is after", *(f"{name}, {kind}" for name in METRICS[:3] for kind in ("exact", "trained")))
    lines = []
    for beta in _betas(known, alpha):
        for method in METHODS:
            mine, its = _case(alpha, beta, "trained", method.name), _case(alpha, beta, "exact", method.exact)
            pairs = [(figure(_clean(known[its, name]), 4), _ranged(known[mine, name])) for name in METRICS[:3]]
            lines.append((f"{beta:g}", method.name, method.exact, *(cell for pair in pairs for cell in pair)))
        for name in (TARGET, UNIFORM):
            cells = [figure(_clean(known[_case(alpha, beta, "exact", name), metric]), 4) for metric in METRICS[:3]]
            lines.append((f"{beta:g}", name, "", *(part for cell in cells for part in (cell, ""))))
    heading = f"### alpha = {alpha:g}"
    seeds = known[_case(alpha, _betas(known, alpha)[0], "trained", METHODS[0].name), MEAN].seeds
    note = f"Trained: median over {len(seeds)} seeds, with the smallest and largest in brackets."
    return "\n\n".join([heading, note, table(header, lines)])


def _best(known: Known, alphas: Sequence[float]) -> str:
    betas = _betas(known, alphas[0])
    lines = []
    for alpha in alphas:
        exact = list(dict.fromkeys([*(method.exact for method in METHODS), TARGET, UNIFORM]))
        for kind, names in (("exact", exact), ("trained", [method.name for method in METHODS])):
            for name in names:
                places = [_case(alpha, beta, kind, name) for beta in betas]
                cells = [" / ".join(figure(known[place, metric].value) for metric in METRICS[3:]) for place in places]
                lines.append((f"{alpha:g}", kind, name, *cells))
    header = ("alpha", "", "law", *(f"beta = {beta:g}" for beta in betas))
    note = (
        "The protocol of the stochastic GFlowNet paper: of 2,048 sampled objects the 100 that score most, their mean score and "
        "their mean pairwise edit distance; an object counts as often as it came. Medians over the seeds."
    )
    return "\n\n".join(["### The best 100 of 2,048 samples", note, table(header, lines)])


def _learned(rows: Sequence[Row]) -> str:
    errors = [row for row in rows if row.metric.startswith("relative error")]
    known = {(row.case, row.metric): row for row in rows}
    lines = []
    for row in errors:
        metric = row.metric.removeprefix("relative error of the ")
        value = known[row.case, metric]
        _, alpha, beta, _, name = row.case.split("/")
        exact = figure(value.value / value.ratio, 4) if value.ratio else ""
        lines.append((alpha, beta, name, metric, exact, _ranged(value), _percent(row), row.target or "", verdict(row)))
    header = ("alpha", "beta", "method", "metric", "exact", "learned", "largest error", "target", "met")
    note = (
        "A table in place of the network, with a recipe of its own: what an expected flow network learns where nothing but "
        "training stands in its way. Every seed must be within 2 % of the exact law."
    )
    return "\n\n".join(["### Is the exact law learned?", note, table(header, lines)])


def _speed(rows: Sequence[Row]) -> str:
    timed = [row for row in rows if row.case.startswith("stochastic/speed/") and row.metric == "time a step"]
    ratios = {row.case: row for row in rows if row.metric == "ratio of times"}
    lines = []
    for row in timed:
        _, _, setting, name = row.case.split("/")
        ratio = ratios.get(row.case)
        ending = (
            ("", "", "", "") if ratio is None else (_ranged(ratio, 3), ratio.against or "", ratio.target or "", verdict(ratio))
        )
        lines.append((setting, name, spread(row), *ending))
    header = ("setting", "training", "ms a step", "ratio", "to", "target", "met")
    note = "Windows in turns in one process; the median, with the smallest and largest window in brackets."
    return "\n\n".join(["### What a step costs", note, table(header, lines)])


def _betas(known: Known, alpha: float) -> list[float]:
    ends = f"/trained/{METHODS[0].name}"
    places = [case.split("/") for case, metric in known if metric == MEAN and case.endswith(ends)]
    return sorted(float(place[2]) for place in places if float(place[1]) == alpha)


def _case(alpha: float, beta: float, kind: str, name: str) -> str:
    return f"stochastic/{alpha:g}/{beta:g}/{kind}/{name}"


def _clean(row: Row) -> float:
    """Return a value without the rounding that a distance of nothing has."""
    return 0.0 if abs(row.value) < 1e-4 else row.value


def _ranged(row: Row, digits: int = 4) -> str:
    return spread(row, digits)


def _percent(row: Row) -> str:
    return f"{100.0 * (row.value if row.high is None else row.high):.2f} %"


def _interval(one: Verdict) -> str:
    return f"{one.value:+.4f} [{one.low:+.4f}, {one.high:+.4f}]"


TEXT = """\
DNA 8-mers are built letter by letter, and with probability alpha the letter that comes is drawn anew from all four. The reward
is `R(x) = y(x)^beta` with y the measured score of TF-Bind-8 (SIX6), scaled to 0..1. Every law here, exact or trained, is
computed over all 65,536 objects with the true noise, so no figure but those of the best 100 holds sampling noise.

The methods and what each of them is after:

- *expected DB* (for the action taken, or for all; *2 drawn*: an unbiased estimate from two outcomes), *expected TB*, *expected
  FM*: the constraints of an **EFlowNet**, in which flow is averaged over what may come. They always have a solution. It is not
  the law in proportion to R but a more diffuse one.
- *soft Q*: log-flow is averaged instead; the solution is that of maximum-entropy RL (**MaxEnt RL**).
- *naive DB*: what came counts as what was asked for. No policy satisfies that in noise; beside it stands the policy that solves
  the problem without noise, played in noise (**noise-free policy in noise**).
- *stochastic DB*: nature's outcomes are edges of known probability. On the tree (P_B = 1) no policy satisfies that either, nor
  with a uniform P_B, which for sequences of one length only scales the flows; beside it stands the **least squares** solution,
  outcomes weighted by their probability. With a learned P_B the solution, where the target can be had at all, is the target;
  beside it stands the policy that undoes the noise as far as probabilities can (**clipped deconvolution**). A learned kernel is
  fitted to 20,000 transitions of uniform play.

One recipe trains them all: an MLP with two layers of 128, 2,000 steps of 64 trajectories, Adam at 0.01. It was chosen on a seed
that is not shown. Without noise (alpha = 0) naive, stochastic (but for the learned kernel) and expected DB and soft Q are one
constraint, detailed balance: trained once and shown in each place.

How to read it: at one exponent an EFlowNet is more diffuse than its rivals, so a smaller mean score there is not a defect and a
larger entropy no merit. What can be compared is the *frontier*: each method's mean score at equal entropy, over the exponents.
Only the distance to the target (L1, 0 to 2) may be compared at one exponent. Where a trained law stands beside an exact one,
their difference is what training did.
"""
