"""Tables to sit down to, opponents that can be foretold, and servers of their pages."""

import contextlib
import http.client
import json
import threading
import time

import jax
import numpy as np

from narrows.games.names import game_named
from narrows.games.players import NetworkPlayer
from narrows.games.rules import legal_moves
from narrows.games.session import Table
from narrows.games.web import GameServer
from narrows.policies import MLP, sizes_of


class Leftmost:
    """Plays the first legal move, so that a test can foretell the game."""

    def __init__(self, env, name="leftmost"):
        self.env = env
        self.name = name

    def choose(self, states, generator):
        return np.argmax(legal_moves(self.env, states), axis=1)


def scores(state, look_up):
    """A judge of the 4 x 4 board by whom column 2 wins with the very last stone, and 3 loses; slow before the first move."""
    while int(state.num_moves) == 0:
        look_up()
        time.sleep(0.005)
    return [0, 1, -1, 0]


def network(name):
    """A network that has not learned anything, but says something else of every position."""
    env = game_named(name)
    policy = MLP(sizes_of(env, flow_head=True), hidden=16, key=jax.random.key(3))
    return NetworkPlayer(env, policy, "my run", scale=0.05)


def small_table():
    """Connect-4 on 4 x 4 cells against whoever plays leftmost, with everybody there to be asked."""
    player = network("connect4-4x4")
    return Table(player.env, Leftmost(player.env, "left<b>most"), player, scores)


def small_server():
    """A server of that table, not running yet, whose judge is not waited for long."""
    server = GameServer(small_table(), seconds=0.3)
    server.answers.warm()
    return server


def cells_server():
    """A server of tic-tac-toe as the second player, with nobody to be asked."""
    env = game_named("tic_tac_toe")
    server = GameServer(Table(env, Leftmost(env)), 1)
    server.answers.warm()
    return server


@contextlib.contextmanager
def running(server):
    """Let a server serve, and close it."""
    with server:
        thread = threading.Thread(target=server.serve_forever, args=(0.02,))
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            thread.join()


def asked(server, path, body=None, method=None, **headers):
    """Return status, headers and text of an answer; headers given as None are left out."""
    connection = http.client.HTTPConnection("127.0.0.1", server.server_port, timeout=20)
    if isinstance(body, dict):
        body = json.dumps(body)
    usual = {"Host": f"127.0.0.1:{server.server_port}", "X-Narrows-Token": server.token, "Content-Type": "application/json"}
    usual |= {} if body is None else {"Content-Length": str(len(body))}
    usual |= {name.replace("_", "-"): value for name, value in headers.items()}
    connection.putrequest(method or ("GET" if body is None else "POST"), path, skip_host=True, skip_accept_encoding=True)
    for name, value in usual.items():
        for one in value if isinstance(value, list) else [value]:
            if one is not None:
                connection.putheader(name, one)
    connection.endheaders(None if body is None else body.encode())
    answer = connection.getresponse()
    text = answer.read().decode()
    connection.close()
    return answer.status, answer.headers, text


def told(server, question, moves):
    status, _, text = asked(server, f"/{question}", {"moves": list(moves)})
    return status, json.loads(text)
