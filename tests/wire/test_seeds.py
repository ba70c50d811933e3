"""The five documented operations, each by the curl command of its page, compared with the answer that the page shows.

Host, token and ids are replaced, and nothing else; where a page has no command, it is written in the manner of the
others out of the fields that the page lists.
"""

from __future__ import annotations

import json
import re
import shlex
import subprocess
from typing import Any, Final

import httpx
import pytest

from tests.conftest import Api, Server, reason, violations

HEADERS: Final = """\
-H 'Content-Type: application/json' \\
-H 'Accept: application/json' \\
-H 'Authorization: Bearer <TOKEN>' \\
"""

UPDATE_HUMAN: Final = (
    "curl -L -X PUT 'https://$CUSTOM-DOMAIN/v2/users/human/:userId' \\\n"
    + HEADERS
    + """--data-raw '{
"username": "minnie-mouse",
"profile": {
"givenName": "Minnie",
"familyName": "Mouse",
"nickName": "Mini",
"displayName": "Minnie Mouse",
"preferredLanguage": "en",
"gender": "GENDER_FEMALE"
},
"email": {
"email": "mini@mouse.com",
"sendCode": {
"urlTemplate": "https://example.com/email/verify?userID={{.UserID}}&code={{.Code}}&orgID={{.OrgID}}"
},
"returnCode": {},
"isVerified": true
},
"phone": {
"phone": "+41791234567",
"sendCode": {},
"returnCode": {},
"isVerified": true
},
"password": {
"password": {
"password": "Secr3tP4ssw0rd!",
"changeRequired": true
},
"hashedPassword": {
"hash": "$2a$12$lJ08fqVr8bFJilRVnDT9QeULI7YW.nT3iwUv6dyg0aCrfm3UY8XR2",
"changeRequired": true
},
"currentPassword": "Secr3tP4ssw0rd!",
"verificationCode": "SKJd342k"
}
}'"""
)
UPDATE_EMAIL: Final = (
    "curl -L -X PUT 'https://$ZITADEL_DOMAIN/management/v1/users/:userId/email' \\\n"
    + HEADERS
    + """--data-raw '{
"email": "gigi@zitadel.com",
"isEmailVerified": true
}'"""
)
UPDATE_PROFILE: Final = (
    "curl -L -X PUT 'https://$ZITADEL_DOMAIN/management/v1/users/:userId/profile' \\\n"
    + HEADERS
    + """--data-raw '{
"firstName": "Minnie",
"lastName": "Mouse",
"nickName": "Mini",
"displayName": "Minnie Mouse",
"preferredLanguage": "en",
"gender": "GENDER_FEMALE"
}'"""
)
UPDATE_USER: Final = (
    "curl -L -X PUT 'https://$CUSTOM-DOMAIN/v3alpha/users/:userId' \\\n"
    + HEADERS
    + """--data-raw '{
"contact": {
"email": {
"address": "mini@mouse.com",
"returnCode": {}
},
"phone": {
"number": "+41791234567",
"returnCode": {}
}
},
"schemaId": ":schemaId",
"data": {
"profile": {
"givenName": "Minerva",
"familyName": "Mouse"
}
}
}'"""
)

DETAILS: Final = {
    "sequence": "2",
    "changeDate": "2025-03-25T16:00:34.438Z",
    "resourceOwner": "69629023906488334",
    "creationDate": "2025-03-25T16:00:34.438Z",
}
OF_V2: Final = {"details": DETAILS, "emailCode": "string", "phoneCode": "string"}
OF_V1: Final = {"details": DETAILS}
REFUSED: Final = {"code": 0, "message": "string", "details": [{"@type": "string"}]}
ALTERNATIVES: Final = ("sendCode", "returnCode", "isVerified")


def command(text: str, api: Api, ids: dict[str, str], body: Any = None) -> list[str]:
    """Put host, token and ids into a documented command; with ``body``, that in the place of its own."""
    text = re.sub(r"https://\$[A-Z_-]+", str(api.base_url), text).replace("<TOKEN>", api.token)
    for name, value in ids.items():
        text = text.replace(f":{name}", value)
    words = shlex.split(text.replace("\\\n", ""))
    if body is not None:
        words[words.index("--data-raw") + 1] = json.dumps(body)
    return words


def run(words: list[str]) -> httpx.Response:
    """Run curl, and read what it prints."""
    ended = subprocess.run(
        [*words, "--silent", "--show-error", "--write-out", "\n%{http_code}"],
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    answer, _, status = ended.stdout.rpartition("\n")
    return httpx.Response(int(status), text=answer)


def documented(text: str) -> Any:
    """Read the body of a documented command."""
    words = shlex.split(text.replace("\\\n", ""))
    return json.loads(words[words.index("--data-raw") + 1])


def shape(value: Any) -> Any:
    """Give the form of an answer: names and types, of lists that of their first item, of texts what they look like."""
    if isinstance(value, dict):
        return {name: shape(member) for name, member in value.items()}
    if isinstance(value, list):
        return [shape(value[0])] if value else []
    if isinstance(value, str):
        return "time" if re.fullmatch(r"\d{4}-\d\d-\d\d(T[\d:.]+Z)?", value) else "text"
    return type(value).__name__


def assert_refused(said: httpx.Response, status: int) -> None:
    """Demand the shape of the documented refusals; a detail has members of its own beside its type."""
    assert said.status_code == status
    assert shape(said.json()).keys() == shape(REFUSED).keys()
    assert isinstance(said.json()["code"], int)
    assert all(isinstance(each["@type"], str) for each in said.json()["details"])


@pytest.fixture
def ids(admin: Api) -> dict[str, str]:
    """Make a person, in the caller's own organization."""
    body = {"profile": {"givenName": "M", "familyName": "M"}, "email": {"email": "m@example.com"}}
    rehearsed = admin.post("/v2/users/human?validateOnly=true", json=body)
    name = f"seed-{rehearsed.json()['userId']}"
    user_id = admin.ok("POST", "/v2/users/human", {**body, "username": name})["userId"]
    schema_id = admin.ok("GET", f"/v3alpha/users/{user_id}")["user"]["schema"]["id"]
    return {"userId": user_id, "schemaId": schema_id}


def one_of(body: Any, chosen: str) -> Any:
    """Give the documented body with one of the alternatives for each address and for the password, without a proof."""
    kept = "hashedPassword" if chosen == "returnCode" else "password"
    body = {**body, "password": {kept: body["password"][kept]}}
    for channel in ("email", "phone"):
        body[channel] = {k: v for k, v in body[channel].items() if k == chosen or k not in ALTERNATIVES}
    return body


def test_the_command_of_v2_sets_all_alternatives_at_once(admin: Api, ids: dict[str, str]) -> None:
    """It is an illustration: it is refused, and each place where one must be chosen is named."""
    said = run(command(UPDATE_HUMAN, admin, ids))
    assert_refused(said, 400)
    assert reason(said) == "FIELD_INVALID"
    assert violations(said) == {
        "email/isVerified": "alternatives",
        "phone/isVerified": "alternatives",
        "password/hashedPassword": "alternatives",
        "password/verificationCode": "alternatives",
    }


@pytest.mark.parametrize("chosen", ALTERNATIVES)
def test_the_command_of_v2_with_one_alternative(server: Server, admin: Api, ids: dict[str, str], chosen: str) -> None:
    """The documented answer; codes are in it only if they were asked for."""
    said = run(command(UPDATE_HUMAN, admin, ids, one_of(documented(UPDATE_HUMAN), chosen)))
    assert said.status_code == 200
    expected = shape(OF_V2) if chosen == "returnCode" else {"details": shape(DETAILS)}
    assert shape(said.json()) == expected
    user = admin.ok("GET", f"/v2/users/{ids['userId']}")["user"]
    assert user["username"] == "minnie-mouse"
    assert user["human"]["profile"] == documented(UPDATE_HUMAN)["profile"]
    assert user["human"]["email"] == {"email": "mini@mouse.com", "isVerified": chosen == "isVerified"}
    assert user["human"]["phone"] == {"phone": "+41791234567", "isVerified": chosen == "isVerified"}
    if chosen != "returnCode":
        path = f"/v3alpha/users/{ids['userId']}/password/verify"
        assert admin.ok("POST", path, {"password": "Secr3tP4ssw0rd!"})["changeRequired"] is True
    admin.ok("DELETE", f"/v2/users/{ids['userId']}")


@pytest.mark.parametrize("text", [UPDATE_EMAIL, UPDATE_PROFILE], ids=["email", "profile"])
@pytest.mark.parametrize("prefix", ["/management/v1", ""], ids=["prefixed", "bare"])
def test_the_commands_of_v1(admin: Api, ids: dict[str, str], text: str, prefix: str) -> None:
    """The documented answer at both paths; a second time nothing changes, and that is refused."""
    words = command(text.replace("/management/v1", prefix), admin, ids)
    said = run(words)
    assert (said.status_code, shape(said.json())) == (200, shape(OF_V1))
    again = run(words)
    assert_refused(again, 400)
    assert (again.json()["code"], reason(again)) == (9, "USER_UNCHANGED")


def test_the_command_of_v3alpha(admin: Api, ids: dict[str, str]) -> None:
    """The documented answer, with the two codes that were asked for."""
    said = run(command(UPDATE_USER, admin, ids))
    assert said.status_code == 200
    assert shape(said.json()) == shape(OF_V2)


@pytest.mark.parametrize(
    "text", [UPDATE_HUMAN, UPDATE_EMAIL, UPDATE_PROFILE, UPDATE_USER], ids=["human", "email", "profile", "user"]
)
def test_documented_refusals(server: Server, admin: Api, ids: dict[str, str], text: str) -> None:
    """404 for an unknown user, 403 for a caller without the permission; both of the documented shape."""
    body = one_of(documented(text), "isVerified") if text == UPDATE_HUMAN else None
    nobody = run(command(text, admin, {**ids, "userId": "999999999999999991"}, body))
    assert_refused(nobody, 404)
    token = {"name": "viewer", "roles": [{"role": "ORG_USER_VIEWER", "organizationId": "default"}]}
    with server.client(admin.ok("POST", "/v3alpha/tokens", token)["token"]) as viewer:
        assert_refused(run(command(text, viewer, ids, body)), 403)
