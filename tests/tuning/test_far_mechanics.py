"""The mechanics of a reconfigured model: copies, types, loading, syncing, accumulation, checkpointing, autocast."""

import copy
import pickle
from typing import Any

import pytest

zoo = pytest.importorskip("tests.tuning.zoo", reason="PyTorch or transformers is missing: pip install 'narrows[tuning]'")
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


@pytest.mark.parametrize("family", ["bert", "albert", "modernbert"])
def test_copies_go_their_own_way(family):
    model = far(family, keep_base_copy=True)
    train(model)
    trained = logits(model)
    copies = [copy.deepcopy(model), pickle.loads(pickle.dumps(model))]
    for other in copies:
        assert torch.equal(logits(other), trained)
        train(other)
        assert not torch.equal(logits(other), trained) and torch.equal(logits(model), trained)
        other.unload()
        assert torch.equal(logits(other), logits(zoo.build(family)))


def test_a_copy_made_between_a_step_and_a_forward_is_not_stale():
    model = far()
    with torch.no_grad():
        model.bert.encoder.layer[0].intermediate.dense.far_weight.add_(0.3)
    other = copy.deepcopy(model)
    assert torch.equal(logits(other), logits(model)) and not torch.equal(logits(other), logits(zoo.build()))


def test_types_and_devices():
    model = far()
    train(model)
    expected = logits(copy.deepcopy(model).merge_and_unload().double())
    model.to(torch.float64)
    assert torch.equal(logits(model), expected)
    assert model.bert.encoder.layer[0].intermediate.dense.far_index.dtype == torch.int32
    train(model)
    assert logits(model).dtype == torch.float64


@pytest.mark.parametrize("way", ["fused", "foreach", "plain"])
@pytest.mark.parametrize("family", ["bert", "albert"])
def test_every_kind_of_optimiser_is_noticed(family, way):
    """The fused ones of PyTorch change parameters without moving their version counters."""
    model = far(family)
    settings = {"fused": way == "fused", "foreach": way == "foreach"}
    optimizer = torch.optim.AdamW([value for value in model.parameters() if value.requires_grad], 1e-2, **settings)
    for step in range(3):
        optimizer.zero_grad()
        model(**zoo.batch(seed=step)).loss.backward()
        optimizer.step()
    seen = logits(model)
    for _, layer in tuning.base.layers(model):
        for _, full, axis, where, compact in layer.parts():
            assert torch.equal(full.index_select(axis, where), compact)
    model.sync()
    assert torch.equal(logits(model), seen)


def test_writes_that_move_no_counter_need_sync():
    model = far()
    layer = model.bert.encoder.layer[0].intermediate.dense
    before = logits(model)
    layer.far_weight.data.add_(0.5)
    # No counter moved, so a forward in the same mode does not see it.
    assert torch.equal(logits(model), before)
    model.sync()
    after = logits(model)
    assert not torch.equal(after, before)
    layer.far_weight.data.sub_(0.25)
    model.eval()
    assert not torch.equal(logits(model), after)


def test_the_state_dict_is_a_plain_checkpoint_at_any_time():
    model = far("modernbert")
    train(model)
    plain = zoo.build("modernbert", seed=5)
    state = model.state_dict()
    plain.load_state_dict({name: value for name, value in state.items() if ".far_" not in name})
    assert torch.equal(logits(plain), logits(model))


def test_state_dicts_load_in_both_directions():
    model, other = far(), far()
    train(model)
    other.load_state_dict(model.state_dict())
    assert torch.equal(logits(other), logits(model))
    third = far()
    third.load_state_dict(zoo.build(seed=4).state_dict(), strict=False)
    assert torch.equal(logits(third), logits(zoo.build(seed=4)))
    train(third)
    wrong = far(seed=1)
    with pytest.raises(RuntimeError, match="the file has other learner nodes than this model"):
        wrong.load_state_dict(model.state_dict())


def test_gradients_accumulate():
    halves, whole = far(), far()
    parts = [{name: value[part] for name, value in zoo.batch(8).items()} for part in (slice(0, 4), slice(4, 8))]
    for part in parts:
        (halves(**part).loss / 2).backward()
    whole(**zoo.batch(8)).loss.backward()
    for (name, ours), theirs in zip(halves.named_parameters(), whole.parameters(), strict=True):
        if theirs.grad is not None:
            torch.testing.assert_close(ours.grad, theirs.grad, rtol=1e-4, atol=1e-7, msg=name)


@pytest.mark.parametrize("mode", ["keep", "recompute"])
@pytest.mark.parametrize("family", ["bert", "esm", "modernbert"])
def test_gradient_checkpointing(family, mode):
    plain, checkpointed = far(family, memory_mode=mode), far(family, memory_mode=mode)
    checkpointed.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
    for model in (plain, checkpointed):
        model.train()
        torch.manual_seed(0)
        model(**zoo.batch()).loss.backward()
    for ours, theirs in zip(checkpointed.parameters(), plain.parameters(), strict=True):
        assert (ours.grad is None) == (theirs.grad is None)
        if ours.grad is not None:
            torch.testing.assert_close(ours.grad, theirs.grad, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("mode", [*MODES, "u8"])
def test_bfloat16_autocast_trains(mode):
    model = far(memory_mode=mode)
    dense = zoo.build()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        ours, theirs = model(**zoo.batch()), dense(**zoo.batch())
    assert torch.equal(ours.logits, theirs.logits)
    ours.loss.backward()
    assert all(value.grad.dtype == torch.float32 for value in model.parameters() if value.grad is not None)
    train(model)


def test_inference_mode_between_steps():
    model = far()
    train(model, steps=1)
    with torch.inference_mode():
        inside = model(**zoo.batch(seed=99)).logits.clone()
    assert torch.equal(inside, logits(model))
    train(model, steps=1)
