"""The instance's secrets: sealing what must stay unreadable in the database, and keys for digests."""

from __future__ import annotations

import hashlib
import io
import secrets
from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

if TYPE_CHECKING:
    from collections.abc import Sequence

Draw = Callable[[int], bytes]
"""Gives so many random bytes, each of them once."""

_NONCE: Final = 12
_NAME: Final = 4


class SealError(Exception):
    """A sealed value was made under another key, for another context, or was altered."""


class Keyring:
    """The secrets of an instance, the newest first: it seals with that one and opens with any.

    Each purpose has a key of its own, derived by HKDF-SHA-256 (RFC 5869), so that no value of one kind can pass for
    one of another.
    """

    def __init__(self, instance_secrets: Sequence[str]) -> None:
        """Derive what is needed at every call; at least one secret must be given."""
        if not instance_secrets:
            message = "a keyring needs a secret"
            raise ValueError(message)
        self._secrets = tuple(secret.encode() for secret in instance_secrets)
        self._ciphers = {
            hashlib.sha256(key).digest()[:_NAME]: AESGCM(key)
            for key in (self._derive(secret, b"seal") for secret in self._secrets)
        }
        self._current = next(iter(self._ciphers))
        self._codes = tuple(self._derive(secret, b"verification code") for secret in self._secrets)
        self._links = tuple(self._derive(secret, b"signed link") for secret in self._secrets)

    @staticmethod
    def _derive(secret: bytes, purpose: bytes) -> bytes:
        return HKDF(algorithm=SHA256(), length=32, salt=b"schema-user", info=purpose).derive(secret)

    @property
    def code_keys(self) -> tuple[bytes, ...]:
        """Keys for the digests of verification codes: the first makes them, every one may have made an older one."""
        return self._codes

    @property
    def link_keys(self) -> tuple[bytes, ...]:
        """Keys for the signatures of links, likewise: the first signs."""
        return self._links

    def seal(self, plain: bytes, context: str) -> bytes:
        """Encrypt with AES-256-GCM; only a caller that names the same context can open it."""
        nonce = secrets.token_bytes(_NONCE)
        cipher = self._ciphers[self._current]
        return self._current + nonce + cipher.encrypt(nonce, plain, context.encode())

    def is_current(self, sealed: bytes) -> bool:
        """Whether the newest secret sealed this."""
        return bytes(sealed[:_NAME]) == self._current

    def open(self, sealed: bytes, context: str) -> bytes:
        """Decrypt what ``seal`` made.

        Raises:
            SealError: for another key or context, or an altered value.
        """
        cipher = self._ciphers.get(bytes(sealed[:_NAME]))
        if cipher is None:
            message = "sealed under a key that is not set"
            raise SealError(message)
        body = sealed[_NAME:]
        try:
            return cipher.decrypt(body[:_NONCE], body[_NONCE:], context.encode())
        except (InvalidTag, ValueError) as error:
            message = "not sealed for this purpose"
            raise SealError(message) from error


def together(count: int) -> Draw:
    """Have ``count`` random bytes drawn in one call of the system; what is asked for beyond them is drawn anew."""
    drawn = io.BytesIO(secrets.token_bytes(count))

    def draw(size: int) -> bytes:
        piece = drawn.read(size)
        return piece if len(piece) == size else secrets.token_bytes(size)

    return draw


def seal_with(key: bytes, plain: bytes, context: str) -> bytes:
    """Encrypt with AES-256-GCM under a key of 32 bytes that is kept elsewhere, such as a user's own."""
    nonce = secrets.token_bytes(_NONCE)
    return nonce + AESGCM(key).encrypt(nonce, plain, context.encode())


def open_with(key: bytes, sealed: bytes, context: str) -> bytes:
    """Decrypt what ``seal_with`` made.

    Raises:
        SealError: for another key or context, or an altered value.
    """
    try:
        return AESGCM(key).decrypt(sealed[:_NONCE], sealed[_NONCE:], context.encode())
    except (InvalidTag, ValueError) as error:
        message = "not sealed under this key for this purpose"
        raise SealError(message) from error
