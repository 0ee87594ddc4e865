"""`narrows verify`: what the true score says of a shortlist, beside comparisons that are fair to everybody."""

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from tyro.conf import Positional

from narrows.commands.scores import Score, open_scorer
from narrows.files import record_text, write_atomically
from narrows.printing import printable
from narrows.report import write_report
from narrows.runs import OpenRun
from narrows.runs.page import gather
from narrows.runs.verification import Group, compare


@dataclass(frozen=True)
class Verification:
    """The verdict of the true score and where the page is that shows it."""

    scorer: str
    groups: tuple[Group, ...]
    matched_inverse_temperature: float | None
    failures: dict[str, str]
    page: Path


def verify(
    folder: Positional[Path],
    score: Score,
    *,
    control: bool = True,
    timeout: float = 600.0,
) -> Verification:
    """Score a run's shortlist with the true score, beside what is simpler.

    That is the best measured rows; on the run's own proxy a hill climb, a genetic algorithm and AdaLead with as many calls as
    the run has distinct objects, and the ranking of all objects where they can be listed; random objects; a plain GFlowNet's.
    The GFlowNet (q = 0) has the same network, steps, batch, score and selection, and the inverse temperature
    (omega + q alpha) beta that TGM's policy has; it is trained in the run folder the first time it is needed.

    Args:
        folder: the run folder; its shortlist.csv is verified.
        score: the true score: rna, or your own as FILE.py:FUNCTION.
        control: train and compare the matched GFlowNet, unless the run is one itself (q = 0).
        timeout: seconds that one batch of the score may take. Looking for what hangs in it may take up to 8 times that, and
            16 minutes in which the file is loaded anew.
    """
    run = OpenRun(folder)
    found = run.folder
    if run.selection is None:
        raise ValueError(f"{found.shortlist} does not exist. Make it with: narrows shortlist {folder}")
    with open_scorer(score, found, timeout) as true_score:
        assert true_score is not None, "verify always has a score"
        comparison = compare(run, [row.sequence for row in run.selection[0]], true_score, with_control=control)
    name = score if isinstance(score, str) else score.__name__
    verification = Verification(name, *comparison, found.report)
    write_atomically(found.verification, record_text(_plain(verification)))
    write_report(gather(run), found.report)
    return verification


def render(verification: Verification) -> str:
    """Return what the command prints: one line a group, and where the page is."""
    lines = [f"true score by {verification.scorer}:"]
    for group in verification.groups:
        values = np.asarray(group.true_scores)
        known = values[~np.isnan(values)]
        spread = f"(min {known.min():.4f}, max {known.max():.4f}, n = {len(known)})" if len(known) else "(none scored)"
        lines.append(f"  {group.label:<26} mean {group.mean:.4f}  {spread}")
    lines += [
        f"  could not be scored: {printable(item)} ({printable(reason)})" for item, reason in verification.failures.items()
    ]
    lines.append(f"page: {verification.page}")
    return "\n".join(lines)


def _plain(verification: Verification) -> dict[str, Any]:
    """Return the verification as JSON values; NaN, which JSON lacks, as None."""
    facts = asdict(verification)
    facts["page"] = verification.page.name
    for group in facts["groups"]:
        for column in ("true_scores", "scores"):
            group[column] = [None if np.isnan(value) else value for value in group[column]]
    return facts
