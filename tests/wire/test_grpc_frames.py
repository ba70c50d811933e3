"""What no library of gRPC lets a client send: frames of HTTP/2 as they are, to the port of plain gRPC."""

from __future__ import annotations

import asyncio
import itertools
import json
import socket
import struct
from typing import TYPE_CHECKING, Any

import grpc
import pytest

from schema_user.rpc.grpc_port import listening
from tests.conftest import free_port
from tests.faults.load import eventually
from tests.wire.rpc_calls import V2, grpc_refusal

if TYPE_CHECKING:
    from tests.conftest import Api, Server

LIST, HEALTH = f"/{V2}/ListUsers", "/grpc.health.v1.Health/Check"
HELLO = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
DATA, HEADERS, SETTINGS = 0, 1, 4
END_STREAM, END_HEADERS = 1, 4


def frame(kind: int, flags: int, stream: int, payload: bytes = b"") -> bytes:
    """Make a frame (RFC 9113, 4.1)."""
    return struct.pack(">I", len(payload))[1:] + struct.pack(">BBI", kind, flags, stream) + payload


def header(name: str, value: bytes) -> bytes:
    """Make a header without compression, of less than 127 bytes (RFC 7541, 6.2.2)."""
    return b"\0" + bytes([len(name)]) + name.encode() + bytes([len(value)]) + value


def connected(server: Server) -> socket.socket:
    """Open a connection and say that it is HTTP/2."""
    connection = socket.create_connection(("127.0.0.1", int(server.grpc_port or 0)), timeout=20)
    connection.sendall(HELLO + frame(SETTINGS, 0, 0))
    return connection


def opening(path: str, *metadata: tuple[str, bytes], stream: int = 1) -> bytes:
    """Make the frame that opens a call, with metadata as it is."""
    request = [(":method", b"POST"), (":scheme", b"http"), (":path", path.encode()), (":authority", b"localhost")]
    fields = [*request, ("content-type", b"application/grpc"), *metadata]
    return frame(HEADERS, END_HEADERS, stream, b"".join(header(name, value) for name, value in fields))


def answered(server: Server, *metadata: tuple[str, bytes]) -> bytes:
    """Call, and give the frames that come back, up to the status."""
    found = b""
    with connected(server) as connection:
        connection.sendall(opening(LIST, *metadata) + frame(DATA, END_STREAM, 1, bytes(5)))
        while b"grpc-status" not in found:
            piece = connection.recv(65536)
            assert piece
            found += piece
    return found


@pytest.mark.parametrize("odd", ["é".encode(), "€".encode(), b"\xff"], ids=["latin", "beyond", "no-utf-8"])
def test_metadata_that_is_no_ascii(server: Server, admin: Api, odd: bytes) -> None:
    """It is read like a header of HTTP: a token with it is not valid, and it stands in no error and no log."""
    found = answered(server, ("te", b"trailers"), ("authorization", b"Bearer Secr3t-token" + odd))
    assert b"grpc-status\x0216" in found
    assert b"codec" not in found
    token = ("authorization", f"Bearer {admin.token}".encode())
    assert b"grpc-status\x010" in answered(server, ("te", b"trailers"), token, ("x-anything", odd))
    assert "Secr3t-token" not in server.log()


def test_what_is_no_grpc_is_not_logged(server: Server) -> None:
    """Whoever sends nonsense writes nothing into the log, each line of which is an object in JSON."""
    before = len(server.log())
    answered(server, ("te", b"nonsense"))
    answered(server, ("te", b"trailers"), ("grpc-encoding", b"nonsense"))
    assert [line for line in server.log()[before:].splitlines() if not isinstance(json.loads(line), dict)] == []


def test_strangers_who_say_nothing(server: Server, admin: Api) -> None:
    """Calls that need no token and send no message take few of the places, so that others are answered."""
    own = (("grpc.use_local_subchannel_pool", 1),)
    with connected(server) as silent, grpc.insecure_channel(f"127.0.0.1:{server.grpc_port}", own) as channel:
        check = channel.unary_unary(HEALTH)

        def why() -> str:
            try:
                check(b"", timeout=20)
            except grpc.RpcError as error:
                return grpc_refusal(error).reason
            return ""

        streams = itertools.count(1, 2)

        def crowded() -> bool:
            openings = (opening(HEALTH, ("te", b"trailers"), stream=next(streams)) for _ in range(60))
            silent.sendall(b"".join(openings))
            return why() == "QUEUE_FULL"

        assert why() == ""
        eventually(crowded)
        metadata = (("authorization", f"Bearer {admin.token}"),)
        channel.unary_unary(LIST)(b"", metadata=metadata, timeout=20)
        silent.close()
        eventually(lambda: why() == "")


async def test_connections_are_bounded() -> None:
    """One connection more than are held is closed at once, and takes no file of the process."""
    port = free_port()

    async def door(*_asgi: Any) -> None:
        raise AssertionError

    server = await listening(door, f"127.0.0.1:{port}", shared=False, body_max_bytes=1024, connections=2)
    try:
        held = []
        for number in range(3):
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(HELLO + frame(SETTINGS, 0, 0))
            held.append(writer)
            assert bool(await asyncio.wait_for(reader.read(9), 20)) is (number < 2)
        for writer in held:
            writer.close()
    finally:
        await server.stop(0)
