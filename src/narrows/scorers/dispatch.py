"""Pieces of work through any executor, each answered although workers die, cancel and break."""

import functools
import itertools
import sys
import uuid
from collections import deque
from collections.abc import Callable
from concurrent.futures import FIRST_COMPLETED, BrokenExecutor, CancelledError, Executor, Future, wait
from typing import final

from narrows.scorers.backends import Reply, ScoreError
from narrows.scorers.remote import stop
from narrows.scorers.search import Piece

Call = Callable[[float, list[str], str], Reply]
"""A call on a worker: the seconds that it may take, objects and a ticket in."""

_PATIENCE = 10.0
"""Seconds for the other pieces of a broken executor to be told about it."""


@final
class Dispatcher:
    """Send pieces and collect what came of them, from one thread.

    A piece that is lost (its worker died, the engine cancelled it) is sent again, `retries` times. Where one death breaks the
    whole executor, as in a `ProcessPoolExecutor`, nobody knows which piece was to blame: a new executor gets the pieces in
    halves, one after the other, until the culprit has broken it alone, so that no other piece pays for it.

    Args:
        executor: an executor, or a function that makes one and is called again when it breaks.
        call: runs on a worker; must be something that the executor can send.
        retries: how often a lost piece is sent again, >= 0.
        watch: called before a loss is believed; raises when the engine as a whole is gone.
    """

    def __init__(
        self, executor: Executor | Callable[[], Executor], call: Call, retries: int, watch: Callable[[], None]
    ) -> None:
        self._make = None if isinstance(executor, Executor) else executor
        self._executor = executor if isinstance(executor, Executor) else executor()
        self._call = call
        self._retries = retries
        self._watch = watch
        self._waiting: deque[Piece] = deque()
        self._groups: deque[list[Piece]] = deque()
        self._flying: dict[Future[Reply], Piece] = {}
        self._is_trying = False
        self._name = uuid.uuid4().hex
        self._tickets = (f"{self._name}:{number}" for number in itertools.count())

    def send(self, piece: Piece) -> None:
        """Send a piece, or keep it until it is known which of others breaks executors."""
        self._waiting.append(piece)
        self._launch()

    def collect(self, seconds: float) -> list[tuple[Piece, Reply]]:
        """Return the pieces that were answered, waiting so long for the first; ScoreError for what no retry mends."""
        self._launch()
        done = wait(self._flying, seconds, FIRST_COMPLETED).done
        answers: list[tuple[Piece, Reply]] = []
        casualties: list[Piece] = []
        for future in done:
            piece = self._flying.pop(future)
            if future.cancelled():
                answers += self._lost(piece, "it was cancelled")
                continue
            error = future.exception()
            if error is None:
                answers.append((piece, future.result()))
            elif isinstance(error, BrokenExecutor):
                casualties.append(piece)
            elif isinstance(error, _losses()):
                answers += self._lost(piece, str(error))
            else:
                raise ScoreError(_explained(error)) from error
        if casualties:
            answers += self._after_a_break(casualties)
        self._launch()
        return answers

    def withdraw(self, is_wanted: Callable[[Piece], bool]) -> list[Piece]:
        """Cancel and return the pieces that are no longer wanted; what already runs may run to its end for nobody."""
        every = itertools.chain(self._waiting, *self._groups, self._flying.values())
        unwanted = [piece for piece in every if not is_wanted(piece)]
        self._waiting = deque(filter(is_wanted, self._waiting))
        self._groups = deque(group for group in ([*filter(is_wanted, group)] for group in self._groups) if group)
        for future, piece in list(self._flying.items()):
            if not is_wanted(piece):
                del self._flying[future]
                future.cancel()
        return unwanted

    def close(self) -> None:
        """Cancel everything, and shut an executor down that was made here; a second call does nothing.

        What runs in threads of this process ends as well; what runs elsewhere ends with its time.
        """
        self.withdraw(lambda piece: False)
        stop(self._name)
        if self._make is not None:
            self._executor.shutdown(wait=False, cancel_futures=True)

    def _launch(self) -> None:
        """Send what may be sent: the next group of suspects once nothing else flies, everything when there are none."""
        if self._is_trying and self._flying:
            return
        self._is_trying = bool(self._groups) and not self._flying
        if self._is_trying:
            for piece in self._groups.popleft():
                self._submit(piece)
        while self._waiting and not self._is_trying and not self._groups:
            self._submit(self._waiting.popleft())

    def _submit(self, piece: Piece) -> None:
        try:
            future = self._executor.submit(self._call, piece.seconds, list(piece.names), next(self._tickets))
        except BrokenExecutor:  # it broke while nothing was under way, or a moment ago
            self._replace()
            future = self._executor.submit(self._call, piece.seconds, list(piece.names), next(self._tickets))
        except RuntimeError as error:
            self._watch()
            raise ScoreError(f"the executor takes no more work: {error}. Start again with one that does.") from error
        self._flying[future] = piece

    def _lost(self, piece: Piece, why: str) -> list[tuple[Piece, Reply]]:
        """Send a lost piece again, or return why it is given up."""
        self._watch()
        piece.num_losses += 1
        if piece.num_losses > self._retries:
            return [(piece, Reply(failure=f"lost {piece.num_losses} times; the last time {why}"))]
        self._waiting.append(piece)
        return []

    def _after_a_break(self, casualties: list[Piece]) -> list[tuple[Piece, Reply]]:
        """Replace a broken executor and try in halves what was under way in it."""
        answers: list[tuple[Piece, Reply]] = []
        wait([future for future in self._flying if not future.done()], _PATIENCE)  # a cancelled one is never told
        for future, piece in self._flying.items():
            if future.done() and not future.cancelled() and future.exception() is None:
                answers.append((piece, future.result()))
            else:
                future.cancel()
                casualties.append(piece)
        self._flying.clear()
        self._is_trying = False
        self._replace()
        if len(casualties) > 1:
            middle = len(casualties) // 2
            self._groups.extendleft((casualties[middle:], casualties[:middle]))
            return answers
        (piece,) = casualties
        piece.num_losses += 1
        if piece.num_losses > self._retries:
            why = f"a process of the executor died under it {piece.num_losses} times"
            return [*answers, (piece, Reply(failure=why))]
        self._groups.appendleft([piece])
        return answers

    def _replace(self) -> None:
        if self._make is None:
            raise ScoreError(
                "a process of the executor died and took the whole executor along. Give a function that makes one, such as "
                "`lambda: ProcessPoolExecutor(8)`, so that it can be replaced."
            )
        self._executor.shutdown(wait=False, cancel_futures=True)
        self._executor = self._make()


@functools.cache
def _losses_with(distributed: bool) -> tuple[type[BaseException], ...]:
    if not distributed:
        return (CancelledError,)
    from distributed import KilledWorker

    return (CancelledError, KilledWorker)


def _losses() -> tuple[type[BaseException], ...]:
    """Return the errors that say a piece was lost; dask's cannot occur before dask was imported."""
    return _losses_with("distributed" in sys.modules)


def _explained(error: BaseException) -> str:
    what = f"{type(error).__name__}: {error}".strip()
    cure = "Install the same release of narrows there as here: on every worker, and on a scheduler too."
    if isinstance(error, ModuleNotFoundError) and (error.name or "").partition(".")[0] == "narrows":
        return f"a worker has no narrows ({what}). {cure}"
    return f"a worker could not run the score. {cure} Its log says more. It told us: {what}"
