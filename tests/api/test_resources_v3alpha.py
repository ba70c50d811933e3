"""Users and user schemas under /resources/v3alpha: the shapes of the later generation, over the same commands."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from tests.conftest import SCHEMA, Api, Tenant, reason, violations

if TYPE_CHECKING:
    import httpx

USERS = "/resources/v3alpha/users"
SCHEMAS = "/resources/v3alpha/user_schemas"
B_AND_C = {"queries": [{"usernameFilter": {"username": "b"}}, {"usernameFilter": {"username": "c"}}]}


def make(tenant: Tenant, **body: Any) -> Any:
    """Make a user, and give the answer."""
    return tenant.owner.ok("POST", USERS, {"schemaId": tenant.schema_id, "data": {"name": "Minnie"}, **body})


def found(api: Api, *filters: Any, **more: Any) -> list[str]:
    """Search users, and give their ids in the order of the answer."""
    result = api.ok("POST", f"{USERS}/_search", {"filters": list(filters), **more})["result"]
    return [each["details"]["id"] for each in result]


def refused(response: httpx.Response) -> tuple[int, str]:
    """Give status and reason of a refusal."""
    return response.status_code, reason(response)


class TestUsers:
    def test_what_is_created_is_answered_in_the_later_shape(self, tenant: Tenant) -> None:
        """Details name the id and the owner; the code comes back; the same user is at /v3alpha too."""
        made = make(tenant, contact={"email": {"address": "minnie@example.com", "returnCode": {}}})
        assert made.keys() == {"details", "emailCode"}
        details = made["details"]
        assert details.keys() == {"id", "created", "changed", "owner"}
        assert details["owner"] == {"type": "OWNER_TYPE_ORG", "id": tenant.organization_id}
        got = tenant.owner.get(f"{USERS}/{details['id']}")
        assert got.json() == {
            "user": {
                "details": details,
                "schema": {"id": tenant.schema_id, "type": "person", "revision": 1},
                "data": {"name": "Minnie"},
                "contact": {"email": {"address": "minnie@example.com", "isVerified": False}},
                "state": "USER_STATE_ACTIVE",
            }
        }
        older = tenant.owner.get(f"/v3alpha/users/{details['id']}")
        assert older.headers["ETag"] == got.headers["ETag"]
        assert older.json()["user"]["data"] == {"name": "Minnie"}

    def test_a_patch_is_the_update(self, tenant: Tenant) -> None:
        """The same body, If-Match, validateOnly and Idempotency-Key; data replaces the whole document."""
        user_id = make(tenant, data={"name": "Minnie", "age": 7})["details"]["id"]
        at = f"{USERS}/{user_id}"
        body = {"data": {"name": "Mickey"}, "contact": {"phone": {"number": "+41791234567", "returnCode": {}}}}
        assert tenant.owner.patch(f"{at}?validateOnly=true", json=body).status_code == 200
        assert refused(tenant.owner.patch(at, json=body, headers={"If-Match": '"9"'})) == (412, "SEQUENCE_MISMATCH")
        patched = tenant.owner.patch(at, json=body, headers={"If-Match": '"1"', "Idempotency-Key": "once"})
        assert patched.json().keys() == {"details", "phoneCode"}
        assert patched.headers["ETag"] == '"2"'
        again = tenant.owner.patch(at, json=body, headers={"If-Match": '"1"', "Idempotency-Key": "once"})
        assert again.json() == patched.json()
        assert again.headers["Idempotent-Replayed"] == "true"
        assert tenant.owner.ok("GET", at)["user"]["data"] == {"name": "Mickey"}

    def test_a_refusal_is_that_of_the_update(self, tenant: Tenant) -> None:
        """An unknown field by name, data against the schema with its pointer, and no user."""
        at = f"{USERS}/{make(tenant)['details']['id']}"
        unknown = tenant.owner.patch(at, json={"shemaId": "1"})
        assert (refused(unknown), violations(unknown)) == ((400, "FIELD_INVALID"), {"shemaId": "unknownField"})
        wrong = tenant.owner.patch(at, json={"data": {"name": ""}})
        assert (refused(wrong), violations(wrong)) == ((400, "DATA_INVALID"), {"data/name": "minLength"})
        assert refused(tenant.owner.patch(f"{USERS}/1", json={})) == (404, "USER_NOT_FOUND")
        assert tenant.owner.put(at, json={}).status_code == 405

    def test_contacts_are_set_and_verified(self, tenant: Tenant) -> None:
        """Both channels, with the code in the answer; verifying answers details only."""
        at = f"{USERS}/{make(tenant)['details']['id']}"
        for channel, address in (("email", {"address": "m@example.com"}), ("phone", {"number": "+41791234567"})):
            put = tenant.owner.ok("PUT", f"{at}/{channel}", {**address, "returnCode": {}})
            assert put.keys() == {"details", "verificationCode"}
            assert refused(tenant.owner.post(f"{at}/{channel}/_verify", json={"verificationCode": "AAAAAA"})) == (
                400,
                "CODE_INVALID",
            )
            early = tenant.owner.post(f"{at}/{channel}/_resend", json={"returnCode": {}})
            assert refused(early) == (429, "RESEND_TOO_SOON")
            verified = tenant.owner.ok("POST", f"{at}/{channel}/_verify", put["verificationCode"])
            assert verified.keys() == {"details"}
            contact = tenant.owner.ok("GET", at)["user"]["contact"][channel]
            assert contact == {**address, "isVerified": True}

    def test_states_and_deletion(self, tenant: Tenant) -> None:
        """The verbs of the later generation; each answers details."""
        at = f"{USERS}/{make(tenant)['details']['id']}"
        states = []
        for verb in ("_lock", "_unlock", "_deactivate", "_activate"):
            assert tenant.owner.ok("POST", f"{at}/{verb}").keys() == {"details"}
            states.append(tenant.owner.ok("GET", at)["user"]["state"].removeprefix("USER_STATE_"))
        assert states == ["LOCKED", "ACTIVE", "INACTIVE", "ACTIVE"]
        assert refused(tenant.owner.post(f"{at}/_activate")) == (400, "USER_STATE")
        assert tenant.owner.ok("DELETE", at).keys() == {"details"}
        assert tenant.owner.get(at).status_code == 404


class TestScope:
    def test_the_organization_of_a_request_is_that_of_its_header(self, tenant: Tenant, admin: Api) -> None:
        """`organization.orgId` narrows, also a search; another one than the header's, or a domain, is refused."""
        user_id = make(tenant)["details"]["id"]
        own, other = {"organization.orgId": tenant.organization_id}, {"organization.orgId": "default"}
        assert admin.get(f"{USERS}/{user_id}", params=own).status_code == 200
        assert admin.get(f"{USERS}/{user_id}", params=other).status_code == 404
        assert admin.post(f"{USERS}/_search", params=own).json()["details"]["totalResult"] == "1"
        assert tenant.owner.get(f"{USERS}/{user_id}", params=other).status_code == 404
        both = admin.get(f"{USERS}/{user_id}", params=other, headers={"x-zitadel-orgid": tenant.organization_id})
        assert violations(both) == {"organization/orgId": "organization"}
        domain = admin.get(f"{USERS}/{user_id}", params={"organization.orgDomain": "example.com", "instance.id": "1"})
        assert violations(domain) == {"organization/orgDomain": "unsupported", "instance/id": "instance"}

    def test_a_create_acts_in_the_organization_of_its_request(self, tenant: Tenant, admin: Api) -> None:
        """By the query parameter as by the body."""
        body = {"schemaId": tenant.schema_id, "data": {"name": "Minnie"}}
        made = admin.post(USERS, params={"organization.orgId": tenant.organization_id}, json=body)
        assert made.status_code == 201
        assert made.json()["details"]["owner"]["id"] == tenant.organization_id


class TestSearch:
    @pytest.mark.parametrize(
        ("filters", "names"),
        [
            ({"emailFilter": {"address": "A@", "method": "TEXT_FILTER_METHOD_STARTS_WITH_IGNORE_CASE"}}, "a"),
            ({"userIdFilter": {"id": "-b", "method": "TEXT_FILTER_METHOD_CONTAINS"}}, "b"),
            ({"stateFilter": {"state": "USER_STATE_LOCKED"}}, "c"),
            ({"notFilter": {"query": {"stateFilter": {"state": "USER_STATE_LOCKED"}}}}, "ab"),
            ({"orFilter": B_AND_C}, "bc"),
            ({"andFilter": B_AND_C}, ""),
            ({"schemaTypeFilter": {"type": "pers", "method": "TEXT_FILTER_METHOD_STARTS_WITH"}}, "abc"),
        ],
    )
    def test_filters_select(self, people: dict[str, str], of_people: Tenant, filters: Any, names: str) -> None:
        """Each kind of filter finds exactly what it describes, ascending unless `desc`."""
        expected = [people[name] for name in names]
        assert found(of_people.owner, filters) == expected
        assert found(of_people.owner, filters, query={"desc": True}) == expected[::-1]

    def test_a_page_says_its_limit(self, people: dict[str, str], of_people: Tenant) -> None:
        """The limit that held, the total, and the part that offset and limit select."""
        body = {"query": {"offset": 1, "limit": 1}, "sortingColumn": "FIELD_NAME_CREATION_DATE"}
        page = of_people.owner.ok("POST", f"{USERS}/_search", body)
        details = page["details"]
        assert (details["appliedLimit"], details["totalResult"]) == ("1", "3")
        assert [each["details"]["id"] for each in page["result"]] == [people["b"]]
        assert of_people.owner.ok("POST", f"{USERS}/_search")["details"]["appliedLimit"] == "100"

    def test_filters_alone_are_a_body(self, people: dict[str, str], of_people: Tenant) -> None:
        """As google.api.http has it: what else a search says are parameters, and then not in the body too."""
        at = f"{USERS}/_search?query.limit=2&query.desc=true&sortingColumn=FIELD_NAME_EMAIL"
        active = {"stateFilter": {"state": "USER_STATE_ACTIVE"}}
        result = of_people.owner.ok("POST", at, [active])["result"]
        assert [each["details"]["id"] for each in result] == [people["b"], people["a"]]
        both = of_people.owner.post(at, json={"query": {"limit": 1}})
        assert violations(both) == {"?query.limit": "alternatives"}
        wrong = of_people.owner.post(f"{USERS}/_search?query.offset=-1&query.desc=maybe&query.limit=1", json=[])
        assert violations(wrong) == {"?query.offset": "type", "?query.desc": "type"}
        named = of_people.owner.post(f"{USERS}/_search", json=[active, {"stateFiler": {}}])
        assert violations(named) == {"1/stateFiler": "unknownField"}

    def test_what_is_wrong_with_filters_is_named(self, tenant: Tenant) -> None:
        """Two members at once, case of ids, too deep, and a limit beyond what is allowed, each by its pointer."""
        two = {"stateFilter": {"state": "USER_STATE_ACTIVE"}, "schemaIdFilter": {"id": "1"}}
        case = {
            "notFilter": {"query": {"userIdFilter": {"id": "1", "method": "TEXT_FILTER_METHOD_EQUALS_IGNORE_CASE"}}}
        }
        wrong = tenant.owner.post(f"{USERS}/_search", json={"filters": [two, case]})
        assert violations(wrong) == {
            "filters/0": "alternatives",
            "filters/1/notFilter/query/userIdFilter/method": "unsupported",
        }
        deep: Any = {"stateFilter": {"state": "STATE_ACTIVE"}}
        for _ in range(20):
            deep = {"notFilter": {"filter": deep}}
        answer = tenant.owner.post(f"{SCHEMAS}/_search", json={"filters": [deep]})
        assert list(violations(answer).values()) == ["depth"]
        limit = tenant.owner.post(f"{USERS}/_search", json={"query": {"limit": 1001}})
        assert violations(limit) == {"query/limit": "maximum"}


@pytest.fixture(scope="module")
def of_people(server: Any, admin: Api) -> Any:
    """Give an organization for the users that are searched."""
    organization_id = admin.ok("POST", "/v3alpha/organizations", {"name": "People"})["organizationId"]
    roles = [{"role": "ORG_OWNER", "organizationId": organization_id}]
    with server.client(admin.ok("POST", "/v3alpha/tokens", {"name": "owner", "roles": roles})["token"]) as owner:
        schema = owner.ok("POST", SCHEMAS, {"type": "person", "schema": SCHEMA})
        yield Tenant(organization_id, owner, schema["details"]["id"], server, admin)


@pytest.fixture(scope="module")
def people(of_people: Tenant) -> dict[str, str]:
    """Make three users, of whom the last is locked."""
    for name in "abc":
        contact = {"email": {"address": f"{name}@example.com", "isVerified": True}}
        make(of_people, userId=f"{of_people.organization_id}-{name}", username=name, contact=contact)
    of_people.owner.ok("POST", f"{USERS}/{of_people.organization_id}-c/_lock")
    return {name: f"{of_people.organization_id}-{name}" for name in "abc"}


class TestSchemas:
    def test_a_schema_goes_through_its_life(self, tenant: Tenant) -> None:
        """Created, read with its config, patched to a new revision, moved from state to state, deleted."""
        body = {"type": "guest", "schema": SCHEMA, "possibleAuthenticators": ["AUTHENTICATOR_TYPE_USERNAME"]}
        made = tenant.owner.post(SCHEMAS, json=body)
        assert (made.status_code, made.json().keys()) == (201, {"details"})
        details = made.json()["details"]
        at = f"{SCHEMAS}/{details['id']}"
        assert tenant.owner.ok("GET", at) == {
            "userSchema": {"details": details, "config": body, "state": "STATE_ACTIVE", "revision": 1}
        }
        assert tenant.owner.ok("PATCH", at, {"schema": {"type": "object"}}).keys() == {"details"}
        tenant.owner.ok("POST", f"{at}/_deactivate")
        filters = [{"typeFilter": {"type": "guest"}}, {"stateFilter": {"state": "STATE_INACTIVE"}}]
        page = tenant.owner.ok("POST", f"{SCHEMAS}/_search", {"filters": filters})
        (result,) = page["result"]
        assert (result["revision"], result["config"]["schema"]) == (2, {"type": "object"})
        tenant.owner.ok("POST", f"{at}/_reactivate")
        assert refused(tenant.owner.post(f"{at}/_reactivate")) == (400, "SCHEMA_STATE")
        tenant.owner.ok("DELETE", at)
        assert tenant.owner.get(at).status_code == 404

    def test_the_instance_owns_what_its_owner_makes(self, admin: Api) -> None:
        """Its schemas belong to the instance, and are sorted by when they were made."""
        made = [admin.ok("POST", SCHEMAS, {"type": f"instance-wide-{n}", "schema": {}})["details"] for n in "ab"]
        assert made[0]["owner"]["type"] == "OWNER_TYPE_INSTANCE"
        filters = [{"typeFilter": {"type": "instance-wide-", "method": "TEXT_FILTER_METHOD_STARTS_WITH"}}]
        body = {"filters": filters, "sortingColumn": "FIELD_NAME_CREATION_DATE", "query": {"desc": True}}
        result = admin.ok("POST", f"{SCHEMAS}/_search", body)["result"]
        assert [each["details"]["id"] for each in result] == [each["id"] for each in reversed(made)]
        for each in made:
            admin.ok("DELETE", f"{SCHEMAS}/{each['id']}")
