"""Whole models reconfigured: nothing changes at injection, frozen stays frozen, and the result merges and unloads."""

import copy
from typing import Any

import pytest

zoo = pytest.importorskip("tests.tuning.zoo", reason="PyTorch or transformers is missing: pip install 'narrows[tuning]'")
profile = pytest.importorskip("narrows.tuning.profiling")
torch, tuning = zoo.torch, zoo.tuning

MODES = ("tier1", "keep", "lean", "recompute")


def far(family="bert", retention: Any = 0.1, **settings):
    """A model with learner nodes drawn at random."""
    changes = settings.pop("changes", {})
    return tuning.get_far_model(zoo.build(family, **changes), tuning.FarConfig(retention=retention, score="random", **settings))


def train(model, steps=3, rate=1e-2, decay=0.01, size=8):
    """Train in evaluation mode, so that no dropout tells two runs apart."""
    optimizer = torch.optim.AdamW([value for value in model.parameters() if value.requires_grad], rate, weight_decay=decay)
    for step in range(steps):
        optimizer.zero_grad()
        model(**zoo.batch(size, seed=step)).loss.backward()
        optimizer.step()
    return optimizer


def logits(model):
    with torch.no_grad():
        return model(**zoo.batch(seed=99)).logits


def ups(model):
    return [pair.up for pair in tuning.probe(model).pairs]


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("family", zoo.VARIED)
def test_injection_changes_no_bit(family, mode):
    before = logits(zoo.build(family))
    model = far(family, memory_mode=mode)
    assert torch.equal(logits(model), before)
    assert torch.equal(model(**zoo.batch(seed=99)).logits, before)
    assert type(model) is type(zoo.build(family))


@pytest.mark.parametrize("family", zoo.VARIED)
def test_a_recomputed_full_model_changes_no_bit(family):
    before = logits(zoo.build(family))
    model = tuning.get_baseline_model(zoo.build(family), tuning.FullConfig(memory_mode="recompute"))
    assert torch.equal(model(**zoo.batch(seed=99)).logits, before)
    trained, everything = model.get_nb_trainable_parameters()
    assert everything == sum(value.numel() for value in zoo.build(family).parameters())
    # Nothing comes to the head for contacts of an ESM, one weight for each head of attention, and a bias.
    assert trained == everything - (2 * 2 + 1 if family == "esm" else 0)


@pytest.mark.parametrize("family", zoo.VARIED)
def test_frozen_means_frozen(family):
    model = far(family, train_embeddings=False)
    frozen = tuning.files.base_hashes(model)
    before = {name: value.clone() for name, value in model.named_parameters()}
    optimizer = train(model, steps=20)
    model.sync()
    assert tuning.files.base_hashes(model) == frozen and len(frozen) > 3
    assert all(not torch.equal(value, before[name]) for name, value in model.named_parameters() if "far_w" in name)
    trained, _ = model.get_nb_trainable_parameters()
    unused = sum(value.numel() for value in model.parameters() if value.requires_grad and value.grad is None)
    assert tuning.optimizer_bytes(optimizer) == 8 * (trained - unused)
    assert all(value.requires_grad for value in optimizer.state)


def test_gradient_masks_do_not_freeze():
    """The control for the test above: AdamW's decay moves rows whose gradient is masked."""
    model = zoo.build()
    weight = model.bert.encoder.layer[0].intermediate.dense.weight
    mask = torch.zeros_like(weight)
    mask[:6] = 1
    weight.register_hook(lambda gradient: gradient * mask)
    before = weight.detach().clone()
    train(model, steps=20)
    assert not torch.equal(weight[6:], before[6:])


@pytest.mark.parametrize("mode", MODES)
def test_it_is_the_masked_dense_run(mode):
    """Without decay, masking gradients in a dense model is the same training; only its cost differs."""
    model = far(memory_mode=mode, retention=0.2)
    dense = zoo.build()
    for name, layer in tuning.base.layers(model):
        index = layer.index()
        linear = dense.get_submodule(name)
        is_up = linear.out_features > linear.in_features
        for value in (linear.weight, linear.bias) if is_up else (linear.weight,):
            mask = torch.zeros_like(value)
            mask[index if is_up else (slice(None), index)] = 1
            value.register_hook(lambda gradient, mask=mask: gradient * mask)
    base = copy.deepcopy(dense.state_dict())
    train(model, decay=0.0, rate=1e-3)
    train(dense, decay=0.0, rate=1e-3)
    model.merge_and_unload()
    theirs = dense.state_dict()
    # The updates are of the size of three learning rates, and the two runs differ by rounding.
    assert max(float((value - theirs[name]).abs().max()) for name, value in model.state_dict().items()) <= 1e-7
    assert max(float((value - theirs[name]).abs().max()) for name, value in base.items()) >= 2.5e-3


@pytest.mark.parametrize("family", zoo.VARIED)
def test_merging_leaves_a_plain_model_that_computes_the_same(family):
    model = far(family)
    train(model)
    model.eval()
    before, plain = logits(model), zoo.build(family)
    merged = model.merge_and_unload(safe_merge=True)
    assert merged is model and torch.equal(logits(merged), before)
    shapes = {name: (value.shape, value.dtype) for name, value in plain.state_dict().items()}
    assert {name: (value.shape, value.dtype) for name, value in merged.state_dict().items()} == shapes
    assert [type(module) for module in merged.modules()] == [type(module) for module in plain.modules()]
    assert all(value.requires_grad for value in merged.parameters())
    assert not tuning.is_tuned(merged) and merged.save_pretrained.__func__ is type(merged).save_pretrained


@pytest.mark.parametrize("family", ["bert", "modernbert", "esm", "albert"])
def test_unload_gives_the_base_back_bit_by_bit(family):
    model = far(family, keep_base_copy=True)
    base = zoo.build(family)
    train(model)
    assert not torch.equal(logits(model), logits(base))
    learned = logits(model)
    with model.disable_adapter():
        assert torch.equal(logits(model), logits(base))
    assert torch.equal(logits(model), learned)
    model.unload()
    assert all(torch.equal(value, base.state_dict()[name]) for name, value in model.state_dict().items())


def test_without_base_copies_unload_says_what_to_do():
    model = far()
    for verb in ("unload", "disable_adapter"):
        with pytest.raises(ValueError, match=f"{verb} needs the values.*keep_base_copy=True"):
            with getattr(model, verb)():
                pass
    assert tuning.is_tuned(model)


def test_a_safe_merge_refuses_what_is_not_finite():
    model = far()
    with torch.no_grad():
        model.bert.encoder.layer[1].intermediate.dense.far_weight[0, 0] = float("nan")
    with pytest.raises(ValueError, match=r"nan or infinity in .*layer.1.intermediate.dense.weight"):
        model.merge_and_unload(safe_merge=True)
    assert tuning.is_tuned(model)
    model.merge_and_unload()


def test_a_tuned_model_is_not_tuned_again():
    model = far()
    with pytest.raises(ValueError, match="tuned already, by 'far'"):
        tuning.get_far_model(model, tuning.FarConfig(score="random"))
    with pytest.raises(ValueError, match="tuned already"):
        tuning.get_baseline_model(model, tuning.BitFitConfig())
    with pytest.raises(ValueError, match="no learner nodes were chosen"):
        tuning.get_far_model(zoo.build(), tuning.FarConfig())


def test_what_is_no_feed_forward_is_put_back():
    model = zoo.build()
    state, kinds = model.state_dict(), [type(module) for module in model.modules()]
    names = [("bert.encoder.layer.0.intermediate.dense", "bert.encoder.layer.1.output.dense")]
    config = tuning.FarConfig(score="random", ffn_pairs=names, memory_mode="tier1")
    nodes = {names[0][0]: range(6)}
    # Two linears of different blocks, split alike, still compute what they did; a wrong activation does not.
    tuned = tuning.get_far_model(copy.deepcopy(model), config, nodes)
    assert torch.equal(logits(tuned), logits(model))
    found = tuning.probe(model)
    wrong = found._replace(pairs=tuple(pair._replace(activation="relu") for pair in found.pairs))
    with pytest.raises(ValueError, match="does not compute what it did before.*tier1"):
        tuning.get_far_model(model, tuning.FarConfig(score="random"), architecture=wrong)
    assert [type(module) for module in model.modules()] == kinds and not tuning.is_tuned(model)
    assert all(torch.equal(value, state[name]) for name, value in model.state_dict().items())
    assert all(value.requires_grad for value in model.parameters())


def test_dropout_between_the_linears_falls_back_to_tier1():
    with pytest.warns(UserWarning, match="tier1' instead of 'recompute': something random"):
        model = far("modernbert", memory_mode="recompute", changes={"mlp_dropout": 0.5})
    model.train()
    assert not torch.equal(model(**zoo.batch()).logits, model(**zoo.batch()).logits)
    with pytest.raises(ValueError, match="is gated: its derivative is not bounded"):
        far("modernbert", memory_mode="u8")


def test_dropout_behind_the_feed_forward_still_drops():
    """DistilBERT drops right behind its second linear, inside the module that holds both."""
    for family in ("distilbert", "esm", "bert"):
        zoo.torch.manual_seed(3)
        plain = zoo.build(family).train()
        torch.manual_seed(7)
        theirs = plain(**zoo.batch()).logits
        tuned = far(family, memory_mode="recompute").train()
        torch.manual_seed(7)
        assert torch.equal(tuned(**zoo.batch()).logits, theirs)


def test_blocks_may_differ():
    model = far(retention={0: 0.25, 1: 1.0}, memory_mode={0: "recompute", 1: "keep"})
    first, second = (layer.intermediate.dense for layer in model.bert.encoder.layer)
    assert len(first.index()) == 16 and second.is_whole and second.weight.requires_grad
    assert len(far(layers_to_transform=[1]).bert.encoder.layer[1].intermediate.dense.index()) == 6
    frozen = far(layers_to_transform=[1]).bert.encoder.layer[0]
    assert not any(value.requires_grad for value in (*frozen.intermediate.parameters(), *frozen.output.dense.parameters()))
    with pytest.raises(ValueError, match=r"retention names blocks 0.* block 1 too"):
        far(retention={0: 0.1})
    with pytest.raises(ValueError, match="blocks are 0 to 1"):
        far(layers_to_transform=[7])


def test_a_block_without_learners_stays_plain(tmp_path):
    nodes = {name: () if ".0." in name else tuple(range(12)) for name in ups(zoo.build())}
    model = tuning.get_far_model(zoo.build(), tuning.FarConfig(scope="global"), nodes)
    first = model.bert.encoder.layer[0]
    assert type(first.intermediate.dense) is torch.nn.Linear and not first.output.dense.weight.requires_grad
    assert first.output.dense.bias.requires_grad
    train(model)
    model.save_pretrained(tmp_path)
    assert torch.equal(logits(tuning.from_pretrained(zoo.build(), tmp_path)), logits(model))
    callback, again = tuning.FarCallback(tuning.FarConfig(scope="global")), zoo.build()
    callback.look(again, None)
    callback.before_loading(again, model.state_dict())
    again.load_state_dict(model.state_dict())
    assert torch.equal(logits(again), logits(model)) and callback.selection.indices == nodes


@pytest.mark.parametrize("family", ["bert", "modernbert", "esm"])
def test_frozen_blocks_keep_nothing_and_train_nothing(family):
    base, batch = zoo.build(family), zoo.batch()
    model = far(family, train_embeddings=False, frozen_blocks=1)
    block = tuning.probe(base).blocks[0]
    assert block.endswith(".0.") and torch.equal(logits(model), logits(base))
    inside = [value for name, value in model.named_parameters() if name.startswith(block)]
    assert inside and not any(value.requires_grad for value in inside)
    whole = tuning.kept_bytes(far(family, train_embeddings=False).train(), batch)
    assert tuning.kept_bytes(model.train(), batch) <= 0.65 * whole
    train(model.eval())
    assert all(
        torch.equal(value, base.get_parameter(name)) for name, value in model.named_parameters() if name.startswith(block)
    )
    with pytest.raises(ValueError, match="leave no block"):
        far(family, train_embeddings=False, frozen_blocks=2)
    with pytest.raises(ValueError, match="needs train_embeddings=False"):
        tuning.FarConfig(frozen_blocks=1)


def test_thrifty_dropout_drops_as_often_and_keeps_less():
    x = torch.ones(1000, 100, requires_grad=True)
    thin = tuning.dropout.ByteDropout(0.3)
    y = thin(x)
    y.sum().backward()
    assert torch.equal(x.grad, y.detach())
    values = y.detach().unique().tolist()
    assert values[0] == 0.0 and values[1] == pytest.approx(1 / 0.7, rel=1e-4) and len(values) == 2
    # A hundred thousand draws: five standard deviations are 0.0073.
    assert float((y == 0).float().mean()) == pytest.approx(0.3, abs=0.0073)
    again = thin(x)
    assert not torch.equal(again, y)
    # Numbers that come from one random word are no more alike than others.
    drops = (again == 0).float().view(-1, 4)
    assert float(torch.corrcoef(drops.T).fill_diagonal_(0).abs().max()) < 0.04
    assert torch.equal(thin.eval()(x), x)
    assert profile.kept_bytes(thin.train(), x) == 100_000
    model = far(thrifty_dropout=True)
    assert tuning.kept_bytes(model.train(), zoo.batch()) < tuning.kept_bytes(far().train(), zoo.batch())
    assert not torch.equal(model(**zoo.batch()).logits, model(**zoo.batch()).logits)
    model.eval().merge_and_unload()
    assert [type(module) for module in model.modules()] == [type(module) for module in zoo.build().modules()]


def test_the_frugal_preset_keeps_and_trains_less_than_edge():
    edge, frugal = (tuning.FarConfig.edge(), tuning.FarConfig.frugal(frozen_blocks=1))
    models = [
        tuning.get_far_model(zoo.build(), config, {name: range(6) for name in names})
        for config, names in ((edge, ups(zoo.build())), (frugal, ups(zoo.build())[1:]))
    ]
    kept = [tuning.kept_bytes(model.train(), zoo.batch()) for model in models]
    assert kept[1] < kept[0] and models[1].get_nb_trainable_parameters()[0] < models[0].get_nb_trainable_parameters()[0]
