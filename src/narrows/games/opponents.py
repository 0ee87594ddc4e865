"""Players by the names that commands take."""

from importlib.resources import as_file, files
from pathlib import Path
from typing import Final

from narrows.envs.game import AbstractGame
from narrows.games.folder import load_player
from narrows.games.names import game_named
from narrows.games.players import Player, TacticPlayer, UniformPlayer

SHIPPED: Final = ("connect4", "connect4-4x4", "connect4-5x5", "tic_tac_toe")
"""Games whose trained player comes with the package, in `data/players`."""

RULES: Final = ("random", "tactic", "perfect")
"""Players that no training has made; they play any game that the others play, alone Connect-4."""


def opponent(name: str, env: AbstractGame | None = None) -> tuple[AbstractGame, Player]:
    """Return the game and the player that a name stands for.

    Args:
        name: a run's folder or a player's, a game that comes with a trained player, or `random`, `tactic` or `perfect`, which
            may be followed by a colon and a game: `perfect:connect4-5x4`.
        env: the game of those three, where none is named; by default Connect-4.

    Raises ValueError that lists what is known.
    """
    rule, colon, game = name.partition(":")
    if rule in RULES:
        rules = game_named(game) if colon else game_named("connect4") if env is None else env
        return rules, _by_rule(rule, rules)
    path = Path(name)
    if path.is_dir():
        recipe, player = load_player(path, path.name)
        return recipe.env(), player
    if name in SHIPPED:
        with as_file(files("narrows.games") / "data" / "players" / name) as shipped:
            recipe, player = load_player(shipped, name)
            return recipe.env(), player
    raise ValueError(
        f"there is no player {name!r}: it is neither a folder that `narrows games train` made, nor {', '.join(RULES)}, nor a "
        f"player that comes with Narrows ({', '.join(SHIPPED)})."
    )


def _by_rule(rule: str, env: AbstractGame) -> Player:
    if rule == "random":
        return UniformPlayer(env)
    if rule == "tactic":
        return TacticPlayer(env)
    from narrows.games.solver import PerfectPlayer  # compiles

    return PerfectPlayer(env)
