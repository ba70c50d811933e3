"""Users over HTTP: create, get, search, states, delete."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from tests.conftest import SCHEMA, Api, Tenant, reason, violations

PATH = "/v3alpha/users"


def one(user_id: str) -> str:
    """Give the path of a user."""
    return f"{PATH}/{user_id}"


def search(api: Api, *queries: Any, **more: Any) -> dict[str, Any]:
    """Search users."""
    found: dict[str, Any] = api.ok("POST", PATH + "/search", {"queries": list(queries), "query": {"asc": True}, **more})
    return found


def ids(found: dict[str, Any]) -> list[str]:
    """Give the ids of a result."""
    return [user["userId"] for user in found["result"]]


def test_a_created_user_is_read_back_whole(tenant: Tenant) -> None:
    """201 with id, details and the codes that were asked for; absent fields are left out."""
    response = tenant.owner.post(
        PATH,
        json={
            "schemaId": tenant.schema_id,
            "data": {"name": "Minnie", "age": 96},
            "username": "minnie",
            "contact": {
                "email": {"address": "minnie@example.com", "returnCode": {}},
                "phone": {"number": "+41791234567", "isVerified": True},
            },
        },
    )
    assert response.status_code == 201
    made = response.json()
    assert set(made) == {"userId", "details", "emailCode"}
    assert made["userId"].isdigit()
    assert int(made["userId"]) < 2**63
    user = tenant.owner.ok("GET", one(made["userId"]))["user"]
    assert user == {
        "userId": made["userId"],
        "details": made["details"],
        "contact": {
            "email": {"address": "minnie@example.com", "isVerified": False},
            "phone": {"number": "+41791234567", "isVerified": True},
        },
        "state": "USER_STATE_ACTIVE",
        "schema": {"id": tenant.schema_id, "type": "person", "revision": 1},
        "data": {"name": "Minnie", "age": 96},
        "username": "minnie",
    }
    assert user["details"]["creationDate"].endswith("Z")
    assert len(user["details"]["creationDate"]) == len("2025-01-03T13:39:46.859Z")


def test_absent_data_is_an_empty_object(tenant: Tenant) -> None:
    """It is validated like any other."""
    refused = tenant.owner.post(PATH, json={"schemaId": tenant.schema_id})
    assert violations(refused) == {"data/name": "required"}
    lax = tenant.owner.ok("POST", "/v3alpha/user_schemas", {"type": "lax", "schema": {}})["id"]
    user_id = tenant.owner.ok("POST", PATH, {"schemaId": lax})["userId"]
    assert tenant.owner.ok("GET", one(user_id))["user"]["data"] == {}


@pytest.mark.parametrize("user_id", [".a", "_a", "a b", "search", "import", "human", "new", "a/b", "ä", "x" * 201])
def test_ids_of_a_bad_form_are_refused(tenant: Tenant, user_id: str) -> None:
    """An id that a path could not name, or names something else, is 400 with the pointer."""
    response = tenant.owner.post(PATH, json={"userId": user_id, "schemaId": tenant.schema_id, "data": {"name": "x"}})
    assert (response.status_code, list(violations(response))) == (400, ["userId"])


def test_given_ids_are_used_once_for_ever(tenant: Tenant) -> None:
    """An id in use, and one of a deleted user, are 409; odd but legal characters work in paths."""
    user_id = f"a.b_c~d:e@f+g|h-{tenant.organization_id}"
    tenant.user(userId=user_id)
    assert tenant.owner.ok("GET", one(user_id.replace("|", "%7C")))["user"]["userId"] == user_id
    body = {"userId": user_id, "schemaId": tenant.schema_id, "data": {"name": "x"}}
    taken = tenant.owner.post(PATH, json=body)
    assert (taken.status_code, taken.json()["code"], violations(taken)) == (409, 6, {"userId": "unique"})
    tenant.owner.ok("DELETE", one(user_id.replace("|", "%7C")))
    assert tenant.owner.post(PATH, json=body).status_code == 409
    assert tenant.owner.post(PATH + "?validateOnly=true", json=body).status_code == 409


def test_of_many_that_want_one_id_one_gets_it(tenant: Tenant) -> None:
    """Eight creates with one id: one 201, and its username is the one that counts."""
    user_id = f"raced-{tenant.organization_id}"

    def create(number: int) -> int:
        body = {"userId": user_id, "schemaId": tenant.schema_id, "data": {"name": "x"}, "username": f"n{number}"}
        return tenant.owner.post(PATH, json=body).status_code

    with ThreadPoolExecutor(8) as pool:
        assert sorted(pool.map(create, range(8))) == [201] + [409] * 7
    winner = tenant.owner.ok("GET", one(user_id))["user"]["username"]
    for number in range(8):
        other = f"n{number}"
        if other != winner:
            tenant.user(username=other)


def test_deletion_erases_and_forgets(tenant: Tenant) -> None:
    """After DELETE the user is missing to everything, and nothing of it stays in the database."""
    user_id = tenant.user(
        username="gone", data={"name": "Erase-me-xq5521"}, contact={"email": {"address": "erase-xq5521@example.com"}}
    )
    answer = tenant.owner.delete(one(user_id))
    assert answer.status_code == 200
    assert answer.json()["details"]["sequence"] == "2"
    for method, path in (("GET", ""), ("PUT", ""), ("DELETE", ""), ("POST", "/lock"), ("POST", "/validate")):
        assert tenant.owner.request(method, one(user_id) + path, json={}).status_code == 404, (method, path)
    assert ids(search(tenant.owner, {"userIdQuery": {"id": user_id}})) == []
    assert "xq5521" not in everything_stored(tenant)
    tenant.user(username="gone")


def everything_stored(tenant: Tenant) -> str:
    """Give the whole database as text."""
    from pymongo import MongoClient

    from schema_user.store.embedded import socket_uri

    with MongoClient[Any](socket_uri(tenant.server.data_dir)) as client:
        database = client.schema_user
        return "\n".join(
            str(document) for name in database.list_collection_names() for document in database[name].find()
        )


def test_states_are_two_switches(tenant: Tenant) -> None:
    """Locked hides active and inactive, which keep their place beneath it; a wrong state is 400 code 9."""
    user_id = tenant.user()

    def move(verb: str) -> int:
        return tenant.owner.post(f"{one(user_id)}/{verb}").status_code

    def state() -> str:
        return str(tenant.owner.ok("GET", one(user_id))["user"]["state"])

    for verb, status, now in (
        ("reactivate", 400, "ACTIVE"),
        ("unlock", 400, "ACTIVE"),
        ("deactivate", 200, "INACTIVE"),
        ("_deactivate", 400, "INACTIVE"),
        ("lock", 200, "LOCKED"),
        ("_lock", 400, "LOCKED"),
        ("_activate", 200, "LOCKED"),
        ("_unlock", 200, "ACTIVE"),
    ):
        assert move(verb) == status, verb
        assert state() == f"USER_STATE_{now}", verb
    refused = tenant.owner.post(one(user_id) + "/unlock")
    assert (refused.json()["code"], reason(refused)) == (9, "USER_STATE")


def test_stored_data_is_validated_against_what_its_schema_has_become(tenant: Tenant) -> None:
    """Nothing is changed; ``field`` begins with ``data``; another schema can be named."""
    user_id = tenant.user()
    assert tenant.owner.ok("POST", one(user_id) + "/validate") == {"valid": True, "violations": []}
    tenant.owner.ok("PUT", f"/v3alpha/user_schemas/{tenant.schema_id}", {"schema": {"required": ["badge"]}})
    result = tenant.owner.ok("POST", one(user_id) + "/validate", {})
    assert (result["valid"], result["violations"][0]["field"]) == (False, "data/badge")
    lax = tenant.owner.ok("POST", "/v3alpha/user_schemas", {"type": "lax", "schema": {}})["id"]
    assert tenant.owner.ok("POST", one(user_id) + "/validate", {"schemaId": lax})["valid"] is True
    assert reason(tenant.owner.post(one(user_id) + "/validate", json={"schemaId": "9"})) == "SCHEMA_UNKNOWN"


def test_the_own_schema_is_given_for_forms(tenant: Tenant) -> None:
    """A user without any role reads itself and its schema, and nobody else."""
    user_id, other = tenant.user(), tenant.user()
    with tenant.caller(user_id=user_id) as self_caller:
        assert self_caller.ok("GET", one(user_id) + "/schema") == {"schema": SCHEMA}
        assert self_caller.ok("GET", one(user_id))["user"]["userId"] == user_id
        assert self_caller.get(one(other)).status_code == 404
        assert self_caller.post(PATH + "/search", json={}).status_code == 403
        assert self_caller.delete(one(user_id)).status_code == 403


def test_every_query_of_the_search(tenant: Tenant) -> None:
    """Each kind of query and text method finds what it should and nothing else."""
    minnie = tenant.user(username="Minnie", contact={"email": {"address": "Minnie.M@Example.com", "isVerified": True}})
    daisy = tenant.user(username="daisy_d", contact={"phone": {"number": "+41791234567", "isVerified": True}})
    pluto = tenant.user(username="pl.to")
    tenant.owner.ok("POST", one(pluto) + "/lock")

    def found(*queries: Any) -> set[str]:
        return set(ids(search(tenant.owner, *queries)))

    def name(value: str, method: str) -> dict[str, Any]:
        return {"usernameQuery": {"username": value, "method": "TEXT_QUERY_METHOD_" + method}}

    assert found() == {minnie, daisy, pluto}
    assert found({"userIdQuery": {"id": daisy}}) == {daisy}
    assert found({"organizationIdQuery": {"organizationId": tenant.organization_id}}) == {minnie, daisy, pluto}
    for value, method, expected in (
        ("minnie", "EQUALS", set()),
        ("minnie", "EQUALS_IGNORE_CASE", {minnie}),
        ("Min", "STARTS_WITH", {minnie}),
        ("min", "STARTS_WITH", set()),
        ("MIN", "STARTS_WITH_IGNORE_CASE", {minnie}),
        ("_", "CONTAINS", {daisy}),
        (".", "CONTAINS", {pluto}),
        ("l.t", "CONTAINS", {pluto}),
        ("NN", "CONTAINS_IGNORE_CASE", {minnie}),
        ("ie", "ENDS_WITH", {minnie}),
        ("_D", "ENDS_WITH_IGNORE_CASE", {daisy}),
        ("^M", "CONTAINS", set()),
    ):
        assert found(name(value, method)) == expected, (value, method)
    email = {"address": "MINNIE.m@example.COM", "method": "TEXT_QUERY_METHOD_EQUALS_IGNORE_CASE"}
    assert found({"emailQuery": email}) == {minnie}
    assert found({"phoneQuery": {"number": "+4179", "method": "TEXT_QUERY_METHOD_STARTS_WITH"}}) == {daisy}
    assert found({"stateQuery": {"state": "USER_STATE_LOCKED"}}) == {pluto}
    assert found({"schemaIdQuery": {"id": tenant.schema_id}}) == {minnie, daisy, pluto}
    kind = {"type": "PERS", "method": "TEXT_QUERY_METHOD_STARTS_WITH_IGNORE_CASE"}
    assert found({"schemaTypeQuery": kind}) == {minnie, daisy, pluto}
    assert found({"schemaTypeQuery": {"type": "none"}}) == set()
    either = {"orQuery": {"queries": [{"userIdQuery": {"id": minnie}}, {"userIdQuery": {"id": pluto}}]}}
    assert found(either) == {minnie, pluto}
    assert found({"notQuery": {"query": either}}) == {daisy}
    assert found(either, {"andQuery": {"queries": [name("p", "STARTS_WITH")]}}) == {pluto}
    assert found({"orQuery": {"queries": []}}) == set()
    assert found({"andQuery": {"queries": []}}) == {minnie, daisy, pluto}


def test_malformed_searches_are_refused_with_the_pointer(tenant: Tenant) -> None:
    """Limits, unknown columns, queries of no or two kinds, too deep a nesting and foreign page tokens."""
    deep: dict[str, Any] = {"userIdQuery": {"id": "1"}}
    for _ in range(21):
        deep = {"notQuery": {"query": deep}}
    for body, field in (
        ({"query": {"limit": 1001}}, "query/limit"),
        ({"query": {"limit": 0}}, "query/limit"),
        ({"query": {"offset": -1}}, "query/offset"),
        ({"sortingColumn": "FIELD_NAME_DATA"}, "sortingColumn"),
        ({"queries": [{}]}, "queries/0"),
        ({"queries": [{"userIdQuery": {"id": "1"}, "stateQuery": {"state": "USER_STATE_ACTIVE"}}]}, "queries/0"),
        ({"queries": [{"dataQuery": {"path": "/a"}}]}, "queries/0/dataQuery/value"),
        ({"queries": [{"usernameQuery": {"username": {"$gt": ""}}}]}, "queries/0/usernameQuery/username"),
        ({"queries": [deep]}, "queries/0" + "/notQuery/query" * 20),
        ({"queries": [{"orQuery": {"queries": [{"userIdQuery": {"id": "1"}}] * 500}}] * 2}, "queries"),
        ({"queries": [{"userIdQuery": {"id": "1"}}] * 1001}, "queries"),
        ({"pageToken": "00"}, "pageToken"),
        ({"pageToken": "not hex"}, "pageToken"),
    ):
        response = tenant.owner.post(PATH + "/_search", json=body)
        assert (response.status_code, list(violations(response))) == (400, [field]), (body, response.text)
    assert tenant.owner.post(PATH + "/_search", json={"queries": [either_of("1") for _ in range(500)]}).is_success


def either_of(user_id: str) -> dict[str, Any]:
    """Give a query that holds another one."""
    return {"orQuery": {"queries": [{"userIdQuery": {"id": user_id}}]}}


COLUMNS = ["ID", "CREATION_DATE", "CHANGE_DATE", "EMAIL", "PHONE", "STATE", "SCHEMA_ID", "SCHEMA_TYPE"]


@pytest.mark.parametrize("ascending", [True, False])
@pytest.mark.parametrize("column", COLUMNS)
def test_pages_give_every_user_once_in_order(tenant: Tenant, column: str, ascending: bool) -> None:
    """By token and by offset the pages are the same, also where the sorted field is absent or equal."""
    lax = tenant.owner.ok("POST", "/v3alpha/user_schemas", {"type": "a-lax", "schema": {}})["id"]
    for n in range(7):
        contact = {"email": {"address": f"{n % 2}@example.com", "isVerified": True}} if n % 3 else {}
        tenant.user(contact=contact, schemaId=lax if n % 2 else tenant.schema_id)
    options: dict[str, Any] = {"sortingColumn": f"FIELD_NAME_{column}"}
    whole = ids(search(tenant.owner, **options, query={"asc": ascending, "limit": 100}))
    assert len(set(whole)) == 7
    paged: list[str] = []
    token: dict[str, str] = {}
    while True:
        page = search(tenant.owner, **options, **token, query={"asc": ascending, "limit": 2})
        paged += ids(page)
        assert page["details"]["totalResult"] == "7"
        if "nextPageToken" not in page:
            break
        token = {"pageToken": page["nextPageToken"]}
    assert paged == whole
    assert ids(search(tenant.owner, **options, query={"asc": ascending, "offset": 3, "limit": 2})) == whole[3:5]


def test_a_page_token_serves_only_its_caller_and_query(tenant: Tenant) -> None:
    """Another query, another sorting, another caller: 400."""
    for _ in range(3):
        tenant.user()
    token = search(tenant.owner, query={"limit": 1})["nextPageToken"]
    body = {"query": {"limit": 1}, "pageToken": token}
    assert tenant.owner.post(PATH + "/search", json=body).status_code == 200
    for change in (
        {"queries": [{"stateQuery": {"state": "USER_STATE_ACTIVE"}}]},
        {"sortingColumn": "FIELD_NAME_EMAIL"},
        {"query": {"limit": 1, "asc": True}},
    ):
        response = tenant.owner.post(PATH + "/search", json={**body, **change})
        assert (response.status_code, reason(response)) == (400, "PAGE_TOKEN_INVALID")
    with tenant.caller("ORG_OWNER") as other:
        assert other.post(PATH + "/search", json=body).status_code == 400
