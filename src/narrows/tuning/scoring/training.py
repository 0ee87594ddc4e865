"""One member of a scorer, trained: an encoder tuned by any method, judged after each epoch, stopped early, resumable."""

import itertools
import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor
from transformers import PreTrainedModel

from narrows.tuning.base import TunedModel, tuning_of
from narrows.tuning.learners.config import LearnerConfig
from narrows.tuning.learners.phases import end_priming, is_priming
from narrows.tuning.methods import Method, config_of, parameter_groups, tuned, usual_learning_rate
from narrows.tuning.opening import from_pretrained
from narrows.tuning.recording import Batch
from narrows.tuning.scoring import state
from narrows.tuning.scoring.outputs import Precision, autocast, harmless_side, logits, predict
from narrows.tuning.scoring.reading import Reader, Side, epoch_batches
from narrows.tuning.scoring.state import Progress
from narrows.tuning.scoring.task import Task, sample_weights

_CHECKPOINT_SECONDS = 120.0


@dataclass(frozen=True)
class TuningSettings:
    """Settings of the tuning of one encoder.

    Attributes:
        method: by name, see `narrows.tuning.methods`.
        retention: share of nodes that go on learning, for far; None for the method's own.
        rank: of learners and LoRA; None for the method's own.
        epochs: passes over the rows at most.
        batch_size: rows a step.
        learning_rate: None for the method's usual one.
        weight_decay: of everything but biases and norms.
        warmup: share of the steps in which the rate rises; then it falls to nothing in a straight line.
        patience: epochs without a lower validation loss after which training ends.
        clip: norm of the gradient at most.
        precision: `bf16` computes the layers under autocast; weights and their updates stay in 32 bits.
        seed: of the head, the order of rows, the priming and dropout.
    """

    method: Method = "far"
    retention: float | None = None
    rank: int | None = None
    epochs: int = 5
    batch_size: int = 16
    learning_rate: float | None = None
    weight_decay: float = 0.01
    warmup: float = 0.1
    patience: int = 2
    clip: float = 1.0
    precision: Precision = "fp32"
    seed: int = 0

    def __post_init__(self) -> None:
        config_of(self.method, self.retention, self.rank)
        for name in ("epochs", "batch_size", "patience"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, got {getattr(self, name)}.")
        if self.learning_rate is not None and not 0.0 < self.learning_rate < 1.0:
            raise ValueError(f"learning_rate must be between 0 and 1, got {self.learning_rate}.")
        if not (self.weight_decay >= 0.0 and self.clip > 0.0 and 0.0 <= self.warmup < 1.0):
            raise ValueError(
                "weight_decay must not be negative, clip must be positive and warmup a share of the steps, got "
                f"{self.weight_decay}, {self.clip} and {self.warmup}."
            )
        if self.precision not in ("fp32", "bf16"):
            raise ValueError(f"precision is fp32 or bf16, got {self.precision!r}.")
        if self.seed < 0:
            raise ValueError(f"seed must be at least 0, got {self.seed}.")


class Rows(NamedTuple):
    """The rows that are learned from, and those that are looked at after each epoch.

    Attributes:
        ids: token ids of all texts.
        values: the score of each, or the place of its class.
        train, validation: rows.
    """

    ids: tuple[list[int], ...]
    values: Float[np.ndarray, " row"]
    train: Int[np.ndarray, " train"]
    validation: Int[np.ndarray, " validation"]

    @property
    def lengths(self) -> Int[np.ndarray, " row"]:
        """Tokens of each text."""
        return np.asarray([len(ids) for ids in self.ids])


class Watch(NamedTuple):
    """Callbacks of someone who follows a training.

    Attributes:
        epoch: called with a row after each epoch: `epoch`, `step`, `loss`, `validation`, `best`, `seconds`.
        step: called after each step with the step and the number of all.
        is_stopping: whether somebody wants training to stop, after this step and with a checkpoint.
    """

    epoch: Callable[[dict[str, float]], None] = lambda row: None
    step: Callable[[int, int], None] = lambda step, total: None
    is_stopping: Callable[[], bool] = lambda: False


class Member(NamedTuple):
    """A trained member.

    Attributes:
        model: with the weights of its best epoch, in evaluation mode.
        progress: of its training.
        is_finished: False where somebody stopped it; a checkpoint holds what it came to.
    """

    model: TunedModel
    progress: Progress
    is_finished: bool


def train_member(
    opened: Callable[[], PreTrainedModel],
    reader: Reader,
    task: Task,
    rows: Rows,
    settings: TuningSettings,
    folder: Path,
    watch: Watch,
) -> Member:
    """Train one member, or go on with it where `folder` holds a checkpoint; the result is the same bit for bit.

    Args:
        opened: gives the plain encoder with a fresh head, the same one at every call.
        reader: makes batches.
        task: what the head is for.
        rows: what is learned from.
        settings: how.
        folder: of the checkpoints; made if it is not there.
        watch: who looks on.
    """
    folder.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(settings.seed)
    plain = opened()
    side = harmless_side(plain, reader, [rows.ids[row] for row in rows.train])
    run = _Run(reader, task, rows, settings, side)
    checkpoint = state.current_checkpoint(folder)
    if checkpoint is None:
        config = config_of(settings.method, settings.retention, settings.rank)
        model = tuned(plain, config, run.forever(), run.total, run.loss)
        torch.manual_seed(settings.seed)
        progress, optimizer = Progress(), run.optimizer(model)
    else:
        progress = state.read_progress(checkpoint)
        model = from_pretrained(plain, checkpoint, is_trainable=True)
        optimizer = run.optimizer(model)
        state.restore(checkpoint, model, optimizer)
    progress = run.train(model, optimizer, progress, folder, watch)
    if not run.is_over(progress):
        return Member(model, progress, False)
    return Member(from_pretrained(opened(), state.best_adapter(folder, progress)), progress, True)


class _Run:
    """The constants of one training, and its steps."""

    def __init__(self, reader: Reader, task: Task, rows: Rows, settings: TuningSettings, side: Side | None) -> None:
        self.reader, self.task, self.rows, self.settings = reader, task, rows, settings
        self.side: Side | None = side
        self.targets = task.targets(rows.values)
        self.weights = sample_weights(len(rows.values), task.heads, settings.seed)
        self.lengths = rows.lengths
        self.per_epoch = -(-len(rows.train) // settings.batch_size)
        self.total = self.per_epoch * settings.epochs

    def batches(self, epoch: int) -> Iterator[dict[str, Tensor]]:
        """Yield the batches of an epoch."""
        for where in epoch_batches(self.lengths, self.rows.train, self.settings.batch_size, self.settings.seed, epoch):
            yield self._batch(where)

    def forever(self) -> Iterator[dict[str, Tensor]]:
        """Yield batches without end, for priming; training begins at the first one again."""
        for epoch in itertools.count():
            yield from self.batches(epoch)

    def loss(self, model: PreTrainedModel, batch: Batch) -> Tensor:
        """Return the mean loss of a batch over rows and heads, each row as often as each head drew it."""
        weights, targets = batch["weights"], batch["targets"]
        with autocast(model, self.settings.precision):
            found = logits(model, batch, self.side)
        return (self.task.losses(found, targets) * weights).mean()

    def optimizer(self, model: TunedModel) -> torch.optim.Optimizer:
        """Return AdamW over what is trained; the rate of each group is kept beside it, for the schedule."""
        rate = self.settings.learning_rate
        rate = usual_learning_rate(self.settings.method) if rate is None else rate
        groups = [{**group, "peak": group["lr"]} for group in parameter_groups(model, rate, self.settings.weight_decay)]
        return torch.optim.AdamW(groups, lr=rate, fused=True)

    def train(
        self, model: TunedModel, optimizer: torch.optim.Optimizer, progress: Progress, folder: Path, watch: Watch
    ) -> Progress:
        """Train until the end, an early end, or somebody's wish; return how far it came."""
        model.train(True)
        began, saved = time.monotonic() - progress.seconds, time.monotonic()
        while not self.is_over(progress):
            epoch, done = divmod(progress.step, self.per_epoch)
            for batch in itertools.islice(self.batches(epoch), done, None):
                losses = progress.losses + self._step(model, optimizer, batch, progress.step)
                progress = progress._replace(step=progress.step + 1, seconds=time.monotonic() - began, losses=losses)
                self._end_priming(model, optimizer, progress.step)
                watch.step(progress.step, self.total)
                is_last = progress.step % self.per_epoch == 0
                if watch.is_stopping() and not is_last:
                    state.save_checkpoint(folder, model, optimizer, progress)
                    return progress
                if time.monotonic() - saved > _CHECKPOINT_SECONDS and not is_last:
                    state.save_checkpoint(folder, model, optimizer, progress)
                    saved = time.monotonic()
            progress = self._judge(model, progress, folder)
            state.save_checkpoint(folder, model, optimizer, progress)
            saved = time.monotonic()
            watch.epoch(dict(progress.history[-1]))
            if watch.is_stopping():
                break
        return progress

    def is_over(self, progress: Progress) -> bool:
        """Whether all epochs are done, or too many were of no use."""
        epoch = progress.step // self.per_epoch
        is_judged = len(progress.history) == epoch
        return is_judged and (progress.step >= self.total or epoch - progress.best_epoch >= self.settings.patience > 0 < epoch)

    def _batch(self, where: Int[np.ndarray, " batch"]) -> dict[str, Tensor]:
        batch = self.reader.batch([self.rows.ids[row] for row in where], side=self.side)
        index = torch.as_tensor(where)
        return {**batch, "targets": self.targets[index], "weights": self.weights[index]}

    def _step(self, model: TunedModel, optimizer: torch.optim.Optimizer, batch: Batch, step: int) -> float:
        for group in optimizer.param_groups:
            group["lr"] = group["peak"] * self._rise_and_fall(step)
        optimizer.zero_grad()
        loss = self.loss(model, {name: value.to(model.device) for name, value in batch.items()})
        value = float(loss.detach())
        if not math.isfinite(value):
            raise ValueError(
                f"the loss of step {step + 1} is {value}: training diverged. Lower the learning rate, and look for scores "
                "far away from all others."
            )
        loss.backward()
        torch.nn.utils.clip_grad_norm_([p for group in optimizer.param_groups for p in group["params"]], self.settings.clip)
        optimizer.step()
        return value

    def _rise_and_fall(self, step: int) -> float:
        rising = round(self.settings.warmup * self.total)
        if step < rising:
            return (step + 1) / rising
        return (self.total - step) / max(1, self.total - rising)

    def _end_priming(self, model: TunedModel, optimizer: torch.optim.Optimizer, step: int) -> None:
        config = tuning_of(model).config
        if isinstance(config, LearnerConfig) and is_priming(model) and config.is_primed(step, step / self.per_epoch):
            end_priming(model, optimizer)

    def _judge(self, model: TunedModel, progress: Progress, folder: Path) -> Progress:
        epoch = progress.step // self.per_epoch
        ids = tuple(self.rows.ids[row] for row in self.rows.validation)
        found = torch.as_tensor(predict(model, self.reader, ids, self.settings.precision))
        validation = float(self.task.losses(found, self.targets[torch.as_tensor(self.rows.validation)]).mean())
        is_best = validation < progress.best_loss
        if is_best:
            state.save_best(folder, model, epoch)
            progress = progress._replace(best_epoch=epoch, best_loss=validation)
        row = {
            "epoch": epoch,
            "step": progress.step,
            "loss": progress.losses / self.per_epoch,
            "validation": validation,
            "best": float(is_best),
            "seconds": progress.seconds,
        }
        return progress._replace(losses=0.0, history=(*progress.history, row))
