"""What was thrown at the service and once got through: each stays refused, by every door."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import pytest

from tests.conftest import reason, violations

if TYPE_CHECKING:
    from tests.conftest import Api, Tenant

ENCODED: Final = (
    "=?utf-8?q?a=0D=0ABcc=3Ax?=@example.com",
    "=?utf-8?b?YQ0KDQpib2R5?=@example.com",
    "a=?utf-8?q?=40victim.example=2C?=@example.com",
)
"""Addresses whose local part a mail program decodes (RFC 2047), to a line break or to another address."""


@pytest.mark.parametrize("address", ENCODED)
def test_an_address_that_decodes_to_something_else_is_none(tenant: Tenant, address: str) -> None:
    """Neither the user itself nor its organization can set it: headers of mail could be made of it."""
    user_id = tenant.user()
    one = f"/v3alpha/users/{user_id}"
    contact: dict[str, Any] = {"contact": {"email": {"address": address}}}
    with tenant.caller(user_id=user_id) as itself:
        for caller in (itself, tenant.owner):
            for method, path, body, field in (
                ("PUT", one, contact, "contact/email/address"),
                ("PATCH", one, contact, "contact/email/address"),
                ("PUT", one + "/email", {"address": address}, "address"),
            ):
                response = caller.request(method, path, json=body)
                assert (response.status_code, list(violations(response))) == (400, [field]), response.text
    created = tenant.owner.post("/v3alpha/users", json={"schemaId": tenant.schema_id, "data": {"name": "x"}, **contact})
    assert (created.status_code, list(violations(created))) == (400, ["contact/email/address"])


@pytest.mark.parametrize(
    ("settings", "field"),
    [
        ({"sender": {"name": "=?utf-8?q?Bank_=3Cadmin=40bank.example=3E?="}}, "settings/sender/name"),
        (
            {"texts": {"en": {"verify": {"subject": "=?utf-8?q?a=0D=0ABcc=3Ax?="}}}},
            "settings/texts/en/verify/subject",
        ),
    ],
)
def test_words_that_decode_to_something_else_are_refused(tenant: Tenant, settings: Any, field: str) -> None:
    """A sender's name could be anybody's address, a subject could bring headers of its own."""
    response = tenant.owner.put(f"/v3alpha/organizations/{tenant.organization_id}", json={"settings": settings})
    assert (response.status_code, list(violations(response))) == (400, [field])


@pytest.mark.parametrize("at", ["9999-12-31T23:59:59-23:59", "0001-01-01T00:00:00+23:59"])
def test_a_time_beyond_the_calendar_of_utc_is_refused(tenant: Tenant, admin: Api, at: str) -> None:
    """As an expiry and in a query of messages; it is no fault of the service."""
    roles = [{"role": "ORG_USER_VIEWER", "organizationId": tenant.organization_id}]
    response = admin.post("/v3alpha/tokens", json={"name": "t", "roles": roles, "expirationDate": at})
    assert (response.status_code, reason(response)) == (400, "FIELD_INVALID")
    assert list(violations(response)) == ["expirationDate"]
    query = {"queries": [{"createdQuery": {"since": at}}]}
    assert tenant.owner.post("/v3alpha/messages/search", json=query).status_code == 400
