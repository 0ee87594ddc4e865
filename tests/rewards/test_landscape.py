"""Measured tables as rewards: their scales against plain arithmetic, and in a job."""

import itertools
import math

import numpy as np
import pytest

from narrows.config import build, parse_job
from narrows.envs import Sequence
from narrows.rewards import Landscape

SCORES = dict(zip(map("".join, itertools.product("AC", repeat=2)), (-0.25, 0.75, 0.25, 0.5), strict=True))


@pytest.fixture
def path(tmp_path):
    file = tmp_path / "table.csv"
    file.write_text("sequence,score\n" + "".join(f"{text},{score}\n" for text, score in SCORES.items()))
    return file


@pytest.mark.parametrize("scale", ["unit", "log", "none"])
def test_scores_are_scaled_as_documented(path, scale):
    env = Sequence("AC", 2, 2)
    found = Landscape(env, str(path), scale=scale)(env.from_text(list(SCORES)))
    unit = {text: (score + 0.25) / 1.0 for text, score in SCORES.items()}
    expected = {
        "unit": list(unit.values()),
        "log": [math.log(max(score, 1e-8)) for score in unit.values()],
        "none": list(SCORES.values()),
    }
    np.testing.assert_allclose(found, expected[scale], rtol=1e-6)


def test_an_unknown_scale_is_named(path):
    with pytest.raises(ValueError, match="scale must be one of unit, log, none, got 'ln'"):
        Landscape(Sequence("AC", 2, 2), str(path), scale="ln")  # pyright: ignore[reportArgumentType]


def test_a_job_asks_for_the_logarithm(path):
    job = parse_job(
        {
            "env": {"name": "Sequence", "alphabet": "AC", "min_length": 2, "max_length": 2},
            "reward": {"name": "Landscape", "path": path.name, "scale": "log", "beta": 3.0},
            "objective": {"name": "TrajectoryBalance"},
            "policy": {"name": "Tabular"},
        },
        path.parent,
    )
    parts = build(job)
    found = parts.reward(parts.env.from_text(["AC", "CC"]))
    np.testing.assert_allclose(found, [0.0, 3.0 * math.log(0.75)], atol=1e-6)
