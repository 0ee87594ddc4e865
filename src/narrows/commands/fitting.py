"""`narrows fit`: a proxy from a table of measurements, and how far it can be trusted."""

from dataclasses import dataclass, replace
from pathlib import Path

from rich.console import Console
from rich.progress import Progress as Rich
from tyro.conf import Positional

from narrows.config import Job, RewardKind, accept_measurements, build_env, load_job, with_parent
from narrows.data import TableSettings, accept_table, check_table
from narrows.data import space as named_space
from narrows.data.settings import USUAL, AbstractTableSettings
from narrows.data.spaces import CUSTOM_PREFIX, OpenSpace, Space
from narrows.envs import Sequence
from narrows.proxies.fit import Progress
from narrows.proxies.fit import fit as fit_table
from narrows.proxies.fitted import save
from narrows.proxies.quality import Quality
from narrows.sizes import Seed


@dataclass(frozen=True)
class Fitted:
    """Where the proxy is and what is known of it."""

    folder: Path
    quality: Quality


@dataclass(frozen=True)
class FitSettings:
    """Settings of how a proxy is fitted and judged.

    Args:
        models: names of the models to compare with the mean; all that suit the table by default. The comparison names them.
        seed: of the split, the folds and whatever a model draws.
        test_fraction: share of the sequences held out, as whole clusters.
        max_distance: sequences within this many edits are never on both sides of the split; by default 15 % of the length.
        refit: after judging, train the proxy that is saved on all rows.
    """

    models: tuple[str, ...] = ()
    seed: Seed = 0
    test_fraction: float = 0.2
    max_distance: int | None = None
    refit: bool = True


_USUAL = FitSettings()


def fit(
    source: Positional[Path],
    space: str | None = None,
    *,
    out: Path | None = None,
    settings: FitSettings = _USUAL,
    reading: TableSettings = USUAL,
) -> Fitted:
    """Compare models of a table on clusters of sequences they never saw, and keep the best as the proxy.

    Args:
        source: a table (CSV), or a job file, whose [data] names the table and whose [reward] path says where the proxy goes.
        space: rna, dna, protein or the letters of an alphabet (letters:abc); needed for a table, taken from a job.
        out: folder for the proxy; by default the job's [reward] path, or proxy beside the table.
        settings: how the proxy is fitted and judged.
        reading: how the table is read; a job says so itself.
    """
    asked: Space | OpenSpace
    how: AbstractTableSettings
    made: tuple[int, ...] = ()
    if source.suffix == ".toml":
        if space is not None or reading != USUAL:
            raise ValueError("a job says itself what its table holds. Leave out the options about the table.")
        path, asked, made, out, how = _from_job(load_job(source), out)
    else:
        if space is None:
            raise ValueError(f"--space is missing. Say what {source} holds: rna, dna, protein or the letters of an alphabet.")
        path, asked, out, how = source, named_space(space), out or source.with_name("proxy"), reading
    if settings.seed < 0:
        raise ValueError(f"seed must be at least 0, got {settings.seed}.")
    checked = check_table(path, asked, how)
    table = (accept_measurements if source.suffix == ".toml" else accept_table)(checked)
    assert checked.space is not None, "a table with rows has lengths"
    shortest, longest = checked.space.min_length, checked.space.max_length
    read = replace(checked.space, min_length=min((shortest, *made)), max_length=max((longest, *made)))
    _refuse_a_file(out)  # before minutes of learning, not after
    with Rich(console=Console(stderr=True), transient=True) as bar:
        fitted = fit_table(table, read, **vars(settings), progress=_Meter(len(table), bar))
    save(fitted.proxy, fitted.quality, out, table.sha256)
    return Fitted(out, fitted.quality)


def render(fitted: Fitted) -> str:
    """Return what the command prints: the quality of the proxy and where it is."""
    return f"{fitted.quality.summary()}\nsaved: {fitted.folder}"


class _Meter:
    """Shows how far a fit is."""

    def __init__(self, num_rows: int, bar: Rich) -> None:
        self._bar = bar
        self._task = bar.add_task(f"{num_rows:,} rows")

    def __call__(self, progress: Progress) -> None:
        self._bar.update(self._task, description=progress.stage, completed=progress.done, total=progress.at_most)


def _refuse_a_file(out: Path) -> None:
    taken = next((path for path in (out, *out.parents) if path.exists() and not path.is_dir()), None)
    if taken is not None:
        raise ValueError(f"{taken} is a file, so there can be no folder {out} for the proxy. Name another one with --out.")


def _from_job(job: Job, out: Path | None) -> tuple[Path, OpenSpace, tuple[int, int], Path, AbstractTableSettings]:
    """Return the table that a job names, its letters, the lengths that are made, where the proxy goes, and how it is read.

    Rows of other lengths than are made teach the proxy as well.
    """
    env, data = build_env(job), job.data
    if data is None:
        raise ValueError("the job has no [data] table to fit a proxy to. Add one with path and space.")
    if not isinstance(env, Sequence):
        raise ValueError(f"a proxy is fitted to sequences; [env] names {type(env).__name__}.")
    folder = out or (job.reward_path if job.reward_kind is RewardKind.FITTED else None)
    if folder is None:
        raise ValueError(f"[reward] names {job.reward['name']}, which has no proxy. Say where it goes with --out.")
    named = named_space(data.space)
    if named.alphabet != env.alphabet or data.case == "keep":  # whose letters of their own are those of [env]
        named = named_space(CUSTOM_PREFIX + env.alphabet)
    letters = named_space(named.name)
    assert isinstance(letters, OpenSpace), "without lengths a space is open"
    return job.folder / data.path, letters, (env.min_length, env.max_length), folder, with_parent(data, job.folder)
