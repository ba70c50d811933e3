"""Everything that is held on a user as one document: over HTTP what the caller may read, for the operator all of it."""

from __future__ import annotations

import json
import stat
import subprocess
import sys
import time
from typing import TYPE_CHECKING, Any

import pytest

from tests.api.test_field_permissions import DATA, SEEN_BY_SELF
from tests.api.test_field_permissions import SCHEMA as GUARDED
from tests.conftest import reason

if TYPE_CHECKING:
    from pathlib import Path

    from tests.conftest import Api, Server, Tenant

PASSWORD = "Secr3tP4ssw0rd!"
EMAIL = "minnie@example.com"


def path(user_id: str) -> str:
    """Give the path of a user."""
    return f"/v3alpha/users/{user_id}"


def report(api: Api, user_id: str) -> dict[str, Any]:
    """Read a report."""
    found: dict[str, Any] = api.ok("GET", f"{path(user_id)}/access_report")
    return found


def messages(api: Api, user_id: str, count: int) -> list[dict[str, Any]]:
    """Wait until so many messages to a user are in the outbox, and done."""
    query = {"queries": [{"userIdQuery": {"id": user_id}}], "sortingColumn": "FIELD_NAME_ID", "query": {"asc": True}}
    found: list[dict[str, Any]] = []
    for _ in range(600):
        found = api.ok("POST", "/v3alpha/messages/search", query)["result"]
        if len(found) >= count and all("doneDate" in each for each in found):
            return found
        time.sleep(0.05)
    raise AssertionError(found)


@pytest.fixture
def guarded(tenant: Tenant) -> Tenant:
    """Give an organization whose schema has field permissions."""
    tenant.schema_id = tenant.owner.ok("POST", "/v3alpha/user_schemas", {"type": "guarded", "schema": GUARDED})["id"]
    return tenant


def test_the_owner_gets_all_that_is_told_elsewhere(tenant: Tenant) -> None:
    """The user, its tokens, messages and history as their own operations give them, and facts of password and codes."""
    mail = {"email": {"address": EMAIL, "sendCode": {}}}
    user_id = tenant.user(username="minnie", contact=mail)
    hidden = {"newPassword": {"password": PASSWORD, "changeRequired": True}}
    tenant.owner.ok("POST", f"{path(user_id)}/password", hidden)
    code = tenant.owner.ok("POST", f"{path(user_id)}/password/reset", {"returnCode": {}})["verificationCode"]
    token = tenant.owner.ok("POST", "/v3alpha/tokens", {"name": "her phone", "userId": user_id})
    sent = messages(tenant.owner, user_id, 1)
    response = tenant.owner.get(f"{path(user_id)}/access_report")
    assert response.headers["content-type"] == "application/json"
    found = response.json()
    assert found["user"] == tenant.owner.ok("GET", path(user_id))["user"]
    assert found["history"] == tenant.owner.ok("GET", f"{path(user_id)}/history")["result"]
    assert found["tokens"] == [tenant.owner.ok("GET", f"/v3alpha/tokens/{token['tokenId']}")["token"]]
    assert found["messages"] == sent
    assert sent[0]["recipient"] != EMAIL
    details = found["user"]["details"]
    assert details["creationDate"] < found["password"].pop("changeDate") <= details["changeDate"]
    assert found["password"] == {"changeRequired": True, "timesSet": 1, "wrongTries": 0}
    assert [each["purpose"] for each in found["codes"]] == ["email", "password"]
    assert [each["purpose"] for each in found["askedCodes"]] == ["password"]
    assert found["claims"] == [{"kind": "username", "count": 1}]
    assert found["leftOut"] == []
    assert not any(secret in response.text for secret in ("$argon2", PASSWORD, code, token["token"]))


def test_a_caller_gets_no_more_than_it_may_read(guarded: Tenant) -> None:
    """Neither hidden fields, nor their past, nor what needs another permission; what is left out is named."""
    user_id = guarded.user(data=DATA)
    with guarded.caller("ORG_USER_VIEWER") as viewer, guarded.caller(user_id=user_id) as self_:
        user = self_.ok("GET", path(user_id))["user"]
        guarded.owner.ok("POST", f"{path(user_id)}/lock")
        guarded.owner.ok("POST", f"{path(user_id)}/unlock")
        self_.ok("PUT", path(user_id), {"data": {**SEEN_BY_SELF, "pin": "4711-hidden"}})
        found = report(viewer, user_id)
        assert user["data"] == SEEN_BY_SELF
        assert found["leftOut"] == ["messages", "tokens"]
        assert found["messages"] == found["tokens"] == []
        assert len(found["history"]) == 4
        assert "hidden" not in json.dumps([found, report(guarded.owner, user_id)])
        assert reason(self_.get(f"{path(user_id)}/access_report")) == "PERMISSION_MISSING"


def test_a_long_history_is_whole(tenant: Tenant) -> None:
    """Though it is read page by page: each entry is there once, and the document is one."""
    user_id = tenant.user()
    for letter in "abc":
        tenant.owner.ok("PUT", path(user_id), {"data": {"name": "Minnie", "extra": letter * 900_000}})
    assert "nextPageToken" in tenant.owner.ok("GET", f"{path(user_id)}/history")
    assert [each["sequence"] for each in report(tenant.owner, user_id)["history"]] == ["4", "3", "2", "1"]


def test_the_operator_gets_everything(guarded: Tenant, server: Server, tmp_path: Path) -> None:
    """Hidden fields and their past among it, into a file that nobody else may read; nothing of whom there is none."""
    user_id, out = guarded.user(data=DATA), tmp_path / "report.json"
    with guarded.caller(user_id=user_id) as self_:
        for pin in ("4711-hidden", "4712-hidden"):
            self_.ok("PUT", path(user_id), {"data": {**SEEN_BY_SELF, "pin": pin}})

    def command(*arguments: str) -> subprocess.CompletedProcess[str]:
        whole = [sys.executable, "-m", "schema_user.cli", "users", "access", *arguments]
        return subprocess.run(whole, env=server.env(), capture_output=True, text=True, timeout=120, check=False)

    done = command(user_id, "--out", str(out))
    assert (done.returncode, done.stdout) == (0, ""), done.stderr
    found = json.loads(out.read_bytes())
    assert found["user"]["data"] == {**DATA, "pin": "4712-hidden"}
    assert {"pointer": "/data/pin", "old": "4711-hidden", "new": "4712-hidden"} in found["history"][0]["changes"]
    assert len(found["tokens"]) == 1
    assert stat.S_IMODE(out.stat().st_mode) == 0o600
    assert list(tmp_path.iterdir()) == [out]
    nobody = command("999999999999999991")
    assert (nobody.returncode, nobody.stdout) == (1, "")
    assert nobody.stderr == "schema-user: user not found\n"
