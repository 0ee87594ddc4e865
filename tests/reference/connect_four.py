"""Connect-4 on columns of characters, and plain minimax without a bound, a table of bounds or an order of moves."""

from functools import cache

ILLEGAL = -100


def has_four(columns: tuple[str, ...], height: int, column: int) -> bool:
    """Return whether the top stone of a column is part of four in a row."""
    row = len(columns[column]) - 1
    stone = columns[column][row]

    def count(across: int, up: int) -> int:
        length, x, y = 0, column + across, row + up
        while 0 <= x < len(columns) and 0 <= y < height and y < len(columns[x]) and columns[x][y] == stone:
            length, x, y = length + 1, x + across, y + up
        return length

    return any(1 + count(x, y) + count(-x, -y) >= 4 for x, y in ((1, 0), (0, 1), (1, 1), (1, -1)))


def played(width: int, height: int, moves: list[int]) -> tuple[tuple[str, ...], bool]:
    """Return the columns, bottom first, after some moves, and whether the last one won or filled the board."""
    columns, is_over = ("",) * width, False
    for number, move in enumerate(moves):
        assert not is_over and len(columns[move]) < height
        columns = (*columns[:move], columns[move] + "xo"[number % 2], *columns[move + 1 :])
        is_over = has_four(columns, height, move) or number + 1 == width * height
    return columns, is_over


@cache
def scores(columns: tuple[str, ...], height: int) -> tuple[int, ...]:
    """Return for each column with which of his stones, counted from the last, the mover wins, negative where he loses."""
    cells, num = len(columns) * height, sum(map(len, columns))
    found = []
    for move in range(len(columns)):
        if len(columns[move]) == height:
            found.append(ILLEGAL)
            continue
        after = (*columns[:move], columns[move] + "xo"[num % 2], *columns[move + 1 :])
        if has_four(after, height, move):
            mine_left = sum(1 for stone in range(num, cells) if stone % 2 == num % 2)
            found.append(mine_left)
        elif num + 1 == cells:
            found.append(0)
        else:
            found.append(-max(scores(after, height)))
    return tuple(found)


def words(columns: tuple[str, ...], height: int) -> tuple[int, int]:
    """Return the mover's stones and all stones as the solver numbers the cells."""
    num = sum(map(len, columns))
    own = both = 0
    for number, column in enumerate(columns):
        for row, stone in enumerate(column):
            bit = 1 << (number * (height + 1) + row)
            both |= bit
            own |= bit * (stone == "xo"[num % 2])
    return own, both
