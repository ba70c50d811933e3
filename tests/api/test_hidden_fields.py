"""What a schema hides from a caller changes no answer: not by a read, an error, a patch, a rehearsal or a sequence."""

from __future__ import annotations

import itertools
import re
import time
from typing import TYPE_CHECKING, Any, Final

import pytest

from tests.api.every_operation import Place

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    import httpx

    from tests.conftest import Api, Server

USERS: Final = "/v3alpha/users"
PERMISSION: Final = "urn:zitadel:schema:permission"
_numbers = itertools.count(1)


@pytest.fixture(scope="module")
def place(server: Server, admin: Api) -> Place:
    """Give an organization."""
    return Place.make(server, admin)


GUARDED: Final[dict[str, Any]] = {
    "type": "object",
    "properties": {
        "name": {"type": "string", "minLength": 2},
        "note": {"type": "string", "minLength": 3, PERMISSION: {"owner": "rw"}},
        "score": {"type": "integer", PERMISSION: {"owner": "rw", "self": "r"}},
        "pin": {"type": "string", PERMISSION: {"owner": "rw", "self": "w"}},
        "devices": {
            "type": "array",
            "items": {"properties": {"label": {"type": "string"}, "key": {PERMISSION: {"owner": "rw"}}}},
        },
    },
    "additionalProperties": False,
}
SEEN: Final = {"name": "Minnie", "score": 1, "devices": [{"label": "phone"}]}
HIDDEN: Final[dict[str, dict[str, Any]]] = {
    "one": {**SEEN, "note": "first note", "pin": "1111", "devices": [{"label": "phone", "key": "k1"}]},
    "another": {**SEEN, "note": "second note", "pin": "2222", "devices": [{"label": "phone", "key": "k2"}]},
    "none": SEEN,
}
"""Users that differ in what they may not read themselves."""


def _patches() -> Iterator[list[dict[str, Any]]]:
    for pointer in ("/note", "/pin", "/devices/0/key", "/note/x", "/nowhere"):
        for value in ("first note", "1111", "k1", "wrong"):
            yield [{"op": "test", "path": pointer, "value": value}]
        yield [{"op": "test", "path": pointer, "value": None}]
        yield [{"op": "copy", "from": pointer, "path": "/name"}]
        yield [{"op": "move", "from": pointer, "path": "/name"}]
        yield [{"op": "remove", "path": pointer}]
        yield [{"op": "replace", "path": pointer, "value": "first note"}]
    for pointer in ("/note", "/devices/0/key"):
        yield [{"op": "add", "path": pointer, "value": "first note"}]
        yield [{"op": "add", "path": pointer, "value": "first note"}, {"op": "remove", "path": pointer}]
        yield [{"op": "add", "path": pointer, "value": "x"}, {"op": "test", "path": pointer, "value": "x"}]
    yield [{"op": "add", "path": "/pin", "value": "1111"}]
    yield [{"op": "add", "path": "/pin", "value": "0000"}, {"op": "remove", "path": "/pin"}]
    yield [{"op": "copy", "from": "/devices/0", "path": "/devices/-"}]
    yield [{"op": "copy", "from": "", "path": "/devices/0/label"}]
    yield [{"op": "test", "path": "", "value": SEEN}]
    yield [{"op": "test", "path": "/devices", "value": [{"label": "phone", "key": "k1"}]}]


MERGES: Final[list[Any]] = [
    {"note": "first note"},
    {"note": None},
    {"note": 7},
    {"pin": "1111"},
    {"pin": None},
    {"devices": [{"label": "phone", "key": "k1"}]},
    {"devices": [{"label": "phone"}]},
    {"devices": None},
    {"name": "M"},
    {},
]
REPLACEMENTS: Final[list[Any]] = [
    SEEN,
    {**SEEN, "note": "first note"},
    {**SEEN, "note": "no"},
    {**SEEN, "pin": "1111"},
    {**SEEN, "pin": "0000"},
    {**SEEN, "devices": []},
    {**SEEN, "devices": [{"label": "phone", "key": "k1"}]},
    {**SEEN, "name": "M"},
    {"name": "Minnie"},
    {},
]
WAYS: Final[dict[str, tuple[str, dict[str, str]]]] = {
    "rehearsed": ("?validateOnly=true", {}),
    "too late": ("", {"If-Match": '"77"'}),
    "done": ("", {"Idempotency-Key": "KEY"}),
}


def _answers(itself: Api, path: str, way: str, keys: Iterator[int]) -> Iterator[tuple[str, httpx.Response]]:
    """Ask every way to write for every probe."""
    query, headers = WAYS[way]
    for method, suffix, media, bodies in (
        ("PUT", "", "application/json", [{"data": each} for each in REPLACEMENTS]),
        ("PATCH", "/data", "application/merge-patch+json", MERGES),
        ("PATCH", "/data", "application/json-patch+json", list(_patches())),
    ):
        for body in bodies:
            given = {**headers, "Content-Type": media}
            if "Idempotency-Key" in given:
                given["Idempotency-Key"] = f"probe {next(keys)}"
            yield f"{media} {body}", itself.request(method, path + suffix + query, json=body, headers=given)


@pytest.mark.parametrize("way", WAYS)
def test_what_is_hidden_changes_no_answer(place: Place, way: str) -> None:
    """Users that differ in hidden values, or have none, get the same answers to every probe, reads in between."""
    schema_id = _schema(place, GUARDED)
    told: dict[str, list[tuple[str, int, str]]] = {}
    for name, data in HIDDEN.items():
        user_id = place.user(schemaId=schema_id, data=data)
        path, keys = f"{USERS}/{user_id}", itertools.count()
        with place.caller("ORG_USER_VIEWER", user_id=user_id) as viewer, place.caller(user_id=user_id) as itself:
            told[name] = []
            for asked, response in _answers(itself, path, way, keys):
                told[name].append((asked, response.status_code, _plain(response, user_id)))
                assert not response.is_server_error, (asked, response.text)
                if way == "done":
                    read = itself.get(path)
                    told[name].append((f"get after {asked}", read.status_code, _plain(read, user_id)))
            for read in _reads(viewer, user_id):
                told[name].append(
                    (str(read.url.path).replace(user_id, "USER"), read.status_code, _plain(read, user_id))
                )
                assert not any(secret in read.text for secret in ("first note", "second note", "2222", "k1", "k2"))
    for name in ("another", "none"):
        different = [pair for pair in zip(told["one"], told[name], strict=True) if pair[0] != pair[1]]
        assert different == []


def _reads(viewer: Api, user_id: str) -> Iterator[httpx.Response]:
    """Read by every door that there is, as the user itself, which is a viewer too."""
    path = f"{USERS}/{user_id}"
    yield viewer.get(path)
    yield viewer.get(path + "/schema")
    yield viewer.get(path + "/history?at=1")
    yield viewer.get(path + "/history?at=2099-01-01T00:00:00Z")
    yield viewer.post(path + "/validate")
    yield viewer.post(USERS + "/search", json={"queries": [{"userIdQuery": {"id": user_id}}]})


def _plain(response: httpx.Response, user_id: str) -> str:
    text = response.text.replace(response.headers["x-request-id"], "REQUEST").replace(user_id, "USER")
    text = re.sub(r"u\d+@example.com", "ADDRESS", text)
    return re.sub(r"\d{4}-\d\d-\d\dT[\d:.]+Z", "TIME", text)


def _schema(place: Place, document: Any) -> str:
    body = {"type": f"guarded {next(_numbers)}", "schema": document, "organization": {"orgId": place.organization_id}}
    return str(place.admin.ok("POST", "/v3alpha/user_schemas", body)["id"])


def test_a_history_tells_of_hidden_values_that_something_changed_at_most(place: Place) -> None:
    """The pointer of the nearest place that may be read, without values; the past shows what the present does."""
    user_id = place.user(schemaId=_schema(place, GUARDED), data=HIDDEN["one"])
    path = f"{USERS}/{user_id}"
    place.admin.ok("PUT", path, {"data": {**HIDDEN["one"], "note": "third note", "pin": "3333"}})
    with place.caller("ORG_USER_VIEWER", user_id=user_id) as viewer:
        entries = viewer.ok("GET", path + "/history")
        assert entries["result"][0]["changes"] == [{"pointer": "/data"}]
        assert not any(secret in str(entries) for secret in ("note", "1111", "3333", "k1"))
        for at in ("1", "2"):
            assert viewer.ok("GET", f"{path}/history?at={at}")["user"]["data"] == SEEN


def test_a_schema_that_opens_a_field_later_does_not_show_its_past(place: Place) -> None:
    """What was hidden under the schema of then stays hidden in the history, also when it may be read today."""
    schema_id = _schema(place, GUARDED)
    user_id = place.user(schemaId=schema_id, data=HIDDEN["one"])
    place.admin.ok("PUT", f"{USERS}/{user_id}", {"data": {**HIDDEN["one"], "note": "third note"}})
    opened = {**GUARDED, "properties": {**GUARDED["properties"], "note": {"type": "string"}}}
    place.admin.ok("PUT", f"/v3alpha/user_schemas/{schema_id}", {"schema": opened})
    with place.caller("ORG_USER_VIEWER", user_id=user_id) as viewer:
        _within(2, lambda: viewer.ok("GET", f"{USERS}/{user_id}")["user"]["data"].get("note") == "third note")
        assert "first note" not in viewer.get(f"{USERS}/{user_id}/history").text
        assert "first note" not in viewer.get(f"{USERS}/{user_id}/history?at=1").text


def _within(seconds: float, check: Callable[[], bool]) -> None:
    deadline = time.monotonic() + seconds
    while not check():
        assert time.monotonic() < deadline
        time.sleep(0.05)
