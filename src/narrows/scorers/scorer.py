"""Call a score safely: cached, in batches, with a timeout, and an account of every object that could not be scored."""

import os
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal, final

from narrows.scorers.backends import AbstractBackend, Local, ScoreError, Worker, check_kappa, place_of
from narrows.scorers.ledger import AbstractScorer, Ledger, ScoreResult, check_timeout
from narrows.scorers.rna import TARGET_1, RnaBinding
from narrows.scorers.search import UNTRIED, Search, Voice

BUILT_IN: dict[str, str] = {"rna": "duplex energy with target 1 of the published RNA landscapes (needs ViennaRNA)"}


@final
class Scorer(AbstractScorer):
    """Score objects with a function that may hang, crash or fail on some of them.

    A batch that fails or takes too long is tried again in parts, down to single objects, so that one bad object costs nobody
    else the score. However many of its objects hang, a batch costs at most `LIMIT` (8) timeouts, and `LOADING` (960) seconds
    besides in which the function is loaded anew; objects that have no score by then are given up, and where a call has lost as
    much without a single score the rest of it is not tried. An object that failed is not tried again as long as this scorer
    lives. Use it in a `with` statement, which ends the process that the function runs in. Make one with `load_scorer`.

    Args:
        backend: where the score runs.
        timeout: seconds for a batch, and for an object alone where others do not need the time as well; see `Search`.
        batch_size: objects of one call of the function.
        on_failure: "collect" gives NaN for an object that failed and records why, "raise" raises ScoreError.
        cache: SQLite file that remembers scores from run to run; None remembers them while this scorer lives.
        say: gets a sentence now and then while a batch that failed costs time.
    """

    def __init__(
        self,
        backend: AbstractBackend,
        *,
        timeout: float = 600.0,
        batch_size: int = 256,
        on_failure: Literal["collect", "raise"] = "collect",
        cache: str | os.PathLike[str] | None = None,
        say: Callable[[str], None] = lambda sentence: None,
    ) -> None:
        check_timeout(timeout)
        if batch_size < 1:
            raise ValueError(f"batch_size must be at least 1, got {batch_size}.")
        self._backend = backend
        self._timeout = timeout
        self._batch_size = batch_size
        self._ledger = Ledger(backend.identity, on_failure, cache)
        self._voice = Voice(say)

    def _begin(self) -> None:
        self._backend.start()

    def close(self) -> None:
        self._backend.stop()
        self._ledger.close()

    def __call__(self, objects: Sequence[str]) -> ScoreResult:
        """Return the score of each object; an object that occurs twice is scored once.

        Raises ScoreError for a score that returns the wrong number of values or something that is no number, for one that
        fails on everything, and with `on_failure="raise"` for the first object that fails.
        """
        where = list(objects).index
        known, open_names = self._ledger.sort_out(objects)
        lost = 0.0
        for start in range(0, len(open_names), self._batch_size):
            batch = open_names[start : start + self._batch_size]
            if lost < 1.0:
                scores, used = self._score_batch(batch, where)
                known |= scores
                lost = 0.0 if scores else lost + used
            else:
                for name in batch:
                    self._ledger.fail(name, UNTRIED, where)
        return self._ledger.result(objects, known)

    def _score_batch(self, names: list[str], where: Callable[[str], int]) -> tuple[dict[str, float], float]:
        """Return the finite scores of a batch and how much of what it may cost was used; record why the others have none."""
        search = Search(names, self._timeout)
        scores: dict[str, float] = {}
        while (piece := search.next()) is not None:
            reply = self._backend.reply(list(piece.names), piece.seconds)
            if reply.values is not None:
                search.scored(piece, reply)
                scores |= self._ledger.keep(dict(zip(piece.names, reply.values, strict=True)), where)
            else:
                self._record(search.failed(piece, reply), where)
            self._voice.tell([search])
        self._record(search.given_up(), where)
        return scores, search.used

    def _record(self, failures: Mapping[str, str], where: Callable[[str], int]) -> None:
        for name, why in failures.items():
            self._ledger.fail(name, why, where)


def load_scorer(
    score: str | Callable[[Sequence[str]], Any],
    *,
    timeout: float = 600.0,
    batch_size: int = 256,
    on_failure: Literal["collect", "raise"] = "collect",
    cache: str | os.PathLike[str] | None = None,
    identity: str | None = None,
    kappa: float = 0.0,
    say: Callable[[str], None] = lambda sentence: None,
) -> Scorer:
    """Return a scorer for a built-in score, for a function in a file of the user's, or for a function at hand.

    A file runs in a process of its own, with what it prints shown on the error stream. A built-in and a function at hand run
    in this process, where `timeout` cannot stop them. A cache knows a file by its content: what it imports from other files
    is not part of that, so delete the cache when one of those changes.

    Args:
        score: "rna", "FILE.py:FUNCTION", or a function; a list of texts in, one number each out, higher is better. It may
            return `Scores(mean, std)` instead, a list each, or an array of two columns.
        timeout, batch_size, on_failure, cache, say: see `Scorer`.
        identity: what names a function at hand in a cache, such as a hash of all that decides its scores; without one it has
            none. A file and a built-in name themselves.
        kappa: standard deviations to subtract from the mean, >= 0; 0 trusts it.

    Raises ScoreError for a file or name that does not exist; entering the scorer loads the file and reports its faults.

    >>> with load_scorer(lambda objects: [text.count("G") for text in objects]) as score:
    ...     score(["GAG", "ACU"]).values.tolist()
    [2.0, 0.0]
    """
    check_kappa(kappa)
    backend = _backend(score, identity, kappa)
    return Scorer(backend, timeout=timeout, batch_size=batch_size, on_failure=on_failure, cache=cache, say=say)


def _backend(score: str | Callable[[Sequence[str]], Any], identity: str | None, kappa: float) -> AbstractBackend:
    if not isinstance(score, str):
        if not callable(score):
            raise ScoreError(f"expected FILE.py:FUNCTION or a function, got {score!r}.")
        return Local(score, identity, kappa)
    if score == "rna":
        from importlib.metadata import version

        binding = RnaBinding(TARGET_1, length=None)
        return Local(binding, f"rna:{binding.target}:ViennaRNA {version('ViennaRNA')}", kappa)
    place = place_of(score)
    if place is None:
        known = ", ".join(BUILT_IN)
        raise ScoreError(f"unknown score {score!r}. Built in: {known}. For a score of your own write FILE.py:FUNCTION.")
    return Worker(*place, kappa)
