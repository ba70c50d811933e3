"""Issuers of OpenID Connect whose access tokens are accepted, and whom such a token stands for."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, Final
from urllib.parse import urlsplit

import msgspec

from schema_user.domain.caller import Grant
from schema_user.domain.loopback import is_loopback
from schema_user.domain.permission import ORGANIZATION_ROLES, Role

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

ALGORITHMS: Final = (
    *("RS256", "RS384", "RS512", "PS256", "PS384", "PS512"),
    *("ES256", "ES384", "ES512", "EdDSA", "Ed25519"),
)
"""Signatures by a private key alone (RFC 7518, RFC 8037, RFC 9864): nothing that is published can make one."""

_ROLES: Final = {role.value: role for role in Role}
_SUBJECT_MOST: Final = 255
"""Characters of a subject (OpenID Connect Core 1.0, section 2)."""
_USER_ID_MOST: Final = 200

Name = Annotated[str, msgspec.Meta(min_length=1, max_length=1000)]


class ClaimNames(msgspec.Struct, frozen=True, forbid_unknown_fields=True, rename="camel"):
    """The claims that are read, by their names at the top of the payload; without ``roles`` no role is."""

    user_id: Name = "sub"
    roles: Name | None = None


class Issuer(msgspec.Struct, frozen=True, forbid_unknown_fields=True, rename="camel"):
    """One issuer. It names users and roles of ``organization_id`` only; the instance's if ``instance_roles``."""

    issuer: Name
    audience: Name
    algorithms: tuple[str, ...]
    organization_id: Name
    claims: ClaimNames = ClaimNames()
    instance_roles: bool = False


@dataclass(frozen=True, slots=True)
class Subject:
    """Whom a token stands for, as far as it says so itself; whether there is such a user is not known yet.

    ``token_id`` is the same for each token of one subject of one issuer. It has a colon, which no id made here has.
    """

    token_id: str
    organization_id: str
    user_id: str | None
    grants: tuple[Grant, ...]


def read_issuers(text: bytes) -> tuple[tuple[Issuer, ...], list[str]]:
    """Read the JSON list of issuers. Gives those that are right, and a sentence for each mistake of the others."""
    try:
        entries = msgspec.json.decode(text, type=list[dict[str, Any]])
    except msgspec.DecodeError:  # ValidationError is one
        return (), ["must be a JSON list of objects"]
    issuers: list[Issuer] = []
    problems: list[str] = []
    for index, entry in enumerate(entries):
        mistakes = list(_misshapen(entry))
        if not mistakes:
            issuer = msgspec.convert(entry, Issuer)
            mistakes = list(_mistakes(issuer, (each.issuer for each in issuers)))
            issuers.append(issuer)
        problems += (f"[{index}].{mistake}" for mistake in mistakes)
    return tuple(issuers), problems


def _misshapen(entry: dict[str, Any]) -> Iterator[str]:
    fields = {field.encode_name: field for field in msgspec.structs.fields(Issuer)}
    yield from (f"{name} is not known" for name in entry if name not in fields)
    for name, field in fields.items():
        if name in entry:
            try:
                msgspec.convert(entry[name], field.type)
            except msgspec.ValidationError as error:
                yield f"{name} is wrong: {error}"
        elif field.required:
            yield f"{name} is missing"


def _mistakes(issuer: Issuer, before: Iterable[str]) -> Iterator[str]:
    if issuer.issuer in before:
        yield "issuer is there twice: an issuer belongs to one organization"
    if not safe_url(issuer.issuer) or "?" in issuer.issuer:
        yield "issuer must be an https:// URL without a query (http:// to this machine only)"
    if not issuer.algorithms:
        yield "algorithms must name one"
    for name in issuer.algorithms:
        if name not in ALGORITHMS:
            yield f"algorithms must be of {', '.join(ALGORITHMS)}; shared secrets and none are not taken"
            break


def safe_url(url: str) -> bool:
    """Whether a URL is https, or http to this machine, without credentials or a fragment."""
    try:
        parts = urlsplit(url)
        _ = parts.port
    except ValueError:
        return False
    if not parts.hostname or "@" in parts.netloc or "#" in url or not url.isascii() or not url.isprintable():
        return False
    return parts.scheme == "https" or (parts.scheme == "http" and is_loopback(parts.hostname))


def subject_of(issuer: Issuer, claims: Mapping[str, Any]) -> Subject | None:
    """Read whom a token of an issuer stands for; None: it says that of nobody, or not in the form it must."""
    subject = claims.get("sub")
    user_id = claims.get(issuer.claims.user_id)
    if not _is_name(subject, _SUBJECT_MOST) or not (user_id is None or _is_name(user_id, _USER_ID_MOST)):
        return None
    named = _role_names(claims.get(issuer.claims.roles)) if issuer.claims.roles is not None else ()
    digest = hashlib.sha256(f"{issuer.issuer}\n{subject}".encode()).hexdigest()
    return Subject(f"oidc:{digest}", issuer.organization_id, user_id, _grants(issuer, named))


def _is_name(value: Any, most: int) -> bool:
    return isinstance(value, str) and 0 < len(value) <= most and value.isprintable()


def _role_names(value: Any) -> Iterable[str]:
    """Read roles as issuers write them: a list, words of a string, or the keys of an object (ZITADEL)."""
    if isinstance(value, str):
        return value.split()
    return [each for each in value if isinstance(each, str)] if isinstance(value, (list, dict)) else ()


def _grants(issuer: Issuer, names: Iterable[str]) -> tuple[Grant, ...]:
    """Give what is known among the roles. One that can be held in an organization is held in the issuer's."""
    roles = sorted({_ROLES[name] for name in names if name in _ROLES})
    return tuple(
        Grant(role, issuer.organization_id if role in ORGANIZATION_ROLES else None)
        for role in roles
        if role in ORGANIZATION_ROLES or issuer.instance_roles
    )
