"""What the holder of a signed link may do, at the moment of the write itself."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

import pytest

from schema_user.commands.change import Target
from schema_user.commands.contacts import AddressWish
from schema_user.commands.links import HOLDER, open_link, resend_by_link, verify_by_link
from schema_user.commands.schemas import CreateSchema, create_schema
from schema_user.commands.users import CreateUser, UpdateUser, create_user, update_user
from schema_user.domain.caller import DEFAULT_ORGANIZATION, Caller, Grant
from schema_user.domain.contact import Channel, IsVerified
from schema_user.domain.link import Link, Standing
from schema_user.domain.permission import Role
from schema_user.errors import Exhausted, Malformed, Missing
from tests.links import read_link, wrong

if TYPE_CHECKING:
    from schema_user.domain.user import User
    from schema_user.rooms import Rooms
    from schema_user.wiring import Wiring

OWNER = Caller("machine", (Grant(Role.INSTANCE_OWNER),))


async def linked(wiring: Wiring) -> tuple[User, Link]:
    """Make a user whose address was just sent a link, and give the link."""
    schema = (await create_schema(wiring, OWNER, CreateSchema("any", {}, None))).schema
    wish = AddressWish(Channel.EMAIL, "m@example.com", None, "contact/email/")
    made = await create_user(wiring, OWNER, CreateUser(schema.schema_id, {}, DEFAULT_ORGANIZATION, wishes=(wish,)))
    url = made.user.messages[0].url
    assert url is not None
    return made.user, read_link(url)


async def now_of(wiring: Wiring, user: User) -> User:
    """The user as it is stored."""
    found = await wiring.users.find(user.user_id)
    assert found is not None
    return found


def later(wiring: Wiring, by: timedelta) -> Wiring:
    """The same, with a clock that is ahead."""
    begun: datetime = wiring.now()
    return replace(wiring, now=lambda: begun + by)


async def test_the_history_names_the_link(wiring: Wiring, rooms: Rooms) -> None:
    """Who verified is told from every token, and from the user's own."""
    user, link = await linked(wiring)
    await verify_by_link(wiring, link, link.code, "request-1")
    await wiring.relay.sweep()
    entries = [each async for each in rooms.database._raw.history.find({"user_id": user.user_id})]
    assert HOLDER in str(entries)
    opened = await open_link(wiring, link)
    assert opened is not None
    assert opened.standing is Standing.VERIFIED


async def test_a_forged_link_counts_nothing(wiring: Wiring) -> None:
    """Whatever the page asked before: the link is asked again of the document that would be changed."""
    user, link = await linked(wiring)
    before = await now_of(wiring, user)
    for forged in (
        replace(link, signature="A" * 16),
        replace(link, channel=Channel.PHONE),
        replace(link, organization_id="other"),
        replace(link, user_id="other"),
    ):
        for code in (link.code, wrong(link.code)):
            with pytest.raises(Missing):
                await verify_by_link(wiring, forged, code, "")
        with pytest.raises(Missing):
            await resend_by_link(later(wiring, timedelta(hours=2)), forged, "")
        assert await open_link(wiring, forged) is None
    assert (await now_of(wiring, user)).version == before.version


async def test_a_link_dies_with_its_address_while_the_page_is_open(wiring: Wiring) -> None:
    """A code for the new address, guessed through a link to the old one, is not even compared."""
    user, link = await linked(wiring)
    assert await open_link(wiring, link) is not None
    wish = AddressWish(Channel.EMAIL, "new@example.com", None, "contact/email/")
    changed = await update_user(wiring, Target(OWNER, user.user_id), UpdateUser(wishes=(wish,)))
    fresh = changed.user.messages[-1].code
    assert fresh is not None
    with pytest.raises(Missing):
        await verify_by_link(wiring, link, fresh, "")
    found = (await now_of(wiring, user)).contact.email
    assert found is not None
    assert (found.is_verified, found.failed) == (False, 0)


async def test_another_code_needs_a_dead_one(wiring: Wiring) -> None:
    """Not while the link's code is good, not once the address is verified; by the ordinary limits in between."""
    user, link = await linked(wiring)
    with pytest.raises(Missing):
        await resend_by_link(later(wiring, timedelta(minutes=1)), link, "")
    for _ in range(5):
        with pytest.raises(Malformed):
            await verify_by_link(wiring, link, wrong(link.code), "")
    with pytest.raises(Exhausted):
        await resend_by_link(wiring, link, "")
    await resend_by_link(later(wiring, timedelta(minutes=1)), link, "")
    found = (await now_of(wiring, user)).contact.email
    assert found is not None
    assert (len(found.codes), found.failed) == (2, 0)
    verified = AddressWish(Channel.EMAIL, "m@example.com", IsVerified(), "contact/email/")
    await update_user(wiring, Target(OWNER, user.user_id), UpdateUser(wishes=(verified,)))
    with pytest.raises(Missing):
        await resend_by_link(later(wiring, timedelta(hours=2)), link, "")
