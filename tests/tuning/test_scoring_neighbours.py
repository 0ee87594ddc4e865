"""A score is of its text alone: whatever stands beside it, whichever side a tokenizer pads on, whatever sees the padding."""

import json

import numpy as np
import pytest

zoo = pytest.importorskip("tests.tuning.zoo", reason="PyTorch or transformers is missing: pip install 'narrows[tuning]'")

from tests.tuning.tiny import make_encoder  # noqa: E402

from narrows.tuning.scoring import Request, Sides, TunedScorer, TuningSettings, fit_scorer, prepare  # noqa: E402  the import needs torch
from narrows.tuning.scoring.outputs import NEIGHBOURS, harmless_side, logits, predict  # noqa: E402
from narrows.tuning.scoring.reading import Reader  # noqa: E402

torch, transformers = zoo.torch, zoo.transformers

OTHERS = {  # a convolution, a Fourier transform, and a head that reads the last place
    "convbert": (transformers.ConvBertConfig, {"embedding_size": 32, "head_ratio": 1}),
    "fnet": (transformers.FNetConfig, {}),
    "xlnet": (transformers.XLNetConfig, {"d_model": 32, "n_layer": 2, "n_head": 2, "d_inner": 64}),
}
HARMLESS = {**dict.fromkeys(zoo.FAMILIES, "right"), "convbert": None, "fnet": None, "xlnet": "left"}
SIDES = Sides(np.arange(0, 40), np.arange(40, 52), np.arange(52, 72))


def config(family):
    if family not in OTHERS:
        return zoo.config(family)
    kind, own = OTHERS[family]
    return kind(**({"vocab_size": 50, "pad_token_id": 0} if family == "xlnet" else zoo.COMMON), **own)


def build(family):
    torch.manual_seed(0)
    return transformers.AutoModelForSequenceClassification.from_config(config(family)).eval()


def sequences(num=72, longest=28):
    rng = np.random.default_rng(0)
    letters = list("ACDEFGHIKLMNPQRSTVWY")
    return ["".join(rng.choice(letters, size=rng.integers(2, longest))) for _ in range(num)]


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    return {side: make_encoder(tmp_path_factory.mktemp(side), side=side) for side in ("right", "left")}


def reader_of(folder):
    return Reader(transformers.AutoTokenizer.from_pretrained(folder), 32)


@pytest.mark.parametrize("family", [*zoo.VARIED, "convbert", "fnet", "xlnet"])
def test_a_score_is_of_its_text_alone_and_so_is_a_row_of_a_training_batch(family, folders):
    model = build(family)
    ids = reader_of(folders["right"]).read(sequences(20)).ids
    alone = np.concatenate([predict(model, reader_of(folders["right"]), [one], "fp32") for one in ids])
    bound = NEIGHBOURS * np.abs(alone).max()
    assert bound < 0.02 * alone.std(0).max(), "a bound that would hide the neighbours proves nothing"
    for side, folder in folders.items():
        reader = reader_of(folder)
        assert reader.tokenizer.padding_side == side
        np.testing.assert_allclose(predict(model, reader, ids, "fp32"), alone, rtol=0, atol=bound)
        np.testing.assert_allclose(predict(model, reader, ids[::-1], "fp32")[::-1], alone, rtol=0, atol=bound)
        np.testing.assert_allclose(predict(model, reader, ids[3:9], "fp32"), alone[3:9], rtol=0, atol=bound)
        harmless = harmless_side(model, reader, ids)
        assert harmless == HARMLESS[family]
        found = logits(model, reader.batch(ids, side=harmless), harmless)
        assert found.requires_grad
        np.testing.assert_allclose(found.detach().numpy(), alone, rtol=0, atol=bound)


def fitted(folder, place, method):
    texts = sequences()
    values = np.asarray([float(sum(letter in "ACDE" for letter in text)) for text in texts])
    settings = TuningSettings(method=method, epochs=1, learning_rate=2e-3)
    assert fit_scorer(prepare(Request(str(folder), settings), texts, values, SIDES), place) is not None
    return texts, values


def test_the_side_that_a_tokenizer_pads_on_changes_neither_training_nor_scores(folders, tmp_path):
    found = []
    for side, folder in folders.items():
        texts, values = fitted(folder, tmp_path / side, "far")
        found.append((tmp_path / side / "member-0" / "model.safetensors").read_bytes())
        scorer = TunedScorer.load(tmp_path / side)
        held_out = [texts[row] for row in SIDES.test]
        alone = np.concatenate([scorer([text]).mean for text in held_out])
        np.testing.assert_allclose(scorer(held_out).mean, alone, rtol=NEIGHBOURS)
        rmse = np.sqrt(np.mean((alone - values[SIDES.test]) ** 2))
        assert scorer.about["quality"]["figures"]["rmse"] == pytest.approx(rmse, rel=NEIGHBOURS)
    assert found[0] == found[1]


@pytest.mark.parametrize("method", ["far", "lora"])
def test_an_encoder_that_sees_padding_is_trained_without_any(method, tmp_path):
    folder = make_encoder(tmp_path / "encoder", config=config("convbert"))
    fitted(folder, tmp_path / "s", method)
    (history,) = json.loads((tmp_path / "s" / "scorer.json").read_text())["about"]["histories"]
    assert np.isfinite(history[0]["loss"]) and history[0]["validation"] < 2
