"""The benchmark of variational inequalities: its figures against slow loops and known cases, its targets, page and command."""

import importlib.util
import sys
from dataclasses import replace
from types import ModuleType

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from benchmarks import __main__ as command
from benchmarks import vi
from benchmarks._vi import chain, contests, counterexamples, minmax, speed, tables, torus
from benchmarks._vi.torus import Method, Trained
from benchmarks.harness import docs
from benchmarks.harness.places import RESULTS
from benchmarks.harness.rows import Context, Target, read_rows, write_rows
from benchmarks.harness.tables import Found as known
from benchmarks.harness.turns import RATIO, TIME

from narrows.vi.problems import Walk, chain_100, hidden_matching_pennies

CONTEXT = Context(False, None, "python -m benchmarks vi", {"python": "3.11.0"}, "2 cores, Linux x86_64")


# Hidden games.


def neuron(theta):
    """The players' probabilities and slopes, in NumPy."""
    inner, outer = np.array([0.9, -0.8]), np.array([0.7, 0.6])
    u = inner * theta
    celu = np.where(u > 0, u, 10 * np.expm1(np.minimum(u, 0) / 10))
    x = 1 / (1 + np.exp(-outer * celu))
    return x, x * (1 - x) * outer * np.where(u > 0, 1.0, np.exp(np.minimum(u, 0) / 10)) * inner


def slope(theta):
    """What the parameters see in regularised matching pennies, by the chain rule."""
    x, along = neuron(theta)
    d = x - 0.5
    return along * np.array([d[0] - 4 * d[1], 4 * d[0] + d[1]])


def by_hand(name, theta, size):
    if name == "simultaneous GD":
        return theta - size * slope(theta)
    if name == "alternating GD":
        theta = np.array([theta[0] - size * slope(theta)[0], theta[1]])
        return np.array([theta[0], theta[1] - size * slope(theta)[1]])
    if name == "extragradient":
        return theta - size * slope(theta - size * slope(theta))
    # PHGD: the Jacobian is diagonal.
    x, along = neuron(theta)
    d = x - 0.5
    return theta - size * np.array([d[0] - 4 * d[1], 4 * d[0] + d[1]]) / along


@pytest.mark.parametrize(
    ("algorithm", "size", "cost"),
    [
        (contests.simultaneous(), 3.0, 1),
        (contests.alternating(), 3.0, 1),
        (contests.extragradient(), 3.0, 2),
        (contests.phgd(2), 1 / 17, 2),
    ],
    ids=lambda one: getattr(one, "name", None),
)
def test_algorithms_take_the_steps_that_one_computes_by_hand(algorithm, size, cost):
    with jax.enable_x64(True):
        hidden = hidden_matching_pennies()
        trail = contests.runner(hidden, algorithm, 30)(size, hidden.params, 20)
        distances, evaluations = np.asarray(trail.distance), np.asarray(trail.evaluations)
    theta, expected = np.array([1.25, 2.25]), []
    for _ in range(21):
        expected.append(np.linalg.norm(neuron(theta)[0] - 0.5))
        theta = by_hand(algorithm.name, theta, size)
    np.testing.assert_allclose(distances[:21], expected, rtol=1e-9)
    assert np.isnan(distances[21:]).all() and list(evaluations[:21]) == [cost * step for step in range(21)]


def test_optimistic_adam_is_the_one_of_optax_on_the_game_gradient():
    with jax.enable_x64(True):
        hidden, optimizer = hidden_matching_pennies(), optax.optimistic_adam_v2(0.01, b1=0.0)
        trail = contests.runner(hidden, contests.optimistic_adam(0.0), 5)(0.01, hidden.params, 5)
        params = jnp.array([1.25, 2.25])
        state = optimizer.init(params)
        for _ in range(5):
            updates, state = optimizer.update(jnp.asarray(slope(np.asarray(params))), state, params)
            params = optax.apply_updates(params, updates)
        assert trail.distance[5] == pytest.approx(np.linalg.norm(neuron(np.asarray(params))[0] - 0.5), rel=1e-9)


def test_hits_and_rates_of_known_runs():
    distance = 0.5 * 0.9 ** np.arange(300.0)
    assert minmax.hits(distance) == [int(np.ceil(np.log(level / 0.5) / np.log(0.9))) for level in minmax.LEVELS]
    assert minmax.rate(distance) == pytest.approx(0.9, abs=1e-12)
    stuck = np.full(100, 0.3)
    assert minmax.hits(stuck) == [None, None, None] and minmax.rate(stuck) == 1.0
    # A run that has diverged is one that never arrives.
    assert minmax.hits(np.full(10, np.nan)) == [None, None, None]


def test_a_step_size_is_chosen_by_the_steps_that_it_takes_and_then_by_where_it_ends():
    runs = {0.1: 0.99, 0.5: 0.9, 2.0: 1.0}

    def run(size, start, most):
        return contests.Trail(start * runs[size] ** np.arange(most + 1.0), np.arange(most + 1))

    assert minmax.tuned(run, (0.1, 0.5, 2.0), [0.5, 0.6], 300) == 0.5
    assert minmax.tuned(run, (0.1, 2.0), [0.5, 0.6], 50) == 0.1, "none arrives, and the first ends nearer"


@pytest.fixture(scope="module")
def game_rows():
    """Rows of matching pennies by the algorithms whose figures are claimed, and of rock-paper-scissors by two."""
    effort = contests.FULL._replace(seeds=(0, 1), tuning_seeds=(100,), inner_steps=((1, 5, 100), (1, 10)), windows=2, points=4)
    with jax.enable_x64(True):
        names = ("simultaneous GD", "PHGD", "GD, m = 1", "GD, m = 5", "GD, m = 100", "optimistic Adam, b1 = 0.9")
        rows = list(minmax.contest_rows(CONTEXT, only(contests.pennies(effort), names), effort))
        names = ("GD, m = 1", "GD, m = 10", "extragradient")
        rows += minmax.contest_rows(CONTEXT, only(contests.rock_paper_scissors(effort, 1.0), names), effort)
    return rows


def only(contest, names):
    return contest._replace(entries=tuple(one for one in contest.entries if one.algorithm.name in names))


@pytest.mark.slow("plays whole games; the steps by hand, hits and rates guard the parts")
def test_the_games_have_the_specified_figures_and_meet_their_targets(game_rows):
    found = known(game_rows)
    assert len(found) == len(game_rows), "a metric of a case stands once"
    missed = [(row.case, row.metric) for row in game_rows if row.met is False]
    assert not missed
    at = "vi/minmax/pennies/eta = 0.05882"
    assert [found[f"{at}/PHGD", metric].value for metric in minmax.STEPS] == [108, 260, 564]
    assert found[f"{at}/PHGD", minmax.EVALUATIONS].value == 520, "a Jacobian of two rows a step"
    assert found[f"{at}/GD, m = 5", minmax.EVALUATIONS].value == 5 * 309
    assert found[f"{at}/PHGD", minmax.RATE].value == pytest.approx(0.97014, abs=1e-5)
    assert found[f"{at}/PHGD", minmax.OFF].target == "<= 0.001"
    assert (f"{at}/GD, m = 1", minmax.OFF) not in found, "one gradient step is no exact solve"
    assert found["vi/minmax/pennies/step = 8/simultaneous GD", minmax.LEAST].target == "> 0.3"
    assert found["vi/minmax/pennies/eta = 0.12/PHGD", minmax.NEAREST].target == "> 0.01"
    assert ("vi/minmax/pennies/eta = 0.12/PHGD", minmax.STEPS[0]) not in found, "it never arrives"
    drawn = found["vi/minmax/pennies, drawn starts/eta = 0.05882/PHGD", minmax.STEPS[1]]
    assert drawn.seeds == (0, 1) and drawn.low is not None
    order = [row for row in game_rows if row.case.startswith("vi/minmax/order/")]
    assert [row.metric for row in order][:2] == [
        "steps to 1e-08: GD, m = 1 to GD, m = 5",
        "steps to 1e-08: GD, m = 5 to GD, m = 100",
    ]
    assert order[0].value == pytest.approx(1695 / 653, rel=1e-5)
    tuned = [row for row in game_rows if row.metric == minmax.TUNED]
    assert {row.case.split("/")[-1] for row in tuned} == {"simultaneous GD", "extragradient", "optimistic Adam, b1 = 0.9"}


def test_a_figure_that_is_off_is_seen():
    assert minmax._apart([108, 260, None], [110, 259, None]) == 2.0
    assert minmax._apart([108, 260, 564], [108, 260, None]) == 1000.0
    assert not minmax.SAME_STEPS.is_met([minmax._apart([108, None, None], [112, None, None])])


# The torus.


def made_up(inner_steps, factor, seeds=(0, 1, 2)):
    """Errors that fall by a factor a check, a little differently for each seed."""
    rows = [(15.0 + seed) * factor ** np.arange(41.0) for seed in seeds]
    return Trained(Method(inner_steps), 1e-3, seeds, np.array(rows))


def savings(base, one):
    return known(torus._saving_rows(CONTEXT, "vi/torus/x", base, one))


def test_savings_are_ratios_of_medians_and_the_targets_are_at_twenty_steps():
    base, one = made_up(None, 0.97), made_up(20, 0.5)
    found = savings(base, one)
    # 16 * 0.97^k <= 6 first at k = 33, 16 * 0.5^k at k = 2.
    assert found["vi/torus/x", torus.SAVED].value == pytest.approx(330 / 20)
    assert found["vi/torus/x", torus.COST].value == pytest.approx(20 * 20 / 330, rel=1e-5)
    assert found["vi/torus/x", torus.SAVED].met is False and found["vi/torus/x", torus.COST].met is False
    assert savings(base, made_up(5, 0.5))["vi/torus/x", torus.SAVED].target is None
    each = found["vi/torus/x", torus.SAVED_EACH]
    assert each.seeds == (0, 1, 2) and each.low == pytest.approx(310 / 20)


def test_who_never_arrives_has_saved_nothing_and_td0_counts_as_all_its_steps():
    never, soon = made_up(20, 1.0), made_up(20, 0.5)
    assert savings(made_up(None, 0.97), never)["vi/torus/x", torus.SAVED].value == 0.0
    assert savings(made_up(None, 1.0), soon)["vi/torus/x", torus.SAVED].value == pytest.approx(400 / 20)


def test_samples_are_outer_steps_times_the_batch():
    one = made_up(5, 0.5)
    rows = list(
        torus.comparison_rows(
            CONTEXT, "vi/torus/SGD 0.01", [made_up(None, 0.9), one], {"TD(0)": [1e-4], "m = 5": [3e-4]}, 4, "SGD"
        )
    )
    found = known(rows)
    assert len(found) == len(rows)
    case = "vi/torus/SGD 0.01/m = 5"
    samples = found[case, torus.SAMPLES[1]]
    assert samples.value == 20 * 128 and samples.ratio == pytest.approx(20 / 420, rel=1e-5)
    assert found[case, torus.GRADIENTS].value == 5 * 20
    assert found[case, torus.SECONDS].value == pytest.approx(20 * 3e-4)
    assert found["vi/torus/SGD 0.01/TD(0)", torus.SAMPLES[1]].target is None
    late = np.mean(one.errors[:, -4:], 1)
    assert found[case, torus.LATE].value == pytest.approx(np.median(late), rel=1e-5) and found[case, torus.LATE].ratio
    curve = [row for row in rows if row.metric == torus.RMSE and row.case.startswith(case)]
    assert [row.case.rpartition("/")[2] for row in curve][::3] == ["after 10", "after 400"] and len(curve) == 4


def trained(inner_steps):
    """Thirty outer steps of the real thing."""
    return torus.train(Method(inner_steps), "SGD", 1e-2, (0, 1), 30)


@pytest.mark.slow("compiles a second training; the loop over batches guards the first")
def test_td0_is_one_inner_step_of_sgd():
    base, one = trained(None), trained(1)
    assert base.errors.shape == (2, 4)
    np.testing.assert_allclose(one.errors, base.errors, rtol=1e-5)
    assert (base.errors[:, 0] > 14).all() and len(np.unique(base.errors)) == 8


def test_the_training_is_a_loop_over_batches():
    """A second way: an outer step at a time, the gradient of the squared error to frozen targets, for one of the seeds."""
    key = jax.random.key(1)
    params = torus._start(key)
    value, discount = torus.td.mlp_value, torus.td.torus.DISCOUNT

    @jax.jit
    def once(params, number):
        batch = torus.td.torus.transitions(jax.random.fold_in(key, number + 1), 128)
        target = batch.reward + discount * value(params, batch.next_observation)
        grads = jax.grad(lambda at: 0.5 * jnp.mean((value(at, batch.observation) - target) ** 2))(params)
        return jax.tree.map(lambda leaf, by: leaf - 1e-2 * by, params, grads)

    for number in range(30):
        params = once(params, number)
    points = torus.td.torus.points(jax.random.key(torus.POINTS_SEED), 2000)
    error = torus.td.torus.rmse(value, params, points)
    assert error == pytest.approx(trained(None).errors[1, -1], rel=1e-4)


# The chain and the counter-examples.


@pytest.fixture(scope="module")
def chain_rows():
    with jax.enable_x64(True):
        return chain.chain_rows(CONTEXT, chain.Effort(runs=4, times=(10, 100), at_once=2))


@pytest.mark.slow("iterates to 1e-6; least squares by a loop and the targets of the committed rows guard the parts")
def test_the_chain_has_the_specified_figures(chain_rows):
    found = known(chain_rows)
    assert len(found) == len(chain_rows)
    same = [row for row in chain_rows if row.metric.startswith(chain.ERROR) or row.metric == chain.DIFFERENCE]
    assert len(same) == len(chain.FACTS) + 2 * len(chain.RATES) + len(chain.EXACT_RATES) and all(row.met for row in same)
    assert found["vi/chain/m = 1", f"{chain.ERROR}the rate"].target == "<= 0.0001"
    assert found["vi/chain/m = 5", f"{chain.ERROR}the rate"].target == "<= 1e-05"
    assert found["vi/chain/m = 1", chain.STEPS].value == 417
    assert found["vi/chain/simulation/after 10/m = 1", chain.APART].value > 0
    assert ("vi/chain/simulation/after 10/LSTD", chain.APART) not in found


def test_least_squares_match_a_loop_over_transitions():
    problem = chain_100()
    rng = np.random.default_rng(0)
    here, after = rng.integers(0, 100, (2, 1, 300))
    found = chain.least_squares(problem, Walk(jnp.asarray(here), jnp.asarray(after), jnp.zeros((1, 300), bool)), (40, 300))
    matrix, vector = np.zeros((10, 10)), np.zeros(10)
    for time, (first, second) in enumerate(zip(here[0], after[0], strict=True), start=1):
        phi = problem.features[first]
        matrix += np.outer(phi, phi - 0.95 * problem.features[second])
        vector += phi * problem.chain.reward[first]
        if time in (40, 300):
            np.testing.assert_allclose(found[0, (40, 300).index(time)], np.linalg.solve(matrix, vector), rtol=1e-6)


@pytest.mark.slow("iterates until values grow; the factor of a known run guards the arithmetic")
def test_counterexamples_grow_and_shrink_as_they_should():
    norms = 3.0 * 1.02 ** np.arange(200.0)
    assert counterexamples.factor(norms) == pytest.approx(1.02, rel=1e-12)
    with jax.enable_x64(True):
        rows = counterexamples.counterexample_rows(CONTEXT, counterexamples.FULL)
    found = known(rows)
    assert len(found) == len(rows) and all(row.met is not False for row in rows)
    assert found["vi/counterexamples/Baird/TD(0), a short step", counterexamples.FACTOR].target == "> 1"
    assert found["vi/counterexamples/Baird/m = 2", counterexamples.FACTOR].target == "< 1"
    assert found["vi/counterexamples/two states, off policy/exact surrogate", counterexamples.FACTOR].value == pytest.approx(
        1.08
    )
    assert found["vi/counterexamples/spiral/best of a wide search", counterexamples.LAST].met


# Speed.


@pytest.mark.slow("compiles nine loops; the learners' own tests compare them with slow ones")
def test_loops_by_hand_do_what_the_library_does():
    tiny = speed.Effort((2,), width=8, batch=16, gradients=6, game_steps=3, size=4, solver_steps=20, windows=1)
    for runs in (speed.td_runs(tiny, 2, 3), speed.game_runs(tiny), speed.solver_runs(tiny)):
        hand, ours = (jax.tree.leaves(runs[name]()) for name in (speed.HAND, speed.OURS))
        assert len(hand) == len(ours) > 0
        for one, two in zip(hand, ours, strict=True):
            np.testing.assert_allclose(one, two, rtol=2e-4, atol=1e-5)


def test_a_ratio_is_that_of_windows_that_followed_one_another(monkeypatch):
    def windows(sides, count):
        for side, seconds in zip(sides, ([1.0, 2.0, 4.0], [1.1, 2.0, 5.2]), strict=True):
            side.seconds.extend(seconds)

    monkeypatch.setattr(speed, "take_turns", windows)
    runs = {speed.HAND: lambda: None, speed.OURS: lambda: None}
    rows = known(speed.timed_rows(CONTEXT, "vi/speed/x", runs, 10, 3))
    ratio = rows[f"vi/speed/x/{speed.OURS}", RATIO]
    assert (ratio.value, ratio.high, ratio.target, ratio.met) == (1.1, 1.3, "<= 1.2", True)
    assert rows[f"vi/speed/x/{speed.HAND}", TIME].value == pytest.approx(200.0)


# The page and the command.


def test_the_page_and_its_pictures_come_from_rows_alone(tmp_path):
    trainings = [made_up(None, 0.97), made_up(5, 0.8), made_up(20, 0.5)]
    seconds = {one.method.name: [1e-4, 2e-4] for one in trainings}
    measured = read_rows(RESULTS / "vi.jsonl")
    shown = ("vi/minmax/pennies/eta = 0.05882/", "vi/minmax/order/", "vi/chain/")
    rows = [row for row in measured if row.case.startswith(shown)]
    rows += torus.comparison_rows(CONTEXT, "vi/torus/Adam 0.001", trainings, seconds, 5, "Adam")
    rows += torus.comparison_rows(CONTEXT, f"vi/torus/Adam {torus.TUNED}", trainings, seconds, 5)
    rows += [
        CONTEXT.row("vi/counterexamples/Baird/m = 2", counterexamples.FACTOR, [0.98], target=counterexamples.SHRINKS),
        CONTEXT.row(f"vi/speed/solve/{speed.OURS}", TIME, [1.0, 2.0], unit="ms", windows=True),
        CONTEXT.row(f"vi/speed/solve/{speed.OURS}", RATIO, [1.3], against=speed.HAND, target=speed.TARGET),
        CONTEXT.row("vi/mujoco/Ant-v5/2x256/m = 5", "times fewer transitions", [4.0], unit="x", target=Target(">=", 3.0)),
        CONTEXT.row("vi/mujoco/Ant-v5/truth", "mean value", [7.0]),
    ]
    write_rows(tmp_path / "vi.jsonl", rows)
    page = docs.page("vi_results", tmp_path)
    assert tables.tables(read_rows(tmp_path / "vi.jsonl")) in page and "vi_results" not in docs.page("results", tmp_path)
    for heading in ("Hidden games", "torus", "linear chain", "diverge", "library costs", "MuJoCo"):
        assert any(line.startswith("### ") and heading in line for line in page.splitlines()), heading
    assert "| 108 / 260 / 564" in page and "16.5 (target >= 20: **no**)" in page and "4.00 (target >= 3: yes)" in page
    assert "| 1820 / 2720 / 4480" in page, "the specification's, beside ours"
    judged = [row for row in rows if row.met is not None]
    assert f"{sum(row.met is True for row in judged)} of {len(judged)} targets met" in page
    drawn = docs.pictures(tmp_path, tmp_path)
    assert [path.name for path in drawn] == ["vi_minmax.svg", "vi_torus.svg"]
    first = [path.read_bytes() for path in drawn]
    docs.pictures(tmp_path, tmp_path)
    assert [path.read_bytes() for path in drawn] == first, "the same rows give the same file"
    assert b"pennies, eta = 0.05882" in first[0] and b"Adam tuned" in first[1]
    assert all(f"]({path.name})" in page for path in drawn)


def test_a_part_alone_has_no_picture_and_still_a_page(tmp_path):
    row = CONTEXT.row(f"vi/speed/solve/{speed.OURS}", TIME, [1.0, 2.0], unit="ms", windows=True)
    write_rows(tmp_path / "vi.jsonl", [row])
    assert docs.pictures(tmp_path, tmp_path) == []
    page = docs.page("vi_results", tmp_path)
    assert "library costs" in page and "Hidden games" not in page and ".svg" not in page


def test_parts_are_those_that_were_asked_for(monkeypatch, capsys):
    def part(name):
        return lambda context, folder: iter([context.row(f"vi/{name}", "m", [1.0])])

    monkeypatch.setattr(vi, "PARTS", {name: part(name) for name in vi.PARTS})
    assert [row.case for row in vi.measure(CONTEXT)] == [f"vi/{name}" for name in vi.PARTS]
    asked = replace(CONTEXT, cases=("speed", "minmax"))
    assert [row.case for row in vi.measure(asked)] == ["vi/minmax", "vi/speed"], "in their own order"
    assert command.main(["vi", "--case", "chess"]) == 1
    assert "there is no case 'chess'. There are: minmax, torus, chain, " in capsys.readouterr().err
    assert command.main(["vi", "--case", "chain", "--json"]) == 0
    assert '"python -m benchmarks vi --case chain"' in capsys.readouterr().out


def test_without_the_simulator_the_part_says_so_and_insists_only_when_asked(monkeypatch, capsys, tmp_path):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    assert list(vi.PARTS["mujoco"](replace(CONTEXT, quick=True), tmp_path)) == []
    told = capsys.readouterr().err
    assert told.count("\n") == 1 and "pip install 'narrows[mujoco]'" in told
    with pytest.raises(ValueError, match=r"pip install 'narrows\[mujoco\]'"):
        list(vi.PARTS["mujoco"](replace(CONTEXT, cases=("mujoco",)), tmp_path))


def test_with_the_simulator_the_part_gets_its_plan_and_the_folder(monkeypatch, tmp_path):
    class Fake(ModuleType):
        FULL, QUICK = "full", "quick"

        @staticmethod
        def mujoco_rows(context, asked, folder):
            yield context.row(f"vi/mujoco/{asked}", folder.name, [1.0])

    import benchmarks._vi as folder

    monkeypatch.setattr(importlib.util, "find_spec", lambda name: object())
    monkeypatch.setitem(sys.modules, "benchmarks._vi.mujoco", Fake("mujoco"))
    monkeypatch.setattr(folder, "mujoco", Fake("mujoco"), raising=False)
    (row,) = vi.PARTS["mujoco"](replace(CONTEXT, quick=True), tmp_path)
    assert (row.case, row.metric) == ("vi/mujoco/quick", tmp_path.name)
    (row,) = vi.PARTS["mujoco"](CONTEXT, tmp_path)
    assert row.case == "vi/mujoco/full"


def test_double_precision_ends_with_the_rows_it_was_for():
    seen = []
    rows = vi.in_double(lambda context, effort: [seen.append(jnp.zeros(()).dtype)])  # pyright: ignore[reportArgumentType]
    for _ in rows(CONTEXT, None):
        assert jnp.zeros(()).dtype == jnp.float32
    assert seen == [jnp.float64]


def test_the_full_plan_covers_what_was_asked():
    games, values, ours = contests.FULL, torus.FULL, speed.FULL
    assert len(games.seeds) == 5 and not set(games.seeds) & set(games.tuning_seeds)
    assert games.inner_steps[0] == (1, 5, 20, 100) and set(games.regularisations) == {1.0, 0.2}
    assert len(values.seeds) >= 5 and not set(values.seeds) & set(values.tuning_seeds)
    assert values.inner_steps == (1, 5, 20, 50) and set(values.optimizers) == {"Adam", "SGD"} == set(values.grids)
    assert chain.FULL == chain.Effort(runs=200, times=(10, 100, 1000, 5000, 20_000), at_once=chain.FULL.at_once)
    assert ours.inner_steps == (1, 5, 20) and ours.windows >= 9 and ours.width == 256
    names = {
        entry.algorithm.name for contest in (contests.pennies(games), contests.free_pennies(games)) for entry in contest.entries
    }
    for name in ("simultaneous GD", "alternating GD", "extragradient", "optimistic Adam, b1 = 0.9", "PHGD", "GD until alpha"):
        assert name in names
    assert {"damped Gauss-Newton, 0.5", "Levenberg-Marquardt, 0.01", "normalised Adam, m = 20"} < names
