"""An offset of the score changes nothing that is asked for: not what is learned, and nothing but itself in what is kept."""

import itertools

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from rich.console import Console
from tests.rewards.proxies import make_quality
from tests.slowly import slowly

from narrows.commands.selecting import shortlist
from narrows.commands.worst_case import WorstSettings, worst
from narrows.config import load_job
from narrows.data import Space, write_table
from narrows.envs import Sequence, Subsets, TicTacToe, perturbed
from narrows.exact import enumerate_graph, model_distribution, solve
from narrows.metrics import total_variation
from narrows.noise import Substitution
from narrows.objectives import (
    ExpectedDetailedBalance,
    MunchausenDQN,
    ProximalPolicy,
    TrajectoryBalance,
    TrajectoryGeneralMellowmax,
)
from narrows.outcomes import outcome_predictor
from narrows.policies import Tabular
from narrows.proxies import Proxy
from narrows.proxies.fitted import FittedProxy, load, save
from narrows.proxies.models.networks import Networks, make_networks
from narrows.proxies.near import Near, Neighbourhood
from narrows.rewards import Landscape, Tempered, UnwrapPerturbed
from narrows.runs import RunFolder, execute, read_rows
from narrows.scorers import HostReward
from narrows.selection import read_csv
from narrows.storage import checkpoint
from narrows.storage.archive import Archive
from narrows.training import Given, adam, reference, restore, run, trainer
from narrows.training.replay import Replay

OFFSETS = (0.0, 1e6, 1e8)
ENV = Subsets(3)
SUBSETS = ["".join(bits) for bits in itertools.product("01", repeat=3)]
EIGHTHS = np.random.default_rng(0).integers(-16, 17, 8) / 8
"""Scores that double precision holds beside each of the offsets, and single precision does not."""
WORDS = Sequence("ACG", 2, 2)
TEXTS = ["".join(word) for word in itertools.product("ACG", repeat=2)]
SCORES = np.random.default_rng(1).integers(0, 33, 9) / 16


class Moved:
    """Scores subsets by a table, and all of them an offset higher."""

    def __init__(self, table=EIGHTHS, objects=SUBSETS):
        self.table, self.offset = dict(zip(objects, table.tolist(), strict=True)), 0.0

    def __call__(self, texts):
        return [self.table[text] + self.offset for text in texts]


def policy_for(env, objective):
    return lambda key: Tabular(objective.sizes(env), key=key)


def trained(made, num_steps, state=None, every=3):
    """Return the end of a run and every log-reward that it showed."""
    seen = []

    def look(chunk):
        seen.append(np.asarray(chunk.info.log_reward))
        return {}

    state = made.init(jax.random.key(0)) if state is None else state
    state, history = run(made, state, num_steps, every=every, observers=[look])
    return state, np.concatenate(seen), [row["loss"] for row in history]


def same(one, two):
    return all(
        np.asarray(a).tobytes() == np.asarray(b).tobytes() for a, b in zip(*map(jax.tree.leaves, (one, two)), strict=True)
    )


@pytest.mark.parametrize(
    "objective",
    [
        TrajectoryGeneralMellowmax(),
        *slowly(
            "trains with four more; the offset is taken off before an objective sees it, and one objective guards that",
            *(TrajectoryBalance(), MunchausenDQN(), ProximalPolicy(), ExpectedDetailedBalance()),
        ),
    ],
    ids=lambda one: type(one).__name__,
)
def test_a_score_outside_teaches_the_same_to_the_last_bit(objective):
    score = Moved()
    replay = None if objective.needs.on_policy else Replay(16, 4, prioritised=True)
    made = trainer(
        ENV, policy_for(ENV, objective), HostReward(score, ENV, beta=2.0), objective, adam(0.05), batch_size=8, replay=replay
    )
    found = []
    for score.offset in OFFSETS:
        state, seen, losses = trained(made, 6)
        assert seen.dtype == np.float64 and np.isfinite(losses).all()
        found.append((state.model, jnp.array(losses), jnp.array(seen - 2.0 * score.offset)))
    assert same(found[0], found[1]) and same(found[0], found[2])
    assert not same(found[0][0], made.init(jax.random.key(0)).model)  # something was learned


@pytest.mark.slow("trains twice; that another offset teaches the same to the last bit guards it quickly")
def test_the_law_that_is_learned_does_not_depend_on_the_offset():
    score, objective = Moved(), TrajectoryBalance()
    made = trainer(ENV, policy_for(ENV, objective), HostReward(score, ENV), objective, adam(0.05), batch_size=16)
    graph = enumerate_graph(ENV)
    exact = solve(graph, np.array(score(ENV.to_text(graph.terminal_states))), objective.operator).log_probs
    distances = []
    for score.offset in OFFSETS[::2]:
        state, _, _ = trained(made, 300, every=100)
        distances.append(total_variation(model_distribution(state.model, ENV, graph), exact))
    assert distances[0] == distances[1] < 0.05


# --- rewards in JAX ---


def landscape(folder, offset):
    write_table(folder / f"{offset:g}.csv", TEXTS, SCORES + offset)
    return Landscape(WORDS, str(folder / f"{offset:g}.csv"), scale="none")


def proxy(folder, offset):
    space = Space("custom", "ACG", 2, 2)
    networks = Networks(make_networks(space, 2, jax.random.key(3)))
    fitted = FittedProxy((networks,), jnp.ones(1), offset + 0.3, jnp.float32(0.5), jnp.float32(1.0), space)
    save(fitted, make_quality(), folder / f"proxy-{offset:g}")
    return Proxy(WORDS, str(folder / f"proxy-{offset:g}"), kappa=0.5)


def near(folder, offset):
    scores = SCORES[:4] + offset
    return Near(landscape(folder, offset), WORDS, Neighbourhood(tuple(TEXTS[:4]), scores, penalty=0.25, limit=0))


NOISY = perturbed(WORDS, Substitution(WORDS, 0.25))


@pytest.mark.parametrize(
    ("make", "env", "objective"),
    [
        (near, WORDS, TrajectoryGeneralMellowmax()),
        *slowly(
            "trains three times with each; a table seen near what was measured guards the law quickly",
            (landscape, WORDS, TrajectoryBalance()),
            (proxy, WORDS, TrajectoryBalance()),
            (landscape, NOISY, ExpectedDetailedBalance()),  # asks for the reward of outcomes that did not come
        ),
    ],
    ids=lambda value: getattr(value, "__name__", str(value)),
)
def test_a_reward_in_jax_teaches_the_same(make, env, objective, tmp_path):
    found = []
    for offset in OFFSETS:
        reward = Tempered(make(tmp_path, offset), 2.0)
        states = WORDS.from_text(TEXTS)
        given = None if env is NOISY else Given(states, reward.in_double(states), 2)
        own = reward if env is WORDS else UnwrapPerturbed(reward)
        made = trainer(env, policy_for(env, objective), own, objective, adam(0.05), batch_size=8, given=given)
        state, seen, losses = trained(made, 4, every=2)
        assert seen.dtype == np.float64 and np.isfinite(losses).all()
        found.append((state.model, seen - 2.0 * offset, losses))
    for model, seen, losses in found[1:]:
        # An offset of 1e8 leaves a double seven digits behind the point.
        np.testing.assert_allclose(seen, found[0][1], atol=1e-6)
        np.testing.assert_allclose(losses, found[0][2], rtol=1e-4)
        assert all(np.allclose(a, b, atol=1e-4) for a, b in zip(*map(jax.tree.leaves, (model, found[0][0])), strict=True))


def test_a_reward_in_double_is_the_table_and_near_its_reference_in_single(tmp_path):
    states = WORDS.from_text(TEXTS)
    for offset in OFFSETS:
        reward = Tempered(landscape(tmp_path, offset), 2.0)
        assert np.array_equal(reward.in_double(states), 2.0 * (SCORES + offset))
        assert np.abs(reward.centred()(states)).max() <= 4.0
        np.testing.assert_allclose(reward(states), 2.0 * (SCORES + offset), rtol=1e-6)


def test_a_saved_proxy_knows_its_offset_in_double(tmp_path):
    base, moved = (proxy(tmp_path, offset).fitted.predict(TEXTS)[0] for offset in (0.0, 1e8))
    np.testing.assert_allclose(moved - 1e8, base, atol=1e-7)
    again, manifest = load(tmp_path / "proxy-1e+08")
    assert again.offset == manifest["statistics"]["offset"] == 1e8 + 0.3


def test_what_comes_out_is_predicted_on_the_scale_of_the_score(tmp_path):
    kernel = Substitution(WORDS, 0.25)
    for settings in ({}, {"max_enumerated": 1, "num": 64}):
        scores = (landscape(tmp_path, offset) for offset in (0.0, 1e8))
        base, moved = (outcome_predictor(WORDS, kernel, score, **settings)(TEXTS) for score in scores)
        np.testing.assert_allclose(moved.mean - 1e8, base.mean, atol=1e-6)
        np.testing.assert_allclose(moved.std, base.std, atol=1e-6)


# --- whole runs ---

JOB = """
[env]
name = "Sequence"
alphabet = "ACG"
min_length = 2
max_length = 2
[reward]
{reward}
beta = 2.0
[policy]
name = "Tabular"
[objective]
name = "TrajectoryBalance"
[data]
path = "measured-{offset:g}.csv"
space = "ACG"
[near]
penalty = 0.25
limit = 1
[train]
num_steps = 6
batch_size = 8
every = 3
checkpoint_every = 3
given_per_step = 2
[shortlist]
k = 3
min_distance = 1
"""


@pytest.mark.parametrize(
    "reward",
    [
        'name = "Score"',
        *slowly(
            "runs twice more; a score outside guards the files", 'name = "Landscape"\nscale = "none"\npath = "{offset:g}.csv"'
        ),
    ],
)
def test_archive_history_shortlist_and_worst_case_are_the_users(reward, tmp_path):
    kept = []
    for offset in OFFSETS[::2]:
        landscape(tmp_path, offset)
        write_table(tmp_path / f"measured-{offset:g}.csv", TEXTS[:3], SCORES[:3] + offset)
        (tmp_path / "job.toml").write_text(JOB.format(reward=reward.format(offset=offset), offset=offset))
        folder = RunFolder.create(tmp_path / f"run-{offset:g}", load_job(tmp_path / "job.toml"), {})
        score = Moved(SCORES, TEXTS) if "Score" in reward else None
        if score is not None:
            score.offset = offset
        execute(folder, score=score, console=Console(quiet=True))
        with Archive.open(folder.archive, read_only=True) as archive:
            entries, conflicts = archive.entries(), archive.conflicts()
        assert conflicts == 0
        history = [(row["mean_score"] - offset, row["top10_score"] - offset, row["loss"]) for row in read_rows(folder.history)]
        shortlist((folder.path,), by="mean")
        rows = [(row.sequence, row.score - offset) for row in read_csv(folder.shortlist)]
        doubt = worst(folder.path, settings=WorstSettings(score=score))
        figures = [doubt.mean_score.value - offset, *(row.value.value - offset for row in doubt.rows)]
        kept.append((entries.objects, entries.log_rewards - 2.0 * offset, entries.steps, history, rows, figures))
    for objects, log_rewards, steps, history, rows, figures in kept[1:]:
        assert objects == kept[0][0] and np.array_equal(steps, kept[0][2])
        np.testing.assert_allclose(log_rewards, kept[0][1], atol=1e-6)
        np.testing.assert_allclose(history, kept[0][3], rtol=1e-4, atol=1e-6)
        assert [row[0] for row in rows] == [row[0] for row in kept[0][4]]
        np.testing.assert_allclose([row[1] for row in rows], [row[1] for row in kept[0][4]], atol=1e-4)
        np.testing.assert_allclose(figures, kept[0][5], atol=1e-4)


def test_a_conflict_is_one_behind_an_offset_too(tmp_path):
    with Archive.open(tmp_path / "a.sqlite", create=True) as archive:
        for shift in (0.0, 0.25):
            archive.add(["A"], np.array([1e8 + shift]), 1, reference=1e8)
        assert archive.conflicts() == 1


# --- what the reference is ---


def host_trainer(score, env=ENV, given=None):
    objective = TrajectoryBalance()
    return trainer(env, policy_for(env, objective), HostReward(score, env), objective, adam(0.05), batch_size=4, given=given)


def test_the_reference_is_the_median_of_the_first_batch_that_has_one():
    batches = iter([[np.nan, np.inf, -np.inf, np.nan], [1e300, 1e6 + 2, np.nan, 1e6], [0.0, 1e300, 7.0, 1.0]])
    made = host_trainer(lambda texts: next(batches))
    state, found = made.init(jax.random.key(0)), []
    for _ in range(3):
        state, info = made.step(state)
        found.append((reference.number(state.reference), info.log_reward.tolist(), bool(info.is_skipped)))
    assert np.isnan(found[0][0]) and found[1][0] == found[2][0] == 1e6
    assert np.array_equal(found[0][1], [np.nan, np.inf, -np.inf, np.nan], equal_nan=True)
    # What single precision cannot hold is set aside, as ever.
    assert np.array_equal(found[1][1], [np.inf, 1e6 + 2, np.nan, 1e6], equal_nan=True)
    assert found[2][1] == [0.0, np.inf, 7.0, 1.0]
    assert [skipped for *_, skipped in found] == [True, False, False]


def test_given_objects_have_a_median_where_no_score_comes():
    given = Given(ENV.from_text(SUBSETS), EIGHTHS + 1e8, 4)
    made = host_trainer(lambda texts: [np.nan] * len(texts), given=given)
    state, info = made.step(made.init(jax.random.key(0)))
    assert reference.number(state.reference) == np.sort(EIGHTHS)[3] + 1e8
    assert not info.is_skipped and 0.0 < float(info.loss) < 100.0


def test_nothing_is_taken_off_in_a_game():
    """Zero is the draw there, half-way between the players."""
    assert reference.initial(TicTacToe(), HostReward(lambda texts: [0.0] * len(texts), TicTacToe())) is None


def test_a_run_continues_with_its_reference_and_one_from_before_there_was_any_without(tmp_path):
    score = Moved()
    score.offset = 1e6
    made = host_trainer(score)
    whole, _, _ = trained(made, 6)
    half, _, _ = trained(made, 3)
    template = jax.eval_shape(made.init, jax.random.key(0))
    saved = checkpoint.save(tmp_path / "now", half, step=3, metadata={})
    again, _, _ = trained(made, 6, restore(saved.path, template)[0])
    assert same(again.model, whole.model) and reference.number(again.reference) == reference.number(whole.reference) > 9e5
    before = made.init(jax.random.key(0))._replace(reference=None)
    saved = checkpoint.save(tmp_path / "before", before, step=0, metadata={})
    state, manifest = restore(saved.path, template)
    assert state.reference is None and manifest.step == 0
    state, info = made.step(state)
    assert state.reference is None and float(info.loss) > 1e11 and info.log_reward.min() > 9e5


def test_a_run_from_before_goes_on_with_its_table_as_it_was(tmp_path):
    objective = TrajectoryBalance()
    reward = landscape(tmp_path, 1e6)
    made = trainer(WORDS, policy_for(WORDS, objective), reward, objective, adam(0.05), batch_size=4)
    state = made.init(jax.random.key(0))
    _, info = eqx.filter_jit(made.step)(state)
    _, before = eqx.filter_jit(made.step)(state._replace(reference=None))
    assert np.abs(info.log_reward).max() <= 2.0 and np.array_equal(before.log_reward, reward(before.terminal))
