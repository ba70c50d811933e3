"""The past of users that were changed at random, and what a caller may read of it."""

from __future__ import annotations

import asyncio
import contextlib
import copy
from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Final

import msgspec
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from msgspec import structs

from schema_user.api.v3alpha.users import user_view
from schema_user.commands.change import Target
from schema_user.commands.contacts import AddressWish
from schema_user.commands.schemas import CreateSchema, SchemaTarget, UpdateSchema, create_schema, update_schema
from schema_user.commands.tokens import OPERATOR
from schema_user.commands.users import CreateUser, UpdateUser, create_user, move_user, update_user
from schema_user.domain.contact import Channel, IsVerified, SendCode
from schema_user.domain.document import same
from schema_user.domain.field_access import FieldAccess, FieldRole
from schema_user.domain.history import as_of, changes, snapshot, undo
from schema_user.domain.history_access import seen_changes, seen_data
from schema_user.domain.user import Transition
from schema_user.errors import Unmet
from schema_user.history_reading import get_past_user, list_history
from schema_user.queries import get_user
from tests.conftest import fresh_uri, prepared, settings_for
from tests.property.test_field_access import DOCUMENTS, SCHEMAS, access_of
from tests.unit.test_history_changes import NOW, USER, applied, user

if TYPE_CHECKING:
    from collections.abc import Iterator

    from schema_user.domain.user import User
    from schema_user.history_reading import ToldEntry
    from schema_user.wiring import Wiring

LENIENT: Final = settings(deadline=None)
"""How long an example takes depends on what else the machine does."""

EMAIL, PHONE = Channel.EMAIL, Channel.PHONE
ADDRESSES: Final = {EMAIL: ["a@{}.example.com", "b@{}.example.com"], PHONE: ["+41791234567", "+41797654321"]}
"""In braces stands the user: an address gets so many codes a day only."""


# -- what is rebuilt -----------------------------------------------------------------------------------------------


@given(USER, USER)
def test_undoing_changes_gives_the_user_as_it_was(before: User, after: User) -> None:
    """Whatever differs, also if the changes are kept as one of the whole."""
    found = changes(before, after)
    whole = [{"pointer": "", "old": snapshot(before), "new": snapshot(after)}]
    for listed in (found, whole):
        seen = undo(copy.deepcopy(snapshot(after)), copy.deepcopy(listed))
        assert same(seen, snapshot(before))
        assert same(snapshot(as_of(after, seen, 3, NOW)), snapshot(before))


WISHES = st.sampled_from([EMAIL, PHONE]).flatmap(
    lambda channel: st.builds(
        lambda address, verification: AddressWish(channel, address, verification, ""),
        st.sampled_from(ADDRESSES[channel]),
        st.just(IsVerified()) if channel is PHONE else st.sampled_from([IsVerified(), SendCode()]),
    )
)
UPDATES = st.builds(
    UpdateUser,
    schema_id=st.sampled_from([None, None, "one", "two"]),
    data=st.none() | DOCUMENTS,
    username=st.sampled_from([None, None, "", "x", "y"]),
    wishes=st.lists(WISHES, max_size=2, unique_by=lambda wish: wish.channel).map(tuple),
)
REMOVALS = st.builds(UpdateUser, remove=st.frozensets(st.sampled_from([EMAIL, PHONE]), min_size=1))
STEPS = st.one_of(
    UPDATES, UPDATES, REMOVALS, st.sampled_from(list(Transition)), st.sampled_from(["flush", "empty", "revise"])
)


class Stage:
    """A database on which users live through their changes, one example after the other."""

    def __init__(self, runner: asyncio.Runner, wiring: Wiring) -> None:
        """Begin with two schemas, on a clock that is moved by hand."""
        self.runner = runner
        self.moment = wiring.now()
        self.wiring = replace(wiring, now=lambda: self.moment)
        self.number = 0

    async def prepare(self) -> None:
        """Make the schemas."""
        self.ids = {
            name: (await create_schema(self.wiring, OPERATOR, CreateSchema(name, {}, None))).schema.schema_id
            for name in ("one", "two")
        }

    async def take(self, user_id: str, step: Any) -> None:
        """Let one thing happen; what cannot be is left."""
        self.moment += timedelta(milliseconds=1)
        target = Target(OPERATOR, user_id)
        match step:
            case UpdateUser():
                wishes = tuple(structs.replace(each, text=each.text.format(user_id)) for each in step.wishes)
                username = step.username and step.username + user_id
                schema_id = self.ids.get(step.schema_id or "")
                with contextlib.suppress(Unmet):  # who is not active gets no code
                    await update_user(
                        self.wiring, target, replace(step, wishes=wishes, username=username, schema_id=schema_id)
                    )
            case Transition():
                with contextlib.suppress(Unmet):
                    await move_user(self.wiring, target, step)
            case "flush":
                await self.wiring.relay.flush()
            case "empty":
                await self.wiring.relay.flush()
                await self.wiring.relay._empty(0)
            case "revise":
                self.number += 1
                document = {"title": str(self.number)}
                await update_schema(
                    self.wiring, SchemaTarget(OPERATOR, self.ids["one"]), UpdateSchema(document=document)
                )

    async def view(self, user_id: str) -> Any:
        """Give a user as GET answers it."""
        seen = await get_user(self.wiring, OPERATOR, user_id)
        return msgspec.to_builtins(user_view(seen.user, seen.schema_type))


@pytest.fixture(scope="module")
def stage(mongod_uri: str) -> Iterator[Stage]:
    """Wire up once, in an event loop of its own."""
    with asyncio.Runner() as runner:
        rooms = prepared(settings_for(fresh_uri(mongod_uri)))
        stage = Stage(runner, runner.run(rooms.__aenter__()).wiring)
        runner.run(stage.prepare())
        yield stage
        runner.run(rooms.__aexit__(None, None, None))


async def lives(stage: Stage, data: dict[str, Any], steps: list[Any], limit: int) -> None:
    """Let a user live through steps, and compare what its history tells with what was seen then."""
    wiring = stage.wiring
    stage.moment += timedelta(milliseconds=1)
    command = CreateUser(stage.ids["one"], data, "default")
    user_id = (await create_user(wiring, OPERATOR, command)).user.user_id
    seen = {1: (stage.moment, await stage.view(user_id))}
    for step in steps:
        await stage.take(user_id, step)
        view = await stage.view(user_id)
        seen.setdefault(int(view["details"]["sequence"]), (stage.moment, view))

    for sequence, (moment, view) in seen.items():
        for at in (sequence, moment):
            past = await get_past_user(wiring, OPERATOR, user_id, at)
            assert same(msgspec.to_builtins(user_view(past.user, past.schema_type)), view)

    whole = (await list_history(wiring, OPERATOR, user_id, 1000, None)).entries
    assert [told.entry.sequence for told in whole] == sorted(seen, reverse=True)
    pages: list[ToldEntry] = []
    token = None
    while True:
        page = await list_history(wiring, OPERATOR, user_id, limit, token)
        assert 0 < len(page.entries) <= limit
        pages += page.entries
        if (token := page.next_token) is None:
            break
    assert [(told.entry.entry_id, told.changes) for told in pages] == [
        (told.entry.entry_id, told.changes) for told in whole
    ]

    present: Any = {}
    for told in reversed(whole):
        present = applied(present, list(told.changes))
    found = await wiring.users.read(user_id)
    assert found is not None
    assert same(present, snapshot(found))


@settings(deadline=None, max_examples=30)
@given(data=DOCUMENTS, steps=st.lists(STEPS, max_size=12), limit=st.integers(1, 5))
def test_the_past_is_told_as_it_was(stage: Stage, data: dict[str, Any], steps: list[Any], limit: int) -> None:
    """At each sequence and time, in pages of any size; and all changes, done again, lead to the present."""
    stage.runner.run(lives(stage, data, steps, limit))


# -- what is hidden ------------------------------------------------------------------------------------------------


def found_at(value: Any, pointer: str) -> Any:
    """Give what is at a place of the user, or Ellipsis."""
    for token in pointer.split("/")[1:]:
        name = token.replace("~1", "/").replace("~0", "~")
        if isinstance(value, list) and name.isdecimal() and int(name) < len(value):
            value = value[int(name)]
        elif isinstance(value, dict) and name in value:
            value = value[name]
        else:
            return ...
    return value


def within(part: Any, whole: Any) -> bool:
    """Whether a value shows nothing that another one does not show."""
    if isinstance(part, dict) and isinstance(whole, dict):
        return all(name in whole and within(value, whole[name]) for name, value in part.items())
    if isinstance(part, list) and isinstance(whole, list):
        return len(part) == len(whole) and all(map(within, part, whole))
    return same(part, whole)


def plain(value: Any) -> bool:
    """Whether there are no arrays in a value, of which more may be hidden than need be."""
    return all(map(plain, value.values())) if isinstance(value, dict) else not isinstance(value, list)


KINDS = st.sampled_from(["each", "whole"])


@LENIENT
@given(SCHEMAS, SCHEMAS, st.sampled_from(list(FieldRole)), DOCUMENTS, DOCUMENTS, KINDS)
@example(
    {},
    {"properties": {"a": {"items": {"urn:zitadel:schema:permission": {}}}}},
    FieldRole.OWNER,
    {},
    {"a": [None]},
    "each",
)
def test_history_shows_no_more_than_the_user_showed(
    today: dict[str, Any], then: dict[str, Any], role: FieldRole, old: Any, new: Any, kind: str
) -> None:
    """Under the schema of today and that of then; and places are named only if they were shown."""
    accesses: tuple[FieldAccess, ...] = (access_of(today, role)[0], access_of(then, role)[0])
    before, after = snapshot(user(data=old)), snapshot(user(data=new))
    listed = changes(user(data=old), user(data=new))
    if kind == "whole":
        listed = [{"pointer": "", "old": before, "new": after}]
    shown = {
        "old": before | {"data": seen_data(old, accesses)},
        "new": after | {"data": seen_data(new, accesses)},
    }
    for change in seen_changes(listed, accesses, accesses):
        pointer = change["pointer"]
        for side in ("old", "new"):
            if side in change:
                assert within(change[side], found_at(shown[side], pointer)), (change, shown)
        if not {"old", "new"} & change.keys():
            assert any(found_at(each, pointer) is not ... for each in shown.values()), (change, shown)
    assert all(not {"old", "new"} & each.keys() for each in seen_changes(listed, None, None) if each["pointer"])


@LENIENT
@given(SCHEMAS, st.sampled_from(list(FieldRole)), DOCUMENTS, DOCUMENTS)
def test_what_was_shown_is_told(schema: dict[str, Any], role: FieldRole, old: Any, new: Any) -> None:
    """Without arrays, a new value that the caller could see then stands in the history as it was seen."""
    access = access_of(schema, role)[0]
    if not (plain(old) and plain(new)):
        return
    told = {
        each["pointer"]: each for each in seen_changes(changes(user(data=old), user(data=new)), (access,), (access,))
    }
    shown = {"old": {"data": access.visible(old)}, "new": {"data": access.visible(new)}}
    for change in changes(user(data=old), user(data=new)):
        seen = {side: found_at(shown[side], change["pointer"]) for side in ("old", "new") if side in change}
        seen = {side: value for side, value in seen.items() if value is not ...}
        if seen and not (len(seen) > 1 and same(seen["old"], seen["new"])):
            assert same({"pointer": change["pointer"], **seen}, told[change["pointer"]])


def test_without_permissions_nothing_is_hidden() -> None:
    """And nothing is gone through."""
    listed = changes(user(data={"a": [1, {"b": 2}]}), structs.replace(user(), data={"a": [1, {"b": 3}]}))
    assert seen_changes(listed, (), ()) == listed
