"""Verdicts of a perfect judge on each move, asked for in the background: some positions take longer than anybody waits."""

import functools
import threading
from collections.abc import Callable
from concurrent.futures import CancelledError, Future, TimeoutError
from typing import TYPE_CHECKING, NamedTuple

from narrows.envs.connect_four import ConnectFour
from narrows.envs.game import AbstractGame
from narrows.envs.tic_tac_toe import TicTacToe
from narrows.games.rules import batch_of
from narrows.games.session import Session, StateJudge
from narrows.games.solver.board import stones_to_win

if TYPE_CHECKING:
    from narrows.games.solver import Judge

_REMEMBERED = 64
"""Positions whose verdicts are kept; what was too slow the first time may be there the second."""


class Verdict(NamedTuple):
    """The worth of one move to the player to move.

    Attributes:
        name: of the move.
        score: strong score; positive wins, negative loses (see `StateJudge`).
        stones: with which of their next stones the winner wins, 1 for the very next; None in a draw.
        is_best: whether no other move has a better score.
    """

    name: str
    score: int
    stones: int | None
    is_best: bool

    @property
    def words(self) -> str:
        """The verdict as people say it, counting the winner's stones from now."""
        if self.stones is None:
            return "draw"
        return f"{'wins' if self.score > 0 else 'loses'} in {self.stones}"


class _GivenUp(Exception):
    """Nobody waits for this answer any more."""


class _Question(NamedTuple):
    """A position that is being judged, or has been."""

    answer: Future[tuple[Verdict, ...]]
    given_up: threading.Event


class Referee:
    """Asks a judge in a thread of its own and waits a limited time for the answer.

    One position is judged at a time. A judge that does not look up goes on after that time: its answer is kept for whoever
    asks again.

    Args:
        judge: who knows the scores.
        seconds: how long to wait.
    """

    def __init__(self, judge: StateJudge, seconds: float = 10.0) -> None:
        self._judge = judge
        self._seconds = seconds
        self._asking = threading.Lock()
        self._judging = threading.Lock()
        self._questions: dict[tuple[int, ...], _Question] = {}

    def verdicts(self, session: Session) -> tuple[Verdict, ...]:
        """Return a verdict for each legal move; ValueError if the game is over or the answer takes too long."""
        if session.is_over:
            raise ValueError(f"there is nothing to judge: {session.result()}.")
        question = self._ask(session)
        try:
            return question.answer.result(self._seconds)
        except (TimeoutError, CancelledError, _GivenUp):
            question.given_up.set()
            # An answer that nobody has begun to look for is not looked for any more.
            if question.answer.cancel():
                raise ValueError("the solver is still busy with an earlier position. Ask again in a while.") from None
            raise ValueError("too deep to solve here, ask again after a few more moves.") from None

    def _ask(self, session: Session) -> _Question:
        with self._asking:
            question = self._questions.get(session.actions)
            if question is None or _has_failed(question.answer):
                self._questions.pop(session.actions, None)
                question = self._questions[session.actions] = _Question(Future(), threading.Event())
                # A daemon: whoever wants to stop is not kept waiting by a question of ten minutes ago.
                threading.Thread(target=self._find, args=(question, session), daemon=True).start()
            question.given_up.clear()
            for actions in [key for key, known in self._questions.items() if known.answer.done()][:-_REMEMBERED]:
                del self._questions[actions]
            return question

    def _find(self, question: _Question, session: Session) -> None:
        def look_up() -> None:
            if question.given_up.is_set():
                raise _GivenUp

        with self._judging:
            if not question.answer.set_running_or_notify_cancel():
                return
            try:
                question.answer.set_result(judged(self._judge, session, look_up))
            except BaseException as error:  # whatever it is, whoever asked is told
                question.answer.set_exception(error)


def _has_failed(answer: Future[tuple[Verdict, ...]]) -> bool:
    return answer.cancelled() or (answer.done() and answer.exception() is not None)


def judged(judge: StateJudge, session: Session, look_up: Callable[[], None]) -> tuple[Verdict, ...]:
    """Return what a judge says of each legal move, unless `look_up` raises."""
    scores = judge(session.state, look_up)
    known = {action: int(scores[action]) for action in session.legal}
    cells, num_stones, best = session.env.max_steps, len(session.actions), max(known.values())
    return tuple(
        Verdict(session.env.action_names[action], score, stones_to_win(cells, num_stones, score) or None, score == best)
        for action, score in known.items()
    )


def perfect_judge(env: AbstractGame) -> StateJudge | None:
    """Return who knows what moves are worth in a game, None if nobody does. The solver is made when it is first asked."""
    if not isinstance(env, ConnectFour | TicTacToe):
        return None

    @functools.cache
    def judge() -> "Judge":
        from narrows.games.solver import Judge, Solver, cache_folder  # compiled code, which many games do without

        try:
            solver = Solver(env.width, env.height, cache=cache_folder()) if isinstance(env, ConnectFour) else None
        except ImportError as error:
            raise ValueError(str(error)) from error
        return Judge(env, solver)

    return lambda state, look_up: judge().scores(batch_of(state), watch=lambda solved, nodes: look_up())[0]
