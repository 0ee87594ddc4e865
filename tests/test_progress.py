"""What a person sees while a run waits for a score."""

import io
from typing import Any

import jax.numpy as jnp
import pytest
from rich.console import Console

from narrows.config import parse_job
from narrows.runs import OpenRun, RunFolder
from narrows.runs.execution import _heard, _Keeper
from narrows.runs.progress import Meter
from narrows.scorers import load_scorer
from narrows.scorers import search as search_module
from narrows.training import Chunk
from narrows.training.state import StepInfo


@pytest.mark.parametrize("is_terminal", [True, False])
def test_the_progress_line_tells_what_a_score_is_searched_for(monkeypatch, is_terminal):
    monkeypatch.setattr(search_module, "SAY_SECONDS", 0.0)
    stream, elsewhere = io.StringIO(), []

    def score(objects):
        if "bad" in objects:
            raise ValueError("no")
        return [1.0] * len(objects)

    console = Console(file=stream, force_terminal=is_terminal, width=90)
    with load_scorer(score, say=elsewhere.append) as scorer, Meter(console, 10, 3) as meter:
        with _heard(scorer, meter):
            assert list(scorer(["A", "AA", "bad"]).failures) == ["bad"]
        shown = stream.getvalue()
        assert elsewhere == []
        scorer(["bad", "AAA", "worse"])
    assert "some of the 3 objects of a batch hang or fail" in shown or is_terminal
    assert "Ctrl-C twice stops at once" in (stream.getvalue() if is_terminal else shown)


class Course:
    """A recorder that has seen a sampler collapse."""

    num_set_aside = 0

    def __call__(self, chunk):
        known = {"mean_score": 1.0, "top10_score": 1.0, "distance_to_data": float("nan"), "set_aside": 0}
        return {**known, "distinct": min(chunk.last_step, 30), "sampled": 64 * chunk.last_step}


def test_the_progress_line_says_once_what_there_is_to_worry_about(tmp_path):
    env = {"name": "Sequence", "alphabet": "ACGU", "min_length": 9, "max_length": 9}
    job = parse_job({"env": env, "reward": {"name": "Score"}}, tmp_path)
    stream = io.StringIO()
    nothing: Any = None
    recorder: Any = Course()
    with Meter(Console(file=stream, width=90), job.train.num_steps, 0) as meter:
        keeper = _Keeper(OpenRun(RunFolder.create(tmp_path / "run", job, {"job": "job.toml"})), recorder, meter, 0)
        for step in range(50, 2001, 50):
            info = StepInfo(jnp.ones(50), nothing, nothing, jnp.zeros(50, bool))
            keeper(Chunk(step, 50, nothing, info, 1.0))
    assert stream.getvalue().count("Caution: The sampler") == 1
