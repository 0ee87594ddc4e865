"""Kernels learned from what came: known ones are found again, counts are counts, and bad data is named."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from tests.slowly import slowly

from narrows.data import DataError
from narrows.envs import Hypergrid, Sequence, perturbed
from narrows.envs.base import AbstractEnvironment
from narrows.envs.check import check_chance
from narrows.envs.perturbation import AbstractKernel
from narrows.noise import Matrix, Observed, Substitution, fit_kernel, transitions
from narrows.noise.dataset import cross_entropy
from narrows.noise.observed import read_transitions

ENV = Sequence("ACGT", 2, 4)
LAW = np.array(
    [
        [0.8, 0.2, 0.0, 0.0, 0.0],
        [0.1, 0.6, 0.3, 0.0, 0.0],
        [0.0, 0.0, 1.0, 0.0, 0.0],
        [0.25, 0.25, 0.25, 0.25, 0.0],
        [0.0, 0.0, 0.0, 0.0, 1.0],
    ]
)
TRUTH = Matrix(ENV, LAW)


class Alternating(AbstractKernel):
    """Every other letter of a sequence over ENV's letters is drawn anew three times in four."""

    def log_probs(self, state, action):
        rate = jnp.where(state.length % 2 == 0, 0.75, 0.0)
        actions = jnp.arange(5)
        drawn = jnp.where(action == 4, actions == 4, (actions < 4) / 4)
        return jnp.log((1.0 - rate) * (actions == action) + rate * drawn)


def played(kernel, num, env: AbstractEnvironment = ENV):
    return transitions(jax.random.key(0), perturbed(env, kernel), num)


def fitted_to(seen, env: AbstractEnvironment = ENV, **settings):
    return fit_kernel(env, seen.states, seen.asked, seen.came, **settings)


def law_after(kernel, text, env=ENV):
    state = env.reset()
    for letter in text:
        state = env.step(state, jnp.asarray(env.alphabet.index(letter), jnp.int32))
    return np.exp(np.asarray(kernel.all_log_probs(state)))


def total_variation(first, second):
    return 0.5 * np.abs(first - second).sum(axis=-1)


SEEN = played(TRUTH, 4000)


# Transitions.


def test_transitions_follow_the_kernel_and_the_rules():
    states, asked, came = jax.tree.map(np.asarray, SEEN)
    assert len(asked) == len(came) == len(states.length) == 4000
    assert (states.length[0], asked.min(), asked.max()) == (0, 0, 4)
    lengths, is_end = states.length, asked == 4
    # A trajectory goes on where the last one stopped: one letter longer, or at the beginning after an end.
    np.testing.assert_array_equal(lengths[1:], np.where(is_end[:-1], 0, lengths[:-1] + 1))
    newest = states.tokens[np.arange(1, 4000), np.maximum(lengths[1:] - 1, 0)]
    np.testing.assert_array_equal(newest[~is_end[:-1]], came[:-1][~is_end[:-1]])
    for action in range(5):
        frequencies = np.bincount(came[asked == action], minlength=5) / np.sum(asked == action)
        assert total_variation(frequencies, LAW[action]) < 0.05
    # Asking is uniform over what is legal: below two letters the end is not, at four nothing else is.
    assert is_end[lengths < 2].sum() == 0 and is_end[lengths == 4].all()
    assert abs(is_end[(lengths >= 2) & (lengths < 4)].mean() - 0.2) < 0.05


def test_fewer_transitions_are_the_first_ones_and_none_is_refused():
    few = played(TRUTH, 30)
    jax.tree.map(lambda short, long: np.testing.assert_array_equal(short, long[:30]), few, SEEN)
    with pytest.raises(ValueError, match="num must be at least 1, got 0"):
        played(TRUTH, 0)


# Counting.


def test_the_table_is_the_smoothed_share_of_each_outcome():
    kernel, quality = fitted_to(SEEN, smoothing=0.7)
    counts = np.zeros((4, 4))
    for asked, came in zip(np.asarray(SEEN.asked).tolist(), np.asarray(SEEN.came).tolist(), strict=True):
        if asked < 4:
            counts[asked, came] += 1
    expected = (counts + 0.7) / (counts + 0.7).sum(axis=1, keepdims=True)
    for text in ("", "GA", "TTT"):
        law = law_after(kernel, text)
        np.testing.assert_allclose(law[:4, :4], expected, atol=1e-5)
        assert (law[:4, 4] == 0).all()
    assert law_after(kernel, "GA")[4].tolist() == [0, 0, 0, 0, 1]
    assert quality.num_fitted + quality.num_held_out == counts.sum()


def test_the_table_finds_a_known_kernel_again():
    kernel, quality = fitted_to(SEEN, truth=TRUTH)
    assert total_variation(law_after(kernel, ""), LAW)[:4].max() < 0.05
    assert quality.truth is not None
    assert quality.truth - 0.01 < quality.cross_entropy < quality.truth + 0.02
    assert quality.cross_entropy < quality.substitution - 0.1
    assert quality.as_asked == float("inf")
    check_chance(perturbed(ENV, kernel))


def test_the_quality_of_the_baselines():
    quiet = fitted_to(played(Substitution(ENV, 0.0), 400), truth=Substitution(ENV, 0.0)).quality
    assert quiet.as_asked == 0.0 and quiet.truth == 0.0 and 0.0 < quiet.cross_entropy < 0.05
    assert 0.0 < quiet.substitution < 0.01
    plain = fitted_to(played(Substitution(ENV, 0.4), 4000), truth=Substitution(ENV, 0.4)).quality
    assert plain.truth is not None
    assert abs(plain.substitution - plain.truth) < 2e-3
    assert fitted_to(SEEN).quality.truth is None


def test_cross_entropy_is_the_mean_surprise():
    part = jax.tree.map(lambda leaf: leaf[:50], SEEN)
    surprises = [-np.log(LAW[asked, came]) for asked, came in zip(part.asked.tolist(), part.came.tolist(), strict=True)]
    assert cross_entropy(TRUTH, part) == pytest.approx(np.mean(surprises), rel=1e-5)


def test_moves_without_an_alternative_teach_nothing():
    env = Hypergrid(2, 3)
    seen = played(Substitution(env, 0.5), 2000, env)
    kernel, quality = fitted_to(seen, env)
    at_border = (np.asarray(seen.states.coordinates) == 2).any(axis=1)
    is_free = ~at_border & (np.asarray(seen.asked) < 2)
    assert quality.num_fitted + quality.num_held_out == is_free.sum()
    law = np.exp(np.asarray(kernel.all_log_probs(env.reset())))
    assert total_variation(law, [[0.75, 0.25, 0], [0.25, 0.75, 0], [0, 0, 1]]).max() < 0.06
    check_chance(perturbed(env, kernel))


# The network.


def test_the_network_learns_what_hangs_on_the_state_and_the_table_cannot():
    seen = played(Alternating(), 4000)
    table = fitted_to(seen, truth=Alternating()).quality
    kernel, network = fitted_to(seen, model="network", hidden=32, max_epochs=40, truth=Alternating())
    assert network.truth is not None and network.truth == table.truth
    assert network.cross_entropy < table.cross_entropy - 0.2
    assert network.cross_entropy < network.truth + 0.06
    for text in ("", "A", "CG"):
        far = total_variation(law_after(kernel, text), law_after(Alternating(), text))[:4]
        assert far.max() < 0.12, text
    rows = [kernel.log_probs(ENV.reset(), jnp.asarray(action)) for action in range(5)]
    np.testing.assert_allclose(np.exp(rows), law_after(kernel, ""), atol=1e-6)
    check_chance(perturbed(ENV, kernel))


def test_the_same_seed_gives_the_same_network():
    first, again, other = (fitted_to(SEEN, model="network", max_epochs=3, seed=seed).kernel for seed in (1, 1, 2))
    jax.tree.map(np.testing.assert_array_equal, first, again)
    assert total_variation(law_after(first, ""), law_after(other, "")).max() > 0


@pytest.mark.slow("trains to the end; the network that learns what hangs on the state guards the training")
def test_the_network_is_no_worse_than_the_table_where_that_is_right():
    network = fitted_to(SEEN, model="network", truth=TRUTH)
    assert total_variation(law_after(network.kernel, "A"), LAW)[:4].max() < 0.06
    assert network.quality.cross_entropy < fitted_to(SEEN).quality.cross_entropy + 0.01


# What cannot be learned from.


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({"model": "forest"}, "model must be one of table, network, got 'forest'"),
        ({"smoothing": 0.0}, "smoothing must be positive and finite, got 0.0"),
        ({"held_out": 1.0}, "held_out must lie between 0 and 1, got 1.0"),
        ({"hidden": 0}, "hidden must be at least 1, got 0"),
        ({"max_epochs": 0}, "max_epochs must be at least 1, got 0"),
    ],
)
def test_settings_out_of_range_are_refused(settings, expected):
    with pytest.raises(ValueError, match=expected):
        fitted_to(SEEN, **settings)


def test_transitions_that_cannot_be_are_named():
    states, asked, came = jax.tree.map(np.array, SEEN)
    swapped = came.copy()
    swapped[7] = 4 if asked[7] < 4 else 0
    with pytest.raises(ValueError, match=rf"transition 7: asked for action {asked[7]}, action {swapped[7]} took place. Exp"):
        fit_kernel(ENV, states, asked, swapped)
    early = asked.copy()
    early[0] = 4  # no sequence ends before its first letter
    with pytest.raises(ValueError, match="transition 0: action 4 is not legal in its state"):
        fit_kernel(ENV, states, early, came)
    beyond = came.copy()
    beyond[3] = 5
    with pytest.raises(ValueError, match="outcomes must be integers from 0 to 4; number 3 is 5"):
        fit_kernel(ENV, states, asked, beyond)
    with pytest.raises(ValueError, match="expected one state, action and outcome a transition"):
        fit_kernel(ENV, states, asked[:-1], came)
    few = jax.tree.map(lambda leaf: leaf[:15], SEEN)
    with pytest.raises(ValueError, match=r"\d+ transitions in which more than one action .* are too few .* at least 20"):
        fitted_to(few)


# From a file.


def write(tmp_path, rows, header="asked,came"):
    path = tmp_path / "seen.csv"
    path.write_text("\n".join([header, *rows, ""]), encoding="utf-8")
    return str(path)


def test_a_file_is_read_as_its_transitions(tmp_path):
    seen = read_transitions(ENV, write(tmp_path, ["1,ACGT,AGGT", "", "2, CA ,CC"], header="id,Asked,came"))
    states, asked, came = jax.tree.map(np.asarray, seen)
    assert asked.tolist() == [0, 1, 2, 3, 1, 0]
    assert came.tolist() == [0, 2, 2, 3, 1, 1]
    assert states.length.tolist() == [0, 1, 2, 3, 0, 1]
    assert states.tokens[3].tolist() == [0, 2, 2, 4] and states.tokens[5].tolist() == [1, 4, 4, 4]
    assert not states.is_done.any()


@pytest.mark.parametrize(
    "model", ["table", *slowly("trains; the table guards the file, the tests above the network", "network")]
)
def test_a_kernel_is_found_again_from_a_file(tmp_path, model):
    rng = np.random.default_rng(1)
    asked = rng.integers(0, 4, (500, 4))
    came = [[rng.choice(4, p=LAW[token, :4]) for token in row] for row in asked.tolist()]
    pairs = zip(asked.tolist(), came, strict=True)
    rows = ["".join("ACGT"[token] for token in a) + "," + "".join("ACGT"[token] for token in c) for a, c in pairs]
    kernel = Observed(ENV, write(tmp_path, rows), model=model, smoothing=0.5, max_epochs=5)
    for text in ("", "CA"):
        assert total_variation(law_after(kernel, text), LAW)[:4].max() < 0.1
    np.testing.assert_allclose(np.exp(kernel.log_probs(ENV.reset(), jnp.asarray(1))), law_after(kernel, "")[1], atol=1e-6)
    assert kernel.quality.num_fitted + kernel.quality.num_held_out == 2000
    check_chance(perturbed(ENV, kernel))


@pytest.mark.parametrize(
    ("row", "expected"),
    [
        ("ACG,AC", r"row 3, column 'came': 3 letters asked for and 2 came. Each position is one transition"),
        ("ACX,ACG", r"row 3, column 'asked': sequence 'ACX' has 'X' at position 3, which is not one of 'ACGT'"),
        ("ACG,aCG", r"row 3, column 'came': sequence 'aCG' has 'a' at position 1"),
        ("ACGTA,ACGTA", r"row 3, column 'asked': sequence 'ACGTA' has 5 letters; the environment has 2 to 4"),
        ("A,A", r"row 3, column 'asked': sequence 'A' has 1 letter; the environment has 2 to 4"),
        ("ACG", r"row 3: 1 cell where the header has 2"),
    ],
)
def test_rows_that_cannot_be_used_are_named(tmp_path, row, expected):
    with pytest.raises(ValueError, match=expected):
        Observed(ENV, write(tmp_path, ["ACGT,ACGT", row]))


def test_a_few_rows_are_too_few(tmp_path):
    with pytest.raises(ValueError, match=r"seen.csv: 8 transitions in which .* are too few to learn from"):
        Observed(ENV, write(tmp_path, ["ACGT,ACGT", "TGCA,TGCA"]))


def test_letters_never_asked_for_are_named(tmp_path):
    with pytest.raises(DataError, match="no sequence asks for 'G', 'T', so what comes of it is not known. Add sequences"):
        Observed(ENV, write(tmp_path, ["ACCA,ACGT"] * 20))
    with pytest.raises(DataError, match="row 1: the first line is 'asked,got'. Expected a header with the columns asked, came"):
        Observed(ENV, write(tmp_path, ["ACGT,ACGT"], header="asked,got"))
    with pytest.raises(ValueError, match="Observed reads sequences of a Sequence environment, got Hypergrid.*fit_kernel"):
        Observed(Hypergrid(), "seen.csv")
