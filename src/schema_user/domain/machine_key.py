"""Keys of machine callers: the service makes the pair, hands out the private half once and keeps the public one."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat

_BITS: Final = 2048
_EXPONENT: Final = 65537


@dataclass(frozen=True, slots=True)
class KeyPair:
    """A new RSA key: the private half in PEM (PKCS #1, which the clients of the field read), the public one in DER."""

    private_pem: str
    public_der: bytes


def make_key_pair() -> KeyPair:
    """Make a key; it takes a tenth of a second, now and then several."""
    key = rsa.generate_private_key(_EXPONENT, _BITS)
    private = key.private_bytes(Encoding.PEM, PrivateFormat.TraditionalOpenSSL, NoEncryption())
    public = key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    return KeyPair(private.decode("ascii"), public)
