"""What a person sees while a run waits for a score."""

import io

import pytest
from rich.console import Console

from narrows.runs.execution import _heard
from narrows.runs.progress import Meter
from narrows.scorers import load_scorer
from narrows.scorers import search as search_module


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
