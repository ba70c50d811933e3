"""The operations for people by every RPC wire: they are those of REST, with the same rules and the same errors."""

from __future__ import annotations

import secrets
from typing import TYPE_CHECKING, Any

import grpc
import pytest

from schema_user.rpc.generated.zitadel.user.v2.user_pb import Gender, UserState
from tests.conftest import reason
from tests.wire.rpc_calls import PROFILE, V1, Caller, Refused, person

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.conftest import Server, Tenant

WIRES = ("json", "proto", "web", "grpc")


@pytest.fixture(params=WIRES)
def call(request: pytest.FixtureRequest, server: Server, tenant: Tenant) -> Iterator[Caller]:
    """Call as the tenant's owner, by each wire in turn."""
    made = Caller(server, tenant.owner.token, request.param)
    yield made
    made.close()


def address() -> str:
    """Give an address that nobody has."""
    return f"{secrets.token_hex(6)}@example.com"


def refused(call: Caller, name: str, **members: Any) -> Refused:
    """Call, and expect to be refused."""
    with pytest.raises(Refused) as caught:
        call(name, **members)
    return caught.value


def test_the_life_of_a_person(call: Caller, tenant: Tenant) -> None:
    """A person is made, verified, found, changed and deleted, and REST sees the same."""
    mail = address()
    made = person(call, tenant, mail, metadata={"x-request-id": "the-life-of"})
    assert call.headers["etag"] == '"1"'
    assert call.headers["x-request-id"] == "the-life-of"
    user_id = made.user_id
    assert call("VerifyEmail", userId=user_id, verificationCode=made.email_code).details.sequence == 2

    got = call("GetUserByID", userId=user_id)
    assert got.details.resource_owner == tenant.organization_id
    assert got.user.state == UserState.ACTIVE
    assert got.user.type.value.email.is_verified
    assert got.user.login_names == [mail]
    listed = call("ListUsers", queries=[{"emailQuery": {"emailAddress": mail}}])
    assert listed.details.total_result == 1
    assert listed.result == [got.user]

    number = "+41791234567"
    coded = call("SetPhone", userId=user_id, phone=number, returnCode={})
    call("VerifyPhone", userId=user_id, verificationCode=coded.verification_code)
    call(
        "UpdateHumanUser",
        userId=user_id,
        username=f"minnie-{user_id}",
        profile=PROFILE | {"nickName": "Mini", "gender": "GENDER_FEMALE"},
        email={"email": mail, "isVerified": True},
    )
    seen = tenant.owner.ok("GET", f"/v2/users/{user_id}")["user"]
    assert seen["human"]["profile"] == PROFILE | {"nickName": "Mini", "gender": "GENDER_FEMALE"}
    assert seen["human"]["phone"] == {"phone": number, "isVerified": True}
    call("UpdateHumanUser", userId=user_id, phone={"phone": ""})
    assert "phone" not in tenant.owner.ok("GET", f"/v2/users/{user_id}")["user"]["human"]

    for name in ("DeactivateUser", "ReactivateUser", "LockUser", "UnlockUser"):
        call(name, userId=user_id)
    call("DeleteUser", userId=user_id)
    assert refused(call, "GetUserByID", userId=user_id).code == 5


@pytest.mark.parametrize("call", ["web"], indirect=True)
def test_users_of_any_kind(call: Caller, tenant: Tenant) -> None:
    """CreateUser and UpdateUser work for people, name places as their messages do, and refuse machines by name."""
    human = {"profile": PROFILE, "email": {"email": address(), "isVerified": False}}
    made = call("CreateUser", organizationId=tenant.organization_id, human=human)
    assert made.creation_date is not None
    assert not made.email_code
    changed = call("UpdateUser", userId=made.id, human={"profile": {"familyName": "Duck"}})
    assert changed.change_date is not None
    kept = call("GetUserByID", userId=made.id).user.type.value.profile
    assert (kept.given_name, kept.family_name) == ("Minnie", "Duck")

    wrong = refused(call, "CreateUser", organizationId="nowhere", human={"profile": {"givenName": "M"}})
    assert wrong.code == 3
    assert wrong.fields == {"human/email": "required", "human/profile/familyName": "minLength"}
    assert "human/" in wrong.message
    assert refused(call, "CreateUser", machine={"name": "robot"}).fields == {"machine": "unsupported"}


@pytest.mark.parametrize("call", ["grpc"], indirect=True)
def test_passwords(call: Caller, tenant: Tenant) -> None:
    """A password is set and reset; what REST refuses is refused."""
    user_id = person(call, tenant, address(), password={"password": "Secr3tP4ssw0rd!"}).user_id
    call("SetPassword", userId=user_id, newPassword={"password": "An0therP4ss!"})
    path = f"/v3alpha/users/{user_id}/password/verify"
    assert tenant.owner.post(path, json={"password": "Secr3tP4ssw0rd!"}).status_code == 400
    tenant.owner.ok("POST", path, {"password": "An0therP4ss!"})
    weak = refused(call, "SetPassword", userId=user_id, newPassword={"password": "short"})
    by_rest = tenant.owner.post(f"/v2/users/{user_id}/password", json={"newPassword": {"password": "short"}})
    assert (weak.code, weak.reason) == (by_rest.json()["code"], reason(by_rest))
    assert call("PasswordReset", userId=user_id, returnCode={}).verification_code


@pytest.mark.parametrize("call", ["proto"], indirect=True)
def test_the_first_generation(call: Caller, tenant: Tenant) -> None:
    """The two operations of v1 replace a profile and an address, and refuse what changes nothing."""
    user_id = person(call, tenant, address(), phone={"phone": "+41791234567", "isVerified": True}).user_id
    names = {"firstName": "Gigi", "lastName": "Giraffe", "gender": "GENDER_DIVERSE"}
    assert call("UpdateHumanProfile", V1, userId=user_id, **names).details.sequence == 2
    assert call("GetUserByID", userId=user_id).user.type.value.profile.gender == Gender.DIVERSE
    unchanged = refused(call, "UpdateHumanProfile", service=V1, userId=user_id, **names)
    assert (unchanged.code, unchanged.reason) == (9, "USER_UNCHANGED")
    call("UpdateHumanEmail", V1, userId=user_id, email=address(), isEmailVerified=True)
    assert call("GetUserByID", userId=user_id).user.type.value.email.is_verified


def test_errors(call: Caller, server: Server, tenant: Tenant) -> None:
    """An error has REST's code and reason, names the first wrong place, and carries the request's id."""
    wrong = refused(call, "AddHumanUser", email={"email": "m"}, metadata={"x-request-id": "of-the-error"})
    assert (wrong.code, wrong.reason) == (3, "FIELD_INVALID")
    assert wrong.message.startswith("profile ")
    assert wrong.fields == {"profile": "required"}
    assert wrong.details[-1].request_id == wrong.headers["x-request-id"] == "of-the-error"
    missing = refused(call, "GetUserByID")
    assert missing.fields == {"userId": "required"}
    call.token = "nobody"
    stranger = refused(call, "GetUserByID", userId="1")
    assert (stranger.code, stranger.reason) == (16, "TOKEN_INVALID")
    assert stranger.headers["www-authenticate"].startswith("Bearer")
    call.token = tenant.caller("ORG_USER_VIEWER").token
    user_id = tenant.user()
    assert refused(call, "DeleteUser", userId=user_id).code in {7, 9}
    assert refused(call, "ListUsers", queries=[{"firstNameQuery": {"firstName": "M"}}]).code == 3


def test_headers_are_metadata(call: Caller, tenant: Tenant) -> None:
    """If-Match, Idempotency-Key, x-zitadel-orgid and Retry-After mean what they mean by REST."""
    mail = address()
    key = {"idempotency-key": secrets.token_hex(8)}
    user_id = person(call, tenant, mail, metadata=key).user_id
    assert person(call, tenant, mail, metadata=key).user_id == user_id
    assert call.headers["idempotent-replayed"] == "true"
    reused = refused(call, "LockUser", userId=user_id, metadata=key | {"if-match": '"7"'})
    assert (reused.code, reused.reason) in {(6, "IDEMPOTENCY_KEY_REUSED"), (10, "SEQUENCE_MISMATCH")}
    stale = refused(call, "LockUser", userId=user_id, metadata={"if-match": '"7"'})
    assert (stale.code, stale.reason) == (10, "SEQUENCE_MISMATCH")
    elsewhere = refused(call, "LockUser", userId=user_id, metadata={"x-zitadel-orgid": "nowhere"})
    assert elsewhere.code == 5
    soon = refused(call, "ResendEmailCode", userId=user_id, returnCode={})
    assert soon.code == 8
    assert int(soon.headers["retry-after"]) == soon.details[1].retry_delay.seconds > 0


def test_a_deadline_ends_the_wait_and_not_the_work(server: Server, tenant: Tenant) -> None:
    """A call whose deadline is over is answered so, on each wire, and is nothing unexpected."""
    for wire, header in (("json", "connect-timeout-ms"), ("web", "grpc-timeout")):
        call = Caller(server, tenant.owner.token, wire)
        late = refused(call, "ListUsers", metadata={header: "0" if wire == "json" else "0n"})
        assert late.code == 4
        nonsense = refused(call, "ListUsers", metadata={header: "soon"})
        assert nonsense.code == 3
        call.close()
    with grpc.insecure_channel(f"127.0.0.1:{server.grpc_port}") as channel:
        method = channel.unary_unary("/zitadel.user.v2.UserService/ListUsers")
        for _ in range(5):
            with pytest.raises(grpc.RpcError) as caught:
                method(b"", metadata=(("authorization", f"Bearer {tenant.owner.token}"),), timeout=0.001)
            assert caught.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED


def test_what_is_not_offered(call: Caller) -> None:
    """A method that is known elsewhere and not here is unimplemented, on its own wire, behind the token."""
    unknown = refused(call, "RegisterPasskey", messages="LockUser", userId="1")
    assert (unknown.code, unknown.reason) == (12, "RPC_UNSUPPORTED")
