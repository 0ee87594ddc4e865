"""Tables of texts to scores: training that can be stopped anywhere, figures against a second way, folders that speak up."""

import importlib
import json
import math
import os
import shutil

import numpy as np
import pytest

pytest.importorskip("torch", reason="PyTorch is missing: pip install 'narrows[tuning]'")
pytest.importorskip("transformers", reason="transformers is missing: pip install 'narrows[tuning]'")

import torch
import transformers
from tests.killing import kill_everywhere
from tests.tuning import zoo
from tests.tuning.tiny import make_encoder, make_sequences

from narrows.tuning.scoring import Request, Sides, TunedScorer, TuningSettings, Watch, fit_scorer, foreseen, is_scorer, prepare
from narrows.tuning.scoring.encoder import open_encoder
from narrows.tuning.scoring.fitting import MembersBy
from narrows.tuning.scoring.quality import calibrated, matthews, quality
from narrows.tuning.scoring.reading import Reader, epoch_batches
from narrows.tuning.scoring.task import Prediction, Task, combined, sample_weights

FAST = {"method": "full", "epochs": 6, "learning_rate": 2e-3, "patience": 6}


@pytest.fixture(scope="module")
def encoder(tmp_path_factory):
    return make_encoder(tmp_path_factory.mktemp("encoder"))


@pytest.fixture(scope="module")
def table():
    texts, scores = make_sequences()
    return texts, np.asarray(scores)


LIKE_ESM = pytest.mark.slow("trains twice; test_far_model.py has every family, and one is tuned, saved and opened here")
STOPPED = pytest.mark.slow("trains; what is saved and goes on is the same for another method")
SIDES = Sides(np.arange(0, 160), np.arange(160, 190), np.arange(190, 240))


def planned(encoder, table, *, members=1, members_by: MembersBy = "heads", classes=(), **settings):
    request = Request(str(encoder), TuningSettings(**{**FAST, **settings}), members, members_by)
    texts, values = table
    return prepare(request, texts, values, SIDES, classes)


def finished(plan, folder, watch=lambda member: Watch()):
    done = fit_scorer(plan, folder, watch)
    assert done is not None
    return done


def stopping_at(steps):
    """A watch that wants to stop after so many steps."""
    seen = []
    return Watch(step=lambda done, total: seen.append(done), is_stopping=lambda: len(seen) >= steps)


def test_a_fit_that_is_killed_as_it_begins_or_ends_can_be_given_again(encoder, table, tmp_path, monkeypatch):
    plan, place = planned(encoder, table), tmp_path / "s"
    place.mkdir()

    def trained(plan, place, work, watch):
        (work / "member-0").mkdir(exist_ok=True)
        (place / ".scorer.json").write_text("{}")
        os.replace(place / ".scorer.json", place / "scorer.json")
        return "fitted"

    monkeypatch.setattr(importlib.import_module("narrows.tuning.scoring.fitting"), "_fit", trained)

    def is_done():
        return is_scorer(place) and not (place / "training").exists()

    kill_everywhere(place, lambda: fit_scorer(plan, place), is_whole=lambda: None, is_done=is_done)


def weights_in(folder):
    return {path.name: path.read_bytes() for path in sorted(folder.rglob("model.safetensors"))}


def test_an_encoder_learns_what_decides_a_score_and_the_folder_says_so(encoder, table, tmp_path):
    rows = []
    done = finished(planned(encoder, table), tmp_path / "s", lambda member: Watch(epoch=rows.append))
    assert done.quality.figures["spearman"] > 0.8
    assert done.quality.figures["rmse"] < 0.6 * done.quality.baselines["rmse"]
    assert [row["epoch"] for row in rows] == list(range(1, len(rows) + 1))
    loaded = TunedScorer.load(tmp_path / "s")
    texts, values = table
    held_out = [texts[row] for row in SIDES.test]
    found = loaded(held_out)
    # Sums of 32-bit products depend in their last bit on where the weights lie in memory.
    np.testing.assert_allclose(found.mean, done.scorer(held_out).mean, rtol=1e-6)
    rmse = math.sqrt(np.mean((found.mean - values[SIDES.test]) ** 2))
    assert rmse == pytest.approx(loaded.about["quality"]["figures"]["rmse"], rel=1e-6)
    assert np.isnan(found.std).all()
    assert not (tmp_path / "s" / "training").exists()
    assert {path.suffix for path in (tmp_path / "s").rglob("*") if path.is_file()} == {".json", ".safetensors"}


@pytest.mark.parametrize("family", [pytest.param(one, marks=() if one == "esm" else LIKE_ESM) for one in zoo.FAMILIES])
def test_every_family_is_tuned_saved_and_opened_again(family, table, tmp_path):
    encoder = make_encoder(tmp_path / "encoder", config=zoo.config(family))
    for method in ("far", "lora"):
        done = finished(planned(encoder, table, method=method, epochs=1), tmp_path / method)
        again = TunedScorer.load(tmp_path / method)(table[0][:9])
        np.testing.assert_allclose(again.mean, done.scorer(table[0][:9]).mean, rtol=1e-5)


def test_a_member_is_an_ordinary_checkpoint(encoder, table, tmp_path):
    texts, values = table
    done = finished(planned(encoder, (texts, (values > 1).astype(float)), classes=("few", "many"), epochs=2), tmp_path / "s")
    plain = transformers.AutoModelForSequenceClassification.from_pretrained(tmp_path / "s" / "member-0").eval()
    tokenizer = transformers.AutoTokenizer.from_pretrained(tmp_path / "s")
    with torch.no_grad():
        logits = plain(**tokenizer(texts[:9], return_tensors="pt", padding=True)).logits
    np.testing.assert_allclose(logits.softmax(-1).numpy(), done.scorer(texts[:9]).mean, atol=1e-6)
    assert plain.config.id2label == {0: "few", 1: "many"}


@pytest.mark.parametrize("method", [pytest.param("far", marks=STOPPED), "learner", pytest.param("lora", marks=STOPPED)])
def test_a_stopped_fit_goes_on_bit_for_bit(encoder, table, tmp_path, method):
    settings = {"method": method, "epochs": 3, "learning_rate": 1e-3}
    whole = finished(planned(encoder, table, **settings), tmp_path / "whole")
    steps = 0
    for pause in (4, 9, 3, 8):
        halved = fit_scorer(
            planned(encoder, table, **settings), tmp_path / "halved", lambda member, pause=pause: stopping_at(pause)
        )
        assert halved is None
        steps += pause
    assert steps < 30, "all pauses lie within the run"
    again = finished(planned(encoder, table, **settings), tmp_path / "halved")
    assert weights_in(tmp_path / "whole") == weights_in(tmp_path / "halved")
    texts, _ = table
    np.testing.assert_array_equal(whole.scorer(texts).mean, again.scorer(texts).mean)
    first, second = (json.loads((tmp_path / name / "scorer.json").read_text())["about"] for name in ("whole", "halved"))
    for one, other in zip(first["histories"][0], second["histories"][0], strict=True):
        assert {**one, "seconds": 0} == {**other, "seconds": 0}


def test_training_ends_early_and_goes_back_to_the_best_epoch(encoder, table, tmp_path):
    texts, values = table
    noise = np.random.default_rng(0).normal(size=len(values))  # nothing to learn: the best epoch is an early one
    done = finished(planned(encoder, (texts, noise), epochs=40, patience=2, learning_rate=3e-3), tmp_path / "s")
    history = done.scorer.about["histories"][0]
    losses = [row["validation"] for row in history]
    best = int(np.argmin(losses))
    assert len(history) == best + 1 + 2 < 40
    ids = tuple(planned(encoder, table).rows.ids[row] for row in SIDES.validation)
    from narrows.tuning.scoring.outputs import predict

    logits = torch.as_tensor(predict(done.scorer.members[0], done.scorer.reader, ids, "fp32"))
    targets = done.scorer.task.targets(noise[SIDES.validation])
    assert float(done.scorer.task.losses(logits, targets).mean()) == pytest.approx(losses[best], rel=1e-5)


@pytest.mark.parametrize("by", ["heads", pytest.param("seeds", marks=STOPPED)])
def test_members_give_a_calibrated_standard_deviation(encoder, table, tmp_path, by):
    done = finished(planned(encoder, table, members=3, members_by=by, epochs=3), tmp_path / "s")
    assert len(done.scorer.members) == (1 if by == "heads" else 3)
    texts, values = table
    found = TunedScorer.load(tmp_path / "s")([texts[row] for row in SIDES.validation])
    assert (found.std > 0).all()
    inside = np.mean(np.abs(found.mean - values[SIDES.validation]) <= found.std)
    assert inside == pytest.approx(0.6827, abs=1.5 / len(SIDES.validation))


def test_bf16_learns_as_well(encoder, table, tmp_path):
    done = finished(planned(encoder, table, precision="bf16"), tmp_path / "s")
    assert done.quality.figures["spearman"] > 0.75
    assert TunedScorer.load(tmp_path / "s").precision == "bf16"


def test_the_profile_is_of_the_method_that_was_asked(encoder, table):
    found = foreseen(planned(encoder, table, method="far", members=2), rounds=1)
    assert [row.name for row in found.rows] == ["far", "full"]
    assert found.rows[0].trained < found.rows[1].trained


def test_a_folder_in_use_is_left_alone(encoder, table, tmp_path):
    plan = planned(encoder, table)
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "notes.txt").write_text("mine")
    with pytest.raises(ValueError, match="is in use"):
        fit_scorer(plan, tmp_path / "other")
    (tmp_path / "file").write_text("mine")
    with pytest.raises(ValueError, match="is a file"):
        fit_scorer(plan, tmp_path / "file")
    fit_scorer(plan, tmp_path / "begun", lambda member: stopping_at(2))
    with pytest.raises(ValueError, match="unfinished fit of other data or other settings"):
        fit_scorer(planned(encoder, table, learning_rate=1e-4), tmp_path / "begun")
    fit_scorer(planned(encoder, table, epochs=1), tmp_path / "done")
    with pytest.raises(ValueError, match="holds a finished scorer"):
        fit_scorer(planned(encoder, table, epochs=1), tmp_path / "done")


def test_a_folder_that_is_none_or_was_changed_is_refused(encoder, table, tmp_path):
    with pytest.raises(ValueError, match=r"holds no scorer\.json"):
        TunedScorer.load(tmp_path)
    fit_scorer(planned(encoder, table, epochs=1), tmp_path / "s")
    assert is_scorer(tmp_path / "s") and not is_scorer(tmp_path)
    weights = tmp_path / "s" / "member-0" / "model.safetensors"
    data = bytearray(weights.read_bytes())
    data[-1] ^= 1
    weights.write_bytes(bytes(data))
    with pytest.raises(ValueError, match=r"model\.safetensors is not the file that was written"):
        TunedScorer.load(tmp_path / "s")
    record = tmp_path / "s" / "scorer.json"
    fields = json.loads(record.read_text(encoding="utf-8"))
    wrong = {"format": 2, "members": 10**9, "std_scale": "wide", "reader": {}, "task": {}, "sha256": {}, "std_scale ": 1.0}
    texts = ["{", "[]", *(json.dumps({**fields, "checksum": None, name: value}) for name, value in wrong.items())]
    texts.append(json.dumps({**fields, "checksum": None, "sha256": {**fields["sha256"], "../s/scorer.json": "0"}}))
    texts.append(json.dumps({**fields, "std_scale": fields["std_scale"] * 2}))
    for text in texts:
        record.write_text(text, encoding="utf-8")
        with pytest.raises(ValueError, match=r"scorer\.json is damaged \(.*Tune again"):
            TunedScorer.load(tmp_path / "s")


def test_a_damaged_checkpoint_is_said_and_not_used(encoder, table, tmp_path):
    fit_scorer(planned(encoder, table), tmp_path / "s", lambda member: stopping_at(3))
    state = next((tmp_path / "s" / "training" / "member-0").glob("state-*"))
    (state / "progress.json").write_text("{}")
    with pytest.raises(ValueError, match="is damaged"):
        fit_scorer(planned(encoder, table), tmp_path / "s")


def test_a_training_that_diverges_says_so_and_keeps_what_was_saved(encoder, table, tmp_path, monkeypatch):
    fit_scorer(planned(encoder, table), tmp_path / "s", lambda member: stopping_at(3))
    before = weights_in(tmp_path / "s")
    monkeypatch.setattr(Task, "losses", lambda task, logits, targets: logits * math.nan)
    with pytest.raises(ValueError, match="the loss of step 4 is nan: training diverged"):
        fit_scorer(planned(encoder, table), tmp_path / "s")
    assert weights_in(tmp_path / "s") == before


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda texts, values: (texts[:10], values[:10]), "10 rows are too few"),
        (lambda texts, values: ([" ", *texts[1:]], values), "text 0 is empty"),
        (lambda texts, values: (texts, np.where(np.arange(len(values)) == 7, np.nan, values)), "value 7 is not finite"),
        (lambda texts, values: (texts, np.zeros_like(values)), "nothing to learn"),
        (lambda texts, values: (texts, values[:-1]), "one value for each"),
        (lambda texts, values: ([text.lower() for text in texts], values), "does not know most"),
    ],
)
def test_rows_that_cannot_be_learned_from_are_refused(encoder, table, change, message):
    texts, values = change(*table)
    sides = Sides(*(rows[rows < len(texts)] for rows in SIDES))
    with pytest.raises(ValueError, match=message):
        prepare(Request(str(encoder), TuningSettings(**FAST)), texts, np.asarray(values), sides)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"method": "adapter"}, "there is no method 'adapter'"),
        ({"method": "lora", "retention": 0.1}, "retention is about far"),
        ({"method": "far", "rank": 4}, "rank is about learner and lora"),
        ({"epochs": 0}, "epochs must be at least 1"),
        ({"learning_rate": 3.0}, "learning_rate must be between"),
        ({"precision": "fp8"}, "fp32 or bf16"),
    ],
)
def test_settings_that_make_no_sense_are_refused(settings, message):
    with pytest.raises(ValueError, match=message):
        TuningSettings(**settings)


def test_an_encoder_that_is_none_is_refused_with_a_way_out(encoder, tmp_path, monkeypatch):
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match=r"folder without config\.json"):
        open_encoder(tmp_path / "empty", 1, 0, "regression")
    with pytest.raises(ValueError, match="there is no folder"):
        open_encoder("./nowhere", 1, 0, "regression")
    (tmp_path / "file.bin").write_bytes(b"x")
    with pytest.raises(ValueError, match="is a file"):
        open_encoder(tmp_path / "file.bin", 1, 0, "regression")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(ValueError, match="copy the model's folder to this machine and pass its path"):
        open_encoder("nobody-here/no-such-model", 1, 0, "regression")


def test_pickles_and_code_of_a_model_are_never_opened(encoder, tmp_path):
    pickled = shutil.copytree(encoder, tmp_path / "pickled")
    (pickled / "model.safetensors").unlink()
    torch.save({}, pickled / "pytorch_model.bin")
    with pytest.raises(ValueError, match="no weights in safetensors"):
        open_encoder(pickled, 1, 0, "regression")
    coded = shutil.copytree(encoder, tmp_path / "coded")
    config = json.loads((coded / "config.json").read_text())
    classes = {"AutoConfig": "own.OwnConfig", "AutoModelForSequenceClassification": "own.OwnModel"}
    (coded / "config.json").write_text(json.dumps({**config, "model_type": "own", "auto_map": classes}))
    (coded / "own.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')\n")
    with pytest.raises(ValueError, match="brings code of its own"):
        open_encoder(coded, 1, 0, "regression")
    assert not (tmp_path / "ran").exists()


def test_an_epoch_has_every_row_once_in_an_order_of_its_own():
    lengths, rows = np.arange(1000) % 37, np.arange(5, 998)
    first, second = ([batch.tolist() for batch in epoch_batches(lengths, rows, 16, 0, epoch)] for epoch in (0, 1))
    assert sorted(sum(first, [])) == rows.tolist() == sorted(sum(second, []))
    assert first != second
    assert first == [batch.tolist() for batch in epoch_batches(lengths, rows, 16, 0, 0)]
    spread = np.mean([np.ptp(lengths[batch]) for batch in first])
    assert spread < 5, "texts of like lengths are together"


def test_texts_are_cut_and_spaced(encoder):
    tokenizer = transformers.AutoTokenizer.from_pretrained(encoder)
    found = Reader(tokenizer, 6).read(["ACDEFGH", "AC"])
    assert [len(ids) for ids in found.ids] == [6, 4]
    assert found.num_cut == 1
    batch = Reader(tokenizer, 6).batch(found.ids)
    assert batch["attention_mask"].sum(1).tolist() == [6, 4]
    unknown = tokenizer.unk_token_id
    assert Reader(tokenizer, 20, is_spaced=True).read(["ACD"]).ids[0].count(unknown) == 2  # this one has no blank


def test_losses_and_guesses_of_heads_are_those_of_each_alone():
    rng = np.random.default_rng(0)
    logits, classes = rng.normal(size=(7, 6)), np.array([0, 2, 1, 1, 0, 2, 2])
    task = Task("classification", ("a", "b", "c"), heads=2)
    losses = task.losses(torch.as_tensor(logits), task.targets(classes.astype(float))).numpy()
    guesses = task.guesses(logits)
    for head in range(2):
        own = logits[:, 3 * head : 3 * head + 3]
        shares = np.exp(own) / np.exp(own).sum(1, keepdims=True)
        np.testing.assert_allclose(guesses[head], shares, rtol=1e-12)
        np.testing.assert_allclose(losses[:, head], -np.log(shares[np.arange(7), classes]), rtol=1e-5)
    scores = Task("regression", offset=3.0, scale=2.0, heads=6)
    values = rng.normal(size=7)
    np.testing.assert_allclose(
        scores.losses(torch.as_tensor(logits), scores.targets(values)).numpy(),
        (logits - (values[:, None] - 3) / 2) ** 2,
        rtol=1e-5,
    )
    found = combined(scores, scores.guesses(logits), 1.5)
    np.testing.assert_allclose(found.mean, 3 + 2 * logits.mean(1))
    np.testing.assert_allclose(found.std, 1.5 * 2 * logits.std(1, ddof=1))


def test_every_head_draws_its_own_sample():
    drawn = sample_weights(4000, 3, 0).numpy()
    np.testing.assert_allclose(drawn.mean(0), 1.0, atol=0.06)
    np.testing.assert_allclose(drawn.var(0), 1.0, atol=0.1)
    assert abs(np.corrcoef(drawn.T)[0, 1]) < 0.06
    assert (sample_weights(9, 1, 0) == 1).all()


def test_figures_of_classes_agree_with_their_definitions():
    rng = np.random.default_rng(1)
    truth, guess = rng.integers(0, 2, 200), rng.integers(0, 2, 200)
    tp, tn = np.sum((truth == 1) & (guess == 1)), np.sum((truth == 0) & (guess == 0))
    fp, fn = np.sum((truth == 0) & (guess == 1)), np.sum((truth == 1) & (guess == 0))
    wanted = (tp * tn - fp * fn) / math.sqrt((tp + fp) * (tp + fn) * (tn + fp) * (tn + fn))
    assert matthews(guess, truth, 2) == pytest.approx(wanted, rel=1e-12)
    assert matthews(np.zeros(9, int), rng.integers(0, 2, 9), 2) == 0.0
    task = Task("classification", ("a", "b"))
    shares = np.stack([1 - guess, guess], 1) * 0.8 + 0.1
    found = quality(task, Prediction(shares, shares * 0), truth.astype(float), np.array([1.0, 1.0, 0.0]))
    assert found.figures["accuracy"] == np.mean(truth == guess)
    assert found.baselines["accuracy"] == np.mean(truth == 1)
    assert found.figures["log loss"] == pytest.approx(-np.mean(np.log(np.where(truth == guess, 0.9, 0.1))))


def test_calibration_covers_two_thirds():
    rng = np.random.default_rng(2)
    std = rng.uniform(0.5, 2, 3000)
    truth = 3 * std * rng.normal(size=3000)
    assert calibrated(Prediction(np.zeros(3000), std), truth) == pytest.approx(3, rel=0.06)


def test_a_folder_from_elsewhere_is_data(encoder, table, tmp_path):
    """Links are not followed, a pointer names a checkpoint beside it, and every file of the tokenizer is in the identity."""
    begun = tmp_path / "begun"
    fit_scorer(planned(encoder, table), begun, lambda member: stopping_at(2))
    (pointer,) = begun.rglob("current")
    before = pointer.read_text(encoding="utf-8")
    pointer.write_text("../../../elsewhere", encoding="utf-8")
    with pytest.raises(ValueError, match="current is damaged: it names '../../../elsewhere', no checkpoint"):
        fit_scorer(planned(encoder, table), begun)
    pointer.write_text(before, encoding="utf-8")
    (begun / "link").symlink_to(tmp_path)
    with pytest.raises(ValueError, match="link is a symbolic link where only a plain file may be"):
        fit_scorer(planned(encoder, table), begun)
    (begun / "link").unlink()
    done = finished(planned(encoder, table), begun)
    identity = TunedScorer.load(begun).identity
    listed = json.loads((begun / "scorer.json").read_text(encoding="utf-8"))["sha256"]
    assert {path.name for path in begun.iterdir() if path.is_file()} == {"scorer.json", *(n for n in listed if "/" not in n)}
    (begun / "vocab.txt").write_text("[PAD]\n", encoding="utf-8")  # as a tokenizer of another kind would read it
    assert TunedScorer.load(begun).identity != identity
    (begun / "vocab.txt").unlink()
    (begun / "member-0" / "model.safetensors").unlink()
    (begun / "member-0" / "model.safetensors").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(ValueError, match="model.safetensors is a symbolic link"):
        TunedScorer.load(begun)
    assert done.scorer is not None
