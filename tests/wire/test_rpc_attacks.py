"""What no honest client sends: each wire answers in its own form, and never with a 500 or not at all."""

from __future__ import annotations

import gzip
import json
import socket
import struct
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import grpc
import httpx
import pytest

from schema_user.rpc.generated.zitadel.user.v2.user_service_pb import AddHumanUserRequest, ListUsersRequest
from tests.conftest import ANY_TLS
from tests.wire.rpc_calls import V2, Refused, connect_refusal, framed, grpc_refusal, web_parts, web_refusal

if TYPE_CHECKING:
    from tests.conftest import Api, Server

LIST, ADD = f"/{V2}/ListUsers", f"/{V2}/AddHumanUser"
LIMIT = 1024 * 1024
JSON, PROTO, WEB, GRPC = "application/json", "application/proto", "application/grpc-web+proto", "application/grpc"
DEEP = b'{"queries":[' + b'{"orQuery":{"queries":[' * 3000
NESTED = b'{"queries":[' + b'{"notQuery":{"query":' * 60 + b"{}" + b"}}" * 60 + b"]}"
BOMB = gzip.compress(b" " * 16 * LIMIT, compresslevel=1)


def told(response: httpx.Response) -> Refused:
    """Read an error in the form of the wire that it came by."""
    if response.headers["content-type"].startswith("application/grpc"):
        _, trailers = web_parts(response)
        return web_refusal(trailers or dict(response.headers), dict(response.headers))
    return connect_refusal(response)


def post(admin: Api, path: str, body: Any, media_type: str, **headers: str) -> httpx.Response:
    """Send bytes as they are."""
    return admin.post(path, content=body, headers={"content-type": media_type, **headers})


@pytest.mark.parametrize(
    ("media_type", "body", "headers", "code", "reason"),
    [
        pytest.param(JSON, b"{", {}, 3, "REQUEST_INVALID", id="json-cut"),
        pytest.param(JSON, b"[]", {}, 3, "REQUEST_INVALID", id="json-of-another-kind"),
        pytest.param(JSON, b'{"query":{"limit":"x"}}', {}, 3, "REQUEST_INVALID", id="json-of-another-type"),
        pytest.param(JSON, b'{"query":"\xff"}', {}, 3, "REQUEST_INVALID", id="json-not-utf-8"),
        pytest.param(JSON, DEEP, {}, 3, "REQUEST_INVALID", id="json-without-an-end"),
        pytest.param(JSON, NESTED, {}, 3, None, id="json-deep"),
        pytest.param(JSON, b" " * 2 * LIMIT, {}, 3, "BODY_TOO_LARGE", id="json-large"),
        pytest.param(JSON, BOMB, {"content-encoding": "gzip"}, 3, "BODY_TOO_LARGE", id="json-bomb"),
        pytest.param(JSON, b"{}", {"content-encoding": "gzip"}, 3, "REQUEST_INVALID", id="json-not-compressed"),
        pytest.param(JSON, b"{}", {"content-encoding": "br"}, 12, "RPC_UNSUPPORTED", id="json-compressed-otherwise"),
        pytest.param(JSON, b"{}", {"connect-protocol-version": "2"}, 3, "HEADER_INVALID", id="json-version"),
        pytest.param(JSON, b'{"query":{"limit":5000}}', {}, 3, "FIELD_INVALID", id="json-over-a-limit"),
        pytest.param(PROTO, b"\x0a\xff", {}, 3, "REQUEST_INVALID", id="proto-cut"),
        pytest.param(PROTO, b"\x1a\x80\x80" * 50_000, {}, 3, "REQUEST_INVALID", id="proto-nonsense"),
        pytest.param(PROTO, b"\x1a\x00" * 50_000, {}, 3, "FIELD_INVALID", id="proto-many-empty-messages"),
        pytest.param(PROTO, b"\xff" * 2 * LIMIT, {}, 3, "BODY_TOO_LARGE", id="proto-large"),
        pytest.param(WEB, b"", {}, 12, "RPC_UNSUPPORTED", id="web-nothing"),
        pytest.param(WEB, b"\x00\x00", {}, 3, "REQUEST_INVALID", id="web-half-a-head"),
        pytest.param(WEB, b"\x00\x00\x00\x00\x09abc", {}, 3, "REQUEST_INVALID", id="web-cut"),
        pytest.param(WEB, b"\x00\xff\xff\xff\xff", {}, 3, "BODY_TOO_LARGE", id="web-endless"),
        pytest.param(WEB, framed(b"", 0x7E), {}, 3, "REQUEST_INVALID", id="web-flags"),
        pytest.param(WEB, framed(b"", 1), {}, 3, "REQUEST_INVALID", id="web-compressed-by-nothing"),
        pytest.param(WEB, framed(b"{}", 1), {"grpc-encoding": "gzip"}, 3, "REQUEST_INVALID", id="web-not-compressed"),
        pytest.param(WEB, framed(BOMB, 1), {"grpc-encoding": "gzip"}, 3, "BODY_TOO_LARGE", id="web-bomb"),
        pytest.param(WEB, framed(b"") * 2, {}, 12, "RPC_UNSUPPORTED", id="web-two-messages"),
        pytest.param(WEB, framed(b""), {"grpc-encoding": "zstd"}, 12, "RPC_UNSUPPORTED", id="web-compressed-otherwise"),
        pytest.param(WEB, framed(b""), {"grpc-timeout": "1Y"}, 3, "HEADER_INVALID", id="web-timeout"),
    ],
)
def test_a_hostile_body(
    admin: Api, media_type: str, body: bytes, headers: dict[str, str], code: int, reason: str | None
) -> None:
    """Whatever stands in a body, the answer is an error of its wire with a reason."""
    response = post(admin, LIST, body, media_type, **headers)
    error = told(response)
    assert error.code == code, error
    assert reason in {None, error.reason}
    assert error.headers["x-request-id"] == error.details[-1].request_id


def test_chunks_and_compression_are_taken(admin: Api) -> None:
    """A body in chunks, and one that is compressed, are read on the wires of HTTP/1.1; answers are not compressed."""
    message = ListUsersRequest().to_binary()
    for media_type, body, headers in (
        (JSON, iter([b"{", b"}"]), {}),
        (JSON, gzip.compress(b'{"unknownToday": 1}'), {"content-encoding": "gzip", "accept-encoding": "gzip"}),
        (WEB, iter([framed(message)[:3], framed(message)[3:]]), {}),
        (WEB, framed(gzip.compress(message), 1), {"grpc-encoding": "gzip", "grpc-accept-encoding": "gzip"}),
    ):
        response = post(admin, LIST, body, media_type, **headers)
        assert response.status_code == 200, response.text
        if media_type == JSON:
            assert "result" in response.json() or "details" in response.json()
        else:
            messages, trailers = web_parts(response)
            assert trailers["grpc-status"] == "0"
            assert len(messages) == 1
    endless = post(admin, LIST, iter([b" " * LIMIT, b" " * LIMIT]), JSON)
    assert told(endless).reason == "BODY_TOO_LARGE"


@pytest.mark.parametrize(
    ("method", "path", "media_type", "status"),
    [
        pytest.param("GET", LIST + "?encoding=json&message={}", JSON, 405, id="get"),
        pytest.param("PUT", LIST, JSON, 405, id="put"),
        pytest.param("POST", LIST, "text/plain", 415, id="text"),
        pytest.param("POST", LIST, "application/connect+json", 415, id="stream"),
        pytest.param("POST", LIST, "application/grpc-web-text", 415, id="web-text"),
        pytest.param("POST", LIST, "", 415, id="nothing"),
        pytest.param("POST", "/zitadel.", JSON, 501, id="half-a-path"),
        pytest.param("POST", "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo", JSON, 415, id="reflection"),
    ],
)
def test_what_is_no_rpc(admin: Api, method: str, path: str, media_type: str, status: int) -> None:
    """What is no request of any wire is refused as by REST, behind the token."""
    response = admin.request(method, path, content=b"{}", headers={"content-type": media_type})
    assert response.status_code == status
    assert response.json()["code"]
    stranger = httpx.request(
        method, str(admin.base_url) + path, content=b"{}", headers={"content-type": media_type}, verify=ANY_TLS
    )
    assert stranger.status_code == 401


def test_grpc_on_the_port_of_http(admin: Api) -> None:
    """A client of plain gRPC learns on the other port that this one cannot answer it."""
    response = post(admin, LIST, framed(b""), GRPC)
    assert response.headers["grpc-status"] == "12"
    assert "SCHEMA_USER_GRPC_PORT" in response.headers["grpc-message"]


def test_old_and_odd_http(server: Server, admin: Api) -> None:
    """HTTP/1.0, and headers that are no text, are answered like any other."""
    host = ("127.0.0.1", server.port)
    head = f"POST {LIST} HTTP/1.0\r\nauthorization: Bearer {admin.token}\r\ncontent-type: application/json\r\n"
    with socket.create_connection(host, timeout=10) as connection:
        connection.sendall(head.encode() + b"content-length: 2\r\nx-odd: \xff\xfe\r\n\r\n{}")
        answer = b"".join(iter(lambda: connection.recv(65536), b""))
    assert answer.split(b" ", 2)[1] == b"200"


def test_a_stranger_is_not_read(server: Server) -> None:
    """Without a token nothing of a message is read, on any wire."""
    with httpx.Client(base_url=server.url, verify=ANY_TLS) as client:
        for media_type in (JSON, PROTO, WEB):
            response = client.post(LIST, content=b"\xff" * 100, headers={"content-type": media_type})
            assert told(response).code == 16
    with grpc.insecure_channel(f"127.0.0.1:{server.grpc_port}") as channel, pytest.raises(grpc.RpcError) as caught:
        channel.unary_unary(LIST)(b"\xff" * 100)
    assert grpc_refusal(caught.value).code == 16


def test_hostile_calls_of_grpc(server: Server, admin: Api) -> None:
    """Nonsense, size, streams and unknown names on the gRPC port are refused, and the next call works."""
    metadata = (("authorization", f"Bearer {admin.token}"),)
    with grpc.insecure_channel(f"127.0.0.1:{server.grpc_port}") as channel:

        def refused(path: str, message: bytes) -> Refused:
            with pytest.raises(grpc.RpcError) as caught:
                channel.unary_unary(path)(message, metadata=metadata, timeout=20)
            return grpc_refusal(caught.value)

        assert refused(LIST, b"\x0a\xff").reason == "REQUEST_INVALID"
        assert refused(LIST, b"\xff" * (LIMIT + 10)).reason == "BODY_TOO_LARGE"
        assert refused(LIST, b"\xff" * 8 * LIMIT).code == 8
        assert refused("/nothing", b"").code == 12
        assert refused("/v3alpha/users/1", b"").code == 12
        with pytest.raises(grpc.RpcError) as caught:
            channel.stream_unary(LIST)(iter([b"", b""]), metadata=metadata, timeout=20)
        assert grpc_refusal(caught.value).code == 12
        squeezed = channel.unary_unary(LIST)
        assert squeezed(b"", metadata=metadata, compression=grpc.Compression.Gzip)
    for hello in (b"GET / HTTP/1.1\r\n\r\n", b"\x00" * 100, b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + b"\xff" * 100):
        with socket.create_connection(("127.0.0.1", int(server.grpc_port or 0)), timeout=10) as connection:
            connection.sendall(hello)
            assert b"".join(iter(lambda: connection.recv(65536), b"")) is not None  # it is closed


def test_many_calls_at_once(server: Server, admin: Api) -> None:
    """Calls that are cut off at once by the hundred leave the port answering others."""
    metadata = (("authorization", f"Bearer {admin.token}"),)
    own = (("grpc.use_local_subchannel_pool", 1),)
    address = f"127.0.0.1:{server.grpc_port}"
    with grpc.insecure_channel(address, own) as hostile, grpc.insecure_channel(address, own) as channel:
        cut_off = hostile.unary_unary(LIST)
        for _ in range(200):
            cut_off.future(b"", metadata=metadata).cancel()
        method = channel.unary_unary(LIST)
        with ThreadPoolExecutor(8) as pool:
            answers = list(pool.map(lambda _: method(b"", metadata=metadata, timeout=20), range(40)))
    assert all(answers)


def test_values_stay_out_of_errors(admin: Api) -> None:
    """What cannot be read is not repeated to anybody: not even in the error."""
    response = post(admin, ADD, b'{"password":{"password":"Secr3t-in-a-body", "changeRequired":"x"}}', JSON)
    assert "Secr3t" not in response.text
    broken = AddHumanUserRequest().to_binary() + b"\x0a\x10Secr3t"
    assert b"Secr3t" not in post(admin, ADD, broken, PROTO).content
    assert json.loads(response.text)["code"] == "invalid_argument"
    assert struct.calcsize(">BI") == 5
