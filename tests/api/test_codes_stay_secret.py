"""Every operation that has to do with codes, once; then each place is searched where none of it may be read."""

from __future__ import annotations

import re
import time
from dataclasses import dataclass, field
from datetime import timedelta
from email import message_from_bytes
from email.policy import default
from functools import partial
from typing import TYPE_CHECKING, Any, Final

import httpx
import pytest
from aiosmtpd.controller import Controller
from bson.raw_bson import RawBSONDocument
from pymongo import MongoClient

from schema_user.store.embedded import socket_uri
from tests.conftest import ANY_TLS, age, free_port, reason
from tests.faults.load import GENEROUS
from tests.faults.test_server import serving

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from aiosmtpd.smtp import SMTP, Envelope, Session

    from tests.conftest import Api, Server

GUESS: Final = "QQ77QQ"
"""Not the code, and not to be repeated either: the next guess of whoever reads it may begin there."""
TEMPLATE: Final = "https://app.example.com/landing?who={{.UserID}}&c={{.Code}}"
HUMAN: Final = {"profile": {"givenName": "Minnie", "familyName": "Mouse"}}
_CODE: Final = re.compile(r"landing\?who=[^&]+&c=([A-Z0-9]{6})")


@dataclass
class Inbox:
    """A mail server that refuses some for good, and others for now."""

    texts: dict[str, str] = field(default_factory=dict)

    async def handle_RCPT(  # noqa: N802 -- the name is the server's
        self, server: SMTP, session: Session, envelope: Envelope, address: str, options: list[str]
    ) -> str:
        """Refuse, repeating the address as servers do, or take it."""
        for name, answer in (("parked", "550 5.1.1"), ("later", "451 4.7.1")):
            if address.startswith(name):
                return f"{answer} <{address}> not here"
        envelope.rcpt_tos.append(address)
        return "250 OK"

    async def handle_DATA(self, server: SMTP, session: Session, envelope: Envelope) -> str:  # noqa: N802 -- likewise
        """Keep the text."""
        assert isinstance(envelope.content, bytes)
        text = message_from_bytes(envelope.content, policy=default).get_body(("plain",))
        assert text is not None
        self.texts[envelope.rcpt_tos[0]] = text.get_content()
        return "250 OK"


@dataclass
class Run:
    """One run through the operations: what nobody may read anywhere, and what was answered to errors."""

    server: Server
    api: Api
    schema_id: str
    inbox: Inbox
    folded: set[str] = field(default_factory=set)
    errors: list[str] = field(default_factory=list)

    def secret(self, text: str) -> str:
        """Take down what must not be read."""
        self.folded.add(text.lower())
        return text

    def heard(self, response: httpx.Response) -> None:
        """Keep what an error says, headers included."""
        if not response.is_success:
            response.read()
            self.errors.append(f"{response.headers} {response.text}")

    def person(self, name: str, **way: Any) -> tuple[str, str]:
        """Make a user with an address; give its id and the code that came back, if one did."""
        contact = {"email": {"address": self.secret(f"{name}@example.com"), **way}}
        made = self.api.ok("POST", "/v3alpha/users", {"schemaId": self.schema_id, "data": HUMAN, "contact": contact})
        return made["userId"], self.secret(made.get("emailCode", GUESS))

    def mailed(self, address: str) -> str:
        """Wait for the mail to an address, and give the code in it."""
        eventually(lambda: address in self.inbox.texts)
        found = _CODE.search(self.inbox.texts[address])
        assert found is not None
        self.secret(found[0])
        return self.secret(found[1])

    def refused(self, expected: str, path: str, body: Any) -> None:
        """Ask, and expect this reason."""
        assert reason(self.api.post(path, json=body)) == expected

    def leaks(self, text: str) -> set[str]:
        """Give the secrets that stand in a text."""
        text = text.lower()
        return {each for each in self.folded if each in text}


def eventually(truth: Callable[[], object]) -> None:
    """Wait until it is so."""
    deadline = time.monotonic() + GENEROUS
    while not truth():
        assert time.monotonic() < deadline
        time.sleep(0.05)


@pytest.fixture(scope="module")
def done(short_dir: Path) -> Iterator[Run]:
    """Run through everything on a server of its own, which logs all it can."""
    inbox = Inbox()
    mail = Controller(inbox, hostname="127.0.0.1", port=free_port(), server_hostname="mail.test")
    mail.start()
    environment = {"SCHEMA_USER_SMTP_URL": f"smtp://127.0.0.1:{mail.port}", "SCHEMA_USER_LOG_LEVEL": "DEBUG"}
    try:
        with serving(short_dir / "secrets", environment=environment) as server, server.client() as api:
            found = api.ok("POST", "/v3alpha/user_schemas/search", {"queries": [{"typeQuery": {"type": "human"}}]})
            run = Run(server, api, found["result"][0]["id"], inbox)
            api.event_hooks["response"] = [run.heard]
            run.secret(server.token)
            for part in (by_mail, by_phone, misused, expired, undelivered):
                part(run)
            yield run
    finally:
        mail.stop()


def by_mail(run: Run) -> None:
    """Send, guess, use up the attempts, ask again, return, verify, change, tell the old address, delete."""
    user_id, _ = run.person("minnie", sendCode={"urlTemplate": TEMPLATE})
    path = f"/v3alpha/users/{user_id}/email"
    sent = run.mailed("minnie@example.com")
    for _ in range(5):
        run.refused("CODE_INVALID", f"{path}/verify", {"verificationCode": GUESS})
    run.refused("CODE_ATTEMPTS_EXHAUSTED", f"{path}/verify", {"verificationCode": sent})
    run.refused("RESEND_TOO_SOON", f"{path}/resend", {"returnCode": {}})
    age(run.server, user_id, "email", timedelta(minutes=1))
    again = run.secret(run.api.ok("POST", f"{path}/resend", {"returnCode": {}})["verificationCode"])
    run.api.ok("POST", f"{path}/verify", {"verificationCode": again})
    run.refused("ALREADY_VERIFIED", f"{path}/resend", {})
    run.api.ok("PUT", path, {"address": run.secret("daisy@example.org"), "sendCode": {"urlTemplate": TEMPLATE}})
    run.mailed("daisy@example.org")
    eventually(lambda: "daisy" not in run.inbox.texts.get("minnie@example.com", "daisy"))
    run.api.ok("DELETE", f"/v3alpha/users/{user_id}")


def by_phone(run: Run) -> None:
    """Send to the local mailbox, look at it, return, verify, remove."""
    user_id = run.api.ok("POST", "/v3alpha/users", {"schemaId": run.schema_id, "data": HUMAN})["userId"]
    path = f"/v3alpha/users/{user_id}/phone"
    run.api.ok("PUT", path, {"number": run.secret("+41791234567")})
    eventually(lambda: "+41791234567" in httpx.get(f"{run.server.url}/ui/mailbox", verify=ANY_TLS).text)
    age(run.server, user_id, "phone", timedelta(minutes=1))
    code = run.secret(run.api.ok("POST", f"{path}/resend", {"returnCode": {}})["verificationCode"])
    run.api.ok("POST", f"{path}/verify", {"verificationCode": code})
    run.api.ok("DELETE", path)


def misused(run: Run) -> None:
    """Send codes, addresses and links where they do not belong."""
    user_id, code = run.person("goofy", returnCode={})
    path = f"/v3alpha/users/{user_id}/email"
    run.refused("FIELD_INVALID", f"{path}/verify", {"verificationCode": code * 4})
    run.refused("FIELD_INVALID", f"{path}/verify", {"verificationCode": {code: code}})
    run.refused("FIELD_INVALID", f"{path}/verify", {"verificationCode": code, "address": "goofy@example.com"})
    run.refused("CODE_NOT_PENDING", path.replace("email", "phone/verify"), {"verificationCode": code})
    run.refused("USER_NOT_FOUND", "/v3alpha/users/nobody/email/verify", {"verificationCode": code})
    twice = {"address": "goofy@example.com", "sendCode": {}, "returnCode": {}}
    assert run.api.put(path, json=twice).status_code == 400
    assert run.api.put(path, json={"address": "Goofy <goofy@example.com>"}).status_code == 400
    template = f"http://goofy@example.com/?c={code}"
    assert run.api.put(path, json={"address": "a@b.example", "sendCode": {"urlTemplate": template}}).status_code == 400
    assert run.api.post(f"{path}/{code}", json={}).status_code == 404
    for page in ("email", "phone"):
        link = f"/ui/verify/{page}?userID={user_id}&code={code}&orgID=default&sig={GUESS}"
        for response in (run.api.get(link), run.api.post(link, data={"code": code})):
            run.heard(response)
    run.api.post(f"{path}/verify", content=b'{"verificationCode": "' + code.encode())


def expired(run: Run) -> None:
    """Let a code grow old."""
    user_id, code = run.person("pluto", returnCode={})
    age(run.server, user_id, "email", timedelta(hours=2))
    run.refused("CODE_EXPIRED", f"/v3alpha/users/{user_id}/email/verify", {"verificationCode": code})


def undelivered(run: Run) -> None:
    """Let one mail be refused for good, and another for now; both name the address as they do."""
    for name, state in (("parked", {"state": "parked"}), ("later", {"last_error": {"$exists": True}})):
        user_id, _ = run.person(name, sendCode={"urlTemplate": TEMPLATE})
        with MongoClient[Any](socket_uri(run.server.data_dir)) as client:
            find = partial(client.schema_user.outbox.find_one, {"user_id": user_id, **state})
            eventually(find)
            assert "sealed" in (find() or {})


def test_errors_repeat_nothing(done: Run) -> None:
    """No answer that refuses something repeats what was sent, nor what is known of the user."""
    assert len(done.errors) > 15
    assert not {each for error in done.errors for each in done.leaks(error)}


def test_logs_hold_nothing(done: Run) -> None:
    """Neither the server's log nor any other file beside the mailbox, the secret and the database's own."""
    kept = {"mailbox", "db"}
    files = [each for each in done.server.data_dir.rglob("*") if each.is_file() and not kept & set(each.parts)]
    assert {"server.log", "mongod.log"} <= {each.name for each in files}
    assert not {each for file in files for each in done.leaks(file.read_text(encoding="utf-8", errors="replace"))}
    assert "parked after 1 tries" in done.server.log()
    letters = [each.read_text(encoding="utf-8") for each in (done.server.data_dir / "mailbox").iterdir()]
    assert "+41791234567" in {each for letter in letters for each in done.leaks(letter)}  # so it would be found


def test_metrics_hold_nothing(done: Run) -> None:
    """The figures name no user."""
    text = done.api.get("/metrics").text
    assert "schema_user" in text
    assert not done.leaks(text)


def test_the_database_holds_nothing_in_plain(done: Run) -> None:
    """Addresses stand in their users only; codes, links and tokens nowhere; sealed ones wait in the outbox."""
    with MongoClient[Any](socket_uri(done.server.data_dir), document_class=RawBSONDocument) as client:
        database = client.schema_user
        names = set(database.list_collection_names())
        assert {"users", "history", "outbox", "quotas", "requests"} <= names
        found = {
            (name, secret)
            for name in names
            for document in database[name].find()
            for secret in done.leaks(bytes(document.raw).decode("latin-1"))
        }
    assert {name for name, _ in found} == {"users"}
    assert {secret for _, secret in found} == {f"{who}@example.com" for who in ("goofy", "pluto", "parked", "later")}


def test_slow_statements_are_not_logged(done: Run) -> None:
    """The local database keeps the values of a statement out of its log, however long it takes."""
    found = {"email.value": "pluto@example.com", "$where": "sleep(300) || true"}
    with MongoClient[Any](socket_uri(done.server.data_dir)) as client:
        began = time.monotonic()
        assert client.schema_user.users.find_one(found)
        assert time.monotonic() - began > 0.2
    assert "pluto@example.com" not in (done.server.data_dir / "mongod.log").read_text(encoding="utf-8")
