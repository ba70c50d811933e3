"""Who may do what: organizations, tokens, roles."""

from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import pytest

from tests.conftest import ANY_TLS, SCHEMA, Api, Server, Tenant, reason, violations

ORGS, TOKENS, USERS, SCHEMAS = "/v3alpha/organizations", "/v3alpha/tokens", "/v3alpha/users", "/v3alpha/user_schemas"
ORGANIZATION = "x-zitadel-orgid"


def eventually(check: Any, seconds: float = 5) -> None:
    """Wait until a check holds, for as long as the contract allows."""
    deadline = time.monotonic() + seconds
    while not check():
        assert time.monotonic() < deadline
        time.sleep(0.05)


@pytest.fixture
def other(tenant: Tenant, admin: Api, server: Server) -> Any:
    """Give a second organization with an owner and one user."""
    organization_id = admin.ok("POST", ORGS, {"name": "Other"})["organizationId"]
    body = {"name": "o", "roles": [{"role": "ORG_OWNER", "organizationId": organization_id}]}
    with server.client(admin.ok("POST", TOKENS, body)["token"]) as owner:
        schema_id = owner.ok("POST", SCHEMAS, {"type": "person", "schema": SCHEMA})["id"]
        yield Tenant(organization_id, owner, schema_id, server, admin)


def test_nothing_of_another_organization_is_found(tenant: Tenant, other: Tenant) -> None:
    """Whatever the operation, its users, schemas, tokens and itself are 404, and no search shows them."""
    user = f"{USERS}/{other.user(username='hidden')}"
    schema = f"{SCHEMAS}/{other.schema_id}"
    organization = f"{ORGS}/{other.organization_id}"
    body = {"name": "t", "roles": [{"role": "ORG_USER_VIEWER", "organizationId": other.organization_id}]}
    token = f"{TOKENS}/{other.owner.ok('POST', TOKENS, body)['tokenId']}"
    calls: list[tuple[str, str, Any]] = [
        ("GET", user, None),
        ("PUT", user, {"data": {"name": "x"}}),
        ("PATCH", user, {}),
        ("DELETE", user, None),
        *(("POST", f"{user}/{verb}", {}) for verb in ("lock", "unlock", "deactivate", "reactivate", "validate")),
        ("GET", user + "/schema", None),
        ("PUT", user + "/email", {"address": "a@example.com"}),
        ("DELETE", user + "/email", None),
        ("POST", user + "/email/verify", {"verificationCode": "ABCDEF"}),
        ("POST", user + "/phone/resend", {}),
        ("GET", schema, None),
        ("GET", schema + "?revision=1", None),
        ("PUT", schema, {"type": "x"}),
        ("DELETE", schema, None),
        ("POST", schema + "/deactivate", {}),
        ("POST", schema + "/reactivate", {}),
        ("GET", schema + "/revisions", None),
        ("GET", organization, None),
        ("PUT", organization, {"name": "x"}),
        ("DELETE", organization, None),
        ("POST", organization + "/deactivate", {}),
        ("POST", organization + "/reactivate", {}),
        ("GET", token, None),
        ("DELETE", token, None),
        ("POST", TOKENS, body),
        ("POST", SCHEMAS, {"type": "x", "schema": {}, "organization": {"orgId": other.organization_id}}),
        ("POST", USERS, {"schemaId": other.schema_id, "organization": {"orgId": other.organization_id}}),
    ]
    for method, path, payload in calls:
        response = tenant.owner.request(method, path, json=payload)
        assert (response.status_code, response.json()["code"]) == (404, 5), (method, path, response.text)
        assert "hidden" not in response.text
    for path in (USERS, SCHEMAS, ORGS, TOKENS):
        found = tenant.owner.ok("POST", path + "/search", {"query": {"limit": 1000}})
        assert other.organization_id not in str(found)
    # A schema of another organization named in a body is a precondition that fails, as if it did not exist.
    foreign = tenant.owner.post(USERS, json={"schemaId": other.schema_id, "data": {"name": "x"}})
    assert (foreign.json()["code"], reason(foreign)) == (9, "SCHEMA_UNKNOWN")


def test_the_header_narrows_what_is_reached(tenant: Tenant, other: Tenant, admin: Api) -> None:
    """With x-zitadel-orgid everything outside that organization is missing, for the instance's owner too."""
    mine, theirs = tenant.user(), other.user()
    header = {ORGANIZATION: tenant.organization_id}
    assert admin.get(f"{USERS}/{mine}", headers=header).status_code == 200
    assert admin.get(f"{USERS}/{theirs}", headers=header).status_code == 404
    assert tenant.owner.get(f"{USERS}/{mine}", headers={ORGANIZATION: other.organization_id}).status_code == 404
    assert admin.get(f"{USERS}/{mine}", headers={ORGANIZATION: "nowhere"}).status_code == 404
    found = admin.ok("POST", USERS + "/search", {}, headers=header)
    assert [user["userId"] for user in found["result"]] == [mine]
    body = {"schemaId": tenant.schema_id, "data": {"name": "x"}, "organization": {"orgId": tenant.organization_id}}
    assert admin.post(USERS, json=body, headers=header).status_code == 201
    conflicting = admin.post(USERS, json=body, headers={ORGANIZATION: other.organization_id})
    assert (conflicting.status_code, list(violations(conflicting))) == (400, ["organization/orgId"])


@pytest.mark.parametrize(
    ("role", "allowed"),
    [
        ("ORG_OWNER", {"read", "write", "delete", "schema", "org", "token"}),
        ("ORG_USER_MANAGER", {"read", "write", "delete"}),
        ("ORG_USER_VIEWER", {"read"}),
        ("SCHEMA_AUTHOR", {"schema"}),
    ],
)
def test_roles_permit_what_their_table_says(tenant: Tenant, role: str, allowed: set[str]) -> None:
    """The rest is 403 with the name of the permission; schemas are read by every role."""
    user_id = tenant.user()
    with tenant.caller(role) as caller:
        results = {
            "read": caller.get(f"{USERS}/{user_id}"),
            "write": caller.put(f"{USERS}/{user_id}", json={}),
            "schema": caller.put(f"{SCHEMAS}/{tenant.schema_id}", json={}),
            "org": caller.get(f"{ORGS}/{tenant.organization_id}"),
            "token": caller.post(TOKENS + "/search", json={}),
            "delete": caller.delete(f"{USERS}/{user_id}"),
        }
        assert caller.get(f"{SCHEMAS}/{tenant.schema_id}").status_code == 200
        assert caller.post(ORGS, json={"name": "x"}).status_code == 403
    assert {name for name, response in results.items() if response.status_code == 200} == allowed
    for name, response in results.items():
        if name not in allowed:
            assert (response.status_code, response.json()["code"], reason(response)) == (403, 7, "PERMISSION_MISSING")


def test_the_instance_viewer_sees_everything_and_changes_nothing(tenant: Tenant, admin: Api, server: Server) -> None:
    """Every read is open to it, every write closed."""
    user_id = tenant.user()
    body = {"name": "v", "roles": [{"role": "INSTANCE_VIEWER"}]}
    with server.client(admin.ok("POST", TOKENS, body)["token"]) as viewer:
        assert viewer.get(f"{USERS}/{user_id}").status_code == 200
        assert viewer.get(f"{ORGS}/{tenant.organization_id}").status_code == 200
        assert viewer.put(f"{USERS}/{user_id}", json={}).status_code == 403
        assert viewer.post(TOKENS, json=body).status_code == 403
        assert viewer.get("/metrics", headers={"X-Forwarded-For": "1.2.3.4"}).status_code == 200
    with tenant.caller("ORG_OWNER") as owner:
        assert owner.get("/metrics", headers={"X-Forwarded-For": "1.2.3.4"}).status_code == 403


def test_nobody_grants_more_than_they_hold(tenant: Tenant, other: Tenant) -> None:
    """Not another organization, not the instance, not a role beyond one's own, not without token.write."""
    for roles, status in (
        ([{"role": "ORG_OWNER", "organizationId": tenant.organization_id}], 201),
        ([{"role": "SCHEMA_AUTHOR", "organizationId": tenant.organization_id}], 201),
        ([{"role": "SCHEMA_AUTHOR"}], 403),
        ([{"role": "INSTANCE_VIEWER"}], 403),
        ([{"role": "INSTANCE_OWNER"}], 403),
        ([{"role": "ORG_OWNER", "organizationId": other.organization_id}], 404),
        ([{"role": "ORG_OWNER"}], 400),
        ([{"role": "INSTANCE_OWNER", "organizationId": tenant.organization_id}], 400),
        ([{"role": "ORG_KING", "organizationId": tenant.organization_id}], 400),
        ([], 400),
    ):
        response = tenant.owner.post(TOKENS, json={"name": "t", "roles": roles})
        assert response.status_code == status, (roles, response.text)
    with tenant.caller("ORG_USER_MANAGER") as manager:
        body = {"name": "t", "roles": [{"role": "ORG_USER_VIEWER", "organizationId": tenant.organization_id}]}
        assert manager.post(TOKENS, json=body).status_code == 403
        assert manager.post(TOKENS, json={"name": "t", "userId": tenant.user()}).status_code == 403
    foreign = tenant.owner.post(TOKENS, json={"name": "t", "userId": other.user()})
    assert (foreign.json()["code"], reason(foreign)) == (9, "USER_UNKNOWN")


def test_a_token_is_shown_once_and_revoked_for_good(tenant: Tenant) -> None:
    """Neither get nor search shows it; revoked, it is refused within five seconds; others cannot revoke it."""
    body = {"name": "t", "roles": [{"role": "ORG_USER_VIEWER", "organizationId": tenant.organization_id}]}
    made = tenant.owner.ok("POST", TOKENS, body)
    one = f"{TOKENS}/{made['tokenId']}"
    got = tenant.owner.ok("GET", one)["token"]
    assert got["roles"] == body["roles"]
    assert made["token"] not in str(got)
    found = tenant.owner.ok("POST", TOKENS + "/search", {"queries": [{"nameQuery": {"name": "t"}}]})
    assert made["tokenId"] in {each["tokenId"] for each in found["result"]}
    assert made["token"] not in str(found)
    with tenant.server.client(made["token"]) as viewer:
        assert viewer.get(f"{USERS}/1").status_code == 404
        assert viewer.delete(one).status_code == 403
        tenant.owner.ok("DELETE", one)
        assert tenant.owner.get(one).status_code == 404
        eventually(lambda: viewer.get(f"{USERS}/1").status_code == 401)


def test_tokens_are_found_by_their_user(tenant: Tenant) -> None:
    """Those that act as a user, and no others."""
    user_id = tenant.user()
    made = tenant.owner.ok("POST", TOKENS, {"name": "self", "userId": user_id})
    for wanted, expected in ((user_id, [made["tokenId"]]), (made["tokenId"], [])):
        found = tenant.owner.ok("POST", TOKENS + "/search", {"queries": [{"userIdQuery": {"id": wanted}}]})
        assert [each["tokenId"] for each in found["result"]] == expected


def test_a_token_ends_at_its_expiration(tenant: Tenant) -> None:
    """From that moment it is refused; an expiration in the past is refused at once."""
    roles = [{"role": "ORG_USER_VIEWER", "organizationId": tenant.organization_id}]
    soon = datetime.now(UTC) + timedelta(seconds=1.5)
    made = tenant.owner.ok("POST", TOKENS, {"name": "t", "roles": roles, "expirationDate": soon.isoformat()})
    with tenant.server.client(made["token"]) as caller:
        assert caller.get(f"{USERS}/1").status_code == 404
        eventually(lambda: caller.get(f"{USERS}/1").status_code == 401)
    past = tenant.owner.post(TOKENS, json={"name": "t", "roles": roles, "expirationDate": "2020-01-01T00:00:00Z"})
    assert list(violations(past)) == ["expirationDate"]


def test_tokens_of_users_and_organizations_that_are_not_active_are_refused(tenant: Tenant, admin: Api) -> None:
    """Within five seconds of a lock, a deletion, a deactivation; and good again after an unlock."""
    user_id = tenant.user()
    one = f"{USERS}/{user_id}"
    with tenant.caller(user_id=user_id) as self_caller:
        assert self_caller.get(one).status_code == 200
        tenant.owner.ok("POST", one + "/lock")
        eventually(lambda: self_caller.get(one).status_code == 401)
        tenant.owner.ok("POST", one + "/unlock")
        eventually(lambda: self_caller.get(one).status_code == 200)
        admin.ok("POST", f"{ORGS}/{tenant.organization_id}/deactivate")
        eventually(lambda: self_caller.get(one).status_code == 401)
        eventually(lambda: tenant.owner.get(one).status_code == 401)
        admin.ok("POST", f"{ORGS}/{tenant.organization_id}/reactivate")
        eventually(lambda: tenant.owner.get(one).status_code == 200)
        tenant.owner.ok("DELETE", one)
        eventually(lambda: self_caller.get(one).status_code == 401)


def test_organizations_live_and_end(admin: Api) -> None:
    """Create, read, rename, settings, states, search, delete; the id is not used again."""
    made = admin.post(ORGS, json={"name": "Mouse & Co", "organizationId": f"org-{time.time_ns()}"})
    assert (made.status_code, made.headers["etag"]) == (201, '"1"')
    one = f"{ORGS}/{made.json()['organizationId']}"
    settings = {
        "urlTemplateHosts": ["app.example.com"],
        "defaultPhoneRegion": "CH",
        "emailCodeTtl": "1800s",
        "phoneCodeTtl": "60s",
    }
    admin.ok("PUT", one, {"name": "Mouse", "settings": settings})
    got = admin.ok("GET", one)["organization"]
    assert (got["name"], got["settings"], got["state"]) == ("Mouse", settings, "ORGANIZATION_STATE_ACTIVE")
    assert admin.put(one, json={"name": "x"}, headers={"If-Match": '"1"'}).status_code == 412
    assert admin.post(one + "/reactivate").json()["code"] == 9
    query = {"idQuery": {"id": got["organizationId"]}}
    assert admin.ok("POST", ORGS + "/search", {"queries": [query]})["details"]["totalResult"] == "1"
    assert admin.delete(one).status_code == 200
    assert admin.get(one).status_code == 404
    assert admin.post(ORGS, json={"name": "x", "organizationId": got["organizationId"]}).status_code == 409


def test_an_organization_with_users_or_schemas_is_not_deleted(tenant: Tenant, admin: Api) -> None:
    """400 code 9, and it works on; its owner may not delete it at all."""
    tenant.user()
    refused = admin.delete(f"{ORGS}/{tenant.organization_id}")
    assert (refused.json()["code"], reason(refused)) == (9, "ORGANIZATION_IN_USE")
    assert tenant.owner.delete(f"{ORGS}/{tenant.organization_id}").status_code == 403
    tenant.user()


def test_settings_beyond_the_instance_are_refused(tenant: Tenant) -> None:
    """A code's lifetime only at or below the instance's; malformed ones with their pointers."""
    for settings, field in (
        ({"emailCodeTtl": "2h"}, "settings/emailCodeTtl"),
        ({"phoneCodeTtl": "11m"}, "settings/phoneCodeTtl"),
        ({"phoneCodeTtl": "soon"}, "settings/phoneCodeTtl"),
        ({"emailCodeTtl": "0s"}, "settings/emailCodeTtl"),
        ({"defaultPhoneRegion": "Switzerland"}, "settings/defaultPhoneRegion"),
        ({"urlTemplateHosts": ["https://x"]}, "settings/urlTemplateHosts/0"),
        ({"colour": "red"}, "settings/colour"),
    ):
        response = tenant.owner.put(f"{ORGS}/{tenant.organization_id}", json={"settings": settings})
        assert (response.status_code, list(violations(response))) == (400, [field]), response.text


def test_settings_of_an_organization_hold_for_its_users(tenant: Tenant) -> None:
    """Its phone region reads national numbers, its hosts bound the links."""
    settings = {"defaultPhoneRegion": "CH", "urlTemplateHosts": ["app.example.com"]}
    tenant.owner.ok("PUT", f"{ORGS}/{tenant.organization_id}", {"settings": settings})
    user_id = tenant.user()
    tenant.owner.ok("PUT", f"{USERS}/{user_id}/phone", {"number": "079 123 45 67", "returnCode": {}})
    got = tenant.owner.ok("GET", f"{USERS}/{user_id}")["user"]["contact"]["phone"]["number"]
    assert got == "+41791234567"
    for host, status in (("app.example.com", 200), ("evil.example", 400)):
        template = {"urlTemplate": f"https://{host}/?c={{{{.Code}}}}"}
        body = {"address": f"a@{host}", "sendCode": template}
        response = tenant.owner.put(f"{USERS}/{user_id}/email", json=body)
        assert response.status_code == status
        assert status == 200 or reason(response) == "URL_TEMPLATE_INVALID"


def test_verification_cannot_be_rehearsed(tenant: Tenant) -> None:
    """A verify that stores nothing would count no attempt, so there is none."""
    user_id = tenant.user(contact={"email": {"address": "a@example.com", "returnCode": {}}})
    response = tenant.owner.post(
        f"{USERS}/{user_id}/email/verify?validateOnly=true", json={"verificationCode": "ABCDEF"}
    )
    assert (response.status_code, reason(response)) == (400, "QUERY_INVALID")


def test_compressed_bodies_are_not_unpacked(server: Server) -> None:
    """415, before anything is read into memory."""
    headers = {
        "Authorization": f"Bearer {server.token}",
        "Content-Encoding": "gzip",
        "Content-Type": "application/json",
    }
    response = httpx.post(server.url + USERS, content=b"\x1f\x8b", headers=headers, verify=ANY_TLS)
    assert (response.status_code, reason(response)) == (415, "ENCODING_UNSUPPORTED")
