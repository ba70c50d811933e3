"""Verification over HTTP: codes, attempts, expiry, races."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from typing import Any

import httpx
import pytest

from tests.conftest import ANY_TLS, Api, Server, Tenant, age, reason

CHANNELS = {
    "email": {"address": "minnie@example.com"},
    "phone": {"number": "+41791234567"},
}
PAUSE = timedelta(seconds=30)
"""How long after a code another one may be asked for."""


@pytest.fixture(params=sorted(CHANNELS))
def channel(request: pytest.FixtureRequest) -> str:
    """Run the test once for each channel: one code path serves both."""
    return str(request.param)


def path(user_id: str, channel: str, verb: str = "") -> str:
    """Give the path of an operation on an address."""
    return f"/v3alpha/users/{user_id}/{channel}" + (f"/{verb}" if verb else "")


def set_address(api: Api, user_id: str, channel: str) -> str:
    """Set the address, and give the code."""
    answer = api.ok("PUT", path(user_id, channel), {**CHANNELS[channel], "returnCode": {}})
    return str(answer["verificationCode"])


def verify(api: Api, user_id: str, channel: str, code: str) -> Any:
    """Give a code back."""
    return api.post(path(user_id, channel, "verify"), json={"verificationCode": code})


def is_verified(api: Api, user_id: str, channel: str) -> bool:
    """Say whether the address counts as verified."""
    return bool(api.ok("GET", f"/v3alpha/users/{user_id}")["user"]["contact"][channel]["isVerified"])


def wrong(code: str) -> str:
    """Give another code of the same form."""
    return ("A" if code[0] != "A" else "C") + code[1:]


def test_the_right_code_verifies_in_either_case(tenant: Tenant, channel: str) -> None:
    """Input is upper-cased; a verified address answers 200 unchanged from then on."""
    user_id = tenant.user()
    code = set_address(tenant.owner, user_id, channel)
    first = verify(tenant.owner, user_id, channel, code.lower())
    assert first.status_code == 200
    assert is_verified(tenant.owner, user_id, channel)
    again = verify(tenant.owner, user_id, channel, "whatever")
    assert again.json()["details"]["sequence"] == first.json()["details"]["sequence"]


def test_five_wrong_codes_and_it_is_over_until_a_resend(server: Server, tenant: Tenant, channel: str) -> None:
    """Each wrong one says what is left; then even the right one is 429; a resend gives a new code and budget."""
    user_id = tenant.user()
    code = set_address(tenant.owner, user_id, channel)
    sequence = tenant.owner.ok("GET", f"/v3alpha/users/{user_id}")["user"]["details"]["sequence"]
    for left in range(4, -1, -1):
        response = verify(tenant.owner, user_id, channel, wrong(code))
        assert (response.status_code, response.json()["code"], reason(response)) == (400, 3, "CODE_INVALID")
        assert response.json()["details"][0]["metadata"] == {"attemptsLeft": str(left)}
    over = verify(tenant.owner, user_id, channel, code)
    assert (over.status_code, over.json()["code"], reason(over)) == (429, 8, "CODE_ATTEMPTS_EXHAUSTED")
    assert 20 < int(over.headers["retry-after"]) <= 30
    age(server, user_id, channel, PAUSE)
    assert verify(tenant.owner, user_id, channel, code).headers["retry-after"] == "1"
    assert tenant.owner.ok("GET", f"/v3alpha/users/{user_id}")["user"]["details"]["sequence"] == sequence
    fresh = tenant.owner.ok("POST", path(user_id, channel, "resend"), {"returnCode": {}})["verificationCode"]
    assert verify(tenant.owner, user_id, channel, fresh).status_code == 200


def test_a_resend_keeps_the_code_before_it_alive(server: Server, tenant: Tenant, channel: str) -> None:
    """At most two are live: the second last works, the third last is wrong."""
    user_id = tenant.user()
    codes = [set_address(tenant.owner, user_id, channel)]
    for _ in range(2):
        age(server, user_id, channel, PAUSE)
        answer = tenant.owner.ok("POST", path(user_id, channel, "resend"), {"returnCode": {}})
        codes.append(answer["verificationCode"])
    assert reason(verify(tenant.owner, user_id, channel, codes[0])) == "CODE_INVALID"
    assert verify(tenant.owner, user_id, channel, codes[1]).status_code == 200


def test_an_expired_code_is_told_from_a_wrong_one(server: Server, tenant: Tenant, channel: str) -> None:
    """Expired: code 9; wrong: code 3; after a week nobody remembers it."""
    user_id = tenant.user()
    code = set_address(tenant.owner, user_id, channel)
    age(server, user_id, channel, timedelta(hours=2))
    expired = verify(tenant.owner, user_id, channel, code)
    assert (expired.status_code, expired.json()["code"], reason(expired)) == (400, 9, "CODE_EXPIRED")
    assert reason(verify(tenant.owner, user_id, channel, wrong(code))) == "CODE_INVALID"
    age(server, user_id, channel, timedelta(days=8))
    assert reason(verify(tenant.owner, user_id, channel, code)) == "CODE_NOT_PENDING"
    assert not is_verified(tenant.owner, user_id, channel)


def test_codes_die_with_the_address_and_with_the_state(tenant: Tenant, channel: str) -> None:
    """A new address, a lock and a deactivation each leave nothing pending."""
    other = {"email": {"address": "other@example.com"}, "phone": {"number": "+41791234568"}}[channel]
    for kill in ("address", "lock", "deactivate"):
        user_id = tenant.user()
        code = set_address(tenant.owner, user_id, channel)
        if kill == "address":
            tenant.owner.ok("PUT", path(user_id, channel), {**other, "sendCode": {}})
            assert reason(verify(tenant.owner, user_id, channel, code)) == "CODE_INVALID"
        else:
            tenant.owner.ok("POST", f"/v3alpha/users/{user_id}/{kill}")
            assert reason(verify(tenant.owner, user_id, channel, code)) == "CODE_NOT_PENDING"


def test_a_code_is_worth_nothing_for_another_user(tenant: Tenant, channel: str) -> None:
    """Two users with the same address cannot use each other's codes."""
    first, second = tenant.user(), tenant.user()
    code = set_address(tenant.owner, first, channel)
    set_address(tenant.owner, second, channel)
    assert reason(verify(tenant.owner, second, channel, code)) == "CODE_INVALID"


def test_sixteen_correct_codes_at_once_change_the_state_once(tenant: Tenant, channel: str) -> None:
    """Exactly one raises the sequence; the others are 200 unchanged."""
    user_id = tenant.user()
    code = set_address(tenant.owner, user_id, channel)
    with ThreadPoolExecutor(16) as pool:
        answers = list(pool.map(lambda _: verify(tenant.owner, user_id, channel, code), range(16)))
    assert {answer.status_code for answer in answers} == {200}
    assert {answer.json()["details"]["sequence"] for answer in answers} == {"3"}


def test_wrong_codes_at_once_use_up_exactly_the_attempts(tenant: Tenant, channel: str) -> None:
    """Of sixty guesses five are judged; the rest learn nothing."""
    user_id = tenant.user()
    code = set_address(tenant.owner, user_id, channel)
    with ThreadPoolExecutor(20) as pool:
        answers = list(pool.map(lambda _: verify(tenant.owner, user_id, channel, wrong(code)), range(60)))
    judged = [answer for answer in answers if answer.status_code == 400]
    assert sorted(answer.json()["details"][0]["metadata"]["attemptsLeft"] for answer in judged) == list("01234")
    assert {answer.status_code for answer in answers} <= {400, 429, 409}


def test_resend_and_verify_without_an_address_or_a_need(tenant: Tenant, channel: str) -> None:
    """Each is a precondition with its own reason."""
    user_id = tenant.user()
    assert reason(tenant.owner.post(path(user_id, channel, "resend"))) == "CONTACT_MISSING"
    assert reason(verify(tenant.owner, user_id, channel, "ABCDEF")) == "CODE_NOT_PENDING"
    tenant.owner.ok("PUT", path(user_id, channel), {**CHANNELS[channel], "isVerified": True})
    assert reason(tenant.owner.post(path(user_id, channel, "resend"))) == "ALREADY_VERIFIED"
    both = tenant.owner.post(path(user_id, channel, "resend"), json={"sendCode": {}, "returnCode": {}})
    assert both.status_code == 400


def test_self_verifies_but_is_never_told_the_code(server: Server, tenant: Tenant, channel: str) -> None:
    """A user gives back the code it was sent; resending it into the answer needs user.write."""
    user_id = tenant.user()
    code = set_address(tenant.owner, user_id, channel)
    age(server, user_id, channel, PAUSE)
    with tenant.caller(user_id=user_id) as self_caller:
        refused = self_caller.post(path(user_id, channel, "resend"), json={"returnCode": {}})
        assert refused.status_code == 403
        assert self_caller.post(path(user_id, channel, "resend")).status_code == 200
        assert verify(self_caller, user_id, channel, code).status_code == 200


def test_an_address_can_be_removed(tenant: Tenant, channel: str) -> None:
    """After DELETE the contact is gone and a second DELETE changes nothing."""
    user_id = tenant.user()
    set_address(tenant.owner, user_id, channel)
    assert tenant.owner.ok("DELETE", path(user_id, channel))["details"]["sequence"] == "3"
    assert tenant.owner.ok("DELETE", path(user_id, channel))["details"]["sequence"] == "3"
    assert "contact" not in tenant.owner.ok("GET", f"/v3alpha/users/{user_id}")["user"]


def test_a_sent_code_reaches_the_local_mailbox_and_works(server: Server, tenant: Tenant) -> None:
    """From the update over outbox and worker to the file, and back through verify; the page shows it."""
    user_id = tenant.user()
    address = f"box-{user_id}@example.com"
    template = "https://app.example.com/verify?u={{.UserID}}&c={{.Code}}"
    tenant.owner.ok(
        "PUT",
        f"/v3alpha/users/{user_id}",
        {"contact": {"email": {"address": address, "sendCode": {"urlTemplate": template}}}},
    )
    text = wait_for_mail(server, address)
    code = text.partition(f"u={user_id}&c=")[2][:6]
    assert verify(tenant.owner, user_id, "email", code).status_code == 200
    assert address in httpx.get(server.url + "/ui/mailbox", verify=ANY_TLS).text


def test_a_verified_address_is_told_when_another_takes_its_place(server: Server, tenant: Tenant) -> None:
    """The old address learns of it, the new one is masked."""
    user_id = tenant.user()
    old = f"old-{user_id}@example.com"
    tenant.owner.ok("PUT", path(user_id, "email"), {"address": old, "isVerified": True})
    tenant.owner.ok("PUT", path(user_id, "email"), {"address": "brandnew@example.org", "returnCode": {}})
    text = wait_for_mail(server, old)
    assert "brandnew" not in text
    assert "example.org" in text


def wait_for_mail(server: Server, address: str) -> str:
    """Wait until the mailbox holds a mail to an address, and give its text."""
    import email
    import email.policy

    deadline = time.monotonic() + 15
    while time.monotonic() < deadline:
        for file in sorted((server.data_dir / "mailbox").glob("*.eml")):
            mail = email.message_from_bytes(file.read_bytes(), policy=email.policy.default)
            if address in str(mail["To"]):
                assert file.stat().st_mode & 0o777 == 0o600
                body = mail.get_body(("plain",))
                assert body is not None
                return str(body.get_content())
        time.sleep(0.05)
    raise AssertionError(f"no mail to {address}")
