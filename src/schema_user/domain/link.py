"""Signed links: the page of the service to which a message leads that names no page of the client's own."""

from __future__ import annotations

import base64
import enum
import hashlib
import hmac
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final
from urllib.parse import urlencode

from schema_user.domain import code as codes
from schema_user.domain.credential import RESET, Reset

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
    from datetime import datetime

    from schema_user.domain.code import Code
    from schema_user.domain.contact import Address, Channel
    from schema_user.domain.user import User

PATH: Final = "/ui/verify/"
"""The channel follows."""

RESET_PATH: Final = "/ui/password/reset"

_SIGNATURE_BYTES: Final = 12
"""Of HMAC-SHA-256; 96 bits are 16 characters, so that the link fits into a text message. Each guess is a request."""

_COMPARED: Final = 10
"""Codes that are compared at least; few addresses know as many."""

_NOTHING: Final = bytes(hashlib.sha256().digest_size)
"""Stands for the digest of a code that is not there, so that a link to nobody takes as long as any other."""


@dataclass(frozen=True, slots=True)
class Link:
    """What a link says of itself; nothing of it counts before ``standing`` has looked at its signature.

    It leads to where the address of a channel is verified, or, with None, to where a new password is set.
    """

    channel: Channel | None
    user_id: str
    organization_id: str
    code: str
    signature: str

    @property
    def query(self) -> str:
        """What follows the question mark: the parameters in the contract's order, percent-encoded."""
        return urlencode(
            {"userID": self.user_id, "code": self.code, "orgID": self.organization_id, "sig": self.signature}
        )

    def url(self, public_url: str) -> str:
        """Give the whole link."""
        return f"{public_url}{RESET_PATH if self.channel is None else PATH + self.channel}?{self.query}"


class Standing(enum.Enum):
    """What a genuine link is good for."""

    OPEN = enum.auto()
    EXPIRED = enum.auto()
    EXHAUSTED = enum.auto()
    VERIFIED = enum.auto()


def sign(key: bytes, user: User, channel: Channel | None, digest: bytes, code: str) -> Link:
    """Make the link for a code, of which ``digest`` is what is stored.

    The signature covers organization, user and channel, and by the digest the code and the address; the code in the
    link only fills in the form.
    """
    signature = _finished(_begun(key, user.organization_id, user.user_id, channel or RESET), digest)
    return Link(channel, user.user_id, user.organization_id, code, signature)


def _begun(key: bytes, organization_id: str, user_id: str, channel: str) -> hmac.HMAC:
    mac = hmac.new(key, digestmod=hashlib.sha256)
    for part in (organization_id.encode(), user_id.encode(), channel.encode()):
        mac.update(len(part).to_bytes(4, "big") + part)
    return mac


def _finished(begun: hmac.HMAC, digest: bytes) -> str:
    mac = begun.copy()
    mac.update(digest)
    return base64.urlsafe_b64encode(mac.digest()[:_SIGNATURE_BYTES]).decode("ascii")


def standing(
    link: Link, user: User | None, *, keys: Sequence[bytes], code_keys: Sequence[bytes], now: datetime, attempts: int
) -> Standing | None:
    """Judge a link for the user that it names; None: it is not genuine, or what it was made for is gone.

    It holds while its code is one that the address knows. A verified address knows none; its link is known again by
    the code in it, and says no more than that there is nothing left to do. The work is about the same whoever is named.
    """
    address = None if user is None or link.channel is None else user.contact.on(link.channel)
    known = () if address is None else codes.recognised(address.codes, now)
    bound = codes.Binding(
        link.organization_id, link.user_id, link.channel or RESET, "" if address is None else address.value
    )
    own = [codes.digest(key, bound, link.code) for key in code_keys]
    signed, issued = _signed(link, keys, _digests(own, known))
    if not signed or address is None or not _is_of(link, user):
        return None
    if address.is_verified:
        return Standing.VERIFIED
    return _standing(issued, address.failed, attempts, now)


def reset_standing(
    link: Link, user: User | None, *, keys: Sequence[bytes], now: datetime, attempts: int
) -> Standing | None:
    """Judge a link to where a new password is set, likewise; once one was set, it is not genuine any more."""
    reset = Reset() if user is None or user.credential is None else user.credential.reset
    _, issued = _signed(link, keys, _digests((), codes.recognised(reset.codes, now)))
    return _standing(issued, reset.failed, attempts, now) if _is_of(link, user) else None


def _signed(
    link: Link, keys: Iterable[bytes], digests: Iterable[tuple[bytes, Code | None]]
) -> tuple[bool, Code | None]:
    """Find out whether a link was signed for any of the digests, and for which known code."""
    begun = [_begun(key, link.organization_id, link.user_id, link.channel or RESET) for key in keys]
    given = link.signature.encode()
    signed, issued = False, None
    for digest, code in digests:
        for mac in begun:
            if hmac.compare_digest(_finished(mac, digest).encode(), given):
                signed, issued = True, code or issued
    return signed, issued


def _is_of(link: Link, user: User | None) -> bool:
    return user is not None and user.organization_id == link.organization_id and user.usable


def _standing(issued: Code | None, failed: int, attempts: int, now: datetime) -> Standing | None:
    if issued is None:
        return None
    if failed >= attempts:
        return Standing.EXHAUSTED
    return Standing.EXPIRED if issued.expires_at <= now else Standing.OPEN


def _digests(own: Iterable[bytes], known: Sequence[Code]) -> Iterator[tuple[bytes, Code | None]]:
    """Give what a link may have been signed for: its own code's digests, then the known ones, filled up."""
    for digest in own:
        yield digest, None
    for code in known:
        yield code.digest, code
    for _ in range(_COMPARED - len(known)):
        yield _NOTHING, None


def code_waits(address: Address | None, now: datetime) -> bool:
    """Whether any code that was sent to the address can still be entered."""
    return address is not None and any(code.expires_at > now for code in address.codes)
