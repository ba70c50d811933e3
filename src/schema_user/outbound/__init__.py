"""Where the service may connect to when somebody else chose the address: an issuer's keys, a webhook's receiver.

A name is resolved once, every address it has is checked, and the connection goes to a checked address. So a name that
resolves to something else a moment later (DNS rebinding) gains nothing. ``client.py`` has the HTTP client that does so.
"""

from __future__ import annotations

import asyncio
import socket
from ipaddress import IPv4Address, IPv6Address, IPv6Network, ip_address
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from concurrent.futures import Executor

_NAT64: Final = IPv6Network("64:ff9b::/96")
"""Public IPv4 addresses as a network of IPv6 alone sees them (RFC 6052)."""


class AddressRefused(OSError):
    """A host is, or resolves to, an address that is not public; the text names neither."""

    def __init__(self) -> None:
        """Say so."""
        super().__init__("the host has an address that is not public")


def is_public(address: str) -> bool:
    """Whether an IP address is one of the public internet, whatever form of it an IPv6 address embeds.

    Loopback, private, link-local, shared, multicast, reserved and documentation addresses are not, nor are those of
    tunnels (6to4, Teredo), which lead to an IPv4 address that nobody checks.
    """
    found: IPv4Address | IPv6Address = ip_address(address)
    if isinstance(found, IPv6Address):
        if found in _NAT64:
            found = IPv4Address(int(found) & 0xFFFFFFFF)
        elif found.ipv4_mapped is not None:
            found = found.ipv4_mapped
        elif found.sixtofour is not None or found.teredo is not None or found.is_site_local:
            return False
    return found.is_global and not found.is_multicast and not found.is_reserved


async def checked_addresses(
    host: str, port: int, *, allow_private: bool, executor: Executor | None = None
) -> list[str]:
    """Resolve a host name, or an address in any notation, to the addresses that may be connected to, best first.

    The lookup runs in a thread of ``executor`` (None: the loop's own). It takes as long as the system's resolver does:
    bound it by ``asyncio.timeout``.

    Raises:
        AddressRefused: if one of the addresses is not public, unless ``allow_private``.
        OSError: if the name does not resolve.
    """

    def look_up() -> list[str]:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, proto=socket.IPPROTO_TCP)
        return list(dict.fromkeys(str(each[4][0]) for each in found))

    try:
        addresses = await asyncio.get_running_loop().run_in_executor(executor, look_up)
    except UnicodeError as error:  # a label that is empty or too long
        raise OSError("the host is no name") from error
    if not addresses:
        raise OSError("the host has no address")
    if not allow_private and not all(map(is_public, addresses)):
        raise AddressRefused
    return addresses
