"""What the page asks and what it is told: each question carries the whole game, so the server remembers nothing of it."""

import threading
from typing import Annotated, NamedTuple

import numpy as np
from pydantic import BaseModel, ConfigDict, StringConstraints, ValidationError

from narrows.games.notation import batch_of
from narrows.games.session import SIDES, Session, Table, answered, begin, line_length
from narrows.games.verdicts import Referee

QUESTIONS = ("position", "reply", "advice", "verdicts")
"""What can be asked of a game."""


class Question(BaseModel):
    """A game as the page sends it: its moves as people write them, nothing else."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)

    moves: list[Annotated[str, StringConstraints(max_length=4)]]


class PositionAnswer(NamedTuple):
    """A position as the page draws it.

    `moves` are those that led here, `rows` the board from the top (`x`, `o`, `.`), `legal` the moves that can be played, `turn`
    and `winner` "first" or "second", `cells` of the winning lines and of the newest stone are pairs of row and column.
    """

    moves: tuple[str, ...]
    rows: tuple[str, ...]
    legal: tuple[str, ...]
    turn: str | None
    is_over: bool
    winner: str | None
    winning: tuple[tuple[int, int], ...]
    last: tuple[int, int] | None


class AdviceAnswer(NamedTuple):
    """The network's policy by move, and its value for the player to move; None from a network that gives none."""

    policy: dict[str, float]
    value: float | None


class VerdictAnswer(NamedTuple):
    """What one move is worth in perfect play: `words` say it, `score` orders it, `is_best` marks the best."""

    move: str
    words: str
    score: int
    is_best: bool


class Answers:
    """Answers what the page asks.

    Args:
        table: the game, the opponent, and whom to ask.
        generator: randomness of the opponent.
        seconds: how long to wait for the judge.
    """

    def __init__(self, table: Table, generator: np.random.Generator, seconds: float) -> None:
        if line_length(table.env) is None:
            raise ValueError(
                f"the page draws tic-tac-toe and Connect-4, not {type(table.env).__name__}. Play it in the terminal."
            )
        self.table = table
        self._generator = generator
        # A generator of random numbers is not to be used by two threads at once, nor is every opponent.
        self._replying = threading.Lock()
        self._referee = None if table.judge is None else Referee(table.judge, seconds)

    def to(self, question: str, body: bytes) -> object:
        """Return the answer to a question, ready to be written as JSON; ValueError says what is wrong with it."""
        session = begin(self.table.env, self._parsed(body).moves)
        match question:
            case "position":
                return _position(session)._asdict()
            case "reply":
                with self._replying:
                    session = answered(session, self.table.opponent, self._generator)
                return _position(session)._asdict()
            case "advice":
                return self._advice(session)._asdict()
            case "verdicts":
                return {"verdicts": [verdict._asdict() for verdict in self._verdicts(session)]}
            case _:
                raise ValueError(f"there is no question {question!r}. Known: {', '.join(QUESTIONS)}.")

    def warm(self) -> None:
        """Compile what the first moves need, so that nobody waits for it at the board."""
        session = begin(self.table.env)
        _position(session.play(session.legal[0]))
        if self.table.adviser is not None:
            self._advice(session)

    def _parsed(self, body: bytes) -> Question:
        try:
            question = Question.model_validate_json(body)
        except ValidationError as error:
            first = error.errors(include_url=False, include_context=False, include_input=False)[0]
            where = ".".join(map(str, first["loc"])) or "the whole"
            raise ValueError(f'expected JSON such as {{"moves": ["4", "5"]}}; {where}: {first["msg"]}.') from None
        if len(question.moves) > self.table.env.max_steps:
            raise ValueError(f"a game has at most {self.table.env.max_steps} moves, got {len(question.moves)}.")
        return question

    def _advice(self, session: Session) -> AdviceAnswer:
        if self.table.adviser is None:
            raise ValueError(f"there is no network to ask: {self.table.opponent.name} is none.")
        if session.is_over:
            raise ValueError(f"there is nothing to ask the network: {session.result()}.")
        advice = self.table.adviser.advise(batch_of(session.state))
        shares = np.exp(advice.log_policy[0])
        policy = {session.env.action_names[action]: float(shares[action]) for action in session.legal}
        return AdviceAnswer(policy, None if advice.value is None else float(advice.value[0]))

    def _verdicts(self, session: Session) -> list[VerdictAnswer]:
        if self._referee is None:
            raise ValueError("nobody here knows what the moves are worth: there is no solver for this game.")
        found = self._referee.verdicts(session)
        return [VerdictAnswer(verdict.name, verdict.words, verdict.score, verdict.is_best) for verdict in found]


def _position(session: Session) -> PositionAnswer:
    return PositionAnswer(
        moves=session.moves,
        rows=session.rows,
        legal=tuple(session.env.action_names[action] for action in session.legal),
        turn=None if session.turn is None else SIDES[session.turn],
        is_over=session.is_over,
        winner=None if session.winner is None else SIDES[session.winner],
        winning=session.winning_cells(),
        last=session.last_cell(),
    )
