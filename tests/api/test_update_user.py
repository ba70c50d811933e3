"""The centre: ``PUT|PATCH /v3alpha/users/{userId}``."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from tests.conftest import SCHEMA, Tenant, reason, violations


def _path(user_id: str) -> str:
    return f"/v3alpha/users/{user_id}"


def _user(tenant: Tenant, user_id: str) -> dict[str, Any]:
    got: dict[str, Any] = tenant.owner.ok("GET", _path(user_id))["user"]
    return got


@pytest.mark.parametrize("method", ["PUT", "PATCH"])
def test_data_replaces_the_whole_document(tenant: Tenant, method: str) -> None:
    """Either method replaces data, raises the sequence by one and says so in the ETag."""
    user_id = tenant.user(data={"name": "Minnie", "age": 3})
    response = tenant.owner.request(method, _path(user_id), json={"data": {"name": "Daisy"}})
    assert response.status_code == 200
    assert response.headers["etag"] == '"2"'
    details = response.json()["details"]
    assert details["sequence"] == "2"
    assert details["resourceOwner"] == tenant.organization_id
    assert set(response.json()) == {"details"}
    assert _user(tenant, user_id)["data"] == {"name": "Daisy"}


def test_what_is_absent_stays(tenant: Tenant) -> None:
    """An update of the contact leaves data and username alone; null in the envelope is absent."""
    user_id = tenant.user(username="minnie", data={"name": "Minnie", "age": 3})
    tenant.owner.ok(
        "PUT",
        _path(user_id),
        {"data": None, "username": None, "schemaId": None, "contact": {"email": {"address": "a@example.com"}}},
    )
    user = _user(tenant, user_id)
    assert user["data"] == {"name": "Minnie", "age": 3}
    assert user["username"] == "minnie"
    assert user["contact"] == {"email": {"address": "a@example.com", "isVerified": False}}


def test_invalid_data_names_every_violation_and_changes_nothing(tenant: Tenant) -> None:
    """All or nothing: a valid new address beside invalid data is not stored."""
    user_id = tenant.user()
    response = tenant.owner.put(
        _path(user_id),
        json={"data": {"age": -1, "tags": ["a", 2], "odd": 1}, "contact": {"email": {"address": "a@example.com"}}},
    )
    assert response.status_code == 400
    assert response.json()["code"] == 9
    assert reason(response) == "DATA_INVALID"
    assert violations(response) == {
        "data/age": "minimum",
        "data/name": "required",
        "data/odd": "additionalProperties",
        "data/tags/1": "type",
    }
    assert response.json()["details"][0]["metadata"] == {"schemaId": tenant.schema_id, "revision": "1"}
    user = _user(tenant, user_id)
    assert user["details"]["sequence"] == "1"
    assert "contact" not in user


def test_equal_data_keeps_the_sequence(tenant: Tenant) -> None:
    """1 equals 1.0 and the order of keys is nothing, so nothing changes; true is not 1."""
    user_id = tenant.user(data={"name": "M", "age": 1, "extra": {"a": 1, "b": [True]}})
    same = tenant.owner.ok("PUT", _path(user_id), {"data": {"extra": {"b": [True], "a": 1.0}, "age": 1.0, "name": "M"}})
    assert same["details"]["sequence"] == "1"
    other = tenant.owner.ok("PUT", _path(user_id), {"data": {"name": "M", "age": 1, "extra": {"a": 1, "b": [1]}}})
    assert other["details"]["sequence"] == "2"


def test_an_empty_update_changes_nothing(tenant: Tenant) -> None:
    """A body without fields is answered with the present details."""
    user_id = tenant.user()
    assert tenant.owner.ok("PUT", _path(user_id), {})["details"]["sequence"] == "1"


def test_if_match_refuses_a_stale_writer(tenant: Tenant) -> None:
    """The sequence of If-Match is compared before anything of the state; ``*`` matches any."""
    user_id = tenant.user()
    stale = tenant.owner.put(_path(user_id), json={"data": {}}, headers={"If-Match": '"7"'})
    assert stale.status_code == 412
    assert stale.json()["code"] == 10
    fresh = tenant.owner.put(_path(user_id), json={"data": {"name": "D"}}, headers={"If-Match": '"1"'})
    assert fresh.status_code == 200
    anyhow = tenant.owner.put(_path(user_id), json={"data": {"name": "E"}}, headers={"If-Match": "*"})
    assert anyhow.status_code == 200
    assert tenant.owner.put(_path(user_id), json={}, headers={"If-Match": "2"}).status_code == 400


def test_unknown_users_are_missing_before_their_data_is_judged(tenant: Tenant) -> None:
    """404 comes before validation, but after the form of the body."""
    missing = tenant.owner.put(_path("nobody"), json={"data": {}})
    assert (missing.status_code, missing.json()["code"]) == (404, 5)
    malformed = tenant.owner.put(_path("nobody"), json={"shemaId": "x"})
    assert malformed.status_code == 400
    assert violations(malformed) == {"shemaId": "unknownField"}


def test_viewers_may_not_update(tenant: Tenant) -> None:
    """Whoever reads but does not write is denied, before validation."""
    user_id = tenant.user()
    with tenant.caller("ORG_USER_VIEWER") as viewer:
        response = viewer.put(_path(user_id), json={"data": {}})
    assert (response.status_code, response.json()["code"]) == (403, 7)


def test_self_updates_its_data_but_vouches_for_nothing(tenant: Tenant) -> None:
    """A user changes data and address, but never verifies, is given codes, renames itself or picks a schema."""
    user_id = tenant.user()
    other = tenant.owner.ok("POST", "/v3alpha/user_schemas", {"type": "lax", "schema": {}})["id"]
    with tenant.caller(user_id=user_id) as self_caller:
        own = {
            "data": {"name": "Me"},
            "schemaId": tenant.schema_id,
            "contact": {"email": {"address": "me@example.com"}},
        }
        self_caller.ok("PUT", _path(user_id), own)
        for body, field in (
            ({"contact": {"email": {"address": "x@example.com", "isVerified": True}}}, "contact/email/isVerified"),
            ({"contact": {"phone": {"number": "+41791234567", "returnCode": {}}}}, "contact/phone/returnCode"),
            ({"username": "me"}, "username"),
            ({"schemaId": other}, "schemaId"),
        ):
            response = self_caller.put(_path(user_id), json=body)
            assert response.status_code == 403, body
            assert violations(response) == {field: "permission"}
        assert self_caller.put(_path(tenant.user()), json={}).status_code == 404
    assert _user(tenant, user_id)["contact"]["email"] == {"address": "me@example.com", "isVerified": False}


def test_moving_to_another_schema_validates_the_stored_data(tenant: Tenant) -> None:
    """``schemaId`` alone moves the stored data if it passes; if not, the user stays where it was."""
    user_id = tenant.user()
    lax = tenant.owner.ok("POST", "/v3alpha/user_schemas", {"type": "lax", "schema": {}})["id"]
    strict = {"type": "strict", "schema": {"required": ["badge"]}}
    strict_id = tenant.owner.ok("POST", "/v3alpha/user_schemas", strict)["id"]
    refused = tenant.owner.put(_path(user_id), json={"schemaId": strict_id})
    assert violations(refused) == {"data/badge": "required"}
    assert tenant.owner.ok("PUT", _path(user_id), {"schemaId": lax})["details"]["sequence"] == "2"
    assert _user(tenant, user_id)["schema"] == {"id": lax, "type": "lax", "revision": 1}
    tenant.owner.ok("PUT", _path(user_id), {"schemaId": strict_id, "data": {"badge": 7}})
    assert _user(tenant, user_id)["data"] == {"badge": 7}


def test_unknown_and_inactive_schemas_are_preconditions(tenant: Tenant) -> None:
    """Both are 400 code 9; an inactive schema stops data, but never a change of the contact."""
    user_id = tenant.user()
    unknown = tenant.owner.put(_path(user_id), json={"schemaId": "123"})
    assert (unknown.status_code, unknown.json()["code"], reason(unknown)) == (400, 9, "SCHEMA_UNKNOWN")
    tenant.owner.ok("POST", f"/v3alpha/user_schemas/{tenant.schema_id}/deactivate")
    inactive = tenant.owner.put(_path(user_id), json={"data": {"name": "D"}})
    assert (inactive.status_code, inactive.json()["code"], reason(inactive)) == (400, 9, "SCHEMA_INACTIVE")
    tenant.owner.ok("PUT", _path(user_id), {"contact": {"email": {"address": "a@example.com", "isVerified": True}}})


def test_a_new_revision_moves_the_user_with_its_data(tenant: Tenant) -> None:
    """Users pass a new revision when their data is next written, and a moved revision is a change."""
    user_id = tenant.user()
    tenant.owner.ok("PUT", f"/v3alpha/user_schemas/{tenant.schema_id}", {"schema": {**SCHEMA, "title": "two"}})
    assert _user(tenant, user_id)["schema"]["revision"] == 1
    assert tenant.owner.ok("PUT", _path(user_id), {"data": {"name": "Minnie"}})["details"]["sequence"] == "2"
    assert _user(tenant, user_id)["schema"]["revision"] == 2


def test_codes_come_back_only_when_asked_for(tenant: Tenant) -> None:
    """``returnCode`` gives a code for each channel, and the addresses are normalised."""
    user_id = tenant.user()
    contact = {
        "email": {"address": "Minnie.Mouse@EXAMPLE.com", "returnCode": {}},
        "phone": {"number": "+41 79 123 45 67", "returnCode": {}},
    }
    answer = tenant.owner.ok("PUT", _path(user_id), {"contact": contact})
    assert len(answer["emailCode"]) == len(answer["phoneCode"]) == 6
    assert _user(tenant, user_id)["contact"] == {
        "email": {"address": "Minnie.Mouse@example.com", "isVerified": False},
        "phone": {"number": "+41791234567", "isVerified": False},
    }
    again = tenant.owner.ok("PUT", _path(user_id), {"contact": contact})
    assert set(again) == {"details"}
    assert again["details"]["sequence"] == answer["details"]["sequence"]


def test_an_equal_address_can_be_vouched_for(tenant: Tenant) -> None:
    """``isVerified: true`` on the stored address verifies it, and a second time changes nothing."""
    user_id = tenant.user(contact={"email": {"address": "a@example.com", "returnCode": {}}})
    body = {"contact": {"email": {"address": "a@example.com", "isVerified": True}}}
    assert tenant.owner.ok("PUT", _path(user_id), body)["details"]["sequence"] == "2"
    assert tenant.owner.ok("PUT", _path(user_id), body)["details"]["sequence"] == "2"
    assert _user(tenant, user_id)["contact"]["email"]["isVerified"] is True


@pytest.mark.parametrize(
    ("contact", "field"),
    [
        ({"email": {"address": "no address"}}, "contact/email/address"),
        ({"email": {"address": "Minnie <m@example.com>"}}, "contact/email/address"),
        ({"email": {"address": "m@example.com\r\nBcc: x@example.com"}}, "contact/email/address"),
        ({"email": {"address": "m@" + "a" * 199}}, "contact/email/address"),
        ({"email": {"address": ""}}, "contact/email/address"),
        ({"email": {}}, "contact/email/address"),
        ({"email": {"address": "m@example.com", "isVerified": False}}, "contact/email/isVerified"),
        ({"email": {"address": "m@example.com", "sendCode": {}, "returnCode": {}}}, "contact/email/returnCode"),
        ({"email": {"address": "m@example.com", "isVerified": True, "sendCode": {}}}, "contact/email/isVerified"),
        ({"phone": {"number": "0791234567"}}, "contact/phone/number"),
        ({"phone": {"number": "+4179123456789012345"}}, "contact/phone/number"),
        ({"phone": {"number": "+41 79 123 45 67 89 01 23"}}, "contact/phone/number"),
        (
            {"email": {"address": "m@example.com", "sendCode": {"urlTemplate": "https://{{.Code}}.example.com/"}}},
            "contact/email/sendCode/urlTemplate",
        ),
        (
            {"email": {"address": "m@example.com", "sendCode": {"urlTemplate": "javascript:alert(1)"}}},
            "contact/email/sendCode/urlTemplate",
        ),
    ],
)
def test_a_malformed_contact_is_refused_with_its_pointer(tenant: Tenant, contact: dict[str, Any], field: str) -> None:
    """Addresses, numbers, templates and alternatives are checked where they stand, and nothing is stored."""
    user_id = tenant.user()
    response = tenant.owner.put(_path(user_id), json={"contact": contact, "data": {"name": "Other"}})
    assert (response.status_code, response.json()["code"]) == (400, 3), response.text
    assert list(violations(response)) == [field]
    assert _user(tenant, user_id)["data"] == {"name": "Minnie"}


def test_locked_and_inactive_users_can_be_updated_but_get_no_codes(tenant: Tenant) -> None:
    """A new address is stored unverified in silence; asking for a code is a precondition that fails."""
    user_id = tenant.user()
    tenant.owner.ok("POST", _path(user_id) + "/lock")
    tenant.owner.ok("PUT", _path(user_id), {"data": {"name": "L"}, "contact": {"email": {"address": "a@example.com"}}})
    for alternative in ("sendCode", "returnCode"):
        body = {"contact": {"email": {"address": "b@example.com", alternative: {}}}}
        refused = tenant.owner.put(_path(user_id), json=body)
        assert (refused.status_code, refused.json()["code"], reason(refused)) == (400, 9, "USER_NOT_ACTIVE")
    tenant.owner.ok("PUT", _path(user_id), {"contact": {"email": {"address": "b@example.com", "isVerified": True}}})


def test_usernames_are_unique_ignoring_case_and_can_be_given_up(tenant: Tenant) -> None:
    """A taken name is 409; one that was given up, or whose user was deleted, is free at once."""
    first, second = tenant.user(username="Minnie"), tenant.user()
    taken = tenant.owner.put(_path(second), json={"username": "mINNIE"})
    assert (taken.status_code, taken.json()["code"], violations(taken)) == (409, 6, {"username": "unique"})
    assert tenant.owner.ok("PUT", _path(first), {"username": "MINNIE"})["details"]["sequence"] == "2"
    tenant.owner.ok("PUT", _path(first), {"username": ""})
    assert "username" not in _user(tenant, first)
    tenant.owner.ok("PUT", _path(second), {"username": "minnie"})
    tenant.owner.ok("DELETE", _path(second))
    tenant.owner.ok("PUT", _path(first), {"username": "minnie"})


def test_of_many_that_want_one_username_one_gets_it(tenant: Tenant) -> None:
    """Eight users race for a name; exactly one has it afterwards."""
    users = [tenant.user() for _ in range(8)]

    def rename(user_id: str) -> int:
        return tenant.owner.put(_path(user_id), json={"username": "champion"}).status_code

    with ThreadPoolExecutor(8) as pool:
        statuses = sorted(pool.map(rename, users))
    assert statuses == [200] + [409] * 7
    assert sum(_user(tenant, user_id).get("username") == "champion" for user_id in users) == 1


def test_updates_of_one_user_at_once_never_lose_one_another(tenant: Tenant) -> None:
    """Sixteen writers change different parts at once; each is applied or told 409, and the sequence counts them."""
    user_id = tenant.user()

    def write(number: int) -> tuple[int, int]:
        body = (
            {"contact": {"phone": {"number": f"+4179123{number:04d}", "isVerified": True}}}
            if number % 2
            else {"data": {"name": f"N{number}"}}
        )
        return tenant.owner.put(_path(user_id), json=body).status_code, number

    with ThreadPoolExecutor(16) as pool:
        results = list(pool.map(write, range(16)))
    assert {status for status, _ in results} <= {200, 409}
    applied = [number for status, number in results if status == 200]
    user = _user(tenant, user_id)
    assert user["details"]["sequence"] == str(1 + len(applied))
    assert user["data"]["name"] in {f"N{number}" for number in applied}
    assert user["contact"]["phone"]["number"] in {f"+4179123{number:04d}" for number in applied}


def test_validate_only_checks_everything_and_stores_nothing(tenant: Tenant) -> None:
    """The answer is that of the real thing, but the user, its name and its messages are as before."""
    user_id = tenant.user()
    path = _path(user_id) + "?validateOnly=true"
    body = {
        "data": {"name": "D"},
        "username": "dry",
        "contact": {"email": {"address": "a@example.com", "returnCode": {}}},
    }
    answer = tenant.owner.ok("PUT", path, body)
    assert answer["details"]["sequence"] == "2"
    assert "emailCode" not in answer
    user = _user(tenant, user_id)
    assert (user["details"]["sequence"], user["data"]) == ("1", {"name": "Minnie"})
    assert tenant.owner.put(path, json={"data": {}}).status_code == 400
    tenant.user(username="dry")
    assert tenant.owner.put(path, json={"username": "dry"}).status_code == 409


def test_an_inactive_organization_is_read_only(tenant: Tenant) -> None:
    """Writes are 400 code 9 even for the instance's owner; reads go on; its own tokens are refused."""
    user_id = tenant.user()
    tenant.admin.ok("POST", f"/v3alpha/organizations/{tenant.organization_id}/deactivate")
    refused = tenant.admin.put(_path(user_id), json={"data": {"name": "D"}})
    assert (refused.status_code, refused.json()["code"], reason(refused)) == (400, 9, "ORGANIZATION_INACTIVE")
    assert tenant.admin.get(_path(user_id)).status_code == 200
