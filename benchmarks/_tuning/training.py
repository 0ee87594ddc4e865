"""One training of one method on one task, in a process of its own on one core; what was trained is not trained again."""

import dataclasses
import hashlib
import json
import math
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch

from benchmarks._tuning.corpus import Examples
from benchmarks._tuning.costs import Precision, autocast
from benchmarks._tuning.variants import ACCURACY
from narrows.files import write_atomically
from narrows.tuning import LearnerConfig, end_priming, is_priming
from narrows.tuning.config import TuningConfig
from narrows.tuning.methods import parameter_groups, tuned
from narrows.tuning.scoring.encoder import open_encoder

_LONGEST = 64
"""Tokens of a text at most; none of the tasks has longer ones but a few pairs."""
_PREDICTED = 64
_DECAY, _WARMUP, _CLIP = 0.01, 0.1, 1.0
_FORMAT = 2
_POOL = 8
"""Batches whose rows are sorted by length before they are cut, since a batch costs as much as its longest row."""


class Job(NamedTuple):
    """What is trained."""

    method: str  # a name of `ACCURACY`
    learning_rate: float  # of everything but weights that learners' priming trains, which get a tenth
    seed: int  # of the head, the order of rows, dropout, priming, and of the task
    # train, test: rows
    train: Examples
    test: Examples
    epochs: int  # passes over the rows
    batch_size: int  # rows a step
    precision: Precision  # of the layers
    encoder: str  # folder of the pre-trained model
    task: str  # for the record

    @property
    def key(self) -> str:
        """What names the result in the folder of results: everything but where the encoder lies."""
        text = repr((_FORMAT, self._replace(encoder="")))
        return f"{self.task}-{hashlib.sha256(text.encode()).hexdigest()[:20]}"


class Result(NamedTuple):
    """What came of it."""

    accuracy: float  # share of the test rows
    correlation: float  # Matthews'
    loss: float  # mean over the last epoch
    seconds: float  # processor seconds of training, priming included
    trained: int  # numbers that are trained at the end
    nodes: dict[str, list[int]]  # learner nodes by feed-forward, of Freeze-And-Reconfigure


def known_result(job: Job, folder: Path) -> Result | None:
    """Return what was trained before."""
    path = folder / f"{job.key}.json"
    return Result(**json.loads(path.read_text(encoding="utf-8"))) if path.is_file() else None


def run(job: Job, folder: Path) -> Result:
    """Train, judge and remember."""
    before = known_result(job, folder)
    if before is not None:
        return before
    torch.set_num_threads(1)
    result = _train(job)
    folder.mkdir(parents=True, exist_ok=True)
    write_atomically(folder / f"{job.key}.json", json.dumps(result._asdict()))
    return result


def _train(job: Job) -> Result:
    plain, tokenizer = open_encoder(job.encoder, 2, job.seed, "single_label_classification")
    ids = _read(tokenizer, job.train)
    per_epoch = math.ceil(len(ids) / job.batch_size)
    total = per_epoch * job.epochs
    batches = [
        [_batch(tokenizer, job.train, ids, rows) for rows in _epoch(job, epoch, [len(one["input_ids"]) for one in ids])]
        for epoch in range(job.epochs)
    ]
    began = time.process_time()
    config = ACCURACY[job.method]
    if isinstance(config, TuningConfig):
        seeded = dataclasses.replace(config, seed=job.seed) if "seed" in vars(config) else config
        model = tuned(plain, seeded, [batch for epoch in batches for batch in epoch], total, _loss_of(job.precision))
        groups = parameter_groups(model, job.learning_rate, _DECAY)
    else:
        model = config(plain)
        groups = [{"params": [value for value in model.parameters() if value.requires_grad], "lr": job.learning_rate}]
    optimizer = torch.optim.AdamW([{**group, "peak": group["lr"]} for group in groups], fused=True)
    torch.manual_seed(job.seed)
    model.train(True)
    losses: list[float] = []
    for step, batch in enumerate(batch for epoch in batches for batch in epoch):
        for group in optimizer.param_groups:
            group["lr"] = group["peak"] * _rise_and_fall(step, total)
        optimizer.zero_grad()
        with autocast(job.precision):
            loss = model(**batch).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_([value for group in optimizer.param_groups for value in group["params"]], _CLIP)
        optimizer.step()
        losses.append(float(loss.detach()))
        if isinstance(config, LearnerConfig) and is_priming(model) and config.is_primed(step + 1, (step + 1) / per_epoch):
            end_priming(model, optimizer)
    seconds = time.process_time() - began
    accuracy, correlation = _judge(model, tokenizer, job)
    ending = ".far_index"
    held = model.state_dict().items()
    nodes = {name.removesuffix(ending): value.tolist() for name, value in held if name.endswith(ending)}
    trained = sum(value.numel() for value in model.parameters() if value.requires_grad)
    return Result(accuracy, correlation, float(np.mean(losses[-per_epoch:])), seconds, trained, nodes)


def _loss_of(precision: Precision) -> Any:
    def loss(model: Any, batch: Any) -> torch.Tensor:
        with autocast(precision):
            return model(**batch).loss

    return loss


def _rise_and_fall(step: int, total: int) -> float:
    rising = round(_WARMUP * total)
    return (step + 1) / rising if step < rising else (total - step) / max(1, total - rising)


def _read(tokenizer: Any, own: Examples) -> list[dict[str, list[int]]]:
    second = list(own.second) or None
    found = tokenizer(list(own.first), second, truncation=True, max_length=_LONGEST)
    return [{name: found[name][row] for name in found} for row in range(len(own.first))]


def _epoch(job: Job, epoch: int, lengths: Sequence[int]) -> Iterator[np.ndarray]:
    """Yield the rows of each batch: in a random order, those of a few batches exchanged so that a batch has one length."""
    rng = np.random.default_rng([job.seed, epoch])
    order = rng.permutation(len(lengths))
    batches = []
    for start in range(0, len(order), _POOL * job.batch_size):
        pool = order[start : start + _POOL * job.batch_size]
        pool = pool[np.argsort(np.asarray(lengths)[pool], kind="stable")]
        batches += [pool[place : place + job.batch_size] for place in range(0, len(pool), job.batch_size)]
    yield from (batches[place] for place in rng.permutation(len(batches)))


def _batch(tokenizer: Any, own: Examples, ids: Sequence[Any], rows: Sequence[int] | np.ndarray) -> dict[str, Any]:
    batch = dict(tokenizer.pad([ids[row] for row in rows], return_tensors="pt"))
    return {**batch, "labels": torch.as_tensor([own.labels[row] for row in rows])}


def _judge(model: Any, tokenizer: Any, job: Job) -> tuple[float, float]:
    model.train(False)
    ids = _read(tokenizer, job.test)
    guess = []
    with torch.inference_mode(), autocast(job.precision):
        for start in range(0, len(ids), _PREDICTED):
            batch = _batch(tokenizer, job.test, ids, range(start, min(start + _PREDICTED, len(ids))))
            guess.append(model(**batch).logits.argmax(-1).numpy())
    said, truth = np.concatenate(guess), np.asarray(job.test.labels)
    correlation = np.corrcoef(said, truth)[0, 1] if np.ptp(said) > 0 else 0.0
    return float(np.mean(said == truth)), float(correlation)
