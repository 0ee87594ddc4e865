"""The page, all of it read off the rows: first what was asked for and what came out, then a section for each part."""

from collections.abc import Callable, Sequence

from benchmarks._vi import chain, minmax
from benchmarks._vi.tables_minmax import minmax_table
from benchmarks._vi.tables_values import chain_table, counterexample_table, mujoco_table, speed_table, torus_table
from benchmarks.rows import Row, spread, table, verdict

SECTIONS: dict[str, Callable[[Sequence[Row]], str]] = {
    "minmax": minmax_table,
    "torus": torus_table,
    "chain": chain_table,
    "counterexamples": counterexample_table,
    "speed": speed_table,
    "mujoco": mujoco_table,
}


def tables(rows: Sequence[Row]) -> str:
    """Return the whole section."""
    there = {row.case.split("/")[1] for row in rows}
    parts = (tell([row for row in rows if row.case.split("/")[1] == name]) for name, tell in SECTIONS.items() if name in there)
    return "\n\n".join([_in_short(rows), *parts])


def _in_short(rows: Sequence[Row]) -> str:
    """Return every target with what was measured; those that ask for the specification's figures in a line a part."""
    judged = [row for row in rows if row.target is not None]
    if not judged:
        return ""
    lines = []
    for part in dict.fromkeys(row.case.split("/")[1] for row in judged):
        same = [row for row in judged if row.case.split("/")[1] == part and _is_figure(row)]
        if same:
            right = sum(row.met is True for row in same)
            met = "yes" if right == len(same) else "**no**"
            lines.append((part, "figures as specified", f"{right} of {len(same)}", "all", met))
        for row in judged:
            if row.case.split("/")[1] == part and not _is_figure(row):
                place = row.case.removeprefix("vi/").replace("/", ": ")
                told = f"{spread(row, 4)}{f' {row.unit}' if row.unit not in ('', 'x') else ''}"
                lines.append((place, row.metric, told, row.target or "", verdict(row)))
    return "### In short\n\n" + table(("part", "what was asked for", "measured", "target", "met"), lines)


def _is_figure(row: Row) -> bool:
    return row.metric.startswith(chain.ERROR) or row.metric in (chain.DIFFERENCE, minmax.OFF_STEPS)


TEXT = """\
Many problems are not the minimum of one function but a balance: two players who each want something else, or values that
must agree with their own prediction. Such a problem is a *variational inequality*: an operator F says, for predictions z, in
which direction each of them is pulled, and at the solution nothing pulls any further. In the predictions the problem is
often well behaved (*monotone*), and it becomes difficult because z comes out of a model, `z = g(theta)`: it is *hidden*
behind parameters.

- A **surrogate** (arXiv:2411.05228) takes the step where the problem is well behaved. It freezes the predictions `z` and a
  target `y = z - eta F(z)`, and trains the model towards the target with any optimiser, as in regression. **eta** is the
  step size in predictions, and **m** the number of inner steps that the optimiser takes towards one target. Then it
  evaluates F anew: that is an *outer step*. F is the expensive part where it needs an environment, other players or fresh
  data.
- With **m = 1** and plain gradient descent a surrogate is what everyone does: simultaneous gradient descent in a game (GDA),
  TD(0) in value prediction.
- **PHGD** (preconditioned hidden gradient descent, arXiv:2312.16609) is one Gauss-Newton step towards the target. **Damped
  Gauss-Newton** shortens it, **Levenberg-Marquardt** adds a constant to the squared Jacobian.
- **alpha** is by how much the inner steps reduce the root of the surrogate's loss: 0 for an exact solve, 1 for nothing
  gained.
- **rho** is the factor by which theory says that an exact outer step brings the predictions nearer to the solution. The
  *rate* is the factor that was measured, by regression of the logarithm of the distance.
- A *gradient evaluation* is one pass forward and back through the models of all players; a Jacobian counts one for each
  prediction.

Where something was run from several seeds, figures are the median over them, with the smallest and largest in brackets, and
a target is met if every seed reaches it. Times are medians over windows of runs that took turns. The *specification* is what
an independent program had found before any of this was written.
"""
