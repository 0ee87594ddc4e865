"""Under the Trainer of transformers: columns, evaluation loss, phases, checkpoints of either phase."""

import pytest

zoo = pytest.importorskip("tests.tuning.zoo", reason="PyTorch or transformers is missing: pip install 'narrows[tuning]'")
pytest.importorskip("accelerate", reason="the Trainer needs accelerate: pip install 'narrows[tuning]'")
torch, transformers, tuning = zoo.torch, zoo.transformers, zoo.tuning

pytestmark = pytest.mark.filterwarnings("ignore:.*pin_memory.*:UserWarning")


class Rows(torch.utils.data.Dataset):
    """A data set with a column that no model takes."""

    def __init__(self, size, seed):
        self.batch = zoo.batch(size, seed=seed)

    def __len__(self):
        return len(self.batch["labels"])

    def __getitem__(self, i):
        return {"comment": "not for the model", **{name: value[i] for name, value in self.batch.items()}}


def trainer_of(folder, model, callbacks=(), steps=8, **settings):
    arguments = transformers.TrainingArguments(
        output_dir=str(folder),
        **{
            "max_steps": steps,
            "per_device_train_batch_size": 8,
            "learning_rate": 1e-2,
            "weight_decay": 0.01,
            "save_steps": 2,
            "eval_strategy": "steps",
            "eval_steps": 2,
            "logging_steps": 1,
            "report_to": [],
            "disable_tqdm": True,
            "use_cpu": True,
            **settings,
        },
    )
    data = {"train_dataset": Rows(64, 0), "eval_dataset": Rows(16, 1)}
    return transformers.Trainer(model=model, args=arguments, callbacks=list(callbacks), **data)


def run(folder, config, resume=None, **settings):
    """A run in two phases from the same start."""
    transformers.set_seed(0)
    callback = tuning.FarCallback(config)
    trainer = trainer_of(folder, zoo.build(), [callback], **settings)
    trainer.train(resume_from_checkpoint=None if resume is None else str(resume))
    return trainer, callback


def logits(model):
    model.eval()
    with torch.no_grad():
        return model(**zoo.batch(seed=99)).logits


def losses(trainer):
    return [entry["eval_loss"] for entry in trainer.state.log_history if "eval_loss" in entry]


def config(**settings):
    return tuning.FarConfig(**{"retention": 0.1, "priming_steps": 3, **settings})


def test_a_reconfigured_model_trains_with_default_arguments(tmp_path):
    batches = [zoo.batch(seed=seed) for seed in range(2)]
    model = zoo.build()
    model = tuning.get_far_model(model, config(), tuning.prime(model, batches, config()))
    trainer = trainer_of(tmp_path, model, load_best_model_at_end=True)
    assert trainer.label_names == ["labels"]
    before = logits(model)
    trainer.train()
    assert len(losses(trainer)) == 4 and not torch.equal(logits(model), before)
    assert trainer.evaluate()["eval_loss"] == pytest.approx(min(losses(trainer)), abs=1e-6)
    prediction = trainer.predict(Rows(16, 1))
    assert prediction.predictions.shape == (16, 2) and prediction.label_ids.shape == (16,)
    opened = tuning.from_pretrained(zoo.build(), trainer.state.best_model_checkpoint)
    assert torch.equal(logits(opened), logits(model))


def test_a_reconfigured_model_resumes(tmp_path):
    def fresh():
        transformers.set_seed(0)
        return tuning.get_far_model(zoo.build(), config(score="random"))

    whole = trainer_of(tmp_path / "whole", fresh())
    whole.train()
    again = trainer_of(tmp_path / "again", fresh())
    again.train(resume_from_checkpoint=str(tmp_path / "whole" / "checkpoint-4"))
    assert torch.equal(logits(again.model), logits(whole.model))


def test_phases_switch_at_the_step_and_repair_the_optimiser(tmp_path):
    seen = []

    class Watch(transformers.TrainerCallback):
        def on_step_begin(self, args, state, control, model=None, optimizer=None, lr_scheduler=None, **kwargs):
            assert model is not None and optimizer is not None and lr_scheduler is not None
            groups = optimizer.param_groups
            trained = sum(value.requires_grad for value in model.parameters())
            counts = [len(group["params"]) for group in groups]
            rates = lr_scheduler.get_last_lr()
            seen.append((state.global_step, tuning.is_tuned(model), trained, counts, rates))

    transformers.set_seed(0)
    callback = tuning.FarCallback(config(train_embeddings=False))
    base = zoo.build()
    trainer = trainer_of(tmp_path, zoo.build(), [callback, Watch()])
    trainer.train()
    model = trainer.model
    assert [step for step, is_tuned, *_ in seen if not is_tuned] == [0, 1, 2]
    assert all(sum(counts) == trained for _, _, trained, counts, _ in seen) and {len(counts) for *_, counts, _ in seen} == {2}
    assert [rates[0] for *_, rates in seen] == pytest.approx([1e-2 * (8 - step) / 8 for step in range(8)])
    decaying, others = ({id(value) for value in group["params"]} for group in trainer.optimizer.param_groups)
    for name, value in model.named_parameters():
        if value.requires_grad:
            assert id(value) in (others if "bias" in name or "LayerNorm" in name else decaying), name
    state = trainer.optimizer.state
    assert {id(value) for value in state} <= decaying | others
    assert {float(entry["step"]) for entry in state.values()} == {8.0}
    for name, value in model.bert.embeddings.named_parameters():
        assert torch.equal(value, dict(base.bert.embeddings.named_parameters())[name])
    for number, layer in enumerate(model.bert.encoder.layer):
        up, plain = layer.intermediate.dense, base.bert.encoder.layer[number].intermediate.dense
        rest = [i for i in range(64) if i not in callback.selection.indices[f"bert.encoder.layer.{number}.intermediate.dense"]]
        assert torch.equal(up.weight[rest], plain.weight[rest]) and not torch.equal(up.weight, plain.weight)


RESUMED = pytest.mark.slow("trains three times; the first resumes in both phases, test_far_priming.py has every score")


@pytest.mark.parametrize(
    ("score", "after"),
    [
        ("grad_l1", "rollback_frozen"),
        pytest.param("l1_delta", "rollback_frozen", marks=RESUMED),
        pytest.param("grad_abs_sum", "rollback_frozen", marks=RESUMED),
        pytest.param("random", "keep", marks=RESUMED),
        pytest.param("l1_delta", "restart", marks=RESUMED),
    ],
)
def test_resuming_in_either_phase_is_the_uninterrupted_run(score, after, tmp_path):
    settings = config(score=score, after_priming=after)
    whole, callback = run(tmp_path, settings)
    for step in (2, 6):
        again, other = run(tmp_path, settings, resume=tmp_path / f"checkpoint-{step}")
        assert other.selection.indices == callback.selection.indices
        assert torch.equal(logits(again.model), logits(whole.model))
        assert losses(again) == pytest.approx(losses(whole), abs=1e-6)


def test_the_best_model_may_be_of_the_priming_phase(tmp_path):
    trainer, _ = run(tmp_path, config(), load_best_model_at_end=True, learning_rate=0.3)
    best = min(range(4), key=losses(trainer).__getitem__)
    assert trainer.state.best_model_checkpoint.endswith(f"checkpoint-{2 * best + 2}")
    assert trainer.evaluate()["eval_loss"] == pytest.approx(losses(trainer)[best], abs=1e-6)
    # All of this one but its last step is priming, so its best checkpoint is a plain model's.
    early, _ = run(tmp_path / "early", config(priming_steps=8), load_best_model_at_end=True, learning_rate=0.3)
    assert tuning.is_tuned(early.model) and min(losses(early)) in losses(early)[:3]
    assert early.evaluate()["eval_loss"] == pytest.approx(min(losses(early)), abs=1e-6)


def test_nodes_of_the_callback_can_be_had_again_by_seed(tmp_path):
    first, second = (run(tmp_path / name, config())[1].selection.indices for name in ("a", "b"))
    assert first == second


def test_no_priming_steps_switch_before_the_first(tmp_path):
    trainer, callback = run(tmp_path, config(priming_steps=0, score="random"), steps=2)
    assert tuning.is_tuned(trainer.model) and callback.selection.num_steps == 0
    base = zoo.build()
    for number, layer in enumerate(trainer.model.bert.encoder.layer):
        name = f"bert.encoder.layer.{number}.intermediate.dense"
        rest = [i for i in range(64) if i not in callback.selection.indices[name]]
        assert torch.equal(layer.intermediate.dense.weight[rest], base.get_submodule(name).weight[rest])


def test_bfloat16_runs_in_two_phases(tmp_path):
    trainer, _ = run(tmp_path, config(), bf16=True)
    assert tuning.is_tuned(trainer.model) and all(loss < 1.0 for loss in losses(trainer))
    trainer.model.merge_and_unload()


def test_what_the_callback_refuses(tmp_path):
    with pytest.raises(ValueError, match="would have to hold a second model"):
        tuning.FarCallback(tuning.FarConfig(after_priming="keep", keep_base_copy=True))
    tuned = tuning.get_far_model(zoo.build(), config(score="random"))
    with pytest.raises(ValueError, match="tuned already"):
        trainer_of(tmp_path, tuned, [tuning.FarCallback(config())])
    run(tmp_path, config())
    (tmp_path / "checkpoint-2" / "far_priming.safetensors").unlink()
    with pytest.raises(ValueError, match="holds what priming has collected, is not there"):
        run(tmp_path, config(), resume=tmp_path / "checkpoint-2")
    transformers.set_seed(0)
    late = trainer_of(tmp_path, zoo.build())
    late.add_callback(tuning.FarCallback(config()))
    with pytest.raises(ValueError, match="the model is not reconfigured|doesn't match the size|has no attribute"):
        late.train(resume_from_checkpoint=str(tmp_path / "checkpoint-6"))


def test_a_model_in_half_precision_runs_in_two_phases_as_the_same_numbers_in_single(tmp_path):
    found = []
    for number, half in enumerate((True, False)):
        transformers.set_seed(0)
        model = zoo.build().bfloat16()
        trainer = trainer_of(tmp_path / str(number), model if half else model.float(), [tuning.FarCallback(config())])
        trainer.train()
        found.append(trainer.model)
    assert torch.equal(logits(found[0]), logits(found[1])) and logits(found[0]).dtype == torch.float32
