"""The shortlist of one or more runs: by which rule its candidates are ranked, and which of them it takes."""

from collections.abc import Sequence
from dataclasses import replace
from functools import partial

import numpy as np

from narrows.alphabet import reverse_complements
from narrows.config import ShortlistSettings, quality_of_proxy
from narrows.distance import StrandDistance
from narrows.proxies.quality import WORTHLESS
from narrows.runs.opened import OpenRun
from narrows.selection import RANKINGS, ScoredCandidates, Shortlist, select
from narrows.selection.rankings import Mean, RankingTask, ranking_named


def resolve_ranking(runs: Sequence[OpenRun]) -> ShortlistSettings:
    """Return how the shortlist of runs is selected; where the first one's job does not say by what, by the usual rule."""
    settings = runs[0].job.shortlist
    if settings.by is not None:
        return settings
    usual = next((rule for rule in RANKINGS.values() if rule.is_usual(runs[0])), ranking_named(Mean.name))
    return replace(settings, by=usual.name)


def choose(runs: Sequence[OpenRun], scored: ScoredCandidates, settings: ShortlistSettings) -> Shortlist:
    """Return the shortlist of some runs' candidates without writing anything."""
    run = runs[0]
    table = next((found.table for found in runs if found.table is not None), None)
    measured, measured_scores = ((), None) if table is None else (table.sequences, table.scores)
    distance = run.env.distance
    if settings.both_strands:
        if run.letters is None:
            raise ValueError(f"both_strands needs sequences, and the objects are those of {run.env_name}. Leave it out.")
        distance = StrandDistance(distance, run.letters)
        # The table's own strands come first, so that of two equally near ones a row names what stands there.
        measured = (*measured, *reverse_complements(measured, run.letters))
        measured_scores = None if measured_scores is None else np.concatenate([measured_scores, measured_scores])
    # What a score of the user's counted below its mean already is not taken off again.
    kappa = max(0.0, settings.kappa - run.kappa_of_score)

    def choose_by(by: str, scored: ScoredCandidates, ranks: np.ndarray | None = None) -> Shortlist:
        return select(
            scored,
            k=settings.k,
            min_distance=settings.min_distance,
            measured=measured,
            measured_scores=measured_scores,
            lower_bound_kappa=kappa,
            by=by,
            ranks=ranks,
            max_from_measured=None if run.job.near is None else run.job.near.edits,
            guide=run.job.guide,
            distance=distance,
        )

    ranking = ranking_named(settings.by or Mean.name)
    by_mean = partial(choose_by, Mean.name)
    task = RankingTask(
        runs, scored, frozenset(measured), settings.k, partial(choose_by, ranking.name), by_mean, settings.both_strands
    )
    chosen = ranking.rank(task)
    if chosen.outcomes is None and run.outcomes is not None:
        chosen = run.outcomes.explain(chosen)
    quality = quality_of_proxy(run.job)
    if quality is not None and not quality.beats_mean:
        chosen = replace(chosen, rows=tuple(replace(row, caution=WORTHLESS) for row in chosen.rows))
    return replace(chosen, kappa=settings.kappa, both_strands=settings.both_strands)
