"""From where a request comes, so that what needs no token can be limited by it."""

from __future__ import annotations

import re
from ipaddress import IPv4Address, IPv6Address, IPv6Network, ip_address
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Sequence
    from ipaddress import IPv4Network

    from schema_user.api.door import Headers, Scope

_NODE: Final = re.compile(r'(?:^|;)\s*for\s*=\s*("[^"]*"|[^;\s]*)', re.IGNORECASE)
_WITH_PORT: Final = re.compile(r"\[([^\]]*)\](?::\d+)?|([^:\[\]]*)(?::\d+)?")
_SITE_BITS: Final = 64
"""An IPv6 network of this length goes to one customer (RFC 6177), who can take any address in it."""

Address = IPv4Address | IPv6Address


def peer_network(scope: Scope, headers: Headers, proxies: Sequence[IPv4Network | IPv6Network]) -> str:
    """Name the peer for counting: its IPv4 address, or the IPv6 network of 64 bits in which it is."""
    peer = peer_address(scope, headers, proxies)
    if isinstance(peer, IPv6Address):
        return str(IPv6Network((peer, _SITE_BITS), strict=False))
    return str(peer)


def peer_address(scope: Scope, headers: Headers, proxies: Sequence[IPv4Network | IPv6Network]) -> Address | None:
    """Find the address of the peer; of a request through trusted proxies, that which the outermost of them saw.

    ``X-Forwarded-For`` and ``Forwarded`` (RFC 7239) are read from the right, as each proxy adds to the right what it
    saw, and only as far as trusted proxies wrote them. If both are there and don't say the same, a proxy let one of
    them through unread, and neither is believed.
    """
    client = scope.get("client")
    socket_peer = None if client is None else _address(client[0])
    told = [
        _outermost(socket_peer, nodes, proxies)
        for nodes in (_forwarded_for(headers), _forwarded(headers))
        if nodes is not None
    ]
    return told[0] if told and all(each == told[0] for each in told) else socket_peer


def _forwarded_for(headers: Headers) -> list[str] | None:
    value = headers.get(b"x-forwarded-for")
    return None if value is None else value.decode("latin-1").split(",")


def _forwarded(headers: Headers) -> list[str] | None:
    value = headers.get(b"forwarded")
    if value is None:
        return None
    matches = (_NODE.search(element) for element in value.decode("latin-1").split(","))
    return ["" if match is None else match[1].strip('"') for match in matches]


def _outermost(
    peer: Address | None, nodes: Sequence[str], proxies: Sequence[IPv4Network | IPv6Network]
) -> Address | None:
    for node in reversed(nodes):
        before = _address(node)
        if peer is None or before is None or not any(peer in network for network in proxies):
            break
        peer = before
    return peer


def _address(node: str) -> Address | None:
    """Read an address, with or without a port; an IPv4 one that is mapped into IPv6 is that of IPv4."""
    text = node.strip()
    match = _WITH_PORT.fullmatch(text)
    try:
        found = ip_address(((match[1] or match[2] or "") if match else text).partition("%")[0])
    except ValueError:
        return None
    mapped = found.ipv4_mapped if isinstance(found, IPv6Address) else None
    return mapped or found
