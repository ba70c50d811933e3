"""Users: create, update, move between states, delete."""

from __future__ import annotations

import contextlib
import dataclasses
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import msgspec
from msgspec.structs import replace

from schema_user.commands.change import (
    Decision,
    Target,
    answer_of,
    change_user,
    origin_of,
    repeated,
    require_active_organization,
    reserve,
    unreserve,
)
from schema_user.commands.code_limits import Postage
from schema_user.commands.contact_rules import contact_rules
from schema_user.commands.contacts import (
    AddressWish,
    check_wishes,
    forbidden_to_self,
    put_address,
    remove_address,
    require_write_for,
)
from schema_user.commands.events import user_deliveries
from schema_user.commands.fields import PermittedDocument, permit_document, permit_new_document, seen_data
from schema_user.commands.passwords import (
    PasswordWish,
    ReadyPassword,
    beyond_self,
    hashed,
    put_password,
    ready_password,
    require_allowed,
)
from schema_user.commands.refused_data import of_moved, of_outdated
from schema_user.commands.repetition import before_writing, begin_making
from schema_user.domain.access import reached_organization, require, require_user
from schema_user.domain.credential import first
from schema_user.domain.identifier import CLIENT_ID_RULE, is_client_id
from schema_user.domain.permission import Permission
from schema_user.domain.schema import SchemaState
from schema_user.domain.user import Transition, User, UserState, erased, moved, visibly_changed
from schema_user.errors import Conflict, Malformed, Unavailable, Unmet, Violation
from schema_user.wiring import aside

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import datetime

    from schema_user.commands.contact_rules import ContactRules
    from schema_user.domain.caller import Caller
    from schema_user.domain.contact import Channel
    from schema_user.domain.credential import Credential
    from schema_user.domain.field_access import FieldPermissions
    from schema_user.domain.history import Origin
    from schema_user.domain.repetition import Answered, Known, Once
    from schema_user.domain.schema import UserSchema
    from schema_user.wiring import Wiring


class CreateUser(msgspec.Struct, frozen=True):
    """Make a user of a schema in an organization; without ``user_id`` the service makes one."""

    schema_id: str
    data: dict[str, Any]
    organization_id: str
    user_id: str | None = None
    username: str | None = None
    wishes: tuple[AddressWish, ...] = ()
    state: UserState | None = None
    password: PasswordWish | None = None


@dataclass(frozen=True, slots=True)
class UpdateUser:
    """Change what is given and leave the rest alone.

    ``data`` replaces the whole document, and ``edit`` makes the new one of the latest as the caller sees it; an empty
    ``username`` removes it; ``remove`` names channels whose address goes. ``by_self``: whether the user itself may ask
    for it; ``must_change``: whether it is refused if nothing changes.
    """

    schema_id: str | None = None
    data: dict[str, Any] | None = None
    username: str | None = None
    wishes: tuple[AddressWish, ...] = ()
    remove: frozenset[Channel] = frozenset()
    edit: Callable[[dict[str, Any]], dict[str, Any]] | None = None
    password: ReadyPassword | None = None
    by_self: bool = True
    must_change: bool = False


async def create_user(
    wiring: Wiring,
    caller: Caller,
    command: CreateUser,
    *,
    validate_only: bool = False,
    request_id: str = "",
    once: Once | None = None,
) -> Decision:
    """Create a user.

    Raises:
        Malformed: for an id or address that is not one, or a password that will not do.
        Missing: if the organization is not there for the caller.
        Denied: without ``user.write`` in it, or for fields that the caller may not write.
        Unmet: if the organization or the schema is not usable, or the data does not match.
        Conflict: if the id was used before, or the username is taken.
        Exhausted: if no more codes may be sent.
    """
    check_form(command)
    check_wishes(command.wishes)
    await require_creatable(wiring, caller, command.organization_id)
    user_id = command.user_id or wiring.new_id()
    if once is not None:
        user_id, is_new = await begin_making(wiring, once, user_id)
        answered = None if is_new else await _answered(wiring, once, user_id)
        if answered is not None:
            return await _made_before(wiring, command, user_id, answered)
    decision = await decide_new(wiring, caller, command, user_id)
    postage = Postage(wiring)
    try:
        if decision.user.messages:
            await postage.pay(decision.user, rehearsed=validate_only)
        if validate_only:
            return await _rehearse(wiring, decision, made_id=command.user_id is None)
        return await _insert(wiring, command, decision, origin_of(caller, request_id), once, postage=postage)
    finally:
        if postage.paid:
            await postage.settle()


def check_form(command: CreateUser) -> None:
    """Raise Malformed for an id that a client may not give."""
    if command.user_id is not None and not is_client_id(command.user_id):
        raise Malformed("FIELD_INVALID", f"userId {CLIENT_ID_RULE}", [Violation("userId", CLIENT_ID_RULE, "pattern")])


async def require_creatable(wiring: Wiring, caller: Caller, organization_id: str) -> None:
    """Raise Missing or Denied unless the caller may make users in an organization."""
    known = await wiring.organizations.known(organization_id)
    reached_organization(caller, organization_id, exists=known is not None)
    require(caller, Permission.USER_WRITE, organization_id)


@dataclass(frozen=True, slots=True)
class CreationRules:
    """What new users of a schema in an organization have to meet, whoever makes them."""

    schema: UserSchema
    contact: ContactRules
    permissions: FieldPermissions | None


async def creation_rules(wiring: Wiring, organization_id: str, schema_id: str) -> CreationRules:
    """Find the rules for new users.

    Raises:
        Unmet: if the organization or the schema is not usable.
    """
    await require_active_organization(wiring, organization_id)
    schema = await usable_schema(wiring, schema_id, organization_id)
    rules = await contact_rules(wiring, organization_id)
    return CreationRules(schema, rules, await wiring.permissions.get(schema))


async def decide_new(wiring: Wiring, caller: Caller, command: CreateUser, user_id: str) -> Decision:
    """Say what a new user shall be, whoever writes it: all the rules of a creation but the form and who may.

    Raises:
        Malformed, Denied, Unmet: as for ``create_user()``.
    """
    organization_id = command.organization_id
    if command.password is not None:
        await require_allowed(wiring, command.password, organization_id)
    rules = await creation_rules(wiring, organization_id, command.schema_id)
    document = PermittedDocument(command.schema_id, command.data)
    document = await permit_new_document(wiring, caller, user_id, rules.schema, document)
    await require_valid(wiring, rules.schema, document)
    credential = None
    if command.password is not None:
        encoded = await hashed(wiring, command.password, organization_id)
        credential = first(encoded, wiring.now(), change_required=command.password.change_required)
    return new_user(wiring, rules, command, user_id, wiring.now(), credential=credential)


def decide_plain(
    wiring: Wiring, rules: CreationRules, command: CreateUser, user_id: str, now: datetime
) -> Decision | None:
    """As ``decide_new()``, if there is nothing to wait for: the one way to decide thousands in a second; else None.

    Raises:
        Malformed, Unmet: as there.
    """
    if rules.permissions is not None or command.password is not None or rules.schema.announced is not None:
        return None
    if not wiring.validators.passes(rules.schema, command.data):
        return None
    return new_user(wiring, rules, command, user_id, now)


def new_user(
    wiring: Wiring,
    rules: CreationRules,
    command: CreateUser,
    user_id: str,
    now: datetime,
    *,
    credential: Credential | None = None,
) -> Decision:
    """Make the user whose data is permitted and valid.

    Raises:
        Malformed, Unmet: as ``put_address()``.
    """
    decision = Decision(
        User(
            user_id=user_id,
            organization_id=command.organization_id,
            schema_id=rules.schema.schema_id,
            revision=rules.schema.revision,
            data=command.data,
            created_at=now,
            changed_at=now,
            username=command.username or None,
            active=command.state is not UserState.INACTIVE,
            locked=command.state is UserState.LOCKED,
            credential=credential,
        )
    )
    for wish in command.wishes:
        decision = put_address(wiring, decision, wish, rules.contact)
    return decision


async def _rehearse(wiring: Wiring, decision: Decision, *, made_id: bool) -> Decision:
    user = decision.user
    await unreserve(wiring, user, await reserve(wiring, None, user))
    if not made_id and await wiring.users.exists(user.user_id):
        raise id_taken()
    return replace(decision, codes={})


async def _insert(
    wiring: Wiring, command: CreateUser, decision: Decision, origin: Origin, once: Once | None, *, postage: Postage
) -> Decision:
    deliveries = await user_deliveries(wiring, None, decision.user, origin.request_id)
    reserved = await reserve(wiring, None, decision.user, once)
    user = reserved.user
    if not await postage.stored(wiring.users.insert(user, origin, answer_of(once, user, decision), deliveries)):
        answered = await _answered(wiring, once, user.user_id) if once else None
        if answered is not None:  # a twin under the same key was faster
            return await _made_before(wiring, command, user.user_id, answered)
        await unreserve(wiring, decision.user, reserved)
        raise id_taken()
    return replace(decision, user=user)


async def _answered(wiring: Wiring, once: Once, user_id: str) -> Answered | None:
    """Find the answer to a creation: in the user that it made, or where it was moved to."""
    user = await wiring.users.find(user_id)

    async def kept() -> Known | None:
        return await (wiring.users.answer_left(user_id, once) if user is None else wiring.users.answer(user, once))

    answered = await before_writing(wiring, once, kept, first=False, key=user.key if user else b"")
    if answered is not None and user is None and await wiring.users.find(user_id) is not None:
        return await _answered(wiring, once, user_id)  # made meanwhile; only its key opens the codes
    return answered


async def _made_before(wiring: Wiring, command: CreateUser, user_id: str, answered: Answered) -> Decision:
    user = await wiring.users.find(user_id)
    if user is None:  # deleted since
        at = answered.changed_at
        user = User(user_id, command.organization_id, command.schema_id, 0, {}, created_at=at, changed_at=at)
    return await repeated(wiring, user, answered)


def id_taken() -> Conflict:
    """Give the fault of an id that somebody has or had."""
    return Conflict("USER_ID_TAKEN", "the user id was used before", [Violation("userId", "was used before", "unique")])


async def usable_schema(wiring: Wiring, schema_id: str, organization_id: str) -> UserSchema:
    """Find a schema that users of the organization may be given.

    Raises:
        Unmet: if it is unknown there, or not active.
    """
    schema = await wiring.schemas.head(schema_id)
    if schema is None or not schema.serves(organization_id):
        raise Unmet(
            "SCHEMA_UNKNOWN",
            "the user schema is not known in the user's organization",
            [Violation("schemaId", "is not known in the user's organization", "schemaUnknown")],
            metadata={"schemaId": schema_id},
        )
    _require_active(schema)
    return schema


def _require_active(schema: UserSchema) -> None:
    if schema.state is not SchemaState.ACTIVE:
        raise Unmet(
            "SCHEMA_INACTIVE",
            f"the user schema {schema.type} is not active",
            [Violation("schemaId", "is not active", "schemaInactive")],
            metadata={"schemaId": schema.schema_id},
        )


async def require_valid(wiring: Wiring, schema: UserSchema, document: PermittedDocument) -> None:
    """Raise Unmet, with every violation, if the data does not match the schema's current revision.

    While a revision is announced, it must match that too: no user may fail it once it is current.
    """
    violations = await wiring.violations(schema, document.data)
    if not violations and schema.announced is not None:
        following = schema.following(wiring.now())
        if following is not None:
            violations = await wiring.violations(following, document.data)
            schema = dataclasses.replace(schema, revision=following.revision)
    if violations:
        if document.accesses:
            listed = violations
            violations = await aside(lambda: document.reported(listed), document.data)
        first = violations[0]
        place = first.field.removeprefix("data").removeprefix("/") or "data"
        raise Unmet(
            "DATA_INVALID",
            f"data does not match schema {schema.type} revision {schema.revision}: {place} {first.description}",
            violations,
            metadata={"schemaId": schema.schema_id, "revision": str(schema.revision)},
        )


async def update_user(wiring: Wiring, target: Target, command: UpdateUser) -> Decision:
    """Update a user: everything that the command names, or nothing.

    Raises:
        Malformed: for an address, number or URL template that is not one.
        Missing: if the user is not there for the caller.
        Denied: without ``user.write``, for what needs it even of the user itself, or for a field that the caller may
            not write.
        StaleSequence: if the user is not at the expected sequence.
        Unmet: if a schema is unknown or inactive, the data does not match, no code can be made, or nothing changes
            that must.
        Conflict: if the username is taken.
        Aborted: if the race against other writers was lost.
    """
    check_wishes(command.wishes)

    def permit(user: User) -> None:
        _permit(target.caller, command, user)

    document: PermittedDocument | None = None

    async def permit_values(user: User) -> None:
        # With neither, the data is left alone, whatever became of its schema: a contact can always be changed.
        nonlocal document
        data = command.data
        if command.edit is not None:
            data = command.edit(await seen_data(wiring, target.caller, user))
        if command.schema_id is not None or data is not None:
            document = await permit_document(wiring, target.caller, user, command.schema_id, data)

    async def decide(before: User) -> Decision:
        decision = await _begun(wiring, before, command)
        if decision.refusal is not None:
            return decision
        user = decision.user
        decision = Decision(user if document is None else await with_document(wiring, user, document))
        if command.username is not None:
            decision = Decision(replace(decision.user, username=command.username or None))
        if command.wishes:
            rules = await contact_rules(wiring, user.organization_id)
            for wish in command.wishes:
                decision = put_address(wiring, decision, wish, rules)
        for channel in command.remove:
            decision = remove_address(wiring, decision, channel)
        if command.must_change and not visibly_changed(before, decision.user):
            raise Unmet("USER_UNCHANGED", "the user is already as it was asked for")
        return decision

    return await change_user(wiring, target, permit, decide, permit_values)


async def _begun(wiring: Wiring, user: User, command: UpdateUser) -> Decision:
    """Begin with the password: if what proves that it may be set does not, nothing else may be stored."""
    return Decision(user) if command.password is None else await put_password(wiring, user, command.password)


def _permit(caller: Caller, command: UpdateUser, user: User) -> None:
    if command.by_self:
        require_user(caller, Permission.USER_WRITE, user)
    else:
        require(caller, Permission.USER_WRITE, user.organization_id)
    require_write_for(caller, user, _beyond_self(command, user))


async def with_password(wiring: Wiring, target: Target, command: UpdateUser, wish: PasswordWish) -> UpdateUser:
    """Give the update with a password that was checked and hashed.

    Raises:
        Malformed, Missing, Denied, StaleSequence, Unmet, Exhausted, Unavailable: as ``ready_password()``.
    """
    check_wishes(command.wishes)
    asked = dataclasses.replace(command, password=ReadyPassword(wish))
    ready = await ready_password(wiring, target, wish, lambda user: _permit(target.caller, asked, user))
    return dataclasses.replace(command, password=ready)


def _beyond_self(command: UpdateUser, user: User) -> list[Violation]:
    """List what the command asks for that a user may not do to itself."""
    found = [violation for wish in command.wishes for violation in forbidden_to_self(wish.verification, wish.at)]
    if command.password is not None:
        found += beyond_self(command.password.wish)
    if command.username is not None:
        found.append(Violation("username", f"needs {Permission.USER_WRITE}", "permission"))
    if command.schema_id is not None and command.schema_id != user.schema_id:
        found.append(Violation("schemaId", f"needs {Permission.USER_WRITE}", "permission"))
    return found


async def with_document(wiring: Wiring, user: User, document: PermittedDocument, *, explained: bool = True) -> User:
    """Give the user with another document, or with the stored one moved to the schema that is named.

    Without ``explained`` a refusal does not say what the stored data of a user at an earlier revision fails too.

    Raises:
        Unmet: if the schema is unknown or inactive, or the data does not match it.
    """
    try:
        schema = await usable_schema(wiring, document.schema_id, user.organization_id)
        await require_valid(wiring, schema, document)
    except Unmet as fault:
        if document.schema_id == user.schema_id and explained:
            raise await of_outdated(wiring, user, fault, document) from None
        if document.schema_id == user.schema_id:
            raise
        raise of_moved(user, fault, own_data=document.data is user.data) from None
    after = user.with_data(document.data, schema.schema_id, schema.revision)
    if document.blind and after.data is user.data:
        # An unmoved sequence would tell the caller that what it may not read is what it sent.
        return replace(after, data=dict(document.data))
    return after


_WRONG_STATE = {
    Transition.DEACTIVATE: "the user is inactive already",
    Transition.REACTIVATE: "the user is not inactive",
    Transition.LOCK: "the user is locked already",
    Transition.UNLOCK: "the user is not locked",
}


async def move_user(wiring: Wiring, target: Target, transition: Transition) -> Decision:
    """Deactivate, reactivate, lock or unlock a user; its codes die with a state other than active.

    Raises:
        Unmet: if the user is not in the state before.
    """

    def permit(user: User) -> None:
        require(target.caller, Permission.USER_WRITE, user.organization_id)

    async def decide(user: User) -> Decision:
        after = moved(user, transition)
        if after is None:
            raise Unmet("USER_STATE", _WRONG_STATE[transition], metadata={"state": user.state.value})
        return Decision(after)

    return await change_user(wiring, target, permit, decide)


async def delete_user(wiring: Wiring, target: Target) -> Decision:
    """Delete a user: data, contact, username and codes are erased in one write; the id is not used again.

    What stands elsewhere is erased after it; if the database goes away in between, the sweep of a relay does it.
    """

    def permit(user: User) -> None:
        require(target.caller, Permission.USER_DELETE, user.organization_id)

    async def decide(user: User) -> Decision:
        return Decision(erased(user))

    decision = await change_user(wiring, target, permit, decide)
    with contextlib.suppress(Unavailable):
        await wiring.relay.erase(target.user_id, wiring.now())
    return decision
