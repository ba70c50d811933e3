"""Messages as an operator sees them: found, tried again, dropped; a mail server refuses, takes and keeps waiting."""

from __future__ import annotations

import itertools
import threading
import time
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import quote

import pytest
from aiosmtpd.controller import Controller

from tests.conftest import Api, Server, Tenant, free_port, reason, violations

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    import httpx
    from aiosmtpd.smtp import SMTP, Envelope, Session

MESSAGES: Final = "/v3alpha/messages"
USERS: Final = "/v3alpha/users"
ORGANIZATION: Final = "x-zitadel-orgid"
_numbers = itertools.count(1)


class MailServer:
    """Takes mail, or refuses it for good, or thinks about it for as long as a test wants."""

    def __init__(self) -> None:
        """Begin with taking everything."""
        self.refuses = False
        self.thought = threading.Event()
        self.thought.set()
        self.thinking = threading.Event()
        self.taken: list[Envelope] = []

    async def handle_RCPT(  # noqa: N802 -- the name is the server's
        self, _server: SMTP, _session: Session, envelope: Envelope, address: str, _options: list[str]
    ) -> str:
        """Take the recipient, or not."""
        if self.refuses:
            return f"550 5.1.1 <{address}> unknown"
        envelope.rcpt_tos.append(address)
        return "250 OK"

    async def handle_DATA(self, server: SMTP, _session: Session, envelope: Envelope) -> str:  # noqa: N802 -- likewise
        """Take the mail once it was thought about."""
        self.thinking.set()
        await server.loop.run_in_executor(None, self.thought.wait, 20)
        self.taken.append(envelope)
        return "250 OK"

    def to(self, address: str) -> list[str]:
        """Give the text of the mails to an address."""
        texts = [each.content for each in self.taken if address in each.rcpt_tos]
        return [text.decode() for text in texts if isinstance(text, bytes)]


@pytest.fixture(scope="module")
def running_mail() -> Iterator[tuple[MailServer, int]]:
    """Run a mail server for the module."""
    mail, port = MailServer(), free_port()
    controller = Controller(mail, hostname="127.0.0.1", port=port)
    controller.start()
    yield mail, port
    controller.stop()


@pytest.fixture
def mail(running_mail: tuple[MailServer, int]) -> Iterator[MailServer]:
    """Give the mail server, which takes everything at first."""
    server = running_mail[0]
    server.refuses = False
    server.thinking.clear()
    yield server
    server.thought.set()


@pytest.fixture(scope="module")
def server(short_dir: Path, running_mail: tuple[MailServer, int]) -> Iterator[Server]:
    """Run a server that sends its mail to that one."""
    environment = {"SCHEMA_USER_SMTP_URL": f"smtp://127.0.0.1:{running_mail[1]}"}
    running = Server(short_dir / "messages", environment=environment).start()
    yield running
    assert running.stop() == 0
    assert "unexpected" not in running.log(), running.log()


@pytest.fixture(scope="module")
def admin(server: Server) -> Iterator[Api]:
    """Call with the first token."""
    with server.client() as client:
        yield client


@pytest.fixture
def other(tenant: Tenant, admin: Api, server: Server) -> Iterator[Tenant]:
    """Give a second organization with an owner; its users are made of the schema that ships."""
    organization_id = admin.ok("POST", "/v3alpha/organizations", {"name": "Other"})["organizationId"]
    roles = [{"role": "ORG_OWNER", "organizationId": organization_id}]
    with server.client(admin.ok("POST", "/v3alpha/tokens", {"name": "o", "roles": roles})["token"]) as owner:
        yield Tenant(organization_id, owner, tenant.schema_id, server, admin)


def new_address() -> str:
    """Make an address that nobody had; its middle is what no answer may hold."""
    return f"minnie-{next(_numbers)}-{time.time_ns()}@example.com"


def until(check: Callable[[], Any], seconds: float = 20) -> Any:
    """Wait until something is there, and give it."""
    deadline = time.monotonic() + seconds
    while not (found := check()):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    return found


def one(message_id: str, verb: str = "") -> str:
    """Give the path of a message."""
    return f"{MESSAGES}/{quote(message_id, safe='')}{verb}"


def found(api: Api, *queries: dict[str, Any], **body: Any) -> list[dict[str, Any]]:
    """Search messages."""
    result: list[dict[str, Any]] = api.ok("POST", MESSAGES + "/search", {"queries": list(queries), **body})["result"]
    return result


def in_state(api: Api, user_id: str, state: str) -> dict[str, Any]:
    """Wait until a user has a message in a state, and give it."""
    by_user, by_state = {"userIdQuery": {"id": user_id}}, {"stateQuery": {"state": f"MESSAGE_STATE_{state}"}}
    message: dict[str, Any] = until(lambda: found(api, by_user, by_state))[0]
    return message


def refused_user(tenant: Tenant, mail: MailServer, address: str | None = None) -> tuple[str, dict[str, Any]]:
    """Make a user whose mail is refused for good, and give it with the message that was parked."""
    mail.refuses = True
    user_id = tenant.user(contact={"email": {"address": address or new_address()}})
    parked = in_state(tenant.owner, user_id, "PARKED")
    mail.refuses = False
    return user_id, parked


def test_a_refused_message_is_parked_and_says_why(tenant: Tenant, mail: MailServer) -> None:
    """With everything that an operator may know, and neither the address nor the code."""
    address = new_address()
    user_id, parked = refused_user(tenant, mail, address)
    got = tenant.owner.get(one(parked["messageId"]))
    assert got.json() == {"message": parked}
    assert address.partition("@")[0] not in got.text
    created = parked.pop("creationDate")
    assert created.endswith("Z")
    assert parked == {
        "messageId": parked["messageId"],
        "kind": "verify",
        "channel": "email",
        "recipient": "m••••@example.com",
        "state": "MESSAGE_STATE_PARKED",
        "tries": 1,
        "lastError": "SMTPRecipientRefused 550 5.1.1",
        "userId": user_id,
        "organizationId": tenant.organization_id,
    }


def test_a_parked_message_is_sent_once_the_server_is_mended(tenant: Tenant, mail: MailServer) -> None:
    """The code that arrives is good; the recipient stays masked for support, until the user is deleted."""
    address = new_address()
    user_id, parked = refused_user(tenant, mail, address)
    assert not mail.to(address)
    tried = tenant.owner.ok("POST", one(parked["messageId"], "/retry"))["message"]
    assert (tried["state"], tried["tries"]) == ("MESSAGE_STATE_PENDING", 0)
    assert tried["nextTryDate"] >= tried["creationDate"]
    sent = in_state(tenant.owner, user_id, "SENT")
    assert (sent["messageId"], sent["recipient"], sent["tries"]) == (parked["messageId"], "m••••@example.com", 1)
    assert sent["doneDate"] >= sent["creationDate"]
    assert not sent.keys() & {"nextTryDate", "lastError"}
    [text] = mail.to(address)
    code = next(line.strip() for line in text.splitlines() if line.startswith("    ") and len(line.strip()) == 6)
    assert code not in tenant.owner.post(MESSAGES + "/search", json={}).text
    tenant.owner.ok("POST", f"{USERS}/{user_id}/email/verify", {"verificationCode": code})
    tenant.owner.ok("DELETE", f"{USERS}/{user_id}")
    assert "recipient" not in tenant.owner.ok("GET", one(parked["messageId"]))["message"]


def test_a_dropped_message_is_not_sent(tenant: Tenant, mail: MailServer) -> None:
    """Whoever looks later still sees what became of it."""
    address = new_address()
    _, parked = refused_user(tenant, mail, address)
    dropped = tenant.owner.ok("DELETE", one(parked["messageId"]))
    assert dropped == tenant.owner.ok("GET", one(parked["messageId"]))
    assert dropped["message"]["state"] == "MESSAGE_STATE_DROPPED"
    assert dropped["message"]["recipient"] == "m••••@example.com"
    assert dropped["message"]["doneDate"]
    assert not mail.to(address)


@pytest.mark.parametrize("end", ["SENT", "DROPPED"])
def test_a_message_that_is_done_stays_as_it_is(tenant: Tenant, mail: MailServer, end: str) -> None:
    """Neither verb changes it: 400 code 9."""
    user_id, parked = refused_user(tenant, mail)
    method, verb = ("POST", "/retry") if end == "SENT" else ("DELETE", "")
    tenant.owner.ok(method, one(parked["messageId"], verb))
    before = in_state(tenant.owner, user_id, end)
    for response in (
        tenant.owner.post(one(parked["messageId"], "/retry")),
        tenant.owner.delete(one(parked["messageId"])),
    ):
        body = response.json()
        assert (response.status_code, body["code"], reason(response)) == (400, 9, "MESSAGE_DONE")
        assert body["message"] == f"the message was {end.lower()} already"
    assert tenant.owner.ok("GET", one(parked["messageId"])) == {"message": before}


def test_a_message_in_a_worker_s_hands_is_left_alone(tenant: Tenant, mail: MailServer) -> None:
    """409 with the seconds after which it is worth looking again; then it is sent, once."""
    mail.thought.clear()
    address = new_address()
    user_id = tenant.user(contact={"email": {"address": address}})
    assert mail.thinking.wait(20)
    pending = in_state(tenant.owner, user_id, "PENDING")
    for response in (
        tenant.owner.post(one(pending["messageId"], "/retry")),
        tenant.owner.delete(one(pending["messageId"])),
    ):
        assert (response.status_code, response.json()["code"], reason(response)) == (409, 10, "MESSAGE_LEASED")
        assert 0 < int(response.headers["retry-after"]) <= 60
    mail.thought.set()
    in_state(tenant.owner, user_id, "SENT")
    assert len(mail.to(address)) == 1


@pytest.mark.parametrize(
    ("role", "allowed"),
    [
        ("INSTANCE_OWNER", {"get", "search", "retry", "drop"}),
        ("INSTANCE_VIEWER", {"get", "search"}),
        ("ORG_OWNER", {"get", "search", "retry", "drop"}),
        ("ORG_USER_MANAGER", set()),
        ("ORG_USER_VIEWER", set()),
        ("SCHEMA_AUTHOR", set()),
    ],
)
def test_roles_permit_what_their_table_says(
    tenant: Tenant, mail: MailServer, admin: Api, role: str, allowed: set[str]
) -> None:
    """The rest is 403 with the name of the permission."""
    _, parked = refused_user(tenant, mail)
    where = {} if role.startswith("INSTANCE") else {"organizationId": tenant.organization_id}
    token = admin.ok("POST", "/v3alpha/tokens", {"name": "t", "roles": [{"role": role, **where}]})["token"]
    permissions = {"get": "read", "search": "read", "retry": "write", "drop": "delete"}
    mail.refuses = True
    with tenant.server.client(token) as caller:
        results: dict[str, httpx.Response] = {
            "get": caller.get(one(parked["messageId"])),
            "search": caller.post(MESSAGES + "/search", json={}),
            "retry": caller.post(one(parked["messageId"], "/retry")),
        }
        in_state(tenant.owner, parked["userId"], "PARKED")
        results["drop"] = caller.delete(one(parked["messageId"]))
    assert {name for name, response in results.items() if response.status_code == 200} == allowed
    for name in results.keys() - allowed:
        response = results[name]
        assert (response.status_code, response.json()["code"], reason(response)) == (403, 7, "PERMISSION_MISSING")
        assert response.json()["details"][0]["metadata"]["permission"] == f"message.{permissions[name]}"


def test_a_user_does_not_see_its_messages(tenant: Tenant, mail: MailServer) -> None:
    """Self has no role in the organization, so a message is missing and a search forbidden."""
    user_id, parked = refused_user(tenant, mail)
    with tenant.caller(user_id=user_id) as caller:
        assert caller.get(one(parked["messageId"])).status_code == 404
        assert caller.post(MESSAGES + "/search", json={}).status_code == 403


def test_nothing_of_another_organization_is_found(tenant: Tenant, other: Tenant, mail: MailServer, admin: Api) -> None:
    """Whatever the operation it is 404, as if it were not there, and it stays as it was."""
    _, parked = refused_user(tenant, mail)
    header = {ORGANIZATION: other.organization_id}
    for message_id in (parked["messageId"], "no-user:6f1c0a9d2e8b4735a1c6d0e4", "nothing", ":"):
        for api, headers in ((other.owner, {}), (admin, header)):
            for response in (
                api.get(one(message_id), headers=headers),
                api.post(one(message_id, "/retry"), headers=headers),
                api.delete(one(message_id), headers=headers),
            ):
                assert (response.status_code, reason(response)) == (404, "MESSAGE_NOT_FOUND")
    assert found(other.owner) == []
    assert found(other.owner, {"organizationIdQuery": {"organizationId": tenant.organization_id}}) == []
    body = {"queries": [{"userIdQuery": {"id": parked["userId"]}}]}
    assert admin.ok("POST", MESSAGES + "/search", body, headers=header)["result"] == []
    assert admin.ok("POST", MESSAGES + "/search", body)["result"] == [parked]
    assert tenant.owner.get(MESSAGES + "/x", headers=header).status_code == 404
    assert tenant.owner.ok("GET", one(parked["messageId"]))["message"] == parked


def test_messages_of_an_inactive_organization_are_only_read(tenant: Tenant, mail: MailServer, admin: Api) -> None:
    """As everything else in it."""
    user_id, parked = refused_user(tenant, mail)
    admin.ok("POST", f"/v3alpha/organizations/{tenant.organization_id}/deactivate")
    until(lambda: admin.put(f"{USERS}/{user_id}", json={}).status_code == 400)  # this process knows
    for response in (admin.post(one(parked["messageId"], "/retry")), admin.delete(one(parked["messageId"]))):
        assert (response.json()["code"], reason(response)) == (9, "ORGANIZATION_INACTIVE")
    assert admin.ok("GET", one(parked["messageId"]))["message"] == parked


def test_every_query_of_the_search(tenant: Tenant, mail: MailServer) -> None:
    """Each alone, joined and turned round, by the ids that it finds."""
    first, parked = refused_user(tenant, mail)
    second = tenant.user(contact={"phone": {"number": "+41791234567"}})
    sent = in_state(tenant.owner, second, "SENT")
    a, b = parked["messageId"], sent["messageId"]
    user = {"userIdQuery": {"id": first}}
    phone = {"channelQuery": {"channel": "phone"}}
    for query, expected in (
        ({"idQuery": {"id": a}}, {a}),
        ({"stateQuery": {"state": "MESSAGE_STATE_PARKED"}}, {a}),
        ({"stateQuery": {"state": "MESSAGE_STATE_SENT"}}, {b}),
        ({"stateQuery": {"state": "MESSAGE_STATE_DROPPED"}}, set()),
        (phone, {b}),
        ({"kindQuery": {"kind": "verify"}}, {a, b}),
        ({"kindQuery": {"kind": "address_changed"}}, set()),
        (user, {a}),
        ({"organizationIdQuery": {"organizationId": tenant.organization_id}}, {a, b}),
        ({"createdQuery": {"since": sent["creationDate"]}}, {b}),
        ({"createdQuery": {"before": sent["creationDate"]}}, {a}),
        ({"createdQuery": {"since": parked["creationDate"], "before": sent["creationDate"]}}, {a}),
        ({"orQuery": {"queries": [user, phone]}}, {a, b}),
        ({"andQuery": {"queries": [user, phone]}}, set()),
        ({"notQuery": {"query": phone}}, {a}),
    ):
        assert {each["messageId"] for each in found(tenant.owner, query)} == expected, query
    assert sent["recipient"] == "+41••••67"
    assert "+41791234567" not in str(found(tenant.owner))


@pytest.mark.parametrize(
    ("query", "field", "rule"),
    [
        ({}, "queries/0", "alternatives"),
        ({"stateQuery": {"state": "PARKED"}}, "queries/0/stateQuery/state", None),
        ({"channelQuery": {"channel": "pigeon"}}, "queries/0/channelQuery/channel", None),
        ({"createdQuery": {}}, "queries/0/createdQuery", "required"),
        ({"createdQuery": {"since": "2026-01-01T00:00:00"}}, "queries/0/createdQuery/since", None),
        ({"createdQuery": {"since": "0001-01-01T00:00:00+14:00"}}, "queries/0/createdQuery", "range"),
        ({"createdQuery": {"before": "9999-12-31T23:59:59-14:00"}}, "queries/0/createdQuery", "range"),
        ({"recipientQuery": {"recipient": "m"}}, "queries/0/recipientQuery", "unknownField"),
    ],
)
def test_a_wrong_query_is_refused(tenant: Tenant, query: dict[str, Any], field: str, rule: str | None) -> None:
    """With the place and the rule; nobody is found by an address."""
    response = tenant.owner.post(MESSAGES + "/search", json={"queries": [query]})
    wrong = violations(response)
    assert (response.status_code, list(wrong)) == (400, [field]), response.text
    assert rule is None or wrong[field] == rule


@pytest.mark.parametrize("column", ["CREATION_DATE", "NEXT_TRY", "ID"])
def test_pages_follow_one_another(tenant: Tenant, mail: MailServer, column: str) -> None:
    """Sorted either way, each message on one page; a token serves only who got it, for the search it belongs to."""
    mail.refuses = True
    users = {tenant.user(contact={"email": {"address": new_address()}}) for _ in range(3)}
    parked = {"stateQuery": {"state": "MESSAGE_STATE_PARKED"}}
    until(lambda: len(found(tenant.owner, parked)) == 3)
    body: dict[str, Any] = {"queries": [parked], "sortingColumn": f"FIELD_NAME_{column}"}
    for ascending in (True, False):
        body["query"] = {"limit": 2, "asc": ascending}
        first = tenant.owner.ok("POST", MESSAGES + "/search", body)
        assert (first["details"]["totalResult"], len(first["result"])) == ("3", 2)
        onward = body | {"pageToken": first["nextPageToken"]}
        second = tenant.owner.ok("POST", MESSAGES + "/search", onward)
        both = first["result"] + second["result"]
        assert {each["userId"] for each in both} == users
        assert "nextPageToken" not in second
        if column != "NEXT_TRY":  # a parked message has none that is shown
            values = [each["creationDate" if column == "CREATION_DATE" else "messageId"] for each in both]
            assert values == sorted(values, reverse=not ascending)
        with tenant.caller("ORG_OWNER") as stranger:
            assert reason(stranger.post(MESSAGES + "/search", json=onward)) == "PAGE_TOKEN_INVALID"
        assert reason(tenant.owner.post(MESSAGES + "/search", json=onward | {"queries": []})) == "PAGE_TOKEN_INVALID"


def test_a_body_where_none_belongs_is_refused(tenant: Tenant, mail: MailServer) -> None:
    """A retry takes an empty object or nothing."""
    _, parked = refused_user(tenant, mail)
    response = tenant.owner.post(one(parked["messageId"], "/retry"), json={"now": True})
    assert (response.status_code, violations(response)) == (400, {"now": "unknownField"})
    assert tenant.owner.post(one(parked["messageId"], "/retry"), json={}).status_code == 200
