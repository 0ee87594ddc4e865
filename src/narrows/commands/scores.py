"""The score that a command is given: a built-in one, a function of a file of the user's, a tuned encoder, or any callable."""

import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import tyro

from narrows.printing import say
from narrows.runs import RunFolder
from narrows.scorers import ExecutorScorer, Scorer, Scores, load_scorer
from narrows.scorers.cluster import connected

Score = Annotated[str | Callable[[Sequence[str]], Any], tyro.conf.arg(constructor=str, metavar="FILE.py:FUNCTION")]
MaybeScore = Annotated[str | Callable[[Sequence[str]], Any] | None, tyro.conf.arg(constructor=str, metavar="FILE.py:FUNCTION")]
Scheduler = Annotated[str | None, tyro.conf.arg(metavar="tcp://HOST:PORT")]
_PENDING = 4
_MANIFEST = "manifest.json"
"""The file that tells a folder of `narrows fit`."""
MaybeProxy = Annotated[Path | None, tyro.conf.arg(metavar="FOLDER")]


@dataclass(frozen=True)
class Workers:
    """A cluster to score on, in place of a process of this machine.

    Args:
        scheduler: address of a dask scheduler.
        pending: batches that training keeps under way.
        piece: objects in one call of the score.
    """

    scheduler: str
    pending: int
    piece: int

    @classmethod
    def named(cls, scheduler: str | None, pending: int | None, piece: int | None) -> "Workers | None":
        """Return the cluster that a command's options name, None without one; ValueError for options that need one."""
        if scheduler is not None:
            return cls(scheduler, _PENDING if pending is None else pending, 1 if piece is None else piece)
        given = [name for name, value in (("--pending", pending), ("--piece", piece)) if value is not None]
        if given:
            raise ValueError(f"{' and '.join(given)} say how to use a cluster. Name one with --scheduler tcp://HOST:PORT.")
        return None


def open_scorer(
    score: str | Callable[[Sequence[str]], Any] | None,
    folder: RunFolder,
    timeout: float,
    proxy: Path | None = None,
    kappa: float = 0.0,
) -> AbstractContextManager[Scorer | None]:
    """Return a context manager that holds the scorer, or None without a score and without a tuned encoder as a proxy.

    `kappa` standard deviations are subtracted from the mean.
    """
    if proxy is not None:
        if score is not None:
            raise ValueError("--score and --proxy both say what is scored with. Give one of them.")
        return _tuned(proxy, folder, timeout, kappa)
    if score is None:
        return nullcontext()
    return load_scorer(score, timeout=timeout, cache=_cache(score, folder), kappa=kappa, say=_say)


def open_scorer_on(
    workers: Workers | None,
    score: str | Callable[[Sequence[str]], Any] | None,
    folder: RunFolder,
    timeout: float,
    proxy: Path | None = None,
    kappa: float = 0.0,
) -> AbstractContextManager[Scorer | ExecutorScorer | None]:
    """Return what `open_scorer` does, for a score that runs on a cluster if there is one."""
    if workers is None:
        return open_scorer(score, folder, timeout, proxy, kappa)
    if proxy is not None:
        raise ValueError("--proxy is a tuned encoder, which scores in this process. Leave --scheduler out.")
    if score is None:
        raise ValueError("--scheduler is where a score of yours runs, and none was given. Add --score FILE.py:FUNCTION.")
    return _on_cluster(workers, score, timeout, _cache(score, folder), kappa)


def _tuned(proxy: Path, folder: RunFolder, timeout: float, kappa: float) -> Scorer:
    try:
        from narrows.tuning.scoring import TunedScorer, is_scorer
    except ImportError as error:
        raise ImportError(f'--proxy needs PyTorch and transformers ({error}): pip install "narrows[tuning]"') from error
    if not is_scorer(proxy) and (proxy / _MANIFEST).is_file():
        raise ValueError(
            f'{proxy} is a proxy of `narrows fit`, which a job names itself: [reward] name = "Proxy", path = "{proxy}". '
            "--proxy is for the folder of `narrows tune`."
        )
    tuned = TunedScorer.load(proxy)
    is_alone = tuned.task.heads * len(tuned.members) == 1
    if kappa > 0.0 and is_alone:
        raise ValueError(
            f"[reward] kappa is {kappa:g}, and {proxy} has one member and no standard deviation. Tune it with --members 5."
        )

    def guess(texts: Sequence[str]) -> Any:
        found = tuned.score(texts)
        return found.mean if is_alone else Scores(found.mean, found.std)

    identity = f"tuned encoder {tuned.identity}"
    return load_scorer(guess, timeout=timeout, cache=folder.scores, identity=identity, kappa=kappa, say=_say)


def _cache(score: str | Callable[[Sequence[str]], Any], folder: RunFolder) -> Path | None:
    # A function at hand has no identity under which its scores could be remembered from one process to the next.
    return folder.scores if isinstance(score, str) else None


@contextmanager
def _on_cluster(
    workers: Workers, score: str | Callable[[Sequence[str]], Any], timeout: float, cache: Path | None, kappa: float
) -> Iterator[ExecutorScorer]:
    with connected(workers.scheduler, say=_say) as cluster:
        with ExecutorScorer(
            score,
            cluster.executor(),
            piece=workers.piece,
            timeout=timeout,
            pending=workers.pending,
            cache=cache,
            watch=cluster.watch,
            kappa=kappa,
            say=_say,
        ) as scorer:
            yield scorer


def _say(sentence: str) -> None:
    say(f"narrows: {sentence}", sys.stderr)
