"""A receiver of webhooks on this machine, which takes, refuses or hangs, and checks signatures by its own reading."""

from __future__ import annotations

import base64
import contextlib
import hashlib
import hmac
import json
import threading
import time
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

HANGS = 0
"""In the place of a status: nothing is answered until the receiver is released."""


@dataclass(frozen=True)
class Told:
    """One request that came in."""

    path: str
    headers: dict[str, str]
    body: bytes

    @property
    def event(self) -> dict[str, Any]:
        """What it says."""
        return dict(json.loads(self.body))

    def signed_by(self, secret: str) -> bool:
        """Whether one of its signatures is that of a secret, and its time is now (Standard Webhooks 1.0)."""
        key = base64.b64decode(secret.removeprefix("whsec_"), validate=True)
        at = self.headers["webhook-timestamp"]
        signed = b".".join((self.headers["webhook-id"].encode(), at.encode(), self.body))
        right = base64.b64encode(hmac.new(key, signed, hashlib.sha256).digest()).decode()
        given = [each.split(",", 1) for each in self.headers["webhook-signature"].split(" ")]
        return ["v1", right] in given and abs(int(at) - time.time()) < 300


@dataclass
class Receiver:
    """What came in; ``answer`` gives the status of what goes out, with headers."""

    answer: Callable[[Told], int] = lambda _: 204
    port: int = 0
    headers: dict[str, str] = field(default_factory=dict)
    told: list[Told] = field(default_factory=list)
    released: threading.Event = field(default_factory=threading.Event)

    def url(self, path: str = "/") -> str:
        """Where it listens."""
        return f"http://127.0.0.1:{self.port}{path}"

    def events(self, path: str | None = None) -> list[dict[str, Any]]:
        """Give what it was told, at a path."""
        return [each.event for each in self.told if path in {None, each.path}]

    def types(self, path: str | None = None) -> list[str]:
        """Give the types of what it was told, in no order."""
        return sorted(each["type"] for each in self.events(path))

    def wait(self, count: int, path: str | None = None, seconds: float = 20) -> list[dict[str, Any]]:
        """Wait until it was told so often."""
        deadline = time.monotonic() + seconds
        while len(self.events(path)) < count:
            assert time.monotonic() < deadline, f"told {len(self.events(path))} times, not {count}"
            time.sleep(0.02)
        return self.events(path)


class _Handler(BaseHTTPRequestHandler):
    receiver: Receiver

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["content-length"]))
        told = Told(self.path, {name.lower(): value for name, value in self.headers.items()}, body)
        status = self.receiver.answer(told)
        self.receiver.told.append(told)
        if status == HANGS:
            self.receiver.released.wait(60)
            self.close_connection = True
            return
        self.send_response(status)
        for name, value in self.receiver.headers.items():
            self.send_header(name, value)
        self.send_header("content-length", "0")
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 -- the base names it so
        """Keep quiet."""


@contextlib.contextmanager
def receiving(receiver: Receiver | None = None) -> Iterator[Receiver]:
    """Run a receiver on this machine."""
    running = receiver or Receiver()
    handler = type("Handler", (_Handler,), {"receiver": running})
    with ThreadingHTTPServer(("127.0.0.1", running.port), handler) as server:
        server.daemon_threads = True
        running.port = server.server_address[1]
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        try:
            yield running
        finally:
            running.released.set()
            server.shutdown()
            thread.join()
