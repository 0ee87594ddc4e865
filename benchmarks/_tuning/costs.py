"""What a step costs: bytes kept for the backward pass, bytes of training state, seconds; in one process, in turns."""

import copy
import gc
import statistics
import time
from collections.abc import Iterator, Sequence
from typing import Any, Literal, NamedTuple

import torch
from transformers import DistilBertConfig, DistilBertForSequenceClassification

from benchmarks._tuning.names import (
    BACKWARD,
    DRIFT,
    FORWARD,
    KEPT,
    KEPT_RATIO,
    OPTIMIZER,
    PASSES_RATIO,
    STATE,
    STEP,
    STEP_RATIO,
    TRAINED,
)
from benchmarks._tuning.variants import COSTS, FLAT, FULL, fresh
from benchmarks.harness.rows import Context, Row, Target
from narrows.tuning import FlatAdamW, decay_groups, kept_bytes

Precision = Literal["fp32", "bf16"]

_MIB = 2**20
_STEADY = 0.05
"""Share by which ordinary fine-tuning may differ from itself before a group of timings is thrown away."""
_TRIES = 3


class Effort(NamedTuple):
    """How much is measured."""

    config: DistilBertConfig  # of the model; None for DistilBERT's own
    names: tuple[str, ...]  # of the variants
    # bytes_batch, seconds_batch: texts and tokens
    bytes_batch: tuple[int, int]
    seconds_batch: tuple[int, int]
    dropouts: tuple[float, ...]  # for bytes; seconds are measured with the first
    rounds: int  # timed steps of each variant
    group: int  # variants that take turns with full fine-tuning, whose models are in memory together
    precisions: tuple[Precision, ...]  # of the computation


FULL_EFFORT = Effort(DistilBertConfig(), tuple(COSTS), (8, 64), (16, 64), (0.1, 0.0), 5, 4, ("fp32", "bf16"))
QUICK = Effort(
    DistilBertConfig(n_layers=4, dim=128, hidden_dim=512, n_heads=4, vocab_size=2000),
    (FULL, "frozen feed-forwards", "FAR_10 keep", "FAR_10 recompute", f"FAR_10 frugal{FLAT}", "Learner_64", "BitFit"),
    (4, 32),
    (4, 32),
    (0.1,),
    3,
    6,
    ("fp32", "bf16"),
)

TRAINED_TARGETS = {"FAR_10 keep": 41_456_180, "FAR_40 keep": 49_949_642, "Learner_64": 5_961_986, "BitFit": 643_586}
"""Of DistilBERT with two labels, exactly (far 7 and learners 5)."""
KEPT_TARGETS = {
    "FAR_10 keep": Target("<=", 0.83),
    "FAR_10 recompute": Target("<=", 0.62),
    "FAR_10 edge keep": Target("<=", 0.82),
    "FAR_10 frugal": Target("<=", 0.62),
    "Learner_64": Target("<=", 1.04),
}
PASSES_TARGETS = {"FAR_10 keep": Target("<=", 0.88)}
STEP_TARGETS = {
    "FAR_10 keep": Target("<=", 0.78),
    "FAR_10 edge keep": Target("<=", 0.66),
    f"FAR_10 frugal{FLAT}": Target("<=", 0.62),
    "Learner_64": Target("<=", 0.75),
}


class Seconds(NamedTuple):
    """Processor seconds of a step's parts."""

    forward: float
    backward: float
    optimizer: float


class _Side:
    """A variant that is timed again and again."""

    def __init__(self, model: Any, optimizer: torch.optim.Optimizer) -> None:
        self.model, self.optimizer = model, optimizer
        self.measured: list[Seconds] = []

    def step(self, batch: dict[str, torch.Tensor], precision: Precision) -> Seconds:
        self.optimizer.zero_grad()
        began = time.process_time()
        with autocast(precision):
            loss = self.model(**batch).loss
        forward = time.process_time()
        loss.backward()
        backward = time.process_time()
        self.optimizer.step()
        return Seconds(forward - began, backward - forward, time.process_time() - backward)


def cost_rows(context: Context, effort: Effort) -> Iterator[Row]:
    """Yield bytes for every dropout and seconds for every precision."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        for dropout in effort.dropouts:
            for precision in effort.precisions:
                yield from _byte_rows(context, effort, dropout, precision)
        for precision in effort.precisions:
            yield from _second_rows(context, effort, precision)
    finally:
        torch.set_num_threads(threads)


def autocast(precision: Precision) -> torch.autocast:
    """Compute in half the bits, or not."""
    return torch.autocast("cpu", dtype=torch.bfloat16, enabled=precision == "bf16")


def _plain(effort: Effort, dropout: float) -> DistilBertForSequenceClassification:
    config = copy.deepcopy(effort.config)
    config.dropout = config.attention_dropout = config.seq_classif_dropout = dropout
    torch.manual_seed(0)
    return DistilBertForSequenceClassification(config).train()


def _batch(effort: Effort, size: tuple[int, int]) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    ids = torch.randint(5, effort.config.vocab_size, size, generator=generator)
    return {"input_ids": ids, "attention_mask": torch.ones_like(ids), "labels": ids[:, 0] % 2}


def _is_published(effort: Effort) -> bool:
    """Whether the model is of the size that the targets are about."""
    return (effort.config.dim, effort.config.n_layers) == (768, 6)


def _byte_rows(context: Context, effort: Effort, dropout: float, precision: Precision) -> Iterator[Row]:
    plain, batch = _plain(effort, dropout), _batch(effort, effort.bytes_batch)
    is_published = _is_published(effort)
    has_target = is_published and precision == "fp32" and dropout > 0.0
    full = 0.0
    for name in effort.names:
        if name.endswith(FLAT):
            continue
        model = COSTS[name](fresh(plain)).train()
        with autocast(precision):
            kept = kept_bytes(model, batch) / _MIB
        full = kept if name == FULL else full
        case = f"tuning/costs/{precision}/dropout {dropout:g}/{name}"
        yield context.row(case, KEPT, [kept], unit="MiB")
        target = KEPT_TARGETS.get(name) if has_target else None
        yield context.row(case, KEPT_RATIO, [kept / full], target=target)
        if dropout == effort.dropouts[0] and precision == effort.precisions[0]:
            trained = sum(parameter.numel() for parameter in model.parameters() if parameter.requires_grad)
            wanted = TRAINED_TARGETS.get(name) if is_published else None
            assert wanted is None or trained == wanted, f"{name} trains {trained}, the specification says {wanted}"
            yield context.row(case, TRAINED, [trained])
            yield context.row(case, STATE, [12 * trained / _MIB], unit="MiB")
        del model
        gc.collect()


def _second_rows(context: Context, effort: Effort, precision: Precision) -> Iterator[Row]:
    others = [name for name in effort.names if name != FULL]
    for start in range(0, len(others), effort.group):
        yield from _group_rows(context, effort, precision, others[start : start + effort.group], start == 0)
        gc.collect()  # a model that is hooked refers to itself, and a gigabyte each would pile up


def _group_rows(context: Context, effort: Effort, precision: Precision, names: Sequence[str], is_first: bool) -> Iterator[Row]:
    sides, drift = _timed(effort, precision, names)
    case = f"tuning/costs/{precision}"
    yield context.row(f"{case}/{' + '.join(names)}", DRIFT, [drift])
    full = sides[FULL].measured
    shown = [FULL, *names] if is_first else list(names)
    for name in shown:
        own = sides[name].measured
        for metric, part in ((FORWARD, 0), (BACKWARD, 1), (OPTIMIZER, 2)):
            yield context.row(f"{case}/{name}", metric, [one[part] for one in own], unit="s", windows=True)
        yield context.row(f"{case}/{name}", STEP, [sum(one) for one in own], unit="s", windows=True)
        passes = [(a.forward + a.backward) / (b.forward + b.backward) for a, b in zip(own, full, strict=True)]
        steps = [sum(a) / sum(b) for a, b in zip(own, full, strict=True)]
        has_target = precision == "fp32" and _is_published(effort)
        target = PASSES_TARGETS.get(name) if has_target else None
        yield context.row(f"{case}/{name}", PASSES_RATIO, passes, windows=True, target=target)
        target = STEP_TARGETS.get(name) if has_target else None
        yield context.row(f"{case}/{name}", STEP_RATIO, steps, windows=True, target=target)


def _timed(effort: Effort, precision: Precision, names: Sequence[str]) -> tuple[dict[str, _Side], float]:
    """Time variants in turns with ordinary fine-tuning first and last; once more where the machine was not steady."""
    batch, plain = _batch(effort, effort.seconds_batch), _plain(effort, effort.dropouts[0])
    sides: dict[str, _Side] = {}
    drift = 0.0
    for _ in range(_TRIES):
        sides.clear()
        gc.collect()
        sides = {name: _side(name, plain) for name in (FULL, *names)}
        last: list[Seconds] = []
        for number in range(effort.rounds + 1):
            for side in sides.values():
                found = side.step(batch, precision)
                if number > 0:  # the first one makes the optimiser's state
                    side.measured.append(found)
            again = sides[FULL].step(batch, precision)
            if number > 0:
                last.append(again)
        drift = statistics.median(sum(one) for one in last) / statistics.median(sum(one) for one in sides[FULL].measured)
        if abs(drift - 1.0) <= _STEADY:
            break
    return sides, drift


def _side(name: str, plain: DistilBertForSequenceClassification) -> _Side:
    model = COSTS[name](fresh(plain)).train()
    groups = decay_groups(model, 0.01)
    return _Side(model, FlatAdamW(groups, lr=1e-5) if name.endswith(FLAT) else torch.optim.AdamW(groups, lr=1e-5))
