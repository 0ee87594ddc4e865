"""What the page says of the biological tasks."""

from collections.abc import Sequence

from benchmarks._paper.biology import AHEAD, HIGHEST, KEPT, OVER_GRID, Q_TAKEN, RANKS, SCORE, TAKEN, TRUE, reward_at
from benchmarks._paper.controls import closed_gaps
from benchmarks._paper.plan import CONTROLS, MAIN_SHARE, SHARES
from benchmarks._robustness.methods import CHOSEN, control_name
from benchmarks._robustness.reporting import NATS, OFF
from benchmarks.rows import Row, figure, spread, table

HEAD = "paper/biology/"


def biology_tables(rows: Sequence[Row]) -> list[str]:
    """Return the parts of the page about the biological tasks."""
    own = [row for row in rows if row.case.startswith(HEAD)]
    known = {(row.case.removeprefix(HEAD), row.metric): row for row in own}
    tasks = list(dict.fromkeys(row.case.split("/")[2] for row in own))
    parts = []
    for task in tasks:
        names = [name for name in dict.fromkeys(row.case.split("/")[3] for row in own if row.case.split("/")[2] == task)]
        methods = [name for name in names if name != "proxy" and " less " not in name]
        parts.append(f"### {task}{'' if _is_published(known, task, methods) else ', stand-in'}")
        proxy = [
            (metric, figure(known[f"{task}/proxy", metric].value))
            for metric in (RANKS, HIGHEST)
            if (f"{task}/proxy", metric) in known
        ]
        parts.append(table(("of the proxy", ""), proxy))
        metrics = [*(reward_at(share) for share in SHARES), SCORE, KEPT, TRUE, NATS]
        shown = [metric for metric in metrics if any((f"{task}/{name}", metric) in known for name in methods)]
        parts.append(
            table(
                ("method", *shown),
                [(name, *(_spread(known, f"{task}/{name}", metric) for metric in shown)) for name in methods],
            )
        )
        parts.append("Over the grid of exponents and learning rates, on the seed that chooses:")
        cells = []
        for name in methods:
            row = known.get((f"{task}/{name}", OVER_GRID))
            if row is not None:
                taken = (figure(known[f"{task}/{name}", metric].value) for metric in TAKEN)
                cells.append((name, figure(row.value), figure(row.low or 0.0), figure(row.high or 0.0), *taken))
        parts.append(table(("method", "median setting", "worst", "best", *TAKEN), cells))
        parts += _of_the_chosen(known, task)
        ahead = [known[f"{task}/{name}", AHEAD] for name in names if " less " in name]
        cells = [(row.case.split("/")[-1], spread(row)) for row in ahead]
        parts += ["Paired by seed:", table(("what", AHEAD), cells), closed_gaps(ahead)]
    return parts


def _of_the_chosen(known: dict[tuple[str, str], Row], task: str) -> list[str]:
    """Return which q was chosen, and how its controls were made."""
    taken = known.get((f"{task}/{CHOSEN}", Q_TAKEN))
    said = [] if taken is None else [f"Of *{CHOSEN}*, q is {figure(taken.value)}."]
    names = [control_name(control, CHOSEN) for control in CONTROLS]
    cells = [
        (name, *(_spread(known, f"{task}/{name}", metric) for metric in (TAKEN[0], OFF)))
        for name in names
        if (f"{task}/{name}", TAKEN[0]) in known
    ]
    return [*said, *([table(("control", TAKEN[0], f"{OFF}, nats"), cells)] if cells else [])]


def _is_published(known: dict[tuple[str, str], Row], task: str, methods: Sequence[str]) -> bool:
    rows = (known.get((f"{task}/{name}", reward_at(SHARES[MAIN_SHARE]))) for name in (*methods, CHOSEN))
    return any(row is not None and row.against is not None for row in rows)


def _spread(known: dict[tuple[str, str], Row], case: str, metric: str) -> str:
    row = known.get((case, metric))
    if row is None:
        return ""
    return spread(row) if row.against is None else f"{spread(row)}, published {figure(row.value / (row.ratio or 1.0))}"


TEXT = """\
**UTR, AMP, GFP** (tgm 5.4, 6, 7.1): letters, lengths, proxy and policy network as published (encoders of 4 or 3
blocks; a causal transformer of 3 blocks with 8 heads of full width), omega = 4, alpha = 1, batches of 16, epsilon = 0.01,
AdamW with weight decay 0.0001, a gradient norm of at most 10. The published data are not here. A *stand-in* has their shape
and a truth of its own, drawn from a seed; its figures say nothing about the published data, and stand beside no published
number. With `--data FOLDER` that holds `UTR`, `AMP` or `GFP` the same runs on the real ones. What is smaller than published:
the rows a proxy learns from, its epochs (at a larger learning rate; GFP's in smaller batches, too), the training (100 batches,
which PPO goes through four times in four parts by its defaults; GFP 20), the grid (beta 4 and 16, GFP 4 alone; one learning
rate), 3 seeds. *Average mode reward*: mean `exp(Phi)` of the 100 best of 768 samples (GFP 384) at three temperatures that lie
so far apart; the published distance is not known. Beta is chosen on a seed that is not reported, and so is q. The TGM of that
q stands beside its two controls (tgm 6.4), trained like every GFlowNet here: *temperature-matched* with beta times `1 + q
alpha / omega`, *entropy-matched* with the beta whose policy has the entropy of the TGM's of the same seed (`-mean log P` of
samples), found by two more trainings; how far off it ended is in the table. GFP's trainings without an entropy are of a run
before entropies were estimated. Random sequences lie farther apart than any of these distances, so that the three columns are
often one. Where methods do not differ in reward, they have reached the highest that the proxy gives; the *true score*, in
standard deviations above the mean of the stand-in's data, was seen by none: where it is low beside a high reward, the proxy is
wrong about what scores best by it, whoever looks for it (GFP: far from every mutant it has learned from).
"""
