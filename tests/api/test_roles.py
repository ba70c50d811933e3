"""What each role may do in its own organization, what a user may do to itself, and that nobody grants more."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any, Final

import pytest

from tests.api.every_operation import ANYWHERE, OPERATIONS, ORGANIZATION_HEADER, Place, Published
from tests.conftest import Api, Server, reason, violations

if TYPE_CHECKING:
    import httpx

ALL: Final = frozenset(
    f"{thing}.{what}"
    for thing in ("org", "user", "userschema", "token", "message", "webhook")
    for what in ("read", "write", "delete")
)
READS: Final = frozenset(each for each in ALL if each.endswith(".read"))
SCHEMAS: Final = frozenset({"userschema.read", "userschema.write", "userschema.delete"})
ROLES: Final[dict[str, frozenset[str]]] = {
    "INSTANCE_OWNER": ALL | {"instance"},
    "INSTANCE_VIEWER": READS,
    "ORG_OWNER": ALL,
    "ORG_USER_MANAGER": frozenset({"user.read", "user.write", "user.delete", "userschema.read"}),
    "ORG_USER_VIEWER": frozenset({"user.read", "userschema.read"}),
    "SCHEMA_AUTHOR": SCHEMAS,
}
"""The table of the contract and of the README."""

OF_THE_INSTANCE: Final = frozenset({"INSTANCE_OWNER", "INSTANCE_VIEWER", "SCHEMA_AUTHOR"})
OF_AN_ORGANIZATION: Final = frozenset({"ORG_OWNER", "ORG_USER_MANAGER", "ORG_USER_VIEWER", "SCHEMA_AUTHOR"})

TO_ITSELF: Final = {
    "user": 403,
    "human": 403,
    "organization": 403,
    "create": 403,
    "search": 403,
    "instance": 403,
    ANYWHERE: 403,
    "schema": 404,
    "token": 404,
    "message": 404,
    "webhook": 404,
    "job": 404,
    "migration": 404,
}
"""What a user without roles is answered where the tables grant it nothing: it knows of itself and its organization."""

USERS: Final = "/v3alpha/users"


@pytest.fixture(scope="module")
def place(resting: Server, operator: Api) -> Place:
    """Give an organization with one of everything."""
    return Place.make(resting, operator)


@pytest.fixture(scope="module")
def elsewhere(resting: Server, operator: Api) -> Place:
    """Give another organization."""
    return Place.make(resting, operator)


def holding(place: Place, role: str, organization_id: str | None, user_id: str | None = None) -> Api:
    """Make a caller that holds one role, in an organization or (None) for the instance."""
    grant = {"role": role, **({} if organization_id is None else {"organizationId": organization_id})}
    body = {"name": role, "roles": [grant], **({} if user_id is None else {"userId": user_id})}
    return place.server.client(place.admin.ok("POST", "/v3alpha/tokens", body)["token"])


def let_in(response: httpx.Response) -> bool:
    """Whether the caller was permitted, whatever became of the request."""
    return response.status_code not in {401, 403, 404} and not response.is_server_error


def itself_of(place: Place) -> dict[str, str]:
    """Give the ids with a fresh user, for whom the operations for people ask too."""
    own = place.with_fresh("user")
    return {**own, "humanId": own["userId"]}


HELD: Final = [(role, "instance") for role in sorted(OF_THE_INSTANCE)] + [
    (role, "organization") for role in sorted(OF_AN_ORGANIZATION)
]


@pytest.mark.usefixtures("no_jobs")
@pytest.mark.parametrize("narrowed", [False, pytest.param(True, marks=pytest.mark.soak)])
@pytest.mark.parametrize(("role", "where"), HELD)
def test_each_role_may_do_what_its_table_says_and_nothing_else(
    operations: list[Published], place: Place, role: str, where: str, *, narrowed: bool
) -> None:
    """Every operation: let in, or 403 with the permission that is missing; the header of its own changes nothing."""
    wrong: list[tuple[object, ...]] = []
    with contextlib.ExitStack() as stack:

        def made(organization_id: str) -> Api:
            at = organization_id if where == "organization" else None
            return stack.enter_context(holding(place, role, at))

        usual = made(place.organization_id)
        for operation in operations:
            row = OPERATIONS[operation.name]
            permitted = row.permits(ROLES[role])
            ids = place.with_fresh(row.about) if permitted and not row.reads else place.ids
            caller = usual if ids["organizationId"] == place.organization_id else made(ids["organizationId"])
            headers = {ORGANIZATION_HEADER: ids["organizationId"]} if narrowed else {}
            response = operation.ask(caller, ids, headers=headers)
            refused = (response.status_code, response.status_code == 403 and reason(response))
            as_told = let_in(response) if permitted else refused == (403, "PERMISSION_MISSING")
            if row.at_home and where == "instance" and not narrowed:
                as_told = response.status_code == 404  # its own organization is another one
            if not as_told:
                wrong.append((operation.name, response.status_code, response.text))
    assert wrong == []


@pytest.mark.parametrize("narrowed", [False, True])
def test_a_user_may_do_to_itself_what_the_table_says(
    operations: list[Published], place: Place, *, narrowed: bool
) -> None:
    """Without a role it reads and updates itself; the rest is refused, and other users are not there for it."""
    headers = {ORGANIZATION_HEADER: place.organization_id} if narrowed else {}
    own, neighbour = itself_of(place), place.ids
    wrong: list[tuple[object, ...]] = []
    with place.caller(user_id=own["userId"]) as itself:
        for operation in operations:
            row = OPERATIONS[operation.name]
            response = operation.ask(itself, own, headers=headers)
            if not (let_in(response) if row.itself else response.status_code == TO_ITSELF[row.about]):
                wrong.append((operation.name, response.status_code, response.text))
            if row.about in {"user", "human"} and operation.ask(itself, neighbour, headers=headers).status_code != 404:
                wrong.append((operation.name, "reaches its neighbour"))
    assert wrong == []


@pytest.mark.parametrize("role", sorted(OF_AN_ORGANIZATION))
def test_roles_elsewhere_add_nothing_at_home(
    operations: list[Published], place: Place, elsewhere: Place, role: str
) -> None:
    """A user with a role in another organization is at home what it is without; that organization hides its home."""
    own = itself_of(place)
    away = {ORGANIZATION_HEADER: elsewhere.organization_id}
    wrong: list[tuple[object, ...]] = []
    with holding(place, role, elsewhere.organization_id, own["userId"]) as caller:
        for operation in operations:
            row = OPERATIONS[operation.name]
            if row.about not in {"user", "human", "schema", "organization", "token", "message", "webhook"}:
                continue
            response = operation.ask(caller, own)
            if not (let_in(response) if row.itself else response.status_code == TO_ITSELF[row.about]):
                wrong.append((operation.name, response.status_code, response.text))
            if operation.ask(caller, own, headers=away).status_code != 404:
                wrong.append((operation.name, "reaches home under the other's header"))
    assert wrong == []


def test_another_schema_is_validated_by_writers_only(place: Place) -> None:
    """It would show by what is missing what a reader's own view of the schema leaves out."""
    path, body = f"{USERS}/{place.ids['userId']}/validate", {"schemaId": place.schema()}
    for role, status in (("ORG_USER_VIEWER", 403), ("ORG_USER_MANAGER", 200)):
        with place.caller(role) as caller:
            assert caller.post(path, json=body).status_code == status


GRANTS: Final = [(role, where) for role in sorted(ROLES) for where in ("instance", "place", "elsewhere")]


@pytest.mark.parametrize("header", [None, "place", "elsewhere"])
@pytest.mark.parametrize(("role", "where"), [*HELD, ("none", "user")])
def test_no_token_can_do_more_than_its_maker(
    place: Place, elsewhere: Place, role: str, where: str, header: str | None
) -> None:
    """Of all grants that can be asked for, those are given that the maker holds there, with token.write; no other."""
    named = {"instance": None, "place": place.organization_id, "elsewhere": elsewhere.organization_id}
    headers = {} if header is None else {ORGANIZATION_HEADER: str(named[header])}
    made_of = {"place": place.ids["userId"], "elsewhere": elsewhere.ids["userId"]}
    user_id = place.fresh("user")
    caller = place.caller(user_id=user_id) if role == "none" else holding(place, role, named.get(where, named["place"]))

    def held(at: str) -> frozenset[str]:
        """Give what the maker holds somewhere; a header that names an organization leaves it that one."""
        reached = {"instance": {"instance", "place", "elsewhere"}, "organization": {"place"}, "user": set[str]()}[where]
        hidden = header not in {None, at}
        return ROLES[role] if at in reached and not hidden else frozenset()

    wrong: list[tuple[object, ...]] = []
    with caller:
        for granted, at in GRANTS:
            if granted not in (OF_THE_INSTANCE if at == "instance" else OF_AN_ORGANIZATION):
                continue
            grant = {"role": granted, **({} if at == "instance" else {"organizationId": named[at]})}
            response = caller.post("/v3alpha/tokens", json={"name": "made", "roles": [grant]}, headers=headers)
            if response.is_success is not (held(at) >= ROLES[granted] | {"token.write"}):
                wrong.append((granted, at, response.status_code))
        for at, target in made_of.items():
            response = caller.post("/v3alpha/tokens", json={"name": "made", "userId": target}, headers=headers)
            if response.is_success is not (held(at) >= {"token.write", "user.write"}):
                wrong.append(("user", at, response.status_code))
        mixed = [{"role": "ORG_USER_VIEWER", "organizationId": place.organization_id}, {"role": "INSTANCE_OWNER"}]
        for roles in (mixed, mixed[::-1]):
            response = caller.post("/v3alpha/tokens", json={"name": "made", "roles": roles}, headers=headers)
            if response.is_success is not ("instance" in held("instance") and bool(held("place"))):
                wrong.append(("mixed", response.status_code))
    assert wrong == []


@pytest.mark.parametrize("kind", ["bearer", "key"])
def test_keys_and_tokens_obey_the_same_rule(place: Place, kind: str) -> None:
    """Neither kind lets an owner of an organization make one of the instance, or a manager any."""
    roles = [{"role": "INSTANCE_VIEWER"}]
    with place.caller("ORG_OWNER") as owner, place.caller("ORG_USER_MANAGER") as manager:
        assert owner.post("/v3alpha/tokens", json={"name": "k", "kind": kind, "roles": roles}).status_code == 403
        own = [{"role": "ORG_USER_VIEWER", "organizationId": place.organization_id}]
        assert manager.post("/v3alpha/tokens", json={"name": "k", "kind": kind, "roles": own}).status_code == 403
        body = {"name": "k", "kind": kind, "userId": place.ids["userId"]}
        assert manager.post("/v3alpha/tokens", json=body).status_code == 403


def test_the_header_of_an_organization_hides_tokens_of_the_instance(place: Place) -> None:
    """A request that acts in one organization neither reads nor revokes them."""
    made = place.admin.ok("POST", "/v3alpha/tokens", {"name": "i", "roles": [{"role": "INSTANCE_VIEWER"}]})["tokenId"]
    headers = {ORGANIZATION_HEADER: place.organization_id}
    assert place.admin.get(f"/v3alpha/tokens/{made}", headers=headers).status_code == 404
    assert place.admin.delete(f"/v3alpha/tokens/{made}", headers=headers).status_code == 404
    assert place.admin.get(f"/v3alpha/tokens/{made}").status_code == 200


def test_a_token_that_is_given_away_is_seen_by_those_only_who_reach_all_of_it(place: Place, elsewhere: Place) -> None:
    """One that reaches two organizations, or the instance, is not there for the owner of one of them."""
    here, there = place.organization_id, elsewhere.organization_id
    for roles in (
        [{"role": "ORG_USER_VIEWER", "organizationId": each} for each in (here, there)],
        [{"role": "ORG_USER_VIEWER", "organizationId": here}, {"role": "INSTANCE_VIEWER"}],
    ):
        made = place.admin.ok("POST", "/v3alpha/tokens", {"name": "wide", "roles": roles})["tokenId"]
        with place.caller("ORG_OWNER") as owner:
            assert owner.get(f"/v3alpha/tokens/{made}").status_code == 404
            assert owner.delete(f"/v3alpha/tokens/{made}").status_code == 404
            query = {"queries": [{"idQuery": {"id": made}}]}
            assert owner.ok("POST", "/v3alpha/tokens/search", query)["result"] == []


VOUCHING: Final[dict[str, tuple[str, str, dict[str, Any], list[str]]]] = {
    f"{method} {name}": (method, path, body, fields)
    for method in ("PUT", "PATCH")
    for name, path, body, fields in (
        (
            "returnCode",
            "",
            {"contact": {"email": {"address": "a@example.com", "returnCode": {}}}},
            ["contact/email/returnCode"],
        ),
        (
            "isVerified",
            "",
            {"contact": {"phone": {"number": "+41791234567", "isVerified": True}}},
            ["contact/phone/isVerified"],
        ),
        ("username", "", {"username": "minnie"}, ["username"]),
        ("no username", "", {"username": ""}, ["username"]),
        ("schemaId", "", {"schemaId": "OTHER"}, ["schemaId"]),
        ("an unknown schemaId", "", {"schemaId": "999999999999999992"}, ["schemaId"]),
    )
} | {
    "PUT email returnCode": ("PUT", "/email", {"address": "a@example.com", "returnCode": {}}, ["returnCode"]),
    "PUT email isVerified": ("PUT", "/email", {"address": "a@example.com", "isVerified": True}, ["isVerified"]),
    "PUT phone returnCode": ("PUT", "/phone", {"number": "+41791234567", "returnCode": {}}, ["returnCode"]),
    "PUT phone isVerified": ("PUT", "/phone", {"number": "+41791234567", "isVerified": True}, ["isVerified"]),
    "resend email returnCode": ("POST", "/email/resend", {"returnCode": {}}, ["returnCode"]),
    "resend phone returnCode": ("POST", "/phone/resend", {"returnCode": {}}, ["returnCode"]),
}


@pytest.mark.parametrize("headers", [{}, {"If-Match": '"99"'}, {"Idempotency-Key": "vouch"}])
@pytest.mark.parametrize("case", VOUCHING)
def test_a_user_cannot_vouch_for_itself(place: Place, case: str, headers: dict[str, str]) -> None:
    """Neither verify without a code, nor be handed one, nor choose its name or schema; also not in a rehearsal."""
    method, path, body, fields = VOUCHING[case]
    user_id = place.user(contact={"phone": {"number": "+41791234568", "returnCode": {}}})
    sent = {**body, "schemaId": place.ids["schemaId"] if body.get("schemaId") == "OTHER" else body.get("schemaId")}
    sent = {name: value for name, value in sent.items() if value is not None}
    if body.get("schemaId") == "OTHER":
        sent["schemaId"] = place.schema()
    before = place.admin.ok("GET", f"{USERS}/{user_id}")
    with place.caller(user_id=user_id) as itself:
        for query in ("", "?validateOnly=true") if path == "" else ("",):
            response = itself.request(method, f"{USERS}/{user_id}{path}{query}", json=sent, headers=headers)
            assert (response.status_code, reason(response)) == (403, "PERMISSION_MISSING"), response.text
            assert list(violations(response)) == fields
    assert place.admin.ok("GET", f"{USERS}/{user_id}") == before


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        ("PUT", "/v2/users/human/{}", {"username": "minnie"}),
        ("PUT", "/v2/users/human/{}", {"email": {"email": "a@example.com", "isVerified": True}}),
        ("PUT", "/v2/users/human/{}", {"email": {"email": "a@example.com", "isVerified": False}}),
        ("PUT", "/v2/users/human/{}", {"email": {"email": "a@example.com", "returnCode": {}}}),
        ("PUT", "/v2/users/human/{}", {"phone": {"phone": "+41791234567", "isVerified": True}}),
        ("PUT", "/v2/users/human/{}", {"phone": {"phone": "+41791234567", "returnCode": {}}}),
        ("POST", "/v2/users/{}/email", {"email": "a@example.com", "isVerified": True}),
        ("POST", "/v2/users/{}/email", {"email": "a@example.com", "returnCode": {}}),
        ("POST", "/v2/users/{}/email/resend", {"returnCode": {}}),
        ("POST", "/v2/users/{}/email/send", {"returnCode": {}}),
        ("POST", "/v2/users/{}/phone", {"phone": "+41791234567", "isVerified": True}),
        ("POST", "/v2/users/{}/phone", {"phone": "+41791234567", "returnCode": {}}),
        ("POST", "/v2/users/{}/phone/resend", {"returnCode": {}}),
        ("PUT", "/management/v1/users/{}/email", {"email": "a@example.com", "isEmailVerified": True}),
        ("PUT", "/management/v1/users/{}/profile", {"firstName": "Minnie", "lastName": "Mouse"}),
    ],
)
def test_a_person_cannot_vouch_for_itself_by_older_paths(
    place: Place, method: str, path: str, body: dict[str, Any]
) -> None:
    """The operations of the fixed profile are doors to the same commands."""
    user_id = place.fresh("human")
    before = place.admin.ok("GET", f"{USERS}/{user_id}")
    with place.caller(user_id=user_id) as itself:
        response = itself.request(method, path.format(user_id), json=body)
        assert (response.status_code, reason(response)) == (403, "PERMISSION_MISSING"), response.text
    assert place.admin.ok("GET", f"{USERS}/{user_id}") == before


def test_a_user_may_name_the_schema_that_it_has(place: Place) -> None:
    """It changes nothing about what it may do, so it is not refused."""
    user_id = place.user()
    with place.caller(user_id=user_id) as itself:
        itself.ok("PUT", f"{USERS}/{user_id}", {"schemaId": place.ids["schemaId"], "data": {"name": "Mouse"}})
