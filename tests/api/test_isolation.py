"""Nobody sees another organization: every published operation, every kind of caller, with the header and without."""

from __future__ import annotations

import contextlib
import re
import time
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Final

import httpx
import pytest

from tests.api.every_operation import (
    ANYWHERE,
    NOTHING,
    OPEN,
    OPERATIONS,
    ORGANIZATION_HEADER,
    Place,
    Published,
    is_open,
    published,
    with_value,
)
from tests.conftest import ANY_TLS, Api, Server, reason

if TYPE_CHECKING:
    from collections.abc import Iterator

STRANGERS: Final = ("self", "ORG_USER_VIEWER", "ORG_USER_MANAGER", "ORG_OWNER", "SCHEMA_AUTHOR")
"""Callers of one organization, who must learn nothing of the other."""

INSTANCE_CALLERS: Final = ("INSTANCE_VIEWER", "INSTANCE_OWNER")
INVALID: Final = ("none", "unknown", "expired", "revoked", "organization inactive", "user deactivated")

HOLDS: Final = {
    "self": set[str](),
    "ORG_USER_VIEWER": {"user.read", "userschema.read"},
    "ORG_USER_MANAGER": {"user.read", "user.write", "user.delete", "userschema.read"},
    "ORG_OWNER": {
        f"{thing}.{what}"
        for thing in ("org", "user", "userschema", "token", "message", "webhook")
        for what in ("read", "write", "delete")
    },
    "SCHEMA_AUTHOR": {"userschema.read", "userschema.write", "userschema.delete"},
}
"""The contract's table of roles, of one organization."""

TOLD_TO_ALL: Final = {
    ("create_user", "/userId"): "ids are the instance's: one that is taken anywhere is refused (docs/security.md)",
    ("create_human", "/userId"): "likewise",
    ("create_user_resource", "/userId"): "likewise",
    ("create_organization", "/organizationId"): "only INSTANCE_OWNER gets that far",
}
"""Places of a body in which an id is given to something new, and who may learn that it is taken."""

KINDS: Final = {
    "orgId": "organizationId",
    "organizationIdQuery": "organizationId",
    "schemaIdQuery": "schemaId",
    "userIdQuery": "userId",
    "organizationIdFilter": "organizationId",
    "schemaIdFilter": "schemaId",
    "userIdFilter": "userId",
    "search_schema_resources": "schemaId",
    "dryRunJobId": "jobId",
    "fromSchemaId": "schemaId",
}
"""What the id at a place of a body names, where its own name does not say so."""


@pytest.fixture(scope="module")
def home(resting: Server, operator: Api) -> Place:
    """Give the organization of the callers."""
    return Place.make(resting, operator)


@pytest.fixture(scope="module")
def other(resting: Server, operator: Api) -> Place:
    """Give the organization of somebody else."""
    return Place.make(resting, operator)


@pytest.fixture(scope="module")
def strangers(home: Place) -> Iterator[dict[str, Api]]:
    """Give a caller of each kind in the one organization."""
    made = {role: home.caller(role) for role in STRANGERS if role != "self"}
    made["self"] = home.caller(user_id=home.ids["userId"])
    yield made
    for each in made.values():
        each.close()


def without_ids(response: httpx.Response, ids: dict[str, str]) -> str:
    """Give the text of an answer without the request's id, times, and the ids that were asked for."""
    text = response.text.replace(response.headers["x-request-id"], "REQUEST")
    for name, value in ids.items():
        text = text.replace(value, name)
    return re.sub(r"\d{4}-\d\d-\d\dT[\d:.]+Z", "TIME", text)


def expected(name: str, role: str, header: str | None) -> int:
    """Say what a caller of the one organization is answered who asks for something of the other.

    ``header``: whether ``x-zitadel-orgid`` names its own (``home``) or the ``other`` one.
    """
    row = OPERATIONS[name]
    if header == "other":
        return 404
    if row.about in {"search", ANYWHERE, "instance"}:
        return 200 if row.needs in HOLDS[role] else 403
    # A body that names another organization than the header does is refused as such, whatever these are.
    return 400 if row.about == "create" and header == "home" and name != "create_token" else 404


@pytest.mark.parametrize("header", [None, "home", "other"])
@pytest.mark.parametrize("role", STRANGERS)
def test_nothing_of_another_organization_is_there(
    operations: list[Published], strangers: dict[str, Api], home: Place, other: Place, role: str, header: str | None
) -> None:
    """Whatever the operation, and it is answered word for word as of an id that nothing ever had."""
    headers = {} if header is None else {ORGANIZATION_HEADER: (home if header == "home" else other).organization_id}
    nowhere = {ORGANIZATION_HEADER: NOTHING["organizationId"]} if header == "other" else headers
    wrong: list[tuple[object, ...]] = []
    for operation in operations:
        response = operation.ask(strangers[role], other.ids, headers=headers)
        if response.status_code != expected(operation.name, role, header):
            wrong.append((operation.name, response.status_code, response.text))
        text = without_ids(response, {})
        if response.is_success and any(value in text for value in other.ids.values()):
            wrong.append((operation.name, "shows something", text))
        if response.status_code in {400, 404}:
            never = operation.ask(strangers[role], NOTHING, headers=nowhere)
            if (never.status_code, without_ids(never, NOTHING)) != (
                response.status_code,
                without_ids(response, other.ids),
            ):
                wrong.append((operation.name, response.text, never.text))
    assert wrong == []


def probes(operations: list[Published]) -> Iterator[tuple[Published, str, str]]:
    """Give the places of bodies that name something which must be there, and what."""
    for operation in operations:
        for pointer in operation.id_fields:
            if (operation.name, pointer) in TOLD_TO_ALL:
                continue
            *_, around, last = ("", *pointer.split("/"))
            kind = KINDS.get(last) or KINDS.get(around) or last
            if kind == "id":  # of a search over things of one kind
                kind = (
                    KINDS.get(operation.name)
                    or {"schemas": "schemaId"}.get(operation.name.partition("_")[2])
                    or (operation.name.partition("_")[2].removesuffix("s") + "Id")
                )
            yield operation, pointer, kind


@pytest.mark.parametrize("role", STRANGERS)
def test_bodies_reveal_nothing_of_another_organization(
    operations: list[Published], strangers: dict[str, Api], home: Place, other: Place, role: str
) -> None:
    """An id of the other organization in a body is answered as one that nothing ever had."""
    wrong, asked = [], 0
    for operation, pointer, kind in probes(operations):
        body = OPERATIONS[operation.name].body
        assert body is not None
        for header in ({}, {ORGANIZATION_HEADER: home.organization_id}):
            answers = []
            for ids in (other.ids, NOTHING):
                sent = with_value(body(home.ids), pointer, ids[kind])
                if "type" in sent:
                    sent["type"] = "same"
                response = operation.ask(strangers[role], home.ids, sent, header)
                answers.append((response.status_code, without_ids(response, {kind: ids[kind]})))
            asked += 1
            if answers[0] != answers[1]:
                wrong.append((operation.name, pointer, answers))
    assert wrong == []
    assert asked


def test_each_place_of_a_body_that_names_something_is_asked(operations: list[Published]) -> None:
    """Each is one that the test above can fill in; new ones are found by the reference."""
    found = {(operation.name, pointer): kind for operation, pointer, kind in probes(operations)}
    assert {kind for kind in found.values() if kind not in NOTHING} == set()
    assert found["create_token", "/roles/0/organizationId"] == "organizationId"
    assert found["search_users", "/queries/0/schemaIdQuery/id"] == "schemaId"
    assert found["search_tokens", "/queries/0/idQuery/id"] == "tokenId"


def test_the_other_organization_finds_its_own(operations: list[Published], other: Place) -> None:
    """The same requests work for the owner of what they ask for, so that the tests above prove something."""
    with other.caller("ORG_OWNER") as owner:
        for operation in operations:
            if OPERATIONS[operation.name].reads:
                assert operation.ask(owner, other.ids).status_code == 200, operation.name


@pytest.mark.parametrize("role", INSTANCE_CALLERS)
def test_callers_of_the_instance_reach_every_organization(
    operations: list[Published], operator: Api, resting: Server, home: Place, other: Place, role: str
) -> None:
    """The viewer reads, the owner does all; a header that names another organization hides it from both."""
    with resting.client(
        operator.ok("POST", "/v3alpha/tokens", {"name": role, "roles": [{"role": role}]})["token"]
    ) as one:
        for operation in operations:
            row = OPERATIONS[operation.name]
            permitted = role == "INSTANCE_OWNER" or row.reads
            ids = other.with_fresh(row.about) if permitted and not row.reads else other.ids
            response = operation.ask(one, ids, headers={ORGANIZATION_HEADER: home.organization_id})
            if row.about in {"search", ANYWHERE}:
                assert response.status_code == (200 if permitted else 403), operation.name
                assert not any(value in response.text for value in other.ids.values())
            elif row.about not in {"instance", "create"}:
                assert response.status_code == 404, (operation.name, response.text)
            response = operation.ask(one, ids)
            if row.at_home:
                assert response.status_code == 404, (operation.name, response.text)
                continue
            refused = response.status_code in {401, 403, 404} or response.is_server_error
            assert refused is not permitted, (operation.name, response.text)
            assert permitted or reason(response) == "PERMISSION_MISSING"


@pytest.fixture(scope="module")
def invalid(resting: Server, operator: Api) -> Iterator[dict[str, Api | None]]:
    """Give a caller for each way in which a token is not valid; None: there is no token."""
    place = Place.make(resting, operator)
    closed = Place.make(resting, operator)
    soon = (datetime.now(UTC) + timedelta(seconds=2)).isoformat()
    made: dict[str, Api | None] = {
        "none": None,
        "unknown": resting.client("sut_" + "A" * 43),
        "expired": place.caller("ORG_OWNER", expirationDate=soon),
        "revoked": place.caller("ORG_OWNER"),
        "organization inactive": closed.caller("ORG_OWNER"),
        "user deactivated": place.caller("ORG_OWNER", user_id=place.ids["userId"]),
    }
    found = operator.ok("POST", "/v3alpha/tokens/search", {"query": {"limit": 1000}})["result"]
    mine = {"roles": [{"role": "ORG_OWNER", "organizationId": place.organization_id}]}
    for token in found:
        if token["roles"] == mine["roles"] and "expirationDate" not in token and "userId" not in token:
            operator.ok("DELETE", f"/v3alpha/tokens/{token['tokenId']}")
    operator.ok("POST", f"/v3alpha/organizations/{closed.organization_id}/deactivate")
    operator.ok("POST", f"/v3alpha/users/{place.ids['userId']}/deactivate")
    deadline = time.monotonic() + 5
    while any(caller and caller.get("/v3alpha/users/1").status_code != 401 for caller in made.values()):
        assert time.monotonic() < deadline, "within five seconds none of them is good"
        time.sleep(0.1)
    yield made
    for caller in made.values():
        if caller is not None:
            caller.close()


@pytest.mark.parametrize(
    "way", [pytest.param(way, marks=[pytest.mark.soak] * (way not in {"none", "revoked"})) for way in INVALID]
)
def test_callers_without_a_valid_token_learn_nothing(
    operations: list[Published], invalid: dict[str, Api | None], resting: Server, home: Place, way: str
) -> None:
    """401 and the same words, for what is there and for what is not, before anything else is looked at."""
    with contextlib.ExitStack() as stack:
        caller = invalid[way]
        if caller is None:
            caller = stack.enter_context(resting.client())
            del caller.headers["Authorization"]
        texts = set()
        for operation in operations:
            for ids in (home.ids, NOTHING):
                for headers in ({}, {ORGANIZATION_HEADER: home.organization_id}):
                    response = operation.ask(caller, ids, headers=headers)
                    assert response.status_code == 401, (operation.name, response.text)
                    texts.add(without_ids(response, {}))
        assert len(texts) == 1
        assert caller.get("/v3alpha/nothing").status_code == 401


def test_every_operation_needs_a_token_or_says_why_not(operator: Api, resting: Server) -> None:
    """What is open without one stands in a list of its own, and nothing else is answered."""
    names = {
        each.name.removesuffix("_head").removesuffix("_link").removesuffix("_code") for each in published(operator)
    }
    assert names >= set(OPEN)
    with httpx.Client(base_url=resting.url, verify=ANY_TLS) as nobody:
        for operation in published(operator):
            if not is_open(operation):
                path = re.sub(r"{(\w+)}", lambda match: NOTHING[match[1]], operation.path)
                assert nobody.request(operation.method, path).status_code == 401, operation.name


@pytest.mark.parametrize("role", [*STRANGERS, *INSTANCE_CALLERS])
def test_metrics_and_previews_ask_who_comes_from_elsewhere(
    operator: Api, resting: Server, strangers: dict[str, Api], home: Place, other: Place, role: str
) -> None:
    """Metrics are the instance's; a preview shows the texts of an organization to those who read its messages."""
    elsewhere = {"X-Forwarded-For": "192.0.2.1"}
    preview = "/ui/messages/preview?organizationId="
    with contextlib.ExitStack() as stack:
        if role in strangers:
            caller = strangers[role]
        else:
            made = operator.ok("POST", "/v3alpha/tokens", {"name": role, "roles": [{"role": role}]})["token"]
            caller = stack.enter_context(resting.client(made))
        instance = role in INSTANCE_CALLERS
        assert caller.get("/metrics", headers=elsewhere).status_code == (200 if instance else 403)
        foreign = caller.get(preview + other.organization_id, headers=elsewhere)
        assert foreign.status_code == (200 if instance else 404)
        if not instance:
            never = caller.get(preview + NOTHING["organizationId"], headers=elsewhere)
            assert without_ids(never, NOTHING) == without_ids(foreign, other.ids)
        own = caller.get(preview + home.organization_id, headers=elsewhere)
        assert own.status_code == (200 if instance or role == "ORG_OWNER" else 403)
    assert httpx.get(resting.url + "/metrics", headers=elsewhere, verify=ANY_TLS).status_code == 401
    assert httpx.get(resting.url + preview, headers=elsewhere, verify=ANY_TLS).status_code == 401


def test_page_tokens_are_worth_nothing_to_others(operator: Api, strangers: dict[str, Api], home: Place) -> None:
    """Bound to caller, header and query: of another caller of the same organization too, and of another search."""
    for _ in range(2):
        home.user()
    path, body = "/v3alpha/users/search", {"query": {"limit": 1}}
    token = strangers["ORG_OWNER"].ok("POST", path, body)["nextPageToken"]
    following = {**body, "pageToken": token}
    assert strangers["ORG_OWNER"].post(path, json=following).status_code == 200
    narrowed = {ORGANIZATION_HEADER: home.organization_id}
    queried = {**following, "queries": [{"userIdQuery": {"id": home.ids["userId"]}}]}
    for caller, sent, headers, at in (
        (strangers["ORG_USER_MANAGER"], following, {}, path),
        (operator, following, {}, path),
        (strangers["ORG_OWNER"], following, narrowed, path),
        (strangers["ORG_OWNER"], queried, {}, path),
        (strangers["ORG_OWNER"], following, {}, "/v3alpha/user_schemas/search"),
        (strangers["ORG_OWNER"], following, {}, "/v3alpha/messages/search"),
        (strangers["ORG_OWNER"], following, {}, "/v3alpha/tokens/search"),
    ):
        response = caller.post(at, json=sent, headers=headers)
        assert (response.status_code, reason(response)) == (400, "PAGE_TOKEN_INVALID"), (at, response.text)


def test_what_another_user_did_under_a_key_is_not_repeated(strangers: dict[str, Api], home: Place) -> None:
    """An Idempotency-Key belongs to its caller: another one's request under it is a request of its own."""
    path, headers = f"/v3alpha/users/{home.user()}/email", {"Idempotency-Key": "shared"}
    body = {"address": "first@example.com", "returnCode": {}}
    first = strangers["ORG_OWNER"].put(path, json=body, headers=headers)
    again = strangers["ORG_OWNER"].put(path, json=body, headers=headers)
    assert again.json() == first.json()
    second = strangers["ORG_USER_MANAGER"].put(path, json=body, headers=headers)
    assert second.status_code == 200
    assert "idempotent-replayed" not in second.headers
    assert "verificationCode" not in second.json()
