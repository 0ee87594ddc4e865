"""Two-player zero-sum games: self-play, players, a perfect judge, tournaments and a board to play on."""

from narrows.games.names import game_named as game_named
from narrows.games.notation import moves_of as moves_of
from narrows.games.notation import position_of as position_of
