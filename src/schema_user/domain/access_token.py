"""Access tokens: an hour of another token's rights, sealed so that nothing has to be stored."""

from __future__ import annotations

import base64
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Final

import msgspec

from schema_user.domain.keyring import SealError

if TYPE_CHECKING:
    from schema_user.domain.keyring import Keyring

PREFIX: Final = "sua_"
TTL: Final = timedelta(hours=1)
DISCOVERY_PATH: Final = "/.well-known/openid-configuration"
TOKEN_PATH: Final = "/oauth/v2/token"  # noqa: S105 -- a path
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_MILLISECOND: Final = timedelta(milliseconds=1)
_CONTEXT: Final = "access token"


class _Sealed(msgspec.Struct, array_like=True, forbid_unknown_fields=True):
    token_id: str
    expires_at: int
    """Milliseconds since 1970, as all our times are cut to them."""


@dataclass(frozen=True, slots=True)
class AccessToken:
    """What an access token says: in whose place it stands, and until when. Its rights are those of that token, now."""

    token_id: str
    expires_at: datetime

    def sealed(self, keyring: Keyring) -> str:
        """Write it for its bearer."""
        plain = msgspec.msgpack.encode(_Sealed(self.token_id, (self.expires_at - _EPOCH) // _MILLISECOND))
        return PREFIX + base64.urlsafe_b64encode(keyring.seal(plain, _CONTEXT)).decode("ascii").rstrip("=")


def opened(keyring: Keyring, text: str) -> AccessToken | None:
    """Read an access token; None: it is none, or none of this instance."""
    body = text.removeprefix(PREFIX)
    try:
        raw = base64.b64decode(body + "=" * (-len(body) % 4), altchars=b"-_", validate=True)
        found = msgspec.msgpack.decode(keyring.open(raw, _CONTEXT), type=_Sealed)
    except (ValueError, SealError):
        return None
    return AccessToken(found.token_id, _EPOCH + found.expires_at * _MILLISECOND)
