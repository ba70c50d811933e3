"""From a bearer token to the caller it stands for, without asking the database at each request."""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

from schema_user.commands.tokens import digest_of
from schema_user.domain.access import reached_organization
from schema_user.domain.caller import Caller
from schema_user.errors import Unauthenticated
from schema_user.store.known import Known

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import datetime

    from schema_user.domain.caller import Token
    from schema_user.wiring import Wiring

KNOWN_TTL: Final = 2.0
"""Seconds for which a checked token is believed; with the organizations' own, a revocation holds within five."""

_KEPT: Final = 20_000
_TOKEN_MAX_CHARACTERS: Final = 4096


@dataclass(frozen=True, slots=True)
class _Believed:
    caller: Caller | None
    expires_at: datetime | None


class Gatekeeper:
    """Checks tokens; it remembers by digest, so that no token stays in memory longer than its request."""

    def __init__(self, wiring: Wiring, clock: Callable[[], float] = time.monotonic) -> None:
        """Check against the wiring's stores; ``clock`` is monotonic, in seconds."""
        self._wiring = wiring
        self._known: Known[bytes, _Believed] = Known(self._check, KNOWN_TTL, _KEPT, clock)

    async def caller(self, secret: str | None) -> Caller:
        """Find out who calls.

        Raises:
            Unauthenticated: without a token, or with one that is not valid.
        """
        if not secret or len(secret) > _TOKEN_MAX_CHARACTERS:
            raise _unauthenticated()
        known = await self._known.get(digest_of(secret))
        caller = known.caller
        if caller is None or (known.expires_at is not None and known.expires_at <= self._wiring.now()):
            raise _unauthenticated()
        return caller

    async def acting(self, caller: Caller, acting: str) -> Caller:
        """Narrow a caller to the organization that it names in ``x-zitadel-orgid``.

        Raises:
            Missing: if it has no role there.
        """
        exists = await self._wiring.organizations.known(acting) is not None
        reached_organization(caller, acting, exists=exists)
        return replace(caller, acting=acting)

    async def _check(self, digest: bytes, _before: _Believed | None) -> _Believed:
        token = await self._wiring.tokens.of_digest(digest)
        caller = None if token is None else await self._caller_of(token)
        return _Believed(caller, None if token is None else token.expires_at)

    async def _caller_of(self, token: Token) -> Caller | None:
        """Give the token's caller, without the roles of organizations that are not active; None: it is refused."""
        if token.user_id is not None:
            user = await self._wiring.users.read(token.user_id)
            if user is None or not user.usable:
                return None
        active = {
            organization: await self._is_active(organization)
            for organization in token.organizations
            if organization is not None
        }
        if token.user_organization_id is not None and not active[token.user_organization_id]:
            return None
        grants = tuple(
            grant for grant in token.grants if grant.organization_id is None or active[grant.organization_id]
        )
        if token.user_id is None and not grants:
            return None
        return Caller(token.token_id, grants, token.user_id, token.user_organization_id)

    async def _is_active(self, organization_id: str) -> bool:
        organization = await self._wiring.organizations.known(organization_id)
        return organization is not None and organization.active


def _unauthenticated() -> Unauthenticated:
    return Unauthenticated("TOKEN_INVALID", "a valid bearer token is needed")
