"""The benchmark of the paper's experiments: laws beside the exact one, modes counted as a slow loop counts them, its page."""

import dataclasses
import functools
import os

import jax
import numpy as np
import pytest
from benchmarks import paper
from benchmarks._laws import CHOSEN, ENTROPY, NATS, OFF, TEMPERATURE, control_name
from benchmarks._paper import biology, bits, trainings
from benchmarks._paper.biology import Contest, Control
from benchmarks._paper.bits import CLOSENESS, FOUND, BitPlan, BitRun
from benchmarks._paper.plan import GFN, MAIN_SHARE, PPO, SAC, Size
from benchmarks._paper.plan import Plan as BioPlan
from benchmarks._paper.tasks.data import UTR
from benchmarks._paper.trainings import Outcome, Setting, Tuned
from benchmarks.harness import docs
from benchmarks.harness.rows import Context, write_rows
from benchmarks.paper import FULL, Plan, Shown
from rapidfuzz.distance import Levenshtein

from narrows import objectives
from narrows.envs import BitSequence
from narrows.policies import FaithfulTransformer
from narrows.rewards import BitModes
from narrows.trajectories import log_probs_along, sample

CONTEXT = Context(False, None, "python -m benchmarks paper", {"python": "3.11.0"}, "2 cores, Linux x86_64")
BITS = BitPlan(num_steps=40, seeds=(0, 1), num_bits=24, num_modes=5, qs=(0.0, 1.0), shown=2)
TINY = Plan(num_steps=300, seeds=(0,), bits=BITS)


@pytest.mark.slow("trains; the committed distances and the objectives' own tests guard the same")
def test_a_law_is_far_before_training_and_near_after():
    shown = Shown("soft Q-learning", objectives.SoftQ())
    assert paper.learned_distance(shown, 1, 0) > 0.3
    assert paper.learned_distance(shown, 500, 0) < 0.05


@pytest.mark.slow("trains and counts; rows of made-up runs guard what becomes of the counts")
def test_modes_are_counted_as_a_slow_loop_does(monkeypatch):
    kept = []
    train = bits.train_bits
    monkeypatch.setattr(bits, "train_bits", lambda *inputs: kept.append(train(*inputs)) or kept[0])
    found = bits.bit_job(BITS, "q = 1", 1.0, 64.0, 0)
    assert (found.beta, found.samples) == (64.0, [320, 640])
    model, tokens = kept[0]
    texts = ["".join(format(token, "08b") for token in row) for row in np.asarray(tokens).reshape(-1, 3).tolist()]
    modes = BitModes(BitSequence(24), num_modes=5).modes
    for place, count in enumerate(found.samples):
        nearest = [min(Levenshtein.distance(text, mode) for text in texts[:count]) for mode in modes]
        assert found.found[place] == sum(distance <= 28 * 24 / 120 for distance in nearest)
        assert found.closeness[place] == pytest.approx(np.mean(nearest))
    env = BitSequence(24)
    drawn = sample(jax.random.key(9), model, env, 1024)
    slow = [-float(sum(row)) for row in np.asarray(log_probs_along(model, env, drawn).log_pf).tolist()]
    error = np.std(slow) * np.sqrt(1 / 1024 + 1 / 2048)
    assert found.entropy == pytest.approx(np.mean(slow), abs=5.0 * error)


def test_a_gflownet_is_brought_to_an_entropy(monkeypatch):
    asked = []

    def trained(plan, name, q, beta, seed):
        asked.append((name, q, beta, seed))
        return BitRun(beta, 24 * np.log(2.0) - 2.0 * np.log1p(beta), [], [], [])

    monkeypatch.setattr(bits, "bit_job", trained)
    plain = [trained(BITS, "q = 0", 0.0, beta, 7) for beta in (4.0, 5.0)]
    for nats in (13.8, 10.0):
        asked.clear()
        found = bits.matched_job(BITS, 0.5, nats, plain, 7)
        assert found.entropy == pytest.approx(nats, abs=0.2)
        assert [(name, q, seed) for name, q, _, seed in asked] == [(control_name(ENTROPY, "q = 0.5"), 0.0, 7)] * 2
    monkeypatch.setattr(bits, "bit_job", lambda *_: BitRun(1.0, 99.0, [], [], []))
    assert bits.matched_job(BITS, 0.5, plain[1].entropy, plain, 7) == plain[1], "the nearest, also of those before"


def test_rows_and_their_page(monkeypatch, tmp_path):
    def made_up(plan, name, q, beta, seed):
        return BitRun(beta, 30.0 - 0.25 * beta - 4.0 * q, [320, 640], [1, 2 + round(2 * q) + seed], [5.0, 4.0 - q])

    monkeypatch.setattr(bits, "bit_job", made_up)
    monkeypatch.setattr(bits, "done", lambda tasks: [task() for task in tasks])
    monkeypatch.setattr(paper, "learned_distance", lambda shown, num_steps, seed: 0.01 if "TGM" in shown.name else 0.2)
    rows = list(paper.measure_parts(dataclasses.replace(CONTEXT, cases=("objectives", "bits")), TINY))
    known = {(row.case, row.metric): row for row in rows}
    assert known["paper/bits/q = 1/640", FOUND].value == pytest.approx(4.5)
    assert known["paper/bits/q = 1/640", CLOSENESS].value == pytest.approx(3.0)
    assert known["paper/bits/q = 1 less q = 0", FOUND].value == pytest.approx(2.0)
    warm, even = (control_name(control, "q = 1") for control in (TEMPERATURE, ENTROPY))
    assert known[f"paper/bits/{warm}", bits.BETA_TAKEN].value == pytest.approx(64.0 * 5.0 / 4.0)
    assert known[f"paper/bits/{even}", bits.BETA_TAKEN].value == pytest.approx(80.0, abs=0.5), "10 nats, as q = 1 has"
    assert known[f"paper/bits/{even}", OFF].value == pytest.approx(0.0, abs=0.1)
    for control in (warm, even):
        assert known[f"paper/bits/q = 1 less {control}", FOUND].value == pytest.approx(2.0)
        assert known[f"paper/bits/q = 1 less {control}", FOUND].target is None
    assert known["paper/objectives/TGM, q = 0.5", "total variation"].met is True
    assert known["paper/objectives/soft Q-learning", "total variation"].met is False
    write_rows(tmp_path / "paper.jsonl", rows)
    page = " ".join(docs.page("results", tmp_path).split())
    assert "| soft Q-learning | 0.200" in page and "Modes found:" in page and f"| q = 1 less {even} |" in page
    assert "Exponents and entropies" in page and "Every control is behind on every seed." in page


# The biological tasks.

SMALL = BioPlan(
    sizes=(Size("UTR", 60, 1, 2, 1e-3, betas=(2.0, 4.0), num_samples=32),),
    seeds=(0, 1),
    rates=(1e-3,),
    batch_size=8,
    num_kept=4,
    methods=(SAC, PPO, GFN, "TGM, q = 0.5", "TGM, q = 1"),
)


@pytest.mark.slow("trains a dozen policies; rows and controls from made-up outcomes guard the arithmetic")
def test_a_method_is_tuned_on_a_seed_that_is_not_reported_and_found_again(tmp_path, monkeypatch):
    short = dataclasses.replace(UTR, min_length=6, max_length=6, embed=8, layers=1, heads=2)
    monkeypatch.setitem(trainings.TASKS, "UTR", short)
    tiny = functools.partial(FaithfulTransformer, layers=1, width=8, heads=2, feed_forward=8, head_hidden=8)
    monkeypatch.setattr(trainings, "FaithfulTransformer", tiny)
    size = SMALL.sizes[0]
    facts = trainings.proxy_job(size, tmp_path)
    assert facts["is_published"] is False
    name = "TGM, q = 0.5"
    found = trainings.method_job(SMALL, tmp_path, size, name)
    assert set(found.grid) == {Setting(2.0, 1e-3), Setting(4.0, 1e-3)}
    assert found.chosen == max(one.rewards[MAIN_SHARE] for one in found.grid.values())
    assert len(found.found) == 2 and found.found[0] != found.found[1]
    for one in found.found:
        assert np.all(np.diff(one.kept) <= 0), "farther apart, fewer are kept"
        assert one.true is not None and np.isfinite(one.true)
        assert 0.0 < one.entropy <= biology.uniform_entropy(size) + 1.0 == pytest.approx(6.0 * np.log(4.0) + 1.0)
    plain = trainings.method_job(SMALL, tmp_path, size, GFN)
    of = biology.control_job(SMALL, tmp_path, size, name, found, plain, 1)
    assert of[TEMPERATURE].beta == pytest.approx(found.best.beta * 1.125)
    known = [of[TEMPERATURE].outcome, plain.found[1], of[ENTROPY].outcome]
    assert of[ENTROPY].outcome == min(known, key=lambda one: abs(one.entropy - found.found[1].entropy))
    monkeypatch.setattr(trainings, "train", None)
    assert trainings.method_job(SMALL, tmp_path, size, name) == found
    assert biology.control_job(SMALL, tmp_path, size, name, found, plain, 1) == of


def test_published_files_are_taken_where_they_lie(tmp_path):
    size = SMALL.sizes[0]
    assert trainings.given(size, tmp_path).truth is not None
    (tmp_path / "UTR").mkdir()
    np.save(tmp_path / "UTR" / "utr-x-0.npy", np.random.default_rng(0).integers(0, 4, (12, 50)).astype(np.int32))
    np.save(tmp_path / "UTR" / "utr-y-0.npy", np.arange(12, dtype=np.float32)[:, None])
    found = trainings.given(size, tmp_path)
    assert found.truth is None and len(found.data) == 12


def test_a_proxy_is_found_again_only_for_the_same_files(tmp_path):
    size = SMALL.sizes[0]
    places = [trainings._proxy_folder(size, tmp_path)]
    (tmp_path / "UTR").mkdir()
    for rows in (12, 12, 13):
        np.save(tmp_path / "UTR" / "utr-y-0.npy", np.zeros((rows, 1), np.float32))
        os.utime(tmp_path / "UTR" / "utr-y-0.npy", ns=(0, 0))
        places.append(trainings._proxy_folder(size, tmp_path))
    assert places[1] == places[2] and len(set(places)) == 3


def made_up(method):
    rewards = {SAC: 1.0, PPO: 2.0, GFN: 3.0, "TGM, q = 0.5": 4.0, "TGM, q = 1": 3.5, TEMPERATURE: 3.9, ENTROPY: 4.2}[method]

    def one(lift, true=0.5):
        return Outcome(
            (rewards + 1.0 + lift, rewards + lift, rewards - 0.5 + lift), (1.2, 1.1, 1.0), (4, 4, 3), true, rewards, 9.0
        )

    grid = {Setting(2.0, 1e-3): one(-1.0), Setting(4.0, 1e-3): one(0.5)}
    return Tuned(grid, Setting(4.0, 1e-3), [one(0.0), one(0.2)])


def test_biology_rows_and_their_page(tmp_path):
    each = {name: made_up(name) for name in SMALL.methods}
    size = SMALL.sizes[0]
    kept = {TEMPERATURE: [Control(4.5, one) for one in made_up(TEMPERATURE).found]}
    kept[ENTROPY] = [Control(beta, one) for beta, one in zip((5.0, 6.0), made_up(ENTROPY).found, strict=True)]
    contest = Contest(each, biology.chosen(each), [{name: of[seed] for name, of in kept.items()} for seed in SMALL.seeds])
    rows = list(biology._task_rows(CONTEXT, SMALL, size, {"is_published": False, "ranks": 0.5, "highest": 4.0}, contest))
    known = {(row.case, row.metric): row for row in rows}
    main = biology.reward_at(0.1)
    assert known[f"paper/biology/UTR/{CHOSEN}", main].value == pytest.approx(4.1), "q by the seed that chooses"
    assert known[f"paper/biology/UTR/{CHOSEN} less {GFN}", biology.AHEAD].value == pytest.approx(1.0)
    warm, even = (control_name(control, CHOSEN) for control in (TEMPERATURE, ENTROPY))
    assert known[f"paper/biology/UTR/{CHOSEN}", biology.Q_TAKEN].value == 0.5
    assert known[f"paper/biology/UTR/{CHOSEN} less {warm}", biology.AHEAD].value == pytest.approx(0.1)
    assert known[f"paper/biology/UTR/{CHOSEN} less {even}", biology.AHEAD].value == pytest.approx(-0.2)
    assert known[f"paper/biology/UTR/{even}", biology.TAKEN[0]].value == pytest.approx(5.5)
    assert known[f"paper/biology/UTR/{even}", OFF].value == pytest.approx(0.2)
    assert known[f"paper/biology/UTR/{PPO}", NATS].value == pytest.approx(2.0)
    grid = known[f"paper/biology/UTR/{PPO}", biology.OVER_GRID]
    assert (grid.value, grid.low, grid.high) == pytest.approx((1.75, 1.0, 2.5))
    assert all(row.against is None for row in rows), "no published number stands beside a stand-in"
    gap = "q = 1 less q = 0"
    of_bits = [CONTEXT.row("paper/bits/q = 1/16", metric, [1.0]) for metric in (FOUND, CLOSENESS)]
    of_bits += [CONTEXT.row("paper/bits/q = 1", metric, [1.0]) for metric in (bits.BETA_TAKEN, NATS)]
    write_rows(tmp_path / "paper.jsonl", [*of_bits, CONTEXT.row(f"paper/bits/{gap}", FOUND, [2.0]), *rows])
    page = " ".join(docs.page("results", tmp_path).split())
    assert "### UTR, stand-in" in page and page.count(f"| {CHOSEN} less {even} |") == 1
    assert f"| {even} | 5.50 " in page and "q is 0.5" in page
    assert f"so that a control closes the gap: {CHOSEN} less {even}." in page
    modes = page.split("Differences in modes")[1].split("###")[0]
    assert f"| {gap} |" in modes and "UTR" not in modes
    real = list(biology._task_rows(CONTEXT, SMALL, size, {"is_published": True, "ranks": 0.5, "highest": 4.0}, contest))
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
    assert (FULL.bits.num_bits, FULL.bits.num_modes, FULL.bits.qs) == (120, 60, (0.0, 0.25, 0.5, 0.75, 1.0))
