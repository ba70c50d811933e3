"""Requests about one code at the same moment, in one HTTP process and across three.

Each request has a connection of its own, opened before; all are sent at once.
"""

from __future__ import annotations

import asyncio
import functools
import itertools
import json
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Final

import pytest

from tests.conftest import age
from tests.faults.test_server import serving

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from tests.conftest import Api, Server

ATTEMPTS: Final = 5
CODES_PER_ADDRESS: Final = 20
ROUNDS: Final = 8
A_MINUTE: Final = timedelta(minutes=1)
"""After it a code may be asked for again."""

WRONG: Final = "000000"
"""No code has a zero."""

HUMAN: Final = {"profile": {"givenName": "Minnie", "familyName": "Mouse"}}

_numbers = itertools.count(1)


@pytest.fixture(
    scope="module",
    params=[pytest.param(1, id="one process"), pytest.param(3, id="three processes", marks=pytest.mark.soak)],
)
def server(request: pytest.FixtureRequest, short_dir: Path) -> Iterator[Server]:
    """Serve with one HTTP process or with three."""
    environment = {"SCHEMA_USER_PROCESSES": str(request.param)}
    with serving(short_dir / f"races-{request.param}", environment=environment) as made:
        yield made
        assert made.stop() == 0
        assert "unexpected" not in made.log(), made.log()


@pytest.fixture(scope="module")
def api(server: Server) -> Iterator[Api]:
    """Call as somebody who may do everything."""
    with server.client() as made:
        yield made


@dataclass(frozen=True)
class Person:
    """A user with an address that waits to be verified."""

    user_id: str
    channel: str
    address: str
    code: str

    def path(self, verb: str = "") -> str:
        """Give the path of an operation on the address."""
        return f"/v3alpha/users/{self.user_id}/{self.channel}" + (f"/{verb}" if verb else "")

    def verify(self, code: str | None = None) -> Call:
        """Give back a code, by default the right one."""
        return "POST", self.path("verify"), {"verificationCode": self.code if code is None else code}


Call = tuple[str, str, Any]


@dataclass(frozen=True)
class Answer:
    """What was answered to one of many."""

    status: int
    body: Any

    @property
    def reason(self) -> str:
        """Why it was refused; nothing if it was not."""
        return "" if self.status == 200 else str(self.body["details"][0]["reason"])

    @property
    def sequence(self) -> int:
        """The sequence of the user."""
        return int(self.body["details"]["sequence"])

    @property
    def attempts_left(self) -> int:
        """How many attempts a wrong code leaves."""
        return int(self.body["details"][0]["metadata"]["attemptsLeft"])


FIELDS: Final = {"email": "address", "phone": "number"}


def fresh_address(channel: str) -> str:
    """Give an address that nobody has used."""
    number = next(_numbers)
    return f"racer{number}@example.com" if channel == "email" else f"+4179{number:03}4567"


@pytest.fixture(params=["email", pytest.param("phone", marks=pytest.mark.soak)])
def channel(request: pytest.FixtureRequest) -> str:
    """Run the test once for each channel."""
    return str(request.param)


@functools.cache
def human(api: Api) -> str:
    """Find a schema that ships."""
    found = api.ok("POST", "/v3alpha/user_schemas/search", {"queries": [{"typeQuery": {"type": "human"}}]})
    return str(found["result"][0]["id"])


def person(api: Api, channel: str) -> Person:
    """Make a user and give its code back."""
    address = fresh_address(channel)
    body = {"schemaId": human(api), "data": HUMAN, "contact": {channel: {FIELDS[channel]: address, "returnCode": {}}}}
    made = api.ok("POST", "/v3alpha/users", body)
    return Person(made["userId"], channel, address, made[f"{channel}Code"])


def at_once(server: Server, calls: Sequence[Call]) -> list[Answer]:
    """Send all at the same moment; give the answers in the order of the calls."""
    return asyncio.run(_at_once(server, calls))


async def _at_once(server: Server, calls: Sequence[Call]) -> list[Answer]:
    streams = [await asyncio.open_connection("127.0.0.1", server.port) for _ in calls]
    try:
        for (_, writer), call in zip(streams, calls, strict=True):
            writer.write(_bytes(server, call))
        return await asyncio.gather(*(_answer(reader) for reader, _ in streams))
    finally:
        for _, writer in streams:
            writer.close()


def _bytes(server: Server, call: Call) -> bytes:
    method, path, value = call
    body = b"" if value is None else json.dumps(value).encode()
    head = (
        f"{method} {path} HTTP/1.1\r\nHost: 127.0.0.1:{server.port}\r\nAuthorization: Bearer {server.token}\r\n"
        f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    return head.encode() + body


async def _answer(reader: asyncio.StreamReader) -> Answer:
    first, *lines = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").rstrip().split("\r\n")
    headers = dict(line.lower().split(": ", 1) for line in lines)
    return Answer(int(first.split()[1]), json.loads(await reader.readexactly(int(headers["content-length"]))))


def seen(api: Api, person: Person) -> tuple[int, Any]:
    """Read the user's sequence, and its address on the channel."""
    user = api.ok("GET", f"/v3alpha/users/{person.user_id}")["user"]
    return int(user["details"]["sequence"]), user["contact"].get(person.channel)


def test_of_sixteen_correct_codes_one_changes_the_state(server: Server, api: Api, channel: str) -> None:
    """All are answered 200 with the same sequence, which rose by one."""
    for _ in range(ROUNDS):
        made = person(api, channel)
        answers = at_once(server, [made.verify()] * 16)
        assert [(each.status, each.sequence) for each in answers] == [(200, 2)] * 16
        assert seen(api, made) == (2, {FIELDS[channel]: made.address, "isVerified": True})


def test_two_hundred_wrong_codes_use_up_exactly_the_attempts(server: Server, api: Api, channel: str) -> None:
    """Each number of attempts left is said once, the rest learns nothing; then no right code passes until a resend."""
    made = person(api, channel)
    answers = at_once(server, [made.verify(WRONG)] * 200)
    judged = [each for each in answers if each.reason == "CODE_INVALID"]
    assert sorted(each.attempts_left for each in judged) == list(range(ATTEMPTS))
    others = {(each.status, each.reason) for each in answers if each not in judged}
    assert others == {(429, "CODE_ATTEMPTS_EXHAUSTED")}
    again = at_once(server, [made.verify()] * 16)
    assert {(each.status, each.reason) for each in again} == {(429, "CODE_ATTEMPTS_EXHAUSTED")}
    assert seen(api, made) == (1, {FIELDS[channel]: made.address, "isVerified": False})
    age(server, made.user_id, channel, A_MINUTE)
    fresh = api.ok("POST", made.path("resend"), {"returnCode": {}})["verificationCode"]
    api.ok("POST", made.path("verify"), {"verificationCode": fresh})
    assert seen(api, made) == (2, {FIELDS[channel]: made.address, "isVerified": True})


def test_right_ones_among_many_wrong_ones_pass_before_the_end_or_never(server: Server, api: Api, channel: str) -> None:
    """Whoever comes after the last attempt is refused, right or wrong; if one right one passes, all others do too."""
    for _ in range(ROUNDS):
        made = person(api, channel)
        calls = [made.verify(WRONG), made.verify(WRONG), made.verify()] * 6
        answers = at_once(server, calls)
        right = answers[2::3]
        judged = [each.attempts_left for each in answers if each.reason == "CODE_INVALID"]
        assert sorted(judged, reverse=True) == list(range(ATTEMPTS - 1, ATTEMPTS - 1 - len(judged), -1))
        passed = any(each.status == 200 for each in right)
        assert {each.reason for each in right} == ({""} if passed else {"CODE_ATTEMPTS_EXHAUSTED"})
        assert passed == (len(judged) < ATTEMPTS)
        assert seen(api, made) == (1 + passed, {FIELDS[channel]: made.address, "isVerified": passed})


def test_a_wrong_and_a_right_one(server: Server, api: Api, channel: str) -> None:
    """The right one passes; the wrong one is counted before it, or comes too late to matter."""
    for turn in range(ROUNDS):
        made = person(api, channel)
        calls = [made.verify(WRONG), made.verify()]
        answers = at_once(server, calls if turn % 2 else calls[::-1])
        wrong, right = answers if turn % 2 else answers[::-1]
        assert (right.status, right.sequence) == (200, 2)
        assert wrong.status == 200 or wrong.attempts_left == ATTEMPTS - 1
        assert seen(api, made)[0] == 2


def test_an_old_code_never_verifies_a_new_address(server: Server, api: Api, channel: str) -> None:
    """Verified first and then replaced, or replaced first and refused: the new address waits for its own code."""
    for turn in range(ROUNDS):
        made = person(api, channel)
        new = fresh_address(channel)
        change: Call = "PUT", made.path(), {FIELDS[channel]: new, "returnCode": {}}
        calls = [*[made.verify()] * 4, change]
        answers = at_once(server, calls if turn % 2 else calls[::-1])
        *verified, changed = answers if turn % 2 else answers[::-1]
        assert changed.status == 200
        assert {each.reason for each in verified} <= {"", "CODE_INVALID", "CODE_ATTEMPTS_EXHAUSTED"}
        first = any(each.status == 200 for each in verified)
        assert seen(api, made) == (2 + first, {FIELDS[channel]: new, "isVerified": False})
        if sum(each.reason == "CODE_INVALID" for each in verified) < ATTEMPTS - 1:
            assert at_once(server, [made.verify()])[0].reason == "CODE_INVALID"
        api.ok("POST", made.path("verify"), {"verificationCode": changed.body["verificationCode"]})


def test_a_resend_and_a_verification(server: Server, api: Api, channel: str) -> None:
    """The code before stays good beside the new one; the state changes once, and then no code is made."""
    for turn in range(ROUNDS):
        made = person(api, channel)
        age(server, made.user_id, channel, A_MINUTE)
        resend: Call = "POST", made.path("resend"), {"returnCode": {}}
        calls = [made.verify(), made.verify(), resend]
        answers = at_once(server, calls if turn % 2 else calls[::-1])
        *verified, resent = answers if turn % 2 else answers[::-1]
        assert [(each.status, each.sequence) for each in verified] == [(200, 2)] * 2
        assert resent.reason in {"", "ALREADY_VERIFIED"}
        assert seen(api, made) == (2, {FIELDS[channel]: made.address, "isVerified": True})
        assert api.post(made.path("resend")).json()["details"][0]["reason"] == "ALREADY_VERIFIED"


def test_resends_at_once_leave_two_codes_at_most(server: Server, api: Api, channel: str) -> None:
    """Of eight asked for at once one is made, as the others come too soon after it; it and the first one work."""
    made = person(api, channel)
    age(server, made.user_id, channel, A_MINUTE)
    answers = at_once(server, [("POST", made.path("resend"), {"returnCode": {}})] * 8)
    codes = [each.body["verificationCode"] for each in answers if each.status == 200]
    assert len(codes) == 1
    assert {each.status for each in answers} == {200, 429}
    assert at_once(server, [made.verify(), made.verify(codes[0])])[0].status == 200


@pytest.mark.parametrize("verb", ["deactivate", "lock"])
def test_a_code_dies_with_the_state(server: Server, api: Api, channel: str, verb: str) -> None:
    """Verified before the user left the active state, or not at all."""
    for turn in range(ROUNDS // 2):
        made = person(api, channel)
        calls = [*[made.verify()] * 4, ("POST", f"/v3alpha/users/{made.user_id}/{verb}", None)]
        answers = at_once(server, calls if turn % 2 else calls[::-1])
        *verified, moved = answers if turn % 2 else answers[::-1]
        assert moved.status == 200
        assert {each.reason for each in verified} <= {"", "CODE_NOT_PENDING"}
        first = any(each.status == 200 for each in verified)
        assert seen(api, made) == (2 + first, {FIELDS[channel]: made.address, "isVerified": first})


def test_messages_to_one_address_end_exactly_at_the_cap(server: Server, api: Api, channel: str) -> None:
    """Whoever's users they go to: so many are taken, and who is refused has no address."""
    address = {FIELDS[channel]: fresh_address(channel)}
    users = [api.ok("POST", "/v3alpha/users", {"schemaId": human(api), "data": HUMAN})["userId"] for _ in range(30)]
    answers = at_once(server, [("PUT", f"/v3alpha/users/{user_id}/{channel}", address) for user_id in users])
    refused = [user_id for user_id, answer in zip(users, answers, strict=True) if answer.status == 429]
    assert len(refused) == len(users) - CODES_PER_ADDRESS
    assert {each.reason for each in answers} == {"", "CODE_MESSAGE_LIMIT"}
    for user_id in refused:
        assert "contact" not in api.ok("GET", f"/v3alpha/users/{user_id}")["user"]
