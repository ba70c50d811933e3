"""The history of users over HTTP: what changed, the user as it was, who may read it, and what of it is hidden."""

from __future__ import annotations

import subprocess
import sys
import time
from typing import TYPE_CHECKING, Any

import pytest
from pymongo import MongoClient

from schema_user.store.embedded import socket_uri
from tests.api.test_field_permissions import PERMISSION
from tests.api.test_field_permissions import SCHEMA as GUARDED
from tests.conftest import SCHEMA, Api, Server, Tenant, reason, violations

if TYPE_CHECKING:
    from collections.abc import Iterator


def path(user_id: str) -> str:
    """Give the path of a user."""
    return f"/v3alpha/users/{user_id}"


def history(api: Api, user_id: str, query: str = "") -> dict[str, Any]:
    """Read a history."""
    found: dict[str, Any] = api.ok("GET", f"{path(user_id)}/history{query}")
    return found


def told(api: Api, user_id: str, sequence: int) -> list[dict[str, Any]]:
    """Give the changes of one entry, by their pointers."""
    (entry,) = [each for each in history(api, user_id)["result"] if each["sequence"] == str(sequence)]
    changes: list[dict[str, Any]] = entry["changes"]
    return sorted(changes, key=lambda change: str(change["pointer"]))


def put(api: Api, user_id: str, **body: Any) -> None:
    """Update a user."""
    api.ok("PUT", path(user_id), body)


class TestList:
    def test_each_change_says_who_when_and_what(self, tenant: Tenant) -> None:
        """The newest first, at once after the change; what no client sees is not there, nor is any code."""
        user_id = tenant.user(data={"name": "Minnie", "age": 96}, username="minnie")
        with tenant.caller("ORG_USER_MANAGER", user_id=user_id) as manager:
            email = {"address": "minnie@example.com", "returnCode": {}}
            headers = {"X-Request-Id": "the-second"}
            body = {"contact": {"email": email}, "data": {"name": "Mouse", "tags": None}}
            assert manager.put(path(user_id), json=body, headers=headers).status_code == 400
            del body["data"]
            code = manager.ok("PUT", path(user_id), body, headers=headers)["emailCode"]
        put(tenant.owner, user_id, data={"name": "Mouse"}, username="")
        user = tenant.owner.ok("GET", path(user_id))["user"]
        verify = f"{path(user_id)}/email/verify"
        assert tenant.owner.post(verify, json={"verificationCode": "wrong"}).status_code == 400
        tenant.owner.ok("POST", verify, {"verificationCode": code})
        tenant.owner.ok("POST", f"{path(user_id)}/lock")
        response = tenant.owner.get(f"{path(user_id)}/history")
        assert response.headers["etag"] == '"5"'
        found = response.json()
        assert [each["sequence"] for each in found["result"]] == ["5", "4", "3", "2", "1"]
        assert "nextPageToken" not in found
        locked, verified, third, second, first = found["result"]
        assert third["at"] == user["details"]["changeDate"]
        assert second["requestId"] == "the-second"
        assert second["userId"] == user_id
        assert second["tokenId"] != third["tokenId"] == locked["tokenId"]
        assert "userId" not in third
        assert first["changes"] == [
            {"pointer": "/schema", "new": {"id": tenant.schema_id, "revision": 1}},
            {"pointer": "/state", "new": "USER_STATE_ACTIVE"},
            {"pointer": "/data", "new": {"name": "Minnie", "age": 96}},
            {"pointer": "/username", "new": "minnie"},
        ]
        address = {"email": {"address": "minnie@example.com", "isVerified": False}}
        assert second["changes"] == [{"pointer": "/contact", "new": address}]
        assert sorted(third["changes"], key=str) == [
            {"pointer": "/data/age", "old": 96},
            {"pointer": "/data/name", "old": "Minnie", "new": "Mouse"},
            {"pointer": "/username", "old": "minnie"},
        ]
        assert verified["changes"] == [{"pointer": "/contact/email/isVerified", "old": False, "new": True}]
        assert locked["changes"] == [{"pointer": "/state", "old": "USER_STATE_ACTIVE", "new": "USER_STATE_LOCKED"}]
        assert code not in response.text
        assert tenant.owner.get(f"{path(user_id)}/history", headers={"If-None-Match": '"5"'}).status_code == 304

    def test_null_is_a_value(self, tenant: Tenant) -> None:
        """It stands there, and what was not there does not."""
        user_id = tenant.user(data={"name": "Minnie", "extra": None})
        put(tenant.owner, user_id, data={"name": "Minnie", "extra": 1})
        put(tenant.owner, user_id, data={"name": "Minnie"})
        assert told(tenant.owner, user_id, 2) == [{"pointer": "/data/extra", "old": None, "new": 1}]
        assert told(tenant.owner, user_id, 3) == [{"pointer": "/data/extra", "old": 1}]

    def test_pages_follow_each_other(self, tenant: Tenant) -> None:
        """Whatever changes meanwhile, each entry stands on one of them."""
        user_id = tenant.user()
        for age in range(6):
            put(tenant.owner, user_id, data={"name": "Minnie", "age": age})
        found, sizes, query = [], [], "?limit=3"
        while True:
            page = history(tenant.owner, user_id, query)
            found += [each["sequence"] for each in page["result"]]
            sizes.append(len(page["result"]))
            if "nextPageToken" not in page:
                break
            query = f"?limit=3&pageToken={page['nextPageToken']}"
            put(tenant.owner, user_id, data={"name": "Minnie", "age": 100 + len(found)})
        assert found == ["7", "6", "5", "4", "3", "2", "1"]
        assert sizes == [3, 3, 1]

    def test_large_entries_end_a_page(self, tenant: Tenant) -> None:
        """So that an answer stays small enough to be made; nothing is lost by it."""
        user_id = tenant.user()
        for letter in "abcdefg":
            put(tenant.owner, user_id, data={"name": "Minnie", "extra": letter * 900_000})
        pages = [history(tenant.owner, user_id)]
        while "nextPageToken" in pages[-1]:
            pages.append(history(tenant.owner, user_id, f"?pageToken={pages[-1]['nextPageToken']}"))
        assert 2 <= len(pages) < 8
        assert [each["sequence"] for page in pages for each in page["result"]] == list("87654321")

    def test_a_page_token_serves_its_caller_and_user_only(self, tenant: Tenant) -> None:
        """And no other organization's request; a changed one is refused."""
        one, other = tenant.user(), tenant.user()
        for user_id in (one, other):
            put(tenant.owner, user_id, data={"name": "Mouse"})
        token = history(tenant.owner, one, "?limit=1")["nextPageToken"]
        with tenant.caller("ORG_OWNER") as colleague:
            headers = {"x-zitadel-orgid": tenant.organization_id}
            for response in (
                colleague.get(f"{path(one)}/history?pageToken={token}"),
                tenant.owner.get(f"{path(other)}/history?pageToken={token}"),
                tenant.owner.get(f"{path(one)}/history?pageToken={token}", headers=headers),
                tenant.owner.get(f"{path(one)}/history?pageToken={token[:-2]}00"),
                tenant.owner.get(f"{path(one)}/history?pageToken=x"),
            ):
                assert (response.status_code, reason(response)) == (400, "PAGE_TOKEN_INVALID")
                assert violations(response) == {"?pageToken": "pageToken"}
        assert len(history(tenant.owner, one, f"?limit=1&pageToken={token}")["result"]) == 1

    @pytest.mark.parametrize(
        ("query", "field"),
        [
            ("limit=0", "?limit"),
            ("limit=1001", "?limit"),
            ("limit=x", "?limit"),
            ("pageToken=" + "0" * 4001, "?pageToken"),
            ("at=", "?at"),
            ("at=yesterday", "?at"),
            ("at=-1", "?at"),
            ("at=1.0", "?at"),
            ("at=2025-02-30T00:00:00Z", "?at"),
            ("at=2025-01-01T00:00:00", "?at"),
            ("at=0001-01-01T00:00:00%2B12:00", "?at"),
            ("at=" + "9" * 19, "?at"),
            ("at=1&limit=1", "?limit"),
            ("at=1&pageToken=00", "?pageToken"),
            ("at=1&at=2", "?at"),
            ("since=1", "?since"),
        ],
    )
    def test_what_is_asked_must_make_sense(self, tenant: Tenant, query: str, field: str) -> None:
        """400 with the parameter, before the user is looked for."""
        response = tenant.owner.get(f"/v3alpha/users/nobody/history?{query}")
        assert (response.status_code, reason(response)) == (400, "QUERY_INVALID")
        assert violations(response) == {field: "query"}


class TestPast:
    def test_the_user_is_given_as_it_was(self, tenant: Tenant) -> None:
        """By sequence and by time, as GET gave it then."""
        user_id = tenant.user(username="minnie", data={"name": "Minnie", "tags": ["a", "b"]})
        email = {"address": "minnie@example.com", "isVerified": True}
        bodies: list[dict[str, Any]] = [
            {"data": {"name": "Minnie", "tags": ["b"]}},
            {"contact": {"email": email, "phone": {"number": "+41791234567"}}},
            {"username": "", "data": {"name": "Mouse", "extra": {"a/b": [1, {"~": None}]}}},
            {"data": {"name": "Mouse", "extra": {"a/b": [1, {"~": True}]}}},
        ]
        seen = [tenant.owner.ok("GET", path(user_id))["user"]]
        for body in bodies:
            time.sleep(0.002)
            put(tenant.owner, user_id, **body)
            seen.append(tenant.owner.ok("GET", path(user_id))["user"])
        tenant.owner.ok("POST", f"{path(user_id)}/deactivate")
        seen.append(tenant.owner.ok("GET", path(user_id))["user"])
        for user in seen:
            details = user["details"]
            for at in (details["sequence"], details["changeDate"], details["changeDate"].replace("Z", "+00:00")):
                response = tenant.owner.get(f"{path(user_id)}/history?at={at}")
                assert response.json() == {"user": user}
                assert response.headers["etag"] == f'"{details["sequence"]}"'
        for future in ("7", "100", "2999-01-01T00:00:00Z"):
            assert history(tenant.owner, user_id, f"?at={future}") == {"user": seen[-1]}

    def test_before_its_creation_there_is_no_user(self, tenant: Tenant) -> None:
        """404 that says why."""
        user_id = tenant.user()
        for at in ("0", "2020-01-01T00:00:00Z"):
            response = tenant.owner.get(f"{path(user_id)}/history?at={at}")
            assert (response.status_code, reason(response)) == (404, "USER_NOT_CREATED")

    def test_what_is_not_kept_cannot_be_given(self, tenant: Tenant) -> None:
        """400 for a time whose entries expired; the present and what is kept are given."""
        user_id = tenant.user()
        for age in range(4):
            put(tenant.owner, user_id, data={"name": "Minnie", "age": age})
        with database(tenant.server) as entries:
            first, second = list(entries.find({"user_id": user_id}).sort("_id").limit(2))
            entries.delete_many({"_id": {"$in": [first["_id"], second["_id"]]}})
        assert [each["sequence"] for each in history(tenant.owner, user_id)["result"]] == ["5", "4", "3"]
        assert history(tenant.owner, user_id, "?at=3")["user"]["data"]["age"] == 1
        assert history(tenant.owner, user_id, "?at=5")["user"]["data"]["age"] == 3
        created = first["at"].isoformat(timespec="milliseconds").replace("+00:00", "Z")
        for at in ("1", "2", created):
            response = tenant.owner.get(f"{path(user_id)}/history?at={at}")
            assert (response.status_code, response.json()["code"], reason(response)) == (400, 9, "HISTORY_EXPIRED")
        with database(tenant.server) as entries:
            entries.delete_one({"user_id": user_id, "sequence": 4})
        assert reason(tenant.owner.get(f"{path(user_id)}/history?at=3")) == "HISTORY_EXPIRED"


class database:  # noqa: N801 - used as a function
    """Open the server's own history, once what waits for it has come there."""

    def __init__(self, server: Server) -> None:
        """Connect to the local database."""
        self.client = MongoClient[dict[str, Any]](socket_uri(server.data_dir), tz_aware=True)

    def __enter__(self) -> Any:
        for _ in range(300):
            if not self.client.schema_user.users.count_documents({"pending": {"$exists": True}}):
                break
            time.sleep(0.1)
        return self.client.schema_user.history

    def __exit__(self, *_: object) -> None:
        self.client.close()


class TestAccess:
    def test_who_may_read_it(self, tenant: Tenant, server: Server, admin: Api) -> None:
        """`user.read` in the user's organization; the user itself needs it too."""
        user_id = tenant.user()
        where = f"{path(user_id)}/history"
        with (
            tenant.caller("ORG_USER_VIEWER") as viewer,
            tenant.caller("SCHEMA_AUTHOR") as author,
            tenant.caller(user_id=user_id) as itself,
            tenant.caller("ORG_USER_VIEWER", user_id=user_id) as both,
        ):
            for api, status in ((viewer, 200), (both, 200), (author, 403), (itself, 403), (admin, 200)):
                assert api.get(where).status_code == api.get(where + "?at=1").status_code == status
        assert tenant.owner.get(where, headers={"x-zitadel-orgid": "default"}).status_code == 404
        assert admin.get(where, headers={"x-zitadel-orgid": "default"}).status_code == 404
        with server.client("x" * 40) as nobody:
            assert nobody.get(where).status_code == 401
        stranger = admin.ok(
            "POST",
            "/v3alpha/tokens",
            {"name": "x", "roles": [{"role": "ORG_OWNER", "organizationId": "default"}]},
        )["token"]
        with server.client(stranger) as elsewhere:
            for user in (user_id, "nobody"):
                response = elsewhere.get(f"{path(user)}/history")
                assert (response.status_code, reason(response)) == (404, "USER_NOT_FOUND")

    def test_of_a_deleted_user_the_facts_stay(self, tenant: Tenant) -> None:
        """Who, when, by which request, and that it was deleted; no value, not as it was, and nothing for others."""
        user_id = tenant.user(data={"name": "Minnie the Vanishing"}, username="vanishing")
        put(tenant.owner, user_id, data={"name": "Mouse the Vanishing"})
        before = history(tenant.owner, user_id)["result"]
        where = f"{path(user_id)}/history"
        with (
            tenant.caller("ORG_USER_MANAGER", user_id=user_id) as itself,
            tenant.caller("SCHEMA_AUTHOR") as author,
        ):
            tenant.owner.ok("DELETE", path(user_id))
            assert author.get(where).status_code == 404
            assert itself.get(where).status_code in {200, 401}
        response = tenant.owner.get(where)
        deletion, *facts = response.json()["result"]
        assert facts == [each | {"changes": []} for each in before]
        assert deletion["sequence"] == "3"
        assert deletion["changes"] == [{"pointer": "/state", "new": "USER_STATE_DELETED"}]
        assert "anishing" not in response.text
        page = history(tenant.owner, user_id, "?limit=1")
        assert history(tenant.owner, user_id, f"?pageToken={page['nextPageToken']}")["result"] == facts
        for at in ("1", "3", "2999-01-01T00:00:00Z"):
            assert reason(tenant.owner.get(f"{where}?at={at}")) == "USER_NOT_FOUND"
        with database(tenant.server) as entries:
            for collection in entries.database.list_collection_names():
                assert "anishing" not in str(list(entries.database[collection].find()))


class TestHidden:
    @pytest.fixture
    def own(self, tenant: Tenant) -> Tenant:
        """Give an organization whose schema has field permissions."""
        made = tenant.owner.ok("POST", "/v3alpha/user_schemas", {"type": "guarded", "schema": GUARDED})
        tenant.schema_id = made["id"]
        return tenant

    @pytest.fixture
    def user_id(self, own: Tenant) -> str:
        """Give a user with hidden fields of every kind, who changed some of them itself."""
        made = own.user(data={"name": "Minnie", "score": 1, "note": "secret one"})
        data = {"name": "Minnie", "score": 2, "note": "secret two", "devices": [{"label": "phone", "key": "k-one"}]}
        put(own.owner, made, data=data)
        devices = [{"label": "watch", "key": "k-two"}]
        put(own.owner, made, data={**data, "devices": devices})
        with own.caller(user_id=made) as itself:
            seen = itself.ok("GET", path(made))["user"]["data"]
            put(itself, made, data={**seen, "pin": "p-1234"})
        return made

    @pytest.fixture
    def itself(self, own: Tenant, user_id: str) -> Iterator[Api]:
        """Call as the user itself, that may read users too."""
        with own.caller("ORG_USER_VIEWER", user_id=user_id) as client:
            yield client

    def test_values_that_may_not_be_read_are_left_out(self, own: Tenant, user_id: str, itself: Api) -> None:
        """Of single places and of whole values; the nearest place around tells that something changed."""
        assert told(itself, user_id, 1)[0] == {"pointer": "/data", "new": {"name": "Minnie", "score": 1}}
        assert told(itself, user_id, 2) == [
            {"pointer": "/data"},
            {"pointer": "/data/devices", "new": [{"label": "phone"}]},
            {"pointer": "/data/score", "old": 1, "new": 2},
        ]
        assert told(itself, user_id, 3) == [
            {"pointer": "/data/devices/0"},
            {"pointer": "/data/devices/0/label", "old": "phone", "new": "watch"},
        ]
        assert told(itself, user_id, 4) == [{"pointer": "/data"}]
        whole = itself.get(f"{path(user_id)}/history").text
        assert not [
            secret for secret in ("secret", "k-one", "k-two", "p-1234", "note", "pin", "key") if secret in whole
        ]
        assert told(own.owner, user_id, 2)[1:] == [
            {"pointer": "/data/note", "old": "secret one", "new": "secret two"},
            {"pointer": "/data/score", "old": 1, "new": 2},
        ]
        assert told(own.owner, user_id, 4) == [{"pointer": "/data"}]
        assert "p-1234" not in own.owner.get(f"{path(user_id)}/history").text

    def test_the_past_hides_the_same(self, own: Tenant, user_id: str, itself: Api) -> None:
        """At every sequence, and at present as GET does."""
        assert history(itself, user_id, "?at=1")["user"]["data"] == {"name": "Minnie", "score": 1}
        third = {"name": "Minnie", "score": 2, "devices": [{"label": "watch"}]}
        assert history(itself, user_id, "?at=3")["user"]["data"] == third
        assert history(itself, user_id, "?at=4")["user"] == itself.ok("GET", path(user_id))["user"]
        assert history(own.owner, user_id, "?at=2")["user"]["data"]["note"] == "secret two"

    def test_a_change_of_everything_hides_the_same(self, own: Tenant) -> None:
        """An entry that is kept as one of the whole user, as too much changed."""
        open_schema = {"properties": {"many": {}, "note": {PERMISSION: {"owner": "rw"}}}}
        made = own.owner.ok("POST", "/v3alpha/user_schemas", {"type": "many", "schema": open_schema})["id"]
        user_id = own.user(schemaId=made, data={"many": [0] * 1500, "note": "secret one"})
        put(own.owner, user_id, data={"many": [1] * 1500, "note": "secret two"})
        with own.caller("ORG_USER_VIEWER", user_id=user_id) as itself:
            (change,) = told(itself, user_id, 2)
            assert change["pointer"] == ""
            assert change["old"]["data"] == {"many": [0] * 1500}
            assert change["new"]["data"] == {"many": [1] * 1500}
            assert "secret" not in itself.get(f"{path(user_id)}/history").text
            assert history(itself, user_id, "?at=1")["user"]["data"] == {"many": [0] * 1500}
        (change,) = told(own.owner, user_id, 2)
        assert change["new"]["data"]["note"] == "secret two"

    def test_what_is_hidden_today_is_hidden_in_the_past(self, tenant: Tenant) -> None:
        """A new revision of the schema holds for old values as well."""
        user_id = tenant.user(data={"name": "Minnie", "age": 96})
        put(tenant.owner, user_id, data={"name": "Mouse", "age": 97})
        hidden = {**SCHEMA, "properties": {**SCHEMA["properties"], "age": {PERMISSION: {"self": "rw"}}}}
        tenant.owner.ok("PUT", f"/v3alpha/user_schemas/{tenant.schema_id}", {"schema": hidden})
        time.sleep(0.6)
        assert told(tenant.owner, user_id, 1)[0] == {"pointer": "/data", "new": {"name": "Minnie"}}
        assert told(tenant.owner, user_id, 2) == [
            {"pointer": "/data"},
            {"pointer": "/data/name", "old": "Minnie", "new": "Mouse"},
        ]
        assert history(tenant.owner, user_id, "?at=1")["user"]["data"] == {"name": "Minnie"}

    def test_what_was_hidden_then_stays_hidden(self, own: Tenant, user_id: str) -> None:
        """A new revision, or another schema, that shows a place, shows what was put there under it, on every page."""
        shown = {**GUARDED, "properties": {**GUARDED["properties"], "pin": {}}}
        own.owner.ok("PUT", f"/v3alpha/user_schemas/{own.schema_id}", {"schema": shown})
        time.sleep(0.6)
        with own.caller("ORG_USER_MANAGER") as other:
            seen = other.ok("GET", path(user_id))["user"]["data"]
            assert seen["pin"] == "p-1234"
            put(other, user_id, data={**seen, "pin": "p-5678"})
            put(other, user_id, data={**seen, "pin": "p-9999"})
        revised, replaced = told(own.owner, user_id, 5), told(own.owner, user_id, 6)
        assert revised == [
            {"pointer": "/data/pin", "new": "p-5678"},
            {"pointer": "/schema/revision", "old": 1, "new": 2},
        ]
        assert replaced == [{"pointer": "/data/pin", "old": "p-5678", "new": "p-9999"}]
        assert told(own.owner, user_id, 4) == [{"pointer": "/data"}]
        page = history(own.owner, user_id, "?limit=2")
        following = history(own.owner, user_id, f"?limit=1&pageToken={page['nextPageToken']}")
        assert following["result"][0]["changes"] == [{"pointer": "/data"}]
        assert "pin" not in history(own.owner, user_id, "?at=4")["user"]["data"]

    def test_without_the_schema_of_then_values_are_left_out(self, own: Tenant, user_id: str) -> None:
        """Nobody can say any more who was to read them."""
        first = own.schema_id
        other = own.owner.ok("POST", "/v3alpha/user_schemas", {"type": "open", "schema": {}})["id"]
        open_one = own.user(schemaId=other, data={"name": "Daisy"})
        put(own.owner, open_one, schemaId=first, data={"name": "Daisy", "score": 1})
        put(own.owner, open_one, data={"name": "Duck", "score": 1})
        own.owner.ok("DELETE", f"/v3alpha/user_schemas/{other}")
        time.sleep(0.6)
        assert told(own.owner, open_one, 1)[0] == {"pointer": "/data"}
        assert told(own.owner, open_one, 2)[0] == {"pointer": "/data/score", "new": 1}
        assert told(own.owner, open_one, 3) == [{"pointer": "/data/name", "old": "Daisy", "new": "Duck"}]
        past = history(own.owner, open_one, "?at=1")["user"]
        assert (past["data"], past["schema"]) == ({}, {"id": other, "type": "", "revision": 1})


class TestDoctor:
    def examine(self, server: Server, *options: str) -> subprocess.CompletedProcess[str]:
        """Run the doctor beside the server."""
        command = [sys.executable, "-m", "schema_user.cli", "doctor", *options]
        return subprocess.run(command, env=server.env(), capture_output=True, text=True, timeout=120, check=False)

    def test_it_follows_every_chain(self, tenant: Tenant) -> None:
        """And names the user and the first sequence of one that is broken, with status 1."""
        user_id = tenant.user()
        for age in range(3):
            put(tenant.owner, user_id, data={"name": "Minnie", "age": age})
        with database(tenant.server) as entries:
            (third,) = entries.find({"user_id": user_id, "sequence": 3})
            entries.update_one({"_id": third["_id"]}, {"$set": {"token_id": "somebody else"}})
            try:
                examined = self.examine(tenant.server)
                assert self.examine(tenant.server, "--no-histories").returncode == 0
            finally:
                entries.replace_one({"_id": third["_id"]}, third)
        assert examined.returncode == 1
        assert f"user {user_id}: from sequence 3 on" in examined.stdout
        assert f"user {user_id}:" not in self.examine(tenant.server).stdout  # those of other tests may be
