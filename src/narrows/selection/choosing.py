"""From candidates with predicted scores to a shortlist in which every row says why it is there."""

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from narrows.distance import EDITS, AbstractDistance
from narrows.selection.candidates import Candidates, ScoredCandidates, candidates_from_objects
from narrows.selection.digits import digits
from narrows.selection.diverse import choose_diverse
from narrows.selection.guide import SCORE_GUIDE, Guide
from narrows.selection.rankings import AbstractOwnRanking, AbstractRanking, AbstractScoreRanking, ranking_named
from narrows.selection.reasons import Fence, Pool, reason_fewer, reasons
from narrows.selection.rows import Diversity, Shortlist, ShortlistRow, letter_counts


class _Ranked(NamedTuple):
    """Candidates with the rule that ranks them and its number for each."""

    scored: ScoredCandidates
    ranking: AbstractRanking
    values: np.ndarray


class _Measured(NamedTuple):
    """The measured sequence nearest to a row."""

    sequence: str | None = None
    score: float | None = None
    distance: int | None = None


def select(
    objects: ScoredCandidates | Candidates | Sequence[str],
    mean: np.ndarray | None = None,
    std: np.ndarray | None = None,
    *,
    k: int,
    min_distance: int,
    measured: Sequence[str] = (),
    measured_scores: Sequence[float] | np.ndarray | None = None,
    lower_bound_kappa: float = 1.0,
    by: str = "mean",
    ranks: np.ndarray | None = None,
    exclude_measured: bool = True,
    max_from_measured: int | None = None,
    cluster_distance: int | None = None,
    guide: Guide = SCORE_GUIDE,
    distance: AbstractDistance = EDITS,
) -> Shortlist:
    """Choose the `k` best candidates that are at least `min_distance` edits apart (see `choose_diverse`).

    Rows fall into clusters by the same rule with a larger distance: the best row heads the first cluster; in order of
    rank, a row at least `cluster_distance` edits from every head becomes the head of a new one; the others join their
    nearest head (the better one of two). So the heads are what that distance leaves of the list.

    Args:
        objects: `n` candidates, with or without the run and step they are from. An object that occurs twice counts
            once, with its better score. Scored ones are asked for the scores that are needed, which for a rule with numbers
            of its own are those of the rows.
        mean: scores of those that come without, predicted or exact, higher is better, finite, shape `[n]`.
        std: how unsure they are, shape `[n]`; NaN or `None` where that is not known.
        k: how many rows, at least 1.
        min_distance: least number of edits between any two rows; 0 and 1 allow everything that is not equal.
        measured: sequences whose true score is known.
        measured_scores: those scores, one each.
        lower_bound_kappa: the lower bound is `mean - lower_bound_kappa std`.
        by: the rule that ranks, of `RANKINGS`: `mean`, `lower_bound`, `expected` or `sampler`.
        ranks: the numbers that rank, for a rule that has its own, finite, shape `[n]`: expected scores of what comes out for
            `expected`, how likely the sampler is to make each, in nats, for `sampler`.
        exclude_measured: choose only what is not measured yet.
        max_from_measured: choose only what is at most so many edits from something measured; None for no limit.
        cluster_distance: `1.5 min_distance`, rounded up, by default: wide enough to group variants, too narrow to join
            unrelated sequences: random RNAs of 14 letters are 9 edits apart on average, 7 at the lowest twentieth.
        guide: what the means come from, `PROXY_GUIDE` for a fitted one, as the rows' reasons name it.
        distance: of two objects, the environment's; what is written here of edits holds for its unit.

    Returns exactly `k` rows, or fewer with a reason. Raises ValueError for arguments that make no sense, a mean that
    is not finite and an empty list of candidates.

    >>> shortlist = select(["ACGU", "ACGG", "UUUU"], np.array([3.0, 2.0, 1.0]), k=2, min_distance=2)
    >>> [row.sequence for row in shortlist.rows]
    ['ACGU', 'UUUU']
    >>> shortlist.rows[1].why
    'number 3 of 3 by score; 1 better one was passed over, closer than 2 edits to row 1'
    """
    _check_distance("min_distance", min_distance, distance.unit)
    cluster_distance = (3 * min_distance + 1) // 2 if cluster_distance is None else cluster_distance
    ranked = _ranked(_scored(objects, mean, std), ranks, lower_bound_kappa, by)
    _check_distance("cluster_distance", cluster_distance, distance.unit)
    references = _checked_measured(measured, measured_scores)
    pool = _pool(ranked, set(measured) if exclude_measured else set())
    fence = None if max_from_measured is None else _fence(max_from_measured, references[0], distance)
    is_allowed = None if fence is None else fence.holds
    choice = choose_diverse(pool.objects, pool.scores, k=k, min_distance=min_distance, distance=distance, is_allowed=is_allowed)
    sequences = [pool.objects[position] for position in choice.kept]
    distances = distance.matrix(sequences)
    clusters = _clusters(sequences, distances, cluster_distance, distance)
    nearest_measured = _nearest_measured(sequences, *references, distance)
    why = reasons(choice, min_distance, ranked.ranking.label(guide, lower_bound_kappa), distance, fence)
    chosen = ranked.scored.at(pool.positions[choice.kept])
    _refuse_wrong(chosen)
    rows = [_row(row, chosen, lower_bound_kappa, nearest_measured[row], clusters[row], why[row]) for row in range(chosen.num)]
    return Shortlist(
        rows=tuple(rows),
        reason_fewer=reason_fewer(pool, choice, k, min_distance, distance, fence),
        k=k,
        min_distance=min_distance,
        cluster_distance=cluster_distance,
        ranked_by=by,
        kappa=lower_bound_kappa,
        num_candidates=len(pool.objects),
        num_considered=len(choice.blocker),
        num_left_out=pool.num_left_out,
        diversity=_diversity(distances, nearest_measured, clusters),
        letter_counts=letter_counts(sequences),
        distances=distances,
        guide=guide,
        unit=distance.unit,
    )


def _scored(
    objects: ScoredCandidates | Candidates | Sequence[str], mean: np.ndarray | None, std: np.ndarray | None
) -> ScoredCandidates:
    if isinstance(objects, ScoredCandidates):
        if mean is not None or std is not None:
            raise ValueError("scored candidates come with their means and stds. Leave those out.")
        return objects
    candidates = objects if isinstance(objects, Candidates) else candidates_from_objects(objects)
    num = len(candidates.objects)
    mean = np.asarray([] if mean is None else mean, np.float64)
    std = np.full(num, np.nan) if std is None else np.asarray(std, np.float64)
    if num and (mean.shape != (num,) or std.shape != mean.shape):
        raise ValueError(
            f"expected one mean and one std for each of {num} candidates, "
            f"got means of shape {mean.shape} and stds of shape {std.shape}."
        )
    return ScoredCandidates.of(candidates, mean, std)


def _ranked(scored: ScoredCandidates, ranks: np.ndarray | None, kappa: float, by: str) -> _Ranked:
    """Return candidates with the numbers that rank them or say which number is missing or wrong."""
    if not scored.num:
        raise ValueError("there are no candidates to choose from: the archive is empty. Run the sampler first.")
    if not (math.isfinite(kappa) and kappa >= 0):
        raise ValueError(f"lower_bound_kappa must be a number of at least 0, got {kappa}.")
    ranking = ranking_named(by)
    if ranks is None:
        _refuse_wrong(scored)
    return _Ranked(scored, ranking, _values(ranking, scored, kappa, ranks))


def _refuse_wrong(scored: ScoredCandidates) -> None:
    mean, std = scored.mean, scored.std
    scored.refuse(~np.isfinite(mean), mean, "the mean must be finite", "Leave out candidates without a prediction.")
    scored.refuse((std < 0) | np.isinf(std), std, "a std is at least 0 and finite, or NaN if not known")


def _values(ranking: AbstractRanking, scored: ScoredCandidates, kappa: float, ranks: np.ndarray | None) -> np.ndarray:
    if isinstance(ranking, AbstractScoreRanking):
        if ranks is not None:
            raise ValueError(f"by='{ranking.name}' ranks by the scores, so that ranks have no use. Leave them out.")
        return ranking.values(scored, kappa)
    assert isinstance(ranking, AbstractOwnRanking), "a rule ranks by the scores or by numbers of its own"
    if ranks is None:
        raise ValueError(f"by='{ranking.name}' needs ranks: give one {ranking.noun} for each candidate.")
    values = np.asarray(ranks, np.float64)
    if values.shape != (scored.num,):
        raise ValueError(f"expected one {ranking.noun} for each of {scored.num} candidates, got shape {values.shape}.")
    scored.refuse(~np.isfinite(values), values, f"the {ranking.noun} must be finite", "Leave out what cannot be scored.")
    return values


def _check_distance(name: str, value: int, unit: str) -> None:
    if not isinstance(value, int | np.integer) or value < 0:
        raise ValueError(f"{name} counts {unit}: it must be a whole number of at least 0, got {value}.")


def _checked_measured(
    measured: Sequence[str], scores: Sequence[float] | np.ndarray | None
) -> tuple[list[str], list[float] | None]:
    """Return measured sequences and their scores, the best scored first, so that the nearest one is the best of several."""
    if scores is None:
        return list(measured), None
    values = np.asarray(scores, np.float64)
    if values.shape != (len(measured),) or not np.isfinite(values).all():
        raise ValueError(
            f"expected one finite score for each of {len(measured)} measured sequences, got shape {values.shape} "
            f"with {int((~np.isfinite(values)).sum())} that are not finite."
        )
    order = np.argsort(-values, kind="stable")
    return [measured[int(position)] for position in order], values[order].tolist()


def _fence(limit: int, measured: Sequence[str], distance: AbstractDistance) -> Fence:
    if limit < 0:
        raise ValueError(f"max_from_measured must be at least 0 {distance.unit}, got {limit}.")
    if not measured:
        raise ValueError(
            f"max_from_measured counts {distance.unit} from what is measured, and nothing is. Give measured sequences."
        )
    return Fence(limit, lambda objects: distance.nearest(objects, measured).distance <= limit)


def _pool(ranked: _Ranked, excluded: set[str]) -> Pool:
    """Return the distinct candidates that are not excluded, best first."""
    scores = ranked.values
    names = ranked.scored.candidates.objects
    best: dict[str, int] = {}
    for position in np.argsort(-scores, kind="stable").tolist():
        best.setdefault(names[position], position)
    positions = [position for name, position in best.items() if name not in excluded]
    objects = [names[position] for position in positions]
    return Pool(np.array(positions, np.int64), objects, scores[positions], len(best) - len(objects))


def _row(row: int, chosen: ScoredCandidates, kappa: float, measured: _Measured, cluster: int, why: str) -> ShortlistRow:
    candidates, mean, std = chosen.candidates, float(chosen.mean[row]), float(chosen.std[row])
    run, step = candidates.runs[candidates.run_index[row]], int(candidates.steps[row])
    return ShortlistRow(
        rank=row + 1,
        sequence=candidates.objects[row],
        score=mean,
        score_std=None if math.isnan(std) else std,
        # To 12 digits: 0.554579, where a subtraction of binary fractions leaves 0.5545789999999999.
        lower_bound=None if math.isnan(std) else float(f"{mean - kappa * std:.{digits(mean, std, least=12)}g}"),
        nearest_measured=measured.sequence,
        nearest_measured_score=measured.score,
        distance_to_measured=measured.distance,
        cluster=cluster,
        why=why,
        run=run.name,
        seed=run.seed,
        step=step if step >= 0 else None,
    )


def _nearest_measured(
    sequences: list[str], measured: list[str], scores: list[float] | None, distance: AbstractDistance
) -> list[_Measured]:
    if not measured:
        return [_Measured() for _ in sequences]
    found = distance.nearest(sequences, measured)
    return [
        _Measured(measured[index], None if scores is None else scores[index], apart)
        for index, apart in zip(found.position.tolist(), found.distance.tolist(), strict=True)
    ]


def _clusters(sequences: list[str], distances: np.ndarray, cluster_distance: int, distance: AbstractDistance) -> list[int]:
    """Return the number of each row's cluster, from 1 in order of the best rank."""
    if not sequences:
        return []
    by_rank = -np.arange(len(sequences))
    heads = choose_diverse(sequences, by_rank, k=len(sequences), min_distance=cluster_distance, distance=distance).kept
    return (distances[:, heads].argmin(1) + 1).tolist()


def _diversity(distances: np.ndarray, measured: list[_Measured], clusters: list[int]) -> Diversity:
    pairs = distances[np.triu_indices(len(distances), 1)]
    novelty = [row.distance for row in measured if row.distance is not None]
    return Diversity(
        mean_distance=float(pairs.mean()) if pairs.size else None,
        min_distance=int(pairs.min()) if pairs.size else None,
        novelty=float(np.mean(novelty)) if novelty else None,
        num_clusters=max(clusters, default=0),
    )
