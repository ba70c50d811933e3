"""OpenID Connect issuers on this machine: discovery, keys, tokens; and whatever one can do wrong with them."""

from __future__ import annotations

import base64
import contextlib
import dataclasses
import json
import secrets
import threading
import time
import warnings
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any, Self

from joserfc.errors import SecurityWarning
from joserfc.jwk import ECKey, OKPKey, RSAKey
from joserfc.jws import JWSRegistry

from tests.conftest import Server, reason

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

Key = RSAKey | ECKey | OKPKey
AUDIENCE = "schema-user-api"
ROLES = "urn:test:roles"
"""The claim in which roles stand."""


def b64(data: bytes | dict[str, Any]) -> str:
    """Write bytes, or an object as JSON, as a segment of a token."""
    raw = data if isinstance(data, bytes) else json.dumps(data).encode()
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()


def sign(header: bytes | dict[str, Any], payload: bytes | dict[str, Any], key: Any, algorithm: str) -> str:
    """Sign whatever it is."""
    signed = f"{b64(header)}.{b64(payload)}"
    return f"{signed}.{b64(JWSRegistry.algorithms[algorithm].sign(signed.encode(), key))}"


def new_rsa(key_id: str, bits: int = 2048) -> RSAKey:
    """Make an RSA key, a weak one too."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", SecurityWarning)
        return RSAKey.generate_key(bits, {"kid": key_id, "use": "sig"})


@dataclass
class Issuer:
    """One issuer, with claims that all its tokens have, what it publishes, how it answers, and what it was asked."""

    url: str
    always: dict[str, Any] = field(default_factory=dict)
    keys: list[Key] = field(default_factory=lambda: [new_rsa("one")])
    extra: list[Any] = field(default_factory=list)
    discovery: dict[str, Any] = field(default_factory=dict)
    status: int = 200
    location: str | None = None
    delay: float = 0
    padding: int = 0
    asked: list[str] = field(default_factory=list)

    @property
    def key(self) -> Key:
        """The key that it signs with."""
        return self.keys[0]

    def claims(self, **changes: Any) -> dict[str, Any]:
        """Give the claims of a good token, with changes; None leaves one out."""
        now = int(time.time())
        claims = {"iss": self.url, "sub": "s1", "aud": AUDIENCE, "exp": now + 300, "iat": now, "nbf": now}
        return {name: value for name, value in (claims | self.always | changes).items() if value is not None}

    def header(self, **changes: Any) -> dict[str, Any]:
        """Give the header of a good token, with changes; None leaves one out."""
        header = {"alg": "RS256", "typ": "at+jwt", "kid": self.key.kid} | changes
        return {name: value for name, value in header.items() if value is not None}

    def token(
        self, header: dict[str, Any] | None = None, key: Key | None = None, *, roles: Any = None, **claims: Any
    ) -> str:
        """Make a token."""
        made = self.header(**(header or {}))
        held = {} if roles is None else {ROLES: roles}
        return sign(made, self.claims(**held, **claims), key or self.key, made["alg"])

    def answer(self, path: str) -> bytes:
        """Give one of its documents."""
        self.asked.append(path)
        time.sleep(self.delay)
        if path == "/keys":
            document = {"keys": [*(key.as_dict(private=False) for key in self.keys), *self.extra]}
        else:
            document = {"issuer": self.url, "jwks_uri": self.url + "/keys"} | self.discovery
        return json.dumps(document).encode() + b" " * self.padding


class IssuerServer:
    """Serves issuers by the first part of the path."""

    def __init__(self) -> None:
        """Listen on a free port."""
        self.issuers: dict[str, Issuer] = {}
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                name, _, path = self.path[1:].partition("/")
                issuer = outer.issuers[name]
                content = issuer.answer("/" + path)
                self.send_response(issuer.status)
                if issuer.location is not None:
                    self.send_header("Location", issuer.location)
                self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                self.wfile.write(content)

            def log_message(self, *_: Any) -> None:
                """Say nothing."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self._server.handle_error = lambda *_: None  # type: ignore[method-assign] # who asked went away
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)
        self.url = f"http://127.0.0.1:{self._server.server_port}"

    def issuer(self, name: str, **options: Any) -> Issuer:
        """Open an issuer."""
        self.issuers[name] = Issuer(f"{self.url}/{name}", **options)
        return self.issuers[name]

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


def as_owner(issuer: Issuer) -> Issuer:
    """Give the issuer as one whose tokens are all good for something, so that a refusal is of the token's form."""
    return dataclasses.replace(issuer, always={ROLES: ["ORG_OWNER"]})


def status(door: Server, token: str, path: str = "/v3alpha/users/nobody") -> int:
    """Give the status of a read with a token: 401 if it was refused, else what the caller reaches."""
    with door.client(token) as client:
        response = client.get(path)
    if response.status_code == 401:
        assert reason(response) == "TOKEN_INVALID"
    return response.status_code


@contextlib.contextmanager
def serving(issuers: IssuerServer, folder: Path, *, private: str = "", **changes: dict[str, Any]) -> Iterator[Server]:
    """Run a server that knows all the issuers, each with changes to its entry; their organizations are there.

    ``private`` says whether their addresses are allowed: "true", "false", or "" for the default.
    """
    entries = {
        name: {
            "issuer": each.url,
            "audience": AUDIENCE,
            "algorithms": ["RS256", "PS256", "ES256", "EdDSA"],
            "organizationId": "acme",
            "claims": {"roles": ROLES},
        }
        | changes.get(name, {})
        for name, each in issuers.issuers.items()
    }
    folder.mkdir()
    path = folder / "issuers.json"
    path.write_text(json.dumps([*entries.values()]), encoding="utf-8")
    environment = {"SCHEMA_USER_OIDC_ISSUERS": str(path), "SCHEMA_USER_ALLOW_PRIVATE_ADDRESSES": private}
    running = Server(folder, environment=environment).start()
    with running.client() as admin:
        for name in {str(each["organizationId"]) for each in entries.values()}:
            admin.ok("POST", "/v3alpha/organizations", {"name": name, "organizationId": name})
    yield running
    assert running.stop() == 0
    assert "unexpected" not in running.log(), running.log()


def zero_signature(token: str) -> str:
    """Replace an ECDSA signature by zeros, which is the one of any message where nobody looks (CVE-2022-21449)."""
    return token.rpartition(".")[0] + "." + b64(bytes(64))


def random_segment(size: int = 64) -> str:
    """Write a segment that means nothing."""
    return b64(secrets.token_bytes(size))
