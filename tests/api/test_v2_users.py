"""People over v2: the fixed profile, its contacts and its states, on the users that all operations share."""

from __future__ import annotations

import itertools
import time
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest

from schema_user.commands.bootstrap import prepare
from schema_user.commands.schemas import CreateSchema, SchemaTarget, UpdateSchema, create_schema, update_schema
from schema_user.commands.tokens import OPERATOR
from schema_user.domain.schema import HUMAN_SCHEMA
from schema_user.store.instance import InstanceStore
from tests.conftest import Api, Server, Tenant, age, reason, violations

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from schema_user.rooms import Rooms

USERS = "/v2/users"
PROFILE = {
    "givenName": "Minnie",
    "familyName": "Mouse",
    "nickName": "Mini",
    "displayName": "Minnie Mouse",
    "preferredLanguage": "en",
    "gender": "GENDER_FEMALE",
}
_numbers = itertools.count(1)


def address() -> str:
    """Give an address that nobody has."""
    return f"v2-{next(_numbers)}@example.com"


def make(api: Api, **body: Any) -> str:
    """Make a person, and give its id."""
    wanted = {"profile": PROFILE, "email": {"email": address(), "isVerified": True}, **body}
    return str(api.ok("POST", f"{USERS}/human", wanted)["userId"])


def update(api: Api, user_id: str, body: Any, **options: Any) -> Any:
    """Update a person."""
    return api.put(f"{USERS}/human/{user_id}", json=body, **options)


def person(api: Api, user_id: str) -> Any:
    """Read a person."""
    return api.ok("GET", f"{USERS}/{user_id}")["user"]


def messages(api: Api, user_id: str) -> list[Any]:
    """List the messages to a user that came out of the relay."""
    query = {"queries": [{"userIdQuery": {"id": user_id}}]}
    found: list[Any] = api.ok("POST", "/v3alpha/messages/search", query)["result"]
    return found


class TestCreate:
    def test_a_person_is_an_ordinary_user(self, tenant: Tenant) -> None:
        """v3alpha shows it under the built-in schema, with the profile as its data."""
        email = address()
        made = tenant.owner.post(
            f"{USERS}/human",
            json={
                "profile": PROFILE,
                "email": {"email": email, "returnCode": {}},
                "phone": {"phone": "+41791234567", "isVerified": True},
            },
        )
        assert made.status_code == 201
        answer = made.json()
        assert answer.keys() == {"userId", "details", "emailCode"}
        assert answer["details"].keys() == {"sequence", "creationDate", "changeDate", "resourceOwner"}
        user = tenant.owner.ok("GET", f"/v3alpha/users/{answer['userId']}")["user"]
        assert user["schema"]["type"] == "human"
        assert user["data"] == {"profile": PROFILE}
        assert user["username"] == email
        assert user["contact"] == {
            "email": {"address": email, "isVerified": False},
            "phone": {"number": "+41791234567", "isVerified": True},
        }

    def test_a_user_of_the_schema_is_a_person(self, tenant: Tenant) -> None:
        """One that v3alpha made is read and changed here."""
        human = tenant.owner.ok("GET", f"/v3alpha/users/{make(tenant.owner)}")["user"]["schema"]["id"]
        user_id = tenant.user(schemaId=human, data={"profile": PROFILE})
        assert person(tenant.owner, user_id)["human"]["profile"] == PROFILE
        assert update(tenant.owner, user_id, {"profile": PROFILE | {"givenName": "Minerva"}}).status_code == 200
        user = tenant.owner.ok("GET", f"/v3alpha/users/{user_id}")["user"]
        assert user["data"]["profile"]["givenName"] == "Minerva"

    def test_what_is_given_is_taken(self, tenant: Tenant, admin: Api) -> None:
        """A user id, a username and an organization; header and body must not differ in the last."""
        user_id = f"mouse-{time.time_ns()}"
        body = {
            "userId": user_id,
            "username": "minnie",
            "organization": {"orgId": tenant.organization_id},
            "profile": {"givenName": "Minnie", "familyName": "Mouse"},
            "email": {"email": "Minnie@Example.COM", "isVerified": False},
        }
        made = admin.ok("POST", f"{USERS}/human", body)
        assert made["userId"] == user_id
        assert made["details"]["resourceOwner"] == tenant.organization_id
        assert person(admin, user_id) == {
            "userId": user_id,
            "details": made["details"],
            "state": "USER_STATE_ACTIVE",
            "username": "minnie",
            "loginNames": ["minnie"],
            "preferredLoginName": "minnie",
            "human": {
                "profile": {"givenName": "Minnie", "familyName": "Mouse"},
                "email": {"email": "Minnie@example.com", "isVerified": False},
            },
        }
        other = admin.post(f"{USERS}/human", json={**body, "userId": "x"}, headers={"x-zitadel-orgid": "default"})
        assert violations(other) == {"organization/orgId": "organization"}
        again = admin.post(f"{USERS}/human", json={**body, "username": "other"})
        assert (again.status_code, reason(again)) == (409, "USER_ID_TAKEN")
        taken = admin.post(f"{USERS}/human", json={**body, "userId": "mouse-0"})
        assert (taken.status_code, reason(taken)) == (409, "USERNAME_TAKEN")

    @pytest.mark.parametrize(
        ("change", "field", "rule"),
        [
            ({"profile": None}, "profile", "required"),
            ({"email": None}, "email", "required"),
            ({"profile": {"givenName": "M"}}, "profile/familyName", "required"),
            ({"profile": {**PROFILE, "givenName": ""}}, "profile/givenName", "minLength"),
            ({"profile": {**PROFILE, "gender": "GENDER_OTHER"}}, "profile/gender", "enum"),
            ({"email": {"email": "nobody"}}, "email/email", "format"),
            ({"phone": {"phone": "123"}}, "phone/phone", "format"),
            ({"username": ""}, "username", "minLength"),
            ({"userId": "search"}, "userId", "pattern"),
            ({"password": {"password": "Secr3tP4ssw0rd"}}, "password/password", "hasSymbol"),
            ({"hashedPassword": {"hash": "$2a$12$x"}}, "hashedPassword/hash", "hash"),
            ({"metadata": []}, "metadata", "unknownField"),
            ({"email": {"email": "a@example.com", "sendCode": {"urlTemplate": "x"}}}, "email/sendCode/urlTemplate", ""),
        ],
    )
    def test_what_is_wrong_is_named(self, tenant: Tenant, change: dict[str, Any], field: str, rule: str) -> None:
        """400 code 3 with the pointer in the body of v2."""
        body = {"profile": PROFILE, "email": {"email": address(), "isVerified": True}} | change
        response = tenant.owner.post(f"{USERS}/human", json={k: v for k, v in body.items() if v is not None})
        assert (response.status_code, response.json()["code"]) == (400, 3)
        assert violations(response) == {field: rule or "urlTemplate"}

    def test_a_rehearsal_and_a_key_are_heeded(self, tenant: Tenant) -> None:
        """Nothing is stored by the one, and one person is made under the other."""
        body = {"profile": PROFILE, "email": {"email": address(), "returnCode": {}}}
        rehearsed = tenant.owner.post(f"{USERS}/human?validateOnly=true", json=body)
        assert "emailCode" not in rehearsed.json()
        assert tenant.owner.get(f"{USERS}/{rehearsed.json()['userId']}").status_code == 404
        first, again = (
            tenant.owner.post(f"{USERS}/human", json=body, headers={"Idempotency-Key": "one"}) for _ in range(2)
        )
        assert first.json() == again.json()
        assert again.headers["idempotent-replayed"] == "true"


class TestUpdate:
    def test_what_is_absent_stays(self, tenant: Tenant) -> None:
        """Within the profile too; what is given is set, and nothing given changes nothing."""
        user_id = make(tenant.owner)
        before = person(tenant.owner, user_id)
        names = {"profile": {"givenName": "Minerva", "familyName": "Maus", "nickName": ""}}
        changed = update(tenant.owner, user_id, names)
        assert changed.json().keys() == {"details"}
        assert changed.json()["details"]["sequence"] == "2"
        assert changed.headers["etag"] == '"2"'
        after = person(tenant.owner, user_id)
        assert after["human"]["profile"] == PROFILE | names["profile"]
        assert after["username"] == before["username"]
        assert after["human"]["email"] == before["human"]["email"]
        for same in ({}, names):
            response = update(tenant.owner, user_id, same)
            assert (response.status_code, response.json()["details"]["sequence"]) == (200, "2")

    def test_all_of_it_or_nothing(self, tenant: Tenant) -> None:
        """A taken username keeps the profile and the address from changing too."""
        make(tenant.owner, username="taken")
        user_id = make(tenant.owner)
        before = person(tenant.owner, user_id)
        body = {
            "username": "Taken",
            "profile": {"givenName": "A", "familyName": "B"},
            "email": {"email": address(), "returnCode": {}},
        }
        assert reason(update(tenant.owner, user_id, body)) == "USERNAME_TAKEN"
        assert person(tenant.owner, user_id) == before

    def test_codes_come_back_for_both_addresses(self, tenant: Tenant) -> None:
        """``emailCode`` and ``phoneCode`` verify."""
        user_id = make(tenant.owner)
        email = {"email": address(), "returnCode": {}}
        answer = update(
            tenant.owner, user_id, {"email": email, "phone": {"phone": "+41791234567", "returnCode": {}}}
        ).json()
        for channel in ("email", "phone"):
            body = {"verificationCode": answer[f"{channel}Code"]}
            tenant.owner.ok("POST", f"{USERS}/{user_id}/{channel}/verify", body)
        human = person(tenant.owner, user_id)["human"]
        assert human["email"] == {"email": email["email"], "isVerified": True}
        assert human["phone"] == {"phone": "+41791234567", "isVerified": True}

    def test_unverified_on_purpose_sends_nothing(self, tenant: Tenant) -> None:
        """``isVerified: false`` stores the address; a code is there once one is asked for."""
        user_id = make(tenant.owner, email={"email": address(), "isVerified": False})
        other = {
            "email": {"email": address(), "isVerified": False},
            "phone": {"phone": "+41791234567", "isVerified": False},
        }
        assert update(tenant.owner, user_id, other).json().keys() == {"details"}
        verify = f"{USERS}/{user_id}/email/verify"
        assert reason(tenant.owner.post(verify, json={"verificationCode": "ABCDEF"})) == "CODE_NOT_PENDING"
        human = person(tenant.owner, user_id)["human"]
        assert (human["email"]["isVerified"], human["phone"]["isVerified"]) == (False, False)
        time.sleep(1.5)  # a message leaves the user's document within a second
        assert messages(tenant.owner, user_id) == []
        code = tenant.owner.ok("POST", f"{USERS}/{user_id}/email/send", {"returnCode": {}})["verificationCode"]
        tenant.owner.ok("POST", verify, {"verificationCode": code})
        update(tenant.owner, user_id, {"email": other["email"]})
        assert person(tenant.owner, user_id)["human"]["email"]["isVerified"], "the same address keeps its state"

    def test_an_empty_phone_is_removed(self, tenant: Tenant) -> None:
        """And nothing can be verified of it; a new person just has none."""
        user_id = make(tenant.owner, phone={"phone": "+41791234567", "isVerified": True})
        wrong = update(tenant.owner, user_id, {"phone": {"phone": "", "isVerified": True}})
        assert violations(wrong) == {"phone/isVerified": "alternatives"}
        assert "phone" in person(tenant.owner, user_id)["human"]
        assert update(tenant.owner, user_id, {"phone": {"phone": ""}}).status_code == 200
        assert "phone" not in person(tenant.owner, user_id)["human"]
        assert "phone" not in person(tenant.owner, make(tenant.owner, phone={"phone": ""}))["human"]

    @pytest.mark.parametrize(
        ("body", "field", "rule"),
        [
            (
                {"email": {"email": "a@example.com", "sendCode": {}, "returnCode": {}, "isVerified": True}},
                "email/isVerified",
                "alternatives",
            ),
            (
                {"phone": {"phone": "+41791234567", "sendCode": {}, "returnCode": {}}},
                "phone/returnCode",
                "alternatives",
            ),
            ({"password": {"password": {"password": "x" * 201}}}, "password/password/password", "maxLength"),
            ({"password": {"currentPassword": "Secr3tP4ssw0rd"}}, "password/password", "required"),
            ({"profile": {"givenName": "x" * 201, "familyName": "y"}}, "profile/givenName", "maxLength"),
            ({"profile": {**PROFILE, "preferredLanguage": "x" * 11}}, "profile/preferredLanguage", "maxLength"),
            ({"profile": {**PROFILE, "firstName": "x"}}, "profile/firstName", "unknownField"),
            ({"phone": {"phone": "1" * 201}}, "phone/phone", "maxLength"),
            ({"username": "x" * 201}, "username", "maxLength"),
            ({"schemaId": "1"}, "schemaId", "unknownField"),
        ],
    )
    def test_what_is_wrong_is_named(self, tenant: Tenant, body: dict[str, Any], field: str, rule: str) -> None:
        """400 code 3 with the pointer; two alternatives at once are refused by name; lengths count code points."""
        response = update(tenant.owner, "1", body)
        assert (response.status_code, response.json()["code"]) == (400, 3)
        assert violations(response) == {field: rule}

    def test_a_user_of_another_schema_is_refused_by_its_name(self, tenant: Tenant) -> None:
        """400 code 9 on every operation; 412 goes before."""
        user_id = tenant.user()
        contact = {"verificationCode": "ABCDEF"}
        asked = [
            ("PUT", f"{USERS}/human/{user_id}", {}),
            ("GET", f"{USERS}/{user_id}", None),
            ("DELETE", f"{USERS}/{user_id}", None),
            ("DELETE", f"{USERS}/{user_id}/phone", None),
            *(
                ("POST", f"{USERS}/{user_id}/{verb}", {})
                for verb in ("deactivate", "lock", "email/resend", "email/send")
            ),
            ("POST", f"{USERS}/{user_id}/email", {"email": address()}),
            ("POST", f"{USERS}/{user_id}/phone/verify", contact),
        ]
        for method, path, body in asked:
            response = tenant.owner.request(method, path, json=body)
            assert (response.status_code, response.json()["code"]) == (400, 9), response.text
            assert reason(response) == "USER_NOT_HUMAN"
            assert response.json()["details"][0]["metadata"] == {"schemaId": tenant.schema_id, "schemaType": "person"}
            assert "person" in response.json()["message"]
        assert update(tenant.owner, user_id, {}, headers={"If-Match": '"9"'}).status_code == 412
        assert tenant.owner.ok("GET", f"/v3alpha/users/{user_id}")["user"]["details"]["sequence"] == "1"

    def test_unknown_foreign_and_forbidden_are_told_apart(self, tenant: Tenant, admin: Api) -> None:
        """404 for what is not there or not reached, 403 for who may only read."""
        user_id, elsewhere = make(tenant.owner), make(admin)
        for missing in ("1", elsewhere):
            assert reason(update(tenant.owner, missing, {})) == "USER_NOT_FOUND"
        with tenant.caller("ORG_USER_VIEWER") as viewer:
            assert update(viewer, user_id, {}).status_code == 403
            assert viewer.get(f"{USERS}/{user_id}").status_code == 200
        acting = {"x-zitadel-orgid": "default"}
        assert update(admin, user_id, {}, headers=acting).status_code == 404
        assert update(admin, user_id, {}).status_code == 200

    def test_a_person_updates_itself_but_does_not_vouch(self, tenant: Tenant) -> None:
        """Profile and addresses are its own; names, codes and ``isVerified`` are not."""
        user_id = make(tenant.owner)
        with tenant.caller(user_id=user_id) as itself:
            body = {"profile": PROFILE | {"nickName": "M"}, "email": {"email": address()}}
            assert update(itself, user_id, body).status_code == 200
            for part, fields in (
                ({"username": "x"}, {"username"}),
                ({"email": {"email": address(), "returnCode": {}}}, {"email/returnCode"}),
                ({"email": {"email": address(), "isVerified": True}}, {"email/isVerified"}),
                ({"phone": {"phone": "+41791234567", "isVerified": False}}, {"phone/isVerified"}),
            ):
                response = update(itself, user_id, part)
                assert (response.status_code, set(violations(response))) == (403, fields)
            assert itself.get(f"{USERS}/{user_id}").status_code == 200
            assert itself.post(USERS, json={}).status_code == 403

    def test_if_match_and_a_rehearsal_are_heeded(self, tenant: Tenant) -> None:
        """412 at another sequence; nothing is stored by ``validateOnly``."""
        user_id = make(tenant.owner)
        body = {"profile": {"givenName": "A", "familyName": "B"}}
        assert update(tenant.owner, user_id, body, headers={"If-Match": '"7"'}).status_code == 412
        assert update(tenant.owner, user_id, body, params={"validateOnly": "true"}).json()["details"]["sequence"] == "2"
        got = tenant.owner.get(f"{USERS}/{user_id}")
        assert (got.headers["etag"], got.json()["user"]["human"]["profile"]) == ('"1"', PROFILE)
        known = tenant.owner.get(f"{USERS}/{user_id}", headers={"If-None-Match": '"1"'})
        assert known.status_code == 304


class TestContact:
    @pytest.mark.parametrize(("channel", "value"), [("email", "set@example.com"), ("phone", "+41791234568")])
    def test_set_resend_verify(self, server: Server, tenant: Tenant, channel: str, value: str) -> None:
        """The shapes of v2: ``verificationCode`` when it was asked for, else ``details`` alone."""
        user_id = make(tenant.owner)
        at = f"{USERS}/{user_id}/{channel}"
        first = tenant.owner.ok("POST", at, {channel: value, "returnCode": {}})
        assert first.keys() == {"details", "verificationCode"}
        too_soon = tenant.owner.post(f"{at}/resend", json={"returnCode": {}})
        assert (too_soon.status_code, reason(too_soon)) == (429, "RESEND_TOO_SOON")
        age(server, user_id, channel, timedelta(seconds=30))
        again = tenant.owner.ok("POST", f"{at}/resend", {"returnCode": {}})
        wrong = tenant.owner.post(f"{at}/verify", json={"verificationCode": "WRONG"})
        assert reason(wrong) == "CODE_INVALID"
        verified = tenant.owner.ok("POST", f"{at}/verify", {"verificationCode": again["verificationCode"]})
        assert verified.keys() == {"details"}
        assert person(tenant.owner, user_id)["human"][channel] == {channel: value, "isVerified": True}
        unsure = tenant.owner.post(at, json={channel: value, "isVerified": False})
        assert violations(unsure) == {"isVerified": "const"}
        assert violations(tenant.owner.post(at, json={channel: "x"})) == {channel: "format"}

    def test_a_code_is_sent_with_a_link(self, tenant: Tenant) -> None:
        """``email/send`` and ``email/resend`` take a template, and the message is on its way."""
        user_id = make(tenant.owner, email={"email": address(), "isVerified": False})
        template = {"sendCode": {"urlTemplate": "https://example.com/v?c={{.Code}}"}}
        sent = tenant.owner.ok("POST", f"{USERS}/{user_id}/email/send", template)
        assert sent.keys() == {"details"}
        deadline = time.monotonic() + 20
        while not messages(tenant.owner, user_id):
            assert time.monotonic() < deadline
            time.sleep(0.1)
        assert [each["kind"] for each in messages(tenant.owner, user_id)] == ["verify"]
        bad = tenant.owner.post(f"{USERS}/{user_id}/email/send", json={"sendCode": {"urlTemplate": "javascript:x"}})
        assert reason(bad) == "URL_TEMPLATE_INVALID"

    def test_a_phone_is_removed(self, tenant: Tenant) -> None:
        """By DELETE, which answers the details."""
        user_id = make(tenant.owner, phone={"phone": "+41791234567", "isVerified": True})
        assert tenant.owner.ok("DELETE", f"{USERS}/{user_id}/phone").keys() == {"details"}
        assert "phone" not in person(tenant.owner, user_id)["human"]


class TestStates:
    def test_states_come_and_go(self, tenant: Tenant) -> None:
        """Locked hides inactive; a wrong state is refused; a deleted person is gone."""
        user_id = make(tenant.owner)
        for verb, state in (
            ("deactivate", "INACTIVE"),
            ("lock", "LOCKED"),
            ("unlock", "INACTIVE"),
            ("reactivate", "ACTIVE"),
        ):
            assert tenant.owner.ok("POST", f"{USERS}/{user_id}/{verb}", {}).keys() == {"details"}
            assert person(tenant.owner, user_id)["state"] == f"USER_STATE_{state}"
        wrong = tenant.owner.post(f"{USERS}/{user_id}/unlock")
        assert (wrong.status_code, reason(wrong)) == (400, "USER_STATE")
        tenant.owner.ok("DELETE", f"{USERS}/{user_id}")
        assert tenant.owner.get(f"{USERS}/{user_id}").status_code == 404


class TestList:
    @pytest.fixture
    def people(self, tenant: Tenant) -> dict[str, str]:
        """Make three people, one of them locked, and a user of another schema."""
        made = {
            name: make(tenant.owner, username=name, email={"email": f"{name}@example.com", "isVerified": True})
            for name in ("ann", "ben", "cat")
        }
        tenant.owner.ok("POST", f"{USERS}/{made['cat']}/lock")
        tenant.user(username="dog")
        return made

    @pytest.mark.parametrize(
        ("query", "names"),
        [
            ({"typeQuery": {"type": "TYPE_HUMAN"}}, ["ann", "ben", "cat"]),
            ({"typeQuery": {"type": "TYPE_MACHINE"}}, []),
            ({"userNameQuery": {"userName": "BEN", "method": "TEXT_QUERY_METHOD_EQUALS_IGNORE_CASE"}}, ["ben"]),
            ({"loginNameQuery": {"loginName": "be", "method": "TEXT_QUERY_METHOD_STARTS_WITH"}}, ["ben"]),
            ({"emailQuery": {"emailAddress": "cat@", "method": "TEXT_QUERY_METHOD_CONTAINS"}}, ["cat"]),
            ({"stateQuery": {"state": "USER_STATE_LOCKED"}}, ["cat"]),
            ({"inUserEmailsQuery": {"userEmails": ["ann@example.com", "x@example.com"]}}, ["ann"]),
            ({"inUserIdsQuery": {"userIds": []}}, []),
            ({"notQuery": {"query": {"userNameQuery": {"userName": "ann"}}}}, ["ben", "cat"]),
            (
                {
                    "orQuery": {
                        "queries": [
                            {"userNameQuery": {"userName": "ann"}},
                            {"andQuery": {"queries": [{"stateQuery": {"state": "USER_STATE_LOCKED"}}]}},
                        ]
                    }
                },
                ["ann", "cat"],
            ),
            ({"userNameQuery": {"userName": "dog"}}, []),
        ],
    )
    def test_queries(self, tenant: Tenant, people: dict[str, str], query: dict[str, Any], names: list[str]) -> None:
        """People only, by what users are found by."""
        body = {"query": {"asc": True}, "sortingColumn": "USER_FIELD_NAME_USER_NAME", "queries": [query]}
        answer = tenant.owner.ok("POST", USERS, body)
        assert [each["username"] for each in answer["result"]] == names
        assert answer["details"]["totalResult"] == str(len(names))
        assert answer["sortingColumn"] == "USER_FIELD_NAME_USER_NAME"

    def test_ids_pages_and_all(self, tenant: Tenant, people: dict[str, str]) -> None:
        """By ids; a page is cut by offset and limit; without a body everything comes."""
        ids = [people["ann"], people["cat"], "1"]
        found = tenant.owner.ok("POST", USERS, {"queries": [{"inUserIdsQuery": {"userIds": ids}}]})["result"]
        assert {each["userId"] for each in found} == set(ids[:2])
        page = {"query": {"offset": 1, "limit": 1, "asc": True}, "sortingColumn": "USER_FIELD_NAME_EMAIL"}
        answer = tenant.owner.ok("POST", USERS, page)
        assert [each["username"] for each in answer["result"]] == ["ben"]
        assert answer["details"]["totalResult"] == "3"
        assert answer["result"][0] == person(tenant.owner, people["ben"])
        assert tenant.owner.ok("POST", USERS)["details"]["totalResult"] == "3"

    @pytest.mark.parametrize(
        ("body", "field"),
        [
            ({"queries": [{"firstNameQuery": {"firstName": "M"}}]}, "queries/0/firstNameQuery"),
            ({"queries": [{"displayNameQuery": {"displayName": "M"}}]}, "queries/0/displayNameQuery"),
            ({"queries": [{}]}, "queries/0"),
            ({"queries": [{"stateQuery": {"state": "USER_STATE_INITIAL"}}]}, "queries/0/stateQuery/state"),
            ({"sortingColumn": "USER_FIELD_NAME_NICK_NAME"}, "sortingColumn"),
            ({"query": {"limit": 1001}}, "query/limit"),
        ],
    )
    def test_what_is_not_offered_is_named(self, tenant: Tenant, body: dict[str, Any], field: str) -> None:
        """400 code 3: fields of the profile are neither searched nor sorted by."""
        response = tenant.owner.post(USERS, json=body)
        assert (response.status_code, list(violations(response))) == (400, [field])


@pytest.fixture
def alone(short_dir: Path) -> Iterator[Api]:
    """Call a server of the test's own with its first token."""
    running = Server(short_dir / "no-people").start()
    with running.client() as client:
        yield client
    assert running.stop() == 0
    assert "unexpected" not in running.log(), running.log()


@pytest.mark.soak
def test_the_schema_is_found_by_its_id_and_may_go(alone: Api) -> None:
    """Renamed it stays what it is; narrowed it says so in terms of v2; inactive or deleted it is refused so."""
    user_id = make(alone)
    schema_id = alone.ok("GET", f"/v3alpha/users/{user_id}")["user"]["schema"]["id"]
    at = f"/v3alpha/user_schemas/{schema_id}"
    document = alone.ok("GET", at)["schema"]["schema"]
    alone.ok("PUT", at, {"type": "someone"})
    assert alone.ok("GET", f"/v3alpha/users/{make(alone)}")["user"]["schema"]["type"] == "someone"
    document["properties"]["profile"]["properties"]["givenName"]["maxLength"] = 3
    alone.ok("PUT", at, {"schema": document})
    body = {"profile": PROFILE, "email": {"email": address(), "isVerified": True}}
    refused = alone.post(f"{USERS}/human", json=body)
    assert (reason(refused), violations(refused)) == ("DATA_INVALID", {"profile/givenName": "maxLength"})
    v1 = alone.put(f"/management/v1/users/{user_id}/profile", json={"firstName": "Minerva", "lastName": "M"})
    assert (reason(v1), violations(v1)) == ("DATA_INVALID", {"firstName": "maxLength"})
    alone.ok("POST", f"{at}/deactivate")
    refused = alone.post(f"{USERS}/human", json=body)
    assert (refused.status_code, refused.json()["code"], reason(refused)) == (400, 9, "SCHEMA_INACTIVE")
    found = alone.ok("POST", USERS)["result"]
    for each in found:
        alone.ok("DELETE", f"{USERS}/{each['userId']}")
    alone.ok("DELETE", at)
    other = alone.ok("POST", "/v3alpha/user_schemas", {"type": "human", "schema": {}})["id"]
    stranger = alone.ok("POST", "/v3alpha/users", {"schemaId": other})["userId"]
    deadline = time.monotonic() + 3
    while reason(alone.get(f"{USERS}/{stranger}")) != "HUMAN_SCHEMA_MISSING":
        assert time.monotonic() < deadline, "within a second the deletion is known"
    for response in (alone.post(f"{USERS}/human", json=body), alone.post(USERS), update(alone, stranger, {})):
        assert (response.status_code, response.json()["code"]) == (400, 9)
        assert reason(response) == "HUMAN_SCHEMA_MISSING"


async def test_a_database_of_before_learns_which_schema_it_is(rooms: Rooms) -> None:
    """The next start notes it if it still has its name; an organization's own schema of that name is not meant."""
    wiring = rooms.wiring
    shipped = await wiring.instance.fact(HUMAN_SCHEMA)
    await rooms.instance.forget(HUMAN_SCHEMA)
    await create_schema(wiring, OPERATOR, CreateSchema("human", {}, "default"))
    started = InstanceStore(rooms.database, wiring.keyring)
    assert await started.fact(HUMAN_SCHEMA) is None
    await prepare(wiring, started)
    assert shipped is not None
    assert await started.fact(HUMAN_SCHEMA) == shipped
    await rooms.instance.forget(HUMAN_SCHEMA)
    await update_schema(wiring, SchemaTarget(OPERATOR, shipped), UpdateSchema(type="someone"))
    started = InstanceStore(rooms.database, wiring.keyring)
    await prepare(wiring, started)
    assert await started.fact(HUMAN_SCHEMA) is None
