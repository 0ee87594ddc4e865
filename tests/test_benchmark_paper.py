"""The benchmark of the paper's experiments: laws beside the exact one, modes counted as a slow loop counts them, its page."""

import dataclasses

import numpy as np
import pytest
from benchmarks import docs, paper
from benchmarks.paper import CLOSENESS, FOUND, FULL, Plan, Shown
from benchmarks.rows import Context, write_rows
from rapidfuzz.distance import Levenshtein

from narrows import objectives
from narrows.envs import BitSequence
from narrows.rewards import BitModes

CONTEXT = Context(False, None, "python -m benchmarks paper", {"python": "3.11.0"}, "2 cores, Linux x86_64")
TINY = Plan(num_steps=300, seeds=(0,), bit_steps=40, bit_seeds=(0, 1), num_bits=24, num_modes=5, qs=(0.0, 1.0), shown=2)


def test_a_law_is_far_before_training_and_near_after():
    shown = Shown("soft Q-learning", objectives.SoftQ())
    assert paper.learned_distance(shown, 1, 0) > 0.3
    assert paper.learned_distance(shown, 500, 0) < 0.05


def test_every_objective_with_a_law_of_its_own_is_shown():
    shown = {type(one.objective).__name__ for one in paper._shown()}
    # Those of two players are measured by the benchmark of games; PPO is after a maximum; the sampled form needs chance.
    others = {name for name in objectives.__all__ if name.startswith(("Adversarial", "Unadjusted", "Sampled", "Proximal"))}
    assert shown | others == set(objectives.__all__)


def test_modes_are_counted_as_a_slow_loop_does(monkeypatch):
    kept = []
    train = paper._train_bits
    monkeypatch.setattr(paper, "_train_bits", lambda *inputs: kept.append(np.asarray(train(*inputs))) or kept[0])
    found = paper.bit_job(TINY, "q = 1", 1.0, 64.0, 0)
    assert found.samples == [320, 640]
    texts = ["".join(format(token, "08b") for token in row) for row in kept[0].reshape(-1, 3).tolist()]
    modes = BitModes(BitSequence(24), num_modes=5).modes
    for place, count in enumerate(found.samples):
        nearest = [min(Levenshtein.distance(text, mode) for text in texts[:count]) for mode in modes]
        assert found.found[place] == sum(distance <= 28 * 24 / 120 for distance in nearest)
        assert found.closeness[place] == pytest.approx(np.mean(nearest))


def test_rows_and_their_page(monkeypatch, tmp_path):
    def made_up(plan, name, q, beta, seed):
        return paper.BitRun([320, 640], [1, 2 + round(2 * q) + seed], [5.0, 4.0 - q])

    class Done:
        def __init__(self, task):
            self.result = task

    class Near:
        def __init__(self, tasks):
            self.futures = [Done(task) for task in tasks]

        def __enter__(self):
            return self.futures

        def __exit__(self, *_):
            return None

    monkeypatch.setattr(paper, "bit_job", made_up)
    monkeypatch.setattr(paper, "side_by_side", Near)
    monkeypatch.setattr(paper, "learned_distance", lambda shown, num_steps, seed: 0.01 if "TGM" in shown.name else 0.2)
    rows = list(paper.measure_parts(CONTEXT, TINY))
    known = {(row.case, row.metric): row for row in rows}
    assert known["paper/bits/q = 1/640", FOUND].value == pytest.approx(4.5)
    assert known["paper/bits/q = 1/640", CLOSENESS].value == pytest.approx(3.0)
    assert known["paper/bits/q = 1 less q = 0", FOUND].value == pytest.approx(2.0)
    assert known["paper/objectives/TGM, q = 0.5", "total variation"].met is True
    assert known["paper/objectives/soft Q-learning", "total variation"].met is False
    write_rows(tmp_path / "paper.jsonl", rows)
    page = " ".join(docs.page("results", tmp_path).split())
    assert "| soft Q-learning | 0.200" in page and "Modes found:" in page and f"| {paper.CONTROL} less q = 0 |" in page


def test_an_unknown_part_is_refused():
    with pytest.raises(ValueError, match="there is no case 'weather'. There are: objectives, bits"):
        list(paper.measure(dataclasses.replace(CONTEXT, cases=("weather",))))


def test_the_full_plan_is_the_published_task():
    assert (FULL.num_bits, FULL.num_modes, FULL.qs) == (120, 60, (0.0, 0.25, 0.5, 0.75, 1.0))
