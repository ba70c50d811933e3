"""Replacing a user that is there by a line of an import."""

from __future__ import annotations

from typing import TYPE_CHECKING

from msgspec.structs import replace

from schema_user.commands.change import Decision, Target, change_user
from schema_user.commands.contact_rules import contact_rules
from schema_user.commands.contacts import put_address, remove_address
from schema_user.commands.fields import PermittedDocument, permit_document
from schema_user.commands.passwords import put_password, ready_password
from schema_user.commands.users import id_taken, with_document
from schema_user.domain.access import require
from schema_user.domain.contact import Channel
from schema_user.domain.permission import Permission
from schema_user.domain.user import UserState
from schema_user.errors import Missing

if TYPE_CHECKING:
    from collections.abc import Callable

    from schema_user.commands.passwords import PasswordWish, ReadyPassword
    from schema_user.commands.users import CreateUser
    from schema_user.domain.user import User
    from schema_user.wiring import Wiring


async def replace_user(wiring: Wiring, target: Target, command: CreateUser) -> Decision:
    """Give a user the data, the addresses and the username of a line, and take from it those that the line lacks.

    Its state and its password change only if the line names them: lines made by others don't, and a locked user
    must not come free by an import. What the caller may not see of the data stays, as in every update.

    Raises:
        Conflict: if the id belongs to another organization, or was that of a user who is deleted.
        Malformed, Denied, Unmet, Conflict, Aborted, Exhausted: as for an update.
    """

    def permit(user: User) -> None:
        require(target.caller, Permission.USER_WRITE, user.organization_id)
        if user.organization_id != command.organization_id:
            raise id_taken()

    document: PermittedDocument | None = None
    password = None if command.password is None else await _ready(wiring, target, command.password, permit)

    async def permit_values(user: User) -> None:
        nonlocal document
        document = await permit_document(wiring, target.caller, user, command.schema_id, command.data)

    async def decide(user: User) -> Decision:
        after = user if document is None else await with_document(wiring, user, document)
        after = _in_state(replace(after, username=command.username or None), command.state)
        decision = Decision(after) if password is None else await put_password(wiring, after, password)
        rules = await contact_rules(wiring, user.organization_id)
        for wish in command.wishes:
            decision = put_address(wiring, decision, wish, rules)
        for channel in Channel:
            if all(wish.channel is not channel for wish in command.wishes):
                decision = remove_address(wiring, decision, channel)
        return decision

    try:
        return await change_user(wiring, target, permit, decide, permit_values)
    except Missing:
        raise id_taken() from None


async def _ready(wiring: Wiring, target: Target, wish: PasswordWish, permit: Callable[[User], None]) -> ReadyPassword:
    try:
        return await ready_password(wiring, target, wish, permit)
    except Missing:
        raise id_taken() from None


def _in_state(user: User, state: UserState | None) -> User:
    """Give the user in a state, its codes dead if it can use them no more."""
    if state is None:
        return user
    after = replace(user, active=state is not UserState.INACTIVE, locked=state is UserState.LOCKED)
    return after if after.usable else replace(after, contact=after.contact.without_codes())
