"""Dry runs of a schema: the verdict on its text, and the stored users that would not pass."""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING, Any

import pytest

from tests.conftest import SCHEMA, Api, Tenant, reason, violations
from tests.terminal import ran

if TYPE_CHECKING:
    from pathlib import Path

    from tests.terminal import Ended

PERMISSION = "urn:zitadel:schema:permission"


def path(schema_id: str, job_id: str = "") -> str:
    """Give the path of the dry runs of a schema, or of one."""
    return f"/v3alpha/user_schemas/{schema_id}/dry_run" + (f"/{job_id}" if job_id else "")


def run(caller: Api, schema_id: str, schema: Any, **transformation: Any) -> Any:
    """Start a dry run, wait for its end, and give what it found, with its id."""
    response = caller.post(path(schema_id), json={"schema": schema, **transformation})
    assert response.status_code == 202, response.text
    at, deadline = path(schema_id, response.json()["jobId"]), time.monotonic() + 30
    while True:
        found = caller.ok("GET", at)
        if found["state"] not in {"JOB_STATE_PENDING", "JOB_STATE_RUNNING"}:
            return {**found, "jobId": response.json()["jobId"]}
        assert time.monotonic() < deadline, found
        time.sleep(0.05)


def with_property(**properties: Any) -> dict[str, Any]:
    """Give the tenants' schema with other properties."""
    return {**SCHEMA, "properties": {**SCHEMA["properties"], **properties}}


class TestResult:
    def test_failing_users_are_grouped_by_violation(self, tenant: Tenant) -> None:
        """Each violation with its count and its users; a user with two counts in each; nothing is changed."""
        young = [tenant.user(data={"name": "A", "age": age}) for age in (3, 4)]
        bare = tenant.user(data={"name": "A"})
        fine = tenant.user(data={"name": "Minnie", "age": 40})
        schema = {**with_property(age={"type": "integer", "minimum": 18}, name={"minLength": 2}), "required": ["age"]}
        found = run(tenant.owner, tenant.schema_id, schema)
        assert found["state"] == "JOB_STATE_DONE"
        assert (found["done"], found["total"], found["passed"], found["failed"]) == (4, 4, 1, 3)
        told = {
            (each["violation"]["field"], each["violation"]["reason"]): (each["count"], each["users"])
            for each in found["failing"]
        }
        assert told == {
            ("data/name", "minLength"): (3, [*young, bare]),
            ("data/age", "minimum"): (2, young),
            ("data/age", "required"): (1, [bare]),
        }
        assert found["verdict"] == "breaking"
        assert {each["pointer"] for each in found["differences"] if each["breaking"]} >= {"/age"}
        user = tenant.owner.ok("GET", f"/v3alpha/users/{fine}")["user"]
        assert (user["details"]["sequence"], user["schema"]["revision"]) == ("1", 1)

    def test_a_wider_schema_is_safe_and_all_pass(self, tenant: Tenant) -> None:
        """The verdict speaks of the texts, the counts of the users; the revision is the one compared with."""
        tenant.user()
        found = run(tenant.owner, tenant.schema_id, with_property(nickname={"type": "string"}))
        assert (found["verdict"], found["passed"], found["failed"], found["failing"]) == ("safe", 1, 0, [])
        assert found["revision"] == 1

    def test_a_schema_without_users_is_done_at_once(self, tenant: Tenant) -> None:
        """There is a verdict all the same."""
        found = run(tenant.owner, tenant.schema_id, {**SCHEMA, "required": ["name", "age"]})
        assert (found["state"], found["done"], found["verdict"]) == ("JOB_STATE_DONE", 0, "breaking")


class TestRefusals:
    def test_what_is_no_schema_is_refused_at_once(self, tenant: Tenant) -> None:
        """With its pointer, and no job is made; the same for fields and organizations."""
        response = tenant.owner.post(path(tenant.schema_id), json={"schema": {"type": "strin"}})
        assert (response.status_code, reason(response)) == (400, "SCHEMA_INVALID")
        assert list(violations(response)) == ["schema/type"]
        response = tenant.owner.post(path("999999999999999992"), json={"schema": {}})
        assert (response.status_code, reason(response)) == (404, "SCHEMA_NOT_FOUND")
        response = tenant.owner.get(path(tenant.schema_id, "999999999999999998"))
        assert (response.status_code, reason(response)) == (404, "JOB_NOT_FOUND")

    def test_a_repeated_request_starts_one_job(self, tenant: Tenant) -> None:
        """Under an Idempotency-Key; cancelling what has ended changes nothing."""
        key = {"Idempotency-Key": "dry"}
        first, again = (tenant.owner.post(path(tenant.schema_id), json={"schema": {}}, headers=key) for _ in range(2))
        assert first.json()["jobId"] == again.json()["jobId"]
        ended = run(tenant.owner, tenant.schema_id, {})
        assert ended["state"] == "JOB_STATE_DONE"
        at = path(tenant.schema_id, first.json()["jobId"])
        cancelled = tenant.owner.ok("POST", f"{at}/cancel")
        assert cancelled == tenant.owner.ok("GET", at)


HIDDEN = with_property(extra={"type": "object", PERMISSION: {"self": "rw"}, "properties": {"pet": {"type": "string"}}})


@pytest.fixture
def instance_schema(admin: Api) -> str:
    """Give a schema of the instance with a place that owners may not read."""
    body = {"type": f"dry {time.monotonic_ns()}", "schema": HIDDEN}
    return str(admin.ok("POST", "/v3alpha/user_schemas", body)["id"])


def keeper(tenant: Tenant, schema_id: str, **data: Any) -> str:
    """Make a user of the instance's schema with something in the hidden place, written by the user itself."""
    user_id = tenant.user(schemaId=schema_id, data={"name": "Minnie"})
    with tenant.caller(user_id=user_id) as itself:
        itself.ok("PUT", f"/v3alpha/users/{user_id}", {"data": {"name": "Minnie", "extra": data}})
    return user_id


class TestReach:
    def test_it_covers_the_organizations_of_the_caller(self, tenant: Tenant, admin: Api, instance_schema: str) -> None:
        """Of an instance's schema too; who holds more sees more, and who holds less does not find that job."""
        mine = tenant.user(schemaId=instance_schema, data={"name": "A"})
        other = admin.ok("POST", "/v3alpha/users", {"schemaId": instance_schema, "data": {"name": "A"}})["userId"]
        strict = {**HIDDEN, "required": ["age"]}
        own = run(tenant.owner, instance_schema, strict)
        assert [each["users"] for each in own["failing"]] == [[mine]]
        all_of_it = run(admin, instance_schema, strict)
        assert {user for each in all_of_it["failing"] for user in each["users"]} == {mine, other}
        job_id = admin.post(path(instance_schema), json={"schema": strict}).json()["jobId"]
        for verb, at in (("GET", path(instance_schema, job_id)), ("POST", path(instance_schema, job_id) + "/cancel")):
            response = tenant.owner.request(verb, at)
            assert (response.status_code, reason(response)) == (404, "JOB_NOT_FOUND")

    def test_a_guess_of_what_is_hidden_gets_no_answer(self, tenant: Tenant, instance_schema: str) -> None:
        """Who may not change the schema itself has the users judged by what it sees, whether or not it guessed."""
        keeper(tenant, instance_schema, pet="cat")
        guesses = [
            with_property(extra={"properties": {"pet": {"const": guess}}, "required": ["pet"]})
            | {"if": {"properties": {"extra": {"properties": {"pet": {"const": guess}}}}, "required": ["extra"]}}
            | {"then": {"required": ["age"]}}
            for guess in ("cat", "dog")
        ]
        right, wrong = (run(tenant.owner, instance_schema, guess) for guess in guesses)
        assert [right[name] for name in ("passed", "failed", "failing")] == [1, 0, []]
        assert [wrong[name] for name in ("passed", "failed", "failing")] == [1, 0, []]

    def test_hidden_places_are_told_of_by_reason_only(self, tenant: Tenant, admin: Api, instance_schema: str) -> None:
        """Whoever may change the schema learns that something is wrong there, at the nearest place that it may read."""
        user_id = keeper(tenant, instance_schema, pet="cat")
        found = run(admin, instance_schema, with_property(extra={"properties": {"pet": {"maxLength": 2}}}))
        [group] = found["failing"]
        assert group["users"] == [user_id]
        assert (group["violation"]["field"], group["violation"]["reason"]) == ("data", "maxLength")
        assert "2" not in group["violation"]["description"]


class TestCommand:
    def test_it_shows_what_would_fail(self, tenant: Tenant, tmp_path: Path) -> None:
        """A table of differences and one of violations, and status 1 while anybody would fail."""
        user_id = tenant.user(data={"name": "A"})
        strict = tmp_path / "strict.json"
        strict.write_text(json.dumps({**SCHEMA, "required": ["name", "age"]}), encoding="utf-8")
        done = command(tenant, str(strict), "--schema", tenant.schema_id)
        assert done.returncode == 1, done.stderr
        assert "/age" in done.stdout
        assert "the schemas: breaking; of 1 user 0 would pass, 1 would not" in done.stdout
        [row] = [line for line in done.stdout.splitlines() if "data/age" in line]
        assert row.split() == ["1", "data/age", "required", "is", "required", user_id]
        missing = command(tenant, str(strict))
        assert (missing.returncode, missing.stdout) == (1, "")
        assert "there is not one user schema with the id or type strict" in missing.stderr


def command(tenant: Tenant, *arguments: str) -> Ended:
    """Run the command beside the server."""
    return ran(tenant.server.env(), "schema", "dry-run", *arguments)


UNIQUE = {"type": "string", "urn:schema-user:unique": True}


class TestSharedValues:
    def test_who_shares_a_value_that_would_be_unique_is_told_of(self, tenant: Tenant) -> None:
        """Each of them, by the place; as texts are compared without case. Who has a value alone passes."""
        cards = ("17", "18", "a", "A")
        users = [tenant.user(data={"name": "Minnie", "extra": card, "tags": ["x"]}) for card in cards]
        found = run(tenant.owner, tenant.schema_id, with_property(extra=UNIQUE, tags={"items": UNIQUE}))
        assert (found["done"], found["passed"], found["failed"]) == (4, 0, 4)
        told = {(each["violation"]["field"], each["violation"]["reason"]): each["users"] for each in found["failing"]}
        assert told == {("data/extra", "unique"): users[2:], ("data/tags/0", "unique"): users}
        alone = run(tenant.owner, tenant.schema_id, with_property(name=UNIQUE | {"maxLength": 3}, extra=UNIQUE))
        assert {each["violation"]["reason"] for each in alone["failing"]} == {"unique", "maxLength"}
        assert (alone["passed"], alone["failed"]) == (0, 4)

    def test_refuse_refuses_what_users_share(self, tenant: Tenant) -> None:
        """By its dry run; and what was unique before is no news."""
        one = f"/v3alpha/user_schemas/{tenant.schema_id}"
        users = [tenant.user(data={"name": "Minnie", "extra": "17"}) for _ in range(2)]
        schema = with_property(extra=UNIQUE)
        tenant.owner.ok("PATCH", one, {"compatibility": "refuse"})
        job_id = run(tenant.owner, tenant.schema_id, schema)["jobId"]
        refused = tenant.owner.put(one, json={"schema": schema, "dryRunJobId": job_id})
        assert (refused.status_code, reason(refused)) == (400, "DRY_RUN_UNFIT")
        assert "2 users who would fail" in refused.json()["message"]
        tenant.owner.ok("PATCH", one, {"compatibility": "allow", "schema": schema})
        again = run(tenant.owner, tenant.schema_id, {**schema, "title": "Another"})
        assert (again["passed"], again["failed"]) == (len(users), 0)


def test_a_transformation_is_tried_before_it_is_needed(tenant: Tenant) -> None:
    """Users are judged as a migration would make them, shared values among them; nothing is written."""
    one, two = (tenant.user(data={"name": name, "age": 30, "tags": ["x"]}) for name in ("Minnie", "Max"))
    late = tenant.user(data={"name": "Late"})
    schema = with_property(label=UNIQUE, tier={"default": "basic"}) | {"required": ["label", "tier"]}
    how = {"expression": "merge(@, {label: join('', tags)})", "defaults": True}
    found = run(tenant.owner, tenant.schema_id, schema, **how)
    told = {(each["violation"]["field"], each["violation"]["reason"]): each["users"] for each in found["failing"]}
    assert told == {("data/label", "unique"): [one, two], ("expression", "expression"): [late]}
    assert tenant.owner.ok("GET", f"/v3alpha/users/{one}")["user"]["data"] == {
        "name": "Minnie",
        "age": 30,
        "tags": ["x"],
    }
    bad = tenant.owner.post(path(tenant.schema_id), json={"schema": {}, "patch": [{"op": "jump", "path": "/a"}]})
    assert (bad.status_code, list(violations(bad))) == (400, ["patch/0/op"])
    tenant.owner.ok("PATCH", f"/v3alpha/user_schemas/{tenant.schema_id}", {"compatibility": "refuse"})
    speaks = tenant.owner.put(
        f"/v3alpha/user_schemas/{tenant.schema_id}", json={"schema": schema, "dryRunJobId": found["jobId"]}
    )
    assert "not what it is" in speaks.json()["message"]


def test_who_is_at_the_revision_is_not_transformed(tenant: Tenant) -> None:
    """As in a migration to the current revision: of those who were moved already, the data is judged as it is."""
    tenant.user(data={"name": "Minnie", "extra": 1})
    schema = with_property(note={})
    tenant.owner.ok("PUT", f"/v3alpha/user_schemas/{tenant.schema_id}", {"schema": schema})
    tenant.user(data={"name": "Max", "extra": 1, "note": 2})
    found = run(tenant.owner, tenant.schema_id, schema, rename=[{"source": "/extra", "target": "/note"}])
    assert (found["passed"], found["failed"]) == (2, 0)
