"""The benchmark of noise: frontiers by hand, verdicts, its page from made-up rows, and its parts on 3-mers."""

import itertools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from benchmarks import stochastic
from benchmarks._stochastic import methods, speed, training, worlds
from benchmarks._stochastic.frontier import NUM_POINTS, Curve, Point, gap
from benchmarks._stochastic.methods import METHODS, NAMES, PLAIN, RIVALS, SPEAKERS, named
from benchmarks._stochastic.tables import ALONG, SAYS, claim_sentences, tables, verdicts
from benchmarks._stochastic.training import EXACT, FULL, GRID, QUICK, Recipe, References, curve_of
from benchmarks._stochastic.training import Found as Law
from benchmarks._stochastic.worlds import Figures, World
from benchmarks.harness import docs
from benchmarks.harness.places import TFBIND8 as DATA
from benchmarks.harness.rows import Context, read_rows, write_rows
from benchmarks.harness.tables import Found
from rapidfuzz.distance import Levenshtein
from scipy.stats import ttest_ind

from narrows.envs import Sequence, perturbed
from narrows.envs.perturbation import ReversiblePerturbed
from narrows.exact import enumerate_graph
from narrows.noise import Substitution
from narrows.objectives.base import LossContext
from narrows.policies import Tabular, sizes_of
from narrows.policies.base import Model, Scaled
from narrows.rewards import Landscape, Tempered, UnwrapPerturbed
from narrows.training import run, trainer
from narrows.trajectories import sample

CONTEXT = Context(False, None, "python -m benchmarks stochastic", {"python": "3.11.0"}, "2 cores, Linux x86_64")
UNIFORM = Point(10.0, 0.4)
BETAS = (1.0, 3.0, 10.0)


def line(slope, reach):
    """A curve on which the mean score grows by `slope` a unit of the coordinate, with points up to `reach`."""
    places = [reach / 3, reach / 2, reach]
    return Curve(UNIFORM, tuple(Point(10.0 - place**2, 0.4 + slope * place) for place in places))


# The frontier.


def test_a_curve_passes_through_its_points_and_is_straight_between_points_of_a_line():
    curve = line(0.2, 1.5)
    assert curve.sharpest == pytest.approx(1.5)
    places = np.array([0.0, 0.1, 0.5, 0.6, 0.75, 1.2, 1.5])
    np.testing.assert_allclose(curve.mean_at(places), 0.4 + 0.2 * places)
    assert curve.entropy_at(1.5) == pytest.approx(10.0 - 2.25)
    bent = Curve(UNIFORM, (Point(9.0, 0.5), Point(6.0, 0.8), Point(8.0, 0.55), Point(8.0, 0.65)))
    np.testing.assert_allclose(bent.mean_at(np.sqrt([1.0, 2.0, 4.0])), [0.5, 0.6, 0.8], err_msg="in whatever order")
    still = Curve(UNIFORM, (UNIFORM, UNIFORM))
    np.testing.assert_allclose(still.mean_at(np.zeros(2)), 0.4)


def test_the_gap_of_two_pencils_of_lines_is_what_one_computes_by_hand():
    ours, theirs = [line(slope, 2.0) for slope in (0.20, 0.22, 0.24)], [line(slope, 1.0) for slope in (0.1, 0.16)]
    found = gap(ours, theirs)
    assert found.end == pytest.approx(10.0 - 1.0**2), "as far as the shorter curves go"
    assert found.at_end.value == pytest.approx(0.22 - 0.13)
    share = (NUM_POINTS + 1) / (2 * NUM_POINTS)  # the mean of 1/16, 2/16 .. 1
    assert found.along.value == pytest.approx(0.09 * share)
    known = ttest_ind([0.20, 0.22, 0.24], [0.1, 0.16], equal_var=False).confidence_interval(0.95)
    assert (found.at_end.low, found.at_end.high) == pytest.approx((known.low, known.high))
    assert (found.along.low, found.along.high) == pytest.approx((known.low * share, known.high * share))


# The page.


def figures(mean, entropy):
    return Figures(mean, entropy, 2.0 - mean, 0.9, 4.0)


def made_up(slopes):
    """Laws of a straight frontier for each method, two seeds a little apart, and references on one that is less steep."""

    def laws(slope, seed):
        return [Law(beta, seed, figures(0.4 + slope * math.log(beta + 1), 10 - math.log(beta + 1) ** 2)) for beta in BETAS]

    learned = {name: laws(slopes[name], 0) + laws(slopes[name] * 1.01, 1) for name in NAMES}
    exact = {name: laws(0.15, 0) for name in (*EXACT, methods.TARGET)}
    exact[methods.UNIFORM] = [Law(beta, 0, figures(0.4, 10.0)) for beta in BETAS]
    return References(exact, UNIFORM, 1e-4), learned


def rows_of(slopes):
    exact, learned = made_up(slopes)
    rows = list(stochastic.law_rows(CONTEXT, 0.25, exact, learned, (0, 1)))
    return rows + list(stochastic.frontier_rows(CONTEXT, 0.25, exact, learned))


def test_the_sentences_about_the_claim_are_those_of_the_rows():
    equal = dict.fromkeys(NAMES, 0.1)
    ahead = equal | dict.fromkeys(SPEAKERS, 0.2)
    known = Found(rows_of(ahead))
    assert len(verdicts(known, 0.25)) == len(SPEAKERS) * len(RIVALS)
    assert {one.word for one in verdicts(known, 0.25)} == {"ahead"}
    assert "**confirmed here**" in claim_sentences(known, [0.25])[0]
    assert "Of 12 comparisons 12 have" in claim_sentences(known, [0.25])[0]
    for slopes, words in (
        (equal, "**left open**"),
        (equal | dict.fromkeys(SPEAKERS, 0.05), "**refuted here**"),
        (ahead | {"soft Q": 0.3}, "**true of some rivals and false of others**"),
        (equal | {"soft Q": 0.05}, "**confirmed in part**"),
        (equal | {"soft Q": 0.2}, "**refuted in part**"),
    ):
        known = Found(rows_of(slopes))
        told = claim_sentences(known, [0.25])
        assert words in told[0]
        for one in verdicts(known, 0.25):
            expected = "ahead" if slopes[one.ours] > slopes[one.rival] else "behind"
            assert one.word == (expected if slopes[one.ours] != slopes[one.rival] else "open")
    assert "*expected TB*: behind *soft Q*, open beside *naive DB* and *stoch" in told[1]
    best = max(NAMES, key=lambda name: (slopes[name], -NAMES.index(name)))
    assert f"3 noisy cells: {best} in 3" in told[2], "the made-up distance falls with the mean score"


def test_a_gap_smaller_than_the_error_of_interpolation_says_nothing():
    exact, learned = made_up(dict.fromkeys(NAMES, 0.1) | dict.fromkeys(SPEAKERS, 0.2))
    rows = list(stochastic.frontier_rows(CONTEXT, 0.25, exact._replace(bend=0.5), learned))
    known = Found(rows)
    assert min(known[case, metric].value for case, metric in known if metric == f"{ALONG}, from") > 0.0
    assert {one.word for one in verdicts(known, 0.25)} == {"open"}


def test_the_page_and_its_picture_come_from_rows_alone(tmp_path):
    slopes = {name: 0.1 + 0.01 * place for place, name in enumerate(NAMES)}
    rows = rows_of(slopes)
    peer = made_up(slopes)[0].found[methods.EFLOW][1].figures
    claim = [Law(3.0, seed, peer._replace(mean=peer.mean * (1 + 0.015 * seed))) for seed in (0, 1)]
    plan = FULL._replace(claim_betas=(3.0,), claim_seeds=(0, 1))
    rows += stochastic.claim_rows(CONTEXT, plan, made_up(slopes)[0], claim)
    sides = [
        speed.Side(name, lambda state: state, None, [time]) for name, time in ((speed.BASELINE, 2.0), ("expected TB", 5.0))
    ]
    rows += speed.step_rows(CONTEXT, "stochastic/speed/batch 64", sides, 1, speed.TARGET)
    assert len({(row.case, row.metric) for row in rows}) == len(rows), "a metric of a case stands once"
    write_rows(tmp_path / "stochastic.jsonl", rows)
    page = docs.page("stochastic_results", tmp_path)
    assert tables(read_rows(tmp_path / "stochastic.jsonl")) in page
    for name in (*NAMES, *EXACT):
        assert name in page
    assert "| 2.50 " in page and "| **no** |" in page, "a ratio of 2.5 misses its target"
    assert "4 of 5 targets met" not in page and "2 of 3 targets met" in page
    assert "stochastic_results" not in docs.page("results", tmp_path)
    drawn = docs.pictures(tmp_path, tmp_path)[0]
    first = drawn.read_bytes()
    assert docs.pictures(tmp_path, tmp_path) == [drawn] and drawn.read_bytes() == first
    assert b"<svg" in first and b"alpha = 0.25" in first and f"]({drawn.name})" in page
    assert docs.pictures(tmp_path / "none", tmp_path) == []


def test_the_two_percent_hold_for_every_seed_of_mean_and_entropy():
    exact = made_up(dict.fromkeys(NAMES, 0.1))[0]
    peer = exact.found[methods.EFLOW][1].figures
    plan = FULL._replace(claim_betas=(3.0,), claim_seeds=(0, 1, 2))
    shift = {0: (1.0, 1.0), 1: (0.985, 1.001), 2: (1.005, 0.97)}
    found = [
        Law(3.0, seed, peer._replace(mean=peer.mean * mean, entropy=peer.entropy * nats))
        for seed, (mean, nats) in shift.items()
    ]
    rows = {row.metric: row for row in stochastic.claim_rows(CONTEXT, plan, exact, found)}
    mean, nats = rows["relative error of the mean score"], rows["relative error of the entropy"]
    assert (mean.value, mean.high, mean.met) == (pytest.approx(0.005), pytest.approx(0.015), True)
    assert (nats.value, nats.high, nats.met) == (pytest.approx(0.001), pytest.approx(0.03), False)
    assert mean.seeds == (0, 1, 2) and rows["mean score"].ratio == pytest.approx(1.0, abs=1e-6)


# The plan.


def test_the_full_plan_covers_every_cell_of_the_issue():
    assert sorted(FULL.seeds) == [0.0, 0.1, 0.25, 0.5] and FULL.betas == (1.0, 3.0, 10.0, 30.0)
    assert len(FULL.seeds[0.25]) == 5 and min(map(len, FULL.seeds.values())) >= 2, "an interval needs two seeds"
    assert (FULL.claim_alpha, FULL.claim_betas, len(FULL.claim_seeds)) == (0.25, (3.0, 10.0, 30.0), 5)
    jobs = FULL.jobs(DATA)
    for alpha, name in itertools.product(FULL.seeds, NAMES):
        assert (alpha, name) in jobs or (alpha == 0.0 and (alpha, PLAIN.name) in jobs)
    assert {job.recipe for job in jobs.values()} == {GRID}, "one recipe for all"
    assert (
        f"layers of {GRID.width}, {GRID.num_steps:,} steps of {GRID.batch_size} traj" in SAYS["text"]
        and f"at {GRID.learning_rate:g}" in SAYS["text"]
    )
    assert f"{worlds.NUM_TRANSITIONS:,} transitions" in SAYS["text"]
    assert QUICK.jobs(DATA) and set(QUICK.betas) <= set(FULL.betas)


# On 3-mers.


@pytest.fixture(scope="module")
def landscape(tmp_path_factory):
    """All 64 DNA 3-mers with drawn scores."""
    drawn = np.random.default_rng(0).uniform(-0.5, 0.5, 64)
    path = tmp_path_factory.mktemp("table") / "table.csv"
    words = map("".join, itertools.product("ACGT", repeat=3))
    path.write_text("word,score\n" + "".join(f"{word},{score}\n" for word, score in zip(words, drawn, strict=True)))
    return Landscape(Sequence("ACGT", 3, 3), str(path), scale="log")


def small_world(landscape, alpha) -> World:
    inner = Sequence("ACGT", 3, 3)
    env = perturbed(inner, Substitution(inner, alpha))
    assert isinstance(env, ReversiblePerturbed)
    graph = enumerate_graph(env)
    log_scores = np.asarray(landscape(graph.terminal_states.inner), np.float64)
    texts = tuple(env.to_text(graph.terminal_states))
    return World(env, landscape, graph, log_scores, np.where(log_scores > -18.0, np.exp(log_scores), 0.0), texts)


def test_figures_are_those_of_plain_loops(landscape):
    here = small_world(landscape, 0.25)
    law = here.exact_law(methods.EFLOW, 3.0)
    found = here.figures(law, 3.0, seed=1)
    probs, rewards = np.exp(law), here.scores**3
    assert found.mean == pytest.approx(sum(p * y for p, y in zip(probs, here.scores, strict=True)))
    assert found.entropy == pytest.approx(-sum(p * math.log(p) for p in probs))
    distance = sum(abs(p - r / sum(rewards)) for p, r in zip(probs, rewards, strict=True))
    assert found.distance == pytest.approx(distance, abs=1e-5)
    drawn = np.random.default_rng(1).choice(64, 2048, p=probs / probs.sum())
    best = sorted(drawn, key=lambda place: -here.scores[place])[:100]
    assert found.best_mean == pytest.approx(np.mean([here.scores[place] for place in best]))
    pairs = [Levenshtein.distance(here.texts[one], here.texts[two]) for one, two in itertools.combinations(best, 2)]
    assert found.best_distance == pytest.approx(np.mean(pairs))


def test_without_noise_every_reference_is_the_target(landscape):
    quiet, noisy = small_world(landscape, 0.0), small_world(landscape, 0.5)
    for name in EXACT:
        assert quiet.figures(quiet.exact_law(name, 3.0), 3.0, 0).distance < 1e-5, name
        assert noisy.figures(noisy.exact_law(name, 3.0), 3.0, 0).distance > 1e-3, name
    assert len({noisy.exact_law(name, 3.0).tobytes() for name in EXACT}) == len(EXACT)


@pytest.mark.slow("compiles eleven losses; the objectives' own tests compare each with slow loops")
def test_methods_that_share_a_training_without_noise_have_one_loss_there(landscape):
    here, reward = small_world(landscape, 0.0), UnwrapPerturbed(landscape)

    def model_of(learns_backward):
        sizes = sizes_of(here.env, learned_backward=learns_backward, child_flow_head=True)
        policy = Tabular(sizes, 0.5, key=jax.random.key(0))
        return Model(Scaled(policy, 1.0), jnp.ones(()))

    batch = jax.jit(lambda key: sample(key, model_of(False), here.env, 8))(jax.random.key(1))
    batch = batch._replace(log_reward=reward(batch.terminal))
    context = LossContext(reward=reward, keys=jax.random.split(jax.random.key(2), 8))

    def loss_of(method):
        loss = jax.jit(lambda model: method.objective.loss(model, model, here.env, batch, context))
        return float(loss(model_of(method.learns_backward)))

    plain = loss_of(PLAIN)
    for method in METHODS:
        if not method.learns_kernel and method is not PLAIN:
            assert (loss_of(method) == pytest.approx(plain, rel=1e-5)) != method.differs_without_noise, method.name


@pytest.mark.slow("trains; the losses that methods share guard what is trained")
def test_a_job_trains_what_the_library_trains(landscape, monkeypatch):
    """The exponents of one program are those of separate trainings with `Tempered`."""
    here = small_world(landscape, 0.25)
    monkeypatch.setattr(training, "world", lambda path, alpha: here)
    recipe = Recipe(None, 64, 300, 0.1)
    found = training.train(training.Job(DATA, 0.25, "expected DB, all", (3.0, 10.0), (0,), recipe))
    assert [(one.beta, one.seed) for one in found] == [(3.0, 0), (10.0, 0)]
    for one in found:
        exact = here.figures(here.exact_law(methods.EFLOW, one.beta), one.beta, 0)
        assert one.figures.mean == pytest.approx(exact.mean, rel=0.02)
        assert one.figures.entropy == pytest.approx(exact.entropy, rel=0.02)
    method = named("expected DB, all")
    separate = trainer(
        here.env,
        lambda key: recipe.policy(here.env, False, key),
        UnwrapPerturbed(Tempered(landscape, 10.0)),
        method.objective,
        recipe.optimizer(),
        batch_size=64,
    )
    state, _ = run(separate, separate.init(jax.random.key(0)), 300, every=300)
    law = training.model_distribution(state.model, here.env, here.graph)
    assert here.figures(law, 10.0, 0)[:3] == pytest.approx(found[1].figures[:3], rel=1e-3)


@pytest.mark.slow("fits a kernel; the noise's own tests guard the fit")
def test_the_learned_kernel_comes_near_the_true_one(landscape):
    here = small_world(landscape, 0.25)
    found = np.exp(np.asarray(worlds.learned_kernel(here.env, 0).all_log_probs(here.env.inner.reset())))[:4, :4]
    np.testing.assert_allclose(found, 0.75 * np.eye(4) + 0.25 / 4, atol=0.02)


def test_a_missing_table_is_named(tmp_path):
    with pytest.raises(ValueError, match="SIX6_REF_R1_8mers.txt.*--data"):
        next(iter(stochastic.measure(Context(True, tmp_path, "x", {}, "m"))))


@pytest.mark.slow("solves 87,000 states; figures on 3-mers guard the same code")
@pytest.mark.skipif(not (DATA / "SIX6_REF_R1_8mers.txt").is_file(), reason="the measured 8-mers are not here")
def test_the_world_of_the_measured_table_has_the_known_figures():
    """Mean y, entropy and distance of the exact expected flow network at exponent 10 and alpha = 0.25 (eflow 7.4)."""
    here = worlds.world(DATA / "SIX6_REF_R1_8mers.txt", 0.25)
    found = here.figures(here.exact_law(methods.EFLOW, 10.0), 10.0, 0)
    assert found[:3] == pytest.approx((0.6840, 10.316, 0.841), abs=1e-3)
    assert np.mean(here.scores) == pytest.approx(0.463767, abs=1e-5) and here.scores.min() == 0.0
    curve = curve_of(Point(math.log(4**8), 0.4638), [Law(10.0, 0, found)])
    assert curve.entropy_at(curve.sharpest) == pytest.approx(found.entropy)
