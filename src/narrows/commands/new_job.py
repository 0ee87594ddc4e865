"""`narrows new`: a commented job for a table, with what was guessed and why."""

import os
import textwrap
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

import numpy as np
from tyro.conf import Positional

from narrows.commands.checking import USUAL, TableSettings
from narrows.config import Job, in_words_of_a_job, parse_job, toml
from narrows.data import Check, accept_table, check_table
from narrows.data import space as named_space
from narrows.data.findings import count, sum_up
from narrows.data.guess import Guess, guess_table
from narrows.files import write_atomically
from narrows.printing import printable

_WIDTH = 110
_DECADES = 2.0
"""Powers of ten between the low and the high scores of a table from which on a logarithm is suggested."""


@dataclass(frozen=True)
class NewJob:
    """A job that was written for a table."""

    path: Path
    text: str


def new(
    table: Positional[Path],
    *,
    out: Path = Path("job.toml"),
    space: str | None = None,
    reading: TableSettings = USUAL,
) -> NewJob:
    """Look at a table of scored sequences and write a commented job for it; what is not given is guessed, and said.

    Args:
        table: CSV file (comma, semicolon or tab) with a header, a column of sequences and a column of scores.
        out: the job to write; it must not be there yet.
        space: rna, dna, protein, or the letters of an alphabet (letters:abc); guessed from the letters if not given.
        reading: how the table is read; columns and the sense of the score are guessed from their names if not given.

    Raises DataError, as `narrows check` does, for a table that cannot be used, FileExistsError rather than replace a file.
    """
    if out.exists() or out.is_symlink():
        raise FileExistsError(f"{out} is there already. Name another file with --out, or move it away.")
    guess = guess_table(table, space, reading)
    check = check_table(table, named_space(guess.space), guess.settings)
    if check.is_unreadable or not len(check.table):
        accept_table(check)
    text = _job(check, guess, Path(os.path.relpath(table, out.parent)).as_posix(), out)
    write_atomically(out, text)
    return NewJob(out, text)


def render(made: NewJob) -> str:
    """Return the job and what to do with it."""
    return f"{made.text}\nwritten: {made.path}. Next: narrows fit {made.path}"


def _job(check: Check, guess: Guess, path: str, out: Path) -> str:
    """Return the text of a job for a table that was checked as it is guessed to be read."""
    is_skipping = check.num_rejected > 0
    settings = replace(guess.settings, on_invalid="skip") if is_skipping else guess.settings
    said = {"path": path, "space": guess.space, **_unusual(settings)}
    job = parse_job({"data": said}, out.parent, out.stem)
    lines = [
        *_comment(
            f"A job for {printable(path)}, written by `narrows new`. Guesses are called so: read them. A line behind # shows "
            "what holds where nothing is said, or what could be said instead. `narrows list` explains every field."
        ),
        "#",
        f"#     narrows fit {out.name}",
        f"#     narrows run {out.name} --out runs/first",
        "#     narrows shortlist runs/first",
        "",
        "[data]",
        f"path = {toml(path)}",
        *_entry("space", guess.space, guess.reasons.get("space", "as given")),
    ]
    told = _told(check, guess)
    for field in fields(settings):
        if field.name in said:
            lines += _entry(field.name, said[field.name], told.get(field.name, "as given"))
        elif field.name in told:
            lines += _entry(field.name, _shown(field.name, check, settings), told[field.name], is_comment=True)
    return "\n".join([*lines, "", *_rest(job, check)]) + "\n"


def _unusual(settings: TableSettings) -> dict[str, Any]:
    """Return what differs from how tables are usually read."""
    return {name: value for name, value in vars(settings).items() if value != getattr(USUAL, name)}


def _told(check: Check, guess: Guess) -> dict[str, str]:
    """Return what is to be said of each setting, in words; of those that matter to this table alone."""
    table, layout = check.table, check.layout
    assert layout is not None, "a table with rows has columns"
    by_kind = {finding.kind: in_words_of_a_job(finding.message) for finding in check.findings}
    told: dict[str, str] = {"sequence_column": "found by its name", "score_column": "found by its name"}
    told["score_sense"] = "higher is taken as better; if not:"
    told |= {field: by_kind[kind] for field, kind in (("censored", "bound"), ("case", "case")) if kind in by_kind}
    told |= guess.reasons
    if "other_scores" in by_kind and "score_column" not in guess.reasons:
        told["score_column"] += f"; {by_kind['other_scores'].partition(',')[0]}, too"
    joined = int((table.counts > 1).sum())
    if joined:
        std = table.measurement_std
        noise = "" if std is None else f"; a single measurement has a standard deviation of {std:.3g}"
        told["replicates"] = f"{count(joined, 'sequence')} measured more than once{noise}"
    if check.num_rejected:
        num_used = check.num_rows - check.num_rejected
        rows = f"{num_used:,} of {count(check.num_rows, 'row')} can be used; left out, and written to rejected.csv, are "
        told["on_invalid"] = rows + "; ".join(sum_up(check.rejected).values())
    suggested = _transform(check)
    if suggested is not None:
        told["score_transform"] = suggested[1]
    return told


def _shown(field: str, check: Check, settings: TableSettings) -> Any:
    """Return the value that a comment shows: what holds, or what could be said instead."""
    layout, suggested = check.layout, _transform(check)
    assert layout is not None, "a table with rows has columns"
    instead = {
        "sequence_column": layout.header[layout.sequence],
        "score_column": layout.header[layout.score],
        "score_sense": "lower",
        "score_transform": "none" if suggested is None else suggested[0],
    }
    return instead.get(field, getattr(settings, field))


def _transform(check: Check) -> tuple[str, str] | None:
    """Return the transform that scores over many powers of ten ask for, and why, None where they do not."""
    is_lower = check.settings.score_sense == "lower"
    scores = -check.table.scores if is_lower else check.table.scores
    positive = scores[scores > 0]
    if check.settings.score_transform != "none" or scores.min() < 0 or 2 * len(positive) < len(scores):
        return None
    decades = float(np.log10(np.quantile(positive, 0.95) / np.quantile(positive, 0.05)))
    if decades < _DECADES:
        return None
    why = f"scores go over {decades:.0f} powers of ten"
    if len(positive) < len(scores):
        return "rank", f"{why}, and {len(scores) - len(positive):,} are 0, which has no logarithm: their ranks could be learned"
    return ("-log10", f"{why}: instead of score_sense, if they are concentrations") if is_lower else ("log10", why)


def _rest(job: Job, check: Check) -> list[str]:
    """Return the sections that follow from the table, commented out."""
    lengths = [len(sequence) for sequence in check.table.sequences]
    shortest, longest, env, shortlist = min(lengths), max(lengths), job.env, job.shortlist
    measured = f"{longest}" if shortest == longest else f"{shortest} to {longest}"
    return [
        *_comment("What follows from the table and holds as it is. To say it otherwise, take the # from its section, too."),
        "#",
        f"# [env]                  # what is made: as long as nine in ten of the measured, which have {measured} letters",
        f"# min_length = {env['min_length']}",
        f"# max_length = {env['max_length']}",
        "#",
        "# [shortlist]",
        f"# k = {shortlist.k:<19}# rows",
        f"# min_distance = {shortlist.min_distance:<8}# edits between any two of them, at least",
    ]


def _entry(field: str, value: Any, told: str, *, is_comment: bool = False) -> list[str]:
    return [*_comment(told), f"{'# ' if is_comment else ''}{field} = {toml(value)}"]


def _comment(text: str) -> list[str]:
    return textwrap.wrap(text, _WIDTH, initial_indent="# ", subsequent_indent="# ", break_on_hyphens=False)
