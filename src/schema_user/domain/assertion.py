"""What machine callers sign with their keys: JSON Web Tokens as authorization grants (RFC 7523)."""

from __future__ import annotations

import base64
import re
from datetime import timedelta
from typing import TYPE_CHECKING, Annotated, Any, Final, Literal

import msgspec
from joserfc import jwt
from joserfc.errors import ExpiredTokenError, InvalidClaimError, JoseError, MissingClaimError
from joserfc.jwk import RSAKey

if TYPE_CHECKING:
    from datetime import datetime

ALGORITHM: Final = "RS256"
MAX_LIFE: Final = timedelta(hours=1)
SKEW: Final = timedelta(seconds=60)
"""By how much the clock of a machine caller may differ from ours."""

_COMPACT: Final = re.compile(r"([A-Za-z0-9_-]{1,512})\.[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+")
NOT_GENUINE: Final = "the assertion is not signed by a key that is known"


class AssertionRefused(Exception):
    """An assertion that entitles to nothing; its text says why, for whoever made it."""


class _Header(msgspec.Struct, forbid_unknown_fields=True):
    """All that a header may say: nothing that names a key from elsewhere (``jwk``, ``jku``, ``x5c``), no ``crit``."""

    alg: Literal["RS256"]
    kid: Annotated[str, msgspec.Meta(pattern=r"\A[0-9]{1,19}\Z")]
    typ: Literal["JWT", "jwt"] | None = None


def named_key(assertion: str) -> str:
    """Give the id of the key that an assertion names; nothing of it is believed by that.

    Raises:
        AssertionRefused: if it is no signed token, or of another algorithm or form than is taken.
    """
    match = _COMPACT.fullmatch(assertion)
    if match is None:
        raise AssertionRefused("the assertion is not a signed JSON Web Token")
    segment = match[1]
    try:
        raw = base64.urlsafe_b64decode(segment + "=" * (-len(segment) % 4))
        return msgspec.json.decode(raw, type=_Header).kid
    except ValueError as error:
        message = f"the assertion's header must be alg {ALGORITHM}, kid with the key's id, and typ JWT or none"
        raise AssertionRefused(message) from error


def verify(assertion: str, public_der: bytes, subject: str, audience: str, now: datetime) -> None:
    """Check signature and claims of an assertion, by the key that it names.

    ``iss`` and ``sub`` are the subject, ``aud`` is the audience alone, ``exp`` and ``iat`` are at most an hour apart.
    Clocks may differ by a minute. It may be presented again while it is good: a ``jti`` is not looked at.

    Raises:
        AssertionRefused: otherwise.
    """
    try:
        claims = jwt.decode(assertion, RSAKey.import_key(public_der), algorithms=[ALGORITHM]).claims
    except (JoseError, ValueError, RecursionError) as error:
        raise AssertionRefused(NOT_GENUINE) from error
    rules = jwt.JWTClaimsRegistry(
        now=int(now.timestamp()),
        leeway=int(SKEW.total_seconds()),
        iss={"essential": True, "value": subject},
        sub={"essential": True, "value": subject},
        aud={"essential": True, "values": [audience, audience + "/"]},
        exp={"essential": True},
        iat={"essential": True},
    )
    try:
        rules.validate(claims)
    except ExpiredTokenError as error:
        raise AssertionRefused("the assertion has expired") from error
    except MissingClaimError as error:
        raise AssertionRefused("the assertion needs the claims iss, sub, aud, exp and iat") from error
    except InvalidClaimError as error:
        message = f"a claim is not right: iss and sub must be the key's userId, aud {audience}, iat and nbf not ahead"
        raise AssertionRefused(message) from error
    _require_bounded(claims, audience)


def _require_bounded(claims: dict[str, Any], audience: str) -> None:
    """Refuse what lives too long, or is meant for others too, who could present it here."""
    if claims["exp"] > claims["iat"] + MAX_LIFE.total_seconds():
        raise AssertionRefused("the assertion lives longer than an hour from iat to exp")
    if isinstance(claims["aud"], list) and len(claims["aud"]) != 1:
        raise AssertionRefused(f"the assertion must be meant for {audience} alone")
