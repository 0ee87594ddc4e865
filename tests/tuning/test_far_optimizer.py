"""The flat optimiser against the library's, and surgery on one in the middle of a run."""

import copy

import pytest

zoo = pytest.importorskip("tests.tuning.zoo", reason="PyTorch or transformers is missing: pip install 'narrows[tuning]'")
callbacks = pytest.importorskip("narrows.tuning.callbacks")
torch, nn, tuning = zoo.torch, zoo.nn, zoo.tuning


def far(**settings):
    return tuning.get_far_model(
        zoo.build(), tuning.FarConfig(retention=0.1, score="random", train_embeddings=False, **settings)
    )


def used(model):
    """Without what gets no gradient, which AdamW skips and a flat tensor decays."""
    model(**zoo.batch()).loss.backward()
    for value in model.parameters():
        value.requires_grad_(value.grad is not None)
        value.grad = None
    return model


def step(model, optimizer, number, zero=None):
    (zero or optimizer.zero_grad)()
    model(**zoo.batch(seed=number)).loss.backward()
    optimizer.step()


@pytest.mark.parametrize("by_model", [False, True])
def test_flat_adamw_is_adamw_bit_by_bit(by_model):
    # Sizes that vector registers divide; the kernel rounds the rest of a tensor in another way.
    flat = [nn.Parameter(torch.randn(shape)) for shape in ((64, 32), (16,), (2, 3, 64))]
    plain = copy.deepcopy(flat)
    ours = tuning.FlatAdamW([{"params": flat[:2]}, {"params": flat[2:], "weight_decay": 0.0}], lr=1e-2, weight_decay=0.1)
    theirs = torch.optim.AdamW(
        [{"params": plain[:2]}, {"params": plain[2:], "weight_decay": 0.0}], lr=1e-2, weight_decay=0.1, fused=True
    )
    schedules = [torch.optim.lr_scheduler.LinearLR(optimizer, 1.0, 0.1, 5) for optimizer in (ours, theirs)]
    for _ in range(5):
        ours.zero_grad()
        for value, other in zip(flat, plain, strict=True):
            other.grad = torch.randn_like(other)
            # A model's own zero_grad and autograd put tensors of their own in the place of our views.
            value.grad = other.grad.clone() if by_model else value.grad.add_(other.grad)
        for optimizer, schedule in zip((ours, theirs), schedules, strict=True):
            optimizer.step()
            schedule.step()
    assert all(torch.equal(value, other) for value, other in zip(flat, plain, strict=True))
    assert [len(group["params"]) for group in ours._inner.param_groups] == [1, 1]
    assert len({value.untyped_storage().data_ptr() for value in flat}) == 2


@pytest.mark.parametrize("mode", ["tier1", "keep", "recompute"])
@pytest.mark.parametrize("by_model", [False, True])
def test_a_model_under_flat_adamw_is_one_under_adamw(mode, by_model):
    flat = used(far(memory_mode=mode))
    plain = copy.deepcopy(flat)
    ours = tuning.FlatAdamW(tuning.decay_groups(flat, 0.1), lr=1e-2)
    theirs = torch.optim.AdamW(tuning.decay_groups(plain, 0.1), lr=1e-2, fused=True)
    start = flat(**zoo.batch(seed=9)).logits
    for number in range(4):
        step(flat, ours, number, flat.zero_grad if by_model else None)
        step(plain, theirs, number)
    end = flat(**zoo.batch(seed=9)).logits
    torch.testing.assert_close(end, plain(**zoo.batch(seed=9)).logits, rtol=1e-5, atol=1e-6)
    assert float((end - start).detach().abs().max()) > 0.01
    for (name, value), other in zip(flat.named_parameters(), plain.parameters(), strict=True):
        torch.testing.assert_close(value, other, rtol=1e-4, atol=1e-5, msg=name)


def test_flat_adamw_is_near_the_unfused_one():
    flat = used(far())
    plain = copy.deepcopy(flat)
    ours = tuning.FlatAdamW([value for value in flat.parameters() if value.requires_grad], lr=1e-3)
    trained = [value for value in plain.parameters() if value.requires_grad]
    theirs = torch.optim.AdamW(trained, lr=1e-3, fused=False, foreach=False)
    for number in range(5):
        step(flat, ours, number)
        step(plain, theirs, number)
    for value, other in zip(flat.parameters(), plain.parameters(), strict=True):
        torch.testing.assert_close(value, other, rtol=1e-4, atol=1e-5)


def test_flat_adamw_goes_on_from_its_state():
    first = used(far())
    optimizer = tuning.FlatAdamW(tuning.decay_groups(first, 0.1), lr=1e-2)
    for number in range(3):
        step(first, optimizer, number)
    second = copy.deepcopy(first)
    other = tuning.FlatAdamW(tuning.decay_groups(second, 0.0), lr=5.0)
    other.load_state_dict(copy.deepcopy(optimizer.state_dict()))
    assert [group["lr"] for group in other.param_groups] == [1e-2, 1e-2]
    step(first, optimizer, 3)
    step(second, other, 3)
    assert all(torch.equal(value, theirs) for value, theirs in zip(first.parameters(), second.parameters(), strict=True))


def test_flat_adamw_clips_and_merges():
    model = used(far())
    optimizer = tuning.FlatAdamW(tuning.decay_groups(model, 0.1), lr=1e-2)
    model(**zoo.batch()).loss.backward()
    norm = torch.nn.utils.clip_grad_norm_(model.parameters(), 1e-3)
    total = torch.cat([value.grad.flatten() for value in model.parameters() if value.grad is not None]).norm()
    assert float(norm) > 1e-3 and float(total) == pytest.approx(1e-3, rel=1e-3)
    optimizer.step()
    expected = model(**zoo.batch()).logits
    assert torch.equal(model.merge_and_unload()(**zoo.batch()).logits, expected)


def test_flat_adamw_refuses_what_makes_no_sense():
    with pytest.raises(ValueError, match="must not be negative"):
        tuning.FlatAdamW([nn.Parameter(torch.zeros(2))], lr=-1.0)
    optimizer = tuning.FlatAdamW([nn.Parameter(torch.zeros(2))])
    with pytest.raises(ValueError, match="Prime first"):
        tuning.repair_optimizer(optimizer, [], {})


@pytest.mark.parametrize("is_fresh", [False, True])
@pytest.mark.parametrize("kind", ["AdamW", "SGD"])
def test_surgery_carries_moments_and_groups_over(is_fresh, kind):
    model = zoo.build("modernbert")
    settings = {"momentum": 0.9} if kind == "SGD" else {}
    optimizer = getattr(torch.optim, kind)(tuning.decay_groups(model, 0.1), lr=1e-2, **settings)
    for number in range(3):
        step(model, optimizer, number)
    schedule = torch.optim.lr_scheduler.LinearLR(optimizer, 1.0, 0.1, 5)
    lists = [group["params"] for group in optimizer.param_groups]
    before = {name: copy.deepcopy(optimizer.state[value]) for name, value in model.named_parameters()}
    tuning.get_far_model(model, tuning.FarConfig(retention=0.1, score="random", train_embeddings=False))
    trained = [value for value in model.parameters() if value.requires_grad]
    tuning.repair_optimizer(optimizer, trained, callbacks.origins(model), is_fresh)
    assert all(group["params"] is kept for group, kept in zip(optimizer.param_groups, lists, strict=True))
    assert {id(value) for kept in lists for value in kept} == {id(value) for value in trained}
    fresh = tuning.decay_groups(model, 0.1)
    assert [[id(value) for value in group["params"]] for group in fresh] == [[id(value) for value in kept] for kept in lists]
    key = "exp_avg" if kind == "AdamW" else "momentum_buffer"
    if is_fresh:
        assert not optimizer.state
    else:
        for name, layer in tuning.base.layers(model):
            for leaf, full, axis, where, compact in layer.parts():
                assert torch.equal(optimizer.state[compact][key], before[f"{name}.{leaf}"][key].index_select(axis, where))
                assert full not in optimizer.state
        assert torch.equal(optimizer.state[model.classifier.weight][key], before["classifier.weight"][key])
        assert set(optimizer.state) <= set(trained)
    step(model, optimizer, 4)
    schedule.step()
    assert {group["lr"] for group in optimizer.param_groups} == {schedule.get_last_lr()[0]}


def test_surgery_needs_to_know_the_group():
    first, second = nn.Parameter(torch.zeros(2)), nn.Parameter(torch.zeros(2))
    with pytest.raises(ValueError, match="in no group of the optimiser"):
        tuning.repair_optimizer(torch.optim.SGD([first], lr=0.1), [second], {})
