"""Queries over ``data``, indexed and unique fields, on the wire."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from tests.conftest import Api, Tenant

INDEX = {"urn:schema-user:index": True}
UNIQUE = {"urn:schema-user:unique": True}
SCHEMA: dict[str, Any] = {
    "type": "object",
    "properties": {
        "name": {"type": "string"},
        "tier": INDEX,
        "badge": {**INDEX, **UNIQUE},
        "note": {**INDEX, "urn:zitadel:schema:permission": {"owner": "rw"}},
    },
}


@pytest.fixture
def schema_id(tenant: Tenant) -> str:
    """Make a schema of the tenant with marks."""
    body = {"type": f"marked {time.time_ns()}", "schema": SCHEMA, "organization": {"orgId": tenant.organization_id}}
    return str(tenant.owner.ok("POST", "/v3alpha/user_schemas", body)["id"])


def search(caller: Api, *queries: dict[str, Any], **more: Any) -> Any:
    """Search for users, in the order of their ids."""
    body = {"queries": list(queries), "query": {"asc": True}, **more}
    return caller.ok("POST", "/v3alpha/users/search", body)


def ids(found: Any) -> list[str]:
    """Give the ids of what was found."""
    return [each["userId"] for each in found["result"]]


def refused(caller: Api, **query: Any) -> tuple[int, int, str, list[str]]:
    """Ask what is refused: status, code, reason, and the places."""
    response = caller.post("/v3alpha/users/search", json={"queries": [{"dataQuery": query}]})
    info, *others = response.json()["details"]
    fields = [
        each["field"] for detail in others for each in detail.get("fieldViolations", detail.get("violations", ()))
    ]
    return response.status_code, response.json()["code"], info["reason"], fields


class TestSearch:
    def test_a_query_over_data_finds_users_and_goes_on_by_its_token(self, tenant: Tenant, schema_id: str) -> None:
        """Numbers by size, texts by text methods, inside other queries; the token is for this query alone."""
        users = [tenant.user(schemaId=schema_id, data={"tier": tier}) for tier in (1, 2, 3, "gold")]
        query = {"dataQuery": {"path": "/tier", "method": "DATA_QUERY_METHOD_GREATER", "value": 1}}
        first = search(tenant.owner, query, query={"asc": True, "limit": 1})
        assert (ids(first), first["details"]["totalResult"]) == ([users[1]], "2")
        assert "isEstimate" not in first["details"]
        assert ids(search(tenant.owner, query, pageToken=first["nextPageToken"])) == [users[2]]
        other = {"dataQuery": {"path": "/tier", "value": "gold"}}
        assert ids(search(tenant.owner, {"orQuery": {"queries": [query, other]}})) == users[1:]
        assert ids(search(tenant.owner, {"notQuery": {"query": query}})) == [users[0], users[3]]
        body = {"queries": [other], "pageToken": first["nextPageToken"]}
        assert tenant.owner.post("/v3alpha/users/search", json=body).status_code == 400

    def test_what_cannot_be_asked_is_refused_with_its_place(self, tenant: Tenant, schema_id: str) -> None:
        """A path that is not indexed or no pointer, a method that does not fit the value, a value too long."""
        assert schema_id
        owner, at = tenant.owner, "queries/0/dataQuery"
        assert refused(owner, path="/name", value="x") == (400, 3, "FIELD_NOT_INDEXED", [f"{at}/path"])
        wrong: list[tuple[dict[str, Any], str]] = [
            ({"path": "tier", "value": 1}, "path"),
            ({"path": "/tier~2", "value": 1}, "path"),
            ({"path": "/tier", "value": 1, "method": "TEXT_QUERY_METHOD_EQUALS"}, "value"),
            ({"path": "/tier", "value": True, "method": "DATA_QUERY_METHOD_LESS"}, "value"),
            ({"path": "/tier", "value": "x" * 201}, "value"),
            ({"path": "/tier", "value": 2**63}, "value"),
            ({"path": "/tier", "value": {"$gt": ""}}, "value"),
        ]
        for query, place in wrong:
            assert refused(owner, **query) == (400, 3, "FIELD_INVALID", [f"{at}/{place}"]), query

    def test_an_index_is_known_to_those_only_who_see_its_schema(self, tenant: Tenant, schema_id: str) -> None:
        """And users are found within the caller's organizations only."""
        body = {"name": f"other {time.time_ns()}"}
        elsewhere = tenant.admin.ok("POST", "/v3alpha/organizations", body)["organizationId"]
        roles = [{"role": "ORG_OWNER", "organizationId": elsewhere}]
        token = tenant.admin.ok("POST", "/v3alpha/tokens", {"name": "test", "roles": roles})["token"]
        tenant.user(schemaId=schema_id, data={"badge": f"b{schema_id}"})
        with tenant.server.client(token) as stranger:
            assert refused(stranger, path="/badge", value=f"b{schema_id}")[2] == "FIELD_NOT_INDEXED"

    def test_whoever_may_not_read_a_field_of_itself_is_not_found_by_it(self, tenant: Tenant, schema_id: str) -> None:
        """It may read it of others."""
        me, other = (tenant.user(schemaId=schema_id, data={"note": schema_id}) for _ in range(2))
        query = {"dataQuery": {"path": "/note", "value": schema_id}}
        with tenant.caller("ORG_USER_VIEWER", user_id=me) as caller:
            assert ids(search(caller, query)) == [other]
            assert me not in ids(search(caller, {"notQuery": {"query": query}}))
        assert ids(search(tenant.owner, query)) == [me, other]


class TestMarks:
    def test_a_value_that_somebody_has_is_a_conflict_at_its_place(self, tenant: Tenant, schema_id: str) -> None:
        """409, code 6, in creations and updates; nothing else is changed."""
        tenant.user(schemaId=schema_id, data={"badge": "One"})
        mine = tenant.user(schemaId=schema_id, data={"badge": "two"})
        change = {"data": {"badge": "one"}, "username": f"n{schema_id}"}
        made = {"schemaId": schema_id, "data": {"badge": "ONE"}, "organization": {"orgId": tenant.organization_id}}
        for response in (
            tenant.owner.put(f"/v3alpha/users/{mine}", json=change),
            tenant.owner.post("/v3alpha/users", json=made),
        ):
            assert (response.status_code, response.json()["code"]) == (409, 6)
            assert '"data/badge"' in response.text
        assert "username" not in tenant.owner.ok("GET", f"/v3alpha/users/{mine}")["user"]

    def test_a_mark_must_stand_where_places_are_known_and_readable(self, tenant: Tenant) -> None:
        """Else the upload is refused, with the pointer."""
        hidden = {**INDEX, "urn:zitadel:schema:permission": {"self": "rw"}}
        for schema, place, reason in [
            ({"additionalProperties": INDEX}, "schema/additionalProperties/urn:schema-user:index", "indexPlace"),
            ({"patternProperties": {"^x": UNIQUE}}, "schema/patternProperties/^x/urn:schema-user:unique", "indexPlace"),
            (
                {"properties": {"a": {"$ref": "#"}, "b": INDEX}},
                "schema/properties/b/urn:schema-user:index",
                "indexDepth",
            ),
            ({"properties": {"a": hidden}}, "schema/properties/a/urn:schema-user:index", "indexHidden"),
        ]:
            [found] = tenant.owner.ok("POST", "/v3alpha/user_schemas/check", {"schema": schema})["violations"]
            assert (found["field"], found["reason"]) == (place, reason)

    def test_a_new_mark_is_back_filled_and_duplicates_are_told(self, tenant: Tenant) -> None:
        """While the job runs a query is refused; afterwards it finds users from before."""
        organization = {"orgId": tenant.organization_id}
        body = {"type": f"plain {time.time_ns()}", "schema": {}, "organization": organization}
        schema_id = tenant.owner.ok("POST", "/v3alpha/user_schemas", body)["id"]
        users = [tenant.user(schemaId=schema_id, data={"badge": "x"}) for _ in range(2)]
        path = f"/v3alpha/user_schemas/{schema_id}"
        tenant.owner.ok("PUT", path, {"schema": SCHEMA})
        assert refused(tenant.owner, path="/badge", value="x")[1:] == (
            9,
            "INDEX_NOT_READY",
            ["queries/0/dataQuery/path"],
        )
        deadline = time.monotonic() + 60
        while (told := tenant.owner.ok("GET", f"{path}/indexing"))["backFill"]["state"] != "JOB_STATE_DONE":
            assert time.monotonic() < deadline, told
            time.sleep(0.1)
        assert told["indexed"] == [{"path": each, "ready": True} for each in ("/badge", "/note", "/tier")]
        assert told["unique"] == ["/badge"]
        [duplicate] = told["backFill"]["duplicates"]
        others = [{"userId": users[1], "field": "data/badge"}]
        assert duplicate == {"path": "/badge", "holderId": users[0], "count": 1, "users": others}
        assert ids(search(tenant.owner, {"dataQuery": {"path": "/badge", "value": "x"}})) == users
        with tenant.caller("SCHEMA_AUTHOR") as author:
            assert author.ok("GET", f"{path}/indexing")["backFill"]["duplicates"] == []
            assert author.post(f"{path}/indexing").status_code == 202
