"""The pages behind signed links, over HTTP: each state, what they give away, and what they refuse."""

from __future__ import annotations

import itertools
import re
import ssl
import string
from datetime import timedelta
from html import unescape
from types import SimpleNamespace
from typing import TYPE_CHECKING
from urllib.parse import quote, urlsplit

import httpx
import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis
from hypothesis import strategies as st
from litestar import Litestar
from litestar.datastructures import State

from schema_user.api.door import Door
from schema_user.api.metrics import Metrics
from schema_user.api.pages import verification
from schema_user.api.pages.words import WORDS, accepted_language, language_of, spoken
from schema_user.errors import Unavailable
from schema_user.settings import Settings
from schema_user.wiring import utc_now
from tests.conftest import ANY_TLS, Server, age
from tests.links import code_in, links_to, wrong

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.conftest import Api, Tenant

ADDRESSES = {"email": "address", "phone": "number"}
_TLS = ssl.create_default_context()  # reading the certificates takes longer than a visit
_numbers = itertools.count(1)


@pytest.fixture(scope="module")
def server(proxied: Server) -> Server:
    """Call a server that believes a proxy on this machine, so that each visitor has an address of its own."""
    return proxied


@pytest.fixture(scope="module")
def admin(server: Server) -> Iterator[Api]:
    """Call that server with its first token."""
    with server.client() as client:
        yield client


@pytest.fixture(params=sorted(ADDRESSES))
def channel(request: pytest.FixtureRequest) -> str:
    """Run the test once for each channel: one code path serves both."""
    return str(request.param)


class Visitor(httpx.Client):
    """A browser somewhere."""

    def __init__(self, *, address: str | None = None, language: str = "en") -> None:
        """Come from an address that nobody else has, unless one is given."""
        number = next(_numbers)
        came_from = address or f"198.51.{number // 250}.{number % 250}"
        headers = {"X-Forwarded-For": came_from, "Accept-Language": language}
        super().__init__(headers=headers, timeout=30, verify=_TLS)


@pytest.fixture
def visitor() -> Iterator[Visitor]:
    """Give a browser of its own."""
    with Visitor() as made:
        yield made


def new_address(channel: str) -> str:
    """Give an address that nobody has."""
    number = next(_numbers)
    return f"page-{number}@example.com" if channel == "email" else f"+4179{number:03}1234"


def linked_user(tenant: Tenant, channel: str, **body: object) -> tuple[str, str]:
    """Make a user whose address was just sent a code, and give its id with the link."""
    address = new_address(channel)
    user_id = tenant.user(**body)
    tenant.owner.ok("PUT", f"/v3alpha/users/{user_id}/{channel}", {ADDRESSES[channel]: address})
    return user_id, links_to(tenant.server, address)[0]


def user_of(tenant: Tenant, user_id: str) -> dict[str, object]:
    """Give the user as it is."""
    found: dict[str, object] = tenant.owner.ok("GET", f"/v3alpha/users/{user_id}")["user"]
    return found


def is_verified(tenant: Tenant, user_id: str, channel: str) -> bool:
    """Whether the address counts as verified."""
    return bool(user_of(tenant, user_id)["contact"][channel]["isVerified"])  # type: ignore[index]


def words_of(response: httpx.Response) -> str:
    """Give what a person reads on the page."""
    body = response.text.partition("<body>")[2]
    return " ".join(unescape(re.sub(r"<[^>]*>", " ", body)).split())


def exhaust(visitor: Visitor, link: str) -> httpx.Response:
    """Use up the attempts."""
    answers = [visitor.post(link, data={"code": wrong(code_in(link))}) for _ in range(5)]
    return answers[-1]


class TestStates:
    def test_a_link_leads_to_a_form_and_the_form_verifies(self, tenant: Tenant, visitor: Visitor, channel: str) -> None:
        """Opening changes nothing, however often and by HEAD too; posting verifies, and the history names the link."""
        user_id, link = linked_user(tenant, channel)
        before = user_of(tenant, user_id)
        for _ in range(3):
            opened = visitor.get(link)
            assert opened.status_code == 200
            assert f'value="{code_in(link)}"' in opened.text
            assert visitor.head(link).status_code == 200
        assert user_of(tenant, user_id) == before
        done = visitor.post(link, data={"code": code_in(link).lower()})
        assert done.status_code == 200
        assert f"Your {'email address' if channel == 'email' else 'phone number'} is confirmed" in words_of(done)
        assert is_verified(tenant, user_id, channel)

    def test_the_form_posts_back_to_the_link(self, tenant: Tenant, visitor: Visitor, channel: str) -> None:
        """What a browser would send, taken from the page itself, is enough; white space in the code is no harm."""
        user_id, link = linked_user(tenant, channel)
        page = visitor.get(link).text
        action = re.search(r'<form method="post" action="([^"]*)">', page)
        assert action is not None
        code = code_in(link)
        target = httpx.URL(link).join(unescape(action[1]))
        assert str(target) == link
        assert visitor.post(target, data={"code": f" {code[:3]} {code[3:]}\n"}).status_code == 200
        assert is_verified(tenant, user_id, channel)

    def test_a_verified_address_is_said_to_be_so(self, tenant: Tenant, visitor: Visitor, channel: str) -> None:
        """The link stays good for that, by GET and POST, with whatever code; nothing changes."""
        user_id, link = linked_user(tenant, channel)
        visitor.post(link, data={"code": code_in(link)})
        sequence = user_of(tenant, user_id)["details"]
        for response in (
            visitor.get(link),
            visitor.post(link, data={"code": "nonsense"}),
            visitor.post(link, data={"action": "resend"}),
        ):
            assert response.status_code == 200
            assert "already confirmed" in words_of(response)
        assert user_of(tenant, user_id)["details"] == sequence

    def test_a_wrong_code_says_how_many_attempts_are_left(self, tenant: Tenant, visitor: Visitor, channel: str) -> None:
        """The same budget as on the API; the last one ends the code, and a new code begins a new budget."""
        user_id, link = linked_user(tenant, channel)
        bad = wrong(code_in(link))
        for left in ("4 more times", "3 more times", "2 more times", "once more"):
            response = visitor.post(link, data={"code": bad})
            assert response.status_code == 400
            assert left in words_of(response)
            assert f'value="{bad}"' in response.text
        last = visitor.post(link, data={"code": bad})
        assert last.status_code == 400
        assert "no longer valid" in words_of(last)
        right = visitor.post(link, data={"code": code_in(link)})
        assert right.status_code == 429
        assert int(right.headers["retry-after"]) > 0
        assert not is_verified(tenant, user_id, channel)
        assert "no longer valid" in words_of(visitor.get(link))

    @pytest.mark.parametrize("code", ["", "   ", "A" * 21], ids=["empty", "blank", "long"])
    def test_what_cannot_be_a_code_is_not_counted(self, tenant: Tenant, visitor: Visitor, code: str) -> None:
        """The form asks again, and all attempts are left."""
        _, link = linked_user(tenant, "email")
        response = visitor.post(link, data={"code": code})
        assert response.status_code == 400
        assert "Enter the code" in words_of(response)
        assert "4 more times" in words_of(visitor.post(link, data={"code": "AAAAAA"}))

    def test_an_expired_link_gets_another_code(self, tenant: Tenant, visitor: Visitor, channel: str) -> None:
        """It offers one, to the same address only; the old page takes the new code, and the new link works."""
        user_id, link = linked_user(tenant, channel)
        age(tenant.server, user_id, channel, timedelta(hours=2))
        opened = visitor.get(link)
        assert opened.status_code == 200
        assert "has expired" in words_of(opened)
        assert 'name="code"' not in opened.text
        assert visitor.post(link, data={"code": code_in(link)}).status_code == 400
        sent = visitor.post(link, data={"action": "resend"})
        assert (sent.status_code, "on its way" in words_of(sent)) == (200, True)
        assert not is_verified(tenant, user_id, channel)
        contact = user_of(tenant, user_id)["contact"]
        fresh = links_to(tenant.server, contact[channel][ADDRESSES[channel]], 2)[-1]  # type: ignore[index]
        assert fresh != link
        assert f'value="{code_in(fresh)}"' in visitor.get(fresh).text
        assert 'name="code"' in visitor.get(link).text
        assert visitor.post(link, data={"code": code_in(fresh)}).status_code == 200
        assert is_verified(tenant, user_id, channel)

    def test_a_link_whose_code_is_good_sends_no_other(self, tenant: Tenant, visitor: Visitor) -> None:
        """A resend by link needs a dead code: else a scanner that posts could fill a mailbox."""
        user_id, link = linked_user(tenant, "email")
        response = visitor.post(link, data={"action": "resend"})
        assert response.status_code == 200
        assert f'value="{code_in(link)}"' in response.text
        assert user_of(tenant, user_id)["details"]["sequence"] == "2"  # type: ignore[index]
        assert visitor.post(link, data={"code": code_in(link)}).status_code == 200

    def test_resending_too_soon_says_when(self, tenant: Tenant, visitor: Visitor, channel: str) -> None:
        """After the attempts are gone another code may be asked for, but by the ordinary limits."""
        user_id, link = linked_user(tenant, channel)
        exhaust(visitor, link)
        soon = visitor.post(link, data={"action": "resend"})
        assert soon.status_code == 429
        assert 0 < int(soon.headers["retry-after"]) <= 30
        assert "second" in words_of(soon)
        age(tenant.server, user_id, channel, timedelta(seconds=31))
        assert visitor.post(link, data={"action": "resend"}).status_code == 200


class TestNeutral:
    def neutral(self, visitor: Visitor, tenant: Tenant) -> bytes:
        """The page for somebody who knows nothing."""
        url = f"{tenant.server.url}/ui/verify/email?userID=1&code=AAAAAA&orgID=default&sig=AAAAAAAAAAAAAAAA"
        return visitor.get(url).content

    def test_all_that_is_not_genuine_is_answered_alike(
        self, tenant: Tenant, visitor: Visitor, server: Server, channel: str
    ) -> None:
        """Unknown user, another one's link, other organization or channel, wrong signature: byte for byte."""
        user_id, link = linked_user(tenant, channel)
        other_id, _ = linked_user(tenant, channel)
        other_channel = "phone" if channel == "email" else "email"
        foreign = [
            link.replace(user_id, "unknown"),
            link.replace(user_id, other_id),
            link.replace(tenant.organization_id, "default"),
            link.replace(tenant.organization_id, "nowhere"),
            link.replace(f"/{channel}?", f"/{other_channel}?"),
            link[:-1] + ("A" if link[-1] != "A" else "B"),
            link + "A",
            link.partition("&sig=")[0],
            link.partition("?")[0],
            link + "&userID=" + user_id,
            link + "&sig=x",
            link.replace("sig=", "sig=%ff"),
            link.replace("sig=", "sig=%00"),
            link.replace(user_id, "x" * 5000),
            link + "".join(f"&a{n}=1" for n in range(60)),
        ]
        expected = self.neutral(visitor, tenant)
        code = code_in(link)
        for url in foreign:
            for response in (
                visitor.get(url),
                visitor.post(url, data={"code": code}),
                visitor.post(url, data={"action": "resend"}),
            ):
                assert (response.status_code, response.content) == (404, expected), url
        assert not is_verified(tenant, user_id, channel)
        assert "4 more times" in words_of(visitor.post(link, data={"code": wrong(code)}))

    @pytest.mark.parametrize("kill", ["deactivate", "lock", "delete", "address", "remove", "organization"])
    def test_a_dead_link_is_one_of_them(self, tenant: Tenant, visitor: Visitor, channel: str, kill: str) -> None:
        """With the user, its address or its organization the link goes, whether it was used or not."""
        owner, expected = tenant.owner, self.neutral(visitor, tenant)
        links = []
        for used in (False, True):
            user_id, link = linked_user(tenant, channel)
            links.append(link)
            if used:
                visitor.post(link, data={"code": code_in(link)})
            path = f"/v3alpha/users/{user_id}"
            if kill == "delete":
                owner.ok("DELETE", path)
            elif kill == "remove":
                owner.ok("DELETE", f"{path}/{channel}")
            elif kill == "address":
                owner.ok("PUT", f"{path}/{channel}", {ADDRESSES[channel]: new_address(channel), "returnCode": {}})
            elif kill != "organization":
                owner.ok("POST", f"{path}/{kill}")
        if kill == "organization":
            tenant.admin.ok("POST", f"/v3alpha/organizations/{tenant.organization_id}/deactivate")
        for link in links:
            for response in (visitor.get(link), visitor.post(link, data={"code": code_in(link)})):
                assert (response.status_code, response.content) == (404, expected)

    def test_a_code_that_nobody_remembers_makes_a_dead_link(self, tenant: Tenant, visitor: Visitor) -> None:
        """A week after it expired."""
        user_id, link = linked_user(tenant, "email")
        age(tenant.server, user_id, "email", timedelta(days=8))
        assert visitor.get(link).status_code == 404

    def test_the_address_of_a_link_is_not_given_back_by_an_old_one(self, tenant: Tenant, visitor: Visitor) -> None:
        """A link to an address that was replaced stays dead when another address of the user is verified."""
        user_id, link = linked_user(tenant, "email")
        tenant.owner.ok("PUT", f"/v3alpha/users/{user_id}/email", {"address": new_address("email"), "isVerified": True})
        assert visitor.get(link).status_code == 404

    @pytest.mark.parametrize(
        ("body", "headers"),
        [
            (b"code=AAAAAA&code=BBBBBB", {}),
            (b"action=resend&action=resend", {}),
            (b"code=AAAAAA&more=1", {}),
            (b"code=AAAAAA&action=resend", {}),
            (b"action=verify", {}),
            (b"code=%ff%fe", {}),
            ("code=Ä".encode("latin-1"), {}),
            (b"code", {}),
            (b"", {}),
            (b"code=" + b"A" * 9000, {}),
            (b"code=AAAAAA", {"Content-Type": "application/json"}),
            (b"code=AAAAAA", {"Content-Type": "multipart/form-data; boundary=x"}),
            (b"code=AAAAAA", {"Content-Encoding": "gzip"}),
            (b"code=AAAAAA", {"Sec-Fetch-Site": "cross-site"}),
            (b"code=AAAAAA", {"Sec-Fetch-Site": "same-site"}),
            (b"code=AAAAAA", {"Origin": "https://evil.example"}),
        ],
        ids=[
            "code twice",
            "action twice",
            "unknown field",
            "both",
            "unknown action",
            "not UTF-8",
            "not ASCII",
            "no value",
            "nothing",
            "too large",
            "JSON",
            "multipart",
            "packed",
            "cross-site",
            "same-site",
            "origin",
        ],
    )
    def test_a_form_that_no_page_of_ours_sends_counts_nothing(
        self, tenant: Tenant, visitor: Visitor, body: bytes, headers: dict[str, str]
    ) -> None:
        """It is answered by the neutral page, even with a genuine link."""
        _, link = linked_user(tenant, "email")
        content_type = {"Content-Type": "application/x-www-form-urlencoded"}
        response = visitor.post(link, content=body, headers={**content_type, **headers})
        assert (response.status_code, response.content) == (404, self.neutral(visitor, tenant))
        assert "4 more times" in words_of(visitor.post(link, data={"code": "AAAAAA"}))

    @pytest.mark.parametrize(
        "headers",
        [
            {"Sec-Fetch-Site": "same-origin", "Origin": "null"},
            {"Sec-Fetch-Site": "none"},
            {"Origin": "null"},
            {"own": ""},
        ],
        ids=["our page", "reload", "old browser", "own origin"],
    )
    def test_what_browsers_send_from_our_page_is_taken(
        self, tenant: Tenant, visitor: Visitor, headers: dict[str, str]
    ) -> None:
        """A page without a referrer posts from the origin null."""
        _, link = linked_user(tenant, "email")
        sent = {"Origin": tenant.server.url} if "own" in headers else headers
        assert visitor.post(link, data={"code": code_in(link)}, headers=sent).status_code == 200

    def test_a_mail_program_may_add_parameters(self, tenant: Tenant, visitor: Visitor) -> None:
        """Parameters that are none of the link's change nothing."""
        _, link = linked_user(tenant, "email")
        assert visitor.get(f"{link}&utm_source=mail").status_code == 200

    def test_no_other_method(self, tenant: Tenant, visitor: Visitor) -> None:
        """405, with those that are allowed."""
        _, link = linked_user(tenant, "email")
        for method in ("PUT", "DELETE", "PATCH"):
            response = visitor.request(method, link)
            assert response.status_code == 405
            assert set(response.headers["allow"].split(", ")) == {"GET", "HEAD", "OPTIONS", "POST"}


@pytest.fixture
def genuine(tenant: Tenant) -> str:
    """Give a link that works."""
    return linked_user(tenant, "email", data={"name": "Minnie"})[1]


@hypothesis(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(chance=st.data())
def test_any_byte_of_the_link_that_is_changed_makes_it_worthless(
    genuine: str, server: Server, tenant: Tenant, chance: st.DataObject
) -> None:
    """Another byte anywhere but in the code, which only fills in the form, leads to the neutral page."""
    path, _, query = genuine.partition("?")
    code = f"code={code_in(genuine)}"
    places = [place for place in range(len(query)) if not 0 <= place - query.index(code) < len(code)]
    place = chance.draw(st.sampled_from(places))
    byte = chance.draw(st.sampled_from(string.printable).filter(lambda each: each != query[place]))
    tampered = f"{path}?{query[:place]}{quote(byte, safe='')}{query[place + 1 :]}"
    with Visitor() as somebody:
        assert somebody.get(tampered).status_code == 404
    with Visitor() as somebody:
        assert somebody.post(tampered, data={"code": "AAAAAA"}).status_code == 404


class TestLimits:
    def test_a_peer_may_ask_so_often_a_minute(self, tenant: Tenant, visitor: Visitor) -> None:
        """The 121st request of one address is 429 with Retry-After, whatever it asks for; other addresses go on."""
        _, link = linked_user(tenant, "email")
        statuses = {visitor.get(link.replace("sig=", "sig=x")).status_code for _ in range(120)}
        assert statuses == {404}
        over = visitor.get(link)
        assert over.status_code == 429
        assert 0 < int(over.headers["retry-after"]) <= 60
        assert "Too many requests" in words_of(over)
        assert visitor.post(link, data={"code": code_in(link)}).status_code == 429
        with Visitor() as other:
            assert other.get(link).status_code == 200

    def test_a_user_is_asked_for_so_often_a_minute(self, tenant: Tenant, visitor: Visitor) -> None:
        """The 31st opening of genuine links of one user is 429 from wherever; what is not genuine does not count."""
        user_id, link = linked_user(tenant, "email")

        def come(url: str) -> int:
            return visitor.get(url, headers={"X-Forwarded-For": f"203.0.113.{next(_numbers) % 256}"}).status_code

        assert {come(link.replace("sig=", "sig=x")) for _ in range(40)} == {404}
        statuses = [come(link) for _ in range(31)]
        assert statuses == [200] * 30 + [429]
        assert not is_verified(tenant, user_id, "email")
        _, other = linked_user(tenant, "email")
        assert come(other) == 200

    def test_a_header_of_the_client_is_not_believed(self, tenant: Tenant) -> None:
        """Only what the trusted proxy added to the right counts, and two headers that disagree not at all."""
        url = f"{tenant.server.url}/ui/verify/email"
        with Visitor() as proxied:
            mine = proxied.headers["X-Forwarded-For"]
            for number in range(120):
                proxied.get(url, headers={"X-Forwarded-For": f"203.0.113.{number}, {mine}"})
            assert proxied.get(url).status_code == 429
        with Visitor(address="2001:db8:1:2::1") as first, Visitor(address="[2001:db8:1:2::ffff]:99") as neighbour:
            for _ in range(120):
                first.get(url)
            assert neighbour.get(url).status_code == 429


class TestPages:
    def test_every_page_keeps_to_itself(self, tenant: Tenant, visitor: Visitor) -> None:
        """No script, no source but the style in it, no referrer, no copy, no cookie, no frame, in every state."""
        user_id, link = linked_user(tenant, "email")
        pages = [visitor.get(link), visitor.get(link[:-3]), exhaust(visitor, link), visitor.get(link)]
        pages.append(visitor.post(link, data={"action": "resend"}))
        age(tenant.server, user_id, "email", timedelta(hours=2))
        pages.append(visitor.get(link))
        for page in pages:
            headers = page.headers
            parts = (each.strip().partition(" ") for each in headers["content-security-policy"].split(";"))
            policy = {name: value for name, _, value in parts}
            assert policy.pop("style-src").startswith("'sha256-")
            assert policy == {
                "default-src": "'none'",
                "base-uri": "'none'",
                "form-action": "'self'",
                "frame-ancestors": "'none'",
            }
            assert headers["referrer-policy"] == "no-referrer"
            assert headers["x-content-type-options"] == "nosniff"
            assert headers["cache-control"] == "no-store"
            assert headers["cross-origin-opener-policy"] == "same-origin"
            assert headers["content-type"] == "text/html; charset=utf-8"
            assert "set-cookie" not in headers
            assert not re.search(r"<script|<link|<img|https?://|\son\w+=|style=", page.text)

    def test_the_code_in_a_link_is_text_on_the_page(self, tenant: Tenant, visitor: Visitor) -> None:
        """Markup in it, or in what was entered, is shown as it is."""
        _, link = linked_user(tenant, "email")
        hostile = "\"><b x='1'>&amp;"
        bare = link.replace(f"code={code_in(link)}", "code=" + quote(hostile))
        for response in (visitor.get(bare), visitor.post(link, data={"code": hostile})):
            assert "<b x" not in response.text
            shown = re.search(r'name="code" value="([^"]*)"', response.text)
            assert shown is not None
            assert unescape(shown[1]) == hostile

    def test_head_answers_like_get_without_a_body(self, tenant: Tenant, visitor: Visitor) -> None:
        """The same status and headers."""
        _, link = linked_user(tenant, "email")
        got, head = visitor.get(link), visitor.head(link)
        assert head.content == b""
        own = {"date", "x-request-id"}
        assert {k: v for k, v in head.headers.items() if k not in own} == {
            k: v for k, v in got.headers.items() if k not in own
        }

    @pytest.mark.parametrize(
        "language", ["de", *(pytest.param(each, marks=pytest.mark.soak) for each in ("en", "es", "fr"))]
    )
    def test_the_language_is_the_users_and_else_the_browsers(self, tenant: Tenant, language: str) -> None:
        """The user's counts only behind a genuine link; the neutral page would else tell who is who."""
        schema = {"type": "object", "properties": {"preferredLanguage": {"type": "string"}}}
        made = tenant.owner.ok("POST", "/v3alpha/user_schemas", {"type": f"speaks-{language}", "schema": schema})
        spoken_by = {"schemaId": made["id"], "data": {"preferredLanguage": f"{language}-CH"}}
        _, link = linked_user(tenant, "email", **spoken_by)
        _, plain = linked_user(tenant, "email")
        with Visitor(language="fr") as french, Visitor(language=f"xx, {language};q=0.7, en;q=0.5") as same:
            assert f'<html lang="{language}">' in french.get(link).text
            assert WORDS[language]["email.heading"] in words_of(french.get(link))
            assert '<html lang="fr">' in french.get(plain).text
            assert f'<html lang="{language}">' in same.get(plain).text
            assert '<html lang="fr">' in french.get(link[:-1]).text

    def test_the_page_speaks_in_the_name_of_the_organization(self, tenant: Tenant, visitor: Visitor) -> None:
        """As the message did; but only behind a genuine link."""
        _, link = linked_user(tenant, "email")
        path = f"/v3alpha/organizations/{tenant.organization_id}"
        tenant.owner.ok("PUT", path, {"settings": {"sender": {"name": "North & Library"}}})
        assert "North &amp; Library</title>" in visitor.get(link).text
        assert "North" not in visitor.get(link[:-1]).text

    def test_the_phone_link_fits_into_two_text_messages(self, tenant: Tenant) -> None:
        """Its own part is short: 16 characters of signature."""
        _, link = linked_user(tenant, "phone")
        parts = urlsplit(link)
        assert [each.partition("=")[0] for each in parts.query.split("&")] == ["userID", "code", "orgID", "sig"]
        assert len(parts.query.rpartition("sig=")[2]) == 16

    def test_no_code_and_no_link_is_logged_or_counted(self, tenant: Tenant, visitor: Visitor) -> None:
        """Nothing of a visit stands in the log or the metrics, even at the level DEBUG."""
        user_id, link = linked_user(tenant, "email")
        visitor.get(link)
        visitor.post(link, data={"code": wrong(code_in(link))})
        visitor.post(link, data={"code": code_in(link)})
        seen = tenant.server.log() + httpx.get(f"{tenant.server.url}/metrics", verify=ANY_TLS).text
        for secret in (code_in(link), wrong(code_in(link)), link.rpartition("sig=")[2], user_id, "userID="):
            assert secret not in seen


class TestWords:
    def test_every_language_has_the_same_words_and_places(self) -> None:
        """Nothing is missing, and each word has the places for values that the English one has."""
        places = {name: set(re.findall(r"\{(\w+)\}", text)) for name, text in WORDS["en"].items()}
        for words in WORDS.values():
            assert {name: set(re.findall(r"\{(\w+)\}", text)) for name, text in words.items()} == places

    @pytest.mark.parametrize(
        ("header", "language"),
        [
            ("", "en"),
            ("de", "de"),
            ("de-CH, en;q=0.8", "de"),
            ("it, es;q=0.3, fr;q=0.4", "fr"),
            ("*", "en"),
            ("de;q=0, es;q=0.1", "es"),
            ("\x00;;,,q=", "en"),
            ("x" * 5000 + ",de", "en"),
        ],
    )
    def test_the_browser_says_what_it_prefers(self, header: str, language: str) -> None:
        """The best that there is, by quality; nonsense is English."""
        assert accepted_language(header) == language

    @pytest.mark.parametrize(
        ("tag", "language"), [("de-CH", "de"), ("fr_FR", "fr"), ("it", None), ("", None), (None, None), ("../en", None)]
    )
    def test_a_tag_chooses_among_what_there_is(self, tag: str | None, language: str | None) -> None:
        """It comes out of a user's data."""
        assert language_of(tag) == language

    @pytest.mark.parametrize(
        ("seconds", "said"),
        [(1, "1 second"), (119, "119 seconds"), (120, "2 minutes"), (121, "3 minutes"), (86399, "24 hours")],
    )
    def test_a_span_is_never_said_shorter_than_it_is(self, seconds: int, said: str) -> None:
        """Rounded up, in one unit."""
        assert spoken(WORDS["en"], seconds) == said


class Away:
    """Quotas of a database that does not answer."""

    async def take(self, *_: object) -> None:
        """Say so."""
        raise Unavailable("DATABASE_UNAVAILABLE", "the database does not answer", retry_after=2)


@pytest.mark.parametrize(
    "language", ["fr", *(pytest.param(each, marks=pytest.mark.soak) for each in ("de", "en", "es"))]
)
async def test_without_a_database_the_page_says_so(language: str) -> None:
    """503 with Retry-After, in the browser's language, and nothing of the link in it."""
    settings = Settings(public_url="https://users.example.com")
    wiring = SimpleNamespace(settings=settings, quotas=Away(), now=utc_now)
    app = Litestar(verification.ROUTES, state=State({"wiring": wiring}), openapi_config=None, logging_config=None)
    async with httpx.AsyncClient(transport=httpx.ASGITransport(Door(app, Metrics())), base_url="http://test") as client:
        response = await client.get(
            "/ui/verify/email?userID=1&code=AAAAAA&orgID=2&sig=x", headers={"Accept-Language": language}
        )
    assert (response.status_code, response.headers["retry-after"]) == (503, "2")
    assert WORDS[language]["later"] in words_of(response)
    assert "AAAAAA" not in response.text
