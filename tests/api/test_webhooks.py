"""Webhooks through the real door: who may, what is told to whom, and what is never told."""

from __future__ import annotations

import os
import signal
import socket
import time
from typing import TYPE_CHECKING, Any

import pytest

from schema_user.domain.webhook import MOST_WEBHOOKS, EventType
from tests.conftest import Api, Server, Tenant, reason, violations
from tests.webhook_receiver import Receiver, receiving

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

PATH = "/v3alpha/webhooks"
NOWHERE = "https://hooks.example.invalid/here"
ALL = [each.value for each in EventType]
EMAIL = "minnie.mouse@example.com"


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    """Give a receiver that takes everything."""
    with receiving() as running:
        yield running


def subscribe(api: Api, url: str, *types: str, **more: Any) -> dict[str, str]:
    """Make a webhook, and wait until it counts everywhere."""
    made = api.ok("POST", PATH, {"url": url, "eventTypes": list(types) or ALL, **more})
    time.sleep(0.1)
    return dict(made)


def eventually(api: Api, path: str, **wanted: Any) -> Any:
    """Wait until what is at a path has these members."""
    deadline = time.monotonic() + 20
    while True:
        ((_, found),) = api.ok("GET", path).items()
        if all(found.get(name) == value for name, value in wanted.items()):
            return found
        assert time.monotonic() < deadline, found
        time.sleep(0.05)


def messages(api: Api, webhook_id: str) -> list[dict[str, Any]]:
    """List what a webhook is told."""
    query = {"queries": [{"webhookIdQuery": {"id": webhook_id}}]}
    return list(api.ok("POST", "/v3alpha/messages/search", query)["result"])


class TestTelling:
    def test_an_update_is_told_and_signed(self, tenant: Tenant, receiver: Receiver) -> None:
        """Ids, sequence, request and pointers, signed by the secret that was shown once; no value."""
        made = subscribe(tenant.owner, receiver.url("/hook"))
        user_id = tenant.user(data={"name": "Minnie Mouse", "age": 3})
        body = {"data": {"name": "Daisy Duck"}}
        answer = tenant.owner.put(f"/v3alpha/users/{user_id}", json=body, headers={"x-request-id": "the-request"})
        created, updated = sorted(receiver.wait(2), key=lambda each: int(each["sequence"]))
        assert created["type"] == "user.created"
        told = [each for each in receiver.told if b'"user.updated"' in each.body]
        assert [updated.pop("id")] == [each.headers["webhook-id"] for each in told]
        assert updated == {
            "type": "user.updated",
            "occurredAt": answer.json()["details"]["changeDate"],
            "organizationId": tenant.organization_id,
            "userId": user_id,
            "sequence": "2",
            "requestId": "the-request",
            "changes": ["/data/name", "/data/age"],
        }
        assert all(each.signed_by(made["secret"]) for each in receiver.told)
        assert {each.headers["content-type"] for each in receiver.told} == {"application/json"}
        assert b"Duck" not in b"".join(each.body for each in receiver.told)

    def test_each_kind_of_change_has_its_type(self, tenant: Tenant, receiver: Receiver) -> None:
        """One change may be of several types; an update that changes nothing is none."""
        subscribe(tenant.owner, receiver.url())
        path = f"/v3alpha/users/{tenant.user()}"
        steps: list[tuple[str, str, Any, list[str]]] = [
            ("PUT", "", {"data": {"name": "Minnie"}}, []),
            ("POST", "/lock", None, ["user.locked"]),
            ("POST", "/unlock", None, ["user.unlocked"]),
            ("POST", "/deactivate", None, ["user.deactivated"]),
            ("POST", "/reactivate", None, ["user.reactivated"]),
            (
                "PUT",
                "",
                {"contact": {"email": {"address": EMAIL, "isVerified": True}}},
                ["user.email.changed", "user.email.verified", "user.updated"],
            ),
            (
                "PUT",
                "",
                {"contact": {"phone": {"number": "+41791234567", "returnCode": {}}}, "username": "minnie"},
                ["user.phone.changed", "user.updated"],
            ),
            ("DELETE", "/email", None, ["user.email.changed", "user.updated"]),
            ("DELETE", "", None, ["user.deleted"]),
        ]
        expected = ["user.created"]
        receiver.wait(1)
        for method, end, body, types in steps:
            tenant.owner.ok(method, path + end, body)
            expected = sorted(expected + types)
            receiver.wait(len(expected))
            assert receiver.types() == expected

    def test_a_verified_address_is_told(self, tenant: Tenant, receiver: Receiver) -> None:
        """Neither the address nor the code is."""
        subscribe(tenant.owner, receiver.url(), "user.email.verified")
        user_id = tenant.user()
        email = {"contact": {"email": {"address": EMAIL, "returnCode": {}}}}
        code = tenant.owner.ok("PUT", f"/v3alpha/users/{user_id}", email)["emailCode"]
        tenant.owner.ok("POST", f"/v3alpha/users/{user_id}/email/verify", {"verificationCode": code})
        [told] = receiver.wait(1)
        assert told["changes"] == ["/contact/email/isVerified"]
        assert not any(value in receiver.told[0].body for value in (EMAIL.encode(), code.encode()))

    def test_schemas_are_told_to_their_owner(self, tenant: Tenant, receiver: Receiver) -> None:
        """Each change of its own schemas; those of the instance to webhooks of the instance."""
        subscribe(tenant.owner, receiver.url("/own"), "schema.created", "schema.updated", "schema.deleted")
        whole = subscribe(tenant.admin, receiver.url("/all"), "schema.created", "schema.deactivated", "schema.deleted")
        schema = {"type": "object"}
        try:
            mine = tenant.owner.ok("POST", "/v3alpha/user_schemas", {"type": "mine", "schema": schema})["id"]
            body = {"type": f"all-{tenant.organization_id}", "schema": schema}
            everybodys = tenant.admin.ok("POST", "/v3alpha/user_schemas", body)["id"]
            tenant.owner.ok("PUT", f"/v3alpha/user_schemas/{mine}", {"schema": {"type": "object", "required": ["x"]}})
            tenant.admin.ok("POST", f"/v3alpha/user_schemas/{everybodys}/deactivate")
            for api, schema_id in ((tenant.owner, mine), (tenant.admin, everybodys)):
                api.ok("DELETE", f"/v3alpha/user_schemas/{schema_id}")
            own, everything = receiver.wait(3, "/own"), receiver.wait(5, "/all")
        finally:
            tenant.admin.ok("DELETE", f"{PATH}/{whole['webhookId']}")
        assert {each["schemaId"] for each in own} == {mine}
        assert receiver.types("/own") == ["schema.created", "schema.deleted", "schema.updated"]
        [updated] = [each for each in own if each["type"] == "schema.updated"]
        assert updated["changes"] == ["/revision", "/schema"]
        assert receiver.types("/all") == [*["schema.created"] * 2, "schema.deactivated", *["schema.deleted"] * 2]
        assert {each.get("organizationId") for each in everything} == {None, tenant.organization_id}

    def test_organizations_hear_of_themselves(self, tenant: Tenant, receiver: Receiver, admin: Api) -> None:
        """What happens elsewhere is told to the instance's webhooks, and to nobody else's."""
        subscribe(tenant.owner, receiver.url("/own"))
        whole = subscribe(admin, receiver.url("/all"), "user.created")
        body = {"schemaId": tenant.schema_id, "data": {"name": "Minnie"}}
        query = {"queries": [{"typeQuery": {"type": "human"}}]}
        seen_there = {"x-zitadel-orgid": "default"}  # other organizations may have a type of this name
        human = admin.ok("POST", "/v3alpha/user_schemas/search", query, headers=seen_there)
        there = {
            "schemaId": human["result"][0]["id"],
            "data": {"profile": {"givenName": "Daisy", "familyName": "Duck"}},
            "organization": {"orgId": "default"},
        }
        try:
            elsewhere = admin.ok("POST", "/v3alpha/users", there)["userId"]
            here = tenant.owner.ok("POST", "/v3alpha/users", body)["userId"]
            assert {each["userId"] for each in receiver.wait(2, "/all")} == {elsewhere, here}
            assert {each["userId"] for each in receiver.wait(1, "/own")} == {here}
            assert messages(tenant.owner, whole["webhookId"]) == []
            assert len(messages(admin, whole["webhookId"])) == 2
        finally:
            admin.ok("DELETE", f"{PATH}/{whole['webhookId']}")

    def test_what_was_rehearsed_is_not_told(self, tenant: Tenant, receiver: Receiver) -> None:
        """Nothing happened."""
        subscribe(tenant.owner, receiver.url())
        body = {"schemaId": tenant.schema_id, "data": {"name": "Minnie"}}
        tenant.owner.ok("POST", "/v3alpha/users?validateOnly=true", body)
        tenant.user()
        assert [each["type"] for each in receiver.wait(1)] == ["user.created"]


class TestFailing:
    def test_a_failed_delivery_comes_again_under_its_id(self, tenant: Tenant, receiver: Receiver) -> None:
        """The state of the message says what happened; what was sent can be sent once more, and the same again."""
        answers = iter([503, 200, 200])
        receiver.answer = lambda _: next(answers)
        made = subscribe(tenant.owner, receiver.url(), "user.created")
        user_id = tenant.user()
        receiver.wait(1)
        [message] = messages(tenant.owner, made["webhookId"])
        path = f"/v3alpha/messages/{message['messageId']}"
        failed = eventually(tenant.owner, path, lastError="HTTP 503")
        assert (failed["kind"], failed["channel"], failed["recipient"]) == ("webhook", "webhook", "127.0.0.1")
        assert (failed["userId"], failed["organizationId"]) == (user_id, tenant.organization_id)
        tenant.owner.ok("POST", path + "/retry")
        receiver.wait(2)
        eventually(tenant.owner, path, state="MESSAGE_STATE_SENT")
        tenant.owner.ok("POST", path + "/retry")
        receiver.wait(3)
        assert len({(each.headers["webhook-id"], each.body) for each in receiver.told}) == 1
        eventually(tenant.owner, path, state="MESSAGE_STATE_SENT")
        assert reason(tenant.owner.delete(path)) == "MESSAGE_DONE"

    def test_a_receiver_that_is_gone_is_told_no_more(self, tenant: Tenant, receiver: Receiver) -> None:
        """410 ends the webhook and parks the message; somebody may take it up again."""
        receiver.answer = lambda _: 410
        made = subscribe(tenant.owner, receiver.url())
        path = f"{PATH}/{made['webhookId']}"
        tenant.user()
        eventually(tenant.owner, path, state="WEBHOOK_STATE_GONE")
        [message] = messages(tenant.owner, made["webhookId"])
        eventually(tenant.owner, f"/v3alpha/messages/{message['messageId']}", state="MESSAGE_STATE_PARKED")
        tenant.user()
        receiver.answer = lambda _: 200
        assert tenant.owner.ok("PUT", path, {"active": True})["webhook"]["state"] == "WEBHOOK_STATE_ACTIVE"
        tenant.owner.ok("POST", f"/v3alpha/messages/{message['messageId']}/retry")
        eventually(tenant.owner, f"/v3alpha/messages/{message['messageId']}", state="MESSAGE_STATE_SENT")
        assert len(messages(tenant.owner, made["webhookId"])) == 1

    def test_redirects_are_not_followed(self, tenant: Tenant, receiver: Receiver) -> None:
        """Where a receiver points to was not checked."""
        receiver.headers = {"location": receiver.url("/elsewhere")}
        receiver.answer = lambda _: 307
        made = subscribe(tenant.owner, receiver.url("/first"), "user.created")
        tenant.user()
        receiver.wait(1)
        [message] = messages(tenant.owner, made["webhookId"])
        eventually(tenant.owner, f"/v3alpha/messages/{message['messageId']}", lastError="HTTP 307")
        assert receiver.events("/elsewhere") == []

    def test_a_deleted_webhook_drops_what_waits(self, tenant: Tenant, receiver: Receiver) -> None:
        """Nothing more is sent to it."""
        receiver.answer = lambda _: 500
        made = subscribe(tenant.owner, receiver.url(), "user.created")
        tenant.user()
        receiver.wait(1)
        [message] = messages(tenant.owner, made["webhookId"])
        path = f"/v3alpha/messages/{message['messageId']}"
        eventually(tenant.owner, path, lastError="HTTP 500")
        tenant.owner.ok("DELETE", f"{PATH}/{made['webhookId']}")
        assert eventually(tenant.owner, path, state="MESSAGE_STATE_DROPPED")["recipient"] == "127.0.0.1"
        assert reason(tenant.owner.post(path + "/retry")) == "MESSAGE_DONE"
        assert reason(tenant.owner.get(f"{PATH}/{made['webhookId']}")) == "WEBHOOK_NOT_FOUND"


class TestSecrets:
    def test_a_secret_is_shown_once(self, tenant: Tenant, server: Server) -> None:
        """Not when it is read, searched, changed or logged."""
        made = subscribe(tenant.owner, NOWHERE)
        path = f"{PATH}/{made['webhookId']}"
        said = [
            tenant.owner.get(path).text,
            tenant.owner.post(PATH + "/search").text,
            tenant.owner.put(path, json={"active": False}).text,
            tenant.owner.delete(path).text,
            server.log(),
        ]
        assert made["secret"].startswith("whsec_")
        assert not any("whsec_" in each or made["secret"].removeprefix("whsec_") in each for each in said)

    def test_a_new_secret_signs_beside_the_old_one(self, tenant: Tenant, receiver: Receiver) -> None:
        """So that a receiver can change over; the one before the old one signs no more."""
        made = subscribe(tenant.owner, receiver.url(), "user.created")
        path = f"{PATH}/{made['webhookId']}"
        second = tenant.owner.ok("PUT", path, {"rotateSecret": True})["secret"]
        tenant.user()
        receiver.wait(1)
        third = tenant.owner.ok("PUT", path, {"rotateSecret": True})["secret"]
        tenant.user()
        receiver.wait(2)
        keys = (made["secret"], second, third)
        assert [[told.signed_by(key) for key in keys] for told in receiver.told] == [
            [True, True, False],
            [False, True, True],
        ]


class TestUrls:
    @pytest.mark.parametrize(
        "url",
        [
            "http://example.com/",
            "ftp://example.com/",
            "https://user:secret@example.com/",
            "https://@example.com/",
            "https://",
            "https:///path",
            "https://example.com/#part",
            "https://example.com:0/",
            "https://example.com:99999/",
            "https://exa mple.com/",
            "https://example.com/\u00fc",
            "https://example.com\\@localhost/",
            "https://[::1/",
            "//example.com/",
            "https://example.com/\r\nX: y",
        ],
    )
    def test_a_url_that_is_none_is_refused(self, tenant: Tenant, url: str) -> None:
        """It is https, absolute, plain, and names nobody."""
        refused = tenant.owner.post(PATH, json={"url": url, "eventTypes": ["user.created"]})
        assert (refused.status_code, reason(refused)) == (400, "WEBHOOK_URL_INVALID")
        assert violations(refused) == {"url": "url"}

    def test_limits_of_fields(self, tenant: Tenant) -> None:
        """Length, known types, each once."""
        for body, field in (
            ({"url": "https://example.com/" + "x" * 2000, "eventTypes": ["user.created"]}, "url"),
            ({"url": NOWHERE, "eventTypes": []}, "eventTypes"),
            ({"url": NOWHERE, "eventTypes": ["user.renamed"]}, "eventTypes/0"),
            ({"url": NOWHERE, "eventTypes": ["user.created", "user.created"]}, "eventTypes/1"),
            ({"url": NOWHERE}, "eventTypes"),
        ):
            refused = tenant.owner.post(PATH, json=body)
            assert (refused.status_code, list(violations(refused))) == (400, [field])


class TestPermissions:
    def test_webhooks_of_others_are_not_there(self, tenant: Tenant, admin: Api) -> None:
        """Neither those of another organization nor the instance's."""
        other = admin.ok("POST", "/v3alpha/organizations", {"name": "Other"})["organizationId"]
        theirs = subscribe(admin, NOWHERE, organizationId=other)["webhookId"]
        whole = subscribe(admin, NOWHERE)["webhookId"]
        try:
            for webhook_id in (theirs, whole):
                path = f"{PATH}/{webhook_id}"
                for answer in (
                    tenant.owner.get(path),
                    tenant.owner.put(path, json={"active": False}),
                    tenant.owner.delete(path),
                ):
                    assert (answer.status_code, reason(answer)) == (404, "WEBHOOK_NOT_FOUND")
                found = tenant.owner.ok("POST", PATH + "/search")["result"] if webhook_id == theirs else []
                assert found == []
            named = {"url": NOWHERE, "eventTypes": ALL, "organizationId": other}
            assert tenant.owner.post(PATH, json=named).status_code == 404
            here = {"x-zitadel-orgid": tenant.organization_id}
            assert admin.get(f"{PATH}/{theirs}", headers=here).status_code == 404
            assert admin.get(f"{PATH}/{whole}", headers=here).status_code == 404
            assert admin.post(PATH, json=named, headers=here).status_code == 400
            shown = admin.ok("GET", f"{PATH}/{theirs}")["webhook"]
            assert (shown["organizationId"], shown["url"], shown["eventTypes"]) == (other, NOWHERE, ALL)
            assert "organizationId" not in admin.ok("GET", f"{PATH}/{whole}")["webhook"]
        finally:
            admin.ok("DELETE", f"{PATH}/{whole}")
        admin.ok("DELETE", f"/v3alpha/organizations/{other}")
        assert admin.get(f"{PATH}/{theirs}").status_code == 404

    def test_other_roles_are_denied(self, tenant: Tenant) -> None:
        """Webhooks need the permission of their name."""
        made = subscribe(tenant.owner, NOWHERE)["webhookId"]
        with tenant.caller("ORG_USER_MANAGER") as manager:
            for answer in (
                manager.post(PATH, json={"url": NOWHERE, "eventTypes": ALL}),
                manager.get(f"{PATH}/{made}"),
                manager.put(f"{PATH}/{made}", json={"active": False}),
                manager.delete(f"{PATH}/{made}"),
                manager.post(PATH + "/search"),
            ):
                assert answer.status_code == 403

    def test_an_organization_has_so_many_at_most(self, tenant: Tenant) -> None:
        """One more is refused, until one goes."""
        made = [subscribe(tenant.owner, NOWHERE)["webhookId"] for _ in range(MOST_WEBHOOKS)]
        body = {"url": NOWHERE, "eventTypes": ALL}
        refused = tenant.owner.post(PATH, json=body)
        assert (refused.status_code, reason(refused)) == (400, "WEBHOOK_LIMIT")
        found = tenant.owner.ok("POST", PATH + "/search", {"query": {"limit": 100}})
        assert sorted(each["webhookId"] for each in found["result"]) == sorted(made)
        tenant.owner.ok("DELETE", f"{PATH}/{made[0]}")
        assert tenant.owner.post(PATH, json=body).status_code == 201


class TestPrivateAddresses:
    @pytest.fixture(scope="class")
    @staticmethod
    def strict(short_dir: Path) -> Iterator[Server]:
        """Run a server that tells nothing to addresses that are not public."""
        running = Server(short_dir / "strict", environment={"SCHEMA_USER_ALLOW_PRIVATE_ADDRESSES": "false"}).start()
        yield running
        assert running.stop() == 0

    @pytest.mark.parametrize(
        "host",
        [
            "127.0.0.1",
            "localhost",
            "[::1]",
            "169.254.169.254",
            "10.1.2.3",
            "172.16.0.1",
            "192.168.1.1",
            "100.64.0.1",
            "0.0.0.0",  # noqa: S104 -- nobody binds to it here
            "224.0.0.1",
            "255.255.255.255",
            "2130706433",
            "0x7f000001",
            "0177.0.0.1",
            "127.1",
            "[::ffff:127.0.0.1]",
            "[::ffff:169.254.169.254]",
            "[64:ff9b::a00:1]",
            "[fe80::1]",
            "[fd00::1]",
            "[ff02::1]",
            "[2002:7f00:1::]",
            socket.gethostname(),
        ],
    )
    def test_an_address_that_is_not_public_is_refused(self, strict: Server, host: str) -> None:
        """In whatever form it is written, and also behind a name."""
        with strict.client() as api:
            refused = api.post(PATH, json={"url": f"https://{host}/", "eventTypes": ALL})
        assert (refused.status_code, reason(refused)) == (400, "WEBHOOK_URL_INVALID")

    def test_public_addresses_are_taken(self, strict: Server) -> None:
        """And names that do not resolve now: each delivery looks again."""
        with strict.client() as api:
            for host in ("192.0.43.8", "[2606:4700:4700::1111]", "hooks.example.invalid"):
                made = subscribe(api, f"https://{host}/")
                assert reason(api.put(f"{PATH}/{made['webhookId']}", json={"url": "https://10.0.0.1/"}))
                api.ok("DELETE", f"{PATH}/{made['webhookId']}")


@pytest.mark.soak
def test_a_kill_between_commit_and_delivery_loses_nothing(short_dir: Path) -> None:
    """What was committed is told, though the process that committed it was killed at once."""
    running = Server(short_dir / "killed").start()
    with receiving() as receiver:
        with running.client() as api:
            api.headers["x-zitadel-orgid"] = "default"
            found = api.ok("POST", "/v3alpha/user_schemas", {"type": "person", "schema": {"type": "object"}})
            subscribe(api, receiver.url(), "user.created", "user.updated", "schema.updated")
            made = [
                api.ok("POST", "/v3alpha/users", {"schemaId": found["id"], "data": {"n": n}})["userId"]
                for n in range(20)
            ]
            for user_id in made:
                api.ok("PUT", f"/v3alpha/users/{user_id}", {"data": {"changed": True}})
            api.ok("PUT", f"/v3alpha/user_schemas/{found['id']}", {"schema": {"type": "object", "title": "new"}})
        assert running.process is not None
        os.killpg(running.process.pid, signal.SIGKILL)
        running.process.wait()
        if running.process.stdout:
            running.process.stdout.close()
        running.start()
        deadline = time.monotonic() + 90
        while True:
            told = {(each.get("userId") or each["schemaId"], each["type"]) for each in receiver.events()}
            if len(told) == 41:
                break
            assert time.monotonic() < deadline, len(told)
            time.sleep(0.2)
        assert running.stop() == 0
    assert told == {(user_id, kind) for user_id in made for kind in ("user.created", "user.updated")} | {
        (found["id"], "schema.updated")
    }


def test_many_changes_reach_several_webhooks(tenant: Tenant) -> None:
    """Each webhook is told of each change once, however many there are at once."""
    with receiving() as receiver:
        for path in ("/one", "/two", "/three"):
            subscribe(tenant.owner, receiver.url(path), "user.created", "user.updated")
        made = [tenant.user() for _ in range(10)]
        for number in range(5):
            for user_id in made:
                tenant.owner.ok("PUT", f"/v3alpha/users/{user_id}", {"data": {"name": f"n{number}"}})
        for path in ("/one", "/two", "/three"):
            told = receiver.wait(60, path, 60)
            assert sorted((each["userId"], int(each["sequence"])) for each in told) == sorted(
                (user_id, sequence) for user_id in made for sequence in range(1, 7)
            )


def test_the_answer_of_a_receiver_is_not_kept(tenant: Tenant, receiver: Receiver) -> None:
    """Its status alone is told."""
    receiver.answer = lambda _: 418
    receiver.headers = {"x-secret": "the receiver's own"}
    made = subscribe(tenant.owner, receiver.url(), "user.created")
    tenant.user()
    receiver.wait(1)
    [message] = messages(tenant.owner, made["webhookId"])
    shown = eventually(tenant.owner, f"/v3alpha/messages/{message['messageId']}", lastError="HTTP 418")
    assert "receiver's own" not in str(shown)
