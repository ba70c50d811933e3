"""User schemas over HTTP."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from tests.conftest import SCHEMA, Api, Tenant, reason, violations

PATH = "/v3alpha/user_schemas"


def make(api: Api, name: str, schema: Any = None, **more: Any) -> dict[str, Any]:
    """Create a schema and give the answer."""
    made: dict[str, Any] = api.ok("POST", PATH, {"type": name, "schema": {} if schema is None else schema, **more})
    return made


def test_a_schema_comes_back_equal_with_everything_around_it(tenant: Tenant) -> None:
    """Keys with dots, dollars and NUL-free oddities, numbers and order of keys survive; the ETag is the sequence."""
    schema = {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "$defs": {"a.b": {"const": 1.0}, "$odd": {"enum": [1, 1.5, "x", None, {"$ref": "no reference"}]}},
        "properties": {"x": {"$ref": "#/$defs/a.b"}},
        "description": "\N{GRINNING FACE}",
    }
    made = tenant.owner.post(
        PATH,
        json={"type": "odd", "schema": schema, "possibleAuthenticators": ["AUTHENTICATOR_TYPE_PASSWORD"]},
    )
    assert made.status_code == 201
    assert made.headers["etag"] == '"1"'
    got = tenant.owner.ok("GET", f"{PATH}/{made.json()['id']}")["schema"]
    assert got["schema"] == schema
    assert (got["type"], got["state"], got["revision"], got["compatibility"]) == ("odd", "STATE_ACTIVE", 1, "allow")
    assert got["possibleAuthenticators"] == ["AUTHENTICATOR_TYPE_PASSWORD"]
    assert got["details"]["resourceOwner"] == tenant.organization_id


@pytest.mark.parametrize(
    ("schema", "field"),
    [
        ({"type": "strnig"}, "schema/type"),
        ({"properties": {"a": {"minLength": -1}}}, "schema/properties/a/minLength"),
        ({"$schema": "https://example.com/mine"}, "schema/$schema"),
        ({"properties": {"a": {"$ref": "https://example.com/x.json"}}}, "schema/properties/a/$ref"),
        ({"properties": {"a": {"$ref": "file:///etc/passwd"}}}, "schema/properties/a/$ref"),
        ({"$ref": "#/nowhere"}, "schema/$ref"),
        ({"pattern": "("}, "schema/pattern"),
        ({"pattern": "(?>a)"}, "schema/pattern"),
        (
            {"properties": {"a": {"urn:zitadel:schema:permission": {"self": "read"}}}},
            "schema/properties/a/urn:zitadel:schema:permission/self",
        ),
        ("no schema", "schema"),
        ([], "schema"),
    ],
)
def test_what_is_no_schema_is_refused_with_the_pointer(tenant: Tenant, schema: Any, field: str) -> None:
    """400 code 3 SCHEMA_INVALID, on create, on update and in a check."""
    created = tenant.owner.post(PATH, json={"type": "bad", "schema": schema})
    assert (created.status_code, created.json()["code"], reason(created)) == (400, 3, "SCHEMA_INVALID"), created.text
    assert field in violations(created)
    updated = tenant.owner.put(f"{PATH}/{tenant.schema_id}", json={"schema": schema})
    assert field in violations(updated)
    checked = tenant.owner.ok("POST", PATH + "/check", {"schema": schema})
    assert checked["valid"] is False
    assert field in {each["field"] for each in checked["violations"]}


def test_a_check_tries_a_document_too(tenant: Tenant) -> None:
    """Fields begin with ``schema`` or ``data``, warnings name what is taken but does nothing; nothing is stored."""
    checked = tenant.owner.ok("POST", PATH + "/check", {"schema": SCHEMA, "data": {"name": ""}})
    assert [each["field"] for each in checked["violations"]] == ["data/name"]
    odd = tenant.owner.ok("POST", PATH + "/check", {"schema": {"format": "license-plate"}, "data": {}})
    assert odd["valid"] is True
    assert [each["field"] for each in odd["warnings"]] == ["schema/format"]


def test_only_a_changed_schema_raises_the_revision(tenant: Tenant) -> None:
    """An equal one, a rename and other authenticators leave it; every revision stays readable."""
    one = f"{PATH}/{tenant.schema_id}"
    same = json.loads(json.dumps(SCHEMA, sort_keys=True))
    assert tenant.owner.ok("PUT", one, {"schema": same})["details"]["sequence"] == "1"
    renamed = tenant.owner.ok("PATCH", one, {"type": "human-being"})
    assert (renamed["revision"], renamed["details"]["sequence"]) == (1, "2")
    second = {**SCHEMA, "title": "second"}
    assert tenant.owner.ok("PUT", one, {"schema": second})["revision"] == 2
    assert tenant.owner.ok("GET", one)["schema"]["schema"] == second
    assert tenant.owner.ok("GET", one + "?revision=1")["schema"]["schema"] == SCHEMA
    assert tenant.owner.get(one + "?revision=3").status_code == 404
    listed = tenant.owner.ok("GET", one + "/revisions")["result"]
    assert [each["revision"] for each in listed] == [2, 1]
    assert listed[0]["creationDate"] >= listed[1]["creationDate"]


def test_a_changed_schema_holds_at_once(tenant: Tenant) -> None:
    """The very next update is judged by the new revision."""
    user_id = tenant.user()
    tenant.owner.ok("PUT", f"{PATH}/{tenant.schema_id}", {"schema": {"required": ["badge"]}})
    response = tenant.owner.put(f"/v3alpha/users/{user_id}", json={"data": {"name": "x"}})
    assert violations(response) == {"data/badge": "required"}


def test_types_are_unique_for_each_owner(tenant: Tenant) -> None:
    """A taken type is 409; rename and deletion free it; the instance and others have their own."""
    taken = tenant.owner.post(PATH, json={"type": "person", "schema": {}})
    assert (taken.status_code, taken.json()["code"]) == (409, 6)
    tenant.owner.ok("PUT", f"{PATH}/{tenant.schema_id}", {"type": "being"})
    freed = make(tenant.owner, "person")["id"]
    tenant.owner.ok("DELETE", f"{PATH}/{freed}")
    make(tenant.owner, "person")
    make(tenant.owner, "human")


def test_of_many_that_want_one_type_one_gets_it(tenant: Tenant) -> None:
    """Eight creates race for a type; one wins."""
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda _: tenant.owner.post(PATH, json={"type": "raced", "schema": {}}), range(8)))
    assert sorted(answer.status_code for answer in answers) == [201] + [409] * 7


def test_updates_of_one_schema_at_once_count_every_revision(tenant: Tenant) -> None:
    """Each winner makes one revision, and each revision is what one of them wrote."""
    one = f"{PATH}/{tenant.schema_id}"

    def write(number: int) -> int:
        return tenant.owner.put(one, json={"schema": {"title": f"n{number}"}}).status_code

    with ThreadPoolExecutor(6) as pool:
        statuses = list(pool.map(write, range(6)))
    assert set(statuses) <= {200, 409}
    won = statuses.count(200)
    current = tenant.owner.ok("GET", one)["schema"]
    assert current["revision"] == 1 + won
    titles = {tenant.owner.ok("GET", f"{one}?revision={n}")["schema"]["schema"]["title"] for n in range(2, won + 2)}
    assert len(titles) == won


def test_states_follow_one_another(tenant: Tenant) -> None:
    """A wrong state is 400 code 9."""
    one = f"{PATH}/{tenant.schema_id}"
    assert tenant.owner.post(one + "/reactivate").json()["code"] == 9
    tenant.owner.ok("POST", one + "/deactivate", {})
    assert tenant.owner.ok("GET", one)["schema"]["state"] == "STATE_INACTIVE"
    assert tenant.owner.post(one + "/deactivate").json()["code"] == 9
    refused = tenant.owner.post("/v3alpha/users", json={"schemaId": tenant.schema_id})
    assert reason(refused) == "SCHEMA_INACTIVE"
    tenant.owner.ok("POST", one + "/reactivate")
    tenant.user()


def test_a_schema_with_users_is_not_deleted(tenant: Tenant) -> None:
    """400 code 9 with the number of users, and the schema works on; without users it goes, and its id for ever."""
    one = f"{PATH}/{tenant.schema_id}"
    user_id = tenant.user()
    refused = tenant.owner.delete(one)
    assert (refused.status_code, refused.json()["code"], reason(refused)) == (400, 9, "SCHEMA_IN_USE")
    assert refused.json()["details"][0]["metadata"]["users"] == "1"
    tenant.owner.ok("DELETE", f"/v3alpha/users/{user_id}")
    tenant.owner.ok("DELETE", one)
    assert tenant.owner.get(one).status_code == 404
    refused = tenant.owner.post("/v3alpha/users", json={"schemaId": tenant.schema_id})
    assert reason(refused) == "SCHEMA_UNKNOWN"


def test_compatibility_is_one_of_three(tenant: Tenant) -> None:
    """Each is taken and read back; another word is refused."""
    for word in ("allow", "refuse", "migrate"):
        made = make(tenant.owner, word, compatibility=word)
        assert tenant.owner.ok("GET", f"{PATH}/{made['id']}")["schema"]["compatibility"] == word
    assert tenant.owner.post(PATH, json={"type": "x", "schema": {}, "compatibility": "maybe"}).status_code == 400


def test_authenticators_are_known_and_unique(tenant: Tenant) -> None:
    """UNSPECIFIED, unknown and repeated ones are refused with their pointers."""
    for given, field in (
        (["AUTHENTICATOR_TYPE_UNSPECIFIED"], "possibleAuthenticators/0"),
        (["AUTHENTICATOR_TYPE_TOTP", "AUTHENTICATOR_TYPE_TOTP"], "possibleAuthenticators/1"),
    ):
        response = tenant.owner.post(PATH, json={"type": "a", "schema": {}, "possibleAuthenticators": given})
        assert (response.status_code, list(violations(response))) == (400, [field])


def test_search_finds_by_type_state_and_id(tenant: Tenant) -> None:
    """Queries combine, the instance's schemas are among the results, pages follow one another."""
    ids = [make(tenant.owner, f"kind-{n}")["id"] for n in range(3)]
    tenant.owner.ok("POST", f"{PATH}/{ids[0]}/deactivate")

    def search(*queries: Any, **more: Any) -> dict[str, Any]:
        body = {"queries": list(queries), "query": {"asc": True}, **more}
        found: dict[str, Any] = tenant.owner.ok("POST", PATH + "/search", body)
        return found

    kinds = {"typeQuery": {"type": "KIND-", "method": "TEXT_QUERY_METHOD_STARTS_WITH_IGNORE_CASE"}}
    assert [each["id"] for each in search(kinds)["result"]] == ids
    active = {"stateQuery": {"state": "STATE_ACTIVE"}}
    assert [each["id"] for each in search(kinds, active)["result"]] == ids[1:]
    either = {"orQuery": {"queries": [{"idQuery": {"id": ids[0]}}, {"idQuery": {"id": ids[2]}}]}}
    assert [each["id"] for each in search(either)["result"]] == [ids[0], ids[2]]
    assert [each["id"] for each in search(kinds, {"notQuery": {"query": active}})["result"]] == ids[:1]
    shipped = search({"typeQuery": {"type": "human"}})
    assert shipped["details"]["totalResult"] == "1"
    by_type = search(kinds, sortingColumn="FIELD_NAME_TYPE", query={"asc": False, "limit": 2})
    assert [each["type"] for each in by_type["result"]] == ["kind-2", "kind-1"]
    onward = search(
        kinds, sortingColumn="FIELD_NAME_TYPE", query={"asc": False, "limit": 2}, pageToken=by_type["nextPageToken"]
    )
    assert [each["type"] for each in onward["result"]] == ["kind-0"]
    assert "nextPageToken" not in onward


def test_shipped_schemas_are_there_and_their_examples_work(admin: Api, tenant: Tenant) -> None:
    """human, customer, employee and device take their valid example and name what is wrong with the invalid one."""
    from pathlib import Path

    examples = Path(__file__).parents[2] / "schemas" / "examples"
    for name in ("human", "customer", "employee", "device"):
        oldest = {"queries": [{"typeQuery": {"type": name}}], "query": {"asc": True, "limit": 1}}
        (found,) = admin.ok("POST", PATH + "/search", oldest)["result"]
        valid = json.loads((examples / f"{name}.valid.json").read_text(encoding="utf-8"))
        invalid = json.loads((examples / f"{name}.invalid.json").read_text(encoding="utf-8"))
        assert found["schema"]["$schema"].startswith("http://json-schema.org/draft-07/schema")
        user_id = tenant.user(schemaId=found["id"], data=valid)
        assert tenant.owner.ok("GET", f"/v3alpha/users/{user_id}")["user"]["data"] == valid
        refused = tenant.owner.put(f"/v3alpha/users/{user_id}", json={"data": invalid})
        assert len(violations(refused)) >= 2
