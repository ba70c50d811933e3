"""Access tokens for machine callers, in exchange for what proves who they are. Nothing is stored."""

from __future__ import annotations

import hmac
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from schema_user.commands.tokens import digest_of
from schema_user.domain.access_token import TTL, AccessToken
from schema_user.domain.assertion import NOT_GENUINE, AssertionRefused, named_key, verify
from schema_user.domain.caller import TokenKind

if TYPE_CHECKING:
    from collections.abc import Iterable
    from datetime import datetime

    from schema_user.domain.caller import Token
    from schema_user.wiring import Wiring

_NOBODYS: Final = bytes(32)
"""The digest that is compared with when there is no such token, so that it takes as long as a wrong secret."""


@dataclass(frozen=True, slots=True)
class Granted:
    """An access token, and for how many seconds it is good."""

    access_token: str
    expires_in: int


async def grant_by_secret(wiring: Wiring, token_id: str, secrets: Iterable[str]) -> Granted | None:
    """Exchange a token for an access token (RFC 6749, 4.4); None: there is no such token, or another secret.

    ``secrets`` are the ways in which what the client sent can be read. Whether the token may still be used is for the
    gatekeeper to say, as for every access token.
    """
    token = await wiring.tokens.find(token_id)
    bearer = token if token is not None and token.kind is TokenKind.BEARER else None
    expected = _NOBODYS if bearer is None else bearer.digest
    same = [hmac.compare_digest(digest_of(secret), expected) for secret in secrets]
    return None if bearer is None or not any(same) else _granted(wiring, bearer, wiring.now())


async def grant_by_assertion(wiring: Wiring, assertion: str) -> Granted:
    """Exchange what a key has signed for an access token (RFC 7523).

    Raises:
        AssertionRefused: if it is not genuine, not meant for this service, or not good now.
    """
    key = await wiring.tokens.find(named_key(assertion))
    if key is None or key.public_key is None:
        raise AssertionRefused(NOT_GENUINE)
    now = wiring.now()
    verify(assertion, key.public_key, key.subject, wiring.settings.public_url, now)
    granted = _granted(wiring, key, now)
    if granted is None:
        raise AssertionRefused("the key has expired")
    return granted


def _granted(wiring: Wiring, token: Token, now: datetime) -> Granted | None:
    """Make an access token that ends with its hour or with its parent, whichever comes first."""
    ends = now + TTL
    if token.expires_at is not None and token.expires_at < ends:
        ends = token.expires_at
    seconds = int((ends - now).total_seconds())
    if seconds <= 0:
        return None
    return Granted(AccessToken(token.token_id, ends).sealed(wiring.keyring), seconds)
