"""Tokens, which are bearer tokens or keys: create and revoke."""

from __future__ import annotations

import asyncio
import hashlib
import secrets
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from schema_user.domain.access import lacking, reached_organization, reached_token
from schema_user.domain.caller import Caller, Grant, Token, TokenKind
from schema_user.domain.machine_key import make_key_pair
from schema_user.domain.permission import PERMISSIONS, Permission, Role
from schema_user.errors import Malformed, Missing, Unavailable, Unmet, Violation

if TYPE_CHECKING:
    from datetime import datetime

    from schema_user.domain.machine_key import KeyPair
    from schema_user.wiring import Wiring

TOKEN_PREFIX: Final = "sut_"  # noqa: S105 -- what every token begins with, so that scanners find leaked ones
_TOKEN_BYTES: Final = 32
"""256 bits of a cryptographic generator: there is nothing to guess, so a plain SHA-256 is kept, without a salt."""

_KEY_PAIRS: Final = "/key pairs"
"""Their turn; no id that others take turns by has a slash."""

OPERATOR: Final = Caller("operator", (Grant(Role.INSTANCE_OWNER),))
"""Who works on the machine itself, through the command line, with the database's own credentials."""


@dataclass(frozen=True, slots=True)
class CreateToken:
    """Make a token with roles, or (with ``user_id``) one that acts as that user, or both."""

    name: str
    grants: tuple[Grant, ...] = ()
    user_id: str | None = None
    expires_at: datetime | None = None
    kind: TokenKind = TokenKind.BEARER


@dataclass(frozen=True, slots=True)
class NewToken:
    """A token when its secret is known, once: the token itself, or of a key the private half in PEM."""

    token: Token
    secret: str

    @property
    def key_file(self) -> dict[str, str]:
        """The file from which a machine caller reads its key, in the form that the clients of the field take."""
        return {
            "type": "serviceaccount",
            "keyId": self.token.token_id,
            "key": self.secret,
            "userId": self.token.subject,
        }


def digest_of(secret: str) -> bytes:
    """Give the SHA-256 under which a token is stored and looked up."""
    return hashlib.sha256(secret.encode("utf-8", "surrogatepass")).digest()


async def create_token(wiring: Wiring, caller: Caller, command: CreateToken) -> NewToken:
    """Create a token; its secret is given once and never stored.

    Raises:
        Malformed: for a role that cannot be held where it is given, an expiry in the past, or a token for nothing.
        Missing: if an organization or the user is not there for the caller.
        Denied: for a role that the caller does not hold itself.
        Unavailable: if too many keys wait to be made.
    """
    _check(wiring, command)
    user_organization_id = await _permit(wiring, caller, command)
    if command.kind is TokenKind.BEARER:
        return await store_token(wiring, command, new_secret(), user_organization_id, caller.token_id)
    pair = await _key_pair(wiring)
    # The index wants a digest of each token: a key's is of a secret that nobody gets, so nothing is ever found by it.
    made = await store_token(
        wiring, command, new_secret(), user_organization_id, caller.token_id, public_key=pair.public_der
    )
    return NewToken(made.token, pair.private_pem)


async def _key_pair(wiring: Wiring) -> KeyPair:
    """Make a key pair in a thread; one after the other, as each takes a core for a while.

    Raises:
        Unavailable: if too many wait.
    """
    try:
        async with wiring.turns.of(_KEY_PAIRS, wiring.settings.mongodb_timeout.total_seconds()):
            return await asyncio.to_thread(make_key_pair)
    except TimeoutError:
        raise Unavailable("QUEUE_FULL", "too many keys wait to be made", retry_after=1) from None


def new_secret() -> str:
    """Draw a token's secret."""
    return TOKEN_PREFIX + secrets.token_urlsafe(_TOKEN_BYTES)


async def store_token(
    wiring: Wiring,
    command: CreateToken,
    secret: str,
    user_organization_id: str | None,
    created_by: str,
    *,
    public_key: bytes | None = None,
) -> NewToken:
    """Store a token that is permitted already; with a public key it is a key.

    Raises:
        Unmet: if this very token is stored already (possible only for one that an operator chose).
    """
    token = Token(
        token_id=wiring.new_id(),
        digest=digest_of(secret),
        name=command.name,
        grants=command.grants,
        created_at=wiring.now(),
        user_id=command.user_id,
        user_organization_id=user_organization_id,
        expires_at=command.expires_at,
        created_by=created_by,
        public_key=public_key,
    )
    if not await wiring.tokens.insert(token):
        raise Unmet("TOKEN_KNOWN", "this token is stored already")
    return NewToken(token, secret)


def _check(wiring: Wiring, command: CreateToken) -> None:
    found = [
        Violation(f"roles/{index}/role", "cannot be held there", "role")
        for index, grant in enumerate(command.grants)
        if not grant.well_formed
    ]
    if not command.grants and command.user_id is None:
        found.append(Violation("roles", "must name a role, or userId a user", "required"))
    if command.expires_at is not None and command.expires_at <= wiring.now():
        found.append(Violation("expirationDate", "must lie in the future", "minimum"))
    if found:
        raise Malformed("FIELD_INVALID", f"{found[0].field} {found[0].description}", found)


async def _permit(wiring: Wiring, caller: Caller, command: CreateToken) -> str | None:
    """Nobody grants more than they hold. Gives the organization of the token's user."""
    for index, grant in enumerate(command.grants):
        if grant.organization_id is not None:
            known = await wiring.organizations.known(grant.organization_id)
            reached_organization(caller, grant.organization_id, exists=known is not None)
        beyond = grant.organization_id is None and caller.acting is not None
        if beyond or not caller.holds(PERMISSIONS[grant.role] | {Permission.TOKEN_WRITE}, grant.organization_id):
            violation = Violation(f"roles/{index}/role", "is more than the caller holds", "permission")
            raise lacking(Permission.TOKEN_WRITE, [violation])
    if command.user_id is None:
        return None
    user = await wiring.users.find(command.user_id)
    if user is None or not caller.reaches(user.organization_id):
        violation = Violation("userId", "is not known", "userUnknown")
        raise Unmet("USER_UNKNOWN", "the user of the token is not known", [violation])
    if not caller.holds({Permission.TOKEN_WRITE, Permission.USER_WRITE}, user.organization_id):
        raise lacking(Permission.TOKEN_WRITE)
    return user.organization_id


async def revoke_token(wiring: Wiring, caller: Caller, token_id: str) -> Token:
    """Revoke a token; it is refused everywhere within five seconds.

    Raises:
        Missing: if it is not there for the caller.
        Denied: without ``token.delete`` wherever the token reaches.
    """
    token = reached_token(caller, await wiring.tokens.find(token_id))
    if not all(caller.may(Permission.TOKEN_DELETE, organization) for organization in token.organizations):
        raise lacking(Permission.TOKEN_DELETE)
    if not await wiring.tokens.delete(token_id):
        raise Missing("TOKEN_NOT_FOUND", "token not found")
    return token
