"""Migrations over HTTP: users are moved to a revision, their data changed on the way."""

from __future__ import annotations

from typing import Any

import pytest

from tests.api.test_compatibility import PATH, changed, ended
from tests.conftest import Api, Tenant, reason, violations
from tests.terminal import ran


def migrate(caller: Api, schema_id: str, **body: Any) -> dict[str, Any]:
    """Run a migration to its end, and give what became of it."""
    job_id = caller.ok("POST", f"{PATH}/{schema_id}/migrations", body)["jobId"]
    return {**ended(caller, f"{PATH}/{schema_id}/migrations/{job_id}"), "jobId": job_id}


def data_of(caller: Api, user_id: str) -> Any:
    """Read a user's data."""
    return caller.ok("GET", f"/v3alpha/users/{user_id}")["user"]["data"]


def test_data_is_changed_in_the_order_that_is_promised(tenant: Tenant) -> None:
    """Rename, patch, expression, defaults; then each user is one update with its history, and done once only."""
    user_id = tenant.user(data={"name": "Minnie", "tags": ["a"], "extra": 1})
    plain = tenant.user(data={"name": "Mickey"})
    schema = changed(label={"type": "string"}, tier={"type": "string", "default": "basic"}, note={})
    tenant.owner.ok("PUT", f"{PATH}/{tenant.schema_id}", {"schema": schema})
    found = migrate(
        tenant.owner,
        tenant.schema_id,
        toRevision=2,
        rename=[{"source": "/extra", "target": "/note"}],
        patch=[{"op": "add", "path": "/tags", "value": []}, {"op": "add", "path": "/tags/-", "value": "new"}],
        expression="merge(@, {label: join('/', [name, tags[0]])})",
        defaults=True,
    )
    assert (found["state"], found["moved"], found["skipped"], found["failed"]) == ("JOB_STATE_DONE", 2, 0, 0)
    minnie = {"name": "Minnie", "tags": ["new"], "note": 1, "label": "Minnie/new", "tier": "basic"}
    assert data_of(tenant.owner, user_id) == minnie
    assert data_of(tenant.owner, plain) == {"name": "Mickey", "tags": ["new"], "label": "Mickey/new", "tier": "basic"}
    history = tenant.owner.ok("GET", f"/v3alpha/users/{user_id}/history")["result"]
    assert [(each["sequence"], each["requestId"]) for each in history][:1] == [("2", f"job-{found['jobId']}")]
    again = migrate(
        tenant.owner, tenant.schema_id, toRevision=2, patch=[{"op": "add", "path": "/tags/-", "value": "b"}]
    )
    assert (again["moved"], again["skipped"]) == (0, 2)
    assert data_of(tenant.owner, user_id) == minnie


def test_failures_are_named_and_can_be_tried_again(tenant: Tenant) -> None:
    """Each with its reason and pointers; once they are mended, a retry moves them and nobody else."""
    bad, good = tenant.user(data={"name": "Bad", "age": 3}), tenant.user(data={"name": "Good", "age": 30})
    both = tenant.user(data={"name": "Both", "age": 30, "extra": 1, "tags": []})
    tenant.owner.ok("PUT", f"{PATH}/{tenant.schema_id}", {"schema": changed(age={"minimum": 18})})
    found = migrate(tenant.owner, tenant.schema_id, toRevision=2, rename=[{"source": "/extra", "target": "/tags"}])
    failures = {each["userId"]: (each["reason"], each["violations"][0]["field"]) for each in found["failures"]}
    assert failures == {bad: ("DATA_INVALID", "data/age"), both: ("RENAME_TAKEN", "data/tags")}
    assert (found["moved"], found["failed"]) == (1, 2)
    tenant.owner.ok("PATCH", f"/v3alpha/users/{good}/data", {"name": "Better"}, headers={"Content-Type": MERGE})
    at = f"{PATH}/{tenant.schema_id}/migrations/{found['jobId']}"
    tenant.owner.ok("PUT", f"/v3alpha/users/{both}", {"data": {"name": "Both"}})
    retried = ended(
        tenant.owner, f"{PATH}/{tenant.schema_id}/migrations/{tenant.owner.ok('POST', at + '/retry')['jobId']}"
    )
    assert (retried["moved"], retried["skipped"], retried["failed"]) == (0, 2, 1)
    assert tenant.owner.ok("POST", at + "/cancel")["state"] == "JOB_STATE_DONE"


MERGE = "application/merge-patch+json"


def test_users_come_from_another_schema(tenant: Tenant) -> None:
    """With ``fromSchemaId`` the users of that schema are moved; both schemas must be the caller's to change."""
    other = tenant.owner.ok("POST", PATH, {"type": "other", "schema": {"properties": {"full": {"type": "string"}}}})[
        "id"
    ]
    user_id = tenant.user(schemaId=other, data={"full": "Minnie"})
    found = migrate(
        tenant.owner,
        tenant.schema_id,
        toRevision=1,
        fromSchemaId=other,
        rename=[{"source": "/full", "target": "/name"}],
    )
    assert (found["moved"], found["failed"]) == (1, 0)
    user = tenant.owner.ok("GET", f"/v3alpha/users/{user_id}")["user"]
    assert (user["schema"]["id"], user["data"]) == (tenant.schema_id, {"name": "Minnie"})
    instances = tenant.admin.ok("POST", PATH, {"type": f"i{user_id}", "schema": {}})["id"]
    body = {"toRevision": 1, "fromSchemaId": instances}
    assert tenant.owner.post(f"{PATH}/{tenant.schema_id}/migrations", json=body).status_code == 403
    assert tenant.owner.post(f"{PATH}/{instances}/migrations", json={"toRevision": 1}).status_code == 403


@pytest.mark.parametrize(
    ("body", "where", "why"),
    [
        ({"toRevision": 2}, "toRevision", "REVISION_NOT_CURRENT"),
        ({"toRevision": 1, "expression": "a["}, "expression", "EXPRESSION_INVALID"),
        ({"toRevision": 1, "expression": "nothing(@)"}, "expression", "EXPRESSION_INVALID"),
        ({"toRevision": 1, "expression": "{a: to_string(&b)}"}, "expression", "EXPRESSION_INVALID"),
        ({"toRevision": 1, "expression": "[@,@]" + "|[@,@]" * 40}, "expression", "EXPRESSION_INVALID"),
        ({"toRevision": 1, "patch": [{"op": "jump", "path": "/a"}]}, "patch/0/op", "PATCH_INVALID"),
        ({"toRevision": 1, "fromSchemaId": "nothing"}, "fromSchemaId", "SCHEMA_UNKNOWN"),
        ({"toRevision": 1, "rename": [{"source": "name", "target": "/a"}]}, "rename/0/source", "FIELD_INVALID"),
    ],
    ids=["revision", "syntax", "function", "reference", "bomb", "patch", "schema", "pointer"],
)
def test_what_cannot_work_is_refused_at_once(tenant: Tenant, body: dict[str, Any], where: str, why: str) -> None:
    """No job is made for a revision that is not current, nor for a patch or an expression that is none."""
    response = tenant.owner.post(f"{PATH}/{tenant.schema_id}/migrations", json=body)
    assert (response.status_code, reason(response)) == (400, why), response.text
    assert where in violations(response)


def test_a_name_that_is_no_pointer_is_told_the_pattern(tenant: Tenant) -> None:
    """A text of another form is told what it must match, and not that it is no text."""
    body = {"toRevision": 1, "rename": [{"source": "name", "target": "/a"}]}
    response = tenant.owner.post(f"{PATH}/{tenant.schema_id}/migrations", json=body)
    assert response.json()["message"].startswith("rename/0/source must match ^(/")
    assert violations(response) == {"rename/0/source": "pattern"}


@pytest.mark.parametrize(
    ("expression", "why"),
    [
        ("name", "MIGRATION_RESULT"),
        ('{"$where": name}', "MIGRATION_RESULT"),
        ("merge(@, {extra: length(age)})", "EXPRESSION_UNFIT"),
        ("{extra: " + "tags" + " | [@,@]" * 40 + "}", "VALIDATION_BUDGET"),
        ('merge(@, `{"extra": "\\u0000"}`)', "MIGRATION_RESULT"),
        ("{extra: to_number('1e999')}", "EXPRESSION_UNFIT"),
    ],
    ids=["no object", "operator", "type", "bomb", "nul", "infinite"],
)
def test_an_expression_makes_nothing_that_no_update_could(tenant: Tenant, expression: str, why: str) -> None:
    """What it makes is held to the rules of data, and what it takes is bounded; the user stays as it was."""
    user_id = tenant.user(data={"name": "Minnie", "age": 3, "tags": ["x" * 50] * 50})
    tenant.owner.ok("PUT", f"{PATH}/{tenant.schema_id}", {"schema": changed(more={})})
    found = migrate(tenant.owner, tenant.schema_id, toRevision=2, expression=expression)
    assert [each["reason"] for each in found["failures"]] == [why]
    user = tenant.owner.ok("GET", f"/v3alpha/users/{user_id}")["user"]
    assert (user["details"]["sequence"], user["schema"]["revision"]) == ("1", 1)


def test_the_command_moves_users_and_says_who_failed(tenant: Tenant) -> None:
    """``schema-user schema diff`` and ``migrate`` say what the API says; the status is 1 where something is lost."""
    bad = tenant.user(data={"name": "Bad", "age": 3})
    good = tenant.user(data={"name": "Good", "extra": 1})
    tenant.owner.ok("PUT", f"{PATH}/{tenant.schema_id}", {"schema": changed(age={"minimum": 18}, note={})})

    def said(*arguments: str) -> tuple[int, str]:
        done = ran(tenant.server.env(), "schema", *arguments)
        return done.returncode, done.stdout + done.stderr

    status, words = said("diff", "--schema", tenant.schema_id)
    assert status == 1
    assert "`/age` narrowed to ≥ 18" in words
    status, words = said("migrate", tenant.schema_id, "--rename", "/extra=/note", "--dry-run")
    assert status == 1
    assert f"1 user would be moved (such as {good}), 0 left alone, 1 would fail; nothing was written" in words
    assert data_of(tenant.owner, good) == {"name": "Good", "extra": 1}
    status, words = said("migrate", tenant.schema_id, "--rename", "/extra=/note")
    assert status == 1
    assert f"{bad}  DATA_INVALID  data/age" in words
    assert "1 user moved, 0 left alone, 1 failed" in words
    assert data_of(tenant.owner, good) == {"name": "Good", "note": 1}


def test_a_migration_can_be_rehearsed(tenant: Tenant) -> None:
    """With ``dryRun`` it says who would be moved and who would fail, and writes nothing; a value stays free."""
    unique = {"type": "string", "urn:schema-user:unique": True}
    bad, good = tenant.user(data={"name": "Bad", "age": 3}), tenant.user(data={"name": "Good", "extra": "x"})
    schema = changed(age={"minimum": 18}, note=unique)
    tenant.owner.ok("PUT", f"{PATH}/{tenant.schema_id}", {"schema": schema})
    how = {"toRevision": 2, "rename": [{"source": "/extra", "target": "/note"}]}
    before = [tenant.owner.ok("GET", f"/v3alpha/users/{each}") for each in (bad, good)]
    found = migrate(tenant.owner, tenant.schema_id, **how, dryRun=True)
    assert (found["dryRun"], found["moved"], found["examples"], found["failed"]) == (True, 1, [good], 1)
    assert [(each["userId"], each["reason"]) for each in found["failures"]] == [(bad, "DATA_INVALID")]
    assert [tenant.owner.ok("GET", f"/v3alpha/users/{each}") for each in (bad, good)] == before
    assert len(tenant.owner.ok("GET", f"/v3alpha/users/{good}/history")["result"]) == 1
    tenant.user(data={"name": "Other", "note": "x"})
    taken = migrate(tenant.owner, tenant.schema_id, **how)
    assert "dryRun" not in taken
    assert [each["reason"] for each in taken["failures"]] == ["DATA_INVALID", "VALUE_TAKEN"]


def test_who_is_behind_is_found_and_counted(tenant: Tenant) -> None:
    """By schema and revision, beside other queries and as the opposite."""
    bad, good = tenant.user(data={"name": "Bad", "age": 3}), tenant.user(data={"name": "Good"})
    tenant.owner.ok("PUT", f"{PATH}/{tenant.schema_id}", {"schema": changed(age={"minimum": 18})})
    migrate(tenant.owner, tenant.schema_id, toRevision=2)

    def found(caller: Api, *queries: Any) -> tuple[str, set[str]]:
        page = caller.ok("POST", "/v3alpha/users/search", {"queries": list(queries)})
        return page["details"]["totalResult"], {each["userId"] for each in page["result"]}

    def query(revision: int, method: str) -> dict[str, Any]:
        asked = {"schemaId": tenant.schema_id, "revision": revision, "method": f"DATA_QUERY_METHOD_{method}"}
        return {"schemaRevisionQuery": asked}

    assert found(tenant.owner, query(2, "LESS")) == ("1", {bad})
    assert found(tenant.owner, query(2, "GREATER_OR_EQUALS")) == ("1", {good})
    assert found(tenant.owner, query(2, "EQUALS")) == ("1", {good})
    assert found(tenant.owner, query(2, "LESS_OR_EQUALS")) == ("2", {bad, good})
    assert found(tenant.owner, query(1, "GREATER"), {"userIdQuery": {"id": bad}}) == ("0", set())
    mine = {"schemaIdQuery": {"id": tenant.schema_id}}
    assert found(tenant.owner, mine, {"notQuery": {"query": query(2, "LESS")}}) == ("1", {good})
    wrong = tenant.owner.post("/v3alpha/users/search", json={"queries": [query(0, "LESS")]})
    assert list(violations(wrong)) == ["queries/0/schemaRevisionQuery/revision"]
