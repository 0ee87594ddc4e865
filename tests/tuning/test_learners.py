"""Learners on models: identity, counts, frozen tensors, merging, files, mechanics."""

import copy
import json
import pickle

import pytest

zoo = pytest.importorskip("tests.tuning.zoo", reason="PyTorch or transformers is missing: pip install 'narrows[tuning]'")
torch, tuning, nn = zoo.torch, zoo.tuning, zoo.nn

# learners 5: DistilBERT with two labels.
COUNTS = {8: 1_317_122, 64: 5_961_986, 256: 21_887_234}
BASE = 66_955_010


def learners(model=None, **settings):
    model = zoo.build() if model is None else model
    return tuning.get_learner_model(model, tuning.LearnerConfig(**{"r": 4, "priming_epochs": 0, **settings}))


def train(model, steps=3, rate=1e-2, optimizer=None, **settings):
    trained = [value for value in model.parameters() if value.requires_grad]
    optimizer = torch.optim.AdamW(trained, rate, **settings) if optimizer is None else optimizer
    for step in range(steps):
        optimizer.zero_grad()
        model(**zoo.batch(seed=step)).loss.backward()
        optimizer.step()
    return optimizer


def logits(model, data=None):
    with torch.no_grad():
        return model(**(zoo.batch(seed=99) if data is None else data)).logits


def other_head():
    """The same encoder under another random head."""
    fresh = zoo.build(seed=77)
    kept = {
        name: value for name, value in zoo.build().state_dict().items() if not name.startswith(("classifier", "bert.pooler"))
    }
    fresh.load_state_dict(kept, strict=False)
    return fresh


def weights_of(model):
    return {name: value.detach().clone() for name, value in model.named_parameters()}


LARGE = pytest.mark.slow("makes a DistilBERT at full size; another rank has the same formula")


@pytest.mark.parametrize("r", [pytest.param(r, marks=LARGE if n else ()) for n, r in enumerate(COUNTS)])
def test_counts_are_the_published_ones(r):
    model = learners(zoo.distilbert(), r=r)
    assert model.get_nb_trainable_parameters() == (COUNTS[r], BASE + 6 * 18 * 768 * r)


def test_counts_in_priming_and_with_the_first_matrix_frozen():
    model = learners(zoo.distilbert(), r=64, priming_epochs=2)
    assert model.get_nb_trainable_parameters() == (20_117_762, 72_263_426)
    model = learners(zoo.distilbert(), r=64, train_down_projection=False)
    assert model.get_nb_trainable_parameters() == (3_307_778, 72_263_426)


@pytest.mark.parametrize("family", zoo.VARIED)
@pytest.mark.parametrize("mode", ["plain", "lean"])
def test_fresh_learners_change_no_bit_and_lean_gradients_are_the_plain_ones(family, mode, recwarn):
    before = logits(zoo.build(family))
    model = learners(zoo.build(family), memory_mode=mode)
    assert torch.equal(logits(model), before)
    assert not [warning for warning in recwarn if "instead of 'lean'" in str(warning.message)]
    for name, layer in model.named_modules():
        if hasattr(layer, "learner_up"):
            with torch.no_grad():
                layer.learner_up.normal_(0, 0.05, generator=torch.Generator().manual_seed(len(name)))
    plain = learners(zoo.build(family))
    plain.load_state_dict(model.state_dict())
    loss, wanted = model(**zoo.batch()).loss, plain(**zoo.batch()).loss
    assert torch.equal(loss, wanted) or mode == "lean" and float(loss.detach() - wanted.detach()) == pytest.approx(0, abs=1e-6)
    loss.backward()
    wanted.backward()
    for (name, value), (_, other) in zip(model.named_parameters(), plain.named_parameters(), strict=True):
        assert (value.grad is None) == (other.grad is None), name
        if value.grad is not None:
            torch.testing.assert_close(value.grad, other.grad, rtol=1e-4, atol=1e-7, msg=name)


def test_adamw_leaves_frozen_tensors_alone():
    model = learners()
    before = weights_of(model)
    optimizer = train(model, steps=20, weight_decay=0.01)
    after = weights_of(model)
    moved = {name for name in before if not torch.equal(before[name], after[name])}
    assert all(
        value.requires_grad == (name in moved)
        for name, value in model.named_parameters()
        if "key" not in name or "bias" not in name
    )
    assert not any("word_embeddings" in name or name.endswith("dense.weight") and "encoder" in name for name in moved)
    numbers = sum(v.numel() for state in optimizer.state.values() for k, v in state.items() if k != "step")
    assert numbers == 2 * model.get_nb_trainable_parameters()[0]
    assert all(parameter.requires_grad for parameter in optimizer.state)


def test_merging_gives_a_plain_model_that_computes_the_same(tmp_path):
    model = learners(train_down_projection=True, scale=0.5)
    train(model)
    wanted = logits(model)
    model.save_merged(tmp_path)
    fresh = type(model).from_pretrained(tmp_path).eval()
    # A second way: the outer product added by hand.
    layer = model.bert.encoder.layer[0].output.dense
    product = layer.weight + 0.5 * torch.einsum("or,ri->oi", layer.learner_up, layer.learner_down)
    merged = model.merge_and_unload(safe_merge=True)
    assert merged is model and not tuning.is_tuned(merged) and type(merged.bert.encoder.layer[0].output.dense) is nn.Linear
    torch.testing.assert_close(merged.bert.encoder.layer[0].output.dense.weight, product)
    base = zoo.build().state_dict()
    assert {k: (v.shape, v.dtype) for k, v in merged.state_dict().items()} == {k: (v.shape, v.dtype) for k, v in base.items()}
    assert float((logits(merged) - wanted).abs().max()) <= 1e-5 * float(wanted.abs().max())
    assert torch.equal(logits(fresh), logits(merged))
    assert all(value.requires_grad for value in merged.parameters())


def test_a_safe_merge_refuses_what_is_not_finite():
    model = learners()
    with torch.no_grad():
        model.bert.encoder.layer[1].output.dense.learner_up[0, 0] = float("inf")
    with pytest.raises(ValueError, match="nan or infinity in bert.encoder.layer.1.output.dense.weight"):
        model.merge_and_unload(safe_merge=True)
    assert tuning.is_tuned(model)


@pytest.mark.parametrize("init", ["uniform", "swapped", "gaussian", "nonzero"])
def test_the_base_comes_back_bit_by_bit(init):
    base = zoo.build()
    before = logits(base)
    model = learners(keep_base_copy=True, init=init, priming_epochs=1)
    assert torch.equal(logits(model), before) == (init != "nonzero")
    train(model)
    learned = logits(model)
    with model.disable_adapter():
        assert torch.equal(logits(model), before)
    assert torch.equal(logits(model), learned) and not torch.equal(learned, before)
    plain = model.unload()
    assert all(torch.equal(value, base.state_dict()[name]) for name, value in plain.state_dict().items())
    with pytest.raises(ValueError, match="keep_base_copy=True"):
        learners().unload()


@pytest.mark.parametrize("phase", ["none", "first", "second"])
def test_an_adapter_opens_on_a_base_with_another_head(phase, tmp_path, recwarn):
    model = learners(priming_epochs=0 if phase == "none" else 1)
    train(model)
    if phase == "second":
        tuning.end_priming(model)
        train(model)
    model.save_pretrained(tmp_path)
    assert bool([w for w in recwarn if "priming_epochs=0" in str(w.message)]) == (phase == "second")
    opened = tuning.from_pretrained(other_head(), tmp_path)
    assert torch.equal(logits(opened), logits(model)) and tuning.is_priming(opened) == (phase == "first")
    trainable = tuning.from_pretrained(other_head(), tmp_path, is_trainable=True)
    wanted = {name for name, value in model.named_parameters() if value.requires_grad}
    assert {name for name, value in trainable.named_parameters() if value.requires_grad} == wanted
    held = set(tuning.files.read_adapter(tmp_path).tensors)
    attention = {name for name in wanted | held if "attention" in name and name.endswith("weight") and "LayerNorm" not in name}
    assert held >= wanted and bool(attention) == (phase != "none") and not any("word_embeddings" in name for name in held)
    assert not any(name.endswith(("intermediate.dense.weight",)) for name in held)
    with pytest.raises(ValueError, match="trained on another base"):
        tuning.from_pretrained(zoo.build(seed=5), tmp_path)
    changed = json.loads((tmp_path / "adapter_config.json").read_text())
    assert changed["method"] == "learner"


def test_targets_by_role_name_and_rank():
    def ranks(family="bert", **settings):
        model = learners(zoo.build(family), **settings)
        return {name: m.learner_down.shape[0] for name, m in model.named_modules() if hasattr(m, "learner_down")}

    assert len(ranks()) == 12 and len(ranks(target_modules="all-linear")) == 12
    assert set(ranks("distilbert", target_roles=("q", "v"))) == {
        f"distilbert.transformer.layer.{i}.attention.{leaf}_lin" for i in range(2) for leaf in "qv"
    }
    assert set(ranks(target_modules=["query"])) == {f"bert.encoder.layer.{i}.attention.self.query" for i in range(2)}
    assert set(ranks(target_modules=r".*layer\.1.*(query|value)", exclude_modules=["value"])) == {
        "bert.encoder.layer.1.attention.self.query"
    }
    assert len(ranks(layers_to_transform=[1])) == 6
    mixed = ranks(rank_pattern={r"1\.attention\.self\.query": 2, "key": 3})
    assert sorted(mixed.values()) == [2, 3, 3, *[4] * 9]
    fused = learners(zoo.build("modernbert"))
    shapes = {m.learner_up.shape[0] for m in fused.modules() if hasattr(m, "learner_up")}
    assert shapes == {zoo.HIDDEN, 2 * zoo.INNER, 3 * zoo.HIDDEN}


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"r": 0}, "at least 1, got 0"),
        ({"r": 0.5}, "a whole number, at least 1, got 0.5 for 'r'"),
        ({"r": 1.5}, "a whole number, at least 1, got 1.5"),
        ({"rank_pattern": {"query": 0}}, "at least 1, got 0 for 'query'"),
        ({"scale": 0.0}, "not 0, which would train no learner"),
        ({"init": "zero"}, "init is one of uniform"),
        ({"memory_mode": "tiny"}, "memory_mode is one of plain, lean"),
        ({"target_roles": ("x",)}, "target_roles is one of"),
        ({"priming_trains": "all"}, "priming_trains is one of"),
        ({"priming_epochs": -1}, "must not be negative"),
        ({"dropout": 1.0}, "probability below 1"),
        ({"dropout": 0.1, "memory_mode": "lean"}, "another mask"),
        ({"init": "swapped", "train_down_projection": False}, "nothing would be learned"),
        ({"target_modules": ["classifier"]}, "fits no linear outside the head"),
        ({"layers_to_transform": [7]}, "no linear is left"),
        ({"priming_trains": ["nowhere"], "priming_epochs": 1}, "no module or parameter"),
    ],
)
def test_what_is_refused_says_why(settings, message):
    model = zoo.build()
    with pytest.raises(ValueError, match=message):
        learners(model, **settings)
    assert not tuning.is_tuned(model) and all(type(m).__name__ != "LearnerLinear" for m in model.modules())


def test_part_of_one_linear_for_three_is_refused():
    with pytest.raises(ValueError, match="query, key and value in one"):
        learners(zoo.build("modernbert"), target_roles=("q",))


def test_the_configuration_goes_through_json():
    config = tuning.LearnerConfig(rank_pattern={"query": 2}, target_modules=["query"], priming_trains=["attention"])
    again = tuning.LearnerConfig.from_dict(json.loads(json.dumps(config.to_dict())))
    assert again.to_dict() == config.to_dict() and again.target_modules == ("query",)


def test_seeds_repeat():
    first, second, third = (weights_of(learners(seed=seed)) for seed in (0, 0, 1))
    name = "bert.encoder.layer.0.output.dense.learner_down"
    assert all(torch.equal(first[key], second[key]) for key in first) and not torch.equal(first[name], third[name])


@pytest.mark.parametrize("mode", ["plain", "lean"])
@pytest.mark.parametrize("family", ["bert", "albert", "esm"])
def test_copies_compute_and_train_alike(mode, family):
    model = learners(zoo.build(family), memory_mode=mode, init="nonzero")
    copies = [copy.deepcopy(model), pickle.loads(pickle.dumps(model))]
    train(model)
    for other in copies:
        train(other)
        assert torch.equal(logits(other), logits(model))


@pytest.mark.parametrize("mode", ["plain", "lean"])
def test_gradients_accumulate_over_two_forwards_before_a_backward(mode):
    model, other = (learners(memory_mode=mode, init="nonzero") for _ in range(2))
    first, second = zoo.batch(seed=1), zoo.batch(seed=2)
    (model(**first).loss + model(**second).loss).backward()
    other(**first).loss.backward()
    other(**second).loss.backward()
    for value, wanted in zip(model.parameters(), other.parameters(), strict=True):
        if value.grad is not None:
            torch.testing.assert_close(value.grad, wanted.grad, rtol=1e-4, atol=1e-7)


@pytest.mark.parametrize("mode", ["plain", "lean"])
def test_checkpointing_autocast_and_other_precisions(mode):
    plain = learners(memory_mode=mode, init="nonzero")
    again = copy.deepcopy(plain)
    again.gradient_checkpointing_enable()
    plain.train()(**zoo.batch()).loss.backward()
    before = {name: value.grad.clone() for name, value in plain.named_parameters() if value.grad is not None}
    assert before
    again.config.hidden_dropout_prob = 0.0
    for model in (plain, again):
        model.zero_grad()
        for module in model.modules():
            if isinstance(module, nn.Dropout):
                module.p = 0.0
        model.train()(**zoo.batch()).loss.backward()
    for value, other in zip(plain.parameters(), again.parameters(), strict=True):
        if value.grad is not None:
            torch.testing.assert_close(value.grad, other.grad)
    wanted = logits(plain.eval())
    with torch.autocast("cpu", dtype=torch.bfloat16):
        loss = plain(**zoo.batch()).loss
    loss.backward()
    layer = plain.bert.encoder.layer[0].output.dense
    assert layer.learner_up.grad.dtype == torch.float32 and bool(layer.learner_up.grad.any())
    halved = copy.deepcopy(plain).to(torch.bfloat16)
    halved(**zoo.batch()).loss.backward()
    assert float((logits(halved).float() - wanted).abs().max()) < 0.05 * max(1.0, float(wanted.abs().max()))
    torch.testing.assert_close(logits(copy.deepcopy(plain).double()).float(), wanted, rtol=1e-4, atol=1e-6)
    assert halved.merge_and_unload().dtype == torch.bfloat16


def test_a_state_dict_goes_into_a_model_tuned_alike():
    model, other = learners(), learners(zoo.build(seed=3), seed=1)
    train(model)
    other.load_state_dict(model.state_dict())
    assert torch.equal(logits(other), logits(model))


def test_dropout_acts_on_the_learner_alone():
    model = learners(dropout=0.5, init="nonzero")
    layer = model.bert.encoder.layer[0].output.dense
    torch.manual_seed(0)
    x = torch.randn(3, zoo.INNER)
    frozen = zoo.F.linear(x, layer.weight, layer.bias)
    assert torch.equal(layer(x), layer(x))
    layer.train()
    draws = torch.stack([layer(x) for _ in range(2000)]).detach()
    assert not torch.equal(draws[0], draws[1])
    layer.eval()
    error = (draws.mean(0) - layer(x).detach()).abs() / (draws.std(0) / 2000**0.5)
    assert float(error.mean()) < 1.5 and not torch.allclose(draws.mean(0), frozen, atol=1e-2)
