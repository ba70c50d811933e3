"""Importing and exporting users: a line in, a line out, through the door and from the command line."""

from __future__ import annotations

import json
import socket
import time
from typing import TYPE_CHECKING, Any

import pytest

from tests.conftest import reason
from tests.exports import IDENTITIES, IDENTITY_SCHEMA, ZITADEL_EXPORT
from tests.terminal import ran

if TYPE_CHECKING:
    from pathlib import Path

    from tests.conftest import Api, Server, Tenant
    from tests.terminal import Ended

IMPORT = "/v3alpha/users/import"
EXPORT = "/v3alpha/users/export"
USERS = "/v3alpha/users"
NDJSON = {"Content-Type": "application/x-ndjson"}
BCRYPT = "$2b$04$UzGnbfzOb5sC1XPFnAKlheSCsWYwqfSGSGSiTQkmNLv3rZBd8hA12"


def sent(caller: Api, lines: list[Any], *, key: str = "", **query: str) -> list[dict[str, Any]]:
    """Import lines (bytes as they are, others as JSON) and give the results."""
    body = b"\n".join(each if isinstance(each, bytes) else json.dumps(each).encode() for each in lines)
    headers = NDJSON | ({"Idempotency-Key": key} if key else {})
    response = caller.post(IMPORT, content=body, headers=headers, params=query)
    assert response.status_code == 200, response.text
    assert response.headers["content-type"] == "application/x-ndjson"
    return [json.loads(line) for line in response.text.splitlines()]


def why(result: dict[str, Any]) -> str:
    """Give the reason of a line that failed."""
    return str(result["error"]["details"][0]["reason"])


def exported(caller: Api, **query: str) -> list[dict[str, Any]]:
    """Export users and give the lines."""
    response = caller.get(EXPORT, params=query)
    assert response.status_code == 200, response.text
    return [json.loads(line) for line in response.text.splitlines()]


@pytest.fixture
def line(tenant: Tenant) -> Any:
    """Make lines of the tenant's own schema."""

    def made(name: str = "Minnie", **more: Any) -> dict[str, Any]:
        return {"schemaId": tenant.schema_id, "data": {"name": name}} | more

    return made


class TestImport:
    """POST /v3alpha/users/import."""

    def test_a_wrong_line_costs_only_itself(self, tenant: Tenant, line: Any) -> None:
        """Whatever is wrong with a line; results come in order, and only those of failed lines have an error."""
        user = f"u-{tenant.organization_id}"
        lines = [
            line(userId=user, username="Mouse", contact={"email": {"address": "a@Example.com", "isVerified": True}}),
            b"",
            b'{"schemaId": ',
            b"\xff\xfe",
            line("x" * 51),
            line(userId=user),
            line(username="mouse"),
            line(shemaId="1"),
            b'{"schemaId": "1", "data": {"name": "' + b"x" * 1_048_576 + b'"}}',
            line(contact={"email": {"address": "nobody", "sendCode": {}, "isVerified": True}}),
            line(userId="_no"),
            line(state="USER_STATE_DELETED"),
            line(contact={"phone": {"number": "+41791234567"}}),
            b'{"nextPageToken":"00"}',
            line(schemaId="999999999999999992"),
            line("last"),
        ]
        results = sent(tenant.owner, lines)
        assert [each["line"] for each in results] == [1, *range(3, 14), 15, 16]
        assert {each["line"]: why(each) for each in results if "error" in each} == {
            3: "FIELD_INVALID",
            4: "FIELD_INVALID",
            5: "DATA_INVALID",
            6: "USER_ID_TAKEN",
            7: "USERNAME_TAKEN",
            8: "FIELD_INVALID",
            9: "LINE_TOO_LARGE",
            10: "FIELD_INVALID",
            11: "FIELD_INVALID",
            12: "FIELD_INVALID",
            15: "SCHEMA_UNKNOWN",
        }
        done = [each for each in results if "error" not in each]
        assert all(each.keys() == {"line", "userId", "details"} for each in done)
        stored = tenant.owner.ok("GET", f"{USERS}/{user}")["user"]
        assert stored["details"] == done[0]["details"]
        assert stored["contact"]["email"] == {"address": "a@example.com", "isVerified": True}
        phoned = tenant.owner.ok("GET", f"{USERS}/{done[1]['userId']}")["user"]
        assert phoned["contact"]["phone"] == {"number": "+41791234567", "isVerified": False}
        assert tenant.owner.ok("POST", "/v3alpha/messages/search", {})["details"].get("totalResult", "0") == "0"

    def test_only_a_line_of_nothing_but_a_token_is_passed_over(self, tenant: Tenant, line: Any) -> None:
        """A user beside it would be lost without a word, so that line is refused."""
        results = sent(
            tenant.owner,
            [
                b'{"nextPageToken":"00"}',
                json.dumps({"nextPageToken": "00"} | line(), separators=(",", ":")).encode(),
                b'{"nextPageToken":',
            ],
        )
        assert [(each["line"], why(each)) for each in results] == [(2, "FIELD_INVALID"), (3, "FIELD_INVALID")]

    def test_replace(self, tenant: Tenant, line: Any) -> None:
        """By its id a user gets what the line says and loses what it lacks; who is not there is made."""
        user = tenant.user(username="old", contact={"email": {"address": "o@example.com", "isVerified": True}})
        tenant.owner.ok("POST", f"{USERS}/{user}/lock", {})
        other = f"new-{user}"
        lines = [line("Daisy", userId=user), line("New", userId=other), line("Newer", userId=other), line("Made")]
        results = sent(tenant.owner, lines, mode="replace")
        assert [each["details"]["sequence"] for each in results] == ["3", "1", "2", "1"]
        stored = tenant.owner.ok("GET", f"{USERS}/{user}")["user"]
        assert stored["data"] == {"name": "Daisy"}
        assert stored.keys().isdisjoint({"username", "contact"})
        assert stored["state"] == "USER_STATE_LOCKED"
        assert tenant.owner.ok("GET", f"{USERS}/{other}")["user"]["data"] == {"name": "Newer"}
        (refused,) = sent(tenant.owner, [line("Daisy", userId=user, state="USER_STATE_ACTIVE")])
        assert why(refused) == "USER_ID_TAKEN"
        (changed,) = sent(tenant.owner, [line("Daisy", userId=user, state="USER_STATE_ACTIVE")], mode="replace")
        assert changed["details"]["sequence"] == "4"

    def test_validate_only(self, tenant: Tenant, line: Any) -> None:
        """Every check, nothing stored."""
        taken = tenant.user(username="taken")
        lines = [line(userId="free"), line(userId=taken), line(username="Taken"), line("x" * 51)]
        results = sent(tenant.owner, lines, validateOnly="true")
        assert [why(each) if "error" in each else "" for each in results] == [
            "",
            "USER_ID_TAKEN",
            "USERNAME_TAKEN",
            "DATA_INVALID",
        ]
        assert len(exported(tenant.owner)) == 1

    @pytest.mark.parametrize("mode", ["create", "replace"])
    def test_the_same_stream_under_a_key_goes_on(self, tenant: Tenant, line: Any, mode: str) -> None:
        """Lines that are done are answered as done and not done again, also when users changed since."""
        ids = [f"{mode}-{tenant.organization_id}-{number}" for number in range(3)]
        there = tenant.user()
        lines = [line(userId=ids[0], username="one"), line("no id"), line(userId=ids[1]), line("codes")]
        lines[3]["contact"] = {"email": {"address": "c@example.com", "returnCode": {}}}
        lines += [line("Replaced", userId=there)] if mode == "replace" else []
        first = sent(tenant.owner, lines[:2], key="k", mode=mode)
        whole = sent(tenant.owner, lines, key="k", mode=mode)
        assert whole[:2] == first
        assert len(whole[3]["emailCode"]) == 6
        tenant.owner.ok("PUT", f"{USERS}/{ids[0]}", {"data": {"name": "Changed"}})
        time.sleep(1.5)  # the relay has moved the entries by then, most of the time
        again = sent(tenant.owner, [*lines, line("more")], key="k", mode=mode)
        assert again[: len(lines)] == whole
        assert "error" not in again[-1]
        assert tenant.owner.ok("GET", f"{USERS}/{ids[0]}")["user"]["data"] == {"name": "Changed"}
        assert len(exported(tenant.owner)) == 6
        other = sent(tenant.owner, [line("Other", userId=ids[0]), line("other without id")], key="k", mode=mode)
        assert [why(each) for each in other] == ["IDEMPOTENCY_KEY_REUSED"] * 2
        query = {"mode": "create" if mode == "replace" else "replace"}
        response = tenant.owner.post(IMPORT, content=b"", headers={**NDJSON, "Idempotency-Key": "k"}, params=query)
        assert reason(response) == "IDEMPOTENCY_KEY_REUSED"

    def test_passwords(self, tenant: Tenant, line: Any) -> None:
        """A password comes plain or as a hash from elsewhere, not as both."""
        lines = [
            line(hashedPassword={"hash": BCRYPT}),
            line(password={"password": "Secret-1234"}),
            line(password={"password": "weak"}),
            line(password={"password": "Secret-1234"}, hashedPassword={"hash": BCRYPT}),
            line(hashedPassword={"hash": "$1$md5"}),
        ]
        results = sent(tenant.owner, lines)
        assert [why(each) if "error" in each else "" for each in results] == [
            "",
            "",
            "PASSWORD_POLICY",
            "FIELD_INVALID",
            "FIELD_INVALID",
        ]
        path = f"{USERS}/{results[1]['userId']}/password/verify"
        assert tenant.owner.post(path, json={"password": "Secret-1234"}).status_code == 200

    def test_a_line_reaches_no_further_than_its_caller(self, tenant: Tenant, line: Any, admin: Api) -> None:
        """Other organizations are not there; without the permission, or with a wrong mode, there is no import."""
        elsewhere = admin.ok("POST", "/v3alpha/organizations", {"name": "Elsewhere"})["organizationId"]
        taken = f"{elsewhere}-user"
        away = {"userId": taken, "schemaId": human(admin), "data": HUMAN, "organization": {"orgId": elsewhere}}
        (made,) = sent(admin, [away])
        assert made["details"]["resourceOwner"] == elsewhere
        lines = [line(organization={"orgId": elsewhere}), line(userId=taken), line(organization={"orgId": "0"})]
        missing = "ORGANIZATION_NOT_FOUND"
        for mode in ("create", "replace"):
            results = sent(tenant.owner, lines, mode=mode)
            assert [why(each) for each in results] == [missing, "USER_ID_TAKEN", missing]
        with tenant.caller("ORG_USER_VIEWER") as viewer:
            assert viewer.post(IMPORT, content=b"", headers=NDJSON).status_code == 403
        assert tenant.owner.post(IMPORT, content=b"", headers=NDJSON, params={"mode": "both"}).status_code == 400
        assert tenant.owner.post(IMPORT, json={}).status_code == 415
        assert sent(tenant.owner, [b""]) == []

    def test_the_history_knows_of_it(self, tenant: Tenant, line: Any) -> None:
        """An imported user has the history of one that was created."""
        (made,) = sent(tenant.owner, [line("Daisy")])
        for _ in range(2):
            (entry,) = tenant.owner.ok("GET", f"{USERS}/{made['userId']}/history")["result"]
            assert any("Daisy" in json.dumps(change.get("new")) for change in entry["changes"])
            time.sleep(0.3)
        tenant.owner.ok("PUT", f"{USERS}/{made['userId']}", {"data": {"name": "Minnie"}})
        assert len(tenant.owner.ok("GET", f"{USERS}/{made['userId']}/history")["result"]) == 2

    def test_a_stream_is_answered_while_it_is_sent(self, tenant: Tenant, server: Server, line: Any) -> None:
        """A client may wait for each result; one that goes away in the middle of a line has imported those before."""
        head = f"POST {IMPORT} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {tenant.owner.token}\r\n"
        head += "Content-Type: application/x-ndjson\r\nTransfer-Encoding: chunked\r\n\r\n"
        with socket.create_connection(("127.0.0.1", server.port), timeout=20) as connection:
            connection.sendall(head.encode())
            answer = b""
            for number in (1, 2):
                raw = json.dumps(line(f"Number {number}")).encode() + b"\n"
                connection.sendall(b"%x\r\n%s\r\n" % (len(raw), raw))
                while b'{"line":%d,' % number not in answer:
                    answer += connection.recv(65536)
            connection.sendall(b'7\r\n{"schem\r\n')
        assert b"error" not in answer
        assert len(exported(tenant.owner)) == 2

    def test_a_client_that_reads_late_does_not_hold_itself_up(self, tenant: Tenant, line: Any) -> None:
        """Most clients send all before they read; many results wait for them on the disk."""
        results = sent(tenant.owner, [line("x" * 60) | {"userId": f"{n}"} for n in range(3_000)])
        assert len(results) == 3_000
        assert {why(each) for each in results} == {"DATA_INVALID"}


HUMAN: dict[str, Any] = {"profile": {"givenName": "Road", "familyName": "Runner"}}


def human(admin: Api) -> str:
    """Give the id of the built-in schema."""
    query = {"queries": [{"typeQuery": {"type": "human"}}]}
    seen_there = {"x-zitadel-orgid": "default"}  # other organizations may have a type of this name
    found = admin.ok("POST", "/v3alpha/user_schemas/search", query, headers=seen_there)["result"]
    return str(found[0]["id"])


class TestExport:
    """GET /v3alpha/users/export."""

    def test_what_is_exported_can_be_imported_elsewhere(self, tenant: Tenant, line: Any, admin: Api) -> None:
        """The same users with the same data, contacts, names and states, in the order of their ids."""
        lines = [
            line("A", username="ann", contact={"email": {"address": "a@example.com", "isVerified": True}}),
            line("B", state="USER_STATE_LOCKED", contact={"phone": {"number": "+41791234567"}}),
            line("C", state="USER_STATE_INACTIVE"),
        ]
        sent(tenant.owner, lines)
        found = exported(tenant.owner, schemaId=tenant.schema_id)
        assert found == [
            {"userId": each["userId"], "organization": {"orgId": tenant.organization_id}} | wanted
            for each, wanted in zip(found, lines, strict=True)
        ]
        assert [each["userId"] for each in found] == sorted(each["userId"] for each in found)
        for each in found:
            tenant.owner.ok("DELETE", f"{USERS}/{each['userId']}")
        moved = [each | {"userId": f"again-{each['userId']}"} for each in found]
        assert all("error" not in each for each in sent(tenant.owner, moved))
        assert exported(tenant.owner) == moved
        assert exported(tenant.owner, schemaId="1") == []

    def test_pages_go_on_where_an_export_stopped(self, tenant: Tenant, line: Any) -> None:
        """Behind each page stands a token that leads on; it is good for the same caller and query only."""
        ids = [f"{tenant.organization_id}-{number:04}" for number in range(600)]
        assert all("error" not in each for each in sent(tenant.owner, [line(userId=each) for each in ids]))
        whole = exported(tenant.owner)
        tokens = [index for index, each in enumerate(whole) if "nextPageToken" in each]
        assert len(tokens) == 2
        assert [each["userId"] for each in whole if "userId" in each] == ids
        rest = exported(tenant.owner, pageToken=whole[tokens[0]]["nextPageToken"])
        assert [each.get("userId") for each in rest] == [each.get("userId") for each in whole[tokens[0] + 1 :]]
        refused = tenant.owner.get(EXPORT, params={"pageToken": whole[tokens[0]]["nextPageToken"], "schemaId": "1"})
        assert (refused.status_code, reason(refused)) == (400, "PAGE_TOKEN_INVALID")

    def test_only_what_the_caller_may_read(self, tenant: Tenant, admin: Api, line: Any) -> None:
        """Hidden fields and other organizations are left out, and so are passwords."""
        schema = {"type": "object", "properties": {"a": {"urn:zitadel:schema:permission": {"self": "r"}}, "b": {}}}
        hidden = tenant.owner.ok("POST", "/v3alpha/user_schemas", {"type": "hidden", "schema": schema})["id"]
        (made,) = sent(tenant.owner, [{"schemaId": hidden, "data": {"b": 1}, "hashedPassword": {"hash": BCRYPT}}])
        assert [each["data"] for each in exported(tenant.owner)] == [{"b": 1}]
        (refused,) = sent(tenant.owner, [{"schemaId": hidden, "data": {"a": 1}}])
        assert why(refused) == "FIELD_PERMISSION"
        assert BCRYPT not in admin.get(EXPORT, params={"schemaId": hidden}).text
        assert [each["userId"] for each in exported(admin, schemaId=hidden)] == [made["userId"]]
        with tenant.caller("ORG_OWNER") as other:
            other.headers["x-zitadel-orgid"] = tenant.organization_id
            assert len(exported(other)) == 1
        with tenant.caller(user_id=made["userId"]) as itself:
            assert itself.get(EXPORT).status_code == 403


def command(server: Server, *arguments: str) -> Ended:
    """Run ``schema-user users`` beside the server."""
    return ran(server.env(), "users", *arguments)


def test_the_command_imports_and_exports(server: Server, tenant: Tenant, line: Any, tmp_path: Path) -> None:
    """As the operator, with the hashes of passwords if asked for; under a name an import goes on."""
    source, target = tmp_path / "in.ndjson", tmp_path / "out.ndjson"
    without = {"userId": f"c-{tenant.organization_id}", "data": {"name": "A"}, "hashedPassword": {"hash": BCRYPT}}
    source.write_text("\n".join(json.dumps(each) for each in (without, line("x" * 51), line("B"))))
    options = ("--schema", tenant.schema_id, "--organization", tenant.organization_id)
    for _ in range(2):
        done = command(server, "import", str(source), *options, "--resume", "moving")
        assert (done.returncode, done.stdout) == (1, "users imported: 2; lines that failed: 1\n"), done.stderr
        assert "line 2: data does not match" in done.stderr
    given = command(server, "export", *options, "--with-password-hashes", "--output", str(target))
    assert (given.returncode, given.stderr) == (0, "users exported: 2\n")
    lines = [json.loads(each) for each in target.read_text().splitlines()]
    assert [each["data"]["name"] for each in lines] == ["B", "A"]
    assert lines[1]["hashedPassword"] == {"hash": BCRYPT}
    assert target.stat().st_mode & 0o777 == 0o600


def converted(server: Server, folder: Path, kind: str, document: Any, *options: str) -> list[dict[str, Any]]:
    """Convert an export by the command and give the lines."""
    source, target = folder / f"{kind}.json", folder / f"{kind}.ndjson"
    source.write_text(json.dumps(document))
    done = command(server, f"convert-{kind}", str(source), *options, "--output", str(target))
    assert done.returncode == 0, done.stderr
    assert "left behind: " in done.stdout
    return [json.loads(each) for each in target.read_text().splitlines()]


def test_people_move_in_from_zitadel(server: Server, admin: Api, tmp_path: Path) -> None:
    """What its export holds of people is taken by an import, and read by the operations for people."""
    organization = ZITADEL_EXPORT["orgs"][0]["orgId"]
    admin.ok("POST", "/v3alpha/organizations", {"name": "ACME", "organizationId": organization})
    lines = converted(server, tmp_path, "zitadel", ZITADEL_EXPORT, "--schema", human(admin))
    assert all("error" not in each for each in sent(admin, lines))
    person = admin.ok("GET", f"/v2/users/{lines[0]['userId']}")["user"]
    assert person["human"]["email"] == {"email": "road@acme.example", "isVerified": True}
    assert person["human"]["profile"]["displayName"] == "Road Runner"


def test_identities_move_in_from_kratos(server: Server, tenant: Tenant, tmp_path: Path) -> None:
    """Its identity schema is taken as a user schema, and the traits of its identities match it."""
    file = tmp_path / "schema.json"
    file.write_text(json.dumps(IDENTITY_SCHEMA))
    made = command(server, "convert-kratos-schema", str(file))
    asked = {"type": "kratos", "schema": json.loads(made.stdout)}
    schema_id = tenant.owner.ok("POST", "/v3alpha/user_schemas", asked)["id"]
    options = ("--schema", schema_id, "--identity-schema", str(file), "--organization", tenant.organization_id)
    lines = converted(server, tmp_path, "kratos", IDENTITIES[:1], *options)
    assert [each.get("error") for each in sent(tenant.owner, lines)] == [None]
    (back,) = exported(tenant.owner)
    assert back["contact"] == lines[0]["contact"] | {"email": {"address": "Office@ory.example", "isVerified": True}}
    assert back["data"] == lines[0]["data"]
