"""Tournaments: everybody against everybody, every opening with both colours, all games of two players side by side."""

import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple

import jax
import numpy as np
from jaxtyping import Bool, Float, Int, Int16

from narrows.envs.base import NO_ACTION
from narrows.envs.contract import rows_of
from narrows.envs.game import AbstractGame
from narrows.games.elo import Encounters, Interval, rate, score_interval
from narrows.games.openings import Openings
from narrows.games.players import Player
from narrows.games.rules import in_rows, look, moved

COLOURS: Final = 2
"""Games of two players with one opening: each of them moves first once."""

Progress = Callable[[int, int], None]
"""Told after each pairing how many are done, and how many there are."""


class Played(NamedTuple):
    """The games of two players: `points` is 1, 1/2 or 0 for `first`, who has player 0's place in those of `colour` 0.

    `moves` has the opening's moves too, and `NO_ACTION` after the end.
    """

    first: int
    second: int
    points: Float[np.ndarray, "opening colour"]
    moves: Int16[np.ndarray, "opening colour time"]


class Standing(NamedTuple):
    """The results of a player. The interval of the rating is 95 %, from a bootstrap over openings.

    Of one who has won or lost every game neither end says much: nothing in the games tells how much stronger they are.
    """

    name: str
    rating: float
    interval: Interval
    wins: int
    draws: int
    losses: int

    @property
    def num_games(self) -> int:
        """Games played."""
        return self.wins + self.draws + self.losses

    @property
    def score(self) -> float:
        """Points per game."""
        return (self.wins + self.draws / 2) / self.num_games


class Score(NamedTuple):
    """The mean score of one player against another, per game."""

    mean: float
    interval: Interval


@dataclass(frozen=True)
class Tournament:
    """Every game of a tournament.

    Args:
        players: their names.
        openings: moves from the beginning to each position from which games were played.
        played: by pairing.
        seed: of the players' randomness and of the bootstrap.
    """

    players: tuple[str, ...]
    openings: Int[np.ndarray, "opening ply"]
    played: tuple[Played, ...]
    seed: int

    @property
    def num_games(self) -> int:
        """The number of games played."""
        return sum(pairing.points.size for pairing in self.played)

    def standings(self) -> tuple[Standing, ...]:
        """Return how the players have done, the best first."""
        found = rate(self._encounters(), len(self.players), seed=self.seed)
        rows = []
        for number, name in enumerate(self.players):
            points = np.concatenate([self.points(number, other).ravel() for other in self._others(number)])
            interval = Interval(float(found.low[number]), float(found.high[number]))
            wins, draws, losses = (int(np.sum(points == worth)) for worth in (1.0, 0.5, 0.0))
            rows.append(Standing(name, float(found.rating[number]), interval, wins, draws, losses))
        return tuple(sorted(rows, key=lambda row: -row.rating))

    def score(self, player: int, other: int) -> Score:
        """Return what a player has scored against another."""
        points = self.points(player, other)
        return Score(float(points.mean()), score_interval(points.sum(axis=1), COLOURS))

    def points(self, player: int, other: int) -> Float[np.ndarray, "opening colour"]:
        """Return a player's points against another; with `colour` 0 whoever of the two is named first in `players` began."""
        for pairing in self.played:
            if (pairing.first, pairing.second) == (player, other):
                return pairing.points
            if (pairing.second, pairing.first) == (player, other):
                return 1.0 - pairing.points
        raise ValueError(f"players {player} and {other} have not met. Players are numbered from 0 to {len(self.players) - 1}.")

    def _others(self, player: int) -> list[int]:
        return [other for other in range(len(self.players)) if other != player]

    def _encounters(self) -> Encounters:
        first, second = (np.asarray([pairing[side] for pairing in self.played]) for side in (0, 1))
        return Encounters(first, second, np.stack([pairing.points.sum(axis=1) for pairing in self.played]), COLOURS)


def tournament(
    env: AbstractGame, players: Sequence[Player], openings: Openings, *, seed: int = 0, progress: Progress | None = None
) -> Tournament:
    """Let every player meet every other, twice from each opening.

    The randomness of a pairing depends on the seed and on the two names, so that other players do not change it.

    Args:
        env: the game.
        players: at least two, of different names.
        openings: where games begin.
        seed: of the players' randomness.
        progress: told how far the tournament is.

    Raises ValueError that names a player who makes an illegal move.
    """
    names = tuple(player.name for player in players)
    twice = [name for name in dict.fromkeys(names) if names.count(name) > 1]
    if len(names) < 2 or twice:
        found = f"two are called {twice[0]!r}" if twice else f"got {len(names)}"
        raise ValueError(f"a tournament needs two or more players of different names, {found}.")
    pairings = [(one, other) for one in range(len(names)) for other in range(one + 1, len(names))]
    played = []
    for number, (one, other) in enumerate(pairings, start=1):
        generator = np.random.default_rng([seed, zlib.crc32(repr((names[one], names[other])).encode())])
        points, moves = play_pairing(env, (players[one], players[other]), openings, generator)
        played.append(Played(one, other, points, moves))
        if progress is not None:
            progress(number, len(pairings))
    return Tournament(names, openings.moves, tuple(played), seed)


def play_pairing(
    env: AbstractGame, pair: tuple[Player, Player], openings: Openings, generator: np.random.Generator
) -> tuple[Float[np.ndarray, "opening colour"], Int16[np.ndarray, "opening colour time"]]:
    """Return the points of the first of two players, and all moves, from each opening with both colours.

    All games advance together: in each round whoever is to move in some of them chooses there in one batch.
    """
    num, plies = openings.moves.shape
    states = jax.tree.map(lambda leaf: np.concatenate([leaf] * COLOURS), openings.states)
    moves = np.full((COLOURS * num, env.max_steps), NO_ACTION, np.int16)
    moves[:, :plies] = np.concatenate([openings.moves] * COLOURS)
    seat = np.repeat([0, 1], num)  # of the first of the two
    points, live = np.full(COLOURS * num, np.nan), np.arange(COLOURS * num)
    for time in range(plies, env.max_steps + 1):
        position = in_rows(lambda rows: look(env, rows), states)
        by_first = np.where(seat[live] == 0, position.outcome, -position.outcome)
        points[live[position.is_over]] = 0.5 + by_first[position.is_over] / 2
        goes_on = ~position.is_over
        if not goes_on.any():
            break
        live, states, position = live[goes_on], rows_of(states, goes_on), rows_of(position, goes_on)
        chosen = np.zeros(len(live), np.int32)
        for number, player in enumerate(pair):
            rows = np.flatnonzero((position.turn == seat[live]) == (number == 0))
            if len(rows):
                actions = player.choose(rows_of(states, rows), generator)
                chosen[rows] = _checked(env, player, actions, position.mask[rows], moves[live[rows]])
        moves[live, time] = chosen
        states = in_rows(lambda pairs: moved(env, *pairs), (states, chosen))
    assert not np.isnan(points).any(), "a game has gone on after max_steps moves"
    return points.reshape(COLOURS, num).T, moves.reshape(COLOURS, num, -1).swapaxes(0, 1)


def _checked(
    env: AbstractGame,
    player: Player,
    actions: Int[np.ndarray, " game"],
    mask: Bool[np.ndarray, "game action"],
    moves: Int16[np.ndarray, "game time"],
) -> Int[np.ndarray, " game"]:
    """Return what a player has chosen; ValueError that names them unless all of it is legal."""
    actions = np.asarray(actions)
    if actions.shape != (len(mask),) or not np.issubdtype(actions.dtype, np.integer):
        raise ValueError(
            f"player {player.name!r} was asked about {len(mask)} positions and should answer with so many whole numbers, got "
            f"{actions.dtype} of shape {actions.shape}."
        )
    is_inside = (actions >= 0) & (actions < env.num_actions)
    is_legal = is_inside & mask[np.arange(len(mask)), np.where(is_inside, actions, 0)]
    if not is_legal.all():
        row = int(np.argmin(is_legal))
        action = int(actions[row])
        name = repr(env.action_names[action]) if is_inside[row] else f"number {action}"
        raise ValueError(
            f"player {player.name!r} made an illegal move: {name} after {written(env, moves[row])!r}. Legal there: "
            f"{', '.join(env.action_names[legal] for legal in np.flatnonzero(mask[row]))}."
        )
    return actions.astype(np.int32)


def written(env: AbstractGame, moves: Int[np.ndarray, " time"]) -> str:
    """Return moves as people write them, those that `notation.moves_of` reads."""
    names = [env.action_names[move] for move in moves.tolist() if move != NO_ACTION]
    return ("" if max(map(len, env.action_names)) == 1 else " ").join(names)
