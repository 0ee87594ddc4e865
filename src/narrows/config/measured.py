"""The table of measurements that a job names."""

from narrows.config.derived import accept_measurements, check_measurements
from narrows.config.job import Job
from narrows.config.names import proxy_class
from narrows.data import Table
from narrows.proxies.quality import WORTHLESS, Quality


def measurements(job: Job) -> Table | None:
    """Return the checked table of a job's measurements, None for a job without one."""
    if job.data is None:
        return None
    return accept_measurements(job.check or check_measurements(job.data, job.folder))


def cautions_about_proxy(job: Job, table: Table | None) -> tuple[str, ...]:
    """Return sentences about a job's proxy that its user should read first.

    That it is no better than the mean, and that it was fitted to other rows than `[data]` has now.
    """
    quality, other_rows = quality_of_proxy(job), fitted_to_other_rows(job, table)
    worthless = None if quality is None or quality.beats_mean else WORTHLESS
    return tuple(sentence for sentence in (worthless, other_rows) if sentence is not None)


def fitted_to_other_rows(job: Job, table: Table | None) -> str | None:
    """Return a sentence where a job's proxy was fitted to other rows than its table has now, None where it was not."""
    proxy, path = proxy_class(job.reward["name"]), job.reward_path
    if table is None or job.data is None or proxy is None or path is None:
        return None
    if proxy.read_table_sha256(path) in (None, table.sha256):
        return None
    return (
        f"the proxy in {job.reward['path']} was fitted to other rows than {job.data.path} has now, so it knows nothing of what "
        "was added or changed; `narrows fit` on the job fits it again"
    )


def quality_of_proxy(job: Job) -> Quality | None:
    """Return what the fit of a job's proxy found out about it, None for a job without one or one that keeps no record."""
    proxy, path = proxy_class(job.reward["name"]), job.reward_path
    return None if proxy is None or path is None else proxy.read_quality(path)
