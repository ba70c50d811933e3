"""The keys of one issuer: found by discovery, kept while it is away, fetched anew when it rotates them."""

from __future__ import annotations

import asyncio
import logging
import time
import warnings
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlsplit

import msgspec
from cryptography.exceptions import UnsupportedAlgorithm
from joserfc.errors import JoseError, SecurityWarning
from joserfc.jwk import ECKey, JWKRegistry, OKPKey, RSAKey

from schema_user.domain.issuer import safe_url
from schema_user.errors import Unavailable

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from schema_user.domain.issuer import Issuer

log = logging.getLogger("schema_user.issuers")

REFRESH: Final = 300.0
"""Seconds after which keys that are used are looked at again: one that was withdrawn is refused by then."""
PAUSE: Final = 30.0
"""Seconds between two fetches for keys that are not known: anybody can name one."""
FIRST_PAUSE: Final = 5.0
"""Seconds between two fetches while there are no keys at all."""
PATIENCE: Final = 5.0
"""Seconds that one request waits for keys."""

_DISCOVERY: Final = "/.well-known/openid-configuration"
_DISCOVERY_MOST: Final = 64 * 1024
_SET_MOST: Final = 512 * 1024
"""Bytes of a set of keys; those of the largest issuers have some 10 KiB."""
_KEYS_MOST: Final = 100
_ID_MOST: Final = 1000
_RSA_BITS: Final = range(2048, 8193)
"""RFC 7518, 3.3, asks for 2048 at least; larger ones than 8192 take milliseconds for each token."""
_RSA_EXPONENT_BITS: Final = 32
_CURVES: Final = frozenset({"P-256", "P-384", "P-521", "Ed25519"})
_PRIVATE: Final = frozenset({"d", "p", "q", "dp", "dq", "qi", "oth", "k"})
"""Members of private and symmetric keys (RFC 7518, section 6): whoever publishes one has no secret any more."""

Key = RSAKey | ECKey | OKPKey


class KeysFault(Exception):
    """The issuer's documents cannot be had, or are not what they must be; the text says why, and names nobody."""


class IssuerKeys:
    """Keeps the keys of one issuer. One fetch is under way at most, and no request begins more than its share."""

    def __init__(
        self,
        issuer: Issuer,
        fetch: Callable[[str, int], Awaitable[bytes]],
        kept: float,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Know nothing yet.

        ``fetch`` gets a document of at most so many bytes and raises KeysFault if it can't; keys are good for
        ``kept`` seconds after they were fetched; ``clock`` is monotonic, in seconds.
        """
        self._issuer = issuer
        self._schemes = {"https", urlsplit(issuer.issuer).scheme}
        self._fetch = fetch
        self._kept = kept
        self._clock = clock
        self._keys: dict[str, Key] = {}
        self._fetched_at: float | None = None
        self._due_at = self._asks_at = clock()
        self._flight: asyncio.Task[None] | None = None

    async def find(self, key_id: str) -> Key | None:
        """Give a key by its id; None: the issuer has none of this id, as far as is known.

        A known key is given at once. For one that is not known the keys are fetched, once in 30 s whoever asks.

        Raises:
            Unavailable: if no keys are known, since the issuer does not answer.
        """
        now = self._clock()
        if self._fetched_at is not None and now - self._fetched_at >= self._kept:
            self._keys, self._fetched_at = {}, None
        key = self._keys.get(key_id)
        if key is not None:
            if now >= self._due_at:
                self.begin()
            return key
        if self._fetched_at is not None and now >= self._asks_at:
            self._asks_at = now + PAUSE
            self.begin()
        elif self._fetched_at is None and now >= self._due_at:
            self.begin()
        if self._flight is not None:
            await asyncio.wait({self._flight}, timeout=PATIENCE)
        if self._fetched_at is None:
            raise Unavailable("ISSUER_UNAVAILABLE", "the keys of the token's issuer cannot be had", retry_after=5)
        return self._keys.get(key_id)

    def begin(self) -> None:
        """Begin to fetch the keys, unless that is under way."""
        if self._flight is None:
            self._due_at = self._clock() + (FIRST_PAUSE if self._fetched_at is None else PAUSE)
            self._flight = asyncio.get_running_loop().create_task(self._refresh(), name="issuer keys")

    async def stop(self) -> None:
        """Fetch no more."""
        if self._flight is not None:
            self._flight.cancel()
            await asyncio.wait({self._flight})

    async def _refresh(self) -> None:
        """Fetch the keys; those known before stay if that fails."""
        begun = self._clock()
        try:
            self._keys = await self._fetched()
            self._fetched_at, self._due_at = begun, begun + REFRESH
        except Exception as error:  # noqa: BLE001 -- whatever an issuer answers, the others' tokens are not for it to end
            why = str(error) if isinstance(error, KeysFault) else type(error).__name__
            log.warning("keys of an issuer not fetched", extra={"issuer": self._issuer.issuer, "why": why})
        finally:
            self._flight = None

    async def _fetched(self) -> dict[str, Key]:
        found = _object(await self._fetch(self._issuer.issuer.rstrip("/") + _DISCOVERY, _DISCOVERY_MOST))
        if found.get("issuer") != self._issuer.issuer:
            raise KeysFault("the discovery document is another issuer's")
        url = found.get("jwks_uri")
        if not isinstance(url, str) or not safe_url(url) or url.partition(":")[0] not in self._schemes:
            raise KeysFault("jwks_uri is no https:// URL")
        listed = _object(await self._fetch(url, _SET_MOST)).get("keys")
        if not isinstance(listed, list):
            raise KeysFault("the key set has no keys")
        keys: dict[str, Key] = {}
        for each in listed[:_KEYS_MOST]:
            key = read_key(each)
            if key is not None and key.kid is not None:
                keys.setdefault(key.kid, key)
        if not keys:
            log.warning("an issuer has no usable keys", extra={"issuer": self._issuer.issuer})
        return keys


def _object(text: bytes) -> dict[str, Any]:
    try:
        return msgspec.json.decode(text, type=dict[str, Any])
    except (msgspec.DecodeError, RecursionError) as error:
        raise KeysFault("not a JSON object") from error


def read_key(value: Any) -> Key | None:
    """Read a public key that signs; None for anything else, since a set may hold keys for other uses."""
    if not isinstance(value, dict) or not _PRIVATE.isdisjoint(value) or value.get("use", "sig") != "sig":
        return None
    key_id = value.get("kid")
    if not isinstance(key_id, str) or not 0 < len(key_id) <= _ID_MOST:
        return None
    # Certificates beside the key are nothing to follow or to check: the key comes from its issuer by TLS.
    plain = {name: each for name, each in value.items() if not name.startswith("x5")}
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", SecurityWarning)  # of a weak one, which is not taken anyway
            key = JWKRegistry.import_key(plain)
        return key if isinstance(key, RSAKey | ECKey | OKPKey) and _strong(key) else None
    except (JoseError, UnsupportedAlgorithm, ArithmeticError, LookupError, TypeError, ValueError):
        return None


def _strong(key: Key) -> bool:
    operations = key.get("key_ops")
    if operations is not None and "verify" not in operations:
        return False
    if isinstance(key, RSAKey):
        exponent = key.public_key.public_numbers().e
        return key.public_key.key_size in _RSA_BITS and exponent.bit_length() <= _RSA_EXPONENT_BITS
    return key.curve_name in _CURVES
