"""A board to play on in a browser: one page that loads nothing from elsewhere, and a server that only this machine reaches."""

from narrows.games.web.server import GameServer as GameServer
