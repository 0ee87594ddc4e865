"""The server behind the page: on this machine only, and only for whoever has the address that was printed.

Another page in the same browser can send requests here, and a name on the internet can be made to point here. Hence every
request carries a secret, names this machine as its host, and comes from nowhere else.
"""

import hmac
import json
import secrets
import sys
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from socketserver import TCPServer
from typing import Any, NamedTuple
from urllib.parse import parse_qs, urlsplit

import numpy as np
from jinja2 import Environment, PackageLoader, StrictUndefined

from narrows.envs.connect_four import ConnectFour
from narrows.games.session import SIDES, Table
from narrows.games.web.answers import QUESTIONS, Answers

HOST = "127.0.0.1"
TOKEN_HEADER = "X-Narrows-Token"
MOST_BYTES = 4096
"""The longest question: hundreds of moves."""

_JSON, _HTML = "application/json; charset=utf-8", "text/html; charset=utf-8"


class _Refusal(NamedTuple):
    """Why a request is not answered, and what to do."""

    status: HTTPStatus
    reason: str


class GameServer(ThreadingHTTPServer):
    """Serves one table until `shutdown`; a context manager that closes its port.

    Args:
        table: the game, the opponent, and whom to ask.
        side: 0 if the person plays first unless they choose otherwise, 1 if second.
        port: to listen on; 0 for a free one.
        generator: randomness of the opponent.
        seconds: how long to wait for the judge.

    Attributes:
        url: where the page is, with the secret; to be shown to nobody but the person.
    """

    daemon_threads = True

    def __init__(
        self, table: Table, side: int = 0, *, port: int = 0, generator: np.random.Generator | None = None, seconds: float = 10.0
    ) -> None:
        if not 0 <= port <= 65535:
            raise ValueError(f"port must be from 1 to 65535, or 0 for a free one, got {port}.")
        self.answers = Answers(table, generator or np.random.default_rng(), seconds)
        self.side = side
        self.token = secrets.token_urlsafe(32)
        try:
            super().__init__((HOST, port), _Handler)
        except OSError as error:
            raise OSError(
                f"cannot listen on port {port}: {error.strerror}. Give another --port, or 0 for a free one."
            ) from None
        self.hosts = (f"{HOST}:{self.server_port}", f"localhost:{self.server_port}")
        self.url = f"http://{self.hosts[0]}/?token={self.token}"

    def server_bind(self) -> None:
        # Not HTTPServer's, which asks the network for a name of this machine that nobody reads.
        TCPServer.server_bind(self)
        self.server_name, self.server_port = HOST, int(self.server_address[1])

    def handle_error(self, request: Any, client_address: Any) -> None:
        # A browser that goes away in the middle is no news.
        if not isinstance(sys.exception(), ConnectionError | TimeoutError):
            super().handle_error(request, client_address)


class _Handler(BaseHTTPRequestHandler):
    """Answers one request: the connection ends with it, so that nothing outlives the server and no thread waits."""

    protocol_version = "HTTP/1.1"
    server_version = "narrows"
    sys_version = ""
    timeout = 60.0
    server: GameServer  # pyright: ignore[reportIncompatibleVariableOverride]  # which is the only one that makes handlers

    def do_GET(self) -> None:
        refusal = self._gate(parse_qs(urlsplit(self.path).query).get("token", []))
        if refusal is None and urlsplit(self.path).path != "/":
            refusal = _Refusal(HTTPStatus.NOT_FOUND, "there is nothing here. The page is at the address that was printed.")
        if refusal is not None:
            return self._refuse(refusal)
        nonce = secrets.token_urlsafe(16)
        text = _page(self.server.answers.table, self.server.side, nonce)
        self._send(HTTPStatus.OK, text.encode(), _HTML, _policy_of(nonce))

    def do_POST(self) -> None:
        question = self.path.removeprefix("/")
        refusal = self._gate(self.headers.get_all(TOKEN_HEADER, []))
        if refusal is None and question not in QUESTIONS:
            refusal = _Refusal(HTTPStatus.NOT_FOUND, f"there is nothing here. Questions: {', '.join(QUESTIONS)}.")
        refusal = refusal or self._body_refusal()
        if refusal is not None:
            return self._refuse(refusal)
        body = self.rfile.read(int(self.headers["Content-Length"]))
        try:
            answer = self.server.answers.to(question, body)
        except ValueError as error:
            return self._say(HTTPStatus.UNPROCESSABLE_ENTITY, {"error": str(error)})
        except Exception:
            self._refuse(_Refusal(HTTPStatus.INTERNAL_SERVER_ERROR, "the server stumbled; its terminal says more."))
            raise
        self._say(HTTPStatus.OK, answer)

    def do_other(self) -> None:
        """Refuse a method that nothing here needs."""
        refusal = self._gate(self.headers.get_all(TOKEN_HEADER, []))
        self._refuse(refusal or _Refusal(HTTPStatus.METHOD_NOT_ALLOWED, "expected GET or POST."))

    do_HEAD = do_PUT = do_DELETE = do_PATCH = do_OPTIONS = do_TRACE = do_CONNECT = do_other

    def _gate(self, tokens: list[str]) -> _Refusal | None:
        """Return why whoever asks is not let in."""
        hosts = self.headers.get_all("Host", [])
        if len(hosts) != 1 or hosts[0].lower() not in self.server.hosts:
            return _Refusal(HTTPStatus.FORBIDDEN, f"expected to be called {self.server.hosts[0]}.")
        origins = self.headers.get_all("Origin", [])
        if any(origin.lower() not in [f"http://{host}" for host in self.server.hosts] for origin in origins):
            return _Refusal(HTTPStatus.FORBIDDEN, "another page asks. Only the board's own may.")
        if len(tokens) != 1 or not hmac.compare_digest(tokens[0].encode(errors="replace"), self.server.token.encode()):
            return _Refusal(HTTPStatus.FORBIDDEN, "the token is missing or wrong. Use the whole address that was printed.")
        return None

    def _body_refusal(self) -> _Refusal | None:
        """Return why the body is not read."""
        lengths = self.headers.get_all("Content-Length", [])
        if "Transfer-Encoding" in self.headers or len(lengths) != 1 or not (lengths[0].isascii() and lengths[0].isdigit()):
            return _Refusal(HTTPStatus.LENGTH_REQUIRED, "expected a body with one Content-Length.")
        if len(lengths[0]) > 9 or int(lengths[0]) > MOST_BYTES:
            return _Refusal(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, f"expected at most {MOST_BYTES} bytes.")
        if self.headers.get_content_type() != "application/json":
            return _Refusal(HTTPStatus.UNSUPPORTED_MEDIA_TYPE, "expected Content-Type: application/json.")
        return None

    def _refuse(self, refusal: _Refusal) -> None:
        self._say(refusal.status, {"error": refusal.reason})

    def _say(self, status: HTTPStatus, answer: object) -> None:
        self._send(status, json.dumps(answer, allow_nan=False).encode(), _JSON, "default-src 'none'; frame-ancestors 'none'")

    def _send(self, status: HTTPStatus, body: bytes, kind: str, policy: str) -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("Content-Security-Policy", policy)
        self.send_header("X-Content-Type-Options", "nosniff")
        self.send_header("Referrer-Policy", "no-referrer")
        self.send_header("Cross-Origin-Resource-Policy", "same-origin")
        self.send_header("Cross-Origin-Opener-Policy", "same-origin")
        self.send_header("Cache-Control", "no-store")
        if status is HTTPStatus.METHOD_NOT_ALLOWED:
            self.send_header("Allow", "GET, POST")
        self.send_header("Connection", "close")  # which also sets what the library looks at
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def send_error(self, code: int, message: str | None = None, explain: str | None = None) -> None:
        """Answer what the library could not read as a request, without repeating any of it."""
        self._refuse(_Refusal(HTTPStatus(code), "this is not a request that is understood here."))

    def log_message(self, format: str, *args: Any) -> None:
        """Write nothing: lines of a log would hold the token."""


def _policy_of(nonce: str) -> str:
    """Return the content security policy under which the page works: its own style and script, and questions to its server."""
    return (
        f"default-src 'none'; script-src 'nonce-{nonce}'; style-src 'nonce-{nonce}'; connect-src 'self'; img-src data:; "
        "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    )


def _page(table: Table, side: int, nonce: str) -> str:
    """Return the page as HTML text.

    Args:
        table: the game, the opponent, and whom to ask.
        side: 0 if the person plays first unless they choose otherwise, 1 if second.
        nonce: what lets the style and the script of this copy of the page work, and no other.
    """
    environment = Environment(
        loader=PackageLoader("narrows.games.web"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    num_rows, num_columns = table.env.board
    drops = isinstance(table.env, ConnectFour)
    return environment.get_template("page.html.j2").render(
        title="Connect-4" if drops else "Tic-tac-toe",
        goal="four" if drops else "three",
        drops=drops,
        num_rows=num_rows,
        num_columns=num_columns,
        names=table.env.action_names,
        opponent=table.opponent.name,
        side=SIDES[side],
        has_adviser=table.adviser is not None,
        has_judge=table.judge is not None,
        nonce=nonce,
    )
