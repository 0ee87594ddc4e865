"""Scores that are lowered away from what was measured: by hand, on the device as on the host, and in a job."""

import equinox as eqx
import numpy as np
import pytest
from tests.reference.lev import levenshtein

from narrows.config import JobError, build, parse_job
from narrows.envs import Hypergrid, Sequence
from narrows.proxies.near import Near, Neighbourhood
from narrows.rewards import Ehrlich, HypergridReward, Tempered
from narrows.scorers import HostReward

MEASURED = ("ACGTAC", "TTTTTT", "GGG")
SCORES = np.array([0.5, -1.0, 2.0])
TEXTS = ["ACGTAC", "ACGTAG", "CCCCCC", "GGGTTT", "ATATAT"]


def by_hand(text, score, penalty, limit):
    edits = min(levenshtein(text, other) for other in MEASURED)
    lower = score - penalty * edits
    if limit is not None and edits > limit:
        return min(lower, -1.0) - np.std(SCORES) * (edits - limit)
    return lower


@pytest.mark.parametrize(("penalty", "limit"), [(0.0, None), (0.3, None), (0.0, 2), (0.3, 0)])
def test_against_plain_loops_on_the_device_and_on_the_host(penalty, limit):
    env = Sequence("ACGT", 6, 6)
    near, inner = Neighbourhood(MEASURED, SCORES, penalty, limit), Ehrlich(env, num_motifs=1, motif_length=2, quantization=2)
    states = env.from_text(TEXTS)
    scores = np.asarray(inner(states), np.float64)
    expected = [by_hand(text, score, penalty, limit) for text, score in zip(TEXTS, scores.tolist(), strict=True)]
    assert np.allclose(eqx.filter_jit(Near(inner, env, near))(states), expected, atol=1e-6)
    assert np.allclose(HostReward(lambda texts: scores, env, 2.0, near)(states), 2.0 * np.asarray(expected), atol=1e-6)
    assert near.edits(TEXTS).tolist() == [min(levenshtein(text, other) for other in MEASURED) for text in TEXTS]


def job(tmp_path, **near):
    (tmp_path / "data.csv").write_text("sequence,score\nACGTAC,0.5\nTTTTTT,-1\nGGGGGG,2\n", encoding="utf-8")
    return {
        "env": {"name": "Sequence", "alphabet": "ACGT", "min_length": 6, "max_length": 6},
        "reward": {"name": "Ehrlich", "num_motifs": 1, "motif_length": 2, "quantization": 2, "beta": 4.0},
        "data": {"path": "data.csv", "space": "dna"},
        "near": near,
    }


def test_a_job_lowers_the_score_before_its_temperature(tmp_path):
    parts = build(parse_job(job(tmp_path, penalty=0.5), tmp_path))
    plain = build(parse_job({**job(tmp_path), "near": {}}, tmp_path))
    states = parts.env.from_text(["ACGTAC", "ACGTAG", "ACGTGG"])
    assert isinstance(parts.reward, Tempered)
    assert np.allclose(plain.reward(states) - parts.reward(states), 4.0 * 0.5 * np.array([0, 1, 2]), atol=1e-6)


def test_a_score_of_the_users_is_lowered_too(tmp_path):
    asked = {**job(tmp_path, limit=1), "reward": {"name": "Score", "beta": 3.0}}
    reward = build(parse_job(asked, tmp_path), lambda texts: np.ones(len(texts))).reward
    states = Sequence("ACGT", 6, 6).from_text(["ACGTAC", "ACGTGG"])
    assert np.allclose(reward(states), 3.0 * np.array([1.0, -1.0 - np.std([0.5, -1.0, 2.0])]))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"near": {"penalty": -1.0}}, r"\[near\] penalty must be at least 0"),
        ({"near": {"limit": -1}}, r"\[near\] limit must be at least 0 edits"),
        ({"near": {"radius": 3}}, r"\[near\] unknown fields \['radius'\]"),
        ({"data": None}, r"\[near\] .*\[data\]"),
    ],
)
def test_bad_jobs_are_refused(tmp_path, change, message):
    document = {key: value for key, value in {**job(tmp_path, penalty=1.0), **change}.items() if value is not None}
    with pytest.raises(JobError, match=message):
        build(parse_job(document, tmp_path))


def test_other_objects_have_no_edits():
    env = Hypergrid(2, 8)
    with pytest.raises(ValueError, match="edits are counted between sequences"):
        Near(HypergridReward(env), env, Neighbourhood(MEASURED, SCORES, 1.0))
