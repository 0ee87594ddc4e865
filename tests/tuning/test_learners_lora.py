"""Learners as LoRA checkpoints, and back; opened by PEFT itself where it is installed."""

import json

import pytest

zoo = pytest.importorskip("tests.tuning.zoo", reason="PyTorch or transformers is missing: pip install 'narrows[tuning]'")
from tests.tuning.test_learners import learners, logits, other_head, train  # noqa: E402  the import needs torch

from narrows.tuning.learners import lora  # noqa: E402  the import needs torch

torch, tuning = zoo.torch, zoo.tuning

VARIANTS = {
    "learners alone": {"train_biases": False, "train_norms": False},
    "biases": {"train_norms": False, "scale": 0.5},
    "norms": {"rank_pattern": {"query": 2}},
    "queries": {"target_modules": ["query"], "scale": 2.0, "rank_pattern": {r"0\.attention\.self\.query": 3}},
}


def exported(folder, **settings):
    model = learners(**settings)
    train(model)
    tuning.export_lora(model, folder, save_norms=True)
    return model


@pytest.mark.parametrize("variant", list(VARIANTS))
def test_what_was_exported_comes_back(variant, tmp_path):
    model = exported(tmp_path, **VARIANTS[variant])
    again = tuning.import_lora(other_head(), tmp_path)
    torch.testing.assert_close(logits(again), logits(model), rtol=1e-5, atol=1e-6)
    trained = [{name for name, value in m.named_parameters() if value.requires_grad} for m in (again, model)]
    assert trained[0] == trained[1]


@pytest.mark.parametrize("variant", list(VARIANTS))
def test_peft_opens_the_export(variant, tmp_path):
    peft = pytest.importorskip("peft", reason="peft is not installed, and only it can say whether it opens the file")
    model = exported(tmp_path, **VARIANTS[variant])
    opened = peft.PeftModel.from_pretrained(other_head(), tmp_path).eval()
    torch.testing.assert_close(logits(opened), logits(model), rtol=1e-5, atol=1e-6)
    merged = opened.merge_and_unload()
    torch.testing.assert_close(logits(merged), logits(model), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("rslora", [False, True])
def test_an_adapter_of_peft_comes_in(rslora, tmp_path):
    peft = pytest.importorskip("peft", reason="peft is not installed, and only it can write such a file")
    config = peft.LoraConfig(
        r=4,
        lora_alpha=10,
        alpha_pattern={"query": 3},
        target_modules=["query", "value"],
        task_type="SEQ_CLS",
        use_rslora=rslora,
        init_lora_weights=False,
    )
    model = peft.get_peft_model(zoo.build(), config).eval()
    train(model)
    model.save_pretrained(tmp_path)
    again = tuning.import_lora(zoo.build(), tmp_path)
    torch.testing.assert_close(logits(again), logits(model), rtol=1e-5, atol=1e-6)


def test_names_and_scale_are_those_of_the_layout(tmp_path):
    exported(tmp_path, scale=0.5)
    described = json.loads((tmp_path / "adapter_config.json").read_text())
    assert (described["r"], described["lora_alpha"], described["bias"]) == (4, 2.0, "all")
    tensors = tuning.files.load_file(tmp_path / "adapter_model.safetensors")
    place = "base_model.model.bert.encoder.layer.0.output.dense"
    assert tensors[f"{place}.lora_A.weight"].shape == (4, zoo.INNER)
    assert tensors[f"{place}.lora_B.weight"].shape == (zoo.HIDDEN, 4) and f"{place}.base_layer.bias" in tensors
    assert not any("learner" in name or "word_embeddings" in name for name in tensors)


def test_what_a_lora_cannot_say_is_refused(tmp_path):
    primed = learners(priming_epochs=1)
    with pytest.raises(ValueError, match="priming trained 8 weights"):
        tuning.export_lora(primed, tmp_path)
    tuning.end_priming(primed)
    with pytest.raises(ValueError, match="priming trained 8 weights"):
        tuning.export_lora(primed, tmp_path)
    with pytest.raises(ValueError, match="save_norms=True"):
        tuning.export_lora(learners(), tmp_path)
    with pytest.raises(ValueError, match="tuned by 'bitfit'"):
        tuning.export_lora(tuning.get_baseline_model(zoo.build(), tuning.BitFitConfig()), tmp_path)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("change", "message"),
    [({"use_dora": True}, "use_dora"), ({"peft_type": "IA3"}, "does not describe a LoRA")],
)
def test_other_kinds_of_adapter_are_refused(change, message, tmp_path):
    exported(tmp_path)
    path = tmp_path / "adapter_config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **change}))
    with pytest.raises(ValueError, match=message):
        tuning.import_lora(zoo.build(), tmp_path)


def test_a_folder_that_does_not_fit_is_refused(tmp_path):
    with pytest.raises(ValueError, match=r"holds no adapter_config\.json"):
        tuning.import_lora(zoo.build(), tmp_path)
    exported(tmp_path)
    with pytest.raises(ValueError, match="fits no linear"):
        tuning.import_lora(zoo.build("distilbert"), tmp_path)
    with pytest.raises(ValueError, match=r"another shape, for classifier\.bias, classifier\.weight"):
        tuning.import_lora(zoo.build(num_labels=3), tmp_path)


@pytest.mark.parametrize(
    ("pattern", "scale"), [("q_lin", 2.0), (r"0\.attention\.q_lin", 2.0), (r"attention\.(q|k)_lin", 2.0), ("lin", 0.5)]
)
def test_alpha_patterns_are_regular_expressions_of_the_end_of_a_name(pattern, scale):
    described = {"lora_alpha": 2.0, "alpha_pattern": {pattern: 8.0}}
    assert lora._scale(described, "layer.0.attention.q_lin", 4) == scale


def test_a_pattern_that_is_none_is_refused():
    with pytest.raises(ValueError, match="which is no regular expression"):
        lora._scale({"lora_alpha": 2.0, "alpha_pattern": {"(": 8.0}}, "q_lin", 4)
