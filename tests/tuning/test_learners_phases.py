"""The two phases of learners, with a Trainer and without one."""

import pytest

zoo = pytest.importorskip("tests.tuning.zoo", reason="PyTorch or transformers is missing: pip install 'narrows[tuning]'")
pytest.importorskip("accelerate", reason="the Trainer needs accelerate: pip install 'narrows[tuning]'")
from tests.tuning.test_far_trainer import Rows, logits, losses, trainer_of  # noqa: E402  the import needs torch

torch, transformers, tuning = zoo.torch, zoo.transformers, zoo.tuning

pytestmark = pytest.mark.filterwarnings("ignore:.*pin_memory.*:UserWarning", "ignore:priming moved.*:UserWarning")


def learners(**settings):
    return tuning.get_learner_model(zoo.build(), tuning.LearnerConfig(**{"r": 4, "priming_steps": 3, **settings}))


def run(folder, resume=None, settings=None, optimizer=False, **arguments):
    transformers.set_seed(0)
    model = learners(**(settings or {}))
    trainer = trainer_of(folder, model, [tuning.LearnerCallback()], **arguments)
    if optimizer:
        # A second Trainer on the same model, whose first one has a callback too.
        own = torch.optim.AdamW(tuning.learner_groups(model, 1e-2, 1e-3))
        trainer = transformers.Trainer(
            model=model,
            args=trainer.args,
            callbacks=[tuning.LearnerCallback()],
            optimizers=(own, None),
            train_dataset=Rows(64, 0),
            eval_dataset=Rows(16, 1),
        )
    trainer.train(resume_from_checkpoint=None if resume is None else str(resume))
    return trainer


def attention(model):
    return {
        name: value.detach().clone()
        for name, value in model.named_parameters()
        if ".attention." in name and name.endswith("weight") and "LayerNorm" not in name
    }


class Watch(transformers.TrainerCallback):
    def __init__(self):
        self.seen = []

    def on_step_begin(self, args, state, control, model=None, optimizer=None, lr_scheduler=None, **kwargs):
        assert model is not None and optimizer is not None and lr_scheduler is not None
        counts = [len(group["params"]) for group in optimizer.param_groups]
        trained = sum(value.requires_grad for value in model.parameters())
        self.seen.append((tuning.is_priming(model), attention(model), counts, trained, lr_scheduler.get_last_lr()[0]))


@pytest.mark.parametrize(
    ("settings", "steps", "switch"),
    [({"priming_steps": 3}, 8, 3), ({"priming_steps": None, "priming_epochs": 0.5}, 8, 4), ({"priming_steps": 0}, 3, 0)],
)
def test_attention_moves_in_priming_and_is_constant_afterwards(settings, steps, switch, tmp_path):
    transformers.set_seed(0)
    watch = Watch()
    trainer = trainer_of(tmp_path, learners(**settings), [tuning.LearnerCallback(), watch], steps=steps)
    trainer.train()
    phases = [is_priming for is_priming, *_ in watch.seen]
    assert phases == [step < switch for step in range(steps)]
    states = [values for _, values, *_ in watch.seen] + [attention(trainer.model)]
    for step in range(steps):
        is_same = [torch.equal(states[step][name], states[step + 1][name]) for name in states[step]]
        assert not any(is_same) if step < switch else all(is_same)
    assert all(sum(counts) == trained and len(counts) == 2 for _, _, counts, trained, _ in watch.seen)
    assert [rate for *_, rate in watch.seen] == pytest.approx([1e-2 * (steps - i) / steps for i in range(steps)])
    trained = {value for value in trainer.model.parameters() if value.requires_grad}
    assert set(trainer.optimizer.state) == trained


THEIRS = pytest.mark.slow("trains three times; one's own optimizer comes back as theirs does")


@pytest.mark.parametrize("optimizer", [pytest.param(False, marks=THEIRS, id="trainer's"), pytest.param(True, id="own")])
def test_resuming_in_either_phase_is_the_uninterrupted_run(optimizer, tmp_path):
    whole = run(tmp_path, optimizer=optimizer)
    for step in (2, 6):
        again = run(tmp_path, tmp_path / f"checkpoint-{step}", optimizer=optimizer)
        assert torch.equal(logits(again.model), logits(whole.model))
        assert losses(again) == pytest.approx(losses(whole), abs=1e-6) and not tuning.is_priming(again.model)


def test_the_best_checkpoint_comes_back_and_opens(tmp_path):
    trainer = run(tmp_path, load_best_model_at_end=True, learning_rate=0.1)
    assert trainer.label_names == ["labels"] and len(losses(trainer)) == 4
    assert trainer.evaluate()["eval_loss"] == pytest.approx(min(losses(trainer)), abs=1e-6)
    opened = tuning.from_pretrained(zoo.build(), trainer.state.best_model_checkpoint)
    assert torch.equal(logits(opened), logits(trainer.model))


def test_phases_in_a_loop_of_ones_own():
    model = learners(train_down_projection=False)
    groups = tuning.learner_groups(model, 1e-2, 1e-3)
    assert sorted(group["lr"] for group in groups) == [1e-3, 1e-2, 1e-2]
    slow = {id(value) for group in groups if group["lr"] == 1e-3 for value in group["params"]}
    assert slow == {id(value) for name, value in model.named_parameters() if name in attention(model)}
    optimizer = torch.optim.AdamW(groups)

    def steps(number):
        for step in range(number):
            optimizer.zero_grad()
            model(**zoo.batch(seed=step)).loss.backward()
            optimizer.step()

    def downs():
        return [m.learner_down.detach().clone() for m in model.modules() if hasattr(m, "learner_down")]

    # One step for the second matrices, which start at zero, and one for the first.
    start, fresh = attention(model), downs()
    steps(2)
    primed, moved = attention(model), downs()
    assert not any(torch.equal(primed[name], start[name]) for name in start)
    assert not any(torch.equal(a, b) for a, b in zip(fresh, moved, strict=True))
    tuning.end_priming(model, optimizer)
    steps(3)
    assert all(torch.equal(value, primed[name]) for name, value in attention(model).items())
    assert all(torch.equal(a, b) for a, b in zip(moved, downs(), strict=True))
    assert len(optimizer.param_groups) == 3 and not optimizer.param_groups[[g["lr"] for g in groups].index(1e-3)]["params"]
    with pytest.raises(ValueError, match="priming is over already"):
        tuning.end_priming(model)


def test_other_weights_can_be_primed():
    model = learners(priming_trains=["layer.1.output", "word_embeddings"])
    state = {name for name, value in model.named_parameters() if value.requires_grad}
    tuning.end_priming(model)
    after = {name for name, value in model.named_parameters() if value.requires_grad}
    assert state - after == {"bert.encoder.layer.1.output.dense.weight", "bert.embeddings.word_embeddings.weight"} | {
        name for name in state - after if "learner" in name
    }
    assert all(learner in after for learner in state if "learner" in learner)


def test_what_the_callback_refuses(tmp_path):
    with pytest.raises(ValueError, match="not tuned"):
        trainer_of(tmp_path, zoo.build(), [tuning.LearnerCallback()])
    far = tuning.get_far_model(zoo.build(), tuning.FarConfig(score="random"))
    with pytest.raises(ValueError, match="tuned by 'far'"):
        trainer_of(tmp_path, far, [tuning.LearnerCallback()])
    with pytest.raises(ValueError, match="tuned by 'far'|no learners"):
        tuning.learner_groups(far)
