"""One signed token: taken apart strictly, so that what was signed is what is read, and its signature checked.

RFC 7515 (JWS), RFC 7519 (JWT), with what RFC 8725 (their best practice) and RFC 9068 (access tokens) ask for.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from joserfc.errors import JoseError, UnsupportedAlgorithmError
from joserfc.jws import JWSRegistry, deserialize_compact
from joserfc.util import urlsafe_b64decode

from schema_user.domain.issuer import ALGORITHMS

if TYPE_CHECKING:
    from schema_user.domain.issuer import Issuer
    from schema_user.issuers.keys import Key

TOKEN_MOST: Final = 16 * 1024
"""Characters of a token."""
SKEW: Final = 60.0
"""Seconds that the issuer's clock may be wrong."""

_TYPES: Final = frozenset({"at+jwt", "application/at+jwt", "jwt"})
_REFUSED: Final = frozenset({"jku", "jwk", "x5u", "x5c", "crit", "b64", "enc", "zip"})
"""Headers by which a token would bring its own key, or be something else than it seems."""
_SEGMENTS: Final = 3
_KEY_ID_MOST: Final = 1000
_TIME_MOST: Final = 2**53


class _Registry(JWSRegistry):
    """The library's rules; the size of a whole token is bounded here, so its parts need no narrower bounds."""

    max_header_length = max_payload_length = max_signature_length = TOKEN_MOST

    def get_alg(self, name: str) -> Any:
        """Give the algorithm, without a word on EdDSA: its name is deprecated (RFC 9864), not its signatures."""
        if name not in (self.allowed or ()):
            raise UnsupportedAlgorithmError
        return self.algorithms[name]


@dataclass(frozen=True, slots=True)
class Signed:
    """A token that is well-formed; until ``has_signature_by`` holds, anybody may have written it."""

    token: str
    algorithm: str
    key_id: str
    claims: dict[str, Any]

    def has_signature_by(self, key: Key) -> bool:
        """Whether a key of the right kind signed it, by the algorithm that it names."""
        registry = _Registry(algorithms=(self.algorithm,), strict_check_header=False)
        try:
            deserialize_compact(self.token, key, registry=registry)
        except (JoseError, ValueError, TypeError, RecursionError):
            return False
        return True

    def is_for(self, issuer: Issuer, now: float) -> bool:
        """Whether it is one of this issuer, for this audience, at this time (seconds since 1970)."""
        audience = self.claims.get("aud")
        expires = self.claims.get("exp")
        return (
            self.claims.get("iss") == issuer.issuer
            and self.algorithm in issuer.algorithms
            and issuer.audience in (audience if isinstance(audience, list) else [audience])
            and isinstance(expires, int | float)
            and _is_time(expires)
            and now < expires + SKEW
            and all(self._not_after(name, now + SKEW) for name in ("nbf", "iat"))
        )

    def _not_after(self, name: str, latest: float) -> bool:
        if name not in self.claims:
            return True
        value = self.claims[name]
        return _is_time(value) and bool(value <= latest)

    @property
    def expires_at(self) -> float:
        """From when it is refused, in seconds since 1970."""
        return float(self.claims["exp"]) + SKEW


def looks_signed(secret: str) -> bool:
    """Whether a bearer token has the form of a JWS: three segments, of which the first begins as a JSON object."""
    return secret.startswith(("ey", "ew")) and secret.count(".") == _SEGMENTS - 1


def read_signed(token: str) -> Signed | None:
    """Take a token apart; None unless its header and its claims are JSON objects without doubles, and as they must."""
    segments = token.encode("latin-1", "replace").split(b".")
    if len(token) > TOKEN_MOST or len(segments) != _SEGMENTS or not all(segments):
        return None
    try:
        header, claims = (_object(urlsafe_b64decode(segment)) for segment in segments[:2])
    except (ValueError, RecursionError):  # binascii.Error, UnicodeDecodeError and JSONDecodeError are ValueErrors
        return None
    algorithm, key_id, kind = (header.get(name) for name in ("alg", "kid", "typ"))
    if not _REFUSED.isdisjoint(header) or algorithm not in ALGORITHMS:
        return None
    if not isinstance(kind, str) or kind.lower() not in _TYPES:
        return None
    if not isinstance(key_id, str) or not 0 < len(key_id) <= _KEY_ID_MOST:
        return None
    return Signed(token, algorithm, key_id, claims)


def _object(text: bytes) -> dict[str, Any]:
    found = json.loads(text.decode("utf-8"), object_pairs_hook=_once, parse_constant=_no_number)
    if not isinstance(found, dict):
        raise ValueError("not a JSON object")  # noqa: TRY004 -- the input's value, as what the decoder itself raises
    return found


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Refuse a name that is there twice (RFC 8725, 2.8): two readers could read two things."""
    found = dict(pairs)
    if len(found) < len(pairs):
        raise ValueError("a name is there twice")
    return found


def _no_number(name: str) -> float:
    raise ValueError(f"{name} is no JSON")


def _is_time(value: Any) -> bool:
    """Whether a value is a number of seconds; one without end could not even be compared."""
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < _TIME_MOST
