"""Reads, each within what the caller may see."""

from __future__ import annotations

import asyncio
import dataclasses
import hashlib
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

from msgspec.structs import replace

from schema_user.domain.access import (
    lacking,
    reached_message,
    reached_organization,
    reached_schema,
    reached_token,
    reached_user,
    reached_webhook,
    require,
    require_user,
)
from schema_user.domain.data_search import (
    MOST_DATA_QUERIES,
    canonical_path,
    data_queries,
    entries_of,
    with_entries,
)
from schema_user.domain.job import JobKind
from schema_user.domain.job_access import reached_dry_run
from schema_user.domain.permission import Permission
from schema_user.domain.search import AllOf, AnyOf, Is, Not, Text
from schema_user.errors import Malformed, Missing, Unmet, Violation
from schema_user.store.tokens import within
from schema_user.validation.seen_schema import seen_schema
from schema_user.wiring import aside

if TYPE_CHECKING:
    from collections.abc import Sequence

    from schema_user.domain.caller import Caller, Token
    from schema_user.domain.comparison import Comparison
    from schema_user.domain.job import Job
    from schema_user.domain.message import SeenMessage
    from schema_user.domain.organization import Organization
    from schema_user.domain.schema import IndexedPath, UserSchema
    from schema_user.domain.search import Data, Entries, Page, Query
    from schema_user.domain.user import User
    from schema_user.domain.webhook import Webhook
    from schema_user.store.connection import Document
    from schema_user.store.search import Found
    from schema_user.wiring import Wiring


@dataclass(frozen=True, slots=True)
class SeenUser:
    """A user and the present name of its schema's type."""

    user: User
    schema_type: str


@dataclass(frozen=True, slots=True)
class Compared:
    """What changed between two revisions of a schema."""

    from_revision: int
    to_revision: int
    comparison: Comparison


@dataclass(frozen=True, slots=True)
class SeenIndexing:
    """What a schema marks, its last back-fill, and the organizations of whose users the caller may hear (None: all)."""

    paths: tuple[IndexedPath, ...]
    unique: tuple[str, ...]
    job: Job | None
    organizations: frozenset[str] | None


@dataclass(frozen=True, slots=True)
class Checked:
    """What a schema, and a document under it, are worth."""

    violations: Sequence[Violation]
    warnings: Sequence[Violation] = ()


async def get_user(wiring: Wiring, caller: Caller, user_id: str) -> SeenUser:
    """Give a user.

    Raises:
        Missing: if it is not there for the caller.
        Denied: without ``user.read``, for another than the user itself.
    """
    user = reached_user(caller, await wiring.users.read(user_id), user_id)
    require_user(caller, Permission.USER_READ, user)
    schema = await wiring.schemas.head(user.schema_id)
    return SeenUser(await _as_seen(wiring, caller, user, schema), "" if schema is None else schema.type)


async def _as_seen(wiring: Wiring, caller: Caller, user: User, schema: UserSchema | None) -> User:
    """Leave out what the caller may not read of the data; all of it, if the schema that says so is not there."""
    if schema is None:
        return replace(user, data={})
    access = await wiring.field_access(caller, user.user_id, schema)
    if access is None:
        return user
    return replace(user, data=await aside(lambda: access.visible(user.data), user.data))


async def validate_user(wiring: Wiring, caller: Caller, user_id: str, schema_id: str | None) -> Checked:
    """Validate a user's stored data against the current revision of its schema, or of another.

    Raises:
        Missing, Denied: as for reading; another schema needs ``user.write``.
        Unmet: if the schema is not known in the user's organization.
    """
    user = reached_user(caller, await wiring.users.read(user_id), user_id)
    require(caller, Permission.USER_READ, user.organization_id)
    wanted = schema_id or user.schema_id
    if wanted != user.schema_id:
        require(caller, Permission.USER_WRITE, user.organization_id)
    schema = await wiring.schemas.head(wanted)
    if schema is None or not schema.serves(user.organization_id):
        violation = Violation("schemaId", "is not known in the user's organization", "schemaUnknown")
        raise Unmet("SCHEMA_UNKNOWN", "the user schema is not known in the user's organization", [violation])
    violations = await wiring.violations(schema, user.data)
    own = schema if wanted == user.schema_id else await wiring.schemas.head(user.schema_id)
    for each in [schema] if own is None or own is schema else [own, schema]:
        access = await wiring.field_access(caller, user_id, each)
        if access is not None:
            violations = await aside(partial(access.readable, user.data, violations), user.data)
    return Checked(violations)


async def get_user_schema(wiring: Wiring, caller: Caller, user_id: str) -> UserSchema:
    """Give the schema of a user, for forms: without what the caller may not read.

    Raises:
        Missing, Denied: as for reading the user.
    """
    user = reached_user(caller, await wiring.users.read(user_id), user_id)
    require_user(caller, Permission.USER_READ, user)
    schema = await wiring.schemas.head(user.schema_id)
    if schema is None:
        raise Missing("SCHEMA_NOT_FOUND", "user schema not found")
    access = await wiring.field_access(caller, user_id, schema)
    if access is None:
        return schema
    return dataclasses.replace(schema, text=await asyncio.to_thread(seen_schema, schema, access))


def _binding(caller: Caller, kind: str, query: Query) -> str:
    return f"{kind}|{caller.token_id}|{caller.acting or ''}|{hashlib.sha256(repr(query).encode()).hexdigest()}"


async def search_users(wiring: Wiring, caller: Caller, query: Query, page: Page) -> tuple[Found[User], dict[str, str]]:
    """Search the users of every organization where the caller holds ``user.read``.

    The second value names the types of the schemas that the result speaks of, by their ids.

    Raises:
        Denied: if the caller holds ``user.read`` nowhere.
        Malformed: ``FIELD_NOT_INDEXED``, for a path that no schema within its reach has indexed.
        Unmet: ``INDEX_NOT_READY``, while one of those is being back-filled; ``SEARCH_TOO_BROAD``.
    """
    organizations = _searchable(caller, Permission.USER_READ)
    scope: Document = {"deleted": False}
    if organizations is not None:
        scope["organization_id"] = {"$in": sorted(organizations)}
    binding = _binding(caller, "users", query)
    asked = await _without_types(wiring, await _with_entries(wiring, caller, organizations, query))
    found = await wiring.users.search(scope, asked, page, binding)
    heads = {user.schema_id: await wiring.schemas.head(user.schema_id) for user in found.items}
    seen = [await _as_seen(wiring, caller, user, heads[user.schema_id]) for user in found.items]
    types = {schema_id: head.type for schema_id, head in heads.items() if head is not None}
    return dataclasses.replace(found, items=tuple(seen)), types


def _searchable(caller: Caller, permission: Permission) -> frozenset[str] | None:
    organizations = caller.organizations(permission)
    if organizations is not None and not organizations:
        raise lacking(permission)
    return organizations


async def _with_entries(wiring: Wiring, caller: Caller, organizations: frozenset[str] | None, query: Query) -> Query:
    """Ask the index for what is asked of ``data``, of users whose schemas have the path indexed."""
    asked = list(data_queries(query))
    if not asked:
        return query
    if len(asked) > MOST_DATA_QUERIES:
        violation = Violation(asked[MOST_DATA_QUERIES].at, f"is one of more than {MOST_DATA_QUERIES}", "maxItems")
        raise Malformed("FIELD_INVALID", f"{violation.field} {violation.description}", [violation])
    paths = {canonical_path(each.path) or "" for each in asked}
    markings = {path: await wiring.schemas.marking(path, organizations) for path in paths}

    def known(data: Data) -> Entries:
        path = canonical_path(data.path) or ""
        marked = {
            schema_id: each for schema_id, held in markings[path].items() for each in held.paths if each.path == path
        }
        if not marked:
            violation = Violation(f"{data.at}/path", "is indexed by no schema that the caller knows", "notIndexed")
            raise Malformed("FIELD_NOT_INDEXED", f"{violation.field} {violation.description}", [violation])
        unready = sorted(schema_id for schema_id, each in marked.items() if not each.ready)
        if unready:
            violation = Violation(f"{data.at}/path", "is being indexed for the users there were before", "notReady")
            facts = {"path": path, "schemaId": unready[0]}
            raise Unmet("INDEX_NOT_READY", f"{violation.field} {violation.description}", [violation], metadata=facts)
        own = all(each.own for each in marked.values())
        return dataclasses.replace(
            entries_of(data),
            schemas=frozenset(marked),
            stale=frozenset(each for each, held in markings[path].items() if path in held.stale),
            # Whoever may read it of others and not of itself must not find itself by it.
            unseen=None if own else caller.user_id,
        )

    return with_entries(query, known)


async def _without_types(wiring: Wiring, query: Query) -> Query:
    """Put the ids of schemas in the place of their types, which users do not carry."""
    match query:
        case Text("schema_type", value, method):
            ids = await wiring.schemas.ids_of(Text("type", value, method))
            return AnyOf(tuple(Is("schema_id", schema_id) for schema_id in ids))
        case AnyOf(queries):
            return AnyOf(tuple([await _without_types(wiring, each) for each in queries]))
        case AllOf(queries):
            return AllOf(tuple([await _without_types(wiring, each) for each in queries]))
        case Not(inner):
            return Not(await _without_types(wiring, inner))
        case _:
            return query


async def get_schema(wiring: Wiring, caller: Caller, schema_id: str, revision: int | None = None) -> UserSchema:
    """Give a schema, as it is or (with ``revision``) as it was.

    Raises:
        Missing: if it is not there for the caller, or never had this revision.
        Denied: without ``userschema.read``.
    """
    schema = await _readable_schema(wiring, caller, schema_id)
    if revision is None:
        return schema
    found = await wiring.schemas.revision(schema, revision)
    if found is None:
        raise Missing("REVISION_NOT_FOUND", "the user schema has no such revision")
    return found


async def _readable_schema(wiring: Wiring, caller: Caller, schema_id: str) -> UserSchema:
    schema = reached_schema(caller, await wiring.schemas.find(schema_id), schema_id)
    if schema.organization_id is None:
        # The instance's schemas serve every organization, so whoever reads schemas in one reads them too.
        if not _reads_schemas(caller):
            raise lacking(Permission.USERSCHEMA_READ)
    else:
        require(caller, Permission.USERSCHEMA_READ, schema.organization_id)
    return schema


def _reads_schemas(caller: Caller) -> bool:
    organizations = caller.organizations(Permission.USERSCHEMA_READ)
    return organizations is None or bool(organizations)


async def list_revisions(wiring: Wiring, caller: Caller, schema_id: str) -> list[tuple[int, Any]]:
    """List a schema's revisions and when each became current, the newest first.

    Raises:
        Missing, Denied: as for reading it.
    """
    return await wiring.schemas.revisions(await _readable_schema(wiring, caller, schema_id))


async def compare_revisions(
    wiring: Wiring, caller: Caller, schema_id: str, before: int | None, after: int | None
) -> Compared:
    """Compare a schema's revision with a later or earlier one; absent: the current one with the one before it.

    Raises:
        Missing, Denied: as for reading them.
        Unavailable: if too many validations wait.
    """
    head = await get_schema(wiring, caller, schema_id)
    new = await get_schema(wiring, caller, schema_id, head.revision if after is None else after)
    old = await get_schema(wiring, caller, schema_id, max(1, new.revision - 1) if before is None else before)
    return Compared(old.revision, new.revision, await wiring.validators.compare(old, new))


async def search_schemas(wiring: Wiring, caller: Caller, query: Query, page: Page) -> Found[UserSchema]:
    """Search the instance's schemas and those of every organization where the caller holds ``userschema.read``.

    Raises:
        Denied: if it holds that nowhere.
    """
    organizations = _searchable(caller, Permission.USERSCHEMA_READ)
    scope: Document = {"deleted": False}
    if organizations is not None:
        scope["organization_id"] = {"$in": [None, *sorted(organizations)]}
    return await wiring.schemas.search(scope, query, page, _binding(caller, "schemas", query))


async def check_schema(wiring: Wiring, caller: Caller, document: object, data: dict[str, Any] | None) -> Checked:
    """Put a JSON Schema through the gate, and a document through the schema; nothing is stored.

    Raises:
        Denied: without ``userschema.read`` anywhere.
        Unavailable: if too many validations wait.
    """
    if not _reads_schemas(caller):
        raise lacking(Permission.USERSCHEMA_READ)
    judged = await wiring.check_upload(caller, document, data)
    return Checked(judged.violations, judged.warnings)


async def get_organization(wiring: Wiring, caller: Caller, organization_id: str) -> Organization:
    """Give an organization.

    Raises:
        Missing: if it is not there for the caller.
        Denied: without ``org.read``.
    """
    found = await wiring.organizations.find(organization_id)
    reached_organization(caller, organization_id, exists=found is not None)
    require(caller, Permission.ORG_READ, organization_id)
    if found is None:
        raise Missing("ORGANIZATION_NOT_FOUND", "organization not found")
    return found


async def search_organizations(wiring: Wiring, caller: Caller, query: Query, page: Page) -> Found[Organization]:
    """Search the organizations where the caller holds ``org.read``.

    Raises:
        Denied: if it holds that nowhere.
    """
    organizations = _searchable(caller, Permission.ORG_READ)
    scope: Document = {"deleted": False}
    if organizations is not None:
        scope["_id"] = {"$in": sorted(organizations)}
    return await wiring.organizations.search(scope, query, page, _binding(caller, "organizations", query))


async def get_token(wiring: Wiring, caller: Caller, token_id: str) -> Token:
    """Give a token, without its secret.

    Raises:
        Missing: if it reaches beyond the caller.
        Denied: without ``token.read`` wherever the token reaches.
    """
    token = reached_token(caller, await wiring.tokens.find(token_id))
    if not all(caller.may(Permission.TOKEN_READ, organization) for organization in token.organizations):
        raise lacking(Permission.TOKEN_READ)
    return token


async def search_tokens(wiring: Wiring, caller: Caller, query: Query, page: Page) -> Found[Token]:
    """Search the tokens that reach nothing beyond where the caller holds ``token.read``.

    Raises:
        Denied: if it holds that nowhere.
    """
    scope = within(_searchable(caller, Permission.TOKEN_READ))
    return await wiring.tokens.search(scope, query, page, _binding(caller, "tokens", query))


async def get_message(wiring: Wiring, caller: Caller, message_id: str) -> SeenMessage:
    """Give what may be told of a message; one that still waits in its user's document is not there yet.

    Raises:
        Missing: if it is not there for the caller.
        Denied: without ``message.read`` in its organization.
    """
    message = reached_message(caller, await wiring.outbox.read(message_id), message_id)
    require(caller, Permission.MESSAGE_READ, message.organization_id)
    return message


async def get_dry_run(wiring: Wiring, caller: Caller, schema_id: str, job_id: str) -> Job:
    """Give a dry run of a schema.

    Raises:
        Missing: if it is not there for the caller: who could not have started it knows nothing of it.
        Denied: without the permissions to start one.
    """
    schema = reached_schema(caller, await wiring.schemas.find(schema_id), schema_id)
    return reached_dry_run(caller, schema, await wiring.jobs.read(job_id), job_id)


async def get_indexing(wiring: Wiring, caller: Caller, schema_id: str) -> SeenIndexing:
    """Give what a schema has indexed and unique, and its last back-fill.

    Raises:
        Missing, Denied: as for reading the schema.
    """
    schema = await _readable_schema(wiring, caller, schema_id)
    plan = await wiring.plans.get(schema)
    return SeenIndexing(
        schema.marking.paths,
        tuple(sorted(plan.unique)) if plan is not None else (),
        await wiring.jobs.latest(schema_id, JobKind.BACK_FILL),
        caller.organizations(Permission.USER_READ),
    )


async def get_webhook(wiring: Wiring, caller: Caller, webhook_id: str) -> Webhook:
    """Give a webhook, without its secrets.

    Raises:
        Missing: if it is not there for the caller.
        Denied: without ``webhook.read`` in its organization, or for the instance's.
    """
    webhook = reached_webhook(caller, await wiring.webhooks.find(webhook_id), webhook_id)
    require(caller, Permission.WEBHOOK_READ, webhook.organization_id)
    return webhook


async def search_webhooks(wiring: Wiring, caller: Caller, query: Query, page: Page) -> Found[Webhook]:
    """Search the webhooks of every organization where the caller holds ``webhook.read``, and of the instance if there.

    Raises:
        Denied: if it holds that nowhere.
    """
    organizations = _searchable(caller, Permission.WEBHOOK_READ)
    scope: Document = {} if organizations is None else {"organization_id": {"$in": sorted(organizations)}}
    return await wiring.webhooks.search(scope, query, page, _binding(caller, "webhooks", query))


async def search_messages(wiring: Wiring, caller: Caller, query: Query, page: Page) -> Found[SeenMessage]:
    """Search the messages of every organization where the caller holds ``message.read``.

    Those that still wait in their users' documents are left out: they come within a second of their birth.

    Raises:
        Denied: if it holds that nowhere.
    """
    organizations = _searchable(caller, Permission.MESSAGE_READ)
    scope: Document = {} if organizations is None else {"organization_id": {"$in": sorted(organizations)}}
    return await wiring.outbox.search(scope, query, page, _binding(caller, "messages", query))
