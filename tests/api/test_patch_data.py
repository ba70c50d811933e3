"""``PATCH /v3alpha/users/{userId}/data``: parts of the data, by the two standards for patches."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import pytest

from tests.conftest import Tenant, reason, violations

if TYPE_CHECKING:
    import httpx

MERGE = "application/merge-patch+json"
STEPS = "application/json-patch+json"


def patch(
    tenant: Tenant, user_id: str, body: Any, media_type: str = STEPS, query: str = "", **headers: str
) -> httpx.Response:
    """Send a patch as the tenant's owner."""
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    sent = {"Content-Type": media_type} | {name.replace("_", "-"): value for name, value in headers.items()}
    return tenant.owner.patch(f"/v3alpha/users/{user_id}/data{query}", content=content, headers=sent)


def data_of(tenant: Tenant, user_id: str) -> dict[str, Any]:
    """Give the stored data."""
    got: dict[str, Any] = tenant.owner.ok("GET", f"/v3alpha/users/{user_id}")["user"]["data"]
    return got


def test_a_json_patch_changes_parts(tenant: Tenant) -> None:
    """The answer is that of an update: details and ETag."""
    user_id = tenant.user(data={"name": "Minnie", "age": 3, "tags": ["a"], "extra": {"x": 1.0}})
    operations = [
        {"op": "test", "path": "/extra/x", "value": 1},
        {"op": "replace", "path": "/age", "value": 4},
        {"op": "add", "path": "/tags/-", "value": "b"},
        {"op": "move", "from": "/extra/x", "path": "/extra/y"},
        {"op": "copy", "from": "/tags", "path": "/extra/tags"},
    ]
    response = patch(tenant, user_id, operations)
    assert response.status_code == 200, response.text
    assert response.headers["etag"] == '"2"'
    assert set(response.json()) == {"details"}
    assert response.json()["details"]["sequence"] == "2"
    assert data_of(tenant, user_id) == {
        "name": "Minnie",
        "age": 4,
        "tags": ["a", "b"],
        "extra": {"y": 1.0, "tags": ["a", "b"]},
    }


def test_a_merge_patch_changes_parts(tenant: Tenant) -> None:
    """Null removes, objects are merged, the rest replaces; also with a charset in the media type."""
    user_id = tenant.user(data={"name": "Minnie", "age": 3, "extra": {"a": 1, "b": {"c": 2}}})
    body = {"age": None, "extra": {"b": {"d": 3}, "a": None}}
    response = patch(tenant, user_id, body, MERGE + "; charset=UTF-8")
    assert response.status_code == 200, response.text
    assert data_of(tenant, user_id) == {"name": "Minnie", "extra": {"b": {"c": 2, "d": 3}}}


@pytest.mark.parametrize(
    ("media_type", "body"),
    [(STEPS, []), (STEPS, [{"op": "test", "path": "/age", "value": 3.0}]), (MERGE, {"age": 3.0})],
)
def test_what_changes_nothing_keeps_the_sequence(tenant: Tenant, media_type: str, body: Any) -> None:
    """1 equals 1.0, so nothing changed."""
    user_id = tenant.user(data={"name": "Minnie", "age": 3})
    assert patch(tenant, user_id, body, media_type).json()["details"]["sequence"] == "1"


def test_the_result_is_validated_as_a_whole(tenant: Tenant) -> None:
    """A result that does not match is refused with the pointers of the data, and nothing is stored."""
    user_id = tenant.user(data={"name": "Minnie", "age": 3})
    operations = [{"op": "remove", "path": "/name"}, {"op": "replace", "path": "/age", "value": -1}]
    response = patch(tenant, user_id, operations)
    assert (response.status_code, response.json()["code"], reason(response)) == (400, 9, "DATA_INVALID")
    assert violations(response) == {"data/name": "required", "data/age": "minimum"}
    response = patch(tenant, user_id, {"odd": 1}, MERGE)
    assert violations(response) == {"data/odd": "additionalProperties"}
    assert data_of(tenant, user_id) == {"name": "Minnie", "age": 3}


def test_what_is_invalid_in_between_may_be(tenant: Tenant) -> None:
    """Only the result must match the schema."""
    user_id = tenant.user(data={"name": "Minnie"})
    operations = [{"op": "remove", "path": "/name"}, {"op": "add", "path": "/name", "value": "Daisy"}]
    assert patch(tenant, user_id, operations).status_code == 200
    assert data_of(tenant, user_id) == {"name": "Daisy"}


def test_a_failed_test_refuses_the_whole(tenant: Tenant) -> None:
    """Code 9, the operation's pointer, and not the value."""
    user_id = tenant.user(data={"name": "s3cret"})
    operations = [
        {"op": "add", "path": "/age", "value": 1},
        {"op": "test", "path": "/name", "value": "guess"},
    ]
    response = patch(tenant, user_id, operations)
    assert (response.status_code, response.json()["code"], reason(response)) == (400, 9, "PATCH_TEST_FAILED")
    assert violations(response) == {"1/value": "test"}
    assert "s3cret" not in response.text
    assert data_of(tenant, user_id) == {"name": "s3cret"}


@pytest.mark.parametrize(
    ("media_type", "body", "expected"),
    [
        (STEPS, {}, {"": "type"}),
        (STEPS, [{"op": "remove", "path": "/nothing"}], {"0/path": "pointer"}),
        (STEPS, [{"op": "add", "path": "/tags/9", "value": "x"}], {"0/path": "pointer"}),
        (STEPS, [{"op": "add", "path": "name", "value": "x"}], {"0/path": "pointer"}),
        (STEPS, [{"op": "move", "from": "/extra", "path": "/extra/a"}], {"0/path": "ownChild"}),
        (STEPS, [{"op": "add", "path": "/a.b", "value": 1}], {"0/path": "key"}),
        (STEPS, [{"op": "add", "path": "/extra", "value": {"$a": 1}}], {"0/value/$a": "key"}),
        (STEPS, [{"op": "add", "path": "/extra/\x00", "value": 1}], {"0/path": "nul"}),
        (STEPS, b'[{"op": "add", "path": "/age", "value": 9223372036854775808}]', {"0/value": "range"}),
        (STEPS, b'[{"op": "remove", "op": "test", "path": "/age"}]', {"0/op": "duplicateKey"}),
        (STEPS, [{"op": "test", "path": "", "value": {}}] * 1001, {"": "maxItems"}),
        (MERGE, [], {"": "type"}),
        (MERGE, {"extra": {"a.b": 1}}, {"extra/a.b": "key"}),
        (MERGE, {"extra": {"": None}}, {"extra/": "key"}),
        (MERGE, b'{"age": 1, "age": 2}', {"age": "duplicateKey"}),
        (MERGE, b'{"age": NaN}', {"age": "range"}),
        (MERGE, b'{"name": "\\ud800"}', {"name": "surrogate"}),
    ],
)
def test_malformed_patches_are_refused_with_their_places(
    tenant: Tenant, media_type: str, body: Any, expected: dict[str, str]
) -> None:
    """Code 3, with the pointer into the body of the patch, and nothing stored."""
    user_id = tenant.user(data={"name": "Minnie", "tags": [], "extra": {}})
    response = patch(tenant, user_id, body, media_type)
    assert (response.status_code, response.json()["code"]) == (400, 3), response.text
    assert violations(response) == expected
    assert data_of(tenant, user_id) == {"name": "Minnie", "tags": [], "extra": {}}


def test_depth_and_size_are_those_of_any_data(tenant: Tenant) -> None:
    """What a patch makes can be sent back as data: 63 levels, and not one more; and nothing beyond a mebibyte."""
    nested: Any = {}
    for _ in range(59):
        nested = {"a": nested}
    user_id = tenant.user(data={"name": "M", "extra": {"x": nested}})
    operation = {"op": "copy", "from": "/extra/x", "path": "/extra/y"}
    assert patch(tenant, user_id, [operation]).status_code == 200
    deep = "/extra/x" + "/a" * 59 + "/b"
    deeper = {"op": "add", "path": deep, "value": {}}
    assert patch(tenant, user_id, [deeper]).status_code == 200
    tenant.owner.ok("PUT", f"/v3alpha/users/{user_id}", {"data": data_of(tenant, user_id)})
    deepest = {**deeper, "path": deep + "/b"}
    assert violations(patch(tenant, user_id, [deepest])) == {"0/path": "depth"}

    large = tenant.user(data={"name": "M", "extra": {"x": "x" * 1000}})
    operations = [{"op": "copy", "from": "/extra", "path": f"/extra/{number}"} for number in range(30)]
    assert violations(patch(tenant, large, operations)) == {"10/path": "size"}


def test_other_media_types_are_told_which_are_taken(tenant: Tenant) -> None:
    """415 names both in Accept-Patch; the operation knows no other method."""
    user_id = tenant.user()
    for media_type in ("application/json", "text/plain", STEPS + "; charset=latin-1"):
        response = patch(tenant, user_id, [], media_type)
        assert (response.status_code, reason(response)) == (415, "MEDIA_TYPE_UNSUPPORTED")
        assert response.headers["accept-patch"] == f"{MERGE}, {STEPS}"
    response = tenant.owner.put(f"/v3alpha/users/{user_id}/data", json={})
    assert (response.status_code, response.headers["allow"]) == (405, "OPTIONS, PATCH")
    update = tenant.owner.patch(f"/v3alpha/users/{user_id}", content=b"{}", headers={"Content-Type": MERGE})
    assert update.status_code == 415
    assert "accept-patch" not in update.headers


def test_if_match_and_validate_only(tenant: Tenant) -> None:
    """As for every change: a stale writer is refused, and a rehearsal stores nothing."""
    user_id = tenant.user()
    stale = patch(tenant, user_id, {"age": 1}, MERGE, If_Match='"7"')
    assert (stale.status_code, reason(stale)) == (412, "SEQUENCE_MISMATCH")
    stale = patch(tenant, user_id, [{"op": "remove", "path": "/gone"}], If_Match='"7"')
    assert (stale.status_code, reason(stale)) == (412, "SEQUENCE_MISMATCH")
    rehearsed = patch(tenant, user_id, {"age": 1}, MERGE, query="?validateOnly=true", If_Match='"1"')
    assert (rehearsed.status_code, rehearsed.json()["details"]["sequence"]) == (200, "2")
    assert data_of(tenant, user_id) == {"name": "Minnie"}
    assert patch(tenant, user_id, {"age": -1}, MERGE, query="?validateOnly=true").status_code == 400


def test_an_idempotency_key_lets_a_patch_happen_once(tenant: Tenant) -> None:
    """An append that is sent again is not appended again, and another patch under the key is refused."""
    user_id = tenant.user(data={"name": "M", "tags": []})
    operations = [{"op": "add", "path": "/tags/-", "value": "once"}]
    first = patch(tenant, user_id, operations, Idempotency_Key="k1")
    again = patch(tenant, user_id, operations, Idempotency_Key="k1")
    assert (first.status_code, again.status_code) == (200, 200)
    assert again.json() == first.json()
    assert again.headers["idempotent-replayed"] == "true"
    assert data_of(tenant, user_id)["tags"] == ["once"]
    other = patch(tenant, user_id, [], Idempotency_Key="k1")
    assert (other.status_code, reason(other)) == (409, "IDEMPOTENCY_KEY_REUSED")


def test_who_may(tenant: Tenant) -> None:
    """The user itself and writers may; viewers may not; for strangers the user is not there."""
    user_id = tenant.user()
    path, headers = f"/v3alpha/users/{user_id}/data", {"Content-Type": MERGE}
    with tenant.caller(user_id=user_id) as itself, tenant.caller("ORG_USER_VIEWER") as viewer:
        assert itself.patch(path, content=b'{"age": 5}', headers=headers).status_code == 200
        assert viewer.patch(path, content=b'{"age": 6}', headers=headers).status_code == 403
    missing = patch(tenant, "nobody", {"age": 1}, MERGE)
    assert (missing.status_code, reason(missing)) == (404, "USER_NOT_FOUND")
    assert data_of(tenant, user_id)["age"] == 5


def test_patches_at_once_never_lose_one_another(tenant: Tenant) -> None:
    """Each is applied to the latest data: of sixteen appends at once, every one is there that was answered 200."""
    user_id = tenant.user(data={"name": "M", "tags": []})

    def append(number: int) -> int:
        return patch(tenant, user_id, [{"op": "add", "path": "/tags/-", "value": str(number)}]).status_code

    with ThreadPoolExecutor(16) as pool:
        statuses = list(pool.map(append, range(16)))
    assert set(statuses) <= {200, 409}
    tags = data_of(tenant, user_id)["tags"]
    assert sorted(tags) == sorted(str(number) for number, status in enumerate(statuses) if status == 200)


def test_a_large_patch_lets_others_through(tenant: Tenant) -> None:
    """A thousand operations on large data are answered, and so is a small request beside them."""
    user_id = tenant.user(data={"name": "M", "extra": [0] * 200_000})
    operations = [{"op": "add", "path": "/extra/100", "value": number} for number in range(1000)]
    with ThreadPoolExecutor(2) as pool:
        large = pool.submit(patch, tenant, user_id, operations)
        small = pool.submit(data_of, tenant, tenant.user())
        assert small.result() == {"name": "Minnie"}
        response = large.result()
    assert violations(response) == {} or set(violations(response).values()) == {"work"}


_HIDING = {
    "type": "object",
    "properties": {
        "name": {"type": "string"},
        "note": {"type": "object", "urn:zitadel:schema:permission": {"owner": "rw"}},
        "rank": {"type": "integer", "urn:zitadel:schema:permission": {"owner": "rw", "self": "r"}},
    },
}


def test_a_patch_is_applied_to_what_the_caller_sees(tenant: Tenant) -> None:
    """What is hidden stays, and can be neither tested, copied nor removed; what may only be read is not changed."""
    schema_id = tenant.owner.ok("POST", "/v3alpha/user_schemas", {"type": "hiding", "schema": _HIDING})["id"]
    data = {"name": "Minnie", "note": {"text": "s3cret"}, "rank": 1}
    user_id = tenant.user(schemaId=schema_id, data=data)
    path = f"/v3alpha/users/{user_id}/data"
    with tenant.caller(user_id=user_id) as itself:

        def answer(body: Any, media_type: str = STEPS, **headers: str) -> tuple[int, str]:
            sent = {"Content-Type": media_type} | {name.replace("_", "-"): value for name, value in headers.items()}
            response = itself.patch(path, content=json.dumps(body).encode(), headers=sent)
            assert "s3cret" not in response.text
            return response.status_code, "" if response.is_success else reason(response)

        assert answer([{"op": "test", "path": "/note/text", "value": "s3cret"}]) == (400, "PATCH_TEST_FAILED")
        assert answer([{"op": "copy", "from": "/note/text", "path": "/name"}]) == (400, "PATCH_INVALID")
        assert answer([{"op": "remove", "path": "/note"}]) == (400, "PATCH_INVALID")
        assert answer([{"op": "add", "path": "/note", "value": {"text": "mine"}}]) == (403, "FIELD_PERMISSION")
        assert answer({"rank": 2}, MERGE) == (403, "FIELD_PERMISSION")
        assert answer({"rank": 2}, MERGE, If_Match='"9"') == (403, "FIELD_PERMISSION")
        assert answer([{"op": "move", "from": "/rank", "path": "/name"}]) == (403, "FIELD_PERMISSION")
        assert answer({"note": None}, MERGE) == (200, "")
        assert data_of(tenant, user_id) == data
        assert answer([{"op": "replace", "path": "", "value": {"name": "Daisy", "rank": 1}}]) == (200, "")
    assert data_of(tenant, user_id) == {**data, "name": "Daisy"}
