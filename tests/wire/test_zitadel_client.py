"""The official Python client, as it is in the registry, works with people here."""

from __future__ import annotations

import importlib
import json
import secrets
import warnings
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.conftest import Tenant

NUMBER = "+41791234567"


@pytest.fixture(scope="module")
def package() -> Any:
    """Give the client; what it uses of Authlib warns that it will be gone in Authlib 2."""
    with warnings.catch_warnings():
        importlib.import_module("authlib.deprecate")  # which wants its warnings to be heard
        warnings.simplefilter("ignore")
        return importlib.import_module("zitadel_client")


@pytest.fixture
def users(package: Any, tenant: Tenant) -> Iterator[Any]:
    """Call as the tenant's owner, by a token."""
    with package.Zitadel.with_access_token(tenant.server.url, tenant.owner.token) as client:
        yield client.users


def of(kind: str, members: dict[str, Any]) -> Any:
    """Make one of the client's requests; its module is found by its name."""
    models = importlib.import_module("zitadel_client.models")
    return getattr(models, f"UserService{kind}").from_dict(members)


@pytest.fixture
def user_id(users: Any, tenant: Tenant) -> str:
    """Make a person by the client."""
    members = {
        "organization": {"orgId": tenant.organization_id},
        "profile": {"givenName": "Minnie", "familyName": "Mouse"},
        "email": {"email": f"{secrets.token_hex(6)}@example.com", "isVerified": True},
    }
    return str(users.add_human_user(of("AddHumanUserRequest", members)).user_id)


def test_people(users: Any, user_id: str) -> None:
    """A person is made, got, listed, updated and deleted."""
    got = users.get_user_by_id(of("GetUserByIDRequest", {"userId": user_id})).user
    assert (got.human.profile.given_name, got.human.email.is_verified) == ("Minnie", True)
    queries = [{"inUserIdsQuery": {"userIds": [user_id]}}]
    (listed,) = users.list_users(of("ListUsersRequest", {"queries": queries})).result
    assert listed.user_id == user_id

    profile = {"givenName": "Minerva", "familyName": "Mouse", "gender": "GENDER_FEMALE"}
    changed = users.update_human_user(of("UpdateHumanUserRequest", {"userId": user_id, "profile": profile}))
    assert str(changed.details.sequence) == "2"
    renamed = {"userId": user_id, "human": {"profile": {"nickName": "Min"}}}
    assert users.update_user(of("UpdateUserRequest", renamed)).change_date is not None
    profile = users.get_user_by_id(of("GetUserByIDRequest", {"userId": user_id})).user.human.profile
    assert (profile.given_name, profile.nick_name) == ("Minerva", "Min")

    users.delete_user(of("DeleteUserRequest", {"userId": user_id}))


def test_contacts_and_passwords(users: Any, user_id: str) -> None:
    """An address, a number and a password are set, and the codes for them come back and are taken."""
    mail = {"userId": user_id, "email": f"{secrets.token_hex(6)}@example.com", "returnCode": {}}
    code = users.set_email(of("SetEmailRequest", mail)).verification_code
    users.verify_email(of("VerifyEmailRequest", {"userId": user_id, "verificationCode": code}))
    phone = {"userId": user_id, "phone": NUMBER, "returnCode": {}}
    code = users.set_phone(of("SetPhoneRequest", phone)).verification_code
    users.verify_phone(of("VerifyPhoneRequest", {"userId": user_id, "verificationCode": code}))
    users.set_password(of("SetPasswordRequest", {"userId": user_id, "newPassword": {"password": "Secr3tP4ssw0rd!"}}))
    reset = users.password_reset(of("PasswordResetRequest", {"userId": user_id, "returnCode": {}}))
    proven = {
        "userId": user_id,
        "newPassword": {"password": "An0therP4ss!"},
        "verificationCode": reset.verification_code,
    }
    users.set_password(of("SetPasswordRequest", proven))
    human = users.get_user_by_id(of("GetUserByIDRequest", {"userId": user_id})).user.human
    assert (human.email.email, human.email.is_verified) == (mail["email"], True)
    assert (human.phone.phone, human.phone.is_verified) == (NUMBER, True)


def test_its_errors_carry_our_reasons(package: Any, users: Any, user_id: str) -> None:
    """The client's error has the status, and in its body the reason and the place that is wrong."""
    error = importlib.import_module("zitadel_client.exceptions").ApiError
    with pytest.raises(error) as caught:
        users.set_email(of("SetEmailRequest", {"userId": user_id, "email": "nowhere"}))
    body = caught.value.response_body
    told = json.loads(body) if isinstance(body, str) else getattr(body, "to_dict", lambda: body)()
    assert caught.value.code == 400
    assert "email" in told["message"]
    assert "FIELD_INVALID" in str(told)
    with pytest.raises(error) as caught:
        users.get_user_by_id(of("GetUserByIDRequest", {"userId": "nobody"}))
    assert caught.value.code == 404
    with pytest.raises(error) as caught:
        users.add_secret(of("AddSecretRequest", {"userId": user_id}))
    assert caught.value.code == 501
