"""What a gradient never comes to is frozen, not counted and not waited for, whatever the model and the method."""

import json

import pytest

zoo = pytest.importorskip("tests.tuning.zoo", reason="PyTorch or transformers is missing: pip install 'narrows[tuning]'")
safetensors = pytest.importorskip("safetensors.torch")
torch, nn, tuning, transformers = zoo.torch, zoo.nn, zoo.tuning, zoo.transformers

FAR = {"retention": 0.1, "score": "random"}
CONFIGS = {
    "far": tuning.FarConfig(**FAR),
    "far recompute": tuning.FarConfig(**FAR, memory_mode="recompute", train_embeddings=False),
    "frugal": tuning.FarConfig(**FAR, train_embeddings=False, frozen_blocks=1, thrifty_dropout=True),
    "learner": tuning.LearnerConfig(r=2),
    "learner lean": tuning.LearnerConfig(r=2, priming_epochs=0, memory_mode="lean"),
    "lora": tuning.LearnerConfig(
        r=2, target_roles=("q", "k", "v"), priming_epochs=0, train_biases=False, train_norms=False, scale=2.0
    ),
    "full": tuning.FullConfig(),
    "full recompute": tuning.FullConfig(memory_mode="recompute"),
    "freeze_ffn": tuning.FreezeFfnConfig(train_embeddings=True),
    "bitfit": tuning.BitFitConfig(),
    "head_only": tuning.HeadOnlyConfig(),
}
CONTACT = {"esm.contact_head.regression.weight", "esm.contact_head.regression.bias"}


class OwnConfig(transformers.PretrainedConfig):
    model_type = "narrows-own"


class Own(transformers.PreTrainedModel):
    """Somebody's own head on the first of two blocks; a pooler that is called for nothing, and a head that is never called."""

    config_class = OwnConfig
    base_model_prefix = "bert"

    def __init__(self, config):
        super().__init__(config)
        self.bert = transformers.BertModel(zoo.config("bert"))
        self.first, self.second, self.spare = nn.Linear(zoo.HIDDEN, 2), nn.Linear(zoo.HIDDEN, 3), nn.Linear(zoo.HIDDEN, 2)
        self.all_tied_weights_keys = {}

    def get_input_embeddings(self):
        return self.bert.get_input_embeddings()

    def forward(self, input_ids, attention_mask=None, labels=None):
        hidden = self.bert(input_ids, attention_mask, output_hidden_states=True).hidden_states[1][:, 0]
        given = {"logits": self.first(hidden), "others": self.second(hidden)}
        return given if labels is None else {"loss": nn.functional.cross_entropy(given["logits"], labels), **given}


def own(seed=0):
    torch.manual_seed(seed)
    config = OwnConfig()
    config.vocab_size = zoo.VOCABULARY
    return Own(config).eval()


def tuned(model, config, **settings):
    if isinstance(config, tuning.FarConfig):
        return tuning.get_far_model(model, config, **settings)
    if isinstance(config, tuning.LearnerConfig):
        return tuning.get_learner_model(model, config, **settings)
    return tuning.get_baseline_model(model, config, **settings)


def trained(model):
    return {name for name, value in model.named_parameters() if value.requires_grad}


def waiting(model):
    """What is flagged as trained and gets no gradient in a step of training."""
    model.zero_grad()
    model.train()(**zoo.batch()).loss.backward()
    return {name for name, value in model.named_parameters() if value.requires_grad and value.grad is None}


def train(model, steps=3):
    optimizer = torch.optim.AdamW([value for value in model.parameters() if value.requires_grad], 1e-2)
    for step in range(steps):
        optimizer.zero_grad()
        model(**zoo.batch(seed=step))["loss"].backward()
        optimizer.step()


@pytest.mark.parametrize("family", zoo.VARIED)
def test_all_that_is_trained_gets_a_gradient(family):
    for name, config in CONFIGS.items():
        if (family, name) != ("albert", "frugal"):  # which has one feed-forward for all blocks
            model = tuned(zoo.build(family), config)
            assert not waiting(model), name
            assert model.get_nb_trainable_parameters()[0] == sum(v.numel() for v in model.parameters() if v.grad is not None)
            assert not trained(model) & CONTACT


def test_data_parallel_training_does_not_stop_on_what_is_not_reached(tmp_path):
    parallel = torch.nn.parallel.DistributedDataParallel
    torch.distributed.init_process_group("gloo", init_method=f"file://{tmp_path}/meeting", rank=0, world_size=1)
    try:
        for config in (CONFIGS["far"], CONFIGS["full"], CONFIGS["bitfit"]):
            model = parallel(tuned(zoo.build("esm"), config).train())
            for step in range(2):  # a second forward is what the first one's missing gradients stop
                model(**zoo.batch(seed=step)).loss.backward()
        plain = parallel(zoo.build("esm").train())
        with pytest.raises(RuntimeError, match="finished reduction"):
            for step in range(2):
                plain(**zoo.batch(seed=step)).loss.backward()
    finally:
        torch.distributed.destroy_process_group()


@pytest.mark.parametrize("name", list(CONFIGS))
def test_a_head_of_ones_own_on_part_of_an_encoder(name, tmp_path):
    if name == "frugal":
        return  # would freeze the one block that learns
    model = tuned(own(), CONFIGS[name])
    unreached = {"spare", "bert.pooler", "bert.encoder.layer.1"}
    assert trained(model) and not [one for one in trained(model) if one.startswith(tuple(unreached))]
    assert {one.split(".")[0] for one in trained(model)} >= {"first", "second"}
    train(model)
    wanted = model.eval()(**zoo.batch())["logits"]
    model.save_pretrained(tmp_path)
    # What starts at random and decides nothing does not make it another base.
    base = own()
    with torch.no_grad():
        for one, value in base.named_parameters():
            if one.startswith(("first", "second", *unreached)):
                value.add_(1.0)
    opened = tuning.from_pretrained(base, tmp_path, is_trainable=True)
    assert torch.equal(opened(**zoo.batch())["logits"], wanted) and trained(opened) == trained(model)


def test_a_loss_decides_where_the_example_has_labels(tmp_path):
    for config in (CONFIGS["far"], CONFIGS["learner"], CONFIGS["full"]):
        model = tuned(own(), config, example=zoo.batch())
        assert "first.weight" in trained(model) and not [one for one in trained(model) if one.startswith("second")]
        model.save_pretrained(tmp_path)
        assert trained(tuning.from_pretrained(own(), tmp_path, is_trainable=True)) == trained(model)


# What reentrant checkpointing says of any forward without gradients.
@pytest.mark.filterwarnings("ignore:None of the inputs:UserWarning")
@pytest.mark.parametrize("is_reentrant", [False, True])
def test_gradient_checkpointing_hides_nothing(is_reentrant):
    model = zoo.build().train()
    model.gradient_checkpointing_enable({"use_reentrant": is_reentrant})
    assert tuning.probe(model).unreached == frozenset()


def test_what_takes_part_in_training_alone_is_reached():
    class Trained(transformers.BertForSequenceClassification):
        def __init__(self, config):
            super().__init__(config)
            self.shift = nn.Parameter(torch.zeros(2))

        def forward(self, *args, **kwargs):
            output = super().forward(*args, **kwargs)
            output.logits = output.logits + self.shift if self.training else output.logits
            return output

    assert tuning.probe(Trained(zoo.config("bert"))).unreached == frozenset()


def test_looking_keeps_gradients_and_flags():
    model = zoo.build("esm")
    model(**zoo.batch()).loss.backward()
    model.esm.embeddings.word_embeddings.weight.requires_grad_(False)
    before = [(value.requires_grad, None if value.grad is None else value.grad.clone()) for value in model.parameters()]
    assert tuning.probe(model).unreached == CONTACT
    for value, (flag, gradient) in zip(model.parameters(), before, strict=True):
        assert value.requires_grad == flag and (value.grad is None) == (gradient is None)
        assert gradient is None or torch.equal(value.grad, gradient)
        assert not value._post_accumulate_grad_hooks


def test_a_model_that_cannot_be_watched_says_why(monkeypatch):
    model, forward = zoo.build(), transformers.BertForSequenceClassification.forward
    with pytest.raises(ValueError, match=r"cannot be watched.*its forward failed on a batch of pixels \(\w+: .*example="):
        tuning.get_far_model(model, CONFIGS["far"], example={"pixels": torch.zeros(2)})
    monkeypatch.setattr(type(model), "forward", torch.no_grad()(forward))
    with pytest.raises(ValueError, match="no gradient comes to any parameter of BertForSequenceClassification.*no_grad"):
        tuned(model, CONFIGS["full"])
    assert not tuning.is_tuned(model) and all(value.requires_grad for value in model.parameters())


def test_an_encoder_without_gradient_still_has_a_head(monkeypatch):
    model = zoo.build()
    monkeypatch.setattr(transformers.BertModel, "forward", torch.no_grad()(transformers.BertModel.forward))
    assert trained(tuned(model, CONFIGS["head_only"])) == {"classifier.weight", "classifier.bias"}
    with pytest.raises(ValueError, match="no gradient comes to any feed-forward"):
        tuned(zoo.build(), CONFIGS["far"])


def test_what_would_train_nothing_is_refused():
    plain = transformers.BertModel(zoo.config("bert")).eval()
    with pytest.raises(ValueError, match=r"head_only would train nothing in BertModel.*modules_to_save"):
        tuned(plain, CONFIGS["head_only"])
    with pytest.raises(ValueError, match="fits no linear outside the head.*that a gradient comes to"):
        tuned(zoo.build("esm"), tuning.LearnerConfig(target_modules=["regression"]))
    names = [(f"bert.encoder.layer.{i}.intermediate.dense", f"bert.encoder.layer.{i}.output.dense") for i in range(2)]
    with pytest.raises(ValueError, match=r"ffn_pairs names 'bert.encoder.layer.1.intermediate.dense', which no gradient"):
        tuning.probe(own(), ffn_pairs=names)


def test_the_table_of_costs_counts_what_gets_a_gradient():
    ours, full = tuning.profile(tuned(zoo.build("esm"), CONFIGS["bitfit"]), zoo.batch(), rounds=1).rows
    everything = sum(value.numel() for name, value in zoo.build("esm").named_parameters() if name not in CONTACT)
    assert full.trained == everything < full.parameters and full.gradient_bytes == 4 * everything
    assert ours.trained == tuned(zoo.build("esm"), CONFIGS["bitfit"]).get_nb_trainable_parameters()[0]


def test_an_adapter_that_counted_what_is_not_reached_still_opens(tmp_path):
    """Early versions flagged it as trained, and put it into the file."""
    model = tuned(zoo.build("esm"), CONFIGS["far"])
    train(model)
    model.save_pretrained(tmp_path)
    path, weights = tmp_path / "adapter_config.json", tmp_path / "adapter_model.safetensors"
    described, tensors = json.loads(path.read_text()), safetensors.load_file(weights)
    assert set(described.pop("unreached")) == CONTACT and not set(tensors) & CONTACT
    described["trained"] += sorted(CONTACT)
    head = {name: torch.full_like(value, 7.0) for name, value in zoo.build("esm").named_parameters() if name in CONTACT}
    path.write_text(json.dumps(described))
    safetensors.save_file(tensors | head, weights)
    again = tuning.from_pretrained(zoo.build("esm"), tmp_path, is_trainable=True)
    assert trained(again) == trained(model)
    assert torch.equal(again(**zoo.batch()).logits, model(**zoo.batch()).logits)
    assert all(torch.equal(again.get_parameter(name), value) for name, value in head.items())
