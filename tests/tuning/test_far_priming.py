"""Which nodes are chosen, what priming costs, and what it leaves behind."""

import math

import pytest

zoo = pytest.importorskip("tests.tuning.zoo", reason="PyTorch or transformers is missing: pip install 'narrows[tuning]'")
selection = pytest.importorskip("narrows.tuning.far.selection")
torch, tuning = zoo.torch, zoo.tuning

SCORES = [("grad_l1", "none"), ("grad_abs_sum", "none"), ("l1_delta", "sgd"), ("grad_l1", "sgd")]


def loader(count=4):
    return [zoo.batch(seed=seed) for seed in range(count)]


def state_of(model):
    return {name: value.clone() for name, value in model.state_dict().items()}


def same(first, second):
    return all(torch.equal(value, second[name]) for name, value in first.items())


def plant(family="bert"):
    """A model in which only known nodes get gradients: the others lead nowhere, and come from nothing."""
    model = zoo.build(family)
    planted = {}
    with torch.no_grad():
        for number, pair in enumerate(tuning.probe(model).pairs):
            up, down = model.get_submodule(pair.up), model.get_submodule(pair.down)
            nodes = torch.arange(number, down.in_features, 11)[:6]
            dead = torch.ones(down.in_features, dtype=torch.bool)
            dead[nodes] = False
            down.weight[:, dead] = 0
            # relu' is zero there, and so is gelu' up to rounding, so the outgoing weights get nothing either.
            rows = torch.cat([dead, dead]) if pair.gate != "none" else dead
            up.weight[rows] = 0
            if up.bias is not None:
                up.bias[rows] = -30.0
            planted[pair.up] = tuple(nodes.tolist())
    return model, planted


@pytest.mark.parametrize(("score", "optimizer"), SCORES)
@pytest.mark.parametrize("family", ["bert", "modernbert", "albert"])
def test_planted_nodes_are_found(family, score, optimizer):
    model, planted = plant(family)
    config = tuning.FarConfig(retention=0.1, score=score, priming_optimizer=optimizer, priming_steps=2)
    assert tuning.prime(model, loader(), config).indices == planted


def test_two_halves_of_the_data_agree_more_on_gradients_than_on_movement_under_adam():
    halves = [[zoo.batch(16, seed=seed) for seed in part] for part in (range(16), range(16, 32))]
    found = {}
    for score, optimizer in (("grad_l1", "none"), ("l1_delta", "sgd"), ("l1_delta", "adamw"), ("random", "none")):
        chosen = []
        for number, half in enumerate(halves):
            config = tuning.FarConfig(
                retention=0.1, score=score, priming_optimizer=optimizer, priming_steps=16, after_priming="restart", seed=number
            )
            chosen.append(tuning.prime(zoo.build(intermediate_size=256), half, config))
        found[score, optimizer] = tuning.overlap(*chosen)
    print({" ".join(key): round(value, 2) for key, value in found.items()})
    # At random one in ten is shared; with 50 nodes chosen in all, the standard deviation of that is 0.04.
    assert found["grad_l1", "none"] >= 0.25 and found["l1_delta", "sgd"] >= 0.25 and found["random", "none"] <= 0.2


def test_a_loss_that_reaches_no_feed_forward_of_a_block_says_so():
    def first_block(model, batch):
        return model.bert(batch["input_ids"], output_hidden_states=True).hidden_states[1].sum()

    config = tuning.FarConfig(priming_steps=1)
    with pytest.raises(ValueError, match=r"no gradient came to bert\.encoder\.layer\.1\.intermediate\.dense in priming"):
        tuning.prime(zoo.build(), loader(), config, loss=first_block)


def test_scores_are_the_gradients_norms():
    model, batches = zoo.build(), loader(3)
    config = tuning.FarConfig(score="grad_l1", priming_steps=3)
    absolute = tuning.FarConfig(score="grad_abs_sum", priming_steps=3)
    for module in model.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.0
    for layer in model.bert.encoder.layer:
        layer.attention.self.dropout.p = 0.0
    name = "bert.encoder.layer.1"
    ours = tuning.prime(model, batches, config).scores[f"{name}.intermediate.dense"]
    ours_absolute = tuning.prime(model, batches, absolute).scores[f"{name}.intermediate.dense"]
    layer, total, parts = model.bert.encoder.layer[1], torch.zeros(64, 65), torch.zeros(64)
    up, down = layer.intermediate.dense, layer.output.dense
    for batch in batches:
        model.zero_grad()
        model(**batch).loss.backward()
        vectors = torch.cat([up.weight.grad, up.bias.grad[:, None], down.weight.grad.T], dim=1)
        total, parts = total + vectors, parts + vectors.abs().sum(1)
    torch.testing.assert_close(ours, total.abs().sum(1), rtol=1e-4, atol=1e-7)
    torch.testing.assert_close(ours_absolute, parts, rtol=1e-4, atol=1e-7)


@pytest.mark.parametrize("score", ["grad_l1", "grad_abs_sum"])
def test_priming_without_an_optimiser_holds_one_gradient_at_a_time(score):
    model = zoo.build()
    before, state = state_of(model), torch.get_rng_state()
    largest, real = [], torch.Tensor.register_post_accumulate_grad_hook

    def counted(parameter, hook):
        def count(value):
            largest.append(sum(other.grad is not None for other in model.parameters()))
            hook(value)

        return real(parameter, count)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch.nn.Parameter, "register_post_accumulate_grad_hook", counted)
        tuning.prime(model, loader(), tuning.FarConfig(score=score, priming_steps=2))
    # Once for each parameter, to see what a gradient comes to, and then in two steps for the three of two feed-forwards.
    assert set(largest) == {1} and len(largest) == len(list(model.parameters())) + 2 * 2 * 3
    assert same(model.state_dict(), before) and torch.equal(state, torch.get_rng_state())
    assert all(value.grad is None and value.requires_grad for value in model.parameters())
    assert not any(value._post_accumulate_grad_hooks for value in model.parameters())


def test_sums_may_be_held_in_bfloat16():
    exact, coarse = (
        tuning.prime(zoo.build(), loader(), tuning.FarConfig(retention=0.25, priming_steps=4, score_dtype=dtype))
        for dtype in ("float32", "bfloat16")
    )
    assert tuning.overlap(exact, coarse) >= 0.8


def test_the_choice_depends_on_the_seed_and_on_nothing_before_it():
    config = tuning.FarConfig(retention=0.2, priming_steps=2, score="grad_l1", seed=5)
    first = tuning.prime(zoo.build(), loader(), config)
    torch.manual_seed(1234)
    torch.randn(100)
    assert tuning.prime(zoo.build(), loader(), config).indices == first.indices
    draws = [tuning.prime(zoo.build(), [], tuning.FarConfig(score="random", seed=seed)).indices for seed in (0, 0, 1)]
    assert draws[0] == draws[1] != draws[2]
    assert all(len(nodes) == 6 and list(nodes) == sorted(set(nodes)) for nodes in draws[0].values())


PRESETS = {
    "paper": tuning.FarConfig.paper(),
    "edge": tuning.FarConfig.edge(),
    "nodes": tuning.FarConfig(train_embeddings=False, train_attention=False, train_norms=False, keep_base_copy=True),
}


@pytest.mark.parametrize("preset", PRESETS)
@pytest.mark.parametrize("family", ["bert", "modernbert"])
def test_rolling_back_gives_frozen_tensors_their_values_again(preset, family, tmp_path):
    moving = {"priming_optimizer": "adamw", "score": "l1_delta", "priming_steps": 3, "priming_learning_rate": 1e-2}
    config = tuning.FarConfig.from_dict({**PRESETS[preset].to_dict(), **moving})
    model, base = zoo.build(family), zoo.build(family)
    found = tuning.prime(model, loader(), config)
    assert not same(model.state_dict(), base.state_dict()) and not found.moved
    primed = state_of(model)
    tuned = tuning.get_far_model(model, config, found)
    frozen = tuning.files.base_hashes(tuned)
    plain = tuning.get_far_model(zoo.build(family), config, found.indices)
    assert frozen == tuning.files.base_hashes(plain) and frozen
    for name, layer in tuning.base.layers(tuned):
        for leaf, _, axis, where, compact in layer.parts():
            assert torch.equal(compact, primed[f"{name}.{leaf}"].index_select(axis, where))
            assert not torch.equal(compact, base.state_dict()[f"{name}.{leaf}"].index_select(axis, where))
    tuned.save_pretrained(tmp_path)
    expected = tuned(**zoo.batch()).logits
    assert torch.equal(tuning.from_pretrained(zoo.build(family), tmp_path)(**zoo.batch()).logits, expected)
    if config.keep_base_copy:
        assert same(tuned.unload().state_dict(), base.state_dict())


def test_restart_leaves_nothing_but_the_choice():
    settings = {"priming_optimizer": "sgd", "score": "l1_delta", "priming_steps": 2}
    model, base = zoo.build(), zoo.build()
    found = tuning.prime(model, loader(), tuning.FarConfig(after_priming="restart", **settings))
    assert same(model.state_dict(), base.state_dict())
    assert found.indices == tuning.prime(base, loader(), tuning.FarConfig(after_priming="keep", **settings)).indices
    assert not same(model.state_dict(), base.state_dict())


def test_keeping_what_moved_stores_it(tmp_path):
    config = tuning.FarConfig(
        after_priming="keep", priming_optimizer="sgd", score="l1_delta", priming_steps=2, train_embeddings=False
    )
    model = zoo.build()
    found = tuning.prime(model, loader(), config)
    tuned = tuning.get_far_model(model, config, found)
    assert "bert.embeddings.word_embeddings.weight" in found.moved and not tuning.files.base_hashes(tuned)
    with pytest.warns(UserWarning, match="after_priming='keep'"):
        tuned.save_pretrained(tmp_path)
    opened = tuning.from_pretrained(zoo.build(), tmp_path)
    assert torch.equal(opened(**zoo.batch()).logits, tuned(**zoo.batch()).logits)


def test_a_global_ranking_spends_the_same_total():
    model = zoo.build()
    with torch.no_grad():
        model.bert.encoder.layer[0].output.dense.weight.mul_(20)
    found = tuning.prime(model, loader(), tuning.FarConfig(scope="global", retention=0.25, priming_steps=2))
    counts = [len(nodes) for nodes in found.indices.values()]
    assert sum(counts) == 32 and counts[0] != counts[1]
    threshold = min(float(found.scores[name][list(nodes)].min()) for name, nodes in found.indices.items() if nodes)
    rest = [score[[i for i in range(64) if i not in found.indices[name]]] for name, score in found.scores.items()]
    assert all(bool((left <= threshold).all()) for left in rest)


def test_a_score_of_ones_own():
    def outgoing(name, before, after):
        assert before.shape == after.shape == (64, 65)
        return (after - before).abs().sum(1) * -1

    config = {"priming_optimizer": "sgd", "priming_steps": 2, "after_priming": "restart", "retention": 0.5}
    least = tuning.prime(zoo.build(), loader(), tuning.FarConfig(score=outgoing, **config))
    most = tuning.prime(zoo.build(), loader(), tuning.FarConfig(score="l1_delta", **config))
    assert all(not set(nodes) & set(most.indices[name]) for name, nodes in least.indices.items())
    with pytest.raises(ValueError, match="must give 64 numbers"):
        tuning.prime(zoo.build(), loader(), tuning.FarConfig(score=lambda name, before, after: before, **config))


def test_parts_of_the_score():
    whole, parts = None, 0
    for part in (("in", "bias", "out"), ("in",), ("bias",), ("out",)):
        found = tuning.prime(zoo.build(), loader(), tuning.FarConfig(priming_steps=1, score_parts=part))
        scores = torch.cat(list(found.scores.values()))
        whole, parts = (scores, parts) if whole is None else (whole, parts + scores)
    torch.testing.assert_close(parts, whole)


def test_the_share_of_the_score():
    found = tuning.prime(zoo.build(), loader(), tuning.FarConfig(retention=0.25, priming_steps=2))
    assert 0.25 < found.share() < 1.0
    with pytest.raises(ValueError, match="have no scores"):
        tuning.prime(zoo.build(), loader(), tuning.FarConfig(score="random")).share()


def test_how_many_steps():
    config = tuning.FarConfig()
    # 8,551 sentences in batches of 16, three times: 1,605 steps, of which 1 % is 17.
    assert config.num_priming_steps(3 * math.ceil(8551 / 16)) == 17
    assert config.num_priming_steps(1) == 1 and tuning.FarConfig(priming_steps=7).num_priming_steps(None) == 7
    assert tuning.FarConfig(priming_ratio=0.07).num_priming_steps(100) == 7
    assert tuning.prime(zoo.build(), loader(4), tuning.FarConfig(priming_ratio=1.0)).num_steps == 4
    assert tuning.prime(zoo.build(), loader(2), tuning.FarConfig(priming_steps=5)).num_steps == 5
    with pytest.raises(ValueError, match="Give priming_steps"):
        tuning.prime(zoo.build(), iter(loader()), config)


@pytest.mark.parametrize(("retention", "size", "k"), [(0.1, 3072, 307), (0.29, 100, 29), (0.6, 3072, 1843), (1.0, 64, 64)])
def test_the_number_of_learners(retention, size, k):
    assert selection.num_learners(tuning.FarConfig(retention=retention), [selection.Site("up", 0, size)]) == [k]


def test_priming_says_what_is_wrong():
    def refused(message, batches, **settings):
        with pytest.raises(ValueError, match=message):
            tuning.prime(zoo.build(), batches, tuning.FarConfig(**settings))

    unlabelled = [{name: value for name, value in zoo.batch().items() if name != "labels"}]
    refused("the loader gave no batch", [], priming_steps=1)
    refused("Priming needs labels", unlabelled, priming_steps=1)
    refused("priming_optimizer='none' moves none", loader(), score="l1_delta", priming_steps=1)
    refused("priming_steps is 0", loader(), priming_steps=0)
    refused(
        "Priming diverged", loader(), priming_steps=4, priming_optimizer="sgd", priming_learning_rate=1e30, score="l1_delta"
    )
