"""Run folders and how they are made: everything a reader needs, nothing that runs."""

import importlib.metadata
import os
import platform
import shutil
import uuid
import warnings
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from narrows.config import Job, JobError, dump_job, load_job, with_parent
from narrows.files import (
    ChangedFile,
    new_folder,
    read_record,
    record_text,
    refuse_special_within,
    sha256_of,
    write_atomically,
)
from narrows.printing import printable, quote
from narrows.proxies import fitted
from narrows.runs.pinned import (
    INPUTS,
    changed_inputs,
    changed_sections,
    input_hashes,
    is_inside,
    text_sha256,
    what_decides,
)
from narrows.runs.records import FORMAT_VERSION, RunRecord
from narrows.runs.temperature import with_temperature

SCORES = "scores.sqlite"
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
        return self.path / INPUTS

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
    def scores(self) -> Path:
        """The answers of a user's score: a slow score is not paid twice."""
        return self.path / SCORES

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
        try:
            with new_folder(path) as draft:
                kept = _copy_inputs(with_temperature(job), draft)
                text = dump_job(kept)
                facts = {
                    "format_version": FORMAT_VERSION,
                    "run_id": uuid.uuid4().hex,
                    "created": _now(),
                    **about,
                    **_machine(),
                    "inputs": input_hashes(draft),
                    "decides": what_decides(kept),
                    "job_sha256": text_sha256(text),
                }
                write_atomically(draft / "run.json", record_text(facts))
                write_atomically(draft / "job.toml", text)
        except FileExistsError:
            raise RunError(_occupied(path)) from None
        except OSError as error:
            raise RunError(f"cannot make {path}: {error.strerror or error}. Name another folder with --out.") from error
        return cls(path)

    @classmethod
    def open(cls, path: Path | str) -> "RunFolder":
        """Return the run folder at a path.

        Raises RunError if there is none, if anything in it is no plain file, and if an input was changed since the run began.
        """
        folder = cls(Path(path))
        if folder.path.is_file():
            raise RunError(f"{path} is a file. Give the run folder that --out named.")
        if not folder.path.is_dir():
            raise RunError(f"{path}: there is no such run folder. `narrows run job.toml --out {path}` makes one.")
        try:
            refuse_special_within(folder.path)
        except ValueError as error:
            raise RunError(str(error)) from None
        missing = [file.name for file in (folder.job_file, folder.about_file) if not file.is_file()]
        if missing:
            raise RunError(f"{path} is no run folder: it has no {' and no '.join(missing)}. Give the folder that --out named.")
        changed = changed_inputs(folder.path, folder.about().inputs or {})
        if changed:
            raise RunError(
                f"{', '.join(str(folder.path / name) for name in changed)}: changed or gone since the run began, so what it "
                "has learned and what it would learn now do not belong together. Put the file back, or start a new run with it."
            )
        return folder

    def remember_score(self, identity: str | None) -> None:
        """Write down which score guides the run, or refuse another one than before: values of two scores cannot be ranked."""
        about = self.about()
        if "score_identity" not in about.model_fields_set:
            self._rewrite(about, score_identity=identity)
        elif about.score_identity != identity:
            scores = f"{printable(about.score_identity)}, not {printable(identity)}"
            raise RunError(
                f"{self.path} was guided by another score, or by another version of its file ({scores}). "
                "Resume it with the file as it was, or start a new run."
            )

    def remember_job(self) -> None:
        """Write down that the job and the inputs as they are now are the run's: it goes on with them."""
        about = self.about()
        pins = {"decides": what_decides(load_job(self.job_file)), "job_sha256": sha256_of(self.job_file)}
        if about.inputs is None:
            pins["inputs"] = input_hashes(self.path)
        if any(getattr(about, name) != value for name, value in pins.items()):
            self._rewrite(about, **pins)

    def _rewrite(self, about: RunRecord, **changes: Any) -> None:
        write_atomically(self.about_file, record_text({**about.model_dump(exclude_unset=True), **changes}))

    def job(self) -> Job:
        """Return the resolved job, with paths that start from the run folder.

        Warns with ChangedFile if it was changed where that is allowed. Raises RunError if it was changed in what decides the
        run's numbers, and if a path in it leads out of the folder.
        """
        job, about = load_job(self.job_file), self.about()
        for field, path in _paths(job).items():
            if not is_inside(path):
                raise RunError(
                    f"{self.job_file}: {field} is {quote(path)}, which leads out of the run folder. A run reads its "
                    "own copies under inputs/ alone: put the name of the copy there."
                )
        if about.job_sha256 is None or self.has_its_job():
            return job
        changed = changed_sections(about.decides or {}, what_decides(job))
        if changed:
            raise RunError(
                f"{self.job_file} was changed in {', '.join(changed)} since the run began, so it cannot go on as if nothing "
                "had happened. Undo the change, or start a new run with it. num_steps may be changed."
            )
        warnings.warn(
            f"{self.job_file} was changed since the run began or was last resumed; nothing that decides its numbers was.",
            ChangedFile,
            stacklevel=2,
        )
        return job

    def has_its_job(self) -> bool:
        """Return whether the job is, to the letter, the one that the run began with or was last resumed with."""
        return self.about().job_sha256 == sha256_of(self.job_file)

    def about(self) -> RunRecord:
        """Return what is known about the run: when, with which versions, by which command, from which inputs."""
        try:
            return read_record(self.about_file, RunRecord, "Restore the file from a copy of the run.")
        except ValueError as error:
            raise RunError(str(error)) from None


def _paths(job: Job) -> dict[str, str]:
    """Return the files that a job names, by field."""
    tables = {"data": None if job.data is None else vars(job.data), "reward": job.reward, "noise": job.noise}
    paths = {f"[{section}] path": table["path"] for section, table in tables.items() if table is not None and "path" in table}
    # A parent may be a file too, though a run keeps its letters.
    return paths if job.data is None or job.data.parent is None else {**paths, "[data] parent": job.data.parent}


def _copy_inputs(job: Job, draft: Path) -> Job:
    """Copy the files a job names into `inputs/` and return the job that names the copies."""
    inputs = draft / INPUTS
    inputs.mkdir()
    kept = replace(job, folder=draft)
    if job.data is not None:
        if (job.folder / job.data.path).is_dir():
            raise JobError(f"[data] path: {job.folder / job.data.path} is a folder. Name the table inside it.")
        path = _copy(job.folder / job.data.path, inputs, "[data] path")
        kept = replace(kept, data=replace(with_parent(job.data, job.folder), path=path))
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
    return f"{INPUTS}/{target.name}"


def _copy_proxy(source: Path, target: Path) -> None:
    """Copy the files of a proxy and nothing else: its folder may hold anything, even the run folder in the making."""
    target.mkdir()
    for file in sorted(source.iterdir()):
        if file.name == fitted.MANIFEST or file.suffix == ".safetensors":
            shutil.copyfile(file, target / file.name)


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
