"""``Idempotency-Key``: the same request under the same key has its effect once, and one answer."""

from __future__ import annotations

import asyncio
import time
import uuid
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest

from schema_user.store.connection import connected
from schema_user.store.embedded import socket_uri
from tests.conftest import SCHEMA, Api, Server, Tenant, age, reason

if TYPE_CHECKING:
    from collections.abc import Callable

    import httpx

    from schema_user.store.connection import Document

KEY = "Idempotency-Key"
REPLAYED = "idempotent-replayed"
USERS = "/v3alpha/users"
SCHEMAS = "/v3alpha/user_schemas"
ORGANIZATIONS = "/v3alpha/organizations"
MAIL = {"address": "a@example.com", "returnCode": {}}
PHONE = {"number": "+41791234567", "returnCode": {}}
PATIENCE = 20
PAUSE = timedelta(seconds=30)
"""How long after a code another one may be asked for."""


@dataclass
class Ask:
    """A request; ``at`` is where what it changes is read, unless it makes it."""

    caller: Api
    method: str
    path: str
    body: Any = field(default_factory=dict)
    at: str = ""

    def send(self, key: str | None = None, **headers: str) -> httpx.Response:
        """Send it, under a key if one is given."""
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        return self.caller.request(
            self.method, self.path, json=self.body, headers=named | ({} if key is None else {KEY: key})
        )

    def sequence(self) -> str:
        """Read the sequence of what it changes."""
        [found] = self.caller.ok("GET", self.at).values()
        return str(found["details"]["sequence"])


def new_key() -> str:
    """Give a key that nobody used."""
    return uuid.uuid4().hex


def one(user_id: str) -> str:
    """Give the path of a user."""
    return f"{USERS}/{user_id}"


def data(tenant: Tenant, **more: Any) -> dict[str, Any]:
    """Give the body of a creation."""
    return {"schemaId": tenant.schema_id, "data": {"name": "Minnie"}, **more}


def _user(method: str, suffix: str = "", body: Any = None, *before: str) -> Callable[[Tenant], Ask]:
    def made(tenant: Tenant) -> Ask:
        path = one(tenant.user())
        for word in before:
            tenant.owner.ok("POST", f"{path}/{word}")
        return Ask(tenant.owner, method, path + suffix, body or {}, path)

    return made


def _contact(channel: str, word: str) -> Callable[[Tenant], Ask]:
    def made(tenant: Tenant) -> Ask:
        user_id = tenant.user()
        path = one(user_id)
        code = tenant.owner.ok("PUT", f"{path}/{channel}", MAIL if channel == "email" else PHONE)["verificationCode"]
        age(tenant.server, user_id, channel, PAUSE)
        body = {"verificationCode": code} if word == "verify" else {"returnCode": {}}
        return Ask(tenant.owner, "POST", f"{path}/{channel}/{word}", body, path)

    return made


def _schema(method: str, suffix: str = "", body: Any = None, *before: str) -> Callable[[Tenant], Ask]:
    def made(tenant: Tenant) -> Ask:
        path = f"{SCHEMAS}/{tenant.schema_id}"
        for word in before:
            tenant.owner.ok("POST", f"{path}/{word}")
        return Ask(tenant.owner, method, path + suffix, body or {}, path)

    return made


def _organization(method: str, suffix: str = "", body: Any = None, *before: str) -> Callable[[Tenant], Ask]:
    def made(tenant: Tenant) -> Ask:
        path = f"{ORGANIZATIONS}/{tenant.organization_id}"
        for word in before:
            tenant.admin.ok("POST", f"{path}/{word}")
        return Ask(tenant.admin, method, path + suffix, body or {}, path)

    return made


CREATIONS: dict[str, Callable[[Tenant], Ask]] = {
    "create user": lambda t: Ask(t.owner, "POST", USERS, data(t, username="minnie", contact={"email": MAIL})),
    "create user with an id": lambda t: Ask(t.owner, "POST", USERS, data(t, userId=f"id-{new_key()}")),
    "create schema": lambda t: Ask(t.owner, "POST", SCHEMAS, {"type": "other", "schema": {"title": "x"}}),
    "create organization": lambda t: Ask(t.admin, "POST", ORGANIZATIONS, {"name": f"Named {new_key()}"}),
    "create organization with an id": lambda t: Ask(
        t.admin, "POST", ORGANIZATIONS, {"name": "Named", "organizationId": f"id-{new_key()}"}
    ),
}
CHANGES: dict[str, Callable[[Tenant], Ask]] = {
    "PUT user": _user("PUT", "", {"data": {"name": "D"}, "contact": {"email": MAIL, "phone": PHONE}, "username": "d"}),
    "PATCH user": _user("PATCH", "", {"data": {"name": "D"}}),
    "deactivate user": _user("POST", "/deactivate"),
    "reactivate user": _user("POST", "/reactivate", None, "deactivate"),
    "_activate user": _user("POST", "/_activate", None, "_deactivate"),
    "lock user": _user("POST", "/lock"),
    "unlock user": _user("POST", "/unlock", None, "lock"),
    "set email": _user("PUT", "/email", MAIL),
    "set phone": _user("PUT", "/phone", PHONE),
    "verify email": _contact("email", "verify"),
    "verify phone": _contact("phone", "verify"),
    "resend email": _contact("email", "resend"),
    "resend phone": _contact("phone", "resend"),
    "PUT schema": _schema("PUT", "", {"type": "renamed", "schema": {"title": "x", "minimum": 1}}),
    "PATCH schema": _schema("PATCH", "", {"possibleAuthenticators": ["AUTHENTICATOR_TYPE_PASSWORD"]}),
    "deactivate schema": _schema("POST", "/deactivate"),
    "reactivate schema": _schema("POST", "/reactivate", None, "deactivate"),
    "PUT organization": _organization("PUT", "", {"name": "Other"}),
    "deactivate organization": _organization("POST", "/deactivate"),
    "reactivate organization": _organization("POST", "/reactivate", None, "deactivate"),
}
KEYED = CREATIONS | CHANGES


def same(first: httpx.Response, again: httpx.Response) -> bool:
    """Whether the second is the first again, and says so."""
    assert first.is_success, first.text
    assert REPLAYED not in first.headers
    assert again.headers.get(REPLAYED) == "true", again.text
    return (again.status_code, again.content, again.headers["etag"]) == (
        first.status_code,
        first.content,
        first.headers["etag"],
    )


def found(server: Server, collection: str, where: Document) -> list[Document]:
    """Look into the database itself."""

    async def look() -> list[Document]:
        async with connected(socket_uri(server.data_dir), "pymongo") as database:
            return await database.collection(collection).find(where)

    return asyncio.run(look())


def eventually(done: Callable[[], bool]) -> None:
    """Wait for what must come by itself."""
    deadline = time.monotonic() + PATIENCE
    while not done():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def relayed(server: Server, user_id: str, *, emptied: bool = False) -> None:
    """Wait until the answers that wait in a user's document stand in their records (and nowhere else)."""
    stored = found(server, "users", {"_id": user_id})
    ids = [each["id"] for user in stored for each in user.get("pending", ()) if each["to"] == "requests"]
    answered = {"_id": {"$in": ids}, "answer": {"$exists": True}}
    eventually(lambda: len(found(server, "requests", answered)) == len(ids))
    if emptied:
        eventually(lambda: not found(server, "users", {"_id": user_id, "pending": {"$exists": True}}))


def users_of(tenant: Tenant) -> list[dict[str, Any]]:
    """List the users of the organization."""
    result: list[dict[str, Any]] = tenant.owner.ok("POST", USERS + "/search", {})["result"]
    return result


@pytest.mark.parametrize("make", KEYED.values(), ids=KEYED)
def test_a_request_sent_again_is_answered_as_before_and_not_done_again(
    tenant: Tenant, make: Callable[[Tenant], Ask]
) -> None:
    """Status, body and ETag are the first ones, a header tells, and the resource is as the first left it."""
    ask, key = make(tenant), new_key()
    first = ask.send(key)
    again = ask.send(key)
    assert same(first, again)
    if ask.at:
        assert ask.sequence() == first.headers["etag"].strip('"')
    assert same(first, ask.send(key, If_Match='"99"')), "an If-Match that is stale by now"


def test_one_creation_makes_one_user(tenant: Tenant) -> None:
    """However often it is sent; under another key it makes another."""
    ask, key = Ask(tenant.owner, "POST", USERS, data(tenant)), new_key()
    ids = {ask.send(key).json()["userId"] for _ in range(3)}
    assert {user["userId"] for user in users_of(tenant)} == ids
    assert len(ids) == 1
    assert ask.send(new_key()).json()["userId"] not in ids


@pytest.mark.parametrize("moved", [False, True], ids=["at once", "relayed"])
def test_a_key_stands_for_one_request(tenant: Tenant, moved: bool) -> None:
    """Another body, path, method, query or organization under it is refused, and changes nothing."""
    user_id, other = tenant.user(), tenant.user()
    ask, key = Ask(tenant.owner, "PUT", one(user_id), {"data": {"name": "D"}}, one(user_id)), new_key()
    first = ask.send(key)
    if moved:
        relayed(tenant.server, user_id, emptied=True)
    elsewhere = {"x-zitadel-orgid": tenant.organization_id}
    for method, path, body, headers in (
        ("PUT", one(user_id), {"data": {"name": "E"}}, {}),
        ("PUT", one(other), ask.body, {}),
        ("PATCH", one(user_id), ask.body, {}),
        ("PUT", one(user_id) + "?validateOnly=false", ask.body, {}),
        ("PUT", one(user_id), ask.body, elsewhere),
        ("POST", USERS, data(tenant), {}),
        ("POST", one(user_id) + "/lock", {}, {}),
        ("PUT", f"{SCHEMAS}/{tenant.schema_id}", {"type": "x"}, {}),
        ("POST", SCHEMAS, {"type": "x", "schema": {}}, {}),
        ("PUT", f"{ORGANIZATIONS}/{tenant.organization_id}", {"name": "x"}, {}),
    ):
        refused = tenant.owner.request(method, path, json=body, headers={KEY: key, **headers})
        assert (refused.status_code, refused.json()["code"]) == (409, 6), (method, path, refused.text)
        assert reason(refused) == "IDEMPOTENCY_KEY_REUSED"
    assert same(first, ask.send(key))
    assert ask.sequence() == "2"
    assert Ask(tenant.owner, "GET", one(other), at=one(other)).sequence() == "1"


def test_the_keys_of_two_callers_are_two(tenant: Tenant) -> None:
    """Each has its own effect and its own answer."""
    key = new_key()
    with tenant.caller("ORG_USER_MANAGER") as manager:
        first = Ask(tenant.owner, "POST", USERS, data(tenant)).send(key)
        second = Ask(manager, "POST", USERS, data(tenant)).send(key)
        third = Ask(manager, "PUT", one(first.json()["userId"]), {"data": {"name": "D"}}).send(new_key())
    assert (first.status_code, second.status_code, third.status_code) == (201, 201, 200)
    assert first.json()["userId"] != second.json()["userId"]
    assert REPLAYED not in second.headers


@pytest.mark.parametrize("make", [CREATIONS["create user"], CHANGES["PUT user"]], ids=["create", "update"])
def test_a_refused_request_may_be_sent_again(tenant: Tenant, make: Callable[[Tenant], Ask]) -> None:
    """It is done as soon as it can be; a body that nobody could read takes no key."""
    ask, key = make(tenant), new_key()
    right = ask.body
    ask.body = {**right, "shemaId": "x"}
    assert ask.send(key).status_code == 400
    ask.body = right
    state = f"{SCHEMAS}/{tenant.schema_id}"
    tenant.owner.ok("POST", state + "/deactivate")
    eventually(lambda: ask.send(key).status_code == 400)
    assert [reason(ask.send(key)) for _ in range(2)] == ["SCHEMA_INACTIVE"] * 2
    tenant.owner.ok("POST", state + "/reactivate")
    first = ask.send(key)
    assert same(first, ask.send(key))
    ask.body = {**right, "data": {"name": ""}}
    assert reason(ask.send(key)) == "IDEMPOTENCY_KEY_REUSED"


def test_a_stale_writer_may_use_its_key_again(tenant: Tenant) -> None:
    """With the right ETag the same request is done; If-Match is no part of what it asks."""
    user_id = tenant.user()
    ask, key = Ask(tenant.owner, "PUT", one(user_id), {"data": {"name": "D"}}, one(user_id)), new_key()
    assert ask.send(key, If_Match='"7"').status_code == 412
    first = ask.send(key, If_Match='"1"')
    assert same(first, ask.send(key, If_Match='"1"'))
    assert ask.sequence() == "2"


@pytest.mark.parametrize("make", CHANGES.values(), ids=CHANGES)
def test_later_changes_do_not_change_the_answer(tenant: Tenant, make: Callable[[Tenant], Ask]) -> None:
    """The first answer comes again, without codes that died meanwhile, and what came later stays."""
    ask, key = make(tenant), new_key()
    first = ask.send(key)
    assert first.is_success, first.text
    later = {USERS: {"username": "later"}, SCHEMAS: {"type": "later"}, ORGANIZATIONS: {"name": "later"}}
    [body] = [each for path, each in later.items() if ask.at.startswith(path + "/")]
    if ask.path.endswith("organizations/" + tenant.organization_id + "/deactivate"):
        ask.caller.ok("POST", ask.at + "/reactivate")
    ask.caller.ok("PUT", ask.at, body)
    then = ask.sequence()
    assert same(first, ask.send(key))
    assert ask.sequence() == then


def test_an_answer_without_a_change_is_given_again_too(tenant: Tenant) -> None:
    """An update that changes nothing keeps doing so, even where it would by now."""
    user_id = tenant.user()
    for path, body, later in (
        (one(user_id), {"data": {"name": "Minnie"}}, {"data": {"name": "D"}}),
        (f"{SCHEMAS}/{tenant.schema_id}", {"schema": SCHEMA}, {"schema": {"title": "later"}}),
        (f"{ORGANIZATIONS}/{tenant.organization_id}", {"name": "Test"}, {"name": "later"}),
    ):
        ask, key = Ask(tenant.owner, "PUT", path, body, path), new_key()
        first = ask.send(key)
        assert first.headers["etag"] == '"1"'
        tenant.owner.ok("PUT", path, later)
        assert same(first, ask.send(key))
        assert ask.sequence() == "2"


class TestCodes:
    """A code that went back to the caller is repeated as long as it is good, and no longer."""

    @staticmethod
    def kills(tenant: Tenant, how: str, path: str, code: str) -> None:
        """Let the code of an email address die."""
        if how == "verified":
            tenant.owner.ok("POST", path + "/email/verify", {"verificationCode": code})
        elif how == "replaced":
            tenant.owner.ok("PUT", path + "/email", {"address": "b@example.com"})
        elif how == "removed":
            tenant.owner.ok("DELETE", path + "/email")
        elif how == "superseded":
            for _ in range(2):
                age(tenant.server, path.rpartition("/")[2], "email", PAUSE)
                tenant.owner.ok("POST", path + "/email/resend", {"returnCode": {}})
        elif how == "locked":
            tenant.owner.ok("POST", path + "/lock")
        else:
            for _ in range(5):
                tenant.owner.post(path + "/email/verify", json={"verificationCode": "AAAAAA"})

    @pytest.mark.parametrize("how", ["verified", "replaced", "removed", "superseded", "locked", "exhausted"])
    def test_a_dead_code_is_left_out(self, tenant: Tenant, how: str) -> None:
        """Of a creation, an update, and of what the contact's own requests answer."""
        created = Ask(tenant.owner, "POST", USERS, data(tenant, contact={"email": MAIL, "phone": PHONE}))
        keys = [new_key(), new_key()]
        first = created.send(keys[0])
        path = one(first.json()["userId"])
        age(tenant.server, first.json()["userId"], "email", PAUSE)
        resent = Ask(tenant.owner, "POST", path + "/email/resend", {"returnCode": {}})
        second = resent.send(keys[1])
        code = second.json()["verificationCode"]
        if how in {"verified", "exhausted"}:
            relayed(tenant.server, first.json()["userId"])
        assert same(first, created.send(keys[0]))
        assert same(second, resent.send(keys[1]))
        self.kills(tenant, how, path, code)
        again = created.send(keys[0])
        assert (again.status_code, again.headers[REPLAYED]) == (201, "true")
        assert "emailCode" not in again.json()
        assert (again.json().get("phoneCode") is None) is (how == "locked")
        assert again.json()["details"] == first.json()["details"]
        assert resent.send(keys[1]).json() == {"details": second.json()["details"]}

    def test_an_expired_code_is_left_out(self, tenant: Tenant) -> None:
        """By the lifetime that the organization gave it."""
        settings = {"settings": {"emailCodeTtl": "1s"}}
        tenant.owner.ok("PUT", f"{ORGANIZATIONS}/{tenant.organization_id}", settings)
        ask, key = Ask(tenant.owner, "PUT", one(tenant.user()) + "/email", MAIL), new_key()
        deadline = time.monotonic() + PATIENCE
        first = ask.send(key).json()
        assert first["verificationCode"]
        while (again := ask.send(key).json()) == first:
            assert time.monotonic() < deadline
            time.sleep(0.1)
        assert again == {"details": first["details"]}

    def test_a_wrong_code_counts_each_time(self, tenant: Tenant) -> None:
        """A refusal is not repeated but judged anew; the right code is another request."""
        path = one(tenant.user())
        code = tenant.owner.ok("PUT", path + "/email", MAIL)["verificationCode"]
        key = new_key()
        ask = Ask(tenant.owner, "POST", path + "/email/verify", {"verificationCode": "AAAAAA"}, path)
        for left in "432":
            refused = ask.send(key)
            assert refused.status_code == 400
            assert refused.json()["details"][0]["metadata"] == {"attemptsLeft": left}
            assert REPLAYED not in refused.headers
        ask.body = {"verificationCode": code}
        assert reason(ask.send(key)) == "IDEMPOTENCY_KEY_REUSED"
        other = new_key()
        assert same(ask.send(other), ask.send(other))

    def test_nobody_reads_them_in_the_database_or_the_log(self, tenant: Tenant) -> None:
        """Neither a code nor a key stands anywhere in the user, in the record, or in what the server wrote."""
        key = f"the key {new_key()}"
        ask = Ask(tenant.owner, "POST", USERS, data(tenant, contact={"email": MAIL}))
        made = ask.send(key).json()
        documents = found(tenant.server, "users", {"_id": made["userId"]})
        relayed(tenant.server, made["userId"])
        [record] = found(tenant.server, "requests", {"resource_id": made["userId"]})
        assert set(record) == {"_id", "digest", "expires_at", "resource_id", "answer"}
        assert set(record["answer"]) == {"sequence", "changed_at", "codes"}
        texts = [repr(documents), repr(record), tenant.server.log()]
        for secret in (key, made["emailCode"], tenant.owner.token):
            assert not any(secret in text for text in texts)


def test_what_the_caller_no_longer_reaches_is_missing_first(tenant: Tenant, admin: Api) -> None:
    """404 comes before the answer of before, and before a judgement of the key."""
    user_id = tenant.user()
    ask, key = Ask(admin, "PUT", one(user_id), {"data": {"name": "D"}}), new_key()
    first = ask.send(key)
    assert ask.send(key, x_zitadel_orgid="default").status_code == 404
    assert same(first, ask.send(key))


def test_after_the_end_of_its_user_an_update_is_missing_and_a_creation_is_not_repeated(tenant: Tenant) -> None:
    """404 for the one; the id of before, without codes, for the other; nobody is made anew."""
    created = Ask(tenant.owner, "POST", USERS, data(tenant, username="gone", contact={"email": MAIL}))
    keys = [new_key(), new_key()]
    first = created.send(keys[0]).json()
    updated = Ask(tenant.owner, "PUT", one(first["userId"]), {"data": {"name": "D"}})
    assert updated.send(keys[1]).status_code == 200
    tenant.owner.ok("DELETE", one(first["userId"]))
    assert updated.send(keys[1]).status_code == 404
    for _ in range(2):
        again = created.send(keys[0])
        assert (again.status_code, again.headers["etag"], again.headers[REPLAYED]) == (201, '"1"', "true")
        assert again.json() == {name: first[name] for name in ("userId", "details")}
    assert users_of(tenant) == []
    tenant.user(username="gone")


@pytest.mark.parametrize(("length", "status"), [(0, 400), (1, 200), (200, 200), (201, 400)])
def test_a_key_has_1_to_200_characters(tenant: Tenant, length: int, status: int) -> None:
    """Others are refused before anything happens; keys that differ in the last character are two."""
    user_id = tenant.user()
    ask = Ask(tenant.owner, "PUT", one(user_id), {"data": {"name": "D"}}, one(user_id))
    key = (new_key() * 10)[:length]
    answer = ask.send(key)
    assert answer.status_code == status
    if status == 400:
        assert (answer.json()["code"], reason(answer)) == (3, "HEADER_INVALID")
        assert ask.sequence() == "1"
    else:
        assert REPLAYED in ask.send(key).headers
        assert REPLAYED not in ask.send(key[:-1] + "~").headers


@pytest.mark.parametrize("key", ["k" * 201, "", "k"], ids=["long", "empty", "good"])
def test_where_nothing_is_changed_the_key_is_ignored(tenant: Tenant, admin: Api, key: str) -> None:
    """By searches, checks, tokens and rehearsals; whatever it is, and however often it comes."""
    path = one(tenant.user())
    grant = {"name": "t", "roles": [{"role": "ORG_USER_VIEWER", "organizationId": tenant.organization_id}]}
    for ask in (
        Ask(tenant.owner, "POST", USERS + "/search"),
        Ask(tenant.owner, "POST", path + "/validate"),
        Ask(tenant.owner, "POST", SCHEMAS + "/check", {"schema": {}}),
        Ask(tenant.owner, "POST", SCHEMAS + "/search"),
        Ask(tenant.owner, "POST", USERS + "?validateOnly=true", data(tenant)),
        Ask(tenant.owner, "PUT", path + "?validateOnly=true", {"data": {"name": "D"}}),
        Ask(tenant.owner, "PUT", path + "/email?validateOnly=true", MAIL),
        Ask(admin, "POST", "/v3alpha/tokens", grant),
    ):
        answers = [ask.send(key) for _ in range(2)]
        assert all(each.is_success and REPLAYED not in each.headers for each in answers), ask
    assert Ask(tenant.owner, "GET", path, at=path).sequence() == "1"


class TestAtOnce:
    """Many identical requests at the same time."""

    @staticmethod
    def sent(ask: Ask, key: str, times: int = 20) -> list[httpx.Response]:
        """Send them all and give the answers."""
        with ThreadPoolExecutor(times) as pool:
            answers = list(pool.map(lambda _: ask.send(key), range(times)))
        assert {each.status_code for each in answers} <= {200, 201}, [each.text for each in answers]
        assert [REPLAYED in each.headers for each in answers].count(False) == 1
        assert len({(each.content, each.headers["etag"]) for each in answers}) == 1
        return answers

    def test_they_make_one_user(self, tenant: Tenant) -> None:
        """All are told its id, and its code."""
        ask = Ask(tenant.owner, "POST", USERS, data(tenant, username="only", contact={"email": MAIL}))
        made = self.sent(ask, new_key())[0].json()
        assert [user["userId"] for user in users_of(tenant)] == [made["userId"]]
        body = {"verificationCode": made["emailCode"]}
        tenant.owner.ok("POST", one(made["userId"]) + "/email/verify", body)

    @pytest.mark.parametrize("name", ["create schema", "create organization", "create user with an id"])
    def test_they_make_one_of_anything(self, tenant: Tenant, name: str) -> None:
        """All are told its id."""
        self.sent(CREATIONS[name](tenant), new_key())

    @pytest.mark.parametrize("name", ["PUT user", "lock user", "resend email", "PUT schema", "PUT organization"])
    def test_they_change_once(self, tenant: Tenant, name: str) -> None:
        """The sequence rises by one at most."""
        ask = CHANGES[name](tenant)
        before = int(ask.sequence())
        answer = self.sent(ask, new_key())[0]
        assert answer.headers["etag"] == f'"{before + (name != "resend email")}"'
        assert ask.sequence() == answer.headers["etag"].strip('"')

    @pytest.mark.parametrize("make", ["create", "rename"])
    def test_the_name_is_held_by_its_user_alone(self, tenant: Tenant, make: str) -> None:
        """By nobody else afterwards, and free again when it is given up."""
        if make == "create":
            ask = Ask(tenant.owner, "POST", USERS, data(tenant, username="Held"))
            user_id = self.sent(ask, new_key())[0].json()["userId"]
        else:
            user_id = tenant.user(username="before")
            self.sent(Ask(tenant.owner, "PUT", one(user_id), {"username": "Held"}), new_key())
            tenant.user(username="BEFORE")
        second = tenant.user()
        taking, key = Ask(tenant.owner, "PUT", one(second), {"username": "hELD"}), new_key()
        assert (taking.send(key).status_code, taking.send().status_code) == (409, 409)
        refused = tenant.owner.post(USERS, json=data(tenant, username="held"), headers={KEY: new_key()})
        assert reason(refused) == "USERNAME_TAKEN"
        giving, given = Ask(tenant.owner, "PUT", one(user_id), {"username": ""}), new_key()
        first = giving.send(given)
        assert same(first, giving.send(given))
        assert same(taking.send(key), taking.send(key))
        assert same(first, giving.send(given))
        assert tenant.owner.put(one(user_id), json={"username": "held"}).status_code == 409
        tenant.owner.ok("DELETE", one(second))
        tenant.owner.ok("PUT", one(user_id), {"username": "held"})

    def test_different_requests_under_one_key_are_told_apart(self, tenant: Tenant) -> None:
        """One of them is done; the others are refused, or told to come again."""
        user_id, key = tenant.user(), new_key()
        asks = [Ask(tenant.owner, "PUT", one(user_id), {"data": {"name": f"N{n}"}}) for n in range(10)]
        with ThreadPoolExecutor(10) as pool:
            answers = list(pool.map(lambda ask: ask.send(key), asks))
        assert sorted(each.status_code for each in answers) == [200] + [409] * 9
        assert Ask(tenant.owner, "GET", one(user_id), at=one(user_id)).sequence() == "2"


def test_a_name_stays_held_when_its_user_is_created_again(tenant: Tenant) -> None:
    """Who repeats a creation without a key, or rehearses it, is refused, and nobody else gets the name."""
    body = data(tenant, userId=f"id-{new_key()}", username="kept")
    ask = Ask(tenant.owner, "POST", USERS, body)
    assert ask.send(new_key()).status_code == 201
    assert ask.send().status_code == 409
    assert ask.send(new_key()).status_code == 409
    assert tenant.owner.post(USERS + "?validateOnly=true", json=body).status_code == 409
    taken = tenant.owner.post(USERS, json=data(tenant, username="kept"))
    assert (taken.status_code, reason(taken)) == (409, "USERNAME_TAKEN")
