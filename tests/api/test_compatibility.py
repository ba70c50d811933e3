"""What changed between revisions, and the policies for a new one."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from pymongo import MongoClient

from schema_user.store.embedded import socket_uri
from tests.conftest import SCHEMA, Api, Tenant, reason, violations

PATH = "/v3alpha/user_schemas"
PERMISSION = "urn:zitadel:schema:permission"


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

    def test_saving_may_say_what_becomes_of_the_data(self, tenant: Tenant) -> None:
        """``migration`` goes with a new schema under ``migrate``; elsewhere it is refused, and nothing is saved."""
        one = f"{PATH}/{tenant.schema_id}"
        user_id = tenant.user(data={"name": "Minnie", "extra": 1})
        schema = changed(tier={"default": "basic"}, note={}) | {"required": ["tier"]}
        how = {"rename": [{"source": "/extra", "target": "/note"}], "defaults": True}
        for body, why in (
            ({"schema": schema, "migration": how}, "MIGRATION_UNASKED"),
            ({"compatibility": "migrate", "migration": how}, "MIGRATION_UNASKED"),
            ({"schema": schema, "compatibility": "migrate", "migration": {"expression": "a["}}, "EXPRESSION_INVALID"),
        ):
            refused = tenant.owner.put(one, json=body)
            assert (refused.status_code, reason(refused)) == (400, why), refused.text
        assert tenant.owner.ok("GET", one)["schema"]["revision"] == 1
        body = {"schema": schema, "compatibility": "migrate", "migration": how}
        assert "jobId" not in tenant.owner.ok("PUT", f"{one}?validateOnly=true", body)
        found = ended(tenant.owner, f"{one}/migrations/{tenant.owner.ok('PUT', one, body)['jobId']}")
        assert (found["moved"], found["failed"]) == (1, 0)
        user = tenant.owner.ok("GET", f"/v3alpha/users/{user_id}")["user"]
        assert (user["schema"]["revision"], user["data"]) == (2, {"name": "Minnie", "note": 1, "tier": "basic"})


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

    def test_the_same_of_a_value_that_is_taken(self, tenant: Tenant) -> None:
        """Also where the data would match, with and without data: a value that somebody has under the other schema."""
        schema = changed(extra={"type": "string", "urn:schema-user:unique": True})
        other = tenant.owner.ok("POST", PATH, {"type": "card holder", "schema": schema})["id"]
        tenant.user(schemaId=other, data={"name": "Max", "extra": "17"})
        path = f"/v3alpha/users/{tenant.user(data={'name': 'Minnie', 'extra': '17'})}"
        for more in ({}, {"data": {"name": "Daisy", "extra": "17"}}):
            refused = tenant.owner.put(path, json={"schemaId": other, **more})
            assert (refused.status_code, reason(refused)) == (409, "VALUE_TAKEN")
            words = "data/extra is taken by another user; nothing was changed: the user keeps its schema and its data"
            assert refused.json()["message"] == words
            assert refused.json()["details"][0]["metadata"]["storedData"] == "kept"


class TestOutdated:
    @pytest.mark.parametrize("verb", ["part", "patch", "whole", "schema"])
    def test_the_error_says_what_the_stored_data_lacks(self, tenant: Tenant, verb: str) -> None:
        """Whoever changes a part of a user at an earlier revision learns of it, and where the rest must change."""
        user_id = tenant.user(data={"name": "Minnie", "age": 3})
        schema = changed(age={"minimum": 18}, tags={"type": "array", "maxItems": 0}) | {"required": ["extra"]}
        tenant.owner.ok("PUT", f"{PATH}/{tenant.schema_id}", {"schema": schema})
        at = f"/v3alpha/users/{user_id}"
        merge = {"Content-Type": "application/merge-patch+json"}
        refused = {
            "part": lambda: tenant.owner.patch(f"{at}/data", json={"tags": ["x"]}, headers=merge),
            "patch": lambda: tenant.owner.patch(at, json={"data": {"name": "M", "tags": ["x"]}}),
            "whole": lambda: tenant.owner.put(at, json={"data": {"name": "M", "age": 4, "extra": 1}}),
            "schema": lambda: tenant.owner.put(at, json={"schemaId": tenant.schema_id}),
        }[verb]()
        assert (refused.status_code, reason(refused)) == (400, "DATA_INVALID"), refused.text
        places = {"part": ["data/age", "data/extra"], "patch": ["data/extra"], "whole": ["data/age"]}
        wanted = places.get(verb, ["data/age", "data/extra"])
        words = f"; the user is at revision 1, and its stored data fails revision 2 too, at {', '.join(wanted)}"
        assert refused.json()["message"].endswith(words)
        metadata = refused.json()["details"][0]["metadata"]
        assert (metadata["userRevision"], metadata["storedFails"]) == ("1", ",".join(wanted))
        assert set(violations(refused)) >= set(wanted)

    def test_what_is_hidden_stays_so(self, tenant: Tenant) -> None:
        """A user at an earlier revision is told of no place that it may not read; one that is up to date, nothing."""
        hidden = changed(extra={"type": "integer", PERMISSION: {"owner": "rw"}})
        schema_id = tenant.owner.ok("POST", PATH, {"type": "hidden", "schema": hidden})["id"]
        user_id = tenant.user(schemaId=schema_id, data={"name": "Minnie", "extra": 1, "age": 3})
        hidden["properties"]["extra"]["minimum"] = 5
        tenant.owner.ok("PUT", f"{PATH}/{schema_id}", {"schema": hidden})
        at = f"/v3alpha/users/{user_id}"
        with tenant.caller(user_id=user_id) as itself:
            refused = itself.put(at, json={"data": {"name": "M", "age": -1}})
            assert refused.json()["message"].endswith("revision 1, and its stored data fails revision 2 too, at data")
            assert "data/extra" not in refused.text
        tenant.owner.ok("PUT", at, {"data": {"name": "Minnie", "extra": 5, "age": 3}})
        assert "is at revision" not in tenant.owner.put(at, json={"data": {"name": "M", "age": -1}}).json()["message"]
