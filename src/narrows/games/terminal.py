"""A game against any player in a terminal: a line is a move or a command, and a mistake is explained and asked again.

Stones are round and in colour where the terminal can show that, and plain characters anywhere else.
"""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from rich.console import Console
from rich.style import Style
from rich.text import Text

from narrows.games.players import NetworkPlayer
from narrows.games.rules import batch_of
from narrows.games.session import SIDES, Session, Table, answered, begin, line_length
from narrows.games.verdicts import Referee

_HELP = """\
  {moves}
  undo   take your last move back
  hint   the network's policy and its value of the position
  solve  what each move is worth in perfect play
  new    a new game
  quit   stop (so do the end of input and Ctrl-C)
  help   this list
The first letter of a command will do."""

_STONES = {"x": ("●", Style(color="dark_orange", bold=True)), "o": ("○", Style(color="dark_cyan", bold=True))}
_EMPTY = Style(dim=True)

_COMMANDS = ("undo", "hint", "solve", "new", "quit", "help")


class Tally(NamedTuple):
    """Finished games of an evening, from the person's point of view, and the game that was on the board at the end."""

    wins: int
    draws: int
    losses: int
    last: Session

    def counted(self, session: Session, side: int) -> "Tally":
        """Return the tally with a game added, if it is finished."""
        if not session.is_over:
            return self._replace(last=session)
        lost = session.winner is not None and session.winner != side
        return Tally(self.wins + (session.winner == side), self.draws + (session.winner is None), self.losses + lost, session)


def play_in_terminal(
    table: Table,
    side: int = 0,
    *,
    console: Console | None = None,
    read: Callable[[str], str] | None = None,
    generator: np.random.Generator | None = None,
    seconds: float = 10.0,
) -> Tally:
    """Play games until the person quits, and return how they ended.

    Args:
        table: the game, the opponent, and whom to ask.
        side: 0 if the person plays first, 1 if second.
        console: where to write; the standard output if not given.
        read: gives a line for a prompt, EOFError at the end; the standard input if not given.
        generator: randomness of the opponent.
        seconds: how long to wait for the judge.
    """
    console = console or Console(highlight=False)
    seat = _Seat(table, side, console, generator or np.random.default_rng(), seconds)
    read = read or (lambda prompt: console.input(Text(prompt)))
    session = begin(table.env)
    tally = Tally(0, 0, 0, session)
    try:
        seat.greet()
        session = seat.go_on(session)
        while True:
            word = read(seat.prompt(session)).strip()
            if seat.command(word) == "quit":
                break
            if seat.command(word) == "new":
                tally, session = tally.counted(session, side), seat.go_on(begin(table.env))
                continue
            try:
                session = seat.obey(word, session)
            except ValueError as error:
                seat.say(f"{str(error)[:1].upper()}{str(error)[1:]}")
    except (EOFError, KeyboardInterrupt):
        seat.say("")
    return tally.counted(session, side)


class _Seat:
    """A person's seat at a table: what is said and shown there."""

    def __init__(self, table: Table, side: int, console: Console, generator: np.random.Generator, seconds: float) -> None:
        self._table = table
        self._side = side
        self._console = console
        self._generator = generator
        self._referee = None if table.judge is None else Referee(table.judge, seconds)

    def say(self, text: str | Text) -> None:
        self._console.print(text, markup=False, highlight=False, soft_wrap=True)

    def greet(self) -> None:
        own, other = _stone_text(self._side, self._console), _stone_text(1 - self._side, self._console)
        name = self._table.opponent.name
        self.say(
            Text.assemble(
                f"You play {SIDES[self._side]} with ", own, f", {name} plays with ", other, ". 'help' lists the commands."
            )
        )

    def prompt(self, session: Session) -> str:
        return "new, undo or quit> " if session.is_over else "your move> "

    def command(self, word: str) -> str | None:
        """Return the command that a word or its first letter means; None for a move."""
        word = {"?": "help", "exit": "quit"}.get(word.casefold(), word.casefold())
        is_move = any(word == name.casefold() for name in self._table.env.action_names)
        return next((name for name in _COMMANDS if word in (name, name[0]) and not is_move), None)

    def obey(self, word: str, session: Session) -> Session:
        """Return the game after a move, or after a command that says something or takes back; ValueError says why not."""
        match self.command(word):
            case "undo":
                return self._shown(session.take_back(self._side))
            case "hint":
                self.say(self._hint(session))
            case "solve":
                self.say(self._verdicts(session))
            case "help":
                self.say(_HELP.format(moves=f"one of {', '.join(self._table.env.action_names)}: your move"))
            case _ if word:
                return self.go_on(session.play_named(word))
            case _:
                raise ValueError("type a move, or 'help'.")
        return session

    def go_on(self, session: Session) -> Session:
        """Show the board, let the opponent move where it is their turn, and say so where the game has ended."""
        while not session.is_over and session.turn != self._side:
            session = answered(session, self._table.opponent, self._generator)
            self.say(f"{self._table.opponent.name} plays {session.moves[-1]}.")
        return self._shown(session)

    def _shown(self, session: Session) -> Session:
        self.say(Text.assemble("\n", _board_text(session, self._console), "\n"))
        if session.is_over:
            won = "You win." if session.winner == self._side else f"{self._table.opponent.name} wins."
            self.say("A draw." if session.winner is None else won)
        return session

    def _hint(self, session: Session) -> str:
        if session.is_over:
            raise ValueError(f"there is nothing to hint at: {session.result()}.")
        if self._table.adviser is None:
            raise ValueError(f"there is no network to ask: {self._table.opponent.name} is none. Play against a trained run.")
        return "\n".join(_hint_lines(self._table.adviser, session, self._console))

    def _verdicts(self, session: Session) -> str:
        if self._referee is None:
            raise ValueError("nobody here knows what the moves are worth: there is no solver for this game.")
        self.say("The solver is at work ...")
        verdicts = self._referee.verdicts(session)
        width = max(len(verdict.name) for verdict in verdicts)
        lines = [f"  {verdict.name:>{width}}  {verdict.words}{'  *' if verdict.is_best else ''}" for verdict in verdicts]
        return "\n".join(["For you, in perfect play, counting the winner's stones from now (* best):", *lines])


def _hint_lines(adviser: NetworkPlayer, session: Session, console: Console) -> list[str]:
    advice = adviser.advise(batch_of(session.state))
    shares = np.exp(advice.log_policy[0])
    names = session.env.action_names
    width = max(len(names[action]) for action in session.legal)
    best_first = sorted(session.legal, key=lambda action: -shares[action])
    lines = [
        f"  {names[action]:>{width}}  {shares[action]:>4.0%}  {_bar(shares[action], console)}".rstrip() for action in best_first
    ]
    value = "" if advice.value is None else f" It expects {advice.value[0]:+.2f} for you (-1 lost, 1 won)."
    return [f"What the network would play.{value}", *lines]


def _is_rich(console: Console) -> bool:
    """Return whether a console is a terminal that shows more than plain characters."""
    return console.is_terminal and not console.is_dumb_terminal and console.encoding.lower().startswith("utf")


def _board_text(session: Session, console: Console) -> Text:
    """Return the board with its columns or empty cells named as moves are, the newest stone and the winning line marked."""
    rows, names = session.rows, session.env.action_names
    drops = line_length(session.env) is not None and len(names) == len(rows[0])
    names_cells = line_length(session.env) is not None and not drops
    lines = [_cells(session, console, row, names if names_cells else None) for row in range(len(rows))]
    if drops:
        lines.append(Text("  " + " ".join(names), _EMPTY if _is_rich(console) else ""))
    return Text("\n").join(lines)


def _stone_text(side: int, console: Console) -> Text:
    """Return the stone of a player as the board shows it."""
    cell = "xo"[side]
    return Text(*_STONES[cell]) if _is_rich(console) else Text(cell)


def _bar(share: float, console: Console) -> str:
    """Return a bar for a share of one."""
    return ("█" if _is_rich(console) else "#") * round(24 * share)


def _cells(session: Session, console: Console, row: int, names: tuple[str, ...] | None) -> Text:
    """Return one row of the board; an empty cell shows its name where cells have names."""
    cells, winning, last = session.rows[row], set(session.winning_cells()), session.last_cell()
    text = Text(" ")
    for column, cell in enumerate(cells):
        name = None if names is None else names[row * len(cells) + column]
        if _is_rich(console):
            mark, style = _STONES.get(cell, (name or ("·" if cell == "." else cell), _EMPTY))
            text.append(" ").append(mark, style + Style(reverse=(row, column) in winning, underline=(row, column) == last))
        else:
            mark = name if cell == "." and name is not None else cell
            text.append(" ").append(mark.upper() if (row, column) in winning else mark)
    return text
