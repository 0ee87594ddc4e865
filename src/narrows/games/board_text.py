"""A game's board for a terminal: round stones in colour where the terminal has them, plain characters anywhere else."""

from rich.console import Console
from rich.style import Style
from rich.text import Text

from narrows.games.session import Session, line_length

_STONES = {"x": ("●", Style(color="dark_orange", bold=True)), "o": ("○", Style(color="dark_cyan", bold=True))}
_EMPTY = Style(dim=True)
_WIDEST_BAR = 24


def is_rich(console: Console) -> bool:
    """Return whether a console is a terminal that shows more than plain characters."""
    return console.is_terminal and not console.is_dumb_terminal and console.encoding.lower().startswith("utf")


def board_text(session: Session, console: Console) -> Text:
    """Return the board with its columns or empty cells named as moves are, the newest stone and the winning line marked."""
    rows, names = session.rows, session.env.action_names
    drops = line_length(session.env) is not None and len(names) == len(rows[0])
    names_cells = line_length(session.env) is not None and not drops
    lines = [_cells(session, console, row, names if names_cells else None) for row in range(len(rows))]
    if drops:
        lines.append(Text("  " + " ".join(names), _EMPTY if is_rich(console) else ""))
    return Text("\n").join(lines)


def stone_text(side: int, console: Console) -> Text:
    """Return the stone of a player as the board shows it."""
    cell = "xo"[side]
    return Text(*_STONES[cell]) if is_rich(console) else Text(cell)


def bar(share: float, console: Console) -> str:
    """Return a bar for a share of one."""
    return ("█" if is_rich(console) else "#") * round(_WIDEST_BAR * share)


def _cells(session: Session, console: Console, row: int, names: tuple[str, ...] | None) -> Text:
    """Return one row of the board; an empty cell shows its name where cells have names."""
    cells, winning, last = session.rows[row], set(session.winning_cells()), session.last_cell()
    text = Text(" ")
    for column, cell in enumerate(cells):
        name = None if names is None else names[row * len(cells) + column]
        if is_rich(console):
            mark, style = _STONES.get(cell, (name or ("·" if cell == "." else cell), _EMPTY))
            text.append(" ").append(mark, style + Style(reverse=(row, column) in winning, underline=(row, column) == last))
        else:
            mark = name if cell == "." and name is not None else cell
            text.append(" ").append(mark.upper() if (row, column) in winning else mark)
    return text
