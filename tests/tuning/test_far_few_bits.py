"""Gradients of whole models whose feed-forwards keep a derivative in few bits are within the bound that is stated."""

import pytest

zoo = pytest.importorskip("tests.tuning.zoo", reason="PyTorch or transformers is missing: pip install 'narrows[tuning]'")
torch, tuning = zoo.torch, zoo.tuning


def far(family, mode, state=None):
    model = zoo.build(family)
    if state is not None:
        model.load_state_dict(state)
    return tuning.get_far_model(model, tuning.FarConfig(retention=0.1, score="random", memory_mode=mode))


def gradients(model, data):
    model.zero_grad()
    model(**data).loss.backward()
    return {name: value.grad.clone() for name, value in model.named_parameters() if value.grad is not None}


def trained(family, steps=20):
    model = zoo.build(family)
    optimizer = torch.optim.AdamW(model.parameters(), 3e-3)
    for step in range(steps):
        optimizer.zero_grad()
        model(**zoo.batch(16, seed=100 + step)).loss.backward()
        optimizer.step()
    return model.state_dict()


ALIKE = pytest.mark.slow("computes 18 gradients; all are feed-forwards between attention as those of the other two")


@pytest.mark.parametrize(  # modernbert is gated
    "family",
    [pytest.param(one, marks=() if one in ("esm", "albert") else ALIKE) for one in zoo.FAMILIES if one != "modernbert"],
)
def test_gradients_of_whole_models_are_within_the_stated_bound(family):
    for state in (None, trained(family)):
        exact, *coded = (far(family, mode, state) for mode in ("keep", "u8", "bf16"))
        assert tuning.base.tuning_of(exact).config.gradient_bound is None
        for seed in range(3):
            wanted = gradients(exact, zoo.batch(seed=seed))
            largest = max(float(value.abs().max()) for value in wanted.values())
            for model in coded:
                bound = tuning.base.tuning_of(model).config.gradient_bound
                errors = 0.0
                for name, value in gradients(model, zoo.batch(seed=seed)).items():
                    error = float((value - wanted[name]).abs().max())
                    assert error <= bound.allowed(float(wanted[name].abs().max()), largest), (name, seed)
                    errors = max(errors, error)
                assert errors > 0.0, "else nothing was coded"


def test_a_profile_says_how_far_gradients_may_be_off():
    coded, exact = (tuning.profile(far("bert", mode), zoo.batch(2, 4), rounds=1) for mode in ("u8", "keep"))
    assert str(coded).splitlines()[-1] == (
        "far: an entry of a gradient is off by at most 5% of its tensor's largest, or 0.1% of the model's where that is more"
    )
    assert exact.gradient_bound is None and str(exact).splitlines()[-1].startswith("ratio")


def test_one_coded_block_is_enough_for_the_bound():
    assert tuning.FarConfig(memory_mode={0: "keep", 1: "u8"}).gradient_bound is not None
    assert tuning.FarConfig(memory_mode={0: "keep", 1: "recompute"}).gradient_bound is None
