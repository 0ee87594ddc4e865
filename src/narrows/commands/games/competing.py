"""`narrows games tournament` and `narrows games eval`: who plays better, and how much of the play is perfect."""

import re
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, NamedTuple, Protocol, runtime_checkable

import numpy as np
from jaxtyping import Float, Int
from tyro.conf import Positional

from narrows.envs.game import AbstractGame
from narrows.files import write_atomically
from narrows.games import standings
from narrows.games.exam import Exam, Optimality, Share, exam
from narrows.games.openings import beginnings, openings, usual_plies
from narrows.games.players import NetworkPlayer, Player, UniformPlayer
from narrows.games.solver.board import ILLEGAL
from narrows.games.tournament import COLOURS, Tournament, play_pairing
from narrows.games.tournament import tournament as compete
from narrows.printing import say
from narrows.sizes import Count, Few, Seed

_AGAINST_RANDOM = 100
"""Games against random play with each colour (eflow 6.2)."""


@dataclass(frozen=True)
class Competed:
    """A tournament, and the files that were written: none where nobody asked."""

    result: Tournament
    files: tuple[Path, ...]


class Counts(NamedTuple):
    """The numbers of games that a player has won, drawn and lost."""

    wins: int
    draws: int
    losses: int


@dataclass(frozen=True)
class Evaluation:
    """The quality of a player.

    Args:
        player: its name.
        positions: what positions were looked at.
        chosen: how many of its moves there are optimal.
        expected: how much of its policy's probability is on optimal moves; None for a player without a policy.
        first: its games against random play as the first player.
        second: as the second.
    """

    player: str
    positions: str
    chosen: Optimality
    expected: Optimality | None
    first: Counts
    second: Counts


def tournament(
    players: Positional[tuple[str, ...]],
    *,
    games: int = 400,
    plies: Few | None = None,
    seed: Seed = 0,
    search: Literal["gumbel", "puct"] = "gumbel",
    out: Path | None = None,
) -> Competed:
    """Let players play each other from the same openings with both colours: scores and Elo ratings with 95 % intervals.

    Args:
        players: runs or players by name, all of one game: folders, connect4, random, tactic, perfect. NAME@100 searches with
            the network of NAME, 100 positions a move.
        games: games of every two players at most, half of them with each colour; fewer where there are fewer openings.
        plies: moves of an opening; by default 4 in Connect-4 and 2 in tic-tac-toe.
        seed: of the choice of openings, of players that move at random and of the intervals.
        search: how players with @ search: Gumbel AlphaZero or PUCT.
        out: folder for tournament.jsonl, every game among it, and ratings.svg.
    """
    if games < COLOURS or games % COLOURS:
        raise ValueError(
            f"--games must be an even number of 2 or more, got {games}: every opening is played with both colours."
        )
    if len(players) < 2:
        raise ValueError(f"a tournament needs two players or more, got {len(players)}. Name runs, random, tactic or perfect.")
    env, found = seated(players, search)
    begun = openings(env, usual_plies(env) if plies is None else plies, games // COLOURS, seed=seed)
    result = compete(env, found, begun, seed=seed, progress=_progress)
    return Competed(result, () if out is None else _written(env, result, out))


def evaluate(
    player: Positional[str],
    *,
    set: str | None = None,
    positions: Count = 200_000,
    seed: Seed = 0,
    search: Literal["gumbel", "puct"] = "gumbel",
) -> Evaluation:
    """Say how much of a player's play is perfect, and how it does against random play.

    Args:
        player: a run or player by name; NAME@100 searches with the network of NAME, 100 positions a move.
        set: quiet, random, play, all, or a file of `narrows games build-set`; by default quiet for Connect-4 on 7 columns by 6
            rows, all for tic-tac-toe and small boards. All of Connect-4 are those in which not every move has the same outcome.
        positions: how many at most, a random sample.
        seed: of the sample and of random moves.
        search: how a player with @ searches: Gumbel AlphaZero or PUCT.
    """
    env, (found,) = seated((player,), search)
    questions = exam(env, set, num=positions, seed=seed)
    generator = np.random.default_rng(seed)
    chosen, policy = _answers(found, questions, generator)
    points, _ = play_pairing(env, (found, UniformPlayer(env)), beginnings(env, _AGAINST_RANDOM), generator)
    first, second = (Counts(*(int(np.sum(points[:, colour] == worth)) for worth in (1.0, 0.5, 0.0))) for colour in (0, 1))
    expected = None if policy is None else questions.grade(policy)
    return Evaluation(player, questions.name, questions.grade(chosen), expected, first, second)


def render(found: Competed | Evaluation) -> str:
    """Return the tables of either command."""
    if isinstance(found, Competed):
        return "\n".join([standings.render(found.result), *(f"written: {path}" for path in found.files)])
    rows = [("all", found.chosen.overall, None if found.expected is None else found.expected.overall)]
    for (first, last), share in found.chosen.bands.items():
        band = f"{first}-{last}" if last < 63 else f"{first}+"
        rows.append((band, share, None if found.expected is None else found.expected.bands[first, last]))
    head = f"{'moves played':>12}  {'positions':>9}  {'outcome':>8}  {'strict':>8}"
    more = "" if found.expected is None else f"  {'outcome':>14}  {'strict':>8}"
    above = "" if found.expected is None else f"{'':>25}{'its move':>18}{'its policy, expected':>26}\n"
    return "\n".join(
        [
            f"{found.player} in {found.positions}: share of optimal moves",
            "",
            f"{above}{head}{more}",
            *(_row(*row) for row in rows),
            "",
            "outcome: keeps the win or the draw; strict: the fastest win, the slowest loss.",
            f"Against random play, {_AGAINST_RANDOM} games each: moving first {_counted(found.first)}; second "
            f"{_counted(found.second)}.",
        ]
    )


def seated(names: Sequence[str], search: Literal["gumbel", "puct"]) -> tuple[AbstractGame, list[Player]]:
    """Return the game that all of the named players play, and the players; ValueError names one that plays another."""
    from narrows.games.opponents import RULES, opponent

    plain = [re.fullmatch(r"(.+)@(\d{1,6})", name) for name in names]
    bases = [name if split is None else split[1] for name, split in zip(names, plain, strict=True)]
    fixed = next((base for base in bases if base not in RULES), None)
    env = opponent(bases[0] if fixed is None else fixed)[0]
    players: list[Player] = []
    for name, base, split in zip(names, bases, plain, strict=True):
        other, player = opponent(base, env)
        if not is_same_game(env, other):
            raise ValueError(
                f"all players must play one game: {name!r} plays {_described(other)}, {fixed or names[0]!r} plays "
                f"{_described(env)}. Leave one of them out."
            )
        players.append(player if split is None else _searching(name, player, int(split[2]), search))
    known = [player.name for player in players]
    # What was typed tells apart players that are called alike, such as two runs in folders of one name.
    return env, [
        player if known.count(player.name) == 1 else _Called(player, name) for player, name in zip(players, names, strict=True)
    ]


def is_same_game(one: AbstractGame, other: AbstractGame) -> bool:
    """Return whether two players of these rules can meet; what their networks see of a position may differ."""
    return (type(one), one.board, one.action_names, one.max_steps) == (
        type(other),
        other.board,
        other.action_names,
        other.max_steps,
    )


@runtime_checkable
class _Searcher(Protocol):
    """The part of `SearchPlayer` that is needed here, without loading the library that it needs."""

    def look(self, states: Any, generator: np.random.Generator) -> Any: ...


class _Called:
    """A player under another name."""

    def __init__(self, player: Player, name: str) -> None:
        self.player = player
        self.name = name

    def choose(self, states: Any, generator: np.random.Generator) -> Int[np.ndarray, " game"]:
        return self.player.choose(states, generator)


def _searching(name: str, player: Player, num_simulations: int, kind: Literal["gumbel", "puct"]) -> Player:
    if not isinstance(player, NetworkPlayer):
        raise ValueError(f"{name!r}: {player.name} has no network to search with. Leave out the @.")
    from narrows.games.alphazero import SearchPlayer  # an optional library

    called = f"{player.name}@{num_simulations}"
    return SearchPlayer(player.env, player.policy, num_simulations, scale=player.scale, kind=kind, name=called)


def _described(env: AbstractGame) -> str:
    rows, columns = env.board
    return f"{type(env).__name__} on {columns} columns by {rows} rows"


def _progress(done: int, total: int) -> None:
    if total > 1:
        say(f"narrows: {done} of {total} pairings played", sys.stderr)


def _written(env: AbstractGame, result: Tournament, out: Path) -> tuple[Path, ...]:
    out.mkdir(parents=True, exist_ok=True)
    lines, picture = out / "tournament.jsonl", out / "ratings.svg"
    write_atomically(lines, "".join(f"{line}\n" for line in standings.json_lines(env, result)))
    write_atomically(picture, standings.picture(result))
    return lines, picture


def _answers(
    player: Player, questions: Exam, generator: np.random.Generator
) -> tuple[Int[np.ndarray, " position"], Float[np.ndarray, "position action"] | None]:
    """Return the moves of a player, and its policy if it has one."""
    if isinstance(player, NetworkPlayer):
        return player.choose(questions.states, generator), np.exp(player.advise(questions.states).log_policy)
    if isinstance(player, UniformPlayer):
        is_legal = questions.scores != ILLEGAL
        return player.choose(questions.states, generator), is_legal / is_legal.sum(axis=1, keepdims=True)
    if isinstance(player, _Searcher):
        found = player.look(questions.states, generator)
        return np.asarray(found.action), np.asarray(found.policy)
    return player.choose(questions.states, generator), None


def _row(band: str, chosen: Share, expected: Share | None) -> str:
    row = f"{band:>12}  {chosen.num:>9}  {chosen.outcome:>8.2%}  {chosen.strict:>8.2%}"
    return row if expected is None else f"{row}  {expected.outcome:>14.2%}  {expected.strict:>8.2%}"


def _counted(counts: Counts) -> str:
    return f"{counts.wins} won, {counts.draws} drawn, {counts.losses} lost"
