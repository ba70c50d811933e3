"""From a bearer token to the caller it stands for, without asking the database at each request."""

from __future__ import annotations

import asyncio
import logging
import time
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

from schema_user.commands.tokens import digest_of
from schema_user.domain import access_token
from schema_user.domain.access import reached_organization
from schema_user.domain.caller import Caller
from schema_user.errors import Unauthenticated
from schema_user.store.known import Known
from schema_user.store.tokens import USE_GRAIN

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import datetime

    from schema_user.domain.caller import Token
    from schema_user.domain.issuer import Subject
    from schema_user.issuers.verifier import Issuers
    from schema_user.wiring import Wiring

log = logging.getLogger(__name__)

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

    def __init__(
        self, wiring: Wiring, clock: Callable[[], float] = time.monotonic, issuers: Issuers | None = None
    ) -> None:
        """Check against the wiring's stores, and the keys of issuers; ``clock`` is monotonic, in seconds."""
        self._wiring = wiring
        self._issuers = issuers
        self._subjects: Known[Subject, Caller | None] = Known(self._check_subject, KNOWN_TTL, _KEPT, clock)
        self._known: Known[bytes | str, _Believed] = Known(self._check, KNOWN_TTL, _KEPT, clock)
        self._noting: set[asyncio.Task[None]] = set()

    async def caller(self, secret: str | None) -> Caller:
        """Find out who calls.

        Raises:
            Unauthenticated: without a token, or with one that is not valid.
            Unavailable: if its issuer's keys cannot be had.
        """
        if secret and self._issuers is not None and self._issuers.take(secret):
            return await self._caller_by(self._issuers, secret)
        if not secret or len(secret) > _TOKEN_MAX_CHARACTERS:
            raise _unauthenticated()
        known = await self._known.get(self._name_of(secret))
        caller = known.caller
        if caller is None or (known.expires_at is not None and known.expires_at <= self._wiring.now()):
            raise _unauthenticated()
        return caller

    def _name_of(self, secret: str) -> bytes | str:
        """Give the name by which the token is known: its digest, or for an access token its parent's id."""
        if secret.startswith(access_token.PREFIX):
            given = access_token.opened(self._wiring.keyring, secret)
            if given is not None:
                if given.expires_at <= self._wiring.now():
                    raise _unauthenticated()
                return given.token_id
        return digest_of(secret)

    async def _caller_by(self, issuers: Issuers, secret: str) -> Caller:
        proven = await issuers.proven(secret, self._wiring.now())
        caller = None if proven is None else await self._subjects.get(proven.subject)
        if proven is None or caller is None or not proven.good_at(self._wiring.now()):
            raise _unauthenticated()
        return caller

    async def acting(self, caller: Caller, acting: str) -> Caller:
        """Narrow a caller to the organization that it names in ``x-zitadel-orgid``.

        Raises:
            Missing: if it has no role there.
        """
        return await narrowed(self._wiring, caller, acting)

    async def _check(self, name: bytes | str, _before: _Believed | None) -> _Believed:
        tokens = self._wiring.tokens
        token = await (tokens.find(name) if isinstance(name, str) else tokens.of_digest(name))
        if token is None:
            return _Believed(None, None)
        caller = await self._caller_of(token)
        if caller is not None:
            self._note_use(token)
        return _Believed(caller, token.expires_at)

    def _note_use(self, token: Token) -> None:
        """Note that a token is in use, beside the request: a token is checked only when somebody brings it."""
        now = self._wiring.now()
        if token.last_used_at is not None and now - token.last_used_at < USE_GRAIN:
            return
        if token.expires_at is not None and token.expires_at <= now:
            return
        noting = asyncio.get_running_loop().create_task(self._wiring.tokens.used(token.token_id, now))
        self._noting.add(noting)
        noting.add_done_callback(self._noted)

    def _noted(self, noting: asyncio.Task[None]) -> None:
        self._noting.discard(noting)
        if not noting.cancelled() and (error := noting.exception()) is not None:
            log.info("the last use of a token is not noted: %s", type(error).__name__)

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

    async def _check_subject(self, subject: Subject, _before: Caller | None) -> Caller | None:
        """Give the caller for whom an issuer vouches; None: refused.

        The user must be one of the issuer's organization. If there is none of that id, roles alone make a caller.
        """
        if not await self._is_active(subject.organization_id):
            return None
        user = None if subject.user_id is None else await self._wiring.users.read(subject.user_id)
        if user is None or user.deleted or user.organization_id != subject.organization_id:
            return Caller(subject.token_id, subject.grants) if subject.grants else None
        return Caller(subject.token_id, subject.grants, user.user_id, user.organization_id) if user.usable else None

    async def _is_active(self, organization_id: str) -> bool:
        organization = await self._wiring.organizations.known(organization_id)
        return organization is not None and organization.active


async def narrowed(wiring: Wiring, caller: Caller, acting: str) -> Caller:
    """Narrow a caller to the organization in which a request acts.

    Raises:
        Missing: if it has no role there.
    """
    exists = await wiring.organizations.known(acting) is not None
    reached_organization(caller, acting, exists=exists)
    return replace(caller, acting=acting)


def _unauthenticated() -> Unauthenticated:
    return Unauthenticated("TOKEN_INVALID", "a valid bearer token is needed")
