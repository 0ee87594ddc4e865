"""Encoders stored in half precision: what is trained has 32 bits, and the result is that of the same numbers in 32 bits."""

import hashlib
import json

import numpy as np
import pytest

zoo = pytest.importorskip("tests.tuning.zoo", reason="PyTorch or transformers is missing: pip install 'narrows[tuning]'")
safetensors = pytest.importorskip("safetensors.torch")

from tests.tuning.tiny import make_encoder, make_sequences  # noqa: E402  the import needs torch

from narrows.tuning.scoring import Request, Sides, TunedScorer, TuningSettings, Watch, fit_scorer, prepare  # noqa: E402

torch, tuning, transformers = zoo.torch, zoo.tuning, zoo.transformers

HALVES = (torch.float16, torch.bfloat16)
FAR = {"retention": 0.1, "score": "random"}
CONFIGS = {
    "far": tuning.FarConfig(**FAR, keep_base_copy=True),
    "learner": tuning.LearnerConfig(r=2, priming_epochs=0, keep_base_copy=True),
    "full": tuning.FullConfig(keep_base_copy=True),
    "bitfit": tuning.BitFitConfig(keep_base_copy=True),
}


def tuned(model, config):
    if isinstance(config, tuning.FarConfig):
        return tuning.get_far_model(model, config)
    if isinstance(config, tuning.LearnerConfig):
        return tuning.get_learner_model(model, config)
    return tuning.get_baseline_model(model, config)


def train(model, steps=3, rate=5e-5):
    optimizer = torch.optim.AdamW([value for value in model.parameters() if value.requires_grad], rate)
    for step in range(steps):
        optimizer.zero_grad()
        model(**zoo.batch(seed=step)).loss.backward()
        optimizer.step()


def types(model):
    return {value.dtype for value in (*model.parameters(), *model.buffers()) if value.is_floating_point()}


def same(first, second):
    return all(torch.equal(value, second.state_dict()[name]) for name, value in first.state_dict().items())


@pytest.mark.parametrize("half", HALVES)
@pytest.mark.parametrize("name", list(CONFIGS))
def test_a_model_in_half_precision_trains_as_the_same_numbers_in_single(name, half):
    model, other = tuned(zoo.build().to(half), CONFIGS[name]), tuned(zoo.build().to(half).float(), CONFIGS[name])
    before = {name: value.detach().clone() for name, value in model.named_parameters() if name.endswith("LayerNorm.bias")}
    assert types(model) == {torch.float32} and same(model, other)
    train(model)
    train(other)
    assert same(model, other)
    for name, value in before.items():
        moved = (model.get_parameter(name).detach() - value).abs()
        # Three steps of a rate of 5e-5, each of about that size where the gradient keeps its sign.
        assert float(moved.median()) > 2e-5, name


@pytest.mark.parametrize("half", HALVES)
@pytest.mark.parametrize("name", list(CONFIGS))
def test_unloading_gives_half_precision_back_and_merging_does_not(name, half, tmp_path):
    base = zoo.build("esm").to(half)
    model = tuned(zoo.build("esm").to(half), CONFIGS[name])
    train(model)
    model.save_pretrained(tmp_path)
    wanted = model(**zoo.batch()).logits
    opened = tuning.from_pretrained(zoo.build("esm").to(half), tmp_path)
    assert types(opened) == {torch.float32} and torch.equal(opened(**zoo.batch()).logits, wanted)
    for one in (model, opened):
        plain = one.unload()
        assert types(plain) == {half} and same(plain, base)
    assert types(tuning.from_pretrained(base, tmp_path).merge_and_unload()) == {torch.float32}


def test_a_model_of_two_precisions_computes():
    model = zoo.build()
    model.bert.encoder.layer[0].to(torch.bfloat16)
    model = tuned(model, CONFIGS["far"])
    train(model)
    assert types(model) == {torch.float32} and types(model.unload().bert.encoder.layer[0]) == {torch.bfloat16}
    double = tuned(zoo.build().double(), CONFIGS["far"])
    assert types(double) == {torch.float64}


def test_what_is_refused_leaves_half_precision_alone():
    for model, config in ((zoo.build(), {"retention": 1e-3}), (zoo.build(), {"layers_to_transform": (7,)})):
        before = {name: value.clone() for name, value in model.half().state_dict().items()}
        with pytest.raises(ValueError, match=r"less than one node|leave no block"):
            tuned(model, tuning.FarConfig(**{**FAR, **config}))
        assert types(model) == {torch.float16} and all(torch.equal(v, before[name]) for name, v in model.state_dict().items())


def test_priming_has_32_bits():
    batches = [zoo.batch(seed=seed) for seed in range(2)]
    for score, optimizer in (("grad_l1", "none"), ("l1_delta", "adamw")):
        config = tuning.FarConfig(score=score, priming_optimizer=optimizer, priming_steps=2)
        model, other = zoo.build().bfloat16(), zoo.build().bfloat16().float()
        chosen, wanted = tuning.prime(model, batches, config), tuning.prime(other, batches, config)
        assert chosen.indices == wanted.indices
        assert all(torch.equal(value, wanted.scores[name]) for name, value in chosen.scores.items())
        # What moved stays as exact as it is; what did not is as it was.
        assert types(model) == {torch.bfloat16 if optimizer == "none" else torch.float32}
        assert same(tuning.get_far_model(model, config, chosen), tuning.get_far_model(other, config, wanted))


def rewritten(folder, half):
    """What a version that trained in half precision would have written: the same names, in half as many bytes."""
    path, weights = folder / "adapter_config.json", folder / "adapter_model.safetensors"
    described = json.loads(path.read_text())
    base = tuning.get_far_model(zoo.build().to(half), tuning.FarConfig(indices=tuning.saved_indices(folder)))
    for name, value in tuning.files._frozen(base).items():
        head = f"{half} {tuple(value.shape)}".encode()
        described["base_hashes"][name] = hashlib.sha256(head + value.to(half).view(torch.uint8).numpy().tobytes()).hexdigest()
    path.write_text(json.dumps(described))
    tensors = safetensors.load_file(weights)
    safetensors.save_file({k: v.to(half) if v.is_floating_point() else v for k, v in tensors.items()}, weights)


@pytest.mark.parametrize("half", HALVES)
def test_an_adapter_that_was_trained_in_half_precision_still_opens(half, tmp_path):
    model = tuned(zoo.build().to(half), tuning.FarConfig(**FAR, train_embeddings=False))
    train(model)
    model.save_pretrained(tmp_path)
    rewritten(tmp_path, half)
    for base in (zoo.build().to(half), zoo.build().to(half).float()):
        opened = tuning.from_pretrained(base, tmp_path)
        torch.testing.assert_close(opened(**zoo.batch()).logits, model(**zoo.batch()).logits, rtol=0.02, atol=0.02)
    with pytest.raises(ValueError, match="trained on another base"):
        tuning.from_pretrained(zoo.build(), tmp_path)  # whose numbers are no half-precision ones


@pytest.fixture(scope="module")
def encoders(tmp_path_factory):
    """An encoder in a file of bfloat16, and the same numbers in one of float32."""
    folder = tmp_path_factory.mktemp("encoders")
    for name, kind in (("half", torch.bfloat16), ("single", torch.float32)):
        made = make_encoder(folder / name)
        model = transformers.AutoModel.from_pretrained(made).to(torch.bfloat16).to(kind)
        model.save_pretrained(made)
        assert {value.dtype for value in safetensors.load_file(made / "model.safetensors").values()} == {kind}
    return folder


def planned(encoder, **settings):
    texts, scores = make_sequences(60)
    sides = Sides(np.arange(40), np.arange(40, 50), np.arange(50, 60))
    request = Request(str(encoder), TuningSettings(**{"method": "far", "epochs": 2, "learning_rate": 1e-3, **settings}))
    return prepare(request, texts, np.asarray(scores), sides)


@pytest.mark.parametrize("settings", [{}, {"method": "learner"}, {"method": "full", "precision": "bf16"}])
def test_a_scorer_from_a_half_precision_file_is_that_of_the_same_numbers(encoders, tmp_path, settings):
    found = []
    for name in ("half", "single"):
        assert fit_scorer(planned(encoders / name, **settings), tmp_path / name) is not None
        scorer = TunedScorer.load(tmp_path / name)
        assert types(scorer.members[0]) == {torch.float32}
        found.append(scorer(make_sequences(60)[0]).mean)
    # Not bit by bit: sums depend in their last bit on where in memory a file puts the weights.
    np.testing.assert_allclose(*found, rtol=1e-4 if settings.get("precision") is None else 1e-2)


def test_a_fit_that_was_begun_in_half_precision_goes_on(encoders, tmp_path):
    plan, seen = planned(encoders / "half"), []
    stopping = Watch(step=lambda done, total: seen.append(done), is_stopping=lambda: len(seen) >= 2)
    assert fit_scorer(plan, tmp_path / "s", lambda member: stopping) is None
    (checkpoint,) = (tmp_path / "s" / "training" / "member-0").glob("state-*")
    moments = safetensors.load_file(checkpoint / "optimizer.safetensors")
    halved = {name: value.bfloat16() if "exp_avg" in name else value for name, value in moments.items()}
    safetensors.save_file(halved, checkpoint / "optimizer.safetensors")
    assert fit_scorer(plan, tmp_path / "s") is not None
