"""The issuers that are set, and what a token of one of them proves."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from schema_user.domain.issuer import Subject, subject_of
from schema_user.issuers.keys import IssuerKeys, KeysFault
from schema_user.issuers.signed import looks_signed, read_signed

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterable
    from datetime import datetime, timedelta

    import httpx2

    from schema_user.domain.issuer import Issuer

_FETCH_SECONDS: Final = 5.0
_BELIEVED: Final = 2.0
"""Seconds for which a signature is not checked again; a key that is withdrawn counts no longer than that."""
_KEPT: Final = 20_000


@dataclass(frozen=True, slots=True)
class Proven:
    """Whom a token stands for, and until when."""

    subject: Subject
    expires_at: float

    def good_at(self, now: datetime) -> bool:
        """Whether it has not expired."""
        return now.timestamp() < self.expires_at


class Issuers:
    """Checks tokens of the issuers that are set; it keeps digests of tokens, never a token."""

    def __init__(self, keys: dict[str, tuple[Issuer, IssuerKeys]], clock: Callable[[], float] = time.monotonic) -> None:
        """Know these issuers, by their names; ``clock`` is monotonic, in seconds."""
        self._issuers = keys
        self._clock = clock
        self._known: dict[bytes, tuple[float, Proven]] = {}

    def take(self, secret: str) -> bool:
        """Whether a bearer token is one for an issuer to vouch for."""
        return bool(self._issuers) and looks_signed(secret)

    async def proven(self, token: str, now: datetime) -> Proven | None:
        """Check a token; None: it proves nothing. What it proves may have expired since: ask ``Proven.good_at()``.

        Raises:
            Unavailable: if the issuer that it names has never been reached, or not for long.
        """
        digest = hashlib.sha256(token.encode("utf-8", "surrogatepass")).digest()
        known = self._known.get(digest)
        if known is not None and self._clock() - known[0] < _BELIEVED:
            return known[1]
        proven = await self._check(token, now)
        if proven is not None:
            if len(self._known) >= _KEPT:
                self._known.clear()
            self._known[digest] = (self._clock(), proven)
        return proven

    async def _check(self, token: str, now: datetime) -> Proven | None:
        signed = read_signed(token)
        if signed is None:
            return None
        named = signed.claims.get("iss")
        issuer, keys = self._issuers.get(named, (None, None)) if isinstance(named, str) else (None, None)
        # Claims first: a token that would be refused anyway makes nobody fetch keys.
        if issuer is None or keys is None or not signed.is_for(issuer, now.timestamp()):
            return None
        key = await keys.find(signed.key_id)
        if key is None or not signed.has_signature_by(key):
            return None
        subject = subject_of(issuer, signed.claims)
        return None if subject is None else Proven(subject, signed.expires_at)


class _Client:
    """Fetches documents; the HTTP client is loaded and made when the first is needed, in a thread."""

    def __init__(self, *, allow_private: bool) -> None:
        self._allow_private = allow_private
        self._client: httpx2.AsyncClient | None = None
        self._making = asyncio.Lock()

    async def fetch(self, url: str, most: int) -> bytes:
        async with self._making:
            if self._client is None:
                self._client = await asyncio.to_thread(self._make)
        from schema_user.outbound.client import NotFetched, fetch  # noqa: PLC0415 -- it is loaded by now

        try:
            return await fetch(self._client, url, most=most, seconds=_FETCH_SECONDS)
        except NotFetched as error:
            raise KeysFault(str(error)) from error

    def _make(self) -> httpx2.AsyncClient:
        from schema_user.outbound.client import guarded_client  # noqa: PLC0415 -- takes a tenth of a second

        return guarded_client(allow_private=self._allow_private, timeout=_FETCH_SECONDS)

    async def close(self) -> None:
        if self._client is not None:
            await self._client.aclose()


@contextlib.asynccontextmanager
async def opened_issuers(issuers: Iterable[Issuer], kept: timedelta, *, allow_private: bool) -> AsyncIterator[Issuers]:
    """Know these issuers for as long as the block lasts; their keys are fetched from now on.

    Keys are good for ``kept`` while the issuer does not answer. ``allow_private``: issuers may be at addresses that
    are not public.
    """
    client = _Client(allow_private=allow_private)
    keys = {each.issuer: (each, IssuerKeys(each, client.fetch, kept.total_seconds())) for each in issuers}
    try:
        for _, each in keys.values():
            each.begin()
        yield Issuers(keys)
    finally:
        await asyncio.gather(*(each.stop() for _, each in keys.values()))
        await client.close()
