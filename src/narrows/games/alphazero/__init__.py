"""AlphaZero, the opponent to measure against: tree search with a network, and training by self-play with it.

It needs `mctx`, of the extra `games`; nothing else in Narrows does.
"""

from narrows.games.alphazero.player import SearchPlayer as SearchPlayer
from narrows.games.alphazero.settings import AlphaZero as AlphaZero
from narrows.games.alphazero.trainer import alphazero_trainer as alphazero_trainer
from narrows.games.alphazero.tree_search import SearchResult as SearchResult
from narrows.games.alphazero.tree_search import SearchSettings as SearchSettings
from narrows.games.alphazero.tree_search import search as search
