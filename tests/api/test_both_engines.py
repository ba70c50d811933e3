"""What a client sees of validation is the same with either engine."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from tests.conftest import SCHEMA, Server, reason, violations

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.conftest import Api

CUSTOMER: dict[str, Any] = {
    "$schema": "http://json-schema.org/draft-07/schema#",
    "definitions": {"mail": {"type": "string", "format": "email"}},
    "type": "object",
    "required": ["name"],
    "properties": {
        "name": {"type": "string", "minLength": 1, "pattern": "^[A-Z]"},
        "mail": {"$ref": "#/definitions/mail"},
        "born": {"type": "string", "format": "date"},
        "shelf": {"enum": ["crime", "poetry"]},
        "tags": {"type": "array", "items": {"type": "string"}, "uniqueItems": True, "maxItems": 2},
        "price": {"multipleOf": 0.01},
        "way": {
            "oneOf": [
                {"required": ["kind", "to"], "properties": {"kind": {"const": "mail"}, "to": {"type": "string"}}},
                {"required": ["kind", "at"], "properties": {"kind": {"const": "shop"}, "at": {"type": "integer"}}},
            ]
        },
    },
    "additionalProperties": False,
}
GOOD: dict[str, Any] = {
    "name": "Minnie",
    "mail": "minnie@example.com",
    "born": "1928-11-18",
    "shelf": "crime",
    "tags": ["a", "b"],
    "price": 19.01,
    "way": {"kind": "shop", "at": 3},
}
WRONG: dict[str, Any] = {
    "name": "minnie",
    "mail": "nobody",
    "born": "soon",
    "shelf": "cooking",
    "tags": [1, 1, "a"],
    "price": 19.015,
    "way": {"kind": "shop", "at": "three"},
    "shoe": 38,
}
SAID = {
    "data/born": "format",
    "data/mail": "format",
    "data/name": "pattern",
    "data/price": "multipleOf",
    "data/shelf": "enum",
    "data/shoe": "additionalProperties",
    "data/tags/0": "type",
    "data/tags/1": "type",
}


@pytest.fixture(scope="module", params=[pytest.param("rust", marks=pytest.mark.soak), "python"])
def caller(request: pytest.FixtureRequest, short_dir: Path) -> Iterator[Api]:
    """Call a server that validates with one of the engines."""
    server = Server(short_dir / request.param, environment={"SCHEMA_USER_VALIDATOR": request.param}).start()
    with server.client() as client:
        yield client
    assert server.stop() == 0
    assert "unexpected" not in server.log(), server.log()


@pytest.fixture(scope="module")
def schema_id(caller: Api) -> str:
    """Upload the schema."""
    return str(caller.ok("POST", "/v3alpha/user_schemas", {"type": "shopper", "schema": CUSTOMER})["id"])


@pytest.fixture
def path(caller: Api, schema_id: str) -> str:
    """Make a user under it, whose data is valid."""
    made = caller.ok("POST", "/v3alpha/users", {"schemaId": schema_id, "data": GOOD})
    return f"/v3alpha/users/{made['userId']}"


def test_an_update_is_judged_and_every_violation_named(caller: Api, path: str) -> None:
    """Wrong data is refused with the same places and reasons, and changes nothing; right data is stored."""
    refused = caller.put(path, json={"data": WRONG})
    assert (refused.status_code, reason(refused)) == (400, "DATA_INVALID")
    found = violations(refused)
    assert {field: found.pop(field, None) for field in SAID} == SAID
    assert set(found) <= {"data/tags", "data/way", "data/way/at"}
    assert found
    assert caller.ok("GET", path)["user"]["data"] == GOOD
    assert caller.put(path, json={"data": {"name": "Daisy"}}).status_code == 200


def test_a_patch_is_judged_as_a_whole(caller: Api, path: str) -> None:
    """A merge patch that leaves a wrong document is refused at its place."""
    headers = {"Content-Type": "application/merge-patch+json"}
    refused = caller.patch(f"{path}/data", content=b'{"name": null}', headers=headers)
    assert (refused.status_code, violations(refused)) == (400, {"data/name": "required"})
    assert caller.patch(f"{path}/data", content=b'{"mail": null}', headers=headers).status_code == 200


def test_another_revision_holds_at_once(caller: Api, schema_id: str, path: str) -> None:
    """What is validated next is validated by the new revision; ``validate`` says what the stored data lacks."""
    changed = {**CUSTOMER, "required": ["name", "card"], "properties": {**CUSTOMER["properties"], "card": True}}
    caller.ok("PUT", f"/v3alpha/user_schemas/{schema_id}", {"schema": changed})
    judged = caller.ok("POST", f"{path}/validate")
    assert [(each["field"], each["reason"]) for each in judged["violations"]] == [("data/card", "required")]
    assert violations(caller.put(path, json={"data": GOOD})) == {"data/card": "required"}
    caller.ok("PUT", f"/v3alpha/user_schemas/{schema_id}", {"schema": CUSTOMER})


def test_check_says_the_same_and_a_schema_that_is_none_is_refused(caller: Api) -> None:
    """Trying a schema stores nothing; one that breaks its metaschema is refused at its place."""
    tried = caller.ok("POST", "/v3alpha/user_schemas/check", {"schema": SCHEMA, "data": {"age": -1}})
    assert {each["field"]: each["reason"] for each in tried["violations"]} == {
        "data/age": "minimum",
        "data/name": "required",
    }
    broken = {"$schema": "http://json-schema.org/draft-07/schema#", "properties": {"name": {"type": "sting"}}}
    refused = caller.post("/v3alpha/user_schemas", json={"type": "broken", "schema": broken})
    assert (refused.status_code, reason(refused)) == (400, "SCHEMA_INVALID")
    assert {field.split("/type")[0] for field in violations(refused)} == {"schema/properties/name"}
