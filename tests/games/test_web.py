"""The server behind the page: who is let in, what is understood, what is answered."""

import json
import re
import socket
import time

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from tests.games.tables import asked, cells_server, running, small_server, told
from tests.report.reading import assert_coherent, read

from narrows.games.session import begin
from narrows.games.web import GameServer


@pytest.fixture(scope="module")
def server():
    with running(small_server()) as server:
        yield server


@pytest.fixture(scope="module")
def cells():
    with running(cells_server()) as server:
        yield server


@pytest.fixture(scope="module")
def table(server):
    return server.answers.table


def test_the_page_is_whole_and_asks_nobody_else(server):
    status, headers, text = asked(server, f"/?token={server.token}")
    assert status == 200 and headers["Content-Type"] == "text/html; charset=utf-8"
    policy = headers["Content-Security-Policy"]
    (nonce,) = re.findall(r"script-src 'nonce-([\w-]+)'", policy)
    assert policy.startswith("default-src 'none'; ") and "unsafe" not in policy and "connect-src 'self'" in policy
    assert text.count(f'nonce="{nonce}"') == 2 == len(re.findall("<style|<script", text))
    assert asked(server, f"/?token={server.token}")[1]["Content-Security-Policy"] != policy, "a nonce is used once"
    reading = read(text)
    assert_coherent(reading)
    assert not {"img", "iframe", "form", "base", "object"} & set(reading.tags)
    for tag, name, value in reading.attributes:
        assert not name.startswith("on") and name != "style", f"<{tag} {name}> would not work under the policy"
        assert name not in ("src", "href") or value.startswith("data:")
    assert "left&lt;b&gt;most" in text and "<b>most" not in text
    assert (headers["X-Content-Type-Options"], headers["Referrer-Policy"]) == ("nosniff", "no-referrer")
    assert "Access-Control-Allow-Origin" not in headers and "Python" not in headers["Server"]
    assert server.token not in text


@pytest.mark.parametrize(
    "headers",
    [
        {"X_Narrows_Token": None},
        {"X_Narrows_Token": "wrong"},
        {"X_Narrows_Token": "ü"},
        {"X_Narrows_Token": ["TOKEN", "TOKEN"]},
        {"Host": None},
        {"Host": "narrows.example"},
        {"Host": "127.0.0.1"},
        {"Host": "127.0.0.1:1"},
        {"Host": ["127.0.0.1:PORT", "narrows.example"]},
        {"Origin": "http://narrows.example"},
        {"Origin": "null"},
    ],
    ids=str,
)
def test_strangers_are_turned_away(server, headers):
    def real(value):
        if isinstance(value, list):
            return [real(one) for one in value]
        return value and value.replace("TOKEN", server.token).replace("PORT", str(server.server_port))

    headers = {name: real(value) for name, value in headers.items()}
    status, _, text = asked(server, "/position", {"moves": []}, **headers)
    assert status == 403 and set(json.loads(text)) == {"error"} and server.token not in text
    # The page has its token in the address, so only what is said of the host and the origin can be wrong with it.
    if "X_Narrows_Token" not in headers:
        assert asked(server, f"/?token={server.token}", **headers)[0] == 403


def test_the_page_needs_its_token_and_this_machine_has_two_names(server):
    for query in ("", "?token=", "?token=wrong", f"?token={server.token}&token=wrong", f"?TOKEN={server.token}"):
        assert asked(server, f"/{query}")[0] == 403
    host = f"localhost:{server.server_port}"
    assert asked(server, "/position", {"moves": []}, Host=host.upper(), Origin=f"http://{host}")[0] == 200
    with GameServer(server.answers.table) as other:
        assert other.token != server.token


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/../../etc/passwd", None),
        ("/%2e%2e/etc/passwd", None),
        ("/page.html.j2", None),
        ("//etc/passwd", None),
        ("/position", None),
        ("/../position", {"moves": []}),
        ("/position/", {"moves": []}),
        ("/warm", {"moves": []}),
        ("/", {"moves": []}),
    ],
)
def test_there_is_nothing_else(server, path, body):
    query = f"?token={server.token}" if body is None else ""
    status, _, text = asked(server, path + query, body)
    assert status == 404 and "there is nothing here" in text and "passwd" not in text


@pytest.mark.parametrize("method", ["HEAD", "PUT", "DELETE", "OPTIONS", "PATCH", "TRACE"])
def test_other_methods_are_refused(server, method):
    status, headers, _ = asked(server, "/position", method=method)
    assert status == 405 and headers["Allow"] == "GET, POST"
    assert asked(server, "/position", method=method, X_Narrows_Token=None)[0] == 403


@pytest.mark.parametrize(
    ("status", "body", "headers"),
    [
        (413, " " * 5000, {}),
        (413, "", {"Content_Length": "9" * 40}),
        (411, "", {"Content_Length": None}),
        (411, "", {"Content_Length": "-1"}),
        (411, "", {"Content_Length": ["2", "3"]}),
        (411, "", {"Transfer_Encoding": "chunked"}),
        (415, '{"moves": []}', {"Content_Type": "text/plain"}),
        (415, '{"moves": []}', {"Content_Type": None}),
    ],
)
def test_bodies_that_are_not_read(server, status, body, headers):
    assert asked(server, "/position", body, **headers)[0] == status


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        ("", "expected JSON such as"),
        ("{", "expected JSON such as"),
        ("[" * 4000, "expected JSON such as"),
        ("[]", "expected JSON such as"),
        ("{}", "moves: Field required"),
        ('{"moves": "12"}', "moves: Input should be a valid array"),
        ('{"moves": [1]}', "moves.0: Input should be a valid string"),
        ('{"moves": ["11111"]}', "at most 4 characters"),
        ('{"moves": [], "file": "/etc/passwd"}', "file: Extra inputs are not permitted"),
        (json.dumps({"moves": ["1"] * 17}), "at most 16 moves, got 17"),
        ('{"moves": ["9"]}', "move 1: '9' is not a move"),
        ('{"moves": ["1", "1", "1", "1", "1"]}', "move 5: 1 cannot be played now: column 1 is full. Legal: 2, 3, 4."),
        (json.dumps({"moves": list("12121213")}), "move 8: the game is over: the first player has won"),
    ],
)
def test_what_is_no_game_is_answered_with_the_reason(server, body, reason):
    status, _, text = asked(server, "/position", body)
    assert status == 422 and reason in json.loads(text)["error"]
    assert told(server, "position", "1")[0] == 200, "and the game goes on"


def test_a_position_is_what_the_rules_say(server, table):
    for moves in ("", "1", "1213", "1212121", "1323113413442422"):
        session = begin(table.env, moves)
        status, answer = told(server, "position", moves)
        assert status == 200
        assert answer["moves"] == list(moves) and tuple(answer["rows"]) == session.rows
        assert answer["legal"] == [table.env.action_names[action] for action in session.legal]
        assert answer["is_over"] == session.is_over and answer["winner"] == (None if session.winner is None else "first")
        assert answer["turn"] == (None if session.is_over else ("first", "second")[len(moves) % 2])
        assert [tuple(cell) for cell in answer["winning"]] == list(session.winning_cells())
        assert answer["last"] == (None if not moves else list(session.last_cell() or ()))


def test_the_opponent_replies_as_it_would_at_a_table(server):
    assert told(server, "reply", "21")[1]["moves"] == ["2", "1", "1"]
    assert told(server, "reply", "1111")[1]["moves"][-1] == "2"
    status, answer = told(server, "reply", "1212121")
    assert status == 422 and "the game is over" in answer["error"]


def test_advice_is_the_networks(server, table):
    session = begin(table.env, "1111")
    advice = table.adviser.advise(jax.tree.map(lambda leaf: jnp.asarray(leaf)[None], session.state))
    answer = told(server, "advice", "1111")[1]
    assert list(answer["policy"]) == ["2", "3", "4"], "a full column has no share"
    np.testing.assert_allclose(list(answer["policy"].values()), np.exp(advice.log_policy[0])[1:], rtol=1e-5)
    assert answer["value"] == pytest.approx(float(advice.value[0])) and answer["value"] != 0.0
    assert "nothing to ask the network" in told(server, "advice", "1212121")[1]["error"]


def test_verdicts_come_from_the_judge_or_not_in_time(server):
    answer = told(server, "verdicts", "13")[1]["verdicts"]
    # 14 cells are left, 7 of them the mover's: a score of 1 is their 7th stone, of -1 the other's 7th.
    assert [(one["move"], one["words"], one["is_best"]) for one in answer] == [
        ("1", "draw", False), ("2", "wins in 7", True), ("3", "loses in 7", False), ("4", "draw", False)
    ]  # fmt: skip
    begun = time.monotonic()
    status, answer = told(server, "verdicts", "")
    assert status == 422 and "too deep to solve here, ask again after a few more moves" in answer["error"]
    assert time.monotonic() - begun < 5.0
    assert told(server, "verdicts", "14")[0] == 200, "the one who was too slow has stopped"


def test_whoever_is_not_there_cannot_be_asked(cells):
    assert "no network to ask" in told(cells, "advice", "")[1]["error"]
    assert "no solver for this game" in told(cells, "verdicts", "")[1]["error"]
    text = asked(cells, f"/?token={cells.token}")[2]
    assert 'id="solve"' not in text and 'id="show-policy"' not in text and 'data-side="second"' in text


def test_a_broken_request_is_answered_without_being_repeated(server, capfd):
    for request in (b"<script>\r\n\r\n", b"GET / HTTP/9.9\r\n\r\n", b"BREW /pot HTTP/1.1\r\nHost: x\r\n\r\n"):
        with socket.create_connection(("127.0.0.1", server.server_port), timeout=10) as connection:
            connection.sendall(request)
            answer = connection.makefile("rb").read()
        assert b"not a request that is understood" in answer
        assert b"<script>" not in answer and b"BREW" not in answer
    out, err = capfd.readouterr()
    assert out == err == "", "no log"


def test_a_defect_is_an_answer_too_and_shows_in_the_terminal(table, capfd):
    def broken(state, look_up):
        raise ZeroDivisionError("a defect")

    with running(GameServer(table._replace(judge=broken))) as server:
        status, answer = told(server, "verdicts", "12")
        assert status == 500 and answer["error"] == "the server stumbled; its terminal says more."
        assert told(server, "position", "12")[0] == 200
    err = capfd.readouterr().err
    assert "ZeroDivisionError: a defect" in err and server.token not in err


def test_ports(table, server):
    with pytest.raises(ValueError, match="port must be from 1 to 65535"):
        GameServer(table, port=70000)
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        with pytest.raises(OSError, match="cannot listen on port .* Give another --port"):
            GameServer(table, port=taken.getsockname()[1])
    assert server.server_address[0] == "127.0.0.1"
