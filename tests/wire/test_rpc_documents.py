"""Documents in messages: which numbers and which nesting the RPC wires carry, and what becomes of the others."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import pytest
from protobuf import Oneof
from protobuf.wkt import Struct, Value

from schema_user.rpc.generated.zitadel.resources.user.v3alpha import user_pb, user_service_pb

if TYPE_CHECKING:
    import httpx
    from protobuf import Message

    from tests.conftest import Tenant

USERS = "/zitadel.resources.user.v3alpha.ZITADELUsers/"


def post(tenant: Tenant, method: str, message: Message[Any] | bytes | dict[str, Any]) -> httpx.Response:
    """Call a method by Connect: with a message in binary, or with JSON."""
    if isinstance(message, dict):
        return tenant.owner.post(USERS + method, json=message)
    if isinstance(message, bytes):
        return tenant.owner.post(USERS + method, content=message, headers={"Content-Type": "application/json"})
    headers = {"Content-Type": "application/proto"}
    return tenant.owner.post(USERS + method, content=message.to_binary(), headers=headers)


def with_data(user_id: str, **fields: Value) -> Message[Any]:
    """Make the request that replaces a user's data."""
    data = Struct(fields={"name": Value.from_python("Minnie"), **fields})
    return user_service_pb.PatchUserRequest(id=user_id, user=user_pb.PatchUser(data=data))


def number(value: float) -> Value:
    """Make a number; one that JSON has no form for too."""
    kind: Any = Oneof("number_value", value)
    return Value(kind=kind)


def stored(tenant: Tenant, user_id: str) -> Any:
    """Give a user's data by REST."""
    return tenant.owner.ok("GET", f"/v3alpha/users/{user_id}")["user"]["data"]


def wrapped(field: int, content: bytes) -> bytes:
    """Write a message as the field of another, which the library itself refuses to do this deep."""
    size, length = len(content), b""
    while size > 0x7F:
        length += bytes([size & 0x7F | 0x80])
        size >>= 7
    return bytes([field << 3 | 2]) + length + bytes([size]) + content


def test_integral_doubles_are_integers(tenant: Tenant) -> None:
    """A schema's `integer` takes them, they come back by REST without a fraction, and other doubles stay."""
    user_id = tenant.user()
    extra = Value.from_python([1.0, -0.0, 1.5, float(2**53), 1e300])
    answer = post(tenant, "PatchUser", with_data(user_id, age=number(7.0), extra=extra))
    assert answer.status_code == 200, answer.text
    data = stored(tenant, user_id)
    assert [type(each) for each in (data["age"], *data["extra"])] == [int, int, int, float, int, float]
    assert data["extra"] == [1, 0, 1.5, 2**53, 1e300]
    got = user_service_pb.GetUserResponse.from_binary(
        tenant.owner.post(
            USERS + "GetUser",
            content=user_service_pb.GetUserRequest(id=user_id).to_binary(),
            headers={"Content-Type": "application/proto"},
        ).content
    )
    assert got.user is not None
    assert got.user.data is not None
    assert got.user.data.to_python()["extra"] == [1, 0, 1.5, 2**53, 1e300]


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_what_is_no_number_is_refused(tenant: Tenant, value: float) -> None:
    """JSON has neither NaN nor Infinity; nothing is stored."""
    user_id = tenant.user()
    answer = post(tenant, "PatchUser", with_data(user_id, extra=number(value)))
    assert answer.json()["code"] == "invalid_argument"
    assert stored(tenant, user_id) == {"name": "Minnie"}


def test_a_long_integer_in_json_is_refused_and_not_rounded(tenant: Tenant) -> None:
    """A message in JSON can hold what its Struct cannot; one that a double is equal to is taken."""
    user_id = tenant.user()
    wrong = post(tenant, "PatchUser", {"id": user_id, "user": {"data": {"name": "Minnie", "extra": 2**53 + 1}}})
    assert wrong.json()["code"] == "failed_precondition"
    assert "no double" in wrong.json()["message"]
    assert stored(tenant, user_id) == {"name": "Minnie"}
    taken = post(tenant, "PatchUser", {"id": user_id, "user": {"data": {"name": "Minnie", "extra": 2**62}}})
    assert taken.status_code == 200, taken.text
    assert stored(tenant, user_id)["extra"] == 2**62


def test_what_cannot_be_carried_is_not_told_wrong(tenant: Tenant) -> None:
    """Neither alone nor in a search; the place is named, and REST still gives it."""
    long = tenant.user(data={"name": "Minnie", "extra": {"a/b": -(2**53) - 1}})
    found = {"filters": [{"userIdFilter": {"id": long}}]}
    for answer, at in (
        (post(tenant, "GetUser", {"id": long}), "user/data/extra/a~1b"),
        (post(tenant, "SearchUsers", found), "result/0/data/extra/a~1b"),
    ):
        assert (answer.json()["code"], at in answer.json()["message"]) == ("failed_precondition", True), answer.text
    deep: Any = 1
    for _ in range(58):
        deep = [deep]
    nested = tenant.user(data={"name": "Minnie", "extra": deep})
    assert "nested" in post(tenant, "GetUser", {"id": nested}).json()["message"]
    assert stored(tenant, nested)["extra"] == deep


def test_nesting_is_bounded(tenant: Tenant) -> None:
    """A message nested a thousand deep is refused on both forms, and so is a filter beyond twenty."""
    text = b'{"id":"1","user":{"data":{"extra":' + b"[" * 1000 + b"]" * 1000 + b"}}}"
    assert post(tenant, "PatchUser", text).json()["code"] == "invalid_argument"
    value = Value.from_python(1).to_binary()
    for _ in range(1000):
        value = wrapped(6, wrapped(1, value))
    data = wrapped(1, wrapped(1, b"extra") + wrapped(2, value))
    binary = wrapped(3, b"1") + wrapped(4, wrapped(2, data))
    answer = tenant.owner.post(USERS + "PatchUser", content=binary, headers={"Content-Type": "application/proto"})
    assert answer.json()["code"] == "invalid_argument"
    query: dict[str, Any] = {"stateFilter": {"state": "USER_STATE_ACTIVE"}}
    for _ in range(21):
        query = {"notFilter": {"query": query}}
    refused = post(tenant, "SearchUsers", {"filters": [query]})
    assert (refused.json()["code"], "20 deep" in refused.json()["message"]) == ("invalid_argument", True)


def test_places_are_those_of_the_message(tenant: Tenant) -> None:
    """What is wrong is named where the client wrote it, in the member that is the body by REST or beside it."""
    for method, message, place in (
        ("PatchUser", {"user": {}}, "id is required"),
        ("CreateUser", {}, "user/schemaId is required"),
        ("PatchUser", {"id": "1", "organization": {"orgDomain": "a.example"}}, "organization/orgDomain is not offered"),
        ("SetContactEmail", {"id": "1", "email": {"returnCode": {}}}, "email/address is required"),
        ("SearchUsers", {"filters": [{}]}, "filters/0 must have one member"),
    ):
        answer = post(tenant, method, message).json()
        assert (answer["code"], answer["message"].startswith(place)) == ("invalid_argument", True), answer
