"""The kinds of hashes that are accepted, in Modular Crypt Format: how each is written, bounded and compared.

A hash names its own cost, so whoever may hand one in chooses how much work comparing is. Each kind has a bound, and
what is beyond it is refused while it is read. What one comparison takes at the bound (CPU time, argon2-cffi 25.1,
cryptography 50, bcrypt 5, libpass 1.9, Python 3.11):

| kind | bound | seconds | MiB |
| --- | --- | --- | --- |
| argon2i, argon2id | memory 256 MiB, times passes 512 MiB; passes times lanes 1,024 | 0.3 to 0.9 | 256 |
| bcrypt | cost 14 | 1.2 | less than 1 |
| scrypt | N times r times p 2,097,152 | 0.7 to 1.4 | 256 |
| pbkdf2 | 4,000,000 rounds of sha1 or sha256, 1,400,000 of sha512 | 0.8 to 0.9 | less than 1 |
| sha256-crypt | 656,000 rounds | 0.7; 1.5 for 800 bytes | 17, its process |
| sha512-crypt | 656,000 rounds | 1.0; 3.0 for 800 bytes | 17, its process |

656,000 rounds are what passlib gives to sha512-crypt unless it is told otherwise. What is too weak is accepted: it is
replaced when its password is next right.
"""

from __future__ import annotations

import base64
import binascii
import os
import re
import subprocess
import sys
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, Protocol

import bcrypt
from argon2.exceptions import VerifyMismatchError
from argon2.low_level import Type, verify_secret
from cryptography.exceptions import InvalidKey
from cryptography.hazmat.primitives.hashes import SHA1, SHA256, SHA512
from cryptography.hazmat.primitives.kdf.pbkdf2 import PBKDF2HMAC
from cryptography.hazmat.primitives.kdf.scrypt import Scrypt as ScryptKdf

from schema_user.errors import Unavailable

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from cryptography.hazmat.primitives.hashes import HashAlgorithm

MAX_ENCODED: Final = 200
"""Characters of the longest hash that is read."""

_NUMBER: Final = "([1-9][0-9]{0,9})"
_MIN_DIGEST: Final = 16
_MAX_BYTES: Final = 64
"""How many bytes of a salt or a digest are read: more than any maker of these formats writes."""

_ARGON2: Final = re.compile(rf"\$(argon2id?)(?:\$v=(16|19))?\$m={_NUMBER},t={_NUMBER},p={_NUMBER}\$([^$]*)\$([^$]*)")
_ARGON2_MIN_SALT: Final = 8
_ARGON2_MIN_MEMORY: Final = 8
_ARGON2_MAX_MEMORY: Final = 256 * 1024
_ARGON2_MAX_WORK: Final = 512 * 1024
_ARGON2_MAX_LANES: Final = 64
_ARGON2_MAX_STEPS: Final = 1024
"""Passes times lanes: each is four threads that begin and end, beside the work on the memory."""

# Sixteen bytes are 22 characters of which the last has four unused bits, 23 bytes are 31 with two: these must be zero.
_BCRYPT: Final = re.compile(r"\$2[aby]\$([0-9]{2})\$[./A-Za-z0-9]{21}[.Oeu][./A-Za-z0-9]{30}[.CGKOSWaeimquy26]")
_BCRYPT_COSTS: Final = range(4, 15)
_BCRYPT_BYTES: Final = 72

_SCRYPT: Final = re.compile(rf"\$scrypt\$ln={_NUMBER},r={_NUMBER},p={_NUMBER}\$([^$]*)\$([^$]*)")
_SCRYPT_MAX_WORK: Final = 1 << 21
_SCRYPT_MAX_FACTOR: Final = 64
_SCRYPT_MAX_LOG_N: Final = 16
"""For each ``r``: N must be less than 2^(128r/8), says section 6 of RFC 7914."""

_PBKDF2: Final = re.compile(rf"\$pbkdf2(|-sha256|-sha512)\${_NUMBER}\$([^$+]*)\$([^$+]*)")
_PBKDF2_ALGORITHMS: Final[Mapping[str, tuple[HashAlgorithm, int]]] = {
    "": (SHA1(), 4_000_000),  # noqa: S303 -- inside HMAC, where collisions don't help
    "-sha256": (SHA256(), 4_000_000),
    "-sha512": (SHA512(), 1_400_000),
}

# 32 and 64 bytes, the last character of which has unused bits too, here the high ones.
_SHA_CRYPT: Final = re.compile(
    rf"\$(?:5\$(?:rounds={_NUMBER}\$)?[./0-9A-Za-z]{{1,16}}\$[./0-9A-Za-z]{{42}}[./0-9A-D]"
    rf"|6\$(?:rounds={_NUMBER}\$)?[./0-9A-Za-z]{{1,16}}\$[./0-9A-Za-z]{{85}}[./01])"
)
_SHA_CRYPT_ROUNDS: Final = range(1_000, 656_001)
_SHA_CRYPT_SECONDS: Final = 30.0
"""After which a comparison is given up: it takes 3 at most, if the machine has time for it."""


class NotAccepted(ValueError):
    """A hash is not accepted; the text says why, without anything of the hash."""


class Accepted(Protocol):
    """A hash of a password that was read: well-formed, and within the bound of its kind."""

    def matches(self, password: bytes) -> bool:
        """Compare with a password without NUL, in constant time for the digests. It computes for up to seconds."""


@dataclass(frozen=True, slots=True)
class Argon2:
    """argon2i and argon2id (RFC 9106): ``$argon2id$v=19$m=19456,t=2,p=1$salt$digest``.

    ``memory`` is in KiB, ``passes`` over it in each of the ``lanes``. Without a version, as before 2016, it is 16.
    argon2d is not accepted: it is not meant for passwords.
    """

    encoded: str = field(repr=False)
    function: str
    version: int
    memory: int
    passes: int
    lanes: int
    salt: bytes = field(repr=False)
    digest: bytes = field(repr=False)

    @classmethod
    def read(cls, encoded: str) -> Argon2:
        """Read what begins with ``$argon2i$`` or ``$argon2id$``. NotAccepted otherwise."""
        match = _ARGON2.fullmatch(encoded)
        if match is None:
            raise NotAccepted("must be $argon2id$v=19$m=…,t=…,p=…$salt$digest, or argon2i alike")
        memory, passes, lanes = (int(match[number]) for number in (3, 4, 5))
        if lanes > _ARGON2_MAX_LANES or memory < _ARGON2_MIN_MEMORY * lanes:
            raise NotAccepted(
                f"p of argon2 must be {_ARGON2_MAX_LANES} at most, and m {_ARGON2_MIN_MEMORY} times p at least"
            )
        if passes * lanes > _ARGON2_MAX_STEPS:
            raise NotAccepted(f"t times p of argon2 must be {_ARGON2_MAX_STEPS} at most")
        if memory > _ARGON2_MAX_MEMORY or memory * passes > _ARGON2_MAX_WORK:
            raise NotAccepted(f"m of argon2 must be {_ARGON2_MAX_MEMORY} at most, and m times t {_ARGON2_MAX_WORK}")
        salt, digest = _salt_and_digest(match[6], match[7], _ARGON2_MIN_SALT)
        return cls(encoded, match[1], int(match[2] or 16), memory, passes, lanes, salt, digest)

    def matches(self, password: bytes) -> bool:
        """Compare."""
        try:
            return verify_secret(self.encoded.encode(), password, Type.ID if self.function == "argon2id" else Type.I)
        except VerifyMismatchError:
            return False


@dataclass(frozen=True, slots=True)
class Bcrypt:
    """bcrypt: ``$2b$12$`` with 22 characters of salt and 31 of digest; ``2a`` and ``2y`` are computed alike.

    It looks at 72 bytes of a password only; what follows was ignored when the hash was made, and is here.
    """

    encoded: str = field(repr=False)

    @classmethod
    def read(cls, encoded: str) -> Bcrypt:
        """Read what begins with ``$2a$``, ``$2b$`` or ``$2y$``. NotAccepted otherwise."""
        match = _BCRYPT.fullmatch(encoded)
        if match is None:
            raise NotAccepted("must be $2b$, the cost in two digits, $, and 53 characters of salt and digest")
        if int(match[1]) not in _BCRYPT_COSTS:
            raise NotAccepted(f"the cost of bcrypt must be {_BCRYPT_COSTS[0]} to {_BCRYPT_COSTS[-1]}")
        return cls(encoded)

    def matches(self, password: bytes) -> bool:
        """Compare."""
        return bcrypt.checkpw(password[:_BCRYPT_BYTES], self.encoded.encode())


@dataclass(frozen=True, slots=True)
class Scrypt:
    """scrypt (RFC 7914): ``$scrypt$ln=16,r=8,p=1$salt$digest``, with ``ln`` the binary logarithm of N."""

    log_n: int
    block: int
    lanes: int
    salt: bytes = field(repr=False)
    digest: bytes = field(repr=False)

    @classmethod
    def read(cls, encoded: str) -> Scrypt:
        """Read what begins with ``$scrypt$``. NotAccepted otherwise."""
        match = _SCRYPT.fullmatch(encoded)
        if match is None:
            raise NotAccepted("must be $scrypt$ln=…,r=…,p=…$salt$digest")
        log_n, block, lanes = (int(match[number]) for number in (1, 2, 3))
        if block > _SCRYPT_MAX_FACTOR or lanes > _SCRYPT_MAX_FACTOR:
            raise NotAccepted(f"r and p of scrypt must be {_SCRYPT_MAX_FACTOR} at most")
        if log_n >= _SCRYPT_MAX_LOG_N * block:
            raise NotAccepted(f"ln of scrypt must be less than {_SCRYPT_MAX_LOG_N} times r")
        if log_n >= _SCRYPT_MAX_WORK.bit_length() or block * lanes << log_n > _SCRYPT_MAX_WORK:
            raise NotAccepted(f"2^ln times r times p of scrypt must be {_SCRYPT_MAX_WORK} at most")
        return cls(log_n, block, lanes, *_salt_and_digest(match[4], match[5], 1))

    def matches(self, password: bytes) -> bool:
        """Compare."""
        function = ScryptKdf(salt=self.salt, length=len(self.digest), n=1 << self.log_n, r=self.block, p=self.lanes)
        return _verified(function.verify, password, self.digest)


@dataclass(frozen=True, slots=True)
class Pbkdf2:
    """PBKDF2 as passlib writes it: ``$pbkdf2-sha256$600000$salt$digest``; ``$pbkdf2$`` is that of SHA-1."""

    algorithm: HashAlgorithm
    rounds: int
    salt: bytes = field(repr=False)
    digest: bytes = field(repr=False)

    @classmethod
    def read(cls, encoded: str) -> Pbkdf2:
        """Read what begins with ``$pbkdf2$``, ``$pbkdf2-sha256$`` or ``$pbkdf2-sha512$``. NotAccepted otherwise."""
        match = _PBKDF2.fullmatch(encoded)
        if match is None:
            raise NotAccepted("must be $pbkdf2-sha256$rounds$salt$digest, or pbkdf2 and pbkdf2-sha512 alike")
        algorithm, max_rounds = _PBKDF2_ALGORITHMS[match[1]]
        rounds = int(match[2])
        if rounds > max_rounds:
            raise NotAccepted(f"rounds of pbkdf2 with {algorithm.name} must be {max_rounds} at most")
        salt, digest = _salt_and_digest(match[3].replace(".", "+"), match[4].replace(".", "+"), 1)
        if len(digest) != algorithm.digest_size:
            raise NotAccepted(f"the digest of pbkdf2 with {algorithm.name} must be {algorithm.digest_size} bytes")
        return cls(algorithm, rounds, salt, digest)

    def matches(self, password: bytes) -> bool:
        """Compare."""
        function = PBKDF2HMAC(self.algorithm, len(self.digest), self.salt, self.rounds)
        return _verified(function.verify, password, self.digest)


@dataclass(frozen=True, slots=True)
class ShaCrypt:
    """sha256-crypt and sha512-crypt, as Linux has them: ``$6$rounds=5000$salt$digest``; 5,000 rounds unless said."""

    encoded: str = field(repr=False)

    @classmethod
    def read(cls, encoded: str) -> ShaCrypt:
        """Read what begins with ``$5$`` or ``$6$``. NotAccepted otherwise."""
        match = _SHA_CRYPT.fullmatch(encoded)
        if match is None:
            raise NotAccepted("must be $6$, a salt of 1 to 16 characters, $ and 86 of digest, or $5$ alike with 43")
        rounds = match[1] or match[2]
        if rounds is not None and int(rounds) not in _SHA_CRYPT_ROUNDS:
            raise NotAccepted(f"rounds must be {_SHA_CRYPT_ROUNDS[0]} to {_SHA_CRYPT_ROUNDS[-1]}")
        return cls(encoded)

    def matches(self, password: bytes) -> bool:
        """Compare, in a process of its own.

        Raises:
            Unavailable: ``QUEUE_FULL``, if the machine had no time for it.
        """
        try:
            done = subprocess.run(
                [sys.executable, "-P", "-m", "schema_user.hashing.sha_crypt"],
                input=self.encoded.encode() + b"\n" + password,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                timeout=_SHA_CRYPT_SECONDS,
                check=True,
                process_group=0,
                env={name: value for name, value in os.environ.items() if not name.startswith("SCHEMA_USER_")},
            )
        except subprocess.TimeoutExpired:
            raise Unavailable("QUEUE_FULL", "too many passwords wait to be hashed", retry_after=1) from None
        return done.stdout == b"1"


_READERS: Final[Mapping[str, Callable[[str], Accepted]]] = {
    "2a": Bcrypt.read,
    "2b": Bcrypt.read,
    "2y": Bcrypt.read,
    "5": ShaCrypt.read,
    "6": ShaCrypt.read,
    "argon2i": Argon2.read,
    "argon2id": Argon2.read,
    "pbkdf2": Pbkdf2.read,
    "pbkdf2-sha256": Pbkdf2.read,
    "pbkdf2-sha512": Pbkdf2.read,
    "scrypt": Scrypt.read,
}


def accept(encoded: str) -> Accepted:
    """Read a hash that somebody handed in, in microseconds; nothing is computed.

    Raises:
        NotAccepted: if its kind is not accepted, it is malformed, or comparing with it would take too long or too much
            memory.
    """
    if not 1 <= len(encoded) <= MAX_ENCODED:
        raise NotAccepted(f"must have 1 to {MAX_ENCODED} characters")
    kind = encoded.split("$", 2)[1] if encoded.startswith("$") else ""
    if kind not in _READERS:
        raise NotAccepted(f"must begin with one of {', '.join(f'${name}$' for name in _READERS)}")
    return _READERS[kind](encoded)


def _salt_and_digest(salt: str, digest: str, min_salt: int) -> tuple[bytes, bytes]:
    """Read what the formats write in base64 without padding."""
    read = _unpadded(salt), _unpadded(digest)
    if not min_salt <= len(read[0]) <= _MAX_BYTES:
        raise NotAccepted(f"the salt must be {min_salt} to {_MAX_BYTES} bytes")
    if not _MIN_DIGEST <= len(read[1]) <= _MAX_BYTES:
        raise NotAccepted(f"the digest must be {_MIN_DIGEST} to {_MAX_BYTES} bytes")
    return read


def _unpadded(text: str) -> bytes:
    try:
        read = base64.b64decode(text + "=" * (-len(text) % 4), validate=True)
    except (binascii.Error, ValueError):
        read = b""
    if base64.b64encode(read).rstrip(b"=").decode() != text:
        raise NotAccepted("the salt and the digest must be in base64 without padding")
    return read


def _verified(verify: Callable[[bytes, bytes], None], password: bytes, digest: bytes) -> bool:
    try:
        verify(password, digest)
    except InvalidKey:
        return False
    return True
