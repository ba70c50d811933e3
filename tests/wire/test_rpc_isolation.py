"""Nobody sees another organization by RPC either: every method of every service, by the table of the REST API."""

from __future__ import annotations

import re
from functools import partial
from typing import TYPE_CHECKING, Any, Final

import httpx
import pytest

from schema_user.rpc.method import Access, Method
from schema_user.rpc.services import SERVICES
from tests.api.every_operation import NOTHING, OPERATIONS, ORGANIZATION_HEADER, Place
from tests.conftest import ANY_TLS
from tests.wire.rpc_calls import CODES

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.conftest import Api, Server

METHODS: Final = [
    (service.name, method)
    for service in SERVICES
    if service.access is Access.TOKEN
    for method in service.methods
    if isinstance(method, Method)
]
OF_REST: Final = {"change_human": "update_human"}
"""Operations of the RPC wires only, and those of REST that ask for the same."""
STRANGERS: Final = ("self", "ORG_USER_VIEWER", "ORG_OWNER", "SCHEMA_AUTHOR")
OK, INVALID, NOT_FOUND, DENIED, UNAUTHENTICATED = 0, 3, 5, 7, 16


def row(method: Method) -> Any:
    """Give what the table says of a method's operation."""
    name = method.handler.__name__
    return OPERATIONS[OF_REST.get(name, name)]


def members(method: Method, ids: dict[str, str]) -> dict[str, Any]:
    """Make a request that works, of the ids of an organization's things."""
    described = row(method)
    body = {} if described.body is None else described.body(ids)
    if method.shape is not None:  # a person of v2's later methods
        organization = body.pop("organization", None)
        body = {"human": body} | ({"organizationId": organization["orgId"]} if organization else {})
    elif isinstance(method.take, partial):
        body = {method.take.args[0]: body}
    return body | dict.fromkeys(method.path, ids.get(f"{described.about}Id"))


def ask(caller: httpx.Client, service: str, method: Method, ids: dict[str, str]) -> tuple[int, str]:
    """Call, and give the code and the words, without what differs from one call to the next."""
    where = {ORGANIZATION_HEADER: ids["organizationId"]} if row(method).about == "create" else {}
    response = caller.post(f"/{service}/{method.name}", json=members(method, ids), headers=where)
    text = response.text.replace(response.headers["x-request-id"], "REQUEST")
    for name, value in ids.items():
        text = text.replace(value, f"<{name}>")
    text = re.sub(r'"value": "[^"]*"', "DETAIL", text)  # in base64; "debug" says the same in words
    return (OK if response.is_success else CODES[response.json()["code"]]), text


@pytest.fixture(scope="module")
def places(server: Server, admin: Api) -> tuple[Place, Place]:
    """Give the organization of the callers, and that of somebody else."""
    made = []
    for _ in range(2):
        organization_id = admin.ok("POST", "/v3alpha/organizations", {"name": "Mouse"})["organizationId"]
        place = Place(organization_id, admin, server, {"organizationId": organization_id})
        for kind in ("schema", "user", "human"):
            place.ids[f"{kind}Id"] = place.fresh(kind)
        made.append(place)
    home, other = made
    return home, other


@pytest.fixture(scope="module", params=STRANGERS)
def stranger(request: pytest.FixtureRequest, places: tuple[Place, Place]) -> Iterator[Api]:
    """Give a caller of each kind in the one organization."""
    home, _ = places
    made = home.caller(user_id=home.ids["userId"]) if request.param == "self" else home.caller(request.param)
    with made as caller:
        yield caller


def test_nothing_of_another_organization_is_there(stranger: Api, places: tuple[Place, Place]) -> None:
    """Whatever the method, it is answered as of an id that nothing ever had; a search finds nothing of it."""
    _, other = places
    wrong: list[tuple[object, ...]] = []
    for service, method in METHODS:
        code, text = ask(stranger, service, method, other.ids)
        searches = row(method).about == "search"
        if code not in ({OK, DENIED} if searches else {NOT_FOUND}):
            wrong.append((service, method.name, code, text))
        if searches and any(f"<{name}>" in text for name in other.ids):
            wrong.append((service, method.name, "shows something", text))
        if not searches and (code, text) != (never := ask(stranger, service, method, NOTHING)):
            wrong.append((service, method.name, text, never))
    assert wrong == []


def test_the_same_requests_reach_the_owner(places: tuple[Place, Place]) -> None:
    """The owner of what is asked for is answered otherwise, so that the test above proves something."""
    _, other = places
    with other.caller("ORG_OWNER") as owner:
        for service, method in METHODS:
            described = row(method)
            ids = other.with_fresh(described.about) if described.about in {"user", "human", "schema"} else other.ids
            code, text = ask(owner, service, method, ids)
            assert code not in {NOT_FOUND, DENIED, UNAUTHENTICATED}, (method.name, text)
            assert code == OK or not described.reads, (method.name, text)
            assert code != INVALID or "CODE_INVALID" in text or method.name.startswith("Verify"), (method.name, text)


def test_a_viewer_changes_nothing(places: tuple[Place, Place]) -> None:
    """Within the organization a method needs the permission that its operation needs by REST."""
    home, _ = places
    with home.caller("ORG_USER_VIEWER") as viewer:
        for service, method in METHODS:
            code, text = ask(viewer, service, method, home.ids)
            assert code == (OK if row(method).reads else DENIED), (method.name, text)


def test_nobody_is_told_anything(server: Server, places: tuple[Place, Place]) -> None:
    """Without a token every method answers the same words, for what is there and for what is not."""
    home, _ = places
    with httpx.Client(base_url=server.url, verify=ANY_TLS) as nobody:
        told = {ask(nobody, service, method, ids) for service, method in METHODS for ids in (home.ids, NOTHING)}
    assert len(told) == 1
    assert told.pop()[0] == UNAUTHENTICATED
