"""Passwords over HTTP: set, compared with, set anew by a code; and what they give away."""

from __future__ import annotations

import itertools
import re
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from html import unescape
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import bcrypt
import httpx
import pytest
from pymongo import MongoClient

from schema_user.api.pages.words import WORDS
from schema_user.store.embedded import socket_uri
from tests.conftest import ANY_TLS, reason, violations
from tests.links import code_in, links_to, wrong

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.conftest import Api, Server, Tenant

GOOD, OTHER = "Secr3tP4ssw0rd!", "An0ther s3cret"
USERS = "/v3alpha/users"
# bcrypt with the least cost that it takes, so that comparing costs nothing here.
FOREIGN = bcrypt.hashpw(GOOD.encode(), bcrypt.gensalt(4)).decode()
_numbers = itertools.count(1)


def of(user_id: str, word: str = "") -> str:
    """Give the path of a user's password, or of what is done with it."""
    return f"{USERS}/{user_id}/password{word}"


def stored(server: Server, user_id: str) -> dict[str, Any]:
    """Look at what the database knows of a user's password."""
    with MongoClient[Any](socket_uri(server.data_dir), tz_aware=True) as client:
        (user,) = client.schema_user.users.find({"_id": user_id})
        found: dict[str, Any] = user.get("credential", {})
        return found


def change(server: Server, user_id: str, **fields: Any) -> None:
    """Change what the database knows of a user's password."""
    with MongoClient[Any](socket_uri(server.data_dir), tz_aware=True) as client:
        put = {f"credential.{name}": value for name, value in fields.items()}
        client.schema_user.users.update_one({"_id": user_id}, {"$set": put})


def later(server: Server, user_id: str, by: timedelta) -> None:
    """Let time pass for the codes for a new password, and for the lock of a password."""
    found = stored(server, user_id)
    codes = [{**each, "expires_at": each["expires_at"] - by} for each in found.get("codes", ())]
    asked = [each - by for each in found.get("codes_asked", ())]
    fields = {"codes": codes, "codes_asked": asked}
    if "locked_until" in found:
        fields["locked_until"] = found["locked_until"] - by
    change(server, user_id, **fields)


def with_password(tenant: Tenant, **more: Any) -> str:
    """Make a user whose password is kept by a hash from elsewhere, and nothing else."""
    user_id = tenant.user(**more)
    tenant.owner.ok("POST", of(user_id), {"hashedPassword": {"hash": FOREIGN}})
    return user_id


def refused(response: httpx.Response, status: int, code: int, why: str) -> httpx.Response:
    """Demand a refusal."""
    assert (response.status_code, response.json()["code"], reason(response)) == (status, code, why), response.text
    return response


@pytest.fixture(scope="module")
def visitor() -> Iterator[httpx.Client]:
    """Give a browser that is nobody's."""
    with httpx.Client(timeout=30, verify=ANY_TLS) as made:
        yield made


@pytest.fixture
def human(tenant: Tenant) -> Iterator[tuple[str, Api]]:
    """Give a person with a verified address, and a caller that is the person."""
    body = {
        "profile": {"givenName": "Minnie", "familyName": "Mouse"},
        "email": {"email": f"pw-{next(_numbers)}@example.com", "isVerified": True},
        "hashedPassword": {"hash": FOREIGN, "changeRequired": True},
    }
    user_id = tenant.owner.ok("POST", "/v2/users/human", body)["userId"]
    with tenant.caller(user_id=user_id) as itself:
        yield user_id, itself


class TestSetting:
    def test_one_that_is_set_is_right_and_no_other(self, tenant: Tenant) -> None:
        """It is kept as argon2id; the answer says whether it must be changed; only a new one raises the sequence."""
        user_id = tenant.user()
        body = {"newPassword": {"password": GOOD, "changeRequired": True}}
        assert tenant.owner.ok("POST", of(user_id), body)["details"]["sequence"] == "2"
        assert stored(tenant.server, user_id)["encoded"].startswith("$argon2id$v=19$m=19456,t=2,p=1$")
        refused(tenant.owner.post(of(user_id, "/verify"), json={"password": OTHER}), 400, 3, "PASSWORD_INVALID")
        right = tenant.owner.post(of(user_id, "/verify"), json={"password": GOOD})
        assert right.json()["changeRequired"] is True
        assert (right.json()["details"]["sequence"], right.headers["etag"]) == ("2", '"2"')

    def test_all_that_is_wrong_with_it_is_said_at_once(self, tenant: Tenant) -> None:
        """Each rule by its name at the password's place, and nothing of the password anywhere."""
        user_id = tenant.user()
        said = refused(
            tenant.owner.post(of(user_id), json={"newPassword": {"password": "short"}}), 400, 3, "PASSWORD_POLICY"
        )
        (detail,) = (each for each in said.json()["details"] if "fieldViolations" in each)
        assert {each["field"] for each in detail["fieldViolations"]} == {"newPassword/password"}
        kinds = {each["reason"] for each in detail["fieldViolations"]}
        assert kinds == {"minLength", "hasUppercase", "hasNumber", "hasSymbol"}
        assert "hort" not in said.text

    @pytest.mark.parametrize(
        ("body", "field", "why"),
        [
            ({}, "newPassword", "required"),
            ({"newPassword": {"password": "Aa1!" + "ä" * 197}}, "newPassword/password", "maxLength"),
            ({"newPassword": {"password": ""}}, "newPassword/password", "minLength"),
            ({"newPassword": {"password": GOOD + "\x07"}}, "newPassword/password", "characters"),
            (
                {"newPassword": {"password": GOOD}, "hashedPassword": {"hash": FOREIGN}},
                "hashedPassword",
                "alternatives",
            ),
            (
                {"newPassword": {"password": GOOD}, "currentPassword": GOOD, "verificationCode": "A"},
                "verificationCode",
                "alternatives",
            ),
            ({"hashedPassword": {"hash": "$argon2id$v=19$m=4194304,t=1,p=1$c2FsdHNhbHQ$" + "A" * 43}}, "", "hash"),
            ({"hashedPassword": {"hash": "$2b$31$" + "." * 53}}, "", "hash"),
            ({"hashedPassword": {"hash": "$6$rounds=999999999$salt$" + "." * 86}}, "", "hash"),
            ({"hashedPassword": {"hash": GOOD}}, "", "hash"),
        ],
    )
    def test_what_is_no_password(self, tenant: Tenant, body: dict[str, Any], field: str, why: str) -> None:
        """Two alternatives at once, none, one that is too long, a hash that would cost too much: nothing is stored."""
        user_id = tenant.user()
        said = tenant.owner.post(of(user_id), json=body)
        assert (said.status_code, violations(said)) == (400, {field or "hashedPassword/hash": why}), said.text
        assert stored(tenant.server, user_id) == {}

    def test_two_hundred_characters_are_not_too_many(self, tenant: Tenant) -> None:
        """They are counted as code points, however many bytes they have."""
        user_id = tenant.user()
        longest = "Aa1!" + "\U0001f600" * 196
        tenant.owner.ok("POST", of(user_id), {"newPassword": {"password": longest}})
        tenant.owner.ok("POST", of(user_id, "/verify"), {"password": longest})
        refused(tenant.owner.post(of(user_id, "/verify"), json={"password": longest + "x"}), 400, 3, "FIELD_INVALID")

    def test_the_user_itself_needs_a_proof(self, human: tuple[str, Api]) -> None:
        """The password until now will do, a wrong one won't, none and a hash need ``user.write``."""
        user_id, itself = human
        new = {"newPassword": {"password": OTHER}}
        said = refused(itself.post(of(user_id), json=new), 403, 7, "PERMISSION_MISSING")
        assert violations(said) == {"newPassword/password": "permission"}
        hashed = {"hashedPassword": {"hash": FOREIGN}, "currentPassword": GOOD}
        said = refused(itself.post(of(user_id), json=hashed), 403, 7, "PERMISSION_MISSING")
        assert violations(said) == {"hashedPassword/hash": "permission"}
        said = refused(itself.post(of(user_id), json={**new, "currentPassword": OTHER}), 400, 3, "PASSWORD_INVALID")
        assert violations(said) == {"currentPassword": "password"}
        refused(itself.post(of(user_id, "/verify"), json={"password": GOOD}), 403, 7, "PERMISSION_MISSING")
        itself.ok("POST", of(user_id), {**new, "currentPassword": GOOD})
        again = itself.post(of(user_id), json={**new, "currentPassword": GOOD})
        refused(again, 400, 3, "PASSWORD_INVALID")

    def test_a_person_is_updated_with_it_or_not_at_all(self, tenant: Tenant, human: tuple[str, Api]) -> None:
        """In v2 it stands in the update: with a wrong proof nothing changes, and a rehearsal is no way to try."""
        user_id, itself = human
        path = f"/v2/users/human/{user_id}"
        profile = {"givenName": "Minerva", "familyName": "Mouse"}
        proven: dict[str, Any] = {"password": {"password": OTHER}, "currentPassword": "wrong"}
        body = {"profile": profile, "password": proven}
        for query in ("", "?validateOnly=true"):
            said = refused(itself.put(path + query, json=body), 400, 3, "PASSWORD_INVALID")
            assert violations(said) == {"password/currentPassword": "password"}
        assert stored(tenant.server, user_id)["failed"] == 2
        assert itself.ok("GET", f"/v2/users/{user_id}")["user"]["human"]["profile"]["givenName"] == "Minnie"
        proven["currentPassword"] = GOOD
        itself.ok("PUT", path + "?validateOnly=true", body)
        assert stored(tenant.server, user_id)["generation"] == 1
        itself.ok("PUT", path, body)
        assert itself.ok("GET", f"/v2/users/{user_id}")["user"]["human"]["profile"]["givenName"] == "Minerva"
        tenant.owner.ok("POST", of(user_id, "/verify"), {"password": OTHER})

    def test_the_operation_of_v2(self, tenant: Tenant, human: tuple[str, Api]) -> None:
        """It is the same, for people only."""
        user_id, itself = human
        body = {"newPassword": {"password": OTHER}, "currentPassword": GOOD}
        assert itself.ok("POST", f"/v2/users/{user_id}/password", body)["details"]["sequence"] == "2"
        other = tenant.owner.post(f"/v2/users/{tenant.user()}/password", json={"newPassword": {"password": OTHER}})
        refused(other, 400, 9, "USER_NOT_HUMAN")

    def test_history_and_webhooks_tell_that_and_not_what(self, tenant: Tenant) -> None:
        """The history names the place without values, and the user as it was can still be read."""
        user_id = with_password(tenant)
        tenant.owner.ok("PUT", f"{USERS}/{user_id}", {"data": {"name": "Daisy"}})
        entries = tenant.owner.ok("GET", f"{USERS}/{user_id}/history")["result"]
        assert entries[1]["changes"] == [{"pointer": "/password"}]
        assert tenant.owner.ok("GET", f"{USERS}/{user_id}/history?at=1")["user"]["data"] == {"name": "Minnie"}
        assert FOREIGN not in str(entries)
        assert "$2b$" not in tenant.owner.get(f"{USERS}/{user_id}").text

    def test_a_repetition_under_a_key(self, human: tuple[str, Api]) -> None:
        """It is answered as before, though the password until now is another one by now."""
        user_id, itself = human
        body = {"newPassword": {"password": OTHER}, "currentPassword": GOOD}
        headers = {"Idempotency-Key": "set it once"}
        first = itself.post(of(user_id), json=body, headers=headers)
        again = itself.post(of(user_id), json=body, headers=headers)
        assert (first.status_code, again.content) == (200, first.content)
        assert again.headers["idempotent-replayed"] == "true"

    def test_policy_of_an_organization(self, tenant: Tenant) -> None:
        """It may ask for more than the instance's, never for less; it holds for the next password."""
        path = f"/v3alpha/organizations/{tenant.organization_id}"
        weaker = {"settings": {"passwordPolicy": {"minLength": 7, "hasSymbol": False, "hasNumber": True}}}
        said = refused(tenant.owner.put(path, json=weaker), 400, 3, "FIELD_INVALID")
        places = {f"settings/passwordPolicy/{name}": "minimum" for name in ("minLength", "hasSymbol")}
        assert violations(said) == places
        tenant.owner.ok("PUT", path, {"settings": {"passwordPolicy": {"minLength": 20}}})
        assert tenant.owner.ok("GET", path)["organization"]["settings"]["passwordPolicy"] == {"minLength": 20}
        said = tenant.owner.post(of(tenant.user()), json={"newPassword": {"password": GOOD}})
        assert violations(refused(said, 400, 3, "PASSWORD_POLICY")) == {"newPassword/password": "minLength"}


class TestComparing:
    def test_a_right_one_from_elsewhere_is_hashed_anew(self, tenant: Tenant) -> None:
        """It is argon2id afterwards, nothing that a client sees changed, and it is still right."""
        user_id = with_password(tenant)
        for _ in range(2):
            right = tenant.owner.ok("POST", of(user_id, "/verify"), {"password": GOOD})
            assert (right["details"]["sequence"], right["changeRequired"]) == ("2", False)
            found = stored(tenant.server, user_id)
            assert (found["encoded"][:10], found["generation"], "failed" in found) == ("$argon2id$", 1, False)

    def test_wrong_ones_lock_exactly(self, tenant: Tenant) -> None:
        """Of twenty at once ten are compared; then the right one is not either, until the time is over."""
        user_id = with_password(tenant)

        def attempt(_: int) -> httpx.Response:
            return tenant.owner.post(of(user_id, "/verify"), json={"password": OTHER})

        with ThreadPoolExecutor(20) as threads:
            said = list(threads.map(attempt, range(20)))
        assert sorted(each.status_code for each in said) == [400] * 10 + [429] * 10
        left = [each.json()["details"][0]["metadata"]["attemptsLeft"] for each in said if each.status_code == 400]
        assert sorted(map(int, left)) == list(range(10))
        assert stored(tenant.server, user_id)["failed"] == 10
        locked = tenant.owner.post(of(user_id, "/verify"), json={"password": GOOD})
        refused(locked, 429, 8, "PASSWORD_ATTEMPTS_EXHAUSTED")
        assert 890 <= int(locked.headers["retry-after"]) <= 900
        with tenant.caller(user_id=user_id) as itself:
            body = {"newPassword": {"password": OTHER}, "currentPassword": GOOD}
            refused(itself.post(of(user_id), json=body), 429, 8, "PASSWORD_ATTEMPTS_EXHAUSTED")
        later(tenant.server, user_id, timedelta(minutes=15))
        tenant.owner.ok("POST", of(user_id, "/verify"), {"password": GOOD})
        assert "failed" not in stored(tenant.server, user_id)

    def test_right_ones_at_once_lock_nobody(self, tenant: Tenant) -> None:
        """More of them than may be wrong in a row are all right: none is taken for a wrong one that is under way."""
        user_id = with_password(tenant)
        with ThreadPoolExecutor(16) as threads:
            said = list(
                threads.map(lambda _: tenant.owner.post(of(user_id, "/verify"), json={"password": GOOD}), range(16))
            )
        assert {each.status_code for each in said} == {200}

    def test_a_new_password_ends_the_lock(self, tenant: Tenant) -> None:
        """It is another one, of which nobody tried anything."""
        user_id = with_password(tenant)
        change(tenant.server, user_id, failed=9)
        refused(tenant.owner.post(of(user_id, "/verify"), json={"password": OTHER}), 400, 3, "PASSWORD_INVALID")
        assert tenant.owner.post(of(user_id, "/verify"), json={"password": GOOD}).status_code == 429
        tenant.owner.ok("POST", of(user_id), {"newPassword": {"password": OTHER}})
        tenant.owner.ok("POST", of(user_id, "/verify"), {"password": OTHER})

    def test_who_has_none_and_who_is_not_active(self, tenant: Tenant) -> None:
        """Without a password every one is wrong, and counted; of a user who is locked or inactive none is compared."""
        user_id = tenant.user()
        said = tenant.owner.post(of(user_id, "/verify"), json={"password": GOOD})
        refused(said, 400, 3, "PASSWORD_INVALID")
        assert stored(tenant.server, user_id)["failed"] == 1
        user_id = with_password(tenant)
        for verb, back in (("lock", "unlock"), ("deactivate", "reactivate")):
            tenant.owner.ok("POST", f"{USERS}/{user_id}/{verb}")
            said = tenant.owner.post(of(user_id, "/verify"), json={"password": GOOD})
            refused(said, 400, 9, "USER_NOT_ACTIVE")
            tenant.owner.ok("POST", f"{USERS}/{user_id}/{back}")
        assert "failed" not in stored(tenant.server, user_id)
        missing = tenant.owner.post(of("999999999999999991", "/verify"), json={"password": GOOD})
        refused(missing, 404, 5, "USER_NOT_FOUND")

    def test_deletion_erases_it(self, tenant: Tenant) -> None:
        """Nothing of a password stays behind."""
        user_id = with_password(tenant)
        tenant.owner.ok("DELETE", f"{USERS}/{user_id}")
        assert stored(tenant.server, user_id) == {}


class TestReset:
    def test_a_returned_code_sets_a_password_once(self, tenant: Tenant, human: tuple[str, Api]) -> None:
        """Only ``user.write`` is given one; it is upper-cased, works once, and no other code is left with it."""
        user_id, itself = human
        refused(itself.post(of(user_id, "/reset"), json={"returnCode": {}}), 403, 7, "PERMISSION_MISSING")
        code = tenant.owner.ok("POST", of(user_id, "/reset"), {"returnCode": {}})["verificationCode"]
        body = {"newPassword": {"password": OTHER}, "verificationCode": wrong(code)}
        refused(itself.post(of(user_id), json=body), 400, 3, "CODE_INVALID")
        said = refused(itself.post(of(user_id), json=body), 400, 3, "CODE_INVALID")
        assert said.json()["details"][0]["metadata"] == {"attemptsLeft": "3"}
        body["verificationCode"] = code.lower()
        itself.ok("POST", of(user_id), body)
        refused(itself.post(of(user_id), json=body), 400, 9, "CODE_NOT_PENDING")
        tenant.owner.ok("POST", of(user_id, "/verify"), {"password": OTHER})

    def test_of_several_at_once_one_sets_it(self, tenant: Tenant, human: tuple[str, Api]) -> None:
        """A code is used up by the write that sets the password."""
        user_id, itself = human
        code = tenant.owner.ok("POST", of(user_id, "/reset"), {"returnCode": {}})["verificationCode"]

        def attempt(number: int) -> int:
            body = {"newPassword": {"password": f"{OTHER} {number}"}, "verificationCode": code}
            return itself.post(of(user_id), json=body).status_code

        with ThreadPoolExecutor(6) as threads:
            assert sorted(threads.map(attempt, range(6))) == [200] + [400] * 5
        assert stored(tenant.server, user_id)["generation"] == 2

    def test_five_wrong_codes_and_a_rehearsal_is_no_way_around(self, tenant: Tenant, human: tuple[str, Api]) -> None:
        """Then the right one is refused too; another code has a budget of its own, at the earliest in 30 seconds."""
        user_id, itself = human
        code = tenant.owner.ok("POST", of(user_id, "/reset"), {"returnCode": {}})["verificationCode"]
        path = f"/v2/users/human/{user_id}?validateOnly=true"
        body = {"password": {"password": {"password": OTHER}, "verificationCode": wrong(code)}}
        for _ in range(5):
            said = refused(itself.put(path, json=body), 400, 3, "CODE_INVALID")
            assert violations(said) == {"password/verificationCode": "code"}
        body["password"]["verificationCode"] = code
        refused(itself.put(path, json=body), 429, 8, "CODE_ATTEMPTS_EXHAUSTED")
        soon = refused(tenant.owner.post(of(user_id, "/reset"), json={"returnCode": {}}), 429, 8, "RESEND_TOO_SOON")
        assert 1 <= int(soon.headers["retry-after"]) <= 30
        later(tenant.server, user_id, timedelta(seconds=30))
        code = tenant.owner.ok("POST", of(user_id, "/reset"), {"returnCode": {}})["verificationCode"]
        later(tenant.server, user_id, timedelta(hours=1))
        body["password"]["verificationCode"] = code
        refused(itself.put(path, json=body), 400, 9, "CODE_EXPIRED")

    def test_ten_in_a_day(self, tenant: Tenant, human: tuple[str, Api]) -> None:
        """No more codes are asked for, over whatever channel; a new password changes nothing about that."""
        user_id, _ = human
        for _ in range(10):
            tenant.owner.ok("POST", of(user_id, "/reset"), {"returnCode": {}})
            later(tenant.server, user_id, timedelta(minutes=1))
        tenant.owner.ok("POST", of(user_id), {"newPassword": {"password": OTHER}})
        refused(tenant.owner.post(of(user_id, "/reset"), json={"returnCode": {}}), 429, 8, "RESEND_LIMIT")

    @pytest.mark.parametrize("end", ["deactivate", "phone", "password"])
    def test_a_code_dies(self, tenant: Tenant, human: tuple[str, Api], end: str) -> None:
        """With a state other than active, a change of any address, and a new password."""
        user_id, itself = human
        code = tenant.owner.ok("POST", of(user_id, "/reset"), {"returnCode": {}})["verificationCode"]
        if end == "deactivate":
            tenant.owner.ok("POST", f"{USERS}/{user_id}/deactivate")
            tenant.owner.ok("POST", f"{USERS}/{user_id}/reactivate")
        elif end == "password":
            tenant.owner.ok("POST", of(user_id), {"newPassword": {"password": OTHER}})
        else:
            itself.ok("PUT", f"{USERS}/{user_id}/phone", {"number": "+41791234567"})
        body = {"newPassword": {"password": GOOD}, "verificationCode": code}
        refused(itself.post(of(user_id), json=body), 400, 9, "CODE_NOT_PENDING")

    def test_only_verified_addresses_get_one(self, tenant: Tenant) -> None:
        """Nobody who only claims an address gets a code for the account; nor is one made for who is not active."""
        user_id = tenant.user(contact={"email": {"address": f"pw-{next(_numbers)}@example.com", "returnCode": {}}})
        refused(tenant.owner.post(of(user_id, "/reset")), 400, 9, "CONTACT_NOT_VERIFIED")
        by_sms = {"sendLink": {"notificationType": "NOTIFICATION_TYPE_SMS"}}
        refused(tenant.owner.post(of(user_id, "/reset"), json=by_sms), 400, 9, "CONTACT_MISSING")
        both = tenant.owner.post(of(user_id, "/reset"), json={**by_sms, "returnCode": {}})
        assert violations(refused(both, 400, 3, "FIELD_INVALID")) == {"returnCode": "alternatives"}
        bad = {"sendLink": {"urlTemplate": "http://elsewhere.example/{{.Code}}"}}
        said = refused(tenant.owner.post(of(user_id, "/reset"), json=bad), 400, 3, "URL_TEMPLATE_INVALID")
        assert violations(said) == {"sendLink/urlTemplate": "urlTemplate"}
        tenant.owner.ok("POST", f"{USERS}/{user_id}/lock")
        refused(tenant.owner.post(of(user_id, "/reset"), json={"returnCode": {}}), 400, 9, "USER_NOT_ACTIVE")

    def test_a_repetition_gives_the_code_while_it_lives(self, tenant: Tenant, human: tuple[str, Api]) -> None:
        """Under a key it is given again until it is used, then left out; it is nowhere in the clear."""
        user_id, itself = human
        headers = {"Idempotency-Key": "one code"}

        def ask() -> Any:
            return tenant.owner.post(of(user_id, "/reset"), json={"returnCode": {}}, headers=headers).json()

        code = ask()["verificationCode"]
        assert ask()["verificationCode"] == code
        with MongoClient[Any](socket_uri(tenant.server.data_dir)) as client:
            database = client.schema_user
            written = str([list(database[name].find()) for name in ("users", "requests", "outbox", "history")])
            assert not re.search(rf"\b{code}\b", written)
        itself.ok("POST", of(user_id), {"newPassword": {"password": OTHER}, "verificationCode": code})
        assert "verificationCode" not in ask()


class TestPage:
    def link(self, tenant: Tenant, language: str = "en") -> tuple[str, str]:
        """Make a person who was sent a link to a new password; give its id and the link."""
        address = f"pw-{next(_numbers)}@example.com"
        body = {
            "profile": {"givenName": "Minnie", "familyName": "Mouse", "preferredLanguage": language},
            "email": {"email": address, "isVerified": True},
        }
        user_id = str(tenant.owner.ok("POST", "/v2/users/human", body)["userId"])
        tenant.owner.ok("POST", f"/v2/users/{user_id}/password_reset", {"sendLink": {}})
        return user_id, links_to(tenant.server, address)[0]

    @pytest.mark.parametrize("language", ["en", "fr"])
    def test_from_the_message_to_a_new_password(self, tenant: Tenant, visitor: httpx.Client, language: str) -> None:
        """Opening consumes nothing; mistakes are explained in the user's language; the link works once."""
        user_id, link = self.link(tenant, language)
        words = WORDS[language]
        assert urlsplit(link).path == "/ui/password/reset"
        for _ in range(2):
            shown = visitor.get(link)
            assert (shown.status_code, words["reset.heading"] in unescape(shown.text)) == (200, True)
        for password, again, problem in (
            (OTHER, GOOD, words["reset.differs"]),
            ("", "", words["reset.missing"]),
            ("aA1", "aA1", words["reset.hasSymbol"]),
        ):
            said = visitor.post(link, data={"password": password, "again": again})
            assert (said.status_code, problem in unescape(said.text)) == (400, True)
            assert not password or password not in said.text
        said = visitor.post(link, data={"password": OTHER, "again": OTHER})
        assert (said.status_code, words["reset.done"] in unescape(said.text)) == (200, True)
        assert "script" not in said.text
        tenant.owner.ok("POST", of(user_id, "/verify"), {"password": OTHER})
        used = visitor.post(link, data={"password": GOOD, "again": GOOD})
        assert (used.status_code, WORDS["en"]["neutral"] in used.text) == (404, True)

    def test_without_a_genuine_link_there_is_one_page(self, tenant: Tenant, visitor: httpx.Client) -> None:
        """Whatever is wrong, nothing is counted or set; a link of one kind does not open the other's page."""
        user_id, link = self.link(tenant)
        neutral = visitor.get(link[:-1]).text
        form = {"password": OTHER, "again": OTHER}
        other_page = link.replace("/ui/password/reset", "/ui/verify/email")
        for each in (
            visitor.post(link[:-1], data=form),
            visitor.get(other_page),
            visitor.post(link, data=form, headers={"Origin": "https://elsewhere.example"}),
            visitor.post(link, data={**form, "code": "A"}),
            visitor.post(link, json=form),
            visitor.get(link.replace(user_id, "1")),
        ):
            assert (each.status_code, each.text) == (404, neutral)
        wrong_code = link.replace(code_in(link), wrong(code_in(link)))
        assert WORDS["en"]["reset.over"] in visitor.post(wrong_code, data=form).text
        found = stored(tenant.server, user_id)
        assert (found["generation"], found["codes_failed"]) == (0, 1)

    def test_a_link_expires_with_its_code(self, tenant: Tenant, visitor: httpx.Client) -> None:
        """It says so, and that nothing was changed; nothing can be posted to it."""
        user_id, link = self.link(tenant)
        later(tenant.server, user_id, timedelta(hours=1))
        assert WORDS["en"]["reset.over"] in visitor.get(link).text
        said = visitor.post(link, data={"password": OTHER, "again": OTHER})
        assert (said.status_code, WORDS["en"]["reset.over"] in said.text) == (400, True)


def test_nothing_of_a_password_is_written_down(tenant: Tenant) -> None:
    """Neither the log nor the metrics know a password, a hash or a code for one."""
    user_id = tenant.user()
    secret = "Unheard-0f-secret"
    tenant.owner.ok("POST", of(user_id), {"newPassword": {"password": secret}})
    tenant.owner.ok("POST", of(user_id, "/verify"), {"password": secret})
    tenant.owner.post(of(user_id, "/verify"), json={"password": secret + "x"})
    seen = tenant.server.log() + tenant.admin.get("/metrics").text
    assert secret not in seen
    assert stored(tenant.server, user_id)["encoded"] not in seen
    with MongoClient[Any](socket_uri(tenant.server.data_dir)) as client:
        names = ("users", "requests", "outbox", "history", "organizations")
        assert secret not in str([list(client.schema_user[name].find()) for name in names])
