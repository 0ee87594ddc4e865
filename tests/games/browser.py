"""A headless Chromium and the little of its DevTools protocol that a test needs: press, click, touch, look."""

import base64
import contextlib
import json
import os
import shutil
import socket
import struct
import subprocess
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

BINARY = next((found for name in ("chromium", "chromium-browser", "google-chrome") if (found := shutil.which(name))), None)


class Page:
    """One page of a browser, over a WebSocket."""

    def __init__(self, address):
        host, port, path = address.removeprefix("ws://").replace("/", ":", 1).split(":", 2)
        self._socket = socket.create_connection((host, int(port)), timeout=10)
        key = base64.b64encode(os.urandom(16)).decode()
        self._socket.sendall(
            f"GET /{path} HTTP/1.1\r\nHost: {host}:{port}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            f"Sec-WebSocket-Key: {key}\r\nSec-WebSocket-Version: 13\r\n\r\n".encode()
        )
        self._stream = self._socket.makefile("rb")
        assert b" 101 " in self._stream.readline()
        while self._stream.readline().strip():
            pass
        self._number = 0
        self.events = []

    def close(self):
        self._stream.close()
        self._socket.close()

    def call(self, method, **params):
        """Ask the browser for something and return its answer; events that come before it are kept."""
        self._number += 1
        self._send(json.dumps({"id": self._number, "method": method, "params": params}).encode())
        while True:
            message = json.loads(self._receive())
            if message.get("id") == self._number:
                assert "error" not in message, (method, message["error"])
                return message["result"]
            self.events.append(message)

    def look(self, expression):
        """Return the value of an expression in the page."""
        result = self.call("Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in result, result["exceptionDetails"]
        return result["result"].get("value")

    def wait(self, expression, seconds=8.0):
        """Wait until an expression is true in the page."""
        end = time.monotonic() + seconds
        while not self.look(expression):
            assert time.monotonic() < end, f"never true: {expression}\n{self.look('document.body.innerText')}"
            time.sleep(0.03)

    def press(self, key, **extra):
        text = {"text": key} if len(key) == 1 else {"text": "\r"} if key == "Enter" else {}
        code = {"Enter": 13, "ArrowLeft": 37, "ArrowUp": 38, "ArrowRight": 39, "ArrowDown": 40, "Tab": 9}.get(
            key, ord(key[0].upper())
        )
        self.call("Input.dispatchKeyEvent", type="keyDown", key=key, windowsVirtualKeyCode=code, **text, **extra)
        self.call("Input.dispatchKeyEvent", type="keyUp", key=key, windowsVirtualKeyCode=code, **extra)

    def click(self, selector):
        x, y = self._middle(selector)
        for kind in ("mouseMoved", "mousePressed", "mouseReleased"):
            button = {} if kind == "mouseMoved" else {"button": "left", "clickCount": 1}
            self.call("Input.dispatchMouseEvent", type=kind, x=x, y=y, **button)

    def touch(self, selector):
        x, y = self._middle(selector)
        self.call("Input.dispatchTouchEvent", type="touchStart", touchPoints=[{"x": x, "y": y}])
        self.call("Input.dispatchTouchEvent", type="touchEnd", touchPoints=[])

    def picture(self, path):
        Path(path).write_bytes(base64.b64decode(self.call("Page.captureScreenshot")["data"]))

    def _middle(self, selector):
        """Return where a person would point at the first element that a selector names."""
        self.look(f"document.querySelector({json.dumps(selector)}).scrollIntoView({{block: 'nearest'}})")
        box = f"document.querySelector({json.dumps(selector)}).getBoundingClientRect()"
        return self.look(f"[{box}.x + {box}.width / 2, {box}.y + {box}.height / 2]")

    def _send(self, payload):
        size = len(payload)
        header = struct.pack("!BB", 0x81, 0x80 | size) if size < 126 else struct.pack("!BBH", 0x81, 0x80 | 126, size)
        mask = os.urandom(4)
        self._socket.sendall(header + mask + bytes(byte ^ mask[place % 4] for place, byte in enumerate(payload)))

    def _receive(self):
        payload, is_last = b"", False
        while not is_last:
            first, size = struct.unpack("!BB", self._stream.read(2))
            is_last = bool(first & 0x80)
            if size >= 126:
                (size,) = struct.unpack("!H" if size == 126 else "!Q", self._stream.read(2 if size == 126 else 8))
            payload += self._stream.read(size)
        return payload


@contextlib.contextmanager
def browsing(width=1200, height=900) -> Iterator[Page]:
    """Give an empty page of a fresh browser, which is ended whatever happens."""
    assert BINARY is not None
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile:
        browser = subprocess.Popen(
            [BINARY, "--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run",
             "--hide-scrollbars", "--disable-background-networking", "--remote-debugging-port=0", f"--user-data-dir={profile}",
             f"--window-size={width},{height}", "about:blank"],
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        try:
            port = _port(Path(profile) / "DevToolsActivePort")
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/json/list", timeout=10) as answer:
                address = next(page["webSocketDebuggerUrl"] for page in json.load(answer) if page["type"] == "page")
            page = Page(address)
            try:
                page.call("Page.enable")
                page.call("Runtime.enable")
                page.call("Log.enable")
                yield page
            finally:
                page.close()
        finally:
            browser.kill()
            browser.wait()


def _port(file):
    end = time.monotonic() + 15
    while time.monotonic() < end:
        with contextlib.suppress(OSError, ValueError, IndexError):
            return int(file.read_text().split()[0])
        time.sleep(0.03)
    raise AssertionError("the browser did not start")
