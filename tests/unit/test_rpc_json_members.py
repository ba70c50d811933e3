"""What a message in JSON may not say twice."""

from __future__ import annotations

import pytest

from schema_user.errors import Malformed
from schema_user.rpc.generated.zitadel.user.v2.user_service_pb import SetPasswordRequest, UpdateHumanUserRequest
from schema_user.rpc.json_members import require_said_once


@pytest.mark.parametrize(
    ("text", "field", "rule"),
    [
        (b'{"userId": "1", "userId": "2"}', "userId", "duplicateKey"),
        (b'{"userId": "1", "user_id": "2"}', "userId", "duplicateKey"),
        (b'{"newPassword": {"password": "a", "password": "b"}}', "newPassword/password", "duplicateKey"),
        (b'{"currentPassword": "a", "verificationCode": "b"}', "verificationCode", "alternatives"),
        (b'{"current_password": "a", "verificationCode": "b"}', "verificationCode", "alternatives"),
    ],
    ids=["twice", "both names", "inner", "alternatives", "alternatives by both names"],
)
def test_what_is_said_twice_is_refused_by_name(text: bytes, field: str, rule: str) -> None:
    """A member, under one of its names or both; two alternatives."""
    with pytest.raises(Malformed) as refused:
        require_said_once(text, SetPasswordRequest.desc())
    assert [(each.field, each.reason) for each in refused.value.violations] == [(field, rule)]


def test_alternatives_are_found_inside() -> None:
    """They are named by their place in the message."""
    text = b'{"email": {"email": "a@example.com", "sendCode": {}, "isVerified": true}}'
    with pytest.raises(Malformed) as refused:
        require_said_once(text, UpdateHumanUserRequest.desc())
    assert refused.value.violations[0].field == "email/isVerified"


@pytest.mark.parametrize(
    "text", [b'{"currentPassword": "a", "verificationCode": null, "new": 1}', b"{", b"[[", b"3", b'{"newPassword": 1}']
)
def test_all_else_is_for_who_reads_it(text: bytes) -> None:
    """Null is absent, unknown members are let through, and what is no message is refused elsewhere."""
    require_said_once(text, SetPasswordRequest.desc())
