"""Tic-tac-toe and Connect-4 against boards of characters and against another library."""

import functools
import itertools
from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from tests.slowly import slowly

from narrows.envs import ConnectFour, TicTacToe
from narrows.envs.bitboard import boards, numbers
from narrows.envs.check import check_environment
from narrows.exact import enumerate_graph
from narrows.exact.blocks import in_blocks

# The last has a bit for each of a word's 64.
SMALL, FULL = ConnectFour(4, 4), ConnectFour(8, 7, shows_threats=False)
GAMES = [TicTacToe(), SMALL, ConnectFour(), FULL]


@dataclass(frozen=True)
class Rules:
    """A game on a board that is a tuple of rows of characters, the top row first."""

    rows: int
    columns: int
    length: int
    falls: bool

    @classmethod
    def of(cls, env):
        rows, columns = env.board
        return cls(rows, columns, 3 if isinstance(env, TicTacToe) else 4, isinstance(env, ConnectFour))

    @property
    def empty(self):
        return ("." * self.columns,) * self.rows

    def lands(self, board, action):
        """Return the cell where a stone comes to lie, None for an illegal move."""
        if not self.falls:
            row, column = divmod(action, self.columns)
            return (row, column) if board[row][column] == "." else None
        free = [row for row in range(self.rows) if board[row][action] == "."]
        return (free[-1], action) if free else None

    def put(self, board, cell, stone):
        row, column = cell
        return (*board[:row], board[row][:column] + stone + board[row][column + 1 :], *board[row + 1 :])

    @functools.cached_property
    def lines(self):
        """Every line, as cells."""
        lines = []
        for row, column in itertools.product(range(self.rows), range(self.columns)):
            for down, right in ((0, 1), (1, 0), (1, 1), (1, -1)):
                line = [(row + step * down, column + step * right) for step in range(self.length)]
                if all(0 <= r < self.rows and 0 <= c < self.columns for r, c in line):
                    lines.append(line)
        return lines

    @functools.cached_property
    def lines_through(self):
        cells = itertools.product(range(self.rows), range(self.columns))
        return {cell: [line for line in self.lines if cell in line] for cell in cells}

    def wins(self, board, stone):
        return any(all(board[row][column] == stone for row, column in line) for line in self.lines)

    def completes(self, board, cell, stone):
        """Return whether one more stone, in an empty cell, would be part of a line."""
        filled = self.put(board, cell, stone)
        return any(all(filled[row][column] == stone for row, column in line) for line in self.lines_through[cell])

    def mover(self, board):
        return "xo"[sum(row.count("x") + row.count("o") for row in board) % 2]

    def outcome(self, board):
        return int(self.wins(board, "x")) - int(self.wins(board, "o"))

    def legal(self, board):
        if self.outcome(board):
            return []
        num_actions = self.columns if self.falls else self.rows * self.columns
        return [action for action in range(num_actions) if self.lands(board, action) is not None]

    def play(self, board, action):
        return self.put(board, self.lands(board, action), self.mover(board))

    def random_game(self, rng):
        """Return the actions of a game and its boards, one more."""
        actions, visited = [], [self.empty]
        while legal := self.legal(visited[-1]):
            actions.append(int(rng.choice(legal)))
            visited.append(self.play(visited[-1], actions[-1]))
        return actions, visited


def along(env, games):
    """Return the states of games, `[game, time]`, on the host."""
    rows = np.full((len(games), env.max_steps), -1, np.int32)
    for row, actions in zip(rows, games, strict=True):
        row[: len(actions)] = actions
    return jax.jit(jax.vmap(env.states_along))(jnp.asarray(rows))


def part(tree, index):
    return jax.tree.map(lambda leaf: leaf[index], tree)


def looks_of(env):
    def look(state):
        return env.action_mask(state), env.is_terminal(state), env.outcome(state), env.turn(state), env.observe(state)

    return lambda states: jax.tree.map(np.asarray, jax.jit(jax.vmap(look))(states))


LARGER = "boards that take long to compile and to play by loops; a small one guards the same code quickly"


@pytest.mark.parametrize("env", [SMALL, *slowly(LARGER, TicTacToe(), ConnectFour())], ids=str)
def test_games_keep_the_contract(env):
    check_environment(env, num_trajectories=8)


@pytest.mark.parametrize("env", [*GAMES[:2], *slowly(LARGER, *GAMES[2:])], ids=str)
def test_random_games_are_those_of_boards_of_characters(env):
    rules, rng = Rules.of(env), np.random.default_rng(0)
    games = [rules.random_game(rng) for _ in range(8)]
    states = along(env, [actions for actions, _ in games])
    look, seen = looks_of(env), set()
    for number, (actions, visited) in enumerate(games):
        mask, is_terminal, outcome, turn, observed = look(part(states, number))
        for time, board in enumerate(visited):
            assert np.flatnonzero(mask[time]).tolist() == rules.legal(board)
            assert is_terminal[time] == (time == len(actions))
            assert outcome[time] == rules.outcome(board)
            assert "xo"[turn[time]] == rules.mover(board)
            assert observed[time].tolist() == list(expected_view(env, rules, board))
        played = part(states, (number, slice(len(visited))))
        texts = ["/".join(board) for board in visited]
        assert env.to_text(played) == texts
        read, last = env.positions(texts[-2:]), part(played, slice(-2, None))
        assert all(map(np.array_equal, jax.tree.leaves(read), jax.tree.leaves(last)))
        seen.add(int(outcome[len(actions)]))
    assert {1, -1} <= seen


def expected_view(env, rules, board):
    """Return what the player to move sees of each cell, row by row."""
    mine = rules.mover(board)
    theirs = "xo".replace(mine, "")
    reach = [rules.lands(board, action) for action in range(env.num_actions)]
    for row in range(rules.rows):
        for column in range(rules.columns):
            stone, cell = board[row][column], (row, column)
            if isinstance(env, TicTacToe):
                yield (".", mine, theirs).index(stone)
            elif stone != ".":
                yield (mine, theirs).index(stone)
            elif not env.shows_threats:
                yield 2
            else:
                threats = [rules.completes(board, cell, s) for s in (mine, theirs)]
                yield 2 + threats[0] + 2 * threats[1] + 4 * (cell in reach)


def test_every_position_of_tic_tac_toe():
    env, rules = TicTacToe(), Rules(3, 3, 3, False)
    boards, layer = set(), {rules.empty}
    while layer:
        boards |= layer
        layer = {rules.play(board, action) for board in layer for action in rules.legal(board)}
    assert len(boards) == 5478
    graph = enumerate_graph(env)
    assert set(env.to_text(graph.states)) == {"/".join(board) for board in boards}
    board_of = {"/".join(board): board for board in boards}
    mask, is_terminal, outcome, *_ = looks_of(env)(graph.states)
    for number, text in enumerate(env.to_text(graph.states)):
        board = board_of[text]
        assert np.flatnonzero(mask[number]).tolist() == rules.legal(board)
        assert (is_terminal[number], outcome[number]) == (not rules.legal(board), rules.outcome(board))
    assert np.bincount(outcome[is_terminal] + 1).tolist() == [316, 16, 626]


def test_positions_of_connect_four_by_their_number_of_stones():
    """The counts of eflow 8.4, which are of positions without a four; none is possible before the seventh stone."""
    env = ConnectFour()

    @jax.jit
    @jax.vmap
    def expand(state):
        return env.action_mask(state), jax.vmap(env.step, in_axes=(None, 0))(state, jnp.arange(7))

    layer, counts = jax.tree.map(lambda leaf: np.asarray(leaf)[None], env.reset()), []
    for _ in range(6):
        counts.append(layer.num_moves.size)
        mask, children = in_blocks(expand, layer)
        children = part(children, mask)
        _, first = np.unique(np.stack([numbers(children.mover), numbers(children.stones)]), axis=1, return_index=True)
        layer = part(children, first)
    assert counts == [1, 7, 49, 238, 1120, 4263]


@pytest.mark.parametrize("env", [*GAMES[:2], *slowly(LARGER, GAMES[2])], ids=str)
def test_games_with_actions_replaced_are_the_same_up_to_a_symmetry(env):
    rules, rng = Rules.of(env), np.random.default_rng(1)
    num = {TicTacToe: 8, ConnectFour: 2}[type(env)]
    actions_of, features_of = np.asarray(env.action_symmetries), np.asarray(env.feature_symmetries)
    assert actions_of.shape == (num, env.num_actions) and features_of.shape == (num, env.num_features)
    assert actions_of[0].tolist() == list(range(env.num_actions)) and len(set(map(tuple, actions_of))) == num
    closed = {tuple(first[second]) for first in actions_of for second in actions_of}
    assert closed == set(map(tuple, actions_of))  # one after another is again one of them
    games = [rules.random_game(rng)[0] for _ in range(8)]
    look = looks_of(env)
    flat = [jax.tree.map(lambda leaf: leaf.reshape(-1, *leaf.shape[2:]), along(env, games))]
    flat += [
        jax.tree.map(lambda leaf: leaf.reshape(-1, *leaf.shape[2:]), along(env, [[row[a] for a in game] for game in games]))
        for row in actions_of
    ]
    mask, is_terminal, outcome, _, observed = look(flat[0])
    for row, places, states in zip(actions_of, features_of, flat[1:], strict=True):
        other_mask, other_end, other_outcome, _, other_view = look(states)
        assert np.array_equal(other_view, observed[:, places])
        assert np.array_equal(other_mask[:, row], mask)
        assert np.array_equal(other_end, is_terminal) and np.array_equal(other_outcome, outcome)


@pytest.mark.parametrize(
    ("env", "name"),
    [(ConnectFour(), "connect_four"), *slowly("every position of it is compared above", (TicTacToe(), "tic_tac_toe"))],
    ids=str,
)
def test_games_are_those_of_pgx(env, name):
    theirs = pytest.importorskip("pgx").make(name)
    num = 64

    @jax.jit
    def play(key):
        """Return, time first, whether the two libraries disagree anywhere along random games, and their lengths."""

        def move(carry, key):
            state, other = carry
            is_over, mask = jax.vmap(env.is_terminal)(state), jax.vmap(env.action_mask)(state)
            first = jnp.where(jax.vmap(env.turn)(state) == 0, other.current_player, 1 - other.current_player)
            rewards = jnp.take_along_axis(other.rewards, first[:, None], axis=1)[:, 0]
            agrees = is_over == other.terminated
            agrees &= is_over | jnp.all(mask == other.legal_action_mask, axis=1)
            # They give the rewards with the last move only.
            agrees &= is_over | (rewards == 0)
            scores = jax.random.uniform(key, mask.shape)
            actions = jnp.argmax(jnp.where(mask, scores, -1.0), axis=1).astype(jnp.int32)
            after, other = jax.vmap(env.step)(state, actions), jax.vmap(theirs.step)(other, actions)
            after = jax.tree.map(lambda old, new: jnp.where(is_over.reshape(-1, *[1] * (new.ndim - 1)), old, new), state, after)
            won = jnp.take_along_axis(other.rewards, first[:, None], axis=1)[:, 0]
            agrees &= is_over | (won == jax.vmap(env.outcome)(after))
            return (after, other), (agrees, is_over, won)

        begin, *keys = jax.random.split(key, env.max_steps + 2)
        states = jax.tree.map(lambda leaf: jnp.broadcast_to(leaf, (num, *leaf.shape)), env.reset())
        other = jax.vmap(theirs.init)(jax.random.split(begin, num))
        return jax.lax.scan(move, (states, other), jnp.stack(keys))[1]

    agrees, is_over, won = map(np.asarray, play(jax.random.key(3)))
    assert np.all(agrees)
    assert np.all(is_over[-1]) and {-1.0, 1.0} <= set(won.ravel().tolist())


def test_bits_are_those_of_numbers():
    rng = np.random.default_rng(0)
    words = rng.integers(0, 2**64, size=(2, 50), dtype=np.uint64, endpoint=False)
    one, two = boards(words[0]), boards(words[1])
    assert np.array_equal(numbers(one), words[0])
    ints = [[int(word) for word in row] for row in words]
    top = 2**64
    for found, expected in [
        (one & two, [a & b for a, b in zip(*ints, strict=True)]),
        (one | two, [a | b for a, b in zip(*ints, strict=True)]),
        (one ^ two, [a ^ b for a, b in zip(*ints, strict=True)]),
        (~one, [top - 1 - a for a in ints[0]]),
        (one.plus(two), [(a + b) % top for a, b in zip(*ints, strict=True)]),
        *((one.up(distance), [(a << distance) % top for a in ints[0]]) for distance in (1, 7, 9, 18, 31)),
        *((one.down(distance), [a >> distance for a in ints[0]]) for distance in (1, 7, 9, 18, 31)),
    ]:
        assert numbers(found).tolist() == expected
    cells = np.arange(64)
    assert np.array_equal(part(one, 3).at(cells), [ints[0][3] >> cell & 1 for cell in range(64)])
    assert boards(np.array([0, 1, 1 << 40], np.uint64)).is_any().tolist() == [False, True, True]


@pytest.mark.parametrize(
    ("env", "text", "message"),
    [
        (TicTacToe(), "xox/oxo", "expected 3 rows of 3 cells"),
        (TicTacToe(), "xox/oxo/xo", "expected 3 rows of 3 cells"),
        (TicTacToe(), "xox/ozo/xo.", "expected 3 rows of 3 cells"),
        (TicTacToe(), "xx./.../...", "got 2 and 0"),
        (TicTacToe(), "o../.../...", "got 0 and 1"),
        (TicTacToe(), "xxx/oo./..o", "'x' has three in a line already"),
        (TicTacToe(), "xx./oo./...", "not over"),
        (SMALL, "..../..../..../...", "expected 4 rows of 4 cells"),
        (SMALL, "..../x.../..../...o", "a stone floats"),
        (SMALL, "..../..../oooo/xxxx", "'x' has four in a row already"),
        (SMALL, "..../..../..../xo..", "not over"),
        (SMALL, "..../..../..../xx..", "got 2 and 0"),
    ],
)
def test_texts_of_what_is_no_finished_position_are_refused(env, text, message):
    with pytest.raises(ValueError, match=message) as error:
        env.from_text([text])
    assert repr(text) in str(error.value) and "position 0" in str(error.value)


def test_a_refusal_says_which_text_it_is():
    with pytest.raises(ValueError, match="position 1, 'xx"):
        TicTacToe().positions(["xx./oo./...", "xx./.../..."])
    assert TicTacToe().to_text(TicTacToe().positions([])) == []


@pytest.mark.parametrize(("width", "height"), [(3, 4), (4, 3), (4, 9), (8, 8), (10, 6)])
def test_boards_that_do_not_fit_are_refused(width, height):
    with pytest.raises(ValueError, match=f"got width={width} and height={height}"):
        ConnectFour(width, height)
