"""RPCs as tests send them: one way of calling for each wire, with the messages that the service itself has."""

from __future__ import annotations

import json
import struct
from base64 import b64decode
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote

import grpc
import httpx
from protobuf.wkt import Any as Packed

from schema_user.rpc.generated.google.rpc.error_details_pb import BadRequest, ErrorInfo, RequestInfo, RetryInfo
from schema_user.rpc.generated.zitadel import management_pb
from schema_user.rpc.generated.zitadel.user.v2 import user_service_pb
from tests.conftest import ANY_TLS

if TYPE_CHECKING:
    from collections.abc import Iterable

    from tests.conftest import Server, Tenant

V2, V1 = "zitadel.user.v2.UserService", "zitadel.management.v1.ManagementService"
_MODULES = {V2: user_service_pb, V1: management_pb}
CODES = {code.name.lower(): code.value[0] for code in grpc.StatusCode} | {"canceled": 1}


@dataclass
class Refused(Exception):
    """What a wire told of an error; ``code`` is the number of gRPC."""

    code: int
    message: str
    details: list[Any] = field(default_factory=list)
    headers: dict[str, str] = field(default_factory=dict)

    @property
    def reason(self) -> str:
        """The stable reason."""
        return next(str(each.reason) for each in self.details if isinstance(each, ErrorInfo))

    @property
    def fields(self) -> dict[str, str]:
        """The places that are wrong, each with its rule."""
        found = (each for each in self.details if isinstance(each, BadRequest))
        return {each.field: each.reason for bad in found for each in bad.field_violations}


def unpacked(details: Iterable[tuple[str, bytes]]) -> list[Any]:
    """Read the details that this service sends."""
    kinds = {f"google.rpc.{kind.__name__}": kind for kind in (ErrorInfo, BadRequest, RequestInfo, RetryInfo)}
    return [kinds[name.rpartition("/")[2]].from_binary(value) for name, value in details]


def framed(message: bytes, flags: int = 0) -> bytes:
    """Put gRPC's five bytes before a message."""
    return struct.pack(">BI", flags, len(message)) + message


class Caller:
    """Calls by one wire with one token; ``headers`` of the last answer are kept."""

    def __init__(self, server: Server, token: str, wire: str) -> None:
        """Call a server by ``json``, ``proto``, ``web`` or ``grpc``."""
        self.wire = wire
        self.token = token
        self.headers: dict[str, str] = {}
        self._http = httpx.Client(base_url=server.url, timeout=30, verify=ANY_TLS)
        self._channel = grpc.insecure_channel(f"127.0.0.1:{server.grpc_port}")

    def close(self) -> None:
        """Close the connections."""
        self._http.close()
        self._channel.close()

    def __call__(
        self, name: str, service: str = V2, *, metadata: Any = None, messages: str | None = None, **members: Any
    ) -> Any:
        """Call a method with the members of its request, by their names in JSON.

        ``messages``: another method's name, whose messages it has.
        """
        module = _MODULES[service]
        request = getattr(module, f"{messages or name}Request").from_json(json.dumps(members))
        kind = getattr(module, f"{messages or name}Response")
        headers = {"authorization": f"Bearer {self.token}", **(metadata or {})}
        path = f"/{service}/{name}"
        return {"json": self._json, "proto": self._proto, "web": self._web, "grpc": self._grpc}[self.wire](
            path, request, kind, headers
        )

    def _json(self, path: str, request: Any, kind: Any, headers: dict[str, str]) -> Any:
        return kind.from_json(self._connect(path, request.to_json().encode(), "application/json", headers))

    def _proto(self, path: str, request: Any, kind: Any, headers: dict[str, str]) -> Any:
        return kind.from_binary(self._connect(path, request.to_binary(), "application/proto", headers))

    def _connect(self, path: str, body: bytes, media_type: str, headers: dict[str, str]) -> bytes:
        response = self._http.post(path, content=body, headers={"content-type": media_type, **headers})
        self.headers = dict(response.headers)
        if response.is_success:
            assert response.headers["content-type"] == media_type
            return response.content
        raise connect_refusal(response)

    def _web(self, path: str, request: Any, kind: Any, headers: dict[str, str]) -> Any:
        media = {"content-type": "application/grpc-web+proto", "x-grpc-web": "1"}
        response = self._http.post(path, content=framed(request.to_binary()), headers={**media, **headers})
        messages, trailers = web_parts(response)
        self.headers = {**response.headers, **trailers}
        if trailers["grpc-status"] != "0":
            raise web_refusal(trailers, dict(response.headers))
        (message,) = messages
        return kind.from_binary(message)

    def _grpc(self, path: str, request: Any, kind: Any, headers: dict[str, str]) -> Any:
        call = self._channel.unary_unary(path, lambda message: message.to_binary(), kind.from_binary)
        try:
            answer, about = call.with_call(request, metadata=tuple(headers.items()), timeout=30)
        except grpc.RpcError as error:
            raise grpc_refusal(error) from None
        self.headers = {key: value for key, value in about.initial_metadata() if isinstance(value, str)}
        return answer


def connect_refusal(response: httpx.Response) -> Refused:
    """Read Connect's form of an error."""
    told = response.json()
    details = [(each["type"], b64decode(each["value"] + "===")) for each in told.get("details", [])]
    return Refused(CODES[told["code"]], told["message"], unpacked(details), dict(response.headers))


def web_parts(response: httpx.Response) -> tuple[list[bytes], dict[str, str]]:
    """Take an answer of gRPC-Web apart: its messages, and the trailers in its last frame."""
    assert response.status_code == 200, response.text
    assert response.headers["content-type"].startswith("application/grpc-web")
    rest, messages, trailers = response.content, [], {}
    while rest:
        flags, length = struct.unpack(">BI", rest[:5])
        frame, rest = rest[5 : 5 + length], rest[5 + length :]
        if flags & 0x80:
            trailers = {k: v.strip() for k, _, v in (line.partition(":") for line in frame.decode().splitlines())}
        else:
            messages.append(frame)
    return messages, trailers


def web_refusal(trailers: dict[str, str], headers: dict[str, str]) -> Refused:
    """Read gRPC's form of an error."""
    details = status_details(b64decode(trailers.get("grpc-status-details-bin", "") + "==="))
    return Refused(
        int(trailers["grpc-status"]), unquote(trailers.get("grpc-message", "")), details, {**headers, **trailers}
    )


def grpc_refusal(error: Any) -> Refused:
    """Read an error of grpcio."""
    found = dict(error.trailing_metadata() or ())
    headers = {k: v for k, v in (*(error.initial_metadata() or ()), *found.items()) if isinstance(v, str)}
    details = status_details(found.get("grpc-status-details-bin", b""))
    return Refused(error.code().value[0], error.details(), details, headers)


def status_details(raw: bytes) -> list[Any]:
    """Read the details out of a ``google.rpc.Status``: its third field, each an ``Any``."""
    packed, rest = [], raw
    while rest:
        key, rest = rest[0], rest[1:]
        number, rest = _varint(rest)
        if key & 7 == 2:
            value, rest = rest[:number], rest[number:]
            if key >> 3 == 3:
                packed.append(Packed.from_binary(value))
    return unpacked((each.type_url, each.value) for each in packed)


def _varint(raw: bytes) -> tuple[int, bytes]:
    value = shift = 0
    for index, byte in enumerate(raw):
        value |= (byte & 0x7F) << shift
        shift += 7
        if byte < 0x80:
            return value, raw[index + 1 :]
    raise AssertionError("a number without an end")


PROFILE = {"givenName": "Minnie", "familyName": "Mouse"}


def person(call: Caller, tenant: Tenant, address: str, **more: Any) -> Any:
    """Make a person in the tenant's organization."""
    return call(
        "AddHumanUser",
        organization={"orgId": tenant.organization_id},
        profile=PROFILE,
        email={"email": address, "returnCode": {}},
        **more,
    )
