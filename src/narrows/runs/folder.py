"""What lies in a run folder and how it is made: everything a reader needs, nothing that runs."""

import csv
import importlib.metadata
import io
import json
import os
import platform
import shutil
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from narrows.config import Job, JobError, dump_job, load_job
from narrows.data.files import write_atomically
from narrows.rewards import ensemble

FORMAT_VERSION = 1
_LIBRARIES = ("narrows", "jax", "jaxlib", "equinox", "optax", "numpy", "rapidfuzz")


class RunError(ValueError):
    """A run folder that cannot be used as asked; the message says what was found and what to do."""


@dataclass(frozen=True)
class RunFolder:
    """The paths of one run. `RunFolder.create` makes one, `RunFolder.open` finds one."""

    path: Path

    @property
    def job_file(self) -> Path:
        return self.path / "job.toml"

    @property
    def about_file(self) -> Path:
        return self.path / "run.json"

    @property
    def inputs(self) -> Path:
        return self.path / "inputs"

    @property
    def archive(self) -> Path:
        return self.path / "archive.sqlite"

    @property
    def checkpoints(self) -> Path:
        return self.path / "checkpoints"

    @property
    def history(self) -> Path:
        return self.path / "history.csv"

    @property
    def timing(self) -> Path:
        return self.path / "timing.csv"

    @property
    def set_aside(self) -> Path:
        return self.path / "set_aside.jsonl"

    @property
    def shortlist(self) -> Path:
        return self.path / "shortlist.csv"

    @property
    def verification(self) -> Path:
        return self.path / "verification.json"

    @property
    def control(self) -> Path:
        return self.path / "control"

    @property
    def report(self) -> Path:
        return self.path / "report.html"

    @classmethod
    def create(cls, path: Path | str, job: Job, about: Mapping[str, Any]) -> "RunFolder":
        """Make a run folder with its resolved job and copies of the files the job names; whole or not at all.

        Raises RunError if something is there already, and JobError if an input is missing.
        """
        path = Path(path)
        if path.exists() and (not path.is_dir() or any(path.iterdir())):
            raise RunError(_occupied(path))
        if not path.name:
            raise RunError(f"{path} names no folder that could be made. Give the run a folder of its own with --out.")
        draft = path.with_name(f".{path.name}.{uuid.uuid4().hex}.tmp")
        try:
            draft.mkdir(parents=True)
        except OSError as error:
            raise RunError(f"cannot make {path}: {error.strerror or error}. Name another folder with --out.") from error
        try:
            kept = _copy_inputs(job, draft)
            facts = {"format_version": FORMAT_VERSION, "run_id": uuid.uuid4().hex, "created": _now(), **about, **_machine()}
            write_atomically(draft / "run.json", json.dumps(facts, indent=2) + "\n")
            write_atomically(draft / "job.toml", dump_job(kept))
            _take_the_name(draft, path)
        finally:
            shutil.rmtree(draft, ignore_errors=True)
        return cls(path)

    @classmethod
    def open(cls, path: Path | str) -> "RunFolder":
        """Return the run folder at a path; RunError if there is none."""
        folder = cls(Path(path))
        if folder.path.is_file():
            raise RunError(f"{path} is a file. Give the run folder that --out named.")
        if not folder.path.is_dir():
            raise RunError(f"{path}: there is no such run folder. `narrows run job.toml --out {path}` makes one.")
        missing = [file.name for file in (folder.job_file, folder.about_file) if not file.is_file()]
        if missing:
            raise RunError(f"{path} is no run folder: it has no {' and no '.join(missing)}. Give the folder that --out named.")
        version = folder.about().get("format_version")
        if version != FORMAT_VERSION:
            raise RunError(
                f"{folder.about_file}: expected format {FORMAT_VERSION}, got {version}. Use the release that made it."
            )
        return folder

    def remember_score(self, identity: str | None) -> None:
        """Write down which score guides the run, or refuse another one than before: values of two scores cannot be ranked."""
        about = self.about()
        before = about.get("score_identity", identity)
        if before != identity:
            raise RunError(
                f"{self.path} was guided by another score, or by another version of its file ({before}, not {identity}). "
                "Resume it with the file as it was, or start a new run."
            )
        if "score_identity" not in about:
            write_atomically(self.about_file, json.dumps({**about, "score_identity": identity}, indent=2) + "\n")

    def job(self) -> Job:
        """Return the resolved job, with paths that start from the run folder."""
        return load_job(self.job_file)

    def about(self) -> dict[str, Any]:
        """Return what is known about the run: when, with which versions, by which command."""
        try:
            return json.loads(self.about_file.read_text(encoding="utf-8"))
        except (json.JSONDecodeError, UnicodeDecodeError) as error:
            raise RunError(f"{self.about_file}: not JSON ({error}). Restore the file from a copy of the run.") from None


def write_rows(path: Path, rows: Sequence[Mapping[str, float]]) -> None:
    """Write rows of numbers as CSV, whole or not at all; the columns are those of all rows, in order of appearance."""
    columns = list(dict.fromkeys(name for row in rows for name in row))
    stream = io.StringIO()
    writer = csv.DictWriter(stream, columns, restval="", lineterminator="\n")
    writer.writeheader()
    writer.writerows({name: repr(value) for name, value in row.items()} for row in rows)
    write_atomically(path, stream.getvalue())


def read_rows(path: Path) -> list[dict[str, float]]:
    """Return what `write_rows` wrote, `[]` for a file that is not there."""
    if not path.exists():
        return []
    with open(path, encoding="utf-8", newline="") as stream:
        return [{name: _number(text) for name, text in row.items() if text} for row in csv.DictReader(stream)]


def _number(text: str) -> float:
    return int(text) if text.lstrip("-").isdigit() else float(text)


def _copy_inputs(job: Job, draft: Path) -> Job:
    """Copy the files a job names into `inputs/` and return the job that names the copies."""
    inputs = draft / "inputs"
    inputs.mkdir()
    kept = replace(job, folder=draft)
    if job.data is not None:
        if (job.folder / job.data.path).is_dir():
            raise JobError(f"[data] path: {job.folder / job.data.path} is a folder. Name the table inside it.")
        kept = replace(kept, data=replace(job.data, path=_copy(job.folder / job.data.path, inputs, "[data] path")))
    if "path" in job.reward:
        path = _copy(job.folder / job.reward["path"], inputs, "[reward] path")
        kept = replace(kept, reward={**job.reward, "path": path})
    if job.noise is not None and "path" in job.noise:
        path = _copy(job.folder / job.noise["path"], inputs, "[noise] path")
        kept = replace(kept, noise={**job.noise, "path": path})
    return kept


def _copy(source: Path, inputs: Path, what: str) -> str:
    # Two inputs of one name stay apart.
    target = inputs / source.name
    if target.exists():
        target = inputs / f"{source.parent.name}-{source.name}"
    try:
        if source.is_dir():
            _copy_proxy(source, target)
        else:
            shutil.copyfile(source, target)
    except FileNotFoundError:
        raise JobError(f"{what}: {source} does not exist. Paths in a job start from the folder of the job file.") from None
    return f"inputs/{target.name}"


def _copy_proxy(source: Path, target: Path) -> None:
    """Copy the files of a proxy and nothing else: its folder may hold anything, even the run folder in the making."""
    target.mkdir()
    for file in sorted(source.iterdir()):
        if file.name == ensemble.MANIFEST or file.suffix == ".safetensors":
            shutil.copyfile(file, target / file.name)


def _take_the_name(draft: Path, path: Path) -> None:
    try:
        os.rename(draft, path)
    except OSError:
        if path.is_dir() and any(path.iterdir()):  # another run took it in the meantime
            raise RunError(_occupied(path)) from None
        raise


def _occupied(path: Path) -> str:
    if (path / "run.json").is_file():
        return f"{path} already holds a run. `narrows resume {path}` continues it; another --out starts anew."
    return f"{path} exists and is not empty. Name another folder with --out."


def _machine() -> dict[str, Any]:
    versions = {name: importlib.metadata.version(name) for name in _LIBRARIES}
    machine = f"{platform.system()} {platform.machine()}, {os.cpu_count()} cores"
    return {"versions": {"python": platform.python_version(), **versions}, "machine": machine}


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
