"""The meaning of every column and every term of the page, in words a newcomer can use."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple, final

from narrows.selection.guide import Guide
from narrows.selection.rankings import RANKINGS


@final
class Entry(NamedTuple):
    """One column or term explained; `key` is the column's name in its file, or a short name of the term.

    Where the run is guided by the score itself and not by a proxy, `exact` is the meaning: None for the same, empty where there
    is nothing to explain.
    """

    key: str
    term: str
    meaning: str
    exact: str | None = None


@final
class Chapter(NamedTuple):
    """The entries of one file or subject; `key` starts the id of each on the page."""

    key: str
    title: str
    entries: tuple[Entry, ...]


SHORTLIST = Chapter(
    "shortlist",
    "Columns of the shortlist (shortlist.csv)",
    (
        Entry("rank", "Rank", "Place in the shortlist, 1 is the best. Rows are taken greedily in this order."),
        Entry("sequence", "Sequence", "The proposed object, one letter a building block, read from left to right."),
        Entry(
            "score",
            "Score",
            "What the proxy predicts, on the scale of your measurements. Higher is better. "
            "It is a prediction, not a measurement, and the best of many predictions tend to be too high.",
            "What the score that guided the run gives the object; the mean, where it says how unsure it is. Higher is better.",
        ),
        Entry(
            "score_std",
            "Standard deviation (±)",
            "How unsure the proxy is of this object, one standard deviation. “Proxy quality” says how often it is honest.",
            "How unsure the score says it is of this object, one standard deviation; empty where it does not say.",
        ),
        Entry(
            "lower_bound",
            "Lower bound",
            "Score minus kappa standard deviations: a cautious reading of the score. Kappa is 1 unless set.",
        ),
        Entry(
            "nearest_measured",
            "Nearest measured",
            "The measured sequence that needs the fewest edits to become this one. Letters in bold are those that have "
            "to change, unless most do.",
        ),
        Entry("nearest_measured_score", "Score of the nearest", "The measured score of that nearest sequence."),
        Entry(
            "distance_to_measured",
            "Distance to data",
            "Edits (one letter replaced, inserted or removed) to the nearest measured sequence. Large means novel, and "
            "means the proxy is guessing further from what it knows.",
            "Edits (one letter replaced, inserted or removed) to the nearest measured sequence. Large means novel.",
        ),
        Entry(
            "cluster",
            "Cluster",
            "Rows with the same number are chained together by small distances: members of one family.",
        ),
        Entry("why", "Why", "Why the row was taken, and what it displaced."),
        Entry("run", "Run", "The run that found the object."),
        Entry("seed", "Seed", "The number that started that run's random choices; the same seed gives the same run."),
        Entry("step", "Step", "The training step at which the object was first seen."),
        Entry(
            "asked",
            "Asked for",
            "In a run under noise, what to ask for, letter by letter in this order, whatever has come out so far: the sequence "
            "itself.",
        ),
        Entry(
            "expected_mean",
            "Expected score",
            "In a run under noise, the mean score of what comes out when the row is asked for, over everything that noise can "
            "make of it.",
        ),
        Entry(
            "expected_std",
            "Spread of the outcomes (±)",
            "The standard deviation of that score from one outcome to the next. Noise makes it, not the proxy's uncertainty, "
            "which is not in it.",
            "The standard deviation of that score from one outcome to the next.",
        ),
        Entry(
            "prob_as_asked",
            "Comes as asked",
            "The probability that every letter turns out as it was asked for, so that exactly this sequence comes out.",
        ),
        Entry(
            "caution",
            "Caution",
            "What to know of every row before any is made; a column of the file, where there is something.",
        ),
        Entry(
            "true_score",
            "True score",
            "What the true scorer said afterwards (narrows verify). Empty where it was not asked or failed.",
        ),
    ),
)

HISTORY = Chapter(
    "history",
    "Columns of the training history (history.csv, timing.csv)",
    (
        Entry("step", "Step", "How many times the sampler has been updated."),
        Entry("loss", "Loss", "How far the sampler is from the law it is asked to learn; 0 is perfect."),
        Entry("mean_score", "Mean score", "Mean score of the objects the sampler has just made."),
        Entry("top10_score", "Top-10 score", "Mean score of the ten best objects seen so far."),
        Entry("distinct", "Distinct objects", "Different finished objects seen since the start; all are kept."),
        Entry("sampled", "Objects sampled", "Finished objects made since the start, repeats counted."),
        Entry(
            "distance_to_data",
            "Distance to data",
            "Edits from what the sampler has just made to the nearest measured sequence, on average.",
        ),
        Entry("set_aside", "Set aside", "Items with a number that is not finite, since the start; none trained the sampler."),
        Entry("steps", "Steps (timing.csv)", "Training steps since the line before."),
        Entry("seconds", "Seconds (timing.csv)", "Time those steps took; the first line includes compiling."),
    ),
)

FINDINGS = Chapter(
    "findings",
    "Columns of the data findings",
    (
        Entry("row", "Row", "Line of the file, counted as a text editor counts; the header is line 1."),
        Entry("column", "Column", "The column of the file the finding is about."),
        Entry("kind", "Kind", "The class of the finding, the same word for the same kind of trouble."),
        Entry("severity", "Severity", "An error keeps the row out; a warning does not."),
        Entry("message", "Finding", "What was found, and what to do about it."),
        Entry("reason", "Reason (rejected.csv)", "Why a row was rejected; its cells follow as they stand in the file."),
    ),
)

TERMS = Chapter(
    "terms",
    "Terms",
    (
        Entry("archive", "Archive", "The file that keeps every different finished object a run has seen."),
        Entry(
            "bits",
            "Bits, information content",
            "How much knowing the position tells: 0 if all letters are equally common there, log2 of the number of "
            "letters (2 for RNA and DNA, 4.3 for proteins) if all sequences agree.",
        ),
        Entry(
            "bootstrap",
            "Bootstrap interval",
            "The objects of a group are drawn again and again with replacement; 95 % of the means so made fall "
            "inside. It says how much the mean depends on which objects happen to be in the group, nothing else.",
        ),
        Entry(
            "calibration",
            "Coverage, calibration",
            "The share of truths inside the proxy's intervals for 68 % (1 standard deviation) and 95 %. Less than that means "
            "the proxy is surer than it should be.",
            "",
        ),
        Entry(
            "control",
            "Control",
            "The same job done by a simpler method with equal means, so that a gain can be ascribed.",
        ),
        Entry(
            "cluster_split",
            "Cluster split",
            "Held-out objects are chosen so that no near-duplicate of them was trained on; else a proxy that only "
            "remembers would look good.",
            "",
        ),
        Entry(
            "edit_distance",
            "Edit distance",
            "The fewest single letters to replace, insert or remove to turn one sequence into the other "
            "(Levenshtein distance).",
        ),
        Entry(
            "gflownet",
            "GFlowNet",
            "A sampler that builds objects letter by letter and learns to make each as often as its score deserves.",
        ),
        Entry(
            "inverse_temperature",
            "Inverse temperature (beta)",
            "How strongly the sampler prefers high scores: 0 is indifference, large is greed.",
        ),
        Entry(
            "matched_inverse_temperature",
            "Matched inverse temperature",
            "A plain GFlowNet is given (omega + q alpha) beta, the greed that TGM has in one step, so that the two "
            "are compared at equal greed.",
        ),
        Entry(
            "noise",
            "Noise",
            "What decides what becomes of a letter that is asked for: it may turn out as another one. The sampler learns to "
            "ask for what comes out well.",
        ),
        Entry("objective", "Objective", "The equation the sampler is trained to satisfy; its error is the loss."),
        Entry(
            "proxy",
            "Proxy",
            "A fast model, trained on your measurements, that stands in for the experiment during the search.",
            "",
        ),
        Entry(
            "rmse",
            "RMSE",
            "Root-mean-square error, the typical size of a prediction's error. Always compare with the error of "
            "predicting the mean for everything.",
            "",
        ),
        Entry(
            "set_aside",
            "Set aside",
            "An object whose score, loss or gradient was not a finite number; it never trains the sampler.",
        ),
        Entry(
            "spearman",
            "Spearman correlation",
            "Agreement of two rankings: 1 the same order, 0 none, −1 reversed.",
        ),
        Entry(
            "tgm",
            "TGM, omega, alpha, q",
            "Trajectory general mellowmax, the default objective. Omega sets how greedy each choice is, alpha and q "
            "how much the sampler leans on its own earlier preference. q = 0 is a plain GFlowNet.",
        ),
        Entry("true_scorer", "True scorer", "The score that counts: physics, a program, or an experiment."),
    ),
)

RANKING = Chapter(
    "ranking",
    "What rows can be taken by (narrows shortlist --by)",
    tuple(Entry(name, name.replace("_", " ").capitalize(), rule.meaning) for name, rule in RANKINGS.items()),
)

CHAPTERS = (SHORTLIST, RANKING, HISTORY, FINDINGS, TERMS)


def chapters(guide: Guide) -> tuple[Chapter, ...]:
    """Return what is to be explained of a run, in the words of what guided it."""
    return tuple(chapter._replace(entries=tuple(_entries(chapter, guide))) for chapter in CHAPTERS)


def _entries(chapter: Chapter, guide: Guide) -> Iterator[Entry]:
    for entry in chapter.entries:
        if guide.is_proxy or entry.exact is None:
            yield entry
        elif entry.exact:
            yield entry._replace(meaning=entry.exact)
