"""What changed between revisions, and the policies for a new one."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from pymongo import MongoClient

from schema_user.store.embedded import socket_uri
from tests.conftest import SCHEMA, Api, Tenant, reason, violations

PATH = "/v3alpha/user_schemas"


def changed(**properties: Any) -> dict[str, Any]:
    """Give the tenants' schema with other properties."""
    return {**SCHEMA, "properties": {**SCHEMA["properties"], **properties}}


ADULTS = changed(age={"type": "integer", "minimum": 18})


def ended(caller: Api, path: str) -> dict[str, Any]:
    """Wait for the end of a job."""
    deadline = time.monotonic() + 30
    while True:
        found: dict[str, Any] = caller.ok("GET", path)
        if found["state"] not in {"JOB_STATE_PENDING", "JOB_STATE_RUNNING"}:
            return found
        assert time.monotonic() < deadline, found
        time.sleep(0.05)


def dry_run(caller: Api, schema_id: str, schema: Any) -> str:
    """Make a dry run, and give its id once it is done."""
    job_id: str = caller.ok("POST", f"{PATH}/{schema_id}/dry_run", {"schema": schema})["jobId"]
    assert ended(caller, f"{PATH}/{schema_id}/dry_run/{job_id}")["state"] == "JOB_STATE_DONE"
    return job_id


class TestDifferences:
    def test_two_revisions_differ_in_words(self, tenant: Tenant) -> None:
        """Each difference has its place, a stable kind, words and a meaning; by default the last two are compared."""
        one = f"{PATH}/{tenant.schema_id}"
        tenant.owner.ok("PUT", one, {"schema": {**ADULTS, "required": ["name", "age"]}})
        tenant.owner.ok("PUT", one, {"schema": {**ADULTS, "required": ["name"], "title": "Grown up"}})
        widened = tenant.owner.ok("GET", f"{one}/revisions/diff")
        assert (widened["fromRevision"], widened["toRevision"], widened["verdict"]) == (2, 3, "safe")
        narrowed = tenant.owner.ok("GET", f"{one}/revisions/diff?from=1&to=2")
        assert narrowed["verdict"] == "breaking"
        assert narrowed["differences"] == [
            {"pointer": "/age", "kind": "requiredAdded", "description": "`/age` became required", "breaking": True},
            {"pointer": "/age", "kind": "boundNarrowed", "description": "`/age` narrowed to ≥ 18", "breaking": True},
        ]
        assert tenant.owner.ok("GET", f"{one}/revisions/diff?from=2&to=2")["differences"] == []
        missing = tenant.owner.get(f"{one}/revisions/diff?from=9")
        assert (missing.status_code, reason(missing)) == (404, "REVISION_NOT_FOUND")


class TestRefuse:
    def test_what_is_provably_safe_is_taken_at_once(self, tenant: Tenant) -> None:
        """Under ``refuse`` a wider schema needs no dry run; the policy itself is read back."""
        one = f"{PATH}/{tenant.schema_id}"
        tenant.owner.ok("PATCH", one, {"compatibility": "refuse"})
        assert tenant.owner.ok("PUT", one, {"schema": changed(more={"type": "string"})})["revision"] == 2
        assert tenant.owner.ok("GET", one)["schema"]["compatibility"] == "refuse"

    def test_anything_else_needs_a_dry_run_of_it(self, tenant: Tenant) -> None:
        """None, one with failing users, one of another text or revision: refused with the reason, nothing changes."""
        one = f"{PATH}/{tenant.schema_id}"
        user_id = tenant.user(data={"name": "Minnie", "age": 3})
        tenant.owner.ok("PATCH", one, {"compatibility": "refuse"})
        bare = tenant.owner.put(one, json={"schema": ADULTS})
        assert (bare.status_code, bare.json()["code"], reason(bare)) == (400, 9, "DRY_RUN_REQUIRED")
        assert violations(bare) == {"dryRunJobId": "required", "schema": "boundNarrowed"}
        failing, other = (
            dry_run(tenant.owner, tenant.schema_id, ADULTS),
            dry_run(tenant.owner, tenant.schema_id, SCHEMA),
        )
        for job_id in (failing, other, "none"):
            unfit = tenant.owner.put(one, json={"schema": ADULTS, "dryRunJobId": job_id})
            assert (unfit.status_code, reason(unfit)) == (400, "DRY_RUN_UNFIT"), unfit.text
        assert tenant.owner.ok("GET", one)["schema"]["revision"] == 1
        tenant.owner.ok("PUT", f"/v3alpha/users/{user_id}", {"data": {"name": "Minnie", "age": 30}})
        fit = dry_run(tenant.owner, tenant.schema_id, ADULTS)
        tried = tenant.owner.ok("PUT", f"{one}?validateOnly=true", {"schema": ADULTS, "dryRunJobId": fit})
        assert tried["revision"] == 2
        assert tenant.owner.ok("PUT", one, {"schema": ADULTS, "dryRunJobId": fit})["revision"] == 2
        again = tenant.owner.put(one, json={"schema": changed(age={"minimum": 21}), "dryRunJobId": fit})
        assert reason(again) == "DRY_RUN_UNFIT"

    def test_who_was_written_since_is_looked_at_again(self, tenant: Tenant) -> None:
        """A user who came after the dry run and would fail keeps the revision away; later writes are free again."""
        one = f"{PATH}/{tenant.schema_id}"
        tenant.owner.ok("PATCH", one, {"compatibility": "refuse"})
        fit = dry_run(tenant.owner, tenant.schema_id, ADULTS)
        late = tenant.user(data={"name": "Late", "age": 3})
        refused = tenant.owner.put(one, json={"schema": ADULTS, "dryRunJobId": fit})
        assert (refused.status_code, reason(refused)) == (400, "USERS_WOULD_FAIL")
        assert refused.json()["details"][0]["metadata"]["users"] == late
        assert violations(refused) == {"data/age": "minimum"}
        time.sleep(0.6)  # until no process uses the head that was announced
        tenant.user(data={"name": "Later", "age": 3})

    def test_nobody_slips_in_while_it_becomes_current(self, tenant: Tenant) -> None:
        """Of those who write meanwhile, each passes the new revision, or was refused, or kept it away."""
        one = f"{PATH}/{tenant.schema_id}"
        tenant.owner.ok("PATCH", one, {"compatibility": "refuse"})
        fit = dry_run(tenant.owner, tenant.schema_id, ADULTS)
        body = {"schema": ADULTS, "dryRunJobId": fit}
        with ThreadPoolExecutor(2) as pool:
            saving = pool.submit(lambda: tenant.owner.put(one, json=body))
            time.sleep(0.9)  # the announcement is known everywhere, and not yet current
            statuses = []
            while not saving.done():
                young = {"schemaId": tenant.schema_id, "data": {"name": "Young", "age": 3}}
                statuses.append(tenant.owner.post("/v3alpha/users", json=young))
        assert saving.result().json()["revision"] == 2
        assert statuses
        assert {(each.status_code, reason(each)) for each in statuses} == {(400, "DATA_INVALID")}
        assert "revision 2" in statuses[0].json()["message"]

    def test_a_crash_leaves_nobody_held_to_what_never_came(self, tenant: Tenant) -> None:
        """An announcement whose author is gone is forgotten by itself."""
        with MongoClient[Any](socket_uri(tenant.server.data_dir), tz_aware=True) as client:
            schemas = client.schema_user.schemas
            head = schemas.find_one({"_id": tenant.schema_id})
            assert head is not None
            left = {"text": "false", "dialect": "2020-12", "nonce": "left", "until": head["created_at"]}
            schemas.update_one({"_id": tenant.schema_id}, {"$set": {"announced": left}, "$inc": {"version": 1}})
        time.sleep(0.6)
        tenant.user()


class TestMigrate:
    def test_saving_starts_a_job_that_moves_the_users(self, tenant: Tenant) -> None:
        """The answer names it; who passes is moved, who does not is told of, and keeps its revision."""
        one = f"{PATH}/{tenant.schema_id}"
        old, young = tenant.user(data={"name": "Old", "age": 80}), tenant.user(data={"name": "Young", "age": 3})
        saved = tenant.owner.ok("PATCH", one, {"compatibility": "migrate", "schema": ADULTS})
        found = ended(tenant.owner, f"{one}/migrations/{saved['jobId']}")
        assert (found["state"], found["moved"], found["failed"]) == ("JOB_STATE_DONE", 1, 1)
        assert [(each["userId"], each["reason"]) for each in found["failures"]] == [(young, "DATA_INVALID")]
        assert [each["field"] for each in found["failures"][0]["violations"]] == ["data/age"]
        revisions = [
            tenant.owner.ok("GET", f"/v3alpha/users/{user_id}")["user"]["schema"]["revision"]
            for user_id in (old, young)
        ]
        assert revisions == [2, 1]
        assert "jobId" not in tenant.owner.ok("PATCH", one, {"type": "renamed"})
        with tenant.caller("SCHEMA_AUTHOR") as author:
            assert author.put(one, json={"schema": SCHEMA}).status_code == 403


class TestAnotherSchema:
    def test_the_error_says_what_became_of_the_data(self, tenant: Tenant) -> None:
        """Moving with and without data that matches: refused, and the user keeps its schema and data."""
        adults = tenant.owner.ok("POST", PATH, {"type": "adult", "schema": ADULTS})["id"]
        user_id = tenant.user(data={"name": "Minnie", "age": 3})
        path = f"/v3alpha/users/{user_id}"
        for body, words in (
            ({"schemaId": adults}, "send data that does, and it replaces what is stored"),
            (
                {"schemaId": adults, "data": {"name": "Minnie", "age": 4}},
                "which the data that was sent would have replaced",
            ),
        ):
            refused = tenant.owner.put(path, json=body)
            assert (refused.status_code, reason(refused)) == (400, "DATA_INVALID")
            assert words in refused.json()["message"]
            metadata = refused.json()["details"][0]["metadata"]
            assert (metadata["fromSchemaId"], metadata["storedData"]) == (tenant.schema_id, "kept")
        user = tenant.owner.ok("GET", path)["user"]
        assert (user["schema"]["id"], user["data"]["age"]) == (tenant.schema_id, 3)
