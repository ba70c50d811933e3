"""Fields that a schema gives to some callers only, over the wire."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from tests.conftest import Api, Tenant, reason, violations

if TYPE_CHECKING:
    from collections.abc import Iterator

PERMISSION = "urn:zitadel:schema:permission"
SCHEMA: dict[str, Any] = {
    "type": "object",
    "required": ["name", "score"],
    "properties": {
        "name": {"type": "string", "minLength": 2},
        "score": {"type": "integer", "maximum": 10, PERMISSION: {"owner": "rw", "self": "r"}},
        "note": {"type": "string", "minLength": 3, PERMISSION: {"owner": "rw"}},
        "pin": {"type": "string", PERMISSION: {"self": "w"}},
        "devices": {
            "type": "array",
            "items": {"properties": {"label": {"type": "string"}, "key": {PERMISSION: {"owner": "rw"}}}},
        },
    },
    "additionalProperties": False,
}
DATA: dict[str, Any] = {
    "name": "Minnie",
    "score": 1,
    "note": "a secret note",
    "devices": [{"label": "phone", "key": "k1"}, {"label": "watch", "key": "k2"}],
}
SEEN_BY_SELF: dict[str, Any] = {
    "name": "Minnie",
    "score": 1,
    "devices": [{"label": "phone"}, {"label": "watch"}],
}


@pytest.fixture
def own(tenant: Tenant) -> Tenant:
    """Give an organization whose schema has field permissions."""
    tenant.schema_id = tenant.owner.ok("POST", "/v3alpha/user_schemas", {"type": "guarded", "schema": SCHEMA})["id"]
    return tenant


@pytest.fixture
def user_id(own: Tenant) -> str:
    """Give a user with everything."""
    made = own.user(data={**DATA, "devices": []})
    own.owner.ok("PUT", f"/v3alpha/users/{made}", {"data": DATA})
    return made


@pytest.fixture
def self_(own: Tenant, user_id: str) -> Iterator[Api]:
    """Call as the user itself, that holds nothing else."""
    with own.caller(user_id=user_id) as client:
        yield client


def _get(caller: Api, user_id: str) -> dict[str, Any]:
    user: dict[str, Any] = caller.ok("GET", f"/v3alpha/users/{user_id}")["user"]
    return user


def test_reads_leave_out_what_is_hidden(own: Tenant, user_id: str, self_: Api) -> None:
    """For self and for the owner, in a get and in a search."""
    assert _get(self_, user_id)["data"] == SEEN_BY_SELF
    assert _get(own.owner, user_id)["data"] == DATA
    self_.ok("PUT", f"/v3alpha/users/{user_id}", {"data": {**SEEN_BY_SELF, "pin": "1234"}})
    assert _get(self_, user_id)["data"] == SEEN_BY_SELF
    assert _get(own.owner, user_id)["data"] == DATA
    with own.caller("ORG_USER_VIEWER", user_id=user_id) as viewer:
        other = own.user(data={"name": "Daisy", "score": 2, "note": "other note"})
        found = {each["userId"]: each["data"] for each in viewer.ok("POST", "/v3alpha/users/search")["result"]}
        assert found == {user_id: SEEN_BY_SELF, other: {"name": "Daisy", "score": 2, "note": "other note"}}


def test_what_was_read_can_be_sent_back(own: Tenant, user_id: str, self_: Api) -> None:
    """It changes nothing, and what was hidden stays when something else is changed."""
    before = _get(own.owner, user_id)
    data = _get(self_, user_id)["data"]
    same = self_.ok("PUT", f"/v3alpha/users/{user_id}", {"data": data})
    assert same["details"]["sequence"] == before["details"]["sequence"]
    data["devices"][1]["label"] = "old watch"
    self_.ok("PUT", f"/v3alpha/users/{user_id}", {"data": {**data, "name": "Mouse"}})
    devices = [{"label": "phone", "key": "k1"}, {"label": "old watch", "key": "k2"}]
    assert _get(own.owner, user_id)["data"] == {**DATA, "name": "Mouse", "devices": devices}


@pytest.mark.parametrize(
    ("change", "fields"),
    [
        ({"score": 2}, ["data/score"]),
        ({"note": "mine"}, ["data/note"]),
        ({"note": "a secret note"}, ["data/note"]),
        ({"devices": [{"label": "phone"}]}, ["data/devices"]),
        ({"devices": [{"label": "watch"}, {"label": "phone"}]}, ["data/devices"]),
        ({"devices": [{"label": "phone", "key": "k1"}, {"label": "watch"}]}, ["data/devices/0/key"]),
        ({"score": "ten", "note": 1}, ["data/note", "data/score"]),
    ],
)
def test_changes_without_permission_are_refused(
    own: Tenant, user_id: str, self_: Api, change: dict[str, Any], fields: list[str]
) -> None:
    """403 with every pointer, before the data is validated; nothing is stored."""
    response = self_.put(f"/v3alpha/users/{user_id}", json={"data": {**SEEN_BY_SELF, **change}})
    assert (response.status_code, response.json()["code"], reason(response)) == (403, 7, "FIELD_PERMISSION")
    assert violations(response) == dict.fromkeys(fields, "permission")
    assert _get(own.owner, user_id)["data"] == DATA


def test_a_refusal_comes_before_the_sequence_and_the_schema(own: Tenant, user_id: str, self_: Api) -> None:
    """403 before 412 and before 400, as everywhere."""
    path, body = f"/v3alpha/users/{user_id}", {"data": {**SEEN_BY_SELF, "score": 2}}
    assert self_.put(path, json=body, headers={"If-Match": '"77"'}).status_code == 403
    own.owner.ok("POST", f"/v3alpha/user_schemas/{own.schema_id}/deactivate")
    assert self_.put(path, json=body).status_code == 403
    assert reason(self_.put(path, json={"data": SEEN_BY_SELF})) == "SCHEMA_INACTIVE"


def test_a_repeated_request_is_answered_whatever_became_of_the_fields(own: Tenant, user_id: str, self_: Api) -> None:
    """Under an Idempotency-Key the first answer is given again, though the same change would be refused by now."""
    path, body = f"/v3alpha/users/{user_id}", {"data": {**SEEN_BY_SELF, "name": "Mouse"}}
    first = self_.put(path, json=body, headers={"Idempotency-Key": "k"})
    own.owner.ok("PUT", path, {"data": {**DATA, "score": 9}})
    again = self_.put(path, json=body, headers={"Idempotency-Key": "k"})
    assert (again.status_code, again.json()) == (200, first.json())
    assert self_.put(path, json=body).status_code == 403


def test_hidden_values_cannot_be_guessed_by_the_sequence(own: Tenant, user_id: str, self_: Api) -> None:
    """What is written where nothing may be read always counts as a change, also when it is rehearsed."""
    path = f"/v3alpha/users/{user_id}"
    self_.ok("PUT", path, {"data": {**SEEN_BY_SELF, "pin": "1234"}})
    before = int(_get(self_, user_id)["details"]["sequence"])
    for pin in ("1234", "0000"):
        body = {"data": {**SEEN_BY_SELF, "pin": pin}}
        told = self_.ok("PUT", path + "?validateOnly=true", body)["details"]["sequence"]
        assert int(told) == before + 1
    self_.ok("PUT", path, {"data": {**SEEN_BY_SELF, "pin": "1234"}})
    assert int(_get(self_, user_id)["details"]["sequence"]) == before + 1


def test_errors_at_hidden_places_are_told_by_reason_only(own: Tenant, user_id: str, self_: Api) -> None:
    """When a new revision finds hidden values wrong, the caller learns that something is, and where to look."""
    narrow = {
        **SCHEMA,
        "properties": {**SCHEMA["properties"], "note": {**SCHEMA["properties"]["note"], "maxLength": 4}},
    }
    own.owner.ok("PUT", f"/v3alpha/user_schemas/{own.schema_id}", {"schema": narrow})
    response = self_.put(f"/v3alpha/users/{user_id}", json={"data": {**SEEN_BY_SELF, "name": "M"}})
    assert (response.status_code, reason(response)) == (400, "DATA_INVALID")
    assert violations(response) == {"data": "maxLength", "data/name": "minLength"}
    assert "4" not in response.json()["details"][1]["fieldViolations"][0]["description"]
    assert "note" not in response.text
    with own.caller("ORG_USER_VIEWER", user_id=user_id) as viewer:
        checked = viewer.ok("POST", f"/v3alpha/users/{user_id}/validate")
        assert [(each["field"], each["reason"]) for each in checked["violations"]] == [("data", "maxLength")]


def test_a_create_needs_to_write_its_fields(own: Tenant) -> None:
    """The owner's permission; items of which it may not know everything cannot be inserted."""
    data = {"name": "Minnie", "score": 1, "pin": "1"}
    response = own.owner.post("/v3alpha/users", json={"schemaId": own.schema_id, "data": data})
    assert (response.status_code, violations(response)) == (403, {"data/pin": "permission"})
    del data["pin"]
    assert own.owner.post("/v3alpha/users", json={"schemaId": own.schema_id, "data": data}).status_code == 201


def test_another_schema_needs_both_permissions_and_reveals_nothing(own: Tenant) -> None:
    """A move that would show what the caller could not read is refused, as is a change that either schema forbids."""
    hidden = {"properties": {"a": {PERMISSION: {"self": "rw"}}, "b": {}}}
    strict = {"properties": {"b": {PERMISSION: {"owner": "r"}}, "a": {PERMISSION: {"self": "r"}}}}
    create = own.owner.ok
    first = create("POST", "/v3alpha/user_schemas", {"type": "hidden", "schema": hidden})["id"]
    second = create("POST", "/v3alpha/user_schemas", {"type": "strict", "schema": strict})["id"]
    third = create("POST", "/v3alpha/user_schemas", {"type": "open", "schema": {}})["id"]
    user_id = own.user(schemaId=first, data={"b": 1})
    path = f"/v3alpha/users/{user_id}"
    with own.caller(user_id=user_id) as itself:
        itself.ok("PUT", path, {"data": {"a": "mine", "b": 1}})
    response = own.owner.put(path, json={"schemaId": third})
    assert (response.status_code, violations(response)) == (403, {"schemaId": "permission"})
    response = own.owner.put(path, json={"schemaId": second, "data": {"b": 2}})
    assert (response.status_code, violations(response)) == (403, {"data/b": "permission"})
    own.owner.ok("PUT", path, {"schemaId": second, "data": {"b": 1}})
    assert _get(own.owner, user_id)["data"] == {"b": 1}
    with own.caller(user_id=user_id) as itself:
        assert _get(itself, user_id)["data"] == {"a": "mine"}


def test_the_schema_for_forms_is_without_hidden_fields(own: Tenant, user_id: str, self_: Api) -> None:
    """Self sees what it may see, the owner its own part."""
    path = f"/v3alpha/users/{user_id}/schema"
    shown = self_.ok("GET", path)["schema"]
    assert set(shown["properties"]) == {"name", "score", "devices"}
    assert shown["required"] == ["name", "score"]
    assert set(own.owner.ok("GET", path)["schema"]["properties"]) == {"name", "score", "note", "devices"}


def test_fields_stay_hidden_from_patches(own: Tenant, user_id: str, self_: Api) -> None:
    """A patch sees what the caller may read, and its result is judged as what the caller sends."""
    path = f"/v3alpha/users/{user_id}/data"
    headers = {"Content-Type": "application/json-patch+json"}
    tests = [{"op": "test", "path": "/note", "value": "a secret note"}]
    assert reason(self_.patch(path, json=tests, headers=headers)) == "PATCH_TEST_FAILED"
    copies = [{"op": "copy", "from": "/note", "path": "/name"}]
    assert self_.patch(path, json=copies, headers=headers).status_code == 400
    merge = {"Content-Type": "application/merge-patch+json"}
    assert reason(self_.patch(path, json={"score": 2}, headers=merge)) == "FIELD_PERMISSION"
    assert self_.patch(path, json={"name": "Mouse"}, headers=merge).status_code == 200
    assert _get(own.owner, user_id)["data"] == {**DATA, "name": "Mouse"}


def test_blind_writes_do_not_grow_without_bounds(own: Tenant) -> None:
    """What is hidden and what is sent may together be as large as a body."""
    schema = {"additionalProperties": {PERMISSION: {"self": "w"}}, PERMISSION: {"self": "rw", "owner": "rw"}}
    schema_id = own.owner.ok("POST", "/v3alpha/user_schemas", {"type": "drop box", "schema": schema})["id"]
    user_id = own.user(schemaId=schema_id, data={})
    path = f"/v3alpha/users/{user_id}"
    with own.caller(user_id=user_id) as itself:
        itself.ok("PUT", path, {"data": {"one": "x" * 600_000}})
        response = itself.put(path, json={"data": {"two": "x" * 600_000}})
        assert (response.status_code, violations(response)) == (400, {"data": "size"})
        itself.ok("PUT", path, {"data": {"one": "x"}})
        itself.ok("PUT", path, {"data": {"two": "x" * 600_000}})
