"""The files of one selection, which change together: the rows as CSV and FASTA, and how they were chosen as JSON."""

import hashlib
import os
import warnings
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from pydantic import model_validator

from narrows.files import ChangedFile, Record, read_record, record_text, sha256_of, write_together
from narrows.selection.files import csv_text, fasta_text, read_csv
from narrows.selection.outcomes import OutcomeSummary
from narrows.selection.rankings import RankingName
from narrows.selection.rows import Shortlist, ShortlistRow


class DiversityRecord(Record):
    """The diversity of the rows; see `Diversity`."""

    mean_distance: float | None
    min_distance: int | None
    novelty: float | None
    num_clusters: int


class SelectionRecord(Record):
    """The record of how a selection was chosen; see `Shortlist`. `sha256` has the hash of each file beside it, by its name.

    Before there were checksums, what is now in `diversity` stood beside the rest. `outcomes` was once called `foretold`, and
    its `num_not_ranked` was `num_not_foretold`.
    """

    k: int
    min_distance: int | None
    cluster_distance: int
    ranked_by: RankingName
    kappa: float
    num_candidates: int
    num_considered: int
    num_left_out: int
    reason_fewer: str | None = None
    diversity: DiversityRecord | None = None
    outcomes: OutcomeSummary | None = None
    sha256: dict[str, str] | None = None
    mean_distance: float | None = None
    novelty: float | None = None
    num_clusters: int | None = None
    both_strands: bool | None = None

    @model_validator(mode="before")
    @classmethod
    def _of_an_earlier_release(cls, facts: Any) -> Any:
        if not isinstance(facts, dict) or "foretold" not in facts:
            return facts
        facts = {"outcomes" if name == "foretold" else name: value for name, value in facts.items()}
        if isinstance(facts["outcomes"], dict):
            renamed = {"num_not_foretold": "num_not_ranked"}
            facts["outcomes"] = {renamed.get(name, name): value for name, value in facts["outcomes"].items()}
        return facts


@dataclass(frozen=True)
class Written:
    """The files of a selection; `fasta` is None where there is none, `no_fasta` says why FASTA cannot hold the rows."""

    csv: Path
    fasta: Path | None
    no_fasta: str | None = None


def write_selection(chosen: Shortlist, csv: Path, *, with_fasta: bool) -> Written:
    """Write all files of a selection, in place of those of an earlier one: all of them or none.

    Rows that FASTA cannot hold are in the CSV alone. Raises OSError where the files cannot be written.
    """
    fasta, record, reason = csv.with_suffix(".fasta"), csv.with_suffix(".json"), None
    texts = {csv: csv_text(chosen)}
    if with_fasta:
        try:
            texts[fasta] = fasta_text(chosen)
        except ValueError as error:
            reason = str(error)
    hashes = {path.name: hashlib.sha256(text.encode("utf-8")).hexdigest() for path, text in texts.items()}
    is_replacing = record.exists()
    write_together({**texts, record: record_text({**_facts(chosen), "sha256": hashes})})
    if fasta not in texts and is_replacing:
        fasta.unlink(missing_ok=True)  # of the selection that was replaced
    return Written(csv, fasta if fasta in texts else None, reason)


def read_selection(csv: str | os.PathLike[str]) -> tuple[tuple[ShortlistRow, ...], SelectionRecord | None]:
    """Return the rows of a selection and how they were chosen, None where that is not known.

    Warns with ChangedFile where the rows are not those that were written with it: they are taken as they stand. Raises
    ValueError naming the file for what cannot be read.
    """
    csv = Path(csv)
    rows, path = read_csv(csv), csv.with_suffix(".json")
    if not path.exists():
        return rows, None
    record = read_record(path, SelectionRecord, "Make the selection again: narrows shortlist RUN.")
    if record.sha256 is not None and record.sha256.get(csv.name) != sha256_of(csv):
        warnings.warn(
            f"{csv} is not the file that {path.name} was written with; its rows are taken as they stand.",
            ChangedFile,
            stacklevel=2,
        )
    return rows, record


def _facts(chosen: Shortlist) -> dict[str, Any]:
    names = ("k", "min_distance", "cluster_distance", "ranked_by", "kappa", "num_candidates", "num_considered", "num_left_out")
    facts = {name: getattr(chosen, name) for name in names}
    outcomes = {} if chosen.outcomes is None else {"outcomes": asdict(chosen.outcomes)}
    outcomes |= {"both_strands": True} if chosen.both_strands else {}
    return {**facts, "reason_fewer": chosen.reason_fewer, "diversity": asdict(chosen.diversity), **outcomes}
