"""The benchmark of the paper's experiments: laws beside the exact one, modes counted as a slow loop counts them, its page."""

import dataclasses
import functools

import numpy as np
import pytest
from benchmarks import docs, paper
from benchmarks._paper import biology
from benchmarks._paper.biology import Outcome, Setting, Tuned
from benchmarks._paper.plan import CHOSEN, CONTROL, GFN, MAIN_SHARE, PPO, SAC, Size
from benchmarks._paper.plan import Plan as BioPlan
from benchmarks.paper import CLOSENESS, FOUND, FULL, Plan, Shown
from benchmarks.rows import Context, write_rows
from rapidfuzz.distance import Levenshtein

from narrows import objectives
from narrows.envs import BitSequence
from narrows.policies import FaithfulTransformer
from narrows.rewards import BitModes
from narrows.rewards.published_tasks import UTR

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
    rows = list(paper.measure_parts(dataclasses.replace(CONTEXT, cases=("objectives", "bits")), TINY))
    known = {(row.case, row.metric): row for row in rows}
    assert known["paper/bits/q = 1/640", FOUND].value == pytest.approx(4.5)
    assert known["paper/bits/q = 1/640", CLOSENESS].value == pytest.approx(3.0)
    assert known["paper/bits/q = 1 less q = 0", FOUND].value == pytest.approx(2.0)
    assert known["paper/objectives/TGM, q = 0.5", "total variation"].met is True
    assert known["paper/objectives/soft Q-learning", "total variation"].met is False
    write_rows(tmp_path / "paper.jsonl", rows)
    page = " ".join(docs.page("results", tmp_path).split())
    assert "| soft Q-learning | 0.200" in page and "Modes found:" in page and f"| {paper.CONTROL} less q = 0 |" in page


# The biological tasks.

SMALL = BioPlan(
    sizes=(Size("UTR", 60, 1, 2, 1e-3, betas=(2.0, 4.0), num_samples=32),),
    seeds=(0, 1),
    rates=(1e-3,),
    batch_size=8,
    num_kept=4,
    methods=(SAC, PPO, GFN, "TGM, q = 0.5", "TGM, q = 1", CONTROL),
)


def test_a_method_is_tuned_on_a_seed_that_is_not_reported_and_found_again(tmp_path, monkeypatch):
    short = dataclasses.replace(UTR, min_length=6, max_length=6, embed=8, layers=1, heads=2)
    monkeypatch.setitem(biology._TASKS, "UTR", short)
    tiny = functools.partial(FaithfulTransformer, layers=1, width=8, heads=2, feed_forward=8, head_hidden=8)
    monkeypatch.setattr(biology, "FaithfulTransformer", tiny)
    size = SMALL.sizes[0]
    facts = biology.proxy_job(size, tmp_path, None)
    assert facts["is_published"] is False
    name = "TGM, q = 0.5"
    found = biology.method_job(SMALL, tmp_path, size, name)
    assert set(found.grid) == {Setting(2.0, 1e-3), Setting(4.0, 1e-3)}
    assert found.chosen == max(one.rewards[MAIN_SHARE] for one in found.grid.values())
    assert len(found.found) == 2 and found.found[0] != found.found[1]
    for one in found.found:
        assert np.all(np.diff(one.kept) <= 0), "farther apart, fewer are kept"
        assert one.true is not None and np.isfinite(one.true)
    monkeypatch.setattr(biology, "train", None)
    assert biology.method_job(SMALL, tmp_path, size, name) == found


def test_published_files_are_taken_where_they_lie(tmp_path):
    size = SMALL.sizes[0]
    assert biology.given(size, tmp_path).truth is not None
    (tmp_path / "UTR").mkdir()
    np.save(tmp_path / "UTR" / "utr-x-0.npy", np.random.default_rng(0).integers(0, 4, (12, 50)).astype(np.int32))
    np.save(tmp_path / "UTR" / "utr-y-0.npy", np.arange(12, dtype=np.float32)[:, None])
    found = biology.given(size, tmp_path)
    assert found.truth is None and len(found.data) == 12


def made_up(method):
    rewards = {SAC: 1.0, PPO: 2.0, GFN: 3.0, "TGM, q = 0.5": 4.0, "TGM, q = 1": 3.5, CONTROL: 3.9}[method]

    def one(lift, true=0.5):
        return Outcome((rewards + 1.0 + lift, rewards + lift, rewards - 0.5 + lift), (1.2, 1.1, 1.0), (4, 4, 3), true, 9.0)

    grid = {Setting(2.0, 1e-3): one(-1.0), Setting(4.0, 1e-3): one(0.5)}
    return Tuned(grid, Setting(4.0, 1e-3), [one(0.0), one(0.2)])


def test_biology_rows_and_their_page(tmp_path):
    each = {name: made_up(name) for name in SMALL.methods}
    size = SMALL.sizes[0]
    rows = list(biology._task_rows(CONTEXT, SMALL, size, {"is_published": False, "ranks": 0.5, "highest": 4.0}, each))
    known = {(row.case, row.metric): row for row in rows}
    main = biology.reward_at(0.1)
    assert known[f"paper/biology/UTR/{CHOSEN}", main].value == pytest.approx(4.1), "q by the seed that chooses"
    assert known[f"paper/biology/UTR/{CHOSEN} less {GFN}", biology.AHEAD].value == pytest.approx(1.0)
    grid = known[f"paper/biology/UTR/{PPO}", biology.OVER_GRID]
    assert (grid.value, grid.low, grid.high) == pytest.approx((1.75, 1.0, 2.5))
    assert all(row.against is None for row in rows), "no published number stands beside a stand-in"
    gap = "q = 1 less q = 0"
    bits = [CONTEXT.row("paper/bits/q = 1/16", metric, [1.0]) for metric in (FOUND, CLOSENESS)]
    write_rows(tmp_path / "paper.jsonl", [*bits, CONTEXT.row(f"paper/bits/{gap}", FOUND, [2.0]), *rows])
    page = " ".join(docs.page("results", tmp_path).split())
    assert "### UTR, stand-in" in page and page.count(f"| {CHOSEN} less {CONTROL} |") == 1
    modes = page.split("Differences in modes")[1].split("###")[0]
    assert f"| {gap} |" in modes and "UTR" not in modes
    real = list(biology._task_rows(CONTEXT, SMALL, size, {"is_published": True, "ranks": 0.5, "highest": 4.0}, each))
    row = next(row for row in real if row.case == f"paper/biology/UTR/{GFN}" and row.metric == main)
    assert row.against == "published" and row.ratio == pytest.approx(3.1 / 4.19)


def test_one_biological_task_can_be_asked_for_alone(monkeypatch):
    asked = []
    monkeypatch.setattr(paper, "biology_rows", lambda context, plan: asked.append([size.name for size in plan.sizes]) or [])
    for cases in (("AMP",), ("GFP", "UTR"), ("UTR",)):
        list(paper.measure_parts(dataclasses.replace(CONTEXT, cases=cases), FULL))
    assert asked == [["AMP"], ["UTR", "GFP"], ["UTR"]]


def test_an_unknown_part_is_refused():
    with pytest.raises(ValueError, match="there is no case 'weather'. There are: objectives, bits, UTR, AMP, GFP"):
        list(paper.measure(dataclasses.replace(CONTEXT, cases=("weather",))))


def test_the_full_plan_is_the_published_task():
    assert (FULL.num_bits, FULL.num_modes, FULL.qs) == (120, 60, (0.0, 0.25, 0.5, 0.75, 1.0))
