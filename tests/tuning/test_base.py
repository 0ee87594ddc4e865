"""What all methods share: counts, configurations, adapter files and their errors, the baselines."""

import json

import pytest

zoo = pytest.importorskip("tests.tuning.zoo", reason="PyTorch or transformers is missing: pip install 'narrows[tuning]'")
torch, tuning = zoo.torch, zoo.tuning

# far 7 and learners 5: DistilBERT with two labels.
FAR_COUNTS = {
    ("paper", 0.1): 41_456_180,
    ("paper", 0.2): 44_287_334,
    ("paper", 0.4): 49_949_642,
    ("paper", 0.6): 55_621_172,
    ("edge", 0.1): 17_620_532,
    ("nodes", 0.1): 3_427_892,
}
BASELINE_COUNTS = {
    "FullConfig": 66_955_010,
    "FreezeFfnConfig": 14_809_346,
    "BitFitConfig": 643_586,
    "HeadOnlyConfig": 592_130,
}
BASELINES = ("FullConfig", "HeadOnlyConfig", "FreezeFfnConfig", "BitFitConfig")


def far(seed=0, **settings):
    return tuning.get_far_model(zoo.build(seed=seed), tuning.FarConfig(**{"score": "random", "retention": 0.1, **settings}))


def train(model, steps=3):
    optimizer = torch.optim.AdamW([value for value in model.parameters() if value.requires_grad], 1e-2)
    for step in range(steps):
        optimizer.zero_grad()
        model(**zoo.batch(seed=step)).loss.backward()
        optimizer.step()


def logits(model):
    with torch.no_grad():
        return model(**zoo.batch(seed=99)).logits


def other_head(model):
    """The same encoder under another random head."""
    fresh = zoo.build(seed=77)
    kept = {name: value for name, value in model.state_dict().items() if not name.startswith(("classifier", "bert.pooler"))}
    fresh.load_state_dict(kept, strict=False)
    return fresh


LARGE = pytest.mark.slow("makes a DistilBERT at full size; the first preset and the formula of the counts guard the same")


@pytest.mark.parametrize(
    ("preset", "retention"), [pytest.param(*case, marks=LARGE if n else ()) for n, case in enumerate(FAR_COUNTS)]
)
def test_trained_parameters_of_far_presets(preset, retention):
    nothing_else = {"train_embeddings": False, "train_attention": False, "train_norms": False}
    config = tuning.FarConfig(**nothing_else) if preset == "nodes" else getattr(tuning.FarConfig, preset)(retention)
    model = zoo.distilbert()
    nodes = {pair.up: range(int(retention * 3072)) for pair in tuning.probe(model).pairs}
    model = tuning.get_far_model(model, config, nodes)
    assert model.get_nb_trainable_parameters() == (FAR_COUNTS[preset, retention], 66_955_010)


@pytest.mark.parametrize("name", BASELINES)
def test_trained_parameters_of_baselines(name):
    model = tuning.get_baseline_model(zoo.distilbert(), getattr(tuning, name)())
    assert model.get_nb_trainable_parameters() == (BASELINE_COUNTS[name], 66_955_010)


def test_the_count_is_the_published_formula():
    for retention, k in ((0.1, 307), (0.2, 614), (0.4, 1228), (0.6, 1843)):
        assert FAR_COUNTS["paper", retention] == 38_620_418 + 6 * (k * (2 * 768 + 1) + 768)


def test_the_printed_line(capsys):
    model = zoo.distilbert()
    nodes = {pair.up: range(307) for pair in tuning.probe(model).pairs}
    tuning.get_far_model(model, tuning.FarConfig.paper(), nodes).print_trainable_parameters()
    assert capsys.readouterr().out == "trainable params: 41,456,180 || all params: 66,955,010 || trainable%: 61.9165\n"


@pytest.mark.parametrize(
    "config",
    [
        tuning.FarConfig(retention={0: 0.1, 1: 0.5}, memory_mode={0: "keep", 1: "lean"}, ffn_pairs=[("a", "b")]),
        tuning.FarConfig.paper(0.4),
        tuning.FarConfig.edge(),
        tuning.FarConfig(train_attention=False, keep_base_copy=True),
        tuning.FarConfig.frugal(),
        tuning.FarConfig(indices={"a": [1, 2]}),
        tuning.FullConfig(memory_mode="recompute"),
        tuning.FreezeFfnConfig(train_embeddings=True),
        tuning.BitFitConfig(modules_to_save=["classifier"]),
    ],
    ids=lambda config: config.method,
)
def test_configurations_go_through_json(config):
    text = json.dumps(config.to_dict())
    again = type(config).from_dict(json.loads(text))
    assert json.dumps(again.to_dict()) == text and type(config).from_dict(again.to_dict()) == again


def test_unknown_keys_are_left_out_with_a_warning():
    with pytest.warns(UserWarning, match="FarConfig does not know colour"):
        assert tuning.FarConfig.from_dict({"retention": 0.2, "colour": "red"}).retention == 0.2


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"retention": 0.0}, "above 0 and at most 1, got 0.0"),
        ({"retention": {0: 1.5}}, "above 0 and at most 1, got 1.5"),
        ({"memory_mode": "tiny"}, "memory_mode is one of tier1, keep.*got 'tiny'"),
        ({"score": "best"}, "score is one of"),
        ({"scope": "block"}, "scope is one of layer, global"),
        ({"after_priming": "forget"}, "after_priming is one of"),
        ({"priming_optimizer": "lion"}, "priming_optimizer is one of none, sgd, adamw"),
        ({"priming_ratio": 1.5}, "between 0 and 1"),
        ({"priming_steps": -1}, "must not be negative"),
        ({"score_parts": ()}, "score_parts is empty"),
        ({"score_parts": ("middle",)}, "score_parts is one of in, bias, out"),
        ({"score_dtype": "int8"}, "score_dtype is one of"),
        ({"after_priming": "keep", "keep_base_copy": True, "priming_optimizer": "sgd"}, "would have to hold a second model"),
    ],
)
def test_wrong_settings_say_what_is_right(settings, message):
    with pytest.raises(ValueError, match=message):
        tuning.FarConfig(**settings)


@pytest.mark.parametrize("family", zoo.VARIED)
def test_an_adapter_opens_on_a_base_with_another_head(family, tmp_path):
    model = tuning.get_far_model(zoo.build(family), tuning.FarConfig(retention=0.1, score="random", train_embeddings=False))
    train(model)
    expected = logits(model)
    model.save_pretrained(tmp_path)
    base, heads = zoo.build(family), tuning.probe(zoo.build(family)).head_parameters
    with torch.no_grad():
        for name, value in base.named_parameters():
            if name in heads:
                value.add_(torch.randn_like(value))
    opened = tuning.from_pretrained(base, tmp_path)
    assert torch.equal(logits(opened), expected)
    assert not any(value.requires_grad for value in opened.parameters())
    assert torch.equal(logits(opened.merge_and_unload()), expected)


@pytest.mark.parametrize("name", BASELINES)
def test_baselines_save_open_and_unload(name, tmp_path):
    config = getattr(tuning, name)(keep_base_copy=True)
    model, base = tuning.get_baseline_model(zoo.build(), config), zoo.build()
    train(model)
    expected = logits(model)
    model.save_pretrained(tmp_path)
    assert torch.equal(logits(tuning.from_pretrained(other_head(base), tmp_path)), expected)
    assert torch.equal(logits(model.unload()), logits(base)) and not torch.equal(expected, logits(base))


def test_an_opened_adapter_can_go_on_training(tmp_path):
    model = far()
    train(model, steps=1)
    model.save_pretrained(tmp_path)
    again = tuning.from_pretrained(zoo.build(), tmp_path, is_trainable=True)
    assert again.get_nb_trainable_parameters() == model.get_nb_trainable_parameters()
    train(model)
    train(again)
    assert torch.equal(logits(again), logits(model))


def test_a_file_holds_no_frozen_tensor(tmp_path):
    model = far(train_embeddings=False)
    train(model)
    model.save_pretrained(tmp_path)
    tensors = pytest.importorskip("safetensors.torch").load_file(tmp_path / "adapter_model.safetensors")
    trained = {name for name, value in model.named_parameters() if value.requires_grad}
    assert set(tensors) == trained | {f"{pair.up}.far_index" for pair in tuning.probe(zoo.build()).pairs}
    held = sum(value.numel() for name, value in tensors.items() if not name.endswith("far_index"))
    assert held == model.get_nb_trainable_parameters()[0]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["adapter_config.json", "adapter_model.safetensors"]
    assert tensors["bert.encoder.layer.0.intermediate.dense.far_index"].dtype == torch.int32


def test_another_base_is_refused(tmp_path):
    far(train_embeddings=False).save_pretrained(tmp_path)
    base = zoo.build()
    with torch.no_grad():
        base.bert.encoder.layer[1].output.dense.weight[3, 60] += 1e-3
    with pytest.raises(ValueError, match=r"trained on another base: \d+ of \d+ frozen tensors differ"):
        tuning.from_pretrained(zoo.build(seed=1), tmp_path)
    with pytest.raises(ValueError, match=r"1 of \d+ frozen tensors differ, first bert.encoder.layer.1.output.dense.weight"):
        tuning.from_pretrained(base, tmp_path)
    tuning.from_pretrained(zoo.build(seed=1), tmp_path, strict=False)


def test_another_number_of_labels_is_refused(tmp_path):
    far().save_pretrained(tmp_path)
    with pytest.raises(ValueError, match=r"classifier.weight has shape \(2, 32\) in the file and \(5, 32\).*num_labels"):
        tuning.from_pretrained(zoo.build(num_labels=5), tmp_path)


def test_a_model_without_the_head_is_refused(tmp_path):
    far().save_pretrained(tmp_path)
    with pytest.raises(ValueError, match="classifier"):
        tuning.from_pretrained(zoo.transformers.BertModel(zoo.config("bert")).eval(), tmp_path)


def test_damaged_and_foreign_folders_say_so(tmp_path):
    with pytest.raises(ValueError, match="holds no adapter_config.json"):
        tuning.from_pretrained(zoo.build(), tmp_path)
    far().save_pretrained(tmp_path)
    config, weights = tmp_path / "adapter_config.json", tmp_path / "adapter_model.safetensors"
    described = json.loads(config.read_text())
    weights.write_bytes(weights.read_bytes()[:-10])
    with pytest.raises(ValueError, match="the file is damaged"):
        tuning.from_pretrained(zoo.build(), tmp_path)
    far().save_pretrained(tmp_path)
    config.write_text(json.dumps({**described, "method": "lora"}))
    with pytest.raises(ValueError, match="tuned with 'lora', and this version knows far, full"):
        tuning.from_pretrained(zoo.build(), tmp_path)
    config.write_text(json.dumps({**described, "format": 9}))
    with pytest.raises(ValueError, match="format 9"):
        tuning.from_pretrained(zoo.build(), tmp_path)
    config.write_text("[]")
    with pytest.raises(ValueError, match="does not describe an adapter"):
        tuning.from_pretrained(zoo.build(), tmp_path)


def test_save_merged_writes_a_plain_checkpoint(tmp_path):
    model = far()
    train(model)
    expected = logits(model)
    model.save_merged(tmp_path)
    plain = type(model).from_pretrained(tmp_path)
    assert torch.equal(logits(plain), expected) and set(plain.state_dict()) == set(zoo.build().state_dict())
    assert tuning.is_tuned(model) and torch.equal(logits(model), expected)


def test_saved_indices_choose_the_same_nodes(tmp_path):
    model = far(seed=3)
    model.save_pretrained(tmp_path)
    again = tuning.get_far_model(zoo.build(), tuning.FarConfig(indices=tuning.saved_indices(tmp_path)))
    for name, layer in tuning.base.layers(model):
        assert torch.equal(layer.index(), again.get_submodule(name).index())


def test_imported_indices_must_fit():
    name = "bert.encoder.layer.0.intermediate.dense"
    with pytest.raises(ValueError, match="indices name the feed-forwards"):
        tuning.get_far_model(zoo.build(), tuning.FarConfig(indices={name: [1]}))
    other = name.replace("0", "1")
    with pytest.raises(ValueError, match="name no node at all"):
        tuning.get_far_model(zoo.build(), tuning.FarConfig(indices={name: [], name.replace("0", "1"): []}))
    with pytest.raises(ValueError, match="indices name the feed-forwards none"):
        tuning.get_far_model(zoo.build(), tuning.FarConfig(), tuning.Selection({}))
    with pytest.raises(ValueError, match="different numbers from 0 to 63"):
        tuning.get_far_model(zoo.build(), tuning.FarConfig(indices={name: [1, 64], other: [1, 2]}))


@pytest.mark.parametrize(
    "settings",
    [
        {"retention": 0.015},
        {"retention": {0: 0.5, 1: 0.015}},
        {"retention": 0.015, "scope": "global"},
        {"retention": 0.015, "score": "grad_l1"},
        {"retention": 0.015, "score": "l1_delta", "priming_optimizer": "sgd"},
    ],
)
def test_a_share_that_is_no_node_is_refused_before_anything_is_done(settings):
    """64 nodes, of which 0.015 are 0.96."""
    config, model = tuning.FarConfig(**{"score": "random", "priming_steps": 1, **settings}), zoo.build()
    message = r"retention=0\.015 of the 64 nodes of bert\.encoder\.layer\..*less than one node.*It takes 0\.015625 at least"
    asked = []
    with pytest.raises(ValueError, match=message):
        tuning.prime(model, (asked.append(batch) or batch for batch in [zoo.batch()]), config)
    assert not asked
    with pytest.raises(ValueError, match=message if config.score == "random" else "no learner nodes were chosen"):
        tuning.get_far_model(model, config)
    with pytest.raises(ValueError, match=message):
        tuning.FarCallback(config).look(model, None)
    assert not tuning.is_tuned(model)
    tuning.get_far_model(model, tuning.FarConfig(score="random", retention=0.015625))


def test_a_share_counts_where_nodes_are_ranked_over_all_blocks():
    model = zoo.build()
    config = tuning.FarConfig(retention={0: 0.5, 1: 0.015}, scope="global", priming_steps=1)
    model = tuning.get_far_model(model, config, tuning.prime(model, [zoo.batch()], config))
    assert sum(layer.index().numel() for _, layer in tuning.base.layers(model)) == 2 * 32


def test_verbs_ask_for_a_tuned_model():
    with pytest.raises(ValueError, match="BertForSequenceClassification is not tuned"):
        tuning.merge_and_unload(zoo.build())


def test_a_model_is_its_own_base_model():
    model = far()
    assert model.get_base_model() is model
