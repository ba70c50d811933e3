"""Limits on codes over HTTP: pauses, resends a day, caps on messages, countries, and who is refused why."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from itertools import count
from typing import TYPE_CHECKING, Any

import pytest

from tests.conftest import Server, Tenant, age, reason, violations

if TYPE_CHECKING:
    from collections.abc import Iterator

    import httpx

PAUSE = timedelta(seconds=30)
DAY_SECONDS = 24 * 60 * 60
_numbers = count(1)


@pytest.fixture(params=["email", "phone"])
def channel(request: pytest.FixtureRequest) -> str:
    """Run the test once for each channel: one path serves both."""
    return str(request.param)


def fresh(channel: str) -> dict[str, str]:
    """Give an address that nobody used, in a block of numbers that nobody used."""
    number = next(_numbers)
    return {"address": f"limit-{number}@example.com"} if channel == "email" else {"number": f"+4179{number:03}1234"}


def path(user_id: str, channel: str, verb: str = "") -> str:
    """Give the path of an operation on an address."""
    return f"/v3alpha/users/{user_id}/{channel}" + (f"/{verb}" if verb else "")


def choose(tenant: Tenant, **settings: Any) -> None:
    """Give the organization settings of its own, which hold at once in the process that answers."""
    tenant.owner.ok("PUT", f"/v3alpha/organizations/{tenant.organization_id}", {"settings": settings})


def refused(response: httpx.Response, status: int, code: int, why: str) -> dict[str, str]:
    """Expect a refusal, and give its metadata."""
    assert (response.status_code, response.json()["code"], reason(response)) == (status, code, why), response.text
    return dict(response.json()["details"][0]["metadata"])


def wait_of(response: httpx.Response, why: str) -> int:
    """Expect a 429, and give the seconds of Retry-After, which stand in the body too."""
    refused(response, 429, 8, why)
    seconds = response.headers["retry-after"]
    retry = [each for each in response.json()["details"] if each["@type"].endswith("RetryInfo")]
    assert [each["retryDelay"] for each in retry] == [f"{seconds}s"]
    return int(seconds)


class TestResends:
    @pytest.mark.parametrize("way", ["sendCode", "returnCode"])
    def test_another_code_has_to_wait_for_30_seconds(
        self, server: Server, tenant: Tenant, channel: str, way: str
    ) -> None:
        """After the last code of the address; Retry-After says for how much longer, and nothing changes."""
        user_id = tenant.user()
        resend: dict[str, Any] = {way: {}}
        code = tenant.owner.ok("PUT", path(user_id, channel), {**fresh(channel), "returnCode": {}})["verificationCode"]
        assert 20 < wait_of(tenant.owner.post(path(user_id, channel, "resend"), json=resend), "RESEND_TOO_SOON") <= 30
        age(server, user_id, channel, timedelta(seconds=15))
        assert 5 < wait_of(tenant.owner.post(path(user_id, channel, "resend"), json=resend), "RESEND_TOO_SOON") <= 15
        age(server, user_id, channel, timedelta(seconds=15))
        tenant.owner.ok("POST", path(user_id, channel, "resend"), resend)
        assert 20 < wait_of(tenant.owner.post(path(user_id, channel, "resend"), json=resend), "RESEND_TOO_SOON") <= 30
        tenant.owner.ok("POST", path(user_id, channel, "verify"), {"verificationCode": code})

    def test_the_pause_outlives_the_code(self, tenant: Tenant, channel: str) -> None:
        """A code that died with the user's state still counts as the last one."""
        user_id = tenant.user()
        tenant.owner.ok("PUT", path(user_id, channel), {**fresh(channel), "returnCode": {}})
        tenant.owner.ok("POST", f"/v3alpha/users/{user_id}/lock")
        refused(tenant.owner.post(path(user_id, channel, "resend")), 400, 9, "USER_NOT_ACTIVE")
        tenant.owner.ok("POST", f"/v3alpha/users/{user_id}/unlock")
        wait_of(tenant.owner.post(path(user_id, channel, "resend")), "RESEND_TOO_SOON")

    def test_ten_resends_a_day_whatever_the_address(self, server: Server, tenant: Tenant, channel: str) -> None:
        """Sent or given back; neither another address nor its removal begins anew; the other channel is free."""
        user_id, other = tenant.user(), "phone" if channel == "email" else "email"
        for each in (channel, other):
            tenant.owner.ok("PUT", path(user_id, each), {**fresh(each), "returnCode": {}})
        for number in range(10):
            age(server, user_id, channel, PAUSE)
            tenant.owner.ok("POST", path(user_id, channel, "resend"), {"returnCode": {}} if number % 2 else {})
        age(server, user_id, channel, PAUSE)
        for how in ("as it is", "replaced", "removed"):
            if how == "removed":
                tenant.owner.ok("DELETE", path(user_id, channel))
            if how != "as it is":
                tenant.owner.ok("PUT", path(user_id, channel), {**fresh(channel), "returnCode": {}})
            response = tenant.owner.post(path(user_id, channel, "resend"), json={"returnCode": {}})
            left = DAY_SECONDS - 10 * 30
            assert left - 60 < wait_of(response, "RESEND_LIMIT") <= left
            assert refused(response, 429, 8, "RESEND_LIMIT") == {"limit": "10"}
        age(server, user_id, other, PAUSE)
        tenant.owner.ok("POST", path(user_id, other, "resend"))
        age(server, user_id, channel, timedelta(seconds=DAY_SECONDS - 10 * 30))
        tenant.owner.ok("POST", path(user_id, channel, "resend"))

    def test_of_many_resends_at_once_one_makes_a_code(self, server: Server, tenant: Tenant, channel: str) -> None:
        """The others come too soon after it, by the guard of the write."""
        user_id = tenant.user()
        tenant.owner.ok("PUT", path(user_id, channel), {**fresh(channel), "returnCode": {}})
        age(server, user_id, channel, PAUSE)
        with ThreadPoolExecutor(12) as pool:
            answers = list(pool.map(lambda _: tenant.owner.post(path(user_id, channel, "resend")), range(12)))
        assert sorted(each.status_code for each in answers) == [200] + [429] * 11
        assert {reason(each) for each in answers if each.status_code == 429} == {"RESEND_TOO_SOON"}

    def test_an_organization_may_be_stricter(self, server: Server, tenant: Tenant, channel: str) -> None:
        """Longer pauses, fewer resends, longer codes, fewer attempts."""
        choose(tenant, resendAfter="90s", resendsPerDay=1, codeLength=9, codeAttempts=2)
        user_id = tenant.user()
        code = tenant.owner.ok("PUT", path(user_id, channel), {**fresh(channel), "returnCode": {}})["verificationCode"]
        assert len(code) == 9
        for left in "10":
            wrong = tenant.owner.post(path(user_id, channel, "verify"), json={"verificationCode": "AAAAAAAAA"})
            assert refused(wrong, 400, 3, "CODE_INVALID") == {"attemptsLeft": left}
        exhausted = tenant.owner.post(path(user_id, channel, "verify"), json={"verificationCode": code})
        assert 60 < wait_of(exhausted, "CODE_ATTEMPTS_EXHAUSTED") <= 90
        age(server, user_id, channel, timedelta(seconds=90))
        exhausted = tenant.owner.post(path(user_id, channel, "verify"), json={"verificationCode": code})
        assert wait_of(exhausted, "CODE_ATTEMPTS_EXHAUSTED") == 1
        tenant.owner.ok("POST", path(user_id, channel, "resend"))
        age(server, user_id, channel, timedelta(seconds=90))
        wait_of(tenant.owner.post(path(user_id, channel, "resend")), "RESEND_LIMIT")
        for _ in range(2):
            tenant.owner.post(path(user_id, channel, "verify"), json={"verificationCode": "AAAAAAAAA"})
        exhausted = tenant.owner.post(path(user_id, channel, "verify"), json={"verificationCode": code})
        assert DAY_SECONDS - 180 < wait_of(exhausted, "CODE_ATTEMPTS_EXHAUSTED") <= DAY_SECONDS - 90


class TestCaps:
    def test_an_address_gets_so_many_messages_a_day(self, server: Server, tenant: Tenant, channel: str) -> None:
        """Whichever user has it; a capped request changes nothing, and what sends nothing goes on."""
        choose(tenant, codesPerAddress=2)
        address = fresh(channel)
        field = {"contact": {channel: {**address, "sendCode": {}}}}
        first = tenant.user(**field)
        second = tenant.user()
        tenant.owner.ok("PUT", path(second, channel), address)
        third = tenant.user()
        capped = [
            tenant.owner.put(f"/v3alpha/users/{third}", json={**field, "data": {"name": "Daisy"}}),
            tenant.owner.put(f"/v3alpha/users/{third}?validateOnly=true", json=field),
            tenant.owner.post("/v3alpha/users", json={"schemaId": tenant.schema_id, "data": {"name": "X"}, **field}),
        ]
        age(server, first, channel, PAUSE)
        capped.append(tenant.owner.post(path(first, channel, "resend")))
        for response in capped:
            assert DAY_SECONDS - 60 < wait_of(response, "CODE_MESSAGE_LIMIT") <= DAY_SECONDS
            assert refused(response, 429, 8, "CODE_MESSAGE_LIMIT") == {"cap": "address", "limit": "2"}
        unchanged = tenant.owner.ok("GET", f"/v3alpha/users/{third}")["user"]
        assert (unchanged["details"]["sequence"], unchanged["data"], "contact" in unchanged) == (
            "1",
            {"name": "Minnie"},
            False,
        )
        tenant.owner.ok("POST", path(first, channel, "resend"), {"returnCode": {}})
        tenant.owner.ok("PUT", path(third, channel), {**address, "returnCode": {}})
        tenant.owner.ok("PUT", path(tenant.user(), channel), {**address, "isVerified": True})
        tenant.owner.ok("PUT", path(tenant.user(), channel), fresh(channel))

    def test_the_instance_protects_an_address_from_all_together(self, admin_tenants: tuple[Tenant, Tenant]) -> None:
        """20 a day, by several organizations and in whatever case."""
        one, two = admin_tenants
        name = f"all-{next(_numbers)}"
        for number in range(20):
            tenant = (one, two)[number % 2]
            tenant.user(contact={"email": {"address": f"{(name, name.upper())[number % 2]}@example.com"}})
        for tenant in (one, two):
            body = {"schemaId": tenant.schema_id, "data": {"name": "X"}}
            body |= {"contact": {"email": {"address": f"{name}@EXAMPLE.com"}}}
            response = tenant.owner.post("/v3alpha/users", json=body)
            assert refused(response, 429, 8, "CODE_MESSAGE_LIMIT") == {"cap": "address", "limit": "20"}

    def test_numbers_of_one_block_share_a_cap(self, tenant: Tenant) -> None:
        """Those that differ in the last four digits only."""
        choose(tenant, codesPerPhonePrefix=2)
        block = f"+4178{next(_numbers):03}"
        for last in ("0001", "9999"):
            tenant.user(contact={"phone": {"number": block + last}})
        response = tenant.owner.put(path(tenant.user(), "phone"), json={"number": block + "5000"})
        assert refused(response, 429, 8, "CODE_MESSAGE_LIMIT") == {"cap": "phonePrefix", "limit": "2"}
        tenant.owner.ok("PUT", path(tenant.user(), "phone"), fresh("phone"))

    def test_an_organization_sends_so_many_a_day(self, tenant: Tenant) -> None:
        """On both channels together; a change with two codes counts twice, or is capped as a whole."""
        choose(tenant, codesPerOrganization=3)
        both = {"contact": {"email": fresh("email"), "phone": fresh("phone")}}
        user_id = tenant.user(**both)
        both = {"contact": {"email": fresh("email"), "phone": fresh("phone")}}
        response = tenant.owner.put(f"/v3alpha/users/{user_id}", json=both)
        assert refused(response, 429, 8, "CODE_MESSAGE_LIMIT") == {"cap": "organization", "limit": "3"}
        tenant.owner.ok("PUT", path(user_id, "email"), both["contact"]["email"])
        wait_of(tenant.owner.put(path(user_id, "phone"), json=both["contact"]["phone"]), "CODE_MESSAGE_LIMIT")
        tenant.owner.ok("PUT", f"/v3alpha/users/{user_id}", {"data": {"name": "Daisy"}})

    def test_what_is_refused_or_repeated_counts_nothing(self, tenant: Tenant) -> None:
        """An id or name that is taken, an older sequence, a rehearsal, a key that was used: the one message is left."""
        choose(tenant, codesPerOrganization=1)
        taken, other = tenant.user(username="taken"), tenant.user()
        body = {"schemaId": tenant.schema_id, "data": {"name": "X"}, "contact": {"email": fresh("email")}}
        contact = {"contact": {"email": fresh("email")}}
        one = f"/v3alpha/users/{other}"
        for response, status in (
            (tenant.owner.post("/v3alpha/users", json={**body, "userId": taken}), 409),
            (tenant.owner.post("/v3alpha/users", json={**body, "username": "TAKEN"}), 409),
            (tenant.owner.put(one, json={**contact, "username": "Taken"}), 409),
            (tenant.owner.put(one, json=contact, headers={"If-Match": '"7"'}), 412),
            (tenant.owner.put(one, json={**contact, "data": {}}), 400),
            (tenant.owner.put(one + "?validateOnly=true", json=contact), 200),
            (tenant.owner.post("/v3alpha/users?validateOnly=true", json=body), 201),
        ):
            assert response.status_code == status, response.text
        key = {"Idempotency-Key": f"limit-{time.monotonic_ns()}"}
        answers = [tenant.owner.put(one, json=contact, headers=key) for _ in range(3)]
        assert [(each.status_code, "idempotent-replayed" in each.headers) for each in answers] == [
            (200, False),
            (200, True),
            (200, True),
        ]
        wait_of(tenant.owner.put(one + "/email", json=fresh("email")), "CODE_MESSAGE_LIMIT")
        assert tenant.owner.put(one, json=contact).status_code == 200


@pytest.fixture
def admin_tenants(tenant: Tenant) -> Iterator[tuple[Tenant, Tenant]]:
    """Give two organizations."""
    organization_id = tenant.admin.ok("POST", "/v3alpha/organizations", {"name": "Other"})["organizationId"]
    grant = {"name": "owner", "roles": [{"role": "ORG_OWNER", "organizationId": organization_id}]}
    with tenant.server.client(tenant.admin.ok("POST", "/v3alpha/tokens", grant)["token"]) as owner:
        schema = {"type": "person", "schema": {"type": "object"}}
        schema_id = owner.ok("POST", "/v3alpha/user_schemas", schema)["id"]
        yield tenant, Tenant(organization_id, owner, schema_id, tenant.server, tenant.admin)


def test_codes_are_sent_to_numbers_of_chosen_countries(server: Server, tenant: Tenant) -> None:
    """A number of another one can be stored, vouched for, and verified by who delivers the code; mail goes on."""
    choose(tenant, phoneCountries=["CH", "LI"])
    german, user_id = "+4915123456789", tenant.user()
    one = f"/v3alpha/users/{user_id}"
    for response, field in (
        (tenant.owner.put(one + "/phone", json={"number": german}), "number"),
        (tenant.owner.put(one, json={"contact": {"phone": {"number": german}}}), "contact/phone/number"),
    ):
        assert refused(response, 400, 9, "PHONE_COUNTRY_NOT_ALLOWED") == {"countries": "CH,LI"}
        assert violations(response) == {field: "country"}
    tenant.owner.ok("PUT", one + "/phone", {"number": german, "returnCode": {}})
    age(server, user_id, "phone", PAUSE)
    refused(tenant.owner.post(one + "/phone/resend"), 400, 9, "PHONE_COUNTRY_NOT_ALLOWED")
    code = tenant.owner.ok("POST", one + "/phone/resend", {"returnCode": {}})["verificationCode"]
    tenant.owner.ok("POST", one + "/phone/verify", {"verificationCode": code})
    tenant.owner.ok("PUT", f"/v3alpha/users/{tenant.user()}/phone", {"number": german, "isVerified": True})
    tenant.user(contact={"phone": fresh("phone"), "email": {"address": f"{user_id}@example.de"}})


@pytest.mark.parametrize(
    ("verb", "body", "code", "why", "fields"),
    [
        ("verify", {"verificationCode": ""}, 3, "FIELD_INVALID", {"verificationCode": "minLength"}),
        ("verify", {"verificationCode": "A" * 21}, 3, "FIELD_INVALID", {"verificationCode": "maxLength"}),
        ("verify", {}, 3, "FIELD_INVALID", {"verificationCode": "required"}),
        ("verify", {"code": "ABCDEF", "verificationCode": "ABCDEF"}, 3, "FIELD_INVALID", {"code": "unknownField"}),
        ("resend", {"isVerified": True}, 3, "FIELD_INVALID", {"isVerified": "unknownField"}),
        ("resend", {"sendCode": {}, "returnCode": {}}, 3, "FIELD_INVALID", {"returnCode": "alternatives"}),
        (
            "resend",
            {"sendCode": {"urlTemplate": "http://evil.example/{{.Code}}"}},
            3,
            "URL_TEMPLATE_INVALID",
            {"sendCode/urlTemplate": "urlTemplate"},
        ),
        ("verify", {"verificationCode": "AAAAAA"}, 3, "CODE_INVALID", {"verificationCode": "code"}),
    ],
)
def test_what_is_malformed_is_refused_with_its_place(
    tenant: Tenant, channel: str, verb: str, body: dict[str, Any], code: int, why: str, fields: dict[str, str]
) -> None:
    """On both channels, and nothing but a judged code uses up an attempt."""
    user_id = tenant.user()
    tenant.owner.ok("PUT", path(user_id, channel), {**fresh(channel), "returnCode": {}})
    response = tenant.owner.post(path(user_id, channel, verb), json=body)
    refused(response, 400, code, why)
    assert violations(response) == fields
    response = tenant.owner.post(path(user_id, channel, "verify"), json={"verificationCode": "AAAAAA"})
    left = "3" if why == "CODE_INVALID" else "4"
    assert refused(response, 400, 3, "CODE_INVALID") == {"attemptsLeft": left}


@pytest.mark.parametrize("verb", ["verify", "resend"])
def test_who_may_not_reach_an_address_learns_nothing_of_its_codes(tenant: Tenant, channel: str, verb: str) -> None:
    """Unknown and deleted users, missing permission, an older sequence: in this order, before any code is looked at."""
    user_id, gone = tenant.user(), tenant.user()
    code = tenant.owner.ok("PUT", path(user_id, channel), {**fresh(channel), "returnCode": {}})["verificationCode"]
    tenant.owner.ok("DELETE", f"/v3alpha/users/{gone}")
    body = {"verificationCode": code} if verb == "verify" else {"returnCode": {}}
    for missing in (gone, "nobody"):
        refused(tenant.owner.post(path(missing, channel, verb), json=body), 404, 5, "USER_NOT_FOUND")
    with tenant.caller("ORG_USER_VIEWER") as viewer, tenant.caller(user_id=user_id) as itself:
        refused(viewer.post(path(user_id, channel, verb), json=body), 403, 7, "PERMISSION_MISSING")
        if verb == "resend":
            refused(itself.post(path(user_id, channel, verb), json=body), 403, 7, "PERMISSION_MISSING")
    stale = tenant.owner.post(path(user_id, channel, verb), json=body, headers={"If-Match": '"1"'})
    refused(stale, 412, 10, "SEQUENCE_MISMATCH")
    given = {"verificationCode": f" {code.lower()} "}
    tenant.owner.ok("POST", path(user_id, channel, "verify"), given)


def test_no_code_is_made_for_a_user_who_is_not_active(tenant: Tenant, channel: str) -> None:
    """An address is stored without one; to ask for one is refused, and none can be given back."""
    user_id = tenant.user()
    tenant.owner.ok("POST", f"/v3alpha/users/{user_id}/deactivate")
    for way in ("sendCode", "returnCode"):
        response = tenant.owner.put(path(user_id, channel), json={**fresh(channel), way: {}})
        refused(response, 400, 9, "USER_NOT_ACTIVE")
    assert "verificationCode" not in tenant.owner.ok("PUT", path(user_id, channel), fresh(channel))
    refused(tenant.owner.post(path(user_id, channel, "resend")), 400, 9, "USER_NOT_ACTIVE")
    response = tenant.owner.post(path(user_id, channel, "verify"), json={"verificationCode": "AAAAAA"})
    refused(response, 400, 9, "CODE_NOT_PENDING")
    tenant.owner.ok("POST", f"/v3alpha/users/{user_id}/reactivate")
    tenant.owner.ok("POST", path(user_id, channel, "resend"))


@pytest.mark.parametrize(
    ("setting", "value", "rule"),
    [
        ("resendAfter", "29s", "minimum"),
        ("codeLength", 5, "minimum"),
        ("resendsPerDay", 11, "maximum"),
        ("codesPerAddress", 21, "maximum"),
        ("codesPerOrganization", 10_001, "maximum"),
        ("codesPerPhonePrefix", 101, "maximum"),
        ("codeAttempts", 6, "maximum"),
        ("codesPerAddress", 0, "minimum"),
        ("phoneCountries/1", ["CH", "UK"], "enum"),
    ],
)
def test_an_organization_cannot_be_laxer_than_the_instance(tenant: Tenant, setting: str, value: Any, rule: str) -> None:
    """What goes beyond the instance's is refused with its pointer, and what was chosen stays."""
    body = {"settings": {setting.partition("/")[0]: value}}
    response = tenant.owner.put(f"/v3alpha/organizations/{tenant.organization_id}", json=body)
    refused(response, 400, 3, "FIELD_INVALID")
    assert violations(response) == {f"settings/{setting}": rule}


def test_an_organization_reads_back_what_it_chose(tenant: Tenant) -> None:
    """Every limit, as it was sent."""
    chosen = {
        "resendAfter": "60s",
        "resendsPerDay": 5,
        "codesPerAddress": 10,
        "codesPerOrganization": 100,
        "codesPerPhonePrefix": 50,
        "phoneCountries": ["CH", "AT"],
        "codeAttempts": 3,
        "codeLength": 8,
    }
    choose(tenant, **chosen)
    one = f"/v3alpha/organizations/{tenant.organization_id}"
    assert tenant.owner.ok("GET", one)["organization"]["settings"] == chosen
