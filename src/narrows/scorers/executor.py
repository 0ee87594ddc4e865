"""Expensive scores on many processes or machines: any `concurrent.futures.Executor` will do."""

import functools
import os
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from concurrent.futures import CancelledError, Executor
from dataclasses import dataclass
from typing import Any, Literal, final

from narrows.scorers.backends import Reply, ScoreError, check_kappa
from narrows.scorers.dispatch import Dispatcher
from narrows.scorers.host import AbstractAsyncScore, AbstractScoreBatch
from narrows.scorers.ledger import AbstractScorer, Ledger, ScoreResult, check_timeout
from narrows.scorers.remote import ScoreFile, run_file, run_function
from narrows.scorers.search import LIMIT, UNTRIED, Piece, Search, Voice, duration

_TICK = 5.0
"""Seconds between two looks at whether the engine is still there."""


@final
@dataclass(eq=False)
class ScoreBatch(AbstractScoreBatch):
    """Objects whose scores are under way; `ExecutorScorer.submit` makes one."""

    scorer: "ExecutorScorer"
    objects: tuple[str, ...]
    known: dict[str, float]
    missing: set[str]
    is_cancelled: bool = False

    @property
    def is_done(self) -> bool:
        """Return whether `result` would answer at once."""
        return not self.missing

    def result(self) -> ScoreResult:
        """Return the scores in the order of the objects, waiting for them; CancelledError if the batch was cancelled.

        Raises ScoreError for a fault of the score, and with `on_failure="raise"` for an object that failed.
        """
        return self.scorer.result_of(self)

    def cancel(self) -> None:
        """Give the batch up; objects that another batch wants as well are still scored."""
        self.scorer.cancel(self)


@final
class ExecutorScorer(AbstractScorer, AbstractAsyncScore):
    """Score objects through an executor: pieces of a batch run side by side, and the scores come back in order.

    An object is sent once: not again when it is in the cache, twice in a batch, or under way for an earlier batch. A piece
    whose worker died is sent again; one that fails or is lost too often is tried in parts, down to single objects, and what
    fails then is NaN, with its reason in `failures`. However many of its objects hang, a piece costs the workers at most
    `LIMIT` (8) timeouts and `LOADING` (960) seconds in which the function is loaded anew; and after `LIMIT` timeouts in which
    pieces hung and no score came at all, everything under way is given up. Use it in a `with` statement, from one thread.

    A file runs on a worker in a process of its own, which is killed when it takes too long. Workers need `narrows` but not
    the file, which must stand alone: what it imports has to be installed there.

    Args:
        score: "FILE.py:FUNCTION", or a function that the executor can send; it cannot be stopped when it takes too long.
        executor: such as `ProcessPoolExecutor(8, mp_context=get_context("spawn"))` or `dask.distributed.Client.get_executor()`;
            or a function that makes one, which is called again when an executor breaks.
        piece: objects in one call of the function.
        timeout: seconds for a piece, not counting the wait for a free worker; for a file only.
        retries: how often a piece is sent again when its worker died.
        pending: batches that training keeps under way; one trains as if the score ran here, any more do not repeat bit for bit.
        on_failure: "collect" gives NaN for an object that failed and records why, "raise" raises ScoreError.
        cache: SQLite file that remembers scores from run to run; for a file only.
        watch: called every few seconds of waiting, and before a lost piece is sent again; raises to give up.
        say: gets a sentence now and then while pieces that failed cost time.

    >>> from concurrent.futures import ThreadPoolExecutor
    >>> with ThreadPoolExecutor(2) as pool, ExecutorScorer(lambda objects: map(len, objects), pool) as score:
    ...     score(["GAG", "AC"]).values.tolist()
    [3.0, 2.0]
    """

    def __init__(
        self,
        score: str | Callable[[Sequence[str]], Any],
        executor: Executor | Callable[[], Executor],
        *,
        piece: int = 1,
        timeout: float = 600.0,
        retries: int = 2,
        pending: int = 4,
        on_failure: Literal["collect", "raise"] = "collect",
        cache: str | os.PathLike[str] | None = None,
        watch: Callable[[], None] = lambda: None,
        kappa: float = 0.0,
        say: Callable[[str], None] = lambda sentence: None,
    ) -> None:
        check_timeout(timeout)
        check_kappa(kappa)
        for name, value, least in (("piece", piece, 1), ("retries", retries, 0), ("pending", pending, 1)):
            if value < least:
                raise ValueError(f"{name} must be at least {least}, got {value}.")
        if isinstance(score, str):
            file = ScoreFile.read(score, kappa)
            identity, call = file.identity, functools.partial(run_file, file)
        elif callable(score):
            identity, call = None, functools.partial(run_function, score, kappa)
        else:
            raise ScoreError(f"expected FILE.py:FUNCTION or a function, got {score!r}.")
        self._ledger = Ledger(identity, on_failure, cache)
        self._piece = piece
        self._pending = pending
        self._watch = watch
        self._batches: list[ScoreBatch] = []
        self._timeout = timeout
        self._searches: dict[Search, None] = {}
        self._under_way: dict[Piece, Search] = {}
        self._scored_at, self._hung = time.monotonic(), 0.0
        self._voice = Voice(say)
        self._dispatcher = Dispatcher(executor, call, retries, watch)

    @property
    def pending(self) -> int:
        return self._pending

    def close(self) -> None:
        """Cancel what is under way and close the cache; an executor that was handed over stays open."""
        self._abandon()
        self._dispatcher.close()
        self._ledger.close()

    def __call__(self, objects: Sequence[str]) -> ScoreResult:
        """Return the score of each object, in order; see `ScoreBatch.result` for what it raises."""
        batch = self.submit(objects)
        try:
            return batch.result()
        except BaseException:  # Ctrl-C as well: nobody waits any longer
            batch.cancel()
            raise

    def submit(self, objects: Sequence[str]) -> ScoreBatch:
        """Begin to score a batch; an object that occurs twice, or is under way already, is sent once."""
        known, open_names = self._ledger.sort_out(objects)
        batch = ScoreBatch(self, tuple(objects), known, set(open_names))
        self._batches.append(batch)
        asked = self._asked()
        new = [name for name in open_names if name not in asked]
        if not self._searches:
            self._scored_at, self._hung = time.monotonic(), 0.0
        for start in range(0, len(new), self._piece):
            search = Search(new[start : start + self._piece], self._timeout)
            self._searches[search] = None
            self._go_on(search)
        return batch

    def first_of(self, batches: Sequence[AbstractScoreBatch]) -> int:
        """Wait until one of this scorer's batches is scored, and return its place in the list."""
        mine = [batch for batch in batches if isinstance(batch, ScoreBatch) and batch.scorer is self]
        if not mine or len(mine) < len(batches):
            raise ValueError("expected batches that this scorer's `submit` returned, at least one.")
        self._collect(0.0)
        while not any(batch.is_done or batch.is_cancelled for batch in mine):
            self._watch()
            self._tell()
            self._collect(_TICK)
        return next(index for index, batch in enumerate(mine) if batch.is_done or batch.is_cancelled)

    def result_of(self, batch: ScoreBatch) -> ScoreResult:
        """Return what `batch.result()` returns."""
        if not batch.is_done:
            self.first_of([batch])
        if batch.is_cancelled:
            raise CancelledError("this batch was cancelled, so it has no scores. Submit its objects again.")
        self._drop(batch)
        return self._ledger.result(batch.objects, batch.known)

    def cancel(self, batch: ScoreBatch) -> None:
        """Give a batch up, see `ScoreBatch.cancel`."""
        batch.is_cancelled = batch.is_cancelled or not batch.is_done
        self._drop(batch)
        wanted = set[str]().union(*(other.missing for other in self._batches))
        for piece in self._dispatcher.withdraw(lambda piece: not wanted.isdisjoint(piece.names)):
            self._under_way.pop(piece).withdraw(piece)
        for search in list(self._searches):
            search.keep(wanted)
            self._go_on(search)

    def _drop(self, batch: ScoreBatch) -> None:
        self._batches = [other for other in self._batches if other is not batch]

    def _begin(self) -> None:
        """Load the score on one worker, so that a mistake in it is told before anything depends on it."""
        self._dispatcher.send(Piece((), self._timeout))
        while True:
            self._watch()
            for _, reply in self._dispatcher.collect(_TICK):
                if reply.values is None:
                    raise ScoreError(reply.fault or f"no worker could load the score: {reply.failure}.")
                return

    def _collect(self, seconds: float) -> None:
        """Take what was answered; when that fails, nothing that is under way has a future."""
        try:
            answers = self._dispatcher.collect(seconds)
            # Scores first: what was paid for is remembered before a fault can end it all.
            for piece, reply in sorted(answers, key=lambda answer: answer[1].values is None):
                self._take(piece, reply)
            self._give_up_if_dead()
        except BaseException:
            self._abandon()
            raise

    def _take(self, piece: Piece, reply: Reply) -> None:
        if reply.fault is not None:
            raise ScoreError(reply.fault)
        search = self._under_way.pop(piece)
        if reply.values is not None:
            search.scored(piece, reply)
            self._scored_at, self._hung = time.monotonic(), 0.0
            self._settle(piece.names, self._ledger.keep(dict(zip(piece.names, reply.values, strict=True)), self._where))
        else:
            self._hung += reply.seconds if reply.is_late else 0.0
            self._fail(search.failed(piece, reply))
        self._go_on(search)

    def _go_on(self, search: Search) -> None:
        """Send what a search has next, and settle what it gives up."""
        while (piece := search.next()) is not None:
            self._under_way[piece] = search
            self._dispatcher.send(piece)
        self._fail(search.given_up())
        if not search.left:
            self._searches.pop(search, None)

    def _give_up_if_dead(self) -> None:
        most = LIMIT * self._timeout
        if self._hung >= most and time.monotonic() - self._scored_at >= most:
            self._dispatcher.withdraw(lambda piece: False)
            names = self._asked()
            self._searches, self._under_way = {}, {}
            self._fail(dict.fromkeys(names, UNTRIED))

    def _tell(self) -> None:
        self._voice.tell(self._searches)
        if self._hung > 0.0:
            since = time.monotonic() - self._scored_at
            more = max(LIMIT * self._timeout - since, 0.0)
            self._voice.say(
                f"objects hang, and no score has come for {duration(since)}; {len(self._asked())} are under way, and given "
                f"up if none comes for {duration(more)} more"
            )

    def _asked(self) -> dict[str, None]:
        """Return the objects that are under way."""
        return {name: None for search in self._searches for name in search.left}

    def _fail(self, failures: Mapping[str, str]) -> None:
        for name, why in failures.items():
            self._ledger.fail(name, why, self._where)
        self._settle(failures, {})

    def _settle(self, names: Collection[str], scores: Mapping[str, float]) -> None:
        for batch in self._batches:
            batch.known.update((name, scores[name]) for name in batch.missing.intersection(scores))
            batch.missing.difference_update(names)

    def _where(self, name: str) -> int:
        return next((batch.objects.index(name) for batch in self._batches if name in batch.missing), 0)

    def _abandon(self) -> None:
        for batch in self._batches:
            batch.is_cancelled = not batch.is_done
        self._batches, self._searches, self._under_way = [], {}, {}
        self._dispatcher.withdraw(lambda piece: False)
