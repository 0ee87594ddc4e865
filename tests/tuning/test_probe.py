"""What probing finds in nine families, with names given, and where there is nothing to find."""

import pytest

zoo = pytest.importorskip("tests.tuning.zoo", reason="PyTorch or transformers is missing: pip install 'narrows[tuning]'")
torch, nn, tuning = zoo.torch, zoo.nn, zoo.tuning

# Names of the first feed-forward, its activation and gate, how many feed-forwards, roles in a block, and the head.
QKVO = ("q", "k", "v", "o")
FOUND = {
    "bert": ("encoder.layer.0.intermediate.dense", "encoder.layer.0.output.dense", "gelu", "none", 2, QKVO),
    "distilbert": ("transformer.layer.0.ffn.lin1", "transformer.layer.0.ffn.lin2", "gelu", "none", 2, QKVO),
    "roberta": ("encoder.layer.0.intermediate.dense", "encoder.layer.0.output.dense", "gelu", "none", 2, QKVO),
    "esm": ("encoder.layer.0.intermediate.dense", "encoder.layer.0.output.dense", "gelu_composed", "none", 2, QKVO),
    "modernbert": ("layers.0.mlp.Wi", "layers.0.mlp.Wo", "gelu", "first", 2, ("qkv", "o")),
    "electra": ("encoder.layer.0.intermediate.dense", "encoder.layer.0.output.dense", "gelu", "none", 2, QKVO),
    "mpnet": ("encoder.layer.0.intermediate.dense", "encoder.layer.0.output.dense", "gelu", "none", 2, QKVO),
    "deberta-v2": (
        "encoder.layer.0.intermediate.dense",
        "encoder.layer.0.output.dense",
        "gelu",
        "none",
        2,
        ("q", "k", "v", "other", "other", "o"),
    ),
    "albert": (
        "encoder.albert_layer_groups.0.albert_layers.0.ffn",
        "encoder.albert_layer_groups.0.albert_layers.0.ffn_output",
        "gelu_tanh_composed",
        "none",
        1,
        QKVO,
    ),
}
HEADS = {
    "bert": {"classifier", "bert.pooler.dense"},
    "distilbert": {"pre_classifier", "classifier"},
    "modernbert": {"head", "classifier"},
    "deberta-v2": {"pooler", "classifier"},
    "albert": {"classifier", "albert.pooler"},
}


@pytest.mark.parametrize("family", zoo.VARIED)
def test_parts_are_found_by_structure(family):
    model = zoo.build(family)
    found = tuning.probe(model)
    up, down, activation, gate, count, roles = FOUND[family]
    prefix = f"{model.base_model_prefix}."
    first = found.pairs[0]
    assert (first.up, first.down) == (prefix + up, prefix + down)
    assert (first.activation, first.gate, first.is_exact, first.has_dropout) == (activation, gate, True, False)
    assert [pair.block for pair in found.pairs] == list(range(count))
    assert all(pair.is_fusible for pair in found.pairs)
    for block in range(count):
        assert tuple(linear.role for linear in found.attention if linear.block == block) == roles
    assert set(found.head) == HEADS.get(family, {"classifier"})


@pytest.mark.parametrize("family", zoo.VARIED)
def test_probing_changes_nothing(family):
    model = zoo.build(family).train()
    flags = [module.training for module in model.modules()]
    before = {name: value.clone() for name, value in model.state_dict().items()}
    state = torch.get_rng_state()
    tuning.probe(model)
    assert torch.equal(state, torch.get_rng_state())
    assert flags == [module.training for module in model.modules()]
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert not any(module._forward_hooks for module in model.modules())


def test_every_parameter_of_a_plain_bert_is_in_some_part():
    model = zoo.build("bert")
    found = tuning.probe(model)
    named = {name for name, _ in model.named_parameters()}
    assert named == found.ffn | found.attention_parameters | found.norms | found.embeddings | found.head_parameters
    assert len(found.ffn) == 8 and len(found.attention_parameters) == 16 and len(found.norms) == 10


def test_a_pooler_that_was_loaded_is_no_head(tmp_path):
    zoo.build("bert").save_pretrained(tmp_path)
    kind = zoo.transformers.BertForSequenceClassification
    assert tuning.probe(kind.from_pretrained(tmp_path)).head == ("classifier",)
    assert tuning.probe(zoo.build("bert")).head == ("classifier", "bert.pooler.dense")


@pytest.mark.parametrize(
    ("name", "known"),
    [("relu", "relu"), ("silu", "silu"), ("gelu_pytorch_tanh", "gelu_tanh"), ("gelu_new", "gelu_tanh_composed")],
)
def test_the_activation_is_told_from_others(name, known):
    pair = tuning.probe(zoo.build("bert", hidden_act=name)).pairs[0]
    assert (pair.activation, pair.is_exact) == (known, True)


def test_an_unknown_activation_needs_names_and_then_allows_no_fusing():
    model = zoo.build("bert", hidden_act="mish")
    with pytest.raises(ValueError, match=r"no feed-forward was found in BertForSequenceClassification.*ffn_pairs"):
        tuning.probe(model)
    names = [("bert.encoder.layer.1.intermediate.dense", "bert.encoder.layer.1.output.dense")]
    (pair,) = tuning.probe(model, ffn_pairs=names).pairs
    assert pair.activation is None and not pair.is_fusible


def test_dropout_between_the_two_linears_is_seen():
    assert tuning.probe(zoo.build("modernbert", mlp_dropout=0.3)).pairs[0].has_dropout


def test_names_override_where_a_feed_forward_does_not_widen():
    model = zoo.build("bert", intermediate_size=24)
    with pytest.raises(ValueError, match="no feed-forward was found"):
        tuning.probe(model)
    names = [(f"bert.encoder.layer.{i}.intermediate.dense", f"bert.encoder.layer.{i}.output.dense") for i in range(2)]
    assert [pair.activation for pair in tuning.probe(model, ffn_pairs=names).pairs] == ["gelu", "gelu"]


def test_wrong_names_are_refused():
    model = zoo.build("bert")
    with pytest.raises(ValueError, match=r"'bert.nothing', which is no linear that BertForSequenceClassification calls"):
        tuning.probe(model, ffn_pairs=[("bert.nothing", "classifier")])
    with pytest.raises(ValueError, match="a feed-forward ends at the width it began with"):
        tuning.probe(model, ffn_pairs=[("bert.encoder.layer.0.intermediate.dense", "classifier")])
    with pytest.raises(ValueError, match="modules_to_save names 'nothing'"):
        tuning.probe(model, modules_to_save=["nothing"])


def test_a_model_without_values_is_judged_by_shape():
    with torch.device("meta"):
        model = zoo.transformers.BertForSequenceClassification(zoo.config("bert"))
    found = tuning.probe(model)
    assert len(found.pairs) == 2 and found.pairs[0].activation is None and len(found.attention) == 8


def test_what_reads_no_tokens_needs_an_example():
    vision = zoo.transformers.ViTConfig(
        hidden_size=32, num_hidden_layers=2, num_attention_heads=2, intermediate_size=64, image_size=8, patch_size=4
    )
    model = zoo.transformers.ViTForImageClassification(vision).eval()
    with pytest.raises(ValueError, match="reads pixel_values.*example="):
        tuning.probe(model)
    example = {"pixel_values": torch.randn(2, 3, 8, 8)}
    assert len(tuning.probe(model, example=example).pairs) == 2
