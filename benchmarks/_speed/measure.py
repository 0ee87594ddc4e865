"""From a plan to rows: workers side by side, training, windows in turns, arithmetic counted by hand, and every verdict."""

import math
import statistics
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

from benchmarks._speed.plan import (
    BATCHES,
    FITTED,
    LENGTH_EXPONENT,
    LENGTHS,
    MAX_LENGTH_SAMPLING,
    MAX_LENGTH_TRAINING,
    PEER_BATCHES,
    SHARE_BATCH,
    SHARE_OF_PEAK,
    Plan,
    of_batch,
    of_length,
)
from benchmarks._speed.problem import DEPTH, FEED_FORWARD, HIDDEN, LAYERS, WIDTH, Problem
from benchmarks._speed.protocol import Answer
from benchmarks._speed.reference import product_flops
from benchmarks._speed.workers import ONE, OURS, REFERENCE, Worker, at_work
from benchmarks.harness.processes import tell
from benchmarks.harness.rows import Context, Row, Target
from benchmarks.harness.turns import ratios


class Asked(Protocol):
    """Whoever answers questions by name: a `Worker`."""

    name: str

    def ask(self, ask: str, **details: Any) -> Answer:
        """Ask and wait for the answer."""
        ...


@dataclass
class Timing:
    """What one side takes for one kind of work, `train` or `sample`."""

    worker: Asked  # the side
    ask: str  # the work
    unit: int  # iterations in a window are whole multiples of it
    compile_seconds: float  # the first call of a unit less a later one of the same
    unit_seconds: float  # that later call
    first_loss: float | None  # the mean loss of the very first unit; None for sampling
    rates: list[float] = field(default_factory=list)  # iterations a second, one a window
    # losses, decisions: of each window of training
    losses: list[float] = field(default_factory=list)
    decisions: list[float] = field(default_factory=list)

    @property
    def rate(self) -> float:
        """Return the median iterations a second."""
        return statistics.median(self.rates)


WARM_UP = 3
"""Units that `warm_up` asks for."""


def warm_up(worker: Asked, unit: int, ask: str = "train") -> Timing:
    """Ask for the same unit of work three times: the first compiles, the quicker of the others tells what a unit takes."""
    first, *later = (worker.ask(ask, count=unit) for _ in range(WARM_UP))
    quickest = min(answer["seconds"] for answer in later)
    return Timing(worker, ask, unit, max(first["seconds"] - quickest, 0.0), quickest, first.get("loss"))


def take_turns(timings: Sequence[Timing], windows: int, seconds: float) -> None:
    """Time `windows` windows of about `seconds` on every side, in turns, and add them to the timings."""
    counts = [timing.unit * max(1, round(seconds / timing.unit_seconds)) for timing in timings]
    for _ in range(windows):
        for timing, count in zip(timings, counts, strict=True):
            answer = timing.worker.ask(timing.ask, count=count)
            timing.rates.append(count / answer["seconds"])
            if timing.ask == "train":
                timing.losses.append(answer["loss"])
                timing.decisions.append(answer["decisions"])


PASSES = 3
"""A forward pass and the two products of the backward pass. That sampling evaluates the network too counts against a side."""


def iteration_flops(problem: Problem, mean_decisions: float) -> float:
    """Return the floating-point operations of one iteration: two for each multiply-add of the network's matrix products.

    Only real steps count, and causal attention only for the keys that exist. Padding, recomputation, the first layer's rows
    (a look-up, not a product), embeddings, norms, the softmax and the optimiser count for nothing.
    """
    return 2.0 * PASSES * problem.batch * trajectory_multiply_adds(problem, mean_decisions)


def trajectory_multiply_adds(problem: Problem, decisions: float) -> float:
    """Return the multiply-adds of one forward pass over a trajectory of `decisions` steps."""
    outputs = problem.num_choices + (problem.objective == "db")
    if problem.network == "mlp":
        return decisions * ((DEPTH - 1) * HIDDEN * HIDDEN + HIDDEN * outputs)
    projections = 4 * WIDTH * WIDTH + 2 * WIDTH * FEED_FORWARD
    # The step at position t attends to t + 1 keys, once for the scores and once for the values.
    attention = 2 * WIDTH * decisions * (decisions + 1) / 2
    return LAYERS * (decisions * projections + attention) + decisions * WIDTH * outputs


_MEGABYTE = 1e6
_PRODUCTS = 2


@dataclass(frozen=True)
class Effort:
    """How long to look: the number of windows, and about how many seconds each lasts."""

    windows: int
    seconds: float


FULL, QUICK = Effort(5, 1.2), Effort(3, 0.8)


def measure_plan(context: Context, plan: Plan, peers: Sequence[str], effort: Effort) -> Iterator[Row]:
    """Yield the rows of one case: each side's figures, then ours against each peer's."""
    tell(f"{plan.name}: {', '.join([OURS, *peers])}")
    with at_work([OURS, *peers], plan.problem) as workers, at_work([REFERENCE], plan.problem) as (reference,):
        context = with_versions(context, workers)
        timings = [warm_up(worker, unit_of(worker.name, plan.problem)) for worker in workers]
        losses = [_train(timing, plan) for timing in timings] if plan.trained else []
        products = warm_up(reference, _PRODUCTS, "sample")
        take_turns([*timings, products], effort.windows, effort.seconds)
        memories = [worker.ask("memory")["peak_bytes"] / _MEGABYTE for worker in workers]
    for timing, memory in zip(timings, memories, strict=True):
        yield from _side_rows(context, plan, timing, products, memory)
    for timing, loss in zip(timings, losses, strict=False):
        # The warm-up's first unit is a tenth as long for a peer: its mean loss stands nearer to the start.
        falls = statistics.median(timing.losses) / (timing.first_loss or 1.0)
        case = f"speed/{plan.name}/{timing.worker.name}"
        yield context.row(case, f"loss after {plan.trained} iterations", [loss])
        yield context.row(case, "loss, in the windows to at first", [falls], target=Target("<", 1.0))
    for theirs, memory in zip(timings[1:], memories[1:], strict=True):
        yield from _comparison_rows(context, plan, timings[0], theirs, memories[0], memory)
    if plan.memory_mb is not None:
        case = f"speed/{plan.name}/{OURS}"
        yield context.row(case, "peak memory, bounded", [memories[0]], unit="MB", target=Target("<=", plan.memory_mb))


def measure_lengths(context: Context, peers: Sequence[str], effort: Effort) -> Iterator[Row]:
    """Yield the cost of a trajectory at every length, and how it grows."""
    costs: dict[str, dict[int, float]] = {}
    for length in LENGTHS:
        problem = of_length(length)
        present = peers if length <= MAX_LENGTH_SAMPLING else ()
        tell(f"length {length}: {', '.join([OURS, *present])}")
        with at_work([OURS, *present], problem) as workers:
            context = with_versions(context, workers)
            sampling = [warm_up(worker, unit_of(worker.name, problem), "sample") for worker in workers]
            take_turns(sampling, effort.windows, effort.seconds / 2)
            trainers = [worker for worker in workers if worker.name == OURS or length <= MAX_LENGTH_TRAINING]
            training = [warm_up(worker, unit_of(worker.name, problem)) for worker in trainers]
            take_turns(training, effort.windows, effort.seconds / 2)
        for metric, timings in (("sampling", sampling), ("training", training)):
            for timing in timings:
                values = [1e6 / (rate * problem.batch) for rate in timing.rates]
                case = f"speed/length-{length}/{timing.worker.name}"
                yield context.row(case, f"{metric} time a trajectory", values, unit="us", windows=True)
        for timing in sampling:
            costs.setdefault(timing.worker.name, {})[length] = 1.0 / timing.rate
    for name, cost in costs.items():
        fitted = {length: seconds for length, seconds in cost.items() if FITTED[0] <= length <= FITTED[1]}
        target = Target("<=", LENGTH_EXPONENT) if name == OURS else None
        metric = f"exponent of sampling time in length, {FITTED[0]} to {FITTED[1]}"
        yield context.row(f"speed/length/{name}", metric, [growth(fitted)], target=target)


def measure_batches(context: Context, peers: Sequence[str], effort: Effort) -> Iterator[Row]:
    """Yield how the rate grows with the batch, and how near it comes to the machine's peak."""
    for batch in BATCHES:
        problem = of_batch(batch)
        present = peers if batch in PEER_BATCHES else ()
        tell(f"batch {batch}: {', '.join([OURS, *present])}")
        with at_work([OURS, *present], problem) as workers, at_work([REFERENCE], problem) as (reference,):
            context = with_versions(context, workers)
            timings = [warm_up(worker, unit_of(worker.name, problem)) for worker in workers]
            products = warm_up(reference, _PRODUCTS, "sample")
            take_turns([*timings, products], effort.windows, effort.seconds)
            memories = [worker.ask("memory")["peak_bytes"] / _MEGABYTE for worker in workers]
        for timing, memory in zip(timings, memories, strict=True):
            case = f"speed/batch-{batch}/{timing.worker.name}"
            rates = [rate * batch for rate in timing.rates]
            yield context.row(case, "trajectories", rates, unit="1/s", windows=True)
            is_judged = timing.worker.name == OURS and batch == SHARE_BATCH
            shares = _shares(problem, timing, products)
            target = Target(">=", SHARE_OF_PEAK) if is_judged else None
            yield context.row(case, "share of the product peak", shares, windows=True, target=target)
            yield context.row(case, "peak memory", [memory], unit="MB")


def growth(costs: dict[int, float]) -> float:
    """Return the least-squares exponent of a cost in a length."""
    lengths, logs = [math.log(length) for length in costs], [math.log(cost) for cost in costs.values()]
    return statistics.linear_regression(lengths, logs).slope


def unit_of(name: str, problem: Problem) -> int:
    """Return the iterations of a unit: ours compiles whole chunks, a peer is slower and runs any number."""
    return problem.chunk if name in (OURS, ONE) else max(1, problem.chunk // 10)


def with_versions(context: Context, workers: Sequence[Worker]) -> Context:
    """Return the context with the versions of the peers' libraries beside ours."""
    found = {
        library if library == worker.name else f"{worker.name}'s {library}": version
        for worker in workers
        if worker.name not in (OURS, ONE)
        for library, version in worker.versions.items()
    }
    return replace(context, versions={**context.versions, **found})


def _train(timing: Timing, plan: Plan) -> float:
    """Train until the plan's number of iterations and return the mean loss of the last chunk."""
    left, tail = plan.trained - WARM_UP * timing.unit, plan.problem.chunk
    if left > tail:
        timing.worker.ask("train", count=left - tail)
    return timing.worker.ask("train", count=min(tail, max(left, 1)))["loss"]


def _side_rows(context: Context, plan: Plan, timing: Timing, products: Timing, memory: float) -> Iterator[Row]:
    case = f"speed/{plan.name}/{timing.worker.name}"
    yield context.row(case, "iterations", timing.rates, unit="1/s", windows=True)
    rates = [rate * plan.problem.batch for rate in timing.rates]
    yield context.row(case, "trajectories", rates, unit="1/s", windows=True)
    yield context.row(case, "compile time", [timing.compile_seconds], unit="s")
    yield context.row(case, "peak memory", [memory], unit="MB")
    yield context.row(case, "share of the product peak", _shares(plan.problem, timing, products), windows=True)
    yield context.row(case, "decisions a trajectory", timing.decisions, windows=True)


def _comparison_rows(
    context: Context, plan: Plan, ours: Timing, theirs: Timing, memory: float, their_memory: float
) -> Iterator[Row]:
    case, peer = f"speed/{plan.name}/{OURS}", theirs.worker.name
    bound = plan.targets.get(peer)
    target = None if bound is None else Target(">=", bound)
    faster = ratios(ours.rates, theirs.rates)
    yield context.row(case, "rate to the peer's", faster, unit="x", windows=True, against=peer, target=target)
    # Nobody compiles in torchgfn, and a peer that is measured for information sets no bar.
    is_judged = peer == "gfnx" and bound is not None
    for metric, unit, own, other in (
        ("compile time, against", "s", ours.compile_seconds, theirs.compile_seconds),
        ("peak memory, against", "MB", memory, their_memory),
    ):
        bar = Target("<=", float(f"{other:.3g}")) if is_judged else None
        yield context.row(case, metric, [own], unit=unit, against=peer, peer=other, target=bar)


def _shares(problem: Problem, timing: Timing, products: Timing) -> list[float]:
    """Return the share of the machine's rate of large products that went into products nobody can do without."""
    if timing.worker.name in (OURS, ONE) and problem.space == "bits_any_order":
        problem = replace(problem, space="bits")  # what ours writes instead, with fewer choices
    decisions = statistics.mean(timing.decisions)
    peaks = [rate * product_flops() for rate in products.rates]
    return [rate * iteration_flops(problem, decisions) / peak for rate, peak in zip(timing.rates, peaks, strict=True)]
