"""The token endpoint over HTTP: who gets an access token, what it is good for, when it ends, and who gets none."""

from __future__ import annotations

import base64
import dataclasses
import hmac
import itertools
import json
import subprocess
import sys
import time
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import TYPE_CHECKING, Any

import httpx
import pytest
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_pem_private_key
from joserfc import jwt
from joserfc.jwk import RSAKey
from pymongo import MongoClient

from schema_user.api.cors import Cors
from schema_user.authentication import Gatekeeper
from schema_user.commands import access_tokens
from schema_user.commands.tokens import OPERATOR, CreateToken, create_token, revoke_token
from schema_user.domain.access_token import AccessToken, opened
from schema_user.domain.caller import Grant, TokenKind
from schema_user.domain.keyring import Keyring
from schema_user.domain.permission import Role
from schema_user.errors import Unauthenticated
from schema_user.store.embedded import socket_uri
from schema_user.wiring import utc_now
from tests.api.conftest import FAILURES
from tests.conftest import ANY_TLS, Server, reason, violations
from tests.faults.load import eventually

if TYPE_CHECKING:
    from collections.abc import Iterator

    from schema_user.wiring import Wiring
    from tests.conftest import Api, Tenant

TOKENS, USERS, TOKEN_PATH = "/v3alpha/tokens", "/v3alpha/users", "/oauth/v2/token"
CLIENT_CREDENTIALS = {"grant_type": "client_credentials", "scope": "openid urn:zitadel:iam:org:project:id:zitadel:aud"}
JWT_BEARER = "urn:ietf:params:oauth:grant-type:jwt-bearer"
_peers = itertools.count(1)
SOMEBODY = rsa.generate_private_key(65537, 2048)


@pytest.fixture(scope="module")
def server(proxied: Server) -> Iterator[Server]:
    """Call a server that believes a proxy on this machine, so that each request can come from a peer of its own."""
    yield proxied
    log = proxied.log()
    assert "sut_" not in log
    assert "sua_" not in log


@pytest.fixture(scope="module")
def admin(server: Server) -> Iterator[Api]:
    """Call that server with its first token."""
    with server.client() as client:
        yield client


def ask(server: Server, form: dict[str, str] | bytes, peer: str | None = None, **options: Any) -> httpx.Response:
    """Post to the token endpoint, from a peer of its own unless one is named."""
    number = next(_peers)
    headers = {"X-Forwarded-For": peer or f"198.51.{number // 250}.{number % 250}", **options.pop("headers", {})}
    if isinstance(form, bytes):
        headers.setdefault("Content-Type", "application/x-www-form-urlencoded")
        options["content"] = form
    else:
        options["data"] = form
    return httpx.post(server.url + TOKEN_PATH, headers=headers, timeout=30, **options, verify=ANY_TLS)


def credentials(made: dict[str, Any], **changes: str) -> dict[str, str]:
    """Give the form of a client that knows its token."""
    return {**CLIENT_CREDENTIALS, "client_id": made["tokenId"], "client_secret": made["token"]} | changes


def basic(client_id: str, secret: str) -> dict[str, str]:
    """Give the header of a client that knows its token."""
    return {"Authorization": "Basic " + base64.b64encode(f"{client_id}:{secret}".encode()).decode()}


def error(response: httpx.Response) -> tuple[int, str]:
    """Give the status and the code of a refusal, which has the form of RFC 6749, 5.2."""
    assert response.headers["cache-control"] == "no-store"
    assert response.headers["content-type"] == "application/json"
    body = response.json()
    assert body.keys() == {"error", "error_description"}
    assert body["error_description"].isascii()
    assert ("www-authenticate" in response.headers) == (body["error"] == "invalid_client")
    return response.status_code, body["error"]


def viewer(tenant: Tenant, **body: Any) -> dict[str, Any]:
    """Make a token that reads the users of the tenant."""
    roles = [{"role": "ORG_USER_VIEWER", "organizationId": tenant.organization_id}]
    made: dict[str, Any] = tenant.owner.ok("POST", TOKENS, {"name": "machine", "roles": roles, **body})
    return made


def claims(server: Server, file: dict[str, Any], **changes: Any) -> dict[str, Any]:
    """Give the claims of a good assertion, with changes; None leaves one out."""
    now = int(time.time())
    good = {"iss": file["userId"], "sub": file["userId"], "aud": server.url, "iat": now, "exp": now + 3600}
    return {name: value for name, value in (good | changes).items() if value is not None}


def sign(file: dict[str, Any], body: dict[str, Any], key: Any = None, **header: Any) -> str:
    """Sign claims with the key of a file, or another one."""
    head = {"alg": "RS256", "typ": "JWT", "kid": file["keyId"]} | header
    head = {name: value for name, value in head.items() if value is not None}
    return jwt.encode(head, body, key or RSAKey.import_key(file["key"]), algorithms=[head["alg"]], default_type=None)


def assertion(text: str) -> dict[str, str]:
    """Give the form of a client that signs."""
    return {"grant_type": JWT_BEARER, "assertion": text}


def access(response: httpx.Response) -> str:
    """Give the access token of an answer."""
    assert response.status_code == 200, response.text
    return str(response.json()["access_token"])


def status_with(server: Server, token: str, path: str) -> int:
    """Read something with a token."""
    return httpx.get(
        server.url + path, headers={"Authorization": f"Bearer {token}"}, timeout=30, verify=ANY_TLS
    ).status_code


class TestDiscovery:
    def test_it_names_the_endpoint(self, server: Server) -> None:
        """Issuer and endpoint are those of the public URL, and both grants are there."""
        found = httpx.get(server.url + "/.well-known/openid-configuration", verify=ANY_TLS).json()
        assert (found["issuer"], found["token_endpoint"]) == (server.url, server.url + TOKEN_PATH)
        assert found["grant_types_supported"] == ["client_credentials", JWT_BEARER]


class TestClientCredentials:
    def test_the_token_is_exchanged(self, server: Server, tenant: Tenant) -> None:
        """In the body or in the header, encoded or not, it gives a token of an hour with the same rights."""
        made = viewer(tenant)
        user = f"{USERS}/{tenant.user()}"
        for response in (
            ask(server, credentials(made)),
            ask(server, CLIENT_CREDENTIALS, headers=basic(made["tokenId"], made["token"])),
            ask(
                server,
                CLIENT_CREDENTIALS,
                headers=basic(made["tokenId"], "".join(f"%{ord(each):02x}" for each in made["token"])),
            ),
            ask(
                server,
                {**CLIENT_CREDENTIALS, "client_id": made["tokenId"]},
                headers=basic(made["tokenId"], made["token"]),
            ),
        ):
            token = access(response)
            assert response.json() == {"access_token": token, "expires_in": 3600, "token_type": "Bearer"}
            assert (response.headers["cache-control"], response.headers["pragma"]) == ("no-store", "no-cache")
            assert status_with(server, token, user) == 200
            with server.client(token) as caller:
                assert caller.put(user, json={}).status_code == 403

    def test_changes_bear_the_name_of_the_token(self, server: Server, tenant: Tenant) -> None:
        """The history knows the token, not the access token that stood for it."""
        roles = [{"role": "ORG_USER_MANAGER", "organizationId": tenant.organization_id}]
        made = tenant.owner.ok("POST", TOKENS, {"name": "machine", "roles": roles})
        user = f"{USERS}/{tenant.user()}"
        with server.client(access(ask(server, credentials(made)))) as caller:
            caller.ok("PUT", user, {"data": {"name": "Mickey"}})
        entries = tenant.owner.ok("GET", user + "/history")["result"]
        assert made["tokenId"] in {entry["tokenId"] for entry in entries}

    def test_it_never_outlives_the_token(self, server: Server, tenant: Tenant) -> None:
        """A token that ends before the hour gives an access token that ends with it."""
        made = viewer(tenant, expirationDate=(datetime.now(UTC) + timedelta(minutes=5)).isoformat())
        assert 290 <= ask(server, credentials(made)).json()["expires_in"] <= 300

    def test_another_secret_is_refused(self, server: Server, tenant: Tenant) -> None:
        """Whatever is wrong with id or secret, the answer is one and the same."""
        made, other, key = viewer(tenant), viewer(tenant), viewer(tenant, kind="key")
        answers = [
            ask(server, form)
            for form in (
                credentials(made, client_secret=other["token"]),
                credentials(made, client_secret=made["token"] + "x"),
                credentials(made, client_secret=access(ask(server, credentials(made)))),
                credentials(made, client_id=other["tokenId"]),
                credentials(made, client_id="1"),
                credentials(made, client_id="\0$ne"),
                credentials(made, client_id=key["tokenId"]),
                credentials(made, client_id=key["tokenId"], client_secret=key["key"]),
            )
        ]
        answers.append(ask(server, CLIENT_CREDENTIALS, headers=basic(made["tokenId"], "x")))
        assert {error(answer) for answer in answers} == {(401, "invalid_client")}
        assert len({answer.text for answer in answers}) == 1

    def test_a_revoked_token_gives_none(self, server: Server, tenant: Tenant) -> None:
        """At once, and what it gave before is refused within five seconds."""
        made = viewer(tenant)
        user = f"{USERS}/{tenant.user()}"
        token = access(ask(server, credentials(made)))
        assert status_with(server, token, user) == 200
        tenant.owner.ok("DELETE", f"{TOKENS}/{made['tokenId']}")
        assert error(ask(server, credentials(made))) == (401, "invalid_client")
        eventually(lambda: status_with(server, token, user) == 401, "refusal")

    def test_a_token_of_an_inactive_organization_gives_none(self, server: Server, tenant: Tenant, admin: Api) -> None:
        """Within five seconds of its deactivation there is no new access token, and the old one is refused."""
        made, user = viewer(tenant), f"{USERS}/{tenant.user()}"
        token = access(ask(server, credentials(made)))
        admin.ok("POST", f"/v3alpha/organizations/{tenant.organization_id}/deactivate")
        eventually(lambda: ask(server, credentials(made)).status_code == 401, "refusal of the grant")
        eventually(lambda: status_with(server, token, user) == 401, "refusal of the token")


class TestKey:
    def test_only_the_public_half_is_kept(self, server: Server, tenant: Tenant) -> None:
        """The answer is the key file; what is stored, read and searched holds nothing that signs."""
        made = viewer(tenant, kind="key")
        assert made.keys() == {"tokenId", "type", "keyId", "key", "userId"}
        assert (made["type"], made["keyId"], made["userId"]) == ("serviceaccount", made["tokenId"], made["tokenId"])
        private = load_pem_private_key(made["key"].encode(), None)
        assert isinstance(private, rsa.RSAPrivateKey)
        assert private.key_size == 2048
        with MongoClient[Any](socket_uri(server.data_dir)) as client:
            stored = client.schema_user.tokens.find_one({"_id": made["tokenId"]})
        public = private.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
        assert stored is not None
        assert stored.pop("public_key") == public
        assert not [value for value in stored.values() if isinstance(value, bytes) and len(value) > 32]
        got = tenant.owner.ok("GET", f"{TOKENS}/{made['tokenId']}")["token"]
        (found,) = tenant.owner.ok("POST", TOKENS + "/search", {"queries": [{"nameQuery": {"name": "machine"}}]})[
            "result"
        ]
        assert got == found
        assert got["kind"] == "key"
        assert "key" not in got

    def test_nobody_grants_more_than_they_hold(self, tenant: Tenant) -> None:
        """For keys the same as for tokens: no role beyond one's own, and token.write for any."""
        body = {"name": "k", "kind": "key", "roles": [{"role": "INSTANCE_VIEWER"}]}
        assert tenant.owner.post(TOKENS, json=body).status_code == 403
        with tenant.caller("ORG_USER_MANAGER") as manager:
            roles = [{"role": "ORG_USER_VIEWER", "organizationId": tenant.organization_id}]
            assert manager.post(TOKENS, json={"name": "k", "kind": "key", "roles": roles}).status_code == 403
            assert manager.post(TOKENS, json={"name": "k", "kind": "key", "userId": tenant.user()}).status_code == 403
        refused = tenant.owner.post(TOKENS, json={"name": "k", "kind": "lock", "roles": []})
        assert (refused.status_code, list(violations(refused))) == (400, ["kind"])

    def test_a_key_is_no_bearer_token(self, server: Server, tenant: Tenant) -> None:
        """Neither half of it, nor what it has signed, opens the door by itself."""
        made, user = viewer(tenant, kind="key"), f"{USERS}/{tenant.user()}"
        for secret in (made["keyId"], made["key"].replace("\n", ""), sign(made, claims(server, made))):
            assert status_with(server, secret, user) == 401


class TestAssertion:
    def test_it_is_exchanged(self, server: Server, tenant: Tenant) -> None:
        """As often as it is presented while it is good, whatever scope and client id stand beside it."""
        made, user = viewer(tenant, kind="key"), f"{USERS}/{tenant.user()}"
        signed = sign(made, claims(server, made))
        for more in ({}, {"scope": "openid"}, {"client_id": "None"}):
            token = access(ask(server, assertion(signed) | more))
            assert status_with(server, token, user) == 200
        for good in (
            sign(made, claims(server, made), typ=None),
            sign(made, claims(server, made, aud=[server.url])),
            sign(made, claims(server, made, aud=server.url + "/")),
            sign(made, claims(server, made, nbf=int(time.time()), jti="1", more={"a": [1]})),
            sign(made, claims(server, made, iat=int(time.time()) + 30)),
        ):
            access(ask(server, assertion(good)))

    def test_it_acts_as_its_user(self, server: Server, tenant: Tenant) -> None:
        """A key for a user names the user as subject; locked or deleted, the user gets none, and none holds."""
        user_id = tenant.user()
        made = tenant.owner.ok("POST", TOKENS, {"name": "self", "kind": "key", "userId": user_id})
        assert made["userId"] == user_id
        user = f"{USERS}/{user_id}"
        token = access(ask(server, assertion(sign(made, claims(server, made)))))
        assert status_with(server, token, user) == 200
        assert status_with(server, token, f"{USERS}/{tenant.user()}") == 404
        for end in (("POST", user + "/lock"), ("DELETE", user)):
            tenant.owner.ok(*end)
            eventually(
                lambda: "invalid_grant" in ask(server, assertion(sign(made, claims(server, made)))).text,
                "refusal of the grant",
            )
            eventually(lambda: status_with(server, token, user) == 401, "refusal of the token")
            if end[0] == "POST":
                tenant.owner.ok("POST", user + "/unlock")
                eventually(lambda: status_with(server, token, user) == 200, "return")

    def test_a_revoked_key_signs_for_nothing(self, server: Server, tenant: Tenant) -> None:
        """At once; what it gave before is refused within five seconds."""
        made, user = viewer(tenant, kind="key"), f"{USERS}/{tenant.user()}"
        token = access(ask(server, assertion(sign(made, claims(server, made)))))
        tenant.owner.ok("DELETE", f"{TOKENS}/{made['tokenId']}")
        assert error(ask(server, assertion(sign(made, claims(server, made))))) == (400, "invalid_grant")
        eventually(lambda: status_with(server, token, user) == 401, "refusal")

    def test_a_key_that_has_expired_signs_for_nothing(self, server: Server, tenant: Tenant) -> None:
        """From the moment of its end."""
        soon = datetime.now(UTC) + timedelta(seconds=2)
        made = viewer(tenant, kind="key", expirationDate=soon.isoformat())
        eventually(lambda: ask(server, assertion(sign(made, claims(server, made)))).is_error, "refusal")
        assert error(ask(server, assertion(sign(made, claims(server, made))))) == (400, "invalid_grant")

    @pytest.mark.parametrize(
        ("changes", "header"),
        [
            pytest.param({"aud": "https://elsewhere.example"}, {}, id="audience"),
            pytest.param({"aud": None}, {}, id="no-audience"),
            pytest.param({"aud": []}, {}, id="audience-of-nobody"),
            pytest.param({"aud": 1}, {}, id="audience-number"),
            pytest.param({"iss": "1"}, {}, id="issuer"),
            pytest.param({"iss": None}, {}, id="no-issuer"),
            pytest.param({"sub": "1"}, {}, id="subject"),
            pytest.param({"sub": None}, {}, id="no-subject"),
            pytest.param({"sub": ["1"]}, {}, id="subject-list"),
            pytest.param({"exp": None}, {}, id="no-end"),
            pytest.param({"iat": None}, {}, id="no-beginning"),
            pytest.param({"exp": 3661}, {}, id="over-an-hour"),
            pytest.param({"iat": -3700, "exp": 100}, {}, id="old-and-long"),
            pytest.param({"iat": -3600, "exp": -61}, {}, id="expired"),
            pytest.param({"iat": 300}, {}, id="of-the-future"),
            pytest.param({"nbf": 300}, {}, id="not-yet"),
            pytest.param({"exp": float("nan")}, {}, id="never-ending"),
            pytest.param({"exp": float("inf")}, {}, id="endless"),
            pytest.param({"exp": True}, {}, id="end-truth"),
            pytest.param({"exp": 10**400, "iat": 0.5}, {}, id="end-too-large"),
            pytest.param({}, {"kid": "1"}, id="unknown-key"),
            pytest.param({}, {"kid": None}, id="no-key"),
            pytest.param({}, {"kid": "../../etc/passwd"}, id="key-path"),
            pytest.param({}, {"kid": "1' or '1'='1"}, id="key-injection"),
            pytest.param({}, {"alg": "RS512"}, id="algorithm"),
            pytest.param({}, {"alg": "PS256"}, id="padding"),
            pytest.param({}, {"typ": "at+jwt"}, id="type"),
            pytest.param({}, {"jku": "https://elsewhere.example/keys"}, id="key-elsewhere"),
            pytest.param({}, {"jwk": RSAKey.import_key(SOMEBODY).as_dict(private=False)}, id="key-inside"),
            pytest.param({}, {"x5u": "https://elsewhere.example/x"}, id="certificate-elsewhere"),
            pytest.param({}, {"crit": ["exp"], "exp": 1}, id="critical"),
        ],
    )
    def test_what_is_not_right_is_refused(
        self, server: Server, tenant: Tenant, changes: dict[str, Any], header: dict[str, Any]
    ) -> None:
        """Claims that are missing, foreign, too long or not of now, and headers beyond alg, kid and typ."""
        made, now = viewer(tenant, kind="key"), int(time.time())
        near = {
            name: now + value if name in {"iat", "exp", "nbf"} and type(value) is int and abs(value) < 10**6 else value
            for name, value in changes.items()
        }
        body = claims(server, made, **near)
        head = {"alg": "RS256", "typ": "JWT", "kid": made["keyId"]} | header
        head = {name: value for name, value in head.items() if value is not None}
        assert error(ask(server, assertion(by_hand(head, body, made["key"])))) == (400, "invalid_grant")

    def test_what_is_not_signed_by_the_key_is_refused(self, server: Server, tenant: Tenant) -> None:
        """Another key, another's key, no signature, the public key as a secret, altered bytes, or no JWT."""
        made, other = viewer(tenant, kind="key"), viewer(tenant, kind="key")
        body = claims(server, made)
        good = sign(made, body)
        head, payload, signature = good.split(".")
        public = load_pem_private_key(made["key"].encode(), None).public_key()
        pem = public.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
        confused = f"{_segment({'alg': 'HS256', 'kid': made['keyId']})}.{payload}"
        more = _segment({**body, "sub": other["userId"], "iss": other["userId"]})
        for text in (
            sign(made, body, RSAKey.import_key(SOMEBODY)),
            sign(made, body, RSAKey.import_key(other["key"])),
            sign(made, body, kid=other["keyId"]),
            *(f"{_segment({'alg': alg, 'kid': made['keyId']})}.{payload}." for alg in ("none", "None", "NONE", "")),
            f"{_segment({'alg': 'none', 'kid': made['keyId']})}.{payload}.{signature}",
            f"{confused}.{_segment(hmac.digest(pem, confused.encode(), 'sha256'))}",
            f"{head}.{payload}.",
            f"{head}.{payload}",
            f"{head}.{more}.{signature}",
            f"{head}.{payload}.{signature[:-4]}",
            f"{head}.{payload}.{'A' * len(signature)}",
            f"{head}.{payload}.{signature}.{signature}",
            f"{head}..{signature}",
            f"{_segment([1])}.{payload}.{signature}",
            f"{_segment('alg')}.{payload}.{signature}",
            f"{'W1tb' * 100}.{payload}.{signature}",
            f"!{good}",
            "x",
            "ä.ö.ü",
            "\0",
        ):
            answer = ask(server, assertion(text))
            assert error(answer) == (400, "invalid_grant"), text
        access(ask(server, assertion(good)))

    def test_a_payload_that_is_no_object_is_refused(self, server: Server, tenant: Tenant) -> None:
        """Signed by the right key, but text, a list, deep nesting or nothing that can be read."""
        made = viewer(tenant, kind="key")
        head = {"alg": "RS256", "kid": made["keyId"]}
        for raw in (b'"x"', b"[]", b"{", b"\xff", b"[" * 4000, b'{"exp":' + b"9" * 5000 + b"}"):
            assert error(ask(server, assertion(by_hand(head, raw, made["key"])))) == (400, "invalid_grant")


def _segment(value: Any) -> str:
    raw = value if isinstance(value, bytes) else json.dumps(value).encode()
    return base64.urlsafe_b64encode(raw).decode().rstrip("=")


def by_hand(head: dict[str, Any], body: Any, key: str) -> str:
    """Sign what the library would not, as RS256 or as the header's algorithm if it can."""
    from cryptography.hazmat.primitives.asymmetric import padding
    from cryptography.hazmat.primitives.hashes import SHA256, SHA512

    private = load_pem_private_key(key.encode(), None)
    assert isinstance(private, rsa.RSAPrivateKey)
    signed = f"{_segment(head)}.{_segment(body)}"
    digest = SHA512() if head["alg"] == "RS512" else SHA256()
    filling = padding.PSS(padding.MGF1(SHA256()), 32) if head["alg"] == "PS256" else padding.PKCS1v15()
    return f"{signed}.{_segment(private.sign(signed.encode(), filling, digest))}"


class TestRequest:
    @pytest.mark.parametrize(
        ("form", "expected"),
        [
            pytest.param(b"", (400, "invalid_request"), id="empty"),
            pytest.param(b"client_id=1&client_secret=x", (400, "invalid_request"), id="no-grant"),
            pytest.param(b"grant_type=password&client_id=1", (400, "unsupported_grant_type"), id="password"),
            pytest.param(b"grant_type=authorization_code&code=1", (400, "unsupported_grant_type"), id="code"),
            pytest.param(b"grant_type=client_credentials", (401, "invalid_client"), id="nobody"),
            pytest.param(
                b"grant_type=client_credentials&client_id=&client_secret=", (401, "invalid_client"), id="blank"
            ),
            pytest.param(
                b"grant_type=client_credentials&client_id=1&client_id=1&client_secret=x",
                (400, "invalid_request"),
                id="twice",
            ),
            pytest.param(b"&".join(b"a%d=1" % n for n in range(40)), (400, "invalid_request"), id="many"),
            pytest.param(b"grant_type=\xff", (400, "invalid_request"), id="bytes"),
            pytest.param(b"grant_type=%ff", (400, "invalid_request"), id="not-utf-8"),
            pytest.param(b"a=" + b"x" * 16 * 1024, (413, "invalid_request"), id="large"),
            pytest.param(b"grant_type=" + JWT_BEARER.encode(), (400, "invalid_request"), id="no-assertion"),
            pytest.param(
                b"grant_type=" + JWT_BEARER.encode() + b"&assertion=x&client_secret=y",
                (400, "invalid_request"),
                id="both-grants",
            ),
        ],
    )
    def test_malformed(self, server: Server, form: bytes, expected: tuple[int, str]) -> None:
        """What is not a request for an access token is refused in the words of RFC 6749."""
        assert error(ask(server, form)) == expected

    def test_only_a_form_is_read(self, server: Server, tenant: Tenant) -> None:
        """JSON, a compressed body, parameters in the address and a large body of no length are refused; so is GET."""
        form = credentials(viewer(tenant))
        body = httpx.QueryParams(form).__str__().encode()
        refused = (400, "invalid_request")
        as_json = {"Content-Type": "application/json"}
        assert error(ask(server, json.dumps(form).encode(), headers=as_json)) == refused
        assert error(ask(server, body, headers={"Content-Encoding": "gzip"})) == refused
        assert error(ask(server, body, params={"scope": "x"})) == refused
        chunks = iter([b"a=", b"x" * 20_000])
        headers = {"Content-Type": "application/x-www-form-urlencoded"}
        large = httpx.post(server.url + TOKEN_PATH, content=chunks, headers=headers, verify=ANY_TLS)
        assert error(large) == (413, "invalid_request")
        assert httpx.get(server.url + TOKEN_PATH, verify=ANY_TLS).status_code == 405

    def test_one_way_of_authentication(self, server: Server, tenant: Tenant) -> None:
        """Not two at once, not one that contradicts the body, and no other scheme than Basic."""
        made = viewer(tenant)
        header = basic(made["tokenId"], made["token"])
        both = ask(server, credentials(made), headers=header)
        assert error(both) == (400, "invalid_request")
        other = ask(server, {**CLIENT_CREDENTIALS, "client_id": "1"}, headers=header)
        assert error(other) == (400, "invalid_request")
        signed = ask(server, assertion("x"), headers=header)
        assert error(signed) == (400, "invalid_request")
        for text in ("Bearer " + made["token"], "Basic", "Basic !", "Basic " + base64.b64encode(b"\xff:x").decode()):
            refused = ask(server, CLIENT_CREDENTIALS, headers={"Authorization": text})
            assert error(refused) == (401, "invalid_client")

    @pytest.mark.parametrize("method", ["POST", "OPTIONS"])
    def test_pages_are_not_let_in(self, method: str) -> None:
        """Not even those of origins that may call everything else."""
        page = {b"origin": b"https://app.example.com", b"access-control-request-method": b"POST"}
        cors = Cors(["https://app.example.com"])
        scope = {"method": method, "path": TOKEN_PATH}
        assert (cors.headers(scope, page), cors.preflight(scope, page)) == ((), None)

    def test_a_peer_that_fails_often_waits(self, server: Server, tenant: Tenant) -> None:
        """Its refused requests are counted, not the others; other peers are not kept waiting."""
        made, peer = viewer(tenant), "203.0.113.9"
        wrong = credentials(made, client_secret="x")
        for _ in range(FAILURES - 1):
            assert error(ask(server, wrong, peer)) == (401, "invalid_client")
        for _ in range(FAILURES):
            access(ask(server, credentials(made), peer))
        assert error(ask(server, wrong, peer)) == (401, "invalid_client")
        waits = ask(server, credentials(made), peer)
        assert error(waits) == (429, "temporarily_unavailable")
        assert 1 <= int(waits.headers["retry-after"]) <= 60
        access(ask(server, credentials(made)))


def _same(moment: datetime) -> datetime:
    return moment


class TestAccessToken:
    async def test_it_ends_by_itself(self, wiring: Wiring) -> None:
        """An hour after it was made, to the millisecond, by the clock of the service; nothing was stored for it."""
        made = await create_token(wiring, OPERATOR, CreateToken("m", (Grant(Role.INSTANCE_VIEWER),)))
        granted = await access_tokens.grant_by_secret(wiring, made.token.token_id, [made.secret])
        assert granted is not None
        ends = opened(wiring.keyring, granted.access_token)
        assert ends is not None
        for now, lets_in in ((ends.expires_at - timedelta(milliseconds=1), True), (ends.expires_at, False)):
            later = Gatekeeper(dataclasses.replace(wiring, now=partial(_same, now)))
            if lets_in:
                assert (await later.caller(granted.access_token)).token_id == made.token.token_id
            else:
                with pytest.raises(Unauthenticated):
                    await later.caller(granted.access_token)

    async def test_only_this_instance_makes_it(self, wiring: Wiring) -> None:
        """Sealed by another key, for another purpose, altered in any place or cut short, it is none."""
        made = await create_token(wiring, OPERATOR, CreateToken("m", (Grant(Role.INSTANCE_VIEWER),)))
        gatekeeper = Gatekeeper(wiring)
        genuine = AccessToken(made.token.token_id, utc_now() + timedelta(hours=1))
        text = genuine.sealed(wiring.keyring)
        assert (await gatekeeper.caller(text)).token_id == made.token.token_id
        foreign = genuine.sealed(Keyring(["another secret of nobody, long enough"]))
        sealed = base64.urlsafe_b64encode(wiring.keyring.seal(b"x", "page")).decode().rstrip("=")
        turned = [text[:place] + ("A" if text[place] != "A" else "B") + text[place + 1 :] for place in range(4, 60, 7)]
        for wrong in (foreign, "sua_" + sealed, *turned, text[:-8], text + "!", "sua_", "sua_\u00e9", text.upper()):
            with pytest.raises(Unauthenticated):
                await gatekeeper.caller(wrong)

    async def test_a_rotated_key_still_opens_it(self, wiring: Wiring) -> None:
        """While the old secret of the instance stands beside the new one."""
        text = AccessToken("1", utc_now()).sealed(Keyring(["the old secret of the instance, long"]))
        both = Keyring(["the new secret of the instance, long", "the old secret of the instance, long"])
        found = opened(both, text)
        assert found is not None
        assert found.token_id == "1"

    async def test_it_follows_the_roles_of_its_parent(self, wiring: Wiring) -> None:
        """It has no rights of its own: what the token loses, it loses, and with the token everything."""
        made = await create_token(wiring, OPERATOR, CreateToken("m", (Grant(Role.INSTANCE_VIEWER),)))
        text = AccessToken(made.token.token_id, utc_now() + timedelta(hours=1)).sealed(wiring.keyring)
        now = [0.0]
        gatekeeper = Gatekeeper(wiring, clock=lambda: now[0])
        assert (await gatekeeper.caller(text)).grants == made.token.grants
        await revoke_token(wiring, OPERATOR, made.token.token_id)
        now[0] += 2
        with pytest.raises(Unauthenticated):
            await gatekeeper.caller(text)


def _last_use(api: Api, path: str) -> str:
    return str(api.ok("GET", path)["token"].get("lastUsedAt", ""))


class TestSecrets:
    async def test_a_client_that_is_not_there_costs_the_same(
        self, wiring: Wiring, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Each secret is compared, in constant time, whether there is such a token, such a key, or nothing."""
        compared: list[tuple[int, int]] = []
        real = hmac.compare_digest

        def compare(a: bytes, b: bytes) -> bool:
            compared.append((len(a), len(b)))
            return real(a, b)

        grants = (Grant(Role.INSTANCE_VIEWER),)
        bearer = await create_token(wiring, OPERATOR, CreateToken("m", grants))
        key = await create_token(wiring, OPERATOR, CreateToken("k", grants, kind=TokenKind.KEY))
        monkeypatch.setattr(hmac, "compare_digest", compare)
        for token_id in (bearer.token.token_id, key.token.token_id, "17"):
            assert await access_tokens.grant_by_secret(wiring, token_id, ["wrong", "too"]) is None
        assert compared == [(32, 32)] * 6


class TestLastUse:
    def test_it_is_shown(self, server: Server, tenant: Tenant) -> None:
        """Absent before the first use; then the time of a use, also of one by an access token."""
        for kind in ("bearer", "key"):
            made = viewer(tenant, kind=kind)
            one = f"{TOKENS}/{made['tokenId']}"
            assert not _last_use(tenant.owner, one)
            began = utc_now()
            token = made.get("token") or access(ask(server, assertion(sign(made, claims(server, made)))))
            assert status_with(server, token, f"{USERS}/{tenant.user()}") == 200
            eventually(partial(_last_use, tenant.owner, one), "the time of use")
            used = datetime.fromisoformat(_last_use(tenant.owner, one))
            assert began <= used <= datetime.now(UTC)

    async def test_one_write_a_minute(self, wiring: Wiring) -> None:
        """However many processes note uses, the time stands for a minute, and then moves."""
        made = await create_token(wiring, OPERATOR, CreateToken("m", (Grant(Role.INSTANCE_VIEWER),)))
        token_id, first = made.token.token_id, utc_now()
        for later, noted in ((0, 0), (1, 0), (59.9, 0), (-30, 0), (60, 60), (100, 60)):
            await wiring.tokens.used(token_id, first + timedelta(seconds=later))
            found = await wiring.tokens._tokens_stored.find_one({"_id": token_id})  # before a majority has it
            assert found is not None
            assert found["last_used_at"] == first + timedelta(seconds=noted)

    async def test_a_token_that_is_gone_stays_gone(self, wiring: Wiring) -> None:
        """To note a use makes no token."""
        await wiring.tokens.used("17", utc_now())
        assert await wiring.tokens.find("17") is None

    async def test_refused_tokens_are_not_in_use(self, wiring: Wiring) -> None:
        """A token that lets nobody in leaves no time of use."""
        made = await create_token(
            wiring, OPERATOR, CreateToken("m", (Grant(Role.INSTANCE_VIEWER),), None, utc_now() + timedelta(hours=1))
        )
        late = Gatekeeper(dataclasses.replace(wiring, now=lambda: utc_now() + timedelta(hours=2)))
        with pytest.raises(Unauthenticated):
            await late.caller(made.secret)
        assert not late._noting


class TestCommand:
    def test_a_key_is_made_by_hand(self, server: Server, admin: Api) -> None:
        """`token create --key` prints the file of a key that works; `token list` shows what it is."""
        run = [sys.executable, "-m", "schema_user.cli", "token"]
        line = [*run, "create", "by hand", "--role", "INSTANCE_VIEWER", "--key"]
        made = json.loads(subprocess.run(line, env=server.env(), capture_output=True, text=True, check=True).stdout)
        assert made.keys() == {"type", "keyId", "key", "userId"}
        token = access(ask(server, assertion(sign(made, claims(server, made)))))
        with server.client(token) as caller:
            assert caller.get("/v3alpha/organizations/default").status_code == 200
            denied = caller.put("/v3alpha/organizations/default", json={"name": "x"})
            assert (denied.status_code, reason(denied)) == (403, "PERMISSION_MISSING")
        wide = {**server.env(), "COLUMNS": "200"}
        listed = subprocess.run([*run, "list"], env=wide, capture_output=True, text=True, check=True).stdout
        (row,) = [row for row in listed.splitlines() if made["keyId"] in row]
        assert "key" in row
        admin.ok("DELETE", f"{TOKENS}/{made['keyId']}")
