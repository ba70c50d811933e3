"""What every answer tells browsers, and which pages of other origins may call."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import httpx
import pytest

from schema_user.api.door import Door
from schema_user.api.metrics import Metrics
from schema_user.api.reply import GUARDS
from schema_user.settings import SettingsError, read_settings
from tests.api.test_rate_limits import answering
from tests.conftest import ANY_TLS, fresh_uri

if TYPE_CHECKING:
    from collections.abc import Mapping

    from tests.conftest import Api, Server

APP = "https://app.example.com"
_NAMES = {name.decode() for name, _ in GUARDS}
_ASKED = {"Origin": APP, "Access-Control-Request-Method": "PUT", "Access-Control-Request-Headers": "authorization"}


def crossing(answer: httpx.Response) -> list[str]:
    """Give what an answer says of other origins."""
    found = [name for name in answer.headers if name.startswith("access-control-")]
    return [*found, *(["vary"] if "Origin" in answer.headers.get("vary", "") else [])]


class TestGuards:
    @pytest.mark.parametrize(
        ("method", "path", "status"),
        [
            ("GET", "/v3alpha/organizations/default", 200),
            ("GET", "/v3alpha/users/1", 404),
            ("GET", "/nowhere", 404),
            ("POST", "/v3alpha/users/1", 405),
            ("OPTIONS", "/v3alpha/users/1", 204),
            ("PUT", "/v3alpha/users/1", 415),
            ("GET", "/health/live", 200),
            ("GET", "/health/ready", 200),
            ("GET", "/openapi.json", 200),
            ("GET", "/docs", 200),
            ("GET", "/metrics", 200),
            ("GET", "/ui/mailbox", 200),
            ("GET", "/ui/messages/preview", 200),
            ("GET", "/ui/verify/email", 404),
            ("HEAD", "/ui/verify/phone", 404),
        ],
    )
    def test_on_every_answer(self, admin: Api, method: str, path: str, status: int) -> None:
        """Each of them is there once, whatever answers; nothing may be framed, sniffed or run."""
        answer = admin.request(method, path)
        assert answer.status_code == status
        names = [name.decode().lower() for name, _ in answer.headers.raw]
        assert {name: names.count(name) for name in _NAMES} == dict.fromkeys(_NAMES, 1)
        assert answer.headers["x-content-type-options"] == "nosniff"
        policy = answer.headers["content-security-policy"]
        assert "default-src 'none'" in policy
        assert "frame-ancestors 'none'" in policy
        assert "unsafe" not in policy
        assert "strict-transport-security" not in names, "the public URL is http"
        assert crossing(answer) == [], "no origin is set"

    def test_without_a_token_too(self, server: Server) -> None:
        """A refusal at the door has them as well, and an answer that the client has already."""
        refused = httpx.get(f"{server.url}/v3alpha/users/1", verify=ANY_TLS)
        etag = httpx.get(f"{server.url}/docs", verify=ANY_TLS).headers["etag"]
        known = httpx.get(f"{server.url}/docs", headers={"If-None-Match": etag}, verify=ANY_TLS)
        assert (refused.status_code, known.status_code) == (401, 304)
        assert set(refused.headers) & set(known.headers) >= _NAMES

    async def test_behind_https(self, mongod_uri: str) -> None:
        """Where the public URL is https, browsers are told to come by it only."""
        async with answering(fresh_uri(mongod_uri), public_url="https://users.example.com") as client:
            found = [(await client.get(path)).headers for path in ("/health/live", "/v3alpha/users/1", "/docs")]
        assert {headers["strict-transport-security"] for headers in found} == {"max-age=31536000"}


class TestAllow:
    @pytest.mark.parametrize(
        ("path", "methods"),
        [
            ("/v3alpha/users/1", "DELETE, GET, OPTIONS, PATCH, PUT"),
            ("/v3alpha/users/1/email", "DELETE, OPTIONS, PUT"),
            ("/v3alpha/user_schemas/1", "DELETE, GET, OPTIONS, PATCH, PUT"),
            ("/v3alpha/organizations", "OPTIONS, POST"),
        ],
    )
    def test_all_methods_of_a_path(self, admin: Api, path: str, methods: str) -> None:
        """OPTIONS names every method of a path, and so does the refusal of another one."""
        assert admin.options(path).headers["allow"] == methods
        refused = admin.request("TRACE", path)
        assert refused.status_code == 405
        assert sorted(each.strip() for each in refused.headers["allow"].split(",")) == methods.split(", ")


class TestCors:
    async def test_an_origin_that_is_let_in(self, mongod_uri: str) -> None:
        """Its preflight needs no token; its answers, refusals too, can be read, without cookies."""
        async with answering(fresh_uri(mongod_uri), cors_origins=(APP, "http://localhost:3000")) as client:
            client.headers.pop("Authorization")
            asked = await client.options("/v3alpha/users/1", headers=_ASKED)
            refused = await client.get("/v3alpha/users/1", headers={"Origin": APP})
            other = await client.get("/openapi.json", headers={"Origin": "http://localhost:3000"})
        assert (asked.status_code, asked.content) == (204, b"")
        assert asked.headers["access-control-allow-origin"] == APP
        assert {"PUT", "PATCH", "DELETE"} <= set(asked.headers["access-control-allow-methods"].split(", "))
        taken = asked.headers["access-control-allow-headers"].split(", ")
        assert {"authorization", "content-type", "if-match", "idempotency-key", "x-zitadel-orgid"} <= set(taken)
        assert asked.headers["access-control-max-age"] == "7200"
        assert (refused.status_code, refused.headers["access-control-allow-origin"]) == (401, APP)
        assert {"etag", "retry-after", "x-request-id"} <= set(
            refused.headers["access-control-expose-headers"].split(", ")
        )
        assert other.headers["access-control-allow-origin"] == "http://localhost:3000"
        for answer in (asked, refused, other):
            assert "Origin" in answer.headers["vary"]
            assert "access-control-allow-credentials" not in answer.headers

    async def test_any_other_origin(self, mongod_uri: str) -> None:
        """It gets the answers of everybody; a cache is told that others may get more."""
        others = (
            "https://evil.example",
            "null",
            "https://app.example.com.evil.example",
            "http://app.example.com",
            APP + ":8443",
            "*",
            "",
        )
        async with answering(fresh_uri(mongod_uri), cors_origins=(APP,)) as client:
            client.headers.pop("Authorization")
            for origin in others:
                asked = await client.options("/v3alpha/users/1", headers={**_ASKED, "Origin": origin})
                read = await client.get("/health/live", headers={"Origin": origin})
                assert asked.status_code == 401, origin
                assert crossing(asked) == crossing(read) == ["vary"], origin

    async def test_what_is_not_crossed(self, mongod_uri: str) -> None:
        """Pages for people, and the metrics, are no page's to read: this machine may see them without a token."""
        async with answering(fresh_uri(mongod_uri), cors_origins=(APP,)) as client:
            for path in ("/metrics", "/ui/mailbox", "/ui/messages/preview", "/ui/verify/email"):
                assert crossing(await client.get(path, headers={"Origin": APP})) == []
                assert crossing(await client.options(path, headers=_ASKED)) == []

    async def test_options_that_is_no_preflight(self, mongod_uri: str) -> None:
        """Without the method that is asked for it is a request as any other, and needs a token."""
        async with answering(fresh_uri(mongod_uri), cors_origins=(APP,)) as client:
            known = await client.options("/v3alpha/users/1", headers={"Origin": APP})
            client.headers.pop("Authorization")
            unknown = await client.options("/v3alpha/users/1", headers={"Origin": APP})
        assert (known.status_code, known.headers["allow"]) == (204, "DELETE, GET, OPTIONS, PATCH, PUT")
        assert unknown.status_code == 401

    @pytest.mark.parametrize(
        ("text", "origins"),
        [
            ("https://App.example.com:443, http://localhost:3000/", (APP, "http://localhost:3000")),
            ("http://[::1]:8080", ("http://[::1]:8080",)),
            ("", ()),
        ],
    )
    def test_setting(self, text: str, origins: tuple[str, ...]) -> None:
        """Origins are taken as browsers write them."""
        assert read_settings({"SCHEMA_USER_CORS_ORIGINS": text}).cors_origins == origins

    @pytest.mark.parametrize(
        "text",
        [
            "*",
            "null",
            "https://*.example.com",
            APP + "/path",
            APP + "?x",
            "https://me@app.example.com",
            "app.example.com",
            "ftp://app.example.com",
            "https://",
            f"{APP},*",
            APP + ":x",
        ],
    )
    def test_setting_refused(self, text: str) -> None:
        """No patterns, nothing that anybody can be, nothing but an origin."""
        with pytest.raises(SettingsError, match="CORS_ORIGINS"):
            read_settings({"SCHEMA_USER_CORS_ORIGINS": text})


class TestConnectionHeader:
    @pytest.mark.parametrize(("version", "told"), [("1.1", [b"close"]), ("1.0", [b"close"]), ("2", []), ("3", [])])
    async def test_only_where_there_is_one(self, version: str, told: list[bytes]) -> None:
        """An answer to a body that was not read ends a connection of HTTP/1; HTTP/2 forbids the header."""
        sent: list[Mapping[str, Any]] = []

        async def inner(scope: Any, receive: Any, send: Any) -> None:
            await send({"type": "http.response.start", "status": 200, "headers": []})

        async def send(message: Mapping[str, Any]) -> None:
            sent.append(message)

        async def receive() -> Any:
            return {"type": "http.disconnect"}

        scope = {
            "type": "http",
            "http_version": version,
            "method": "POST",
            "path": "/health/live",
            "headers": [(b"content-length", b"5")],
        }
        door: Any = Door(inner, Metrics())  # type: ignore[arg-type]  # any ASGI application
        await door(scope, receive, send)
        assert [value for name, value in sent[0]["headers"] if name == b"connection"] == told
