"""One method of a service: which operation of the REST API it is, and where its message differs from that one's body.

A service is a list of methods, and is offered once it stands in ``services.py``.
"""

from __future__ import annotations

import enum
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Final, Protocol

import msgspec

from schema_user.api.body import refused
from schema_user.api.operation import Answer, Call, acting, once_of, read_body
from schema_user.errors import Fault, Violation
from schema_user.rpc.messages import given, taken

if TYPE_CHECKING:
    from protobuf import DescFile, DescMethod, Message

    from schema_user.api.door import Scope

Members = dict[str, Any]
"""The members of a message, by their names in JSON."""

Handler = Callable[..., Awaitable[Answer]]

_ID_MAX_CHARACTERS: Final = 200
_USER: Final = {"userId": "user_id"}


def _same(members: Members) -> Members:
    return members


def _nothing(_members: Members) -> dict[str, str]:
    return {}


def _as_named(pointer: str) -> str:
    return pointer


class Access(enum.Enum):
    """Who may call the methods of a service; each operation decides further."""

    TOKEN = enum.auto()
    VIEWER = enum.auto()
    """Who sees the whole instance, or this machine itself."""
    ANYBODY = enum.auto()


@dataclass(frozen=True, slots=True)
class Method:
    """One unary method.

    Args:
        name: its name in the service.
        handler: the function of the operation, ``(call, body)``, or ``(call)`` if ``body`` is None.
        body: the struct that the operation takes.
        keyed: whether Idempotency-Key is heeded.
        shape: the struct that says which members are required, if the message differs from the body.
        path: the members that name the resource, and the names that the operation knows them by.
        ask: takes the members out that are query parameters by REST, and gives these.
        take: makes the body's members of the message's.
        give: makes the answer's members of the view's.
        said: names a place in the message for a place in the body.
    """

    name: str
    handler: Handler
    body: type[msgspec.Struct] | None
    keyed: bool = False
    shape: type[msgspec.Struct] | None = None
    path: Mapping[str, str] = field(default_factory=lambda: _USER)
    ask: Callable[[Members], dict[str, str]] = _nothing
    take: Callable[[Members], Members] = _same
    give: Callable[[Members], Members] = _same
    said: Callable[[str], str] = _as_named

    @classmethod
    def of(cls, name: str, route: Any, **more: Any) -> Method:
        """Make a method of a route of the REST API; ``more`` are fields of this class."""
        described = route.opt["operation"]
        own = {"body": described.body, "keyed": described.keyed, **more}
        return cls(name, route.opt["handler"], **own)

    async def perform(
        self, rooms: Any, scope: Scope, request: Message[Any], kind: type[Message[Any]]
    ) -> tuple[Message[Any], Answer | None]:
        """Do what a message asks, and give the answer as a message of a kind.

        ``rooms`` is the state of the application, with its wiring and gatekeeper.

        Raises:
            Fault: as the operation does, about places in the message.
        """
        try:
            answer = await self._perform(rooms, scope, request)
        except Fault as fault:
            raise self._about_the_message(fault) from None
        # Through JSON: a view may hold a JSON Schema as text.
        members = msgspec.json.decode(msgspec.json.encode(answer.view))
        return given(self.give(members), kind), answer

    async def _perform(self, rooms: Any, scope: Scope, request: Message[Any]) -> Answer:
        state = scope["state"]
        members = taken(request, self.shape or self.body)
        path = {name: _id(members.pop(member, ""), member) for member, name in self.path.items()}
        query = self.ask(members)
        call = Call(rooms.wiring, state["caller"], state["request_id"], path, query, state["headers"])
        if self.body is None:
            call.caller = await acting(rooms, call)
            return await self.handler(call)
        raw = msgspec.json.encode(self.take(members))
        body = await read_body(raw, self.body, rooms.wiring)
        call.caller = await acting(rooms, call)
        if self.keyed:
            call.once = once_of(scope, call, msgspec.json.encode([path, query]) + raw)
        return await self.handler(call, body)

    def _about_the_message(self, fault: Fault) -> Fault:
        """Name places in the message, as it differs from the body; a message of a fault may begin with one."""
        if self.said is _as_named or not fault.violations:
            return fault
        violations = [replace(each, field=self.said(each.field)) for each in fault.violations]
        first, message = fault.violations[0].field, fault.message
        if first and message.startswith(first):
            message = violations[0].field + message.removeprefix(first)
        return replace(fault, message=message, violations=violations)


def _id(value: Any, member: str) -> str:
    if not value:
        raise refused([Violation(member, "is required", "required")])
    if len(value) > _ID_MAX_CHARACTERS:
        raise refused([Violation(member, f"must have at most {_ID_MAX_CHARACTERS} characters", "maxLength")])
    return str(value)


class Performer(Protocol):
    """What answers a unary method, such as a ``Method``."""

    @property
    def name(self) -> str:
        """Its name in the service."""

    async def perform(
        self, rooms: Any, scope: Scope, request: Any, kind: type[Message[Any]]
    ) -> tuple[Message[Any], Answer | None]:
        """Give the answer to a message, as a message of a kind, and what the operation found, if it is one."""


@dataclass(frozen=True, slots=True)
class Service:
    """A service: the file that declares it, its full name, and those of its methods that are offered.

    ``streams`` are functions of requests and the library's context that give answers, each an asynchronous iterator.
    """

    file: DescFile
    name: str
    methods: tuple[Performer, ...]
    access: Access = Access.TOKEN
    streams: Mapping[str, Callable[..., Any]] = field(default_factory=dict)

    @property
    def paths(self) -> tuple[str, ...]:
        """The paths of what is offered."""
        return tuple(f"/{self.name}/{name}" for name in (*(method.name for method in self.methods), *self.streams))

    def declared(self, name: str) -> DescMethod:
        """Give the declaration of a method.

        Raises:
            LookupError: if it is not declared.
        """
        for service in self.file.services:
            for method in service.methods:
                if service.type_name == self.name and method.name == name:
                    return method
        message = f"{self.name} declares no method {name}"
        raise LookupError(message)
