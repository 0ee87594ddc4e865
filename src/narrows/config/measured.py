"""The table of measurements that a job names."""

from narrows.config.job import Job
from narrows.config.schema import JobError
from narrows.data import DataError, Table, read_table, space
from narrows.proxies.ensemble import read_table_sha256


def measurements(job: Job) -> Table | None:
    """Return the checked table of a job's measurements, None for a job without one."""
    if job.data is None:
        return None
    data = job.data
    try:
        return read_table(
            job.folder / data.path,
            space(data.space),
            sequence_column=data.sequence_column,
            score_column=data.score_column,
            score_sense=data.score_sense,
            on_invalid=data.on_invalid,
        )
    except DataError as error:
        raise JobError(f"[data] {_in_words_of_a_job(str(error))}") from error


def proxy_of_other_rows(job: Job, table: Table | None) -> str | None:
    """Return a sentence about a proxy that was fitted to other rows than a job's `[data]` has now, None where it was not."""
    if table is None or job.data is None or job.reward["name"] != "Proxy":
        return None
    known = read_table_sha256(job.folder / job.reward["path"])
    if known in (None, table.sha256):
        return None
    return (
        f"the proxy in {job.reward['path']} was fitted to other rows than {job.data.path} has now, so it knows nothing of what "
        "was added or changed; `narrows fit` on the job fits it again"
    )


def _in_words_of_a_job(message: str) -> str:
    """Return a message about a table with the fields of `[data]` in place of the command's options."""
    message = message.replace("--on-invalid skip", 'on_invalid = "skip"').replace(
        "--score-sense lower", 'score_sense = "lower"'
    )
    return message.replace("--sequence-column", "sequence_column =").replace("--score-column", "score_column =")
