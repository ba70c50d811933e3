"""People over the management API of v1: profile and email are replaced, and what changes nothing is refused."""

from __future__ import annotations

import itertools
import time
from typing import Any

import pytest

from tests.conftest import Api, Tenant, reason, violations

PREFIXES = ("/management/v1", "")
PROFILE = {
    "givenName": "Minnie",
    "familyName": "Mouse",
    "nickName": "Mini",
    "displayName": "Minnie Mouse",
    "preferredLanguage": "en",
    "gender": "GENDER_FEMALE",
}
_numbers = itertools.count(1)


def address() -> str:
    """Give an address that nobody has."""
    return f"v1-{next(_numbers)}@example.com"


def make(api: Api, **body: Any) -> str:
    """Make a person, and give its id."""
    wanted = {"profile": PROFILE, "email": {"email": address(), "isVerified": True}, **body}
    return str(api.ok("POST", "/v2/users/human", wanted)["userId"])


def human(api: Api, user_id: str) -> Any:
    """Read what is known of a person."""
    return api.ok("GET", f"/v2/users/{user_id}")["user"]["human"]


@pytest.fixture(params=PREFIXES, ids=["prefixed", "bare"])
def prefix(request: pytest.FixtureRequest) -> str:
    """Run the test once with each of the two paths."""
    return str(request.param)


class TestProfile:
    def test_what_is_absent_is_cleared_but_the_display_name(self, tenant: Tenant, prefix: str) -> None:
        """Empty and unspecified are as good as absent; the answer is the details, with the creation date."""
        user_id = make(tenant.owner)
        at = f"{prefix}/users/{user_id}/profile"
        answer = tenant.owner.ok("PUT", at, {"firstName": "Minerva", "lastName": "Maus"})
        assert answer.keys() == {"details"}
        assert answer["details"].keys() == {"sequence", "creationDate", "changeDate", "resourceOwner"}
        assert answer["details"]["sequence"] == "2"
        kept = {"givenName": "Minerva", "familyName": "Maus", "displayName": "Minnie Mouse"}
        assert human(tenant.owner, user_id)["profile"] == kept
        empty = {"nickName": "", "preferredLanguage": "", "gender": "GENDER_UNSPECIFIED", "displayName": "M"}
        tenant.owner.ok("PUT", at, {"firstName": "Minerva", "lastName": "Maus", **empty})
        assert human(tenant.owner, user_id)["profile"] == kept | {"displayName": "M"}

    def test_unchanged_input_is_refused(self, tenant: Tenant, prefix: str) -> None:
        """400 code 9, as the documented clients expect; under a key the first answer is given again."""
        user_id = make(tenant.owner)
        at = f"{prefix}/users/{user_id}/profile"
        body = {"firstName": "A", "lastName": "B", "gender": "GENDER_DIVERSE"}
        first = tenant.owner.put(at, json=body, headers={"Idempotency-Key": f"profile{prefix}"})
        again = tenant.owner.put(at, json=body, headers={"Idempotency-Key": f"profile{prefix}"})
        assert (first.status_code, again.json()) == (200, first.json())
        for headers in ({}, {"Idempotency-Key": f"another{prefix}"}):
            same = tenant.owner.put(at, json=body, headers=headers)
            assert (same.status_code, same.json()["code"], reason(same)) == (400, 9, "USER_UNCHANGED")
        assert tenant.owner.ok("GET", f"/v2/users/{user_id}")["details"]["sequence"] == "2"

    @pytest.mark.parametrize(
        ("body", "field", "rule"),
        [
            ({"lastName": "B"}, "firstName", "required"),
            ({"firstName": "A"}, "lastName", "required"),
            ({"firstName": "", "lastName": "B"}, "firstName", "minLength"),
            ({"firstName": "A", "lastName": "x" * 201}, "lastName", "maxLength"),
            ({"firstName": "A", "lastName": "B", "nickName": "x" * 201}, "nickName", "maxLength"),
            ({"firstName": "A", "lastName": "B", "displayName": ""}, "displayName", "minLength"),
            ({"firstName": "A", "lastName": "B", "preferredLanguage": "x" * 11}, "preferredLanguage", "maxLength"),
            ({"firstName": "A", "lastName": "B", "gender": "X"}, "gender", "enum"),
            ({"firstName": "A", "lastName": "B", "givenName": "C"}, "givenName", "unknownField"),
        ],
    )
    def test_what_is_wrong_is_named(self, tenant: Tenant, body: dict[str, Any], field: str, rule: str) -> None:
        """400 code 3 with the pointer in the body of v1."""
        response = tenant.owner.put("/management/v1/users/1/profile", json=body)
        assert (response.status_code, response.json()["code"], violations(response)) == (400, 3, {field: rule})


class TestEmail:
    def test_a_new_address_is_mailed_a_code(self, tenant: Tenant, prefix: str) -> None:
        """Unless it is verified: false and absent mean the same."""
        user_id = make(tenant.owner)
        at = f"{prefix}/users/{user_id}/email"
        for body in ({"email": address()}, {"email": address(), "isEmailVerified": False}):
            answer = tenant.owner.ok("PUT", at, body)
            assert answer["details"].keys() == {"sequence", "creationDate", "changeDate", "resourceOwner"}
            assert human(tenant.owner, user_id)["email"] == {"email": body["email"], "isVerified": False}
        query = {"queries": [{"userIdQuery": {"id": user_id}}, {"kindQuery": {"kind": "verify"}}]}
        deadline = time.monotonic() + 20
        while tenant.owner.ok("POST", "/v3alpha/messages/search", query)["details"]["totalResult"] != "2":
            assert time.monotonic() < deadline
            time.sleep(0.1)

    def test_the_same_address_is_verified_or_refused(self, tenant: Tenant, prefix: str) -> None:
        """True on an unverified one verifies it; whatever changes nothing is 400 code 9."""
        user_id, email = make(tenant.owner), address()
        at = f"{prefix}/users/{user_id}/email"
        tenant.owner.ok("PUT", at, {"email": email})
        same = tenant.owner.put(at, json={"email": email})
        assert (same.status_code, same.json()["code"], reason(same)) == (400, 9, "USER_UNCHANGED")
        tenant.owner.ok("PUT", at, {"email": email, "isEmailVerified": True})
        assert human(tenant.owner, user_id)["email"] == {"email": email, "isVerified": True}
        for verified in (True, False):
            assert reason(tenant.owner.put(at, json={"email": email, "isEmailVerified": verified})) == "USER_UNCHANGED"
        assert human(tenant.owner, user_id)["email"]["isVerified"]

    def test_what_is_wrong_is_named(self, tenant: Tenant) -> None:
        """An address that is none, one that is missing, and a field of another generation."""
        at = f"/management/v1/users/{make(tenant.owner)}/email"
        assert violations(tenant.owner.put(at, json={"email": "nobody"})) == {"email": "format"}
        assert violations(tenant.owner.put(at, json={})) == {"email": "required"}
        other = tenant.owner.put(at, json={"email": address(), "isVerified": True})
        assert violations(other) == {"isVerified": "unknownField"}


BODIES = {"profile": {"firstName": "A", "lastName": "B"}, "email": {"email": "other@example.com"}}


@pytest.mark.parametrize("what", sorted(BODIES))
class TestReach:
    def test_another_organization_needs_the_header(self, tenant: Tenant, admin: Api, what: str, prefix: str) -> None:
        """Without it the caller's own is meant, wherever else its roles reach."""
        at = f"{prefix}/users/{make(tenant.owner)}/{what}"
        own = admin.put(at, json=BODIES[what])
        assert (own.status_code, reason(own)) == (404, "USER_NOT_FOUND")
        admin.ok("PUT", at, BODIES[what], headers={"x-zitadel-orgid": tenant.organization_id})
        default = f"{prefix}/users/{make(admin)}/{what}"
        admin.ok("PUT", default, BODIES[what])
        assert tenant.owner.put(default, json=BODIES[what]).status_code == 404

    def test_who_may_not_write_is_refused(self, tenant: Tenant, what: str) -> None:
        """The user itself and a viewer: 403; an unknown user: 404; another sequence: 412."""
        user_id = make(tenant.owner)
        at = f"/management/v1/users/{user_id}/{what}"
        with tenant.caller(user_id=user_id) as itself, tenant.caller("ORG_USER_VIEWER") as viewer:
            for caller in (itself, viewer):
                response = caller.put(at, json=BODIES[what])
                assert (response.status_code, reason(response)) == (403, "PERMISSION_MISSING")
        assert tenant.owner.put(f"/management/v1/users/1/{what}", json=BODIES[what]).status_code == 404
        assert tenant.owner.put(at, json=BODIES[what], headers={"If-Match": '"9"'}).status_code == 412

    def test_a_user_of_another_schema_is_refused(self, tenant: Tenant, what: str) -> None:
        """400 code 9, naming the schema that it has."""
        response = tenant.owner.put(f"/management/v1/users/{tenant.user()}/{what}", json=BODIES[what])
        assert (response.status_code, response.json()["code"], reason(response)) == (400, 9, "USER_NOT_HUMAN")
        assert "person" in response.json()["message"]

    def test_a_rehearsal_changes_nothing(self, tenant: Tenant, what: str) -> None:
        """``validateOnly`` answers as if, and stores nothing."""
        user_id = make(tenant.owner)
        before = human(tenant.owner, user_id)
        tenant.owner.ok("PUT", f"/management/v1/users/{user_id}/{what}?validateOnly=true", BODIES[what])
        assert human(tenant.owner, user_id) == before
