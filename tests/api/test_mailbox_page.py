"""The page with the messages of the local default."""

from __future__ import annotations

import re
import time
from typing import TYPE_CHECKING

import httpx
import pytest

from schema_user.api.ui import linked
from tests.conftest import ANY_TLS, Server, fresh_uri, reason

if TYPE_CHECKING:
    from pathlib import Path

    from tests.conftest import Tenant

CODE = re.compile(r"\b[ACDEFGHJKMNPQRTUVWXY34679]{6}\b")


def article(server: Server, recipient: str) -> str:
    """Wait for a message to somebody, and give its part of the page."""
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        page = httpx.get(f"{server.url}/ui/mailbox", verify=ANY_TLS).text
        for part in page.split("<article>")[1:]:
            if recipient in part:
                return part
        time.sleep(0.05)
    raise AssertionError("no message came")


@pytest.mark.parametrize("channel", ["email", "phone"])
def test_a_code_on_the_page_verifies(tenant: Tenant, channel: str) -> None:
    """What a person reads there is what the service takes."""
    address = "page@example.com" if channel == "email" else "+41791230001"
    user_id = tenant.user()
    tenant.owner.ok(
        "PUT",
        f"/v3alpha/users/{user_id}/{channel}",
        {"address" if channel == "email" else "number": address, "sendCode": {}},
    )
    code = CODE.search(article(tenant.server, address))
    assert code
    tenant.owner.ok("POST", f"/v3alpha/users/{user_id}/{channel}/verify", {"verificationCode": code[0]})


def test_a_link_of_the_client_can_be_followed(tenant: Tenant) -> None:
    """The link of a urlTemplate is a link on the page, and tells the other side nothing of it."""
    template = "https://app.example.com/v?u={{.UserID}}&c={{.Code}}"
    tenant.owner.ok(
        "PUT",
        f"/v3alpha/users/{(user_id := tenant.user())}/email",
        {"address": "link@example.com", "sendCode": {"urlTemplate": template}},
    )
    part = article(tenant.server, "link@example.com")
    assert f'<a href="https://app.example.com/v?u={user_id}&amp;c=' in part
    assert 'rel="noopener noreferrer"' in part


def test_the_page_keeps_what_it_shows_to_itself(server: Server) -> None:
    """No script, nothing from elsewhere, no copy in a cache, no trace in a referrer."""
    response = httpx.get(f"{server.url}/ui/mailbox", verify=ANY_TLS)
    assert response.status_code == 200
    assert response.headers["content-type"] == "text/html; charset=utf-8"
    assert response.headers["cache-control"] == "no-store"
    assert response.headers["referrer-policy"] == "no-referrer"
    policy = response.headers["content-security-policy"]
    assert policy.startswith("default-src 'none'; style-src 'sha256-")
    assert "unsafe" not in policy
    assert "<script" not in response.text
    assert '<meta http-equiv="refresh" content="5">' in response.text


@pytest.mark.parametrize(
    "headers",
    [{"X-Forwarded-For": "203.0.113.7"}, {"Forwarded": "for=203.0.113.7"}, {"Host": "rebound.example.com"}],
    ids=["proxied", "forwarded", "rebound name"],
)
def test_from_elsewhere_there_is_no_page(server: Server, headers: dict[str, str]) -> None:
    """Behind a proxy, or under a foreign name, even the first token sees nothing; without one it is 401."""
    assert httpx.get(f"{server.url}/ui/mailbox", headers=headers, verify=ANY_TLS).status_code == 401
    with server.client() as api:
        response = api.get("/ui/mailbox", headers=headers)
    assert (response.status_code, reason(response)) == (404, "PATH_UNKNOWN")


def test_with_a_database_elsewhere_there_is_no_page(short_dir: Path, mongod_uri: str) -> None:
    """Nothing goes to a mailbox then; what has no transport waits, and the log says so."""
    environment = {
        "SCHEMA_USER_MONGODB_URI": fresh_uri(mongod_uri),
        "SCHEMA_USER_SECRET_KEY": "a secret of the tests without any comma",
    }
    server = Server(short_dir / "elsewhere", environment=environment).start()
    try:
        assert httpx.get(f"{server.url}/ui/mailbox", verify=ANY_TLS).status_code == 404
    finally:
        server.stop()
    assert server.log().count("no transport for email") == 1
    assert server.log().count("no transport for phone") == 1
    assert not (server.data_dir / "mailbox").exists()


def test_only_web_addresses_become_links() -> None:
    """Markup in a message stays text, and a link is taken whole."""
    assert linked("<b> x@example.com https://a.example/?c=1&d=(2) end") == (
        '&lt;b&gt; x@example.com <a href="https://a.example/?c=1&amp;d=(2)" rel="noopener noreferrer">'
        "https://a.example/?c=1&amp;d=(2)</a> end"
    )
    assert linked('https://a.example/"><script>').count("<") == 2
