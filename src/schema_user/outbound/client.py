"""The HTTP client for addresses that somebody else chose."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Final

import httpx2

from schema_user.outbound import checked_addresses

if TYPE_CHECKING:
    from collections.abc import Mapping

_LOOKUPS: Final = 4
"""Threads of one client for looking up names: a resolver that hangs must not hold the threads that others need."""


class GuardedTransport(httpx2.AsyncHTTPTransport):
    """Connects to checked addresses only; the certificate must still be that of the name.

    No connection is used twice: the pool knows connections by their address, and two names may have the same one.
    """

    def __init__(self, *, allow_private: bool) -> None:
        """Trust the certificate authorities of the system, or of ``SSL_CERT_FILE``."""
        super().__init__(
            verify=ssl.create_default_context(),
            trust_env=False,
            limits=httpx2.Limits(max_connections=None, max_keepalive_connections=0),
        )
        self._allow_private = allow_private
        self._lookups = ThreadPoolExecutor(_LOOKUPS, thread_name_prefix="lookup")

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        """Send a request to the first of the host's addresses that takes the connection.

        Raises:
            AddressRefused: if the host has an address that is not public.
            OSError: if its name does not resolve.
        """
        host = request.url.raw_host.decode("ascii")
        port = request.url.port or (443 if request.url.scheme == "https" else 80)
        name = host.removeprefix("[").removesuffix("]")
        addresses = await checked_addresses(name, port, allow_private=self._allow_private, executor=self._lookups)
        for address in addresses[:-1]:
            with contextlib.suppress(httpx2.ConnectError, httpx2.ConnectTimeout):
                return await super().handle_async_request(_sent_to(request, address, name))
        return await super().handle_async_request(_sent_to(request, addresses[-1], name))

    async def aclose(self) -> None:
        """Close the connections, and wait for no lookup."""
        self._lookups.shutdown(wait=False, cancel_futures=True)
        await super().aclose()


def _sent_to(request: httpx2.Request, address: str, name: str) -> httpx2.Request:
    """Give the request as it goes to one address: ``Host`` and the certificate's name stay those of the URL."""
    return httpx2.Request(
        request.method,
        request.url.copy_with(host=address),
        headers=request.headers,
        stream=request.stream,
        extensions={**request.extensions, "sni_hostname": name},
    )


def guarded_client(*, allow_private: bool, timeout: float) -> httpx2.AsyncClient:
    """Make a client that connects to public addresses only (or to all), follows no redirect and no proxy.

    ``timeout`` is in seconds, for each step; bound the whole with ``asyncio.timeout``. Loading and making one takes a
    tenth of a second: do it in a thread. What it raises is an ``httpx2.HTTPError`` or an ``OSError``.
    """
    return httpx2.AsyncClient(
        transport=GuardedTransport(allow_private=allow_private),
        trust_env=False,
        follow_redirects=False,
        timeout=timeout,
        headers={"user-agent": "schema-user", "accept": "application/json", "accept-encoding": "identity"},
    )


class NotFetched(Exception):
    """A document could not be fetched; the text says why, without naming hosts."""


async def fetch(
    client: httpx2.AsyncClient, url: str, *, most: int, seconds: float, headers: Mapping[str, str] | None = None
) -> bytes:
    """Get a document of at most ``most`` bytes, within ``seconds`` from the lookup of its host to its last byte.

    Raises:
        NotFetched: if that fails, or the answer is anything but 200.
    """
    body = bytearray()
    try:
        async with asyncio.timeout(seconds), client.stream("GET", url, headers=headers) as response:
            if response.status_code != httpx2.codes.OK:
                raise NotFetched(f"HTTP {response.status_code}")
            async for chunk in response.aiter_raw():
                body += chunk
                if len(body) > most:
                    raise NotFetched(f"more than {most} bytes")
    except (httpx2.HTTPError, httpx2.InvalidURL, OSError) as error:  # TimeoutError is an OSError
        raise NotFetched(type(error).__name__) from error
    return bytes(body)
