"""Hashing in a few threads, so that the event loop keeps turning."""

from __future__ import annotations

import asyncio
import os
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Final, TypeVar

from argon2.low_level import ARGON2_VERSION, Type, hash_secret

from schema_user.domain.password import forms, prepared
from schema_user.errors import Unavailable
from schema_user.hashing.kinds import Argon2, accept

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from schema_user.hashing.kinds import Accepted

THREADS: Final = 2
"""How many passwords are hashed at once: 19 MiB each. As many again are compared with hashes that cost more than ours,
256 MiB each at most."""

MAX_WAITING: Final = 64
"""How many passwords may wait for a thread: about two seconds of work for hashes of our own, and for dear ones about
two minutes at worst. Those wait in a queue of their own: whoever may hand in hashes must not hold up everybody."""

# What OWASP's Password Storage Cheat Sheet asks of argon2id: 19 MiB, 2 passes, 1 lane, which takes 60 ms here. The
# second recommendation of RFC 9106 (64 MiB, 3 passes, 4 lanes) takes five times as long and three times the memory.
_MEMORY: Final = 19 * 1024
_PASSES: Final = 2
_LANES: Final = 1
_SALT_BYTES: Final = 16
_DIGEST_BYTES: Final = 32

_NOBODYS: Final = f"$argon2id$v=19$m={_MEMORY},t={_PASSES},p={_LANES}${'A' * 22}${'A' * 43}"
"""What is compared with when there is no hash: salt and digest of nothing but zeros."""

T = TypeVar("T")


class Hasher:
    """Hashes and compares passwords; all but ``needs_upgrade`` wait for a thread.

    argon2-cffi, cryptography and bcrypt let go of the interpreter's lock while they compute: threads do for them.

    Raises, wherever it waits:
        Unavailable: ``QUEUE_FULL``, if too many passwords wait; nothing was computed then.
    """

    def __init__(self, threads: int = THREADS, max_waiting: int = MAX_WAITING) -> None:
        self._threads = ThreadPoolExecutor(threads, thread_name_prefix="hashing")
        self._room = threading.BoundedSemaphore(threads + max_waiting)
        self._dear_threads = ThreadPoolExecutor(threads, thread_name_prefix="dear hashing")
        self._dear_room = threading.BoundedSemaphore(threads + max_waiting)

    async def hash(self, password: str) -> str:
        """Hash a password that the policy takes: ``$argon2id$v=19$m=19456,t=2,p=1$…``, 96 characters."""
        return await self._do(_hashed, _encoded(prepared(password)))

    async def matches(self, password: str, encoded: str) -> bool:
        """Compare a password with a hash, as typed and as prepared (``domain/password.py``: ``forms()``).

        No password with NUL matches: bcrypt and HMAC take several of them for the same.

        Raises:
            NotAccepted: if the hash is none that ``accept()`` takes.
        """
        accepted = accept(encoded)
        if "\0" in password:
            await self.pretend(password)
            return False
        return await self._do(
            _matches_any, accepted, [_encoded(form) for form in forms(password)], dear=_is_dear(accepted)
        )

    async def pretend(self, password: str) -> None:
        """Take as long as comparing this password with a hash of our own, for somebody who has none."""
        await self._do(_matches_any, accept(_NOBODYS), [_encoded(form) for form in forms(password)])

    @staticmethod
    def needs_upgrade(encoded: str) -> bool:
        """Whether a hash is to be replaced once its password is known: unless it is argon2id, as strong as ours.

        Raises:
            NotAccepted: if the hash is none that ``accept()`` takes.
        """
        accepted = accept(encoded)
        return not (
            isinstance(accepted, Argon2)
            and accepted.function == "argon2id"
            and accepted.version == ARGON2_VERSION
            and accepted.memory >= _MEMORY
            and accepted.passes >= _PASSES
            and len(accepted.salt) >= _SALT_BYTES
            and len(accepted.digest) >= _DIGEST_BYTES
        )

    async def close(self) -> None:
        """End the threads once they are done with what they have begun; what waits is cancelled."""
        await asyncio.to_thread(self._threads.shutdown, cancel_futures=True)
        await asyncio.to_thread(self._dear_threads.shutdown, cancel_futures=True)

    async def _do(self, work: Callable[..., T], *arguments: object, dear: bool = False) -> T:
        """Compute in a thread. Who gives up waiting frees the place, or the thread when it is done."""
        threads, room = (self._dear_threads, self._dear_room) if dear else (self._threads, self._room)
        if not room.acquire(blocking=False):
            raise Unavailable("QUEUE_FULL", "too many passwords wait to be hashed", retry_after=1)
        try:
            future = threads.submit(work, *arguments)
        except RuntimeError:
            room.release()
            raise
        future.add_done_callback(lambda _: room.release())
        return await asyncio.wrap_future(future)


def _is_dear(accepted: Accepted) -> bool:
    """Whether comparing with a hash may cost more than with one of ours; of other kinds nobody says how much."""
    return not (
        isinstance(accepted, Argon2)
        and accepted.memory * accepted.passes <= _MEMORY * _PASSES
        and accepted.passes * accepted.lanes <= _PASSES * _LANES
    )


def _encoded(text: str) -> bytes:
    """Give UTF-8; half a surrogate pair, which no policy takes, is no reason to fail."""
    return text.encode("utf-8", "surrogatepass")


def _hashed(password: bytes) -> str:
    salt = os.urandom(_SALT_BYTES)
    return hash_secret(password, salt, _PASSES, _MEMORY, _LANES, _DIGEST_BYTES, Type.ID).decode()


def _matches_any(accepted: Accepted, passwords: Sequence[bytes]) -> bool:
    return any(accepted.matches(password) for password in passwords)
