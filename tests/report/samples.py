"""Report data as a real run would leave it, in any size; all numbers come from a seed."""

from dataclasses import replace

import numpy as np
from rapidfuzz.distance import Levenshtein
from rapidfuzz.process import cdist

from narrows.data import Finding, Space
from narrows.proxies.quality import ComparedModel
from narrows.report import (
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
from narrows.selection import OutcomeSummary, ShortlistRow

RNA = Space("rna", "ACGU", 14, 14)
PEPTIDE = Space("protein", "ACDEFGHIKLMNPQRSTVWY", 200, 240)


def sample(space: Space = RNA, *, num_rows: int = 24, name: str = "RNA binders, target 1", seed: int = 7) -> ReportData:
    """Build a complete report: a table, a proxy, a run, a shortlist of `num_rows` families and their true scores."""
    rng = np.random.default_rng(seed)
    measured = _random_sequences(rng, space, 2000)
    scores = np.clip(rng.gamma(3.0, 0.09, 2000) + rng.normal(0, 0.03, 2000), 0, 0.66)
    selection = _selection(rng, space, measured, scores, num_rows)
    return ReportData(
        name=name,
        settings=_settings(space, seed),
        folder="runs/rna",
        space=space,
        search=Search("TGM", "finished", 6000, 6000, 6000 * 64, 171_202, 214.0, {"fit": 14.2, "compile": 9.1, "train": 191}),
        selection=selection,
        truth=_truth(rng, selection, scores),
        history=_history(rng),
        data=_data(measured, scores),
        proxy=_proxy(rng),
        provenance=_provenance(seed),
        set_aside=(SetAside(measured[0], "log-reward is not finite", 120),),
    )


def noisy(data: ReportData, *, prob_as_asked: float = 0.7, drop: float = 0.02) -> ReportData:
    """Return a report of the same run under noise: rows score less by `drop` than what was asked for, give or take 0.05."""
    assert data.selection is not None
    rows = tuple(
        replace(row, asked=row.sequence, expected_mean=row.score - drop, expected_std=0.05, prob_as_asked=prob_as_asked)
        for row in data.selection.rows
    )
    told = OutcomeSummary("Substitution (rate 0.1)", "simulated", 1000, 0.0016, 12_345)
    selection = replace(data.selection, rows=rows, ranked_by="expected score of what comes out", outcomes=told)
    return replace(data, noise=Noise("Substitution", {"rate": 0.1}), selection=selection)


def bare(name: str = "bare") -> ReportData:
    """Build the least a page can be made of."""
    return ReportData(name=name, settings={})


def _random_sequences(rng: np.random.Generator, space: Space, num: int) -> list[str]:
    lengths = rng.integers(space.min_length, space.max_length + 1, num)
    letters = np.array(list(space.alphabet))
    return ["".join(letters[rng.integers(0, len(letters), length)]) for length in lengths]


def _mutated(rng: np.random.Generator, space: Space, sequence: str, share: float) -> str:
    letters = [str(rng.choice(list(space.alphabet))) if rng.random() < share else letter for letter in sequence]
    return "".join(letters)


def _selection(rng, space, measured, scores, num_rows) -> Selection:
    parents = _random_sequences(rng, space, 3)
    clusters = np.sort(rng.choice(3, num_rows, p=[0.5, 0.3, 0.2]))
    rng.shuffle(clusters)
    sequences = [_mutated(rng, space, parents[c], 0.45) for c in clusters]
    distances = cdist(sequences, measured, scorer=Levenshtein.distance)
    nearest = distances.argmin(axis=1)
    means = np.sort(rng.normal(0.68, 0.05, num_rows))[::-1]
    stds = rng.gamma(6, 0.006, num_rows)
    rows = tuple(
        ShortlistRow(
            rank=i + 1,
            sequence=sequences[i],
            score=float(means[i]),
            score_std=float(stds[i]),
            lower_bound=float(means[i] - stds[i]),
            nearest_measured=measured[nearest[i]],
            nearest_measured_score=float(scores[nearest[i]]),
            distance_to_measured=int(distances[i, nearest[i]]),
            cluster=int(clusters[i]) + 1,
            why=f"Rank {i + 1} by proxy mean; {int(rng.integers(0, 60))} better-scoring candidates were within distance 3 "
            f"of row {int(rng.integers(1, i + 2))}.",
            run="runs/rna",
            seed=0,
            step=int(rng.integers(200, 6000)),
        )
        for i in range(num_rows)
    )
    truth = {row.sequence: row.score - 0.07 + float(rng.normal(0, 0.05)) for row in rows}
    return Selection(rows, num_asked=num_rows, min_distance=4, num_considered=171_202, kappa=1.0, true_scores=truth)


def _truth(rng, selection: Selection, scores) -> Truth:
    best = np.sort(scores)[-24:]
    random = rng.choice(scores, 24)
    control = rng.normal(0.6, 0.07, 24)
    mine = [selection.true_scores[row.sequence] or 0.0 for row in selection.rows]
    means = [row.score for row in selection.rows]
    groups = (
        ScoreGroup("shortlist", "Shortlist", mine, means, "the rows above"),
        ScoreGroup(
            "measured",
            "Best 24 measured",
            best - np.abs(rng.normal(0.03, 0.02, 24)),
            best,
            "scored again, without the noise of measuring",
        ),
        ScoreGroup("random", "24 random measured", random, random + rng.normal(0, 0.05, 24)),
        ScoreGroup("control", "Plain GFlowNet, matched", control, control + rng.normal(0.05, 0.05, 24), "q = 0, equal steps"),
    )
    return Truth("rna: ViennaRNA duplex energy with target 1", groups, matched_inverse_temperature=48.0)


def _history(rng) -> History:
    step = np.arange(50, 6001, 50)
    made = step * 64
    return History(
        step=step,
        loss=900 * np.exp(-step / 700) * rng.lognormal(0, 0.25, step.size) + 4 * rng.lognormal(0, 0.3, step.size),
        mean_score=0.63 - 0.4 * np.exp(-step / 900) + rng.normal(0, 0.008, step.size),
        top_score=np.maximum.accumulate(0.79 - 0.3 * np.exp(-step / 500)),
        num_distinct=np.round(made / (1 + made / 309_000)),
        num_sampled=made,
        distance_to_data=5.2 - 1.6 * np.exp(-step / 500) + rng.normal(0, 0.06, step.size),
        steps_per_second=np.concatenate([[6.0], rng.normal(31, 0.7, step.size - 1)]),
        seconds=np.cumsum(np.full(step.size, 1.7)),
    )


def _data(measured, scores) -> DataQuality:
    findings = (
        Finding(17, "sequence", "bad symbol", "sequence holds 'T' at position 3; RNA is written with U.", "error"),
        Finding(203, "score", "not a number", "score reads 'n.d.'; write a number or leave the row out.", "error"),
        Finding(880, "sequence", "duplicate", "same sequence and score as row 412; kept once.", "warning"),
    )
    lengths = [len(sequence) for sequence in measured]
    return DataQuality(
        "measurements.csv", 2003, 2000, 2, 1, findings, scores, lengths, "sequence", "score", "rejected.csv", "9f" * 32
    )


def _proxy(rng) -> ProxyQuality:
    truth = np.clip(rng.gamma(3.0, 0.09, 400), 0, 0.62)
    std = rng.gamma(8, 0.006, 400)
    mean = 0.06 + 0.8 * truth + rng.normal(0, 0.05, 400)
    residual = np.abs(mean - truth)
    return ProxyQuality(
        num_train=1600,
        num_test=400,
        spearman=0.87,
        rmse=float(np.sqrt(np.mean(residual**2))),
        rmse_of_mean=float(truth.std()),
        coverage_1std=float((residual < std).mean()),
        coverage_2std=float((residual < 2 * std).mean()),
        test_truth=truth,
        test_mean=mean,
        test_std=std,
        test_distance=rng.integers(3, 8, 400),
        description="An ensemble of 5 small networks, each trained on its own bootstrap sample of the measurements.",
        split="No held-out object is within 2 edits of a training object.",
        seconds=14.2,
        compared=(
            ComparedModel("mean", "the mean of all scores", 0.01, None, 1.0, -1.43, 0.68, 0.95, 0.2, 0.0),
            ComparedModel("ridge-words", "ridge regression on words", 1.32, 0.911, 0.422, -0.56, 0.69, 0.94, 7.1, 1.0),
        ),
    )


def _settings(space: Space, seed: int) -> dict:
    return {
        "seed": seed,
        "space": {"name": space.name, "min_length": space.min_length, "max_length": space.max_length},
        "objective": {"name": "TGM", "omega": 1.0, "alpha": 1.0, "q": 0.5, "dag_correction": False},
        "reward": {"name": "Ensemble", "folder": "proxy", "inverse_temperature": 32.0},
        "policy": {"name": "Transformer", "layers": 3, "width": 64, "heads": 4},
        "training": {
            "num_steps": 6000,
            "batch_size": 64,
            "learning_rate": 1e-3,
            "behaviour": {"name": "Tempered", "epsilon": 0.01},
        },
    }


def _provenance(seed: int) -> Provenance:
    versions = {
        "narrows": "0.1.0",
        "python": "3.11.2",
        "jax": "0.10.0",
        "equinox": "0.13.0",
        "optax": "0.2.6",
        "numpy": "2.4.0",
    }
    commands = (
        "narrows check measurements.csv --space rna",
        "narrows fit measurements.csv --space rna --out proxy",
        "narrows run job.toml --out runs/rna",
        "narrows shortlist runs/rna --k 24 --min-distance 4",
        "narrows verify runs/rna --score rna",
        "narrows report runs/rna",
    )
    return Provenance(seed, "2026-03-02 14:05 UTC", versions, "2 cores, CPU", commands)
