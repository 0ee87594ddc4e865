"""Who of a batch is to blame when it fails: found within a bound of time, and at no cost to the others' scores."""

import time
from collections import deque
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import final

from narrows.scorers.backends import Reply

LIMIT = 8
"""Timeouts that one batch may cost, however many of its objects hang."""
LOADING = 960.0
"""Seconds besides for loading the score anew, which follows each kill and each death."""
SAY_SECONDS = 10.0
"""Seconds between two sentences about a search: one that is over sooner is not worth any."""
UNTRIED = f"not tried: before it the score gave nothing at all in {LIMIT} timeouts of hanging or as much loading"
_PARTS = 8
"""Parts that what failed is tried in: all of it is tried, and may kill a process, once for each time that it is divided."""
_TRIAGE = 0.5
"""Timeouts that all parts of a batch may take together once some hang: time is left for those that are only slow."""
_ALL = 0.999
"""Of what a batch may cost: what is left beyond it is no time to judge by."""


@final
@dataclass(eq=False)
class Piece:
    """Objects that are scored in one call, the seconds that it may take, and how often a worker was lost under them."""

    names: tuple[str, ...]
    seconds: float
    num_losses: int = 0


@final
class Search:
    """A search for the objects that make a batch fail: what to try next, until each has its score or a reason why not.

    A batch that fails is tried again in parts, and so are those that fail, down to single objects. After errors and deaths a
    part has the time that the whole had. Once something took too long, each has its share of `_TRIAGE` timeouts, in which
    quick objects get their scores although others hang. Single objects that are left come last, in rounds: each has the
    same share of half of what the batch may still cost, or the whole timeout if that is less, and there is another round
    where it gives at least twice the time. So few that hang, or are slow, are waited for as long as one that is alone.

    Everything together takes at most `LIMIT` timeouts and `LOADING` seconds; what has no score by then is given up.

    Args:
        names: the objects.
        timeout: seconds for the batch.
    """

    def __init__(self, names: Sequence[str], timeout: float) -> None:
        self.left = dict.fromkeys(names)
        """Objects, in order, with neither a score nor a reason why not."""
        self.has_failed = False
        self._has_hung = False
        self.num = len(names)
        self._timeout = timeout
        self._hurry = _TRIAGE * timeout / max(len(names), 1)
        self._waiting = deque([Piece(tuple(names), timeout)])
        self._late: dict[str, str] = {}
        """Objects that are next tried alone, with what was said when they were too slow."""
        self._share = 0.0
        self._flying: set[Piece] = set()
        self._seconds = 0.0
        self._loading = 0.0

    @property
    def used(self) -> float:
        """Return how much of what the batch may cost was spent, 1 for all."""
        return max(self._seconds / (LIMIT * self._timeout), self._loading / LOADING)

    @property
    def is_slow(self) -> bool:
        """Return whether something failed and it takes long to find out what."""
        return self.has_failed and bool(self.left) and self._seconds + self._loading >= SAY_SECONDS

    @property
    def seconds_left(self) -> float:
        """Return how much longer the batch may take at most, loading left out."""
        return max(LIMIT * self._timeout - self._seconds, 0.0)

    def next(self) -> Piece | None:
        """Return what to try next; None if that depends on what is under way, or when there is nothing more to try."""
        free = self.seconds_left - sum(piece.seconds for piece in self._flying)
        if free <= 0.0 or self.used >= _ALL:
            return None
        if self._late and not self._waiting and not self._flying:
            self._begin_round(free)
        if not self._waiting or (self._flying and self._waiting[0].seconds > free):
            return None
        piece = self._waiting.popleft()
        piece.seconds = min(piece.seconds, free)
        self._flying.add(piece)
        return piece

    def scored(self, piece: Piece, reply: Reply) -> None:
        """Take note of a piece that has its scores."""
        self._spend(piece, reply)
        self._forget(piece.names)

    def failed(self, piece: Piece, reply: Reply) -> dict[str, str]:
        """Take note of a piece without scores; return the objects that are not tried again, and why."""
        self._spend(piece, reply)
        self.has_failed = True
        if reply.is_late and not self._has_hung:
            self._has_hung = True
            for waiting in self._waiting:
                waiting.seconds = self._hurry * len(waiting.names)
        if len(piece.names) != 1:
            self._divide(piece, reply)
            return {}
        (name,) = piece.names
        why = reply.failure or "no reason was given"
        if reply.is_late and piece.seconds < self._timeout:
            self._late[name] = why
            return {}
        self._forget((name,))
        return {name: why}

    def given_up(self) -> dict[str, str]:
        """Return, once `next` has nothing more, the objects that were too slow for their share or for which none was left."""
        if self._flying:
            return {}
        most = f"{LIMIT * self._timeout:g} s ({LIMIT} timeouts)"
        share = f", its share of the {most} that a batch may cost: others hang as well"
        none = (
            f"given up with {len(self.left)} of the {self.num} objects of its batch: what hangs or fails among them had cost "
            f"{self._seconds:.4g} s of at most {most}, and {self._loading:.4g} s of at most {LOADING:g} to load the score anew"
        )
        why = {name: self._late[name] + share if name in self._late and self._share > 0.0 else none for name in self.left}
        self.left = {}
        return why

    def withdraw(self, piece: Piece) -> None:
        """Forget a piece that is under way."""
        self._flying.discard(piece)
        self._forget(piece.names)

    def keep(self, names: Collection[str]) -> None:
        """Forget the other objects, except those that are under way."""
        pieces = [Piece(tuple(name for name in piece.names if name in names), piece.seconds) for piece in self._waiting]
        self._waiting = deque(piece for piece in pieces if piece.names)
        self._late = {name: why for name, why in self._late.items() if name in names}
        under_way = {name for piece in self._flying for name in piece.names}
        self.left = {name: None for name in self.left if name in names or name in under_way}

    def _forget(self, names: Iterable[str]) -> None:
        for name in names:
            self.left.pop(name, None)

    def _spend(self, piece: Piece, reply: Reply) -> None:
        self._flying.discard(piece)
        self._seconds += reply.seconds
        self._loading += reply.loading

    def _divide(self, piece: Piece, reply: Reply) -> None:
        size = -(-len(piece.names) // _PARTS)
        if reply.is_late and size == 1:
            self._late |= dict.fromkeys(piece.names, reply.failure or "")
            return
        parts = [piece.names[start : start + size] for start in range(0, len(piece.names), size)]
        self._waiting.extend(Piece(names, self._hurry * len(names) if self._has_hung else self._timeout) for names in parts)

    def _begin_round(self, free: float) -> None:
        share = min(self._timeout, free / (2.0 * len(self._late)))
        if share >= min(self._timeout, 2.0 * self._share):
            self._share = share
            self._waiting.extend(Piece((name,), share) for name in self._late)
            self._late = {}


@final
class Voice:
    """A listener's sentences, now and then, about searches that take long.

    Args:
        say: gets each sentence.
    """

    def __init__(self, say: Callable[[str], None]) -> None:
        self._say = say
        self._said = -SAY_SECONDS

    @contextmanager
    def heard_by(self, say: Callable[[str], None]) -> Iterator[None]:
        """Send the sentences to another listener until the block ends."""
        before, self._say = self._say, say
        try:
            yield
        finally:
            self._say = before

    def tell(self, searches: Iterable[Search]) -> None:
        """Report how many objects are being looked for among how many, and for how long at most."""
        slow = [search for search in searches if search.is_slow]
        if not slow:
            return
        num, num_left = (sum(counts) for counts in zip(*((search.num, len(search.left)) for search in slow), strict=True))
        most = max(search.seconds_left for search in slow)
        among = "a batch" if len(slow) == 1 else f"{len(slow)} batches"
        self.say(
            f"some of the {num} objects of {among} hang or fail; looking for them among {num_left}, "
            f"for at most {duration(most)} more{'' if len(slow) == 1 else ' each'}"
        )

    def say(self, sentence: str) -> None:
        """Send a sentence, unless another one was sent a moment ago."""
        if time.monotonic() - self._said >= SAY_SECONDS:
            self._said = time.monotonic()
            self._say(sentence)


def duration(seconds: float) -> str:
    """Return seconds as a person reads them.

    >>> duration(90.0), duration(4200.0)
    ('90 s', '70 min')
    """
    return f"{seconds:.0f} s" if seconds < 100.0 else f"{seconds / 60.0:.0f} min"
