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
    found: list[str] = []
    quality = quality_of_proxy(job)
    if quality is not None and not quality.beats_mean:
        found.append(WORTHLESS)
    proxy, path = proxy_class(job.reward["name"]), job.reward_path
    if table is not None and job.data is not None and proxy is not None and path is not None:
        if proxy.read_table_sha256(path) not in (None, table.sha256):
            found.append(
                f"the proxy in {job.reward['path']} was fitted to other rows than {job.data.path} has now, so it knows nothing "
                "of what was added or changed; `narrows fit` on the job fits it again"
            )
    return tuple(found)


def quality_of_proxy(job: Job) -> Quality | None:
    """Return what the fit of a job's proxy found out about it, None for a job without one or one that keeps no record."""
    proxy, path = proxy_class(job.reward["name"]), job.reward_path
    return None if proxy is None or path is None else proxy.read_quality(path)
