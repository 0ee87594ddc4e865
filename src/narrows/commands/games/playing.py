"""`narrows games play`: play against a run or a player, in the terminal or on a page in the browser."""

import os
import sys
import webbrowser
from typing import Literal

import numpy as np
from tyro.conf import Positional

from narrows.envs.game import AbstractGame
from narrows.games.players import NetworkPlayer, Player
from narrows.games.session import SIDES, Table
from narrows.games.terminal import Tally, play_in_terminal
from narrows.games.verdicts import perfect_judge
from narrows.games.web import GameServer
from narrows.printing import say
from narrows.sizes import Port


def play(
    player: Positional[str],
    *,
    side: Literal["first", "second"] = "first",
    web: bool = False,
    port: Port = 0,
    open_browser: bool = True,
    temperature: float = 0.0,
) -> Tally | None:
    """Play against a trained run or another player, in this terminal or in a browser.

    Args:
        player: a run's folder, or a game or player that comes with Narrows.
        side: whether you move first or second.
        web: play on a page in the browser; its address holds a secret and works on this machine only.
        port: of the page; 0 takes a free one.
        open_browser: whether to open the page; its address is printed in any case.
        temperature: 0 makes a network play its most probable move, 1 draws moves from its policy.
    """
    from narrows.games.opponents import opponent

    if port and not web:
        raise ValueError("--port is the page's: give --web too, or leave it out.")
    env, other = opponent(player)
    table = seated(env, other, temperature)
    if not web:
        return play_in_terminal(table, SIDES.index(side))
    serve(table, SIDES.index(side), port=port, open_browser=open_browser)
    return None


def render(tally: Tally | None) -> str:
    """Return how the evening went."""
    if tally is None:
        return "The board is closed."
    games = tally.wins + tally.draws + tally.losses
    if not games:
        return "No game was finished."
    return f"{games} {'game' if games == 1 else 'games'}: {tally.wins} won, {tally.draws} drawn, {tally.losses} lost."


def seated(env: AbstractGame, other: Player, temperature: float) -> Table:
    """Return the table for a game against a player; a network also gives hints, at whatever temperature it plays."""
    if not isinstance(other, NetworkPlayer):
        if temperature:
            raise ValueError(f"temperature is for networks, and {other.name} is none. Leave it out.")
        return Table(env, other, judge=perfect_judge(env))
    tempered = NetworkPlayer(env, other.policy, other.name, scale=other.scale, temperature=temperature)
    return Table(env, tempered, tempered, perfect_judge(env))


def serve(
    table: Table, side: int, *, port: int = 0, open_browser: bool = True, generator: np.random.Generator | None = None
) -> None:
    """Serve the page until Ctrl-C."""
    with GameServer(table, side, port=port, generator=generator) as server:
        try:
            server.answers.warm()
            say(f"Play against {table.opponent.name} at\n\n    {server.url}\n\nCtrl-C ends it.")
            if open_browser and _has_screen():
                webbrowser.open(server.url)
            server.serve_forever()
        except KeyboardInterrupt:
            say("")


def _has_screen() -> bool:
    """Return whether a browser can show itself: one in the terminal would take the place of Ctrl-C."""
    return sys.platform in ("darwin", "win32") or bool(os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY"))
