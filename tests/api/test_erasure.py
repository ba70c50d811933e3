"""The deletion of a user, tested by looking for everything that was known of it in the whole database."""

from __future__ import annotations

import time
from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Final

import msgspec
from bson.raw_bson import RawBSONDocument
from pymongo import MongoClient

from schema_user.commands.change import Decision, Target, change_user
from schema_user.commands.tokens import OPERATOR, CreateToken, create_token
from schema_user.commands.users import delete_user
from schema_user.domain.contact import Channel
from schema_user.domain.message import ADDRESS_CHANGED
from schema_user.domain.search import fold
from schema_user.domain.user import erased
from schema_user.store.embedded import socket_uri
from schema_user.store.relay import Relay
from schema_user.store.users import UserStore
from tests.store.post import SECRETS, outbox, person
from tests.unit.test_docs import CODE, table

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from schema_user.domain.user import User
    from schema_user.rooms import Rooms
    from schema_user.store.connection import Document
    from tests.conftest import Api, Server, Tenant

PAGE: Final = "docs/operations.md"
LEFT: Final = {
    *("_id", "organization_id", "schema_id", "revision", "data", "created_at", "changed_at", "sequence", "version"),
    *("active", "locked", "deleted", "state", "chain", "pending", "pending_since"),
}
"""The fields of a deleted user's document."""

SCHEMA: Final[dict[str, Any]] = {
    "type": "object",
    "properties": {
        "nick": {"type": "string", "urn:schema-user:index": True},
        "tags": {"type": "array", "items": {"type": "string", "urn:schema-user:index": True}},
        "card": {"type": "string", "urn:schema-user:unique": True},
        "note": {"type": "string"},
        "friends": {"type": "object"},
    },
}


class Needles:
    """Values that stand nowhere but in one user, each in the forms in which it might be kept."""

    def __init__(self) -> None:
        """Begin with none."""
        self._forms: dict[str, set[bytes]] = {}

    def add(self, value: str) -> str:
        """Take a value down, and give it."""
        forms = {value, fold(value), value.lower()}
        forms |= {form[::-1] for form in forms}
        self._forms[value] = {form.encode() for form in forms}
        return value

    def found(self, content: bytes) -> set[str]:
        """List the values of which a text or a document has any form."""
        return {value for value, forms in self._forms.items() if any(form in content for form in forms)}


def documents(client: MongoClient[Any]) -> Iterator[tuple[str, bytes]]:
    """Give every document of every collection as its bytes."""
    database = client.schema_user.with_options(client.codec_options.with_options(document_class=RawBSONDocument))
    for name in database.list_collection_names():
        for document in database[name].find().sort("_id"):
            yield name, bytes(document.raw)  # of a large document it is a view, in which nothing is found


def places(server: Server, life: Life) -> dict[str, set[str]]:
    """Say of each value where it stands: in which collections, in the local mailbox, in which logs."""
    found: dict[str, set[str]] = {}
    with MongoClient[Any](socket_uri(server.data_dir)) as client:
        sought = list(documents(client))
    own = life.user_id.encode()
    assert {"users", "history"} <= {name for name, content in sought if own in content}, "all was looked at"
    folder = server.data_dir / "mailbox"
    sought += [("the mailbox", path.read_bytes()) for path in folder.iterdir() if path.suffix != ".part"]
    sought += [(path.name, path.read_bytes()) for path in server.data_dir.rglob("*.log")]
    for where, content in sought:
        for value in life.needles.found(content):
            found.setdefault(value, set()).add(where)
    return found


def until(condition: Callable[[], bool]) -> None:
    """Wait for something that a worker or a relay does."""
    deadline = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)


class Life:
    """A user of whom much is known, in as many places as the API lets it come to."""

    def __init__(self, tenant: Tenant) -> None:
        """Make the user, and change it in every way."""
        self.needles = needles = Needles()
        self._tenant = tenant
        mark = f"Ndl{time.monotonic_ns():x}"
        api = tenant.owner
        webhook = {"url": "http://127.0.0.1:9/", "eventTypes": ["user.created", "user.updated"]}
        api.ok("POST", "/v3alpha/webhooks", webhook)
        schema = api.ok("POST", "/v3alpha/user_schemas", {"type": mark, "schema": SCHEMA})["id"]
        say: Callable[[str], str] = lambda word: needles.add(f"{mark}{word}Straße")  # noqa: E731
        data = {"nick": say("Nick"), "tags": [say("Tag")], "card": say("Card"), "note": say("Note")}
        mail = {"address": needles.add(f"{mark}old@example.com"), "returnCode": {}}
        body = {"schemaId": schema, "data": data, "username": say("Name"), "contact": {"email": mail}}
        made = api.ok("POST", "/v3alpha/users", body, headers={"Idempotency-Key": f"{mark}1"})
        self.user_id = made["userId"]
        self.path = f"/v3alpha/users/{self.user_id}"
        self.code = made["emailCode"]
        api.ok("POST", f"{self.path}/email/verify", {"verificationCode": self.code})
        self._change(api, say, mark)
        self._try_out(api, schema, data)

    def _change(self, api: Api, say: Callable[[str], str], mark: str) -> None:
        needles, keyed = self.needles, {"Idempotency-Key": f"{mark}2"}
        number = str(time.monotonic_ns())[-7:]
        contact = {
            "email": {"address": needles.add(f"{mark}new@example.com")},  # and the old one is told
            "phone": {"number": needles.add(f"+4179{number}"), "returnCode": {}},
        }
        given = api.ok("PUT", self.path, {"username": say("Other"), "contact": contact}, headers=keyed)
        self.phone_code = given["phoneCode"]
        password = {"newPassword": {"password": needles.add(f"{mark}Passw0rd!")}}
        api.ok("POST", f"{self.path}/password", password)
        self.friend = say("Friend")
        later = {"data": {"nick": say("Later"), "card": say("Newer"), "friends": {self.friend: say("Value")}}}
        api.ok("PUT", self.path, later)
        patch = {"friends": {self.friend: say("Another")}}  # at a place that webhooks are told
        merge = {"content-type": "application/merge-patch+json"}
        api.ok("PATCH", f"{self.path}/data", patch, headers=merge)
        token = {"name": say("Token"), "userId": self.user_id}
        self.token = self._tenant.admin.ok("POST", "/v3alpha/tokens", token)["token"]

    def _try_out(self, api: Api, schema: str, data: dict[str, Any]) -> None:
        """Let jobs and checks see it: a dry run that it fails, a check, a rehearsal."""
        strict = {**SCHEMA, "properties": {**SCHEMA["properties"], "nick": {"const": "nobody"}}}
        job = api.ok("POST", f"/v3alpha/user_schemas/{schema}/dry_run", {"schema": strict})["jobId"]
        path = f"/v3alpha/user_schemas/{schema}/dry_run/{job}"
        until(lambda: bool(api.ok("GET", path)["state"] == "JOB_STATE_DONE"))
        assert self.user_id in str(api.ok("GET", path)["failing"])
        api.ok("POST", "/v3alpha/user_schemas/check", {"schema": strict, "data": data})
        api.ok("PUT", f"{self.path}?validateOnly=true", {"data": data})


def stored(server: Server, user_id: str) -> Document:
    """Read a user's document as it stands."""
    with MongoClient[Any](socket_uri(server.data_dir)) as client:
        (user,) = client.schema_user.users.find({"_id": user_id})
    return dict(user)


def test_a_deleted_user_leaves_no_value_anywhere(tenant: Tenant, server: Server) -> None:
    """Searched for at once, in every collection, the local mailbox and the logs: in clear, folded and reversed."""
    life = Life(tenant)
    user = stored(server, life.user_id)
    until(lambda: {"the mailbox", "outbox"} <= set().union(*places(server, life).values()))
    until(lambda: "the mailbox" in places(server, life).get(user["email"]["value"], ()))
    before = places(server, life)
    assert "outbox" in before[life.friend], "what webhooks are told names it"
    kept = {value for value, where in before.items() if where & {"users", "tokens", "outbox"}}
    assert len(kept) > 6, "the search finds what is there"
    assert "the mailbox" in before[user["email"]["value"]]
    life.needles.add(user["credential"]["encoded"])
    tenant.owner.ok("PUT", life.path, {"data": {"note": life.needles.add(f"{life.user_id}Last")}})
    tenant.owner.ok("DELETE", life.path)
    assert places(server, life) == {}
    left = stored(server, life.user_id)
    assert left.keys() <= LEFT
    assert left["data"] == {}


def test_what_stays_sealed_is_sealed_for_ever(tenant: Tenant, server: Server) -> None:
    """The key of a user's history and of its kept answers goes with it, from every collection; so does the history."""
    life = Life(tenant)
    key: bytes = stored(server, life.user_id)["key"]
    tenant.owner.ok("DELETE", life.path)
    with MongoClient[Any](socket_uri(server.data_dir)) as client:
        assert not [name for name, content in documents(client) if key in content]
        assert client.schema_user.tokens.count_documents({"user_id": life.user_id}) == 0
        sealed = {"user_id": life.user_id, "sealed": {"$exists": True, "$ne": b""}}
        until(lambda: client.schema_user.history.count_documents(sealed) > 3)
    entries = tenant.owner.ok("GET", f"{life.path}/history")["result"]
    assert len(entries) > 4
    assert [each for each in entries if each["changes"]] == entries[:1], "that it was deleted is told, and no more"
    with server.client(life.token) as gone:
        until(lambda: gone.get(life.path).status_code == 401)


async def test_a_crash_after_the_deletion_keeps_nothing(rooms: Rooms) -> None:
    """Another process erases what the one that deleted the user did not come to, and what a third one copied since."""
    wiring, later = rooms.wiring, timedelta(minutes=5)
    told, sent, slow = [await person(wiring, kind=ADDRESS_CHANGED, expires_at=None) for _ in range(3)]
    await wiring.relay.flush()
    claimed = await wiring.outbox.claim([Channel.EMAIL], wiring.now() + later, later, "a worker")
    assert claimed is not None
    parked = claimed[0]["user_id"]
    await wiring.outbox.park(claimed[0], wiring.now(), "SMTPRecipientRefused 550")
    claimed = await wiring.outbox.claim([Channel.EMAIL], wiring.now() + later, later, "a worker")
    assert claimed is not None
    await wiring.outbox.settle(claimed[0], "sent", wiring.now(), "m*****@example.com")
    assert {parked, claimed[0]["user_id"]} < {told.user_id, sent.user_id, slow.user_id}
    third = Relay(rooms.database)
    copying = replace(wiring, users=UserStore(rooms.database, wiring.keyring, third), relay=third)
    late = await person(copying, kind=ADDRESS_CHANGED, expires_at=None)
    for user in (told, sent, slow, late):
        await create_token(wiring, OPERATOR, CreateToken("phone", (), user.user_id))
        await _die_deleting(rooms, user)
    await third.flush()
    assert any("sealed" in each for each in await outbox(rooms))
    assert await wiring.relay.sweep() == 4
    records = await outbox(rooms)
    assert len(records) == 4
    assert all({"sealed", "masked", "last_error"}.isdisjoint(each) and each["relayed"] for each in records)
    assert {each["state"] for each in records} == {"sent", "dropped"}
    assert await rooms.database.collection("tokens").find({"user_id": {"$exists": True}}) == []
    users = await rooms.database.collection("users").find({})
    assert all("pending" not in each for each in users)
    assert not any(secret in repr(records) + repr(users) for secret in SECRETS)


async def _die_deleting(rooms: Rooms, user: User) -> None:
    """Delete a user by a process that ends after the write."""
    dead = Relay(rooms.database)
    wiring = replace(rooms.wiring, users=UserStore(rooms.database, rooms.wiring.keyring, dead), relay=dead)

    async def decide(before: User) -> Decision:
        return Decision(erased(before))

    await change_user(wiring, Target(OPERATOR, user.user_id), lambda _: None, decide)


async def test_an_erasure_is_repeated_once(rooms: Rooms) -> None:
    """The sweep that repeats it takes its record out of the document, and has nothing to do after that."""
    user = await person(rooms.wiring)
    await delete_user(rooms.wiring, Target(OPERATOR, user.user_id))
    await rooms.wiring.relay._empty(0)
    assert await rooms.wiring.relay.sweep() == 1
    assert await rooms.wiring.relay.sweep() == 0
    (left,) = await rooms.database.collection("users").find({})
    assert left.keys() <= LEFT - {"pending", "pending_since"}
    assert msgspec.json.encode(left["data"]) == b"{}"


def test_the_page_names_every_collection() -> None:
    """What is held on a user, and what its deletion leaves, is told of each collection that there is."""
    rows = table(PAGE, "collection", "held on a user", "left by its deletion")
    collections = table("docs/architecture.md", "collection", "a document is", "`_id`")
    assert {CODE.findall(row[0])[0] for row in rows} == {CODE.findall(row[0])[0] for row in collections}
