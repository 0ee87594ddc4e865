"""The JSON files of a run folder: the schema of each one that is written there and read back."""

from typing import Any, Literal

from pydantic import AliasChoices, Field, field_validator

from narrows.files import Record

FORMAT_VERSION = 1


class RunRecord(Record):
    """`run.json`: which run this is, what made it, and the hash of everything it depends on.

    Attributes:
        options: of the command that began it, by name, so that it can be given again.
        inputs: SHA-256 of each file under `inputs/`, by its path from the run folder; None in runs from before it was noted.
        decides: by section of the job, what a run's numbers depend on; None as above.
        job_sha256: of `job.toml`, as it was when the run began or was last resumed; None as above.
        score_identity: which score of the user's guides the run.
    """

    format_version: Any
    run_id: str
    created: str
    job: str = "job.toml"
    overrides: tuple[str, ...] = ()
    options: dict[str, str | int | float | bool] = Field(default_factory=dict)
    devices: int = 1
    versions: dict[str, str]
    machine: str
    inputs: dict[str, str] | None = None
    decides: dict[str, str] | None = None
    job_sha256: str | None = None
    score_identity: str | None = None

    @field_validator("format_version")
    @classmethod
    def _is_this_one(cls, version: object) -> object:
        if version != FORMAT_VERSION:
            raise ValueError(f"expected format {FORMAT_VERSION} (another one is for the release that made it)")
        return version

    @field_validator("versions")
    @classmethod
    def _names_narrows(cls, versions: dict[str, str]) -> dict[str, str]:
        if "narrows" not in versions:
            raise ValueError("expected the version of narrows among them")
        return versions


class SetAsideLine(Record):
    """A line of `set_aside.jsonl`: an object, or the objects of one step, and why they taught nothing."""

    step: int
    object: str | None = None
    objects: tuple[str, ...] = ()
    reason: str


class VerifiedGroup(Record):
    """True scores of one group of objects; None where scoring failed, or where what guided the run had nothing to say.

    Before, `scores` were called `proxy_means`.
    """

    role: Literal["shortlist", "measured", "search", "random", "control"]
    label: str
    note: str
    objects: tuple[str, ...]
    true_scores: tuple[float | None, ...]
    scores: tuple[float | None, ...] = Field(validation_alias=AliasChoices("scores", "proxy_means"))

    @field_validator("true_scores", "scores")
    @classmethod
    def _one_an_object(cls, values: tuple[float | None, ...], info: object) -> tuple[float | None, ...]:
        objects = getattr(info, "data", {}).get("objects", values)
        if len(values) != len(objects):
            raise ValueError(f"expected one number for each of {len(objects)} objects, not {len(values)}")
        return values


class VerificationRecord(Record):
    """`verification.json`: what the true score said, group by group."""

    scorer: str
    groups: tuple[VerifiedGroup, ...]
    matched_inverse_temperature: float | None
    failures: dict[str, str] = Field(default_factory=dict)
    page: str
