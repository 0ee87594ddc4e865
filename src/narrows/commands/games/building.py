"""`narrows games build-set`: a set of Connect-4 positions with exact scores, to judge players by."""

import re
import shutil
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from narrows.envs.connect_four import ConnectFour
from narrows.games.drawing import Progress, build_play, build_set
from narrows.games.names import game_named
from narrows.games.players import NetworkPlayer, Player
from narrows.games.sets import EvaluationSet, save
from narrows.games.solver import Solver, cache_folder
from narrows.printing import say
from narrows.sizes import Seed

_EVERY = 10.0
"""Seconds between two lines that say how far the work is."""


@dataclass(frozen=True)
class Built:
    """Where the set is and what is in it."""

    path: Path
    found: EvaluationSet


def build(
    *,
    out: Path,
    kind: Literal["quiet", "random", "play"] = "quiet",
    game: str = "connect4",
    sizes: tuple[str, ...] = ("8-11:100", "12-32:500"),
    players: tuple[str, ...] = (),
    seed: Seed = 0,
    table_bits: int = 24,
) -> Built:
    """Draw Connect-4 positions, score every move in each exactly and keep them in a file. Stopped, it goes on where it was.

    Args:
        out: the file, .npz; beside it a folder of finished pieces while the work lasts.
        kind: quiet: random games, nobody wins with the next stone, and the moves do not all lead to the same outcome. random:
            any position of a random game. play: like quiet, from games between players.
        game: connect4 or connect4-WIDTHxHEIGHT.
        sizes: how many positions for how many stones: 12-32:500 means 500 for each number from 12 to 32.
        players: for play: runs or players by name, which play each other and themselves; networks draw from their policy.
        seed: of the draw.
        table_bits: the solver's table has 2^table_bits entries of 8 bytes.
    """
    env = game_named(game)
    if not isinstance(env, ConnectFour):
        raise ValueError(f"sets are built of Connect-4 positions, not of {game}.")
    if out.suffix != ".npz":
        raise ValueError(f"a set is a .npz file, got --out {out}. Call it {out.name}.npz.")
    if out.exists():
        raise ValueError(f"{out} exists already. Delete it or name another file with --out.")
    if (kind == "play") != bool(players):
        raise ValueError("--kind play needs --players, and only it takes them.")
    asked = _sizes(sizes)
    solver = Solver(env.width, env.height, table_bits=table_bits, cache=cache_folder())
    parts = out.with_name(f"{out.name}.parts")
    progress = _progress()
    if kind == "play":
        found = build_play(solver, _players(env, players), asked, seed=seed, parts=parts, progress=progress)
    else:
        found = build_set(solver, kind, asked, seed=seed, parts=parts, progress=progress)
    save(found, out)
    shutil.rmtree(parts)
    return Built(out, found)


def render(built: Built) -> str:
    """Return what has been built."""
    found = built.found
    plies = found.ply
    return (
        f"{len(found)} {found.kind} positions of {found.width} columns by {found.height} rows, after {plies.min()} to "
        f"{plies.max()} moves, seed {found.seed}: {built.path}"
    )


def _sizes(texts: tuple[str, ...]) -> dict[int, int]:
    """Return how many positions each text wants for each number of stones."""
    sizes: dict[int, int] = {}
    for text in texts:
        found = re.fullmatch(r"(\d{1,2})(?:-(\d{1,2}))?:(\d{1,7})", text)
        if not found:
            raise ValueError(f"expected sizes such as 12-32:500 or 20:100, got {text!r}.")
        first, last = int(found[1]), int(found[2] or found[1])
        again = [ply for ply in range(first, last + 1) if ply in sizes]
        if again or last < first:
            raise ValueError(f"{text!r}: {f'ply {again[0]} is named twice' if again else 'the first ply is after the last'}.")
        sizes |= dict.fromkeys(range(first, last + 1), int(found[3]))
    return sizes


def _players(env: ConnectFour, names: tuple[str, ...]) -> list[Player]:
    from narrows.games.opponents import opponent

    players: list[Player] = []
    for name in names:
        other_env, player = opponent(name)
        if not isinstance(other_env, ConnectFour) or (other_env.width, other_env.height) != (env.width, env.height):
            raise ValueError(f"player {name!r} plays another game or board. Name it with --game.")
        if isinstance(player, NetworkPlayer):
            player = NetworkPlayer(other_env, player.policy, player.name, scale=player.scale, temperature=1.0)
        players.append(player)
    return players


def _progress() -> Progress:
    """Return what says now and then how far the work is."""
    started = told = time.monotonic()

    def progress(num: int, total: int) -> None:
        nonlocal told
        now = time.monotonic()
        if now - told >= _EVERY:
            told = now
            say(f"narrows: {num} of {total} positions in {now - started:.0f} s", sys.stderr)

    return progress
