"""Games in plain Python: boards are lists of rows, lines are looked for one by one."""

from functools import cache


def lines(num_rows, num_columns, length):
    """Every line of so many cells."""
    found = []
    for row in range(num_rows):
        for column in range(num_columns):
            for down, right in ((0, 1), (1, 0), (1, 1), (1, -1)):
                line = [(row + step * down, column + step * right) for step in range(length)]
                if all(0 <= r < num_rows and 0 <= c < num_columns for r, c in line):
                    found.append(line)
    return found


class Board:
    """A position of a game in which stones are put on a board and a line wins; `drops` for Connect-4."""

    def __init__(self, num_rows, num_columns, length, drops):
        self.size = num_rows, num_columns, length, drops
        self.rows = [["."] * num_columns for _ in range(num_rows)]
        self.lines = lines(num_rows, num_columns, length)
        self.num_stones = 0

    def place(self, action):
        """Where a stone would come to lie; None if the move is illegal."""
        num_rows, num_columns, _, drops = self.size
        if not drops:
            row, column = divmod(action, num_columns)
            return (row, column) if self.rows[row][column] == "." else None
        empty = [row for row in range(num_rows) if self.rows[row][action] == "."]
        return (max(empty), action) if empty else None

    def play(self, action):
        place = self.place(action)
        assert place is not None
        row, column = place
        self.rows[row][column] = "xo"[self.num_stones % 2]
        self.num_stones += 1
        return self

    def legal(self):
        num_rows, num_columns, _, drops = self.size
        if self.winner() is not None:
            return []
        actions = range(num_columns if drops else num_rows * num_columns)
        return [action for action in actions if self.place(action) is not None]

    def winning(self):
        full = [line for line in self.lines if len({self.rows[row][column] for row, column in line} - {"."} or "..") == 1]
        full = [line for line in full if all(self.rows[row][column] != "." for row, column in line)]
        return sorted({cell for line in full for cell in line})

    def winner(self):
        cells = self.winning()
        return "xo".index(self.rows[cells[0][0]][cells[0][1]]) if cells else None

    def text(self):
        return tuple("".join(row) for row in self.rows)


def after(size, actions):
    board = Board(*size)
    for action in actions:
        board.play(action)
    return board


@cache
def worth(size, actions):
    """How the game ends for the player to move: 1, 0 or -1, and after how many moves; the winner hurries, the loser delays."""
    board = after(size, actions)
    if board.winner() is not None:
        return -1, 0
    legal = board.legal()
    if not legal:
        return 0, 0
    return max((worth_of_move(size, actions, action) for action in legal), key=lambda end: (end[0], -end[0] * end[1]))


def worth_of_move(size, actions, action):
    """The same after a move, still for the player who makes it."""
    result, length = worth(size, (*actions, action))
    return -result, length + 1
