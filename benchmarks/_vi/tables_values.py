"""What the page says of value prediction, the counter-examples and the speed."""

from collections.abc import Sequence

from benchmarks._games.cells import cases, judged, known, name_of, value
from benchmarks._vi import chain, counterexamples, speed, torus
from benchmarks._vi.torus_training import BATCH, CHECK_EVERY, TD0
from benchmarks.rows import Row, figure, spread, table, verdict

PICTURE = "vi_torus.svg"


def torus_table(rows: Sequence[Row]) -> str:
    """Return what each method needs, by optimiser and by how the learning rate was chosen."""
    found, parts = known(rows), [_TORUS]
    if any(row.metric == torus.RMSE for row in rows):
        parts.append(f"![Error of the values against samples and against seconds]({PICTURE})")
    for group in cases(rows, "vi/torus"):
        if group.count("/") == 3 and group.endswith(f"/{TD0}"):
            parts.append(_comparison(rows, group.rpartition("/")[0]))
    lines = []
    for case in cases(rows, "vi/torus/eta", 4):
        ratio = found.get((case, torus.LATE_RATIO))
        reached = _count(found.get((case, torus.SAMPLES[1])))
        lines.append((name_of(case), _late(found[case, torus.LATE]), value(ratio), *judged(ratio), reached))
    if lines:
        header = ("Adam 0.001, m = 20", "late RMSE", "to that at eta = 1", "target", "met", torus.SAMPLES[1])
        parts += [_ETA, table(header, lines)]
    return "\n\n".join(parts)


def _comparison(rows: Sequence[Row], group: str) -> str:
    found, lines = known(rows), []
    for case in cases(rows, group, 4):
        samples = [found.get((case, metric)) for metric in torus.SAMPLES]
        saved, cost = found.get((case, torus.SAVED)), found.get((case, torus.COST))
        rate, share = found[case, torus.RATE], found[case, torus.REACHED]
        lines.append(
            (
                name_of(case),
                figure(rate.value, 2),
                " / ".join("-" if row is None else f"{row.value / BATCH:g}" for row in samples),
                _count(samples[1]),
                _specified(name_of(group), name_of(case)),
                "" if (row := found.get((case, torus.GRADIENTS))) is None else f"{row.value:,.0f}",
                value(found.get((case, torus.SECONDS)), 2),
                f"{100.0 * share.value:.0f} %",
                _with_verdict(saved),
                _with_verdict(cost),
                _late(found.get((case, torus.LATE))),
            )
        )
    header = (
        *("method", "learning rate", "outer steps to RMSE 8 / 6 / 4", torus.SAMPLES[1], "specified outer steps"),
        *("gradient steps", "seconds", "seeds that arrive", "times fewer samples", "gradient steps to TD(0)'s", "late RMSE"),
    )
    kept = [place for place in range(len(header)) if any(line[place] for line in lines)]
    name = name_of(group)
    title = f"learning rates of the specification ({name})" if torus.TUNED not in name else f"tuned learning rates ({name})"
    shown = [[line[place] for place in kept] for line in lines]
    return f"#### {title[0].upper()}{title[1:]}\n\n" + table([header[place] for place in kept], shown)


def _count(row: Row | None) -> str:
    """Return a number of things with its range over the seeds."""
    if row is None or row.low is None or row.high is None:
        return "" if row is None else f"{row.value:,.0f}"
    return f"{row.value:,.0f} ({row.low:,.0f} to {row.high:,.0f})"


def _late(row: Row | None) -> str:
    """Return the error that is left, and what the specification has."""
    return "" if row is None else spread(row, 2) if not row.ratio else f"{spread(row, 2)}; specified {_peer(row)}"


def _with_verdict(row: Row | None) -> str:
    """Return a ratio, and where a target is set whether it was met."""
    if row is None:
        return ""
    return figure(row.value) if row.target is None else f"{figure(row.value)} (target {row.target}: {verdict(row)})"


def _specified(group: str, method: str) -> str:
    """Return the specification's outer steps; nothing for learning rates that are not its."""
    optimizer, rate = group.split(" ")
    inner_steps = 1 if method == TD0 else int(method.removeprefix("m = "))
    counts = torus.SPECIFIED.get((optimizer, inner_steps))
    return "" if counts is None or rate == torus.TUNED else " / ".join(map(str, counts))


def chain_table(rows: Sequence[Row]) -> str:
    """Return the facts, the rates, and the table of the simulation."""
    found = known(rows)
    facts = [row for row in rows if row.case == "vi/chain/facts"]
    lines = [
        (
            row.metric,
            f"{row.value:.6f}",
            f"{chain.FACTS[row.metric]:.6f}",
            *judged(found["vi/chain/facts", f"{chain.ERROR}{row.metric}"]),
        )
        for row in facts
        if not row.metric.startswith(chain.ERROR)
    ]
    parts = [_CHAIN, table(("fact", "measured", "specified", "difference", "met"), lines)]
    rates = {f"m = {num}": rate for num, (rate, _) in chain.RATES.items()}
    rates |= {f"{chain.LSPE}, eta = {eta:g}": rate for eta, rate in chain.EXACT_RATES.items()}
    lines = []
    for case in cases(rows, "vi/chain", 3):
        rate, steps, error = (found.get((case, name)) for name in (chain.RATE, chain.STEPS, f"{chain.ERROR}the rate"))
        if rate is not None:
            counts = ("", "") if steps is None else (f"{steps.value:.0f}", _peer(steps, 0))
            lines.append((name_of(case), f"{rate.value:.6f}", f"{rates[name_of(case)]:.6f}", *judged(error), *counts))
    header = ("method", "rate", "specified", "difference", "met", chain.STEPS, "specified steps")
    parts.append(table(header, lines))
    simulation = _simulation(rows)
    return "\n\n".join([*parts, *([_SIMULATION, simulation] if simulation else [])])


def _simulation(rows: Sequence[Row]) -> str:
    found = known(rows)
    times = list(dict.fromkeys(row.case.rpartition("/")[0] for row in rows if "/simulation/after " in row.case))
    names = (chain.LSPE, *(f"m = {num}" for num in chain.INNER_STEPS), chain.LSTD)
    lines = []
    for time in times:
        cells = []
        for name in names:
            mean, wide = found[f"{time}/{name}", chain.MEAN], found[f"{time}/{name}", chain.SPREAD]
            apart = found.get((f"{time}/{name}", chain.APART))
            told = f"{figure(mean.value)} ± {figure(wide.value, 2)} ({_peer(mean)})"
            cells.append(told if apart is None else f"{told}; {figure(apart.value)} ({_peer(apart)})")
        lines.append((name_of(time).removeprefix("after "), *cells))
    return table(("transitions", *names), lines) if lines else ""


def _peer(row: Row, digits: int | None = None) -> str:
    """Return what the specification has, rounded as it is there."""
    if not row.ratio:
        return ""
    peer = row.value / row.ratio
    return f"{peer:.{digits}f}" if digits is not None else figure(float(f"{peer:.4g}"), 3)


def counterexample_table(rows: Sequence[Row]) -> str:
    """Return who converges and who does not."""
    lines = []
    for row in rows:
        if row.metric in (counterexamples.FACTOR, counterexamples.LAST, counterexamples.LARGEST):
            _, _, example, method = row.case.split("/")
            grows = "grows" if row.value > 1.0 else "shrinks"
            word = grows if row.metric != counterexamples.LARGEST else ""
            lines.append((example, method, row.metric, f"{row.value:.6g}", word, row.target or "", verdict(row)))
    return "\n\n".join([_COUNTER, table(("example", "method", "of the values", "", "they", "target", "met"), lines)])


def speed_table(rows: Sequence[Row]) -> str:
    """Return times of steps beside loops by hand."""
    found, lines = known(rows), []
    for case in cases(rows, "vi/speed", 4):
        ratio = found.get((case, speed.RATIO))
        setting = name_of(case.rpartition("/")[0])
        lines.append((setting, name_of(case), value(found[case, speed.TIME]), value(ratio), *judged(ratio)))
    return "\n\n".join([_SPEED, table(("what", "by", "ms a step", "ratio to the loop by hand", "target", "met"), lines)])


def mujoco_table(rows: Sequence[Row]) -> str:
    """Return all figures of the simulated tasks, a line a method."""
    parts = [_MUJOCO]
    for study in dict.fromkeys(row.case.rpartition("/")[0] for row in rows if row.case.count("/") == 4):
        inside = [row for row in rows if row.case.rpartition("/")[0] == study]
        metrics, found = list(dict.fromkeys(row.metric for row in inside)), known(inside)
        lines = [
            (name_of(case), *(_told(found.get((case, metric))) for metric in metrics))
            for case in dict.fromkeys(row.case for row in inside)
        ]
        parts.append(f"#### {study.removeprefix('vi/mujoco/').replace('/', ', ')}\n\n{table(('method', *metrics), lines)}")
    truths = [row for row in rows if row.case.count("/") == 3]
    lines = [(row.case.split("/")[2], row.metric, spread(row), row.unit) for row in truths]
    return "\n\n".join([*parts, *([table(("task", "of the true values", "", "unit"), lines)] if lines else [])])


def _told(row: Row | None) -> str:
    if row is None:
        return ""
    told = spread(row) if row.unit in ("", "x") else f"{spread(row)} {row.unit}"
    return told if row.target is None else f"{told} (target {row.target}: {verdict(row)})"


_TORUS = f"""\
### Value prediction on the torus

Two angles drift and diffuse; the reward is a sum of three waves, and the value has a closed form (standard deviation 15.6).
A network of two layers of 32 learns it from fresh transitions, {BATCH} for each outer step, from which a surrogate takes m
inner steps and TD(0) one. The error (RMSE) is over 2,000 points and is looked at every {CHECK_EVERY} outer steps. *Seconds*
are outer steps times what one takes, its transitions drawn; here drawing them costs next to nothing. Tuned learning rates
come from one grid for all methods, by the fewest samples to RMSE 6 on seeds that are not reported. The targets, at m = 20,
are for medians; a training of TD(0) that never arrives counts as all of its steps, and a surrogate that does not has saved
nothing."""

_ETA = """\
Many inner steps on small batches fit their noise, which a lower eta removes at the price of a longer way:"""

_CHAIN = """\
### The linear chain

CHAIN-100 has 100 states that mostly stay as they are and 10 features. *LSPE* is the exact projected step (projected value
iteration), which a surrogate approximates by m inner gradient steps; the surrogate here is the library's own, with SGD
inside."""

_SIMULATION = """\
In simulation one transition comes at a time, and the same methods use the averages so far. Mean error ± its standard error,
in brackets the specification's; after the semicolon the mean distance to LSPE. Methods come together long before they come
to the solution. Early averages are nearly singular, and a few runs make their means: LSTD's in particular depend on how
those are solved."""

_COUNTER = """\
### Where temporal differences diverge

On *Baird's star* all true values are 0 and the states are weighted alike, not as often as they occur. TD(0) diverges with
every step; two inner steps on each surrogate are enough to converge. On *two states* weighted off policy neither converges,
for the exact step itself grows by `1.2 gamma`: a surrogate does not cure everything. On the *spiral* the values that can be
represented form no convex set, and no theory covers it: TD(0) diverges, local inner solves come to rest where nothing is
solved, and only a wide search for the best inner solution converges."""

_SPEED = """\
### What the library costs

The same arithmetic as a JAX loop that someone wrote by hand, in turns in one process: surrogate TD(0) with a network of two
layers of 256, rock-paper-scissors with ten inner steps, and extragradient on a matrix game by `solve`. *All that a step
tells* asks for the losses and residuals of every step too, which the loop by hand does not compute."""

_MUJOCO = """\
### Value prediction in MuJoCo

One fixed policy a task, its transitions, and true values by long rollouts from states that it visits. TD(0) and the
surrogates learn from the same transitions with the same network, each with a learning rate (and eta) chosen on a seed that
is not reported."""
