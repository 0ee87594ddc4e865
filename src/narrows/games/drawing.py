"""Drawing positions for evaluation sets and scoring them (eflow 8.3), in pieces that survive an interruption."""

import zlib
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Literal

import jax.numpy as jnp
import numpy as np
from jaxtyping import Int

from narrows.envs.bitboard import boards
from narrows.envs.connect_four import ConnectFourState
from narrows.games.players import Player
from narrows.games.sets import EvaluationSet, load, save
from narrows.games.solver.board import Board
from narrows.games.solver.positions import (
    NO_MOVE,
    Positions,
    are_calm,
    are_four,
    are_telling,
    canonical_keys,
    falling_stones,
    random_positions,
)
from narrows.games.solver.solver import Solver

_BEGUN = 1024
"""Games that are begun at a time."""

_TRIES = 2_000_000
"""Games after which positions that are still missing are given up."""

Progress = Callable[[int, int], None]
"""Told now and then how many positions there are and how many are wanted; an exception of its own ends the work."""


def build_set(
    solver: Solver,
    kind: Literal["quiet", "random"],
    sizes: Mapping[int, int],
    *,
    seed: int,
    parts: Path | None = None,
    progress: Progress | None = None,
) -> EvaluationSet:
    """Return positions of uniformly random games that have not ended; no two of a ply are equal or mirror images.

    Args:
        solver: scores the moves, and says what the board is.
        kind: `random` for any of them; `quiet` for those in which nobody wins with their next stone and the moves do not all
            lead to the same outcome.
        sizes: how many positions for each number of stones.
        seed: of the draw; each ply has its own stream, so that a ply is the same whatever others are asked for.
        parts: folder where every finished ply is kept, so that an interrupted build goes on where it was; None keeps none.
        progress: told how far the work is.
    """
    board, done = solver.board, []
    tally = _Tally(progress, sum(sizes.values()))
    _check_sizes(board, sizes)
    for ply, num in sorted(sizes.items()):
        part = None if parts is None else parts / f"{kind}-{board.width}x{board.height}-{seed}-{ply}-{num}.npz"

        def draw(ply: int = ply, num: int = num) -> EvaluationSet:
            found = _Filter(solver, kind, seed, tally).first(_random_games(board, ply, seed), num)
            if len(found) < num:
                raise ValueError(f"ply {ply}: expected {num} positions, found {len(found)} only. Ask for fewer of them.")
            return found

        done.append(_kept(part, draw))
        tally.num = sum(map(len, done))
    return joined(done)


def build_play(
    solver: Solver,
    players: Sequence[Player],
    sizes: Mapping[int, int],
    *,
    seed: int,
    parts: Path | None = None,
    progress: Progress | None = None,
) -> EvaluationSet:
    """Return quiet positions, as `build_set` does, from games between players, one of a game at most.

    Args:
        solver, sizes, seed, progress: as in `build_set`.
        players: of Connect-4 on this board; each game has two of them or one against itself. Deterministic ones play one game.
        parts: folder where every finished batch of games is kept; use a new one for other players.
    """
    board = solver.board
    _check_sizes(board, sizes)
    done = [EvaluationSet.empty(board.width, board.height, "play", seed)]
    tally = _Tally(progress, sum(sizes.values()))
    filters = {ply: _Filter(solver, "play", seed, tally) for ply in sizes}
    series = zlib.crc32(repr(sorted(sizes.items())).encode())  # other sizes draw other games
    for batch in range(_TRIES // _BEGUN):
        found = joined(done)
        tally.num = len(found)
        missing = Counter(dict(sizes))
        missing.subtract(found.ply.tolist())
        if not +missing:
            return found
        part = None if parts is None else parts / f"play-{board.width}x{board.height}-{seed}-{series:x}-{batch}.npz"

        def draw(batch: int = batch, missing: Counter[int] = missing) -> EvaluationSet:
            generator = np.random.default_rng([seed, batch])
            wanted = np.repeat(list(missing.keys()), np.maximum(list(missing.values()), 0))
            reached = _played(board, players, generator.choice(wanted, _BEGUN), generator)
            drawn = [filters[ply].first(iter([positions]), missing[ply]) for ply, positions in reached.items()]
            return joined([EvaluationSet.empty(board.width, board.height, "play", seed), *drawn])

        done.append(_kept(part, draw))
        for ply, used in filters.items():
            used.pass_over(done[-1], ply)
    raise ValueError(
        f"after {_TRIES} games there are {len(joined(done))} of {sum(sizes.values())} positions. Ask for fewer of them, or let "
        "the players vary more."
    )


def joined(sets: Sequence[EvaluationSet]) -> EvaluationSet:
    """Return the positions of several sets of one board, kind and seed as one."""
    first = sets[0]
    longest = max(found.moves.shape[1] for found in sets)
    moves = [np.pad(found.moves, ((0, 0), (0, longest - found.moves.shape[1])), constant_values=NO_MOVE) for found in sets]
    scores = np.concatenate([found.scores for found in sets])
    return EvaluationSet(first.width, first.height, first.kind, first.seed, np.concatenate(moves), scores)


def _check_sizes(board: Board, sizes: Mapping[int, int]) -> None:
    wrong = [ply for ply, num in sizes.items() if not 0 <= ply < board.cells or num < 1]
    if wrong or not sizes:
        raise ValueError(
            f"expected at least one position for plies from 0 to {board.cells - 1}, got {dict(sizes)}. Leave out the others."
        )


def _kept(part: Path | None, draw: Callable[[], EvaluationSet]) -> EvaluationSet:
    """Return what a file has, or what is drawn and then kept there."""
    if part is None:
        return draw()
    if not part.exists():
        save(draw(), part)
    return load(part)


def _random_games(board: Board, ply: int, seed: int) -> Iterator[Positions]:
    generator = np.random.default_rng([seed, ply])
    for _ in range(_TRIES // _BEGUN):
        yield random_positions(board, ply, _BEGUN, generator)


class _Filter:
    """Lets through positions that a kind of set wants, each once, and scores them."""

    def __init__(self, solver: Solver, kind: str, seed: int, tally: "_Tally") -> None:
        self.solver = solver
        self.kind = kind
        self.seed = seed
        self.tally = tally
        self._seen: set[int] = set()

    def first(self, batches: Iterator[Positions], num: int) -> EvaluationSet:
        """Return the first `num` of a stream of positions of one ply that go through, or fewer where it ends before."""
        board = self.solver.board
        done = [EvaluationSet.empty(board.width, board.height, self.kind, self.seed)]
        for batch in batches:
            rows, scores = [], []
            calm = np.ones(len(batch.stones), bool) if self.kind == "random" else are_calm(board, batch)
            for row, key in enumerate(canonical_keys(board, batch.mover, batch.stones).tolist()):
                if sum(map(len, done)) + len(rows) == num:
                    break
                if not calm[row] or key in self._seen:
                    continue
                self._seen.add(key)
                self.tally.look(0, 0)
                position = (batch.mover[row : row + 1], batch.stones[row : row + 1])
                if self.kind == "random" or self._tells(*position):
                    rows.append(row)
                    self.tally.num += 1
                    scores.append(self.solver.scores(*position, watch=self.tally.look))
            if rows:
                found = (batch.moves[rows], np.concatenate(scores))
                done.append(EvaluationSet(board.width, board.height, self.kind, self.seed, *found))
            if sum(map(len, done)) == num:
                break
        return joined(done)

    def pass_over(self, found: EvaluationSet, ply: int) -> None:
        """Let positions that there are already not through again."""
        rows = found.ply == ply
        self._seen.update(canonical_keys(self.solver.board, found.mover[rows], found.stones[rows]).tolist())

    def _tells(self, mover: np.ndarray, stones: np.ndarray) -> bool:
        # Weak scores are cheap, and turn many positions down.
        return bool(are_telling(self.solver.scores(mover, stones, weak=True, watch=self.tally.look))[0])


class _Tally:
    """Counts positions for whoever wants to know."""

    def __init__(self, progress: Progress | None, total: int) -> None:
        self.num = 0
        self._progress = progress
        self._total = total

    def look(self, solved: int, nodes: int) -> None:
        """Tell how far the work is; what a solver says of its own part does not matter here."""
        if self._progress is not None:
            self._progress(self.num, self._total)


def _played(
    board: Board, players: Sequence[Player], until: Int[np.ndarray, " game"], generator: np.random.Generator
) -> dict[int, Positions]:
    """Return the positions after `until` moves of games between two of the players, without games that end sooner, by ply."""
    pair = [players[number] for number in generator.integers(len(players), size=2)]
    mover, stones = np.zeros(len(until), np.uint64), np.zeros(len(until), np.uint64)
    moves = np.zeros((len(until), 0), np.uint8)
    reached: dict[int, Positions] = {}
    for time in range(int(until.max()) + 1):
        is_there = until == time
        if is_there.any():
            reached[time] = Positions(mover[is_there], stones[is_there], moves[is_there])
        goes_on = ~is_there & ~are_four(board, mover ^ stones) & (stones != board.full)
        mover, stones, moves, until = mover[goes_on], stones[goes_on], moves[goes_on], until[goes_on]
        if not len(until):
            return reached
        player = pair[time % 2]
        states = ConnectFourState(boards(mover), boards(stones), jnp.full(len(mover), time, jnp.int32))
        choice = np.asarray(player.choose(states, generator))
        stone = falling_stones(board, stones)[np.arange(len(stones)), choice]
        if not stone.all():
            raise ValueError(f"player {player.name!r} put a stone into a full column. A player must choose legal moves.")
        mover, stones = mover ^ stones, stones | stone
        moves = np.concatenate([moves, choice[:, None].astype(np.uint8)], axis=1)
    return reached
