"""Answers to what the page asks: each question carries the whole game, so the server remembers nothing of it."""

import threading
from typing import Annotated, Any

import numpy as np
from pydantic import BaseModel, ConfigDict, StringConstraints, ValidationError

from narrows.games.rules import batch_of
from narrows.games.session import SIDES, Session, Table, answered, begin, line_length
from narrows.games.verdicts import Referee

QUESTIONS = ("position", "reply", "advice", "verdicts")
"""The questions that can be asked of a game."""


class Question(BaseModel):
    """A game as the page sends it: its moves as people write them, nothing else."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)

    moves: list[Annotated[str, StringConstraints(max_length=4)]]


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
                return _position(session)
            case "reply":
                with self._replying:
                    session = answered(session, self.table.opponent, self._generator)
                return _position(session)
            case "advice":
                return self._advice(session)
            case "verdicts":
                return self._verdicts(session)
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

    def _advice(self, session: Session) -> dict[str, Any]:
        """Return the network's policy by move, and its value for the player to move; None from a network without one."""
        if self.table.adviser is None:
            raise ValueError(f"there is no network to ask: {self.table.opponent.name} is none.")
        if session.is_over:
            raise ValueError(f"there is nothing to ask the network: {session.result()}.")
        advice = self.table.adviser.advise(batch_of(session.state))
        shares = np.exp(advice.log_policy[0])
        policy = {session.env.action_names[action]: float(shares[action]) for action in session.legal}
        return {"policy": policy, "value": None if advice.value is None else float(advice.value[0])}

    def _verdicts(self, session: Session) -> dict[str, Any]:
        """Return what each move is worth in perfect play: `words` say it, `score` orders it, `is_best` marks the best."""
        if self._referee is None:
            raise ValueError("nobody here knows what the moves are worth: there is no solver for this game.")
        found = self._referee.verdicts(session)
        moves = [{"move": one.name, "words": one.words, "score": one.score, "is_best": one.is_best} for one in found]
        return {"verdicts": moves}


def _position(session: Session) -> dict[str, Any]:
    """Return a position as the page draws it: rows of `x`, `o` and `.` from the top, cells as pairs of row and column."""
    return {
        "moves": session.moves,
        "rows": session.rows,
        "legal": [session.env.action_names[action] for action in session.legal],
        "turn": None if session.turn is None else SIDES[session.turn],
        "is_over": session.is_over,
        "winner": None if session.winner is None else SIDES[session.winner],
        "winning": session.winning_cells(),
        "last": session.last_cell(),
    }
