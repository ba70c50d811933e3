"""Between messages and bodies: what counts as given, and that the kept messages are those of the declarations."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import pytest

from schema_user.api.status import CODES
from schema_user.api.v2.bodies import UpdateHumanBody
from schema_user.errors import Malformed, Unavailable, Violation
from schema_user.rpc import generated
from schema_user.rpc.faults import refusal
from schema_user.rpc.generated.google.rpc.error_details_pb import BadRequest, ErrorInfo, RetryInfo
from schema_user.rpc.generated.zitadel.user.v2 import user_service_pb
from schema_user.rpc.generated.zitadel.user.v2.user_service_pb import (
    ListUsersRequest,
    ListUsersResponse,
    UpdateHumanUserRequest,
)
from schema_user.rpc.messages import integral, taken
from schema_user.rpc.method import Service
from schema_user.rpc.services import SERVICES
from schema_user.rpc.wires import Wires
from tests.wire.generate_messages import generate
from tests.wire.rpc_calls import CODES as NAMES

if TYPE_CHECKING:
    from pathlib import Path


def test_the_generated_messages_are_current(tmp_path: Path) -> None:
    """What is kept in the package is what `make proto` writes."""
    generate(tmp_path / "generated")
    kept = tmp_path.__class__(str(generated.__file__)).parent
    fresh = {str(path.relative_to(tmp_path / "generated")): path for path in (tmp_path / "generated").rglob("*.py")}
    present = {str(path.relative_to(kept)): path for path in kept.rglob("*.py")}
    assert fresh.keys() == present.keys()
    for name, path in fresh.items():
        assert path.read_bytes() == present[name].read_bytes(), f"{name}: run make proto"


def test_every_declared_method_is_offered() -> None:
    """A service offers what its file declares, no more and no less."""
    for service in SERVICES:
        (declared,) = (each for each in service.file.services if each.type_name == service.name)
        assert {f"/{service.name}/{each.name}" for each in declared.methods} == set(service.paths), service.name


@pytest.mark.parametrize(
    ("message", "members"),
    [
        ('{"userId":"1"}', {"userId": "1"}),
        ('{"username":""}', {"username": ""}),
        ('{"phone":{}}', {"phone": {"phone": ""}}),
        ('{"email":{"isVerified":false}}', {"email": {"email": "", "isVerified": False}}),
        ('{"profile":{"givenName":"M"}}', {"profile": {"givenName": "M", "familyName": ""}}),
        ('{"profile":{"gender":"GENDER_UNSPECIFIED"}}', None),
        (
            '{"password":{"password":{"password":"x","changeRequired":true}}}',
            {"password": {"password": {"password": "x", "changeRequired": True}}},
        ),
    ],
)
def test_what_counts_as_given(message: str, members: dict[str, Any] | None) -> None:
    """A member is there if the client set it, or if the body requires it and the message cannot tell."""
    found = taken(UpdateHumanUserRequest.from_json(message), UpdateHumanBody)
    if members is None:
        assert found["profile"]["gender"] == "GENDER_UNSPECIFIED"
    else:
        assert found == members


def test_numbers_and_enums() -> None:
    """64-bit integers are integers, enums are names, and a number that is no name of them stays for the rules."""
    request = ListUsersRequest.from_json('{"query":{"offset":"7","limit":3},"sortingColumn":"USER_FIELD_NAME_EMAIL"}')
    assert taken(request) == {"query": {"offset": 7, "limit": 3}, "sortingColumn": "USER_FIELD_NAME_EMAIL"}
    assert taken(ListUsersRequest.from_binary(b"\x10\x63")) == {"sortingColumn": 99}
    assert integral({"a": [1.0, 1.5, 2.0**53, 2.0**63]}) == {"a": [1, 1.5, 2**53, 2.0**63]}
    assert [type(each) for each in integral([1.0, 2.0**60, 2.0**63])] == [int, int, float]


@dataclass
class _Slow:
    """A method that takes longer than its client waits."""

    name: str = "ListUsers"
    done: asyncio.Event = field(default_factory=asyncio.Event)

    async def perform(self, *_: Any) -> tuple[ListUsersResponse, None]:
        await asyncio.sleep(0.05)
        self.done.set()
        return ListUsersResponse(), None


async def test_a_deadline_leaves_the_work_to_its_end() -> None:
    """When a deadline is over the client is told so, and what it asked for is still done."""
    slow, sent = _Slow(), []
    service = Service(user_service_pb.desc(), "zitadel.user.v2.UserService", (slow,))
    wires = Wires([service], None, 1024)
    headers = {b"content-type": b"application/json", b"connect-timeout-ms": b"1"}
    scope = {
        "type": "http",
        "method": "POST",
        "path": "/zitadel.user.v2.UserService/ListUsers",
        "root_path": "",
        "headers": list(headers.items()),
        "state": {"headers": headers, "request_id": "1"},
    }
    pieces = iter([{"type": "http.request", "body": b"{}", "more_body": False}])

    async def receive() -> Any:
        return next(pieces, None) or await asyncio.Event().wait()

    async def send(message: Any) -> None:
        sent.append(message)

    async def let_in() -> None:
        """Let everybody in."""

    await wires(scope, receive, send, let_in)
    assert (sent[0]["status"], b"deadline_exceeded" in sent[1]["body"]) == (504, True)
    await asyncio.wait_for(slow.done.wait(), 10)


def test_faults_become_details() -> None:
    """A fault keeps its code, and its message names the first wrong place; what retries need is there."""
    for kind, (number, _) in CODES.items():
        assert NAMES[refusal(kind("REASON", "words"), "id").code.value] == number
    wrong = refusal(Malformed("FIELD_INVALID", "two things are wrong", [Violation("a/b", "is odd", "odd")]), "id")
    assert wrong.message == "two things are wrong: a/b is odd"
    kinds = [type(each.value()) for each in wrong.details]
    assert kinds[:2] == [ErrorInfo, BadRequest]
    busy = refusal(Unavailable("QUEUE_FULL", "busy", retry_after=3), "id")
    assert any(isinstance(each.value(), RetryInfo) for each in busy.details)
