"""People: users of the built-in schema ``human``, in the terms of operations that know a profile field by field.

The older generations of the API, whatever wire they come by, end here: a profile is the member ``profile`` of a user's
data, and everything else of a person is what all users have. So a person is an ordinary user, and is changed by the
same commands.

The built-in schema is found by the instance's fact of its id: it may have been renamed, changed or deleted since.
"""

from __future__ import annotations

import contextlib
import dataclasses
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from schema_user import queries
from schema_user.commands import users
from schema_user.commands.contacts import AddressWish
from schema_user.domain.contact import Channel, IsVerified, Verification, normalise_email
from schema_user.domain.schema import HUMAN_SCHEMA
from schema_user.domain.search import AllOf, Is
from schema_user.errors import Fault, Unmet

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from schema_user.commands.change import Decision, Target
    from schema_user.commands.passwords import PasswordWish
    from schema_user.domain.caller import Caller
    from schema_user.domain.repetition import Once
    from schema_user.domain.search import Page, Query
    from schema_user.domain.user import User
    from schema_user.store.search import Found
    from schema_user.wiring import Wiring

PROFILE: Final = "profile"
"""The member of the data that holds the profile."""

PROFILE_FIELDS: Final = ("givenName", "familyName", "nickName", "displayName", "preferredLanguage", "gender")
"""The members of a profile; the first two are required."""

_V2_NAMES: Final = {f"data/{PROFILE}": PROFILE}
_V1_NAMES: Final = {
    f"data/{PROFILE}/givenName": "firstName",
    f"data/{PROFILE}/familyName": "lastName",
    f"data/{PROFILE}": "",
}
"""Where what is wrong with the data stands in a request of that generation."""


@dataclass(frozen=True, slots=True)
class CreateHuman:
    """Make a person; without ``username`` the email address is it, without ``user_id`` the service makes one.

    ``profile`` holds members of ``PROFILE_FIELDS``.
    """

    profile: Mapping[str, str]
    email: AddressWish
    organization_id: str
    phone: AddressWish | None = None
    user_id: str | None = None
    username: str | None = None
    password: PasswordWish | None = None


@dataclass(frozen=True, slots=True)
class UpdateHuman:
    """Change what is given of a person and leave the rest alone.

    ``profile`` holds members of ``PROFILE_FIELDS``: a text is set, None removes it, and what is not named is kept.
    """

    username: str | None = None
    profile: Mapping[str, str | None] = dataclasses.field(default_factory=dict)
    wishes: tuple[AddressWish, ...] = ()
    remove: frozenset[Channel] = frozenset()
    password: PasswordWish | None = None


def email_wish(text: str, verification: Verification | None, at: str = "email/") -> AddressWish:
    """Give the wish for an email address, which is called ``email`` in the object at ``at``."""
    return AddressWish(Channel.EMAIL, text, verification, at, "email")


def phone_wish(text: str, verification: Verification | None, at: str = "phone/") -> AddressWish:
    """Give the wish for a phone number, which is called ``phone`` in the object at ``at``."""
    return AddressWish(Channel.PHONE, text, verification, at, "phone")


def profile_of(user: User) -> dict[str, str]:
    """Give what a user's data says of its profile; whoever may not read it gets nothing."""
    profile = user.data.get(PROFILE)
    if not isinstance(profile, dict):
        return {}
    return {name: value for name in PROFILE_FIELDS if isinstance(value := profile.get(name), str)}


def target_human(wiring: Wiring, target: Target) -> Target:
    """Give the target of a change that is for people only: to any command.

    A user of another schema is refused: ``USER_NOT_HUMAN``.
    """

    async def require(user: User) -> None:
        await require_human(wiring, user)

    return dataclasses.replace(target, condition=require)


async def require_human(wiring: Wiring, user: User) -> None:
    """Raise Unmet, naming the schema that the user has, unless that is the built-in one of people."""
    human_id = await wiring.instance.fact(HUMAN_SCHEMA)
    if user.schema_id == human_id:
        return
    if human_id is None or await wiring.schemas.head(human_id) is None:
        raise _no_schema()
    schema = await wiring.schemas.head(user.schema_id)
    schema_type = "" if schema is None else schema.type
    raise Unmet(
        "USER_NOT_HUMAN",
        f"the user has the schema {schema_type}; this operation is for users of the built-in schema human",
        metadata={"schemaId": user.schema_id, "schemaType": schema_type},
    )


def _no_schema() -> Unmet:
    return Unmet("HUMAN_SCHEMA_MISSING", "the built-in user schema human was deleted; this operation needs it")


async def create_human(
    wiring: Wiring,
    caller: Caller,
    command: CreateHuman,
    *,
    validate_only: bool = False,
    request_id: str = "",
    once: Once | None = None,
) -> Decision:
    """Create a person.

    Raises:
        Malformed, Missing, Denied, Conflict, Exhausted: as ``users.create_user()``.
        Unmet: as there, or if the built-in schema was deleted.
    """
    human_id = await wiring.instance.fact(HUMAN_SCHEMA)
    email = command.email.text
    create = users.CreateUser(
        schema_id=human_id or "",
        data={PROFILE: dict(command.profile)},
        organization_id=command.organization_id,
        user_id=command.user_id,
        username=command.username or normalise_email(email) or email,
        wishes=(command.email,) if command.phone is None else (command.email, command.phone),
        password=command.password,
    )
    with _said_of(_V2_NAMES):
        return await users.create_user(
            wiring, caller, create, validate_only=validate_only, request_id=request_id, once=once
        )


async def update_human(wiring: Wiring, target: Target, command: UpdateHuman) -> Decision:
    """Update a person: everything that the command names, or nothing.

    Raises:
        Malformed, Missing, Denied, StaleSequence, Conflict, Aborted, Exhausted: as ``users.update_user()``, and as
            ``ready_password()`` for a password.
        Unmet: as there, or for a user of another schema.
    """
    target = target_human(wiring, target)
    update = users.UpdateUser(
        username=command.username,
        edit=_edit(command.profile),
        wishes=command.wishes,
        remove=command.remove,
    )
    if command.password is not None:
        update = await users.with_password(wiring, target, update, command.password)
    with _said_of(_V2_NAMES):
        return await users.update_user(wiring, target, update)


async def replace_profile(wiring: Wiring, target: Target, profile: Mapping[str, str]) -> Decision:
    """Replace the profile by the rules of the first generation: what is absent or empty goes, but the display name.

    That generation's operations are not for the user itself, act in the caller's own organization unless the request
    names one, and refuse what changes nothing.

    Raises:
        Missing, Denied, StaleSequence, Conflict, Aborted: as ``users.update_user()``.
        Unmet: as there, for a user of another schema, or ``USER_UNCHANGED``.
    """
    kept = {"displayName"} - profile.keys()
    changes = {name: profile.get(name) or None for name in PROFILE_FIELDS if name not in kept}
    update = users.UpdateUser(edit=_edit(changes), by_self=False, must_change=True)
    with _said_of(_V1_NAMES):
        return await users.update_user(wiring, _at_home(target_human(wiring, target)), update)


async def replace_email(wiring: Wiring, target: Target, email: str, *, is_verified: bool) -> Decision:
    """Replace the email address by the rules of the first generation: a new one gets a code unless it is verified.

    Raises:
        Malformed: for an address that is not one.
        Missing, Denied, StaleSequence, Aborted, Exhausted: as ``users.update_user()``.
        Unmet: as there, for a user of another schema, or ``USER_UNCHANGED``.
    """
    wish = email_wish(email, IsVerified() if is_verified else None, at="")
    update = users.UpdateUser(wishes=(wish,), by_self=False, must_change=True)
    return await users.update_user(wiring, _at_home(target_human(wiring, target)), update)


async def get_human(wiring: Wiring, caller: Caller, user_id: str) -> User:
    """Give a person.

    Raises:
        Missing, Denied: as ``queries.get_user()``.
        Unmet: for a user of another schema.
    """
    seen = await queries.get_user(wiring, caller, user_id)
    await require_human(wiring, seen.user)
    return seen.user


async def search_humans(wiring: Wiring, caller: Caller, query: Query, page: Page) -> Found[User]:
    """Search the people of every organization where the caller holds ``user.read``.

    Raises:
        Denied: if the caller holds ``user.read`` nowhere.
        Unmet: if the built-in schema was deleted.
    """
    human_id = await wiring.instance.fact(HUMAN_SCHEMA)
    found, _ = await queries.search_users(wiring, caller, AllOf((Is("schema_id", human_id or ""), query)), page)
    if human_id is None or await wiring.schemas.head(human_id) is None:
        raise _no_schema()
    return found


def _at_home(target: Target) -> Target:
    """Let the caller act in its own organization, unless the request names one."""
    return dataclasses.replace(target, caller=dataclasses.replace(target.caller, acting=target.caller.home))


def _edit(changes: Mapping[str, str | None]) -> _Edit | None:
    return _Edit(changes) if changes else None


@dataclass(frozen=True, slots=True)
class _Edit:
    """Puts members into the profile of a user's data, and takes those that are None out."""

    changes: Mapping[str, str | None]

    def __call__(self, data: dict[str, Any]) -> dict[str, Any]:
        before = data.get(PROFILE)
        profile = {**before, **self.changes} if isinstance(before, dict) else dict(self.changes)
        for name, value in self.changes.items():
            if value is None:
                del profile[name]
        return {**data, PROFILE: profile}


@contextlib.contextmanager
def _said_of(names: Mapping[str, str]) -> Iterator[None]:
    """Say what is wrong with a person's data or schema in the terms of the request, which has neither."""
    try:
        yield
    except Fault as fault:
        if fault.reason == "SCHEMA_UNKNOWN":
            raise _no_schema() from None
        if fault.reason == "SCHEMA_INACTIVE":
            raise dataclasses.replace(fault, violations=()) from None
        said = [dataclasses.replace(each, field=_renamed(each.field, names)) for each in fault.violations]
        if said == list(fault.violations):
            raise
        message = fault.message
        if message.startswith(before := fault.violations[0].field):
            message = said[0].field + message.removeprefix(before)
        raise dataclasses.replace(fault, message=message, violations=said) from None


def _renamed(field: str, names: Mapping[str, str]) -> str:
    for before, after in names.items():
        if field == before or field.startswith(before + "/"):
            return (after + field.removeprefix(before)).removeprefix("/")
    return field
