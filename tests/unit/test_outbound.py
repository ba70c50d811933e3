"""Connections to addresses that somebody else chose."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
from typing import TYPE_CHECKING, Any

import httpx2
import pytest

from schema_user.outbound import AddressRefused, checked_addresses, is_public
from schema_user.outbound.client import NotFetched, fetch, guarded_client

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable
    from pathlib import Path

PUBLIC = ("1.1.1.1", "93.184.216.34", "2606:4700:4700::1111", "64:ff9b::808:808", "::ffff:8.8.8.8")
PRIVATE = (
    *("127.0.0.1", "127.255.255.254", "0.0.0.1", "10.0.0.1", "172.16.0.1", "172.31.255.255", "192.168.1.1"),
    *("169.254.169.254", "100.64.0.1", "192.0.0.1", "192.0.2.1", "198.18.0.1", "198.51.100.1", "203.0.113.1"),
    *("224.0.0.1", "239.255.255.250", "240.0.0.1", "255.255.255.255"),
    *("::", "::1", "fe80::1", "fe80::1%1", "fc00::1", "fd12:3456::1", "fec0::1", "ff02::1", "2001:db8::1", "100::1"),
    *("::ffff:127.0.0.1", "::ffff:10.0.0.1", "::ffff:169.254.169.254", "::127.0.0.1", "64:ff9b::7f00:1"),
    *("64:ff9b::a9fe:a9fe", "64:ff9b:1::1", "2002:7f00:1::", "2002:808:808::", "2001:0:7f00:1::1"),
)
NAMES = (
    *("127.0.0.1", "localhost", "127.1", "2130706433", "0x7f000001", "0177.0.0.1", "0", "::1", "::ffff:127.0.0.1"),
    *("169.254.169.254", "10.1.2.3", "0xa9fea9fe"),
)


@pytest.mark.parametrize("address", PUBLIC)
def test_public_addresses(address: str) -> None:
    """Addresses of the internet are public, also as IPv6 writes those of IPv4."""
    assert is_public(address)


@pytest.mark.parametrize("address", PRIVATE)
def test_other_addresses(address: str) -> None:
    """Loopback, private, link-local, shared, multicast, reserved and tunnelled addresses are not."""
    assert not is_public(address)


@pytest.mark.parametrize("host", NAMES)
async def test_whatever_the_notation_the_address_counts(host: str) -> None:
    """A name, or a number in any notation, that leads into this network is refused, and taken if that is allowed."""
    with pytest.raises(AddressRefused):
        await checked_addresses(host, 80, allow_private=False)
    assert await checked_addresses(host, 80, allow_private=True)


@pytest.mark.parametrize("host", ["", "no-such-name.invalid", "a" * 64 + ".example", "..", "\x00", "exa mple"])
async def test_a_host_that_is_none(host: str) -> None:
    """A name that does not resolve is an OSError, whatever is wrong with it."""
    with pytest.raises(OSError):  # noqa: PT011 -- each resolver has its own words
        await checked_addresses(host, 80, allow_private=False)


def resolving(monkeypatch: pytest.MonkeyPatch, *answers: list[str]) -> list[str]:
    """Let names resolve to these addresses, one answer after the other; gives the names that were asked for."""
    asked: list[str] = []

    def getaddrinfo(host: str, port: int, **_: Any) -> list[Any]:
        asked.append(host)
        found = answers[min(len(asked), len(answers)) - 1]
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (each, port)) for each in found]

    monkeypatch.setattr("schema_user.outbound.socket.getaddrinfo", getaddrinfo)
    return asked


async def test_one_private_address_is_enough(monkeypatch: pytest.MonkeyPatch) -> None:
    """A name with a public and a private address is refused: which one is connected to must not be luck."""
    resolving(monkeypatch, ["1.1.1.1", "10.0.0.1"])
    with pytest.raises(AddressRefused):
        await checked_addresses("mixed.example", 443, allow_private=False)


@pytest.fixture
async def serve() -> AsyncIterator[Callable[..., Any]]:
    """Give a way to listen on this machine; what was heard comes back as a list of requests."""
    servers = []

    async def start(answer: bytes, *, tls: ssl.SSLContext | None = None, pause: float = 0) -> tuple[int, list[bytes]]:
        heard: list[bytes] = []

        async def speak(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            try:
                heard.append(await reader.readuntil(b"\r\n\r\n"))
                for each in [answer[i : i + 1] for i in range(len(answer))] if pause else [answer]:
                    writer.write(each)
                    await writer.drain()
                    await asyncio.sleep(pause)
            except (OSError, asyncio.IncompleteReadError):
                pass
            finally:
                writer.close()

        server = await asyncio.start_server(speak, "127.0.0.1", 0, ssl=tls)
        servers.append(server)
        return server.sockets[0].getsockname()[1], heard

    yield start
    for server in servers:
        server.close()


def answered(body: bytes, status: str = "200 OK", *headers: str) -> bytes:
    """Write an answer of HTTP/1.1."""
    head = [f"HTTP/1.1 {status}", f"Content-Length: {len(body)}", *headers, "", ""]
    return "\r\n".join(head).encode() + body


async def test_the_connection_goes_to_the_checked_address(
    serve: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A name is resolved once: what it resolves to afterwards is not asked (DNS rebinding), and ``Host`` stays."""
    port, heard = await serve(answered(b"{}"))
    asked = resolving(monkeypatch, ["127.0.0.1"], ["127.0.0.2"])
    async with guarded_client(allow_private=True, timeout=5) as client:
        assert await fetch(client, f"http://id.example:{port}/a", most=10, seconds=5) == b"{}"
    assert asked == ["id.example"]
    assert f"host: id.example:{port}".encode() in heard[0].lower()


async def test_private_addresses_are_not_connected_to(serve: Callable[..., Any]) -> None:
    """Where they are not allowed, nothing is ever sent to one."""
    port, heard = await serve(answered(b"{}"))
    async with guarded_client(allow_private=False, timeout=5) as client:
        for host in ("127.0.0.1", "localhost", "2130706433", "[::ffff:127.0.0.1]"):
            with pytest.raises(NotFetched, match="AddressRefused"):
                await fetch(client, f"http://{host}:{port}/", most=10, seconds=5)
    assert heard == []


async def test_another_address_is_tried(serve: Callable[..., Any], monkeypatch: pytest.MonkeyPatch) -> None:
    """If the first address takes no connection the next one is tried."""
    port, _ = await serve(answered(b"yes"))
    resolving(monkeypatch, ["127.0.0.9", "127.0.0.1"])
    async with guarded_client(allow_private=True, timeout=5) as client:
        assert await fetch(client, f"http://id.example:{port}/", most=10, seconds=5) == b"yes"


@pytest.mark.parametrize(("name", "taken"), [("localhost", True), ("another.example", False)])
async def test_the_certificate_must_be_the_name_s(
    serve: Callable[..., Any],
    monkeypatch: pytest.MonkeyPatch,
    trusted_tls: ssl.SSLContext,
    name: str,
    taken: bool,
) -> None:
    """Connecting to an address does not loosen TLS: the certificate is checked for the name of the URL."""
    port, _ = await serve(answered(b"yes"), tls=trusted_tls)
    resolving(monkeypatch, ["127.0.0.1"])
    async with guarded_client(allow_private=True, timeout=5) as client:
        if taken:
            assert await fetch(client, f"https://{name}:{port}/", most=10, seconds=5) == b"yes"
        else:
            with pytest.raises(NotFetched):
                await fetch(client, f"https://{name}:{port}/", most=10, seconds=5)


@pytest.mark.parametrize(
    ("answer", "why"),
    [
        (answered(b"", "302 Found", "Location: http://127.0.0.1/"), "HTTP 302"),
        (answered(b"{}", "404 Not Found"), "HTTP 404"),
        (answered(b"x" * 11), "more than 10 bytes"),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + b"5\r\nxxxxx\r\n" * 9 + b"0\r\n\r\n", "more than"),
        (b"nonsense", "RemoteProtocolError"),
        (b"", "RemoteProtocolError"),
    ],
    ids=["redirect", "status", "long", "long in chunks", "no HTTP", "nothing"],
)
async def test_what_is_not_fetched(serve: Callable[..., Any], answer: bytes, why: str) -> None:
    """No redirect is followed, and no more is read than is asked for."""
    port, heard = await serve(answer)
    async with guarded_client(allow_private=True, timeout=5) as client:
        with pytest.raises(NotFetched, match=why):
            await fetch(client, f"http://127.0.0.1:{port}/", most=10, seconds=5)
    assert len(heard) == 1


async def test_the_whole_takes_no_longer_than_it_may(serve: Callable[..., Any]) -> None:
    """A receiver that sends a byte now and then is left when the time is over."""
    port, _ = await serve(answered(b"x" * 10), pause=0.1)
    async with guarded_client(allow_private=True, timeout=5) as client, asyncio.timeout(3):
        with pytest.raises(NotFetched, match="TimeoutError"):
            await fetch(client, f"http://127.0.0.1:{port}/", most=10, seconds=0.5)


async def test_no_proxy_is_asked(serve: Callable[..., Any], monkeypatch: pytest.MonkeyPatch) -> None:
    """A proxy of the environment would resolve names by itself, so none is used."""
    proxy, heard = await serve(answered(b"proxied"))
    port, _ = await serve(answered(b"direct"))
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.setenv(name, f"http://127.0.0.1:{proxy}")
    async with guarded_client(allow_private=True, timeout=5) as client:
        assert await fetch(client, f"http://127.0.0.1:{port}/", most=10, seconds=5) == b"direct"
    assert heard == []


async def test_two_names_never_share_a_connection(monkeypatch: pytest.MonkeyPatch) -> None:
    """Names at one address each get a connection of their own, checked for their own certificate."""
    connections = 0

    async def speak(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal connections
        connections += 1
        with contextlib.suppress(OSError, asyncio.IncompleteReadError):
            while await reader.readuntil(b"\r\n\r\n"):
                writer.write(answered(b"yes"))
        writer.close()

    async with await asyncio.start_server(speak, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        resolving(monkeypatch, ["127.0.0.1"])
        async with guarded_client(allow_private=True, timeout=5) as client:
            for name in ("a.example", "b.example"):
                assert (await client.get(f"http://{name}:{port}/")).status_code == httpx2.codes.OK
    assert connections == 2


@pytest.fixture
def trusted_tls(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ssl.SSLContext:
    """Give the server's side of TLS by a certificate for ``localhost`` that this process trusts."""
    from datetime import UTC, datetime, timedelta

    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.x509.oid import NameOID

    now, key = datetime.now(UTC), ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "localhost")])
    made = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number(), now, now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    path = tmp_path / "tls.pem"
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    path.write_bytes(private + made.public_bytes(serialization.Encoding.PEM))
    monkeypatch.setenv("SSL_CERT_FILE", str(path))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(path)
    return context
