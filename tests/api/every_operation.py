"""Every operation that the server publishes: what it is about, what it needs, and how a test asks for it.

The tests of isolation and of roles go by this one table, so an operation that is not in it fails both.
"""

from __future__ import annotations

import itertools
import re
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from tests.conftest import SCHEMA, Api, Server

if TYPE_CHECKING:
    from collections.abc import Callable, Container, Iterator

    import httpx

ORGANIZATION_HEADER: Final = "x-zitadel-orgid"
ANYWHERE: Final = "anywhere"
"""What an operation is about that concerns no organization, but wants its permission in one at least."""

NOTHING: Final = dict[str, str](
    userId="999999999999999991",
    schemaId="999999999999999992",
    organizationId="999999999999999993",
    tokenId="999999999999999994",
    messageId="999999999999999996:ffffffffffffffffffffffff",
    webhookId="999999999999999995",
    humanId="999999999999999997",
    jobId="999999999999999998",
    migrationId="999999999999999990",
)
"""Ids of the service's own form that nothing ever had."""

_numbers = itertools.count(1)


@dataclass(frozen=True)
class Row:
    """What one operation is about, and what it needs.

    ``about`` is what the path names, or ``search``, ``create``, ``instance`` (creates an organization), ``anywhere``.
    ``needs`` is the permission of the contract's tables, and ``also`` another one; ``itself``: the user may do it to
    itself without. ``at_home``: without the header it acts in the caller's own organization, wherever else the
    caller's roles reach.
    ``body`` makes a body that works, of the ids of an organization's things.
    """

    about: str
    needs: str
    body: Callable[[dict[str, str]], Any] | None = None
    also: str = ""
    itself: bool = False
    media_type: str = "application/json"
    at_home: bool = False

    def permits(self, held: Container[str]) -> bool:
        """Whether these permissions are enough."""
        return self.needs in held and (not self.also or self.also in held)

    @property
    def reads(self) -> bool:
        """Whether it changes nothing."""
        return self.needs.endswith(".read")


def _nothing(_ids: dict[str, str]) -> Any:
    return {}


def _token(ids: dict[str, str]) -> Any:
    roles = [{"role": "ORG_USER_VIEWER", "organizationId": ids["organizationId"]}]
    return {"name": "made", "roles": roles}


def _schema(ids: dict[str, str]) -> Any:
    return {"type": f"t{next(_numbers)}", "schema": {}, "organization": {"orgId": ids["organizationId"]}}


def _user(ids: dict[str, str]) -> Any:
    organization = {"orgId": ids["organizationId"]}
    return {"schemaId": ids["schemaId"], "data": {"name": "Made"}, "organization": organization}


def _human(ids: dict[str, str]) -> Any:
    return {**_profile(ids), **_email(ids), "organization": {"orgId": ids["organizationId"]}}


def _profile(_ids: dict[str, str]) -> Any:
    return {"profile": {"givenName": f"Person {next(_numbers)}", "familyName": "Mouse"}}


def _email(_ids: dict[str, str]) -> Any:
    return {"email": {"email": f"h{next(_numbers)}@example.com", "isVerified": False}}


def _webhook(ids: dict[str, str]) -> Any:
    return {"url": "http://127.0.0.1:9/", "eventTypes": ["user.unlocked"], "organizationId": ids["organizationId"]}


def _code(_ids: dict[str, str]) -> Any:
    return {"verificationCode": "ABCDEF"}


def _new_password(_ids: dict[str, str]) -> Any:
    return {"newPassword": {"password": "Secr3tP4ssw0rd!"}, "verificationCode": "ABCDEF"}


def _person(_ids: dict[str, str]) -> Any:
    return {"data": {"name": f"Person {next(_numbers)}"}}


def _states(*verbs: str) -> dict[str, Row]:
    return {f"{verb}_user{alias}": Row("user", "user.write", _nothing) for verb in verbs for alias in ("", "_alias")}


OPERATIONS: Final[dict[str, Row]] = {
    "create_user": Row("create", "user.write", _user),
    "get_user": Row("user", "user.read", itself=True),
    "update_user": Row("user", "user.write", _person, itself=True),
    "update_user_patch": Row("user", "user.write", _person, itself=True),
    "delete_user": Row("user", "user.delete"),
    "patch_data": Row(
        "user", "user.write", lambda _: {"age": 7}, itself=True, media_type="application/merge-patch+json"
    ),
    "import_users": Row("search", "user.write", _nothing, media_type="application/x-ndjson"),
    "export_users": Row("search", "user.read"),
    "search_users": Row("search", "user.read", _nothing),
    "search_users_alias": Row("search", "user.read", _nothing),
    **_states("deactivate", "reactivate", "lock", "unlock"),
    "validate_user": Row("user", "user.read", _nothing),
    "get_user_schema": Row("user", "user.read", itself=True),
    "get_user_history": Row("user", "user.read"),
    "get_access_report": Row("user", "user.read"),
    "set_email": Row("user", "user.write", lambda _: {"address": f"n{next(_numbers)}@example.com"}, itself=True),
    "remove_email": Row("user", "user.write", itself=True),
    "verify_email": Row("user", "user.write", _code, itself=True),
    "resend_email_code": Row("user", "user.write", _nothing, itself=True),
    "set_phone": Row("user", "user.write", lambda _: {"number": f"+4179{next(_numbers):07}"}, itself=True),
    "remove_phone": Row("user", "user.write", itself=True),
    "verify_phone": Row("user", "user.write", _code, itself=True),
    "resend_phone_code": Row("user", "user.write", _nothing, itself=True),
    "set_password": Row("user", "user.write", _new_password, itself=True),
    "reset_password": Row("user", "user.write", _nothing, itself=True),
    "verify_password": Row("user", "user.write", lambda _: {"password": "wr0ng Passw0rd"}),
    "create_human": Row("create", "user.write", _human),
    "update_human": Row("human", "user.write", _profile, itself=True),
    "get_human": Row("human", "user.read", itself=True),
    "delete_human": Row("human", "user.delete"),
    "list_humans": Row("search", "user.read", _nothing),
    **{
        f"{verb}_human": Row("human", "user.write", _nothing) for verb in ("deactivate", "reactivate", "lock", "unlock")
    },
    "set_human_email": Row("human", "user.write", lambda _: {"email": f"n{next(_numbers)}@example.com"}, itself=True),
    "set_human_phone": Row("human", "user.write", lambda _: {"phone": f"+4178{next(_numbers):07}"}, itself=True),
    "remove_human_phone": Row("human", "user.write", itself=True),
    "verify_human_email": Row("human", "user.write", _code, itself=True),
    "verify_human_phone": Row("human", "user.write", _code, itself=True),
    "resend_human_email_code": Row("human", "user.write", _nothing, itself=True),
    "resend_human_email_code_alias": Row("human", "user.write", _nothing, itself=True),
    "resend_human_phone_code": Row("human", "user.write", _nothing, itself=True),
    "set_human_password": Row("human", "user.write", _new_password, itself=True),
    "reset_human_password": Row("human", "user.write", _nothing, itself=True),
    **{
        f"replace_human_profile{alias}": Row(
            "human", "user.write", lambda _: {"firstName": f"N{next(_numbers)}", "lastName": "Mouse"}, at_home=True
        )
        for alias in ("", "_alias")
    },
    **{
        f"replace_human_email{alias}": Row(
            "human", "user.write", lambda _: {"email": f"n{next(_numbers)}@example.com"}, at_home=True
        )
        for alias in ("", "_alias")
    },
    "create_schema": Row("create", "userschema.write", _schema),
    "get_schema": Row("schema", "userschema.read"),
    "update_schema": Row("schema", "userschema.write", lambda _: {"type": f"t{next(_numbers)}"}),
    "update_schema_patch": Row("schema", "userschema.write", lambda _: {"type": f"t{next(_numbers)}"}),
    "delete_schema": Row("schema", "userschema.delete"),
    "deactivate_schema": Row("schema", "userschema.write", _nothing),
    "reactivate_schema": Row("schema", "userschema.write", _nothing),
    "search_schemas": Row("search", "userschema.read", _nothing),
    "list_revisions": Row("schema", "userschema.read"),
    "start_dry_run": Row("schema", "userschema.write", lambda _: {"schema": {}}, also="user.read"),
    "get_dry_run": Row("job", "userschema.write", also="user.read"),
    "get_indexing": Row("schema", "userschema.read"),
    "repeat_indexing": Row("schema", "userschema.write", _nothing),
    "cancel_dry_run": Row("job", "userschema.write", _nothing, also="user.read"),
    "compare_revisions": Row("schema", "userschema.read"),
    "start_migration": Row("schema", "userschema.write", lambda _: {"toRevision": 1}, also="user.write"),
    "get_migration": Row("migration", "userschema.write", also="user.write"),
    "cancel_migration": Row("migration", "userschema.write", _nothing, also="user.write"),
    "retry_migration": Row("migration", "userschema.write", _nothing, also="user.write"),
    "check_schema": Row(ANYWHERE, "userschema.read", lambda _: {"schema": {}}),
    "create_user_resource": Row("create", "user.write", _user),
    "get_user_resource": Row("user", "user.read", itself=True),
    "patch_user_resource": Row("user", "user.write", _person, itself=True),
    "delete_user_resource": Row("user", "user.delete"),
    "search_user_resources": Row("search", "user.read", _nothing),
    **{
        f"{verb}_user_resource": Row("user", "user.write", _nothing)
        for verb in ("deactivate", "activate", "lock", "unlock")
    },
    "set_contact_email": Row(
        "user", "user.write", lambda _: {"address": f"n{next(_numbers)}@example.com"}, itself=True
    ),
    "verify_contact_email": Row("user", "user.write", _code, itself=True),
    "resend_contact_email_code": Row("user", "user.write", _nothing, itself=True),
    "set_contact_phone": Row("user", "user.write", lambda _: {"number": f"+4179{next(_numbers):07}"}, itself=True),
    "verify_contact_phone": Row("user", "user.write", _code, itself=True),
    "resend_contact_phone_code": Row("user", "user.write", _nothing, itself=True),
    "create_schema_resource": Row("create", "userschema.write", _schema),
    "get_schema_resource": Row("schema", "userschema.read"),
    "patch_schema_resource": Row("schema", "userschema.write", lambda _: {"type": f"t{next(_numbers)}"}),
    "delete_schema_resource": Row("schema", "userschema.delete"),
    **{f"{verb}_schema_resource": Row("schema", "userschema.write", _nothing) for verb in ("deactivate", "reactivate")},
    "search_schema_resources": Row("search", "userschema.read", _nothing),
    "create_organization": Row("instance", "instance", lambda _: {"name": "Made"}),
    "get_organization": Row("organization", "org.read"),
    "update_organization": Row("organization", "org.write", lambda _: {"name": f"Name {next(_numbers)}"}),
    "delete_organization": Row("organization", "instance"),
    "deactivate_organization": Row("organization", "org.write", _nothing),
    "reactivate_organization": Row("organization", "org.write", _nothing),
    "search_organizations": Row("search", "org.read", _nothing),
    "create_token": Row("create", "token.write", _token),
    "get_token": Row("token", "token.read"),
    "revoke_token": Row("token", "token.delete"),
    "search_tokens": Row("search", "token.read", _nothing),
    "get_message": Row("message", "message.read"),
    "drop_message": Row("message", "message.delete"),
    "search_messages": Row("search", "message.read", _nothing),
    "retry_message": Row("message", "message.write", _nothing),
    "create_webhook": Row("create", "webhook.write", _webhook),
    "get_webhook": Row("webhook", "webhook.read"),
    "search_webhooks": Row("search", "webhook.read", _nothing),
    "update_webhook": Row("webhook", "webhook.write", lambda _: {"eventTypes": ["user.locked"]}),
    "delete_webhook": Row("webhook", "webhook.delete"),
}
"""What needs a token. In the order of the reference."""

OPEN: Final = {
    "discovery": "says nothing of anybody",
    "issue_access_token": "clients authenticate themselves: tests/api/test_oauth.py",
    "live": "says nothing of anybody",
    "ready": "says nothing of anybody",
    "metrics": "this machine, or org.read of the instance: test_metrics_and_previews_ask_who_comes_from_elsewhere",
    "openapi_json": "says nothing of anybody",
    "docs_page": "says nothing of anybody",
    "mailbox_page": "this machine only: tests/api/test_mailbox_page.py",
    **dict.fromkeys(
        (f"{verb}_{channel}" for channel in ("email", "phone") for verb in ("open", "post")),
        "only with a signed link: tests/api/test_verification_page.py",
    ),
    **dict.fromkeys(("open_password", "post_password"), "only with a signed link: tests/api/test_passwords.py"),
    "preview_page": "this machine, or message.read: test_metrics_and_previews_ask_who_comes_from_elsewhere",
}
"""What needs none, and why that tells nothing, or where it is tested."""


@dataclass(frozen=True)
class Published:
    """An operation as the reference publishes it.

    ``id_fields`` are the places of its body that hold an id, as pointers with ``0`` for the items of lists.
    """

    name: str
    method: str
    path: str
    id_fields: tuple[str, ...] = ()

    def ask(self, caller: Api, ids: dict[str, str], body: Any = None, headers: dict[str, str] | None = None) -> Any:
        """Ask for it with the ids of some things; by default with the body of its row."""
        row = OPERATIONS[self.name]
        if row.about == "human":
            ids = {**ids, "userId": ids["humanId"]}
        if row.about == "migration":
            ids = {**ids, "jobId": ids["migrationId"]}
        path = re.sub(r"{(\w+)}", lambda match: ids[match[1]], self.path)
        sent = row.body(ids) if body is None and row.body is not None else body
        given = {"Content-Type": row.media_type} if sent is not None else {}
        response: httpx.Response = caller.request(self.method, path, json=sent, headers=given | (headers or {}))
        return response


def published(admin: Api) -> list[Published]:
    """Read the reference of the running server."""
    document = admin.ok("GET", "/openapi.json")
    found = []
    for path, methods in document["paths"].items():
        for method, described in methods.items():
            if "operationId" in described:
                content = described.get("requestBody", {}).get("content", {})
                body = content.get("application/json", {}).get("schema")
                places = dict.fromkeys(_id_fields(document["components"]["schemas"], body or {}))
                found.append(Published(described["operationId"], method.upper(), path, tuple(places)))
    return found


def is_open(operation: Published) -> bool:
    """Whether it needs no token."""
    name = operation.name.removesuffix("_head").removesuffix("_link").removesuffix("_code")
    return operation.name in OPEN or name in OPEN


def guarded(admin: Api) -> list[Published]:
    """Give the operations that need a token; each has a row, and each row an operation."""
    found = [each for each in published(admin) if not is_open(each)]
    assert {each.name for each in found} == set(OPERATIONS), "the table and the reference differ"
    return found


def _id_fields(components: Any, schema: Any, at: str = "", within: frozenset[str] = frozenset()) -> Iterator[str]:
    for option in (schema, *schema.get("anyOf", ()), *schema.get("oneOf", ()), *schema.get("allOf", ())):
        if "$ref" in option:
            name = option["$ref"].rpartition("/")[2]
            if name not in within:
                yield from _id_fields(components, components[name], at, within | {name})
        for name, inner in option.get("properties", {}).items():
            here = f"{at}/{name}"
            if re.search(r"(^i|I)d$", name):
                yield here
            else:
                yield from _id_fields(components, inner, here, within)
        if "items" in option:
            yield from _id_fields(components, option["items"], f"{at}/0", within)


def with_value(body: Any, pointer: str, value: str) -> Any:
    """Give the body with a value at a place."""
    name, _, rest = pointer.removeprefix("/").partition("/")
    inner = with_value(body.get(name, {}) if isinstance(body, dict) else {}, rest, value) if rest else value
    return [inner] if name == "0" else {**body, name: inner}


@dataclass
class Place:
    """An organization with one of everything, and more of it for whoever may destroy that."""

    organization_id: str
    admin: Api
    server: Server
    ids: dict[str, str] = field(default_factory=dict)

    @classmethod
    def make(cls, server: Server, admin: Api) -> Place:
        """Make one with a user, a schema, a token, a webhook and a message that waits."""
        organization_id = admin.ok("POST", "/v3alpha/organizations", {"name": "Mouse"})["organizationId"]
        place = cls(organization_id, admin, server, {"organizationId": organization_id})
        place.ids["schemaId"] = place.schema()
        for kind in ("user", "human", "token", "webhook", "message", "job", "migration"):
            place.ids[f"{kind}Id"] = place.fresh(kind)
        return place

    def fresh(self, kind: str) -> str:
        """Make another thing of a kind."""
        made: str = getattr(self, kind)()
        return made

    def with_fresh(self, kind: str) -> dict[str, str]:
        """Give the ids with that of another thing of a kind."""
        name = f"{kind}Id"
        return {**self.ids, name: self.fresh(kind)} if name in self.ids else self.ids

    def user(self, **body: Any) -> str:
        """Make a user who has an unverified address."""
        contact = {"email": {"address": f"u{next(_numbers)}@example.com", "returnCode": {}}}
        wanted = {
            "schemaId": self.ids["schemaId"],
            "data": {"name": "Minnie"},
            "organization": {"orgId": self.organization_id},
            "contact": contact,
            **body,
        }
        return str(self.admin.ok("POST", "/v3alpha/users", wanted)["userId"])

    def human(self) -> str:
        """Make a person who has an unverified address."""
        return str(self.admin.ok("POST", "/v2/users/human", _human(self.ids))["userId"])

    def schema(self) -> str:
        """Make a schema that no user has."""
        owner = {"orgId": self.organization_id}
        body = {"type": f"t{next(_numbers)}", "schema": SCHEMA, "organization": owner}
        return str(self.admin.ok("POST", "/v3alpha/user_schemas", body)["id"])

    def organization(self) -> str:
        """Make an organization with nothing in it, which belongs to nobody."""
        return str(self.admin.ok("POST", "/v3alpha/organizations", {"name": "Mouse"})["organizationId"])

    def token(self) -> str:
        """Make a token, and give its id."""
        return str(self.admin.ok("POST", "/v3alpha/tokens", _token(self.ids))["tokenId"])

    def webhook(self) -> str:
        """Make a webhook, and give its id."""
        return str(self.admin.ok("POST", "/v3alpha/webhooks", _webhook(self.ids))["webhookId"])

    def job(self) -> str:
        """Start a dry run and cancel it, and give its id."""
        path = f"/v3alpha/user_schemas/{self.ids['schemaId']}/dry_run"
        made = str(self.admin.ok("POST", path, {"schema": {}})["jobId"])
        self.admin.ok("POST", f"{path}/{made}/cancel")
        return made

    def migration(self) -> str:
        """Start a migration and cancel it, and give its id."""
        path = f"/v3alpha/user_schemas/{self.ids['schemaId']}/migrations"
        made = str(self.admin.ok("POST", path, {"toRevision": 1})["jobId"])
        deadline = time.monotonic() + 20
        while self.admin.ok("POST", f"{path}/{made}/cancel")["state"] in {"JOB_STATE_PENDING", "JOB_STATE_RUNNING"}:
            assert time.monotonic() < deadline, "the job did not end"
            time.sleep(0.05)
        return made

    def message(self) -> str:
        """Cause a message that waits, and give its id once the relay brought it out."""
        user_id = self.user(contact={"email": {"address": f"m{next(_numbers)}@example.com", "sendCode": {}}})
        deadline = time.monotonic() + 20
        while True:
            query = {"queries": [{"userIdQuery": {"id": user_id}}]}
            found = self.admin.ok("POST", "/v3alpha/messages/search", query)["result"]
            if found:
                return str(found[0]["messageId"])
            assert time.monotonic() < deadline, "no message came"
            time.sleep(0.05)

    def caller(self, *roles: str, user_id: str | None = None, **more: Any) -> Api:
        """Make a caller with roles in this organization, or one that is a user."""
        grants = [{"role": role, "organizationId": self.organization_id} for role in roles]
        body = {"name": "caller", "roles": grants, **({} if user_id is None else {"userId": user_id}), **more}
        return self.server.client(self.admin.ok("POST", "/v3alpha/tokens", body)["token"])
