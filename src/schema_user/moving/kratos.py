"""From Ory Kratos: identities become users, and an identity schema becomes a user schema.

What is read is the answer of the admin API's ``GET /admin/identities`` (with ``include_credential=password`` it has
the hashes of passwords), one such page after another, or one identity; and identity schemas as Kratos is configured
with them. Sources: Ory's API reference (Identity, IdentityCredentials, VerifiableIdentityAddress) and its pages
"Customize identity schemas" and "Import identities".
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from schema_user.moving.line import (
    Json,
    Moved,
    NotAnExport,
    address,
    as_list,
    as_object,
    compact,
    contact,
    is_object,
    password,
)

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

_EXTENSION: Final = "ory.sh/kratos"
_TRAITS: Final = "#/properties/traits"
_PERMISSION: Final = "urn:zitadel:schema:permission"
_METADATA: Final = {"metadata_public": {"owner": "rw", "self": "r"}, "metadata_admin": {"owner": "rw"}}
"""What of an identity is not its traits, and who may read and write that in Kratos: the person itself may not write."""

_VALUES: Final = ("const", "default", "enum", "examples")
"""Keywords whose values are no schemas, whatever they look like."""

_NAMED: Final = ("properties", "patternProperties", "definitions", "$defs", "dependentSchemas")
"""Keywords whose members are named by authors: one of them may be called as the extension is."""

_CHANNELS: Final = {"email": "email", "sms": "phone", "phone": "phone"}
_MOST_DEPTH: Final = 64


@dataclass(frozen=True, slots=True)
class Places:
    """Where the traits hold what stands beside the data here: paths of members, ``*`` for the items of a list."""

    emails: tuple[tuple[str, ...], ...] = ()
    phones: tuple[tuple[str, ...], ...] = ()
    identifiers: tuple[tuple[str, ...], ...] = ()


def from_kratos_schema(document: Any) -> Json:
    """Make a user schema of an identity schema: that of its traits, without the extension, and with the metadata.

    Raises:
        NotAnExport: if it describes no traits.
    """
    whole = as_object(document, "the identity schema")
    traits = as_object(whole.get("properties"), "properties").get("traits")
    if not is_object(traits):
        message = "the identity schema must describe properties/traits"
        raise NotAnExport(message)
    made: Json = {"$schema": whole.get("$schema", "http://json-schema.org/draft-07/schema#")}
    for name in ("title", "definitions", "$defs"):
        if name in whole:
            made[name] = _plain(whole[name], 0, named=name != "title")
    made |= _plain(traits, 0)
    properties = dict(as_object(made.get("properties"), "properties/traits/properties"))
    for name, permission in _METADATA.items():
        properties.setdefault(name, {_PERMISSION: permission})
    return made | {"properties": properties}


def _plain(value: Any, depth: int, *, named: bool = False) -> Any:
    """Leave the extension out, and point references into the traits at the new root."""
    if depth > _MOST_DEPTH:
        message = f"the identity schema is nested deeper than {_MOST_DEPTH}"
        raise NotAnExport(message)
    if isinstance(value, list):
        return [_plain(each, depth + 1) for each in value]
    if not isinstance(value, dict):
        return value
    made = {}
    for key, member in value.items():
        if key == _EXTENSION and not named:
            continue
        if key == "$ref" and not named and isinstance(member, str) and member.startswith(_TRAITS):
            made[key] = "#" + member.removeprefix(_TRAITS)
        elif key in _VALUES and not named:
            made[key] = member
        else:
            made[key] = _plain(member, depth + 1, named=key in _NAMED and not named)
    return made


def places_of(document: Any) -> Places:
    """Find where an identity schema says that traits hold addresses and names to sign in with.

    Places behind a ``$ref`` are not found; the addresses of identities are known by ``verifiable_addresses`` as well.
    """
    found: dict[str, list[tuple[str, ...]]] = {"email": [], "phone": [], "identifier": []}
    traits = as_object(as_object(document, "the identity schema").get("properties"), "properties").get("traits")
    _look(traits, (), found)
    return Places(tuple(found["email"]), tuple(found["phone"]), tuple(found["identifier"]))


def _look(schema: Any, path: tuple[str, ...], found: dict[str, list[tuple[str, ...]]]) -> None:
    if not is_object(schema) or len(path) > _MOST_DEPTH:
        return
    extension = as_object(schema.get(_EXTENSION), _EXTENSION)
    via = as_object(extension.get("verification"), "verification").get("via")
    channel = _CHANNELS.get(via) if isinstance(via, str) else None
    by_password = as_object(as_object(extension.get("credentials"), "credentials").get("password"), "password")
    if channel is not None:
        found[channel].append(path)
    elif by_password.get("identifier") is True:
        found["email" if schema.get("format") == "email" else "identifier"].append(path)
    for name, member in as_object(schema.get("properties"), "properties").items():
        _look(member, (*path, name), found)
    if is_object(schema.get("items")):
        _look(schema["items"], (*path, "*"), found)


def from_kratos(
    document: Any, schema_ids: Mapping[str, str], places: Mapping[str, Places], organization_id: str | None = None
) -> Iterator[Moved]:
    """Give identities as lines.

    ``schema_ids`` gives the id of a user schema for each ``schema_id`` of Kratos, and that of ``*`` for all others;
    ``places`` what ``places_of()`` found in the identity schemas.

    Raises:
        NotAnExport: if the document is no identity and no list of them, or one has a schema that is not mapped.
    """
    identities = document if isinstance(document, list) else [document]
    for index, each in enumerate(identities):
        identity = as_object(each, f"identity {index}")
        if "traits" not in identity or "id" not in identity:
            message = f"identity {index} has no id and traits"
            raise NotAnExport(message)
        name = str(identity.get("schema_id", ""))
        schema_id = schema_ids.get(name) or schema_ids.get("*")
        if schema_id is None:
            message = f"no user schema is named for the identity schema {name}"
            raise NotAnExport(message)
        yield _moved(identity, schema_id, places.get(name) or places.get("*") or Places(), organization_id)


def _moved(identity: Json, schema_id: str, places: Places, organization_id: str | None) -> Moved:
    traits = as_object(identity["traits"], "traits")
    listed = as_list(identity.get("verifiable_addresses"), "verifiable_addresses")
    verifiable = [each for each in listed if is_object(each)]
    email, more_emails = _address("email", "address", traits, places.emails, verifiable)
    phone, more_phones = _address("phone", "number", traits, places.phones, verifiable)
    names = [value for path in places.identifiers for value in _values(traits, path)]
    credentials = as_object(identity.get("credentials"), "credentials")
    config = as_object(as_object(credentials.get("password"), "password").get("config"), "config")
    data = dict(traits)
    for name in _METADATA:
        if identity.get(name) is not None:
            data.setdefault(name, identity[name])
    left = [f"credentials of the kind {kind}" for kind in credentials if kind not in {"password", "code"}]
    if "password" in credentials and not config.get("hashed_password"):
        left.append("the password: the export has no hash of it")
    if more_emails or more_phones:
        left.append("that more than one address is known: the others stay in the data alone")
    if len(names) > 1:
        left.append("more than one name to sign in with: the others stay in the data alone")
    line = {
        "userId": identity["id"],
        "organization": {"orgId": organization_id} if organization_id else None,
        "schemaId": schema_id,
        "data": data,
        "contact": contact(email, phone),
        "username": names[0] if names else None,
        "state": "USER_STATE_INACTIVE" if identity.get("state") == "inactive" else None,
        "hashedPassword": password(config.get("hashed_password")),
    }
    return Moved(compact(line), tuple(left))


def _address(
    channel: str, name: str, traits: Json, paths: tuple[tuple[str, ...], ...], verifiable: list[Json]
) -> tuple[Json | None, bool]:
    """Choose the address of a channel, a verified one first; whether there are more."""
    known = {each.get("value"): each.get("verified") is True for each in verifiable if _is_of(each, channel)}
    values = dict.fromkeys([value for path in paths for value in _values(traits, path)] + [v for v in known if v])
    # Kratos keeps addresses in lower case beside the traits, which keep them as they were typed.
    folded: dict[str, tuple[str, bool]] = {}
    for value in values:
        verified = known.get(value) or known.get(value.lower()) or False
        folded.setdefault(value.lower(), (value, verified))
    ordered = sorted(folded.values(), key=lambda each: not each[1])
    if not ordered:
        return None, False
    return address(name, ordered[0][0], verified=ordered[0][1]), len(ordered) > 1


def _is_of(entry: Json, channel: str) -> bool:
    via = entry.get("via")
    return isinstance(entry.get("value"), str) and isinstance(via, str) and _CHANNELS.get(via) == channel


def _values(value: Any, path: tuple[str, ...]) -> list[str]:
    """Give the texts at a place of the traits."""
    if not path:
        return [value] if isinstance(value, str) and value else []
    first, *rest = path
    if first == "*":
        return [found for each in (value if isinstance(value, list) else []) for found in _values(each, tuple(rest))]
    return _values(value[first], tuple(rest)) if is_object(value) and first in value else []
