"""A dask cluster as an executor: connected to with clear words when that fails, and watched while it works."""

import contextlib
import pkgutil
import time
import warnings
from collections.abc import Callable, Iterator
from concurrent.futures import Executor
from typing import Any, final

import narrows
from narrows.scorers.backends import ScoreError

CONNECT_SECONDS = 5.0
WORKER_SECONDS = 300.0
"""Seconds to wait for a worker: a queue system needs a while to start one."""
_LOOK_SECONDS = 2.0
"""Seconds between two questions to the scheduler, however often `watch` is called."""

_WHICH_NARROWS = (pkgutil.resolve_name, "narrows:__version__")


@final
class Cluster:
    """A scheduler that answers, and workers that may come and go; `connected` makes one.

    Args:
        client: a `dask.distributed.Client`.
        address: of the scheduler, for messages.
        patience: seconds without any worker after which `watch` gives up.
        say: gets a sentence when the wait for a worker begins.
    """

    def __init__(self, client: Any, address: str, patience: float, say: Callable[[str], None]) -> None:
        self._client = client
        self._address = address
        self._patience = patience
        self._say = say
        self._deserted_since: float | None = None
        self._looked = -_LOOK_SECONDS
        self._num_seen = 0

    def executor(self) -> Executor:
        """Return an executor of the cluster; close nothing, the client ends with `connected`."""
        return self._client.get_executor(pure=False)

    def watch(self) -> None:
        """Raise ScoreError if the scheduler is gone, or if there has been no worker for too long."""
        if self._num_workers() > 0:
            self._deserted_since = None
            return
        now = time.monotonic()
        if self._deserted_since is None:
            self._deserted_since = now
            self._say(f"the scheduler at {self._address} has no worker; waiting up to {self._patience:g} s for one ...")
        elif now - self._deserted_since > self._patience:
            raise ScoreError(
                f"the scheduler at {self._address} has had no worker for {self._patience:g} s. Start some with "
                f"`dask worker {self._address}`, with narrows installed, and try again."
            )

    def wait_for_workers(self) -> None:
        """Wait for the first worker; ScoreError if none comes."""
        self.watch()
        while self._deserted_since is not None:
            time.sleep(min(1.0, self._patience / 4.0))
            self.watch()

    def check_installations(self) -> None:
        """Raise ScoreError unless the scheduler and the workers of now have this release of narrows.

        Asked in words of the standard library: a name of ours would end a worker that cannot import it.
        """
        try:
            found = {f"the scheduler at {self._address}": self._client.run_on_scheduler(*_WHICH_NARROWS)}
        except Exception as error:  # whatever an import of its own raises there
            found = {f"the scheduler at {self._address}": error}
        answers = self._client.run(*_WHICH_NARROWS, on_error="return")
        found |= {f"the worker at {address}": answer for address, answer in answers.items()}
        wrong = [f"{who} has {_shown(answer)}" for who, answer in found.items() if answer != narrows.__version__]
        if wrong:
            more = f", and {len(wrong) - 3} more like it" if len(wrong) > 3 else ""
            raise ScoreError(
                f"{'; '.join(wrong[:3])}{more}. Install narrows {narrows.__version__}, the release here, on the scheduler and "
                "on every worker, and start them again."
            )

    def _num_workers(self) -> int:
        try:
            if self._client.status == "running":
                if self._num_seen == 0 or time.monotonic() - self._looked > _LOOK_SECONDS:
                    self._num_seen, self._looked = len(self._client.nthreads()), time.monotonic()
                return self._num_seen
        except OSError:
            pass
        raise ScoreError(
            f"the connection to the scheduler at {self._address} is lost. Start it and its workers again, then go on from "
            "where the scores ended: those that came back are remembered."
        )


@contextlib.contextmanager
def connected(
    address: str,
    *,
    timeout: float | None = None,
    patience: float | None = None,
    say: Callable[[str], None] = lambda sentence: None,
) -> Iterator[Cluster]:
    """Connect to a dask scheduler that has, or gets, at least one worker.

    Connect to schedulers that you trust only: dask sends code both ways.

    Args:
        address: of the scheduler, such as "tcp://10.0.0.1:8786".
        timeout: seconds for the scheduler to answer, `CONNECT_SECONDS` unless given.
        patience: seconds to wait for a worker, now and whenever there is none, `WORKER_SECONDS` unless given.
        say: gets sentences that a person should read.

    Raises ScoreError when dask is not installed, nothing answers or no worker comes.
    """
    try:
        import distributed
        from distributed.versions import VersionMismatchWarning
    except ImportError as error:
        raise ScoreError(f'a scheduler needs dask.distributed ({error}): pip install "narrows[cluster]".') from None
    timeout = CONNECT_SECONDS if timeout is None else timeout
    patience = WORKER_SECONDS if patience is None else patience
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", VersionMismatchWarning)
        try:
            client = distributed.Client(address, timeout=timeout, set_as_default=False, name="narrows")
        except (OSError, ValueError, TypeError) as error:
            raise ScoreError(
                f"no dask scheduler answered at {address!r} within {timeout:g} s ({_first_line(error)}). "
                "Expected tcp://HOST:PORT as `dask scheduler` prints it."
            ) from None
    try:
        for warning in caught:
            if issubclass(warning.category, VersionMismatchWarning):
                say(f"the cluster has other versions than this machine, which may make pieces fail. {warning.message}")
        cluster = Cluster(client, address, patience, say)
        cluster.wait_for_workers()
        cluster.check_installations()
        yield cluster
    finally:
        # Cancels what is under way; a scheduler that is gone must not hold us up.
        with contextlib.suppress(OSError, TimeoutError):
            client.close(timeout=5.0)


def _shown(answer: Any) -> str:
    if isinstance(answer, str):
        return f"narrows {answer}"
    return "no narrows" if isinstance(answer, ModuleNotFoundError) else f"no working narrows ({_first_line(answer)})"


def _first_line(error: BaseException) -> str:
    return next(iter(str(error).splitlines()), type(error).__name__)
