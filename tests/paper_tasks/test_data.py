"""The published data from files: shards, tables and lists in the form they are published in; and the stand-ins for them."""

import dataclasses
import io

import jax.numpy as jnp
import numpy as np
import pytest
from benchmarks._paper.tasks.data import LeftOut, read_classes, read_design_bench, read_scored, spell
from benchmarks._paper.tasks.lists import read_list
from benchmarks._paper.tasks.stand_ins import Truth, stand_in
from benchmarks._paper.tasks.task import AMP, DESIGN_BENCH_PROTEIN, GFP, UTR
from tests.paper_tasks.small import SMALL

from narrows.data import DataError, Space
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
    assert "GFP: 23 rows from 24 sources" in data.summary() and "The published data have 5 rows." in data.summary()


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


def pickled(folder):
    np.save(folder / "utr-x-0.npy", np.array([{"an": "object"}], object))


def archive(folder):
    np.savez(folder / "utr-x-0", x=np.zeros((4, 6), np.int32))
    (folder / "utr-x-0.npz").rename(folder / "utr-x-0.npy")


def claims_too_much(folder):
    head = io.BytesIO()
    np.lib.format.write_array_header_1_0(head, {"descr": "<i4", "fortran_order": False, "shape": (10**12, 6)})
    (folder / "utr-x-0.npy").write_bytes(head.getvalue() + b"\0" * 96)


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda folder: (folder / "utr-y-1.npy").unlink(), "lacks utr-y-1.npy"),
        (lambda folder: [(folder / f"utr-{side}-0.npy").unlink() for side in "xy"], "lacks utr-x-0.npy, utr-y-0.npy"),
        (saving("utr-x-0.npy", np.zeros((4, 7), np.int32)), r"utr-x-0.npy holds int32\[4, 7\]; UTR has whole .* \[rows, 6\]"),
        (saving("utr-x-0.npy", np.zeros((4, 6), np.float32)), r"holds float32\[4, 6\]"),
        (saving("utr-x-0.npy", np.zeros((4, 6, 4), np.int32)), r"holds int32\[4, 6, 4\]"),
        (saving("utr-x-0.npy", np.full((4, 6), 4, np.int32)), r"row 0 \(the first is 0\) has the number 4 at place 0"),
        (
            saving("utr-x-1.npy", np.where(np.arange(18).reshape(3, 6) == 13, -1, 0)),
            "utr-x-1.npy: row 2 .*number -1 at place 1",
        ),
        (saving("utr-x-0.npy", np.zeros((3, 6), np.int32)), "utr-x-0.npy has 3 rows and utr-y-0.npy 4"),
        (saving("utr-x-0.npy", np.zeros((0, 6), np.int32)), "utr-x-0.npy"),
        (saving("utr-y-0.npy", np.array([0, 1, np.nan, 2], np.float32)), "utr-y-0.npy: row 2 .*has the target nan"),
        (saving("utr-y-1.npy", np.array([[0.0], [1.0], [np.inf]])), "utr-y-1.npy: row 2 .*has the target inf"),
        (
            saving("utr-y-0.npy", np.zeros((4, 2), np.float32)),
            r"holds float32\[4, 2\]; expected one floating point number a row",
        ),
        (saving("utr-y-0.npy", np.zeros((4, 1), np.int32)), r"holds int32\[4, 1\]"),
        (pickled, "utr-x-0.npy is no plain .npy array"),
        (archive, "is an archive of arrays"),
        (claims_too_much, "is no plain .npy array"),
        (lambda folder: (folder / "utr-x-0.npy").write_bytes(b""), "is no plain .npy array"),
        (lambda folder: (folder / "utr-x-0.npy").write_bytes(b"\x80\x04K\x01."), "is no plain .npy array"),
        (lambda folder: (folder / "utr-x-0.npy").write_text("sequence,score\n"), "is no plain .npy array"),
    ],
)
def test_shards_that_cannot_be_used_are_named(tmp_path, damage, message):
    folder = shards(tmp_path / "utr", "utr", [4, 3], 6, 4)
    assert len(read_design_bench(SMALL_UTR, folder)) == 7
    damage(folder)
    with pytest.raises(ValueError, match=message):
        read_design_bench(SMALL_UTR, folder)


def test_a_folder_without_shards_and_a_task_without_a_suite(tmp_path):
    with pytest.raises(ValueError, match="is no folder. Name the one with the shards utr-x-0.npy"):
        read_design_bench(UTR, tmp_path / "nowhere")
    with pytest.raises(ValueError, match="holds no shard of gfp"):
        read_design_bench(GFP, tmp_path)
    with pytest.raises(ValueError, match="design-bench has no AMP. Use read_classes"):
        read_design_bench(AMP, tmp_path)


# --- tables ---


def test_tables_are_read_as_everywhere(tmp_path):
    path = tmp_path / "utr.csv"
    path.write_text("sequence,score\nACGTAC,1.5\nTTTTTT,2\nACGTAC,1.5\n")
    data = read_scored(SMALL_UTR, path)
    assert data.sequences == ("ACGTAC", "TTTTTT") and data.targets.tolist() == [1.5, 2.0]
    assert data.left_out == (LeftOut("repeating another", 1),)
    assert "Left out: 1 row repeating another." in data.summary()
    path.write_text("utr,rl\nACGTAC,1\nACGTN!,3\nACG,2\nGGGGGG,nan\nCCCCCC,7\n")
    with pytest.raises(DataError) as caught:
        read_scored(SMALL_UTR, path, sequence_column="utr", score_column="rl")
    assert all(f"row {row}" in str(caught.value) for row in (3, 4, 5)) and "'N'" in str(caught.value)
    data = read_scored(SMALL_UTR, path, sequence_column="utr", score_column="rl", on_invalid="skip")
    assert len(data) == 2 and data.left_out == (LeftOut("refused", 3),)
    assert (tmp_path / "rejected.csv").is_file()


def test_a_table_of_classes_holds_zeros_and_ones(tmp_path):
    path = tmp_path / "amp.csv"
    path.write_text("sequence,label\nAC,1\nACDEF,0\n")
    assert read_scored(PEPTIDES, path, score_column="label").targets.tolist() == [1.0, 0.0]
    path.write_text("sequence,label\nAC,1\nACDEF,0.5\n")
    with pytest.raises(ValueError, match="row 3 has the target 0.5; AMP has classes 0 and 1"):
        read_scored(PEPTIDES, path, score_column="label")


# --- lists ---


@pytest.fixture
def peptides(tmp_path):
    """Files in the form of the published ones: two tables of positives with groups, one FASTA of negatives with bare heads."""
    (tmp_path / "pos_D1_target.csv").write_text("sequence,group\nACDEF,11\nKKLLKK,3\nACDEF,11\n")
    (tmp_path / "pos_D2_target.csv").write_text("sequence,group\nGGGG,2\nACDEF,2\n")
    (tmp_path / "all_nonAMP.fasta").write_text(">\nMNPQ\n>\nGGGG\n>\nACDEFGHIKL\n>\nMNPQ\n>\nWW\n")
    return tmp_path


def test_peptides_are_read_as_they_are_published(peptides):
    positives = [peptides / "pos_D1_target.csv", peptides / "pos_D2_target.csv"]
    data = read_classes(PEPTIDES, positives, peptides / "all_nonAMP.fasta")
    assert data.sequences == ("ACDEF", "KKLLKK", "GGGG", "MNPQ", "WW")
    assert data.targets.tolist() == [1, 1, 1, 0, 0]
    assert data.left_out == (
        LeftOut("longer than 9 letters", 1),
        LeftOut("repeating another of their class", 3),
        LeftOut("of class 0 that class 1 has too", 1),
    )
    text = data.summary()
    assert (
        "AMP: 5 rows from 3 sources, 3 of class 1 and 2 of class 0" in text and "Left out: 1 row longer than 9 letters." in text
    )
    # What came in is what is kept and what was left out.
    assert len(data) + sum(reason.num for reason in data.left_out) == 3 + 2 + 5


FORMS = {
    "one a line": "ACDEF\n\n  MNPQ \r\nWW",
    "fasta of several lines": ">first one\nACD\nEF\n\n>second\nMNPQ\n>third\nWW\n",
    "tabs": "id\tPeptide\tgroup\n1\tACDEF\tx\n2\tMNPQ\t\n\n3\tWW\tz\n",
    "semicolons and quotes": '"sequence";"note"\n"ACDEF";"a;b"\nMNPQ;\n"WW";c\n',
    "one column": "seq\nACDEF\nMNPQ\nWW\n",
}


@pytest.mark.parametrize("form", FORMS)
def test_every_form_of_list_gives_the_same_sequences(tmp_path, form):
    path = tmp_path / "list"
    path.write_bytes(FORMS[form].encode())
    assert read_list(path, Space("protein", AMP.alphabet, 1, 60)).sequences == ("ACDEF", "MNPQ", "WW")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("ACDEF\nACBEF\nXX\n", "row 2: 'ACBEF' has 'B' at position 3.*\n.*row 3: 'XX' has 'X' at position 1"),
        (">one\nACD\n>two\nacd\n", "row 3: 'acd' has 'a' at position 1"),
        (">one\n>two\nACD\n", "row 1: '' has 0 letters, expected 1 to 9"),
        ("name,group\nACD,1\n", "row 1: the first line is 'name,group'. Expected a column called sequence or"),
        ("sequence,seq\nACD,ACD\n", "expected one column called sequence or .*, got 2"),
        ("sequence,group\nACD\n", "row 2: 1 cell where the header has 2"),
        ('sequence,group\n"ACD,1\n', "row 2: a quote opens here and never closes"),
        (
            "version https://git-lfs.github.com/spec/v1\noid sha256:03\nsize 83525\n",
            "a pointer that git LFS puts.* git lfs pull",
        ),
        ("", "the file is empty"),
        ("AC\udce9\n", "row 1: byte 0xE9 at position 3 of the line is not UTF-8"),
    ],
)
def test_lists_that_cannot_be_read_are_named(tmp_path, text, message):
    path = tmp_path / "list.csv"
    path.write_bytes(text.encode("utf-8", "surrogateescape"))
    with pytest.raises(DataError, match=f"(?s)list.csv: .*{message}"):
        read_list(path, Space("protein", AMP.alphabet, 1, 9))


def test_bad_lines_can_be_passed_over_and_are_counted(peptides):
    (peptides / "more.txt").write_text("ACBEF\nVVVV\n")
    data = read_classes(PEPTIDES, peptides / "more.txt", [peptides / "all_nonAMP.fasta"], on_invalid="skip")
    assert data.sequences[0] == "VVVV" and data.left_out[0] == LeftOut("refused", 1)
    with pytest.raises(ValueError, match="must be 'refuse' or 'skip', got 'drop'"):
        read_list(peptides / "more.txt", PEPTIDES.readable, "drop")  # pyright: ignore[reportArgumentType]  # the user's typo


def test_classes_need_both_sides_and_a_task_that_has_them(peptides):
    both = peptides / "all_nonAMP.fasta"
    with pytest.raises(ValueError, match="needs sequences of both classes, got 3 of class 1 and 0 of class 0"):
        read_classes(PEPTIDES, both, both)
    with pytest.raises(ValueError, match="UTR has measurements, not classes"):
        read_classes(UTR, both, both)
    with pytest.raises(DataError, match="no such file"):
        read_classes(PEPTIDES, both, peptides / "nowhere.fasta")


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


def test_bad_stand_ins_say_why():
    with pytest.raises(ValueError, match="num_rows must be at least 1, got 0"):
        stand_in(UTR, 0)
    with pytest.raises(ValueError, match="num_rows must be at least 1, got None"):
        stand_in(dataclasses.replace(UTR, published_rows=None))
    with pytest.raises(ValueError, match="noise must be at least 0"):
        stand_in(UTR, 5, noise=-1.0)
    with pytest.raises(ValueError, match="stand-ins for UTR, AMP and GFP, not for 'mine'"):
        stand_in(dataclasses.replace(UTR, name="mine"), 5)
