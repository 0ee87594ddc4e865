"""The published data from files, in the form they are published in; and the stand-ins for them."""

import dataclasses

import jax.numpy as jnp
import numpy as np
import pytest
from benchmarks._paper.tasks.data import AMP, DESIGN_BENCH_PROTEIN, GFP, UTR, read_classes, read_design_bench, spell
from benchmarks._paper.tasks.stand_ins import Truth, stand_in
from tests.paper_tasks.small import SMALL

from narrows.envs.sequence import SequenceState

SMALL_GFP = dataclasses.replace(GFP, min_length=7, max_length=7, published_rows=5, **SMALL)
SMALL_UTR = dataclasses.replace(UTR, min_length=6, max_length=6, **SMALL)
PEPTIDES = dataclasses.replace(AMP, min_length=4, max_length=9, published_rows=None, **SMALL)


def shards(folder, prefix, sizes, length, num_letters, seed=0):
    """Write shards as design-bench does: int32 numbers, float32 targets in a column."""
    folder.mkdir(exist_ok=True)
    rng = np.random.default_rng(seed)
    for number, size in enumerate(sizes):
        np.save(folder / f"{prefix}-x-{number}.npy", rng.integers(0, num_letters, (size, length)).astype(np.int32))
        np.save(folder / f"{prefix}-y-{number}.npy", rng.normal(size=(size, 1)).astype(np.float32))
    return folder


# --- design-bench ---


def test_shards_are_read_in_the_order_of_their_numbers(tmp_path):
    folder = shards(tmp_path / "gfp", "gfp", [2] * 11 + [1], 7, 20)
    (folder / "gfp-x-init.npy").write_bytes(b"of another suite")
    data = read_design_bench(SMALL_GFP, folder)
    ids = np.concatenate([np.load(folder / f"gfp-x-{number}.npy") for number in range(12)])
    values = np.concatenate([np.load(folder / f"gfp-y-{number}.npy") for number in range(12)]).reshape(-1)
    assert len(data) == 23 and list(data.sequences) == spell(ids, DESIGN_BENCH_PROTEIN)
    np.testing.assert_array_equal(data.targets, values.astype(np.float64))


def test_t10_the_letters_are_those_that_were_measured_and_not_the_alphabetical_ones(tmp_path):
    ids = np.array([[0, 1, 2, 3, 4, 5, 6]], np.int32)
    np.save(tmp_path / "gfp-x-0.npy", ids)
    np.save(tmp_path / "gfp-y-0.npy", np.zeros((1, 1), np.float32))
    data = read_design_bench(SMALL_GFP, tmp_path)
    assert data.sequences == ("ARNDCQE",)
    tokens = SMALL_GFP.environment().from_text(data.sequences).tokens[0].tolist()
    assert [GFP.alphabet[token] for token in tokens] == list("ARNDCQE")
    assert tokens != ids[0].tolist(), "the ids themselves are no actions of the environment"
    # UTR's order agrees with the alphabet: its ids are actions.
    assert spell(np.array([[0, 1, 2, 3]]), "ACGT") == ["ACGT"] and UTR.alphabet == UTR.design_bench_order


def test_published_sizes_are_read_as_they_are(tmp_path):
    """One row of each in full length, and flat targets as some copies have them."""
    for task, letters in ((UTR, 4), (GFP, 20)):
        folder = shards(tmp_path / task.name, task.name.lower(), [3], task.max_length, letters)
        np.save(folder / f"{task.name.lower()}-y-0.npy", np.array([1.0, 2.0, 4.0]))
        data = read_design_bench(task, folder)
        assert [len(text) for text in data.sequences] == [task.max_length] * 3
        assert data.targets.tolist() == [1.0, 2.0, 4.0]
        task.environment().from_text(data.sequences)


def saving(name, array):
    return lambda folder: np.save(folder / name, array)


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (
            lambda folder: [(folder / f"utr-{side}-0.npy").unlink() for side in "xy"],
            r"has the shards \[1\] of utr, expected 0, 1",
        ),
        (saving("utr-x-0.npy", np.zeros((4, 7), np.int32)), r"shard 0 of utr: .*\[row, 6\].*, got int32\[4, 7\]"),
        (saving("utr-x-0.npy", np.zeros((4, 6), np.float32)), r"got float32\[4, 6\]"),
        (saving("utr-x-0.npy", np.zeros((3, 6), np.int32)), r"int32\[3, 6\] and float32\[4, 1\]"),
        (saving("utr-x-0.npy", np.full((4, 6), 4, np.int32)), "letters are numbered 0 to 3"),
        (saving("utr-x-1.npy", np.where(np.arange(18).reshape(3, 6) == 13, -1, 0)), "shard 1 of utr: letters are numbered"),
        (saving("utr-y-0.npy", np.array([0, 1, np.nan, 2], np.float32)), "a finite target a row"),
        (saving("utr-y-0.npy", np.zeros((4, 2), np.float32)), r"float32\[4, 2\]"),
        (saving("utr-x-0.npy", np.array([{"an": "object"}], object)), "allow_pickle=False"),
    ],
)
def test_shards_that_cannot_be_used_are_named(tmp_path, damage, message):
    folder = shards(tmp_path / "utr", "utr", [4, 3], 6, 4)
    assert len(read_design_bench(SMALL_UTR, folder)) == 7
    damage(folder)
    with pytest.raises(ValueError, match=message):
        read_design_bench(SMALL_UTR, folder)


# --- lists ---


@pytest.fixture
def peptides(tmp_path):
    """Files in the form of the published ones: two tables of positives with groups, one FASTA of negatives with bare heads."""
    (tmp_path / "pos_D1_target.csv").write_text("sequence,group\nACDEF,11\nKKLLKK,3\nACDEF,11\n")
    (tmp_path / "pos_D2_target.csv").write_text("sequence,group\nGGGG,2\nACDEF,2\n")
    (tmp_path / "all_nonAMP.fasta").write_text(">\nMNPQ\n>\nGGGG\n>\nACDEF\nGHIKL\n>\nMNPQ\n>\nWW\n")
    return tmp_path


def test_peptides_are_read_as_they_are_published(peptides):
    data = read_classes(PEPTIDES, sorted(peptides.glob("pos*")), [peptides / "all_nonAMP.fasta"])
    assert data.sequences == ("ACDEF", "KKLLKK", "GGGG", "MNPQ", "WW"), "one too long, three repeats, one of both classes"
    assert data.targets.tolist() == [1, 1, 1, 0, 0]
    (peptides / "plain.txt").write_text("MNPQ\n\n WW\n")
    assert read_classes(PEPTIDES, sorted(peptides.glob("pos*")), [peptides / "plain.txt"]).sequences == data.sequences


def test_lists_that_cannot_be_learned_from_are_named(peptides):
    both = [peptides / "all_nonAMP.fasta"]
    with pytest.raises(ValueError, match="needs sequences of both classes, got 3 of class 1 and 0 of class 0"):
        read_classes(PEPTIDES, both, both)
    (peptides / "more.txt").write_text("ACBEF\nVVVV\n")
    with pytest.raises(ValueError, match=r"more.txt: expected sequences of the letters .*, got \['B'\]"):
        read_classes(PEPTIDES, [peptides / "more.txt"], both)


# --- stand-ins ---


def true_score(truth: Truth, text, alphabet):
    """The formula in plain loops; padding does not exist here."""
    ids = [alphabet.index(letter) for letter in text]
    arrays = {name: np.asarray(getattr(truth, name), np.float64) for name in ("weights", "pair_weights", "motif_weights")}
    total = float(truth.bias) + sum(arrays["weights"][place, letter] for place, letter in enumerate(ids))
    for pair, (one, two) in enumerate(np.asarray(truth.pairs)):
        if max(one, two) < len(ids):
            total += arrays["pair_weights"][pair, ids[one], ids[two]]
    for motif, weight in zip(np.asarray(truth.motifs), arrays["motif_weights"], strict=True):
        starts = range(len(ids) - len(motif) + 1)
        hits = [sum(ids[start + k] == letter for k, letter in enumerate(motif)) for start in starts]
        total += weight * max(hits, default=0) / len(motif)
    return float(truth.low) + (float(truth.high) - float(truth.low)) / (1.0 + np.exp(-total))


STAND_INS = {
    "UTR": dataclasses.replace(UTR, min_length=12, max_length=12),
    "AMP": dataclasses.replace(AMP, min_length=5, max_length=15),
    "GFP": dataclasses.replace(GFP, min_length=30, max_length=30),
}


@pytest.mark.parametrize("name", STAND_INS)
def test_the_truth_is_its_formula_and_the_targets_come_from_it(name):
    task = STAND_INS[name]
    data, truth = stand_in(task, 300, seed=4)
    states = task.environment().from_text(data.sequences)
    values = np.asarray(truth(states), np.float64)
    expected = [true_score(truth, text, task.alphabet) for text in data.sequences[:40]]
    np.testing.assert_allclose(values[:40], expected, rtol=1e-4, atol=1e-5)
    assert values.std() > 0.1 * float(truth.high - truth.low)
    if task.objective == "binary":
        assert set(data.targets) == {0.0, 1.0}
        # Labels are drawn with the true probabilities: their mean is within four standard errors of it.
        assert abs(data.targets.mean() - values.mean()) < 4.0 * np.sqrt(np.sum(values * (1 - values))) / 300
        assert 0.25 < data.targets.mean() < 0.6
        assert len({len(text) for text in data.sequences}) == 11
    else:
        errors = data.targets - values
        assert errors.std() == pytest.approx(0.1 * values.std(), rel=0.2)
        assert stand_in(task, 300, seed=4, noise=0.0).data.targets == pytest.approx(values, abs=1e-5)
    assert stand_in(task, 300, seed=4).data.sequences == data.sequences
    assert stand_in(task, 300, seed=5).data.sequences != data.sequences


def test_gfp_like_sequences_are_near_and_far_mutants_of_one_reference():
    data, truth = stand_in(GFP, 200, seed=1)
    letters = np.array([list(text) for text in data.sequences])
    assert letters.shape == (200, 237)
    reference = [max(set(column), key=list(column).count) for column in letters.T]
    changes = (letters != reference).sum(axis=1)
    assert changes.min() >= 1 and changes.max() <= 79
    assert [np.mean(changes <= size) for size in (3, 18)] == pytest.approx([0.32, 0.68], abs=0.1), "as many near as far"
    env = GFP.environment()
    best = float(truth(env.from_text(["".join(reference)]))[0])
    assert best == pytest.approx(1.3 + 2.8 / (1 + np.exp(-2.0)), abs=1e-4)
    dimmer = np.asarray(truth(env.from_text(data.sequences))) < best
    assert 0.5 < dimmer.mean() < 1.0, "most changes dim it, some do not"
    far = "".join(np.random.default_rng(0).choice(list(GFP.alphabet), 237))
    assert float(truth(env.from_text([far]))[0]) == pytest.approx(1.3, abs=1e-3)


def test_padding_adds_nothing_to_a_truth():
    task = STAND_INS["AMP"]
    data, truth = stand_in(task, 20, seed=4)
    states = task.environment().from_text(data.sequences)
    wider = dataclasses.replace(task, max_length=20)
    weights = jnp.pad(truth.weights, ((0, 5), (0, 0)))
    tokens = jnp.pad(states.tokens, ((0, 0), (0, 5)), constant_values=20)
    other = dataclasses.replace(truth, weights=weights)
    assert wider.max_length == tokens.shape[1]
    np.testing.assert_allclose(other(SequenceState(tokens, states.length, states.is_done)), truth(states), rtol=1e-5)
